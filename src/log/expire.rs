//! The end of keys under `latest` by age: a tombstone that the server appends by itself.
//!
//! A reader that holds the state, and one that comes later, end with the same keys, since what ends
//! a key is a record like any other. It names the place of the record that it ends as what it was
//! derived from; its origin is nobody: no user, and a writer and a connection of zeros.

use super::append::{Appended, Author, MAX_HEAD, Moment};
use super::record::RecordRow;
use super::{Decided, Logs};
use crate::rows::{Io, Key, RowsError, Table};
use crate::wire::{Code, Place, Record, SnapshotRule};

/// Keys that one command ends, at most.
pub const MAX_EXPIRED: usize = 1_024;

impl Logs {
    /// Ends keys whose newest records, at the offsets that were seen, are older than the rule in
    /// force lets them be; the others stay. How many.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub(crate) fn expire(
        &mut self,
        log: u64,
        keys: Vec<(String, u64)>,
        at: &mut Moment,
        io: &mut Io<'_>,
        stored: &mut Vec<Appended>,
    ) -> Decided<u64> {
        let Some(row) = self.row(log, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        let whole = row.rule == SnapshotRule::Latest && row.deriving.is_none();
        let (name, room) = (row.name.clone(), MAX_HEAD.saturating_sub(row.head));
        let rule = self.rule(&name).filter(|rule| rule.snapshot == SnapshotRule::Latest);
        let seconds = rule.map_or(0, |rule| rule.retain_seconds);
        if !whole || seconds == 0 {
            return Ok(Err(Code::Stale.into()));
        }
        let oldest = at.time.saturating_sub(seconds.saturating_mul(1_000));
        let mut author = Author::nobody();
        let mut ended = 0;
        for (key, offset) in keys.into_iter().take(MAX_EXPIRED) {
            if ended == room {
                break;
            }
            let Some(place) = too_old(log, &key, offset, oldest, io)? else { continue };
            let tombstone = Record { key: Some(key), ..Record::default() };
            self.keep(log, 0, tombstone, Some(place), &mut author, at, io, stored)?;
            ended += 1;
        }
        Ok(Ok(ended))
    }
}

/// The place of a key's newest record, where that stands at an offset and came before a time.
fn too_old(
    log: u64,
    key: &str,
    offset: u64,
    oldest: u64,
    io: &Io<'_>,
) -> Result<Option<Place>, RowsError> {
    let bytes = io.raw(Table::Latest, &Key::of(log).then_bytes(key.as_bytes()).build())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let Some((at, record)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    if u64::from_be_bytes(*at) != offset {
        return Ok(None);
    }
    let record = RecordRow::read(Table::Latest, record)?;
    Ok((record.time() < oldest).then(|| record.place()))
}
