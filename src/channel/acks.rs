//! What clients acknowledge: window given back, and cursors on their way to a commit.
//!
//! Promise: a cursor is handed on only for the opening of its log that the client had heard of
//! when it named it; so no acknowledgement undoes a move backwards. What could not be committed
//! goes back and is taken again.

use super::socket::{Phase, Socket, Sub};
use crate::connection::{Progress, Reached};
use crate::wire::{Code, Cursor, Refusal};

impl Sub {
    /// What the client has reached and no commit has carried yet.
    pub(super) fn reached(&self, log: u64) -> Option<Reached> {
        Some(Reached { log, next: self.acked?, opening: self.opening })
    }
}

impl Socket {
    /// The client acknowledged delivery: gives window back, notes cursors to commit. Returns
    /// whether cursors moved, and those that lie past what was sent. They are left aside: after a
    /// move backwards the client may not have heard of it yet, so only who knows the head can tell
    /// whether they are wrong.
    ///
    /// # Errors
    /// `bad_offset` when more is acknowledged than was sent.
    pub fn acknowledge(
        &self,
        received: u64,
        cursors: &[Cursor],
    ) -> Result<(bool, Vec<Cursor>), Refusal> {
        let mut inner = self.lock();
        if received > inner.sent {
            let message = "more was acknowledged than was sent";
            return Err(Refusal::because(Code::BadOffset, message));
        }
        inner.received = inner.received.max(received);
        let (mut moved, mut beyond) = (false, Vec::new());
        for cursor in cursors {
            // Of one that is held nothing was delivered: there is nothing to acknowledge.
            let delivered = |sub: &&mut Box<Sub>| !matches!(sub.phase, Phase::Held);
            let Some(sub) = inner.subs.get_mut(&cursor.log).filter(delivered) else { continue };
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
    pub fn take_acked(&self) -> Progress {
        let mut inner = self.lock();
        let generation = inner.generation;
        let take = |(log, sub): (&u64, &mut Box<Sub>)| {
            let reached = sub.reached(*log);
            sub.acked = None;
            reached
        };
        let reached = inner.subs.iter_mut().filter_map(take).collect();
        Progress { connection: self.connection, generation, reached }
    }

    /// What could not be committed goes back, to be taken again.
    pub fn put_back(&self, progress: &Progress) {
        let mut inner = self.lock();
        for Reached { log, next, opening } in progress.reached.iter().copied() {
            if let Some(sub) = inner.subs.get_mut(&log).filter(|sub| sub.opening == opening) {
                sub.acked = sub.acked.max(Some(next));
            }
        }
    }

    /// Whether its client works off more: it has since it was last found to, or that was less than
    /// `time` ago, in milliseconds of the hub's clock. The first time it may only just have come,
    /// and counts as one that does.
    pub fn progressed(&self, now: u64, time: u64) -> bool {
        let mut inner = self.lock();
        let received = inner.received;
        match inner.looked_at {
            Some((before, since)) if received <= before => now.saturating_sub(since) < time,
            _ => {
                inner.looked_at = Some((received, now));
                true
            }
        }
    }

    /// What the client of a socket that is gone had reached, for its last commit.
    pub fn take_last(&self) -> Progress {
        let mut inner = self.lock();
        let (generation, reached) = (inner.generation, std::mem::take(&mut inner.last));
        Progress { connection: self.connection, generation, reached }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::channel::{Abilities, Readable, Refusals};
    use crate::wire::{Encoding, Id};

    #[derive(Debug)]
    struct All;

    impl Readable for All {
        fn may_read(&self, _: &str) -> bool {
            true
        }

        fn expires(&self) -> u64 {
            0
        }

        fn may_snapshot(&self, _: &str) -> bool {
            true
        }

        fn may_ask_who(&self, _: &str) -> bool {
            true
        }
    }

    /// The keeper may look at the very moment at which a client with a long way before it comes.
    #[tokio::test]
    async fn one_that_has_just_come_counts_as_moving() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (user, refusals) = ("ann".to_owned(), Arc::new(Refusals::default()));
        let socket = Socket::new(
            1,
            Id([1; 16]),
            user,
            (Encoding::Json, Abilities::default()),
            Arc::new(tcp),
            Arc::new(All),
            1 << 20,
            1 << 16,
            refusals,
        );
        assert!(socket.progressed(1_000, 500));
        assert!(socket.progressed(1_499, 500), "it is too early to tell, whoever asks");
        assert!(!socket.progressed(1_500, 500), "it has stood still since");
        socket.lock().sent = 10;
        socket.acknowledge(4, &[]).unwrap();
        assert!(socket.progressed(2_000, 500));
        assert!(!socket.progressed(2_500, 500));
        assert!(socket.acknowledge(11, &[]).is_err());
    }
}
