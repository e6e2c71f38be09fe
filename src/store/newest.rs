//! The newest rows, held against the head when a store is opened.
//!
//! Promise: a store whose last commit is there in part, in whichever table, is not opened. Each
//! commit of the local journal moves the fold's head with it, and names the records it stored.

use super::{OpenError, Store, damaged};
use crate::log::place::PlaceRow;
use crate::rows::{Rows as _, RowsError, Table};
use crate::wire::{Id, codec};

/// Runs of records of the last batch that are looked at.
const LOOKED_AT: usize = 64;

impl Store {
    /// Looks at the last batch: that the fold and the local journal are at the same one, and that
    /// what it stored is there.
    pub(super) fn check_newest(&self) -> Result<(), OpenError> {
        let wrong = |problem: &dyn std::fmt::Display| damaged(self.dir(), problem);
        match self.newest() {
            Ok(None) => Ok(()),
            Ok(Some(problem)) => Err(wrong(&problem)),
            Err(error) => Err(wrong(&error)),
        }
    }

    fn newest(&self) -> Result<Option<String>, RowsError> {
        let Some(head) = self.get(Table::Meta, b"head")? else { return Ok(None) };
        // One that cannot be read is for the fold to say.
        let Ok((_, batch)) = codec::from_bytes::<(Id, u64)>(Table::Meta.name(), &head) else {
            return Ok(None);
        };
        let journal = self.kept().head;
        if journal > 0 && journal != batch {
            let problem = format!("the fold is at batch {batch}, the local journal at {journal}");
            return Ok(Some(problem));
        }
        let row: Option<PlaceRow> = self.row(Table::Places, &batch.to_be_bytes())?;
        for run in row.unwrap_or_default().runs.iter().take(LOOKED_AT) {
            let log = self.log_row(run.log)?;
            if log.as_ref().is_none_or(|log| log.head < run.end()) {
                let problem =
                    format!("batch {batch} stored records of log {} past its head", run.log);
                return Ok(Some(problem));
            }
            let last = run.end().saturating_sub(1);
            let kept = log.is_some_and(|log| run.kept(&log));
            if kept && self.records(run.log, last, 1, 1)?.is_empty() {
                return Ok(Some(format!("record {last} of log {} is missing", run.log)));
            }
        }
        Ok(None)
    }
}
