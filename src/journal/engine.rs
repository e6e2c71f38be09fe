//! What an engine is: the trait, what it tells, and the ways in which one fails.
//!
//! Promise: nothing here knows a store, a node or a thread, so that an engine in memory can be
//! driven without them. An engine is asked, and never makes its caller wait: what comes of it is
//! polled, and a bell rings when there is something.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::bell::Bell;
use crate::wire::{Id, Level};

/// The engine failed. What to do is the caller's; a node that cannot read on stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Batches below `start` are gone: a store that has not folded them must be copied from
    /// another.
    #[error(
        "the journal begins at batch {start}; this store needs {wanted}: rebuild it from a copy: \
         `highwater join` makes one in another folder, journal.copy_from has the node do it"
    )]
    Dropped {
        /// The first one kept.
        start: u64,
        /// The one asked for.
        wanted: u64,
    },
    /// The journal ends before what was folded: it has lost its tail.
    #[error(
        "the journal ends with batch {head}, and batch {wanted} is due: it has lost its end. Stop \
         all nodes; then give it its end back, or begin another behind the folder that has come \
         furthest (`highwater journal move`)"
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

/// A place between two batches: behind that one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// Number of the batch; 0: before the first. Numbers are dense, whatever the engine's are.
    pub batch: u64,
    /// Where the engine has it, in its own numbers; 0: not known, as before the first.
    pub position: u64,
}

/// What a journal holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Number of the first batch still kept; head + 1 when there is none.
    pub start: u64,
    /// Number of the last batch; 0 when there is none yet.
    pub head: u64,
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in the journal, by that number, durable at [`Journal::level`].
    Taken(u64),
    /// Nothing was written; it may be proposed again later.
    Refused(String),
    /// It may have been written, or be written yet. The same bytes are to be proposed again: the
    /// fold takes them once.
    Unknown(String),
}

/// What an engine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next batch of the journal, whoever proposed it.
    Batch {
        /// Where it stands.
        at: At,
        /// What was proposed.
        bytes: Bytes,
    },
    /// What became of a proposal of this node.
    Fate {
        /// The serial that it was proposed by.
        serial: u64,
        /// What the engine said of it, or that it said nothing in time.
        fate: Fate,
    },
    /// There is nothing more to tell at the moment.
    CaughtUp,
}

/// A journal engine that decides the order of batches, as one node drives it from one thread.
pub trait Journal: Send {
    /// Which journal it is; every batch names it.
    fn identity(&self) -> Id;

    /// How durable a batch is that was taken.
    fn level(&self) -> Level;

    /// Bytes of the largest batch that it takes; a larger one is refused.
    fn most_bytes(&self) -> usize;

    /// What it holds, asked of the engine now: this waits for its answer.
    ///
    /// # Errors
    /// When the engine fails.
    fn ends(&mut self) -> Result<Ends, JournalError>;

    /// From now on batches behind that place are told, in order without holes, and the bell rings
    /// when there is something to poll.
    ///
    /// # Errors
    /// [`JournalError::Dropped`] when the next batch is below the start, [`JournalError::Lost`]
    /// when the place is past the head, [`JournalError::Failed`] when the engine fails; all three
    /// may also come from [`Journal::poll`].
    fn follow(&mut self, behind: At, bell: &Arc<Bell>) -> Result<(), JournalError>;

    /// Sends a batch on its way; its fate is told once for each time. Several may be on their way:
    /// they arrive in this order, but one may be refused or lost and those behind it taken.
    ///
    /// # Errors
    /// When the engine is broken.
    fn propose(&mut self, serial: u64, batch: Bytes) -> Result<(), JournalError>;

    /// What is to be told next; it does not wait.
    ///
    /// # Errors
    /// As [`Journal::follow`].
    fn poll(&mut self) -> Result<Event, JournalError>;

    /// Lets go of batches below a number that it has had for longer than `keep`, in its own time;
    /// it may keep more. An engine without a clock goes by the number alone.
    ///
    /// # Errors
    /// When the engine is broken. One that is away lets go of more the next time it is told.
    fn drop_before(&mut self, batch: u64, keep: Duration) -> Result<(), JournalError>;
}
