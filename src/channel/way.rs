//! The one ordered way out of a socket: a partial frame first, then replies, then what comes next.
//!
//! Bounded: the rest of one partial frame, and replies up to a share; when replies fill their
//! share, the reader of the socket stops reading until they have drained.

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
    /// The socket is broken.
    Broken,
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Way {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Bytes of the first that are the rest of a delivery.
    rest: usize,
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
        !self.queue.is_empty()
    }

    /// Bytes that wait.
    pub const fn waiting(&self) -> usize {
        self.bytes
    }

    /// Bytes of replies that wait.
    pub const fn replies(&self) -> usize {
        self.bytes - self.rest
    }

    /// Writes a reply, or lets it wait behind what waits.
    pub fn reply(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        if self.replies() + message.len() > REPLY_MOST {
            return Wrote::Broken;
        }
        if self.busy() {
            self.bytes += message.len();
            self.queue.push_back(message);
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

    /// Writes a delivery if nothing waits: all or part of it, or nothing at all.
    pub fn deliver(&mut self, message: &Bytes, sink: &impl Sink) -> Wrote {
        if self.busy() {
            return Wrote::Nothing;
        }
        let wrote = self.begin(message, sink);
        self.rest = self.bytes;
        wrote
    }

    /// Writes what it can of a message that nothing waits before; the rest of one that was begun
    /// waits.
    fn begin(&mut self, message: &Bytes, sink: &impl Sink) -> Wrote {
        match sink.try_write(message) {
            Ok(0) => Wrote::Broken,
            Ok(written) if written == message.len() => Wrote::All,
            Ok(written) => {
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
            self.queue.clear();
            (self.bytes, self.rest) = (0, 0);
        }
        wrote
    }

    fn write_on(&mut self, sink: &impl Sink) -> Wrote {
        while let Some(first) = self.queue.front_mut() {
            match sink.try_write(first) {
                Ok(0) => return Wrote::Broken,
                Ok(written) => {
                    self.bytes -= written;
                    self.rest = self.rest.saturating_sub(written);
                    first.advance(written);
                    if first.is_empty() {
                        self.queue.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Wrote::Waits,
                Err(_) => return Wrote::Broken,
            }
        }
        if self.queue.capacity() > 16 {
            self.queue.shrink_to(4);
        }
        Wrote::All
    }
}
