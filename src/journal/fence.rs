//! Whether a node still knows what its journal holds.
//!
//! Promise: a node that has not seen one of its own batches come back for [`SHUT_AFTER`] stops
//! telling what it has, for others may have gone on without it: connections may be attached
//! elsewhere, users may be revoked. It counts from when that batch was *proposed*, so that a batch
//! which was long on its way proves nothing about now, and on a clock that runs on while the
//! machine sleeps. Where order is decided by the node itself it never shuts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// So long after a batch was proposed that came back, nothing is told any more.
pub const SHUT_AFTER: Duration = Duration::from_secs(15);

/// Milliseconds of a clock that nobody sets and that counts while the machine sleeps.
pub(super) fn uptime() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = ClockId::Boottime;
    // Elsewhere the monotonic clock is the nearest there is.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = ClockId::Monotonic;
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds * 1_000 + u64::try_from(time.tv_nsec).unwrap_or_default() / 1_000_000
}

/// Shared between the thread that reads the journal and those who tell what was read.
#[derive(Debug)]
pub struct Fence {
    /// [`uptime`] at which the batch was proposed that came back last; [`NEVER`]: none has to.
    proposed: AtomicU64,
}

/// Of a node that decides the order itself.
const NEVER: u64 = u64::MAX;

impl Fence {
    /// One that never shuts.
    pub const fn open() -> Self {
        Self { proposed: AtomicU64::new(NEVER) }
    }

    /// One that shuts unless batches come back; a node that has just read all counts as heard.
    pub(super) fn counting() -> Self {
        Self { proposed: AtomicU64::new(uptime()) }
    }

    /// Whether it may ever shut: others append to the journal too.
    pub fn counts(&self) -> bool {
        self.proposed.load(Ordering::Acquire) != NEVER
    }

    /// A batch of this node has come back that was proposed then, and all that it brings about has
    /// been told: sockets that it fences and users whom it revokes are closed.
    pub(crate) fn came_back(&self, proposed: u64) {
        self.proposed.fetch_max(proposed, Ordering::Release);
    }

    /// How old what the node tells may be, in milliseconds: the time since that batch of its own
    /// was proposed that came back last. None: it decides the order itself.
    pub fn lag(&self) -> Option<u64> {
        let proposed = self.proposed.load(Ordering::Acquire);
        (proposed != NEVER).then(|| uptime().saturating_sub(proposed))
    }

    /// Whether nothing is to be told.
    pub fn is_shut(&self) -> bool {
        self.is_shut_at(uptime())
    }

    fn is_shut_at(&self, now: u64) -> bool {
        let proposed = self.proposed.load(Ordering::Acquire);
        u128::from(now.saturating_sub(proposed)) > SHUT_AFTER.as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shuts_by_when_what_came_back_was_proposed() {
        let fence = Fence { proposed: AtomicU64::new(1_000) };
        assert!(!fence.is_shut_at(16_000));
        assert!(fence.is_shut_at(16_001));
        // One that was on its way for long opens it only as far as it goes.
        fence.came_back(2_000);
        assert!(fence.is_shut_at(17_001) && !fence.is_shut_at(17_000));
        // What comes back out of turn takes nothing away.
        fence.came_back(500);
        assert!(!fence.is_shut_at(17_000));
    }

    #[test]
    fn who_decides_the_order_is_never_shut_out() {
        assert!(!Fence::open().is_shut_at(u64::MAX - 1));
        assert_eq!(Fence::open().lag(), None);
        assert!(Fence::counting().lag().is_some_and(|lag| lag < 60_000));
    }
}
