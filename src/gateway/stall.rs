//! A TCP connection that waits for its peer only so long.
//!
//! Promise: a write of which the peer takes nothing for [`STALLED_MOST`] fails, and what was held
//! for the answer is given back. Reads wait as long as whoever reads does: hyper has a time for
//! heads, handlers have one for bodies. A WebSocket takes the bare connection out: it has a way
//! out of its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a peer may seem to take nothing of what is written to it. Between two kernels with
/// megabytes of room, one that reads 15 kB a second without a pause makes room for the next write
/// but every 90 seconds: only then does its window open, or a third of the way out is free.
const STALLED_MOST: Duration = Duration::from_secs(120);

/// The connection, and the time at which a stalled write has waited long enough.
#[derive(Debug)]
pub(super) struct StallTimeout {
    tcp: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl StallTimeout {
    pub(super) const fn new(tcp: TcpStream) -> Self {
        Self { tcp, stalled: None }
    }

    /// The bare connection.
    pub(super) fn into_inner(self) -> TcpStream {
        self.tcp
    }

    /// What a write came to; one that has to wait is given its time.
    fn written<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(written) = write(Pin::new(&mut self.tcp), context) {
            self.stalled = None;
            return Poll::Ready(written);
        }
        let end = || Box::pin(sleep_until(Instant::now() + STALLED_MOST));
        ready!(self.stalled.get_or_insert_with(end).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.written(context, |tcp, context| tcp.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.written(context, |tcp, context| tcp.poll_write_vectored(context, pieces))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (StallTimeout, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (StallTimeout::new(near.unwrap()), far.unwrap().0)
    }

    /// More than the kernel keeps for two sockets.
    const MUCH: usize = 64 << 20;

    #[tokio::test]
    async fn a_peer_that_reads_is_waited_for_and_one_that_does_not_is_given_up() {
        let (mut near, mut far) = pair().await;
        let reads = tokio::spawn(async move {
            let mut read = vec![0; 1 << 16];
            let mut left = MUCH;
            while left > 0 {
                left -= far.read(&mut read).await.unwrap();
            }
            far
        });
        near.write_all(&vec![7; MUCH]).await.unwrap();
        let _far = reads.await.unwrap();
        assert!(near.stalled.is_none());
        let stalls = tokio::spawn(async move { near.write_all(&vec![7; MUCH]).await });
        // The clock runs as soon as nothing else does.
        tokio::time::pause();
        let begun = Instant::now();
        let error = stalls.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() >= STALLED_MOST - Duration::from_secs(1));
    }
}
