//! Where the bytes of a socket go.
//!
//! Promise: nothing here waits. Whoever owns the connection behind it waits until it takes bytes
//! again, and then has the socket written on ([`super::Socket::flush`]).

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::Shutdown;

use tokio::net::TcpStream;

/// What takes a socket's bytes: TCP. TLS and the body of an HTTP answer would be others.
pub trait Sink: Debug {
    /// Like `writev(2)`: takes bytes from the front, as many as there is room for now.
    ///
    /// # Errors
    /// `WouldBlock` where there is no room; whoever waits for some is woken once there is. Else
    /// what broke it.
    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// From now on it takes no more than it can soon send: what waits in it cannot be overtaken.
    fn keep_little(&self);

    /// Ends both directions at once; what it has not sent yet is lost.
    fn cut(&self);
}

/// Bytes of a large delivery that the kernel holds besides those on their way.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 16 << 10;

impl Sink for TcpStream {
    fn write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        // Straight to the kernel: the runtime's own account of what is writable lies elsewhere in
        // memory. It is asked only where the kernel takes nothing, for it has to learn of that.
        let kernel = socket2::SockRef::from(self);
        let written = match pieces {
            [one] => kernel.send(one),
            many => kernel.send_vectored(many),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.try_write_vectored(pieces)
            }
            written => written,
        }
    }

    fn keep_little(&self) {
        // Where the system has no such bound, answers wait longer: on a slow link behind megabytes.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(self).set_tcp_notsent_lowat(UNSENT_BYTES).ok();
    }

    fn cut(&self) {
        // One that is gone has nothing to end.
        socket2::SockRef::from(self).shutdown(Shutdown::Both).ok();
    }
}
