//! Retention and floors: a log is trimmed only when nobody active still needs what goes.
//!
//! A log's floor is a lower bound of the cursors of its active subscribers. It may be stale, never
//! too high, so an append and an acknowledgement cost nothing for subscribers that are away. Only
//! when a trim would pass the floor are the subscribers looked at; those that stand below lose
//! their channel before the trim. One command looks at so many and no more, for all other commands
//! wait meanwhile: how far it came stands in the log's row, and the next one goes on from there.
//!
//! The index of a log's subscribers holds all that are active, and others only until a trim meets
//! them: who becomes active puts its rows back. So an inactive one is looked at once.

use super::{ConnectionRow, Connections, Context, Decided, Event};
use crate::log::{LogRow, Sweep, Trimmed};
use crate::rows::{Key, RowsError, Table};
use crate::wire::{Id, Reason};

/// Subscribers that one command looks at, at most.
pub const MOST_LOOKED_AT: usize = 1024;

/// What a trim came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// The log keeps less now; none: it had kept no more before.
    Done(Option<Trimmed>),
    /// There are readers that were not looked at yet: nothing is trimmed, and the same command
    /// goes on with them.
    Looking,
}

impl Connections {
    /// Trims a log up to `to`, downgrading who stands below.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn trim(&mut self, log: u64, to: u64, cx: &mut Context<'_, '_>) -> Decided<Trim> {
        match cx.logs.trims(log, to, cx.io)? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Trim::Done(None))),
            Err(refusal) => return Ok(Err(refusal)),
        }
        let low = |row: &LogRow| (row.floor < to).then(|| row.sweep());
        if let Some(begun) = cx.logs.row(log, cx.io)?.and_then(low) {
            // What was found out for a lower offset says nothing of this one.
            let begun = begun.filter(|sweep| sweep.to >= to);
            let (floor, after) = begun.map_or((u64::MAX, Id::NONE), |one| (one.floor, one.after));
            let (sweep, all) = self.look(log, Sweep { to, floor, after }, cx)?;
            if let Some(row) = cx.logs.change(log, cx.io)? {
                row.set_sweep(Some(sweep).filter(|_| !all));
                if all {
                    // With nobody left it is the head: who comes begins at most there.
                    row.floor = sweep.floor.min(row.head);
                }
            }
            // One that began below meanwhile is looked at with the next command.
            if !all || sweep.floor < to {
                return Ok(Ok(Trim::Looking));
            }
        }
        let trimmed = match cx.logs.trim(log, to, cx.io)? {
            Ok(trimmed) => trimmed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        cx.events.extend(trimmed.map(Event::Trimmed));
        Ok(Ok(Trim::Done(trimmed)))
    }

    /// Looks at the next active subscribers of a log, and downgrades those whose cursor is below
    /// `to`: how far it came, and whether these were all.
    fn look(
        &mut self,
        log: u64,
        begun: Sweep,
        cx: &mut Context<'_, '_>,
    ) -> Result<(Sweep, bool), RowsError> {
        let prefix = Key::of(log).build();
        let from = match begun.after {
            Id::NONE => prefix.clone(),
            after => Key::of(log).then_bytes(&after.0).then_bytes(&[0]).build(),
        };
        let page = cx.io.scan(Table::Subscribers, &prefix, &from, MOST_LOOKED_AT)?;
        let all = page.len() < MOST_LOOKED_AT;
        let mut sweep = begun;
        for (key, _) in page {
            let Some(id) = key.get(8..).and_then(|id| id.try_into().ok()).map(Id) else {
                continue;
            };
            sweep.after = id;
            let cursor =
                |row: &ConnectionRow| row.sub(log).filter(|_| row.active()).map(|sub| sub.cursor);
            match self.rows.peek(&id, cx.io, cursor)?.flatten() {
                Some(cursor) if cursor >= begun.to => {
                    sweep.floor = sweep.floor.min(cursor);
                    continue;
                }
                Some(_) => drop(self.downgrade(id, Reason::Retention, cx)?),
                None => {}
            }
            cx.io.remove(Table::Subscribers, key);
        }
        Ok((sweep, all))
    }
}
