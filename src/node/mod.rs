//! The node: what it is told (configuration), and all rooms wired together.

pub mod check;
mod clock;
pub mod config;
mod files;
pub mod folder;
mod keeper;
mod revoked;
mod run;
pub mod secret;
mod watch;

pub use run::{Node, StartError, run};
