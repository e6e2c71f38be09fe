//! Versions that must move when a layout moves; tests hold them against hashes of the layouts.

/// Version of the frames; the subprotocols carry it as `v1`.
pub const PROTOCOL: u16 = 1;
