//! Rows that logs and writers keep: a log's row, a writer's, and what became of its appends.
//!
//! Layouts are those of `docs/storage.md` §3; the order of fields is the layout. Each row ends
//! with what it has grown by ([`More`]).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::rows::{Hot, Io, Key, More, RowsError, Table, read_row};
use crate::wire::{Id, Origin, Outcome, Place, SnapshotRule, codec};

/// A complete client-made snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotAt {
    /// The state includes all records below this.
    pub offset: u64,
    /// Its parts' key: log id, upload, part.
    pub upload: u64,
    /// How many parts.
    pub parts: u32,
    /// Bytes of all parts.
    pub bytes: u64,
    /// The app's version of the format.
    pub version: u32,
    /// Who made it; not known of those of the first format.
    pub origin: Option<Origin>,
    /// The views that it holds, by name, with their versions; empty: opaque bytes.
    pub views: Vec<(String, u32)>,
    /// Another maker came to the same.
    pub confirmed: bool,
    /// What is to come.
    pub more: More,
}

/// What a log is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogKind {
    /// Records that clients and back ends append.
    #[default]
    Plain,
}

/// A rule that a log is being brought under, in bounded steps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deriving {
    /// The rule.
    pub rule: SnapshotRule,
    /// What an older rule left in [`Table::Latest`] is removed.
    pub cleared: bool,
    /// The key from which on it has to be, while it is not.
    pub from: Vec<u8>,
    /// Records below this are worked off.
    pub next: u64,
}

impl Deriving {
    /// Nothing is done yet.
    pub const fn to(rule: SnapshotRule) -> Self {
        Self { rule, cleared: false, from: Vec::new(), next: 0 }
    }
}

/// How a log is divided into pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paging {
    /// Records of a page that opens from now on; 0: none opens.
    pub records: u64,
    /// First offset of the page that is open; the end of the last one where none is.
    pub first: u64,
    /// Records that the page that is open takes; 0: none is open.
    pub takes: u64,
    /// When its first record came.
    pub opened: u64,
}

/// The tag of a log's row under which [`LogRow::ruled`] stands; see `docs/storage.md` §3.
const RULED: u32 = 1;
/// The tag under which [`LogRow::sweep`] stands, while there is one.
const SWEEP: u32 = 2;

/// How far a look at a log's readers has come, before a trim: it goes in bounded steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// Whoever stands below this goes.
    pub to: u64,
    /// No reader that was looked at stands below this, nor has one begun below it since.
    pub floor: u64,
    /// The last one that was looked at.
    pub after: Id,
}

/// One incarnation of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// Its name.
    pub name: String,
    /// Next offset to be written.
    pub head: u64,
    /// First offset kept.
    pub start: u64,
    /// Bytes ever appended.
    pub bytes: u64,
    /// Bytes below `start`.
    pub start_bytes: u64,
    /// How its state is kept: what readers are opened by.
    pub rule: SnapshotRule,
    /// No active subscriber's cursor is below this; may be stale, never too high.
    pub floor: u64,
    /// The newest client-made snapshots, oldest first, at most two.
    pub snapshots: Vec<SnapshotAt>,
    /// When it was made, milliseconds since 1970.
    pub created: u64,
    /// When the last record came.
    pub appended: u64,
    /// It is deleted; the row stays so that its id is known as gone.
    pub deleted: bool,
    /// The batch that made it; 0: one before eras were counted.
    pub made: u64,
    /// What it is for.
    pub kind: LogKind,
    /// Place of the last record that was trimmed.
    pub trimmed: Place,
    /// Running hash of its records ([`super::record::chained`]), from `hashed_from` on.
    pub hash: [u8; 32],
    /// First offset that the hash covers.
    pub hashed_from: u64,
    /// Its pages.
    pub paging: Paging,
    /// The rule that it is being brought under.
    pub deriving: Option<Deriving>,
    /// What is to come.
    pub more: More,
}

