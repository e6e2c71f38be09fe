//! Pages: how the records of a log are grouped, so that retention lets go of whole groups.
//!
//! Promise: a page closes with the record that fills it, and its bounds never change afterwards.
//! The size is that of pages to come: the one that is open takes as many as it was opened for. A
//! log without a size has no page open, and what it holds when it gets one is a page of its own,
//! closed at that moment.

use serde::{Deserialize, Serialize};

use super::row::{LogRow, Paging};
use super::{Decided, Logs};
use crate::rows::{Io, Key, More, RowsError, Table};
use crate::wire::Code;

/// A page that is closed; its log and first offset are its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRow {
    /// The offset after its last record.
    pub end: u64,
    /// When its first record came, milliseconds since 1970.
    pub opened: u64,
    /// When it was closed: what its time to live counts from.
    pub closed: u64,
    /// The log's running hash after its last record ([`super::record::chained`]): what comes behind
    /// this page can be verified also when what was before it is trimmed.
    pub hash: [u8; 32],
    /// What is to come.
    pub more: More,
}

impl LogRow {
    /// A record is about to come: it opens a page where none is open.
    pub(super) const fn open_page(&mut self, time: u64) {
        let Paging { records, takes, .. } = self.paging;
        if takes == 0 && records > 0 {
            self.paging = Paging { records, first: self.head, takes: records, opened: time };
        }
    }

    /// Closes the page that is open, once it is full.
    pub(super) fn close_full_page(&mut self, log: u64, time: u64, io: &mut Io<'_>) {
        let Paging { first, takes, opened, .. } = self.paging;
        if takes > 0 && self.head - first >= takes {
            self.close_page(log, first, opened, time, io);
        }
    }

    /// What stands between `first` and the head is a page from now on; what was trimmed of it is no
    /// part of it.
    fn close_page(&mut self, log: u64, first: u64, opened: u64, time: u64, io: &mut Io<'_>) {
        let (first, end) = (first.max(self.start), self.head);
        if first < end {
            let page =
                PageRow { end, opened, closed: time, hash: self.hash, more: More::default() };
            io.put(Table::Pages, Key::of(log).then(first).build(), &page);
        }
        self.paging = Paging { records: self.paging.records, first: end, takes: 0, opened: 0 };
    }
}

impl Logs {
    /// Sets how many records pages have that open from now on; 0: none open any more, and the one
    /// that is open is closed.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn set_pages(
        &mut self,
        log: u64,
        records: u64,
        time: u64,
        io: &mut Io<'_>,
    ) -> Decided<()> {
        let Some(row) = self.row(log, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        let Paging { records: before, first, takes, opened } = row.paging;
        let loose = first.max(row.start);
        let close = match (takes, before, records) {
            (1.., _, 0) => Some((first, opened)),
            (0, 0, 1..) => {
                let oldest = self.record(log, loose, io)?;
                Some((loose, oldest.map_or(time, |oldest| oldest.time())))
            }
            _ => None,
        };
        let missing = || RowsError::Storage("a log vanished from the cache".to_owned());
        let row = self.change(log, io)?.ok_or_else(missing)?;
        if let Some((first, opened)) = close {
            row.close_page(log, first, opened, time, io);
        }
        row.paging.records = records;
        Ok(Ok(()))
    }
}
