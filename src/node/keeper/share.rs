//! Which of the nodes that share a journal sees to what.
//!
//! Promise: of the nodes that run, as far as this one knows, one sees to each log, writer and
//! connection without a socket; what is attached is seen to by the node that holds its socket.
//! Nodes may disagree for some seconds: what two of them propose the fold does once, and what
//! nobody proposes is proposed a round later. Weighed by rendezvous: when a node comes or goes,
//! only its own share moves (Thaler and Ravishankar, 1998).

use std::sync::{PoisonError, RwLock};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::wire::Id;

/// The nodes that run.
#[derive(Debug)]
pub(in crate::node) struct Share {
    here: Id,
    others: RwLock<Vec<Id>>,
}

impl Share {
    /// Of one that knows of no others.
    pub(in crate::node) const fn new(here: Id) -> Self {
        Self { here, others: RwLock::new(Vec::new()) }
    }

    /// The other nodes that run are these.
    pub(super) fn set(&self, others: Vec<Id>) {
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// Whether this node sees to a log.
    pub(super) fn has_log(&self, log: u64) -> bool {
        self.has(&log.to_be_bytes())
    }

    /// Whether this node sees to a writer, or to a connection that no node holds a socket of.
    pub(super) fn has_id(&self, id: Id) -> bool {
        self.has(&id.0)
    }

    fn has(&self, what: &[u8]) -> bool {
        let of = |node: &Id| (xxh3_64_with_seed(what, xxh3_64_with_seed(&node.0, 0)), node.0);
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        let own = of(&self.here);
        others.iter().all(|other| of(other) <= own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Id; 3] = [Id([1; 16]), Id([2; 16]), Id([3; 16])];

    fn shares(nodes: &[Id]) -> Vec<Share> {
        let share = |here: &Id| {
            let share = Share::new(*here);
            share.set(nodes.iter().filter(|node| *node != here).copied().collect());
            share
        };
        nodes.iter().map(share).collect()
    }

    fn who(shares: &[Share], log: u64) -> usize {
        let mut of = (0..shares.len()).filter(|at| shares[*at].has_log(log));
        let first = of.next().expect("somebody sees to it");
        assert_eq!(of.next(), None, "one does");
        first
    }

    #[test]
    fn each_log_is_seen_to_by_one_node_and_each_has_about_a_third() {
        let three = shares(&NODES);
        let mut counts = [0; 3];
        (0..3_000).for_each(|log| counts[who(&three, log)] += 1);
        assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{counts:?}");
    }

    #[test]
    fn when_a_node_goes_only_its_share_moves() {
        let (three, two) = (shares(&NODES), shares(&NODES[..2]));
        for log in 0..1_000 {
            let before = who(&three, log);
            assert!(before == 2 || who(&two, log) == before);
        }
    }

    #[test]
    fn a_node_alone_sees_to_everything() {
        let alone = Share::new(NODES[0]);
        assert!((0..1_000).all(|log| alone.has_log(log)) && alone.has_id(Id([9; 16])));
    }
}
