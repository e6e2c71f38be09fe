//! Writes what waits for a socket: its outbox over what takes bytes without blocking.
//!
//! Promise: what the kernel does not take waits in the outbox, in its order, and nothing else does;
//! nothing waits for a broken socket.

use std::io;

use bytes::Bytes;

use crate::delivery::{Outbox, Wrote};

/// Writes without blocking; `WouldBlock` where the kernel takes no more.
pub(super) trait Sink {
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

/// How much the kernel took of a message: some of it, or what else became of it.
fn write(bytes: &[u8], sink: &impl Sink) -> Result<usize, Wrote> {
    match sink.try_write(bytes) {
        Ok(0) => Err(Wrote::Broken),
        Ok(written) => Ok(written),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(Wrote::Nothing),
        Err(_) => Err(Wrote::Broken),
    }
}

/// The one ordered way out of a socket.
pub(super) trait Way {
    /// Writes a reply, or lets it wait behind what waits.
    fn reply(&mut self, message: Bytes, sink: &impl Sink) -> Wrote;
    /// Like [`Way::reply`], for what may go between the pieces of a delivery.
    fn between(&mut self, message: Bytes, sink: &impl Sink) -> Wrote;
    /// Writes a delivery if nothing waits: all or part of it, or nothing at all. `ends` are where
    /// its pieces end, the last one left out; none: it is whole.
    fn deliver(&mut self, message: &Bytes, ends: &[usize], sink: &impl Sink) -> Wrote;
    /// Writes the last words.
    fn last(&mut self, message: Bytes, sink: &impl Sink) -> Wrote;
    /// Writes what waits, as far as the kernel takes it.
    fn flush(&mut self, sink: &impl Sink) -> Wrote;
}

impl Way for Outbox {
    fn reply(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        enqueue(self, message, false, sink)
    }

    fn between(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        enqueue(self, message, true, sink)
    }

    fn deliver(&mut self, message: &Bytes, ends: &[usize], sink: &impl Sink) -> Wrote {
        if self.busy() {
            return Wrote::Nothing;
        }
        let first = Self::first_piece(message, ends);
        let wrote = match write(message.get(..first).unwrap_or_default(), sink) {
            Ok(written) => self.delivered(message, ends, written),
            Err(wrote) => return wrote,
        };
        // Of pieces, the first is out.
        if wrote == Wrote::All && self.busy() { self.flush(sink) } else { wrote }
    }

    fn last(&mut self, message: Bytes, sink: &impl Sink) -> Wrote {
        self.make_way(message.len());
        put(self, message, false, sink)
    }

    fn flush(&mut self, sink: &impl Sink) -> Wrote {
        while let Some(bytes) = self.next_bytes() {
            match write(bytes, sink) {
                Ok(written) => self.took(written),
                Err(Wrote::Nothing) => return Wrote::Waits,
                Err(broken) => {
                    *self = Self::default();
                    return broken;
                }
            }
        }
        self.tidy();
        Wrote::All
    }
}

fn enqueue(out: &mut Outbox, message: Bytes, between: bool, sink: &impl Sink) -> Wrote {
    if out.has_room(message.len()) { put(out, message, between, sink) } else { Wrote::Full }
}

fn put(out: &mut Outbox, message: Bytes, between: bool, sink: &impl Sink) -> Wrote {
    if out.busy() {
        out.push(message, between);
        return out.flush(sink);
    }
    match write(&message, sink) {
        Ok(written) => out.begun(&message, written),
        Err(Wrote::Nothing) => {
            out.push(message, between);
            Wrote::Waits
        }
        Err(wrote) => wrote,
    }
}

#[cfg(test)]
mod tests;
