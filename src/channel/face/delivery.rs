//! One delivery, encoded, as a message of its face.
//!
//! Promise: a client that puts parts together hears something at least every [`PIECE_BYTES`] of a
//! large delivery, however slow its link; what it puts together is the frame as it would have
//! come whole, and counts as that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::Form;
use crate::wire::{Encoding, Frame, Part, Payload, ServerFrame, codec};

/// A larger delivery goes in pieces to who puts them together: a link of 15 kB/s carries so much
/// in less than half of the time after which a client takes silence for the end.
const WHOLE_BYTES: usize = 64 << 10;
/// Most bytes of a delivery in one piece.
pub(super) const PIECE_BYTES: usize = 16 << 10;

/// A message ready to be written, and the size of its frame's body as flow control counts it.
#[derive(Debug, Clone)]
pub(in super::super) struct Message {
    /// Header and payload; of a large one, all its pieces, each a message.
    pub bytes: Bytes,
    /// What the client will count for it.
    pub counted: u64,
    /// Where the pieces end, but for the last one; none: it is whole.
    pub ends: Arc<[usize]>,
    /// Whether the frame is one that goes in pieces to who puts them together.
    pub large: bool,
}

/// An encoded delivery, counted for as long as anyone holds a part of it.
struct Held {
    bytes: Vec<u8>,
    gauge: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.bytes.capacity(), Ordering::Relaxed);
    }
}

fn held(bytes: Vec<u8>, gauge: &Arc<AtomicUsize>) -> Bytes {
    gauge.fetch_add(bytes.capacity(), Ordering::Relaxed);
    Bytes::from_owner(Held { bytes, gauge: Arc::clone(gauge) })
}

/// One delivery frame as a message, with what flow control counts; `gauge` is what all of them
/// that are held weigh.
pub(in super::super) fn encode(
    frame: &ServerFrame,
    form: Form,
    gauge: &Arc<AtomicUsize>,
) -> Message {
    let encoding = form.encoding;
    let mut payload = Vec::with_capacity(256);
    codec::encode(frame, encoding, &mut payload);
    let counted = match encoding {
        Encoding::Json => payload.len() - 1,
        Encoding::Bincode => {
            // The body is what is left after the two varints before it.
            let mut body = payload.len();
            let mut varints = 0;
            while varints < 2 {
                let at = payload.len() - body;
                let first = payload.get(at).copied().unwrap_or_default();
                body -= match first {
                    0..=250 => 1,
                    251 => 3,
                    252 => 5,
                    _ => 9,
                };
                varints += 1;
            }
            body
        }
    };
    debug_assert_eq!(frame.kind() & 0x40, 0x40, "deliveries are the server's kinds");
    let large = payload.len() > WHOLE_BYTES;
    let (out, ends) = if large && form.parts {
        in_pieces(&payload, form)
    } else {
        let mut out = Vec::with_capacity(payload.len() + 10);
        form.face.wrap(&payload, encoding, &mut out);
        (out, Vec::new())
    };
    Message { bytes: held(out, gauge), counted: counted as u64, ends: ends.into(), large }
}

/// An encoded frame as `part` frames, each a message of its own, and where these end but for the
/// last one.
fn in_pieces(payload: &[u8], Form { face, encoding, .. }: Form) -> (Vec<u8>, Vec<usize>) {
    // A line needs no end where it is the only one.
    let whole = payload.strip_suffix(b"\n").unwrap_or(payload);
    let whole = if encoding == Encoding::Json { whole } else { payload };
    let (mut out, mut ends) = (Vec::with_capacity(whole.len() + whole.len() / 8), Vec::new());
    let (mut rest, mut message) = (whole, Vec::with_capacity(PIECE_BYTES + 64));
    while !rest.is_empty() {
        let piece = piece(&mut rest, encoding);
        let last = rest.is_empty();
        message.clear();
        codec::encode(&ServerFrame::Part(Part { last, data: piece }), encoding, &mut message);
        face.wrap(&message, encoding, &mut out);
        if !last {
            ends.push(out.len());
        }
    }
    (out, ends)
}

/// Takes a piece off the front. Text is parted between characters only.
fn piece(rest: &mut &[u8], encoding: Encoding) -> Payload {
    let mut at = rest.len().min(PIECE_BYTES);
    if encoding == Encoding::Json {
        let inside = |at: usize| rest.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
        while at > 1 && inside(at) {
            at -= 1;
        }
    }
    let (front, back) = rest.split_at(at);
    *rest = back;
    match (encoding, std::str::from_utf8(front)) {
        (Encoding::Json, Ok(text)) => Payload::text(text),
        _ => Payload::binary(Bytes::copy_from_slice(front)),
    }
}
