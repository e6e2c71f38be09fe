//! What keeps commands out: the store's pressure, a full disk, a node that is going away.
//!
//! Promise: what gives room back, or keeps somebody out, comes in whatever the pressure; what
//! changes rows of connections when the disk is full, so that readers go on.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::watch;

use crate::fold::Command;
use crate::wire::{Code, Refusal};

/// When to come again to a node that does not know what its journal holds, milliseconds.
const CUT_OFF_AFTER: u32 = 1_000;

/// When to send again what a follower does not take, milliseconds: by then its client may be at
/// another node.
const FOLLOWS_AFTER: u32 = 2_000;

/// The refusal of a node that does not know any more what its journal holds.
pub fn cut_off() -> Refusal {
    let message = "this node is cut off from its journal: another one answers, or this one later";
    Refusal::because(Code::NotReady, message).after(CUT_OFF_AFTER)
}

/// Why commands are kept out: set by the node's keeper, read before anything is submitted.
#[derive(Debug, Default)]
pub struct Shed {
    /// Number of a [`Code`]; 0: nothing keeps them out.
    code: AtomicU32,
    retry_after: AtomicU32,
    draining: watch::Sender<bool>,
    /// The node takes no records: it reads what other nodes take.
    follows: bool,
}

impl Shed {
    /// Of a node that takes no records, if it follows.
    pub fn following(follows: bool) -> Self {
        Self { follows, ..Self::default() }
    }

    /// Whether the node takes no records.
    pub const fn follows(&self) -> bool {
        self.follows
    }

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

    /// Whether records and snapshots may come in, and logs be made for them.
    ///
    /// # Errors
    /// `not_ready` where the node follows; else the refusal in force.
    pub fn takes(&self) -> Result<(), Refusal> {
        if self.follows {
            let message = "this node follows: it takes no records; send them to another node";
            return Err(Refusal::because(Code::NotReady, message).after(FOLLOWS_AFTER));
        }
        self.check()
    }

    /// Whether a command may come in, the store's pressure and its disk as they are.
    ///
    /// # Errors
    /// `overloaded`, `storage_full`; `not_ready` where the node follows.
    pub fn admits(&self, command: &Command) -> Result<(), Refusal> {
        match need(command) {
            Need::Nothing => Ok(()),
            Need::Little => self.unless_full(),
            Need::Room => self.check(),
            Need::Records => self.takes(),
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
    /// It brings records or snapshots, or makes a log for them.
    Records,
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
        | Command::NodeDown { .. }
        | Command::ForgetNode { .. } => Need::Nothing,
        Command::Attach(_)
        | Command::Activate { .. }
        | Command::Subscribe(_)
        | Command::Seek { .. }
        | Command::Commit(_)
        | Command::NodeUp { .. }
        | Command::Alive(_)
        | Command::BeginEra { .. }
        | Command::SetPages { .. }
        | Command::Upgrade { .. }
        | Command::Look
        | Command::Configure(_) => Need::Little,
        Command::Derive { .. } | Command::Expire { .. } | Command::SubscribeUser { .. } => {
            Need::Room
        }
        Command::CreateLog { .. } | Command::Append(_) | Command::PutSnapshot(_) => Need::Records,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Id;

    /// What becomes of a command that gives back, of one that changes rows of connections, and of
    /// one that stores something.
    fn met(shed: &Shed) -> [Option<Refusal>; 3] {
        let down = Command::NodeDown { node: Id([1; 16]), incarnation: 1 };
        let stores = Command::Expire { log: 1, keys: Vec::new() };
        [down, Command::Look, stores].map(|command| shed.admits(&command).err())
    }

    #[test]
    fn promise_10_what_needs_most_is_kept_out_first() {
        let shed = Shed::default();
        assert_eq!(met(&shed), [None, None, None]);
        let full = Refusal::new(Code::StorageFull).after(700);
        shed.set(Some(&full));
        assert_eq!(met(&shed), [None, None, Some(full)]);
        let pressed = Refusal::new(Code::Overloaded).after(90);
        shed.set(Some(&pressed));
        assert_eq!(met(&shed), [None, Some(pressed.clone()), Some(pressed)]);
        shed.set(None);
        assert_eq!(met(&shed), [None, None, None]);
    }

    #[test]
    fn a_follower_takes_no_records() {
        let (leads, follows) = (Shed::following(false), Shed::following(true));
        let make = Command::CreateLog { name: "a".to_owned(), page_records: 0 };
        assert_eq!((leads.admits(&make), leads.takes()), (Ok(()), Ok(())));
        for refused in [follows.admits(&make), follows.takes()] {
            assert_eq!(refused.map_err(|refusal| refusal.code), Err(Code::NotReady));
        }
        assert_eq!(met(&follows), [None, None, None], "all else goes on");
    }

    #[test]
    fn a_node_that_goes_away_says_so() {
        let shed = Shed::default();
        let end = shed.end();
        assert!(!shed.draining() && !*end.borrow());
        shed.drain();
        assert!(shed.draining() && *end.borrow());
        assert_eq!(met(&shed), [None, None, None], "who is here goes on");
    }
}
