//! Connections: a client's subscriptions and cursors, who holds a slot, and who is cloned.
//!
//! Promise: slots given out plus free ones are always the budget; an inactive connection is a row
//! and nothing else; one attachment per connection, the newest; a clone never widens what its
//! client may read, and nothing it shows goes backwards. Pure: the fold calls it with rows and
//! time. Promises 6, 8, 9 and 12 of the design are decided here; `docs/connections.md` tells them.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod attach;
mod cursors;
mod having;
mod life;
mod node;
mod open;
pub mod policy;
mod retention;
mod row;
mod siblings;
mod slots;
mod standing;
mod subscribe;

pub use attach::{Attach, Attached, MAX_WRITERS, Subscribe, WriterAnswers, too_early};
pub use having::{Having, MOST_USERS};
pub(crate) use node::Heard;
pub use node::attached_since;
pub use open::{BaseFrom, CHEAP_DELTA, History, LONG_DELTA, Opened, Wanted, open};
pub use retention::{MOST_LOOKED_AT, Trim};
pub use row::{
    ActiveOne, Attachment, ConnectionRow, MOST_ADDRESS, NodeRow, Progress, Reached, Sub, UserRow,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limit::Limits;
use crate::log::{Appended, Logs, Moment, Trimmed, Writer};
use crate::rows::{Cache, Io, Key, RowsError, Table};
use crate::wire::{Code, Id, Reason, Refusal, SnapshotRule, Whom};

/// Budgets that the fold must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budgets {
    /// Connections of a user, active or not.
    pub connections_per_user: u32,
    /// Active connections of a user.
    pub active_per_user: u32,
    /// Active connections of one device of a user.
    pub active_per_device: u32,
    /// Active connections in all.
    pub active_total: u64,
    /// Subscriptions of a connection.
    pub subscriptions: u32,
    /// Milliseconds before a connection without a slot may ask again.
    pub activate_after_ms: u32,
    /// Bytes of a client-made snapshot.
    pub snapshot_bytes: u64,
}

impl From<&Limits> for Budgets {
    fn from(limits: &Limits) -> Self {
        Self {
            connections_per_user: limits.connections_per_user,
            active_per_user: limits.active_per_user,
            active_per_device: limits.active_per_device,
            active_total: limits.active_total,
            subscriptions: limits.subscriptions,
            activate_after_ms: limits.activate_after_ms,
            snapshot_bytes: limits.snapshot_bytes,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::from(&Limits::DEFAULT)
    }
}

impl Budgets {
    /// Most subscriptions of a connection, whatever the configuration says: a batch that opens them
    /// all is one commit.
    pub const MOST_SUBSCRIPTIONS: u32 = 50_000;
    /// Most active connections of a user, for the same reason.
    pub const MOST_ACTIVE: u32 = 10_000;

