//! What delivery asks of a token, which it does not know: a trait, met by who does.

/// What a token lets a socket read, checked at each delivery. `Any`: whoever made it knows more.
pub trait Readable: Send + Sync + std::fmt::Debug + std::any::Any {
    /// Whether records of the log of that name may be delivered.
    fn may_read(&self, name: &str) -> bool;
    /// When that ends, milliseconds since 1970; 0: never.
    fn expires(&self) -> u64;
    /// Whether it may make snapshots of that log.
    fn may_snapshot(&self, name: &str) -> bool;
}
