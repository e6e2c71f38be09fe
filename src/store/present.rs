//! Whether the folder that was opened is still the one at its path, and can still be written.
//!
//! Promise: a folder that was removed, replaced, unmounted, made read-only or put on a disk that
//! fails is found out by one look, though nothing is appended: files that are open go on to take
//! writes and syncs long after nobody can find them again. Once it is said to be lost, no commit
//! is made and none is answered, whatever the disk says of it.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::folder::{Folder, LOCK, VERSION};
use super::{OpenError, Store};

/// The folder cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// Something of it is no longer there.
    #[error(
        "{path} cannot be found any more ({problem}), and what is written now would be lost with \
         it: put {dir} back as it was, or mount its disk, then start again"
    )]
    Gone {
        /// The data folder.
        dir: PathBuf,
        /// What is missing.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// Something else is in its place.
    #[error(
        "{path} is no longer the one that was opened, and what is written now would be lost: put \
         {dir} back as it was, or mount its disk, then start again"
    )]
    Replaced {
        /// The data folder.
        dir: PathBuf,
        /// What was replaced.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error(
        "{dir} cannot be written any more ({problem}): check its disk and how it is mounted, \
             then start again"
    )]
    NotWritable {
        /// The data folder.
        dir: PathBuf,
        /// What the system says.
        problem: String,
    },
}

/// Device and number of a file or folder.
type Place = (u64, u64);

fn place(meta: &Metadata) -> Place {
    (meta.dev(), meta.ino())
}

/// What stood where when the folder was opened.
#[derive(Debug)]
pub(super) struct Present(Vec<(PathBuf, Place)>);

impl Present {
    /// Notes it.
    pub(super) fn note(folder: &Folder) -> io::Result<Self> {
        let dir = folder.dir();
        let noted = |path: PathBuf| fs::metadata(&path).map(|meta| (path, place(&meta)));
        let files = [dir.to_owned(), dir.join(VERSION), folder.store()].into_iter().map(noted);
        let mut all = files.collect::<io::Result<Vec<_>>>()?;
        // The one that is locked, whatever lies at its path by now.
        all.push((dir.join(LOCK), place(&folder.lock().metadata()?)));
        Ok(Self(all))
    }

    fn look(&self, dir: &Path) -> Result<(), Lost> {
        for (path, noted) in &self.0 {
            match fs::metadata(path) {
                Ok(meta) if place(&meta) == *noted => {}
                Ok(_) => return Err(Lost::Replaced { dir: dir.to_owned(), path: path.clone() }),
                Err(error) => return Err(gone(dir, path, &error)),
            }
        }
        Ok(())
    }
}

fn gone(dir: &Path, path: &Path, problem: &dyn std::fmt::Display) -> Lost {
    let (dir, path) = (dir.to_owned(), path.to_owned());
    Lost::Gone { dir, path, problem: problem.to_string() }
}

/// What `LOCK` holds; written again and again, in place, to see whether it can be.
const WRITTEN: &[u8] = b"in use by a node of highwater while locked\n";

impl Store {
    /// Notes what is there, once the folder is whole.
    pub(super) fn note_present(&self) -> Result<(), OpenError> {
        let present = Present::note(&self.0.folder);
        let present = present.map_err(|error| OpenError::system(self.dir(), &error))?;
        // Noted once, by the one who opens.
        self.0.present.set(present).ok();
        Ok(())
    }

    /// Looks whether the folder is still there. Some system calls; a thread that may wait for a
    /// disk, some times a second.
    ///
    /// # Errors
    /// [`Lost`], with what to do.
    pub fn look(&self) -> Result<(), Lost> {
        let dir = self.dir();
        if let Some(present) = self.0.present.get() {
            present.look(dir)?;
        }
        // The engine always has a log. Where files are short it is left aside.
        let store = self.0.folder.store();
        let Ok(entries) = fs::read_dir(&store) else { return Ok(()) };
        let is_log = |path: &Path| path.extension().is_some_and(|ending| ending == "jnl");
        match entries.flatten().any(|entry| is_log(&entry.path())) {
            true => Ok(()),
            false => Err(gone(dir, &store.join("*.jnl"), &"the engine's log is missing")),
        }
    }

    /// Writes a little into the folder and syncs it. A full disk is no error here: what needs room
    /// is refused elsewhere.
    ///
    /// # Errors
    /// [`Lost::NotWritable`].
    pub fn probe(&self) -> Result<(), Lost> {
        let lock = self.0.folder.lock();
        let written = lock.write_all_at(WRITTEN, 0).and_then(|()| lock.sync_data());
        written.or_else(|error| match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Ok(()),
            _ => {
                let (dir, problem) = (self.dir().to_owned(), error.to_string());
                Err(Lost::NotWritable { dir, problem })
            }
        })
    }

    /// From here on no commit is made, and the one under way fails, whatever comes of it. Nor is
    /// the engine closed any more: it would clear away files by their names, in whatever folder
    /// lies at the path by now. So the process is to end.
    #[allow(clippy::disallowed_methods, reason = "the process is to end without closing it")]
    pub fn lose(&self, why: &Lost) {
        // The first reason stays.
        if self.0.lost.set(why.to_string()).is_ok() {
            std::mem::forget(self.clone());
        }
    }
}
