//! Backups: everything that the fold keeps, of one moment, as one stream of bytes.
//!
//! Promise: a backup is a state that the node was in, whole, between two batches, and holds all
//! that was acknowledged before it was asked for; it is taken while the node works on. One that is
//! cut or altered anywhere is refused. What is made of it holds the same rows, by the same hash,
//! under the id of a node of its own.
//!
//! The form (`docs/storage.md` §9): a line that names it; a head, as JSON; rows by table and key;
//! an end, as JSON; and the hash of all bytes before.

mod export;
mod read;
mod restore;

pub use export::Export;
pub use read::{BackupError, Reader, Row};
pub use restore::{RestoreError, Restored, clear_unfinished, restore};

use blake3::Hasher;
use serde::{Deserialize, Serialize};

use crate::rows::Table;
use crate::wire::{Id, Position};

/// What a backup begins with.
const MAGIC: &[u8] = b"highwater backup 1\n";
/// Stands where a row's table would, before the end.
const END: u8 = 0xFF;
/// Most bytes of the head, and of the end.
const MOST_JSON: u32 = 64 << 10;
/// Most bytes of a row's value; the largest are parts of snapshots and records.
const MOST_VALUE: u32 = 1 << 30;

/// What a backup says first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the rows, as a data folder's `VERSION` has it.
    pub format: String,
    /// The program that wrote it.
    pub program: String,
    /// The journal whose state it is.
    pub journal: Id,
    /// The node it was taken of.
    pub node: Id,
    /// The last batch of the local journal in it.
    pub batch: u64,
    /// Where in the history it is; none where nothing was folded yet.
    pub position: Option<Position>,
    /// When it was taken, milliseconds since 1970.
    pub time: u64,
}

/// What a backup says last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many rows it has.
    pub rows: u64,
    /// The hash of the state: BLAKE3 over all rows as they stand in a backup, in hexadecimal.
    pub state: String,
}

/// A row as it stands in a backup: table u8, length of the key u16, of the value u32, both
/// little-endian; key; value.
fn write_row(table: Table, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(table as u8);
    // No key is longer than 263 bytes, no value than a commit may be.
    out.extend_from_slice(&u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// A length and JSON.
fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    // Plain structures of texts and numbers: this does not fail, and an empty one is refused by
    // every reader.
    let text = serde_json::to_vec(value).unwrap_or_default();
    out.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&text);
}

/// The hash of a state, row by row, and how many there were.
#[derive(Debug, Default)]
struct State {
    hash: Hasher,
    rows: u64,
}

impl State {
    fn update(&mut self, row: &[u8]) {
        self.hash.update(row);
        self.rows += 1;
    }

    fn end(&self) -> End {
        End { rows: self.rows, state: self.hash.finalize().to_hex().to_string() }
    }
}
