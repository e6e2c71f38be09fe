//! The frames and their two encodings: what a client and a server say to each other.
//!
//! Promise: pure. Nothing here knows a socket, a clock or a disk; any bytes may be given to the
//! decoder, and each gets frames or a typed error. `docs/protocol.md` says the same in prose.

mod code;
pub mod codec;
mod frame;
mod id;
pub mod name;
mod record;
pub mod version;

pub use code::{Class, Code, Refusal};
pub use codec::{Encoding, Frame, FrameError, MAX_FRAME_BYTES};
pub use frame::*;
pub use id::{BadId, BadPlace, Id, MAX_OFFSET, Place};
pub use name::Pattern;
pub use record::{
    BadRecord, Extension, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, MAX_KIND_BYTES, Payload,
    Record,
};
