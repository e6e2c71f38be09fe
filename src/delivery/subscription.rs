//! Subscriptions of one socket: how far each has come, how they begin and end.
//!
//! Promise: grants are looked at under the very call that takes a subscription in, so that none
//! begins that they do not cover (promise 11); where one ends, whoever waited for its opening is
//! answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Attachment;
use super::readable::Readable;
use super::reads::Slice;
use crate::connection::Opened;
use crate::wire::{Cursor, Refusal};

/// How far a subscription has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its opening is to be told first.
    Announce { opened: Box<Opened>, request: u32 },
    /// Its client has not opened it: nothing is delivered, and it costs no read.
    Held,
    /// It is behind: this is read for it.
    Behind(Slice),
    /// Caught up: what is offered is written to it.
    Live,
    /// Nothing more comes of it; that it ended is about to be told.
    Ended,
}

/// One subscription of a socket.
#[derive(Debug)]
pub(super) struct Sub {
    /// The name of its log, shared by all who follow it.
    pub name: Arc<str>,
    /// The follower's number, which whoever holds the log's followers gave.
    pub place: u32,
    pub priority: u8,
    /// The client has heard of the subscription: its log id was announced.
    pub told: bool,
    /// Next offset to send.
    pub cursor: u64,
    /// All records from here on are offered; those below it are read.
    pub offered: u64,
    pub phase: Phase,
    /// Told apart from an earlier subscription to the same log.
    pub epoch: u64,
    /// The fold's number for the opening that set its cursor; commits name it.
    pub opening: u64,
    /// Bytes of delivery that were sent when the opening was told. A client that has worked off
    /// no more may not have heard of it, and then its word on this log is of the time before.
    pub since: u64,
    /// What the client has acknowledged and no commit has carried yet.
    pub acked: Option<u64>,
}

/// A log as those know it who offer its records.
#[derive(Debug, Clone)]
pub struct Followed {
    /// Its name: what grants are asked for.
    pub name: Arc<str>,
    /// The number that this follower has among those of the log.
    pub place: u32,
    /// From here on its records are offered to this follower.
    pub offered: u64,
}

/// A subscription that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// The log.
    pub log: u64,
    /// The follower's number, as [`Followed`] gave it.
    pub place: u32,
    /// Whether the client had heard of it.
    pub told: bool,
}

fn over(log: u64, sub: &Sub) -> Over {
    Over { log, place: sub.place, told: sub.told }
}

impl Attachment {
    /// Takes a subscription in, which begins by telling how it is opened, unless the grants do not
    /// cover the log: then false. `told`: the client knows the log id from an earlier one, which is
    /// over by now.
    pub fn subscribe(&mut self, opened: Opened, request: u32, log: Followed, told: bool) -> bool {
        if !self.grants.may_read(&log.name) {
            return false;
        }
        let Followed { name, place, offered } = log;
        let epoch = self.next_epoch();
        let Opened { log, priority, cursor, opening, .. } = opened;
        let phase = Phase::Announce { opened: Box::new(opened), request };
        let sub = Sub {
            name,
            place,
            priority,
            told,
            cursor,
            offered,
            phase,
            epoch,
            opening,
            since: u64::MAX,
            acked: None,
        };
        self.subs.insert(log, Box::new(sub));
        self.announce.push_back(log);
        true
    }

    /// Ends subscriptions; those that there are not are passed over. Where an opening was still
    /// to be told, its request is refused by `why`.
    pub fn end(&mut self, logs: &[u64], why: &Refusal) -> Vec<Over> {
        let take = |log: &u64| Some((*log, self.subs.remove(log)?));
        let subs: BTreeMap<_, _> = logs.iter().filter_map(take).collect();
        self.forget_turns(|log| subs.contains_key(&log));
        self.refuse_owed(subs.values(), why);
        subs.iter().map(|(log, sub)| over(*log, sub)).collect()
    }

    /// Ends all subscriptions, for the connection is inactive or the socket is gone: what the
    /// client has reached in them is kept for its last commit. Requests that wait are refused by
    /// `why`.
    pub fn end_all(&mut self, why: &Refusal) -> Vec<Over> {
        self.behind.clear();
        self.announce.clear();
        let subs = std::mem::take(&mut self.subs);
        if !self.closing {
            self.refuse_owed(subs.values().filter(|sub| sub.asked()), why);
        }
        // A socket may be seen off more than once, and later there are none of these left.
        let reached = subs.iter().filter_map(|(log, sub)| sub.reached(*log));
        self.last.retain(|earlier| !subs.contains_key(&earlier.log));
        self.last.extend(reached);
        subs.iter().map(|(log, sub)| over(*log, sub)).collect()
    }

