//! Connections, their users and their subscriptions.

use super::{Check, Found, number, shown};
use crate::connection::{ConnectionRow, UserRow, user_prefix};
use crate::rows::{Key, Pair, Rows as _, RowsError, Table, read_row};
use crate::wire::Id;

/// Connections of one user that are counted at once.
const COUNTED: usize = 1 << 20;

fn id(key: &[u8], at: usize) -> Option<Id> {
    Some(Id(key.get(at..at + 16)?.try_into().ok()?))
}

impl Check<'_> {
    fn of_id(&self, id: Option<Id>) -> Result<Option<ConnectionRow>, RowsError> {
        id.map_or(Ok(None), |id| self.store.connection(id))
    }

    pub(super) fn connection(&mut self, (key, _): &Pair) -> Found {
        let Some(row) = self.of_id(id(key, 0))? else {
            return Ok(Some("a key of another length".into()));
        };
        let wrong = |what: &str| Ok(Some(format!("{}: {what}", shown(key))));
        let listed = [user_prefix(&row.user).as_slice(), key].concat();
        if self.store.get(Table::UserConnections, &listed)?.is_none() {
            return wrong("it is not among its user's");
        }
        let user: UserRow = self.get(Table::Users, row.user.as_bytes())?.unwrap_or_default();
        let holds = user.active.iter().any(|one| Some(one.connection) == id(key, 0));
        if holds != row.inactive.is_none() {
            return wrong("its user's row and its own differ about whether it is active");
        }
        if !row.subs.is_sorted_by_key(|sub| sub.log) {
            return wrong("its subscriptions are not in order");
        }
        for sub in &row.subs {
            let subscriber = Key::of(sub.log).then_bytes(key).build();
            if row.inactive.is_none() && self.store.get(Table::Subscribers, &subscriber)?.is_none()
            {
                return wrong(&format!("log {} does not know its subscription", sub.log));
            }
            if self.store.log_row(sub.log)?.is_some_and(|log| sub.cursor > log.head) {
                return wrong(&format!("its cursor in log {} is past the head", sub.log));
            }
        }
        Ok(None)
    }

    pub(super) fn cursors(&mut self, (key, _): &Pair) -> Found {
        let known = self.of_id(id(key, 0))?.is_some();
        Ok((!known).then(|| format!("{}: of a connection that there is not", shown(key))))
    }

    pub(super) fn user(&mut self, (key, value): &Pair) -> Found {
        let row: UserRow = read_row(Table::Users, value)?;
        let Ok(user) = std::str::from_utf8(key) else {
            return Ok(Some("a name that is no UTF-8".into()));
        };
        let there = self.store.connections_of(user, None, COUNTED)?;
        if there.len() < COUNTED && there.len() != row.connections as usize {
            let what = format!("{user}: {} connections, {} counted", there.len(), row.connections);
            return Ok(Some(what));
        }
        let all = row.active.iter().all(|one| there.contains(&one.connection));
        Ok((!all).then(|| format!("{user}: a slot of a connection that is not there")))
    }

    pub(super) fn user_connection(&mut self, (key, _): &Pair) -> Found {
        let at = key.len().saturating_sub(16);
        let row = self.of_id(id(key, at))?;
        let fits = row.is_some_and(|row| key.starts_with(&user_prefix(&row.user)));
        Ok((!fits).then(|| format!("{}: of no connection of that user", shown(key))))
    }

    pub(super) fn subscriber(&mut self, (key, _): &Pair) -> Found {
        let Some(log) = number(key, 0) else { return Ok(Some("a key of another length".into())) };
        if self.store.log_row(log)?.is_some_and(|row| row.deleted) {
            // It goes when files merge.
            return Ok(None);
        }
        let row = self.of_id(id(key, 8))?;
        let fits = row.is_some_and(|row| row.subs.iter().any(|sub| sub.log == log));
        Ok((!fits).then(|| format!("{}: nobody is subscribed so", shown(key))))
    }
}
