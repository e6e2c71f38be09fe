//! Commands and the batches that carry them: what the journal is made of.
//!
//! The order of fields and variants is the layout on disk and in the journal engines
//! (`docs/storage.md` §4); a change of it is a new [`FOLD_VERSION`].

use serde::{Deserialize, Serialize};

use crate::connection::{Attach, Budgets, Progress, Subscribe};
use crate::log::{Appends, Deriving, Part, Rule};
use crate::wire::{ChainTag, Cloning, Id, Open, Reason, SnapshotRule, Start, Whom, codec};

/// Version of the fold: of what commands mean. A node that does not know a batch's stops.
pub const FOLD_VERSION: u16 = 3;

/// The versions of the fold that a program knows. A journal goes on in the version that it is in
/// until an operator moves it on; older programs cannot come back then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub oldest: u16,
    /// The newest.
    pub newest: u16,
}

impl Versions {
    /// Those of this program.
    pub const KNOWN: Self = Self { oldest: FOLD_VERSION, newest: FOLD_VERSION };

    /// Whether a version is among them.
    pub const fn has(self, version: u16) -> bool {
        self.oldest <= version && version <= self.newest
    }
}

/// Rules and limits that all nodes must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Rules by pattern, first match wins.
    pub rules: Vec<Rule>,
    /// Budgets.
    pub budgets: Budgets,
    /// Whether a log is made by its first append or subscription.
    pub auto_create: bool,
}

/// What a node asks the fold to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The node of this batch has started.
    NodeUp {
        /// The oldest fold version that it knows.
        oldest: u16,
        /// The newest.
        newest: u16,
    },
    /// A node's run is over: it has drained, or has been silent.
    NodeDown {
        /// The node whose run is over.
        node: Id,
        /// Number of that node's run; the next start has a higher one.
        incarnation: u64,
    },
    /// Rules and limits from now on.
    Configure(Settings),
    /// Make a log, or find it.
    CreateLog {
        /// Name of the log that is meant.
        name: String,
        /// Where it is new: records of its pages; 0: it has none.
        page_records: u64,
    },
    /// Delete a log.
    DeleteLog {
        /// Id of the log that is meant.
        log: u64,
    },
    /// Keep nothing below an offset.
    Trim {
        /// The log.
        log: u64,
        /// First offset to keep.
        to: u64,
    },
    /// Appends of a writer.
    Append(Appends),
    /// A client comes.
    Attach(Attach),
    /// A socket is gone; what its client had reached is committed.
    Detach(Progress),
    /// What clients could restart from, of many connections; a stale one among them does nothing.
    Commit(Vec<Progress>),
    /// Subscriptions.
    Subscribe(Subscribe),
    /// The end of subscriptions.
    Unsubscribe {
        /// The connection.
        connection: Id,
        /// Who asks; none: the back end.
        generation: Option<u64>,
        /// The logs.
        logs: Vec<u64>,
    },
    /// The back end subscribes every active connection of a user.
    SubscribeUser {
        /// The user.
        user: String,
        /// The logs.
        open: Vec<Open>,
    },
    /// The back end ends subscriptions of every connection of a user.
    UnsubscribeUser {
        /// The user.
        user: String,
        /// The logs.
        logs: Vec<u64>,
    },
    /// A cursor moves where it is told.
    Seek {
        /// The connection.
        connection: Id,
        /// Who asks; none: the back end.
        generation: Option<u64>,
        /// The log.
        log: u64,
        /// Where to.
        to: Start,
    },
    /// Someone looks, or nobody.
    Visible {
        /// The connection.
        connection: Id,
        /// The generation that was seen; another one makes the command do nothing.
        generation: u64,
        /// Whether someone looks.
        visible: bool,
    },
    /// An inactive connection asks for a channel.
    Activate {
        /// Connection, generation, open logs and grants.
        ask: Subscribe,
        /// What to clone.
        cloning: Cloning,
        /// Whether what it has not opened is held.
        holds: bool,
    },
    /// A connection is to lose its channel.
    Downgrade {
        /// The connection that is spoken of.
        connection: Id,
        /// The generation that the policy saw; none: whatever it is (an operator).
        generation: Option<u64>,
        /// Why.
        reason: Reason,
    },
    /// The client left.
    Leave {
        /// The connection that is spoken of.
        connection: Id,
        /// The generation that was seen; another one makes the command do nothing.
        generation: u64,
        /// Forget it altogether.
        forget: bool,
    },
    /// A connection is long unused.
    Forget {
        /// The connection that is spoken of.
        connection: Id,
        /// The generation that was seen; none: whatever it is (an operator).
        generation: Option<u64>,
    },
    /// A part of a client-made snapshot.
    PutSnapshot(Part),
    /// A writer that will send no more.
    Retire {
        /// The user who owns the writer.
        user: String,
        /// The writer that is spoken of.
        writer: Id,
    },
    /// A writer that is long unused.
    ForgetWriter {
        /// The writer that is spoken of.
        writer: Id,
        /// When it was last used, as it was seen.
        used: u64,
    },
    /// Another era begins with this batch.
    BeginEra {
        /// The present one, as it was seen; none: there is none yet.
        after: Option<Id>,
        /// The name of the new one: random bits.
        era: Id,
    },
    /// A step on the way of a log to the rule of snapshots that the rules in force give it.
    Derive {
        /// The log.
        log: u64,
        /// The rule.
        rule: SnapshotRule,
        /// How far it has come, as it was seen; none: it has not begun.
        seen: Option<Deriving>,
        /// Rows that this step may work off.
        most: u32,
    },
    /// Keys under `latest` that are too old by the rule in force end.
    Expire {
        /// The log.
        log: u64,
        /// The keys, with the offsets of their newest records, as they were seen.
        keys: Vec<(String, u64)>,
    },
    /// Pages of a log that open from now on.
    SetPages {
        /// The log.
        log: u64,
        /// Their records; 0: none opens, and the one that is open is closed.
        records: u64,
    },
    /// The journal goes on in a later version of the fold.
    Upgrade {
        /// The next one.
        to: u16,
    },
    /// Nothing: its answer says that the journal was read up to where it ended when this was asked.
    Look,
    /// A user or a token no longer counts.
    Revoke {
        /// Whose tokens are revoked: a user's, or one token by its id.
        whom: Whom,
        /// Of a user: tokens issued before this moment, in milliseconds since 1970.
        before_ms: u64,
    },
    /// It counts again.
    Unrevoke {
        /// Whose tokens count again.
        whom: Whom,
    },
    /// The node of this batch goes on.
    Alive(Alive),
    /// A node that does not run is gone for good.
    ForgetNode {
        /// The node that is spoken of.
        node: Id,
    },
}

