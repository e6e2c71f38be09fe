//! A record as it is kept: everything that readers get, in one row.
//!
//! Who appended stands there by number ([`Table::Origins`]), since it
//! is the same for all records of a writer and would be a third of a small one; a writer that is
//! made for one request is written out. Rows of the first format, which begin with a varint, are
//! read as they are: today's begin with a byte that no varint begins with. Layout:
//! `docs/storage.md` §3.3.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::rows::{RowsError, Table};
use crate::wire::{Delivered, Id, Origin, Place, Record, codec};

/// First byte of a row of today's layout.
const TODAY: u8 = 255;
/// Second byte: who appended stands there by number.
const NUMBERED: u8 = 0;
/// Second byte: who appended is written out.
const WRITTEN_OUT: u8 = 1;

/// A record with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the journal's order.
    pub place: Place,
    /// Ingest time, milliseconds since 1970.
    pub time: u64,
    /// Who appended it.
    pub origin: Arc<Origin>,
    /// The writer's sequence.
    pub seq: u64,
    /// Bytes of all records of the log before it, by [`Record::size`]; sizes of ranges are
    /// differences.
    pub before: u64,
    /// What it was made of by the server or a view: the place of its cause.
    pub derived: Option<Place>,
    /// What was appended.
    pub record: Record,
}

impl Stored {
    /// As readers get it, `origin` being the index of [`Stored::origin`] in its frame.
    pub fn delivered(&self, origin: u32) -> Delivered {
        let Self { place, time, seq, record, .. } = self;
        Delivered { place: *place, time: *time, origin, seq: *seq, record: record.clone() }
    }

    /// Its row: `number` is its origin's, where that has one.
    pub fn row(&self, number: Option<u64>) -> Vec<u8> {
        let Self { place, time, origin, seq, before, derived, record } = self;
        let (place, time, seq, before, derived) = (*place, *time, *seq, *before, *derived);
        let mut row = Vec::with_capacity(64 + record.size());
        row.push(TODAY);
        match number {
            Some(origin) => {
                row.push(NUMBERED);
                codec::append(&Row { place, time, origin, seq, before, derived, record }, &mut row);
            }
            None => {
                row.push(WRITTEN_OUT);
                let origin = &**origin;
                codec::append(&Row { place, time, origin, seq, before, derived, record }, &mut row);
            }
        }
        row
    }
}

/// The layout behind the first two bytes.
#[derive(Serialize, Deserialize)]
struct Row<O, R> {
    place: Place,
    time: u64,
    origin: O,
    seq: u64,
    before: u64,
    derived: Option<Place>,
    record: R,
}

/// The layout of the first format.
#[derive(Deserialize)]
struct First {
    place: Place,
    time: u64,
    origin: Origin,
    seq: u64,
    before: u64,
    record: Record,
}

/// Who appended, as a row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// By number.
    Numbered(u64),
    /// Written out.
    Written(Arc<Origin>),
}

/// A row that was read, but for who appended where that stands by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordRow {
    /// Who appended.
    pub whose: Whose,
    /// The rest, with an empty origin where it stands by number.
    stored: Stored,
}

impl RecordRow {
    /// Reads a row of [`Table::Records`], or what follows the offset in one of [`Table::Latest`].
    ///
    /// # Errors
    /// [`RowsError::Damaged`] when it does not have the layout.
    pub fn read(table: Table, bytes: &[u8]) -> Result<Self, RowsError> {
        let damaged = |problem: String| RowsError::Damaged { table: table.name(), problem };
        let bad = |error: codec::FrameError| damaged(error.to_string());
        let (whose, row) = match bytes {
            [TODAY, NUMBERED, rest @ ..] => {
                let row: Row<u64, Record> = codec::from_bytes(table.name(), rest).map_err(bad)?;
                (Whose::Numbered(row.origin), row.with(nobody()))
            }
            [TODAY, WRITTEN_OUT, rest @ ..] => {
                let row: Row<Origin, Record> =
                    codec::from_bytes(table.name(), rest).map_err(bad)?;
                let origin = Arc::new(row.origin.clone());
                (Whose::Written(Arc::clone(&origin)), row.with(origin))
            }
            [TODAY, other, ..] => return Err(damaged(format!("a record of the form {other}"))),
            _ => {
                let First { place, time, origin, seq, before, record } =
                    codec::from_bytes(table.name(), bytes).map_err(bad)?;
                let origin = Arc::new(origin);
                let whose = Whose::Written(Arc::clone(&origin));
                (whose, Stored { place, time, origin, seq, before, derived: None, record })
            }
        };
        Ok(Self { whose, stored: row })
    }

