//! Whole nodes in one process on one journal, and the contract that each journal keeps.

mod journal_contract;
#[path = "../support/nats.rs"]
mod nats;
mod same_state;
mod two_nodes;
