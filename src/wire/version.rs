//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:1cc258a79fdf652a370368c7256ae25338333fe5f6e73432dbd7703a1d1f83af";
