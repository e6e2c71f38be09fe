//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;

/// The version with the hash of the code that defines the frames; `tests/protocol.rs` makes it
/// anew and says what to do when the two differ.
pub const LAYOUT: &str = "1:9b020a07af30b8b3a558053cab2f06481ea416d7e794a7c7f9373f5740a3a063";
