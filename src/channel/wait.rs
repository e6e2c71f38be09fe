//! Waits for records of a log, for those who read over HTTP.
//!
//! Promise: no record slips through between a look at the log and the wait for more of it; a wait
//! that is over leaves nothing behind.

use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::Notify;

use super::hub::Hub;
use crate::fold::{Applied, Effect};
use crate::journal::Follower;

/// Who waits, by log.
#[derive(Debug, Default)]
pub(super) struct Waits(DashMap<u64, Arc<Notify>>);

impl Follower for Arc<Waits> {
    fn follow(&mut self, batch: &Applied) {
        let mut last = None;
        for effect in &batch.effects {
            if let Effect::Appended((log, ..)) = effect
                && last.replace(*log) != Some(*log)
                && let Some(notify) = self.0.get(log)
            {
                notify.notify_waiters();
            }
        }
    }
}

/// Someone waits for records of a log; the registration ends with it.
#[derive(Debug)]
pub struct LogWait {
    waits: Arc<Waits>,
    log: u64,
    notify: Arc<Notify>,
}

impl LogWait {
    /// Resolves at the first batch with records of the log after this was called. Look at the log
    /// between this call and the first await, so that nothing slips through.
    pub fn next(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for LogWait {
    fn drop(&mut self) {
        // Two references: the registry's and this one.
        self.waits.0.remove_if(&self.log, |_, known| Arc::strong_count(known) <= 2);
    }
}

impl Hub {
    /// Wakes when records are stored in a log; keep it while waiting, then look at the log again.
    pub fn await_log(&self, log: u64) -> LogWait {
        let notify = Arc::clone(&self.waits.0.entry(log).or_default());
        LogWait { waits: Arc::clone(&self.waits), log, notify }
    }
}
