//! What a node that differs from others says before it stops.
//!
//! Promise: who stops because its rows are other than those of others lets them know what its rows
//! are: of two nodes that differ the other one would else go on, which may be the wrong one, and
//! whether it does would go by who spoke first.

use std::time::Instant;

use super::{Committer, LAST_WORDS, POLL};
use crate::journal::{Bell, Event, Journal};

impl<T: Send + 'static> Committer<T> {
    /// Proposes a batch without commands, and waits a while until the engine has it. Its header
    /// says what the rows are, also where it comes before its turn.
    pub(super) fn last_word(&mut self, journal: &mut dyn Journal, bell: &Bell) {
        let (_, bytes) = self.propose(Vec::new());
        let (last, end) = (self.serial, Instant::now() + LAST_WORDS);
        let mut said = journal.propose(last, bytes.into());
        while said.is_ok() && Instant::now() < end {
            said = match journal.poll() {
                Ok(Event::Fate { serial, .. }) if serial == last => return,
                Ok(Event::CaughtUp) => {
                    bell.wait(POLL);
                    Ok(())
                }
                Ok(Event::Batch { .. } | Event::Fate { .. }) => Ok(()),
                Err(error) => Err(error),
            };
        }
        tracing::warn!(?said, "what this node's rows are could not be told to the others");
    }
}
