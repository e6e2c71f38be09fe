//! What commands do with data folders that no node runs on: backups of them, and new ones made of
//! backups.

use std::path::{Path, PathBuf};

use crate::fold::position_of;
use crate::log::rows::RowsError;
use crate::store::{OpenError, Options, Store};

pub use crate::store::backup::{
    BackupError, End, Export, Head, Reader, RestoreError, Restored, restore,
};

/// The folder of a node that is stopped cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("{0} is no data folder: check the path")]
    None(PathBuf),
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("the data folder cannot be read: {0}")]
    Rows(#[from] RowsError),
}

/// Begins a backup of a folder that no node runs on; `time` is the present one, milliseconds since
/// 1970.
///
/// # Errors
/// [`FolderError`]; also where a node runs on it, which is to be asked itself.
pub fn export(dir: &Path, time: u64) -> Result<Export, FolderError> {
    // To open one that is not there would be to make it.
    if !dir.join("VERSION").is_file() {
        return Err(FolderError::None(dir.to_owned()));
    }
    let mut export = Store::open(dir, Options::default())?.export(time);
    export.set_position(position_of(&export)?);
    Ok(export)
}
