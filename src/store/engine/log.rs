//! The engine's log, read as the engine writes it.
//!
//! Promise: what is told of a commit is what stands in the file; nothing is repaired, guessed or
//! changed. The format is that of version 3 of the engine's log: entries of a tag and a body,
//! little-endian. A commit is a start (count of entries, the commit's number), entries (a key and
//! a value, or a table that is cleared), and an end (checksum over the entries, then four bytes
//! that are always the same). Neither count nor number lies under the checksum.

use std::io::{self, Read};

use serde::Deserialize;
use xxhash_rust::xxh3::Xxh3;

use crate::store::write::HEAD;
use crate::wire::codec;

/// Tags of entries.
pub(super) const START: u8 = 1;
const ITEM: u8 = 2;
pub(super) const END: u8 = 3;
const CLEAR: u8 = 4;
/// Ends the entry that ends a commit.
pub(super) const MAGIC: &[u8; 4] = b"FJL\x03";
/// Bytes of the entry that ends a commit: tag, checksum, and the four.
pub(super) const END_BYTES: usize = 13;

/// A commit that has a start and an end.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// Entries that its start announces.
    pub count: u32,
    /// Entries that it has.
    pub entries: u32,
    /// Its number in the engine's order.
    pub number: u64,
    /// Whether its checksum is that of its entries.
    pub sound: bool,
    /// The tables that it writes to, by the engine's numbers.
    pub tables: Vec<u64>,
    /// What the store itself says in it, which it does in all but the first.
    pub told: Option<Told>,
}

/// The row `local/head`, last in a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// The engine's number of the table `local`.
    pub table: u64,
    /// How many commits there were, with this one.
    pub commits: u64,
    /// The engine's number of the commit before; 0 where an older program wrote the row.
    pub before: u64,
}

/// What stands at a place of the log.
#[derive(Debug)]
pub(super) enum Found {
    /// A commit with a start and an end.
    Commit(Commit),
    /// No start: the end of what was written, or damage.
    NoStart,
    /// A commit that the log's end cuts off.
    Short,
    /// Something that no commit begins with.
    Wrong,
}

/// How reading an entry ended.
enum Stop {
    Short,
    Wrong,
}

/// A log that is read from its beginning.
pub(super) struct Log<R> {
    reader: R,
    length: u64,
    left: u64,
    /// Bytes that cannot be read are not bytes that are missing.
    failed: Option<io::Error>,
}

impl<R: Read> Log<R> {
    pub(super) const fn new(reader: R, length: u64) -> Self {
        Self { reader, length, left: length, failed: None }
    }

    /// Bytes read so far.
    pub(super) const fn at(&self) -> u64 {
        self.length - self.left
    }

    /// What stands here.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Found> {
        let found = match self.array() {
            Ok([START]) => self.commit(),
            Ok(_) | Err(Stop::Short) => Ok(Found::NoStart),
            Err(stop) => Err(stop),
        };
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        Ok(found.unwrap_or_else(|stop| match stop {
            Stop::Short => Found::Short,
            Stop::Wrong => Found::Wrong,
        }))
    }

    fn commit(&mut self) -> Result<Found, Stop> {
        let count = u32::from_le_bytes(self.array()?);
        let number = u64::from_le_bytes(self.array()?);
        let mut commit = Commit { count, number, ..Commit::default() };
        let mut hash = Xxh3::new();
        let mut entry = Vec::new();
        loop {
            entry.clear();
            let [tag] = self.array()?;
            entry.push(tag);
            let table = match tag {
                ITEM => self.item(&mut entry)?,
                CLEAR => {
                    let table: [u8; 8] = self.array()?;
                    entry.extend_from_slice(&table);
                    u64::from_le_bytes(table)
                }
                END => {
                    let told = u64::from_le_bytes(self.array()?);
                    if self.array()? != *MAGIC {
                        return Err(Stop::Wrong);
                    }
                    commit.sound = told == hash.digest();
                    return Ok(Found::Commit(commit));
                }
                _ => return Err(Stop::Wrong),
            };
            hash.update(&entry);
            commit.entries = commit.entries.saturating_add(1);
            commit.told = told(table, &entry);
            if !commit.tables.contains(&table) {
                commit.tables.push(table);
            }
        }
    }

    /// A key and a value: kind, compression, table, three lengths, and both. Tells the table.
    fn item(&mut self, entry: &mut Vec<u8>) -> Result<u64, Stop> {
        let head: [u8; 20] = self.array()?;
        entry.extend_from_slice(&head);
        let [_, _, a, b, c, d, e, f, g, h, k0, k1, _, _, _, _, kept @ ..] = head;
        let key = usize::from(u16::from_le_bytes([k0, k1]));
        let value = usize::try_from(u32::from_le_bytes(kept)).map_err(|_| Stop::Wrong)?;
        self.read_exact(key + value, entry)?;
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// The next bytes.
    fn read_exact(&mut self, many: usize, into: &mut Vec<u8>) -> Result<(), Stop> {
        // Lengths of what was not written whole may say anything.
        self.left.checked_sub(many as u64).ok_or(Stop::Short)?;
        let from = into.len();
        into.resize(from + many, 0);
        self.fill(into.get_mut(from..).unwrap_or_default())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.left.checked_sub(N as u64).ok_or(Stop::Short)?;
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Stop> {
        if let Err(error) = self.reader.read_exact(bytes) {
            self.failed = Some(error);
            return Err(Stop::Short);
        }
        self.left -= bytes.len() as u64;
        Ok(())
    }
}

/// The beginning of `local/head`, and what was added to it later.
#[derive(Deserialize)]
struct Row {
    commits: u64,
    _start: u64,
    _head: u64,
    _bytes: u64,
}

/// What an entry says, if it is that row.
fn told(table: u64, entry: &[u8]) -> Option<Told> {
    let (tag, rest) = entry.split_first()?;
    let value = rest.get(20..)?.strip_prefix(HEAD)?;
    let key = rest.get(10..12)?;
    if *tag != ITEM || key != u16::try_from(HEAD.len()).ok()?.to_le_bytes() {
        return None;
    }
    let row: Row = codec::from_bytes("local", value).ok()?;
    let whole = codec::from_bytes::<(Row, u64)>("local", value);
    Some(Told { table, commits: row.commits, before: whole.map_or(0, |(_, before)| before) })
}
