//! Reading: what delivery, HTTP and the node's keepers ask of the tables.
//!
//! Every call is bounded by its arguments. A row becomes visible when its commit is durable (see
//! `write`); rows of one commit become visible one after another, records before heads, so a call
//! that reads several rows may see a newer one beside an older one, never a head without records.
//! Who needs all of a commit of which it has seen a row asks [`Store::settled`] in between.

use std::ops::Bound;

use bytes::Bytes;
use fjall::{AbstractTree, Keyspace};
use serde::de::DeserializeOwned;

use super::origins::Reader;
use super::write::after_prefix;
use super::{Store, storage};
use crate::connection::{ConnectionRow, NodeRow, UserRow, user_prefix};
use crate::log::era::Era;
use crate::log::place::PlaceRow;
use crate::log::{LogRow, MAX_IN_FLIGHT, NameRow, PageRow, Stored, WriterRow};
use crate::rows::{Key, Pair, Rows, RowsError, Table, read_row};
use crate::wire::Id;

/// What the newest records by key may gather in memory once somebody reads them all.
const GATHERED_MOST: u64 = 2 << 20;

/// Has a table that is about to be read through written to a file, where much of it is in memory:
/// there a reader steps over every row that another has taken the place of, so without this a
/// clone would cost what was overwritten lately. The file follows in the background; this reader
/// may still come before it.
fn settle(rows: &Keyspace) -> Result<(), RowsError> {
    let gathered = rows.tree.active_memtable().size();
    if gathered > GATHERED_MOST && rows.tree.sealed_memtable_count() == 0 {
        rows.rotate_memtable().map_err(storage)?;
    }
    Ok(())
}

impl Store {
    /// One reader at a time does it: several that find much in memory would else each have a table
    /// written, and what waits to be written keeps writers out.
    fn gather_less(&self, rows: &Keyspace) -> Result<(), RowsError> {
        match self.0.settling.try_lock() {
            Ok(_one) => settle(rows),
            Err(_) => Ok(()),
        }
    }
}

/// Connections of one user, and subscriptions of one connection, that a prefetch looks at.
const PREFETCH_MOST: usize = 1024;

impl Rows for Store {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.table(table)?.get(key).map_err(storage)?.map(|value| value.to_vec()))
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
            // Past the prefix: the engine would be asked for a range that ends before it begins.
            return Ok(Vec::new());
        }
        let range = (Bound::Included(from.to_vec()), after_prefix(prefix));
        let rows = self.table(table)?.range::<Vec<u8>, _>(range).take(most);
        rows.map(pair).collect()
    }
}

/// A part of the newest records by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LatestPage {
    /// Offset and record, by key. May be empty though there is more.
    pub entries: Vec<(u64, Stored)>,
    /// The key to go on after; none: this was the last part.
    pub next: Option<Vec<u8>>,
}

/// What to bring into memory before the committing thread asks for it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Names of logs.
    pub names: &'a [&'a str],
    /// Log ids.
    pub logs: &'a [u64],
    /// Writers, with their outcomes.
    pub writers: &'a [Id],
    /// Connections, with the logs they are subscribed to.
    pub connections: &'a [Id],
    /// Users, with their active connections.
    pub users: &'a [&'a str],
}

