//! How often each code went to a client, over sockets and HTTP alike, since the node started.
//!
//! Promise: whatever was told is counted, once; counting waits for nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::wire::{Code, Outcome, ServerFrame};

/// A count for each code.
#[derive(Debug)]
pub struct Refusals(Vec<AtomicU64>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Code::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }
}

impl Refusals {
    /// Counts a refusal.
    pub fn count(&self, code: Code) {
        let at = Code::ALL.binary_search_by_key(&code.number(), |code| code.number());
        if let Some(count) = at.ok().and_then(|at| self.0.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts what frames refuse: requests, appends, and sockets that are closed.
    pub(super) fn count_in(&self, frames: &[ServerFrame]) {
        for frame in frames {
            match frame {
                ServerFrame::Refused(refused) => self.count(refused.refusal.code),
                ServerFrame::Bye(bye) => self.count(bye.code),
                ServerFrame::Answers(answers) => {
                    for answer in &answers.answers {
                        if let Outcome::Refused(refusal) = &answer.outcome {
                            self.count(refusal.code);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// Each code with its count, in the order of their numbers.
    pub fn each(&self) -> impl Iterator<Item = (Code, u64)> + '_ {
        Code::ALL.iter().copied().zip(self.0.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}
