//! One budget that refills: what is there, what is owed, and when so much will have come.
//!
//! Promise: pure; the time is handed in, in nanoseconds. A budget holds what comes in one second.
//! More may be charged than is there: then it is owed, and what was charged is *ripe* at a time
//! that is known at once and that nothing charged later puts off. So what is taken up to any
//! moment, counted when it is ripe, is never more than a second's worth above the rate.

/// Nanoseconds.
pub(super) const SECOND: u64 = 1_000_000_000;

/// How many units come back in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Speed(u64);

impl Speed {
    /// So many in a second; at least one.
    pub(super) const fn new(units: u64) -> Self {
        Self(if units == 0 { 1 } else { units })
    }

    /// An even share of so many; at least one unit.
    pub(super) fn among(self, shares: u32) -> Self {
        Self::new(self.0 / u64::from(shares.max(1)))
    }

    /// Units in a second.
    pub(super) const fn units(self) -> u64 {
        self.0
    }

    /// The time in which so many units come, rounded up.
    pub(super) fn time(self, units: u64) -> u64 {
        match units.checked_mul(SECOND) {
            Some(product) => product.div_ceil(self.0),
            None => wide(u128::from(units) * u128::from(SECOND), u128::from(self.0)),
        }
    }

    /// The units that come in so much time, rounded down.
    fn come_in(self, time: u64) -> u64 {
        match time.checked_mul(self.0) {
            Some(product) => product / SECOND,
            None => wide(u128::from(time) * u128::from(self.0), u128::from(SECOND)),
        }
    }
}

fn wide(product: u128, by: u128) -> u64 {
    u64::try_from(product / by).unwrap_or(u64::MAX)
}

/// How full a budget is: the time at which it would be full again. One that never gave is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    full_at: u64,
}

impl Level {
    /// Units that are there now.
    pub(super) fn room(self, speed: Speed, now: u64) -> u64 {
        speed.come_in((now + SECOND).saturating_sub(self.full_at.max(now)))
    }

    /// Time in which what is owed comes back.
    pub(super) const fn owed(self, now: u64) -> u64 {
        self.full_at.saturating_sub(now + SECOND)
    }

    /// Charges so many units, whether they are there or not: the time at which they are ripe.
    pub(super) fn charge(&mut self, speed: Speed, units: u64, now: u64) -> u64 {
        if units == 0 {
            return 0;
        }
        self.full_at = self.full_at.max(now).saturating_add(speed.time(units));
        self.full_at.saturating_sub(SECOND)
    }

    /// Gives back what was charged and not used. Rounded down: it never gives more than was taken.
    pub(super) fn hand_back(&mut self, speed: Speed, units: u64) {
        let time = speed.time(units);
        let exact = units.saturating_mul(SECOND).is_multiple_of(speed.0);
        self.full_at = self.full_at.saturating_sub(time.saturating_sub(u64::from(!exact)));
    }

    /// Whether nothing of it is missing.
    pub(super) const fn is_full(self, now: u64) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_a_second_and_refills_at_its_rate() {
        let (speed, mut level, now) = (Speed::new(50), Level::default(), 10 * SECOND);
        assert_eq!(level.room(speed, now), 50);
        assert!(level.charge(speed, 50, now) <= now, "all of it is there");
        assert_eq!((level.room(speed, now), level.owed(now)), (0, 0));
        assert_eq!(level.room(speed, now + SECOND / 50), 1);
        assert_eq!(level.room(speed, now + SECOND / 50 - 1), 0);
        assert_eq!(level.room(speed, now + 9 * SECOND), 50, "never more than a second of it");
    }

    #[test]
    fn what_is_owed_is_ripe_when_it_has_come() {
        let (speed, mut level, now) = (Speed::new(50), Level::default(), 10 * SECOND);
        level.charge(speed, 50, now);
        assert_eq!(level.charge(speed, 20, now), now + 2 * SECOND / 5);
        assert_eq!(level.charge(speed, 100, now), now + 12 * SECOND / 5, "it waits its turn");
        assert_eq!((level.owed(now), level.room(speed, now + 2 * SECOND)), (12 * SECOND / 5, 0));
        level.hand_back(speed, 100);
        assert_eq!(level.owed(now), 2 * SECOND / 5);
        assert_eq!(level.charge(speed, 0, now), 0, "nothing is ripe at once");
    }

    #[test]
    fn handing_back_gives_no_more_than_was_taken() {
        for rate in [1, 3, 7, 1_000, 8 << 20, 64 << 30] {
            let (speed, mut level, now) = (Speed::new(rate), Level::default(), SECOND);
            level.charge(speed, 10, now);
            (0..10).for_each(|_| level.hand_back(speed, 1));
            assert!(level.full_at >= now, "{rate}");
        }
        let speed = Speed::new(1);
        assert_eq!(speed.time(u64::MAX), u64::MAX, "and no number is too large");
    }
}
