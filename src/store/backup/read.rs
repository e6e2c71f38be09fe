//! A backup that is read: nothing of it counts before its end was seen and its hashes are right.

use std::io::{self, Read};

use blake3::Hasher;

use super::{END, End, Head, MAGIC, MOST_JSON, MOST_VALUE, State, write_row};
use crate::rows::Table;

/// A backup cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is no backup of highwater, or one of a later program: check the path")]
    NotOurs,
    /// It ends too soon.
    #[error("it is cut off: take another backup, or copy this one again")]
    Cut,
    /// It is not as it was written.
    #[error("it is altered ({0}): take another backup, or copy this one again")]
    Altered(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Cut,
            _ => Self::Io(error),
        }
    }
}

fn altered(why: impl Into<String>) -> BackupError {
    BackupError::Altered(why.into())
}

/// A row of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Table that the row stands in.
    pub table: Table,
    /// Key of the row.
    pub key: Vec<u8>,
    /// Value of the row, as it is on disk.
    pub value: Vec<u8>,
}

/// Reads a backup from its beginning to its end, once.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    head: Head,
    all: Hasher,
    state: State,
    last: Option<(u8, Vec<u8>)>,
    end: Option<End>,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(mut from: R) -> Result<Self, BackupError> {
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Ok(()) if magic == MAGIC => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(BackupError::Io(error));
            }
            Ok(()) | Err(_) => return Err(BackupError::NotOurs),
        }
        let mut all = Hasher::new();
        all.update(MAGIC);
        let text = json(&mut from, &mut all)?;
        let head = serde_json::from_slice(&text).map_err(|error| altered(error.to_string()))?;
        Ok(Self { from, head, all, state: State::default(), last: None, end: None })
    }

    /// What it says first.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// What it says last; once all rows are read.
    pub const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next row; none at the end, and only then does any of them count.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn row(&mut self) -> Result<Option<Row>, BackupError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let [number] = self.read_array()?;
        if number == END {
            self.finish()?;
            return Ok(None);
        }
        let table = Table::ALL.into_iter().find(|table| *table as u8 == number);
        let table = table.ok_or_else(|| altered(format!("there is no table {number}")))?;
        let key = u16::from_le_bytes(self.read_array()?);
        let value = u32::from_le_bytes(self.read_array()?);
        if value > MOST_VALUE {
            return Err(altered("a row is longer than any can be"));
        }
        let key = bytes(&mut self.from, usize::from(key), &mut self.all)?;
        let value = bytes(&mut self.from, value as usize, &mut self.all)?;
        let place = (number, key);
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(altered("its rows are not in order"));
        }
        let mut row = Vec::with_capacity(place.1.len() + value.len() + 7);
        write_row(table, &place.1, &value, &mut row);
        self.state.update(&row);
        let key = place.1.clone();
        self.last = Some(place);
        Ok(Some(Row { table, key, value }))
    }

    /// Reads all rows that are left, and tells what it says last.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn verify(mut self) -> Result<(Head, End), BackupError> {
        while self.row()?.is_some() {}
        let Self { head, end, .. } = self;
        end.map(|end| (head, end)).ok_or(BackupError::Cut)
    }

    fn finish(&mut self) -> Result<(), BackupError> {
        let text = json(&mut self.from, &mut self.all)?;
        let end: End = serde_json::from_slice(&text).map_err(|error| altered(error.to_string()))?;
        let mut told = [0; blake3::OUT_LEN];
        self.from.read_exact(&mut told)?;
        if self.all.finalize() != told {
            return Err(altered("the hash of its bytes is another"));
        }
        if end != self.state.end() {
            return Err(altered("the hash of its rows is another"));
        }
        if self.from.read(&mut [0])? > 0 {
            return Err(altered("something stands behind its end"));
        }
        self.end = Some(end);
        Ok(())
    }

    fn read_array<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes)?;
        self.all.update(&bytes);
        Ok(bytes)
    }
}

/// So many bytes, taken as they come: a length that was altered sets no room aside.
fn bytes(from: &mut impl Read, many: usize, all: &mut Hasher) -> Result<Vec<u8>, BackupError> {
    let mut bytes = Vec::with_capacity(many.min(1 << 20));
    if from.take(many as u64).read_to_end(&mut bytes)? < many {
        return Err(BackupError::Cut);
    }
    all.update(&bytes);
    Ok(bytes)
}

fn json(from: &mut impl Read, all: &mut Hasher) -> Result<Vec<u8>, BackupError> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    all.update(&length);
    let length = u32::from_le_bytes(length);
    if length > MOST_JSON {
        return Err(altered("its head or its end is longer than any can be"));
    }
    bytes(from, length as usize, all)
}
