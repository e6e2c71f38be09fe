//! Of the journal what needs no store: the trait, and the engine in memory.

#[path = "../../../src/journal/engine.rs"]
mod engine;
#[path = "../../../src/journal/memory.rs"]
mod memory;

pub use engine::{AppendError, Journal, JournalError, Order};
pub use memory::{Faults, MemoryCluster, MemoryJournal};
