//! Who is silent: asked after a while whether it is there, and then given up; and whose token ends.
//!
//! Promise: a client is judged by what the node could have heard. A node that was away itself (a
//! paused machine) first hears what came meanwhile: each client has its whole time anew.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::hub::{Hub, HubLimits};
use super::socket::Socket;
use crate::delivery::Closing;
use crate::wire::{Code, Ping, Refused, ServerFrame};

/// How often a part of the sockets is looked at.
pub const SWEEP: Duration = Duration::from_millis(500);
/// Most parts: so each socket is looked at every two seconds at least.
const PARTS: u64 = 4;
/// So often at least it is looked at within each time that is held against it.
const LOOKS: u64 = 10;
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
    /// The part of its sockets that it looked at last.
    part: u8,
}

/// How many parts sockets are looked at in, where times are as short as that, in milliseconds:
/// one after another costs the less, and finds out the later.
fn parts(shortest: u64) -> u8 {
    let sweep = u64::try_from(SWEEP.as_millis()).unwrap_or(u64::MAX);
    u8::try_from((shortest / (LOOKS * sweep)).clamp(1, PARTS)).unwrap_or(1)
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

    /// The part of its sockets that is next, of so many.
    const fn next_part(&mut self, parts: u8) -> u8 {
        self.part = (self.part + 1) % parts;
        self.part
    }
}

impl Hub {
    /// Looks at the next part of the sockets: asks the silent ones, closes those that stay silent,
    /// and holds each to the end of its token. `now` is the node's clock, milliseconds since 1970.
    /// To be called every [`SWEEP`].
    pub fn sweep(&self, now: u64) {
        let HubLimits { ping_interval, refresh_grace, .. } = self.limits;
        let ticks = self.ticks();
        let mut presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let present = presence.look(ticks, ping_interval);
        let parts = parts(ping_interval.min(refresh_grace));
        let part = presence.next_part(parts);
        drop(presence);
        self.each_of(part, parts, |socket| {
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
    use super::super::fixture::House;
    use super::*;

    /// Where times are long a sweep looks at a part of the sockets; each has its turn, and none
    /// has two before all have had one.
    #[tokio::test]
    async fn each_socket_is_looked_at_once_in_a_round() {
        let house = House::new(0);
        let sockets: Vec<_> = (0..200).map(|id| house.socket(id)).collect();
        let hub = &house.hub;
        let mut seen = Vec::new();
        for part in 0..4 {
            let before = seen.len();
            hub.each_of(part, 4, |socket| seen.push(socket.number));
            assert!(seen.len() - before < 100, "no part is half of them");
        }
        seen.sort_unstable();
        let all: Vec<_> = sockets.iter().map(|(socket, _)| socket.number).collect();
        assert_eq!(seen, all);
    }

    /// A time of seconds is held at every sweep, one of half a minute within a tenth of it.
    #[test]
    fn short_times_are_looked_at_more_often() {
        let times = [0, 1_000, 9_999, 10_000, 15_000, 25_000, 3_600_000, u64::MAX];
        assert_eq!(times.map(parts), [1, 1, 1, 2, 3, 4, 4, 4]);
        let mut presence = Presence::default();
        let order: Vec<_> = (0..6).map(|_| presence.next_part(4)).collect();
        assert_eq!(order, [1, 2, 3, 0, 1, 2]);
    }

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
