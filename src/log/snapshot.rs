//! Snapshots that clients make: parts come in, and count when the last one has arrived.
//!
//! One upload per log and connection at a time; a part 0 begins anew. The two newest snapshots are
//! kept. A snapshot never goes backwards and never lies past the head.

use serde::{Deserialize, Serialize};

use super::row::SnapshotAt;
use super::rows::{Io, Key, RowsError, Table};
use super::{Decided, Logs};
use crate::wire::{Code, Id, Place, Refusal, SnapshotRule};

/// Most parts of one snapshot.
pub const MAX_UPLOAD_PARTS: u32 = 4096;

/// One part, as a command carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Who makes it; [`Id::NONE`] plus the user's own place for HTTP.
    pub connection: Id,
    /// The log.
    pub log: u64,
    /// Offset of the snapshot.
    pub offset: u64,
    /// Version of its format.
    pub version: u32,
    /// Number of this part.
    pub part: u32,
    /// Whether it is the last.
    pub last: bool,
    /// The bytes.
    pub data: bytes::Bytes,
}

/// A snapshot on its way in.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Upload {
    upload: u64,
    offset: u64,
    version: u32,
    parts: u32,
    bytes: u64,
}

impl Logs {
    /// Takes a part. `Some` when it was the last: the snapshot counts from now on.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn put_snapshot(
        &mut self,
        part: Part,
        most_bytes: u64,
        place: Place,
        io: &mut Io<'_>,
    ) -> Decided<Option<SnapshotAt>> {
        let Some(row) = self.row(part.log, io)?.filter(|row| !row.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        if let Err(refusal) = admit(row, &part) {
            return Ok(Err(refusal));
        }
        let row_key = Key::of(part.log).then_bytes(&part.connection.0).build();
        let upload = match self.step(&part, most_bytes, place, &row_key, io)? {
            Ok(upload) => upload,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let key = Key::of(part.log).then(upload.upload).then_u32(part.part).build();
        io.put_raw(Table::Snapshots, key, part.data.to_vec());
        if !part.last {
            io.put(Table::Uploads, row_key, &upload);
            return Ok(Ok(None));
        }
        io.remove(Table::Uploads, row_key);
        let Upload { upload, offset, version, parts, bytes } = upload;
        let done = SnapshotAt { offset, upload, parts, bytes, version };
        let Some(row) = self.change(part.log, io)? else { return Ok(Ok(None)) };
        row.snapshots.push(done.clone());
        let old = (row.snapshots.len() > 2).then(|| row.snapshots.remove(0));
        if let Some(old) = old {
            drop_parts(part.log, old.upload, old.parts, io);
        }
        Ok(Ok(Some(done)))
    }

    /// The upload with this part counted.
    fn step(
        &self,
        part: &Part,
        most_bytes: u64,
        place: Place,
        row_key: &[u8],
        io: &mut Io<'_>,
    ) -> Result<Result<Upload, Refusal>, RowsError> {
        let known: Option<Upload> = io.get(Table::Uploads, row_key)?;
        let upload = match known {
            Some(known) if part.part > 0 => known,
            known => {
                if let Some(known) = known {
                    drop_parts(part.log, known.upload, known.parts, io);
                }
                // A place names one command of all time, so no two uploads share a number.
                let upload = place.batch << 20 | u64::from(place.index);
                Upload { upload, offset: part.offset, version: part.version, parts: 0, bytes: 0 }
            }
        };
        let bytes = upload.bytes + part.data.len() as u64;
        let fits = upload.parts == part.part && upload.offset == part.offset;
        if !fits || upload.version != part.version || upload.parts >= MAX_UPLOAD_PARTS {
            return Ok(Err(Code::SnapshotParts.into()));
        }
        if bytes > most_bytes {
            let message = format!("a snapshot has at most {most_bytes} bytes");
            return Ok(Err(Refusal::because(Code::TooLarge, message)));
        }
        Ok(Ok(Upload { parts: upload.parts + 1, bytes, ..upload }))
    }
}

fn admit(row: &super::LogRow, part: &Part) -> Result<(), Refusal> {
    if row.rule != SnapshotRule::Client {
        return Err(Code::SnapshotRule.into());
    }
    if part.offset > row.head {
        return Err(Code::SnapshotBeyond.into());
    }
    if row.newest_snapshot().is_some_and(|newest| part.offset <= newest) {
        return Err(Code::SnapshotBehind.into());
    }
    Ok(())
}

fn drop_parts(log: u64, upload: u64, parts: u32, io: &mut Io<'_>) {
    for part in 0..parts {
        io.remove(Table::Snapshots, Key::of(log).then(upload).then_u32(part).build());
    }
}
