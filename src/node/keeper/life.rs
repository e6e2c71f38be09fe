//! Connections and writers that have outlived their bounds are found page by page and proposed to
//! the fold, with the generation that was seen.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use super::Ground;
use crate::connection::policy::{Bounds, Candidate, Need, Rounds, choose, outlived};
use crate::connection::{Attachment, ConnectionRow, NodeRow, Progress, UserRow, attached_since};
use crate::fold::Command;
use crate::rows::{Rows, RowsError, Table, read_row};
use crate::wire::{Code, Id, Reason, Refusal};

/// Rows looked at in one page.
pub(super) const PAGE: usize = 64;
/// An attachment is told within milliseconds; one that has no socket after so many has lost it.
const LOST_AFTER: u64 = 30_000;
/// When one whose socket was cut for memory may come back, in milliseconds.
const CUT_AFTER: u32 = 5_000;
/// Milliseconds of a day.
const DAY: u64 = 86_400_000;
/// Days that the mark of a retired writer is kept: longer than any append is on its way.
const RETIRED_DAYS: u64 = 7;

/// Whether something has not been used for more than so many days.
const fn unused(since: u64, now: u64, days: u64) -> bool {
    now.saturating_sub(since) > days.saturating_mul(DAY)
}

/// Days that a writer's mark is kept after its last use.
const fn writer_days(retired: bool, keep: u32) -> u64 {
    if retired { RETIRED_DAYS } else { keep as u64 }
}

/// Looks at a page of connections; the last id of the page, or none at the end. `rounds` is for
/// this scan alone.
pub(super) fn connections(
    ground: &Ground,
    after: Option<Id>,
    rounds: &Mutex<Rounds>,
) -> Result<Option<Id>, RowsError> {
    let mut rounds = rounds.lock().unwrap_or_else(PoisonError::into_inner);
    if after.is_none() {
        rounds.begin();
    }
    let page = ground.store.connections(after, PAGE)?;
    let mut seen = Seen::default();
    let mut active = look(ground, &page, &mut seen)?;
    // A reserve of slots is kept free, so that newcomers of other users find one.
    if ground.hub.active() * 10 > ground.limits.active_total * 9 {
        for (one, row) in &mut active {
            seen.slots(ground, row, one)?;
        }
        let active: Vec<Candidate> = active.into_iter().map(|(one, _)| one).collect();
        if let Some(victim) = rounds.choose(&active, Need::NodeSlots) {
            downgrade(ground, &victim, Reason::NodeSlots);
        }
    }
    Ok(page.last().filter(|_| page.len() == PAGE).map(|(id, _)| *id))
}

/// Proposes what has to be done about connections that have outlived a bound: the active ones that
/// have not.
pub(super) fn look<'a>(
    ground: &Ground,
    page: &'a [(Id, ConnectionRow)],
    seen: &mut Seen,
) -> Result<Vec<(Candidate, &'a ConnectionRow)>, RowsError> {
    let (now, ticks, round) = (ground.now(), ground.hub.ticks(), super::round(ground));
    let round = u64::try_from(round.as_millis()).unwrap_or(u64::MAX);
    let limits = &ground.limits;
    let bounds = Bounds {
        detached: limits.detached_limit_seconds.saturating_mul(1_000),
        lag: limits.lag_limit_records,
        retained: limits.retained_bytes_limit,
    };
    let mut active = Vec::new();
    for (id, row) in page {
        let one = candidate(ground, *id, row, seen)?;
        let is_here = row.attached == Some(ground.here);
        let mine = if one.attached { is_here } else { ground.share.has_id(*id) };
        if mine && ((one.attached && lost(ground, *id, row, now)) || ended(ground, row, seen)?) {
            let (connection, generation) = (*id, row.generation);
            let reached = Vec::new();
            propose(ground, Command::Detach(Progress { connection, generation, reached }));
        }
        if row.active() {
            // One that is catching up has a lag that falls; it is left to it. Only the node that
            // has its socket can see that.
            let catching_up =
                || ground.hub.socket(*id).is_some_and(|socket| socket.progressed(ticks, round));
            match outlived(&one, &bounds, now).filter(|_| mine) {
                Some(Reason::Lag | Reason::RetainedBytes) if catching_up() => {
                    active.push((one, row));
                }
                Some(reason) => downgrade(ground, &one, reason),
                None => active.push((one, row)),
            }
        } else if mine
            && !one.attached
            && unused(one.since, now, u64::from(limits.forget_after_days))
        {
            let generation = Some(row.generation);
            propose(ground, Command::Forget { connection: *id, generation });
        }
    }
    Ok(active)
}

