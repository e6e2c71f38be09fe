//! The folder of a node that is stopped, looked over without changing anything in it.
//!
//! Promise: every byte of the engine's files is read and held against its checksum; rows are read
//! out of a copy, in which tables' files are links to the originals. So a folder that is damaged
//! stays as it is for whoever is to look at it next.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::engine::{self, Harm, TABLES};
use super::folder::{ENGINE_MARKER, STORE, VERSION, look_at, unconverted};
use super::{OpenError, Options, Store};

/// What was found of files.
#[derive(Debug, Default)]
pub struct Files {
    /// What is wrong, one line each.
    pub wrong: Vec<String>,
    /// What is not wrong and good to know.
    pub notes: Vec<String>,
    /// Files that were read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A folder that is looked at; nothing opens it meanwhile.
#[derive(Debug)]
pub struct Look {
    dir: PathBuf,
    /// None where the folder has no file to lock.
    _lock: Option<File>,
}

impl Look {
    /// Begins, where no node runs on the folder.
    ///
    /// # Errors
    /// An [`OpenError`] that says what to do; nothing was changed.
    pub fn at(dir: &Path) -> Result<Self, OpenError> {
        let lock = look_at(dir)?;
        let dir = fs::canonicalize(dir).map_err(|error| OpenError::system(dir, &error))?;
        Ok(Self { dir, _lock: lock })
    }

    /// Reads every file of the engine.
    pub fn files(&self) -> Files {
        let store = self.dir.join(STORE);
        let mut found = Files::default();
        if let Ok(Some(says)) = unconverted(&self.dir) {
            let dir = self.dir.display();
            found.notes.push(format!(
                "{dir} says \"{says}\": the next start brings it to the format of this program; \
                 rows are counted as they are then"
            ));
        }
        match engine::look(&store) {
            Ok((_, Some(torn))) => found.notes.push(format!(
                "{}: the last commit was not written whole, as after a kill or a loss of power; \
                 the next start cuts it off",
                torn.log.display()
            )),
            Ok((_, None)) => {}
            Err(harm) => found.wrong.push(said(harm)),
        }
        for log in engine::logs(&store).unwrap_or_default() {
            found.files += 1;
            found.bytes += used(&log).unwrap_or_default();
        }
        match engine::folders(&store) {
            Ok(folders) => folders.iter().for_each(|folder| found.table(folder)),
            Err(harm) => found.wrong.push(said(harm)),
        }
        found
    }

    /// Opens a copy of it, to be read; it goes with what is returned.
    ///
    /// # Errors
    /// [`CopyError`]: what a start would say, or that there is no room for a copy.
    pub fn open(&self) -> Result<Copied, CopyError> {
        let scratch = Scratch::new().map_err(CopyError::temporary)?;
        copy(&self.dir, &scratch.0).map_err(|fault| match fault {
            Fault::From(harm) => CopyError::Folder(harm.told(&self.dir)),
            Fault::To(error) => CopyError::temporary(error),
        })?;
        let store = Store::open(&scratch.0, Options::default());
        let store = store.map_err(|error| self.of_original(error))?;
        Ok(Copied { store, _scratch: scratch })
    }

