//! Logs and writers: the part of the fold that decides what is stored, where, and once.
//!
//! Promise: offsets are dense and never given twice; a log id is never given again; an append is
//! named by its writer and sequence and has one outcome for ever. Pure: rows come through
//! [`rows::Rows`], time as an argument. Promises 2 and 4 of the design are decided here.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod append;
mod row;
pub mod rows;
mod snapshot;

pub use crate::limit::Rule;
pub use append::{Appended, Appends, Entry, MAX_HEAD, Moment, entry_hash};
pub use row::{
    LogRow, MARK_KEPT, MAX_IN_FLIGHT, OutcomeRow, SnapshotAt, Stored, Writer, WriterRow,
};
pub use snapshot::{MAX_UPLOAD_PARTS, MAX_UPLOADS, Part};

use crate::wire::{Code, GapReason, Refusal, SnapshotRule, Target, name};
use rows::{Cache, Hot, Io, Key, RowsError, Table};

/// A name's present log id.
#[derive(Debug, Clone, Copy)]
struct Named(u64);

impl Hot for Named {
    type Key = String;

    fn load(name: &String, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        Ok(io.get(Table::Names, name.as_bytes())?.map(Named))
    }

    fn save(&mut self, name: &String, io: &mut Io<'_>) {
        io.put(Table::Names, name.as_bytes().to_vec(), &self.0);
    }

    fn weight(&self) -> usize {
        // The key is the name: as long as most are.
        name::MAX_NAME_BYTES / 2
    }
}

/// All logs, hot and cold.
#[derive(Debug)]
pub struct Logs {
    rows: Cache<LogRow>,
    names: Cache<Named>,
    /// The next log id; ids begin at 1.
    pub next: u64,
    /// Rules by pattern, first match wins.
    pub rules: Vec<Rule>,
    /// Whether a log is made by its first append or subscription.
    pub auto_create: bool,
}

/// What an operation on logs came to: done, or refused with the state as it was.
pub type Decided<T> = Result<Result<T, Refusal>, RowsError>;

impl Logs {
    /// No rows loaded; at most about `most` are kept between batches, of about `bytes`.
    pub fn new(most: usize, bytes: usize) -> Self {
        let names = Cache::new(most, bytes);
        Self { rows: Cache::new(most, bytes), names, next: 1, rules: Vec::new(), auto_create: true }
    }

    /// The row of a log id, also of a deleted one.
    ///
    /// # Errors
    /// When storage fails.
    pub fn row(&mut self, id: u64, io: &Io<'_>) -> Result<Option<&LogRow>, RowsError> {
        self.rows.get(&id, io)
    }

    /// The row of a log id, to change.
    ///
    /// # Errors
    /// When storage fails.
    pub fn change(&mut self, id: u64, io: &Io<'_>) -> Result<Option<&mut LogRow>, RowsError> {
        self.rows.change(&id, io)
    }

    /// The present log of a name.
    ///
    /// # Errors
    /// When storage fails.
    pub fn find(&mut self, name: &str, io: &Io<'_>) -> Result<Option<u64>, RowsError> {
        Ok(self.names.get(&name.to_owned(), io)?.map(|named| named.0))
    }

