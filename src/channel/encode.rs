//! Frames into WebSocket messages: header, frame, nothing per client in it.
//!
//! Promise: a client that puts parts together hears something at least every [`PIECE_BYTES`] of a
//! large delivery, however slow its link; what it puts together is the frame as it would have
//! come whole, and counts as that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::log::Stored;
use crate::wire::{
    Base, BaseRecords, Encoding, Frame, Kept, Origin, Part, Payload, Records, ServerFrame, codec,
};

/// Most bytes of records in one delivery, unless a single record is larger.
pub(super) const DELIVERY_BYTES: usize = 32 << 10;

/// A larger delivery goes in pieces to who puts them together: a link of 15 kB/s carries so much
/// in less than half of the time after which a client takes silence for the end.
const WHOLE_BYTES: usize = 64 << 10;
/// Most bytes of a delivery in one piece.
const PIECE_BYTES: usize = 16 << 10;

/// The form in which a socket is written to: all of one form share what is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    /// The encoding agreed on.
    pub encoding: Encoding,
    /// Whether its client puts parts together.
    pub parts: bool,
}

/// A message ready to be written, and the size of its frame's body as flow control counts it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// WebSocket header and payload; of a large one, all its pieces, each a message.
    pub bytes: Bytes,
    /// What the client will count for it.
    pub counted: u64,
    /// Where the pieces end, but for the last one; none: it is whole.
    pub ends: Arc<[usize]>,
    /// Whether the frame is one that goes in pieces to who puts them together.
    pub large: bool,
}

/// The frame of one delivery, in the forms that are wanted.
#[derive(Debug, Default)]
pub(super) struct Messages {
    binary: Option<Message>,
    json: Option<Message>,
    binary_parts: Option<Message>,
    json_parts: Option<Message>,
}

impl Messages {
    /// The frame in a form, made when it is first wanted; a small one looks alike in both.
    pub(super) fn get(&mut self, form: Form, make: impl FnOnce() -> Message) -> &Message {
        let whole = Form { parts: false, ..form };
        let small = self.place(whole).as_ref().is_some_and(|message| !message.large);
        let at = if small { whole } else { form };
        if self.place(at).is_some() {
            return self.place(at).get_or_insert_with(make);
        }
        let message = make();
        let at = if message.large { form } else { whole };
        self.place(at).insert(message)
    }

    const fn place(&mut self, form: Form) -> &mut Option<Message> {
        match (form.encoding, form.parts) {
            (Encoding::Bincode, false) => &mut self.binary,
            (Encoding::Json, false) => &mut self.json,
            (Encoding::Bincode, true) => &mut self.binary_parts,
            (Encoding::Json, true) => &mut self.json_parts,
        }
    }
}

/// A message of one WebSocket frame, unmasked and final (RFC 6455 §5.2).
fn wrap(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match payload.len() {
        small @ 0..=125 => out.push(u8::try_from(small).unwrap_or(125)),
        middle @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&u16::try_from(middle).unwrap_or(u16::MAX).to_be_bytes());
        }
        large => {
            out.push(127);
            out.extend_from_slice(&(large as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

const fn opcode(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Json => 1,
        Encoding::Bincode => 2,
    }
}

/// Frames as one WebSocket message.
pub fn control(frames: &[ServerFrame], encoding: Encoding) -> Bytes {
    let mut payload = Vec::with_capacity(64 * frames.len());
    for frame in frames {
        codec::encode(frame, encoding, &mut payload);
    }
    let mut out = Vec::with_capacity(payload.len() + 10);
    wrap(opcode(encoding), &payload, &mut out);
    Bytes::from(out)
}

/// A WebSocket close frame (RFC 6455 §5.5.1); the reason is cut to what fits.
pub fn ws_close(code: u16, reason: &str) -> Bytes {
    let mut payload = code.to_be_bytes().to_vec();
    let fits = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 120);
    payload
        .extend_from_slice(reason.as_bytes().get(..fits.last().unwrap_or(0)).unwrap_or_default());
    let mut out = Vec::with_capacity(payload.len() + 2);
    wrap(8, &payload, &mut out);
    Bytes::from(out)
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
fn delivery(frame: &ServerFrame, form: Form, gauge: &Arc<AtomicUsize>) -> Message {
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
        in_pieces(&payload, encoding)
    } else {
        let mut out = Vec::with_capacity(payload.len() + 10);
        wrap(opcode(encoding), &payload, &mut out);
        (out, Vec::new())
    };
    Message { bytes: held(out, gauge), counted: counted as u64, ends: ends.into(), large }
}

/// An encoded frame as `part` frames, each a message of its own, and where these end but for the
/// last one.
fn in_pieces(payload: &[u8], encoding: Encoding) -> (Vec<u8>, Vec<usize>) {
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
        wrap(opcode(encoding), &message, &mut out);
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

/// Origins of a frame, each once, in order of appearance.
#[derive(Default)]
struct Origins(Vec<Origin>);

impl Origins {
    fn index(&mut self, origin: &Origin) -> u32 {
        let known = self.0.iter().rposition(|known| known == origin);
        let at = known.unwrap_or_else(|| {
            self.0.push(origin.clone());
            self.0.len() - 1
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

/// A `records` frame: `stored` are the log's records from offset `base` on.
pub(super) fn records(
    log: u64,
    base: u64,
    stored: &[Arc<Stored>],
    form: Form,
    gauge: &Arc<AtomicUsize>,
) -> Message {
    let mut origins = Origins::default();
    let records = stored.iter().map(|one| one.delivered(origins.index(&one.origin))).collect();
    let frame = ServerFrame::Records(Records { log, base, origins: origins.0, records });
    delivery(&frame, form, gauge)
}

/// A part of a `latest` base.
pub(super) fn base_records(
    log: u64,
    offset: u64,
    entries: &[(u64, Stored)],
    last: bool,
    complete: u64,
    (form, gauge): (Form, &Arc<AtomicUsize>),
) -> Message {
    let mut origins = Origins::default();
    let records = (entries.iter())
        .map(|(offset, one)| {
            let record = one.delivered(origins.index(&one.origin));
            Kept { offset: *offset, record }
        })
        .collect();
    let origins = origins.0;
    let frame = BaseRecords { log, offset, last, complete, origins, records };
    delivery(&ServerFrame::BaseRecords(frame), form, gauge)
}

/// A part of a client-made base.
pub(super) fn base(
    log: u64,
    offset: u64,
    part: u32,
    last: bool,
    data: Bytes,
    (form, gauge): (Form, &Arc<AtomicUsize>),
) -> Message {
    let data = Payload::binary(data);
    delivery(&ServerFrame::Base(Base { log, offset, part, last, data }), form, gauge)
}

#[cfg(test)]
mod tests;
