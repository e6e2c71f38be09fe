//! What a token lets its bearer read, as delivery asks; the sockets whose tokens no longer count.
//!
//! Promise: delivery asks the very grants that admission judges by; and when a revocation has been
//! told, each socket here that it means is closed (promise 11).

use std::any::Any;
use std::sync::Arc;

use crate::auth::{Authority, Can, Grants};
use crate::channel::{Closing, Hub, Readable, Revoking};
use crate::wire::{Code, Pattern, Whom};

/// A token's grants as delivery checks them.
#[derive(Debug)]
pub struct TokenGrants(pub Grants);

impl Readable for TokenGrants {
    fn may_read(&self, name: &str) -> bool {
        self.0.allows(name, Can::Read)
    }

    fn expires(&self) -> u64 {
        self.0.expires_ms
    }

    fn may_snapshot(&self, name: &str) -> bool {
        self.0.allows(name, Can::Snapshot)
    }

    fn may_ask_who(&self, name: &str) -> bool {
        self.0.allows(name, Can::Delivered)
    }
}

/// The patterns that a token lets its user read.
pub fn readable(grants: &Grants) -> Vec<Pattern> {
    let may = grants.grants.iter().filter(|grant| grant.can.has(Can::Read));
    may.map(|grant| grant.logs.clone()).collect()
}

/// What a node does when it learns of revocations.
#[derive(Debug)]
pub struct Enforcer(pub Arc<Authority>);

impl Revoking for Enforcer {
    fn learn(&self, whom: Whom, before_ms: Option<u64>) {
        self.0.revocations().learn(whom, before_ms);
    }

    fn close(&self, hub: &Hub) {
        close_revoked(&self.0, hub);
    }
}

/// Closes the sockets here whose tokens no longer count: how many.
pub fn close_revoked(authority: &Authority, hub: &Hub) -> usize {
    let mut closed = 0;
    hub.each(|socket| {
        let grants = socket.grants();
        let grants: &dyn Readable = &*grants;
        let token = (grants as &dyn Any).downcast_ref::<TokenGrants>();
        if token.is_some_and(|token| authority.revocations().check(&token.0).is_err()) {
            socket.close(&Closing::new(Code::Revoked));
            closed += 1;
        }
    });
    closed
}
