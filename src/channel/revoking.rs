//! Who judges tokens, which this room does not know.
//!
//! Promise: whoever is revoked hears nothing of the batch that says so.

use super::hub::Hub;
use crate::wire::Whom;

/// Who judges tokens. It learns of each revocation with the batch that made it, before anything of
/// that batch is delivered.
pub trait Revoking: Send + Sync + std::fmt::Debug {
    /// From when on somebody does not count, or that it counts again.
    fn learn(&self, whom: Whom, before_ms: Option<u64>);
    /// Closes the sockets that no longer count.
    fn close(&self, hub: &Hub);
}
