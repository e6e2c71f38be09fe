//! The fold: batches of commands in, writes and effects out, the same on every node.
//!
//! Promise: deterministic. It has no clock, no randomness and no IO but the rows it is given; time
//! is a field of the batch and never goes back. A batch is applied once: a repeat of a node's
//! batch, or one proposed on a journal that is not this one, changes nothing or stops the node.
//! This is promise 13 of the design; `docs/storage.md` §4 and §5 have the layouts.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod apply;
mod command;
mod drift;
mod head;
mod revoked;

pub use apply::{Applied, CacheSizes, Effect, Fold, FoldError, Reply, folded_time};
pub use command::{Alive, Batch, Command, FOLD_VERSION, Header, Known, Settings, Versions};
pub use head::{Head, head_of, position_of};
pub use revoked::each as each_revoked;
