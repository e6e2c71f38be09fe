//! What happens to a connection between attachments: commits, visibility, leaving, expiry.
//!
//! Every change that a socket proposes names its generation; an older one does nothing.

use std::collections::BTreeSet;

use super::{Connections, Context, Decided, Progress, Reached, Sub, user_prefix};
use crate::log::Logs;
use crate::rows::{Io, Key, RowsError, Table};
use crate::wire::{Code, Id, Place, Reason};

impl Connections {
    /// Commits cursors: they only rise, and never past the head. What was reached from an opening
    /// that another has followed does nothing.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn commit(
        &mut self,
        progress: &Progress,
        place: Place,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Decided<()> {
        let row = match self.current(progress.connection, progress.generation, io)? {
            Ok(row) if !row.active() => return Ok(Err(Code::Inactive.into())),
            Ok(row) => row,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let mut moved = false;
        for Reached { log, next, opening } in progress.reached.iter().copied() {
            // Logs it is not subscribed to are not looked up: a client may name any.
            // Of one that is held nothing was delivered, so nothing was reached.
            let counts = |sub: &&mut Sub| sub.opening == opening && !sub.held();
            let Some(sub) = row.sub_mut(log).filter(counts) else { continue };
            let rises = next > sub.cursor || (sub.base && next == sub.cursor);
            if rises && logs.row(log, io)?.is_some_and(|log| next <= log.head) {
                *sub = Sub { cursor: next, base: false, ..*sub };
                moved = true;
            }
        }
        if moved {
            row.committed = place;
        }
        Ok(Ok(()))
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
        let ended = match self.of_socket(id, generation, io)? {
            Ok(row) => (row.attached, row.since),
            Err(refusal) => return Ok(Err(refusal)),
        };
        // One that was detached before, by a Detach or by its node's end, stays so since then.
        let (attached, since) = self.since(ended.0, ended.1);
        if let Some(row) = self.rows.change(&id, io)? {
            row.attached = None;
            row.since = if attached { time } else { since };
        }
        Ok(Ok(()))
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
        Ok(self.of_socket(id, generation, io)?.map(|row| row.visible = visible))
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
        // A set: a client may name one log many times.
        let ended: BTreeSet<u64> =
            logs.iter().copied().filter(|log| row.sub(*log).is_some()).collect();
        self.end_subs(id, &ended, io)?;
        Ok(Ok(ended.into_iter().collect()))
    }

    /// Takes subscriptions out of row and index.
    pub(super) fn end_subs(
        &mut self,
        id: Id,
        ended: &BTreeSet<u64>,
        io: &mut Io<'_>,
    ) -> Result<(), RowsError> {
        if let Some(row) = self.rows.change(&id, io)? {
            row.subs.retain(|sub| !ended.contains(&sub.log));
        }
        for log in ended {
            io.remove(Table::Subscribers, Key::of(*log).then_bytes(&id.0).build());
        }
        Ok(())
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
        cx: &mut Context<'_, '_>,
    ) -> Decided<()> {
        match self.of_socket(id, generation, cx.io)? {
            Ok(row) => (row.attached, row.since) = (None, cx.at.time),
            Err(refusal) => return Ok(Err(refusal)),
        }
        if forget {
            self.forget(id, cx)?;
        } else if !self.downgrade(id, Reason::Left, cx)?
            && let Some(row) = self.rows.change(&id, cx.io)?
        {
            row.inactive = Some(Reason::Left);
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
        cx: &mut Context<'_, '_>,
    ) -> Decided<()> {
        let Some(row) = self.rows.get(&id, cx.io)? else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        if generation.is_some_and(|generation| generation != row.generation) {
            return Ok(Err(Code::Stale.into()));
        }
        let (socket, visible, since) = (row.attached, row.visible, row.since);
        let attached = self.since(socket, since).0;
        // Neither a run that is heard again nor a look raises the generation.
        let spared = match reason {
            Reason::Detached => attached,
            Reason::NodeSlots => attached && visible,
            _ => false,
        };
        if generation.is_some() && spared {
            return Ok(Err(Code::Stale.into()));
        }
        let done = self.downgrade(id, reason, cx)?;
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
        cx: &mut Context<'_, '_>,
    ) -> Decided<()> {
        let Some(row) = self.rows.get(&id, cx.io)? else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        let moved = generation.is_some_and(|generation| generation != row.generation);
        let (attached, since) = (row.attached, row.since);
        if moved || self.since(attached, since).0 {
            return Ok(Err(Code::Stale.into()));
        }
        self.forget(id, cx)?;
        Ok(Ok(()))
    }

    /// A user's connections, by id.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn of_user(&mut self, user: &str, io: &Io<'_>) -> Result<Vec<Id>, RowsError> {
        let prefix = user_prefix(user);
        // What it has, which is more than the budget after that was lowered.
        let most = self.users.get(&user.to_owned(), io)?.map_or(0, |user| user.connections);
        let most = most as usize;
        let pairs = io.scan(Table::UserConnections, &prefix, &prefix, most)?;
        let id = |key: &[u8]| key.get(prefix.len()..)?.try_into().ok().map(Id);
        Ok(pairs.iter().filter_map(|(key, _)| id(key)).collect())
    }
}