    /// The first rule whose pattern matches.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.pattern.matches(name))
    }

    /// Makes a log, or finds it: its id, and whether it is new.
    ///
    /// # Errors
    /// When storage fails.
    pub fn create(&mut self, name: &str, time: u64, io: &Io<'_>) -> Decided<(u64, bool)> {
        if name::check(name).is_err() {
            return Ok(Err(Code::BadName.into()));
        }
        if let Some(id) = self.find(name, io)? {
            return Ok(Ok((id, false)));
        }
        let id = self.next;
        self.next += 1;
        let row = LogRow {
            name: name.to_owned(),
            head: 0,
            start: 0,
            bytes: 0,
            start_bytes: 0,
            rule: self.rule(name).map_or(SnapshotRule::None, |rule| rule.snapshot),
            floor: 0,
            snapshots: Vec::new(),
            created: time,
            appended: time,
            deleted: false,
        };
        self.rows.insert(id, row);
        self.names.insert(name.to_owned(), Named(id));
        Ok(Ok((id, true)))
    }

    /// The log that is meant: made where it is missing and that is allowed.
    ///
    /// # Errors
    /// When storage fails.
    pub fn resolve(&mut self, to: &Target, time: u64, io: &Io<'_>) -> Decided<u64> {
        match to {
            Target::Log(id) => {
                let alive = self.row(*id, io)?.is_some_and(|row| !row.deleted);
                Ok(if alive { Ok(*id) } else { Err(Code::Epoch.into()) })
            }
            Target::Name(name) => match self.find(name, io)? {
                Some(id) => Ok(Ok(id)),
                None if self.auto_create => Ok(self.create(name, time, io)?.map(|(id, _)| id)),
                None => Ok(Err(Code::NoLog.into())),
            },
        }
    }

    /// Deletes a log; its id is gone for ever, its name may be given to a new log. Records,
    /// snapshots and subscriptions are taken away later, when their tables are compacted.
    ///
    /// # Errors
    /// When storage fails.
    pub fn delete(&mut self, id: u64, io: &mut Io<'_>) -> Decided<()> {
        let Some(row) = self.rows.change(&id, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        row.deleted = true;
        row.start = row.head;
        row.start_bytes = row.bytes;
        row.snapshots.clear();
        let name = row.name.clone();
        self.names.forget(&name);
        io.remove(Table::Names, name.into_bytes());
        snapshot::end_uploads(id, io)?;
        Ok(Ok(()))
    }

    /// Moves a log's start up to `to`. The caller has seen to those who still needed it.
    ///
    /// # Errors
    /// When storage fails.
    pub fn trim(&mut self, id: u64, to: u64, io: &Io<'_>) -> Decided<Option<Trimmed>> {
        let Some(row) = self.rows.get(&id, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        if to > row.head {
            return Ok(Err(Code::BadOffset.into()));
        }
        if row.rule != SnapshotRule::None && row.newest_snapshot().is_none_or(|at| to > at) {
            return Ok(Err(Code::TrimRule.into()));
        }
        let from = row.start;
        if to <= from {
            return Ok(Ok(None));
        }
        let before = if to == row.head { row.bytes } else { bytes_before(id, to, io)? };
        if let Some(row) = self.rows.change(&id, io)? {
            row.start = to;
            row.start_bytes = before;
        }
        Ok(Ok(Some(Trimmed { log: id, from, to, reason: GapReason::Trimmed })))
    }

    /// Saves what has changed.
    pub fn save(&mut self, io: &mut Io<'_>) {
        self.names.save(io);
        self.rows.save(io);
    }

    /// Holds the caches to their bound; between batches only.
    pub fn shrink(&mut self) {
        self.names.shrink();
        self.rows.shrink();
    }
}

/// Bytes of the log's records below an offset that is kept.
fn bytes_before(id: u64, offset: u64, io: &Io<'_>) -> Result<u64, RowsError> {
    // The store first: a record is pending only within the batch that makes it.
    let stored = io.stored().get(Table::Records, &Key::of(id).then(offset).build())?;
    let pending = || io.writes.records.iter().find(|(log, at, _)| (*log, *at) == (id, offset));
    let bytes = stored.or_else(|| pending().map(|(_, _, value)| value.clone()));
    let bytes = bytes.ok_or_else(|| RowsError::Damaged {
        table: Table::Records.name(),
        problem: format!("no record {offset} in log {id}"),
    })?;
    Ok(rows::read_row::<Stored>(Table::Records, &bytes)?.before)
}

/// A range that a log no longer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trimmed {
    /// The log.
    pub log: u64,
    /// First offset gone.
    pub from: u64,
    /// First offset kept.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}
