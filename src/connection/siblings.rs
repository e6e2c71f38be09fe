//! A newcomer among its user's other connections: whom it is cloned from, and who makes room.
//!
//! Promise: what a clone takes over is the union of what its active siblings have, as far as a
//! connection may hold, the best source first; of each log the greatest cursor that one of them has
//! committed. No more siblings are looked at than there may be active ones. Room for a row is made
//! by who has been without a socket for longest, never by one that has a socket.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::row::{ConnectionRow, Sub};
use super::{Attach, Connections, Decided};
use crate::rows::{Io, RowsError};
use crate::wire::{Cloning, Code, Id};

impl Connections {
    /// The active connections of a user but one, those first that have seen most: attached before
    /// detached, then the newest commit of cursors, then the smallest id. None where nothing is to
    /// be cloned.
    pub(super) fn siblings(
        &mut self,
        user: &str,
        but: Id,
        cloning: Cloning,
        io: &Io<'_>,
    ) -> Result<Vec<Id>, RowsError> {
        if cloning == Cloning::None {
            return Ok(Vec::new());
        }
        let active = self.users.get(&user.to_owned(), io)?.map(|row| row.active.clone());
        let mut ranked = Vec::new();
        for one in active.unwrap_or_default().iter().filter(|one| one.connection != but) {
            let Some(row) = self.rows.get(&one.connection, io)? else { continue };
            let (attached, since, committed) = (row.attached, row.since, row.committed);
            let attached = self.since(attached, since).0;
            ranked.push((Reverse((attached, committed)), one.connection));
        }
        ranked.sort_unstable();
        // After the budget was lowered there may be more.
        ranked.truncate(self.budgets.active_per_user as usize);
        Ok(ranked.into_iter().map(|(_, id)| id).collect())
    }

    /// What these connections have together, by log id. Room is left for `besides` others.
    pub(super) fn union(
        &mut self,
        siblings: &[Id],
        besides: usize,
        io: &Io<'_>,
    ) -> Result<Vec<Sub>, RowsError> {
        let mut most = self.budgets.subscriptions as usize;
        let mut all: BTreeMap<u64, Sub> = BTreeMap::new();
        for id in siblings {
            let Some(row) = self.rows.get(id, io)? else { continue };
            for sub in &row.subs {
                if let Some(known) = all.get_mut(&sub.log) {
                    known.merge(sub);
                } else if all.len() < most {
                    all.insert(sub.log, *sub);
                }
            }
            // The best one is taken over whole; what others have gives way to what is asked for.
            most = most.min((self.budgets.subscriptions as usize).saturating_sub(besides));
        }
        Ok(all.into_values().collect())
    }

    /// Refuses another user's connection, and one too many. Where it is one too many and another
    /// can make room: that one.
    pub(super) fn admit(
        &mut self,
        ask: &Attach,
        known: Option<&ConnectionRow>,
        io: &Io<'_>,
    ) -> Decided<Option<Id>> {
        if let Some(known) = known {
            let own = known.user == ask.user;
            return Ok(if own { Ok(None) } else { Err(Code::UnknownConnection.into()) });
        }
        let user = self.users.get(&ask.user, io)?.cloned().unwrap_or_default();
        if user.connections < self.budgets.connections_per_user {
            return Ok(Ok(None));
        }
        let unused = self.longest_unused(&ask.user, io)?;
        Ok(unused.map_or_else(|| Err(Code::Connections.into()), |unused| Ok(Some(unused))))
    }

    /// The user's connection that has been without a socket for longest: an inactive one where
    /// there is one, else an active one. A client whose id is lost never comes back for its slot,
    /// and where all slots were held so, nobody of that user could come any more.
    fn longest_unused(&mut self, user: &str, io: &Io<'_>) -> Result<Option<Id>, RowsError> {
        let mut unused: Option<(bool, u64, Id)> = None;
        for id in self.of_user(user, io)? {
            let look = |row: &ConnectionRow| (row.active(), row.attached, row.since);
            let Some((active, socket, since)) = self.rows.peek(&id, io, look)? else { continue };
            let (attached, since) = self.since(socket, since);
            if !attached {
                let this = (active, since, id);
                unused = Some(unused.map_or(this, |known| known.min(this)));
            }
        }
        Ok(unused.map(|(_, _, id)| id))
    }
}
