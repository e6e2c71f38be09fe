//! Nodes as the fold knows them: which run of a node may still hold sockets.
//!
//! A batch is a sign of life of its node's run. A later run ends what an earlier one held; so does
//! the word that a run is over, until that run is heard again.

use std::collections::BTreeMap;

use super::{Attachment, Connections, NodeRow};
use crate::rows::{Io, More, RowsError, Table, read_row};
use crate::wire::{Code, Id, Refusal};

/// What a batch is among those of its node's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The next one.
    Next,
    /// One that was folded before, or of an earlier run.
    Again,
    /// One that came before its turn: a batch of this run that was proposed before it is not there.
    Early,
}

impl Connections {
    /// Reads all nodes; they are few.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub(crate) fn load_nodes(&mut self, io: &Io<'_>) -> Result<(), RowsError> {
        let mut nodes = BTreeMap::new();
        for (key, value) in io.scan(Table::Nodes, &[], &[], usize::MAX >> 1)? {
            if let Ok(id) = key.as_slice().try_into() {
                nodes.insert(Id(id), read_row(Table::Nodes, &value)?);
            }
        }
        self.nodes = nodes;
        Ok(())
    }

    /// Counts a batch of a node's run. Nothing of a repeat counts, nor of one of an earlier run.
    pub(crate) fn heard(
        &mut self,
        from: Attachment,
        serial: u64,
        time: u64,
        io: &mut Io<'_>,
    ) -> Heard {
        let Attachment { node, incarnation } = from;
        let known = self.nodes.get(&node);
        if known.is_some_and(|row| (incarnation, serial) <= (row.incarnation, row.serial)) {
            return Heard::Again;
        }
        let of_run = known.filter(|row| row.incarnation == incarnation);
        let due = of_run.map_or(1, |row| row.serial + 1);
        if serial != due {
            return Heard::Early;
        }
        let row = match of_run {
            // Also one that was given up for silent: it speaks, so it holds its sockets.
            Some(row) => NodeRow { serial, up: true, ..row.clone() },
            None => {
                let (knows, more) = ((0, 0), More::default());
                NodeRow { incarnation, up: true, since: time, serial, knows, more }
            }
        };
        io.put(Table::Nodes, node.0.to_vec(), &row);
        self.nodes.insert(node, row);
        Heard::Next
    }

    /// The versions that a node's run knows.
    pub(crate) fn node_knows(&mut self, node: Id, knows: (u16, u16), io: &mut Io<'_>) {
        if let Some(row) = self.nodes.get_mut(&node) {
            row.knows = knows;
            io.put(Table::Nodes, node.0.to_vec(), row);
        }
    }

    /// What a node's run says of itself. Nothing is written where it says what it said before.
    pub(crate) fn node_alive(&mut self, node: Id, checkpoint: u64, address: &str, io: &mut Io<'_>) {
        let Some(row) = self.nodes.get_mut(&node) else { return };
        if (row.checkpoint(), row.address()) != (checkpoint, address) {
            row.say(checkpoint, address);
            io.put(Table::Nodes, node.0.to_vec(), row);
        }
    }

    /// All nodes that ever took part, by their ids.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Id, &NodeRow)> {
        self.nodes.iter().map(|(id, row)| (*id, row))
    }

    /// Whether all nodes that run know a version.
    pub(crate) fn all_know(&self, version: u16) -> bool {
        let running = self.nodes.values().filter(|row| row.up);
        running.clone().all(|row| (row.knows.0..=row.knows.1).contains(&version))
    }

    /// Runs of other nodes than that one which count as going on.
    pub(crate) fn others(&self, than: Id) -> impl Iterator<Item = Attachment> {
        let running = self.nodes.iter().filter(move |(node, row)| **node != than && row.up);
        running.map(|(node, row)| Attachment { node: *node, incarnation: row.incarnation })
    }

    /// A run is over.
    pub(crate) fn node_down(
        &mut self,
        node: Id,
        incarnation: u64,
        time: u64,
        io: &mut Io<'_>,
    ) -> Result<(), Refusal> {
        match self.nodes.get_mut(&node) {
            Some(row) if row.incarnation == incarnation && row.up => {
                row.up = false;
                row.since = time;
                io.put(Table::Nodes, node.0.to_vec(), row);
                Ok(())
            }
            _ => Err(Code::Stale.into()),
        }
    }

    /// A node is gone for good, which takes that it does not run. What still names one of its runs
    /// counts as detached since it last changed.
    pub(crate) fn forget_node(&mut self, node: Id, io: &mut Io<'_>) -> Result<(), Refusal> {
        let row = self.nodes.get(&node).ok_or(Code::NotFound)?;
        if row.up {
            return Err(Code::Stale.into());
        }
        self.forgotten_run = self.forgotten_run.max(row.incarnation);
        self.nodes.remove(&node);
        io.remove(Table::Nodes, node.0.to_vec());
        Ok(())
    }

    /// Whether a socket can still be behind an attachment.
    pub fn runs(&self, attached: Attachment) -> bool {
        (self.nodes.get(&attached.node)).is_some_and(|node| runs(attached, node))
    }

    /// Whether the node may yet show a socket of that attachment: it has not begun a later run.
    pub(super) fn may_hold(&self, attached: Attachment) -> bool {
        (self.nodes.get(&attached.node))
            .is_some_and(|node| node.incarnation == attached.incarnation)
    }

    /// The same as [`attached_since`], by the nodes that the fold knows.
    pub(super) fn since(&self, attached: Option<Attachment>, since: u64) -> (bool, u64) {
        let node = attached.and_then(|attached| self.nodes.get(&attached.node));
        attached_since(attached, since, node)
    }
}

/// Of a row's attachment and the time of its last change, by the row of the node that it names:
/// whether it is attached, and since when it is that or detached. A node's end, or its next run,
/// detaches what it held.
pub fn attached_since(
    attached: Option<Attachment>,
    since: u64,
    node: Option<&NodeRow>,
) -> (bool, u64) {
    match (attached, node) {
        (Some(attached), Some(node)) if runs(attached, node) => (true, since),
        (Some(_), Some(node)) => (false, node.since.max(since)),
        (_, None) | (None, _) => (false, since),
    }
}

/// Whether a node's run is the one of an attachment, and goes on.
fn runs(attached: Attachment, node: &NodeRow) -> bool {
    node.up && node.incarnation == attached.incarnation
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_of_the_node_detaches_since_then() {
        let row = |incarnation, up| NodeRow {
            incarnation,
            up,
            since: 70,
            serial: 1,
            knows: (0, 0),
            more: More::default(),
        };
        let attached = Some(Attachment { node: Id([1; 16]), incarnation: 2 });
        for (since, node, wanted) in [
            (50, Some(row(2, true)), (true, 50)),
            (50, Some(row(2, false)), (false, 70)),
            (50, Some(row(3, true)), (false, 70)),
            (90, Some(row(2, false)), (false, 90)),
            (50, None, (false, 50)),
        ] {
            assert_eq!(attached_since(attached, since, node.as_ref()), wanted);
        }
        assert_eq!(attached_since(None, 50, Some(&row(2, true))), (false, 50));
    }
}
