//! Faces: how frames look to who reads a socket.
//!
//! Promise: all that depends on the face by which frames leave is said here, and nothing here is
//! of one client: sockets of one [`Form`] share what is made. It knows frames and bytes, and
//! neither logs nor sockets.
//!
//! Another face (server-sent events) is another variant of [`Face`], and a file beside
//! `websocket.rs` that says how a message of frames looks and how it ends.

mod delivery;
mod messages;
mod websocket;

use bytes::Bytes;

pub(super) use delivery::{Message, encode};
pub(super) use messages::Messages;

use crate::wire::{Bye, Encoding, ServerFrame, codec};

/// By which face frames leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Face {
    /// Messages of RFC 6455.
    WebSocket,
}

/// The form in which a socket is written to: all of one form share what is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// By which face its frames leave.
    pub face: Face,
    /// The encoding agreed on.
    pub encoding: Encoding,
    /// Whether its client puts parts together.
    pub parts: bool,
}

impl Face {
    /// Adds whole frames, encoded and back to back, as one message.
    fn wrap(self, payload: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => websocket::wrap(payload, encoding, out),
        }
    }

    /// Adds what says that nothing follows, and why.
    fn close(self, code: u16, reason: &str, out: &mut Vec<u8>) {
        match self {
            Self::WebSocket => websocket::close(code, reason, out),
        }
    }

    /// Whether bytes that the face's own layer sends say that nothing follows.
    pub(super) fn closes(self, bytes: &[u8]) -> bool {
        match self {
            Self::WebSocket => websocket::closes(bytes),
        }
    }
}

impl Form {
    /// Frames as one message.
    pub(super) fn message(self, frames: &[ServerFrame]) -> Bytes {
        let mut payload = Vec::with_capacity(64 * frames.len());
        for frame in frames {
            codec::encode(frame, self.encoding, &mut payload);
        }
        let mut out = Vec::with_capacity(payload.len() + 10);
        self.face.wrap(&payload, self.encoding, &mut out);
        out.into()
    }

    /// The last words: `bye`, and the end.
    pub fn last_words(self, bye: Bye) -> Bytes {
        let code = bye.code;
        let mut out = self.message(&[ServerFrame::Bye(bye)]).to_vec();
        self.face.close(4000 + code.number(), code.name(), &mut out);
        out.into()
    }

    /// The end without a word: the client knows why.
    pub(super) fn quiet_end(self) -> Bytes {
        let mut out = Vec::new();
        self.face.close(1000, "", &mut out);
        out.into()
    }
}

#[cfg(test)]
pub(super) mod tests;
