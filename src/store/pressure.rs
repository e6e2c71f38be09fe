//! Pressure: how near the store is to making its writer wait, and the refusal to give before.
//!
//! The engine halts a writer while four memtables of a table wait to be written, or thirty runs of
//! files to be merged. Commands are refused before that, and before the disk is full.

use std::sync::atomic::Ordering;

use fjall::{AbstractTree, Keyspace};

use super::{OpenError, Store};
use crate::wire::{Code, Refusal};

/// Memtables of one table that wait, at which work is refused. The engine halts at 4.
const MOST_SEALED: usize = 3;
/// Unmerged runs of one table at which work is refused. The engine slows down at 20, halts at 30.
const MOST_RUNS: usize = 18;
/// Milliseconds to wait when the store is busy.
const BUSY_AFTER: u32 = 200;
/// Milliseconds to wait when the disk is nearly full.
const FULL_AFTER: u32 = 5_000;

/// What the store carries, as of one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Memtables that wait to be written to a file, of the table that has most.
    pub sealed_memtables_max: usize,
    /// Runs of files that wait to be merged, of the table that has most.
    pub runs_max: usize,
    /// Bytes in memory that wait to be written to files, of all tables.
    pub write_buffer_bytes: u64,
    /// Bytes of the engine's log.
    pub journal_bytes: u64,
    /// Bytes of rows, keys included, that were committed in this run.
    pub rows_bytes: u64,
    /// Bytes free on the disk.
    pub disk_free_bytes: u64,
    /// Bytes that must stay free.
    pub disk_reserve_bytes: u64,
}

impl Pressure {
    /// The refusal to give now, if one is due.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.disk_free_bytes < self.disk_reserve_bytes {
            return Some(Refusal::new(Code::StorageFull).after(FULL_AFTER));
        }
        let busy = self.sealed_memtables_max >= MOST_SEALED || self.runs_max >= MOST_RUNS;
        busy.then(|| Refusal::new(Code::Overloaded).after(BUSY_AFTER))
    }
}

impl Store {
    /// Looks. Costs some tens of microseconds: to be asked some times a second, not per command.
    ///
    /// # Errors
    /// When the disk cannot be asked.
    pub fn pressure(&self) -> Result<Pressure, OpenError> {
        let Self(inner) = self;
        let dir = inner.folder.dir();
        let disk = rustix::fs::statvfs(dir)
            .map_err(|error| OpenError::system(dir, &std::io::Error::from(error)))?;
        let tables = || inner.tables.iter().chain([&inner.journal, &inner.local]);
        let journal_bytes = inner.db.journal_disk_space().unwrap_or_default();
        Ok(Pressure {
            sealed_memtables_max: most(tables().map(Keyspace::sealed_memtable_count)),
            runs_max: most(tables().map(|table| table.tree.l0_run_count())),
            write_buffer_bytes: inner.db.write_buffer_size(),
            journal_bytes,
            rows_bytes: inner.rows_bytes.load(Ordering::Relaxed),
            disk_free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            disk_reserve_bytes: inner.options.disk_reserve_bytes,
        })
    }
}

fn most(counts: impl Iterator<Item = usize>) -> usize {
    counts.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_refused_before_the_engine_halts() {
        let calm = Pressure {
            sealed_memtables_max: MOST_SEALED - 1,
            runs_max: MOST_RUNS - 1,
            write_buffer_bytes: 0,
            journal_bytes: 0,
            rows_bytes: 0,
            disk_free_bytes: 10,
            disk_reserve_bytes: 10,
        };
        let code = |pressure: Pressure| pressure.refusal().map(|refusal| refusal.code);
        assert_eq!(code(calm), None);
        assert_eq!(code(Pressure { sealed_memtables_max: 3, ..calm }), Some(Code::Overloaded));
        assert_eq!(code(Pressure { runs_max: 18, ..calm }), Some(Code::Overloaded));
        assert_eq!(code(Pressure { disk_free_bytes: 9, ..calm }), Some(Code::StorageFull));
    }
}
