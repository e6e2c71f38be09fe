//! What is kept of a frame of appends while the fold decides on it.
//!
//! Promise: a frame is answered once, in the order of its sequences, also where the rates took only
//! its first items; and what spent nothing is given back to the rates before the answer is told.

use crate::limit::Charged;
use crate::wire::{Answer, Answers, Class, Credit, Outcome, Refusal};

/// A frame of appends, of which the fold has the items that the rates let through.
#[derive(Debug)]
pub struct Appending {
    /// What its first item names as sent before it.
    pub prev: u64,
    /// What these items cost.
    pub charged: Charged,
    /// The sequences of the others, and why they are to come later.
    pub rest: Option<(Vec<u64>, Refusal)>,
    /// What may be appended behind this frame.
    pub credit: Option<Credit>,
}

impl Appending {
    /// The whole frame's answers, made of the fold's in that batch; tells what its first item named
    /// as sent before it.
    pub(super) fn answer(self, batch: u64, answers: &mut Answers) -> u64 {
        settle(self.charged, batch, &answers.answers);
        if let Some((seqs, refusal)) = self.rest {
            answers.answers.extend(refused(seqs, &refusal));
        }
        answers.credit = self.credit;
        self.prev
    }
}

/// Answers that refuse items alike.
pub fn refused(seqs: Vec<u64>, refusal: &Refusal) -> impl Iterator<Item = Answer> + '_ {
    let answer = |seq| Answer { seq, outcome: Outcome::Refused(refusal.clone()) };
    seqs.into_iter().map(answer)
}

/// Settles what the items cost, given back being what those cost that spent nothing: those that the
/// fold puts off, and those that an earlier batch has stored.
pub fn settle(charged: Charged, batch: u64, answers: &[Answer]) {
    charged.settle(|at| {
        answers.get(at).is_some_and(|answer| match &answer.outcome {
            Outcome::Stored { place, .. } => place.batch != batch,
            Outcome::Refused(refusal) => refusal.code.class() == Class::Transient,
        })
    });
}
