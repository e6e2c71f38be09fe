//! When a log's turn begins: at once, or a moment later, so that what comes now goes with it.
//!
//! Promise: a turn waits only where it is long and more is about to come: for what was being
//! committed when it might have begun, and, right after a turn during which records were told, a
//! quarter of its own time, for whoever waited for the end of that one writes again now. It waits
//! no longer than it will take, and never longer than [`MOST`]; after waits in vain, ever fewer
//! turns wait. A turn writes to each reader once, whatever it has for them: so one that waited
//! costs half of two. Nothing here looks at a clock.

use std::time::{Duration, Instant};

/// No turn of a node waits longer.
pub(super) const MOST: Duration = Duration::from_millis(4);
/// A wait that may be no longer than this is not worth it.
const LEAST: Duration = Duration::from_micros(400);
/// A measured slice counts for one part of so many in what is known of readers.
const WEIGHT: u32 = 8;
/// Most turns that do not wait, after waits in vain.
const PASSED_OVER: u32 = 31;

/// What is known of turns.
#[derive(Debug)]
pub(super) struct Pace {
    /// No turn waits longer.
    most: Duration,
    /// What writing to a reader takes.
    reader: Duration,
    /// The log whose turn ended last, unless there was nothing to do since then.
    ended: Option<u64>,
    /// The wait that goes on.
    waits: Option<Waits>,
    /// So many of the next turns do not wait; and so many did not after the last wait in vain.
    passed_over: (u32, u32),
}

/// A turn that waits.
#[derive(Debug, Clone, Copy)]
struct Waits {
    since: Instant,
    /// Where its log ended then.
    end: u64,
    /// It waits for commands up to this one.
    upto: usize,
}

/// The turn that is next, the only one there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Next {
    pub log: u64,
    pub readers: usize,
    /// Where the log ends.
    pub end: u64,
}

impl Pace {
    /// Nothing is known of readers, so no turn waits.
    pub(super) const fn new(most: Duration) -> Self {
        Self { most, reader: Duration::ZERO, ended: None, waits: None, passed_over: (0, 0) }
    }

    /// So many readers were written to, in that time.
    pub(super) fn wrote(&mut self, readers: usize, took: Duration) {
        let Some(each) = u32::try_from(readers).ok().and_then(|count| took.checked_div(count))
        else {
            return;
        };
        self.reader =
            if self.reader.is_zero() { each } else { (self.reader * (WEIGHT - 1) + each) / WEIGHT };
    }

    /// A log's turn has ended.
    pub(super) const fn ended(&mut self, log: u64) {
        self.ended = Some(log);
    }

    /// There is nothing to do: what is told from now on was not told during a turn.
    pub(super) const fn idle(&mut self) {
        self.ended = None;
    }

    /// A turn begins.
    pub(super) const fn begins(&mut self) {
        self.waits = None;
        self.passed_over.0 = self.passed_over.0.saturating_sub(1);
    }