    /// The connection is attached by that generation: whether it holds a channel.
    pub const fn attached(&mut self, generation: u64, active: bool) {
        (self.generation, self.active) = (generation, active);
    }

    /// The connection holds a channel again. Its logs are opened anew, so nothing of before can be
    /// committed.
    pub fn activated(&mut self, generation: u64) {
        self.attached(generation, true);
        self.last = Vec::new();
    }

    /// The connection holds a channel no longer; false where that is old news. Its subscriptions
    /// are to be ended.
    pub fn downgraded(&mut self, generation: u64) -> bool {
        if self.generation >= generation {
            return false;
        }
        self.attached(generation, false);
        let told = self.subs.iter().filter(|(_, sub)| sub.told);
        self.announced = told.map(|(log, _)| *log).collect();
        true
    }

    /// Those of the logs that were announced before it became inactive; each is told once.
    pub fn take_announced(&mut self, logs: &[u64]) -> Vec<u64> {
        let known = |log: &u64| self.announced.binary_search(log).is_ok();
        let mut found: Vec<u64> = logs.iter().copied().filter(known).collect();
        found.sort_unstable();
        found.dedup();
        if !found.is_empty() {
            self.announced.retain(|log| found.binary_search(log).is_err());
        }
        found
    }

    /// What was announced before it became inactive means nothing any more.
    pub fn forget_announced(&mut self) {
        self.announced = Vec::new();
    }

    /// New grants are in force: logs that they do not cover, of which nothing more is sent, to be
    /// unsubscribed.
    pub fn regrant(&mut self, grants: Arc<dyn Readable>) -> Vec<u64> {
        self.held = false;
        self.told_expired = false;
        self.expires = grants.expires();
        let lost = |sub: &Sub| !grants.may_read(&sub.name);
        let lost: Vec<u64> =
            self.subs.iter().filter(|(_, sub)| lost(sub)).map(|(log, _)| *log).collect();
        self.grants = grants;
        self.announce.retain(|log| !lost.contains(log));
        for log in &lost {
            let epoch = self.next_epoch();
            // An opening that is still to be told is answered when the subscription ends.
            if let Some(sub) = self.subs.get_mut(log).filter(|sub| sub.owed().is_none()) {
                (sub.epoch, sub.phase, sub.acked) = (epoch, Phase::Ended, None);
            }
        }
        lost
    }

    /// Whether the token has ended, and the client was told so before; none: it is in force. From
    /// now on it counts as told.
    pub fn token_ended(&mut self, now: u64) -> Option<bool> {
        let ended = self.expires != 0 && now >= self.expires;
        ended.then(|| std::mem::replace(&mut self.told_expired, true))
    }

    /// When the token in force ends; 0: never.
    pub const fn expires(&self) -> u64 {
        self.expires
    }

    /// The grants in force.
    pub fn grants(&self) -> &Arc<dyn Readable> {
        &self.grants
    }

    /// The name of a log that is subscribed to.
    pub fn name_of(&self, log: u64) -> Option<&Arc<str>> {
        self.subs.get(&log).map(|sub| &sub.name)
    }

    /// Whether it has caught up with a log.
    pub fn live(&self, log: u64) -> bool {
        self.subs.get(&log).is_some_and(|sub| matches!(sub.phase, Phase::Live))
    }

    /// Next offset to send, of each log.
    pub fn cursors(&self) -> impl Iterator<Item = Cursor> + '_ {
        self.subs.iter().map(|(log, sub)| Cursor { log: *log, next: sub.cursor })
    }

    /// How many logs it is behind on.
    pub fn behind(&self) -> usize {
        self.behind.values().map(VecDeque::len).sum()
    }

    /// A log's subscription is read on from its cursor.
    pub(super) fn fall_behind(&mut self, log: u64) {
        if let Some(sub) = self.subs.get_mut(&log) {
            if matches!(sub.phase, Phase::Live) {
                sub.phase = Phase::Behind(Slice::Records);
            }
            self.behind.entry(sub.priority).or_default().push_back(log);
        }
    }

    /// Takes logs off the lists of those that wait for a turn.
    pub(super) fn forget_turns(&mut self, gone: impl Fn(u64) -> bool) {
        self.announce.retain(|known| !gone(*known));
        for behind in self.behind.values_mut() {
            behind.retain(|known| !gone(*known));
        }
        self.tidy_behind();
    }

    /// Takes away priorities at which nothing is behind, and the map's memory with the last.
    pub(super) fn tidy_behind(&mut self) {
        self.behind.retain(|_, logs| !logs.is_empty());
        if self.behind.is_empty() {
            self.behind = BTreeMap::new();
        }
    }

    const fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }
}
