//! The node: what it is told (configuration), and all rooms wired together.

pub mod check;
mod clock;
pub mod config;
mod engine;
mod files;
pub mod folder;
mod keeper;
mod known_versions;
mod logging;
mod revoked;
mod run;
pub mod secret;
mod watch;

pub use crate::journal::{Finding, Weight};
pub use engine::{EngineError, Moved, examine, move_journal};
pub use run::{Ended, Node, StartError, run};
