//! One attachment of a connection: what it is owed, and where each of its logs stands.
//!
//! Promise: pull by cursor. What is kept per reader is a cursor and a partial frame; nothing grows
//! with its lag (promise 5). Between two resets each record of a log goes out once, in offset
//! order (promise 1), and what cannot be delivered is told before anything later (promise 7).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::class::{Class, Needs, ORDER};
use super::closing::Closing;
use super::outbox::{Outbox, Wrote};
use super::outcomes::PutOff;
use super::owed::Owed;
use super::questions::{Look, Questions};
use super::readable::Readable;
use super::reads::Read;
use super::subscription::{Phase, Sub};
use crate::connection::Reached;
use crate::wire::ServerFrame;

/// One socket of a connection, as a machine. See the room's head for how it is driven.
#[derive(Debug)]
pub struct Attachment {
    /// What is on its way out.
    pub outbox: Outbox,
    /// By log; boxed, for a map sets memory aside for eleven, and most sockets have few.
    pub(super) subs: BTreeMap<u64, Box<Sub>>,
    /// Logs for which something is read, by priority; each log stands here at most once.
    pub(super) behind: BTreeMap<u8, VecDeque<u64>>,
    /// Logs whose opening is to be told, before anything is caught up.
    pub(super) announce: VecDeque<u64>,
    /// What must go out before any reset or base.
    pub(super) owed: VecDeque<Owed>,
    /// What others have done to it since nothing was owed.
    pub(super) uninvited: usize,
    pub(super) grants: Arc<dyn Readable>,
    /// When the grants end, as they say: each delivery looks at it.
    pub(super) expires: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
    /// What was received when it was last found to move, and when; none: nobody has looked.
    pub(super) looked_at: Option<(u64, u64)>,
    window: u64,
    /// What was acknowledged when a frame last found no room in the window: until that moves,
    /// another try would find none either.
    pub(super) no_room_at: Option<u64>,
    pub(super) generation: u64,
    pub(super) active: bool,
    /// Delivery is held: the token ended, or was revoked.
    pub(super) held: bool,
    pub(super) closing: bool,
    /// The kernel took nothing of a delivery: nothing is offered until the socket is writable.
    pub(super) blocked: bool,
    /// The client said it leaves.
    pub(super) leaving: bool,
    /// Whether the client was told that its token has ended.
    pub(super) told_expired: bool,
    pub(super) questions: Questions,
    /// Writers of which something was put off and has no outcome yet.
    pub(super) put_off: Vec<PutOff>,
    /// Logs that were announced before it became inactive.
    pub(super) announced: Vec<u64>,
    /// Cursors of subscriptions that ended with the socket, still to be committed.
    pub(super) last: Vec<Reached>,
    /// The last words, until they are told.
    pub(super) words: Option<Box<Closing>>,
    pub(super) epochs: u64,
}

/// What becomes of records that are offered, or that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// They are to be written now, and what became of that is to be said.
    Write,
    /// They are read again later.
    Behind,
    /// The client has them, or they are not for it.
    Skip,
}

/// What an attachment wants done.
#[derive(Debug)]
pub enum Output {
    /// These frames go to the client, as replies do: behind what waits.
    Frames(Class, Vec<ServerFrame>),
    /// A slice of a log is to be read.
    Read(Read),
    /// A look is to be taken at who has a record.
    Look(Look),
    /// The socket is to be closed, with that as its last words.
    Close(Closing),
}

impl Attachment {
    /// Of a client that has said Hello, and that is not attached yet. `window` bounds deliveries
    /// that are not acknowledged, in bytes.
    pub fn new(grants: Arc<dyn Readable>, window: u64) -> Self {
        Self {
            outbox: Outbox::default(),
            subs: BTreeMap::new(),
            behind: BTreeMap::new(),
            announce: VecDeque::new(),
            owed: VecDeque::new(),
            uninvited: 0,
            expires: grants.expires(),
            grants,
            sent: 0,
            received: 0,
            looked_at: None,
            window,
            no_room_at: None,
            generation: 0,
            active: false,
            held: false,
            closing: false,
            blocked: false,
            leaving: false,
            told_expired: false,
            questions: Questions::default(),
            put_off: Vec::new(),
            announced: Vec::new(),
            last: Vec::new(),
            words: None,
            epochs: 0,
        }
    }

    /// The generation that commands of this attachment name.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether its connection holds a channel.
    pub const fn active(&self) -> bool {
        self.active
    }

