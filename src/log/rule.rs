//! Rules by pattern of names: how a log's state is kept, and for how long its records.

use serde::{Deserialize, Serialize};

use crate::wire::{Pattern, SnapshotRule};

/// One rule; part of the fold's state, set by command from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Which logs.
    pub pattern: Pattern,
    /// How their state is kept; a log keeps the kind it was made with.
    pub snapshot: SnapshotRule,
    /// A client snapshot is asked for when the tail is this many records long.
    pub ask_after: u64,
    /// Keep at most so many records; 0: no bound.
    pub retain_records: u64,
    /// Keep at most so many bytes; 0: no bound.
    pub retain_bytes: u64,
    /// Keep records for so many seconds; 0: no bound.
    pub retain_seconds: u64,
}
