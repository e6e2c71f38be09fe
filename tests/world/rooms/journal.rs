//! Of the journal what needs no store: the trait, and the engine in memory.

#[path = "../../../src/journal/bell.rs"]
mod bell;
#[path = "../../../src/journal/engine.rs"]
mod engine;
#[path = "../../../src/journal/memory.rs"]
mod memory;

pub use bell::Bell;
pub use engine::{At, Ends, Event, Fate, Journal, JournalError};
pub use memory::{Faults, MemoryCluster, MemoryJournal};