    /// What was found in the copy, said of what was copied; but for room, which only the copy
    /// takes.
    fn of_original(&self, error: OpenError) -> CopyError {
        let dir = self.dir.clone();
        CopyError::Folder(match error {
            OpenError::Full(_) => {
                return CopyError::temporary(io::ErrorKind::StorageFull);
            }
            OpenError::NotWritable { problem, .. } => OpenError::NotWritable { dir, problem },
            OpenError::Io { problem, .. } => OpenError::Io { dir, problem },
            OpenError::Damaged { problem, .. } => OpenError::Damaged { dir, problem },
            OpenError::TailLost { table, .. } => OpenError::TailLost { dir, table },
            OpenError::Version { found, .. } => OpenError::Version { dir, found },
            OpenError::NotOurs(_) => OpenError::NotOurs(dir),
            OpenError::InUse(_) => OpenError::InUse(dir),
            OpenError::Unfinished(_) => OpenError::Unfinished(dir),
        })
    }
}

/// No copy of a folder was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The folder for it cannot be used; nothing is said of the one that was to be copied.
    #[error(
        "rows are read out of a copy, and the temporary folder {dir} takes none ({problem}): name \
         another with TMPDIR, with about 128 MiB of room"
    )]
    Temporary {
        /// The system's folder for temporary files.
        dir: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// A start would not open the folder either.
    #[error(transparent)]
    Folder(#[from] OpenError),
}

impl CopyError {
    fn temporary(error: impl std::fmt::Display) -> Self {
        Self::Temporary { dir: std::env::temp_dir(), problem: error.to_string() }
    }
}

/// Which side of a copy failed.
enum Fault {
    From(Harm),
    To(io::Error),
}

impl From<Harm> for Fault {
    fn from(harm: Harm) -> Self {
        Self::From(harm)
    }
}

/// A store on a copy of a folder.
#[derive(Debug)]
pub struct Copied {
    /// The store; dropped first.
    pub store: Store,
    _scratch: Scratch,
}

/// A folder of the system's for what goes again; removed when it is dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let name = format!("highwater-check-{:016x}", rand::random::<u64>());
        let dir = std::env::temp_dir().join(name);
        let mut make = fs::DirBuilder::new();
        // Nobody else may read in the copies what the folder itself does not show them.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut make, 0o700);
        make.create(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is the system's to clear away.
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Files {
    /// Reads the files of one table.
    fn table(&mut self, folder: &Path) {
        let files = engine::in_force(folder).and_then(|manifest| engine::files(&manifest));
        let files = match files {
            Ok(files) => files,
            Err(harm) => return self.wrong.push(said(harm)),
        };
        for (path, due) in files {
            self.files += 1;
            match sum(&path) {
                Ok((sum, bytes)) if sum == due => self.bytes += bytes,
                Ok(_) => self.wrong.push(format!("{} is cut or altered", path.display())),
                Err(error) => {
                    self.wrong.push(format!("{} cannot be read ({error})", path.display()))
                }
            }
        }
    }
}

fn said(harm: Harm) -> String {
    match harm {
        Harm::Io(error) => format!("the folder cannot be read ({error})"),
        Harm::Damaged(problem) => problem,
    }
}

/// Checksum and length of a file.
fn sum(path: &Path) -> io::Result<(u128, u64)> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes, mut length) = (Xxh3::new(), vec![0; 1 << 18], 0);
    loop {
        let got = file.read(&mut bytes)?;
        let Some(read) = bytes.get(..got).filter(|read| !read.is_empty()) else {
            return Ok((hash.digest128(), length));
        };
        hash.update(read);
        length += read.len() as u64;
    }
}

/// Copies what the engine writes to, and links to what it only reads.
fn copy(from: &Path, to: &Path) -> Result<(), Fault> {
    let (store, copied) = (from.join(STORE), to.join(STORE));
    fs::create_dir(&copied).map_err(Fault::To)?;
    copy_small(&from.join(VERSION), &to.join(VERSION))?;
    for name in [ENGINE_MARKER, "lock"] {
        copy_small(&store.join(name), &copied.join(name))?;
    }
    for log in engine::logs(&store)? {
        copy_log(&log, &copied.join(log.file_name().unwrap_or_default()))?;
    }
    for folder in engine::folders(&store)? {
        let target = copied.join(TABLES).join(folder.file_name().unwrap_or_default());
        fs::create_dir_all(target.join("tables")).map_err(Fault::To)?;
        let manifest = engine::in_force(&folder)?;
        for file in [&manifest, &folder.join("current")] {
            copy_small(file, &target.join(file.file_name().unwrap_or_default()))?;
        }
        for (file, _) in engine::files(&manifest)? {
            let link = target.join("tables").join(file.file_name().unwrap_or_default());
            symlink(&file, link).map_err(Fault::To)?;
        }
    }
    Ok(())
}

/// Copies a file of a few kilobytes.
fn copy_small(from: &Path, to: &Path) -> Result<(), Fault> {
    let bytes = fs::read(from).map_err(Harm::Io)?;
    fs::write(to, bytes).map_err(Fault::To)
}

/// Copies a log without the zeros that the engine makes it longer by.
fn copy_log(from: &Path, to: &Path) -> Result<(), Fault> {
    let mut left = File::open(from).map_err(Harm::Io)?.take(used(from).map_err(Harm::Io)?);
    let mut out = File::create(to).map_err(Fault::To)?;
    let mut bytes = vec![0; 1 << 18];
    loop {
        let got = left.read(&mut bytes).map_err(Harm::Io)?;
        let Some(read) = bytes.get(..got).filter(|read| !read.is_empty()) else { return Ok(()) };
        out.write_all(read).map_err(Fault::To)?;
    }
}

/// Bytes of a file up to the zeros at its end.
fn used(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut bytes, mut at, mut used) = (vec![0; 1 << 18], 0, 0);
    loop {
        let got = file.read(&mut bytes)?;
        let Some(read) = bytes.get(..got).filter(|read| !read.is_empty()) else { return Ok(used) };
        if let Some(last) = read.iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1;
        }
        at += read.len() as u64;
    }
}
