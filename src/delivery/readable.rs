//! What delivery asks of a token, which it does not know.
//!
//! Promise: it is asked when a log is opened and whenever there are new grants, and its end is
//! looked at with each delivery: a grant which is gone ends delivery at once.

/// What a token lets a socket read. `Any`: whoever made it knows more.
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
