//! The folder of a node that is stopped, looked over without changing anything in it.
//!
//! Promise: every byte of the engine's files is read and held against its checksum; rows are read
//! out of a copy, in which tables' files are links to the originals. So a folder that is damaged
//! stays as it is for whoever is to look at it next.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::engine::{self, Harm, TABLES};
use super::folder::{ENGINE_MARKER, STORE, VERSION, look_at};
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
        match engine::look(&store) {
            Ok((_, Some(torn))) => found.notes.push(format!(
                "{}: the last commit was not written whole, as after a loss of power; the next \
                 start cuts it off",
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
    /// An [`OpenError`]: what a start would say.
    pub fn open(&self) -> Result<Copied, OpenError> {
        let scratch = Scratch::new().map_err(|error| OpenError::system(&self.dir, &error))?;
        let harmed = |harm: Harm| harm.told(&self.dir);
        copy(&self.dir, &scratch.0).map_err(harmed)?;
        let store = Store::open(&scratch.0, Options::default())?;
        Ok(Copied { store, _scratch: scratch })
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
        fs::create_dir(&dir)?;
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
fn copy(from: &Path, to: &Path) -> Result<(), Harm> {
    let (store, copied) = (from.join(STORE), to.join(STORE));
    fs::create_dir(&copied)?;
    fs::copy(from.join(VERSION), to.join(VERSION))?;
    for name in [ENGINE_MARKER, "lock"] {
        fs::copy(store.join(name), copied.join(name))?;
    }
    for log in engine::logs(&store)? {
        copy_log(&log, &copied.join(log.file_name().unwrap_or_default()))?;
    }
    for folder in engine::folders(&store)? {
        let target = copied.join(TABLES).join(folder.file_name().unwrap_or_default());
        fs::create_dir_all(target.join("tables"))?;
        let manifest = engine::in_force(&folder)?;
        for file in [&manifest, &folder.join("current")] {
            fs::copy(file, target.join(file.file_name().unwrap_or_default()))?;
        }
        for (file, _) in engine::files(&manifest)? {
            symlink(&file, target.join("tables").join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}

/// Copies a log without the zeros that the engine makes it longer by.
fn copy_log(from: &Path, to: &Path) -> io::Result<()> {
    let mut left = BufReader::new(File::open(from)?).take(used(from)?);
    let mut out = BufWriter::new(File::create(to)?);
    io::copy(&mut left, &mut out)?;
    out.flush()
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
