//! Slots: who gets one, and whose is taken for it.
//!
//! A newcomer takes slots of its own user only, as far as the policy lets it; all of what it needs
//! or nothing, so that a newcomer that has to wait has cost nobody a slot.

use super::policy::{self, Candidate, Need};
use super::{ActiveOne, Connections, Context, UserRow};
use crate::log::Logs;
use crate::rows::{Io, RowsError};
use crate::wire::{Id, Reason};

/// A newcomer that wants a slot.
pub(super) struct Newcomer<'a> {
    pub(super) want: ActiveOne,
    pub(super) user: &'a str,
    pub(super) visible: bool,
}

impl Connections {
    /// Gives a slot to a connection of the user, taking another's where the policy allows it.
    pub(super) fn reserve_slot(
        &mut self,
        new: &Newcomer<'_>,
        cx: &mut Context<'_, '_>,
    ) -> Result<bool, RowsError> {
        let Some(victims) = self.victims(new, cx.logs, cx.io)? else { return Ok(false) };
        for (victim, reason) in victims {
            self.downgrade(victim, reason, cx)?;
        }
        let key = new.user.to_owned();
        if self.users.get(&key, cx.io)?.is_none() {
            self.users.insert(key.clone(), UserRow::default());
        }
        if let Some(row) = self.users.change(&key, cx.io)? {
            let spot = row.active.partition_point(|one| one.connection < new.want.connection);
            row.active.insert(spot, new.want);
            self.active += 1;
        }
        Ok(true)
    }

    /// Whose slots are taken for a newcomer: nobody's where one is free. None where the policy
    /// lets too few go. After a budget was lowered it may take several.
    fn victims(
        &mut self,
        new: &Newcomer<'_>,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<Option<Vec<(Id, Reason)>>, RowsError> {
        let mut left = self.users.get(&new.user.to_owned(), io)?.cloned().unwrap_or_default();
        let device = new.want.device;
        let mut victims = Vec::new();
        loop {
            let full = left.active.len() >= self.budgets.active_per_user as usize;
            let device_full = device.is_some()
                && left.on_device(device) >= self.budgets.active_per_device as usize;
            // One for one: where the total is over its budget, it does not rise.
            let total_full = self.active >= self.budgets.active_total && victims.is_empty();
            if !(full || device_full || total_full) {
                return Ok(Some(victims));
            }
            let holders: Vec<Id> = (left.active.iter())
                .filter(|one| !device_full || one.device == device)
                .map(|one| one.connection)
                .collect();
            let need = Need::Newcomer { visible: new.visible };
            let Some(victim) = self.missed_least(&holders, &left, need, logs, io)? else {
                return Ok(None);
            };
            left.active.retain(|one| one.connection != victim);
            let reason = if full || device_full { Reason::Slots } else { Reason::NodeSlots };
            victims.push((victim, reason));
        }
    }

    /// The one that goes, of some active connections of a user.
    fn missed_least(
        &mut self,
        holders: &[Id],
        user: &UserRow,
        need: Need,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<Option<Id>, RowsError> {
        let mut candidates = Vec::with_capacity(holders.len());
        for id in holders {
            candidates.extend(self.candidate(*id, user, io)?);
        }
        // Lag costs a row per subscription, so it is looked up only where it decides.
        let mut candidates = policy::shortlist(&candidates, need);
        if candidates.len() > 1 {
            for one in &mut candidates {
                one.lag = self.lag(one.connection, logs, io)?;
            }
        }
        Ok(policy::choose(&candidates, need).map(|one| one.connection))
    }

    /// What the policy knows of an active connection, lag left aside.
    fn candidate(
        &mut self,
        id: Id,
        user: &UserRow,
        io: &Io<'_>,
    ) -> Result<Option<Candidate>, RowsError> {
        let Some(row) = self.rows.get(&id, io)? else { return Ok(None) };
        let (device, generation, visible) = (row.device, row.generation, row.visible);
        let (attached, since) = (row.attached, row.since);
        let (attached, since) = self.since(attached, since);
        Ok(Some(Candidate {
            connection: id,
            generation,
            attached,
            visible,
            since,
            lag: 0,
            retained: 0,
            device_slots: u32::try_from(user.on_device(device)).unwrap_or(u32::MAX),
            user_slots: u32::try_from(user.active.len()).unwrap_or(u32::MAX),
        }))
    }

    /// Records that a connection has not committed yet, over all its logs.
    fn lag(&mut self, id: Id, logs: &mut Logs, io: &Io<'_>) -> Result<u64, RowsError> {
        let Some(row) = self.rows.get(&id, io)? else { return Ok(0) };
        let mut lag = 0_u64;
        for sub in row.subs.iter().filter(|sub| !sub.held()) {
            let head = logs.row(sub.log, io)?.map_or(0, |log| log.head);
            lag = lag.saturating_add(head.saturating_sub(sub.cursor));
        }
        Ok(lag)
    }
}
