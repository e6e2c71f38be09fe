//! What is due to a socket before any reset or base: kept answers, its state, long lists.
//!
//! It is told a piece at a time, and until it is, the socket's input is left unread: so what a
//! client asks for is bounded by one frame. What others do to it (a back end, who deletes a log)
//! has a bound of its own: beyond it the client is told to come back, and sees how things are then.

use std::sync::Arc;

use super::encode::control;
use super::hub::Hub;
use super::pump::{ANNOUNCE_MOST, finish};
use super::socket::{Inner, Socket};
use crate::wire::{Answer, Answers, Ended, Id, Refusal, Refused, ServerFrame, Unsubscribed};

/// Answers in one frame.
const ANSWERS_MOST: usize = 256;

/// Most that others may have done to a socket while something is due to it.
const UNINVITED: usize = 4_096;

/// Something to tell that is due before any reset or base (law 7), and that may be long.
#[derive(Debug)]
pub(super) enum Due {
    /// Answers of a writer, after which its mark stands there.
    Answers(Id, u64, std::vec::IntoIter<Answer>),
    /// A frame.
    Frame(Box<ServerFrame>),
    /// Logs that were asked for and not opened.
    Refused(u32, std::vec::IntoIter<(String, Refusal)>),
    /// Subscriptions that ended.
    Unsubscribed(u32, Ended, std::vec::IntoIter<u64>),
}

impl Hub {
    /// Tells of logs that were asked for and are not opened, with the reason of each.
    pub fn refuse(&self, socket: &Arc<Socket>, request: u32, refused: Vec<(String, Refusal)>) {
        if refused.is_empty() {
            return;
        }
        socket.lock().owe(Due::Refused(request, refused.into_iter()));
        self.schedule(socket);
    }
}

impl Inner {
    /// Something is due; to a socket that is being closed nothing is.
    pub(super) fn owe(&mut self, due: Due) {
        if !self.closing {
            self.due.push_back(due);
        }
    }
}

impl Socket {
    /// Others do something to it, of which so much is to be told.
    pub(super) fn uninvited(&self, items: usize) {
        let mut inner = self.lock();
        if inner.due.is_empty() {
            inner.uninvited = 0;
        }
        inner.uninvited += items;
        if inner.uninvited > UNINVITED {
            self.overflow(&mut inner);
        }
    }
}

/// What is due goes before anything else (law 7), a piece at a time.
pub(super) fn tell_due(socket: &Socket, inner: &mut Inner) -> bool {
    let Some(mut due) = inner.due.pop_front() else { return false };
    let (frames, rest) = piece(&mut due);
    if rest {
        inner.due.push_front(due);
    } else if inner.due.is_empty() {
        // Its input is read again.
        socket.wake();
    }
    socket.refusals.count_in(&frames);
    let message = control(&frames, socket.encoding);
    finish(socket, inner, |inner| inner.way.reply(message, &*socket.tcp));
    true
}

/// The next frames of what is due, and whether there are more.
fn piece(due: &mut Due) -> (Vec<ServerFrame>, bool) {
    match due {
        Due::Answers(writer, mark, rest) => {
            let answers = rest.by_ref().take(ANSWERS_MOST).collect();
            let positions = Vec::new();
            let frame = Answers { writer: *writer, mark: *mark, answers, positions, credit: None };
            (vec![ServerFrame::Answers(frame)], rest.len() > 0)
        }
        Due::Frame(frame) => (vec![(**frame).clone()], false),
        Due::Refused(request, rest) => {
            let request = *request;
            let frame = |(name, refusal)| {
                ServerFrame::Refused(Refused { request, name: Some(name), refusal })
            };
            (rest.by_ref().take(ANNOUNCE_MOST).map(frame).collect(), rest.len() > 0)
        }
        Due::Unsubscribed(request, reason, rest) => {
            let (request, reason) = (*request, *reason);
            let frame = |log| ServerFrame::Unsubscribed(Unsubscribed { request, log, reason });
            (rest.by_ref().take(ANNOUNCE_MOST).map(frame).collect(), rest.len() > 0)
        }
    }
}
