//! Fills logs with millions of small records, and puts snapshots.
//!
//! Promise: it returns when every record is acknowledged as synced and the log's head is where it
//! should be. A server that asks for a pause gets it, and is then sent the same again.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::client::{Config, Event};
use highwater::wire::{
    ClientFrame, Outcome as Fate, Payload, PutSnapshot, Record, ServerFrame, Target,
};

use crate::Outcome;
use crate::net::{Conn, Net};
use crate::server::Server;
use crate::talk::{PATIENCE, id, patient};
use crate::user::User;

/// Clients that fill a log together.
const CLIENTS: usize = 8;
/// Records in a frame; a client has two of them out.
const A_FRAME: usize = 512;
/// Bytes of a part of a snapshot.
const A_PART: usize = 256 << 10;

/// Clients that fill logs.
#[derive(Debug)]
pub struct Filler {
    net: Net,
    pipes: Vec<Pipe>,
    payload: Bytes,
    /// Records that were refused for a while.
    pub again: u64,
}

/// One client with its writer.
#[derive(Debug)]
struct Pipe {
    user: User,
    /// Records of this log that it took.
    taken: u64,
}

/// What is being filled.
struct Work<'a> {
    log: &'a str,
    /// Records that no client has taken yet.
    left: u64,
    keys: u64,
    /// Id and head, as answers have told them.
    id: u64,
    head: u64,
    again: u64,
}

impl Filler {
    /// Opens its sockets.
    pub fn new(server: &Server, payload: usize) -> Outcome<Self> {
        let mut net = Net::new()?;
        let mut pipes = Vec::new();
        for at in 0..CLIENTS {
            net.open(server.address)?;
            let config = Config::new(id(at, 1), id(at, 2));
            let config = Config { name: "bench".to_owned(), ..config };
            pipes.push(Pipe { user: User::new(config), taken: 0 });
        }
        let payload = (0..payload).map(|at| (at * 167 % 251) as u8).collect::<Vec<_>>().into();
        let mut filler = Self { net, pipes, payload, again: 0 };
        let deadline = Instant::now() + PATIENCE;
        while filler.pipes.iter().any(|pipe| !pipe.user.client().is_met()) {
            filler.turn(|_| Ok(()))?;
            patient(deadline, || "not all who fill were met".to_owned())?;
        }
        Ok(filler)
    }

    /// Hears what comes for a moment, and does what is due.
    fn turn(&mut self, mut told: impl FnMut(Event) -> Outcome<()>) -> Outcome<()> {
        let Self { net, pipes, .. } = self;
        net.turn(Duration::from_millis(5), |at, conn, heard| {
            let pipe = pipes.get_mut(at).ok_or("a message for nobody")?;
            pipe.user.hear(conn, &heard)?.into_iter().try_for_each(&mut told)
        })?;
        for (at, pipe) in pipes.iter_mut().enumerate() {
            pipe.user.tick(net.conn(at)?)?.into_iter().try_for_each(&mut told)?;
        }
        Ok(())
    }

    /// Appends a range of offsets with all clients; with keys, records take them in turn. The
    /// log's id.
    pub fn fill(&mut self, log: &str, offsets: Range<u64>, keys: u64) -> Outcome<u64> {
        self.append(log, offsets, keys, CLIENTS)
    }

    /// The same with one client, so that the order of keys is that of offsets.
    pub fn end(&mut self, log: &str, offsets: Range<u64>, keys: u64) -> Outcome<u64> {
        self.append(log, offsets, keys, 1)
    }

    fn append(&mut self, log: &str, due: Range<u64>, keys: u64, clients: usize) -> Outcome<u64> {
        let mut work =
            Work { log, left: due.end - due.start, keys, id: 0, head: due.start, again: 0 };
        self.pipes.iter_mut().for_each(|pipe| pipe.taken = 0);
        let mut heard_at = Instant::now();
        while work.left > 0 || self.pipes.iter().any(|pipe| pipe.user.client().unanswered() > 0) {
            for (at, pipe) in self.pipes.iter_mut().take(clients).enumerate() {
                pipe.send(self.net.conn(at)?, &self.payload, &mut work)?;
            }
            self.turn(|event| {
                heard_at = Instant::now();
                work.told(event)
            })?;
            patient(heard_at + PATIENCE, || format!("{log} is not being filled"))?;
        }
        self.again += work.again;
        if work.head != due.end {
            return Err(format!("{log} has its head at {}, not {}", work.head, due.end).into());
        }
        Ok(work.id)
    }

    /// Puts a snapshot and waits until it counts.
    pub fn put(&mut self, log: u64, offset: u64, content: &Bytes) -> Outcome<()> {
        let conn = self.net.conn(0)?;
        let pipe = self.pipes.first_mut().ok_or("no such client")?;
        let parts = content.len().div_ceil(A_PART);
        for part in 0..parts {
            let end = content.len().min((part + 1) * A_PART);
            let data = Payload::binary(content.slice(part * A_PART..end));
            let (part, last) = (u32::try_from(part)?, part + 1 == parts);
            let put = PutSnapshot { request: 1, log, offset, version: 1, part, last, data };
            pipe.user.act(conn, |client| client.send_raw(ClientFrame::PutSnapshot(put)))?;
        }
        let (mut done, deadline) = (false, Instant::now() + PATIENCE);
        while !done {
            self.turn(|event| match event {
                Event::Frame(ServerFrame::Done(_)) => {
                    done = true;
                    Ok(())
                }
                other => Err(format!("unexpected to a snapshot: {other:?}").into()),
            })?;
            patient(deadline, || format!("the snapshot of log {log} is not done"))?;
        }
        Ok(())
    }
}

impl Pipe {
    /// Takes as much of the work as may be out at once.
    fn send(&mut self, conn: &mut Conn, payload: &Bytes, work: &mut Work<'_>) -> Outcome<()> {
        while work.left > 0 && self.user.client().unanswered() <= A_FRAME {
            let more = work.left.min(A_FRAME as u64);
            let items: Vec<_> = (self.taken..self.taken + more)
                .map(|number| {
                    let key = number.checked_rem(work.keys);
                    let record = Record {
                        key: key.map(|number| format!("key-{number:06}")),
                        payload: Some(Payload::binary(payload.clone())),
                        ..Record::default()
                    };
                    (Target::Name(work.log.to_owned()), record)
                })
                .collect();
            work.left -= more;
            self.taken += more;
            for event in self.user.act(conn, |client| {
                client.append_all(items);
            })? {
                work.told(event)?;
            }
        }
        Ok(())
    }
}

impl Work<'_> {
    fn told(&mut self, event: Event) -> Outcome<()> {
        match event {
            Event::Settled { outcome: Fate::Stored { log, offset, .. }, .. } => {
                self.id = log;
                self.head = self.head.max(offset + 1);
            }
            Event::PutOff { .. } => self.again += 1,
            other => return Err(format!("unexpected while filling: {other:?}").into()),
        }
        Ok(())
    }
}
