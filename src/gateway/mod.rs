//! The gateway: what a socket or a request may ask, checked, admitted and handed to the fold.
//!
//! Promise: nothing unchecked goes further; refusals come before storage is touched; what a token
//! does not cover is denied here, at each append and each delivery. One port serves WebSocket and
//! HTTP. Frames are those of `docs/protocol.md`; addresses those of `docs/http.md`.

mod accept;
mod demo;
pub mod http;
mod socket;
mod stall;

pub use accept::{Accepting, PLAIN_CONNECTIONS, serve};

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::oneshot;

use crate::admission::{Admission, Clock, hand};
use crate::auth::Authority;
use crate::channel::{Hub, Ticket};
use crate::fold::{Command, Reply};
use crate::journal::{Fence, Inbox};
use crate::limit::{Limits, Rules};
use crate::store::Store;
use crate::wire::{Code, Id, Refusal};

/// All that sockets and requests share on a node.
pub struct Gate {
    /// Registries of delivery.
    pub hub: Arc<Hub>,
    /// Reads.
    pub store: Store,
    /// Writes.
    pub inbox: Inbox<Ticket>,
    /// Who is believed.
    pub authority: Arc<Authority>,
    /// What may come in.
    pub admission: Admission,
    /// Limits in force.
    pub limits: Limits,
    /// Rules in force.
    pub rules: Rules,
    /// Whether tokens may be missing.
    pub dev: bool,
    /// The time.
    pub clock: Clock,
    /// This node.
    pub node: Id,
    /// Number of this run of the node.
    pub incarnation: u64,
    /// Whether it still knows what its journal holds.
    pub fence: Arc<Fence>,
    /// Most connections of the port at once, sockets and plain ones.
    pub connections: usize,
    /// Sockets that are open, with or without a Hello.
    pub sockets: AtomicUsize,
    /// Sockets that have not said Hello.
    pub greeting: AtomicUsize,
    /// Requests under way.
    pub requests: AtomicUsize,
    /// What requests share besides.
    pub http: http::Shared,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Gate {
    /// The time, milliseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Hands a command to the fold: its batch and reply come once they are durable; nothing comes
    /// from a node that goes down first, and the command may have been carried out all the same.
    ///
    /// # Errors
    /// The refusal of a node that is busy, full or going down.
    pub fn hand(
        &self,
        command: Command,
        weight: usize,
    ) -> Result<oneshot::Receiver<(u64, Reply)>, Refusal> {
        hand(&self.admission.shed, &self.inbox, command, weight)
    }

    /// Asks the fold and waits for its reply: the batch that decided it, and the reply.
    ///
    /// # Errors
    /// The fold's refusal, or that of a node that is busy, full or going down. After `failed` the
    /// command may still have been carried out.
    pub async fn ask(&self, command: Command, weight: usize) -> Result<(u64, Reply), Refusal> {
        match self.hand(command, weight)?.await {
            Ok((_, Reply::Refused(refusal))) => Err(refusal),
            Ok(reply) => Ok(reply),
            Err(_) => Err(Code::Unknown.into()),
        }
    }

    /// Waits until this node has folded and told the batch, at most so many milliseconds.
    ///
    /// # Errors
    /// `timeout` when it has not in that time.
    pub async fn reach(&self, batch: u64, milliseconds: u64) -> Result<(), Refusal> {
        let mut told = self.hub.told();
        let reached = told.wait_for(|told| *told >= batch);
        let limit = std::time::Duration::from_millis(milliseconds);
        match tokio::time::timeout(limit, reached).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Code::Timeout.into()),
        }
    }
}
