//! Questions who has a record: they wait for a look at rows, and are answered.
//!
//! Promise: each is answered once, whatever crosses it (promise 20), by the grants that are in
//! force when it is answered (promise 11); few of a socket wait, and they take turns with what is
//! to be delivered.

use std::collections::VecDeque;

use super::Attachment;
use crate::connection::Having;
use crate::log::LogRow;
use crate::wire::{Code, Refusal, Refused, ServerFrame, Who};

/// Questions of a socket that wait.
const WAITING: usize = 64;
/// What whoever asks more is told to wait, in milliseconds.
const ASK_AGAIN: u32 = 500;

/// A question, and what was found out by now.
#[derive(Debug, Clone)]
pub struct Look {
    /// The question.
    pub who: Who,
    /// How far the look has come.
    pub having: Having,
}

/// Those of a socket, in the order in which they are answered.
#[derive(Debug, Default)]
pub(super) struct Questions {
    waiting: VecDeque<Look>,
    /// The socket's last turn was one of these.
    had_turn: bool,
}

impl Questions {
    /// Whether any is not answered.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether this turn is theirs; `others`: there is something to deliver besides.
    fn turn(&mut self, others: bool) -> bool {
        self.had_turn = self.wait() && !(others && self.had_turn);
        self.had_turn
    }
}

impl Attachment {
    /// Takes a question up, whose look takes at most so many subscribers in.
    ///
    /// # Errors
    /// `overloaded` where as many questions of this socket wait as may, with the time after which
    /// it may ask again; nothing is kept of this one.
    pub fn ask_who(&mut self, who: Who, most: usize) -> Result<(), Refusal> {
        let waiting = &mut self.questions.waiting;
        if waiting.len() >= WAITING {
            let message = format!("{WAITING} questions of this socket wait: let some be answered");
            return Err(Refusal::because(Code::Overloaded, message).after(ASK_AGAIN));
        }
        waiting.push_back(Look { who, having: Having::new(who.log, who.offset, most) });
        Ok(())
    }

    /// The first question, if this turn is theirs.
    pub(super) fn next_look(&mut self) -> Option<Look> {
        let others = !self.announce.is_empty() || !self.behind.is_empty();
        if !self.questions.turn(others) {
            return None;
        }
        self.questions.waiting.front().cloned()
    }

    /// The first question's look has come so far.
    pub fn looked(&mut self, having: Having) {
        if let Some(look) = self.questions.waiting.front_mut() {
            look.having = having;
        }
    }

    /// Whether the token in force lets the client know who has a record, and there is such a one.
    ///
    /// # Errors
    /// Why not.
    pub fn may_know(&mut self, who: Who, row: Option<&LogRow>, now: u64) -> Result<(), Refusal> {
        self.held |= self.expires != 0 && now >= self.expires;
        if self.held {
            return Err(Code::TokenExpired.into());
        }
        // Of a log that is gone too: whether it was there is nobody else's to know.
        if row.is_some_and(|row| !self.grants.may_ask_who(&row.name)) {
            return Err(Code::Denied.into());
        }
        Having::judge(who.offset, row)
    }

    /// The first question is answered; false where all were answered meanwhile.
    pub fn answered(&mut self) -> bool {
        self.questions.waiting.pop_front().is_some()
    }

    /// The client leaves: what is said to questions that were not answered by now.
    pub fn give_questions_up(&mut self) -> Vec<ServerFrame> {
        let given_up = std::mem::take(&mut self.questions.waiting);
        let refuse = |look: Look| refused(look.who, Code::Stale.into());
        given_up.into_iter().map(refuse).collect()
    }
}

/// The answer to a question that is refused.
pub fn refused(who: Who, refusal: Refusal) -> ServerFrame {
    ServerFrame::Refused(Refused { request: who.request, name: None, refusal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_take_turns_with_what_is_delivered() {
        let mut looks = Questions::default();
        assert!(!looks.turn(true), "there is none");
        let who = Who { request: 1, log: 1, offset: 0 };
        looks.waiting.push_back(Look { who, having: Having::new(1, 0, 1) });
        let turns: Vec<bool> = (0..4).map(|_| looks.turn(true)).collect();
        assert_eq!(turns, [true, false, true, false]);
        let turns: Vec<bool> = (0..3).map(|_| looks.turn(false)).collect();
        assert_eq!(turns, [true; 3], "nothing else is to be done");
    }
}
