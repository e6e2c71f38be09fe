//! What the keeper is to look at: the logs that batches have changed.
//!
//! Promise: bounded. A log that finds no room is found by a scan of all logs, later; of one that
//! was trimmed the space comes back when files merge.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::hub::Hub;
use crate::connection::Event;
use crate::fold::{Applied, Effect};
use crate::journal::Follower;

/// Logs of each kind that are remembered until the keeper takes them.
const MOST: usize = 65_536;

/// Numbers of logs, each once.
#[derive(Debug, Default)]
struct Logs(Mutex<BTreeSet<u64>>);

impl Logs {
    fn note(&self, logs: impl IntoIterator<Item = u64>) {
        let mut logs = logs.into_iter().peekable();
        if logs.peek().is_none() {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for log in logs {
            if known.len() < MOST {
                known.insert(log);
            }
        }
    }

    /// At most so many, the lowest numbers first.
    fn take(&self, most: usize) -> BTreeSet<u64> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = known.iter().nth(most).copied().map(|at| known.split_off(&at));
        std::mem::replace(&mut *known, rest.unwrap_or_default())
    }
}

/// The keeper's notes.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// Logs that keep less than before: their files may be let go.
    trimmed: Logs,
    /// Logs that keep more than before, or may let go of more: they may keep more than they should.
    grown: Logs,
    /// Logs with records that the keeper has not seen: their readers may have fallen behind.
    written: Logs,
}

impl Follower for Arc<Hints> {
    fn follow(&mut self, batch: &Applied) {
        let (mut trimmed, mut grown, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for effect in &batch.effects {
            match effect {
                // Many appends in a row are of one log.
                Effect::Appended((log, ..)) if written.last() == Some(log) => {}
                Effect::Appended((log, ..)) => written.push(*log),
                Effect::Event(Event::Trimmed(one)) => trimmed.push(one.log),
                Effect::Event(Event::Deleted { log, .. }) => trimmed.push(*log),
                Effect::Event(Event::Snapshot { log, .. } | Event::Ruled { log, .. }) => {
                    grown.push(*log);
                }
                Effect::Event(_) | Effect::Reply(..) => {}
            }
        }
        self.trimmed.note(trimmed);
        self.grown.note(grown.into_iter().chain(written.iter().copied()));
        self.written.note(written);
    }
}

impl Hub {
    /// Logs that were trimmed or deleted since the last call.
    pub fn take_trimmed(&self) -> BTreeSet<u64> {
        self.hints.trimmed.take(MOST)
    }

    /// The log is to be looked at again.
    pub fn note_grown(&self, log: u64) {
        self.hints.grown.note([log]);
    }

    /// Some of the logs that have grown since they were taken last: at most so many.
    pub fn take_grown(&self, most: usize) -> BTreeSet<u64> {
        self.hints.grown.take(most)
    }

    /// The logs that were written to since they were taken last.
    pub fn take_written(&self) -> BTreeSet<u64> {
        self.hints.written.take(MOST)
    }
}
