//! What is true, by what everybody was shown: of each log a list of records, of each connection
//! what it was told. It decides nothing that the fold or delivery decides, and shares no code with
//! them; it remembers, and compares.

use std::collections::{BTreeMap, BTreeSet};

use highwater::log::{LogRow, Stored};
use highwater::rows::MemoryRows;
use highwater::wire::{Id, Place, Position, Record};

use crate::rows;
use crate::told::{Claims, Socket};

/// A broken promise or law. Its message begins with the number.
macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds { panic!($($why)+); }
    };
}
pub(crate) use demand;

/// A record as whoever saw it: the same for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub place: Place,
    pub writer: Id,
    pub seq: u64,
    pub key: Option<String>,
    pub payload: Option<Vec<u8>>,
}

impl Seen {
    pub fn of(place: Place, writer: Id, seq: u64, record: &Record) -> Self {
        let payload = record.payload.as_ref().map(|payload| payload.bytes().to_vec());
        Self { place, writer, seq, key: record.key.clone(), payload }
    }
}

/// An action: what is to be stored, and where.
#[derive(Clone, Debug)]
pub struct Action {
    pub record: Record,
    /// The log's name.
    pub name: String,
    /// The very log that was meant, by its id and where that was made; else any of that name.
    pub log: Option<(u64, Option<Position>)>,
}

#[derive(Default)]
pub struct Oracle {
    /// Eras, with the first batch of each.
    eras: Vec<(Id, u64)>,
    pub batch: u64,
    logs: BTreeMap<u64, Vec<Seen>>,
    gone: BTreeMap<u64, u64>,
    /// How far logs were trimmed, by the batch that did it.
    trims: BTreeMap<u64, BTreeMap<u64, u64>>,
    /// What writers have sent, by sequence.
    sent: BTreeMap<(Id, u64), Action>,
    stored: BTreeMap<(Id, u64), (u64, u64)>,
    marks: BTreeMap<Id, u64>,
    /// Where a connection's row went: batch, and effect of it.
    forgotten: BTreeMap<Id, BTreeSet<(u64, usize)>>,
    /// How often it had gone when it was attached at a place.
    lives: BTreeMap<(Id, Place), usize>,
    pub newest: BTreeMap<(usize, Id), u64>,
    pub revoked: BTreeMap<(usize, String), u64>,
    pub sockets: BTreeMap<usize, Socket>,
    /// By node: each has folded so far, and no further.
    pub claims: BTreeMap<(usize, Id), Claims>,
    pub deliveries: u64,
}

impl Oracle {
    // The history.

    /// A batch of an era is durable.
    pub fn stands(&mut self, era: Id, batch: u64) {
        if self.eras.iter().all(|(known, _)| *known != era) {
            self.eras.push((era, batch));
        }
        self.batch = self.batch.max(batch);
    }

    /// Whether a client that stands there saw this history.
    pub fn in_history(&self, position: &Position) -> bool {
        let Some(at) = self.eras.iter().position(|(era, _)| *era == position.era) else {
            return false;
        };
        let last = self.eras.get(at + 1).map_or(self.batch, |(_, first)| first - 1);
        position.batch <= last
    }

    /// All behind a batch is lost: another history begins.
    pub fn cut(&mut self, batch: u64) {
        self.batch = batch;
        self.eras.retain(|(_, first)| *first <= batch);
        for records in self.logs.values_mut() {
            records.retain(|seen| seen.place.batch <= batch);
        }
        self.logs.retain(|_, records| !records.is_empty());
        self.gone.retain(|_, at| *at <= batch);
        self.trims.values_mut().for_each(|trims| trims.retain(|at, _| *at <= batch));
        self.forgotten.values_mut().for_each(|all| all.retain(|at| at.0 <= batch));
        self.lives.retain(|(_, at), _| at.batch <= batch);
        let logs = &self.logs;
        self.stored.retain(|_, (log, offset)| {
            logs.get(log).is_some_and(|records| (*offset as usize) < records.len())
        });
        self.marks.clear();
        for (writer, seq) in self.stored.keys() {
            let mark = self.marks.entry(*writer).or_default();
            *mark = (*mark).max(*seq);
        }
        self.newest.clear();
        self.claims.clear();
        self.revoked.clear();
    }

    /// A writer numbers an action.
    pub fn writes(&mut self, writer: Id, seq: u64, action: Action) {
        self.sent.insert((writer, seq), action);
    }

    /// What a writer has numbered.
    pub fn action(&self, writer: Id, seq: u64) -> Option<&Action> {
        self.sent.get(&(writer, seq))
    }

