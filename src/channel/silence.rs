//! Who is silent: asked after a while whether it is there, and then given up; and whose token ends.
//!
//! Promise: a client is judged by what the node could have heard. A node that was away itself (a
//! paused machine) first hears what came meanwhile: each client has its whole time anew.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::hub::{Hub, HubLimits};
use super::socket::Socket;
use crate::delivery::Closing;
use crate::wire::{Code, Ping, Refused, ServerFrame};

/// Slack in milliseconds: a node was away if it looks at its sockets later than this and half of
/// `ping_interval` after it looked last.
const LATE: u64 = 1_000;

/// When the node itself was there, milliseconds of the hub's clock.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// It looked last.
    looked: u64,
    /// It has been there without a break since then.
    since: u64,
}

impl Presence {
    /// It looks: since when it has been there.
    fn look(&mut self, now: u64, interval: u64) -> u64 {
        if now.saturating_sub(self.looked) > interval / 2 + LATE {
            self.since = now;
        }
        self.looked = now;
        self.since
    }
}

impl Hub {
    /// Looks at every socket: asks the silent ones, closes those that stay silent, and holds each
    /// to the end of its token. `now` is the node's clock, milliseconds since 1970.
    pub fn sweep(&self, now: u64) {
        let HubLimits { ping_interval, refresh_grace, .. } = self.limits;
        let ticks = self.ticks();
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let present = presence.look(ticks, ping_interval);
        drop(presence);
        self.each(|socket| {
            let heard = socket.heard.load(Ordering::Relaxed).max(present);
            let silent = ticks.saturating_sub(heard);
            if silent > 2 * ping_interval {
                socket.close(&Closing::new(Code::Silent));
                return;
            }
            let mute = socket.was_mute(ticks, ping_interval);
            let asks = mute || silent > ping_interval;
            // One question serves both, and is not asked again before it is answered.
            if asks && (!socket.pinged.swap(true, Ordering::Relaxed) || mute) {
                let positions = self.position().into_iter().collect();
                socket.send(&[ServerFrame::Ping(Ping { nonce: now, positions })]);
            }
            end_of_token(socket, now, refresh_grace);
        });
    }
}

/// A token that ended is told once; a while later the socket is closed.
fn end_of_token(socket: &Socket, now: u64, grace: u64) {
    let (expires, told) = {
        let mut inner = socket.lock();
        (inner.at.expires(), inner.at.token_ended(now))
    };
    match told {
        Some(true) if now >= expires + grace => socket.close(&Closing::new(Code::TokenExpired)),
        Some(false) => {
            let refusal = Code::TokenExpired.into();
            socket.send(&[ServerFrame::Refused(Refused { request: 0, name: None, refusal })]);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_away_begins_anew() {
        let mut presence = Presence::default();
        for now in (0..60_000).step_by(500) {
            assert_eq!(presence.look(now, 25_000), 0);
        }
        assert_eq!(presence.look(72_000, 25_000), 0, "it was late, and nobody is silent yet");
        assert_eq!(presence.look(86_000, 25_000), 86_000);
        assert_eq!(presence.look(86_500, 25_000), 86_000);
        assert_eq!(presence.look(100_000, 1_000), 100_000);
    }
}
