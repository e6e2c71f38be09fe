//! In which order a socket is told what became of its writers' appends.
//!
//! Promise: on one socket the outcomes of a writer come in the order of its sequences (protocol
//! §2). The fold takes them in that order, of whatever socket; but one that this socket was told to
//! send later may be stored from a socket before it, and then the fold takes what this one had sent
//! behind it. That is put off too, then: it gets its outcome, which is kept, when it comes again.
//! What stands here stands only where something was put off, and of so many writers.

use super::Attachment;
use crate::wire::{Answer, Answers, Class, Code, Id, Outcome, Refusal};

/// Writers of one socket of which something is put off: beyond, the oldest are let go.
const MOST: usize = 32;

const BEHIND: &str = "what was sent before it has no outcome yet: send from there on";

/// A writer that was told to send something later.
#[derive(Debug)]
pub(super) struct PutOff {
    writer: Id,
    /// The lowest sequence of it that waits for its outcome; all behind it wait, too.
    from: u64,
    /// The highest one: with its outcome it is over.
    upto: u64,
    /// The last sequence of the frame that came last.
    came: u64,
}

impl PutOff {
    const fn over(&self) -> bool {
        self.from > self.upto
    }

    /// One is put off, or its outcome is told.
    fn told(&mut self, seq: u64, put_off: bool) {
        if put_off {
            self.from = self.from.min(seq);
            self.upto = self.upto.max(seq);
        } else {
            self.from = self.from.max(seq + 1);
        }
    }
}

impl Attachment {
    /// A frame of appends has come, with these sequences first and last. Of what was put off its
    /// client may know the outcome from elsewhere, as from another page, and not ask here again: it
    /// has what lies below `oldest`, and where it begins again it begins with what it lacks.
    pub fn appends(&mut self, writer: Id, oldest: u64, (first, last): (u64, u64)) {
        let Some(known) = self.put_off.iter_mut().find(|one| one.writer == writer) else { return };
        let again = if first <= known.came { first } else { 0 };
        known.from = known.from.max(oldest).max(again);
        known.came = last;
        self.put_off.retain(|one| !one.over());
    }

    /// Answers of a frame of appends are about to be told, whose first item names `prev` as sent
    /// before it. Outcomes that would come before those of what was put off are put off too.
    /// Whoever answers appends asks here, in the order in which answers are told.
    pub fn in_order(&mut self, prev: u64, answers: &mut Answers) {
        let puts_off = answers.answers.iter().any(is_put_off);
        if self.put_off.is_empty() && !puts_off {
            return;
        }
        let writer = answers.writer;
        if puts_off && !self.put_off.iter().any(|one| one.writer == writer) {
            if self.put_off.len() >= MOST {
                self.put_off.remove(0);
            }
            self.put_off.push(PutOff { writer, from: u64::MAX, upto: 0, came: 0 });
        }
        let Some(known) = self.put_off.iter_mut().find(|one| one.writer == writer) else { return };
        if prev >= known.from {
            keep_back(known.from, answers);
        }
        answers.answers.iter().for_each(|answer| known.told(answer.seq, is_put_off(answer)));
        self.put_off.retain(|one| !one.over());
    }
}

/// Puts the outcomes of a frame off, for now: all from this sequence on is to come again.
fn keep_back(from: u64, answers: &mut Answers) {
    let outcomes = answers.answers.iter_mut().filter(|answer| !is_put_off(answer));
    let kept = outcomes.map(|answer| {
        answer.outcome = Outcome::Refused(Refusal::because(Code::SequenceGap, BEHIND));
    });
    if kept.count() > 0 {
        // Whoever sends again from behind the mark has to begin with what was put off first.
        answers.mark = from.saturating_sub(1);
        answers.positions.clear();
    }
}

fn is_put_off(answer: &Answer) -> bool {
    matches!(&answer.outcome, Outcome::Refused(why) if why.code.class() == Class::Transient)
}