    /// The budgets, held to what rows can carry.
    pub(crate) fn within_rows(self) -> Self {
        Self {
            subscriptions: self.subscriptions.min(Self::MOST_SUBSCRIPTIONS),
            active_per_user: self.active_per_user.min(Self::MOST_ACTIVE),
            ..self
        }
    }
}

/// Something that happened to connections or logs; nodes tell those whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A newer attachment took a connection's place.
    Fenced {
        /// The connection.
        connection: Id,
        /// Where the old socket is.
        was: Attachment,
        /// The new generation.
        generation: u64,
    },
    /// A connection lost its channel.
    Downgraded {
        /// The connection.
        connection: Id,
        /// Whose it is.
        user: String,
        /// Why.
        reason: Reason,
        /// Its generation from here on.
        generation: u64,
        /// The generation that it was last attached with: an older socket, as one that its client
        /// has left and that has not gone yet, is none of this connection any more.
        joined: u64,
    },
    /// A connection's row is gone.
    Forgotten {
        /// The connection.
        connection: Id,
    },
    /// The back end subscribed a connection to logs.
    Opened {
        /// The connection.
        connection: Id,
        /// Its generation.
        generation: u64,
        /// Where the reader begins in each log that was opened.
        opened: Vec<Opened>,
    },
    /// The back end ended subscriptions of a connection.
    Closed {
        /// The connection.
        connection: Id,
        /// The logs.
        logs: Vec<u64>,
    },
    /// A user or a token no longer counts, from a moment on; none: it counts again.
    Revoked {
        /// Whose tokens were revoked.
        whom: Whom,
        /// Milliseconds since 1970.
        before_ms: Option<u64>,
    },
    /// A log keeps less than before.
    Trimmed(Trimmed),
    /// A log is gone.
    Deleted {
        /// Id of the log.
        log: u64,
        /// Name of the log.
        name: String,
    },
    /// A log's state is kept by another rule.
    Ruled {
        /// The log.
        log: u64,
        /// The rule.
        rule: SnapshotRule,
    },
    /// Another era has begun: what sockets were told is of the one before.
    Era,
    /// A client-made snapshot counts from now on.
    Snapshot {
        /// The log.
        log: u64,
        /// Offset of the record.
        offset: u64,
    },
}

/// All connections and users, hot and cold.
#[derive(Debug)]
pub struct Connections {
    rows: Cache<ConnectionRow>,
    users: Cache<UserRow>,
    /// Nodes by id; few, so all in memory.
    pub nodes: BTreeMap<Id, NodeRow>,
    /// Slots given out.
    pub active: u64,
    /// The highest generation that a connection had which was forgotten. An id may come again, and
    /// what its sockets of before say late names a generation that its new life never has.
    pub forgotten: u64,
    /// The highest run of a node that was forgotten. A node that comes again begins above it, for
    /// rows may name its former runs.
    pub forgotten_run: u64,
    /// Budgets in force.
    pub budgets: Budgets,
}

/// What an operation came to: done, or refused with the state as it was.
pub type Decided<T> = Result<Result<T, Refusal>, RowsError>;

/// What a command is decided with, beside the connections: the rest of the fold, and what comes of
/// the command.
#[derive(Debug)]
pub(crate) struct Context<'c, 'r> {
    /// When and where it is decided.
    pub(crate) at: &'c mut Moment,
    pub(crate) logs: &'c mut Logs,
    pub(crate) writers: &'c mut Cache<Writer>,
    pub(crate) io: &'c mut Io<'r>,
    /// What others are told.
    pub(crate) events: &'c mut Vec<Event>,
    /// The records that it stores.
    pub(crate) stored: &'c mut Vec<Appended>,
}

impl Connections {
    /// No rows loaded; at most about `most` are kept between batches, of about `bytes`.
    pub fn new(most: usize, bytes: usize, budgets: Budgets) -> Self {
        Self {
            rows: Cache::new(most, bytes),
            users: Cache::new(most, bytes),
            nodes: BTreeMap::new(),
            active: 0,
            forgotten: 0,
            forgotten_run: 0,
            budgets,
        }
    }

    /// A connection's row.
    ///
    /// # Errors
    /// When storage fails.
    pub fn row(&mut self, id: Id, io: &Io<'_>) -> Result<Option<&ConnectionRow>, RowsError> {
        self.rows.get(&id, io)
    }

    /// Takes a connection's slot; no longer active, it holds nothing but its row.
    pub(crate) fn downgrade(
        &mut self,
        id: Id,
        reason: Reason,
        cx: &mut Context<'_, '_>,
    ) -> Result<bool, RowsError> {
        if !self.rows.get(&id, cx.io)?.is_some_and(ConnectionRow::active) {
            return Ok(false);
        }
        let Some(row) = self.rows.change(&id, cx.io)? else { return Ok(false) };
        row.inactive = Some(reason);
        row.generation += 1;
        row.since = cx.at.time;
        let (user, generation, joined) = (row.user.clone(), row.generation, row.joined);
        if let Some(holder) = self.users.change(&user, cx.io)? {
            let before = holder.active.len();
            holder.active.retain(|one| one.connection != id);
            self.active -= (before - holder.active.len()) as u64;
        }
        cx.events.push(Event::Downgraded { connection: id, user, reason, generation, joined });
        Ok(true)
    }

