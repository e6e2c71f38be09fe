//! The frames that a server sends.
//!
//! The order of fields and of variants *is* the binary layout; see `frame.rs` for how it may grow.

use serde::{Deserialize, Serialize};

use super::code::{Code, Refusal};
use super::frame::{BaseHeld, Credit, Ping, Pong, SnapshotRule, grown};
use super::id::{Id, Place};
use super::position::Position;
use super::record::{Payload, Record};

/// How a client was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Met {
    /// A new connection with nobody to clone.
    Fresh,
    /// It was active: its own positions, by delta.
    Resumed,
    /// Overwritten by a clone of an active connection of the same user.
    Cloned,
    /// It was inactive with nobody to clone: its own row and the newest snapshots.
    Restored,
    /// No slot was free: it is attached but inactive, see `State`.
    Waiting,
}

/// Why a connection is inactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Detached for longer than the limit.
    Detached,
    /// Its lag outgrew the limit.
    Lag,
    /// Retention had to pass its floor.
    Retention,
    /// The logs kept too much for it.
    RetainedBytes,
    /// The user needed its slot.
    Slots,
    /// The node or the cluster needed its slot.
    NodeSlots,
    /// The node ran short of memory.
    Memory,
    /// An operator or the app asked for it.
    Asked,
    /// The client left.
    Left,
    /// It came and no slot was free.
    NoSlot,
}

/// Limits that the client must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest frame, in bytes of its body.
    pub frame_bytes: u32,
    /// Largest record.
    pub record_bytes: u32,
    /// Bytes of delivery that may be unacknowledged.
    pub window: u32,
    /// Unanswered appends of a writer.
    pub in_flight: u32,
    /// Subscriptions of the connection.
    pub subscriptions: u32,
}

/// The server's answer to [`Hello`](super::Hello).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Protocol version in force.
    pub version: u16,
    /// Abilities that both sides have.
    pub capabilities: Vec<String>,
    /// The connection.
    pub connection: Id,
    /// Whose it is.
    pub user: String,
    /// How it was met.
    pub met: Met,
    /// The connection it was cloned from.
    pub source: Option<Id>,
    /// Where in the journal it was attached.
    pub place: Place,
    /// Counts attachments and changes of state; a smaller one is a zombie's.
    pub generation: u64,
    /// The server's time, milliseconds since 1970.
    pub time: u64,
    /// When the token ends, milliseconds since 1970; 0: never.
    pub expires: u64,
    /// Milliseconds of silence after which the server pings; twice that and it closes.
    pub ping_interval: u32,
    /// Limits in force.
    pub limits: Limits,
    /// With `--dev` only: a token for the user that the server made up; keep it.
    pub token: Option<String>,
    /// Marks of the writers named in Hello: the last sequence that was stored or refused.
    pub writers: Vec<WriterMark>,
    /// Where the server stands, by shard; what the client has seen from here on.
    #[serde(default, deserialize_with = "grown")]
    pub positions: Vec<Position>,
    /// What the client stated in Hello is not in this server's history: every log that it holds is
    /// reset, and its writers are over once their answers have come.
    #[serde(default, deserialize_with = "grown")]
    pub other_history: bool,
    /// What may be appended at once.
    #[serde(default, deserialize_with = "grown")]
    pub credit: Option<Credit>,
    /// Addresses of other nodes that run, at most [`MAX_NODES`](super::MAX_NODES): where to go when
    /// this one does not answer.
    #[serde(default, deserialize_with = "grown")]
    pub nodes: Vec<String>,
}

/// The last sequence of a writer that has an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriterMark {
    /// The writer.
    pub writer: Id,
    /// Its mark; 0: none yet.
    pub mark: u64,
}

/// Whether a connection holds a channel, and when it may ask for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// It holds one.
    pub active: bool,
    /// How it was met, when it became active by [`Activate`](super::Activate).
    pub met: Option<Met>,
    /// Why not, when it became inactive.
    pub reason: Option<Reason>,
    /// Milliseconds before which [`Activate`](super::Activate) is refused.
    pub activate_after: u32,
    /// The connection's generation from here on.
    pub generation: u64,
    /// The connection it was cloned from.
    pub source: Option<Id>,
    /// From the [`Activate`](super::Activate) that it answers; 0: the server's own doing.
    #[serde(default, deserialize_with = "grown")]
    pub request: u32,
}

