//! Rows of the last batch, and a batch's changes over them.
//!
//! Promise: who reads sees the batch's own changes over what was committed last; each key stands
//! among the changes once, with what it came to be in the end.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::key::Key;
use super::table::{RowsError, Table};
use crate::wire::codec;

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Rows as they were after the last committed batch.
pub trait Rows {
    /// The row under a key.
    ///
    /// # Errors
    /// When storage fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// Up to `most` rows whose keys begin with `prefix` and are not below `from`, by key.
    ///
    /// # Errors
    /// When storage fails.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError>;
}

/// What a batch changes: committed in one atom. Each key stands once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writes {
    /// New value, or none where the row goes.
    pub rows: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    /// Records, whose keys are new by construction: log id, offset, value.
    pub records: Vec<(u64, u64, Vec<u8>)>,
}

/// Rows in memory: for tests, models and simulation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MemoryRows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl MemoryRows {
    /// Makes a batch's changes.
    pub fn commit(&mut self, writes: &Writes) {
        for (key, value) in &writes.rows {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
        for (log, offset, value) in &writes.records {
            let key = Key::of(*log).then(*offset).build();
            self.0.insert((Table::Records, key), value.clone());
        }
    }

    /// All rows, by table and key.
    pub fn iter(&self) -> impl Iterator<Item = (&(Table, Vec<u8>), &Vec<u8>)> {
        self.0.iter()
    }
}

impl Rows for MemoryRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let from = (table, from.max(prefix).to_vec());
        let under = self
            .0
            .range(from..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
        Ok(under.take(most).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

/// The rows of the last batch with this batch's changes over them.
pub struct Io<'a> {
    rows: &'a dyn Rows,
    /// The changes so far.
    pub writes: Writes,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl<'a> Io<'a> {
    /// Nothing changed yet.
    pub fn new(rows: &'a dyn Rows) -> Self {
        Self { rows, writes: Writes::default() }
    }

    /// A raw row.
    ///
    /// # Errors
    /// When storage fails.
    pub fn raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        match self.writes.rows.get(&(table, key.to_vec())) {
            Some(pending) => Ok(pending.clone()),
            None => self.rows.get(table, key),
        }
    }

    /// A row, read.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, RowsError> {
        self.raw(table, key)?.map(|bytes| read_row(table, &bytes)).transpose()
    }

    /// Sets a row.
    pub fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, value: &T) {
        self.put_raw(table, key, codec::to_bytes(value));
    }

    /// Sets a row to bytes as they are.
    pub fn put_raw(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.rows.insert((table, key), Some(value));
    }

    /// Removes a row.
    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.writes.rows.insert((table, key), None);
    }

    /// Up to `most` rows under a prefix and not below `from`, pending changes included, by key.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let first = (table, from.max(prefix).to_vec());
        let under = |key: &[u8]| key.starts_with(prefix);
        let pending: Vec<_> = (self.writes.rows.range(first.clone()..))
            .take_while(|((of, key), _)| *of == table && under(key))
            .collect();
        let room = most.saturating_add(pending.len());
        let stored = self.rows.scan(table, prefix, &first.1, room)?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for ((_, key), value) in pending {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(most).collect())
    }

    /// The rows below the pending changes, for reads that know their key is not pending.
    pub fn stored(&self) -> &dyn Rows {
        self.rows
    }
}

/// Reads a row's bytes.
///
/// # Errors
/// [`RowsError::Damaged`] when they do not have the layout.
pub fn read_row<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, RowsError> {
    codec::from_bytes(table.name(), bytes)
        .map_err(|error| RowsError::Damaged { table: table.name(), problem: error.to_string() })
}
