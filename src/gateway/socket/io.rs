//! The stream under a WebSocket: reads come from the TCP socket, writes go the one way out.
//!
//! The WebSocket layer answers pings and closes by itself; handing it this stream puts those bytes
//! behind whatever the socket is sending, so that no frame is ever torn by another.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::channel::{Hub, Socket};

/// Steps of the largest message: of 1 MiB each is 16 KiB, which a link of 15 kB/s carries in a
/// little more than a second.
const STEPS: usize = 64;

/// A TCP socket whose writes go through a [`Socket`] from the moment there is one.
#[derive(Debug)]
pub(super) struct Lane {
    pub tcp: Arc<TcpStream>,
    pub socket: Arc<OnceLock<Arc<Socket>>>,
    pub life: Life,
}

/// What is read of a message that is not whole yet is a sign of life too: a large one takes a slow
/// link longer than the time after which silence is taken for the end. It counts by the step, so
/// that a client that dribbles does not hold a half-sent message for ever: the largest one has to
/// be whole in so many times the time of silence as it has steps.
#[derive(Debug)]
pub(super) struct Life {
    hub: Arc<Hub>,
    step: usize,
    read: usize,
}

impl Life {
    /// For messages of at most so many bytes.
    pub(super) const fn new(hub: Arc<Hub>, most: usize) -> Self {
        Self { hub, step: most.div_ceil(STEPS), read: 0 }
    }

    fn came(&mut self, read: usize, socket: Option<&Arc<Socket>>) {
        self.read += read;
        if self.read >= self.step {
            self.read = 0;
            if let Some(socket) = socket {
                socket.hear(self.hub.ticks());
            }
        }
    }
}

impl AsyncRead for Lane {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { tcp, socket, life } = self.get_mut();
        loop {
            ready!(tcp.poll_read_ready(cx))?;
            match tcp.try_read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    life.came(read, socket.get());
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Lane {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if let Some(socket) = self.socket.get() {
            socket.send_raw(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task that owns the socket shuts it down, after its way out has drained.
        Poll::Ready(Ok(()))
    }
}
