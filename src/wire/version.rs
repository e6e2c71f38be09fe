//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/pure/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:e2b3c428ae7779d3cc9ba8baf7832dc95ac458124932e85511587b6ed0e00ff9";
