//! Where a reader begins in one log: the cursor it is served from, and what it is told first.
//!
//! One function decides it for attach, clone, subscribe and seek alike, so that the same word of a
//! client means the same everywhere. Rules: `docs/protocol.md` on opening a log.
//!
//! A reader that was cut off in a base goes on where it was, as long as that comes to the same
//! state: the parts of a snapshot that is still kept, or the keys of `latest` behind the last one
//! it has. Of the keys before that one whatever has changed since lies in the records from the
//! base's offset on, and those are sent in any case.

use super::row::Sub;
use crate::log::{LogRow, SnapshotAt};
use crate::wire::{
    BaseHeld, Cursor, Gap, GapReason, Position, ResetReason, SnapshotRule, Start, Upto,
};

/// A delta is sent, though a snapshot is newer, while it is at most this many records.
pub const CHEAP_DELTA: u64 = 1_000;

/// A base under `latest` that was cut goes on while at most so many records have come since it
/// began: they are sent behind it, and at some length a new base costs less.
pub const LONG_DELTA: u64 = 100_000;

/// The base that is sent before records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BaseFrom {
    /// The newest record per key below this offset, read from the store.
    Latest(u64),
    /// A client-made snapshot.
    Client(SnapshotAt),
}

impl BaseFrom {
    /// The offset whose state it is.
    pub const fn offset(&self) -> u64 {
        match self {
            Self::Latest(offset) => *offset,
            Self::Client(snapshot) => snapshot.offset,
        }
    }
}

/// How a log is opened for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The log id.
    pub log: u64,
    /// Its name.
    pub name: String,
    /// How its state is kept.
    pub rule: SnapshotRule,
    /// The subscription's priority.
    pub priority: u8,
    /// First offset kept.
    pub start: u64,
    /// Next offset to be written.
    pub head: u64,
    /// Offset of the first record to send.
    pub cursor: u64,
    /// The offset of the newest client-made snapshot, where the rule is that clients make them.
    pub snapshot: u64,
    /// The reader may show the log when its cursor has reached this.
    pub complete: u64,
    /// Why it must drop what it holds, if it must.
    pub reset: Option<ResetReason>,
    /// The base it gets first.
    pub base: Option<BaseFrom>,
    /// What the reader holds of that base: it goes on from there, and is not reset.
    pub upto: Option<Upto>,
    /// The range it will never get.
    pub gap: Option<Gap>,
    /// It was subscribed already: the cursor stays where the socket has it.
    pub again: bool,
    /// It is told and not delivered: its client has not opened it.
    pub held: bool,
    /// The subscription's opening; whoever makes the subscription gives the number.
    pub opening: u64,
    /// Where the log was made; whoever knows the eras says it.
    pub made: Option<Position>,
}

/// What a reader brings and wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// What it says it holds.
    pub have: Option<Cursor>,
    /// A base that it has begun.
    pub begun: Option<BaseHeld>,
    /// Where to begin when it holds nothing.
    pub start: Start,
    /// What its row has committed, if it has a subscription.
    pub committed: Option<u64>,
    /// Its priority.
    pub priority: u8,
    /// Why a base is sent to one that holds nothing: new, cloned or restored.
    pub because: ResetReason,
    /// Of which history what it holds is.
    pub history: History,
}

/// Of which history a client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    /// This one.
    #[default]
    This,
    /// Another one: log ids and offsets that it states mean nothing here.
    Other,
}

/// Decides it.
pub fn open(log: u64, row: &LogRow, wanted: &Wanted) -> Opened {
    let mut opened = at_head(log, row, wanted.priority);
    match wanted.have {
        Some(_) if wanted.history == History::Other => {
            from_state(&mut opened, row, ResetReason::OtherHistory);
        }
        Some(have) if have.log != log => from_state(&mut opened, row, ResetReason::OtherLog),
        Some(have) if have.next > row.head => from_state(&mut opened, row, ResetReason::PastHead),
        Some(have) => from_held(&mut opened, row, have.next, wanted.because),
        None => from_start(&mut opened, row, wanted),
    }
    opened
}

/// Tells of a log that is held: where it stands, and where who goes on from its cursor would begin.
pub(super) fn hold(log: u64, row: &LogRow, sub: &Sub) -> Opened {
    let cursor = sub.cursor.clamp(row.start, row.head);
    Opened { cursor, held: true, ..at_head(log, row, sub.priority) }
}

