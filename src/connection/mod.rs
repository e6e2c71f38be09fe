//! Connections: a client's subscriptions and cursors, who holds a slot, and who is cloned.
//!
//! Promise: slots given out plus free ones are always the budget; an inactive connection is a row
//! and nothing else; one attachment per connection, the newest; a clone never widens what its
//! client may read, and nothing it shows goes backwards. Pure: the fold calls it with rows and
//! time. Promises 6, 8, 9 and 12 of the design are decided here; `docs/connections.md` tells them.

mod attach;
mod life;
mod open;
pub mod policy;
mod retention;
mod row;

pub use attach::{Attach, Attached, Subscribe, WriterAnswers};
pub use open::{BaseFrom, CHEAP_DELTA, Opened, Wanted, open};
pub use row::{ActiveOne, Attachment, ConnectionRow, NodeRow, Sub, UserRow};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limit::Limits;
use crate::log::rows::{Cache, Io, Key, RowsError, Table};
use crate::log::{Logs, Moment, Trimmed};
use crate::wire::{Code, Id, Reason, Refusal};
use policy::{Candidate, Need};

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
    pub activate_after: u32,
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
            activate_after: limits.activate_after_ms,
            snapshot_bytes: limits.snapshot_bytes,
        }
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::from(&Limits::DEFAULT)
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
        /// How.
        opened: Vec<Opened>,
    },
    /// The back end ended subscriptions of a connection.
    Closed {
        /// The connection.
        connection: Id,
        /// The logs.
        logs: Vec<u64>,
    },
    /// A log keeps less than before.
    Trimmed(Trimmed),
    /// A log is gone.
    Deleted {
        /// Its id.
        log: u64,
        /// Its name.
        name: String,
    },
    /// A client-made snapshot counts from now on.
    Snapshot {
        /// The log.
        log: u64,
        /// Its offset.
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
    /// Budgets in force.
    pub budgets: Budgets,
}

/// What an operation came to: done, or refused with the state as it was.
pub type Decided<T> = Result<Result<T, Refusal>, RowsError>;

