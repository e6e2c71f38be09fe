//! Standing subscriptions: what the back end subscribes a user to, whatever connections that has.
//!
//! Promise: they hold until the back end undoes them or their log is deleted. Connections that are
//! active at that moment are subscribed then; each other one is when it becomes active or comes, as
//! far as its own token lets it read. They are rows of their user, bounded, and none of them makes
//! a connection's subscriptions more than its budget.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::attach::{May, Want};
use super::open::{History, Wanted};
use super::row::UserRow;
use super::{Connections, Decided};
use crate::log::Logs;
use crate::rows::{Io, RowsError, Table};
use crate::wire::{Code, Id, Open, Refusal, ResetReason, Start, Target, codec};

/// The tag of a user's row that they stand under; see `docs/storage.md` §3.
const TAG: u32 = 1;
/// Most of a user, whatever the budget: its row is written anew when it changes.
pub(super) const MOST_STANDING: usize = 1_000;

/// A log that each connection of a user is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    log: u64,
    priority: u8,
}

/// Standing subscriptions by log id, with their priorities.
type ByLog = BTreeMap<u64, u8>;

impl UserRow {
    fn standing(&self) -> Result<ByLog, RowsError> {
        let Some(bytes) = self.more.get(TAG) else { return Ok(ByLog::new()) };
        let damaged = |error: codec::FrameError| RowsError::Damaged {
            table: Table::Users.name(),
            problem: error.to_string(),
        };
        let all: Vec<Standing> = codec::from_bytes("standing", bytes).map_err(damaged)?;
        Ok(all.into_iter().map(|Standing { log, priority }| (log, priority)).collect())
    }

    fn set_standing(&mut self, all: &ByLog) {
        if all.is_empty() {
            // A row with nothing in it is none.
            return self.more.remove(TAG);
        }
        let all: Vec<_> =
            all.iter().map(|(log, priority)| Standing { log: *log, priority: *priority }).collect();
        self.more.set(TAG, Bytes::from(codec::to_bytes(&all)));
    }
}

impl Connections {
    /// The user is subscribed to these logs from now on; they are made where they are missing.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn stand(
        &mut self,
        user: &str,
        open: &[Open],
        time: u64,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Decided<()> {
        let most = (self.budgets.subscriptions as usize).min(MOST_STANDING);
        let before = self.standing(user, io)?;
        let (mut all, mut new) = (before.clone(), BTreeSet::new());
        for open in open.iter().take(most) {
            if !logs.find(&open.name, io)?.is_some_and(|log| all.contains_key(&log)) {
                new.insert(&open.name);
            }
        }
        if all.len() + new.len() > most {
            all = present(&all, logs, io)?;
        }
        if all.len() + new.len() > most {
            let message = format!("the back end subscribes a user to at most {most} logs");
            return Ok(Err(Refusal::because(Code::Subscriptions, message)));
        }
        for open in open.iter().take(most) {
            // One that cannot be made is left out here, as for the connections that there are.
            if let Ok(log) = logs.resolve(&Target::Name(open.name.clone()), time, io)? {
                all.insert(log, open.priority);
            }
        }
        if all != before {
            self.set_standing(user, &all, io)?;
        }
        Ok(Ok(()))
    }

    /// The user is no longer subscribed to these logs.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn stand_no_more(
        &mut self,
        user: &str,
        logs: &[u64],
        io: &Io<'_>,
    ) -> Result<(), RowsError> {
        let before = self.standing(user, io)?;
        let ended: BTreeSet<_> = logs.iter().collect();
        let mut all = before.clone();
        all.retain(|log, _| !ended.contains(log));
        if all == before { Ok(()) } else { self.set_standing(user, &all, io) }
    }

    /// What a connection that becomes active gets by its user besides what it asks for: into
    /// `wants`, as far as it may read it and there is room.
    pub(super) fn want_standing(
        &mut self,
        id: Id,
        may: May<'_>,
        because: ResetReason,
        wants: &mut BTreeMap<u64, Want>,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<(), RowsError> {
        let Some(user) = self.rows.get(&id, io)?.map(|row| row.user.clone()) else { return Ok(()) };
        let most = self.budgets.subscriptions as usize;
        for (log, priority) in self.standing(&user, io)? {
            let may_read = logs.row(log, io)?.is_some_and(|row| {
                !row.deleted && may.read.iter().any(|pattern| pattern.matches(&row.name))
            });
            // What the back end wants read is opened, also where a sibling's would only be held.
            let room = match wants.get(&log) {
                Some(Want::Open(_)) => false,
                Some(Want::Hold(_)) => true,
                None => wants.len() < most,
            };
            if may_read && room {
                let (have, start, history) = (None, Start::State, History::This);
                let (committed, begun) = (None, None);
                let want = Wanted { have, start, committed, priority, because, history, begun };
                wants.insert(log, Want::Open(want));
            }
        }
        Ok(())
    }

    fn standing(&mut self, user: &str, io: &Io<'_>) -> Result<ByLog, RowsError> {
        let row = self.users.get(&user.to_owned(), io)?;
        row.map_or_else(|| Ok(ByLog::new()), UserRow::standing)
    }

    fn set_standing(&mut self, user: &str, all: &ByLog, io: &Io<'_>) -> Result<(), RowsError> {
        let user = user.to_owned();
        if self.users.get(&user, io)?.is_none() {
            self.users.insert(user.clone(), UserRow::default());
        }
        if let Some(row) = self.users.change(&user, io)? {
            row.set_standing(all);
        }
        Ok(())
    }
}

/// Those whose logs are there.
fn present(all: &ByLog, logs: &mut Logs, io: &Io<'_>) -> Result<ByLog, RowsError> {
    let mut kept = ByLog::new();
    for (log, priority) in all {
        if logs.row(*log, io)?.is_some_and(|row| !row.deleted) {
            kept.insert(*log, *priority);
        }
    }
    Ok(kept)
}