impl Store {
    /// Records of a log from an offset on, without a hole: at most `most_records`, and about
    /// `most_bytes` but at least one if there is one. The caller begins at `max(from, start)`;
    /// there is nothing where a record is missing.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn records(
        &self,
        log: u64,
        from: u64,
        most_records: usize,
        most_bytes: usize,
    ) -> Result<Vec<(u64, Stored)>, RowsError> {
        let range = Key::of(log).then(from).build()..=Key::of(log).then(u64::MAX).build();
        let mut found = Vec::new();
        let (mut bytes, mut reader) = (0, Reader::default());
        for row in self.table(Table::Records)?.range(range).take(most_records) {
            let (key, value) = row.into_inner().map_err(storage)?;
            let due = from + found.len() as u64;
            let full = bytes + value.len() > most_bytes && !found.is_empty();
            if full || number(&key, 8) != Some(due) {
                break;
            }
            bytes += value.len();
            found.push((due, reader.read(self, Table::Records, &value)?));
        }
        Ok(found)
    }

    /// The newest records by key, after a key, whose offset is below `below`: about `most_bytes` of
    /// rows are looked at, at least one. Rows at or past `below` come to the reader as records. For
    /// the state as of a head that was read a moment ago, [`Store::settled`] comes first: else the
    /// row of a key that was overwritten just below that head may still be the one before.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn latest_page(
        &self,
        log: u64,
        after: Option<&[u8]>,
        below: u64,
        most_bytes: usize,
    ) -> Result<LatestPage, RowsError> {
        let prefix = Key::of(log).build();
        let from = match after {
            Some(key) => Bound::Excluded(Key::of(log).then_bytes(key).build()),
            None => Bound::Included(prefix.clone()),
        };
        let mut page = LatestPage::default();
        let (mut bytes, mut reader) = (0, Reader::default());
        let rows = self.table(Table::Latest)?;
        if after.is_none() {
            self.gather_less(rows)?;
        }
        for row in rows.range::<Vec<u8>, _>((from, after_prefix(&prefix))) {
            let (key, value) = row.into_inner().map_err(storage)?;
            if bytes > 0 && bytes + value.len() > most_bytes {
                return Ok(page);
            }
            bytes += value.len().max(1);
            page.next = key.get(8..).map(<[u8]>::to_vec);
            let short = || RowsError::Damaged {
                table: Table::Latest.name(),
                problem: "a row without an offset".to_owned(),
            };
            let offset = number(&value, 0).ok_or_else(short)?;
            if offset < below {
                let record = value.get(8..).ok_or_else(short)?;
                page.entries.push((offset, reader.read(self, Table::Latest, record)?));
            }
        }
        page.next = None;
        Ok(page)
    }

    /// Closed pages of a log that begin at an offset or behind it: first offset and page. Whoever
    /// asks begins no lower than `start`: what lies below may be gone or not.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn pages(
        &self,
        log: u64,
        from: u64,
        most: usize,
    ) -> Result<Vec<(u64, PageRow)>, RowsError> {
        let (prefix, from) = (Key::of(log).build(), Key::of(log).then(from).build());
        let read = |(key, value): Pair| {
            let damaged = || RowsError::Damaged {
                table: Table::Pages.name(),
                problem: format!("a key of {} bytes", key.len()),
            };
            Ok((number(&key, 8).ok_or_else(damaged)?, read_row(Table::Pages, &value)?))
        };
        self.scan(Table::Pages, &prefix, &from, most)?.into_iter().map(read).collect()
    }

    /// One part of a client-made snapshot; none once it is dropped: look at the log's row again.
    ///
    /// # Errors
    /// When storage fails.
    pub fn snapshot_part(
        &self,
        log: u64,
        upload: u64,
        part: u32,
    ) -> Result<Option<Bytes>, RowsError> {
        let key = Key::of(log).then(upload).then_u32(part).build();
        Ok(self.get(Table::Snapshots, &key)?.map(Bytes::from))
    }

    /// A log's row, also of a deleted one.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn log_row(&self, log: u64) -> Result<Option<LogRow>, RowsError> {
        self.row(Table::Logs, &log.to_be_bytes())
    }

    /// The present log of a name.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn find_log(&self, name: &str) -> Result<Option<u64>, RowsError> {
        let row: Option<NameRow> = self.row(Table::Names, name.as_bytes())?;
        Ok(row.map(|row| row.log))
    }

    /// Logs whose names begin with `prefix`, by name, after a name: name and id.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn logs(
        &self,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, u64)>, RowsError> {
        let rows = self.page(Table::Names, prefix.as_bytes(), after.map(str::as_bytes), most)?;
        let named = rows.into_iter().map(|(name, id)| {
            let name = String::from_utf8(name).map_err(|_| RowsError::Damaged {
                table: Table::Names.name(),
                problem: "a name that is no UTF-8".to_owned(),
            })?;
            Ok((name, read_row::<NameRow>(Table::Names, &id)?.log))
        });
        named.collect()
    }

    /// A connection's row.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn connection(&self, id: Id) -> Result<Option<ConnectionRow>, RowsError> {
        let Some(row) = self.get(Table::Connections, &id.0)? else { return Ok(None) };
        let chunks = self.scan(Table::Cursors, &id.0, &id.0, usize::MAX)?;
        ConnectionRow::read(&row, &chunks).map(Some)
    }

    /// What a user holds; none where it holds nothing.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn user(&self, user: &str) -> Result<Option<UserRow>, RowsError> {
        self.row(Table::Users, user.as_bytes())
    }

    /// Connections of a user, by id, after one.
    ///
    /// # Errors
    /// When storage fails.
    pub fn connections_of(
        &self,
        user: &str,
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<Id>, RowsError> {
        self.ids_under(Table::UserConnections, &user_prefix(user), after, most)
    }

    /// All connections, by id, after one.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn connections(
        &self,
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<(Id, ConnectionRow)>, RowsError> {
        let after = after.map(|id| id.0);
        let rows =
            self.page(Table::Connections, &[], after.as_ref().map(<[u8; 16]>::as_slice), most)?;
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else {
            return Ok(Vec::new());
        };
        // The cursors of all of them in one go; both tables are in the order of ids.
        let range = (Bound::Included(first.clone()), after_prefix(last));
        let mut chunks =
            (self.table(Table::Cursors)?.range::<Vec<u8>, _>(range)).map(pair).peekable();
        let mut found = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            let mut own = Vec::new();
            while let Some(chunk) = chunks.next_if(|chunk| of_or_before(chunk, &key)) {
                let chunk = chunk?;
                if chunk.0.starts_with(&key) {
                    own.push(chunk);
                }
            }
            found.push((id_at(Table::Connections, &key, 0)?, ConnectionRow::read(&row, &own)?));
        }
        Ok(found)
    }

    /// All writers, by id, after one.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn writers(
        &self,
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<(Id, WriterRow)>, RowsError> {
        self.rows_by_id(Table::Writers, after, most)
    }

    /// A writer's row.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn writer(&self, id: Id) -> Result<Option<WriterRow>, RowsError> {
        self.row(Table::Writers, &id.0)
    }

    /// The row of a batch in the order of places, while it is kept.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn places(&self, batch: u64) -> Result<Option<PlaceRow>, RowsError> {
        self.row(Table::Places, &batch.to_be_bytes())
    }

    /// All nodes that the fold has heard of, by id; they are few.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn nodes(&self) -> Result<Vec<(Id, NodeRow)>, RowsError> {
        self.rows_by_id(Table::Nodes, None, usize::MAX)
    }

    /// The eras of this history, by their first batches.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn eras(&self) -> Result<Vec<(u64, Era)>, RowsError> {
        let rows = self.scan(Table::Eras, &[], &[], usize::MAX)?;
        let read = |(key, value): Pair| {
            let damaged = || RowsError::Damaged {
                table: Table::Eras.name(),
                problem: format!("a key of {} bytes", key.len()),
            };
            Ok((number(&key, 0).ok_or_else(damaged)?, read_row(Table::Eras, &value)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// Connections subscribed to a log, by id, after one.
    ///
    /// # Errors
    /// When storage fails.
    pub fn subscribers(
        &self,
        log: u64,
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<Id>, RowsError> {
        self.ids_under(Table::Subscribers, &log.to_be_bytes(), after, most)
    }

    /// Reads what a command is going to need and forgets it: blocks are in memory then. Failures
    /// are left to the read that matters.
    pub fn prefetch(&self, wanted: &Wanted<'_>) {
        for name in wanted.names {
            if let Ok(Some(log)) = self.find_log(name) {
                self.log_row(log).ok();
            }
        }
        for log in wanted.logs {
            self.log_row(*log).ok();
        }
        for writer in wanted.writers {
            self.get(Table::Writers, &writer.0).ok();
            self.scan(Table::Outcomes, &writer.0, &writer.0, MAX_IN_FLIGHT).ok();
        }
        for connection in wanted.connections {
            self.prefetch_connection(*connection);
        }
        for user in wanted.users {
            let row = self.user(user).ok().flatten().unwrap_or_default();
            for one in row.active.iter().take(PREFETCH_MOST) {
                self.prefetch_connection(one.connection);
            }
        }
    }

    fn prefetch_connection(&self, id: Id) {
        let Ok(Some(row)) = self.connection(id) else { return };
        for sub in row.subs.iter().take(PREFETCH_MOST) {
            self.get(Table::Logs, &sub.log.to_be_bytes()).ok();
        }
    }

    pub(super) fn row<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, RowsError> {
        let value = self.table(table)?.get(key).map_err(storage)?;
        value.map(|value| read_row(table, &value)).transpose()
    }

    /// Rows under a prefix, after a key.
    fn page(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let from = after.map(|key| Key::bytes(key).then_bytes(&[0]).build()).unwrap_or_default();
        self.scan(table, prefix, &from, most)
    }

    fn rows_by_id<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<(Id, T)>, RowsError> {
        let after = after.map(|id| id.0);
        let rows = self.page(table, &[], after.as_ref().map(<[u8; 16]>::as_slice), most)?;
        let read = |(key, value): Pair| Ok((id_at(table, &key, 0)?, read_row(table, &value)?));
        rows.into_iter().map(read).collect()
    }

    /// Ids that stand behind a prefix in the keys of a table.
    fn ids_under(
        &self,
        table: Table,
        prefix: &[u8],
        after: Option<Id>,
        most: usize,
    ) -> Result<Vec<Id>, RowsError> {
        let after = after.map(|id| Key::bytes(prefix).then_bytes(&id.0).build());
        let rows = self.page(table, prefix, after.as_deref(), most)?;
        rows.into_iter().map(|(key, _)| id_at(table, &key, prefix.len())).collect()
    }
}

pub(super) fn pair(row: fjall::Guard) -> Result<Pair, RowsError> {
    let (key, value) = row.into_inner().map_err(storage)?;
    Ok((key.to_vec(), value.to_vec()))
}

/// Whether a chunk is of that connection or of one before it, or cannot be read.
fn of_or_before(chunk: &Result<Pair, RowsError>, id: &[u8]) -> bool {
    chunk.as_ref().map_or(true, |(key, _)| key.get(..16).is_none_or(|of| of <= id))
}

/// The big-endian number at a position.
pub(super) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn id_at(table: Table, key: &[u8], at: usize) -> Result<Id, RowsError> {
    let id = key.get(at..).and_then(|id| id.try_into().ok()).map(Id);
    id.ok_or_else(|| RowsError::Damaged {
        table: table.name(),
        problem: format!("a key of {} bytes", key.len()),
    })
}
