//! Every frame that crosses the wire, defined once; `docs/protocol.md` is its prose.
//!
//! A frame's body grows at its end only; nested structures never grow (a [`Record`] has its own
//! room for extensions). The order of fields and of variants *is* the binary layout. A test holds
//! the hash of this file's code: change it together with `version.rs` and the document.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::code::{Code, Refusal};
use super::id::{Id, Place};
use super::record::{Payload, Record};

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
}

/// Asks for subscriptions, many at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// Repeated in the answers; 0 is the server's own.
    pub request: u32,
    /// The logs.
    pub open: Vec<Open>,
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
}

/// An inactive connection asks to be active again; it says what it holds, as in [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activate {
    /// Repeated in a refusal.
    pub request: u32,
    /// What to take from an active sibling.
    #[serde(default)]
    pub cloning: Cloning,
    /// The logs it has open.
    #[serde(default)]
    pub open: Vec<Open>,
}

/// A new token in place of the one in force; of the same user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refresh {
    /// A JWT.
    pub token: String,
}

/// Asks the other side whether it is there. Either side may send it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Comes back in [`Pong`].
    pub nonce: u64,
}

/// Answers a [`Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// From the ping.
    pub nonce: u64,
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
}

/// The client goes for good, or for long: its slot is free at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// Forget the connection altogether.
    pub forget: bool,
}

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

/// The server's answer to [`Hello`].
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
    /// How it was met, when it became active by [`Activate`].
    pub met: Option<Met>,
    /// Why not, when it became inactive.
    pub reason: Option<Reason>,
    /// Milliseconds before which [`Activate`] is refused.
    pub activate_after: u32,
    /// The connection's generation from here on.
    pub generation: u64,
    /// The connection it was cloned from.
    pub source: Option<Id>,
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
    /// Its offset.
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
        /// Its offset.
        offset: u64,
        /// Its place.
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
    /// Which.
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
}

/// A frame of a kind that is numbered for later: presence, broadcasts, calls, patterns, fetches,
/// atomic appends. Its body is not looked at; the answer is `unsupported`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Later {
    /// Repeated in the refusal.
    pub request: u32,
}

/// The bytes of one encoded frame or message; shared, never copied per socket.
pub type Encoded = Bytes;

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
    }
}
