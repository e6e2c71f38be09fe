//! Nodes as the fold knows them: which run of a node may still hold sockets.
//!
//! A batch is a sign of life of its node's run. A later run ends what an earlier one held; so does
//! the word that a run is over, until that run is heard again.

use std::collections::BTreeMap;

use super::{Attachment, Connections, NodeRow};
use crate::log::rows::{Io, RowsError, Table, read_row};
use crate::wire::{Code, Id, Refusal};

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

    /// Counts a batch of a node's run. False where it was folded before, or is of an earlier run:
    /// nothing of it counts.
    pub(crate) fn heard(
        &mut self,
        from: Attachment,
        serial: u64,
        time: u64,
        io: &mut Io<'_>,
    ) -> bool {
        let Attachment { node, incarnation } = from;
        let known = self.nodes.get(&node).copied();
        if known.is_some_and(|row| (incarnation, serial) <= (row.incarnation, row.serial)) {
            return false;
        }
        let row = match known {
            // Also one that was given up for silent: it speaks, so it holds its sockets.
            Some(row) if row.incarnation == incarnation => NodeRow { serial, up: true, ..row },
            _ => NodeRow { incarnation, up: true, since: time, serial },
        };
        self.nodes.insert(node, row);
        io.put(Table::Nodes, node.0.to_vec(), &row);
        true
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

    /// Whether a socket can still be behind an attachment.
    pub fn runs(&self, attached: Attachment) -> bool {
        (self.nodes.get(&attached.node))
            .is_some_and(|node| node.up && node.incarnation == attached.incarnation)
    }

    /// Whether the node may yet show a socket of that attachment: it has not begun a later run.
    pub(super) fn may_hold(&self, attached: Attachment) -> bool {
        (self.nodes.get(&attached.node))
            .is_some_and(|node| node.incarnation == attached.incarnation)
    }

    /// Of a row's attachment and the time of its last change: whether it is attached, and since
    /// when it is that or detached. A node's end detaches what it held.
    pub(super) fn since(&self, attached: Option<Attachment>, since: u64) -> (bool, u64) {
        match attached {
            Some(attached) if self.runs(attached) => (true, since),
            Some(attached) => {
                let ended = self.nodes.get(&attached.node).map_or(since, |node| node.since);
                (false, ended.max(since))
            }
            None => (false, since),
        }
    }
}
