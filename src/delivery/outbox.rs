//! What waits to be written to a socket, in its order: a partial frame first, then replies, then
//! what comes next.
//!
//! Promise: bounded: the rest of one partial frame, and replies up to [`REPLY_MOST`]; when replies
//! fill their share, the reader of the socket stops reading until they have drained. A large frame
//! goes in pieces, each a message of its own: between two of them goes what names nothing that the
//! frame speaks of ([`Outbox::push`], `between`), so that an answer does not wait for a slow link
//! to carry all of it. It writes nothing: [`Outbox::waits`] is what is to be written, and
//! [`Outbox::took`] says how much of it was.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};

/// Replies that may wait at all: what was already asked for may still add to the share at which
/// the socket's input is left unread.
pub const REPLY_MOST: usize = 4 << 20;

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// All of it is with the kernel.
    All,
    /// Some of it waits here; ask again when the socket is writable.
    Waits,
    /// Nothing was taken: the caller keeps it.
    Nothing,
    /// Nothing was taken, for as many replies wait as may: whoever takes none of them is told why
    /// it is closed, and asks again.
    Full,
    /// The socket is broken.
    Broken,
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// The pieces of a delivery that were not begun yet.
    pieces: VecDeque<Bytes>,
    /// Replies that wait until all pieces are out; where there are none, nothing waits here.
    behind: VecDeque<Bytes>,
    /// All bytes that wait.
    bytes: usize,
    /// Bytes of the first that are the rest of a delivery, or of a piece of one.
    rest: usize,
    /// Bytes of `pieces`.
    to_come: usize,
    /// Bytes that the kernel has taken, counted round and round: what moves is no silence.
    written: u32,
}

impl Outbox {
    /// Whether something waits to be written.
    pub fn busy(&self) -> bool {
        !self.queue.is_empty() || !self.pieces.is_empty()
    }

    /// Bytes that the kernel has taken, counted round and round.
    pub const fn written(&self) -> u32 {
        self.written
    }

    fn count(&mut self, written: usize) {
        self.written = self.written.wrapping_add(u32::try_from(written).unwrap_or(u32::MAX));
    }

    /// Bytes that wait.
    pub const fn waiting(&self) -> usize {
        self.bytes
    }

    /// Bytes of replies that wait.
    pub const fn replies(&self) -> usize {
        self.bytes - self.rest - self.to_come
    }

    /// Whether one more reply of that size may wait.
    pub const fn has_room(&self, size: usize) -> bool {
        self.replies() + size <= REPLY_MOST
    }

    /// Lets a reply wait behind what waits; `between`: it may go between the pieces of a delivery.
    pub fn push(&mut self, message: Bytes, between: bool) {
        self.bytes += message.len();
        let waits = !between && !self.pieces.is_empty();
        let queue = if waits { &mut self.behind } else { &mut self.queue };
        queue.push_back(message);
    }

    /// Nothing waited, and the kernel took so much of a reply: its rest waits.
    pub fn begun(&mut self, message: &Bytes, written: usize) -> Wrote {
        self.count(written);
        if written >= message.len() {
            return Wrote::All;
        }
        let rest = message.slice(written..);
        self.bytes += rest.len();
        self.queue.push_back(rest);
        Wrote::Waits
    }

    /// Nothing waited, and the kernel took so much of a delivery: the rest waits. `ends` are where
    /// its pieces end, the last one left out; none: it is whole.
    pub fn delivered(&mut self, message: &Bytes, ends: &[usize], written: usize) -> Wrote {
        self.count(written);
        let mut from = 0;
        for end in ends.iter().copied().chain([message.len()]) {
            if from >= written {
                self.to_come += end - from;
                self.pieces.push_back(message.slice(from..end));
            } else if end > written {
                self.rest = end - written;
                self.queue.push_back(message.slice(written..end));
            }
            from = end;
        }
        self.bytes = self.rest + self.to_come;
        if self.busy() { Wrote::Waits } else { Wrote::All }
    }

    /// No piece follows: what waited behind them goes next. What the other side has of the
    /// delivery stays unfinished.
    pub fn drop_pieces(&mut self) {
        self.bytes -= self.to_come;
        self.to_come = 0;
        self.pieces.clear();
        self.queue.append(&mut self.behind);
    }

    /// The last words, of that size, come next where too much waits before them, for what waits is
    /// lost to a client that takes none of it. Only the first message, which may have been begun,
    /// is finished.
    pub fn make_way(&mut self, size: usize) {
        self.drop_pieces();
        if !self.has_room(size) {
            self.queue.truncate(1);
            self.bytes = self.queue.iter().map(Bytes::len).sum();
            self.rest = self.rest.min(self.bytes);
        }
    }

