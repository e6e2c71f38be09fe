//! The bounds of numbers and lists that the forms of a frame leave open.
//!
//! Promise: cheap and pure, one look at each number. What passes holds no offset, sequence or log
//! id past 2^53-1 and no list longer than the protocol allows. Absent: what needs a log, a token
//! or the configuration (names, grants, sizes of records); those are refused one by one.

use super::client::{Append, ClientFrame, Hello, Target};
use super::code::{Code, Refusal};
use super::frame::{BaseHeld, Cursor, Open, Start, Upto};
use super::id::{Id, MAX_OFFSET};
use super::name::MAX_NAME_BYTES;
use super::position::{MAX_POSITIONS, Position};
use super::record::MAX_KEY_BYTES;
use super::version::PROTOCOL;

/// Most writers in one `hello`.
pub const MAX_WRITERS: usize = 16;
/// Most items in one `append`, and most appends of a writer without an answer.
pub const MAX_ITEMS: usize = 1024;
/// Most nodes that `welcome` or `bye` names.
pub const MAX_NODES: usize = 16;
/// Most bases in one frame.
pub const MAX_BASES: usize = 1024;
/// Longest name of a client's library, in bytes.
pub const MAX_CLIENT_BYTES: usize = 64;
/// Most capabilities in one `hello`.
pub const MAX_CAPABILITIES: usize = 32;
/// Longest name of a capability, in bytes.
pub const MAX_CAPABILITY_BYTES: usize = 64;

impl ClientFrame {
    /// The number that answers to this frame repeat; 0 where it has none.
    pub const fn request(&self) -> u32 {
        match self {
            Self::Subscribe(body) => body.request,
            Self::Unsubscribe(body) => body.request,
            Self::Activate(body) => body.request,
            Self::Seek(body) => body.request,
            Self::PutSnapshot(body) => body.request,
            Self::Visible(body) => body.request,
            Self::Refresh(body) => body.request,
            Self::Retire(body) => body.request,
            Self::Who(body) => body.request,
            Self::Signal(body)
            | Self::Broadcast(body)
            | Self::Call(body)
            | Self::Reply(body)
            | Self::SubscribePattern(body)
            | Self::Fetch(body)
            | Self::Transact(body)
            | Self::Lag(body) => body.request,
            Self::Hello(_)
            | Self::Append(_)
            | Self::Ack(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Leave(_) => 0,
        }
    }

    /// Checks the bounds that the protocol sets, whatever the server's state and configuration.
    ///
    /// # Errors
    /// A refusal of the whole frame. Where its code's class is `Stop`, the socket is to be closed
    /// with it; else it answers the frame's [`request`](Self::request). A reserved kind is
    /// `unsupported`.
    pub fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Hello(hello) => check_hello(hello),
            Self::Subscribe(body) => check_open(&body.open, &body.bases),
            Self::Activate(body) => check_open(&body.open, &body.bases),
            Self::Unsubscribe(body) => {
                within("a log id", body.logs.iter().copied()).map_err(Fault::refused)
            }
            Self::Append(body) => check_append(body).map_err(Fault::closes),
            Self::Ack(body) => {
                let cursors = body.cursors.iter().flat_map(|cursor| [cursor.log, cursor.next]);
                within("received and cursors", cursors.chain([body.received]))
                    .map_err(Fault::refused)
            }
            Self::Seek(body) => {
                within("a log id", [body.log]).and_then(|()| start(body.to)).map_err(Fault::refused)
            }
            Self::PutSnapshot(body) => {
                within("log id and offset", [body.log, body.offset]).map_err(Fault::refused)
            }
            Self::Who(body) => {
                within("log id and offset", [body.log, body.offset]).map_err(Fault::refused)
            }
            Self::Retire(body) => identity(body.writer).map_err(Fault::closes),
            Self::Signal(_)
            | Self::Broadcast(_)
            | Self::Call(_)
            | Self::Reply(_)
            | Self::SubscribePattern(_)
            | Self::Fetch(_)
            | Self::Transact(_)
            | Self::Lag(_) => Err(Code::Unsupported.into()),
            Self::Visible(_)
            | Self::Refresh(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Leave(_) => Ok(()),
        }
    }
}

