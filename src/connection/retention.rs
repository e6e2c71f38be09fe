//! Retention and floors: a log is trimmed only when nobody active still needs what goes.
//!
//! A log's floor is a lower bound of the cursors of its active subscribers. It may be stale, never
//! too high, so an append and an acknowledgement cost nothing for subscribers that are away. Only
//! when a trim would pass the floor are the subscribers looked at; those that stand below lose
//! their channel in the same batch, before the trim.
//!
//! The index of a log's subscribers holds all that are active, and others only until a trim meets
//! them: who becomes active puts its rows back. So an inactive one is looked at once.

use super::{ConnectionRow, Connections, Decided, Event};
use crate::log::rows::{Io, Key, RowsError, Table};
use crate::log::{Logs, Trimmed};
use crate::wire::{Id, Reason};

/// Subscribers looked at in one read.
const PAGE: usize = 1024;
/// Rows of the index that one trim takes away, at most: they are in one commit.
const MOST_GONE: usize = 65_536;

impl Connections {
    /// Trims a log up to `to`, downgrading who stands below.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn trim(
        &mut self,
        log: u64,
        to: u64,
        time: u64,
        logs: &mut Logs,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Decided<Option<Trimmed>> {
        let trimmed = match logs.trim(log, to, io)? {
            Ok(Some(trimmed)) => trimmed,
            other => return Ok(other),
        };
        if logs.row(log, io)?.is_some_and(|row| row.floor < to) {
            let floor = self.clear_below(log, to, time, io, events)?;
            if let Some(row) = logs.change(log, io)? {
                // With nobody left it is the head: who comes begins at most there, and lowers it.
                row.floor = floor.min(row.head);
            }
        }
        events.push(Event::Trimmed(trimmed));
        Ok(Ok(Some(trimmed)))
    }

    /// Downgrades active subscribers whose cursor is below `to`: the lowest cursor that is left.
    fn clear_below(
        &mut self,
        log: u64,
        to: u64,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<u64, RowsError> {
        let prefix = Key::of(log).build();
        let mut from = prefix.clone();
        let mut floor = u64::MAX;
        let mut gone = 0;
        loop {
            let page = io.scan(Table::Subscribers, &prefix, &from, PAGE)?;
            for (key, _) in &page {
                let Some(id) = key.get(8..).and_then(|id| id.try_into().ok()).map(Id) else {
                    continue;
                };
                let cursor = |row: &ConnectionRow| {
                    row.sub(log).filter(|_| row.active()).map(|sub| sub.cursor)
                };
                match self.rows.peek(&id, io, cursor)?.flatten() {
                    Some(cursor) if cursor >= to => {
                        floor = floor.min(cursor);
                        continue;
                    }
                    Some(_) => drop(self.downgrade(id, Reason::Retention, time, io, events)?),
                    None => {}
                }
                gone += 1;
                if gone <= MOST_GONE {
                    io.remove(Table::Subscribers, key.clone());
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => {
                    from = Key::bytes(last).then_bytes(&[0]).build();
                }
                _ => return Ok(floor),
            }
        }
    }
}