    /// The next piece, where nothing waits before it; behind the last one, what waited for it.
    fn next_piece(&mut self) {
        let Some(piece) = self.pieces.pop_front() else { return };
        self.rest = piece.len();
        self.to_come -= piece.len();
        self.queue.push_back(piece);
        if self.pieces.is_empty() {
            self.queue.append(&mut self.behind);
        }
    }

    /// What is to be written, in its order.
    pub fn waits(&self) -> impl Iterator<Item = &[u8]> {
        self.queue.iter().chain(&self.pieces).chain(&self.behind).map(|bytes| &**bytes)
    }

    /// The kernel took so much of what waits, from its front.
    pub fn took(&mut self, written: usize) {
        self.count(written);
        let mut left = written;
        while left > 0 {
            if self.queue.is_empty() {
                self.next_piece();
            }
            let Some(first) = self.queue.front_mut() else { return };
            let taken = left.min(first.len());
            left -= taken;
            self.bytes -= taken;
            self.rest = self.rest.saturating_sub(taken);
            first.advance(taken);
            if first.is_empty() {
                self.queue.pop_front();
            }
        }
    }

    /// Nothing waits any more: what the queues set aside is given back.
    pub fn tidy(&mut self) {
        for queue in [&mut self.queue, &mut self.pieces, &mut self.behind] {
            if queue.capacity() > 16 {
                queue.shrink_to(4);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letters(count: usize) -> Bytes {
        (b'a'..).take(count).collect::<Vec<u8>>().into()
    }

    fn waits(outbox: &Outbox) -> Vec<u8> {
        outbox.waits().flatten().copied().collect()
    }

    /// What a reply and a delivery cost, and that all of it counts as written.
    #[test]
    fn promise_10_what_waits_is_counted_to_the_byte() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.begun(&letters(5), 5), Wrote::All);
        assert_eq!((outbox.written(), outbox.waiting(), outbox.busy()), (5, 0, false));
        assert_eq!(outbox.begun(&letters(5), 2), Wrote::Waits);
        assert_eq!((outbox.written(), outbox.waiting(), outbox.replies()), (7, 3, 3));
        outbox.push(letters(4), true);
        assert_eq!((outbox.waiting(), outbox.replies()), (7, 7));
        assert!(outbox.has_room(REPLY_MOST - 7) && !outbox.has_room(REPLY_MOST - 6));
        outbox.took(4);
        assert_eq!((outbox.written(), outbox.waiting(), waits(&outbox)), (11, 3, b"bcd".to_vec()));
        outbox.took(3);
        assert_eq!((outbox.written(), outbox.waiting(), outbox.busy()), (14, 0, false));
    }

    /// A large delivery goes in pieces: between them what names nothing of it, then the rest.
    #[test]
    fn replies_go_between_pieces_or_wait_for_all_of_them() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.delivered(&letters(12), &[4, 8], 12), Wrote::All);
        assert_eq!(outbox.delivered(&letters(12), &[4, 8], 2), Wrote::Waits);
        assert_eq!((outbox.written(), outbox.waiting(), outbox.replies()), (14, 10, 0));
        outbox.push("XY".into(), false);
        outbox.push("12".into(), true);
        assert_eq!((outbox.waiting(), outbox.replies()), (14, 4));
        assert_eq!(waits(&outbox), b"cd12efghijklXY");
        outbox.took(5);
        assert_eq!((outbox.waiting(), outbox.replies()), (9, 2));
        assert_eq!(waits(&outbox), b"fghijklXY");
        outbox.took(7);
        assert_eq!((outbox.waiting(), outbox.replies()), (2, 2));
        outbox.took(2);
        assert_eq!((outbox.written(), outbox.waiting(), outbox.busy()), (28, 0, false));
    }

    #[test]
    fn pieces_that_are_dropped_leave_what_was_begun() {
        let mut outbox = Outbox::default();
        outbox.delivered(&letters(12), &[4, 8], 5);
        outbox.push("XY".into(), false);
        assert_eq!(waits(&outbox), b"fghijklXY");
        outbox.drop_pieces();
        assert_eq!(waits(&outbox), b"fghXY");
        assert_eq!((outbox.waiting(), outbox.replies()), (5, 2));
    }

    #[test]
    fn last_words_come_before_what_they_have_no_room_behind() {
        let mut outbox = Outbox::default();
        outbox.delivered(&letters(12), &[4, 8], 5);
        outbox.push("XY".into(), true);
        outbox.make_way(REPLY_MOST - 2);
        assert_eq!(waits(&outbox), b"fghXY", "there is room behind them");
        outbox.make_way(REPLY_MOST - 1);
        assert_eq!(waits(&outbox), b"fgh");
        assert_eq!((outbox.waiting(), outbox.replies()), (3, 0));
    }
}
