//! WebSocket (RFC 6455): a message is one frame of it, unmasked and final.
//!
//! Promise: whatever is handed in comes out as one message that any client reads; the encoding says
//! whether it is text.

use crate::wire::Encoding;

/// Number of the frame that closes (§5.5.1).
const CLOSE: u8 = 8;

const fn opcode(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Json => 1,
        Encoding::Bincode => 2,
    }
}

/// A message (§5.2).
pub(super) fn wrap(payload: &[u8], encoding: Encoding, out: &mut Vec<u8>) {
    frame(opcode(encoding), payload, out);
}

fn frame(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
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

/// A close frame (§5.5.1); the reason is cut to what fits.
pub(super) fn close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let mut payload = code.to_be_bytes().to_vec();
    let fits = reason.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 120);
    payload
        .extend_from_slice(reason.as_bytes().get(..fits.last().unwrap_or(0)).unwrap_or_default());
    frame(CLOSE, &payload, out);
}

/// Whether a frame closes.
pub(super) fn closes(bytes: &[u8]) -> bool {
    bytes.first().is_some_and(|first| first & 0x0f == CLOSE)
}
