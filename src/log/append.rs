//! The fold over appends: sequence, repeat, condition, offset.
//!
//! A writer's appends are taken in its order only: an item is taken when the sequence its writer
//! sent before it is the writer's mark. So a lost or refused item holds back those after it. A
//! repeat gets the answer it got before, for as long as the client has not confirmed it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::row::{MAX_IN_FLIGHT, OutcomeRow, Stored, Writer};
use super::rows::{Cache, Io, Key, RowsError, Table};
use super::{Decided, Logs};
use crate::wire::{
    Answer, Answers, Code, Id, Level, MAX_OFFSET, Origin, Outcome, Place, Record, Refusal,
    SnapshotRule, Target, codec, name,
};

/// The head at which a log is full: its last offset is one below.
pub const MAX_HEAD: u64 = MAX_OFFSET;

/// One append on its way into the fold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The writer's number for it.
    pub seq: u64,
    /// The sequence that the writer sent before.
    pub prev: u64,
    /// The log.
    pub to: Target,
    /// Only if the head stands here.
    pub if_head: Option<u64>,
    /// Hash of what is asked, by [`entry_hash`].
    pub hash: [u8; 16],
    /// A refusal that was decided before the fold, to be recorded by it.
    pub verdict: Option<Refusal>,
    /// What to store; empty where there is a verdict.
    pub record: Record,
}

/// What makes two items of one sequence the same: log, condition and record.
pub fn entry_hash(to: &Target, if_head: Option<u64>, record: &Record) -> [u8; 16] {
    let hash = blake3::hash(&codec::to_bytes(&(to, if_head, record)));
    let mut short = [0; 16];
    short.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    short
}

/// Appends of one writer, as a command carries them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appends {
    /// Whose they are.
    pub user: String,
    /// The writer.
    pub writer: Id,
    /// The connection they came through.
    pub connection: Id,
    /// The writer's oldest sequence without an answer.
    pub oldest: u64,
    /// The node made the writer for this command alone: nobody can ask for its answers or go on
    /// from its mark, so nothing is kept of it.
    pub once: bool,
    /// The items.
    pub entries: Vec<Entry>,
}

/// What a batch has stored in one log: the first offset, and the records.
pub type Appended = (u64, u64, Arc<Stored>);

/// Where and when a batch happens.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Number of the batch.
    pub batch: u64,
    /// Next index within it.
    pub index: u32,
    /// Its time, milliseconds since 1970.
    pub time: u64,
    /// The time stands still: the proposer's clock is behind what the fold has seen.
    pub stands: bool,
    /// How durable what it stores is.
    pub level: Level,
}

impl Moment {
    /// The next place.
    pub fn place(&mut self) -> Place {
        let place = Place { batch: self.batch, index: self.index };
        self.index += 1;
        place
    }
}

