//! Bringing a log under another rule of snapshots, step by step.
//!
//! Promise: a step is bounded, whatever the log holds; the rule in a log's row is always one whose
//! state is whole. So `latest` is in force once the newest record of each key is there, and no
//! longer as soon as the first of them goes. Appends in between cost what they always do. A step
//! names what it saw, so each is taken once, and another mind in the middle begins anew.

use super::append::keep_latest;
use super::record::RecordRow;
use super::row::Deriving;
use super::{Decided, Logs, missing, snapshot};
use crate::rows::{Io, Key, RowsError, Table};
use crate::wire::{Code, SnapshotRule};

/// Rows that one step works off, at most.
pub const STEP_ROWS: u32 = 1_024;
/// Bytes of rows after which a step ends.
pub const STEP_BYTES: usize = 256 << 10;
/// Rows read at once: each may be as large as a record.
const PAGE: usize = 16;

/// What is left of a step.
struct Budget {
    rows: usize,
    bytes: usize,
}

impl Budget {
    const fn page(&self) -> usize {
        if self.bytes == 0 {
            0
        } else if self.rows < PAGE {
            self.rows
        } else {
            PAGE
        }
    }

    const fn spend(&mut self, bytes: usize) {
        self.rows = self.rows.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Logs {
    /// The rule that the rules in force give a log of that name.
    pub fn ruled(&self, name: &str) -> SnapshotRule {
        self.rule(name).map_or(SnapshotRule::None, |rule| rule.snapshot)
    }

    /// Takes a step of at most `most` rows: the log's rule, where that has changed with it. `seen`
    /// is how far it had come, by whoever proposes it.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub(crate) fn derive(
        &mut self,
        log: u64,
        rule: SnapshotRule,
        seen: Option<Deriving>,
        most: u32,
        io: &mut Io<'_>,
    ) -> Decided<Option<SnapshotRule>> {
        let Some(row) = self.row(log, io)?.filter(|row| !row.deleted).cloned() else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        let there = row.rule == rule && row.deriving.is_none();
        if there || rule != self.ruled(&row.name) || row.deriving != seen {
            return Ok(Err(Code::Stale.into()));
        }
        let mut step = seen.filter(|seen| seen.rule == rule).unwrap_or_else(|| Deriving::to(rule));
        let mut budget = Budget { rows: most.min(STEP_ROWS) as usize, bytes: STEP_BYTES };
        clear(log, &mut step, &mut budget, io)?;
        let done = match rule {
            SnapshotRule::Latest if step.cleared => {
                step.next = step.next.max(row.start);
                work_off(log, row.head, &mut step, &mut budget, io)?;
                step.next == row.head
            }
            SnapshotRule::Latest => false,
            SnapshotRule::None | SnapshotRule::Client => step.cleared,
        };
        // What is not kept in its table is in force at once.
        let in_force = if done || rule != SnapshotRule::Latest { rule } else { row.rule };
        if row.rule == SnapshotRule::Client && in_force != row.rule {
            snapshot::drop_uploads_of(log, io)?;
        }
        if let Some(row) = self.change(log, io)? {
            row.rule_by(in_force);
            row.deriving = (!done).then_some(step);
        }
        Ok(Ok((in_force != row.rule).then_some(in_force)))
    }
}

/// Removes what an older rule has left in the table.
fn clear(
    log: u64,
    step: &mut Deriving,
    budget: &mut Budget,
    io: &mut Io<'_>,
) -> Result<(), RowsError> {
    let prefix = Key::of(log).build();
    while !step.cleared && budget.page() > 0 {
        let most = budget.page();
        let from = Key::of(log).then_bytes(&step.from).build();
        let rows = io.scan(Table::Latest, &prefix, &from, most)?;
        step.cleared = rows.len() < most;
        for (key, value) in rows {
            budget.spend(key.len() + value.len());
            // Where the next step goes on: it need not pass over what is gone.
            step.from = Key::bytes(key.get(8..).unwrap_or_default()).then_bytes(&[0]).build();
            io.remove(Table::Latest, key);
        }
    }
    Ok(())
}

/// Takes records into the table, from the next one on, in the order of offsets.
fn work_off(
    log: u64,
    head: u64,
    step: &mut Deriving,
    budget: &mut Budget,
    io: &mut Io<'_>,
) -> Result<(), RowsError> {
    while step.next < head && budget.page() > 0 {
        let rows = records(log, step.next, budget.page(), io)?;
        if rows.is_empty() {
            return Err(missing(log, step.next));
        }
        for bytes in rows {
            let record = RecordRow::read(Table::Records, &bytes)?;
            keep_latest(log, step.next, record.record(), &bytes, io);
            budget.spend(bytes.len());
            step.next += 1;
        }
    }
    Ok(())
}

/// Rows of records from an offset on, without a hole: those stored, else those of this batch.
fn records(log: u64, from: u64, most: usize, io: &Io<'_>) -> Result<Vec<Vec<u8>>, RowsError> {
    let (prefix, first) = (Key::of(log).build(), Key::of(log).then(from).build());
    let stored = io.stored().scan(Table::Records, &prefix, &first, most)?;
    let due = |at: usize| Key::of(log).then(from.saturating_add(at as u64)).build();
    let whole = stored.into_iter().enumerate().take_while(|(at, (key, _))| *key == due(*at));
    let stored: Vec<Vec<u8>> = whole.map(|(_, (_, value))| value).collect();
    if !stored.is_empty() {
        return Ok(stored);
    }
    let pending = io.writes.records.iter().filter(|(of, at, _)| *of == log && *at >= from);
    Ok(pending.take(most).map(|(_, _, value)| value.clone()).collect())
}