/// What is out of bounds, in words; the frame decides which code that is.
enum Fault {
    Number(&'static str),
    Name,
    Rule(&'static str),
}

impl Fault {
    fn message(&self) -> String {
        match self {
            Self::Number(what) => format!("{what}: at most {MAX_OFFSET} (2^53-1)"),
            Self::Name => format!("a log's name has at most {MAX_NAME_BYTES} bytes"),
            Self::Rule(rule) => (*rule).to_owned(),
        }
    }

    /// For frames without an answer of their own.
    fn closes(self) -> Refusal {
        Refusal::because(Code::BadFrame, self.message())
    }

    /// For frames that can be refused.
    fn refused(self) -> Refusal {
        let code = match self {
            Self::Number(_) => Code::BadOffset,
            Self::Name => Code::BadName,
            Self::Rule(_) => Code::BadRequest,
        };
        Refusal::because(code, self.message())
    }
}

fn rule(holds: bool, rule: &'static str) -> Result<(), Fault> {
    if holds { Ok(()) } else { Err(Fault::Rule(rule)) }
}

fn within(what: &'static str, numbers: impl IntoIterator<Item = u64>) -> Result<(), Fault> {
    if numbers.into_iter().all(|number| number <= MAX_OFFSET) {
        Ok(())
    } else {
        Err(Fault::Number(what))
    }
}

fn identity(id: Id) -> Result<(), Fault> {
    rule(id != Id::NONE, "an identity has 128 random bits, not zeros: make one")
}

fn start(start: Start) -> Result<(), Fault> {
    match start {
        Start::Offset(offset) => within("an offset", [offset]),
        Start::Last(records) => within("a number of records", [records]),
        Start::Time(time) => within("a time", [time]),
        Start::State | Start::Earliest | Start::End | Start::Committed => Ok(()),
    }
}

fn opens(open: &[Open]) -> Result<(), Fault> {
    for log in open {
        if log.name.len() > MAX_NAME_BYTES {
            return Err(Fault::Name);
        }
        if let Some(Cursor { log, next }) = log.have {
            within("what the client holds", [log, next])?;
        }
        start(log.start)?;
    }
    Ok(())
}

fn bases(bases: &[BaseHeld]) -> Result<(), Fault> {
    rule(bases.len() <= MAX_BASES, "at most 1024 bases in one frame")?;
    for base in bases {
        within("a base that is held", [base.log, base.offset])?;
        let key = match &base.upto {
            Upto::Key(key) => key.len(),
            Upto::Parts(_) => 1,
        };
        rule((1..=MAX_KEY_BYTES).contains(&key), "a key has 1 to 255 bytes")?;
    }
    Ok(())
}

fn check_open(open: &[Open], held: &[BaseHeld]) -> Result<(), Refusal> {
    opens(open).and_then(|()| bases(held)).map_err(Fault::refused)
}

fn check_hello(hello: &Hello) -> Result<(), Refusal> {
    if hello.version != PROTOCOL {
        return Err(Code::Version.into());
    }
    hello_rules(hello).map_err(Fault::closes)
}

fn hello_rules(hello: &Hello) -> Result<(), Fault> {
    identity(hello.connection)?;
    if let Some(device) = hello.device {
        identity(device)?;
    }
    let short = |name: &String| name.len() <= MAX_CAPABILITY_BYTES;
    rule(
        hello.capabilities.len() <= MAX_CAPABILITIES && hello.capabilities.iter().all(short),
        "at most 32 capabilities of at most 64 bytes",
    )?;
    rule(hello.client.len() <= MAX_CLIENT_BYTES, "client has at most 64 bytes")?;
    rule(hello.writers.len() <= MAX_WRITERS, "at most 16 writers in one hello")?;
    for at in &hello.writers {
        identity(at.writer)?;
        within("a sequence", [at.oldest])?;
    }
    positions(&hello.positions)?;
    bases(&hello.bases)?;
    opens(&hello.open)
}

fn positions(positions: &[Position]) -> Result<(), Fault> {
    rule(positions.len() <= MAX_POSITIONS, "at most 256 positions: one for each shard")?;
    let mut shards = [false; MAX_POSITIONS];
    for position in positions {
        let seen = usize::try_from(position.shard()).ok().and_then(|at| shards.get_mut(at));
        let first = seen.is_none_or(|seen| !std::mem::replace(seen, true));
        rule(first, "one position for each shard: the highest seen")?;
    }
    within("a position's batch", positions.iter().map(|position| position.batch))
}

fn check_append(append: &Append) -> Result<(), Fault> {
    identity(append.writer)?;
    within("a sequence", [append.oldest])?;
    rule(append.items.len() <= MAX_ITEMS, "at most 1024 items in one append")?;
    rule(append.made.len() <= MAX_ITEMS, "at most 1024 logs in made")?;
    positions(&append.positions)?;
    within("made", append.made.iter().flat_map(|made| [made.log, made.position.batch]))?;
    let mut last = 0;
    for item in &append.items {
        let log = match item.to {
            Target::Log(log) => log,
            Target::Name(_) => 0,
        };
        within("sequence, log id and if_head", [item.seq, log, item.if_head.unwrap_or(0)])?;
        rule(item.seq > last, "sequences begin at 1 and rise within an append")?;
        rule(item.prev < item.seq, "prev lies below seq")?;
        last = item.seq;
    }
    Ok(())
}
