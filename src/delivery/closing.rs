//! Why the server closes a socket: a code, words for people, and when to come back.
//!
//! Promise: a socket is closed once, and its first reason is what is told.

use super::Attachment;
use crate::wire::{Bye, Class, Code, Refusal};

/// When a client that took too little may come back, in milliseconds.
const BACK_AFTER: u32 = 1_000;

/// Why and how a socket is closed by the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// The code.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Milliseconds to wait before coming back.
    pub after: u32,
    /// Addresses of nodes that may serve it, the one to try first.
    pub nodes: Vec<String>,
}

impl Closing {
    /// The code with its own advice.
    pub fn new(code: Code) -> Self {
        Self { code, message: code.advice().to_owned(), after: 0, nodes: Vec::new() }
    }

    /// More waits for the client than may: it takes too little of it.
    pub(super) fn overflow() -> Self {
        let message = "more waits for this client than it takes: come back, and ask again";
        Refusal::because(Code::Overloaded, message).after(BACK_AFTER).into()
    }

    /// The frame that says so.
    pub fn bye(&self) -> Bye {
        let Self { code, message, after, nodes } = self.clone();
        let reconnect = matches!(code.class(), Class::Reconnect | Class::Transient);
        Bye { code, message, reconnect, after, nodes }
    }
}

impl From<Refusal> for Closing {
    fn from(refusal: Refusal) -> Self {
        let Refusal { code, message, retry_after, .. } = refusal;
        Self { code, message, after: retry_after, nodes: Vec::new() }
    }
}

impl Attachment {
    /// It is closed, and told why, unless it is being closed already. What is owed is not told any
    /// more: a client that comes back asks again.
    pub fn close(&mut self, closing: Closing) {
        if !std::mem::replace(&mut self.closing, true) {
            self.owed.clear();
            self.owed.shrink_to_fit();
            self.words = Some(Box::new(closing));
        }
    }

    /// More waits for the client than may: it is told to come back.
    pub fn overflow(&mut self) {
        self.close(Closing::overflow());
    }

    /// It ends without a word: its other side is gone, or has said that it goes. Returns whether
    /// it was open until now.
    pub const fn gone(&mut self) -> bool {
        !std::mem::replace(&mut self.closing, true)
    }

    /// Why it is closed, once: to be told as the last words.
    pub fn last_words(&mut self) -> Option<Closing> {
        self.words.take().map(|words| *words)
    }

    /// Whether it is being closed.
    pub const fn closing(&self) -> bool {
        self.closing
    }

    /// The client said that it leaves: nothing more is delivered. What it asked before is answered.
    pub const fn leave(&mut self) {
        self.leaving = true;
    }

    /// Whether its client said that it leaves.
    pub const fn leaving(&self) -> bool {
        self.leaving
    }
}
