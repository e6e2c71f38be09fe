//! What a socket has lost because its grants do not cover it, and that its row still has.
//!
//! Promise: the fold hears of it once there is room for that word. Where the inbox is full it is
//! kept with the socket, whose task says it again; only of what the socket has not opened since,
//! and of the generation that lost it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::early::subscribe_by_itself;
use super::socket::Socket;
use super::ticket::{Request, Ticket};
use crate::fold::Command;
use crate::journal::Inbox;
use crate::wire::Refusal;

/// What is still to be said.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// The generation that lost these.
    generation: u64,
    logs: BTreeSet<u64>,
    /// Logs that nobody waits for, to be opened behind that end.
    anew: Vec<String>,
}

impl Socket {
    /// Its row is to lose these logs; and those names are subscribed to behind that, by themselves.
    ///
    /// # Errors
    /// `overloaded` where the inbox has no room: then [`Socket::say_lost`] has to say it; `failed`
    /// where the node goes down.
    pub fn lose(
        self: &Arc<Self>,
        logs: Vec<u64>,
        anew: Vec<String>,
        inbox: &Inbox<Ticket>,
    ) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let generation = inner.at.generation();
        let lost = &mut inner.lost;
        if lost.generation != generation {
            *lost = Lost { generation, ..Lost::default() };
        }
        lost.logs.extend(logs);
        lost.anew.extend(anew);
        drop(inner);
        self.say_lost(inbox)
    }

    /// Whether its row has yet to lose something.
    pub fn has_lost(&self) -> bool {
        !self.lock().lost.logs.is_empty()
    }

    /// Says what its row is to lose.
    ///
    /// # Errors
    /// `overloaded` where the inbox has no room, and what was lost is kept; `failed` where the node
    /// goes down.
    pub fn say_lost(self: &Arc<Self>, inbox: &Inbox<Ticket>) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let mut lost = std::mem::take(&mut inner.lost);
        if lost.generation != inner.at.generation() {
            return Ok(());
        }
        // A row that has it anew has it by another opening.
        lost.logs.retain(|log| inner.at.name_of(*log).is_none());
        drop(inner);
        if lost.logs.is_empty() {
            return Ok(());
        }
        let (connection, generation) = (self.connection, Some(lost.generation));
        let logs: Vec<u64> = lost.logs.iter().copied().collect();
        let weight = 64 + logs.len() * 8;
        let command = Command::Unsubscribe { connection, generation, logs: logs.clone() };
        let ticket = Ticket::Socket(Arc::clone(self), Request::Denied(logs));
        if let Err(refusal) = inbox.submit(command, weight, Some(ticket)) {
            let mut inner = self.lock();
            // What was lost meanwhile is of the same generation, or of one that counts instead.
            if inner.lost.logs.is_empty() {
                inner.lost = lost;
            } else if inner.lost.generation == lost.generation {
                inner.lost.logs.append(&mut lost.logs);
                inner.lost.anew.append(&mut lost.anew);
            }
            drop(inner);
            // Its task says it again.
            self.wake();
            return Err(refusal);
        }
        lost.anew.iter().for_each(|name| subscribe_by_itself(self, name, inbox));
        Ok(())
    }
}
