//! What end-to-end tests share: the real server as a process of its own, and the client of the
//! product on a socket, which holds the server to the laws of `docs/protocol.md` at every frame.

#![allow(dead_code, reason = "each test crate uses a part of it")]
#![allow(unused_imports, reason = "each test crate uses a part of it")]

mod between;
mod client;
mod command;
pub mod fixture;
mod goes;
mod held;
mod http;
mod link;
mod nats;
mod nginx;
mod proxy;
mod server;
mod shim;
mod told;
mod wall;

pub use between::{Between, Manner};
pub use client::{Client, LONGEST, SOON, WAIT};
pub use command::{Running, command, errors, feed, run, told};
pub use held::{Held, Seen};
pub use http::{Answer, Http};
pub use link::{Link, Next};
pub use nats::{Nats, Way, Ways};
pub use nginx::Nginx;
pub use proxy::Proxy;
pub use server::{Options, SECRET, Server, now_ms, token, token_until};
pub use shim::built;
pub use wall::Wall;

use std::time::{Duration, Instant};

use highwater::wire::{ClientFrame, Code, Id, Refresh};

/// A random identity.
pub fn id() -> Id {
    Id(rand::random())
}

/// Looks again and again until something holds; panics with its name after [`LONGEST`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONGEST;
    while !holds() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has a client refresh its token with one that ends at once: when that is, milliseconds since
/// 1970.
pub fn end_soon(client: &mut Client, user: &str, grants: &[(&str, &str)]) -> u64 {
    let expired = |client: &Client| {
        client.refused.iter().any(|refused| refused.refusal.code == Code::TokenExpired)
    };
    loop {
        client.refused.clear();
        client.refreshed.clear();
        let end = now_ms() + 300;
        let token = token_until(user, grants, end);
        client.send(&ClientFrame::Refresh(Refresh { token, request: 0 }));
        client.wait("an answer", |client| !client.refreshed.is_empty() || expired(client));
        // On a busy machine it may have ended on the way.
        if !client.refreshed.is_empty() {
            client.refreshed.clear();
            return end;
        }
    }
}

/// A seed from `HIGHWATER_SEED`, or a new one; printed with the command that runs it again.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("HIGHWATER_SEED").ok().and_then(|text| text.parse().ok());
    // A short number is easier to type again.
    let seed = given.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("seed {seed}; again: HIGHWATER_SEED={seed} cargo test {test}");
    seed
}