/// A subscription is in force; announces the log id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// From the request; 0: the server's own doing (attach, clone, back end).
    pub request: u32,
    /// The log's name.
    pub name: String,
    /// The log id.
    pub log: u64,
    /// Its priority.
    pub priority: u8,
    /// How its state is kept.
    pub rule: SnapshotRule,
    /// First offset kept.
    pub start: u64,
    /// Next offset to be written.
    pub head: u64,
    /// Next offset that will be sent, a base left aside.
    pub cursor: u64,
    /// The log is complete, and may be shown, when the cursor has reached this.
    pub complete: u64,
    /// Whether a [`Reset`] of this log follows before anything else of it.
    pub reset: bool,
    /// The position at which this log id was made; an append to it states it.
    #[serde(default, deserialize_with = "grown")]
    pub made: Option<Position>,
    /// It is not open: nothing is delivered until the client subscribes to it.
    #[serde(default, deserialize_with = "grown")]
    pub held: bool,
    /// The base that the client had begun goes on from there.
    #[serde(default, deserialize_with = "grown")]
    pub base: Option<BaseHeld>,
}

/// Something asked for was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// From the request; 0: not tied to one.
    pub request: u32,
    /// The log's name, where it is about one log.
    pub name: Option<String>,
    /// Why.
    pub refusal: Refusal,
}

/// Something asked for was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// From the request.
    pub request: u32,
}

/// Why a subscription ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The client asked.
    Asked,
    /// The back end asked.
    BackEnd,
    /// The log was deleted.
    Deleted,
    /// No grant covers it any more.
    Denied,
    /// A clone overwrote the subscriptions, and the source had none of this.
    Overwritten,
}

/// A subscription ended; nothing of this log id follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unsubscribed {
    /// From the request, or 0.
    pub request: u32,
    /// The log id.
    pub log: u64,
    /// Why.
    pub reason: Ended,
}

/// Who appended records of a frame.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The user.
    pub user: String,
    /// The writer.
    pub writer: Id,
    /// The connection it came through; [`Id::NONE`] for HTTP.
    pub connection: Id,
}

/// A stored record, as readers get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// Its place in the journal's order.
    pub place: Place,
    /// When the server took it, milliseconds since 1970.
    pub time: u64,
    /// Index into the frame's origins.
    pub origin: u32,
    /// The writer's sequence.
    pub seq: u64,
    /// What was written.
    pub record: Record,
}

/// Records of one log in offset order, without holes: the first has offset `base`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The log id.
    pub log: u64,
    /// Offset of the first record.
    pub base: u64,
    /// Who wrote them; records point into this list.
    pub origins: Vec<Origin>,
    /// The records.
    pub records: Vec<Delivered>,
}

/// Why a range cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Retention took it.
    Trimmed,
    /// An operator took it.
    Removed,
}

/// A range that this reader will never get; told before anything later of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The log id.
    pub log: u64,
    /// First offset missing.
    pub from: u64,
    /// First offset after it.
    pub to: u64,
    /// Why.
    pub reason: GapReason,
}

/// Why the client must drop what it holds of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It holds nothing yet.
    New,
    /// It is overwritten by a clone.
    Cloned,
    /// It is restored from the newest snapshot.
    Restored,
    /// Its cursor lay past the head.
    PastHead,
    /// The log was deleted and made anew: another log id.
    OtherLog,
    /// What it would need is no longer kept.
    Trimmed,
    /// It asked to be elsewhere.
    Asked,
    /// What it holds is of another history than the server's. Needs the capability `history`.
    OtherHistory,
}

/// The base that follows a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseAt {
    /// [`SnapshotRule::Latest`]: `BaseRecords` follow; [`SnapshotRule::Client`]: `Base` parts.
    pub rule: SnapshotRule,
    /// The base holds the state of all records below this offset.
    pub offset: u64,
    /// Version of a client-made snapshot's format.
    pub version: u32,
}

/// Drop what is held of this log; a base may follow, then records from `cursor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reset {
    /// The log id.
    pub log: u64,
    /// Why.
    pub reason: ResetReason,
    /// The base that follows; none: start from the empty state.
    pub base: Option<BaseAt>,
    /// Offset of the first record that follows the base.
    pub cursor: u64,
    /// Show the log when the cursor has reached this (a `latest` base may raise it at its end).
    pub complete: u64,
}