    /// A record is durable, in a log of that row.
    pub fn stored(&mut self, log: u64, offset: u64, stored: &Stored, row: Option<&LogRow>) {
        let seen = Seen::of(stored.place, stored.origin.writer, stored.seq, &stored.record);
        let records = self.logs.entry(log).or_default();
        if let Some(known) = records.get(offset as usize) {
            demand!(*known == seen, "promise 2: log {log} offset {offset} was {known:?}: {seen:?}");
            return;
        }
        demand!(offset == records.len() as u64, "promise 2: log {log}: {offset} is not the next");
        let last = records.last().map(|last| last.place);
        demand!(last < Some(seen.place), "promise 1: log {log}: places fall: {seen:?}");
        demand!(!self.gone.contains_key(&log), "law 4: log {log} is gone, and grows");
        records.push(seen);
        let (writer, seq) = (stored.origin.writer, stored.seq);
        if writer == Id::NONE {
            return;
        }
        let asked = self.sent.get(&(writer, seq));
        let same = asked.is_some_and(|action| action.record == stored.record);
        demand!(same, "promise 4: {writer} {seq} is not what was sent");
        let meant = asked.zip(row).is_none_or(|(action, row)| {
            let very = action.log.is_none_or(|(id, made)| {
                id == log && made.is_none_or(|made| made.batch == row.made)
            });
            action.name == row.name && very
        });
        demand!(meant, "promise 15: {asked:?} is stored in log {log}, {row:?}");
        let twice = self.stored.insert((writer, seq), (log, offset));
        demand!(twice.is_none(), "promise 4: {writer} {seq} is stored twice: {twice:?}");
        let mark = self.marks.insert(writer, seq).unwrap_or(0);
        demand!(mark < seq, "promise 4: {writer}: {seq} is stored behind {mark}");
    }

    pub fn deleted(&mut self, log: u64, batch: u64) {
        self.gone.entry(log).or_insert(batch);
    }

    pub fn trimmed(&mut self, log: u64, to: u64, batch: u64) {
        let head = self.logs.get(&log).map_or(0, Vec::len) as u64;
        demand!(to <= head, "promise 7: log {log} is trimmed to {to}, and ends at {head}");
        self.trims.entry(log).or_default().insert(batch, to);
    }

    /// What lies below that is no longer kept.
    pub fn start(&self, log: u64) -> u64 {
        self.trims.get(&log).and_then(|trims| trims.values().max()).copied().unwrap_or(0)
    }

    /// A connection's row is gone: its generations begin anew.
    pub fn forgets(&mut self, connection: Id, at: (u64, usize)) {
        self.forgotten.entry(connection).or_default().insert(at);
    }

    /// A connection is attached.
    pub fn attaches(&mut self, connection: Id, place: Place, at: (u64, usize)) {
        let gone = self.forgotten.get(&connection).map_or(0, |all| all.range(..at).count());
        self.lives.insert((connection, place), gone);
    }

    /// How often a connection's row had gone when it was attached there.
    pub fn lives(&self, connection: Id, place: Place) -> Option<usize> {
        self.lives.get(&(connection, place)).copied()
    }

    pub fn record(&self, log: u64, offset: u64) -> Option<&Seen> {
        self.logs.get(&log)?.get(offset as usize)
    }

    pub fn where_is(&self, writer: Id, seq: u64) -> Option<(u64, u64)> {
        self.stored.get(&(writer, seq)).copied()
    }

    /// What a store holds is what is true, from its start to its head.
    pub fn compare(&self, rows: &MemoryRows) {
        for (log, records) in &self.logs {
            let row = rows::log_row(rows, *log);
            demand!(row.is_some(), "promise 3: log {log} is lost");
            let Some(row) = row.filter(|row| !row.deleted) else { continue };
            let head = records.len() as u64;
            demand!(row.head == head, "promise 3: log {log} ends at {}, not {head}", row.head);
            for (offset, stored) in rows::records(rows, *log, row.start, usize::MAX) {
                let seen = Seen::of(stored.place, stored.origin.writer, stored.seq, &stored.record);
                let known = &records[offset as usize];
                demand!(*known == seen, "promise 2: log {log} {offset}: {known:?} is {seen:?}");
            }
        }
    }

    /// The newest record of each key.
    pub fn latest(&self, log: u64) -> BTreeMap<String, (u64, Vec<u8>)> {
        let mut latest = BTreeMap::new();
        for (offset, seen) in self.logs.get(&log).into_iter().flatten().enumerate() {
            let Some(key) = seen.key.clone() else { continue };
            match seen.payload.clone() {
                Some(payload) => drop(latest.insert(key, (offset as u64, payload))),
                None => drop(latest.remove(&key)),
            }
        }
        latest
    }

    /// The state that records below an offset come to.
    pub fn folded(&self, log: u64, below: u64) -> u64 {
        let records = self.logs.get(&log).into_iter().flatten();
        records.take(below as usize).fold(0, fold)
    }
}

/// One step of the state that clients keep of a log.
pub fn fold(state: u64, seen: &Seen) -> u64 {
    let mut state = state.wrapping_mul(31).wrapping_add(seen.seq);
    for byte in seen.writer.0.iter().chain(seen.payload.iter().flatten()) {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    state
}
