//! Writing: commits, checkpoints, and the table that the local journal lives in.
//!
//! One commit is one atomic write of the engine, which writes its log, syncs it, and only then puts
//! rows where readers find them. Records are put before rows, so that who sees a head sees what
//! lies below it. A write or sync that failed is never tried again.

use std::ops::Bound;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use fjall::{AbstractTree, Keyspace, OwnedWriteBatch, PersistMode};
use serde::{Deserialize, Serialize};

use super::read::number;
use super::{LOCAL, Store, size_of, storage};
use crate::rows::{Key, RowsError, Table, Writes};
use crate::wire::codec::{self, FrameError};

pub(super) const HEAD: &[u8] = b"head";
/// Most batches of the local journal that one commit drops.
const DROP_AT_ONCE: usize = 4096;
/// After so many bytes of commits without sync comes a checkpoint: the engine holds in memory what
/// was written since the last one, for the view that trims are looked up in.
const CHECKPOINT_AFTER: usize = 16 << 20;
/// The tables' memory is looked at after so many bytes written.
const LOOK_AFTER: usize = 1 << 20;

/// A commit was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The engine failed; what was to be written may or may not be on disk, and no reader sees it.
    #[error("storage failed ({0}): stop the node, check the disk, start again")]
    Failed(String),
    /// An earlier commit failed; nothing was tried.
    #[error("storage failed before ({0}): stop the node, check the disk, start again")]
    Stopped(String),
    /// The batch does not follow the last one; nothing was written.
    #[error("batch {batch} does not follow batch {head} in the local journal")]
    Order {
        /// The batch.
        batch: u64,
        /// The last one.
        head: u64,
    },
}

/// What the local journal keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// First batch kept; head + 1 when none is.
    pub start: u64,
    /// Last batch; 0 before the first.
    pub head: u64,
    /// Bytes of those kept.
    pub bytes: u64,
}

/// The row `head` of `local`: written by every commit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LocalHead {
    commits: u64,
    start: u64,
    head: u64,
    bytes: u64,
    /// The engine's number of the commit before this one; see `engine`.
    before: u64,
}

impl LocalHead {
    /// As the row has it; one of an earlier program has no `before`.
    fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        codec::from_bytes(LOCAL, bytes).or_else(|_| {
            let (commits, start, head, bytes) = codec::from_bytes(LOCAL, bytes)?;
            Ok(Self { commits, start, head, bytes, before: 0 })
        })
    }
}

/// What the committing thread holds.
#[derive(Debug)]
pub(super) struct Writing {
    head: LocalHead,
    /// Why nothing is written any more.
    stopped: Option<String>,
    /// Bytes written since the tables' memory was looked at.
    unlooked: usize,
    /// Bytes written since everything was durable, about.
    unsynced: usize,
}

impl Writing {
    /// As the folder has it.
    pub(super) fn load(local: &Keyspace) -> Result<Self, RowsError> {
        let head = match local.get(HEAD).map_err(storage)? {
            Some(bytes) => LocalHead::read(&bytes)
                .map_err(|error| RowsError::Damaged { table: LOCAL, problem: error.to_string() })?,
            None => LocalHead { commits: 0, start: 1, head: 0, bytes: 0, before: 0 },
        };
        Ok(Self { head, stopped: None, unlooked: 0, unsynced: 0 })
    }

    const fn kept(&self) -> Kept {
        let LocalHead { start, head, bytes, .. } = self.head;
        Kept { start, head, bytes }
    }
}

impl Store {
    /// Commits a batch's changes, and the batch itself where the journal is this folder's own, in
    /// one atom. With `sync` it is durable before it is visible and before this returns; without,
    /// it survives the end of the process but not a loss of power before the next checkpoint, which
    /// comes by itself every 16 MiB, and with [`Store::sync`].
    ///
    /// # Errors
    /// When the batch is not the next one; when storage fails, after which every commit does.
    pub fn commit(
        &self,
        writes: Writes,
        journal: Option<(u64, &[u8])>,
        sync: bool,
    ) -> Result<(), StoreError> {
        self.write(writes, journal, None, sync)
    }

    /// Appends to the local journal, with the batch's effects; what is over `keep` bytes of older
    /// batches goes in the same atom. The batch's number.
    pub(crate) fn append(
        &self,
        batch: &[u8],
        effects: Writes,
        keep: u64,
    ) -> Result<u64, StoreError> {
        let number = self.kept().head + 1;
        self.write(effects, Some((number, batch)), Some(keep), true)?;
        Ok(number)
    }