impl LogRow {
    /// An empty log, made in a batch.
    pub fn new(name: &str, rule: SnapshotRule, batch: u64, time: u64) -> Self {
        Self {
            name: name.to_owned(),
            head: 0,
            start: 0,
            bytes: 0,
            start_bytes: 0,
            rule,
            floor: 0,
            snapshots: Vec::new(),
            created: time,
            appended: time,
            deleted: false,
            made: batch,
            kind: LogKind::Plain,
            trimmed: Place::default(),
            hash: [0; 32],
            hashed_from: 0,
            paging: Paging::default(),
            deriving: None,
            more: More::default(),
        }
    }

    /// The head at which its rule came into force: what is known of a state of before may be of
    /// another rule. Where that cannot be read, nothing is.
    pub fn ruled(&self) -> u64 {
        let number = |bytes: &Bytes| bytes.as_ref().try_into().map_or(u64::MAX, u64::from_be_bytes);
        self.more.get(RULED).map_or(0, number)
    }

    /// The look at its readers that is under way. One that cannot be read begins anew.
    pub fn sweep(&self) -> Option<Sweep> {
        codec::from_bytes("logs", self.more.get(SWEEP)?).ok()
    }

    /// A look at its readers has come so far; none: it is over.
    pub fn set_sweep(&mut self, sweep: Option<Sweep>) {
        match sweep {
            Some(sweep) => self.more.set(SWEEP, codec::to_bytes(&sweep).into()),
            None => self.more.remove(SWEEP),
        }
    }

    /// A reader begins at that offset: nobody may think that all stand higher.
    pub fn begins(&mut self, cursor: u64) {
        self.floor = self.floor.min(cursor);
        if let Some(sweep) = self.sweep().filter(|sweep| cursor < sweep.floor) {
            self.set_sweep(Some(Sweep { floor: cursor, ..sweep }));
        }
    }

    /// Whether a reader that begins there changes what is known of the lowest one.
    pub fn lowers(&self, cursor: u64) -> bool {
        cursor < self.floor || self.sweep().is_some_and(|sweep| cursor < sweep.floor)
    }

    /// Another rule comes into force.
    pub(super) fn rule_by(&mut self, rule: SnapshotRule) {
        if self.rule != rule {
            self.rule = rule;
            self.more.set(RULED, Bytes::copy_from_slice(&self.head.to_be_bytes()));
        }
    }

    /// The offset of the newest snapshot: what `start` may never pass, if there is a rule.
    pub fn newest_snapshot(&self) -> Option<u64> {
        match self.rule {
            SnapshotRule::None => None,
            SnapshotRule::Latest => Some(self.head),
            SnapshotRule::Client => self.snapshots.last().map(|snapshot| snapshot.offset),
        }
    }
}

impl Hot for LogRow {
    type Key = u64;

    fn load(id: &u64, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        io.get(Table::Logs, &Key::of(*id).build())
    }

    fn save(&mut self, id: &u64, io: &mut Io<'_>) {
        io.put(Table::Logs, Key::of(*id).build(), self);
    }

    fn weight(&self) -> usize {
        let snapshots = self.snapshots.len() * (size_of::<SnapshotAt>() + 64);
        let deriving = self.deriving.as_ref().map_or(0, |deriving| deriving.from.len());
        self.name.len() + snapshots + deriving + self.more.weight()
    }
}

/// Outcomes that a writer may still ask for.
pub const MAX_IN_FLIGHT: usize = 1024;

/// For so long a writer's mark is kept after its last append, unless its client retired it: a
/// year, in milliseconds.
pub const MARK_KEPT: u64 = 365 * 24 * 60 * 60 * 1000;

/// What became of one sequence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeRow {
    /// The sequence.
    pub seq: u64,
    /// Hash of what was asked, see `docs/protocol.md` on repeats.
    pub hash: [u8; 16],
    /// The answer, given alike to every repeat.
    pub outcome: Outcome,
    /// It was to be taken only if the writer's one before was stored.
    pub depends: bool,
    /// The transaction that it was a part of.
    pub transaction: Option<Id>,
}

