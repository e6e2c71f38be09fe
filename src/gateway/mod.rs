//! The gateway: what a socket or a request may ask, checked, admitted and handed to the fold.
//!
//! Promise: nothing unchecked goes further; refusals come before storage is touched; what a token
//! does not cover is denied here, at each append and each delivery. One port serves WebSocket and
//! HTTP. Frames are those of `docs/protocol.md`; addresses those of `docs/http.md`.

mod accept;
mod demo;
pub mod http;
mod making;
mod patient;
mod session;
mod socket_io;
mod warm;

pub use accept::{Accepting, PLAIN_CONNECTIONS, serve};
pub use making::{Making, asked_for, making};
pub use warm::Warmth;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use tokio::sync::{oneshot, watch};

use crate::auth::{Authority, Can, Grants};
use crate::channel::{Hub, Readable, Ticket};
use crate::fold::{Command, Reply};
use crate::journal::Inbox;
use crate::limit::{Limits, Rates, Rules};
use crate::store::Store;
use crate::wire::{Code, Id, Pattern, Refusal};

/// Milliseconds since 1970.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

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
    /// Rates.
    pub rates: Arc<Rates>,
    /// Limits in force.
    pub limits: Limits,
    /// Rules in force.
    pub rules: Rules,
    /// Whether opening a log may make it.
    pub auto_create: bool,
    /// Whether tokens may be missing.
    pub dev: bool,
    /// The time.
    pub clock: Clock,
    /// This node.
    pub node: Id,
    /// Its run.
    pub incarnation: u64,
    /// What keeps commands out at the moment.
    pub shed: Shed,
    /// Most connections of the port at once, sockets and plain ones.
    pub connections: usize,
    /// Sockets that are open, with or without a Hello.
    pub sockets: AtomicUsize,
    /// Sockets that have not said Hello.
    pub greeting: AtomicUsize,
    /// Requests under way.
    pub requests: AtomicUsize,
    /// What need not be warmed.
    pub warmth: Warmth,
    /// What requests share besides.
    pub http: http::Shared,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Why commands are kept out: set by the node's keeper, read before anything is submitted.
#[derive(Debug, Default)]
pub struct Shed {
    /// Number of a [`Code`]; 0: nothing keeps them out.
    code: AtomicU32,
    retry_after: AtomicU32,
    draining: watch::Sender<bool>,
}

impl Shed {
    /// Keeps commands out with that refusal, or lets them in.
    pub fn set(&self, refusal: Option<&Refusal>) {
        let code = refusal.map_or(0, |refusal| u32::from(refusal.code.number()));
        self.retry_after.store(refusal.map_or(0, |r| r.retry_after), Ordering::Relaxed);
        self.code.store(code, Ordering::Relaxed);
    }

    /// The node is going away: no new sockets.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Whether the node is going away.
    pub fn draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Changes when the node is going away.
    pub fn end(&self) -> watch::Receiver<bool> {
        self.draining.subscribe()
    }

    /// The refusal in force, for what goes on when the disk is full.
    ///
    /// # Errors
    /// That refusal, unless it is `storage_full`.
    pub fn unless_full(&self) -> Result<(), Refusal> {
        self.check().or_else(|refusal| match refusal.code {
            Code::StorageFull => Ok(()),
            _ => Err(refusal),
        })
    }

    /// The refusal in force.
    ///
    /// # Errors
    /// That refusal.
    pub fn check(&self) -> Result<(), Refusal> {
        let number = u16::try_from(self.code.load(Ordering::Relaxed)).unwrap_or_default();
        match Code::from_number(number) {
            Some(code) => Err(Refusal::new(code).after(self.retry_after.load(Ordering::Relaxed))),
            None => Ok(()),
        }
    }
}

impl Gate {
    /// The time, milliseconds since 1970.
    pub fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Whether a command may come in, the store's pressure and its disk as they are.
    ///
    /// # Errors
    /// `overloaded`, `storage_full`.
    pub fn admits(&self, command: &Command) -> Result<(), Refusal> {
        match need(command) {
            Need::Nothing => Ok(()),
            Need::Little => self.shed.unless_full(),
            Need::Room => self.shed.check(),
        }
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
        self.admits(&command)?;
        let (caller, reply) = oneshot::channel();
        self.inbox.submit(command, weight, Some(Ticket::Caller(caller)))?;
        Ok(reply)
    }

    /// Closes the sockets here whose tokens no longer count: how many.
    pub fn close_revoked(&self) -> usize {
        http::close(&self.authority, &self.hub)
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

/// What a command needs of the store.
enum Need {
    /// It gives back, or is a word on a row that is there: it comes in whatever the pressure.
    Nothing,
    /// It changes rows of connections: it comes in when the disk is full, for readers go on.
    Little,
    /// It stores something.
    Room,
}

const fn need(command: &Command) -> Need {
    match command {
        Command::DeleteLog { .. }
        | Command::Trim { .. }
        | Command::Downgrade { .. }
        | Command::Forget { .. }
        | Command::ForgetWriter { .. }
        | Command::Leave { .. }
        | Command::Detach(_)
        | Command::Unsubscribe { .. }
        | Command::UnsubscribeUser { .. }
        | Command::Visible { .. }
        | Command::Retire { .. }
        // Who is to be kept out is kept out whatever the pressure.
        | Command::Revoke { .. }
        | Command::Unrevoke { .. }
        | Command::NodeDown { .. } => Need::Nothing,
        Command::Attach(_)
        | Command::Activate { .. }
        | Command::Subscribe(_)
        | Command::Seek { .. }
        | Command::Commit(_)
        | Command::NodeUp { .. }
        | Command::BeginEra { .. }
        | Command::SetPages { .. }
        | Command::Upgrade { .. }
        | Command::Look
        | Command::Configure(_) => Need::Little,
        Command::CreateLog { .. }
        | Command::Derive { .. }
        | Command::Expire { .. }
        | Command::SubscribeUser { .. }
        | Command::Append(_)
        | Command::PutSnapshot(_) => Need::Room,
    }
}

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
