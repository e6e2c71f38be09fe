//! The floor: a bare epoll loop that writes what one socket sends to all others.
//!
//! It knows no log, no frame, no disk and no slow reader, so no server that does its work with one
//! write per socket and delivery can be cheaper. The first socket is the publisher; messages have
//! one size. What has come in whole by the time it reads is written at once, as one write.

use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::Outcome;

const LISTENER: Token = Token(usize::MAX);
/// Most sockets.
const MOST: usize = 20_000;

/// Serves until the publisher goes, or the process is ended.
pub fn serve(size: usize) -> Outcome<()> {
    if !(1..=1 << 20).contains(&size) {
        return Err("a message has 1 byte to 1 MiB".into());
    }
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut events = Events::with_capacity(1024);
    let mut conns: Vec<TcpStream> = Vec::new();
    let mut buffer = vec![0; size * 64];
    let mut filled = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, &mut conns)?,
                Token(0) => {
                    if !relay(&mut conns, &mut buffer, &mut filled, size)? {
                        return Ok(());
                    }
                }
                Token(_) => {}
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, conns: &mut Vec<TcpStream>) -> Outcome<()> {
    loop {
        let mut conn = match listener.accept() {
            Ok((conn, _)) => conn,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if conns.len() >= MOST {
            return Err("too many sockets".into());
        }
        conn.set_nodelay(true)?;
        poll.registry().register(&mut conn, Token(conns.len()), Interest::READABLE)?;
        // So that whoever counts readers knows that this one is there.
        conn.write_all(b"+")?;
        conns.push(conn);
    }
}

/// Writes what the publisher has sent to everyone else; whether the publisher is still there.
fn relay(
    conns: &mut [TcpStream],
    buffer: &mut [u8],
    filled: &mut usize,
    size: usize,
) -> Outcome<bool> {
    let Some((publisher, readers)) = conns.split_first_mut() else { return Ok(true) };
    loop {
        match publisher.read(buffer.get_mut(*filled..).unwrap_or_default()) {
            Ok(0) => return Ok(false),
            Ok(read) => *filled += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error.into()),
        }
        let whole = *filled - *filled % size;
        let messages = buffer.get(..whole).unwrap_or_default();
        if !messages.is_empty() {
            for reader in &mut *readers {
                // Messages are few and small: a reader that cannot take them has stopped reading.
                reader.write_all(messages)?;
            }
        }
        buffer.copy_within(whole..*filled, 0);
        *filled -= whole;
    }
}
