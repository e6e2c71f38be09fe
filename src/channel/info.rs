//! What is shown of a socket: numbers for people, copied at one moment.

use crate::wire::Cursor;

/// What the console and the API show of a socket.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SocketInfo {
    /// Its encoding's subprotocol.
    pub encoding: &'static str,
    /// Bytes of delivery sent.
    pub sent: u64,
    /// Bytes of delivery acknowledged.
    pub received: u64,
    /// Bytes that wait in its way out.
    pub waiting: usize,
    /// Next offset to send, by log id.
    pub cursors: Vec<Cursor>,
    /// Logs it is behind on.
    pub behind: usize,
}