    /// The record, `origin` being what [`Self::whose`] says.
    pub fn with(self, origin: Arc<Origin>) -> Stored {
        Stored { origin, ..self.stored }
    }

    /// Bytes of all records of the log before it.
    pub const fn before(&self) -> u64 {
        self.stored.before
    }

    /// Ingest time, milliseconds since 1970.
    pub const fn time(&self) -> u64 {
        self.stored.time
    }

    /// Its place.
    pub const fn place(&self) -> Place {
        self.stored.place
    }

    /// What was appended.
    pub const fn record(&self) -> &Record {
        &self.stored.record
    }
}

impl<O> Row<O, Record> {
    fn with(self, origin: Arc<Origin>) -> Stored {
        let Self { place, time, seq, before, derived, record, .. } = self;
        Stored { place, time, origin, seq, before, derived, record }
    }
}

/// Stands where an origin is not looked up.
fn nobody() -> Arc<Origin> {
    Arc::new(server_itself())
}

/// Who appends what the server appends by itself: no user has this name, no writer this id.
pub(super) const fn server_itself() -> Origin {
    Origin { user: String::new(), writer: Id::NONE, connection: Id::NONE }
}

/// The running hash of a log's records: of the one before, the record's row and, where it stands
/// there by number, who appended. So the log's row vouches for all of them.
pub fn chained(before: &[u8; 32], row: &[u8], numbered: Option<&[u8]>) -> [u8; 32] {
    let mut hash = blake3::Hasher::new();
    hash.update(before).update(row).update(numbered.unwrap_or_default());
    *hash.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Payload;

    fn stored(derived: Option<Place>) -> Stored {
        let origin =
            Origin { user: "ana".to_owned(), writer: Id([1; 16]), connection: Id([2; 16]) };
        let payload = Some(Payload::text("x"));
        Stored {
            place: Place { batch: 300, index: 4 },
            time: 1_767_225_600_000,
            origin: Arc::new(origin),
            seq: 5,
            before: 6,
            derived,
            record: Record { payload, ..Record::default() },
        }
    }

    #[test]
    fn both_forms_come_back() {
        for derived in [None, Some(Place { batch: 299, index: 0 })] {
            let stored = stored(derived);
            let row = RecordRow::read(Table::Records, &stored.row(Some(7))).unwrap();
            assert_eq!(row.whose, Whose::Numbered(7));
            assert_eq!(row.with(Arc::clone(&stored.origin)), stored);
            let row = RecordRow::read(Table::Records, &stored.row(None)).unwrap();
            let Whose::Written(origin) = row.whose.clone() else { panic!("{row:?}") };
            assert_eq!(row.with(origin), stored);
            assert_eq!(stored.row(Some(7)).len() + 35, stored.row(None).len());
        }
    }

    /// A row as the first format wrote it.
    #[test]
    fn a_row_of_the_first_format_is_read() {
        let Stored { place, time, origin, seq, before, record, .. } = stored(None);
        for batch in [1, 250, 251, 65_536, 1 << 33] {
            let place = Place { batch, ..place };
            let old = codec::to_bytes(&(place, time, &*origin, seq, before, &record));
            let row = RecordRow::read(Table::Records, &old).unwrap();
            assert_eq!((row.place(), row.before(), row.time()), (place, before, time));
            assert_eq!(row.whose, Whose::Written(Arc::clone(&origin)));
            assert_eq!(row.record(), &record);
        }
    }

    #[test]
    fn what_has_no_known_form_is_damage() {
        let whole = stored(None).row(Some(7));
        for bad in [&[][..], &[TODAY], &[TODAY, 2, 0], &[254, 0], &whole[..whole.len() - 1]] {
            assert!(RecordRow::read(Table::Records, bad).is_err(), "{bad:?}");
        }
    }
}
