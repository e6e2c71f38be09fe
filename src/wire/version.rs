//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:08186e559232e1a3bd846ec329a68f4551042d717058c935284bb2c3bad923cf";
