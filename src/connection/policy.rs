//! Who is downgraded: one pure function over what is known of active connections.
//!
//! The order, told to users in `docs/connections.md`: it takes first what costs most and is missed
//! least. A newcomer never takes the slot of a connection that is attached and visible; a hidden
//! newcomer takes only a detached one, so that two hidden tabs never chase each other. The last
//! active connection of a user, from which others are cloned, goes last.

use std::cmp::Reverse;

use crate::wire::{Id, Reason};

/// What is known of one active connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The connection to be downgraded.
    pub connection: Id,
    /// Its generation, so that a proposal that has gone stale does nothing.
    pub generation: u64,
    /// Whether a socket is there.
    pub attached: bool,
    /// Whether someone looks at it.
    pub visible: bool,
    /// Since when it is attached or detached, milliseconds since 1970.
    pub since: u64,
    /// Records it has not committed yet, over all its logs.
    pub lag: u64,
    /// Bytes that logs keep for it alone or with others.
    pub retained: u64,
    /// Slots that its device holds.
    pub device_slots: u32,
    /// Active connections of its user, itself included.
    pub user_slots: u32,
}

/// Bounds that an active connection must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Longest time detached, in milliseconds.
    pub detached: u64,
    /// Most lag, in records.
    pub lag: u64,
    /// Most retained bytes.
    pub retained: u64,
}

/// Why a victim is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A connection of the same user wants a slot.
    Newcomer {
        /// Whether someone looks at it.
        visible: bool,
    },
    /// The node or the cluster runs short of slots.
    NodeSlots,
    /// The node runs short of memory.
    Memory,
}

/// Whether a connection has outlived its bounds, whatever the need of others.
pub fn outlived(one: &Candidate, bounds: &Bounds, now: u64) -> Option<Reason> {
    if !one.attached && now.saturating_sub(one.since) > bounds.detached {
        return Some(Reason::Detached);
    }
    if one.lag > bounds.lag {
        return Some(Reason::Lag);
    }
    (one.retained > bounds.retained).then_some(Reason::RetainedBytes)
}

fn allowed(one: &Candidate, need: Need) -> bool {
    match need {
        Need::Newcomer { visible } => !one.attached || (visible && !one.visible),
        Need::NodeSlots => !one.attached || !one.visible,
        Need::Memory => true,
    }
}

/// Those among whom [`choose`] would decide by retained bytes, lag or age.
pub fn shortlist(candidates: &[Candidate], need: Need) -> Vec<Candidate> {
    let may_go = || candidates.iter().filter(|one| allowed(one, need));
    let first = may_go().map(class).min();
    may_go().filter(|one| Some(class(one)) == first).copied().collect()
}

/// The one that is missed least among those that may go, or none.
pub fn choose(candidates: &[Candidate], need: Need) -> Option<Candidate> {
    candidates.iter().filter(|one| allowed(one, need)).min_by_key(|one| rank(one)).copied()
}

/// Smaller goes first: the last of a user last; detached before hidden before visible; from the
/// device with most slots; with most retained, most lag; longest in its state; then by id.
fn rank(one: &Candidate) -> impl Ord + use<> {
    let measured = (Reverse(one.retained), Reverse(one.lag), one.since, one.connection);
    (class(one), measured)
}

/// The part of the rank that costs nothing to know.
fn class(one: &Candidate) -> (Standing, Reverse<u32>) {
    (standing(one), Reverse(one.device_slots))
}

/// The part of the rank that counts most, smaller goes first: whether it is the last of its user;
/// then detached, hidden, visible.
pub type Standing = (bool, u8);

/// How an active connection stands.
pub const fn standing(one: &Candidate) -> Standing {
    let seen = if !one.attached {
        0
    } else if !one.visible {
        1
    } else {
        2
    };
    (one.user_slots <= 1, seen)
}

/// Takes victims from all of a node's connections though only a page of them is known at a time:
/// whoever stands better than one that was seen in the last round, or in this one so far, is left
/// alone.
#[derive(Debug)]
pub struct Rounds {
    last: Standing,
    seen: Option<Standing>,
}

/// Nobody goes before these.
const FIRST: Standing = (false, 0);

impl Default for Rounds {
    fn default() -> Self {
        Self { last: FIRST, seen: None }
    }
}

impl Rounds {
    /// A new round begins. After one that saw nobody, only those go who go first of all.
    pub fn begin(&mut self) {
        self.last = self.seen.take().unwrap_or(FIRST);
    }

    /// The one of a page that goes, if one does.
    pub fn choose(&mut self, page: &[Candidate], need: Need) -> Option<Candidate> {
        let first = page.iter().filter(|one| allowed(one, need)).map(standing).min();
        self.seen = self.seen.into_iter().chain(first).min();
        let due = self.seen.map_or(self.last, |seen| seen.min(self.last));
        choose(page, need).filter(|one| standing(one) <= due)
    }
}
