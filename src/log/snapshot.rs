//! Snapshots that clients make: parts come in, and count when the last one has arrived.
//!
//! One upload per log and connection at a time, few per log; a part 0 begins anew. The two newest
//! snapshots are kept. A snapshot never goes backwards and never lies past the head.

use serde::{Deserialize, Serialize};

use super::row::SnapshotAt;
use super::{Decided, Logs};
use crate::limit::SNAPSHOT_PARTS;
use crate::rows::{Io, Key, More, RowsError, Table, read_row};
use crate::wire::{Code, Id, Origin, Place, Refusal, SnapshotRule};

/// Most parts of one snapshot.
pub const MAX_UPLOAD_PARTS: u32 = SNAPSHOT_PARTS;

/// Most uploads of one log at a time; a further one takes the place of the oldest, so that what
/// clients began and left takes bounded room.
pub const MAX_UPLOADS: usize = 4;

/// One part, as a command carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Whose client makes it.
    pub user: String,
    /// Where it is kept: the connection, or over HTTP the user's own place.
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
    /// The views that it is to hold, by name, with their versions.
    views: Vec<(String, u32)>,
    /// What is to come.
    more: More,
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
        let Upload { upload, offset, version, parts, bytes, views, .. } = upload;
        let (user, connection) = (part.user, part.connection);
        let origin = Some(Origin { user, writer: Id::NONE, connection });
        let (confirmed, more) = (false, More::default());
        let done =
            SnapshotAt { offset, upload, parts, bytes, version, origin, views, confirmed, more };
        let Some(row) = self.change(part.log, io)? else { return Ok(Ok(None)) };
        row.snapshots.push(done.clone());
        let old = (row.snapshots.len() > 2).then(|| row.snapshots.remove(0));
        if let Some(old) = old {
            drop_parts(part.log, old.upload, old.parts, io);
        }
        drop_uploads(part.log, |upload| upload.offset <= offset, io)?;
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
        // A place names one command of all time, so no two uploads share a number.
        let number = place.batch << 20 | u64::from(place.index);
        let (offset, version) = (part.offset, part.version);
        let new = || Upload {
            upload: number,
            offset,
            version,
            parts: 0,
            bytes: 0,
            views: Vec::new(),
            more: More::default(),
        };
        let upload = known.clone().filter(|_| part.part > 0).unwrap_or_else(new);
        let bytes = upload.bytes + part.data.len() as u64;
        let fits = upload.parts == part.part && upload.offset == part.offset;
        if !fits || upload.version != part.version {
            return Ok(Err(Code::SnapshotParts.into()));
        }
        if upload.parts >= MAX_UPLOAD_PARTS {
            let message = format!("a snapshot has at most {MAX_UPLOAD_PARTS} parts: larger ones");
            return Ok(Err(Refusal::because(Code::TooLarge, message)));
        }
        if bytes > most_bytes {
            let message = format!("a snapshot has at most {most_bytes} bytes");
            return Ok(Err(Refusal::because(Code::TooLarge, message)));
        }
        // Only now, when the part is taken: what was refused leaves the upload as it was.
        match known {
            Some(known) if known.upload != upload.upload => {
                drop_parts(part.log, known.upload, known.parts, io);
            }
            None => make_room(part.log, io)?,
            Some(_) => {}
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

/// The log's uploads with their keys; there are never more than [`MAX_UPLOADS`].
fn uploads(log: u64, io: &Io<'_>) -> Result<Vec<(Vec<u8>, Upload)>, RowsError> {
    let prefix = Key::of(log).build();
    let rows = io.scan(Table::Uploads, &prefix, &prefix, MAX_UPLOADS)?;
    rows.into_iter().map(|(key, row)| Ok((key, read_row(Table::Uploads, &row)?))).collect()
}

/// Removes snapshots below a log's start: from those nobody can go on.
pub(super) fn drop_passed(log: u64, row: &mut super::LogRow, io: &mut Io<'_>) {
    let start = row.start;
    row.snapshots.retain(|known| {
        let kept = known.offset >= start;
        if !kept {
            drop_parts(log, known.upload, known.parts, io);
        }
        kept
    });
}

/// Ends uploads of a log, and takes their parts away.
fn drop_uploads(
    log: u64,
    which: impl Fn(&Upload) -> bool,
    io: &mut Io<'_>,
) -> Result<(), RowsError> {
    for (key, upload) in uploads(log, io)?.into_iter().filter(|(_, upload)| which(upload)) {
        drop_parts(log, upload.upload, upload.parts, io);
        io.remove(Table::Uploads, key);
    }
    Ok(())
}

/// Ends all uploads of a log that takes none any more, and takes their parts away.
pub(super) fn drop_uploads_of(log: u64, io: &mut Io<'_>) -> Result<(), RowsError> {
    drop_uploads(log, |_| true, io)
}

/// Room for one more upload: the oldest goes where there are too many.
fn make_room(log: u64, io: &mut Io<'_>) -> Result<(), RowsError> {
    let known = uploads(log, io)?;
    if known.len() < MAX_UPLOADS {
        return Ok(());
    }
    let oldest = known.iter().map(|(_, upload)| upload.upload).min();
    drop_uploads(log, |upload| Some(upload.upload) == oldest, io)
}

/// Ends the uploads of a log that is deleted; its parts go when their table is compacted.
pub(super) fn end_uploads(log: u64, io: &mut Io<'_>) -> Result<(), RowsError> {
    for (key, _) in uploads(log, io)? {
        io.remove(Table::Uploads, key);
    }
    Ok(())
}

fn drop_parts(log: u64, upload: u64, parts: u32, io: &mut Io<'_>) {
    for part in 0..parts {
        io.remove(Table::Snapshots, Key::of(log).then(upload).then_u32(part).build());
    }
}
