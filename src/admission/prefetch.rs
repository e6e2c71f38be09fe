//! Cold rows are read here first, so that the committing thread never waits for a disk.
//!
//! Promise: a name that may not be used, or a record that is refused, causes no read. A read brings
//! the row's block into the store's cache; what was read is let go. What was read ahead lately is
//! remembered in a table of fixed size, so a busy log or writer costs a look.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Admission;
use crate::auth::{Can, Grants};
use crate::log::Entry;
use crate::store::{Store, Wanted};
use crate::wire::{Id, Open, Target, name};

/// Things remembered as read; a newer one takes the place of another with the same remainder.
const REMEMBERED: usize = 16_384;

/// What was read ahead lately.
#[derive(Debug)]
pub(super) struct Prefetch {
    seen: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl Default for Prefetch {
    fn default() -> Self {
        let seen = (0..REMEMBERED).map(|_| AtomicU64::new(0)).collect();
        Self { seen, hasher: RandomState::new() }
    }
}

impl Prefetch {
    /// Whether it has to be read ahead; from now on it counts as read.
    fn is_cold(&self, what: impl Hash) -> bool {
        // 0 stands for an empty slot.
        let hash = self.hasher.hash_one(what) | 1;
        let at = usize::try_from(hash >> 1).unwrap_or_default() % REMEMBERED;
        self.seen.get(at).is_some_and(|slot| slot.swap(hash, Ordering::Relaxed) != hash)
    }

    /// Reads ahead the logs of appends and their writer, unless that was made just now.
    fn append(&self, store: &Store, writer: Option<Id>, entries: &[Entry]) {
        let (mut names, mut logs) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| entry.verdict.is_none()) {
            match &entry.to {
                Target::Name(name) if self.is_cold(name) => names.push(name.as_str()),
                Target::Log(log) if self.is_cold(log) => logs.push(*log),
                Target::Name(_) | Target::Log(_) => {}
            }
        }
        let writers: Vec<Id> = writer.into_iter().filter(|writer| self.is_cold(writer)).collect();
        if !(names.is_empty() && logs.is_empty() && writers.is_empty()) {
            let wanted =
                Wanted { names: &names, logs: &logs, writers: &writers, ..Wanted::default() };
            // The worker's other tasks go on elsewhere while this one waits for a disk.
            tokio::task::block_in_place(|| store.prefetch(&wanted));
        }
    }
}

impl Admission {
    /// Reads what the fold will look at for these appends, as far as they have no verdict.
    pub fn read_ahead(&self, writer: Option<Id>, entries: &[Entry]) {
        self.prefetch.append(&self.store, writer, entries);
    }

    /// Reads what the fold will look at for logs that a token's user opens, unless that was made
    /// just now.
    pub fn read_ahead_names(&self, grants: &Grants, open: &[Open]) {
        let names = self.looked_up(grants, open);
        let cold: Vec<&str> = names.filter(|name| self.prefetch.is_cold(name)).collect();
        if !cold.is_empty() {
            let wanted = Wanted { names: &cold, ..Wanted::default() };
            tokio::task::block_in_place(|| self.store.prefetch(&wanted));
        }
    }

    /// Reads what the fold will look at for an attachment: connection, siblings, writers, and the
    /// logs that it opens.
    pub fn read_ahead_attach(
        &self,
        grants: &Grants,
        connection: Id,
        writers: &[Id],
        open: &[Open],
    ) {
        let names: Vec<&str> = self.looked_up(grants, open).collect();
        let (users, connections) = (&[grants.user.as_str()], &[connection]);
        let wanted = Wanted { names: &names, writers, connections, users, ..Wanted::default() };
        tokio::task::block_in_place(|| self.store.prefetch(&wanted));
    }

    /// The names that the fold looks up of those that are asked for: what has another form, is not
    /// granted or goes beyond what a connection may hold, it refuses without a look.
    fn looked_up<'a>(
        &self,
        grants: &'a Grants,
        open: &'a [Open],
    ) -> impl Iterator<Item = &'a str> + use<'a> {
        let most = self.limits.subscriptions as usize;
        let names = open.iter().take(most).map(|open| open.name.as_str());
        names.filter(|name| name::check(name).is_ok() && grants.allows(name, Can::Read))
    }
}
