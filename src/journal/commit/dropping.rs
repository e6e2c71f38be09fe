//! What a node says of itself, and what the journal that nodes share may let go of.
//!
//! Promise: a batch is kept until `copies` stores of running nodes have it on disk and it is of a
//! certain age. So who was away for less than that reads on; who was away for longer is made of a
//! copy of another's store.

use std::time::Duration;

use super::silence::Silence;
use super::{Committer, Journal, Stopped, Submitted};
use crate::connection::{Attachment, NodeRow};
use crate::fold::{Alive, Command};
use crate::journal::fence::uptime;
use crate::wire::Id;

/// How often what was folded gets to the disk, if there is anything, milliseconds.
const CHECKPOINT: u64 = 5_000;
/// So often, in the time that a batch is kept, the journal is told what it may let go of.
const LOOKS: u64 = 1_024;

/// What a word of the node itself weighs, about.
const SAID: usize = 64;

/// How a node takes part in a journal that others append to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Where clients and other nodes reach it; empty: it does not say.
    pub address: String,
    /// So many running nodes have a batch on disk before the journal lets go of it.
    pub copies: usize,
    /// So long the journal keeps it in any case, milliseconds.
    pub keep: u64,
}

impl Default for Membership {
    /// One that says nothing, and for which the journal keeps everything.
    fn default() -> Self {
        Self { address: String::new(), copies: usize::MAX, keep: 0 }
    }
}

/// What this node knows of it.
#[derive(Debug)]
pub(super) struct Dropping {
    node: Id,
    membership: Membership,
    /// The last batch that is on disk here, and when it was looked at; 0: not in this run.
    checkpoint: u64,
    synced: u64,
    /// When the journal is told again what it may let go of.
    next: u64,
}

impl Dropping {
    pub(super) const fn new(node: Id, membership: Membership) -> Self {
        Self { node, membership, checkpoint: 0, synced: 0, next: 0 }
    }

    /// Whether what was folded is to get to the disk, where batch `folded` was the last one.
    pub(super) const fn is_checkpoint_due(&self, folded: u64, now: u64) -> bool {
        folded > self.checkpoint && now >= self.synced + CHECKPOINT
    }

    /// All up to that batch is on disk.
    pub(super) const fn reached(&mut self, batch: u64, now: u64) {
        (self.checkpoint, self.synced) = (batch, now);
    }

    /// How long the journal keeps a batch in any case.
    const fn keep(&self) -> Duration {
        Duration::from_millis(self.membership.keep)
    }

    /// What it says of itself.
    pub(super) fn alive(&self) -> Command {
        let address = self.membership.address.clone();
        Command::Alive(Alive { checkpoint: self.checkpoint, address })
    }

    /// The first batch that is not on enough disks yet, where the journal is to be told of it. One
    /// of the nodes says it, that of the least id: saying it twice would do no harm, only work.
    pub(super) fn due<'a>(
        &mut self,
        nodes: impl Iterator<Item = (Id, &'a NodeRow)>,
        now: u64,
    ) -> Option<u64> {
        if now < self.next {
            return None;
        }
        let mut running: Vec<_> = nodes.filter(|(_, row)| row.up).collect();
        if running.iter().map(|(id, _)| *id).min() != Some(self.node) {
            return None;
        }
        running.sort_unstable_by_key(|(_, row)| std::cmp::Reverse(row.checkpoint()));
        let (_, last) = running.get(self.membership.copies.checked_sub(1)?)?;
        let first = last.checkpoint().checked_add(1).filter(|first| *first > 1)?;
        // Again and again: what is on enough disks grows old.
        self.next = now.saturating_add(self.membership.keep / LOOKS);
        Some(first)
    }
}

