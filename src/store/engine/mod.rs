//! What stands in the engine's folder, looked over before the engine opens it.
//!
//! Promise: what a crash leaves is told from damage; of damage the file and the place are said, and
//! nothing is changed; the engine opens only what it would not take for something else. It reads
//! the formats of the very versions of the engine that `Cargo.toml` pins: where the engine moves,
//! this has to be read again, and a test says so.

mod log;
mod manifest;
mod order;
mod torn_commit;

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use log::{Found, Log};
pub(super) use manifest::{TABLES, files, folders, in_force, manifests};
pub(super) use order::Order;
use torn_commit::{Ending, ending};

use super::OpenError;

/// What is wrong with the engine's files.
#[derive(Debug)]
pub(super) enum Harm {
    /// They cannot be read.
    Io(io::Error),
    /// They are missing, cut or altered.
    Damaged(String),
}

impl Harm {
    /// As the error of whoever opens the folder.
    pub(super) fn told(self, dir: &Path) -> OpenError {
        match self {
            Self::Io(error) => OpenError::system(dir, &error),
            Self::Damaged(problem) => OpenError::Damaged { dir: dir.to_owned(), problem },
        }
    }
}

impl From<io::Error> for Harm {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A last commit that is there in part.
#[derive(Debug)]
pub(super) struct Torn {
    /// The log.
    pub(super) log: PathBuf,
    from: u64,
    bytes: u64,
}

impl Torn {
    /// Cuts it off. Tells how many bytes it had.
    pub(super) fn cut(&self) -> io::Result<u64> {
        let file = OpenOptions::new().write(true).open(&self.log)?;
        file.set_len(self.from)?;
        file.sync_all()?;
        Ok(self.bytes)
    }
}

/// Reads all of the engine's logs: the order of their commits, and whether the last is torn.
pub(super) fn look(store: &Path) -> Result<(Order, Option<Torn>), Harm> {
    let logs = logs(store)?;
    let mut order = Order::default();
    let mut torn = None;
    for (at, path) in logs.iter().enumerate() {
        let newest = at + 1 == logs.len();
        let from = commits(path, &mut order)?;
        let altered = |why: &str| {
            Harm::Damaged(format!("{}: what begins at byte {from} {why}", path.display()))
        };
        match ending(path, from)? {
            Ending::Clean => {}
            Ending::Torn(bytes) if newest => torn = Some(Torn { log: path.clone(), from, bytes }),
            // It was synced whole before the next was begun.
            Ending::Torn(_) => return Err(altered("is no whole commit, and a newer log is there")),
            Ending::Altered(why) => return Err(altered(why)),
        }
    }
    Ok((order, torn))
}

/// Takes the commits of a log up to the first that is not whole and sound: where that begins.
fn commits(path: &Path, order: &mut Order) -> Result<u64, Harm> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut log = Log::new(BufReader::with_capacity(1 << 16, file), length);
    loop {
        let from = log.at();
        match log.next()? {
            Found::Commit(commit) if commit.sound => order.push(&commit).map_err(|why| {
                Harm::Damaged(format!("{}: the commit at byte {from} {why}", path.display()))
            })?,
            Found::Commit(_) | Found::NoStart | Found::Short | Found::Wrong => return Ok(from),
        }
    }
}

/// The engine's logs, oldest first. It drops the oldest, so none is missing in between.
pub(super) fn logs(store: &Path) -> Result<Vec<PathBuf>, Harm> {
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "jnl") {
            continue;
        }
        let name = path.file_stem().and_then(|stem| stem.to_str());
        match name.and_then(|name| name.parse::<u64>().ok()) {
            Some(number) => found.push((number, path)),
            None => return Err(Harm::Damaged(format!("{} is no log's name", path.display()))),
        }
    }
    found.sort();
    let missing = |log: u64| {
        Harm::Damaged(format!("{} is missing", store.join(format!("{log}.jnl")).display()))
    };
    let Some((first, _)) = found.first() else { return Err(missing(0)) };
    for (due, (number, _)) in (*first..).zip(&found) {
        if due != *number {
            return Err(missing(due));
        }
    }
    Ok(found.into_iter().map(|(_, path)| path).collect())
}

#[cfg(test)]
mod tests {
    /// The formats read here are those of these versions. Before another one is taken: read what
    /// it writes to its log, to `current` and to the manifests, and how it recovers.
    #[test]
    fn the_engine_is_the_one_whose_files_are_read() {
        let lock = include_str!("../../../Cargo.lock");
        for (name, version) in [("fjall", "3.1.13"), ("lsm-tree", "3.1.10")] {
            let pinned = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&pinned), "{name} is not {version}");
        }
    }
}
