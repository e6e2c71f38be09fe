//! The store: every table of the fold, the local journal and this folder's identities, on disk.
//!
//! Promise: a commit is one atom, durable before it is visible; after one that failed there is
//! none. Reads are bounded by their arguments and never see a row that a crash can still take back
//! (when commits are synced). What is trimmed goes when files are merged, never sooner than its
//! trim is durable. `docs/storage.md` is the format. It knows no socket, no clock and no task:
//! calls block, and belong on threads that may wait for a disk.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

pub mod backup;
pub mod check;
mod convert;
mod engine;
mod folder;
mod having;
mod newest;
mod origins;
mod present;
mod pressure;
mod read;
mod trim;
mod write;

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use fjall::config::CompressionPolicy;
use fjall::{AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use serde::{Deserialize, Serialize};

pub use folder::OpenError;
pub use present::Lost;
pub use pressure::Pressure;
pub use read::{LatestPage, Wanted};
pub use write::{Kept, StoreError};

use crate::rows::{RowsError, Table, Writes};
use crate::wire::{Id, codec};
use engine::Order;
use folder::Folder;
use present::Present;
use trim::Watermarks;
use write::Writing;

/// Sizes and reserves. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Blocks of files kept in memory.
    pub cache_bytes: u64,
    /// What the busiest tables gather in memory before a file is written; others gather less.
    /// Fixed when the folder is made.
    pub memtable_bytes: u64,
    /// What all tables together gather; over that the largest is written.
    pub write_buffer_bytes: u64,
    /// Below so much free disk nothing more is taken.
    pub disk_reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            memtable_bytes: 16 << 20,
            write_buffer_bytes: 64 << 20,
            disk_reserve_bytes: 256 << 20,
        }
    }
}

/// The engine's own log is held to about this; it is what a start has to replay.
const ENGINE_LOG_BYTES: u64 = 128 << 20;
const JOURNAL: &str = "journal";
const LOCAL: &str = "local";
const IDENTITY: &[u8] = b"identity";

/// Who this folder is; made with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    journal: Id,
    node: Id,
}

/// A handle on the store; clones share it. The folder is free again when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

/// Fields are dropped in this order: the engine is closed before the folder's lock goes.
struct Inner {
    tables: Vec<Keyspace>,
    journal: Keyspace,
    local: Keyspace,
    watermarks: Arc<Watermarks>,
    identity: Identity,
    options: Options,
    writing: Mutex<Writing>,
    /// How often commits were synced, for those who do not wait.
    syncs: AtomicU64,
    /// Held by a reader that has a table written to a file.
    settling: Mutex<()>,
    /// Bytes of rows, keys included, that were committed in this run.
    rows_bytes: AtomicU64,
    origins: origins::Origins,
    present: OnceLock<Present>,
    /// Why the folder is lost.
    lost: OnceLock<String>,
    db: Database,
    folder: Folder,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The engine's settings hold the watermarks, and these a table of the engine.
        self.watermarks.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("dir", &self.0.folder.dir()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the data folder, making it where there is none.
    ///
    /// # Errors
    /// An [`OpenError`] that says what to do.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let store = Self::open_in(Folder::open(dir, false)?, options, None)?;
        if store.0.folder.fresh() || store.0.folder.to_convert() {
            store.0.folder.finish()?;
        }
        store.check_newest()?;
        store.note_present()?;
        Ok(store)
    }

