//! Which other nodes have fallen silent.
//!
//! Promise: a node is called silent only by one that has itself read without a pause for as long:
//! what a node did not read while it was cut off, asleep or behind says nothing about others. Any
//! batch is a sign of life; a node that has nothing to say proposes an empty one every [`BEAT`].

use std::collections::BTreeMap;

use crate::connection::Attachment;
use crate::wire::Id;

/// How often a node without commands proposes a batch, milliseconds.
pub(super) const BEAT: u64 = 2_000;
/// A node that was not heard for so long is silent, milliseconds.
const SILENT: u64 = 30_000;
/// A batch of one's own that was on its way for longer is a pause, milliseconds.
const PAUSE: u64 = 5_000;

/// When whom it heard, by a clock that counts while the machine sleeps, in milliseconds.
#[derive(Debug)]
pub(super) struct Silence {
    heard: BTreeMap<Id, u64>,
    /// Since then it has read without a pause.
    steady: u64,
    /// When a batch of its own came back last.
    returned: u64,
}

impl Silence {
    pub(super) const fn new(now: u64) -> Self {
        Self { heard: BTreeMap::new(), steady: now, returned: now }
    }

    /// A batch of a node was read.
    pub(super) fn heard(&mut self, node: Id, now: u64) {
        self.heard.insert(node, now);
    }

    /// A batch of its own has come back that was proposed then.
    pub(super) fn came_back(&mut self, proposed: u64, now: u64) {
        // Either it was long on its way, or none came for long.
        if now.saturating_sub(proposed.min(self.returned)) > PAUSE {
            self.steady = now;
        }
        self.returned = now;
    }

    /// Those of the runs that go on which are not heard any more.
    pub(super) fn of(
        &self,
        going_on: impl Iterator<Item = Attachment>,
        now: u64,
    ) -> Vec<Attachment> {
        if now.saturating_sub(self.returned) > PAUSE {
            return Vec::new();
        }
        let steady = self.steady;
        let last =
            |run: &Attachment| self.heard.get(&run.node).map_or(steady, |at| steady.max(*at));
        going_on.filter(|run| now.saturating_sub(last(run)) >= SILENT).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Attachment = Attachment { node: Id([2; 16]), incarnation: 7 };

    fn of(silence: &Silence, now: u64) -> Vec<Attachment> {
        silence.of(std::iter::once(OTHER), now)
    }

    /// Reads its own batches until then, one every two seconds.
    fn steady(silence: &mut Silence, times: std::ops::Range<u64>) {
        times.step_by(2_000).for_each(|now| silence.came_back(now - 10, now));
    }

    #[test]
    fn who_is_not_heard_for_half_a_minute_is_silent() {
        let mut silence = Silence::new(0);
        steady(&mut silence, 2_000..50_000);
        silence.heard(OTHER.node, 20_000);
        assert_eq!(of(&silence, 49_999), []);
        assert_eq!(of(&silence, 50_000), [OTHER]);
        silence.heard(OTHER.node, 50_001);
        assert_eq!(of(&silence, 52_000), []);
    }

    #[test]
    fn who_was_never_heard_counts_from_when_reading_began() {
        let mut silence = Silence::new(1_000);
        steady(&mut silence, 3_000..32_000);
        assert_eq!(of(&silence, 30_999), []);
        assert_eq!(of(&silence, 31_000), [OTHER]);
    }

    #[test]
    fn who_read_nothing_itself_calls_nobody_silent() {
        let mut silence = Silence::new(0);
        steady(&mut silence, 2_000..10_000);
        // Cut off for a minute: neither then nor right after, but half a minute after that.
        assert_eq!(of(&silence, 60_000), []);
        silence.came_back(60_000, 70_000);
        assert_eq!(of(&silence, 70_001), []);
        steady(&mut silence, 72_000..101_000);
        assert_eq!(of(&silence, 99_999), []);
        assert_eq!(of(&silence, 100_000), [OTHER]);
        // A batch that was on its way for long is a pause too.
        silence.came_back(90_000, 101_000);
        assert_eq!(of(&silence, 101_001), []);
    }
}
