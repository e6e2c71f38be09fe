//! Logs that are made because somebody opens them: by whom, and what keeps them from it.
//!
//! Promise: what is there can be read, whatever keeps new logs from being made; and who asks for
//! one that is not made is told why. A full disk or a spent rate is no lack of rights.

use std::collections::BTreeSet;

use super::Admission;
use crate::auth::{Can, Grant, Grants};
use crate::channel::Spent;
use crate::limit::{Charged, Limits};
use crate::wire::{Open, Pattern, Refusal, name};

/// What a client that opens logs may make.
#[derive(Debug, Default)]
pub struct Making {
    /// Names under which it makes a log by opening it.
    pub make: Vec<Pattern>,
    /// Those of its names that it could have made, and why they are not; they were taken off the
    /// list, and whoever asked for them is to be told.
    pub unmade: Vec<(String, Refusal)>,
    /// What those cost that may be made.
    pub spent: Spent,
}

/// The names that are asked for, as far as a connection may hold as many: the fold refuses those
/// beyond, by name.
pub fn asked_for(limits: &Limits, open: &[Open]) -> BTreeSet<String> {
    let most = limits.subscriptions as usize;
    open.iter().take(most).map(|open| open.name.clone()).collect()
}

impl Admission {
    /// What a token's user makes by opening these logs: what it may append to or administer. Each
    /// log that is missing counts as an append; none is made while the user has too few left, or
    /// the disk has too little room.
    pub fn making(&self, grants: &Grants, open: &mut Vec<Open>) -> Making {
        let may = |grant: &&Grant| grant.can.has(Can::Append) || grant.can.has(Can::Admin);
        let make: Vec<Pattern> =
            grants.grants.iter().filter(may).map(|grant| grant.logs.clone()).collect();
        // Where operators alone make logs nothing is missing.
        if make.is_empty() || !self.auto_create {
            return Making::default();
        }
        let most = self.limits.subscriptions as usize;
        let lacks = |name: &str| {
            let makes = make.iter().any(|pattern| pattern.matches(name));
            // What cannot be read is found out by the fold.
            makes
                && name::check(name).is_ok()
                && grants.allows(name, Can::Read)
                && self.store.find_log(name).is_ok_and(|found| found.is_none())
        };
        // A name that comes again is that of the same log.
        let mut seen = BTreeSet::new();
        let mut new = |name| seen.insert(name) && lacks(name);
        let look =
            || open.iter().take(most).map(|open| new(open.name.as_str())).collect::<Vec<_>>();
        let missing = tokio::task::block_in_place(look);
        let count =
            u32::try_from(missing.iter().filter(|lacks| **lacks).count()).unwrap_or(u32::MAX);
        let mut making = Making { make, ..Making::default() };
        if count == 0 {
            return making;
        }
        // As many as there are left for, the first ones of the list; the others later.
        let (charged, refusal) = match self.shed.check() {
            Ok(()) => {
                let (charged, refusal) = self.rates.charge_some(&grants.user, count);
                (Some(charged), refusal)
            }
            Err(refusal) => (None, Some(refusal)),
        };
        let left = charged.as_ref().map_or(0, Charged::len);
        let mut missing = missing.into_iter();
        open.retain(|open| {
            if !missing.next().unwrap_or(false) {
                return true;
            }
            let made = making.spent.names.len() < left;
            if made {
                making.spent.names.push(open.name.clone());
            } else if let Some(refusal) = &refusal {
                making.unmade.push((open.name.clone(), refusal.clone()));
            }
            made
        });
        making.spent.charged = charged;
        making
    }
}
