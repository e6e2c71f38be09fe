//! Deliveries in pieces, as a socket writes them.
//!
//! Promise: what may come between the pieces of a large delivery does not wait until a slow link
//! has carried all of it, neither here nor in the kernel.

use tokio::net::TcpStream;

use super::encode::{Form, Message};
use super::socket::{Inner, Socket};
use super::way::Way as _;
use crate::delivery::Wrote;
use crate::wire::ServerFrame;

impl Socket {
    /// The form that deliveries to it have.
    pub(super) const fn form(&self) -> Form {
        Form { encoding: self.encoding, parts: self.abilities.parts }
    }

    /// Writes a delivery if nothing waits.
    pub(super) fn deliver(&self, inner: &mut Inner, message: &Message) -> Wrote {
        if !message.ends.is_empty() {
            few_unsent(&self.tcp);
        }
        inner.at.outbox.deliver(&message.bytes, &message.ends, &*self.tcp)
    }
}

/// Number of the WebSocket frame that closes (RFC 6455 §5.5.1).
pub(super) const WS_CLOSE: u8 = 8;

/// Whether a frame may come between the pieces of a delivery: it names nothing that a delivery
/// speaks of, and what it says does not depend on what was delivered before.
pub(super) const fn goes_between(frame: &ServerFrame) -> bool {
    matches!(frame, ServerFrame::Ping(_) | ServerFrame::Pong(_) | ServerFrame::Answers(_))
}

/// Bytes of a large delivery that the kernel holds besides those on their way.
const UNSENT_BYTES: u32 = 16 << 10;

/// The kernel takes no more than it can soon send: what waits in it cannot be overtaken, and on a
/// slow link that would be megabytes.
fn few_unsent(tcp: &TcpStream) {
    // Where the system has no such bound, answers wait longer.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(tcp).set_tcp_notsent_lowat(UNSENT_BYTES).ok();
    #[cfg(not(target_os = "linux"))]
    let _ = (tcp, UNSENT_BYTES);
}