/// A part of a client-made snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The log id.
    pub log: u64,
    /// The snapshot's offset.
    pub offset: u64,
    /// The part, from 0.
    pub part: u32,
    /// Whether it is the last.
    pub last: bool,
    /// The bytes.
    pub data: Payload,
}

/// A record of a `latest` base, with its own offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Offset of the record in its log.
    pub offset: u64,
    /// The record.
    pub record: Delivered,
}

/// A part of a `latest` base: the newest record of each key, by key, below the base's offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseRecords {
    /// The log id.
    pub log: u64,
    /// The base's offset.
    pub offset: u64,
    /// Whether it is the last part.
    pub last: bool,
    /// With the last part: the log is complete at this offset (the head when the part was read).
    pub complete: u64,
    /// Who wrote the records.
    pub origins: Vec<Origin>,
    /// The records.
    pub records: Vec<Kept>,
}

/// How durable an accepted append is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Synced to this node's disk.
    Synced,
    /// Accepted by the journal engine at its declared level (copies, acknowledgements).
    Replicated,
    /// In memory only: the engine for tests.
    Memory,
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Stored.
    Stored {
        /// The log id.
        log: u64,
        /// Offset of the record in its log.
        offset: u64,
        /// Place of the record in the journal's order.
        place: Place,
        /// How durable it is.
        level: Level,
    },
    /// Refused; whether the sequence is spent follows from the code's class.
    Refused(Refusal),
}

/// The answer to one append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Sequence of the append, as its writer numbered it.
    pub seq: u64,
    /// What became of it.
    pub outcome: Outcome,
}

/// Answers to appends of one writer, in sequence order within a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The writer.
    pub writer: Id,
    /// Its mark: the last sequence that has a final outcome.
    pub mark: u64,
    /// The answers.
    pub answers: Vec<Answer>,
    /// Where the server stood when it decided, by shard; empty with transient refusals.
    #[serde(default, deserialize_with = "grown")]
    pub positions: Vec<Position>,
    /// What may be appended from here on, where that is told anew.
    #[serde(default, deserialize_with = "grown")]
    pub credit: Option<Credit>,
}

/// The log's tail has grown long: a client that may is asked for a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotWanted {
    /// The log id.
    pub log: u64,
    /// At this offset or later.
    pub at_least: u64,
}

/// The new token is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refreshed {
    /// When it ends, milliseconds since 1970; 0: never.
    pub expires: u64,
    /// From the [`Refresh`](super::Refresh).
    #[serde(default, deserialize_with = "grown")]
    pub request: u32,
}

/// Last frame before the server closes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bye {
    /// Why; the close frame carries 4000 + its number.
    pub code: Code,
    /// What happened and what to do, for people.
    pub message: String,
    /// Whether coming back helps.
    pub reconnect: bool,
    /// Milliseconds to wait before; the server spreads these times.
    pub after: u32,
    /// Addresses of nodes that may serve the client now, the one to try first; at once, for `after`
    /// is when *this* node may.
    #[serde(default, deserialize_with = "grown")]
    pub nodes: Vec<String>,
}

/// A piece of one frame that is too large for a slow link; the pieces follow one another, and what
/// they hold together is the whole frame: its bytes, or its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Whether it is the last piece.
    pub last: bool,
    /// The piece; text where the frame is.
    pub data: Payload,
}

/// The users that a record was delivered to, as far as cursors that were committed say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveredTo {
    /// From the [`Who`](super::Who).
    pub request: u32,
    /// The users, each once, sorted by their bytes; at most 256.
    pub users: Vec<String>,
    /// There may be others.
    pub more: bool,
}

super::codec::frames! {
    /// Frames that a server sends.
    ServerFrame {
        9 ping Ping(Ping),
        10 pong Pong(Pong),
        64 welcome Welcome(Welcome),
        65 subscribed Subscribed(Subscribed),
        66 refused Refused(Refused),
        67 done Done(Done),
        68 unsubscribed Unsubscribed(Unsubscribed),
        69 records Records(Records),
        70 gap Gap(Gap),
        71 reset Reset(Reset),
        72 base Base(Base),
        73 base_records BaseRecords(BaseRecords),
        74 answers Answers(Answers),
        75 state State(State),
        76 snapshot_wanted SnapshotWanted(SnapshotWanted),
        77 refreshed Refreshed(Refreshed),
        78 bye Bye(Bye),
        79 part Part(Part),
        80 delivered_to DeliveredTo(DeliveredTo),
    }
}
