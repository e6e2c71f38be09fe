//! The fold's own rows: how far it has come, and what it must agree on.
//!
//! Layouts: `docs/storage.md` §3.1.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{FOLD_VERSION, Settings};
use crate::log::Eras;
use crate::log::place::tag;
use crate::rows::{Io, More, Rows, RowsError, Table};
use crate::wire::{ChainTag, Id, Position};

/// Key of [`Head`] in [`Table::Meta`].
pub(super) const HEAD: &[u8] = b"head";
/// Key of [`SettingsRow`] in [`Table::Meta`].
pub(super) const SETTINGS: &[u8] = b"settings";

/// How far a store has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The journal it is folded from.
    pub journal: Id,
    /// The last batch.
    pub batch: u64,
    /// The chain after it.
    pub chain: [u8; 32],
    /// The running hash of all rows written.
    pub rows: ChainTag,
    /// The fold's time, milliseconds since 1970.
    pub time: u64,
    /// The next log id.
    pub next_log: u64,
    /// The next number of an origin.
    pub next_origin: u64,
    /// Slots given out.
    pub active: u64,
    /// Records ever stored, of all logs.
    pub records: u64,
    /// The version of the fold that the journal is in.
    pub version: u16,
    /// What is to come.
    pub more: More,
}

/// The tag of the highest generation of a connection that was forgotten.
const FORGOTTEN: u32 = 1;
/// The tag of the highest run of a node that was forgotten.
const FORGOTTEN_RUN: u32 = 2;

impl Head {
    /// The highest generation of a connection that was forgotten; 0: none was.
    pub fn forgotten(&self) -> u64 {
        self.number(FORGOTTEN)
    }

    /// The highest run of a node that was forgotten; 0: none was.
    pub fn forgotten_run(&self) -> u64 {
        self.number(FORGOTTEN_RUN)
    }

    /// Keeps both; 0 leaves no trace.
    pub(super) fn set_forgotten(&mut self, generation: u64, run: u64) {
        for (tag, number) in [(FORGOTTEN, generation), (FORGOTTEN_RUN, run)] {
            if number > 0 {
                self.more.set(tag, Bytes::copy_from_slice(&number.to_be_bytes()));
            }
        }
    }

    fn number(&self, tag: u32) -> u64 {
        let number = |bytes: &Bytes| bytes.as_ref().try_into().map_or(0, u64::from_be_bytes);
        self.more.get(tag).map_or(0, number)
    }

    /// Before the first batch of a journal.
    pub fn new(journal: Id) -> Self {
        Self {
            journal,
            batch: 0,
            chain: [0; 32],
            rows: ChainTag::default(),
            time: 0,
            next_log: 1,
            next_origin: 1,
            active: 0,
            records: 0,
            version: FOLD_VERSION,
            more: More::default(),
        }
    }
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SettingsRow {
    /// The settings.
    pub settings: Settings,
    /// What is to come.
    pub more: More,
}

/// How far a store has come; none for a new one.
///
/// # Errors
/// When storage fails or the row is damaged.
pub fn head_of(rows: &dyn Rows) -> Result<Option<Head>, RowsError> {
    Io::new(rows).get(Table::Meta, HEAD)
}

/// Where in its history a store is; none for a new one.
///
/// # Errors
/// When storage fails or a row is damaged.
pub fn position_of(rows: &dyn Rows) -> Result<Option<Position>, RowsError> {
    let Some(head) = head_of(rows)? else { return Ok(None) };
    let chain = Some(tag(&head.chain));
    let position = Eras::load(&Io::new(rows))?.position(head.batch);
    Ok(position.map(|position| Position { chain, ..position }))
}
