//! Whose rows are other than this node's, by what each batch says of those of its proposer.
//!
//! Promise: where running nodes have other rows for the same batches, those go on whom more than
//! half of the running ones agree with, and all others stop: by themselves, each from what it has
//! read. The hash that a batch states runs over all rows ever written: who differs once differs
//! from then on, so what nodes say of different batches can be held against each other here. Each
//! node says it anew with each batch, every two seconds at least.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::Id;

/// What a node's last word on rows was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stands {
    /// Its rows were the same as this node's.
    Agrees,
    /// Its rows were other ones.
    Differs,
    /// Its rows were other ones, and most agree with this node: what it says does not count
    /// any more.
    Outvoted,
}

/// Rows are other than those of half of the running nodes, or of more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alone {
    /// The first batch after which one is known to differ.
    pub(super) batch: u64,
    /// So many running nodes differ.
    pub(super) others: usize,
    /// Of so many, with this one.
    pub(super) running: usize,
}

/// The last words of all nodes: one for each that ever proposed since the fold was opened.
#[derive(Debug, Default)]
pub(super) struct Drift {
    said: BTreeMap<Id, (u64, Stands)>,
}

impl Drift {
    /// A node has said what its rows are after a batch, and whether they are those of this one.
    pub(super) fn heard(&mut self, node: Id, batch: u64, agrees: bool) {
        let stands = if agrees { Stands::Agrees } else { Stands::Differs };
        let said = self.said.entry(node).or_insert((batch, stands));
        match (said.1, agrees) {
            // A batch that came again says what was true before.
            _ if batch < said.0 => {}
            // The first batch is kept: who agrees after it agrees about this.
            (Stands::Differs | Stands::Outvoted, false) => {}
            // Also one that differed: it goes on with another store.
            _ => *said = (batch, stands),
        }
    }

    /// Nodes that differ from this one, which most agree with.
    pub(super) fn outvoted(&self) -> impl Iterator<Item = Id> {
        let outvoted = self.said.iter().filter(|(_, said)| said.1 == Stands::Outvoted);
        outvoted.map(|(node, _)| *node)
    }

    /// Whether this node may go on, where `own` is its id and those others run. It counts as
    /// running, whatever others have called it.
    pub(super) fn judge(
        &mut self,
        own: Option<Id>,
        running: impl Iterator<Item = Id>,
    ) -> Result<(), Alone> {
        let differ = |said: &(u64, Stands)| said.1 == Stands::Differs;
        if !self.said.values().any(differ) {
            return Ok(());
        }
        let outvoted = |node: &Id| self.said.get(node).is_some_and(|s| s.1 == Stands::Outvoted);
        let voters: BTreeSet<Id> = running.filter(|node| !outvoted(node)).chain(own).collect();
        let spoken = || voters.iter().filter_map(|node| Some((node, self.said.get(node)?)));
        let batches = spoken().filter(|(_, said)| differ(said)).map(|(_, said)| said.0);
        let (others, running) = (batches.clone().count(), voters.len());
        let (Some(batch), Some(last)) = (batches.clone().min(), batches.max()) else {
            return Ok(());
        };
        if others * 2 >= running {
            return Err(Alone { batch, others, running });
        }
        let agree = spoken().filter(|(node, said)| {
            Some(**node) != own && said.1 == Stands::Agrees && said.0 >= last
        });
        if (agree.count() + usize::from(own.is_some())) * 2 > running {
            let now = self.said.values_mut().filter(|said| differ(said));
            now.for_each(|said| said.1 = Stands::Outvoted);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Id = Id([1; 16]);
    const B: Id = Id([2; 16]);
    const C: Id = Id([3; 16]);
    const D: Id = Id([4; 16]);

    /// Of words in order the verdict of the last, and who is outvoted then.
    fn after(running: &[Id], said: &[(Id, u64, bool)]) -> (bool, Vec<Id>) {
        let mut drift = Drift::default();
        let mut goes_on = true;
        for (node, batch, agrees) in said {
            drift.heard(*node, *batch, *agrees);
            goes_on &= drift.judge(Some(OWN), running.iter().copied()).is_ok();
        }
        (goes_on, drift.outvoted().collect())
    }

    #[test]
    fn of_three_the_one_that_two_differ_from_stops() {
        let all = [OWN, B, C];
        assert_eq!(after(&all, &[(B, 5, true), (C, 7, false)]), (true, vec![]), "not yet");
        assert_eq!(after(&all, &[(C, 7, false), (B, 7, true)]), (true, vec![C]));
        assert_eq!(after(&all, &[(C, 7, false), (B, 6, true)]), (true, vec![]), "before it");
        assert_eq!(after(&all, &[(C, 7, false), (B, 9, false)]), (false, vec![]));
    }

    #[test]
    fn a_tie_stops_both() {
        assert_eq!(after(&[OWN, B], &[(B, 5, false)]), (false, vec![]));
        let four = [OWN, B, C, D];
        assert_eq!(after(&four, &[(D, 5, false), (B, 7, true)]), (true, vec![]));
        assert_eq!(after(&four, &[(D, 5, false), (B, 7, true), (C, 8, true)]), (true, vec![D]));
        assert_eq!(after(&four, &[(D, 5, false), (B, 7, true), (C, 8, false)]), (false, vec![]));
    }

    #[test]
    fn who_does_not_run_has_no_voice_and_one_called_silent_counts_for_itself() {
        assert_eq!(after(&[OWN, B], &[(C, 5, false), (B, 7, true)]), (true, vec![]));
        assert_eq!(after(&[B, C], &[(C, 5, false)]), (true, vec![]), "one of three");
        assert_eq!(after(&[B, C], &[(C, 5, false), (B, 5, false)]), (false, vec![]));
    }

    #[test]
    fn who_is_outvoted_has_no_voice_until_it_agrees_again() {
        let mut drift = Drift::default();
        drift.heard(C, 5, false);
        drift.heard(B, 5, true);
        assert_eq!(drift.judge(Some(OWN), [OWN, B, C].into_iter()), Ok(()));
        // The other right one is stopped while the wrong one still counts as running.
        assert_eq!(drift.judge(Some(OWN), [OWN, C].into_iter()), Ok(()));
        drift.heard(B, 9, false);
        let alone = Alone { batch: 9, others: 1, running: 2 };
        assert_eq!(drift.judge(Some(OWN), [OWN, B, C].into_iter()), Err(alone));
        drift.heard(C, 4, true);
        assert_eq!(drift.outvoted().collect::<Vec<_>>(), [C], "it said so before");
        drift.heard(C, 10, true);
        assert_eq!(drift.outvoted().count(), 0, "it is made of a copy");
    }

    #[test]
    fn what_an_earlier_run_of_its_own_has_said_counts() {
        assert_eq!(after(&[OWN], &[(OWN, 5, false)]), (false, vec![]), "it was alone");
        let all = [OWN, B, C];
        let said = [(OWN, 5, false), (B, 6, true), (C, 6, true)];
        assert_eq!(after(&all, &said), (true, vec![OWN]), "its store is an older copy");
    }
}
