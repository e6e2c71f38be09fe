//! The one ordered way out of a socket: a partial frame first, then replies, then what comes next.
//!
//! Bounded: the rest of one partial frame, and replies up to a share; when replies fill their
//! share, the reader of the socket stops reading until they have drained. A large frame goes in
//! pieces, each a message of its own: between two of them goes what names nothing that the frame
//! speaks of (`between`), so that an answer does not wait for a slow link to carry all of it.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes};

/// Replies that may wait at all: what was already asked for may still add to the share at which
/// the socket's input is left unread.
pub(super) const REPLY_MOST: usize = 4 << 20;

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
pub struct Way {
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

/// Writes without blocking; `WouldBlock` where the kernel takes no more.
pub trait Sink {
    /// Like `write(2)`.
    ///
    /// # Errors
    /// `WouldBlock`, or what broke the socket.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl Sink for tokio::net::TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Straight to the kernel: the runtime's own account of what is writable lies elsewhere in
        // memory. It is asked only where the kernel takes nothing, for it has to learn of that.
        match socket2::SockRef::from(self).send(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Self::try_write(self, bytes),
            written => written,
        }
    }
}

impl Way {
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

    /// Writes a reply, or lets it wait behind what waits.
    pub fn reply(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        self.enqueue(message, false, sink)
    }

    /// Like [`Way::reply`], for what may go between the pieces of a delivery.
    pub fn between(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        self.enqueue(message, true, sink)
    }

    fn enqueue(&mut self, message: Bytes, between: bool, sink: &impl Sink) -> Wrote {
        if self.replies() + message.len() > REPLY_MOST {
            return Wrote::Full;
        }
        self.put(message, between, sink)
    }

    fn put(&mut self, message: Bytes, between: bool, sink: &impl Sink) -> Wrote {
        if self.busy() {
            self.bytes += message.len();
            let waits = !between && !self.pieces.is_empty();
            let queue = if waits { &mut self.behind } else { &mut self.queue };
            queue.push_back(message);
            return self.flush(sink);
        }
        match self.begin(&message, sink) {
            Wrote::Nothing => {
                self.bytes += message.len();
                self.queue.push_back(message);
                Wrote::Waits
            }
            wrote => wrote,
        }
    }

    /// Writes a delivery if nothing waits: all or part of it, or nothing at all. `ends` are where
    /// its pieces end, the last one left out; none: it is whole.
    pub fn deliver(&mut self, message: &Bytes, ends: &[usize], sink: &impl Sink) -> Wrote {
        if self.busy() {
            return Wrote::Nothing;
        }
        let first = ends.first().copied().unwrap_or(message.len()).min(message.len());
        let wrote = self.begin(&message.slice(..first), sink);
        self.rest = self.bytes;
        if ends.is_empty() || matches!(wrote, Wrote::Nothing | Wrote::Broken) {
            return wrote;
        }
        let after = ends.iter().skip(1).copied().chain([message.len()]);
        let mut from = first;
        for end in after {
            self.pieces.push_back(message.slice(from..end));
            from = end;
        }
        self.to_come = message.len() - first;
        self.bytes += self.to_come;
        if wrote == Wrote::All { self.flush(sink) } else { wrote }
    }

    /// No piece follows: what waited behind them goes next. What the other side has of the
    /// delivery stays unfinished.
    pub fn drop_pieces(&mut self) {
        self.bytes -= self.to_come;
        self.to_come = 0;
        self.pieces.clear();
        self.queue.append(&mut self.behind);
    }

    /// The last words: they come next where too much waits before them, for what waits is lost to
    /// a client that takes none of it. Only the first message, which may have been begun, is
    /// finished.
    pub fn last(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        self.drop_pieces();
        if self.replies() + message.len() > REPLY_MOST {
            self.queue.truncate(1);
            self.bytes = self.queue.iter().map(Bytes::len).sum();
            self.rest = self.rest.min(self.bytes);
        }
        self.put(message, false, sink)
    }

    /// Writes what it can of a message that nothing waits before; the rest of one that was begun
    /// waits.
    fn begin(&mut self, message: &Bytes, sink: &impl Sink) -> Wrote {
        match sink.try_write(message) {
            Ok(0) => Wrote::Broken,
            Ok(written) if written == message.len() => {
                self.count(written);
                Wrote::All
            }
            Ok(written) => {
                self.count(written);
                let rest = message.slice(written..);
                self.bytes += rest.len();
                self.queue.push_back(rest);
                Wrote::Waits
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Wrote::Nothing,
            Err(_) => Wrote::Broken,
        }
    }

    /// Writes what waits, as far as the kernel takes it. Nothing waits for a broken socket.
    pub fn flush(&mut self, sink: &impl Sink) -> Wrote {
        let wrote = self.write_on(sink);
        if wrote == Wrote::Broken {
            *self = Self::default();
        }
        wrote
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

    fn write_on(&mut self, sink: &impl Sink) -> Wrote {
        loop {
            if self.queue.is_empty() {
                self.next_piece();
            }
            let Some(first) = self.queue.front_mut() else { break };
            match sink.try_write(first) {
                Ok(0) => return Wrote::Broken,
                Ok(written) => {
                    self.bytes -= written;
                    self.rest = self.rest.saturating_sub(written);
                    first.advance(written);
                    if first.is_empty() {
                        self.queue.pop_front();
                    }
                    self.count(written);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Wrote::Waits,
                Err(_) => return Wrote::Broken,
            }
        }
        for queue in [&mut self.queue, &mut self.pieces, &mut self.behind] {
            if queue.capacity() > 16 {
                queue.shrink_to(4);
            }
        }
        Wrote::All
    }
}

#[cfg(test)]
mod tests;
