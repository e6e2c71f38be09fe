//! The frames that a client sends.
//!
//! The order of fields and of variants *is* the binary layout; see `frame.rs` for how it may grow.

use serde::{Deserialize, Serialize};

use super::frame::{BaseHeld, Cloning, Cursor, Open, Ping, Pong, Start, grown};
use super::id::Id;
use super::position::{Made, Position};
use super::record::{Payload, Record};

/// A writer that the client speaks for, and how far it knows its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterAt {
    /// The writer.
    pub writer: Id,
    /// Its oldest sequence without an answer; everything below may be forgotten by the server.
    pub oldest: u64,
}

/// First frame of a client: who it is, what it holds and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Protocol version, 1.
    pub version: u16,
    /// Optional abilities of the client, by name; unknown names are ignored.
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// A JWT; none only where the server runs with `--dev`.
    #[serde(default)]
    pub token: Option<String>,
    /// The connection's identity, made by the client.
    pub connection: Id,
    /// The device it runs on; slots are counted per device.
    #[serde(default)]
    pub device: Option<Id>,
    /// Library and version, for people; at most 64 bytes.
    #[serde(default)]
    pub client: String,
    /// Whether someone looks at it.
    pub visible: bool,
    /// What to take from an active sibling.
    #[serde(default)]
    pub cloning: Cloning,
    /// The writers it speaks for, its own first; at most 16.
    #[serde(default)]
    pub writers: Vec<WriterAt>,
    /// The logs it has open.
    #[serde(default)]
    pub open: Vec<Open>,
    /// Bytes of delivery it lets be unacknowledged; 0: as the server likes.
    #[serde(default)]
    pub window: u32,
    /// The highest position that it has seen of each shard.
    #[serde(default, deserialize_with = "grown")]
    pub positions: Vec<Position>,
    /// Bases that it has begun, of logs in `open`.
    #[serde(default, deserialize_with = "grown")]
    pub bases: Vec<BaseHeld>,
}

/// Asks for subscriptions, many at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Repeated in the answers; 0 is the server's own.
    pub request: u32,
    /// The logs.
    pub open: Vec<Open>,
    /// Bases that it has begun, of logs in `open`.
    #[serde(default, deserialize_with = "grown")]
    pub bases: Vec<BaseHeld>,
}

/// Ends subscriptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribe {
    /// Repeated in the answer.
    pub request: u32,
    /// Log ids.
    pub logs: Vec<u64>,
}

/// The log that an append is meant for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The incarnation that the action was made on; refused with `epoch` once it is gone.
    Log(u64),
    /// A log never seen by this client, by name.
    Name(String),
}

/// One action of a writer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Its number, from 1, never used twice by this writer.
    pub seq: u64,
    /// The sequence that this writer sent before it to this shard; 0 for its first.
    pub prev: u64,
    /// The log it is for.
    pub to: Target,
    /// Store it only if the log's head stands here.
    #[serde(default)]
    pub if_head: Option<u64>,
    /// What to store.
    pub record: Record,
}

/// Appends of one writer, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// Whose actions they are.
    pub writer: Id,
    /// The writer's oldest sequence without an answer.
    pub oldest: u64,
    /// The actions; at most 1,024.
    pub items: Vec<Item>,
    /// The highest position that the client has seen of each shard.
    #[serde(default, deserialize_with = "grown")]
    pub positions: Vec<Position>,
    /// Where the log ids that items name were made, as `subscribed` told it.
    #[serde(default, deserialize_with = "grown")]
    pub made: Vec<Made>,
}

/// What the client could restart from, and how much delivery it has worked off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Total size in bytes of the `Records`, `Base` and `BaseRecords` frames that the client has
    /// worked off since `Welcome`; gives the window back.
    pub received: u64,
    /// Logs whose cursor moved since the last acknowledgement.
    #[serde(default)]
    pub cursors: Vec<Cursor>,
}

/// Whether someone looks at the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visible {
    /// Someone does.
    pub visible: bool,
    /// Repeated in the answer; 0: none is wanted.
    #[serde(default, deserialize_with = "grown")]
    pub request: u32,
}

/// An inactive connection asks to be active again; it says what it holds, as in [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// Repeated in the answer.
    pub request: u32,
    /// What to take from an active sibling.
    #[serde(default)]
    pub cloning: Cloning,
    /// The logs it has open.
    #[serde(default)]
    pub open: Vec<Open>,
    /// Bases that it has begun, of logs in `open`.
    #[serde(default, deserialize_with = "grown")]
    pub bases: Vec<BaseHeld>,
}

/// A new token in place of the one in force; of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// A JWT.
    pub token: String,
    /// Repeated in the answer; 0: the answer carries none.
    #[serde(default, deserialize_with = "grown")]
    pub request: u32,
}

/// Moves a cursor where the client wants it, backwards too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// Repeated in the answer.
    pub request: u32,
    /// The log id.
    pub log: u64,
    /// Where to.
    pub to: Start,
}

/// A part of a client-made snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutSnapshot {
    /// Repeated in the answer, which comes after the last part.
    pub request: u32,
    /// The log id.
    pub log: u64,
    /// The state includes all records below this offset.
    pub offset: u64,
    /// Version of the format, as the app counts it.
    pub version: u32,
    /// This part's number, from 0; parts come in order.
    pub part: u32,
    /// Whether it is the last.
    pub last: bool,
    /// The bytes.
    pub data: Payload,
}

/// A writer that has all its answers and will send no more; its mark may be forgotten early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retire {
    /// The writer.
    pub writer: Id,
    /// Repeated in the answer; 0: none is wanted.
    #[serde(default, deserialize_with = "grown")]
    pub request: u32,
}

/// The client goes for good, or for long: its slot is free at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Forget the connection altogether.
    pub forget: bool,
}

/// Asks which users have a record: whose connections have committed a cursor past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Repeated in the answer.
    pub request: u32,
    /// The log that the record is in, by its id.
    pub log: u64,
    /// The record's offset.
    pub offset: u64,
}

/// A frame of a kind that is numbered for later: presence, broadcasts, calls, patterns, fetches,
/// atomic appends. Its body is not looked at; the answer is `unsupported`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Later {
    /// Repeated in the refusal.
    pub request: u32,
}

super::codec::frames! {
    /// Frames that a client sends.
    ClientFrame {
        1 hello Hello(Hello),
        2 subscribe Subscribe(Subscribe),
        3 unsubscribe Unsubscribe(Unsubscribe),
        4 append Append(Append),
        5 ack Ack(Ack),
        6 visible Visible(Visible),
        7 activate Activate(Activate),
        8 refresh Refresh(Refresh),
        9 ping Ping(Ping),
        10 pong Pong(Pong),
        11 seek Seek(Seek),
        12 put_snapshot PutSnapshot(PutSnapshot),
        13 retire Retire(Retire),
        14 leave Leave(Leave),
        15 who Who(Who),
        32 signal Signal(Later),
        33 broadcast Broadcast(Later),
        34 call Call(Later),
        35 reply Reply(Later),
        36 subscribe_pattern SubscribePattern(Later),
        37 fetch Fetch(Later),
        38 transact Transact(Later),
        39 lag Lag(Later),
    }
}
