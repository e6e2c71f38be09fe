//! Waits for records of a log, for those who read over HTTP.
//!
//! Promise: no record slips through between a look at the log and the wait for more of it; a wait
//! that is over leaves nothing behind.

use std::sync::Arc;

use tokio::sync::Notify;

use super::hub::Hub;

/// Someone waits for records of a log; the registration ends with it.
#[derive(Debug)]
pub struct LogWait {
    hub: Arc<Hub>,
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
        self.hub.waiters.remove_if(&self.log, |_, known| Arc::strong_count(known) <= 2);
    }
}

impl Hub {
    /// Wakes when records are stored in a log; keep it while waiting, then look at the log again.
    pub fn await_log(self: &Arc<Self>, log: u64) -> LogWait {
        let notify = Arc::clone(&self.waiters.entry(log).or_default());
        LogWait { hub: Arc::clone(self), log, notify }
    }

    pub(super) fn wake_waiters(&self, log: u64) {
        if let Some(notify) = self.waiters.get(&log) {
            notify.notify_waiters();
        }
    }
}
