//! Whole nodes in one process on one journal, and the contract that each journal keeps.

mod journal_contract;
mod same_state;
mod two_nodes;