impl<T: Send + 'static> Committer<T> {
    /// A sign of life, with what others may want to know of this node; and the word of whom it does
    /// not hear any more. What its store has gets to the disk now and then, and the journal lets go
    /// of what enough of them have there.
    pub(super) fn beat(
        &mut self,
        silence: &Silence,
        dropping: &mut Dropping,
        journal: &mut dyn Journal,
    ) -> Result<(), Stopped> {
        let folded = self.fold.known().batch;
        if dropping.is_checkpoint_due(folded, uptime()) {
            self.store.sync()?;
            dropping.reached(folded, uptime());
        }
        // Where the engine takes nothing, one word waits, and not one of each beat.
        let waits = self.held.iter().any(|one| matches!(one.command, Command::Alive(_)));
        let mut commands: Vec<_> = (!waits).then(|| dropping.alive()).into_iter().collect();
        for Attachment { node, incarnation } in silence.of(self.fold.others(self.node), uptime()) {
            tracing::warn!(%node, incarnation, "a node is silent: its run counts as over");
            commands.push(Command::NodeDown { node, incarnation });
        }
        // It stops by itself; the slots of its connections need not wait for its silence.
        for Attachment { node, incarnation } in self.fold.outvoted() {
            tracing::warn!(%node, incarnation, "a node folds otherwise than most: it is to stop");
            commands.push(Command::NodeDown { node, incarnation });
        }
        for command in commands {
            let (weight, ticket) = (SAID, None);
            self.held.push_back(Box::new(Submitted { command, weight, ticket }));
        }
        match dropping.due(self.fold.nodes(), uptime()) {
            Some(below) => Ok(journal.drop_before(below, dropping.keep())?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::More;

    const OWN: Id = Id([1; 16]);
    const KEEP: u64 = 10_000;

    fn row(up: bool, checkpoint: u64) -> NodeRow {
        let more = More::default();
        let mut row = NodeRow { incarnation: 1, up, since: 0, serial: 1, knows: (3, 3), more };
        row.say(checkpoint, "");
        row
    }

    fn dropping(copies: usize) -> Dropping {
        Dropping::new(OWN, Membership { address: String::new(), copies, keep: KEEP })
    }

    fn due(dropping: &mut Dropping, nodes: &[(u8, NodeRow)], now: u64) -> Option<u64> {
        dropping.due(nodes.iter().map(|(id, row)| (Id([*id; 16]), row)), now)
    }

    #[test]
    fn what_is_on_enough_disks_of_running_nodes_is_told_now_and_then() {
        let mut two = dropping(2);
        let nodes = [(1, row(true, 70)), (2, row(true, 50)), (3, row(false, 90))];
        assert_eq!(due(&mut two, &nodes, 1_000), Some(51));
        assert_eq!(due(&mut two, &nodes, 1_008), None, "not at each beat");
        let later = [(1, row(true, 90)), (2, row(true, 80))];
        assert_eq!(due(&mut two, &later, 1_009), Some(81));
        assert_eq!(due(&mut two, &later, 9_000), Some(81), "again: it has grown older");
    }

    #[test]
    fn where_too_few_run_or_one_has_not_said_what_it_has_nothing_goes() {
        for nodes in [
            vec![(1, row(true, 70))],
            vec![(1, row(true, 70)), (2, row(false, 70))],
            vec![(1, row(true, 70)), (2, row(true, 0))],
        ] {
            assert_eq!(due(&mut dropping(2), &nodes, 0), None);
        }
    }

    #[test]
    fn one_of_the_nodes_says_it() {
        let nodes = [(0, row(true, 70)), (1, row(true, 70))];
        assert_eq!(due(&mut dropping(2), &nodes, 0), None);
        let nodes = [(0, row(false, 70)), (1, row(true, 80)), (2, row(true, 75))];
        assert_eq!(due(&mut dropping(2), &nodes, 0), Some(76));
    }

    #[test]
    fn a_checkpoint_is_made_of_what_is_new_and_not_too_often() {
        let mut own = dropping(2);
        assert!(!own.is_checkpoint_due(0, 9_000));
        assert!(own.is_checkpoint_due(4, 9_000));
        own.reached(4, 9_000);
        assert!(!own.is_checkpoint_due(4, 99_000));
        assert!(!own.is_checkpoint_due(5, 13_999));
        assert!(own.is_checkpoint_due(5, 14_000));
        let Command::Alive(Alive { checkpoint, .. }) = own.alive() else {
            panic!("another command")
        };
        assert_eq!(checkpoint, 4);
    }
}
