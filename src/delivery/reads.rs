//! Catch-up: what is to be read for a subscription that is behind, and what becomes of it.
//!
//! Promise: pull by cursor. What a read found counts only where the subscription still stands where
//! it was read for; a gap is told before anything later of its log (promise 7). A log that could
//! send nothing has not had its turn: where the window takes a few frames each time, the same log
//! would else find it full again and again.

use super::Attachment;
use super::attachment::Offer;
use super::outbox::Wrote;
use super::owed::Owed;
use super::subscription::{Phase, Sub};
use crate::connection::Opened;
use crate::log::SnapshotAt;
use crate::wire::{Gap, GapReason, ServerFrame};

/// What is read for a subscription next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slice {
    /// A page of a `latest` base: after this key.
    Latest {
        /// The offset whose state it is.
        offset: u64,
        /// The key that was sent last.
        after: Option<Vec<u8>>,
    },
    /// A part of a client-made base.
    Base {
        /// The snapshot.
        snapshot: Box<SnapshotAt>,
        /// The part.
        part: u32,
    },
    /// Records, from the cursor on.
    Records,
}

/// A slice of one log that is to be read, outside of any lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The log.
    pub log: u64,
    /// Next offset to send.
    pub cursor: u64,
    /// What is read.
    pub slice: Slice,
    epoch: u64,
}

/// What was found where there was nothing to deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A range that is no longer kept, up to here.
    Gap(u64),
    /// There is nothing more at the moment.
    Nothing,
    /// There will be nothing more: the log is gone, and that is about to be told.
    Over,
    /// The base is no longer there (a newer snapshot took its place, or another rule holds): the
    /// log is opened anew.
    Reopen(Box<Opened>),
}

impl Attachment {
    /// The next slice to read: by priority, then round robin.
    pub(super) fn next_read(&mut self) -> Option<Read> {
        let read = loop {
            let (priority, log) = {
                let (priority, logs) = self.behind.iter_mut().next()?;
                (*priority, logs.pop_front())
            };
            let Some(log) = log else {
                self.behind.remove(&priority);
                continue;
            };
            let Some(sub) = self.subs.get(&log) else { continue };
            let Phase::Behind(slice) = &sub.phase else { continue };
            let (epoch, cursor, slice) = (sub.epoch, sub.cursor, slice.clone());
            break Read { log, cursor, slice, epoch };
        };
        self.tidy_behind();
        Some(read)
    }

    /// The subscription that a read was for, if it still stands there.
    fn read_for(&mut self, read: &Read) -> Option<&mut Box<Sub>> {
        self.subs.get_mut(&read.log).filter(|sub| sub.epoch == read.epoch)
    }

    /// A read found nothing to deliver.
    pub fn found(&mut self, read: &Read, found: Found) {
        let Some(sub) = self.read_for(read) else { return };
        match found {
            Found::Nothing => self.settle(read),
            // It costs no turn until it is ended.
            Found::Over => sub.phase = Phase::Ended,
            Found::Gap(to) => {
                sub.cursor = to;
                let (log, from, reason) = (read.log, read.cursor, GapReason::Trimmed);
                self.wait_again(read.log);
                let gap = ServerFrame::Gap(Gap { log, from, to, reason });
                self.owe(Owed::Frame(Box::new(gap)));
            }
            Found::Reopen(mut opened) => {
                (opened.priority, sub.cursor) = (sub.priority, opened.cursor);
                sub.phase = Phase::Announce { opened, request: 0 };
                self.announce.push_back(read.log);
            }
        }
    }

    /// A read found something to deliver, of that size as flow control counts it: whether it is
    /// written now. `Behind`: it is read again later. `Skip`: it is of no use any more.
    pub fn offer_read(&mut self, now: u64, read: &Read, size: u64) -> Offer {
        let readable = self.readable(now);
        if self.read_for(read).is_none() {
            return Offer::Skip;
        }
        if !readable {
            self.keep_turn(read.log);
            return Offer::Behind;
        }
        if !self.fits(size) {
            self.no_room_at = Some(self.received);
            self.keep_turn(read.log);
            return Offer::Behind;
        }
        Offer::Write
    }

    /// What a read found was written: how much the kernel took, the cursor after it, and what is
    /// read next.
    pub fn wrote_read(&mut self, read: &Read, size: u64, (cursor, next): (u64, Slice), to: Wrote) {
        match to {
            Wrote::All | Wrote::Waits => {
                self.sent += size;
                let Some(sub) = self.read_for(read) else { return };
                sub.cursor = cursor;
                let may_be_done = next == Slice::Records;
                sub.phase = Phase::Behind(next);
                if may_be_done {
                    self.settle(read);
                } else {
                    self.wait_again(read.log);
                }
            }
            Wrote::Nothing | Wrote::Full => {
                self.blocked = true;
                self.keep_turn(read.log);
            }
            Wrote::Broken => {
                self.gone();
            }
        }
    }

    fn wait_again(&mut self, log: u64) {
        if let Some(sub) = self.subs.get(&log) {
            self.behind.entry(sub.priority).or_default().push_back(log);
        }
    }

    fn keep_turn(&mut self, log: u64) {
        if let Some(sub) = self.subs.get(&log) {
            self.behind.entry(sub.priority).or_default().push_front(log);
        }
    }

    /// Makes a subscription live if it has caught up with what is offered; else it waits for its
    /// next turn.
    fn settle(&mut self, read: &Read) {
        let Some(sub) = self.read_for(read) else { return };
        if sub.cursor >= sub.offered {
            sub.phase = Phase::Live;
        } else {
            self.wait_again(read.log);
        }
    }
}
