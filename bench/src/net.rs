//! The load's sockets: many nonblocking ones under one epoll, with WebSocket framing of their own.
//!
//! A task per client would cost the one core of the load more than the server spends; here a
//! socket is a few vectors that are empty most of the time. Masks are zero: they are there, as
//! RFC 6455 asks of clients, and the server undoes them as it would any other.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;

/// Read at once; more than one socket gets in a turn.
const SCRATCH: usize = 256 << 10;
/// Most bytes that may wait to be written, or for the end of a message.
const MOST_WAITING: usize = 16 << 20;
/// How the body of a close begins that answers `leave`: 1000.
const LEFT: [u8; 2] = 1000_u16.to_be_bytes();

/// What was heard of a socket.
#[derive(Debug)]
pub enum Heard<'a> {
    /// The WebSocket is open.
    Open,
    /// The payload of a message.
    Message(&'a [u8]),
    /// Bytes of a socket that is no WebSocket.
    Raw(&'a [u8]),
    /// The server closed the WebSocket as it was asked to; nothing follows.
    Closed,
}

/// A socket of the load.
#[derive(Debug)]
pub struct Conn {
    tcp: TcpStream,
    partial: Vec<u8>,
    out: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Waits for the answer to its handshake.
    Opening,
    WebSocket,
    Raw,
    /// Ended in order, on the client's word.
    Closed,
}

impl Conn {
    /// Sends a binary message.
    pub fn send(&mut self, payload: &[u8]) -> Outcome<()> {
        self.frame(2, payload)
    }

    fn frame(&mut self, opcode: u8, payload: &[u8]) -> Outcome<()> {
        let mut head = Vec::with_capacity(payload.len() + 14);
        head.push(0x80 | opcode);
        match payload.len() {
            small @ 0..=125 => head.push(0x80 | u8::try_from(small)?),
            middle @ 126..=0xffff => {
                head.push(0x80 | 126);
                head.extend_from_slice(&u16::try_from(middle)?.to_be_bytes());
            }
            large => {
                head.push(0x80 | 127);
                head.extend_from_slice(&(large as u64).to_be_bytes());
            }
        }
        head.extend_from_slice(&[0; 4]);
        head.extend_from_slice(payload);
        self.write(&head)
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        if self.out.len() + bytes.len() > MOST_WAITING {
            return Err("the server does not read what it is sent".into());
        }
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return self.flush();
        }
        let written = match self.tcp.write(bytes) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.out.extend_from_slice(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    fn flush(&mut self) -> Outcome<()> {
        while !self.out.is_empty() {
            match self.tcp.write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        self.out = Vec::new();
        Ok(())
    }

    /// Takes bytes that came in; what is left of them belongs to a message that is not whole.
    fn take(
        &mut self,
        at: usize,
        mut bytes: &[u8],
        hear: &mut impl FnMut(usize, &mut Self, Heard<'_>) -> Outcome<()>,
    ) -> Outcome<usize> {
        let whole = bytes.len();
        if self.kind == Kind::Raw {
            hear(at, self, Heard::Raw(bytes))?;
            return Ok(whole);
        }
        if self.kind == Kind::Opening {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let Some(end) = end else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                let answer = String::from_utf8_lossy(bytes);
                return Err(format!("the handshake was refused: {}", answer.trim()).into());
            }
            bytes = bytes.get(end + 4..).unwrap_or_default();
            self.kind = Kind::WebSocket;
            hear(at, self, Heard::Open)?;
        }
        while let Some((opcode, payload, rest)) = split(bytes) {
            match opcode {
                2 => hear(at, self, Heard::Message(payload))?,
                9 => self.frame(10, payload)?,
                8 if payload.starts_with(&LEFT) => {
                    self.kind = Kind::Closed;
                    hear(at, self, Heard::Closed)?;
                }
                8 => {
                    let why = String::from_utf8_lossy(payload.get(2..).unwrap_or_default());
                    return Err(format!("the server closed socket {at}: {why}").into());
                }
                _ => {}
            }
            bytes = rest;
        }
        Ok(whole - bytes.len())
    }
}

/// The first frame of some bytes, if it is whole: opcode, payload, the rest.
fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let [first, second, rest @ ..] = bytes else { return None };
    let (length, rest) = match second & 0x7f {
        126 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk::<8>()?;
            (usize::try_from(u64::from_be_bytes(*length)).ok()?, rest)
        }
        small => (usize::from(small), rest),
    };
    let (payload, rest) = rest.split_at_checked(length)?;
    Some((first & 0x0f, payload, rest))
}

/// All sockets of a run.
#[derive(Debug)]
pub struct Net {
    poll: Poll,
    events: Events,
    scratch: Vec<u8>,
    /// By number, in the order in which they were opened.
    pub conns: Vec<Conn>,
}

impl Net {
    /// No socket yet.
    pub fn new() -> Outcome<Self> {
        let (poll, events) = (Poll::new()?, Events::with_capacity(1024));
        Ok(Self { poll, events, scratch: vec![0; SCRATCH], conns: Vec::new() })
    }

    /// Opens a WebSocket; [`Heard::Open`] follows.
    pub fn open(&mut self, address: SocketAddr) -> Outcome<usize> {
        let at = self.add(address, Kind::Opening)?;
        let handshake = format!(
            "GET /v1/connect HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: aGlnaHdhdGVyIGJlbmNoIQ==\r\n\
             Sec-WebSocket-Protocol: highwater.v1.bincode\r\n\r\n"
        );
        self.conn(at)?.write(handshake.as_bytes())?;
        Ok(at)
    }

    /// Opens a socket without WebSocket.
    pub fn open_raw(&mut self, address: SocketAddr) -> Outcome<usize> {
        self.add(address, Kind::Raw)
    }

    fn add(&mut self, address: SocketAddr, kind: Kind) -> Outcome<usize> {
        let tcp = std::net::TcpStream::connect(address).map_err(|error| {
            format!("socket {} could not be opened ({error}): check ulimit -n", self.conns.len())
        })?;
        tcp.set_nonblocking(true)?;
        tcp.set_nodelay(true)?;
        let mut tcp = TcpStream::from_std(tcp);
        let at = self.conns.len();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut tcp, Token(at), both)?;
        self.conns.push(Conn { tcp, partial: Vec::new(), out: Vec::new(), kind });
        Ok(at)
    }

    /// A socket by its number.
    pub fn conn(&mut self, at: usize) -> Outcome<&mut Conn> {
        self.conns.get_mut(at).ok_or_else(|| format!("there is no socket {at}").into())
    }

    /// Waits for something to come in, at most so long, and tells it.
    pub fn turn(
        &mut self,
        wait: Duration,
        mut hear: impl FnMut(usize, &mut Conn, Heard<'_>) -> Outcome<()>,
    ) -> Outcome<()> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            polled => polled?,
        }
        for event in &self.events {
            let at = event.token().0;
            let Some(conn) = self.conns.get_mut(at) else { continue };
            if event.is_writable() && !conn.out.is_empty() {
                conn.flush()?;
            }
            if event.is_readable() {
                read(at, conn, &mut self.scratch, &mut hear)?;
            }
        }
        Ok(())
    }
}

/// Reads a socket until it is dry: less than was asked for means that, for the edge comes again.
fn read(
    at: usize,
    conn: &mut Conn,
    scratch: &mut [u8],
    hear: &mut impl FnMut(usize, &mut Conn, Heard<'_>) -> Outcome<()>,
) -> Outcome<()> {
    loop {
        let read = match conn.tcp.read(scratch) {
            Ok(0) if conn.kind == Kind::Closed => return Ok(()),
            Ok(0) => return Err(format!("the server ended socket {at}").into()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let bytes = scratch.get(..read).unwrap_or_default();
        if conn.partial.is_empty() {
            let taken = conn.take(at, bytes, hear)?;
            conn.partial.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        } else {
            let mut joined = std::mem::take(&mut conn.partial);
            joined.extend_from_slice(bytes);
            let taken = conn.take(at, &joined, hear)?;
            joined.drain(..taken);
            conn.partial = joined;
        }
        if conn.partial.is_empty() {
            conn.partial = Vec::new();
        }
        if conn.partial.len() > MOST_WAITING {
            return Err("a message has no end".into());
        }
        if read < scratch.len() {
            return Ok(());
        }
    }
}
