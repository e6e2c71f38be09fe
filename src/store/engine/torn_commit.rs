//! The end of the engine's log after a kill or a loss of power.
//!
//! Promise: a last commit that is there in part is told from one that was synced and altered later:
//! the first is cut off, whole, before the engine looks; the second is damage.
//!
//! The engine gathers what it writes in pieces of about 8 KiB, so a longer commit takes several
//! writes, and a process that is killed leaves the beginning of its last commit, cut at any byte.
//! Behind it is the file's end, or zeros where the engine made the file longer. A disk writes the
//! sectors of what is not yet synced in any order, and what it did not write reads as zeros, or
//! lies behind the file's end.
//!
//! So a commit that is torn is the last one, since the next is begun when it is synced; nothing
//! whole follows it; and either there is a hole of whole sectors in it, or it is the beginning of a
//! commit, in step up to the last byte that is written, and without its end. One that has its end
//! and no hole was written whole, whatever else is wrong with it.
//!
//! Two things cannot be told. A disk that later turns a sector of the very last commit into zeros,
//! or a bit that is altered in a last commit that holds a sector of zeros by itself (a payload of
//! zeros): both look like a loss of power, and the commit goes. And a torn commit of which a
//! payload holds a whole commit of an engine's log, or ends as one does just where it was cut: that
//! looks like damage, and is refused.

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
    /// A commit that is there in part, of so many bytes.
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
    // Zeros behind the last byte are no part of it: a kill cuts at any byte, so between two entries
    // too, where they would be taken for an entry that nobody wrote.
    Ok(match Log::new(written, end as u64).next()? {
        Found::Short => Ending::Torn(end as u64),
        Found::Commit(_) | Found::NoStart | Found::Wrong => {
            Ending::Altered("is altered: neither a kill nor a loss of power leaves this")
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
    use crate::rows::{Rows as _, Table, Writes};
    use crate::store::engine::{Harm, look};
    use crate::store::{OpenError, Options, Store};
    use rand::RngCore as _;

    const LOG: &str = "store/0.jnl";
    /// What the engine gathers before it writes.
    const GATHERED: usize = 8 << 10;
    /// What it makes a new log long.
    const MADE: u64 = 64 << 20;

    /// Commits so many bytes of noise as the next batch; what the log then holds, without the zeros
    /// that the engine makes it longer by.
    fn commit(dir: &Path, many: usize) -> Vec<u8> {
        commit_rows(dir, many, 0)
    }

    /// As `commit`, with that many rows in each commit.
    fn commit_rows(dir: &Path, many: usize, rows: u64) -> Vec<u8> {
        let store = Store::open(dir, Options::default()).unwrap();
        let mut writes = Writes::default();
        for row in 0..rows {
            writes.rows.insert((Table::Names, [row.to_be_bytes(); 2].concat()), Some(vec![7; 36]));
        }
        let mut noise = vec![0; many];
        rand::rng().fill_bytes(&mut noise);
        store.commit(writes, Some((store.kept().head + 1, &noise)), true).unwrap();
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
    /// A folder whose syncs cost nothing, where there is one.
    fn quick() -> tempfile::TempDir {
        let memory = Path::new("/dev/shm");
        let within = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        tempfile::tempdir_in(within).unwrap()
    }

    /// What a start comes to, with such a log, made longer by zeros where it is: the batches, and
    /// how many rows there are.
    fn content(dir: &Path, log: &[u8], length: Option<u64>) -> (Vec<Vec<u8>>, usize) {
        fs::write(dir.join(LOG), log).unwrap();
        if let Some(length) = length {
            File::options().write(true).open(dir.join(LOG)).unwrap().set_len(length).unwrap();
        }
        let store = Store::open(dir, Options::default()).unwrap();
        let batches = store.batches(1, usize::MAX).unwrap();
        assert_eq!(batches.len() as u64, store.kept().head);
        let rows = store.scan(Table::Names, &[], &[], 1_000).unwrap().len();
        (batches.into_iter().map(|(_, batch)| batch.to_vec()).collect(), rows)
    }

    /// Where the entries of the commit that begins there begin, and where it ends.
    fn entries(log: &[u8], from: usize) -> Vec<usize> {
        let number = |at: usize, many: usize| {
            log[at..at + many].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
        };
        let (mut found, mut at) = (vec![from], from + 13);
        while log[at] != END {
            found.push(at);
            at += 21 + number(at + 11, 2) + number(at + 17, 4);
        }
        found.extend([at, at + END_BYTES]);
        found
    }

    /// Where the writes end in which the engine writes a commit: an entry that no longer fits what
    /// is gathered is the first of the next.
    fn writes(entries: &[usize]) -> Vec<usize> {
        let (mut found, mut begun) = (vec![], entries[0]);
        for entry in entries.windows(2) {
            if entry[1] - begun > GATHERED {
                begun = entry[0];
                found.push(begun);
            }
        }
        found
    }

    /// A process that is killed while it writes leaves the log cut at any byte, and behind that the
    /// file's end or zeros: there is what was whole before, and nothing else.
    #[test]
    fn a_log_that_is_cut_at_any_byte_has_the_commits_before() {
        let dir = quick();
        let ends = [commit(dir.path(), 20).len(), commit(dir.path(), 30).len()];
        let log = commit(dir.path(), 10);
        let (all, _) = content(dir.path(), &log, None);
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [20, 30, 10]);
        for at in ends[0]..=log.len() {
            let whole = 1 + usize::from(at >= ends[1]) + usize::from(at == log.len());
            let (found, _) = content(dir.path(), &log[..at], Some(1 << 16));
            assert_eq!(found, all[..whole], "cut at byte {at} of {ends:?}, zeros behind");
            // Without zeros it is read as far, which is quicker than to open it once more.
            fs::write(dir.path().join(LOG), &log[..at]).unwrap();
            let (_, torn) = look(&dir.path().join("store")).unwrap();
            let from = if at < ends[1] { ends[0] } else { ends[1] };
            let due = (at > from && at < log.len()).then_some(from as u64);
            assert_eq!(torn.map(|torn| torn.from), due, "cut at byte {at} of {ends:?}");
        }
    }

    /// A long commit takes several writes, which end where an entry does. This was seen: a process
    /// killed between two of them, in a log that is as long as the engine makes it, left a whole
    /// entry and zeros behind it, not at the boundary of a sector; and was refused as damage.
    #[test]
    fn a_process_killed_between_two_writes_of_a_commit_leaves_those_before() {
        let dir = quick();
        let before = commit(dir.path(), 20).len();
        let log = commit_rows(dir.path(), 3_000, 300);
        let (all, rows) = content(dir.path(), &log, Some(MADE));
        assert_eq!((all.len(), rows), (2, 300));
        let entries = entries(&log, before);
        assert_eq!((entries.len(), entries.last()), (305, Some(&log.len())));
        let writes = writes(&entries);
        assert!(writes.len() == 3 && writes.iter().all(|at| at % SECTOR > 0), "{writes:?}");
        for end in writes {
            for at in end - 1..=end + 1 {
                for length in [None, Some(1 << 16), Some(MADE).filter(|_| at == end)] {
                    let found = content(dir.path(), &log[..at], length);
                    assert_eq!(found, (all[..1].to_vec(), 0), "cut at byte {at}, {length:?}");
                }
            }
        }
        // Around all the other entries: without the engine, which takes longer.
        let cuts = entries.iter().flat_map(|entry| [entry - 1, *entry, entry + 1]);
        for at in cuts.filter(|at| *at > before && *at < log.len()) {
            let cut = &log[before..at];
            let written = cut.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
            for zeros in [0, 5_000] {
                let rest = [cut, &vec![0; zeros]].concat();
                let found = judge(&rest, before as u64).unwrap();
                assert_eq!(found, Ending::Torn(written), "cut at byte {at}");
            }
        }
    }

    /// No kill takes a piece out of the middle: where a whole commit is behind, what was cut short
    /// is damage, at any byte, and nothing is changed.
    #[test]
    fn a_commit_cut_short_before_others_is_damage() {
        let dir = quick();
        let ends = [commit(dir.path(), 20).len(), commit(dir.path(), 30).len()];
        let third = commit(dir.path(), 10).len();
        let log = commit(dir.path(), 10);
        let store = dir.path().join("store");
        for at in ends[0]..ends[1] {
            let zeros = vec![0; ends[1] - at];
            // Away altogether, or zeros in its place; one commit behind, or two.
            for end in [third, log.len()] {
                for gap in [&[][..], &zeros] {
                    let broken = [&log[..at], gap, &log[ends[1]..end]].concat();
                    fs::write(dir.path().join(LOG), &broken).unwrap();
                    let found = look(&store);
                    assert!(matches!(found, Err(Harm::Damaged(_))), "byte {at}: {found:?}");
                    assert_eq!(fs::read(dir.path().join(LOG)).unwrap(), broken);
                }
            }
        }
        assert_eq!(head(dir.path(), &log), Ok(4));
    }
}