impl Logs {
    /// Takes appends: an answer for each, and what was stored. Refused as a whole when the writer
    /// is another user's.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn append(
        &mut self,
        writers: &mut Cache<Writer>,
        appends: Appends,
        at: &mut Moment,
        io: &mut Io<'_>,
        stored: &mut Vec<Appended>,
    ) -> Decided<Answers> {
        let Appends { user, writer: id, connection, oldest, once, entries } = appends;
        if once {
            let mut writer = Writer::new(&user);
            let origin = Origin { user, writer: id, connection };
            return self.take(&mut writer, entries, &origin, at, io, stored).map(Ok);
        }
        if writers.get(&id, io)?.is_none() {
            // A writer begins with its first append; anything else leaves no row behind.
            if !entries.iter().any(|entry| entry.prev == 0) {
                return Ok(Ok(nothing_known(id, &entries)));
            }
            writers.insert(id, Writer::new(&user));
        }
        let missing = || RowsError::Storage("a writer vanished from the cache".to_owned());
        let writer = writers.change(&id, io)?.ok_or_else(missing)?;
        if writer.row.user != user {
            return Ok(Err(Code::UnknownWriter.into()));
        }
        writer.confirm(oldest);
        writer.row.used = at.time;
        writer.row.retired = false;
        let origin = Origin { user, writer: id, connection };
        self.take(writer, entries, &origin, at, io, stored).map(Ok)
    }

    /// Takes a writer's entries, one after another; it keeps what becomes of them.
    fn take(
        &mut self,
        writer: &mut Writer,
        entries: Vec<Entry>,
        origin: &Origin,
        at: &mut Moment,
        io: &mut Io<'_>,
        stored: &mut Vec<Appended>,
    ) -> Result<Answers, RowsError> {
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            let seq = entry.seq;
            let outcome = match known(writer, &entry) {
                Some(outcome) => outcome,
                None => {
                    let hash = entry.hash;
                    let outcome = match self.store(entry, origin, at, io, stored)? {
                        Ok(outcome) => outcome,
                        Err(refusal) => Outcome::Refused(refusal),
                    };
                    writer.keep(OutcomeRow { seq, hash, outcome: outcome.clone() });
                    outcome
                }
            };
            answers.push(Answer { seq, outcome });
        }
        let (writer, mark, positions) = (origin.writer, writer.row.mark, Vec::new());
        Ok(Answers { writer, mark, answers, positions })
    }

    /// Stores one entry, or refuses it for good.
    fn store(
        &mut self,
        entry: Entry,
        origin: &Origin,
        at: &mut Moment,
        io: &mut Io<'_>,
        stored: &mut Vec<Appended>,
    ) -> Decided<Outcome> {
        if let Some(verdict) = entry.verdict {
            return Ok(Err(verdict));
        }
        let log = match self.find_or_make(&entry, at.time, io)? {
            Ok(log) => log,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let Some(row) = self.rows.change(&log, io)? else { return Ok(Err(Code::Epoch.into())) };
        if entry.if_head.is_some_and(|head| head != row.head) {
            return Ok(Err(conflict(row.head)));
        }
        if row.head >= MAX_HEAD {
            return Ok(Err(Code::LogFull.into()));
        }
        let (offset, place) = (row.head, at.place());
        let Entry { seq, record, .. } = entry;
        let before = row.bytes;
        let kept = Stored { place, time: at.time, origin: origin.clone(), seq, before, record };
        row.head += 1;
        row.bytes += kept.record.size() as u64;
        row.appended = at.time;
        let bytes = codec::to_bytes(&kept);
        if row.rule == SnapshotRule::Latest {
            keep_latest(log, offset, &kept, &bytes, io);
        }
        io.writes.records.push((log, offset, bytes));
        stored.push((log, offset, Arc::new(kept)));
        Ok(Ok(Outcome::Stored { log, offset, place, level: at.level }))
    }
}

impl Logs {
    /// The log of an append. One that is missing has its head at 0: a condition that says otherwise
    /// is refused before anything is made.
    fn find_or_make(&mut self, entry: &Entry, time: u64, io: &Io<'_>) -> Decided<u64> {
        if let (Target::Name(name), Some(1..)) = (&entry.to, entry.if_head)
            && self.auto_create
            && name::check(name).is_ok()
            && self.find(name, io)?.is_none()
        {
            return Ok(Err(conflict(0)));
        }
        self.resolve(&entry.to, time, io)
    }
}

fn conflict(head: u64) -> Refusal {
    let message = format!("the head is at {head}, not where the condition says");
    Refusal::because(Code::Conflict, message)
}

/// The newest record of a key: its offset, then the record's row. A tombstone takes the row away.
fn keep_latest(log: u64, offset: u64, kept: &Stored, bytes: &[u8], io: &mut Io<'_>) {
    let Some(name) = &kept.record.key else { return };
    let key = Key::of(log).then_bytes(name.as_bytes()).build();
    if kept.record.payload.is_none() {
        io.remove(Table::Latest, key);
        return;
    }
    let mut value = offset.to_be_bytes().to_vec();
    value.extend_from_slice(bytes);
    io.put_raw(Table::Latest, key, value);
}

/// Answers about a writer that has never appended.
fn nothing_known(writer: Id, entries: &[Entry]) -> Answers {
    let new = Writer::new("");
    let answers = (entries.iter())
        .filter_map(|entry| Some(Answer { seq: entry.seq, outcome: known(&new, entry)? }))
        .collect();
    Answers { writer, mark: 0, answers, positions: Vec::new() }
}

/// The outcome of an entry that is not to be looked at: a repeat, an old one, or one that comes
/// too early.
fn known(writer: &Writer, entry: &Entry) -> Option<Outcome> {
    if entry.seq > MAX_OFFSET {
        let message = "a sequence is at most 2^53-1: go on with another writer";
        return Some(Outcome::Refused(Refusal::because(Code::BadRequest, message)));
    }
    if entry.seq <= writer.row.mark {
        return Some(match writer.outcome(entry.seq) {
            Some(kept) if kept.hash == entry.hash => kept.outcome.clone(),
            Some(_) => Outcome::Refused(Code::SequenceReused.into()),
            None => Outcome::Refused(Code::SequenceOld.into()),
        });
    }
    if entry.prev != writer.row.mark {
        let message = format!("this writer's mark is {}: send what follows it", writer.row.mark);
        return Some(Outcome::Refused(Refusal::because(Code::SequenceGap, message)));
    }
    if writer.outcomes.len() >= MAX_IN_FLIGHT {
        return Some(Outcome::Refused(Code::InFlight.into()));
    }
    None
}
