//! Frames into WebSocket messages: header, frame, nothing per client in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::log::Stored;
use crate::wire::{
    Base, BaseRecords, Encoding, Frame, Kept, Origin, Payload, Records, ServerFrame, codec,
};

/// Most bytes of records in one delivery, unless a single record is larger.
pub(super) const DELIVERY_BYTES: usize = 32 << 10;

/// A message ready to be written, and the size of its frame's body as flow control counts it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// WebSocket header and payload.
    pub bytes: Bytes,
    /// What the client will count for it.
    pub counted: u64,
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
fn delivery(frame: &ServerFrame, encoding: Encoding, gauge: &Arc<AtomicUsize>) -> Message {
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
    let mut out = Vec::with_capacity(payload.len() + 10);
    wrap(opcode(encoding), &payload, &mut out);
    Message { bytes: held(out, gauge), counted: counted as u64 }
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
    encoding: Encoding,
    gauge: &Arc<AtomicUsize>,
) -> Message {
    let mut origins = Origins::default();
    let records = stored.iter().map(|one| one.delivered(origins.index(&one.origin))).collect();
    let frame = ServerFrame::Records(Records { log, base, origins: origins.0, records });
    delivery(&frame, encoding, gauge)
}

/// A part of a `latest` base.
pub(super) fn base_records(
    log: u64,
    offset: u64,
    entries: &[(u64, Stored)],
    last: bool,
    complete: u64,
    (encoding, gauge): (Encoding, &Arc<AtomicUsize>),
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
    delivery(&ServerFrame::BaseRecords(frame), encoding, gauge)
}

/// A part of a client-made base.
pub(super) fn base(
    log: u64,
    offset: u64,
    part: u32,
    last: bool,
    data: Bytes,
    (encoding, gauge): (Encoding, &Arc<AtomicUsize>),
) -> Message {
    let data = Payload::binary(data);
    delivery(&ServerFrame::Base(Base { log, offset, part, last, data }), encoding, gauge)
}
