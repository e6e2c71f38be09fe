//! Logs and writers: the part of the fold that decides what is stored, where, and once.
//!
//! Promise: offsets are dense and never given twice; a log id is never given again; an append is
//! named by its writer and sequence and has one outcome for ever. Pure: rows come through
//! [`Rows`](crate::rows::Rows), time as an argument. Promises 2 and 4 of the design are decided
//! here.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod append;
mod derive;
pub mod era;
mod expire;
mod page;
pub mod place;
pub mod record;
mod row;
mod snapshot;

pub use crate::limit::Rule;
pub use append::{Appended, Appends, Entry, MAX_HEAD, Moment, entry_hash};
pub use derive::{STEP_BYTES, STEP_ROWS};
pub use era::Eras;
pub use expire::MAX_EXPIRED;
pub use page::PageRow;
pub use record::Stored;
pub use row::{
    Deriving, LogKind, LogRow, MARK_KEPT, MAX_IN_FLIGHT, Numbered, OriginRow, OutcomeRow,
    OutcomesRow, Paging, SnapshotAt, Sweep, Writer, WriterRow,
};
pub use snapshot::{MAX_UPLOAD_PARTS, MAX_UPLOADS, Part};

use crate::rows::{Cache, Hot, Io, Key, More, RowsError, Table};
use crate::wire::{
    Code, GapReason, MAX_IN_SHARD, Position, Refusal, SnapshotRule, Start, Target, name,
};
use era::Judged;
use record::RecordRow;

/// A name's present log id.
#[derive(Debug, Clone, Copy)]
struct Named(u64);

/// The row of a name.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NameRow {
    /// The log id.
    pub log: u64,
    /// What is to come.
    pub more: More,
}

impl Hot for Named {
    type Key = String;

    fn load(name: &String, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        Ok(io.get::<NameRow>(Table::Names, name.as_bytes())?.map(|row| Self(row.log)))
    }

    fn save(&mut self, name: &String, io: &mut Io<'_>) {
        let row = NameRow { log: self.0, more: More::default() };
        io.put(Table::Names, name.as_bytes().to_vec(), &row);
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
    /// The eras of this history.
    pub eras: Eras,
    /// The batch that is being folded.
    pub batch: u64,
    /// The next number of an origin; numbers begin at 1.
    pub next_origin: u64,
}

/// What an operation on logs came to: done, or refused with the state as it was.
pub type Decided<T> = Result<Result<T, Refusal>, RowsError>;

impl Logs {
    /// No rows loaded; at most about `most` are kept between batches, of about `bytes`.
    pub fn new(most: usize, bytes: usize) -> Self {
        Self {
            rows: Cache::new(most, bytes),
            names: Cache::new(most, bytes),
            next: 1,
            rules: Vec::new(),
            auto_create: true,
            eras: Eras::default(),
            batch: 0,
            next_origin: 1,
        }
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

    /// Makes a log with pages of so many records (0: without), or finds it as it is: its id, and
    /// whether it is new.
    ///
    /// # Errors
    /// When storage fails.
    pub fn create(
        &mut self,
        name: &str,
        page_records: u64,
        time: u64,
        io: &Io<'_>,
    ) -> Decided<(u64, bool)> {
        if name::check(name).is_err() {
            return Ok(Err(Code::BadName.into()));
        }
        if let Some(id) = self.find(name, io)? {
            return Ok(Ok((id, false)));
        }
        if self.next > MAX_IN_SHARD {
            let message = "this shard has given its last log id (2^45-1)";
            return Ok(Err(Refusal::because(Code::LogFull, message)));
        }
        let id = self.next;
        self.next += 1;
        let rule = self.ruled(name);
        let mut row = LogRow::new(name, rule, self.batch, time);
        row.paging.records = page_records;
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
                None if self.auto_create => Ok(self.create(name, 0, time, io)?.map(|(id, _)| id)),
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
        row.deriving = None;
        let name = row.name.clone();
        self.names.forget(&name);
        io.remove(Table::Names, name.into_bytes());
        snapshot::end_uploads(id, io)?;
        Ok(Ok(()))
    }

    /// Whether a log's start would move, were it trimmed up to `to`.
    ///
    /// # Errors
    /// When storage fails.
    pub fn trims(&mut self, id: u64, to: u64, io: &Io<'_>) -> Decided<bool> {
        let Some(row) = self.rows.get(&id, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        if to > row.head {
            return Ok(Err(Code::BadOffset.into()));
        }
        if row.rule != SnapshotRule::None && row.newest_snapshot().is_none_or(|at| to > at) {
            return Ok(Err(Code::TrimRule.into()));
        }
        Ok(Ok(to > row.start))
    }

    /// Moves a log's start up to `to`. The caller has seen to those who still needed it. Snapshots
    /// that another rule has left behind go with the records before which they stand.
    ///
    /// # Errors
    /// When storage fails.
    pub fn trim(&mut self, id: u64, to: u64, io: &mut Io<'_>) -> Decided<Option<Trimmed>> {
        match self.trims(id, to, io)? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(None)),
            Err(refusal) => return Ok(Err(refusal)),
        }
        let Some(row) = self.rows.get(&id, io)?.cloned() else { return Ok(Ok(None)) };
        let from = row.start;
        let before = match self.record(id, to, io)? {
            Some(first) => first.before(),
            None if to == row.head => row.bytes,
            None => return Err(missing(id, to)),
        };
        let last = self.record(id, to - 1, io)?.ok_or_else(|| missing(id, to - 1))?.place();
        if let Some(row) = self.rows.change(&id, io)? {
            row.start = to;
            row.start_bytes = before;
            row.trimmed = last;
            if row.rule != SnapshotRule::Client {
                snapshot::drop_passed(id, row, io);
            }
        }
        Ok(Ok(Some(Trimmed { log: id, from, to, reason: GapReason::Trimmed })))
    }

