//! A store of the format before is brought to today's at start.
//!
//! Promise: nothing is lost and nothing is half: each step is one synced commit that also says how
//! far it came, so a crash at any moment leaves a folder that the next start goes on with. From the
//! first step on `VERSION` says so, and no other program opens the folder. What this module writes
//! is the format with the number 3, for good; a later format has a converter of its own behind it.
//!
//! Records and newest records by key stay as they are: their rows are told apart by the first byte.

use std::path::Path;

use fjall::{Database, Keyspace, OwnedWriteBatch, PersistMode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{LOCAL, OpenError, damaged, engine_error};
use crate::connection::{Attachment, ConnectionRow, NodeRow, Sub, UserRow};
use crate::log::era::Era;
use crate::log::{LogRow, NameRow, OutcomeRow, OutcomesRow, SnapshotAt, WriterRow};
use crate::rows::{Hot, Io, Key, MemoryRows, More, RowsError, Table, read_row};
use crate::wire::{Id, Outcome, Place, Reason, SnapshotRule, codec};

/// Key, in the folder's own table, of how far the conversion came.
const PROGRESS: &[u8] = b"conversion";
/// Rows in one step.
const AT_ONCE: usize = 1_000;
/// Tables whose rows change, in the order in which they are converted. The fold's own row is the
/// last: it needs to know how many records there are.
const TABLES: [Table; 8] = [
    Table::Names,
    Table::Logs,
    Table::Uploads,
    Table::Writers,
    Table::Outcomes,
    Table::Connections,
    Table::Users,
    Table::Nodes,
];

/// How far it came.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Progress {
    /// Tables that are done; one more: the fold's own rows are too.
    tables: u64,
    /// In the next one, the last key that is.
    after: Option<Vec<u8>>,
    /// Records ever stored, of all logs so far.
    records: u64,
}

/// The engine's tables, as the conversion sees them.
pub(super) struct Tables<'a> {
    pub dir: &'a Path,
    pub db: &'a Database,
    pub tables: &'a [Keyspace],
    pub local: &'a Keyspace,
}

/// Whether a table came with the format: a conversion makes it.
pub(super) fn is_new(name: &str) -> bool {
    let new = [
        Table::Places,
        Table::Cursors,
        Table::Origins,
        Table::Eras,
        Table::Revocations,
        Table::Pages,
    ];
    new.iter().any(|table| table.name() == name)
}

/// Converts what is not converted yet.
pub(super) fn convert(tables: &Tables<'_>) -> Result<(), OpenError> {
    let mut progress = tables.progress()?;
    tracing::info!(dir = %tables.dir.display(), "bringing a store of format 2 to format 3");
    let mut rows = 0;
    while let Some(table) = usize::try_from(progress.tables).ok().and_then(|at| TABLES.get(at)) {
        rows += tables.step(*table, AT_ONCE, &mut progress)?;
    }
    if progress.tables == TABLES.len() as u64 {
        tables.finish(&mut progress)?;
    }
    tracing::info!(rows, records = progress.records, "the store is of format 3");
    Ok(())
}

impl Tables<'_> {
    fn failed(&self) -> impl Fn(fjall::Error) -> OpenError + '_ {
        |error| engine_error(self.dir, error)
    }

    fn bad(&self) -> impl Fn(RowsError) -> OpenError + '_ {
        |error| damaged(self.dir, &error)
    }

    fn table(&self, table: Table) -> Result<&Keyspace, OpenError> {
        let missing = || damaged(self.dir, &format!("the table {} is missing", table.name()));
        self.tables.get(table as usize).ok_or_else(missing)
    }

    fn progress(&self) -> Result<Progress, OpenError> {
        match self.local.get(PROGRESS).map_err(self.failed())? {
            Some(bytes) => codec::from_bytes(LOCAL, &bytes).map_err(|e| damaged(self.dir, &e)),
            None => Ok(Progress::default()),
        }
    }

    fn batch(&self) -> OwnedWriteBatch {
        self.db.batch().durability(Some(PersistMode::SyncData))
    }

    /// Converts the next rows of a table, at most `most`: how many.
    fn step(&self, table: Table, most: usize, progress: &mut Progress) -> Result<usize, OpenError> {
        let from = progress.after.clone().map_or_else(Vec::new, |mut after| {
            after.push(0);
            after
        });
        let mut batch = self.batch();
        let mut rows = 0;
        for row in self.table(table)?.range(from..).take(most) {
            let (key, value) = row.into_inner().map_err(self.failed())?;
            progress.records += match table {
                Table::Logs => read::<OldLog>(table, &value).map_err(self.bad())?.head,
                _ => 0,
            };
            for (of, key, value) in converted(table, &key, &value).map_err(self.bad())? {
                batch.insert(self.table(of)?, key, value);
            }
            progress.after = Some(key.to_vec());
            rows += 1;
        }
        if rows < most {
            (progress.tables, progress.after) = (progress.tables + 1, None);
        }
        batch.insert(self.local, PROGRESS, codec::to_bytes(progress));
        batch.commit().map_err(self.failed())?;
        Ok(rows)
    }

    /// The fold's own rows, and the era that stands for all that was before eras were counted: it
    /// is named by what it was, so that a backup that is converted twice is one history.
    fn finish(&self, progress: &mut Progress) -> Result<(), OpenError> {
        let mut batch = self.batch();
        let meta = self.table(Table::Meta)?;
        if let Some(row) = meta.get("head").map_err(self.failed())? {
            let old: OldHead = read(Table::Meta, &row).map_err(self.bad())?;
            let hash = blake3::derive_key(
                "highwater 2026 history before eras",
                &codec::to_bytes(&(old.journal, old.batch, old.chain)),
            );
            let mut id = Id::NONE;
            id.0.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
            let era = Era { id, began: old.time, merged: false, more: More::default() };
            let eras = self.table(Table::Eras)?;
            batch.insert(eras, Key::of(0).build(), codec::to_bytes(&era));
            batch.insert(meta, "head", codec::to_bytes(&old.today(progress.records)));
        }
        // Rules and limits are set anew by the node that starts.
        batch.remove(meta, "settings");
        progress.tables += 1;
        batch.insert(self.local, PROGRESS, codec::to_bytes(progress));
        batch.commit().map_err(self.failed())
    }
}

