//! The frames and their two encodings: what a client and a server say to each other.
//!
//! Promise: pure. Nothing here knows a socket, a clock or a disk; any bytes may be given to the
//! decoder, and each gets frames or a typed error. `docs/protocol.md` says the same in prose.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod binary;
mod check;
mod client;
mod code;
pub mod codec;
mod frame;
mod id;
pub mod name;
mod position;
mod record;
mod server;
pub mod surrogate;
pub mod version;
mod whom;

pub use check::{
    MAX_BASES, MAX_CAPABILITIES, MAX_CAPABILITY_BYTES, MAX_CLIENT_BYTES, MAX_ITEMS, MAX_NODES,
    MAX_WRITERS,
};
pub use client::*;
pub use code::{Class, Code, Refusal};
pub use codec::{Encoding, Frame, FrameError, MAX_FRAME_BYTES};
pub use frame::*;
pub use id::{BadId, BadPlace, Id, MAX_OFFSET, Place};
pub use name::Pattern;
pub use position::{
    BadPosition, ChainTag, MAX_IN_SHARD, MAX_POSITIONS, Made, Position, SHARD_SHIFT,
};
pub use record::{
    BadRecord, Extension, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, MAX_KIND_BYTES, Payload,
    Record,
};
pub use server::*;
pub use whom::{MAX_REVOCATIONS, Whom};