/// Who a writer appends as, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered {
    /// The number, see [`Table::Origins`].
    pub number: u64,
    /// The connection that it stands for, with the writer and its user.
    pub connection: Id,
}

/// The row of a number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginRow {
    /// Who appends.
    pub origin: Origin,
    /// What is to come.
    pub more: More,
}

/// The part of a writer that is one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterRow {
    /// Whose it is.
    pub user: String,
    /// Its last sequence with an outcome.
    pub mark: u64,
    /// Outcomes below this are confirmed and forgotten.
    pub oldest: u64,
    /// When it last appended, milliseconds since 1970.
    pub used: u64,
    /// Its client has all answers and will send no more.
    pub retired: bool,
    /// The number under which its records name it, once it has any.
    pub origin: Option<Numbered>,
    /// What is to come.
    pub more: More,
}

/// A chunk of outcomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomesRow {
    /// By sequence.
    pub outcomes: Vec<OutcomeRow>,
    /// What is to come.
    pub more: More,
}

/// A writer with its unconfirmed outcomes. Outcomes go to disk in chunks, one per writer and batch,
/// keyed by their last sequence, so that a commit costs a row and not a row per append.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Its row.
    pub row: WriterRow,
    /// Outcomes from `row.oldest` on, by sequence.
    pub outcomes: std::collections::VecDeque<OutcomeRow>,
    /// Last sequences of the chunks on disk.
    chunks: std::collections::VecDeque<u64>,
    /// How many of `outcomes`, at the end, are in no chunk yet.
    unsaved: usize,
}

impl Writer {
    /// A writer that has not appended yet.
    pub fn new(user: &str) -> Self {
        let row = WriterRow {
            user: user.to_owned(),
            mark: 0,
            oldest: 1,
            used: 0,
            retired: false,
            origin: None,
            more: More::default(),
        };
        Self { row, outcomes: Default::default(), chunks: Default::default(), unsaved: 0 }
    }

    /// Keeps an outcome; its sequence becomes the mark.
    pub fn keep(&mut self, outcome: OutcomeRow) {
        self.row.mark = outcome.seq;
        self.outcomes.push_back(outcome);
        self.unsaved += 1;
    }

    /// The outcome of a sequence, while it is kept.
    pub fn outcome(&self, seq: u64) -> Option<&OutcomeRow> {
        let at = self.outcomes.binary_search_by_key(&seq, |outcome| outcome.seq).ok()?;
        self.outcomes.get(at)
    }

    /// The client knows all answers below `oldest`. A claim past the mark counts up to it.
    pub fn confirm(&mut self, oldest: u64) {
        let oldest = oldest.min(self.row.mark.saturating_add(1));
        if oldest <= self.row.oldest {
            return;
        }
        self.row.oldest = oldest;
        while self.outcomes.front().is_some_and(|outcome| outcome.seq < oldest) {
            self.outcomes.pop_front();
        }
        self.unsaved = self.unsaved.min(self.outcomes.len());
    }
}

impl Hot for Writer {
    type Key = Id;

    fn load(id: &Id, io: &Io<'_>) -> Result<Option<Self>, RowsError> {
        let Some(row) = io.get::<WriterRow>(Table::Writers, &id.0)? else { return Ok(None) };
        let mut writer = Self { row, ..Self::new("") };
        for (key, value) in io.scan(Table::Outcomes, &id.0, &id.0, MAX_IN_FLIGHT)? {
            let last = key.get(16..).and_then(|seq| seq.try_into().ok()).map(u64::from_be_bytes);
            let OutcomesRow { outcomes, .. } = read_row(Table::Outcomes, &value)?;
            writer.chunks.extend(last);
            let oldest = writer.row.oldest;
            writer.outcomes.extend(outcomes.into_iter().filter(|outcome| outcome.seq >= oldest));
        }
        Ok(Some(writer))
    }

