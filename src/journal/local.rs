//! The local journal: batches live in the store, beside what they bring about.
//!
//! Promise: a batch and its effects are one synced commit, so neither is ever there without the
//! other, and no batch needs to be folded twice. So batches are not kept, unless a bound is set:
//! then the last ones are, for diagnosis and for readers that follow; dropping what is over happens
//! while appending, within bounds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{At, Bell, Ends, Event, Fate, Journal, JournalError};
use crate::rows::{RowsError, Writes};
use crate::store::{Store, StoreError};
use crate::wire::{Id, Level};

/// Bytes of batches that are read at once.
const PAGE: usize = 4 << 20;

/// The engine that needs nothing to be installed: order and durability are this node's own. Its
/// node commits batches with what they bring about ([`Local::commit`]); as a [`Journal`] it is
/// read, and takes batches without effects.
#[derive(Debug)]
pub struct Local {
    store: Store,
    keep_bytes: u64,
    /// The batch that is told next, and those that were read ahead.
    next: u64,
    read: VecDeque<(u64, Bytes)>,
    /// Fates that are not told yet.
    told: VecDeque<Event>,
    bell: Arc<Bell>,
}

impl Local {
    /// The journal of a store, keeping about the last `keep_bytes` of batches; 0: none.
    pub fn new(store: Store, keep_bytes: u64) -> Self {
        let (read, told, bell) = (VecDeque::new(), VecDeque::new(), Arc::default());
        Self { store, keep_bytes, next: 1, read, told, bell }
    }

    /// Commits a batch with its effects: its number, head + 1, when both are durable.
    ///
    /// # Errors
    /// When the store fails: what was folded is not on disk then, and only a restart brings the
    /// fold back to what is.
    pub fn commit(&self, batch: &[u8], effects: Writes) -> Result<u64, JournalError> {
        self.store.append(batch, effects, self.keep_bytes).map_err(|error| failed(&error))
    }

    /// Reads ahead from the batch that is told next.
    fn read_ahead(&mut self) -> Result<(), JournalError> {
        let (kept, from) = (self.store.kept(), self.next);
        if from < kept.start {
            return Err(JournalError::Dropped { start: kept.start, wanted: from });
        }
        if from > kept.head + 1 {
            return Err(JournalError::Lost { head: kept.head, wanted: from });
        }
        if from <= kept.head {
            let batches = self.store.batches(from, PAGE).map_err(|error| match error {
                RowsError::Storage(problem) => JournalError::Failed(problem),
                damaged @ RowsError::Damaged { .. } => failed(&damaged),
            })?;
            if batches.is_empty() {
                return Err(JournalError::Failed(format!(
                    "batch {from} is missing from its table"
                )));
            }
            self.read.extend(batches);
        }
        Ok(())
    }
}

impl Journal for Local {
    fn identity(&self) -> Id {
        self.store.journal_id()
    }

    fn level(&self) -> Level {
        Level::Synced
    }

    fn most_bytes(&self) -> usize {
        // The length of a value in the store's files has 32 bits.
        u32::MAX as usize
    }

    fn ends(&mut self) -> Result<Ends, JournalError> {
        let kept = self.store.kept();
        Ok(Ends { start: kept.start, head: kept.head })
    }

    fn follow(&mut self, behind: At, bell: &Arc<Bell>) -> Result<(), JournalError> {
        (self.next, self.bell) = (behind.batch + 1, Arc::clone(bell));
        self.read.clear();
        self.read_ahead()
    }

    fn propose(&mut self, serial: u64, batch: Bytes) -> Result<(), JournalError> {
        let effects = Writes::default();
        let fate = match self.store.append(&batch, effects, self.keep_bytes) {
            Ok(number) => Fate::Taken(number),
            Err(error @ StoreError::Order { .. }) => Fate::Refused(error.to_string()),
            Err(error @ (StoreError::Failed(_) | StoreError::Stopped(_))) => {
                return Err(failed(&error));
            }
        };
        self.told.push_back(Event::Fate { serial, fate });
        self.bell.ring();
        Ok(())
    }

    fn poll(&mut self) -> Result<Event, JournalError> {
        if let Some(fate) = self.told.pop_front() {
            return Ok(fate);
        }
        if self.read.is_empty() {
            self.read_ahead()?;
        }
        let Some((number, bytes)) = self.read.pop_front() else { return Ok(Event::CaughtUp) };
        self.next = number + 1;
        Ok(Event::Batch { at: At { batch: number, position: number }, bytes })
    }

    fn drop_before(&mut self, batch: u64, _keep: Duration) -> Result<(), JournalError> {
        self.store.drop_batches(batch).map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Failed(error.to_string())
}