    /// Makes everything committed so far durable: a checkpoint.
    ///
    /// # Errors
    /// When storage fails, after which every commit does.
    pub fn sync(&self) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        self.checkpoint(&mut writing)
    }

    /// Waits for the commit that is being made, if one is. The rows of a commit become visible one
    /// after another: who has seen one of them, and asks this, sees all of them afterwards.
    pub fn settled(&self) {
        drop(self.0.writing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How often commits were synced since it was opened. Does not wait for one under way.
    pub fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::Relaxed)
    }

    /// What the local journal keeps.
    pub fn kept(&self) -> Kept {
        self.0.writing.lock().unwrap_or_else(PoisonError::into_inner).kept()
    }

    /// Looks while no commit is being made; with what the local journal keeps then.
    pub(super) fn between_commits<T>(&self, look: impl FnOnce(&Self) -> T) -> (T, Kept) {
        let writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (look(self), writing.kept())
    }

    /// Has the local journal go on behind a batch, of which and of those before none is kept.
    pub(super) fn set_batch(&self, batch: u64) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let head = LocalHead { start: batch + 1, head: batch, bytes: 0, ..writing.head };
        let last = self.batch(false);
        self.put(&mut writing, last, head, false)
    }

    /// Ends the local journal: the order of batches is decided elsewhere from now on, and what was
    /// kept of them goes. A node that decides the order itself does not start on the folder again.
    ///
    /// # Errors
    /// When storage fails.
    pub fn end_local(&self) -> Result<(), StoreError> {
        let kept = self.kept();
        if kept.head == 0 {
            return Ok(());
        }
        self.drop_batches(kept.head + 1)?;
        self.set_batch(0)
    }

    /// Batches of the local journal from `from` on, up to about `most` bytes, at least one if there
    /// is one; stops at a hole.
    ///
    /// # Errors
    /// When storage fails.
    pub fn batches(&self, from: u64, most: usize) -> Result<Vec<(u64, Bytes)>, RowsError> {
        let mut found = Vec::new();
        let mut bytes = 0;
        for guard in self.0.journal.range(from.to_be_bytes()..) {
            let (key, value) = guard.into_inner().map_err(storage)?;
            let due = from + found.len() as u64;
            if *key != due.to_be_bytes() || (bytes + value.len() > most && !found.is_empty()) {
                break;
            }
            bytes += value.len();
            found.push((due, Bytes::copy_from_slice(&value)));
        }
        Ok(found)
    }

    /// Drops batches of the local journal below `before`, a bounded number per commit.
    pub(crate) fn drop_batches(&self, before: u64) -> Result<(), StoreError> {
        loop {
            let mut writing = self.writing()?;
            let mut head = writing.head;
            if head.start >= before.min(head.head + 1) {
                return Ok(());
            }
            let mut batch = self.batch(false);
            let from = head.start;
            self.drop_oldest(&mut batch, &mut head, before, None)?;
            if head.start == from {
                let why = format!("batch {from} is missing from the local journal");
                return Err(StoreError::Failed(why));
            }
            self.put(&mut writing, batch, head, false)?;
        }
    }

    /// The committing side, for one writer at a time; refused when an earlier write failed.
    fn writing(&self) -> Result<MutexGuard<'_, Writing>, StoreError> {
        let writing = self.0.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match writing.stopped.as_ref().or_else(|| self.0.lost.get()) {
            Some(why) => Err(StoreError::Stopped(why.clone())),
            None => Ok(writing),
        }
    }

    fn batch(&self, sync: bool) -> OwnedWriteBatch {
        let mode = if sync { PersistMode::SyncData } else { PersistMode::Buffer };
        self.0.db.batch().durability(Some(mode))
    }

    fn write(
        &self,
        writes: Writes,
        journal: Option<(u64, &[u8])>,
        keep: Option<u64>,
        sync: bool,
    ) -> Result<(), StoreError> {
        let mut writing = self.writing()?;
        let mut head = writing.head;
        let mut size = size_of(&writes);
        let rows = size as u64;
        let mut batch = self.batch(sync);
        self.fill(&mut batch, writes)?;
        if let Some((number, bytes)) = journal {
            if number != head.head + 1 {
                return Err(StoreError::Order { batch: number, head: head.head });
            }
            head.head = number;
            if keep == Some(0) {
                // Nobody reads it again: what it brings about is in this very commit.
                head.start = number + 1;
                if head.bytes > 0 {
                    self.drop_leftover(&mut batch, &mut head)?;
                }
            } else {
                batch.insert(&self.0.journal, number.to_be_bytes(), bytes);
                head.bytes += bytes.len() as u64;
                size += bytes.len();
            }
            if keep.is_some_and(|keep| keep > 0 && head.bytes > keep) {
                self.drop_oldest(&mut batch, &mut head, number, keep)?;
            }
        }
        self.put(&mut writing, batch, head, sync)?;
        self.0.rows_bytes.fetch_add(rows, Ordering::Relaxed);
        writing.unlooked += size;
        writing.unsynced += size;
        if writing.unsynced > CHECKPOINT_AFTER {
            // This commit is made; if syncing fails, the next one says so.
            self.checkpoint(&mut writing).ok();
        }
        if writing.unlooked > LOOK_AFTER {
            writing.unlooked = 0;
            if let Err(error) = self.hold_memory() {
                // This commit is made; the next one says so.
                writing.stopped = Some(error.to_string());
            }
        }
        Ok(())
    }

    /// Puts rows into a batch of the engine: who appended before records that name it by number,
    /// records before heads, see the module's word on order.
    fn fill(&self, batch: &mut OwnedWriteBatch, writes: Writes) -> Result<(), StoreError> {
        let failed = |error: RowsError| StoreError::Failed(error.to_string());
        let origins = self.table(Table::Origins).map_err(failed)?;
        let mut rows = writes.rows;
        let mut others = rows.split_off(&(Table::Origins, Vec::new()));
        let mut after = others.split_off(&(Table::Eras, Vec::new()));
        for ((_, key), value) in others {
            match value {
                Some(value) => batch.insert(origins, key, value),
                None => batch.remove(origins, key),
            }
        }
        rows.append(&mut after);
        let records = self.table(Table::Records).map_err(failed)?;
        for (log, offset, value) in writes.records {
            batch.insert(records, Key::of(log).then(offset).build(), value);
        }
        for ((table, key), value) in rows {
            let table = self.table(table).map_err(failed)?;
            match value {
                Some(value) => batch.insert(table, key, value),
                None => batch.remove(table, key),
            }
        }
        Ok(())
    }

    /// Drops the oldest batches below `before`, where there is a bound only while more is kept.
    fn drop_oldest(
        &self,
        batch: &mut OwnedWriteBatch,
        head: &mut LocalHead,
        before: u64,
        keep: Option<u64>,
    ) -> Result<(), StoreError> {
        let from = head.start.to_be_bytes();
        for guard in self.0.journal.range(from..).take(DROP_AT_ONCE) {
            let failed = |error: fjall::Error| StoreError::Failed(error.to_string());
            let (key, value) = guard.into_inner().map_err(failed)?;
            let Some(oldest) = number(&key, 0).filter(|oldest| *oldest < before) else { break };
            if keep.is_some_and(|keep| head.bytes <= keep) {
                break;
            }
            head.bytes = head.bytes.saturating_sub(value.len() as u64);
            head.start = oldest + 1;
            batch.remove(&self.0.journal, key);
        }
        Ok(())
    }

    /// Drops batches that were kept before none were.
    fn drop_leftover(
        &self,
        batch: &mut OwnedWriteBatch,
        head: &mut LocalHead,
    ) -> Result<(), StoreError> {
        let mut dropped = 0;
        for guard in self.0.journal.iter().take(DROP_AT_ONCE) {
            let failed = |error: fjall::Error| StoreError::Failed(error.to_string());
            let (key, value) = guard.into_inner().map_err(failed)?;
            head.bytes = head.bytes.saturating_sub(value.len() as u64);
            batch.remove(&self.0.journal, key);
            dropped += 1;
        }
        if dropped < DROP_AT_ONCE {
            head.bytes = 0;
        }
        Ok(())
    }

    /// Commits; the new head counts once that is done.
    fn put(
        &self,
        writing: &mut Writing,
        mut batch: OwnedWriteBatch,
        mut head: LocalHead,
        sync: bool,
    ) -> Result<(), StoreError> {
        head.commits += 1;
        head.before = self.0.local.tree.get_highest_seqno().unwrap_or_default();
        batch.insert(&self.0.local, HEAD, codec::to_bytes(&head));
        let done = batch.commit();
        self.settle(writing, done)?;
        writing.head = head;
        if sync {
            self.durable(writing);
        }
        Ok(())
    }

    fn checkpoint(&self, writing: &mut Writing) -> Result<(), StoreError> {
        let synced = self.0.db.persist(PersistMode::SyncData);
        self.settle(writing, synced)?;
        self.durable(writing);
        Ok(())
    }

    /// Everything committed is durable. No other commit comes between: who calls this holds the
    /// committing side.
    fn durable(&self, writing: &mut Writing) {
        writing.unsynced = 0;
        self.0.syncs.fetch_add(1, Ordering::Relaxed);
        if let (Ok(logs), Ok(meta)) = (self.table(Table::Logs), self.table(Table::Meta)) {
            self.0.watermarks.durable(logs, meta, self.0.db.snapshot());
        }
    }

    /// A failure of the engine is the last thing that is written.
    fn settle(&self, writing: &mut Writing, done: fjall::Result<()>) -> Result<(), StoreError> {
        let done = done.map_err(|error| error.to_string());
        // What a folder that is lost has synced is lost with it.
        done.and_then(|()| self.0.lost.get().cloned().map_or(Ok(()), Err)).map_err(|why| {
            writing.stopped = Some(why.clone());
            StoreError::Failed(why)
        })
    }

    /// Has the largest table written to a file when all together gather too much in memory.
    fn hold_memory(&self) -> fjall::Result<()> {
        let Self(inner) = self;
        let gathered = |table: &Keyspace| table.tree.active_memtable().size();
        let all = inner.tables.iter().chain([&inner.journal, &inner.local]);
        let (mut sum, mut largest) = (0, None);
        for table in all {
            let size = gathered(table);
            sum += size;
            if largest.is_none_or(|(most, _)| size > most) {
                largest = Some((size, table));
            }
        }
        if let Some((_, table)) = largest.filter(|_| sum > inner.options.write_buffer_bytes) {
            table.rotate_memtable()?;
        }
        Ok(())
    }
}

/// The first key that does not begin with a prefix and lies above those that do.
pub(super) fn after_prefix(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}
