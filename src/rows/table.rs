//! The tables, what may be wrong with their rows, and how a row grows.
//!
//! Promise: a table's number and name never mean another, for they are on disks; and what a later
//! program has added to a row is kept by one that does not know it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The tables of the store. Numbers and names are part of the format on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Single rows: the fold's head, rules and limits.
    Meta = 0,
    /// Log name → log id.
    Names = 1,
    /// Log id → log row.
    Logs = 2,
    /// Log id, offset → record.
    Records = 3,
    /// Log id, key → offset and record.
    Latest = 4,
    /// Log id, upload, part → bytes of a client-made snapshot.
    Snapshots = 5,
    /// Log id, connection → a snapshot on its way in.
    Uploads = 6,
    /// Writer → writer row.
    Writers = 7,
    /// Writer, last sequence → outcomes.
    Outcomes = 8,
    /// Connection → connection row.
    Connections = 9,
    /// User → what it holds.
    Users = 10,
    /// User, connection → nothing.
    UserConnections = 11,
    /// Log id, connection → nothing.
    Subscribers = 12,
    /// Node → its incarnation.
    Nodes = 13,
    /// Batch → where its records are, by place: the lane over everything.
    Places = 14,
    /// Connection, first log id of a chunk → cursors of up to 64 subscriptions.
    Cursors = 15,
    /// Number → who appends.
    Origins = 16,
    /// First batch → era.
    Eras = 17,
    /// Kind and name → a user or a token that no longer counts.
    Revocations = 18,
    /// Log id, first offset → a page that is closed.
    Pages = 19,
}

/// Numbers of tables that are to come, so that none is given twice: groups and their members,
/// cursors of groups, lanes and their rows.
pub const RESERVED: [(u8, &str); 5] =
    [(20, "groups"), (21, "members"), (22, "group_cursors"), (23, "lanes"), (24, "lane_rows")];

impl Table {
    /// All tables, by number.
    pub const ALL: [Self; 20] = [
        Self::Meta,
        Self::Names,
        Self::Logs,
        Self::Records,
        Self::Latest,
        Self::Snapshots,
        Self::Uploads,
        Self::Writers,
        Self::Outcomes,
        Self::Connections,
        Self::Users,
        Self::UserConnections,
        Self::Subscribers,
        Self::Nodes,
        Self::Places,
        Self::Cursors,
        Self::Origins,
        Self::Eras,
        Self::Revocations,
        Self::Pages,
    ];

    /// Its name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Names => "names",
            Self::Logs => "logs",
            Self::Records => "records",
            Self::Latest => "latest",
            Self::Snapshots => "snapshots",
            Self::Uploads => "uploads",
            Self::Writers => "writers",
            Self::Outcomes => "outcomes",
            Self::Connections => "connections",
            Self::Users => "users",
            Self::UserConnections => "user_connections",
            Self::Subscribers => "subscribers",
            Self::Nodes => "nodes",
            Self::Places => "places",
            Self::Cursors => "cursors",
            Self::Origins => "origins",
            Self::Eras => "eras",
            Self::Revocations => "revocations",
            Self::Pages => "pages",
        }
    }
}

/// Rows could not be read or written: the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The storage engine failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// A row does not have its table's layout.
    #[error("row of {table} is damaged: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What a row has grown by since its layout was fixed: tags and their content, at its end. A
/// program that does not know a tag keeps it when it writes the row anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More(Vec<(u32, Bytes)>);

impl More {
    /// The content of a tag.
    pub fn get(&self, tag: u32) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| *known == tag).map(|(_, content)| content)
    }

    /// Sets the content of a tag; tags stand in their order, so that equal rows have equal bytes.
    pub fn set(&mut self, tag: u32, content: Bytes) {
        let at = self.0.partition_point(|(known, _)| *known < tag);
        match self.0.get_mut(at).filter(|(known, _)| *known == tag) {
            Some((_, known)) => *known = content,
            None => self.0.insert(at, (tag, content)),
        }
    }

    /// Takes a tag away.
    pub fn remove(&mut self, tag: u32) {
        self.0.retain(|(known, _)| *known != tag);
    }

    /// Bytes that it holds.
    pub fn weight(&self) -> usize {
        self.0.iter().map(|(_, content)| content.len() + size_of::<(u32, Bytes)>()).sum()
    }
}