/// A sign of life of a node, with what others may want to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Its store has all batches up to this one on disk.
    pub checkpoint: u64,
    /// Where clients and other nodes reach it; empty: it does not say.
    pub address: String,
}

/// The batch that a proposer had folded when it made its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Number of the batch in the journal, from 1, without holes.
    pub batch: u64,
    /// The chain's hash after it.
    pub chain: [u8; 32],
    /// The running hash of the rows written up to it: nodes that fold differently find out.
    pub rows: ChainTag,
}

/// What stands before a batch's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the fold that understands the commands.
    pub fold: u16,
    /// The journal it was made for.
    pub journal: Id,
    /// What its proposer had folded.
    pub known: Known,
    /// The node that proposes.
    pub node: Id,
    /// Number of that node's run; the next start has a higher one.
    pub incarnation: u64,
    /// Counts the node's batches in this run, from 1: a repeat is folded once.
    pub serial: u64,
    /// The node's clock, milliseconds since 1970.
    pub time: u64,
}

/// Commands in order, with one header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// What stands before.
    pub header: Header,
    /// The commands.
    pub commands: Vec<Command>,
}

impl Batch {
    /// Reads what stands before the commands of a batch: its layout is the same in all versions of
    /// the fold, those of commands are not.
    ///
    /// # Errors
    /// [`codec::FrameError::Body`] when the bytes are no batch.
    pub fn header_of(bytes: &[u8]) -> Result<Header, codec::FrameError> {
        codec::from_bytes("batch", bytes)
    }
}
