//! Deliveries in pieces, as a socket writes them.
//!
//! Promise: what may come between the pieces of a large delivery does not wait until a slow link
//! has carried all of it, neither here nor in the kernel.

use super::face::{Form, Message};
use super::socket::{Inner, Socket};
use super::write_out::WriteOut as _;
use crate::delivery::Wrote;
use crate::wire::ServerFrame;

impl Socket {
    /// The form that deliveries to it have.
    pub(super) const fn form(&self) -> Form {
        self.form
    }

    /// Writes a delivery if nothing waits.
    pub(super) fn deliver(&self, inner: &mut Inner, message: &Message) -> Wrote {
        if !message.ends.is_empty() {
            self.sink.keep_little();
        }
        inner.at.outbox.deliver(&message.bytes, &message.ends, &*self.sink)
    }
}

/// Whether a frame may come between the pieces of a delivery: it names nothing that a delivery
/// speaks of, and what it says does not depend on what was delivered before.
pub(super) const fn goes_between(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Ping(_) | ServerFrame::Pong(_) | ServerFrame::Answers(_))
}
