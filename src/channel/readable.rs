//! What delivery asks of tokens, which it does not know: traits, met by who does.

use super::hub::Hub;
use crate::wire::Whom;

/// What a token lets a socket read, checked at each delivery. `Any`: whoever made it knows more.
pub trait Readable: Send + Sync + std::fmt::Debug + std::any::Any {
    /// Whether records of the log of that name may be delivered.
    fn may_read(&self, name: &str) -> bool;
    /// When that ends, milliseconds since 1970; 0: never.
    fn expires(&self) -> u64;
    /// Whether it may make snapshots of that log.
    fn may_snapshot(&self, name: &str) -> bool;
    /// Whether it may ask which users have a record of that log.
    fn may_ask_who(&self, name: &str) -> bool;
}

/// Who judges tokens. It learns of each revocation with the batch that made it, before anything of
/// that batch is delivered.
pub trait Revoking: Send + Sync + std::fmt::Debug {
    /// From when on somebody does not count, or that it counts again.
    fn learn(&self, whom: Whom, before_ms: Option<u64>);
    /// Closes the sockets that no longer count.
    fn close(&self, hub: &Hub);
}