    /// How long the next turn still waits for more to be told; none: it begins. So many commands
    /// were handed in to be committed, and so many of them were heard of.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        next: Next,
        (handed, heard): (usize, usize),
    ) -> Option<Duration> {
        let readers = u32::try_from(next.readers).unwrap_or(u32::MAX);
        let most = self.reader.saturating_mul(readers).min(self.most);
        if most < LEAST || self.passed_over.0 > 0 {
            return None;
        }
        let crossed = self.ended == Some(next.log);
        let waits = self.waits.get_or_insert(Waits { since: now, end: next.end, upto: handed });
        let waited = now.saturating_duration_since(waits.since);
        let for_writers = if crossed { most / 4 } else { Duration::ZERO };
        if waited < for_writers {
            waits.upto = handed;
        }
        // Counted round and round.
        let under_way = waits.upto.wrapping_sub(heard).cast_signed() > 0;
        let most = if under_way { most } else { for_writers };
        let left = most.checked_sub(waited).filter(|left| !left.is_zero());
        if left.is_none() {
            let joined = next.end > waits.end;
            self.waits = None;
            if joined {
                self.passed_over = (0, 0);
            } else if !waited.is_zero() {
                let more = (self.passed_over.1 * 2 + 1).min(PASSED_OVER);
                // The turn that waited is one of them.
                self.passed_over = (more + 1, more);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u64 = 7;
    const MICROS: fn(u64) -> Duration = Duration::from_micros;
    /// Nothing is being committed; one command is.
    const QUIET: (usize, usize) = (5, 5);
    const BUSY: (usize, usize) = (6, 5);

    /// Writing to a reader takes 4 µs.
    fn pace() -> Pace {
        let mut pace = Pace::new(MOST);
        pace.wrote(256, MICROS(1_024));
        pace
    }

    fn next(readers: usize, end: u64) -> Next {
        Next { log: LOG, readers, end }
    }

    #[test]
    fn a_turn_that_nothing_is_about_to_join_begins_at_once() {
        let (mut pace, now) = (pace(), Instant::now());
        assert_eq!(pace.wait(now, next(100_000, 1), QUIET), None);
        // Another log's turn has ended, or this one's before there was nothing to do.
        pace.ended(LOG + 1);
        assert_eq!(pace.wait(now, next(1_000, 1), QUIET), None);
        pace.ended(LOG);
        pace.idle();
        assert_eq!(pace.wait(now, next(1_000, 1), QUIET), None);
    }

    #[test]
    fn a_short_turn_waits_for_nothing() {
        let (mut pace, now) = (pace(), Instant::now());
        pace.ended(LOG);
        assert_eq!(pace.wait(now, next(99, 1), BUSY), None);
        assert_eq!(pace.wait(now, next(100, 1), BUSY), Some(LEAST));
        // Nothing is known of readers yet.
        assert_eq!(Pace::new(MOST).wait(now, next(10_000, 1), BUSY), None);
    }

    #[test]
    fn a_turn_waits_for_a_commit_as_long_as_it_takes() {
        let (mut pace, now) = (pace(), Instant::now());
        assert_eq!(pace.wait(now, next(500, 1), BUSY), Some(MICROS(2_000)));
        assert_eq!(pace.wait(now + MICROS(500), next(500, 1), BUSY), Some(MICROS(1_500)));
        // What it waited for was told; others may be committed for ever.
        assert_eq!(pace.wait(now + MICROS(900), next(500, 2), (9, 6)), None);
        pace.begins();
        assert_eq!(pace.wait(now, next(1_000_000, 2), BUSY), Some(MOST));
        assert_eq!(pace.wait(now + MOST, next(1_000_000, 2), BUSY), None);
    }

    #[test]
    fn a_turn_waits_for_those_who_waited_for_the_one_before() {
        let (mut pace, now) = (pace(), Instant::now());
        pace.ended(LOG);
        assert_eq!(pace.wait(now, next(1_000, 1), QUIET), Some(MICROS(1_000)));
        // They write, and that is being committed: it has a while more.
        assert_eq!(pace.wait(now + MICROS(800), next(1_000, 1), BUSY), Some(MICROS(3_200)));
        assert_eq!(pace.wait(now + MICROS(1_100), next(1_000, 1), BUSY), Some(MICROS(2_900)));
        // Whoever comes later comes too late.
        assert_eq!(pace.wait(now + MICROS(1_900), next(1_000, 2), (7, 6)), None);
    }

    /// Commits that take longer than a turn, or are of other logs, hold up few turns.
    #[test]
    fn after_waits_in_vain_ever_fewer_turns_wait() {
        let (mut pace, mut now) = (pace(), Instant::now());
        let turns = |pace: &mut Pace, now: &mut Instant, joined: u64| {
            (1..).find(|_| {
                let waits = pace.wait(*now, next(500, 1), BUSY);
                if let Some(wait) = waits {
                    *now += wait;
                    assert_eq!(pace.wait(*now, next(500, 1 + joined), BUSY), None);
                }
                pace.begins();
                waits.is_some()
            })
        };
        let waited = [0; 7].map(|joined| turns(&mut pace, &mut now, joined));
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 32].map(Some));
        // One that was joined is as good as none in vain.
        assert_eq!(turns(&mut pace, &mut now, 1), Some(32));
        assert_eq!(turns(&mut pace, &mut now, 0), Some(1));
        assert_eq!(turns(&mut pace, &mut now, 0), Some(2));
    }

    #[test]
    fn commands_are_counted_round_and_round() {
        let (mut pace, now) = (pace(), Instant::now());
        let wait = pace.wait(now, next(500, 1), (1, usize::MAX));
        assert_eq!(wait, Some(MICROS(2_000)));
        assert_eq!(pace.wait(now + MICROS(1), next(500, 2), (9, 1)), None);
    }

    #[test]
    fn what_readers_take_is_learnt_by_and_by() {
        let mut pace = pace();
        pace.wrote(0, MICROS(5_000));
        assert_eq!(pace.reader, MICROS(4));
        // A slice in which the thread was not on a core.
        pace.wrote(256, MICROS(10_240));
        assert_eq!(pace.reader, Duration::from_nanos(8_500));
        (0..40).for_each(|_| pace.wrote(256, MICROS(1_024)));
        assert!(pace.reader < MICROS(5));
    }
}
