//! Cold rows are read here first, so that the committing thread never waits for a disk.
//!
//! Promise: a name that may not be used, or a record that is refused, causes no read. A read brings
//! the row's block into the store's cache; what was read is let go. What was read ahead lately is
//! remembered in a table of fixed size, so a busy log or writer costs a look.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Admission;
use crate::log::Entry;
use crate::store::{Store, Wanted};
use crate::wire::{Id, Target};

/// Things remembered as read; a newer one takes the place of another with the same remainder.
const REMEMBERED: usize = 16_384;

/// What was read ahead lately.
#[derive(Debug)]
pub struct Prefetch {
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

    /// Reads ahead logs by name.
    pub fn names<'a>(&self, store: &Store, names: impl Iterator<Item = &'a str>) {
        let cold: Vec<&str> = names.filter(|name| self.is_cold(name)).collect();
        if !cold.is_empty() {
            let wanted = Wanted { names: &cold, ..Wanted::default() };
            tokio::task::block_in_place(|| store.prefetch(&wanted));
        }
    }

    /// Reads ahead what an attachment looks at: connection, siblings, writers and logs.
    pub fn attach(
        &self,
        store: &Store,
        user: &str,
        connection: Id,
        writers: &[Id],
        names: &[&str],
    ) {
        let (users, connections) = (&[user], &[connection]);
        let wanted = Wanted { names, writers, connections, users, ..Wanted::default() };
        tokio::task::block_in_place(|| store.prefetch(&wanted));
    }
}

impl Admission {
    /// Reads what the fold will look at for these appends, as far as they have no verdict.
    pub fn read_ahead(&self, writer: Option<Id>, entries: &[Entry]) {
        self.prefetch.append(&self.store, writer, entries);
    }
}