    fn save(&mut self, id: &Id, io: &mut Io<'_>) {
        io.put(Table::Writers, id.0.to_vec(), &self.row);
        while let Some(last) = self.chunks.front().copied().filter(|last| *last < self.row.oldest) {
            io.remove(Table::Outcomes, Key::bytes(&id.0).then(last).build());
            self.chunks.pop_front();
        }
        if self.unsaved > 0 {
            let unsaved = self.outcomes.range(self.outcomes.len() - self.unsaved..);
            let outcomes = unsaved.cloned().collect();
            let chunk = OutcomesRow { outcomes, more: More::default() };
            io.put(Table::Outcomes, Key::bytes(&id.0).then(self.row.mark).build(), &chunk);
            self.chunks.push_back(self.row.mark);
            self.unsaved = 0;
        }
    }

    fn weight(&self) -> usize {
        let told = |row: &OutcomeRow| match &row.outcome {
            Outcome::Stored { .. } => 0,
            Outcome::Refused(refusal) => refusal.message.len(),
        };
        let outcomes: usize = self.outcomes.iter().map(told).sum();
        let rows = self.outcomes.capacity() * size_of::<OutcomeRow>();
        self.row.user.len() + outcomes + rows + self.chunks.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Code, Level, Refusal};

    /// What is not weighed is not bounded.
    #[test]
    fn promise_10_a_log_weighs_what_it_holds() {
        let snapshot = SnapshotAt {
            offset: 1,
            upload: 1,
            parts: 1,
            bytes: 1,
            version: 1,
            origin: None,
            views: Vec::new(),
            confirmed: false,
            more: More::default(),
        };
        let row = LogRow::new(&"n".repeat(100), SnapshotRule::Client, 1, 0);
        let deriving = Deriving { from: vec![0; 500], ..Deriving::to(SnapshotRule::Latest) };
        let mut more = row.clone();
        more.more.set(9, vec![0; 900].into());
        let rows = [
            row.clone(),
            LogRow { snapshots: vec![snapshot; 2], ..row.clone() },
            LogRow { deriving: Some(deriving), ..row },
            more,
        ];
        let [bare, snapshots, deriving, more] = rows.map(|row| row.weight());
        assert_eq!(bare, 100);
        assert!(crate::log::Named(1).weight() >= 100, "a name weighs what most do");
        assert_eq!(snapshots - bare, 2 * (size_of::<SnapshotAt>() + 64));
        assert_eq!(deriving - bare, 500);
        assert!((900..1_000).contains(&(more - bare)), "{more}");
    }

    #[test]
    fn a_writer_is_kept_for_a_year_and_weighs_what_it_holds() {
        assert_eq!(MARK_KEPT, 31_536_000_000, "a year");
        let mut writer = Writer::new("anastasia");
        assert_eq!(writer.weight(), 9);
        let told = Outcome::Refused(Refusal::because(Code::Conflict, "x".repeat(300)));
        for seq in 1..=20 {
            let (hash, outcome) = ([0; 16], told.clone());
            writer.keep(OutcomeRow { seq, hash, outcome, depends: false, transaction: None });
        }
        let outcomes = 20 * 300 + writer.outcomes.capacity() * size_of::<OutcomeRow>();
        assert_eq!(writer.weight(), 9 + outcomes);
        writer.chunks.extend(0..100);
        let chunks = writer.chunks.capacity() * 8;
        assert_eq!(writer.weight(), 9 + outcomes + chunks);
        let stored =
            Outcome::Stored { log: 1, offset: 1, place: Place::default(), level: Level::Synced };
        writer.outcomes.iter_mut().for_each(|row| row.outcome = stored.clone());
        assert_eq!(writer.weight(), 9 + outcomes - 20 * 300 + chunks);
    }
}
