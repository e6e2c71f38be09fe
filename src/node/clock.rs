//! What time it is: the one place where a node asks.
//!
//! Promise: one wrong reading of the system's clock does no lasting harm. The fold's time is the
//! latest of any batch and never goes back, so a node reads the system's clock at its start, and
//! counts on from there by a clock that nobody can set. It follows the system's clock forward by up
//! to a day, as after a machine slept or was paused, and never back. What looks wrong is said
//! loudly; it takes a person to know which of two clocks is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::admission::Clock;
use crate::fold;
use crate::store::Store;

/// How often the clocks are looked at.
pub(super) const LOOK: Duration = Duration::from_secs(10);
/// Milliseconds after the last batch, at a start, from which on a wrong clock is the better guess.
const LONG_AFTER: u64 = 30 * 86_400_000;
/// Milliseconds that a clock may be behind the last batch at a start.
const BEHIND: u64 = 60_000;
/// Milliseconds that the fold's time may be ahead while a node runs.
const AHEAD: u64 = 5_000;
/// Milliseconds that the system's clock may be ahead before it is followed, and up to which it is.
const FOLLOWED: std::ops::RangeInclusive<u64> = 100..=86_400_000;
/// Milliseconds by which the system's clock may have been set while a node runs.
const SET: u64 = 60_000;

#[allow(clippy::disallowed_methods, reason = "this is the node's clock")]
fn system() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The system's time now, and from then on by what has passed.
pub(super) fn clock() -> Clock {
    let (begun, started) = (AtomicU64::new(system()), Instant::now());
    Arc::new(move || {
        let passed = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ahead = followed(begun.load(Ordering::Relaxed).saturating_add(passed), system());
        begun.fetch_max(ahead.saturating_sub(passed), Ordering::Relaxed);
        ahead
    })
}

/// The time: what was counted, or the system's where that is ahead by no more than a day.
fn followed(counted: u64, system: u64) -> u64 {
    if FOLLOWED.contains(&system.saturating_sub(counted)) { system } else { counted }
}

/// What is to be said of a start at `now`, where the last batch was folded at `folded`.
fn at_start(now: u64, folded: Option<u64>) -> Option<String> {
    let folded = folded?;
    let days = |ms: u64| ms / 86_400_000;
    if now > folded.saturating_add(LONG_AFTER) {
        let days = days(now - folded);
        return Some(format!(
            "THE CLOCK IS {days} DAYS PAST THE LAST BATCH. If this node did not rest for so long, \
             stop it now and set the clock: what seems unused for that time is forgotten"
        ));
    }
    if now.saturating_add(BEHIND) < folded {
        let seconds = (folded - now) / 1_000;
        return Some(format!(
            "THE CLOCK IS {seconds} SECONDS BEFORE THE LAST BATCH: it is wrong now, or it was \
             then. Until it has caught up the store's time stands still"
        ));
    }
    None
}

/// Looks at the clock before the first batch.
pub(super) fn check(now: u64, folded: Option<u64>) {
    if let Some(said) = at_start(now, folded) {
        tracing::warn!("{said}");
    }
}

/// What is to be said while it runs: the fold's time stands, the system's clock was set.
fn apart(now: u64, system: u64, folded: Option<u64>) -> Option<String> {
    let ahead = folded.unwrap_or_default().saturating_sub(now);
    if ahead > AHEAD {
        let seconds = ahead / 1_000;
        return Some(format!(
            "the store's time is {seconds} s ahead of this node's clock, and stands still until \
             that has caught up: records get that time, and what goes by age goes late"
        ));
    }
    let set = system.abs_diff(now);
    (set > SET).then(|| {
        let seconds = set / 1_000;
        format!(
            "the system's clock and this node's are {seconds} s apart: one was set. The node goes \
             on by its own until it is started again"
        )
    })
}

/// Looks at the clocks of a running node.
pub(super) fn watch(store: &Store, now: u64) {
    match fold::folded_time(store) {
        Ok(folded) => {
            if let Some(said) = apart(now, system(), folded) {
                tracing::warn!("{said}");
            }
        }
        Err(error) => tracing::error!(%error, "the store's time cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000;

    #[test]
    fn a_start_at_an_unlikely_time_is_told() {
        let now = 100 * DAY;
        for folded in [None, Some(now), Some(now - LONG_AFTER), Some(now + BEHIND)] {
            assert_eq!(at_start(now, folded), None, "{folded:?}");
        }
        assert!(at_start(now, Some(now - 31 * DAY)).unwrap().contains("31 DAYS PAST"));
        assert!(at_start(now, Some(now + 3_600_000)).unwrap().contains("3600 SECONDS BEFORE"));
        assert!(at_start(now, Some(u64::MAX)).is_some());
    }

    #[test]
    fn a_clock_is_followed_forward_by_a_day_and_never_back() {
        let now = 100 * DAY;
        for (system, time) in [
            (now, now),
            (now + 99, now),
            (now + 100, now + 100),
            (now + DAY, now + DAY),
            (now + DAY + 1, now),
            (now + 3_650 * DAY, now),
            (now - 1, now),
            (0, now),
        ] {
            assert_eq!(followed(now, system), time, "{system}");
        }
        let clock = clock();
        let first = clock();
        assert!(clock() >= first && first >= system() - 1_000);
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let now = 100 * DAY;
        for (system, folded) in [(now, None), (now - SET, Some(now + AHEAD)), (now + SET, Some(0))]
        {
            assert_eq!(apart(now, system, folded), None);
        }
        assert!(apart(now, now, Some(now + 9_000)).unwrap().contains("9 s ahead"));
        assert!(apart(now, now + 2 * DAY, Some(now)).unwrap().contains("172800 s apart"));
        assert!(apart(now, 0, Some(now)).is_some());
    }
}
