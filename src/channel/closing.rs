//! Why and how the server closes a socket: a code, words for people, and when to come back.

use crate::wire::{Code, Refusal};

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
