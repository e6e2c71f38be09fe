//! What the frames of both sides are made of. The frames themselves are in `client.rs` and
//! `server.rs`; together the three are the one definition, and `docs/protocol.md` is its prose.
//!
//! A frame's body grows at its end only; nested structures never grow (a [`Record`] has its own
//! room for extensions). A test holds the hash of these files' code: change them together with
//! `version.rs` and the document.
//!
//! [`Record`]: super::Record

use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize};

use super::position::Position;

/// Abilities that this version defines; each side names those that it has.
pub mod capability {
    /// Positions are told and stated, and `other_history` is understood.
    pub const HISTORY: &str = "history";
    /// `start` may be `last` or `time`.
    pub const STARTS: &str = "starts";
    /// Every request is answered by its number, and `superseded` is understood.
    pub const REQUESTS: &str = "requests";
    /// A large frame may come in parts.
    pub const PARTS: &str = "parts";
    /// Subscriptions that the client has not opened are held: told, not delivered.
    pub const HELD: &str = "held";
    /// A base that was cut goes on where it was.
    pub const BASES: &str = "bases";
    /// Who has a record may be asked: `who` is answered by `delivered_to`.
    pub const DELIVERED: &str = "delivered";
    /// Those that this server has.
    pub const ALL: [&str; 7] = [HISTORY, STARTS, REQUESTS, PARTS, HELD, BASES, DELIVERED];
}

/// Name by which the binary reader knows a field that may be missing at a body's end.
pub(super) const GROWN: &str = "grown";

/// Reads a field that a body has grown by: who was made before that does not send it.
pub(super) fn grown<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    struct Grown<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de> + Default> Visitor<'de> for Grown<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a field, or the body's end")
        }

        fn visit_unit<E>(self) -> Result<T, E> {
            Ok(T::default())
        }

        fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
            T::deserialize(from)
        }
    }
    deserializer.deserialize_newtype_struct(GROWN, Grown(PhantomData))
}

/// The next offset that a reader wants of one log id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cursor {
    /// The log id.
    pub log: u64,
    /// The next offset wanted; everything below has been seen.
    pub next: u64,
}

/// Where a reader without a cursor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the log's state: newest snapshot and what follows; without a snapshot, all records.
    #[default]
    State,
    /// At the first offset still kept, snapshots left aside.
    Earliest,
    /// At the head: only what comes from now on.
    End,
    /// At this offset; told of a gap where it is no longer kept.
    Offset(u64),
    /// Where this connection last committed; as `State` where it never did.
    Committed,
    /// With the last so many records that are kept. Needs the capability `starts`.
    Last(u64),
    /// At the first record that the server took at this time or later, in milliseconds since 1970.
    /// Needs the capability `starts`.
    Time(u64),
}

/// What a clone takes from its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cloning {
    /// The source's subscriptions and positions, and what the client has open besides.
    #[default]
    All,
    /// Positions for the client's own open logs only.
    Own,
    /// No cloning: services that keep their own position.
    None,
}

/// What a client has and wants of one log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// The log's name.
    pub name: String,
    /// What the client holds: records of this log id below `next`, folded or stored.
    #[serde(default)]
    pub have: Option<Cursor>,
    /// Where to begin when `have` is none.
    #[serde(default)]
    pub start: Start,
    /// 0 first, 255 last; catch-up serves lower numbers before higher ones.
    #[serde(default)]
    pub priority: u8,
}

/// A base that the client has begun and not finished: it needs only what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseHeld {
    /// The log id.
    pub log: u64,
    /// The base's offset.
    pub offset: u64,
    /// What of it the client holds.
    pub upto: Upto,
}

/// How far a base was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upto {
    /// So many parts of a client-made snapshot.
    Parts(u32),
    /// A `latest` base up to this key.
    Key(String),
}

/// What a socket may append: the server has set it aside, and refuses none of it for rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Appends.
    pub appends: u32,
    /// Bytes of them, counted as records: see `record_bytes`.
    pub bytes: u64,
    /// Milliseconds until then.
    pub after: u32,
}

/// Asks the other side whether it is there. Either side may send it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Comes back in [`Pong`].
    pub nonce: u64,
    /// Where the server stands, by shard; a client sends none.
    #[serde(default, deserialize_with = "grown")]
    pub positions: Vec<Position>,
}

/// Answers a [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// From the ping.
    pub nonce: u64,
}

/// How the server keeps a log's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotRule {
    /// Not at all: readers replay.
    #[default]
    None,
    /// Newest record per key, kept by the server.
    Latest,
    /// Made by clients.
    Client,
}

/// The bytes of one encoded frame or message; shared, never copied per socket.
pub type Encoded = Bytes;
