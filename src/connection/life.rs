//! What happens to a connection between attachments: commits, visibility, leaving, expiry.
//!
//! Every change that a socket proposes names its generation; an older one does nothing.

use super::{Connections, Decided, Event, user_prefix};
use crate::log::Logs;
use crate::log::rows::{Io, Key, RowsError, Table};
use crate::wire::{Code, Cursor, Id, Place, Reason};

impl Connections {
    /// Commits cursors: they only rise, and never past the head.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn commit(
        &mut self,
        id: Id,
        generation: u64,
        cursors: &[Cursor],
        place: Place,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Decided<()> {
        let mut rising = Vec::with_capacity(cursors.len());
        for cursor in cursors {
            let head = logs.row(cursor.log, io)?.map_or(0, |log| log.head);
            rising.extend((cursor.next <= head).then_some(*cursor));
        }
        match self.current(id, generation, io)? {
            Ok(row) if !row.active() => Ok(Err(Code::Inactive.into())),
            Ok(row) => {
                for cursor in rising {
                    if let Some(sub) = row.sub_mut(cursor.log) {
                        sub.cursor = sub.cursor.max(cursor.next);
                    }
                }
                row.committed = place;
                Ok(Ok(()))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// The socket of that generation is gone.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn detach(
        &mut self,
        id: Id,
        generation: u64,
        time: u64,
        io: &Io<'_>,
    ) -> Decided<()> {
        Ok(match self.current(id, generation, io)? {
            Ok(row) => {
                row.attached = None;
                row.since = time;
                Ok(())
            }
            Err(refusal) => Err(refusal),
        })
    }

    /// Someone looks at the client, or nobody does any more.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn see(
        &mut self,
        id: Id,
        generation: u64,
        visible: bool,
        io: &Io<'_>,
    ) -> Decided<()> {
        Ok(self.current(id, generation, io)?.map(|row| row.visible = visible))
    }

    /// Ends subscriptions: the ids that were subscribed to.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn unsubscribe(
        &mut self,
        id: Id,
        generation: Option<u64>,
        logs: &[u64],
        io: &mut Io<'_>,
    ) -> Decided<Vec<u64>> {
        let Some(row) = self.rows.get(&id, io)? else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        if generation.is_some_and(|generation| generation != row.generation) {
            return Ok(Err(Code::Stale.into()));
        }
        let ended: Vec<u64> = logs.iter().copied().filter(|log| row.sub(*log).is_some()).collect();
        if let Some(row) = self.rows.change(&id, io)? {
            row.subs.retain(|sub| !ended.contains(&sub.log));
        }
        for log in &ended {
            io.remove(Table::Subscribers, Key::of(*log).then_bytes(&id.0).build());
        }
        Ok(Ok(ended))
    }

    /// The client left: its slot is free at once.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn leave(
        &mut self,
        id: Id,
        generation: u64,
        forget: bool,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Decided<()> {
        match self.current(id, generation, io)? {
            Ok(row) => row.attached = None,
            Err(refusal) => return Ok(Err(refusal)),
        }
        if forget {
            self.forget(id, time, io, events)?;
        } else {
            self.downgrade(id, Reason::Left, time, io, events)?;
        }
        Ok(Ok(()))
    }

    /// A proposal to downgrade: it does nothing when things have moved since.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn propose_downgrade(
        &mut self,
        id: Id,
        generation: Option<u64>,
        reason: Reason,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Decided<()> {
        let Some(row) = self.rows.get(&id, io)? else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        if generation.is_some_and(|generation| generation != row.generation) {
            return Ok(Err(Code::Stale.into()));
        }
        let done = self.downgrade(id, reason, time, io, events)?;
        Ok(if done { Ok(()) } else { Err(Code::Inactive.into()) })
    }

    /// A proposal to forget a connection that is long unused.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn propose_forget(
        &mut self,
        id: Id,
        generation: Option<u64>,
        time: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Decided<()> {
        let Some(row) = self.rows.get(&id, io)?.cloned() else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        let moved = generation.is_some_and(|generation| generation != row.generation);
        if moved || self.since(&row).0 {
            return Ok(Err(Code::Stale.into()));
        }
        self.forget(id, time, io, events)?;
        Ok(Ok(()))
    }

    /// A user's connections, by id.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn of_user(&self, user: &str, io: &Io<'_>) -> Result<Vec<Id>, RowsError> {
        let prefix = user_prefix(user);
        let most = self.budgets.connections_per_user as usize;
        let pairs = io.scan(Table::UserConnections, &prefix, &prefix, most)?;
        let id = |key: &[u8]| key.get(prefix.len()..)?.try_into().ok().map(Id);
        Ok(pairs.iter().filter_map(|(key, _)| id(key)).collect())
    }
}
