//! Writes an outbox out, to what takes bytes without blocking.
//!
//! Promise: what the kernel does not take waits in the outbox, in its order, and nothing else does;
//! nothing waits for a broken socket.

use std::io::{ErrorKind, IoSlice};

use bytes::Bytes;

use super::sink::Sink;
use crate::delivery::{Outbox, Wrote};

/// Messages that go to the kernel in one call.
const AT_ONCE: usize = 16;

/// How much the kernel took of messages: some of it, or what else became of them.
fn write(pieces: &[IoSlice<'_>], sink: &dyn Sink) -> Result<usize, Wrote> {
    match sink.write(pieces) {
        Ok(0) => Err(Wrote::Broken),
        Ok(written) => Ok(written),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Wrote::Nothing),
        Err(_) => Err(Wrote::Broken),
    }
}

/// An outbox that is written to a sink: the one ordered way out of a socket.
pub(super) trait WriteOut {
    /// Writes a reply, or lets it wait behind what waits.
    fn reply(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote;
    /// Like [`WriteOut::reply`], for what may go between the pieces of a delivery.
    fn between(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote;
    /// Writes a delivery if nothing waits: all or part of it, or nothing at all. `ends` are where
    /// its pieces end, the last one left out; none: it is whole.
    fn deliver(&mut self, message: &Bytes, ends: &[usize], sink: &dyn Sink) -> Wrote;
    /// Writes the last words.
    fn last(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote;
    /// Writes what waits, as far as the kernel takes it.
    fn flush(&mut self, sink: &dyn Sink) -> Wrote;
}

impl WriteOut for Outbox {
    fn reply(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote {
        enqueue(self, message, false, sink)
    }

    fn between(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote {
        enqueue(self, message, true, sink)
    }

    fn deliver(&mut self, message: &Bytes, ends: &[usize], sink: &dyn Sink) -> Wrote {
        if self.busy() {
            return Wrote::Nothing;
        }
        match write(&[IoSlice::new(message)], sink) {
            Ok(written) => self.delivered(message, ends, written),
            Err(wrote) => wrote,
        }
    }

    fn last(&mut self, message: Bytes, sink: &dyn Sink) -> Wrote {
        self.make_way(message.len());
        put(self, message, false, sink)
    }

    fn flush(&mut self, sink: &dyn Sink) -> Wrote {
        while self.busy() {
            let mut pieces = [IoSlice::new(&[]); AT_ONCE];
            let waiting = pieces.iter_mut().zip(self.waits());
            let count = waiting.map(|(piece, bytes)| *piece = IoSlice::new(bytes)).count();
            match write(pieces.get(..count).unwrap_or_default(), sink) {
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

fn enqueue(out: &mut Outbox, message: Bytes, between: bool, sink: &dyn Sink) -> Wrote {
    if out.has_room(message.len()) { put(out, message, between, sink) } else { Wrote::Full }
}

fn put(out: &mut Outbox, message: Bytes, between: bool, sink: &dyn Sink) -> Wrote {
    if out.busy() {
        out.push(message, between);
        return out.flush(sink);
    }
    match write(&[IoSlice::new(&message)], sink) {
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
