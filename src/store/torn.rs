//! The end of the engine's log after a loss of power.
//!
//! Promise: a last commit that the disk holds in part is cut off, whole, before the engine looks;
//! what may be damage to a commit that was synced is left for the engine to refuse.
//!
//! A disk writes the sectors of what is not yet synced in any order. Where the beginning of a
//! commit is there and its end is not, the engine leaves it out by itself. Where both are there and
//! something between is missing, it finds a wrong checksum, takes that for damage and does not
//! start, though that commit was answered to nobody. Here the two are told apart: a commit that is
//! torn is the last one, since the next is begun when it is synced; nothing follows it; and what is
//! missing was never written, so whole sectors of it read as zeros.
//!
//! The format is that of the engine's log, version 3: entries of a tag and a body, little-endian.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

/// The smallest piece that a disk writes.
const SECTOR: usize = 512;

/// Tags of entries.
const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// Ends the entry that ends a commit.
const MAGIC: &[u8] = b"FJL\x03";

/// Cuts a torn last commit off the newest log in the engine's folder. Tells how many bytes it had.
pub(super) fn mend(store: &Path) -> io::Result<Option<u64>> {
    let Some(path) = newest(store)? else { return Ok(None) };
    let file = File::open(&path)?;
    let length = file.metadata()?.len();
    let reader = BufReader::with_capacity(1 << 16, file);
    let mut log = Log { reader, length, left: length, failed: None };
    loop {
        let from = log.at();
        if log.tag() != Some(START) {
            return Ok(None);
        }
        let commit = log.commit();
        if let Some(error) = log.failed.take() {
            return Err(error);
        }
        let torn = match commit {
            Some(true) => continue,
            Some(false) => torn(&path, from, log.at())?,
            // The engine would leave out all from here on, also what was synced.
            None if whole_behind(&path, from)? => {
                let problem = format!("{} is broken at {from}: commits lie behind", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
            }
            None => true,
        };
        if !torn {
            return Ok(None);
        }
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(from)?;
        file.sync_all()?;
        return Ok(Some(log.at() - from));
    }
}

/// The log with the highest number: the others were synced whole before it was begun.
fn newest(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut newest = None;
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let is_log = path.extension().is_some_and(|ending| ending == "jnl");
        let name = path.file_stem().and_then(|stem| stem.to_str());
        if let Some(number) = name.filter(|_| is_log).and_then(|name| name.parse::<u64>().ok())
            && newest.as_ref().is_none_or(|(most, _)| number > *most)
        {
            newest = Some((number, path));
        }
    }
    Ok(newest.map(|(_, path)| path))
}

/// Whether a whole commit begins somewhere behind: then the one before it was synced, and is not
/// torn but damaged.
fn whole_behind(path: &Path, from: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    let ends = rest.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| *bytes == MAGIC);
    for (at, _) in ends {
        let next = rest.get(at + MAGIC.len()..).unwrap_or_default();
        let length = next.len() as u64;
        let mut log = Log { reader: next, length, left: length, failed: None };
        if log.tag() == Some(START) && log.commit() == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a commit that is not what it was when it was written may be one that was written in
/// part: it lacks sectors, and nothing follows.
fn torn(path: &Path, from: u64, to: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut commit = Vec::new();
    file.by_ref().take(to - from).read_to_end(&mut commit)?;
    let first = usize::try_from(from.next_multiple_of(SECTOR as u64) - from).unwrap_or(usize::MAX);
    let sectors = commit.get(first..).unwrap_or_default().chunks_exact(SECTOR);
    Ok(sectors.clone().any(zeros) && rest_is_zeros(&mut file)?)
}

fn rest_is_zeros(file: &mut File) -> io::Result<bool> {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let got = file.read(&mut bytes)?;
        let Some(bytes) = bytes.get(..got).filter(|bytes| !bytes.is_empty()) else {
            return Ok(true);
        };
        if !zeros(bytes) {
            return Ok(false);
        }
    }
}

fn zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// A log that is read from its beginning.
struct Log<R> {
    reader: R,
    length: u64,
    left: u64,
    /// Bytes that cannot be read are not bytes that are missing.
    failed: Option<io::Error>,
}

impl<R: Read> Log<R> {
    const fn at(&self) -> u64 {
        self.length - self.left
    }

    /// The next bytes; none where the file ends or fails.
    fn take(&mut self, many: usize, into: &mut Vec<u8>) -> Option<()> {
        // Lengths of what was not written whole may say anything.
        self.left.checked_sub(many as u64)?;
        let from = into.len();
        into.resize(from + many, 0);
        if let Err(error) = self.reader.read_exact(into.get_mut(from..)?) {
            self.failed = Some(error);
            return None;
        }
        self.left -= many as u64;
        Some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let mut bytes = Vec::with_capacity(N);
        self.take(N, &mut bytes)?;
        bytes.try_into().ok()
    }

