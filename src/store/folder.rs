//! The data folder: whose it is, in which format, and that one process uses it.
//!
//! Promise: a folder that is not ours, of another format, or in use is refused before anything in
//! it is touched; a crash while a folder is being made leaves one that the next start makes anew.
//! `docs/storage.md` §1 has the files and the order in which they are written.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::engine::{TABLES, manifests};

pub(super) const VERSION: &str = "VERSION";
pub(super) const LOCK: &str = "LOCK";
const CREATING: &str = "CREATING";
/// There from the beginning of a restore until all of it is in the folder.
const RESTORING: &str = "RESTORING";
pub(super) const STORE: &str = "store";
/// What a restore makes, the mark last: before that is gone the folder is taken for nothing else.
pub(super) const OF_A_RESTORE: [&str; 5] = [STORE, "VERSION.new", CREATING, LOCK, RESTORING];
/// What `VERSION` says in folders of this format.
pub(super) const FORMAT: &str = "highwater store 3\n";
/// What it says in folders of the format before, which are converted.
const BEFORE: &str = "highwater store 2\n";
/// Tables that those have, with the engine's own.
const TABLES_BEFORE: usize = 17;
/// What it says while that is being done.
const HALF: &str = "highwater store 2 to 3\n";
/// Marker that the engine keeps in its own folder from the end of its making on.
pub(super) const ENGINE_MARKER: &str = "version";

/// The folder could not be opened. Nothing in it was changed, except where it was ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is something in it, and it is not ours.
    #[error("{0} is no data folder of highwater but is not empty: name another or empty it")]
    NotOurs(PathBuf),
    /// It has another format.
    #[error(
        "{dir} says \"{found}\", this program knows \"{}\" and converts \"{}\": use the program \
         that made it, or restore a backup",
        FORMAT.trim_end(), BEFORE.trim_end()
    )]
    Version {
        /// The folder.
        dir: PathBuf,
        /// What its file `VERSION` says.
        found: String,
    },
    /// Another process uses it.
    #[error("{0} is in use by another process: stop that one, or name another folder")]
    InUse(PathBuf),
    /// It cannot be written.
    #[error("{dir} cannot be written ({problem}): check owner, mode and mount")]
    NotWritable {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// The disk is full.
    #[error("{0} has no room on its disk: make room, then start again")]
    Full(PathBuf),
    /// The system failed otherwise.
    #[error("{dir} cannot be used ({problem}): check the path and the disk")]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// Files are missing, cut or altered.
    #[error("{dir} is damaged ({problem}): keep it aside, and restore a backup")]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What was found.
        problem: String,
    },
    /// A restore into it did not come to its end.
    #[error(
        "a restore into {0} did not come to its end: remove that folder, and restore the backup \
         again"
    )]
    Unfinished(PathBuf),
    /// Tables hold changes that the engine's log has lost: it was cut by something else than a
    /// crash.
    #[error(
        "{dir} lost the end of its log: table {table} holds later changes. Keep it aside, and \
         restore a backup"
    )]
    TailLost {
        /// The folder.
        dir: PathBuf,
        /// A table that is ahead.
        table: String,
    },
}

impl OpenError {
    /// An error of the system, by its kind.
    pub(super) fn system(dir: &Path, error: &io::Error) -> Self {
        let dir = dir.to_owned();
        let problem = error.to_string();
        match error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::NotWritable { dir, problem }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(dir),
            _ => Self::Io { dir, problem },
        }
    }
}

/// A folder that this process holds the lock of.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    found: Found,
    /// It was made, restored or converted since.
    finished: AtomicBool,
    /// Held for the lock on it, which goes with the process.
    lock: File,
}

/// What was found in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing, or what a broken attempt to make it left.
    Nothing,
    /// A store of today's format.
    Today,
    /// One of the format before.
    Before,
    /// One whose conversion has begun.
    Half,
}

