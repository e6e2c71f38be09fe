//! Trimming: what lies below a log's start, or belongs to a deleted log, goes when files merge; so
//! does a batch's row in the order of places once it names nothing that is kept.
//!
//! Promise: nothing that a reader may still read is dropped, and nothing on the word of a commit
//! that a crash can take back. Starts only rise and deletion is for good, so an old view of a log's
//! row is a careful one: the filter looks at rows as of the last *synced* commit, and keeps what it
//! does not understand.

use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use fjall::compaction::filter::{
    CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict,
};
use fjall::{AbstractTree, Keyspace, Readable, Snapshot};

use super::read::number;
use super::write::after_prefix;
use super::{Store, storage};
use crate::log::LogRow;
use crate::log::place::{NEWEST_KEPT, PlaceRow};
use crate::rows::{Key, RowsError, Table, read_row};
use crate::wire::{Id, codec};

/// Tables whose keys begin with a log id.
pub(super) const BY_LOG: [Table; 6] = [
    Table::Records,
    Table::Latest,
    Table::Snapshots,
    Table::Uploads,
    Table::Subscribers,
    Table::Pages,
];

/// Of those, the ones in which an offset stands behind the log id.
pub(super) const BY_OFFSET: [Table; 2] = [Table::Records, Table::Pages];

/// The last durable view of what filters look up: rows of logs, and how far the fold came.
#[derive(Clone)]
struct View {
    logs: Keyspace,
    meta: Keyspace,
    view: Snapshot,
}

/// Where filters look rows up. The view is held open, since the engine forgets what nobody holds;
/// so it must move on, see `write`.
#[derive(Default)]
pub(super) struct Watermarks {
    view: Mutex<Option<View>>,
    /// Those who need what is there to stay.
    holders: AtomicUsize,
}

/// Keeps watermarks where they are until it is dropped: nothing more is trimmed from files.
pub(super) struct Held(Arc<Watermarks>);

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Held")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.holders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watermarks {
    /// What is committed up to this view is durable; from now on rows are looked up in it, unless
    /// somebody needs them to stay.
    pub(super) fn durable(&self, logs: &Keyspace, meta: &Keyspace, view: Snapshot) {
        if self.holders.load(Ordering::Relaxed) == 0 {
            self.set(Some(View { logs: logs.clone(), meta: meta.clone(), view }));
        }
    }

    /// Keeps them as they are. Whoever calls this has the committing side: no view comes meanwhile.
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.holders.fetch_add(1, Ordering::Relaxed);
        Held(Arc::clone(self))
    }

    /// Lets go of the table.
    pub(super) fn close(&self) {
        self.set(None);
    }

    fn set(&self, new: Option<View>) {
        let mut held = self.view.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *held, new);
        drop(held);
        // Outside the lock: the table may be the last of its kind, and its end takes locks.
        drop(old);
    }

    fn lookup(&self) -> Lookup {
        let view = self.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Lookup { view, last: None, head: None }
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
    view: Option<View>,
    last: Option<(u64, Gone)>,
    /// The last batch, once it was looked up.
    head: Option<u64>,
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
        let View { logs, view, .. } = self.view.as_ref()?;
        let bytes = view.get(logs, log.to_be_bytes()).ok()??;
        let row: LogRow = read_row(Table::Logs, &bytes).ok()?;
        Some(Gone { below: row.start, all: row.deleted })
    }

    /// The last batch of the view; 0 where that cannot be known, which keeps everything.
    fn head(&mut self) -> u64 {
        if let Some(known) = self.head {
            return known;
        }
        let read = || {
            let View { meta, view, .. } = self.view.as_ref()?;
            let row = view.get(meta, "head").ok()??;
            // The row begins with journal and batch.
            codec::from_bytes::<(Id, u64)>("meta", &row).ok().map(|(_, batch)| batch)
        };
        *self.head.insert(read().unwrap_or_default())
    }

    /// Whether the row of a batch names nothing that is kept, and is not among the newest.
    fn places_gone(&mut self, batch: u64, row: &[u8]) -> bool {
        if self.head().saturating_sub(batch) < NEWEST_KEPT {
            return false;
        }
        let Ok(row) = read_row::<PlaceRow>(Table::Places, row) else { return false };
        row.runs.iter().all(|run| {
            let gone = self.gone(run.log);
            gone.all || run.end() <= gone.below
        })
    }
}

/// Makes a filter for each merge of files of one table.
struct Filters {
    watermarks: Arc<Watermarks>,
    keys: Keys,
}

/// What stands in the keys of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keys {
    /// A log id.
    Log,
    /// A log id and an offset.
    LogOffset,
    /// A batch; its row names records.
    Batch,
}

impl Factory for Filters {
    fn name(&self) -> &'static str {
        "watermark"
    }

    // Called with locks of the table held: nothing is read here.
    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Filter { lookup: self.watermarks.lookup(), keys: self.keys })
    }
}

/// The filter factory of a table, if it has one.
pub(super) fn filter_for(name: &str, watermarks: &Arc<Watermarks>) -> Option<Arc<dyn Factory>> {
    let filtered = BY_LOG.into_iter().chain([Table::Places]);
    let keys = match filtered.into_iter().find(|table| table.name() == name)? {
        table if BY_OFFSET.contains(&table) => Keys::LogOffset,
        Table::Places => Keys::Batch,
        _ => Keys::Log,
    };
    let watermarks = Arc::clone(watermarks);
    Some(Arc::new(Filters { watermarks, keys }))
}

struct Filter {
    lookup: Lookup,
    keys: Keys,
}

impl CompactionFilter for Filter {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        let key = item.key();
        let Some(first) = number(key, 0) else { return Ok(Verdict::Keep) };
        let destroy = match self.keys {
            Keys::Batch => self.lookup.places_gone(first, &item.value()?),
            Keys::Log => self.lookup.gone(first).all,
            Keys::LogOffset => {
                let gone = self.lookup.gone(first);
                gone.all || number(key, 8).is_some_and(|offset| offset < gone.below)
            }
        };
        // Without a tombstone: nobody reads these keys again, so an older version cannot come back.
        Ok(if destroy { Verdict::Destroy } else { Verdict::Keep })
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
            (BY_OFFSET.as_slice(), Bound::Excluded(Key::of(log).then(below).build()))
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
