//! Questions who has a record: they wait for a look at the store, and are answered.
//!
//! Promise: each is answered once, whatever crosses it (promise 20), by the grants that are in
//! force when it is answered (promise 11). The pumps look, so that neither the writer nor a
//! socket's task waits for a disk; a turn takes a few subscribers in, turn about with what is to be
//! delivered, and few questions of a socket wait.

use std::collections::VecDeque;
use std::sync::Arc;

use super::hub::Hub;
use super::socket::{Inner, Socket};
use crate::connection::Having;
use crate::log::LogRow;
use crate::log::rows::RowsError;
use crate::wire::{Code, DeliveredTo, Refusal, Refused, ServerFrame, Who};

/// Questions of a socket that wait.
const WAITING: usize = 64;
/// What whoever asks more is told to wait, in milliseconds.
const ASK_AGAIN: u32 = 500;
/// Subscribers that a turn takes in.
const TURN: usize = 64;

/// A question, and what was found out by now.
#[derive(Debug)]
struct Look {
    who: Who,
    having: Having,
}

/// Those of a socket, in the order in which they are answered.
#[derive(Debug, Default)]
pub(super) struct Looks {
    waiting: VecDeque<Look>,
    /// The socket's last turn was one of these.
    had_turn: bool,
}

impl Looks {
    /// Whether any is not answered.
    pub(super) fn wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether this turn is theirs; `others`: there is something to deliver besides.
    pub(super) fn turn(&mut self, others: bool) -> bool {
        self.had_turn = self.wait() && !(others && self.had_turn);
        self.had_turn
    }
}

impl Socket {
    /// Takes a question up, whose look takes at most so many subscribers in.
    ///
    /// # Errors
    /// `overloaded` where as many questions of this socket wait as may, with the time after which
    /// it may ask again; nothing is kept of this one.
    pub fn ask_who(&self, who: Who, most: usize) -> Result<(), Refusal> {
        let waiting = &mut self.lock().looks.waiting;
        if waiting.len() >= WAITING {
            let message = format!("{WAITING} questions of this socket wait: let some be answered");
            return Err(Refusal::because(Code::Overloaded, message).after(ASK_AGAIN));
        }
        waiting.push_back(Look { who, having: Having::new(who.log, who.offset, most) });
        Ok(())
    }

    /// The client leaves: those that were not answered by now are not looked into.
    pub(super) fn give_looks_up(&self, inner: &mut Inner) {
        let given_up = std::mem::take(&mut inner.looks.waiting);
        let refuse = |look: Look| refused(look.who, Code::Stale.into());
        let frames: Vec<_> = given_up.into_iter().map(refuse).collect();
        if !frames.is_empty() {
            self.send_now(inner, &frames);
        }
    }
}

/// One turn of a question: a few subscribers are taken in, and where that was all it is answered.
/// Nobody else takes a turn of this socket meanwhile.
pub(super) fn serve(hub: &Hub, socket: &Arc<Socket>, now: u64) -> Result<(), RowsError> {
    let begun = |look: &Look| (look.who, look.having.clone());
    let begun = socket.lock().looks.waiting.front().map(begun);
    let Some((who, mut having)) = begun else { return Ok(()) };
    // Nobody is looked at for one who may not ask.
    if let Err(refusal) = judge(socket, who, hub.store.log_row(who.log)?.as_ref(), now) {
        answer(socket, refused(who, refusal));
        return Ok(());
    }
    if !hub.store.having(&mut having, TURN)? {
        if let Some(look) = socket.lock().looks.waiting.front_mut() {
            look.having = having;
        }
        return Ok(());
    }
    hub.store.settled();
    let row = hub.store.log_row(who.log)?;
    let (users, more) = having.named();
    let told = ServerFrame::DeliveredTo(DeliveredTo { request: who.request, users, more });
    let mut inner = socket.lock();
    let told = match allowed(&mut inner, who, row.as_ref(), now) {
        Ok(()) => told,
        Err(refusal) => refused(who, refusal),
    };
    tell(socket, &mut inner, told);
    Ok(())
}

fn judge(socket: &Socket, who: Who, row: Option<&LogRow>, now: u64) -> Result<(), Refusal> {
    allowed(&mut socket.lock(), who, row, now)
}

/// Whether the token in force lets it know, and there is such a record.
fn allowed(inner: &mut Inner, who: Who, row: Option<&LogRow>, now: u64) -> Result<(), Refusal> {
    inner.held |= inner.expires != 0 && now >= inner.expires;
    if inner.held {
        return Err(Code::TokenExpired.into());
    }
    // Of a log that is gone too: whether it was there is nobody else's to know.
    if row.is_some_and(|row| !inner.grants.may_ask_who(&row.name)) {
        return Err(Code::Denied.into());
    }
    Having::judge(who.offset, row)
}

fn answer(socket: &Socket, frame: ServerFrame) {
    tell(socket, &mut socket.lock(), frame);
}

/// Answers the first question, unless all were answered meanwhile.
fn tell(socket: &Socket, inner: &mut Inner, frame: ServerFrame) {
    if inner.looks.waiting.pop_front().is_some() {
        socket.send_now(inner, &[frame]);
    }
}

fn refused(who: Who, refusal: Refusal) -> ServerFrame {
    ServerFrame::Refused(Refused { request: who.request, name: None, refusal })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_take_turns_with_what_is_delivered() {
        let mut looks = Looks::default();
        assert!(!looks.turn(true), "there is none");
        let who = Who { request: 1, log: 1, offset: 0 };
        looks.waiting.push_back(Look { who, having: Having::new(1, 0, 1) });
        let turns: Vec<bool> = (0..4).map(|_| looks.turn(true)).collect();
        assert_eq!(turns, [true, false, true, false]);
        let turns: Vec<bool> = (0..3).map(|_| looks.turn(false)).collect();
        assert_eq!(turns, [true; 3], "nothing else is to be done");
    }
}