impl Folder {
    /// Makes or finds the folder, and locks it. One that is being restored is opened by the restore
    /// alone.
    pub(super) fn open(dir: &Path, restore: bool) -> Result<Self, OpenError> {
        let system = |error: io::Error| OpenError::system(dir, &error);
        make(dir).map_err(system)?;
        // Looked at before the lock is made, so that a folder of others gets no file of ours.
        check(dir, restore)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK));
        let lock = lock.map_err(system)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(dir.to_owned()),
            TryLockError::Error(error) => OpenError::system(dir, &error),
        })?;
        // Looked at again: another process may have made it in between.
        let found = check(dir, restore)?;
        let finished = AtomicBool::new(false);
        let folder = Self { dir: dir.to_owned(), found, finished, lock };
        if found == Found::Nothing {
            folder.begin().map_err(system)?;
        } else {
            folder.made().map_err(system)?;
            folder.look_over()?;
        }
        Ok(folder)
    }

    /// Refuses what the engine would take for its own unfinished making, and clear away.
    fn look_over(&self) -> Result<(), OpenError> {
        let damaged = |problem| OpenError::Damaged { dir: self.dir.clone(), problem };
        let marker = self.store().join(ENGINE_MARKER);
        if !marker.is_file() {
            return Err(damaged(format!("{} is missing", marker.display())));
        }
        let tables = manifests(&self.store(), self.found == Found::Half);
        let tables = tables.map_err(|harm| harm.told(&self.dir))?;
        // One bit of `VERSION` makes the one number of the other; rows must not be converted twice.
        if self.found == Found::Before && tables > TABLES_BEFORE {
            let text = "VERSION says an older format than the tables have: it is altered";
            return Err(damaged(text.to_owned()));
        }
        Ok(())
    }

    /// Where the engine's files are.
    pub(super) fn store(&self) -> PathBuf {
        self.dir.join(STORE)
    }

    /// The file that is locked.
    pub(super) const fn lock(&self) -> &File {
        &self.lock
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether it is being made.
    pub(super) fn fresh(&self) -> bool {
        self.found == Found::Nothing && !self.finished.load(Ordering::Relaxed)
    }

    /// Before anything is changed in a folder of the format before: from here on no program but one
    /// that can go on with the conversion opens it.
    pub(super) fn begin_conversion(&mut self) -> Result<(), OpenError> {
        if self.found == Found::Before {
            self.stamp(HALF).map_err(|error| OpenError::system(&self.dir, &error))?;
            self.found = Found::Half;
        }
        Ok(())
    }

    /// Whether its rows are of the format before, or partly so.
    pub(super) fn to_convert(&self) -> bool {
        self.found == Found::Half && !self.finished.load(Ordering::Relaxed)
    }

    /// Marks that it is being made; what an earlier, broken attempt left goes.
    fn begin(&self) -> io::Result<()> {
        File::create(self.dir.join(CREATING))?.sync_all()?;
        sync_folder(&self.dir)?;
        match fs::remove_dir_all(self.store()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// It is made, and `VERSION` says so. The mark of its making must not outlive that, also where
    /// a crash came in between: with it the folder would be made anew, were `VERSION` ever lost.
    fn made(&self) -> io::Result<()> {
        for mark in [CREATING, RESTORING] {
            match fs::remove_file(self.dir.join(mark)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(()) => sync_folder(&self.dir)?,
            }
        }
        Ok(())
    }

    /// It is made, or converted: from here on it is opened as what it is.
    pub(super) fn finish(&self) -> Result<(), OpenError> {
        let done = self.stamp(FORMAT).and_then(|()| self.made());
        done.map_err(|error| OpenError::system(&self.dir, &error))?;
        self.finished.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Says in `VERSION` what the folder is.
    fn stamp(&self, format: &str) -> io::Result<()> {
        // The engine syncs each table's folder, but not the folder that lists these. `VERSION`
        // must not be there without them.
        sync_folder(&self.store().join(TABLES))?;
        sync_folder(&self.store())?;
        sync_folder(&self.dir)?;
        let beside = self.dir.join("VERSION.new");
        let mut file = File::create(&beside)?;
        file.write_all(format.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, self.dir.join(VERSION))?;
        sync_folder(&self.dir)
    }
}

/// Marks a folder as one that is being restored; made where there is none.
pub(super) fn begin_restore(dir: &Path) -> Result<(), OpenError> {
    let mark = || {
        make(dir)?;
        File::create(dir.join(RESTORING))?.sync_all()?;
        sync_folder(dir)
    };
    mark().map_err(|error: io::Error| OpenError::system(dir, &error))
}

/// Refuses a folder of which a restore has made a part.
pub(super) fn refuse_unfinished(dir: &Path) -> Result<(), OpenError> {
    match dir.join(RESTORING).exists() && !dir.join(VERSION).exists() {
        true => Err(OpenError::Unfinished(dir.to_owned())),
        false => Ok(()),
    }
}

/// Looks at a folder without changing anything in it, and locks it where it has a lock: nothing
/// opens it meanwhile.
pub(super) fn look_at(dir: &Path) -> Result<Option<File>, OpenError> {
    if check(dir, false)? == Found::Nothing {
        return Err(OpenError::NotOurs(dir.to_owned()));
    }
    lock_of(dir)
}

/// Whether a folder is one of ours, whole or not: nothing is made in it, and nobody is told to
/// empty it.
pub(super) fn is_ours(dir: &Path) -> bool {
    [VERSION, CREATING, RESTORING].iter().any(|name| dir.join(name).exists())
}

/// What `VERSION` says of a folder whose rows the next start has still to convert; none where they
/// are of today's format.
pub(super) fn unconverted(dir: &Path) -> Result<Option<&'static str>, OpenError> {
    Ok(match check(dir, false)? {
        Found::Before => Some(BEFORE.trim_end()),
        Found::Half => Some(HALF.trim_end()),
        Found::Nothing | Found::Today => None,
    })
}

/// Locks a folder's lock without making one.
pub(super) fn lock_of(dir: &Path) -> Result<Option<File>, OpenError> {
    let system = |error: io::Error| OpenError::system(dir, &error);
    let lock = match File::open(dir.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(system(error)),
    };
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(system(error)),
    }
}

/// Makes a folder, and has those that now list a new one know it after a loss of power.
fn make(dir: &Path) -> io::Result<()> {
    let known = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let new: Vec<&Path> = dir.ancestors().take_while(known).collect();
    fs::create_dir_all(dir)?;
    for parent in new.into_iter().filter_map(Path::parent) {
        // A path of one name lies in the current folder.
        let here = parent.as_os_str().is_empty();
        sync_folder(if here { Path::new(".") } else { parent })?;
    }
    Ok(())
}

fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What there is; nothing where a store may be made.
fn check(dir: &Path, restore: bool) -> Result<Found, OpenError> {
    let system = |error: io::Error| OpenError::system(dir, &error);
    match File::open(dir.join(VERSION)) {
        Ok(file) => {
            let mut found = Vec::new();
            file.take(64).read_to_end(&mut found).map_err(system)?;
            for (format, is) in
                [(FORMAT, Found::Today), (BEFORE, Found::Before), (HALF, Found::Half)]
            {
                if found == format.as_bytes() {
                    return Ok(is);
                }
            }
            let found = String::from_utf8_lossy(&found).trim_end().to_owned();
            Err(OpenError::Version { dir: dir.to_owned(), found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !restore {
                refuse_unfinished(dir)?;
            }
            if restore || dir.join(CREATING).exists() {
                return Ok(Found::Nothing);
            }
            for entry in fs::read_dir(dir).map_err(system)? {
                let name = entry.map_err(system)?.file_name();
                if name != LOCK && name != "lost+found" {
                    return Err(OpenError::NotOurs(dir.to_owned()));
                }
            }
            Ok(Found::Nothing)
        }
        Err(error) => Err(system(error)),
    }
}
