//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:5f41b5a13b1fcf77ef1e8b4d11c98c82bfb72497269d40921a9642599084f650";
