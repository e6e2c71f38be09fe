//! What clients acknowledge: window given back, and cursors on their way to a commit.
//!
//! Promise: a cursor is handed on only for the opening of its log that the client had heard of
//! when it named it; so no acknowledgement undoes a move backwards. What could not be committed
//! goes back and is taken again.

use super::Attachment;
use super::subscription::{Phase, Sub};
use crate::connection::Reached;
use crate::wire::{Code, Cursor, Refusal};

impl Sub {
    /// What the client has reached and no commit has carried yet.
    pub(super) fn reached(&self, log: u64) -> Option<Reached> {
        Some(Reached { log, next: self.acked?, opening: self.opening })
    }
}

impl Attachment {
    /// The client acknowledged delivery: gives window back, notes cursors to commit. Returns
    /// whether cursors moved, and those that lie past what was sent. They are left aside: after a
    /// move backwards the client may not have heard of it yet, so only who knows the head can tell
    /// whether they are wrong.
    ///
    /// # Errors
    /// `bad_offset` when more is acknowledged than was sent.
    pub fn acknowledge(
        &mut self,
        received: u64,
        cursors: &[Cursor],
    ) -> Result<(bool, Vec<Cursor>), Refusal> {
        if received > self.sent {
            let message = "more was acknowledged than was sent";
            return Err(Refusal::because(Code::BadOffset, message));
        }
        self.received = self.received.max(received);
        let (mut moved, mut beyond) = (false, Vec::new());
        for cursor in cursors {
            // Of one that is held or has ended there is nothing to acknowledge.
            let delivered = |sub: &&mut Box<Sub>| !matches!(sub.phase, Phase::Held | Phase::Ended);
            let Some(sub) = self.subs.get_mut(&cursor.log).filter(delivered) else { continue };
            if received <= sub.since && cursor.next <= sub.cursor {
                continue;
            }
            if cursor.next > sub.cursor {
                beyond.push(*cursor);
            } else if sub.acked.is_none_or(|known| cursor.next > known) {
                sub.acked = Some(cursor.next);
                moved = true;
            }
        }
        Ok((moved, beyond))
    }

    /// Takes what waits for a commit.
    pub fn take_acked(&mut self) -> Vec<Reached> {
        let take = |(log, sub): (&u64, &mut Box<Sub>)| {
            let reached = sub.reached(*log);
            sub.acked = None;
            reached
        };
        self.subs.iter_mut().filter_map(take).collect()
    }

    /// What could not be committed goes back, to be taken again.
    pub fn put_back(&mut self, reached: &[Reached]) {
        for Reached { log, next, opening } in reached.iter().copied() {
            if let Some(sub) = self.subs.get_mut(&log).filter(|sub| sub.opening == opening) {
                sub.acked = sub.acked.max(Some(next));
            }
        }
    }

    /// What its client had reached in subscriptions that ended with the socket, for its last
    /// commit.
    pub fn take_last(&mut self) -> Vec<Reached> {
        std::mem::take(&mut self.last)
    }

    /// Whether its client works off more: it has since it was last found to, or that was less than
    /// `time` ago, in milliseconds of whichever clock `now` is of. The first time it may only just
    /// have come, and counts as one that does.
    pub fn progressed(&mut self, now: u64, time: u64) -> bool {
        let received = self.received;
        match self.looked_at {
            Some((before, since)) if received <= before => now.saturating_sub(since) < time,
            _ => {
                self.looked_at = Some((received, now));
                true
            }
        }
    }
}