    /// Opens a folder; one that is made anew is of a journal of its own, or of the one told, and
    /// counts once it is finished.
    fn open_in(mut folder: Folder, options: Options, of: Option<Id>) -> Result<Self, OpenError> {
        let watermarks = Arc::new(Watermarks::default());
        let order = if folder.fresh() { Order::default() } else { look_over(&folder)? };
        let db = open_engine(&folder, &options, &watermarks)?;
        folder.begin_conversion()?;
        let dir = folder.dir();
        let failed = |error: fjall::Error| engine_error(dir, error);
        let open = |name: &str, share: u64| {
            let memtable = (options.memtable_bytes / share).max(1 << 20);
            let is_made = folder.fresh() || (folder.to_convert() && convert::is_new(name));
            if !is_made && !db.keyspace_exists(name) {
                return Err(damaged(dir, &format!("the table {name} is missing")));
            }
            db.keyspace(name, || keyspace_options(name, memtable)).map_err(failed)
        };
        let tables: Result<Vec<_>, _> =
            Table::ALL.iter().map(|table| open(table.name(), share(*table))).collect();
        let (tables, journal, local) = (tables?, open(JOURNAL, 1)?, open(LOCAL, 4)?);
        check_tail(dir, &tables, &journal, &local, &order)?;
        if folder.to_convert() {
            let parts = convert::Tables { dir, db: &db, tables: &tables, local: &local };
            convert::convert(&parts)?;
        }
        let identity = identify(&folder, &db, &local, of)?;
        let writing = Writing::load(&local).map_err(|error| damaged(dir, &error))?;
        let of = |table: Table| tables.get(table as usize);
        if let (Some(logs), Some(meta)) = (of(Table::Logs), of(Table::Meta)) {
            // Recovery has synced what it found.
            watermarks.durable(logs, meta, db.snapshot());
        }
        let writing = Mutex::new(writing);
        let inner = Inner {
            tables,
            journal,
            local,
            watermarks,
            identity,
            options,
            writing,
            syncs: AtomicU64::default(),
            settling: Mutex::default(),
            rows_bytes: AtomicU64::new(0),
            origins: Default::default(),
            present: OnceLock::new(),
            lost: OnceLock::new(),
            db,
            folder,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The data folder.
    pub fn dir(&self) -> &Path {
        self.0.folder.dir()
    }

    /// The journal that this folder's own engine keeps, by the id made with the folder.
    pub fn journal_id(&self) -> Id {
        self.0.identity.journal
    }

    /// The node that runs on this folder, by the id made with the folder.
    pub fn node_id(&self) -> Id {
        self.0.identity.node
    }

    /// The keyspace of a table.
    fn table(&self, table: Table) -> Result<&Keyspace, RowsError> {
        let missing = || RowsError::Storage(format!("the table {} is not open", table.name()));
        self.0.tables.get(table as usize).ok_or_else(missing)
    }
}

/// What a folder's file `VERSION` says, where a start has still to convert its rows; nothing is
/// changed. None where they are of today's format.
///
/// # Errors
/// An [`OpenError`] where it is no data folder, or one of a format that is not known.
pub fn unconverted(dir: &Path) -> Result<Option<&'static str>, OpenError> {
    folder::unconverted(dir)
}

/// Refuses what the engine would take for something else, and leaves out a last commit that a kill
/// or a loss of power left in part.
fn look_over(folder: &Folder) -> Result<Order, OpenError> {
    let dir = folder.dir();
    let (order, torn) = engine::look(&folder.store()).map_err(|harm| harm.told(dir))?;
    if let Some(torn) = torn {
        let bytes = torn.cut().map_err(|error| OpenError::system(dir, &error))?;
        tracing::info!(bytes, "the last commit was not written whole, and answered to nobody");
    }
    Ok(order)
}

fn open_engine(
    folder: &Folder,
    options: &Options,
    watermarks: &Arc<Watermarks>,
) -> Result<Database, OpenError> {
    let filters = Arc::clone(watermarks);
    // One of them is kept for flushes while the others merge; a lone one would do either.
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    Database::builder(folder.store())
        .cache_size(options.cache_bytes)
        .max_journaling_size(ENGINE_LOG_BYTES)
        .worker_threads(workers)
        .manual_journal_persist(true)
        .with_compaction_filter_factories(Arc::new(move |name| trim::filter_for(name, &filters)))
        .open()
        .map_err(|error| engine_error(folder.dir(), error))
}

/// Tables that take most of the writing gather most before a file is written.
const fn share(table: Table) -> u64 {
    match table {
        Table::Records | Table::Latest => 1,
        Table::Logs | Table::Outcomes | Table::Connections | Table::Snapshots => 2,
        _ => 4,
    }
}

fn keyspace_options(name: &str, memtable: u64) -> KeyspaceCreateOptions {
    let options = KeyspaceCreateOptions::default().max_memtable_size(memtable);
    let bulky = [Table::Records, Table::Latest, Table::Snapshots].map(Table::name);
    if name == JOURNAL || bulky.contains(&name) {
        // Compressed from the first file on: a file that overlaps no other moves down as it is.
        return options.data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4));
    }
    options
}