fn read<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, RowsError> {
    read_row(table, bytes)
}

type Converted = Vec<(Table, Vec<u8>, Vec<u8>)>;

/// The rows that take the place of an old one.
fn converted(table: Table, key: &[u8], value: &[u8]) -> Result<Converted, RowsError> {
    let one = |value: Vec<u8>| Ok(vec![(table, key.to_vec(), value)]);
    // Where fields came at the end alone, what stood before them stays as it is.
    let longer = |by: &[u8]| [value, by].concat();
    match table {
        Table::Names => one(checked::<NameRow>(table, longer(&[0]))?),
        Table::Writers => one(checked::<WriterRow>(table, longer(&[0, 0]))?),
        Table::Users => one(checked::<UserRow>(table, longer(&[0]))?),
        Table::Nodes => one(checked::<NodeRow>(table, longer(&[0, 0, 0]))?),
        // The views that it is to hold, and what is to come.
        Table::Uploads => one(longer(&[0, 0])),
        Table::Logs => one(codec::to_bytes(&read::<OldLog>(table, value)?.today())),
        Table::Outcomes => {
            let outcomes: Vec<OldOutcome> = read(table, value)?;
            let outcomes = outcomes.into_iter().map(OldOutcome::today).collect();
            one(codec::to_bytes(&OutcomesRow { outcomes, more: More::default() }))
        }
        Table::Connections => {
            let id = key.try_into().map(Id).map_err(|_| RowsError::Damaged {
                table: table.name(),
                problem: format!("a key of {} bytes", key.len()),
            })?;
            Ok(read::<OldConnection>(table, value)?.today(id))
        }
        _ => Ok(Vec::new()),
    }
}

/// A row that reads as one of today's.
fn checked<T: DeserializeOwned>(table: Table, row: Vec<u8>) -> Result<Vec<u8>, RowsError> {
    read::<T>(table, &row).map(|_| row)
}

#[derive(Serialize, Deserialize)]
struct OldHead {
    journal: Id,
    batch: u64,
    chain: [u8; 32],
    time: u64,
    next_log: u64,
    active: u64,
}

/// The fold's row as format 3 has it.
#[derive(Serialize)]
struct NewHead {
    journal: Id,
    batch: u64,
    chain: [u8; 32],
    rows: [u8; 8],
    time: u64,
    next_log: u64,
    next_origin: u64,
    active: u64,
    records: u64,
    version: u16,
    more: More,
}

impl OldHead {
    fn today(self, records: u64) -> NewHead {
        let Self { journal, batch, chain, time, next_log, active } = self;
        NewHead {
            journal,
            batch,
            chain,
            rows: [0; 8],
            time,
            next_log,
            next_origin: 1,
            active,
            records,
            version: 3,
            more: More::default(),
        }
    }
}

#[derive(Deserialize)]
struct OldSnapshot {
    offset: u64,
    upload: u64,
    parts: u32,
    bytes: u64,
    version: u32,
}

#[derive(Deserialize)]
struct OldLog {
    name: String,
    head: u64,
    start: u64,
    bytes: u64,
    start_bytes: u64,
    rule: SnapshotRule,
    floor: u64,
    snapshots: Vec<OldSnapshot>,
    created: u64,
    appended: u64,
    deleted: bool,
}

impl OldLog {
    fn today(self) -> LogRow {
        let snapshot = |old: OldSnapshot| SnapshotAt {
            offset: old.offset,
            upload: old.upload,
            parts: old.parts,
            bytes: old.bytes,
            version: old.version,
            origin: None,
            views: Vec::new(),
            confirmed: false,
            more: More::default(),
        };
        LogRow {
            head: self.head,
            start: self.start,
            bytes: self.bytes,
            start_bytes: self.start_bytes,
            floor: self.floor,
            snapshots: self.snapshots.into_iter().map(snapshot).collect(),
            appended: self.appended,
            deleted: self.deleted,
            // Nothing vouches for what was stored before.
            hashed_from: self.head,
            ..LogRow::new(&self.name, self.rule, 0, self.created)
        }
    }
}

