//! Logs that readers came for too early: who may read a log that others have to make hears of it
//! with its first record, and does not have to ask for it again and again.
//!
//! Promise: it is bounded, by socket and in all, and a name is forgotten after some seconds: a
//! client that still wants the log has asked again by then, as it was told. Whoever finds no room
//! asks again, too.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::dispatch::Dispatcher;
use super::socket::Socket;
use super::ticket::{Request, Ticket};
use crate::connection::Subscribe;
use crate::fold::Command;
use crate::journal::Inbox;
use crate::wire::{Code, Id, Open, Pattern, Refusal, Start};

/// Milliseconds that a name is kept: a little longer than the time after which clients ask again.
const KEPT: u64 = 7_000;
/// Names of one socket.
const MOST_OF_SOCKET: usize = 100;
/// Names of all sockets.
const MOST: usize = 100_000;

/// A socket that waits: its connection, and its number on this node.
type Waiter = (Id, u64);

/// Who waits for which name.
#[derive(Debug, Default)]
pub(super) struct EarlyReaders {
    /// Until when each waits.
    names: HashMap<String, HashMap<Waiter, u64>>,
    /// When each ends, the oldest first; one that asked again ends later than it says here.
    ends: VecDeque<(u64, String, Waiter)>,
    of_socket: HashMap<u64, usize>,
}

impl EarlyReaders {
    /// Whether nobody waits.
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// A socket waits for a name from now on.
    pub(super) fn wait(&mut self, name: &str, waiter: Waiter, now: u64) {
        self.expire(now);
        let known = self.names.get(name).is_some_and(|all| all.contains_key(&waiter));
        let held = self.of_socket.get(&waiter.1).copied().unwrap_or_default();
        if self.ends.len() >= MOST || (!known && held >= MOST_OF_SOCKET) {
            return;
        }
        let until = now + KEPT;
        self.names.entry(name.to_owned()).or_default().insert(waiter, until);
        // One that asks again takes no more room than before: it is looked at when it would have
        // ended.
        if !known {
            self.ends.push_back((until, name.to_owned(), waiter));
            *self.of_socket.entry(waiter.1).or_default() += 1;
        }
    }

    /// Those that wait for a name, no longer.
    pub(super) fn take(&mut self, name: &str, now: u64) -> Vec<Waiter> {
        self.expire(now);
        let all = self.names.remove(name).unwrap_or_default();
        all.keys().for_each(|waiter| self.less(waiter.1));
        all.into_keys().collect()
    }

    fn expire(&mut self, now: u64) {
        while self.ends.front().is_some_and(|(end, ..)| *end <= now) {
            let Some((_, name, waiter)) = self.ends.pop_front() else { return };
            let Some(all) = self.names.get_mut(&name) else { continue };
            let until = all.get(&waiter).copied().unwrap_or_default();
            if until > now {
                // It asked again meanwhile.
                self.ends.push_back((until, name, waiter));
            } else if all.remove(&waiter).is_some() {
                if all.is_empty() {
                    self.names.remove(&name);
                }
                self.less(waiter.1);
            }
        }
    }

    fn less(&mut self, socket: u64) {
        let held = self.of_socket.get(&socket).copied().unwrap_or_default();
        if held > 1 {
            self.of_socket.insert(socket, held - 1);
        } else {
            self.of_socket.remove(&socket);
        }
    }
}

impl Dispatcher {
    /// Tells of logs that were asked for and are not opened; those that may be there later are
    /// waited for.
    pub(super) fn refuse(
        &mut self,
        socket: &Arc<Socket>,
        request: u32,
        refused: Vec<(String, Refusal)>,
    ) {
        let now = self.hub.ticks();
        let missing = |why: &Refusal| why.code == Code::UnknownLog && why.retry_after > 0;
        for (name, _) in refused.iter().filter(|(_, why)| missing(why)) {
            self.early.wait(name, (socket.connection, socket.number), now);
        }
        self.hub.refuse(socket, request, refused);
    }

    /// A log has its first record: whoever came for it too early is subscribed to it now.
    pub(super) fn began(&mut self, log: u64) {
        if self.early.is_empty() {
            return;
        }
        let row = match self.hub.store.log_row(log) {
            Ok(row) => row,
            // Its readers ask again by themselves.
            Err(error) => return tracing::error!(%error, log, "a new log could not be read"),
        };
        let Some(name) = row.map(|row| row.name) else { return };
        for (connection, number) in self.early.take(&name, self.hub.ticks()) {
            if let Some(socket) = self.hub.socket(connection).filter(|one| one.number == number) {
                subscribe_by_itself(&socket, &name, &self.inbox);
            }
        }
    }
}

/// Subscribes a socket to a log that it waits for, or that the back end opens to it.
pub(super) fn subscribe_by_itself(socket: &Arc<Socket>, name: &str, inbox: &Inbox<Ticket>) {
    if !socket.grants().may_read(name) {
        return;
    }
    let Ok(pattern) = Pattern::parse(name) else { return };
    // All of a new log came after the reader had asked, wherever it wanted to begin.
    let open = Open { name: name.to_owned(), have: None, start: Start::State, priority: 0 };
    let command = Command::Subscribe(Subscribe {
        connection: socket.connection,
        generation: Some(socket.generation()),
        open: vec![open],
        read: vec![pattern],
        make: Vec::new(),
        bases: Vec::new(),
    });
    let ticket = Ticket::Socket(Arc::clone(socket), Request::Early);
    // Where there is no room for it the client asks again.
    if let Err(refusal) = inbox.submit(command, 512, Some(ticket)) {
        tracing::debug!(%refusal, "a reader was not subscribed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Waiter = (Id([1; 16]), 1);
    const TWO: Waiter = (Id([2; 16]), 2);

    #[test]
    fn who_waits_is_told_once_and_not_for_ever() {
        let mut early = EarlyReaders::default();
        early.wait("a", ONE, 0);
        early.wait("a", ONE, 10);
        early.wait("a", TWO, 20);
        early.wait("b", TWO, 20);
        let mut told = early.take("a", 30);
        told.sort();
        assert_eq!(told, [ONE, TWO]);
        assert_eq!(early.take("a", 30), []);
        assert_eq!(early.take("b", 20 + KEPT), [], "it is too long ago");
        assert!(early.is_empty());
        early.wait("c", ONE, 100_000);
        early.wait("c", ONE, 105_000);
        assert_eq!(early.take("c", 100_000 + KEPT), [ONE], "it asked again");
        assert!(early.of_socket.is_empty());
    }

    #[test]
    fn promise_10_names_that_are_waited_for_are_bounded() {
        let mut early = EarlyReaders::default();
        for n in 0..=MOST_OF_SOCKET {
            early.wait(&format!("a/{n}"), ONE, 0);
        }
        assert_eq!(early.names.len(), MOST_OF_SOCKET);
        assert_eq!(early.take(&format!("a/{MOST_OF_SOCKET}"), 1), []);
        for n in 0..MOST as u64 + 10 {
            early.wait("b", (Id::NONE, n + 2), 0);
        }
        assert_eq!(early.ends.len(), MOST);
        early.wait("c", TWO, KEPT);
        assert_eq!((early.ends.len(), early.names.len()), (1, 1));
        assert_eq!(early.of_socket.len(), 1);
    }
}
