//! The journal: the ordered, durable sequence of batches from which every node's state is folded.
//!
//! Promise: a batch that was appended is read back by every node, whole, once, in one order, with
//! the same number. Engines differ in who decides that order and in how durable it is; the fold
//! above is the same on all of them. One contract suite holds them
//! (`tests/nodes/journal_contract.rs`).

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod bell;
mod commit;
mod engine;
mod fence;
mod follow;
mod local;
mod memory;
mod nats;

pub use bell::Bell;
pub use commit::{
    Committer, Engine, Inbox, Membership, QueueLimits, Stopped, Told, catch_up, forget_position,
};
pub use engine::{At, Ends, Event, Fate, Journal, JournalError};
pub use fence::{Fence, SHUT_AFTER};
pub use follow::{Follower, Followers};
pub use local::Local;
pub use memory::{Faults, MemoryCluster, MemoryJournal};
pub use nats::{Finding, NatsJournal, NatsSettings, Weight};
