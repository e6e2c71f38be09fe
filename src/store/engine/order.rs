//! The order of commits in the engine's log.
//!
//! Promise: a log in which a commit is missing, stands twice or has another number than it was
//! given is damaged, and said to be. No checksum covers these numbers, and the engine believes
//! them: it leaves out what seems to be in a table's file already, and of two versions of a row it
//! takes the one with the higher number.
//!
//! Numbers rise from commit to commit; merging and writing of files take some in between. Each
//! commit of the store holds `local/head`, under a checksum: how many commits there were, and the
//! number of the one before. So each number is stated twice but the very last, and for that only a
//! higher one goes unnoticed, which changes nothing.

use std::collections::BTreeMap;

use super::log::Commit;

/// More numbers than this are not taken between two commits.
const MOST_APART: u64 = 1 << 32;

/// What the commits of all logs came to.
#[derive(Debug, Default)]
pub(in crate::store) struct Order {
    /// Numbers of all commits, rising.
    numbers: Vec<u64>,
    /// The last commit of each table.
    last: BTreeMap<u64, u64>,
    /// How many commits there were, as the last one says.
    commits: Option<u64>,
    /// The commit before the first that is there, as that one says.
    before: Option<u64>,
}

impl Order {
    /// Adds the next commit; what is wrong with it.
    pub(super) fn push(&mut self, commit: &Commit) -> Result<(), String> {
        let Commit { count, entries, number, .. } = *commit;
        if count != entries {
            return Err(format!("announces {count} entries and has {entries}"));
        }
        let last = self.numbers.last().copied();
        if let Some(last) = last.filter(|last| number <= *last || number - *last > MOST_APART) {
            return Err(format!("has the number {number}, the one before it {last}"));
        }
        self.told(commit)?;
        for table in &commit.tables {
            self.last.insert(*table, number);
        }
        self.numbers.push(number);
        Ok(())
    }

    /// Holds a commit to what the store says in it.
    fn told(&mut self, commit: &Commit) -> Result<(), String> {
        let Some(told) = commit.told else { return Ok(()) };
        let due = self.commits.map(|commits| commits + 1);
        if let Some(due) = due.filter(|due| *due != told.commits) {
            return Err(format!("is the {}. of the store, not the {due}.", told.commits));
        }
        self.commits = Some(told.commits);
        if told.before == 0 {
            return Ok(());
        }
        let (number, before) = (commit.number, told.before);
        match self.last.get(&told.table) {
            Some(last) if *last == before => Ok(()),
            Some(last) => Err(format!("follows number {before}, and the one before it has {last}")),
            None if number <= before || number - before > MOST_APART => {
                Err(format!("has the number {number}, and follows {before}"))
            }
            None => {
                self.before = Some(before);
                Ok(())
            }
        }
    }

    /// Whether a table's files may end at this number: with a commit that is in the log, or before
    /// all that are.
    pub(in crate::store) fn knows(&self, number: u64) -> bool {
        let first = self.numbers.first().copied().unwrap_or(u64::MAX);
        number < first || self.numbers.binary_search(&number).is_ok()
    }

    /// The commit that the files of `local` must hold, since the log no longer has it.
    pub(in crate::store) fn before(&self) -> Option<u64> {
        self.before
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use crate::rows::{Table, Writes};
    use crate::store::engine::log::{Found, Log};
    use crate::store::{OpenError, Options, Store};

    const LOG: &str = "store/0.jnl";

    fn open(dir: &Path) -> Result<Store, OpenError> {
        Store::open(dir, Options::default())
    }

    /// Ten batches, with a row of a table each; from the sixth on only in the log.
    fn ten(dir: &Path) {
        let store = open(dir).unwrap();
        for number in 1..=10_u64 {
            let mut writes = Writes::default();
            writes.rows.insert((Table::Names, number.to_be_bytes().to_vec()), Some(vec![7]));
            store.commit(writes, Some((number, b"batch")), true).unwrap();
            if number == 5 {
                store.compact(Table::Names).unwrap();
            }
        }
    }

    /// What a start comes to: the last batch, and how many rows the table has.
    fn outcome(dir: &Path) -> Result<(u64, usize), OpenError> {
        use crate::rows::Rows as _;
        let store = open(dir)?;
        Ok((store.kept().head, store.scan(Table::Names, &[], &[], 100).unwrap().len()))
    }

    /// Where commits begin and end.
    fn commits(log: &[u8]) -> Vec<(usize, usize)> {
        let mut reader = Log::new(log, log.len() as u64);
        let mut found = Vec::new();
        loop {
            let from = usize::try_from(reader.at()).unwrap();
            let Found::Commit(_) = reader.next().unwrap() else { return found };
            found.push((from, usize::try_from(reader.at()).unwrap()));
        }
    }

    /// Neither the count nor the number of a commit lies under a checksum of the engine. Each bit
    /// of them is altered in turn: nothing is lost, or it is said.
    #[test]
    fn a_commit_whose_number_is_altered_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        ten(dir.path());
        let mut log = fs::read(dir.path().join(LOG)).unwrap();
        log.truncate(log.iter().rposition(|byte| *byte != 0).unwrap() + 1);
        let commits = commits(&log);
        assert_eq!(commits.len(), 11, "one makes the folder");
        let mut refused = 0;
        for (commit, (from, _)) in commits.iter().enumerate() {
            for bit in 8..13 * 8 {
                let mut altered = log.clone();
                *altered.get_mut(from + bit / 8).unwrap() ^= 1 << (bit % 8);
                fs::write(dir.path().join(LOG), altered).unwrap();
                match outcome(dir.path()) {
                    Ok(found) => assert_eq!(found, (10, 10), "commit {commit}, bit {bit}"),
                    Err(OpenError::Damaged { problem, .. }) => {
                        let place = problem.contains("0.jnl") && problem.contains("byte");
                        assert!(place || problem.contains("ends with the commit"), "{problem}");
                        refused += 1;
                    }
                    Err(OpenError::TailLost { .. }) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        assert!(refused > 11 * 32, "{refused}");
    }

    /// A commit that is missing, and one that stands twice, between others that are whole.
    #[test]
    fn a_commit_that_is_missing_or_repeated_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        ten(dir.path());
        let log = fs::read(dir.path().join(LOG)).unwrap();
        for (from, to) in commits(&log).into_iter().skip(1).take(9) {
            let without = [&log[..from], &log[to..]].concat();
            let twice = [&log[..to], &log[from..]].concat();
            for altered in [without, twice] {
                fs::write(dir.path().join(LOG), altered).unwrap();
                let refused = outcome(dir.path());
                assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
            }
        }
        fs::write(dir.path().join(LOG), log).unwrap();
        assert_eq!(outcome(dir.path()), Ok((10, 10)));
    }
}
