//! The end of the engine's log after a loss of power.
//!
//! Promise: a last commit that the disk holds in part is told from one that was synced and altered
//! later: the first is cut off, whole, before the engine looks; the second is damage.
//!
//! A disk writes the sectors of what is not yet synced in any order, and what it did not write
//! reads as zeros, or lies behind the file's end. So a commit that is torn is the last one, since
//! the next is begun when it is synced; nothing whole follows it; and either there is a hole of
//! whole sectors in it, or its end is missing from the boundary of a sector on. One that has its
//! end and no hole was written whole, whatever else is wrong with it.
//!
//! One thing cannot be told: a disk that later turns a sector of the very last commit into zeros,
//! or a bit that is altered in a last commit that holds a sector of zeros by itself (a payload of
//! zeros): both look like a loss of power.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::log::{END, END_BYTES, Found, Log, MAGIC};

/// The smallest piece that a disk writes.
const SECTOR: usize = 512;

/// What the end of a log is, from a place where no whole, sound commit begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Nothing was written from there on.
    Clean,
    /// A commit that the disk holds in part, of so many bytes.
    Torn(u64),
    /// Something that was written whole, and altered later.
    Altered(&'static str),
}

/// Judges what stands at and behind `from`.
pub(super) fn ending(path: &Path, from: u64) -> io::Result<Ending> {
    let mut file = File::open(path)?;
    if !anything(&mut file, from)? {
        return Ok(Ending::Clean);
    }
    file.seek(SeekFrom::Start(from))?;
    let mut rest = Vec::new();
    file.read_to_end(&mut rest)?;
    judge(&rest, from)
}

fn judge(rest: &[u8], from: u64) -> io::Result<Ending> {
    let end = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let written = rest.get(..end).unwrap_or_default();
    // The engine would leave out all from here on, also what was synced.
    if whole_behind(written)? {
        return Ok(Ending::Altered("is no commit, and commits lie behind"));
    }
    let first = usize::try_from(from.next_multiple_of(SECTOR as u64) - from).unwrap_or(0);
    let (before, sectors) = written.split_at(first.min(end));
    let hole = (!before.is_empty() && zeros(before)) || sectors.chunks(SECTOR).any(zeros);
    if hole {
        return Ok(Ending::Torn(end as u64));
    }
    if has_end(written) {
        return Ok(Ending::Altered("is altered: it has its end, and no hole"));
    }
    // What there is reaches to the boundary of a sector, or to the end of the file.
    let there = first + end.saturating_sub(first).next_multiple_of(SECTOR);
    let there = rest.get(..there.min(rest.len())).unwrap_or_default();
    Ok(match Log::new(there, there.len() as u64).next()? {
        Found::Short => Ending::Torn(end as u64),
        Found::Commit(_) | Found::NoStart | Found::Wrong => {
            Ending::Altered("is altered: no loss of power leaves this")
        }
    })
}

/// Whether a whole commit begins somewhere behind: then the one before it was synced.
fn whole_behind(written: &[u8]) -> io::Result<bool> {
    let ends = written.windows(MAGIC.len()).enumerate().filter(|(_, bytes)| bytes == MAGIC);
    for (at, _) in ends {
        let next = written.get(at + MAGIC.len()..).unwrap_or_default();
        if let Found::Commit(commit) = Log::new(next, next.len() as u64).next()?
            && commit.sound
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the bytes end as a commit does, one bit of that altered or none.
fn has_end(written: &[u8]) -> bool {
    let Some((_, [tag, .., a, b, c, d])) = written.split_last_chunk::<END_BYTES>() else {
        return false;
    };
    let bits = |one: u8, other: u8| (one ^ other).count_ones();
    let altered = [tag, a, b, c, d].into_iter().zip([&END].into_iter().chain(MAGIC));
    altered.map(|(one, due)| bits(*one, *due)).sum::<u32>() <= 1
}

/// Whether anything but zeros stands from a place on. Logs are made longer than what is in them, so
/// what was never written is stepped over where the system can say where it is.
fn anything(file: &mut File, from: u64) -> io::Result<bool> {
    let data = match rustix::fs::seek(&*file, rustix::fs::SeekFrom::Data(from)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => return Ok(false),
        Err(_) => from,
    };
    file.seek(SeekFrom::Start(data))?;
    let mut bytes = vec![0; 1 << 16];
    loop {
        let got = file.read(&mut bytes)?;
        let Some(bytes) = bytes.get(..got).filter(|bytes| !bytes.is_empty()) else {
            return Ok(false);
        };
        if !zeros(bytes) {
            return Ok(true);
        }
    }
}

fn zeros(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
    bytes.chunks(ZEROS.len()).all(|bytes| ZEROS.get(..bytes.len()) == Some(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    /// One that lost step with its neighbours was synced, if a whole one lies behind it or it has
    /// its own end.
    #[test]
    fn a_commit_that_lost_step_and_has_its_end_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let first = commit(dir.path(), 100).len();
        let second = commit(dir.path(), 3_000).len();
        let log = commit(dir.path(), 100);
        // The tag of its first entry: nothing behind it is in step.
        for at in [first + 13, second + 13] {
            let mut broken = log.clone();
            *broken.get_mut(at).unwrap() ^= 0x40;
            assert!(matches!(head(dir.path(), &broken), Err(OpenError::Damaged { .. })));
        }
        assert_eq!(head(dir.path(), &log), Ok(3));
    }

    /// The disk wrote the beginning of the last commit, and nothing of the rest.
    #[test]
    fn a_last_commit_without_its_end_goes() {
        let dir = tempfile::tempdir().unwrap();
        let before = commit(dir.path(), 100).len();
        let log = commit(dir.path(), 3_000);
        for sector in before / SECTOR + 1..log.len() / SECTOR {
            let mut torn = log.clone();
            // Behind it the file's end, or zeros.
            torn.truncate(sector * SECTOR);
            assert_eq!(head(dir.path(), &torn), Ok(1), "cut behind sector {sector}");
            torn.resize(1 << 16, 0);
            assert_eq!(head(dir.path(), &torn), Ok(1), "zeros behind sector {sector}");
        }
        assert_eq!(head(dir.path(), &log), Ok(2));
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
