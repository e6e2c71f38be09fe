//! Every refusal and every close has one code: number, name, what it spends and what to do.
//!
//! One table makes the enum, the two wire forms, the HTTP status and the table that the protocol
//! document must show. Numbers are never given again.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a refusal means for the one who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Given before the fold; spends no sequence. Send the same again, not before the time told.
    Transient,
    /// Decided; an append spends its sequence. Sending the same again gives the same answer.
    Permanent,
    /// The request was not carried out; it says what to change.
    Request,
    /// The socket closes with 4000 + number; come back with a new socket.
    Reconnect,
    /// The socket closes with 4000 + number; coming back unchanged does not help.
    Stop,
}

macro_rules! codes {
    ($($number:literal $name:ident $text:literal $class:ident $status:literal $advice:literal;)*) => {
        /// Why something was refused or closed. The table stands in `docs/protocol.md` §9.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each variant's advice is its documentation")]
        pub enum Code { $(#[doc = $advice] $name,)* }

        impl Code {
            /// All codes, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            pub const fn number(self) -> u16 { match self { $(Self::$name => $number,)* } }

            /// The name in JSON, logs, metrics and documents.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text,)* } }

            /// What it spends and whether to come back.
            pub const fn class(self) -> Class { match self { $(Self::$name => Class::$class,)* } }

            /// The HTTP status that carries it.
            pub const fn status(self) -> u16 { match self { $(Self::$name => $status,)* } }

            /// What to do about it, in a sentence.
            pub const fn advice(self) -> &'static str { match self { $(Self::$name => $advice,)* } }

            /// The code with this number, if there is one.
            pub const fn from_number(number: u16) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }

            /// The code with this name, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

codes! {
    1 Rate "rate" Transient 429 "too many in this second: send again after the time told";
    2 Overloaded "overloaded" Transient 503 "the node is busy: send again after the time told";
    3 TokenExpired "token_expired" Transient 401 "refresh the token, then send again";
    4 NotReady "not_ready" Transient 503 "the node is starting or catching up: send again after the time told";
    5 Draining "draining" Transient 503 "the node is going away: connect again after the time told";
    6 Slots "slots" Transient 429 "all active slots are taken by connections in use: ask to be activated after the time told";
    7 InFlight "in_flight" Transient 429 "more than 1024 appends of this writer are unanswered: wait for answers";
    8 SequenceGap "sequence_gap" Transient 409 "an earlier append of this writer has not arrived: send from the writer's mark on";
    9 StorageFull "storage_full" Transient 507 "the disk is nearly full: the operator must make room";
    10 Unknown "unknown_outcome" Transient 504 "nobody can say yet whether it was stored: send the same again, it is stored once";
    11 OtherHistory "other_history" Transient 409 "this server's history lacks what you have seen, as after a restored backup: connect again, drop what you hold, number what is unanswered anew under a new writer";
    32 Conflict "conflict" Permanent 412 "the head is not where the condition says: read on, decide again";
    33 Denied "denied" Permanent 403 "no grant of the token covers this: ask for another token";
    34 TooLarge "too_large" Permanent 413 "the record is larger than the limit: make it smaller";
    35 Epoch "epoch" Permanent 409 "the log was deleted or made anew since: subscribe again, decide again";
    36 BadName "bad_name" Permanent 400 "a name has segments of A-Z a-z 0-9 _ . ~ - parted by /, none empty, . or .., at most 255 bytes";
    37 LogFull "log_full" Permanent 409 "the log has given its last offset (2^53-1): go on in another log";
    38 NoLog "no_log" Permanent 404 "there is no such log, and logs are not made by themselves here: create it";
    39 SequenceReused "sequence_reused" Permanent 409 "this sequence was used for another content: number new actions anew";
    40 SequenceOld "sequence_old" Permanent 409 "this sequence was confirmed as answered before: it is not looked at again";
    41 BadRecord "bad_record" Permanent 400 "the record breaks a rule of the protocol: see the message";
    64 BadFrame "bad_frame" Stop 400 "the frame could not be read: check the encoding against the protocol";
    65 FrameTooLarge "frame_too_large" Stop 413 "a frame, or a message of frames, is larger than the limit told in Welcome: split it";
    66 HelloExpected "hello_expected" Stop 400 "the first frame must be Hello";
    67 HelloLate "hello_late" Reconnect 408 "Hello did not come within 10 seconds";
    68 HelloTwice "hello_twice" Stop 400 "Hello comes once per socket";
    69 Version "version" Stop 400 "this server does not speak that protocol version: update the client";
    70 Unauthorized "unauthorized" Stop 401 "the token is missing, malformed, wrongly signed or for another audience: get a new one";
    71 UnknownConnection "unknown_connection" Stop 404 "no such connection of this user: make a new connection id";
    72 UnknownWriter "unknown_writer" Stop 404 "no such writer of this user: make a new writer id";
    73 Fenced "fenced" Stop 409 "a newer socket of the same connection took its place";
    74 Origin "origin" Stop 403 "pages of this origin may not connect: add it to the allowed origins";
    75 WrongEncoding "wrong_encoding" Stop 400 "text on the binary subprotocol, or binary on the JSON one";
    76 Silent "silent" Reconnect 408 "nothing was heard for too long: connect again";
    77 Revoked "revoked" Stop 401 "the token or the user was revoked";
    78 ShuttingDown "shutting_down" Reconnect 503 "the node is going away: come back after the time told";
    79 Sockets "sockets" Reconnect 503 "the node holds as many sockets as it may: come back after the time told";
    80 Failed "failed" Reconnect 500 "the node hit a fault of its own and told its log: come back";
    96 Subscriptions "subscriptions" Request 429 "the connection holds as many subscriptions as it may: unsubscribe some";
    97 UnknownLog "unknown_log" Request 404 "there is no log of that name or id";
    98 Unsupported "unsupported" Request 501 "this server does not do that yet";
    99 SnapshotBehind "snapshot_behind" Request 409 "there is a snapshot at that offset or a later one";
    100 SnapshotBeyond "snapshot_beyond" Request 409 "the snapshot's offset lies past the head";
    101 SnapshotRule "snapshot_rule" Request 409 "no rule lets clients make snapshots of this log";
    102 SnapshotParts "snapshot_parts" Request 409 "the parts did not come in order: begin at part 0";
    103 BadOffset "bad_offset" Request 400 "an offset lies from 0 to the head, and never past 2^53-1";
    104 BadRequest "bad_request" Request 400 "the request breaks a rule of the protocol: see the message";
    105 Inactive "inactive" Request 409 "the connection is inactive: activate it first";
    106 Connections "connections" Request 429 "the user has as many connections as it may: forget some";
    107 TrimRule "trim_rule" Request 409 "the log may not be trimmed past its newest snapshot";
    108 NotFound "not_found" Request 404 "there is nothing at this address";
    109 Timeout "timeout" Request 504 "the place was not reached in the time given: ask again";
    110 Stale "stale" Request 409 "things have moved since this was proposed: look again";
    111 Superseded "superseded" Request 409 "a later request took the place of this one";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(self.name())
        } else {
            serializer.serialize_u16(self.number())
        }
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let name = String::deserialize(deserializer)?;
            Self::from_name(&name).ok_or_else(|| D::Error::custom("unknown code"))
        } else {
            let number = u16::deserialize(deserializer)?;
            Self::from_number(number).ok_or_else(|| D::Error::custom("unknown code"))
        }
    }
}

/// A refusal as it goes to whoever asked: code, a sentence, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code, by which a program decides.
    pub code: Code,
    /// What happened and what to do, for people.
    pub message: String,
    /// Milliseconds to wait before the same may be tried again; 0: no need to wait, or no use.
    pub retry_after: u32,
}

impl Refusal {
    /// The code with its own advice as the message.
    pub fn new(code: Code) -> Self {
        Self { code, message: code.advice().to_owned(), retry_after: 0 }
    }

    /// The code with a message of its own.
    pub fn because(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: 0 }
    }

    /// The same, not to be tried before so many milliseconds.
    #[must_use]
    pub fn after(mut self, milliseconds: u32) -> Self {
        self.retry_after = milliseconds;
        self
    }
}

impl From<Code> for Refusal {
    fn from(code: Code) -> Self {
        Self::new(code)
    }
}