    /// Bytes of delivery sent, and acknowledged.
    pub const fn flow(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Takes note of a log's records up to `end` without being offered them: they are read later.
    /// Whether it is behind them.
    pub fn hold_back(&mut self, log: u64, end: u64) -> bool {
        let Some(sub) = self.subs.get_mut(&log) else { return false };
        sub.offered = sub.offered.max(end);
        if self.closing || !matches!(sub.phase, Phase::Live) || sub.cursor >= end {
            return false;
        }
        self.fall_behind(log);
        true
    }

    /// Offers records `base..end` of a log, of that size as flow control counts it. Each follower
    /// of a log is offered all of its records from [`super::Followed::offered`] on, in order, once.
    /// The size is asked for only where the records may be written: where nobody stands there, as
    /// of a log that is held, no frame need be made.
    pub fn offer(
        &mut self,
        now: u64,
        log: u64,
        (base, end): (u64, u64),
        size: impl FnOnce() -> u64,
    ) -> Offer {
        let readable = self.readable(now);
        let Some(sub) = self.subs.get_mut(&log) else { return Offer::Skip };
        sub.offered = sub.offered.max(end);
        if self.closing || !matches!(sub.phase, Phase::Live) || sub.cursor >= end {
            return Offer::Skip;
        }
        if sub.cursor != base || !readable || !self.fits(size()) {
            self.fall_behind(log);
            return Offer::Behind;
        }
        if self.outbox.busy() {
            self.blocked = true;
            self.fall_behind(log);
            return Offer::Behind;
        }
        Offer::Write
    }

    /// Offered records up to `end` were written, as far as the kernel took them.
    pub fn wrote(&mut self, log: u64, end: u64, size: u64, wrote: Wrote) {
        match wrote {
            Wrote::All | Wrote::Waits => {
                self.sent += size;
                if let Some(sub) = self.subs.get_mut(&log) {
                    sub.cursor = end;
                }
            }
            Wrote::Nothing | Wrote::Full => {
                self.blocked = true;
                self.fall_behind(log);
            }
            Wrote::Broken => {
                self.gone();
            }
        }
    }

    /// Records up to `end` will not be offered: who waits for them reads for itself. Whether it
    /// does.
    pub fn missed(&mut self, log: u64, end: u64) -> bool {
        let Some(sub) = self.subs.get_mut(&log) else { return false };
        sub.offered = sub.offered.max(end);
        let waits = matches!(sub.phase, Phase::Live);
        if waits {
            self.fall_behind(log);
        }
        waits
    }

    /// The kernel takes bytes again.
    pub const fn writable(&mut self) {
        self.blocked = false;
    }

    /// Whether the kernel took nothing of a delivery, and has not said that it takes bytes again.
    pub const fn blocked(&self) -> bool {
        self.blocked
    }

    /// Whether something waits for the kernel to take bytes again.
    pub fn waits(&self) -> bool {
        self.outbox.busy() || self.blocked
    }

    /// What is to be done next; none: nothing, until something comes or the socket is writable.
    pub fn poll(&mut self, now: u64) -> Option<Output> {
        if let Some(closing) = self.last_words() {
            return Some(Output::Close(closing));
        }
        if self.closing || self.waits() {
            return None;
        }
        self.readable(now);
        for (classes, needs) in ORDER {
            for class in classes {
                if self.has(*class)
                    && self.may(needs)
                    && let Some(output) = self.next(*class)
                {
                    return Some(output);
                }
            }
        }
        None
    }

    /// Whether [`Attachment::poll`] may have something to do.
    pub fn wants_turn(&self) -> bool {
        let ready = |(classes, needs): &(&[Class], Needs)| {
            classes.iter().any(|class| self.has(*class)) && self.may(*needs)
        };
        self.words.is_some() || (!self.closing && !self.waits() && ORDER.iter().any(ready))
    }

    /// Whether anything of a class is there.
    fn has(&self, class: Class) -> bool {
        match class {
            // It never waits here: it is written at once, or waits in the outbox.
            Class::Reply => false,
            Class::Owed => !self.owed.is_empty(),
            Class::Question => self.questions.wait(),
            Class::Opening => !self.announce.is_empty(),
            Class::Base | Class::Record => !self.behind.is_empty(),
        }
    }

    /// Whether a class that needs that may go.
    fn may(&self, needs: Needs) -> bool {
        match needs {
            Needs::Nothing => true,
            Needs::Token => self.delivers(),
            Needs::Window => self.delivers() && self.open(),
        }
    }

    /// The next output of a class; none: what was there has become void.
    fn next(&mut self, class: Class) -> Option<Output> {
        let frames = |frames| Output::Frames(class, frames);
        match class {
            Class::Reply => None,
            Class::Owed => self.next_owed().map(frames),
            Class::Question => self.next_look().map(Output::Look),
            Class::Opening => self.next_openings().map(frames),
            Class::Base | Class::Record => self.next_read().map(Output::Read),
        }
    }

    /// Whether delivery is allowed at this moment: promise 11. A token that has ended holds it
    /// until there are new grants.
    pub fn readable(&mut self, now: u64) -> bool {
        self.held |= self.expires != 0 && now >= self.expires;
        self.delivers()
    }

    const fn delivers(&self) -> bool {
        self.active && !self.held && !self.closing && !self.leaving
    }

    /// Whether the window has room; an empty one takes a frame of any size.
    pub(super) const fn fits(&self, size: u64) -> bool {
        self.sent == self.received || self.sent - self.received + size <= self.window
    }

    /// Whether the window may have room for something.
    fn open(&self) -> bool {
        let some = self.sent == self.received || self.sent - self.received < self.window;
        some && self.no_room_at != Some(self.received)
    }
}
