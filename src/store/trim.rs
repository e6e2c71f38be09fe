//! Trimming: what lies below a log's start, or belongs to a deleted log, goes when files merge.
//!
//! Promise: nothing that a reader may still read is dropped, and nothing on the word of a commit
//! that a crash can take back. Starts only rise and deletion is for good, so an old view of a log's
//! row is a careful one: the filter looks at rows as of the last *synced* commit, and keeps what it
//! does not understand.

use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, Keyspace, Readable, Snapshot};

use super::read::number;
use super::write::after_prefix;
use super::{Store, storage};
use crate::log::LogRow;
use crate::log::rows::{Key, RowsError, Table, read_row};

/// Tables whose keys begin with a log id.
const BY_LOG: [Table; 5] =
    [Table::Records, Table::Latest, Table::Snapshots, Table::Uploads, Table::Subscribers];

/// Where filters look rows of logs up: the table, and the last durable view of it. The view is held
/// open, since the engine forgets what nobody holds; so it must move on, see `write`.
#[derive(Default)]
pub(super) struct Watermarks(Mutex<Option<(Keyspace, Snapshot)>>);

impl Watermarks {
    /// What is committed up to this view is durable; from now on rows are looked up in it.
    pub(super) fn durable(&self, logs: &Keyspace, view: Snapshot) {
        self.set(Some((logs.clone(), view)));
    }

    /// Lets go of the table.
    pub(super) fn close(&self) {
        self.set(None);
    }

    fn set(&self, new: Option<(Keyspace, Snapshot)>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, new);
        drop(held);
        // Outside the lock: the table may be the last of its kind, and its end takes locks.
        drop(old);
    }

    fn lookup(&self) -> Lookup {
        let view = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Lookup { view, last: None }
    }
}

/// What a log's row says of what may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gone {
    below: u64,
    all: bool,
}

/// Looks rows of logs up, remembering the last one: keys come sorted.
struct Lookup {
    view: Option<(Keyspace, Snapshot)>,
    last: Option<(u64, Gone)>,
}

impl Lookup {
    fn gone(&mut self, log: u64) -> Gone {
        match self.last {
            Some((last, gone)) if last == log => gone,
            _ => {
                // A row that is missing or cannot be read keeps everything.
                let gone = self.read(log).unwrap_or(Gone { below: 0, all: false });
                self.last = Some((log, gone));
                gone
            }
        }
    }

    fn read(&self, log: u64) -> Option<Gone> {
        let (logs, view) = self.view.as_ref()?;
        let bytes = view.get(logs, log.to_be_bytes()).ok()??;
        let row: LogRow = read_row(Table::Logs, &bytes).ok()?;
        Some(Gone { below: row.start, all: row.deleted })
    }
}

/// Makes a filter for each merge of files of one table.
struct Filters {
    watermarks: Arc<Watermarks>,
    offsets: bool,
}

impl Factory for Filters {
    fn name(&self) -> &'static str {
        "watermark"
    }

    // Called with locks of the table held: nothing is read here.
    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter { lookup: self.watermarks.lookup(), offsets: self.offsets })
    }
}

/// The filter factory of a table, if it has one.
pub(super) fn filter_for(name: &str, watermarks: &Arc<Watermarks>) -> Option<Arc<dyn Factory>> {
    let table = BY_LOG.into_iter().find(|table| table.name() == name)?;
    let watermarks = Arc::clone(watermarks);
    Some(Arc::new(Filters { watermarks, offsets: table == Table::Records }))
}

struct Filter {
    lookup: Lookup,
    /// Whether an offset stands behind the log id.
    offsets: bool,
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let key = item.key();
        let Some(log) = number(key, 0) else { return Ok(Verdict::Keep) };
        let gone = self.lookup.gone(log);
        let below = self.offsets && number(key, 8).is_some_and(|offset| offset < gone.below);
        // Without a tombstone: nobody reads these keys again, so an older version cannot come back.
        Ok(if gone.all || below { Verdict::Destroy } else { Verdict::Keep })
    }
}

impl Store {
    /// Drops the files that hold nothing but what is trimmed or deleted of a log; the rest goes
    /// when files merge. Waits for merges that run.
    ///
    /// # Errors
    /// When storage fails.
    pub fn release(&self, log: u64) -> Result<(), RowsError> {
        let Gone { below, all } = self.0.watermarks.lookup().gone(log);
        let prefix = Key::of(log).build();
        let (tables, end) = if all {
            (BY_LOG.as_slice(), after_prefix(&prefix))
        } else {
            (&[Table::Records][..], Bound::Excluded(Key::of(log).then(below).build()))
        };
        for table in tables {
            let range = (Bound::Included(prefix.clone()), end.clone());
            let dropped = self.table(*table)?.tree.drop_range::<Vec<u8>, _>(range);
            dropped.map_err(|error| storage(error.into()))?;
        }
        Ok(())
    }

    /// Writes what a table has gathered in memory to a file, and merges all its files: everything
    /// that is trimmed goes. Takes as long as the table is large; commits go on.
    ///
    /// # Errors
    /// When storage fails.
    pub fn compact(&self, table: Table) -> Result<(), RowsError> {
        let table = self.table(table)?;
        table.rotate_memtable_and_wait().map_err(storage)?;
        table.major_compact().map_err(storage)
    }

    /// Bytes of a table's files.
    ///
    /// # Errors
    /// When there is no such table.
    pub fn disk_bytes(&self, table: Table) -> Result<u64, RowsError> {
        Ok(self.table(table)?.disk_space())
    }
}
