//! The fold over appends: sequence, repeat, condition, offset.
//!
//! A writer's appends are taken in its order only: an item is taken when the sequence its writer
//! sent before it is the writer's mark. So a lost or refused item holds back those after it. A
//! repeat gets the answer it got before, for as long as the client has not confirmed it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::record::{Stored, chained, server_itself};
use super::row::{MAX_IN_FLIGHT, Numbered, OriginRow, OutcomeRow, Writer};
use super::{Decided, Logs};
use crate::rows::{Cache, Io, Key, More, RowsError, Table};
use crate::wire::{
    Answer, Answers, Code, Id, Level, MAX_OFFSET, Origin, Outcome, Place, Position, Record,
    Refusal, SnapshotRule, Target, codec, name,
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
    /// Where the log id was made, by the client's word, where that is still to be looked at.
    pub made: Option<Position>,
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
    /// What the client has seen, where that is still to be judged.
    pub positions: Vec<Position>,
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
        let Appends { user, writer: id, connection, oldest, once, positions, entries } = appends;
        if !self.judge(&positions, io)? {
            return Ok(Ok(refused_alike(id, &entries, &Code::OtherHistory.into())));
        }
        if once {
            let mut writer = Writer::new(&user);
            let mut author =
                Author::of(Origin { user, writer: id, connection }, Naming::WrittenOut);
            return self.store_entries(&mut writer, entries, &mut author, at, io, stored).map(Ok);
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
        // What comes too early spends nothing, nor does it confirm the answers of those before it:
        // over HTTP it is the server that takes an append for such a word.
        if entries.iter().any(|entry| entry.prev <= writer.row.mark) {
            writer.confirm(oldest);
        }
        writer.row.used = at.time;
        writer.row.retired = false;
        let known = writer.row.origin.filter(|known| known.connection == connection);
        let naming = known.map_or(Naming::Unnumbered, |known| Naming::Number(known.number));
        let mut author = Author::of(Origin { user, writer: id, connection }, naming);
        let answers = self.store_entries(writer, entries, &mut author, at, io, stored)?;
        if let Naming::Number(number) = author.naming {
            writer.row.origin = Some(Numbered { number, connection });
        }
        Ok(Ok(answers))
    }

    /// Stores a writer's entries, one after another; the writer keeps what becomes of them.
    fn store_entries(
        &mut self,
        writer: &mut Writer,
        entries: Vec<Entry>,
        author: &mut Author,
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
                    let outcome = match self.store(entry, author, at, io, stored)? {
                        Ok(outcome) => outcome,
                        Err(refusal) => Outcome::Refused(refusal),
                    };
                    let (depends, transaction) = (false, None);
                    let kept = outcome.clone();
                    writer.keep(OutcomeRow { seq, hash, outcome: kept, depends, transaction });
                    outcome
                }
            };
            answers.push(Answer { seq, outcome });
        }
        let (writer, mark, positions) = (author.origin.writer, writer.row.mark, Vec::new());
        Ok(Answers { writer, mark, answers, positions, credit: None })
    }

    /// Stores one entry, or refuses it for good.
    fn store(
        &mut self,
        entry: Entry,
        author: &mut Author,
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
        let Some(row) = self.rows.get(&log, io)? else { return Ok(Err(Code::Epoch.into())) };
        if entry.made.is_some_and(|made| !self.eras.same_log(row.made, &made)) {
            return Ok(Err(Code::Epoch.into()));
        }
        if entry.if_head.is_some_and(|head| head != row.head) {
            return Ok(Err(conflict(row.head)));
        }
        if row.head >= MAX_HEAD {
            return Ok(Err(Code::LogFull.into()));
        }
        let Entry { seq, record, .. } = entry;
        let (offset, place) = self.keep(log, seq, record, None, author, at, io, stored)?;
        Ok(Ok(Outcome::Stored { log, offset, place, level: at.level }))
    }

    /// Keeps a record at the head of a log that takes it: its offset and place.
    #[allow(clippy::too_many_arguments, reason = "the parts of the fold are handed in one by one")]
    pub(super) fn keep(
        &mut self,
        log: u64,
        seq: u64,
        record: Record,
        derived: Option<Place>,
        author: &mut Author,
        at: &mut Moment,
        io: &mut Io<'_>,
        stored: &mut Vec<Appended>,
    ) -> Result<(u64, Place), RowsError> {
        let number = author.number(&mut self.next_origin, io);
        let missing = || RowsError::Storage("a log vanished from the cache".to_owned());
        let row = self.rows.change(&log, io)?.ok_or_else(missing)?;
        let (offset, place) = (row.head, at.place());
        let (before, origin) = (row.bytes, Arc::clone(&author.origin));
        row.open_page(at.time);
        let kept = Stored { place, time: at.time, origin, seq, before, derived, record };
        let bytes = kept.row(number);
        row.head += 1;
        row.bytes += kept.record.size() as u64;
        row.appended = at.time;
        row.hash = chained(&row.hash, &bytes, number.map(|_| author.bytes.as_slice()));
        row.close_full_page(log, at.time, io);
        if row.rule == SnapshotRule::Latest {
            keep_latest(log, offset, &kept.record, &bytes, io);
        }
        io.writes.records.push((log, offset, bytes));
        stored.push((log, offset, Arc::new(kept)));
        Ok((offset, place))
    }
}

/// Who appends, and how records name it.
pub(super) struct Author {
    origin: Arc<Origin>,
    /// The origin as it is hashed where records name it by number.
    bytes: Vec<u8>,
    naming: Naming,
}

/// How records name who appended them.
#[derive(Clone, Copy)]
enum Naming {
    /// In full: nobody of that name appends again.
    WrittenOut,
    /// By a number that is given with the first record.
    Unnumbered,
    /// By this number.
    Number(u64),
}

impl Author {
    fn of(origin: Origin, naming: Naming) -> Self {
        Self { bytes: codec::to_bytes(&origin), origin: Arc::new(origin), naming }
    }

    /// The server itself.
    pub(super) fn nobody() -> Self {
        Self::of(server_itself(), Naming::WrittenOut)
    }

    /// The number, given now if it has to be.
    fn number(&mut self, next: &mut u64, io: &mut Io<'_>) -> Option<u64> {
        if matches!(self.naming, Naming::Unnumbered) {
            let origin = (*self.origin).clone();
            io.put(
                Table::Origins,
                Key::of(*next).build(),
                &OriginRow { origin, more: More::default() },
            );
            self.naming = Naming::Number(*next);
            *next += 1;
        }
        match self.naming {
            Naming::Number(number) => Some(number),
            Naming::WrittenOut | Naming::Unnumbered => None,
        }
    }
}

/// All items answered with one refusal that spends nothing; no mark is told.
fn refused_alike(writer: Id, entries: &[Entry], refusal: &Refusal) -> Answers {
    let refused = |entry: &Entry| {
        let outcome = Outcome::Refused(refusal.clone());
        Answer { seq: entry.seq, outcome }
    };
    let answers = entries.iter().map(refused).collect();
    Answers { writer, mark: 0, answers, positions: Vec::new(), credit: None }
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
pub(super) fn keep_latest(log: u64, offset: u64, record: &Record, bytes: &[u8], io: &mut Io<'_>) {
    let Some(name) = &record.key else { return };
    let key = Key::of(log).then_bytes(name.as_bytes()).build();
    if record.payload.is_none() {
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
    Answers { writer, mark: 0, answers, positions: Vec::new(), credit: None }
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