impl Connections {
    /// No rows loaded; at most about `most` are kept between batches.
    pub fn new(most: usize, budgets: Budgets) -> Self {
        Self {
            rows: Cache::new(most),
            users: Cache::new(most),
            nodes: BTreeMap::new(),
            active: 0,
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

    /// Whether a socket can still be behind an attachment.
    pub fn runs(&self, attached: Attachment) -> bool {
        (self.nodes.get(&attached.node))
            .is_some_and(|node| node.up && node.incarnation == attached.incarnation)
    }

    /// Since when a connection is attached or detached: a node's end detaches what it held.
    fn since(&self, row: &ConnectionRow) -> (bool, u64) {
        match row.attached {
            Some(attached) if self.runs(attached) => (true, row.since),
            Some(attached) => {
                (false, self.nodes.get(&attached.node).map_or(row.since, |node| node.since))
            }
            None => (false, row.since),
        }
    }

    /// What the policy knows of an active connection.
    fn candidate(
        &mut self,
        id: Id,
        user: &UserRow,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<Option<Candidate>, RowsError> {
        let Some(row) = self.rows.get(&id, io)?.filter(|row| row.active()).cloned() else {
            return Ok(None);
        };
        let (attached, since) = self.since(&row);
        let mut lag = 0;
        for sub in &row.subs {
            lag += logs.row(sub.log, io)?.map_or(0, |log| log.head.saturating_sub(sub.cursor));
        }
        Ok(Some(Candidate {
            connection: id,
            generation: row.generation,
            attached,
            visible: row.visible,
            since,
            lag,
            retained: 0,
            device_slots: u32::try_from(user.on_device(row.device)).unwrap_or(u32::MAX),
            user_slots: u32::try_from(user.active.len()).unwrap_or(u32::MAX),
        }))
    }

    /// The active connection of the user that has seen most: attached before detached, then the
    /// newest commit of cursors, then the smallest id.
    fn source(&mut self, user: &str, but: Id, io: &Io<'_>) -> Result<Option<Id>, RowsError> {
        let Some(row) = self.users.get(&user.to_owned(), io)? else { return Ok(None) };
        let mut best = None;
        for one in row.active.clone() {
            if one.connection == but {
                continue;
            }
            let Some(row) = self.rows.get(&one.connection, io)?.cloned() else { continue };
            let rank = (self.since(&row).0, row.committed, std::cmp::Reverse(one.connection));
            if best.as_ref().is_none_or(|(known, _)| rank > *known) {
                best = Some((rank, one.connection));
            }
        }
        Ok(best.map(|(_, id)| id))
    }

    /// Gives a slot to a connection of the user, taking another's where the policy allows it.
    fn take_slot(
        &mut self,
        want: ActiveOne,
        user: &str,
        visible: bool,
        at: &mut Moment,
        logs: &mut Logs,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<bool, RowsError> {
        let key = user.to_owned();
        let row = self.users.get(&key, io)?.cloned().unwrap_or_default();
        let full = row.active.len() >= self.budgets.active_per_user as usize;
        let device_full = want.device.is_some()
            && row.on_device(want.device) >= self.budgets.active_per_device as usize;
        let total_full = self.active >= self.budgets.active_total;
        if full || device_full || total_full {
            let mut candidates = Vec::new();
            for one in row.active.iter().filter(|one| !device_full || one.device == want.device) {
                candidates.extend(self.candidate(one.connection, &row, logs, io)?);
            }
            let Some(victim) = policy::choose(&candidates, Need::Newcomer { visible }) else {
                return Ok(false);
            };
            let reason = if full || device_full { Reason::Slots } else { Reason::NodeSlots };
            self.downgrade(victim.connection, reason, at.time, io, events)?;
        }
        if self.users.get(&key, io)?.is_none() {
            self.users.insert(key.clone(), UserRow::default());
        }
        if let Some(row) = self.users.change(&key, io)? {
            let spot = row.active.partition_point(|one| one.connection < want.connection);
            row.active.insert(spot, want);
            self.active += 1;
        }
        Ok(true)
    }

    /// Takes a connection's slot; no longer active, it holds nothing but its row.
    pub(crate) fn downgrade(
        &mut self,
        id: Id,
        reason: Reason,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<bool, RowsError> {
        let Some(row) = self.rows.get(&id, io)?.filter(|row| row.active()) else {
            return Ok(false);
        };
        let attached = row.attached.filter(|attached| self.runs(*attached));
        let Some(row) = self.rows.change(&id, io)? else { return Ok(false) };
        row.inactive = Some(reason);
        row.generation += 1;
        row.since = time;
        row.attached = attached;
        let (user, generation) = (row.user.clone(), row.generation);
        if let Some(holder) = self.users.change(&user, io)? {
            let before = holder.active.len();
            holder.active.retain(|one| one.connection != id);
            self.active -= (before - holder.active.len()) as u64;
        }
        events.push(Event::Downgraded { connection: id, user, reason, generation });
        Ok(true)
    }

    /// Removes a connection altogether.
    pub(crate) fn forget(
        &mut self,
        id: Id,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<(), RowsError> {
        self.downgrade(id, Reason::Left, time, io, events)?;
        let Some(row) = self.rows.get(&id, io)?.cloned() else { return Ok(()) };
        for sub in &row.subs {
            io.remove(Table::Subscribers, Key::of(sub.log).then_bytes(&id.0).build());
        }
        self.rows.forget(&id);
        io.remove(Table::Connections, id.0.to_vec());
        io.remove(Table::UserConnections, user_key(&row.user, id));
        if let Some(user) = self.users.change(&row.user, io)? {
            user.connections = user.connections.saturating_sub(1);
        }
        events.push(Event::Forgotten { connection: id });
        Ok(())
    }

    /// The row of a connection that names its present generation, and is the user's own.
    fn current(
        &mut self,
        id: Id,
        generation: u64,
        io: &Io<'_>,
    ) -> Result<Result<&mut ConnectionRow, Refusal>, RowsError> {
        Ok(match self.rows.get(&id, io)? {
            None => Err(Code::UnknownConnection.into()),
            Some(row) if row.generation != generation => Err(Code::Stale.into()),
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
