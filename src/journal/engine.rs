//! What an engine is: the trait, and the ways in which one fails.
//!
//! Promise: nothing here knows a store, a node or a thread, so that an engine in memory can be
//! driven without them.

use std::time::Duration;

use bytes::Bytes;

use crate::rows::Writes;
use crate::wire::{Id, Level};

/// Who decides the order of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// This node: a batch and its effects are one commit of the store, and durable with it.
    Here,
    /// The engine: this node proposes, and folds what it reads back, its own batches among others'.
    Elsewhere,
}

/// The engine failed. What to do is the caller's; a node that cannot read on stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Batches below `start` are gone: a store that has not folded them must be copied from
    /// another.
    #[error(
        "the journal begins at batch {start}; this store needs {wanted}: rebuild it from a copy"
    )]
    Dropped {
        /// The first one kept.
        start: u64,
        /// The one asked for.
        wanted: u64,
    },
    /// The journal ends before what was folded: it has lost its tail.
    #[error(
        "the journal ends at batch {head}, before {wanted}: it lost batches; rebuild the store"
    )]
    Lost {
        /// Its last one.
        head: u64,
        /// The one asked for.
        wanted: u64,
    },
    /// The engine or its storage failed; a sync that failed is never tried again.
    #[error("the journal failed: {0}")]
    Failed(String),
}

/// A batch was not appended, or nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written; it may be tried again later.
    #[error("the journal refused the batch: {0}")]
    Refused(String),
    /// It may have been written. The same bytes are to be appended again: the fold takes them once.
    #[error("nobody knows whether the batch was written: {0}")]
    Unknown(String),
    /// The engine is broken; the node stops.
    #[error(transparent)]
    Broken(#[from] JournalError),
}

/// A journal engine, driven by one thread.
pub trait Journal: Send {
    /// Which journal it is; every batch names it.
    fn identity(&self) -> Id;

    /// How durable an appended batch is.
    fn level(&self) -> Level;

    /// Who decides the order.
    fn order(&self) -> Order;

    /// Bytes of the largest batch that it takes; a larger one is refused.
    fn most_bytes(&self) -> usize;

    /// Number of the last batch; 0 when there is none yet.
    ///
    /// # Errors
    /// When the engine fails.
    fn head(&mut self) -> Result<u64, JournalError>;

    /// Number of the first batch still kept; head + 1 when there is none.
    ///
    /// # Errors
    /// When the engine fails.
    fn start(&mut self) -> Result<u64, JournalError>;

    /// Appends a batch: its number, once it is durable at [`Journal::level`]. With
    /// [`Order::Here`] the batch's effects are handed in too and become durable with it, and the
    /// number is head + 1; with [`Order::Elsewhere`] `effects` must be none.
    ///
    /// # Errors
    /// When it was refused, when its fate is unknown, when the engine is broken.
    fn append(&mut self, batch: &[u8], effects: Option<Writes>) -> Result<u64, AppendError>;

    /// Batches from number `from` on, in order without holes, up to about `most` bytes but at
    /// least one where there is one; waits up to `wait` for the first.
    ///
    /// # Errors
    /// [`JournalError::Dropped`] when `from` is below the start, [`JournalError::Lost`] when it is
    /// past head + 1, [`JournalError::Failed`] when the engine fails.
    fn read(
        &mut self,
        from: u64,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Bytes)>, JournalError>;

    /// Lets go of batches below a number; it may keep more.
    ///
    /// # Errors
    /// When the engine fails.
    fn drop_before(&mut self, batch: u64) -> Result<(), JournalError>;
}
