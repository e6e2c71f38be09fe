//! A store's rows of one moment, piece by piece.
//!
//! The view is taken between two commits. Rows that readers no longer get (below a log's start, or
//! of a deleted log) go from files at no known time, so they are left out; and what is trimmed
//! while the view is open stays until it is closed.

use std::ops::Bound;

use blake3::Hasher;
use fjall::{Readable as _, Snapshot};

use super::{END, End, Head, MAGIC, State, write_json, write_row};
use crate::log::LogRow;
use crate::rows::{Pair, Rows, RowsError, Table, read_row};
use crate::store::folder::FORMAT;
use crate::store::read::number;
use crate::store::trim::{BY_LOG, BY_OFFSET, Held};
use crate::store::write::after_prefix;
use crate::store::{Store, storage};
use crate::wire::Position;

/// About so many bytes are read at once.
const PIECE: usize = 256 << 10;
/// Rows that are looked at for one piece, at most: what is left out costs time, too.
const LOOKED_AT: usize = 20_000;

/// What comes next.
#[derive(Debug)]
enum Next {
    Head,
    /// Rows of the table at that place, after a key.
    Rows(usize, Option<Vec<u8>>),
    End,
    Nothing,
}

/// A backup on its way out. Other work goes on; files grow by what is overwritten meanwhile.
#[derive(Debug)]
pub struct Export {
    store: Store,
    view: View,
    head: Head,
    next: Next,
    state: State,
    all: Hasher,
    /// The log that the last row belonged to: where it starts, or none where it is deleted.
    log: Option<(u64, Option<u64>)>,
    _held: Held,
}

/// The engine's view has no words for itself.
struct View(Snapshot);

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

impl Store {
    /// Begins a backup of everything committed so far; `time` is the present one, milliseconds
    /// since 1970.
    pub fn export(&self, time: u64) -> Export {
        let ((held, view), kept) = self.between_commits(|store| {
            // Held before the view is taken: nothing in it is trimmed from here on.
            (store.0.watermarks.hold(), store.0.db.snapshot())
        });
        let head = Head {
            format: FORMAT.trim_end().to_owned(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            journal: self.journal_id(),
            node: self.node_id(),
            batch: kept.head,
            position: None,
            time,
        };
        Export {
            store: self.clone(),
            view: View(view),
            head,
            next: Next::Head,
            state: State::default(),
            all: Hasher::new(),
            log: None,
            _held: held,
        }
    }
}

/// Rows as they are in the backup's view.
impl Rows for Export {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        let row = self.view.0.get(self.store.table(table)?, key).map_err(storage)?;
        Ok(row.map(|row| row.to_vec()))
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let from = from.max(prefix);
        if !prefix.is_empty() && !from.starts_with(prefix) {
            return Ok(Vec::new());
        }
        let range = (Bound::Included(from.to_vec()), after_prefix(prefix));
        let rows = self.view.0.range::<Vec<u8>, _>(self.store.table(table)?, range);
        let pair = |row: fjall::Guard| {
            let (key, value) = row.into_inner().map_err(storage)?;
            Ok((key.to_vec(), value.to_vec()))
        };
        rows.take(most).map(pair).collect()
    }
}

impl Export {
    /// Where in the history this is, to be said in the backup; who folds can tell.
    pub const fn set_position(&mut self, position: Option<Position>) {
        self.head.position = position;
    }

    /// The next piece; none at the end. Blocks on the disk.
    ///
    /// # Errors
    /// When storage fails or a row is damaged: the backup is none.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, RowsError> {
        let mut out = Vec::new();
        while out.is_empty() {
            match std::mem::replace(&mut self.next, Next::Nothing) {
                Next::Head => {
                    out.extend_from_slice(MAGIC);
                    write_json(&self.head, &mut out);
                    self.next = Next::Rows(0, None);
                }
                Next::Rows(at, after) => self.next = self.rows(at, after, &mut out)?,
                Next::End => {
                    out.push(END);
                    write_json(&self.state.end(), &mut out);
                    self.all.update(&out);
                    out.extend_from_slice(self.all.finalize().as_bytes());
                    return Ok(Some(out));
                }
                Next::Nothing => return Ok(None),
            }
        }
        self.all.update(&out);
        Ok(Some(out))
    }

    /// The rest, without its bytes: the hash of the state, and the number of rows.
    ///
    /// # Errors
    /// As those of [`Export::piece`].
    pub fn finish(mut self) -> Result<End, RowsError> {
        while self.piece()?.is_some() {}
        Ok(self.state.end())
    }

    /// Writes rows of a table after a key; what comes then.
    fn rows(
        &mut self,
        at: usize,
        after: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Result<Next, RowsError> {
        let Some(table) = Table::ALL.get(at).copied() else { return Ok(Next::End) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.store.table(table)?.clone();
        let rows = self.view.0.range::<Vec<u8>, _>(&rows, (from, Bound::Unbounded));
        let mut row = Vec::new();
        for (looked, found) in rows.enumerate() {
            let (key, value) = found.into_inner().map_err(storage)?;
            if self.counts(table, &key)? {
                row.clear();
                write_row(table, &key, &value, &mut row);
                self.state.update(&row);
                out.extend_from_slice(&row);
            }
            if out.len() >= PIECE || looked >= LOOKED_AT {
                return Ok(Next::Rows(at, Some(key.to_vec())));
            }
        }
        Ok(Next::Rows(at + 1, None))
    }

    /// Whether readers may still get a row.
    fn counts(&mut self, table: Table, key: &[u8]) -> Result<bool, RowsError> {
        if !BY_LOG.contains(&table) {
            return Ok(true);
        }
        let Some(log) = number(key, 0) else { return Ok(true) };
        let start = match self.log {
            Some((last, start)) if last == log => start,
            _ => {
                let start = self.start(log)?;
                self.log = Some((log, start));
                start
            }
        };
        let offset = number(key, 8).filter(|_| BY_OFFSET.contains(&table));
        Ok(start.is_some_and(|start| offset.is_none_or(|offset| offset >= start)))
    }

    /// Where a log starts; none: it is deleted. A log without a row is kept, as when files merge.
    fn start(&self, log: u64) -> Result<Option<u64>, RowsError> {
        let logs = self.store.table(Table::Logs)?;
        let row = self.view.0.get(logs, log.to_be_bytes()).map_err(storage)?;
        let Some(row) = row else { return Ok(Some(0)) };
        let row: LogRow = read_row(Table::Logs, &row)?;
        Ok((!row.deleted).then_some(row.start))
    }
}
