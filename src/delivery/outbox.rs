//! What waits to be written to a socket, in its order: a partial frame first, then replies, then
//! what comes next.
//!
//! Promise: bounded: the rest of one partial frame, and replies up to [`REPLY_MOST`]; when replies
//! fill their share, the reader of the socket stops reading until they have drained. A large frame
//! goes in pieces, each a message of its own: between two of them goes what names nothing that the
//! frame speaks of ([`Outbox::push`], `between`), so that an answer does not wait for a slow link
//! to carry all of it. It writes nothing: [`Outbox::next_bytes`] is what is to be written, and
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

    /// Nothing waited, and the kernel took so much, and not nothing, of the first piece of a
    /// delivery: the rest waits. `ends` are where its pieces end, the last one left out; none: it
    /// is whole. `All`: of a whole one, or of the first piece, behind which
    /// [`Outbox::next_bytes`] has more.
    pub fn delivered(&mut self, message: &Bytes, ends: &[usize], written: usize) -> Wrote {
        if ends.is_empty() {
            let wrote = self.begun(message, written);
            self.rest = self.bytes;
            return wrote;
        }
        let first = Self::first_piece(message, ends);
        let wrote = self.begun(&message.slice(..first), written);
        self.rest = self.bytes;
        let after = ends.iter().skip(1).copied().chain([message.len()]);
        let mut from = first;
        for end in after {
            self.pieces.push_back(message.slice(from..end));
            from = end;
        }
        self.to_come = message.len() - first;
        self.bytes += self.to_come;
        wrote
    }

    /// Where the first piece of a delivery ends: what is written of it first.
    pub fn first_piece(message: &Bytes, ends: &[usize]) -> usize {
        ends.first().copied().unwrap_or(message.len()).min(message.len())
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

    /// What is to be written next; none: nothing waits.
    pub fn next_bytes(&mut self) -> Option<&[u8]> {
        if self.queue.is_empty() {
            self.next_piece();
        }
        self.queue.front().map(|first| &**first)
    }

    /// The kernel took so much of [`Outbox::next_bytes`].
    pub fn took(&mut self, written: usize) {
        let Some(first) = self.queue.front_mut() else { return };
        let written = written.min(first.len());
        self.bytes -= written;
        self.rest = self.rest.saturating_sub(written);
        first.advance(written);
        if first.is_empty() {
            self.queue.pop_front();
        }
        self.count(written);
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
