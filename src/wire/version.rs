//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/pure/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:6ccbbb0e84f64e095a082add92cabd9dbef9ad3a622f17b330b559d334c37504";
