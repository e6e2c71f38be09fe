//! The node: what it is told (configuration), and all rooms wired together.

pub mod config;
pub mod secret;