    /// Removes a connection altogether.
    pub(crate) fn forget(&mut self, id: Id, cx: &mut Context<'_, '_>) -> Result<(), RowsError> {
        self.downgrade(id, Reason::Left, cx)?;
        let Some(row) = self.rows.get(&id, cx.io)?.cloned() else { return Ok(()) };
        for sub in &row.subs {
            cx.io.remove(Table::Subscribers, Key::of(sub.log).then_bytes(&id.0).build());
        }
        row.remove_cursors(id, cx.io);
        self.forgotten = self.forgotten.max(row.generation);
        self.rows.forget(&id);
        cx.io.remove(Table::Connections, id.0.to_vec());
        cx.io.remove(Table::UserConnections, user_key(&row.user, id));
        if let Some(user) = self.users.change(&row.user, cx.io)? {
            user.connections = user.connections.saturating_sub(1);
        }
        cx.events.push(Event::Forgotten { connection: id });
        Ok(())
    }

    /// The row of a connection that names its present generation.
    fn current(
        &mut self,
        id: Id,
        generation: u64,
        io: &Io<'_>,
    ) -> Result<Result<&mut ConnectionRow, Refusal>, RowsError> {
        self.row_if(id, io, |row| row.generation == generation)
    }

    /// The row of a connection whose present socket speaks. The socket may not have heard of a
    /// change of state yet, so any generation since it came will do.
    fn of_socket(
        &mut self,
        id: Id,
        generation: u64,
        io: &Io<'_>,
    ) -> Result<Result<&mut ConnectionRow, Refusal>, RowsError> {
        self.row_if(id, io, |row| (row.joined..=row.generation).contains(&generation))
    }

    fn row_if(
        &mut self,
        id: Id,
        io: &Io<'_>,
        fits: impl FnOnce(&ConnectionRow) -> bool,
    ) -> Result<Result<&mut ConnectionRow, Refusal>, RowsError> {
        Ok(match self.rows.get(&id, io)? {
            None => Err(Code::UnknownConnection.into()),
            Some(row) if !fits(row) => Err(Code::Stale.into()),
            Some(_) => self.rows.change(&id, io)?.ok_or_else(|| Code::UnknownConnection.into()),
        })
    }

    /// Saves what has changed.
    pub fn save(&mut self, io: &mut Io<'_>) {
        self.rows.save(io);
        self.users.save(io);
    }

    /// Holds the caches to their bound; between batches only.
    pub fn shrink(&mut self) {
        self.rows.shrink();
        self.users.shrink();
    }
}

/// Key of the index of a user's connections. Users hold no control characters, so 0 ends a name.
pub fn user_key(user: &str, id: Id) -> Vec<u8> {
    Key::bytes(&user_prefix(user)).then_bytes(&id.0).build()
}

/// Prefix of the index of a user's connections.
pub fn user_prefix(user: &str) -> Vec<u8> {
    Key::bytes(user.as_bytes()).then_bytes(&[0]).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One table says which limits all nodes must agree on; the fold's budgets are those.
    #[test]
    fn budgets_are_exactly_the_shared_limits() {
        let mut limits = Limits::DEFAULT;
        limits.set("active_total", 77).unwrap();
        let budgets = serde_json::to_value(Budgets::from(&limits)).unwrap();
        let budgets = budgets.as_object().unwrap();
        let shared: Vec<_> = Limits::TABLE.iter().filter(|row| row.shared).collect();
        assert_eq!(budgets.len(), shared.len());
        for row in shared {
            assert_eq!(budgets[row.name].as_u64(), limits.get(row.name), "{}", row.name);
        }
    }
}