#[derive(Deserialize)]
struct OldOutcome {
    seq: u64,
    hash: [u8; 16],
    outcome: Outcome,
}

impl OldOutcome {
    fn today(self) -> OutcomeRow {
        let Self { seq, hash, outcome } = self;
        OutcomeRow { seq, hash, outcome, depends: false, transaction: None }
    }
}

#[derive(Deserialize)]
struct OldConnection {
    user: String,
    device: Option<Id>,
    client: String,
    inactive: Option<Reason>,
    generation: u64,
    joined: u64,
    attached: Option<Attachment>,
    visible: bool,
    since: u64,
    created: u64,
    committed: Place,
    subs: Vec<Sub>,
    openings: u64,
}

impl OldConnection {
    /// Its row, and those of its cursors.
    fn today(self, id: Id) -> Converted {
        let mut row = ConnectionRow::new(&self.user, self.device, self.created);
        row.client = self.client;
        row.inactive = self.inactive;
        row.generation = self.generation;
        row.joined = self.joined;
        row.attached = self.attached;
        row.visible = self.visible;
        row.since = self.since;
        row.committed = self.committed;
        row.subs = self.subs;
        row.openings = self.openings;
        let nothing = MemoryRows::default();
        let mut io = Io::new(&nothing);
        row.save(&id, &mut io);
        let put =
            |((table, key), value): ((Table, Vec<u8>), Option<Vec<u8>>)| Some((table, key, value?));
        io.writes.rows.into_iter().filter_map(put).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rows::Rows as _;
    use crate::store::{Options, Store};

    /// A store of format 2, made by the program of then.
    fn old() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/store-2.tar.gz");
        let unpacked = flate2::read::GzDecoder::new(std::fs::File::open(packed).unwrap());
        // Not by another program: until that one runs it has copies of all files that are open
        // here, so that folders of other tests would stay locked after they were closed.
        tar::Archive::new(unpacked).unpack(folder.path()).unwrap();
        folder
    }

    fn all(store: &Store) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
        let of = |table: Table| {
            let rows = store.scan(table, &[], &[], usize::MAX).unwrap();
            rows.into_iter().map(move |(key, value)| ((table, key), value))
        };
        Table::ALL.into_iter().flat_map(of).collect()
    }

    /// Begins a conversion and breaks it off after so many steps of a few rows: whether it came to
    /// its end before.
    fn broken_off(dir: &Path, steps: usize) -> bool {
        let mut folder = super::super::folder::Folder::open(dir, false).unwrap();
        super::super::look_over(&folder).unwrap();
        let (options, marks) = (Options::default(), Default::default());
        let db = super::super::open_engine(&folder, &options, &marks).unwrap();
        folder.begin_conversion().unwrap();
        let open = |name: &str| db.keyspace(name, Default::default).unwrap();
        let tables: Vec<_> = Table::ALL.iter().map(|table| open(table.name())).collect();
        let local = open(LOCAL);
        let parts = Tables { dir, db: &db, tables: &tables, local: &local };
        let mut progress = parts.progress().unwrap();
        for _ in 0..steps {
            match TABLES.get(usize::try_from(progress.tables).unwrap()) {
                Some(table) => drop(parts.step(*table, 3, &mut progress).unwrap()),
                None if progress.tables == TABLES.len() as u64 => {
                    parts.finish(&mut progress).unwrap();
                }
                None => {
                    folder.finish().unwrap();
                    return true;
                }
            }
        }
        false
    }

    /// A crash may come after any step: what comes of it is what comes of a conversion in one go.
    #[test]
    fn a_conversion_that_is_broken_off_goes_on_where_it_was() {
        let whole = old();
        let whole = all(&Store::open(&whole.path().join("data"), Options::default()).unwrap());
        assert!(whole.keys().any(|(table, _)| *table == Table::Cursors));
        let (mut steps, mut ended) = (0, false);
        while !ended {
            let folder = old();
            let data = folder.path().join("data");
            ended = broken_off(&data, steps);
            // Broken off a second time, on the way.
            ended |= broken_off(&data, 2);
            let store = Store::open(&data, Options::default()).unwrap();
            assert_eq!(all(&store), whole, "after {steps} steps");
            steps += 17;
        }
        assert!(steps > 30);
    }

    /// While it is under way the folder says so, and is no other program's.
    #[test]
    fn a_folder_whose_conversion_has_begun_says_so() {
        let folder = old();
        let data = folder.path().join("data");
        assert!(!broken_off(&data, 1));
        let version = || std::fs::read_to_string(data.join("VERSION")).unwrap();
        assert_eq!(version(), "highwater store 2 to 3\n");
        drop(Store::open(&data, Options::default()).unwrap());
        assert_eq!(version(), "highwater store 3\n");
    }
}
