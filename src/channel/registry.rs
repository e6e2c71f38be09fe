//! The sockets of this node by their connection, in shards.
//!
//! Promise: a shard is looked at without the others being touched, so that a sweep that looks at a
//! part of the sockets costs that part. No lock is held while a caller's function runs.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::socket::Socket;
use crate::wire::Id;

/// Shards; a connection's is chosen by the last byte of its id. A client that makes ids which all
/// end alike fills one shard: that one is then looked at as if all were one.
const SHARDS: usize = 64;

type Shard = HashMap<Id, Arc<Socket>>;

/// The sockets of a node, at most one for each connection.
#[derive(Debug)]
pub(super) struct Registry {
    shards: [RwLock<Shard>; SHARDS],
}

impl Default for Registry {
    fn default() -> Self {
        Self { shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl Registry {
    #[allow(clippy::indexing_slicing, reason = "a remainder of the length is within it")]
    fn shard(&self, connection: Id) -> &RwLock<Shard> {
        let Id([.., last]) = connection;
        &self.shards[usize::from(last) % SHARDS]
    }

    fn read(&self, connection: Id) -> RwLockReadGuard<'_, Shard> {
        self.shard(connection).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, connection: Id) -> RwLockWriteGuard<'_, Shard> {
        self.shard(connection).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket of a connection.
    pub(super) fn get(&self, connection: Id) -> Option<Arc<Socket>> {
        self.read(connection).get(&connection).cloned()
    }

    /// Takes a socket in: the one that was there for its connection.
    pub(super) fn insert(&self, socket: &Arc<Socket>) -> Option<Arc<Socket>> {
        self.write(socket.connection).insert(socket.connection, Arc::clone(socket))
    }

    /// Whether this socket, and none that came after it, is its connection's.
    pub(super) fn holds(&self, socket: &Socket) -> bool {
        let shard = self.read(socket.connection);
        shard.get(&socket.connection).is_some_and(|known| known.number == socket.number)
    }

    /// Removes a socket; one that came after it stays.
    pub(super) fn remove(&self, socket: &Socket) {
        let mut shard = self.write(socket.connection);
        if shard.get(&socket.connection).is_some_and(|known| known.number == socket.number) {
            shard.remove(&socket.connection);
            // What a storm of connections needed is not kept for ever.
            if shard.len() < shard.capacity() / 4 {
                shard.shrink_to_fit();
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        let len =
            |shard: &RwLock<Shard>| shard.read().unwrap_or_else(PoisonError::into_inner).len();
        self.shards.iter().map(len).sum()
    }

    /// Visits every socket of a part, of so many parts: 2 of 4 are shards 2, 6, 10 and so on.
    pub(super) fn each_of(&self, part: usize, parts: usize, mut visit: impl FnMut(&Arc<Socket>)) {
        for shard in self.shards.iter().skip(part).step_by(parts) {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let some: Vec<_> = shard.values().cloned().collect();
            drop(shard);
            some.iter().for_each(&mut visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::House;
    use super::*;

    /// A fenced socket that goes late does not take its successor along.
    #[tokio::test]
    async fn a_socket_that_goes_leaves_the_one_that_came_after_it() {
        let house = House::new(0);
        let (first, _) = house.socket(7);
        let (second, _) = house.socket(7);
        let registry = Registry::default();
        assert!(registry.insert(&first).is_none());
        let before = registry.insert(&second).map(|socket| socket.number);
        assert_eq!(before, Some(first.number));
        registry.remove(&first);
        assert!(registry.holds(&second) && !registry.holds(&first));
        registry.remove(&second);
        assert!(registry.get(second.connection).is_none() && registry.len() == 0);
    }
}
