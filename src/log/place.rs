//! The order of places: for each batch, where its records are.
//!
//! It is the lane over everything: rows in the order of batches, each with the count of all records
//! before it, so that the n-th record of all is found by binary search. Each row also holds the
//! first bytes of the chain, by which positions are told apart, and of the running hash of all rows
//! that were written, by which nodes that fold differently are found out.
//!
//! A row is kept while any record it names is, and in any case while it is among the newest
//! [`NEWEST_KEPT`]. When it goes is decided by every node for itself, as files are merged; so the
//! fold asks `PlaceRow::kept`, which depends on the fold's state alone, before it believes one.

use serde::{Deserialize, Serialize};

use super::Logs;
use super::row::LogRow;
use crate::rows::{Io, Key, More, RowsError, Table};
use crate::wire::{ChainTag, Place};

/// The rows of so many newest batches are kept whatever becomes of their records.
pub const NEWEST_KEPT: u64 = 65_536;
/// Runs that are looked at to find whether a row is kept: a batch can have very many.
const LOOKED_AT: usize = 64;

/// Records that stand one behind another, in places and in their log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Index of the first one's place.
    pub index: u32,
    /// The log.
    pub log: u64,
    /// Offset of the first one.
    pub offset: u64,
    /// How many.
    pub many: u32,
}

impl Run {
    /// The offset after the last one.
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.many as u64)
    }

    /// Whether any of them is kept, going by its log's row.
    pub const fn kept(&self, log: &LogRow) -> bool {
        !log.deleted && log.start < self.end()
    }
}

/// The row of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceRow {
    /// Records in all batches before.
    pub before: u64,
    /// First bytes of the chain after the batch.
    pub chain: ChainTag,
    /// The running hash of rows written after the batch.
    pub rows: ChainTag,
    /// Its records, by place.
    pub runs: Vec<Run>,
    /// What is to come.
    pub more: More,
}

impl PlaceRow {
    /// Notes a record; they come in the order of places.
    pub(crate) fn note(&mut self, place: Place, log: u64, offset: u64) {
        if let Some(last) = self.runs.last_mut()
            && (last.log, last.end()) == (log, offset)
            && last.index.saturating_add(last.many) == place.index
        {
            last.many += 1;
            return;
        }
        self.runs.push(Run { index: place.index, log, offset, many: 1 });
    }

    /// Records in all batches up to this one.
    pub fn after(&self) -> u64 {
        self.before + self.runs.iter().map(|run| u64::from(run.many)).sum::<u64>()
    }

    /// Whether the row of `batch` is still to be believed where the newest is `head`.
    ///
    /// # Errors
    /// When storage fails.
    fn kept(&self, batch: u64, head: u64, logs: &mut Logs, io: &Io<'_>) -> Result<bool, RowsError> {
        if head.saturating_sub(batch) < NEWEST_KEPT {
            return Ok(true);
        }
        for run in self.runs.iter().take(LOOKED_AT) {
            if logs.row(run.log, io)?.is_some_and(|row| run.kept(row)) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The first bytes of the chain after a batch, where its row is kept.
///
/// # Errors
/// When storage fails or the row is damaged.
pub(crate) fn chain_after(
    batch: u64,
    head: u64,
    logs: &mut Logs,
    io: &Io<'_>,
) -> Result<Option<ChainTag>, RowsError> {
    let row: Option<PlaceRow> = io.get(Table::Places, &Key::of(batch).build())?;
    let Some(row) = row else { return Ok(None) };
    Ok(row.kept(batch, head, logs, io)?.then_some(row.chain))
}

/// The first bytes of a hash.
pub fn tag(hash: &[u8; 32]) -> ChainTag {
    let mut tag = ChainTag::default();
    tag.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_one_behind_another_are_one_run() {
        let mut row = PlaceRow { before: 10, ..PlaceRow::default() };
        let at = |index| Place { batch: 1, index };
        for (index, log, offset) in [(0, 1, 5), (1, 1, 6), (2, 2, 0), (4, 2, 1), (5, 2, 2)] {
            row.note(at(index), log, offset);
        }
        let run = |index, log, offset, many| Run { index, log, offset, many };
        assert_eq!(row.runs, [run(0, 1, 5, 2), run(2, 2, 0, 1), run(4, 2, 1, 2)]);
        assert_eq!(row.after(), 15);
    }
}
