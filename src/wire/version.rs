//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:bac9650525cfc3285da9507dce633f66a046fc8e035dc4561a0b0e763a2d115c";
