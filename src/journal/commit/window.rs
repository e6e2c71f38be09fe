//! Batches of this node on their way through a journal whose order is decided elsewhere.
//!
//! Promise: they are folded in the order in which they were made, each once, though an engine may
//! refuse or lose one and take those behind it. One that comes before its turn counts for nothing
//! (`crate::fold`), and is proposed again behind the one that it overtook. A batch is proposed
//! again only where the journal may not have it: never after it was taken, and after a wait where
//! its fate is unknown.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::proposal::{Fate, Proposal};
use crate::journal::{Fate as Answer, JournalError};

/// Most batches on their way.
const MOST: usize = 8;
/// How long a proposal may stay unseen before the same bytes are proposed again.
pub(super) const PROPOSE_AGAIN: Duration = Duration::from_millis(200);

/// They, oldest first: their serials follow one another.
pub(super) struct Window<T> {
    way: VecDeque<Proposal<T>>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { way: VecDeque::new() }
    }
}

impl<T> Window<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.way.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.way.len() >= MOST
    }

    pub(super) fn push(&mut self, proposal: Proposal<T>) {
        self.way.push_back(proposal);
    }

    /// What is to be proposed now, in this order, where batch `folded` was the last one folded.
    /// What stands behind one that has to wait, waits with it: it would only come early.
    pub(super) fn due(&mut self, folded: u64, now: Instant) -> Vec<(u64, Bytes)> {
        let mut due = Vec::new();
        for one in &mut self.way {
            match one.due(folded, now) {
                Some(true) => {
                    one.fate = Fate::Asked;
                    due.push((one.serial(), one.bytes.clone()));
                }
                Some(false) => {}
                None => break,
            }
        }
        due
    }

    /// How long until something may be due that is not yet.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        let rest = |one: &Proposal<T>| one.since().map(|since| since + PROPOSE_AGAIN);
        let first = self.way.iter().filter_map(rest).min();
        first.map_or(PROPOSE_AGAIN, |at| at.saturating_duration_since(now))
    }

    /// The engine's answer to a proposal.
    pub(super) fn answered(
        &mut self,
        serial: u64,
        answer: Answer,
        now: Instant,
    ) -> Result<(), JournalError> {
        let one = self.way.iter_mut().find(|one| one.serial() == serial);
        one.map_or(Ok(()), |one| one.answered(answer, now))
    }

    /// One that came before its turn is not in the journal by that.
    pub(super) fn came_early(&mut self, bytes: &[u8]) {
        if let Some(one) = self.way.iter_mut().find(|one| one.bytes == bytes) {
            one.came_early();
        }
    }

    /// Takes out the one that was folded.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Option<Proposal<T>> {
        let at = self.way.iter().position(|one| one.bytes == bytes)?;
        self.way.remove(at)
    }

    /// Takes out what is to be given up, the newest first: once the first one was refused again and
    /// again, all those at the end of which nothing is in the journal or may get there.
    pub(super) fn take_refused(&mut self) -> Vec<Proposal<T>> {
        let mut refused = Vec::new();
        if self.way.front().is_some_and(Proposal::is_refused) {
            while self.way.back().is_some_and(Proposal::is_outside) {
                refused.extend(self.way.pop_back());
            }
        }
        refused
    }
}