    fn tag(&mut self) -> Option<u8> {
        self.array().map(|[tag]| tag)
    }

    /// The rest of a commit, and whether its checksum is right; none where it has no end.
    fn commit(&mut self) -> Option<bool> {
        let _count_and_number: [u8; 12] = self.array()?;
        let mut hash = Xxh3::new();
        let mut entry = Vec::new();
        loop {
            entry.clear();
            let tag = self.tag()?;
            entry.push(tag);
            match tag {
                ITEM => self.item(&mut entry)?,
                CLEAR => self.take(8, &mut entry)?,
                END => {
                    let told = u64::from_le_bytes(self.array()?);
                    let magic: [u8; 4] = self.array()?;
                    return (magic == MAGIC).then(|| told == hash.digest());
                }
                _ => return None,
            }
            hash.update(&entry);
        }
    }

    /// A key and a value: kind, compression, table, three lengths, and both.
    fn item(&mut self, entry: &mut Vec<u8>) -> Option<()> {
        let head: [u8; 20] = self.array()?;
        entry.extend_from_slice(&head);
        let [_, _, _, _, _, _, _, _, _, _, k0, k1, _, _, _, _, kept @ ..] = head;
        let bytes = usize::from(u16::from_le_bytes([k0, k1]));
        self.take(bytes + usize::try_from(u32::from_le_bytes(kept)).ok()?, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::rows::Writes;
    use crate::store::{OpenError, Options, Store};
    use rand::RngCore as _;

    const LOG: &str = "store/0.jnl";

    /// Commits so many bytes of noise as the next batch; what the log then holds, without the zeros
    /// that the engine makes it longer by.
    fn commit(dir: &Path, many: usize) -> Vec<u8> {
        let store = Store::open(dir, Options::default()).unwrap();
        let mut noise = vec![0; many];
        rand::rng().fill_bytes(&mut noise);
        store.commit(Writes::default(), Some((store.kept().head + 1, &noise)), true).unwrap();
        drop(store);
        let mut bytes = fs::read(dir.join(LOG)).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        bytes
    }

    /// What a start comes to, with such a log: the last batch.
    fn head(dir: &Path, log: &[u8]) -> Result<u64, OpenError> {
        fs::write(dir.join(LOG), log).unwrap();
        Ok(Store::open(dir, Options::default())?.kept().head)
    }

    fn hole(log: &[u8], sector: usize) -> Vec<u8> {
        let mut holed = log.to_vec();
        holed[sector * SECTOR..(sector + 1) * SECTOR].fill(0);
        holed
    }

    /// Power may go while a commit is written: whichever sector is missing, it goes as a whole, and
    /// the node goes on from the one before.
    #[test]
    fn a_last_commit_with_a_hole_goes() {
        let dir = tempfile::tempdir().unwrap();
        let before = commit(dir.path(), 100).len();
        let log = commit(dir.path(), 6_000);
        for sector in before / SECTOR + 1..log.len() / SECTOR {
            assert_eq!(head(dir.path(), &hole(&log, sector)), Ok(1), "sector {sector}");
            commit(dir.path(), 100);
            assert_eq!(Store::open(dir.path(), Options::default()).unwrap().kept().head, 2);
        }
        assert_eq!(head(dir.path(), &log), Ok(2));
    }

    /// One that lost step with its neighbours, with a whole one behind it, was synced.
    #[test]
    fn a_commit_that_lost_its_end_with_another_behind_it_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let first = commit(dir.path(), 100).len();
        let second = commit(dir.path(), 3_000).len();
        let log = commit(dir.path(), 100);
        let mut broken = log.clone();
        // The tag of its first entry: nothing behind it is in step.
        *broken.get_mut(first + 13).unwrap() ^= 0x40;
        assert!(matches!(head(dir.path(), &broken), Err(OpenError::Damaged { .. })));
        // The last one alone may be what was never synced.
        let last = second + 13;
        let mut torn = log;
        *torn.get_mut(last).unwrap() ^= 0x40;
        assert_eq!(head(dir.path(), &torn), Ok(2));
    }

    /// A commit without a hole, or with another behind it, was written whole.
    #[test]
    fn damage_is_left_to_be_refused() {
        let dir = tempfile::tempdir().unwrap();
        let before = commit(dir.path(), 100).len();
        let mut log = commit(dir.path(), 6_000);
        log[before + 3_000] ^= 1;
        assert!(matches!(head(dir.path(), &log), Err(OpenError::Damaged { .. })));
        log[before + 3_000] ^= 1;
        assert_eq!(head(dir.path(), &log), Ok(2));
        let log = commit(dir.path(), 100);
        let refused = head(dir.path(), &hole(&log, (before + 3_000) / SECTOR));
        assert!(matches!(refused, Err(OpenError::Damaged { .. })));
        assert_eq!(head(dir.path(), &log), Ok(3));
    }
}
