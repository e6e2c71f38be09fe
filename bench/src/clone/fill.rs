//! Fills logs with millions of small records, and puts snapshots.
//!
//! Promise: it returns when every record is acknowledged as synced and the log's head is where it
//! should be. A server that asks for a pause gets it, and is then sent the same again.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::wire::{
    Answers, Append, ClientFrame, Id, Item, Outcome as Fate, Payload, PutSnapshot, Record,
    ServerFrame, Target,
};

use crate::Outcome;
use crate::net::{Conn, Heard, Net};
use crate::server::Server;
use crate::talk::{PATIENCE, frames, id, meet, patient, say};

/// Clients that fill a log together.
const CLIENTS: usize = 8;
/// Records in a frame; a client has two of them out.
const A_FRAME: u64 = 512;
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
    writer: Id,
    /// Sequence of the first record of this log, the last one that is its own to send, the last
    /// one sent, the last one stored.
    first: u64,
    own: u64,
    sent: u64,
    stored: u64,
    /// Items without an answer.
    out: u64,
    /// When to go on, after a refusal.
    pause: Option<Instant>,
}

/// What is being filled.
struct Work<'a> {
    log: &'a str,
    /// Records that no client has taken yet.
    left: u64,
    keys: u64,
    payload: &'a Bytes,
    /// Id and head, as answers have told them.
    id: u64,
    head: u64,
    again: u64,
}

impl Filler {
    /// Opens its sockets.
    pub fn new(server: &Server, payload: usize) -> Outcome<Self> {
        let mut net = Net::new()?;
        meet(&mut net, server, CLIENTS, None)?;
        let pipe = |at| Pipe {
            writer: id(at, 2),
            first: 1,
            own: 0,
            sent: 0,
            stored: 0,
            out: 0,
            pause: None,
        };
        let payload = (0..payload).map(|at| (at * 167 % 251) as u8).collect::<Vec<_>>().into();
        Ok(Self { net, pipes: (0..CLIENTS).map(pipe).collect(), payload, again: 0 })
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
        let Self { net, pipes, payload, again } = self;
        let left = due.end - due.start;
        let mut work = Work { log, left, keys, payload, id: 0, head: due.start, again: 0 };
        let pipes = pipes.get_mut(..clients).ok_or("no such clients")?;
        for pipe in pipes.iter_mut() {
            pipe.first = pipe.own + 1;
        }
        let mut heard_at = Instant::now();
        while work.left > 0 || pipes.iter().any(|pipe| pipe.stored < pipe.own) {
            for (at, pipe) in pipes.iter_mut().enumerate() {
                pipe.send(net.conn(at)?, &mut work)?;
            }
            net.turn(Duration::from_millis(5), |at, conn, heard| {
                let Heard::Message(message) = heard else { return Err("no message".into()) };
                for (frame, _) in frames(conn, message)? {
                    let ServerFrame::Answers(answers) = frame else {
                        return Err(format!("unexpected while filling: {frame:?}").into());
                    };
                    heard_at = Instant::now();
                    let pipe = pipes.get_mut(at).ok_or("an answer for nobody")?;
                    pipe.hear(&answers, &mut work)?;
                    pipe.send(conn, &mut work)?;
                }
                Ok(())
            })?;
            patient(heard_at + PATIENCE, || format!("{log} is not being filled"))?;
        }
        *again += work.again;
        if work.head != due.end {
            return Err(format!("{log} has its head at {}, not {}", work.head, due.end).into());
        }
        Ok(work.id)
    }

    /// Puts a snapshot and waits until it counts.
    pub fn put(&mut self, log: u64, offset: u64, content: &Bytes) -> Outcome<()> {
        let conn = self.net.conn(0)?;
        let parts = content.len().div_ceil(A_PART);
        for part in 0..parts {
            let end = content.len().min((part + 1) * A_PART);
            let data = Payload::binary(content.slice(part * A_PART..end));
            let (part, last) = (u32::try_from(part)?, part + 1 == parts);
            let put = PutSnapshot { request: 1, log, offset, version: 1, part, last, data };
            say(conn, &ClientFrame::PutSnapshot(put))?;
        }
        let (mut done, deadline) = (false, Instant::now() + PATIENCE);
        while !done {
            self.net.turn(Duration::from_millis(5), |_, conn, heard| {
                let Heard::Message(message) = heard else { return Err("no message".into()) };
                for (frame, _) in frames(conn, message)? {
                    match frame {
                        ServerFrame::Done(_) => done = true,
                        other => return Err(format!("unexpected to a snapshot: {other:?}").into()),
                    }
                }
                Ok(())
            })?;
            patient(deadline, || format!("the snapshot of log {log} is not done"))?;
        }
        Ok(())
    }
}

impl Pipe {
    /// Sends as much as may be out; what was refused goes first, when its time has come.
    fn send(&mut self, conn: &mut Conn, work: &mut Work<'_>) -> Outcome<()> {
        if let Some(until) = self.pause {
            // Answers to what followed the refused record are refusals too: they come first.
            if self.out > 0 || Instant::now() < until {
                return Ok(());
            }
            self.pause = None;
            self.sent = self.stored;
        }
        while self.out <= A_FRAME {
            if self.sent == self.own {
                let more = work.left.min(A_FRAME);
                work.left -= more;
                self.own += more;
            }
            let last = self.own.min(self.sent + A_FRAME);
            if last == self.sent {
                return Ok(());
            }
            let items = (self.sent + 1..=last).map(|seq| self.item(seq, work)).collect();
            let (writer, oldest) = (self.writer, self.stored + 1);
            say(
                conn,
                &ClientFrame::Append(Append {
                    writer,
                    oldest,
                    items,
                    positions: vec![],
                    made: vec![],
                }),
            )?;
            self.out += last - self.sent;
            self.sent = last;
        }
        Ok(())
    }

    /// The same for a sequence each time it is sent.
    fn item(&self, seq: u64, work: &Work<'_>) -> Item {
        let number = (seq - self.first).checked_rem(work.keys);
        Item {
            seq,
            prev: seq - 1,
            to: Target::Name(work.log.to_owned()),
            if_head: None,
            record: Record {
                key: number.map(|number| format!("key-{number:06}")),
                payload: Some(Payload::binary(work.payload.clone())),
                ..Record::default()
            },
        }
    }

    fn hear(&mut self, answers: &Answers, work: &mut Work<'_>) -> Outcome<()> {
        for answer in &answers.answers {
            self.out = self.out.checked_sub(1).ok_or("an answer too many")?;
            match &answer.outcome {
                Fate::Stored { log, offset, .. } if answer.seq == self.stored + 1 => {
                    self.stored += 1;
                    work.id = *log;
                    work.head = work.head.max(offset + 1);
                }
                Fate::Refused(no) if no.code.class() == highwater::wire::Class::Transient => {
                    work.again += 1;
                    let wait = Duration::from_millis(u64::from(no.retry_after).max(1));
                    self.pause = self.pause.max(Some(Instant::now() + wait));
                }
                _ => return Err(format!("unexpected answer to a record: {answer:?}").into()),
            }
        }
        Ok(())
    }
}
