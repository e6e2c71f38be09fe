//! Why and how the server closes a socket: a code, words for people, and when to come back.

use std::collections::VecDeque;

use super::due::tell_due;
use super::encode::{control, ws_close};
use super::socket::{Inner, Socket};
use super::way::Way;
use crate::wire::{Bye, Class, Code, Refusal, ServerFrame};

/// When a client that took too little may come back, in milliseconds.
const BACK_AFTER: u32 = 1_000;

/// Why and how a socket is closed by the server.
#[derive(Debug, Clone)]
pub struct Closing {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Milliseconds to wait before coming back.
    pub after: u32,
}

impl Closing {
    /// The code with its own advice.
    pub fn new(code: Code) -> Self {
        Self { code, message: code.advice().to_owned(), after: 0 }
    }
}

impl From<Refusal> for Closing {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, message: refusal.message, after: refusal.retry_after }
    }
}

impl Socket {
    /// Tells the client why, and closes; later frames are dropped.
    pub fn close(&self, closing: &Closing) {
        let mut inner = self.lock();
        if inner.leaving {
            drop(inner);
            return self.close_quietly();
        }
        self.end(&mut inner, closing);
    }

    /// Like [`Socket::close`], for who holds the lock. What is due is not told any more: a client
    /// that comes back asks again.
    pub(super) fn end(&self, inner: &mut Inner, closing: &Closing) {
        if std::mem::replace(&mut inner.closing, true) {
            return;
        }
        inner.due = VecDeque::new();
        let Closing { code, message, after } = closing.clone();
        let reconnect = matches!(code.class(), Class::Reconnect | Class::Transient);
        let number = 4000 + code.number();
        let frame = ServerFrame::Bye(Bye { code, message, reconnect, after });
        self.refusals.count(code);
        let mut words = control(&[frame], self.encoding).to_vec();
        words.extend_from_slice(&ws_close(number, code.name()));
        inner.way.last(words.into(), &*self.tcp);
        self.wake();
    }

    /// More waits for the client than may: it takes too little of it.
    pub(super) fn overflow(&self, inner: &mut Inner) {
        let message = "more waits for this client than it takes: come back, and ask again";
        self.end(inner, &Refusal::because(Code::Overloaded, message).after(BACK_AFTER).into());
    }

    /// Closes without waiting for what is on its way out, which is given back: it never goes.
    pub fn cut(&self, closing: &Closing) {
        self.close(closing);
        let mut inner = self.lock();
        inner.way = Way::default();
        socket2::SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Both).ok();
    }

    /// The client said it leaves: nothing more is delivered. What it asked before is answered.
    pub fn set_leaving(&self) {
        self.lock().leaving = true;
    }

    /// Closes without a word of its own, behind all that is due: the client said it leaves.
    pub fn close_quietly(&self) {
        let mut inner = self.lock();
        if !inner.closing {
            while tell_due(self, &mut inner) {}
            self.give_looks_up(&mut inner);
        }
        if !std::mem::replace(&mut inner.closing, true) {
            inner.way.drop_pieces();
            inner.way.reply(ws_close(1000, ""), &*self.tcp);
        }
        drop(inner);
        self.wake();
    }
}
