//! What commands do with data folders that no node runs on: backups of them, and new ones made of
//! backups.

use std::path::{Path, PathBuf};

use super::revoked;
use crate::fold::position_of;
use crate::rows::RowsError;
use crate::store::check::CopyError;
use crate::store::{OpenError, Options, Store, unconverted};

pub use crate::store::backup::{
    BackupError, End, Export, Head, Reader, RestoreError, Restored, clear_unfinished, restore,
};

/// The folder of a node that is stopped cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("{0} is no data folder: check the path")]
    None(PathBuf),
    /// It was to be read out of a copy, and there is no room for one.
    #[error(transparent)]
    Temporary(#[from] CopyError),
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its rows are of another format than a backup has.
    #[error(
        "{dir} says \"{found}\", and a backup is taken of today's format: start a node of this \
         version on the folder once, or copy the stopped folder (cp -a); nothing was changed in it"
    )]
    Old {
        /// The folder.
        dir: PathBuf,
        /// What its file `VERSION` says.
        found: &'static str,
    },
    /// Who was revoked stands in a file beside the rows, and would not be in the backup.
    #[error(
        "{0} has a revocations.json that was not taken over yet: start a node of this version on \
         the folder once, or copy the stopped folder (cp -a); nothing was changed in it"
    )]
    Revocations(PathBuf),
    /// It cannot be read.
    #[error(
        "{dir} cannot be read ({problem}): `highwater check {dir}` says what is wrong; keep it \
         aside, and restore a backup"
    )]
    Rows {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        problem: RowsError,
    },
}

/// Whether a folder is a data folder of which nothing is missing that a restore was to make.
pub fn is_whole(dir: &Path) -> bool {
    dir.join("VERSION").is_file()
}

/// Begins a backup of a folder that no node runs on; `time` is the present one, milliseconds since
/// 1970.
///
/// # Errors
/// [`FolderError`]; also where a node runs on it, which is to be asked itself, and where a start
/// has still to bring it to today's format.
pub fn export(dir: &Path, time: u64) -> Result<Taken, FolderError> {
    // To open one that is not there would be to make it.
    if !dir.join("VERSION").is_file() {
        return Err(FolderError::None(dir.to_owned()));
    }
    if let Some(found) = unconverted(dir)? {
        return Err(FolderError::Old { dir: dir.to_owned(), found });
    }
    if dir.join(revoked::FILE).exists() {
        return Err(FolderError::Revocations(dir.to_owned()));
    }
    let unread = |problem| FolderError::Rows { dir: dir.to_owned(), problem };
    let mut export = Store::open(dir, Options::default())?.export(time);
    export.set_position(position_of(&export).map_err(unread)?);
    Ok(Taken { dir: dir.to_owned(), export })
}

/// A backup of a folder, on its way out.
#[derive(Debug)]
pub struct Taken {
    dir: PathBuf,
    export: Export,
}

impl Taken {
    /// The next piece; none at the end. Blocks on the disk.
    ///
    /// # Errors
    /// [`FolderError`] where a row is damaged, or storage fails: the backup is none.
    pub fn piece(&mut self) -> Result<Option<Vec<u8>>, FolderError> {
        let unread = |problem| FolderError::Rows { dir: self.dir.clone(), problem };
        self.export.piece().map_err(unread)
    }
}
