//! The local journal: batches live in the store, beside what they bring about.
//!
//! Promise: a batch and its effects are one synced commit, so neither is ever there without the
//! other, and no batch needs to be folded twice. So batches are not kept, unless a bound is set:
//! then the last ones are, for diagnosis and for readers that follow; dropping what is over happens
//! while appending, within bounds.

use std::time::Duration;

use bytes::Bytes;

use super::{AppendError, Journal, JournalError, Order};
use crate::rows::{RowsError, Writes};
use crate::store::{Store, StoreError};
use crate::wire::{Id, Level};

/// The engine that needs nothing to be installed: order and durability are this node's own.
#[derive(Debug)]
pub struct Local {
    store: Store,
    keep_bytes: u64,
}

impl Local {
    /// The journal of a store, keeping about the last `keep_bytes` of batches; 0: none.
    pub const fn new(store: Store, keep_bytes: u64) -> Self {
        Self { store, keep_bytes }
    }
}

impl Journal for Local {
    fn identity(&self) -> Id {
        self.store.journal_id()
    }

    fn level(&self) -> Level {
        Level::Synced
    }

    fn order(&self) -> Order {
        Order::Here
    }

    fn most_bytes(&self) -> usize {
        // The length of a value in the store's files has 32 bits.
        u32::MAX as usize
    }

    fn head(&mut self) -> Result<u64, JournalError> {
        Ok(self.store.kept().head)
    }

    fn start(&mut self) -> Result<u64, JournalError> {
        Ok(self.store.kept().start)
    }

    fn append(&mut self, batch: &[u8], effects: Option<Writes>) -> Result<u64, AppendError> {
        let effects = effects.unwrap_or_default();
        self.store.append(batch, effects, self.keep_bytes).map_err(|error| match error {
            StoreError::Order { .. } => AppendError::Refused(error.to_string()),
            StoreError::Failed(_) | StoreError::Stopped(_) => failed(&error).into(),
        })
    }

    fn read(
        &mut self,
        from: u64,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let kept = self.store.kept();
        if from < kept.start {
            return Err(JournalError::Dropped { start: kept.start, wanted: from });
        }
        if from > kept.head + 1 {
            return Err(JournalError::Lost { head: kept.head, wanted: from });
        }
        if from == kept.head + 1 {
            // Who would append is the caller itself: nothing can come, but a loop must not spin.
            std::thread::sleep(wait);
            return Ok(Vec::new());
        }
        let batches = self.store.batches(from, most).map_err(|error| match error {
            RowsError::Storage(problem) => JournalError::Failed(problem),
            damaged @ RowsError::Damaged { .. } => failed(&damaged),
        })?;
        if batches.is_empty() {
            return Err(JournalError::Failed(format!("batch {from} is missing from its table")));
        }
        Ok(batches)
    }

    fn drop_before(&mut self, batch: u64) -> Result<(), JournalError> {
        self.store.drop_batches(batch).map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Failed(error.to_string())
}
