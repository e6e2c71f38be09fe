//! What goes into the machine and what comes out of it.
//!
//! Promise: sockets, frames and time reach the machine as inputs and in no other way, and all that
//! it wants done leaves it as outputs, so that what it does can be played again.

use crate::wire::{ClientFrame, Cloning, Encoding, Id, Outcome, Refusal, ServerFrame, capability};

/// Who a client is and how it behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The connection's identity.
    pub connection: Id,
    /// The identity of its first writer.
    pub writer: Id,
    /// The device it runs on.
    pub device: Option<Id>,
    /// Its token; none only where the server runs with `--dev`.
    pub token: Option<String>,
    /// Library and version, for people.
    pub name: String,
    /// Form of the messages on its sockets.
    pub encoding: Encoding,
    /// Whether someone looks at it.
    pub visible: bool,
    /// What to take from an active sibling.
    pub cloning: Cloning,
    /// Bytes of delivery it lets be unacknowledged; 0: as the server likes.
    pub window: u32,
    /// What it says it is able to.
    pub capabilities: Vec<&'static str>,
    /// Milliseconds after which it acknowledges by itself what came; none: only when it is asked.
    pub ack_after: Option<u64>,
    /// Whether it opens what it is told of as held.
    pub opens_held: bool,
    /// Whether it asks to be active again by itself.
    pub activates: bool,
    /// Whether it keeps to the credit that it is told.
    pub credit: bool,
    /// Whether it sends by itself, at the time told, appends that were refused for now.
    pub resends: bool,
    /// Whether it asks by itself, at the time told or with a new token, for logs that were refused
    /// for now.
    pub asks_again: bool,
}

impl Config {
    /// A well-behaved client that is able to all that the protocol has.
    pub fn new(connection: Id, writer: Id) -> Self {
        Self {
            connection,
            writer,
            device: None,
            token: None,
            name: String::new(),
            encoding: Encoding::Bincode,
            visible: true,
            cloning: Cloning::All,
            window: 0,
            capabilities: capability::ALL.to_vec(),
            ack_after: Some(250),
            opens_held: true,
            activates: true,
            credit: true,
            resends: true,
            asks_again: true,
        }
    }
}

/// What happened to the client since it was asked last: what [`Client::handle`] is given.
///
/// [`Client::handle`]: super::Client::handle
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Input<'a> {
    /// A socket is open. `spare`: fresh random bits, the name of its next writer if it needs one.
    Open {
        /// 128 random bits: the identity of a writer that nobody has used.
        spare: Id,
    },
    /// A message came.
    Message(&'a [u8]),
    /// A frame came, with the size that flow control counts: that of its body, or of its line.
    Frame(ServerFrame, usize),
    /// The socket ended, whoever closed it.
    Closed,
    /// Time has passed.
    Time,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Output {
    /// Send a frame on the socket.
    Send(ClientFrame),
    /// Tell the app.
    Tell(Event),
    /// Close the socket, with 1000.
    Close,
    /// Open a socket at `not_before`, and a random time up to `spread` milliseconds later.
    Connect {
        /// The earliest time.
        not_before: u64,
        /// The bound of the random part.
        spread: u64,
    },
}

/// What the app learns.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one at a time, taken apart at once")]
pub enum Event {
    /// A frame that counts, to be acted on as it stands: records begin at the log's cursor, a base
    /// goes on where it was. Answers, pings and parts are not told: they are dealt with here.
    Frame(ServerFrame),
    /// An append has its final outcome; each gets one.
    Settled {
        /// Its writer.
        writer: Id,
        /// Its sequence.
        seq: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// The outcome of an append that has its own already: it must be the same one.
    Repeated {
        /// Its writer.
        writer: Id,
        /// Its sequence.
        seq: u64,
        /// What was said this time.
        outcome: Outcome,
    },
    /// An append was refused for now; it is still pending.
    PutOff {
        /// Its writer.
        writer: Id,
        /// Its sequence.
        seq: u64,
        /// Why, and until when.
        refusal: Refusal,
    },
    /// The server has another history: pending appends have new numbers, under a new writer.
    Renumbered {
        /// The writer that is over.
        from: Id,
        /// The one that goes on.
        to: Id,
        /// Old and new sequence of each, in order.
        sequences: Vec<(u64, u64)>,
    },
    /// Records that it had came again, and were dropped (law 5).
    Repeat {
        /// The log.
        log: u64,
        /// First offset that was dropped.
        from: u64,
        /// First offset after them.
        to: u64,
    },
    /// Records came from behind the cursor on and no gap was told: it closes, and asks again from
    /// where it stands (law 5).
    Jump {
        /// The log.
        log: u64,
        /// Where it stands.
        cursor: u64,
        /// The offset that came.
        came: u64,
    },
    /// The server broke a law; what broke it was not acted on.
    Breach(Breach),
}

/// How a server broke a law. Each names the log or the writer that it is about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "each variant's message is its documentation")]
pub enum Breach {
    #[error("a message that cannot be read: {0}")]
    Unreadable(String),
    #[error("{0} came before welcome")]
    Early(&'static str),
    #[error("{0} came after bye")]
    AfterBye(&'static str),
    #[error("{0} is not of this client's doing")]
    Unasked(&'static str),
    #[error("log {log}: {frame}, and the log is not announced")]
    Unannounced { log: u64, frame: &'static str },
    #[error("log {log}: {frame}, and the log is held")]
    OfHeld { log: u64, frame: &'static str },
    #[error("log {log}: {frame}, and the connection is inactive")]
    Inactive { log: u64, frame: &'static str },
    #[error("log {log}: {frame} before the reset that was told of")]
    BeforeReset { log: u64, frame: &'static str },
    #[error("log {log}: {frame} before the base is whole")]
    BeforeBase { log: u64, frame: &'static str },
    #[error("log {log}: part of a base that is not awaited, or out of its order")]
    BaseOrder { log: u64 },
    #[error("log {log}: the base's offset or rule is not what was told")]
    OtherBase { log: u64 },
    #[error("log {log}: it has two names, or a name two logs")]
    Names { log: u64 },
    #[error("log {log}: half a base is held, and nothing is said of it")]
    BaseForgotten { log: u64 },
    #[error("log {log}: the cursor told is {told}, and what is held is {held}")]
    Cursor { log: u64, told: u64, held: u64 },
    #[error("log {log}: a gap from {from} to {to} at cursor {cursor}")]
    Gap { log: u64, from: u64, to: u64, cursor: u64 },
    #[error("log {log}: an empty frame of records")]
    Empty { log: u64 },
    #[error("log {log}: places do not rise")]
    Places { log: u64 },
    #[error("log {log}: what is of another history goes on without a reset")]
    Stale { log: u64 },
    #[error("{unacknowledged} bytes are unacknowledged, and the window is {window}")]
    Window { unacknowledged: u64, window: u64 },
    #[error("log {log}: a state comes before the answer to sequence {seq}")]
    AnswersFirst { log: u64, seq: u64 },
    #[error("writer {writer}: an answer to sequence {seq}, which is not next")]
    AnswerOrder { writer: Id, seq: u64 },
    #[error("writer {writer}: sequence {seq} is answered, and the mark is {mark}")]
    Mark { writer: Id, seq: u64, mark: u64 },
}