/// Looks at a page of writers; the last id of the page, or none at the end.
pub(super) fn writers(ground: &Ground, after: Option<Id>) -> Result<Option<Id>, RowsError> {
    let page = ground.store.writers(after, PAGE)?;
    let now = ground.now();
    for (id, row) in &page {
        let days = writer_days(row.retired, ground.limits.writer_keep_days);
        if unused(row.used, now, days) && ground.share.has_id(*id) {
            propose(ground, Command::ForgetWriter { writer: *id, used: row.used });
        }
    }
    Ok(page.last().filter(|_| page.len() == PAGE).map(|(id, _)| *id))
}

/// When buffers outgrow the node's memory, those who hold most of it lose their channel; and one
/// that holds it still when this is looked at again loses its socket, for only that gives it back.
pub(super) fn memory(ground: &Ground) {
    let most = usize::try_from(ground.limits.memory_bytes).unwrap_or(usize::MAX);
    let stats = ground.hub.stats();
    let held = stats.tail_bytes + stats.encoded_bytes + stats.reply_bytes;
    if held <= most {
        return;
    }
    let mut waiting = Vec::new();
    ground.hub.each(|socket| {
        let bytes = socket.waiting();
        if bytes > 0 {
            waiting.push((bytes, Arc::clone(socket)));
        }
    });
    let mut over = held - most;
    let (active, mut idle): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|(_, socket)| socket.active());
    idle.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
    for (bytes, socket) in idle {
        if over == 0 {
            return;
        }
        socket.cut(&Refusal::new(Code::Overloaded).after(CUT_AFTER).into());
        over = over.saturating_sub(bytes);
    }
    let row = |id| ground.store.connection(id).ok().flatten();
    let mut candidates: Vec<Candidate> = (active.iter())
        .filter_map(|(bytes, socket)| {
            let row = row(socket.connection).filter(ConnectionRow::active)?;
            let retained = *bytes as u64;
            Some(Candidate { retained, ..facts(socket.connection, &row, true, 0) })
        })
        .collect();
    while over > 0
        && let Some(victim) = choose(&candidates, Need::Memory)
    {
        downgrade(ground, &victim, Reason::Memory);
        over = over.saturating_sub(usize::try_from(victim.retained).unwrap_or(usize::MAX));
        candidates.retain(|one| one.connection != victim.connection);
    }
}

/// Whether a row says that a socket is here which is not: its detachment found no room once.
fn lost(ground: &Ground, id: Id, row: &ConnectionRow, now: u64) -> bool {
    let here = ground.here;
    let long = now.saturating_sub(row.since) > LOST_AFTER;
    long && row.attached == Some(here) && ground.hub.socket(id).is_none()
}

/// Whether a row is attached to a run that a later one has followed. It is detached since then;
/// written into the row, so that the next start does not make that a later moment again.
fn ended(ground: &Ground, row: &ConnectionRow, seen: &mut Seen) -> Result<bool, RowsError> {
    let Some(Attachment { node, incarnation }) = row.attached else { return Ok(false) };
    Ok(seen.node(ground, node)?.is_some_and(|node| node.incarnation > incarnation))
}

fn downgrade(ground: &Ground, one: &Candidate, reason: Reason) {
    let (connection, generation) = (one.connection, Some(one.generation));
    tracing::debug!(%connection, ?reason, "proposing to downgrade");
    propose(ground, Command::Downgrade { connection, generation, reason });
}

/// A proposal that finds no room is made again with the next scan.
pub(super) fn propose(ground: &Ground, command: Command) {
    if let Err(refusal) = ground.inbox.submit(command, 64, None) {
        tracing::debug!(%refusal, "a proposal waits for the next scan");
    }
}

/// What a page has read: its connections mostly share nodes and logs, and often stand at the same
/// place in them.
#[derive(Debug, Default)]
pub(super) struct Seen {
    nodes: HashMap<Id, Option<NodeRow>>,
    /// Where slots are short.
    users: HashMap<String, UserRow>,
    /// Of a log: start, head, and bytes ever appended; none where it is gone.
    logs: HashMap<u64, Option<(u64, u64, u64)>>,
    /// Bytes that a log keeps from an offset on.
    kept: HashMap<(u64, u64), u64>,
}