/// Every commit writes to `local`: so no table may hold a later change than it. And the files of
/// each table end with a commit, which stands in the log or lies before all that do; those of
/// `local` reach to where the log begins.
fn check_tail(
    dir: &Path,
    tables: &[Keyspace],
    journal: &Keyspace,
    local: &Keyspace,
    order: &Order,
) -> Result<(), OpenError> {
    let last = local.tree.get_highest_seqno();
    for table in tables.iter().chain([journal, local]) {
        let name = table.name();
        if table.tree.get_highest_seqno() > last {
            let (dir, table) = (dir.to_owned(), name.to_string());
            return Err(OpenError::TailLost { dir, table });
        }
        let written = table.tree.get_highest_persisted_seqno();
        if let Some(number) = written.filter(|number| !order.knows(*number)) {
            let problem = format!("the table {name} ends with the commit {number}: no such one");
            return Err(damaged(dir, &problem));
        }
    }
    let written = local.tree.get_highest_persisted_seqno();
    match order.before().filter(|before| written.is_none_or(|written| written < *before)) {
        Some(before) => {
            let problem = format!(
                "the engine's log begins behind the commit {before}, which the \
                                   table {LOCAL} has not: the log's beginning is missing"
            );
            Err(damaged(dir, &problem))
        }
        None => Ok(()),
    }
}

/// The identities of the folder, made now if it is new.
fn identify(
    folder: &Folder,
    db: &Database,
    local: &Keyspace,
    of: Option<Id>,
) -> Result<Identity, OpenError> {
    let failed = |error: fjall::Error| engine_error(folder.dir(), error);
    if folder.fresh() {
        let journal = of.unwrap_or_else(|| Id(rand::random()));
        let identity = Identity { journal, node: Id(rand::random()) };
        let mut batch = db.batch().durability(Some(fjall::PersistMode::SyncAll));
        batch.insert(local, IDENTITY, codec::to_bytes(&identity));
        batch.commit().map_err(failed)?;
        return Ok(identity);
    }
    let bytes = local.get(IDENTITY).map_err(failed)?;
    let Some(bytes) = bytes else { return Err(damaged(folder.dir(), &"its identity is missing")) };
    codec::from_bytes(LOCAL, &bytes).map_err(|error| damaged(folder.dir(), &error))
}

fn damaged(dir: &Path, problem: &dyn std::fmt::Display) -> OpenError {
    OpenError::Damaged { dir: dir.to_owned(), problem: problem.to_string() }
}

/// An error of the engine at start: the system's, another holder of its lock, or damage.
fn engine_error(dir: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
            match OpenError::system(dir, &error) {
                // Files that are missing or end too soon are damage, not a fault of the system.
                OpenError::Io { dir, problem } => OpenError::Damaged { dir, problem },
                other => other,
            }
        }
        fjall::Error::Locked => OpenError::InUse(dir.to_owned()),
        other => damaged(dir, &other),
    }
}

/// What the engine says, as the fold's readers know it.
fn storage(error: fjall::Error) -> RowsError {
    RowsError::Storage(error.to_string())
}

/// Bytes that a batch of writes holds, keys included.
fn size_of(writes: &Writes) -> usize {
    let rows =
        writes.rows.iter().map(|((_, key), value)| key.len() + value.as_ref().map_or(0, Vec::len));
    let records = writes.records.iter().map(|(_, _, value)| 16 + value.len());
    rows.sum::<usize>() + records.sum::<usize>()
}
