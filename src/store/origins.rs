//! Who appended, by number: rows that are read once and then held, within a bound.
//!
//! Promise: a number never changes its meaning, so what is held is never out of date.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Store;
use crate::log::record::{RecordRow, Whose};
use crate::log::{OriginRow, Stored};
use crate::rows::{RowsError, Table};
use crate::wire::Origin;

/// Numbers held at a time, in each of two generations.
const MOST: usize = 16_384;

/// Held by number: the ones asked for lately, and those before.
#[derive(Debug, Default)]
pub(super) struct Origins(Mutex<[HashMap<u64, Arc<Origin>>; 2]>);

impl Origins {
    fn get(&self, number: u64) -> Option<Arc<Origin>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *held;
        if let Some(known) = young.get(&number) {
            return Some(Arc::clone(known));
        }
        let known = old.remove(&number)?;
        young.insert(number, Arc::clone(&known));
        Some(known)
    }

    fn put(&self, number: u64, origin: &Arc<Origin>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *held;
        if young.len() >= MOST {
            *old = std::mem::take(young);
        }
        young.insert(number, Arc::clone(origin));
    }
}

/// Reads rows of records, most of which were appended by the one who appended the record before.
#[derive(Debug, Default)]
pub(super) struct Reader(Option<(u64, Arc<Origin>)>);

impl Reader {
    /// The record of a row.
    ///
    /// # Errors
    /// When storage fails, the row is damaged, or nobody stands for its number.
    pub(super) fn read(
        &mut self,
        store: &Store,
        table: Table,
        bytes: &[u8],
    ) -> Result<Stored, RowsError> {
        let row = RecordRow::read(table, bytes)?;
        let origin = match (&row.whose, &self.0) {
            (Whose::Written(origin), _) => Arc::clone(origin),
            (Whose::Numbered(number), Some((last, origin))) if number == last => Arc::clone(origin),
            (Whose::Numbered(number), _) => {
                let (number, origin) = (*number, store.origin(*number)?);
                self.0 = Some((number, Arc::clone(&origin)));
                origin
            }
        };
        Ok(row.with(origin))
    }
}

impl Store {
    /// Who stands for a number.
    ///
    /// # Errors
    /// When storage fails, or nobody does.
    pub fn origin(&self, number: u64) -> Result<Arc<Origin>, RowsError> {
        if let Some(known) = self.0.origins.get(number) {
            return Ok(known);
        }
        let row: Option<OriginRow> = self.row(Table::Origins, &number.to_be_bytes())?;
        let missing = || RowsError::Damaged {
            table: Table::Origins.name(),
            problem: format!("nobody stands for the number {number}"),
        };
        let origin = Arc::new(row.ok_or_else(missing)?.origin);
        self.0.origins.put(number, &origin);
        Ok(origin)
    }
}