/// Logs and places remembered at a time.
const MOST_SEEN: usize = 4_096;

impl Seen {
    fn node(&mut self, ground: &Ground, id: Id) -> Result<Option<NodeRow>, RowsError> {
        if let Some(known) = self.nodes.get(&id) {
            return Ok(known.clone());
        }
        let row: Option<Vec<u8>> = ground.store.get(Table::Nodes, &id.0)?;
        let row: Option<NodeRow> = row.map(|bytes| read_row(Table::Nodes, &bytes)).transpose()?;
        self.nodes.insert(id, row.clone());
        Ok(row)
    }

    /// How many slots its user and its device hold.
    fn slots(
        &mut self,
        ground: &Ground,
        row: &ConnectionRow,
        one: &mut Candidate,
    ) -> Result<(), RowsError> {
        let user = match self.users.entry(row.user.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(ground.store.user(&row.user)?.unwrap_or_default()),
        };
        one.user_slots = u32::try_from(user.active.len()).unwrap_or(u32::MAX);
        one.device_slots = u32::try_from(user.on_device(row.device)).unwrap_or(u32::MAX);
        Ok(())
    }

    /// How far a cursor is behind: records, and the bytes that its log keeps from there on.
    fn behind(&mut self, ground: &Ground, log: u64, cursor: u64) -> Result<(u64, u64), RowsError> {
        if self.logs.len().max(self.kept.len()) >= MOST_SEEN {
            (self.logs, self.kept) = Default::default();
        }
        let row = match self.logs.get(&log) {
            Some(known) => *known,
            None => {
                let row = ground.store.log_row(log)?.filter(|row| !row.deleted);
                let row = row.map(|row| (row.start, row.head, row.bytes));
                self.logs.insert(log, row);
                row
            }
        };
        let Some((start, head, bytes)) = row.filter(|(_, head, _)| cursor < *head) else {
            return Ok((0, 0));
        };
        let from = cursor.max(start);
        let kept = match self.kept.get(&(log, from)) {
            Some(known) => *known,
            None => {
                let first = ground.store.records(log, from, 1, 1)?;
                let before = first.first().map_or(bytes, |(_, stored)| stored.before);
                let kept = bytes.saturating_sub(before);
                self.kept.insert((log, from), kept);
                kept
            }
        };
        Ok((head - cursor, kept))
    }
}

/// What the policy needs to know of a connection, from its row and its logs.
fn candidate(
    ground: &Ground,
    id: Id,
    row: &ConnectionRow,
    seen: &mut Seen,
) -> Result<Candidate, RowsError> {
    let node = match row.attached {
        Some(attached) => seen.node(ground, attached.node)?,
        None => None,
    };
    let (attached, since) = attached_since(row.attached, row.since, node.as_ref());
    let mut one = facts(id, row, attached, since);
    if row.active() {
        for sub in &row.subs {
            let (lag, retained) = seen.behind(ground, sub.log, sub.cursor)?;
            // Of one that is held nothing is read, so nobody lags; what is kept for it is kept.
            one.lag += if sub.held() { 0 } else { lag };
            one.retained += retained;
        }
    }
    Ok(one)
}

const fn facts(id: Id, row: &ConnectionRow, attached: bool, since: u64) -> Candidate {
    Candidate {
        connection: id,
        generation: row.generation,
        attached,
        visible: row.visible,
        since,
        lag: 0,
        retained: 0,
        // Looked up where slots are short; otherwise one counts like any other.
        device_slots: 1,
        user_slots: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Limits;

    /// `forget_after_days` and `writer_keep_days`: to the day, not a moment before, and a clock
    /// that went back forgets nothing.
    #[test]
    fn what_is_unused_goes_after_its_days_and_not_before() {
        let limits = Limits { forget_after_days: 3, writer_keep_days: 400, ..Limits::DEFAULT };
        let cases = [
            (u64::from(limits.forget_after_days), 3),
            (writer_days(false, limits.writer_keep_days), 400),
            (writer_days(true, limits.writer_keep_days), RETIRED_DAYS),
        ];
        for (days, wanted) in cases {
            assert_eq!(days, wanted);
            assert!(!unused(1_000, 1_000 + wanted * DAY, days));
            assert!(unused(1_000, 1_001 + wanted * DAY, days));
            assert!(!unused(1_000, 0, days));
        }
    }
}
