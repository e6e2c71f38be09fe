//! A data folder from a backup.
//!
//! Promise: the folder is new, and whole or not to be opened: a restore that was cut short leaves a
//! mark that the next start refuses. It is read back before it counts. It goes on with the backup's
//! journal, as a node of its own, so that two nodes never are the same.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BackupError, End, Head, Reader};
use crate::rows::{RowsError, Table, Writes};
use crate::store::folder::{
    FORMAT, Folder, OF_A_RESTORE, begin_restore, is_ours, lock_of, refuse_unfinished,
};
use crate::store::{OpenError, Options, Store, StoreError};
use crate::wire::Id;

/// About so many bytes are committed at once.
const AT_ONCE: usize = 1 << 20;

/// No folder was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be used.
    #[error("the backup cannot be used: {0}")]
    Backup(#[from] BackupError),
    /// It is of another format.
    #[error(
        "the backup is of \"{found}\", this program writes \"{}\": restore it with the program \
         that made it ({program}), then open the folder with this one",
        FORMAT.trim_end()
    )]
    Format {
        /// What the backup says.
        found: String,
        /// The program that made it.
        program: String,
    },
    /// There is something in the folder.
    #[error("{0} is not empty: name a folder that is not there yet")]
    NotEmpty(PathBuf),
    /// It is a data folder.
    #[error("{0} is a data folder already: name a folder that is not there yet")]
    Kept(PathBuf),
    /// The folder cannot be made.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be read back.
    #[error("what was written cannot be read back ({0}): check the disk")]
    Rows(#[from] RowsError),
    /// Something else is read back than was written.
    #[error("what was written is not what is read back: check the disk")]
    NotTheSame,
}

/// A folder that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What the backup says first.
    pub head: Head,
    /// What it says last.
    pub end: End,
    /// The node that the folder is.
    pub node: Id,
}

/// Makes a data folder of a backup.
///
/// # Errors
/// [`RestoreError`]. The folder is then not to be opened; remove it.
pub fn restore(from: impl Read, dir: &Path) -> Result<Restored, RestoreError> {
    let mut reader = Reader::new(from)?;
    let head = reader.head().clone();
    if head.format != FORMAT.trim_end() {
        return Err(RestoreError::Format { found: head.format, program: head.program });
    }
    if !empty(dir).map_err(|error| OpenError::system(dir, &error))? {
        return Err(occupied(dir));
    }
    begin_restore(dir)?;
    let store = Store::open_in(Folder::open(dir, true)?, Options::default(), Some(head.journal))?;
    // What other files said may go is for the node to decide, not for this.
    let held = store.0.watermarks.hold();
    fill(&store, &mut reader)?;
    let end = reader.end().cloned().ok_or(BackupError::Cut)?;
    store.set_batch(head.batch)?;
    // From the files: what is in memory was not written yet.
    for table in Table::ALL {
        store.compact(table)?;
    }
    store.sync()?;
    if store.export(0).finish()? != end {
        return Err(RestoreError::NotTheSame);
    }
    drop(held);
    store.0.folder.finish()?;
    Ok(Restored { head, end, node: store.node_id() })
}

/// Takes away what a restore that was cut short has left in a folder, so that it can be begun anew.
/// One that goes on is left alone, and so is what is not ours.
///
/// # Errors
/// Where that restore still goes on, or the folder cannot be emptied.
pub fn clear_unfinished(dir: &Path) -> Result<(), RestoreError> {
    if refuse_unfinished(dir).is_ok() {
        return Ok(());
    }
    let lock = lock_of(dir)?;
    let gone = |path: PathBuf| {
        let gone = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match gone {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(OpenError::system(dir, &error))
            }
            _ => Ok(()),
        }
    };
    OF_A_RESTORE.iter().try_for_each(|name| gone(dir.join(name)))?;
    drop(lock);
    Ok(())
}

fn fill(store: &Store, reader: &mut Reader<impl Read>) -> Result<(), RestoreError> {
    let (mut writes, mut size) = (Writes::default(), 0);
    while let Some(row) = reader.row()? {
        size += row.key.len() + row.value.len();
        writes.rows.insert((row.table, row.key), Some(row.value));
        if size > AT_ONCE {
            store.commit(std::mem::take(&mut writes), None, false)?;
            size = 0;
        }
    }
    store.commit(writes, None, false)?;
    Ok(())
}

/// Why nothing is restored into a folder that has something in it. Whoever uses it is told first:
/// what a restore that goes on has made so far looks like one that was cut short.
fn occupied(dir: &Path) -> RestoreError {
    if !is_ours(dir) {
        return RestoreError::NotEmpty(dir.to_owned());
    }
    match lock_of(dir).and_then(|_lock| refuse_unfinished(dir)) {
        Ok(()) => RestoreError::Kept(dir.to_owned()),
        Err(error) => error.into(),
    }
}

/// Whether a folder is not there, or has nothing in it.
fn empty(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                if entry?.file_name() != "lost+found" {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}