/// A reader that begins at the head.
fn at_head(log: u64, row: &LogRow, priority: u8) -> Opened {
    Opened {
        log,
        name: row.name.clone(),
        rule: row.rule,
        priority,
        start: row.start,
        head: row.head,
        cursor: row.head,
        snapshot: match row.rule {
            SnapshotRule::Client => row.newest_snapshot().unwrap_or(0),
            SnapshotRule::None | SnapshotRule::Latest => 0,
        },
        complete: row.head,
        reset: None,
        base: None,
        upto: None,
        gap: None,
        again: false,
        held: false,
        opening: 0,
        made: None,
    }
}

/// The reader holds everything below `next`.
fn from_held(opened: &mut Opened, row: &LogRow, next: u64, because: ResetReason) {
    let newest = row.newest_snapshot();
    let missing = next < row.start;
    let cheap = row.head - next <= CHEAP_DELTA;
    match newest {
        Some(_) if missing => from_state(opened, row, ResetReason::Trimmed),
        Some(at) if at > next && !cheap => from_state(opened, row, because),
        _ => from_offset(opened, row, next),
    }
}

/// Replay from an offset; what is no longer kept is a gap.
fn from_offset(opened: &mut Opened, row: &LogRow, offset: u64) {
    opened.cursor = offset.max(row.start);
    if offset < row.start {
        let reason = GapReason::Trimmed;
        opened.gap = Some(Gap { log: opened.log, from: offset, to: row.start, reason });
    }
}

fn from_start(opened: &mut Opened, row: &LogRow, wanted: &Wanted) {
    match (wanted.start, wanted.committed) {
        (Start::Committed, Some(committed)) => from_offset(opened, row, committed.min(row.head)),
        (Start::State | Start::Committed, _) => {
            from_state(opened, row, wanted.because);
            if let Some(begun) = wanted.begun.as_ref().filter(|begun| begun.log == opened.log)
                && wanted.history == History::This
            {
                go_on(opened, row, begun);
            }
        }
        (Start::Earliest, _) => opened.cursor = row.start,
        (Start::End, _) => opened.cursor = row.head,
        (Start::Offset(offset), _) if offset > row.head => {
            from_state(opened, row, ResetReason::PastHead);
        }
        (Start::Offset(offset), _) => from_offset(opened, row, offset),
        (Start::Last(records), _) => {
            opened.cursor = row.start.max(row.head.saturating_sub(records))
        }
        // Times are looked up where records can be read, and come here as offsets.
        (Start::Time(_), _) => opened.cursor = row.start,
    }
}

/// The newest base and what follows it; without one, all records, or a gap and what is kept.
fn from_state(opened: &mut Opened, row: &LogRow, reason: ResetReason) {
    opened.reset = Some(reason);
    let base = match row.rule {
        SnapshotRule::Latest => Some(BaseFrom::Latest(row.head)),
        SnapshotRule::Client => row.snapshots.last().cloned().map(BaseFrom::Client),
        SnapshotRule::None => None,
    };
    match base {
        Some(base) => {
            opened.cursor = base.offset();
            opened.base = Some(base);
        }
        None => from_offset(opened, row, 0),
    }
}

/// In place of the base that it would be given the reader gets the rest of the one it has begun,
/// where that can still be had.
fn go_on(opened: &mut Opened, row: &LogRow, begun: &BaseHeld) {
    // Under another rule keys may have gone without a record that says so.
    if begun.offset < row.ruled() {
        return;
    }
    let base = match (&opened.base, &begun.upto) {
        (Some(BaseFrom::Latest(head)), Upto::Key(_)) => {
            let behind = head.checked_sub(begun.offset);
            let kept = row.start <= begun.offset;
            let rest = kept && behind.is_some_and(|records| records <= LONG_DELTA);
            rest.then_some(BaseFrom::Latest(begun.offset))
        }
        (Some(BaseFrom::Client(_)), Upto::Parts(parts)) => {
            let same = |known: &&SnapshotAt| known.offset == begun.offset && *parts < known.parts;
            row.snapshots.iter().find(same).cloned().map(BaseFrom::Client)
        }
        _ => None,
    };
    if let Some(base) = base {
        (opened.cursor, opened.reset) = (base.offset(), None);
        (opened.base, opened.upto) = (Some(base), Some(begun.upto.clone()));
    }
}