    /// A record that is kept, or is made in this very batch.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn record(
        &self,
        log: u64,
        offset: u64,
        io: &Io<'_>,
    ) -> Result<Option<RecordRow>, RowsError> {
        // The store first: a record is pending only within the batch that makes it.
        let stored = io.stored().get(Table::Records, &Key::of(log).then(offset).build())?;
        let pending = || io.writes.records.iter().find(|(of, at, _)| (*of, *at) == (log, offset));
        let bytes = stored.or_else(|| pending().map(|(_, _, value)| value.clone()));
        bytes.map(|bytes| RecordRow::read(Table::Records, &bytes)).transpose()
    }

    /// Whether all that a client states of this shard is in this history.
    ///
    /// # Errors
    /// When storage fails.
    pub fn judge(&mut self, positions: &[Position], io: &Io<'_>) -> Result<bool, RowsError> {
        // The batch that is being folded was seen by nobody yet.
        let newest = self.batch.saturating_sub(1);
        for position in positions.iter().filter(|position| position.shard() == 0) {
            let ours = match self.eras.judge(position, newest) {
                Judged::Ours => true,
                Judged::Other => false,
                Judged::If(tag) => {
                    let known = place::chain_after(position.batch, newest, self, io)?;
                    known.is_none_or(|known| known == tag)
                }
            };
            if !ours {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a reader begins that names a time: at the first kept record that was taken then or
    /// later, which costs a read for each halving of what is kept. Any other word stays as it is.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn located(
        &mut self,
        log: u64,
        start: Start,
        io: &Io<'_>,
    ) -> Result<Start, RowsError> {
        let Start::Time(time) = start else { return Ok(start) };
        let (mut low, mut high) = self.row(log, io)?.map_or((0, 0), |row| (row.start, row.head));
        while low < high {
            let middle = low + (high - low) / 2;
            // Times never fall along a log.
            match self.record(log, middle, io)? {
                Some(record) if record.time() < time => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(Start::Offset(low))
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

fn missing(log: u64, offset: u64) -> RowsError {
    let problem = format!("no record {offset} in log {log}");
    RowsError::Damaged { table: Table::Records.name(), problem }
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
