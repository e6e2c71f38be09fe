//! What a client of a load says by hand, and what it understands: frames of `highwater::wire`.
//!
//! Here so many records come and go that the client of the product (`user.rs`) would be measured
//! with the server: a reader of a fan-out compares a delivery with the one before it, a writer
//! counts its answers.

use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::wire::{
    Append, ClientFrame, Cloning, Encoding, Hello, Id, Item, MAX_FRAME_BYTES, Open, Payload, Pong,
    Record, ServerFrame, Start, Target, codec, version,
};

use crate::net::{Conn, Heard, Net};
use crate::server::Server;
use crate::{Failure, Outcome};

/// Sockets that are being met at once.
const MEETING: usize = 256;
/// How long nothing may happen before a run is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An id of a client: its number and what it is for.
pub fn id(number: usize, role: u8) -> Id {
    let mut id = [role; 16];
    let bytes = (number as u64).to_be_bytes();
    id.iter_mut().skip(8).zip(bytes).for_each(|(to, from)| *to = from);
    Id(id)
}

/// A client's first frame; `open`: the log it reads from its end.
pub fn hello(connection: Id, open: Option<&str>) -> ClientFrame {
    let open =
        open.map(|name| Open { name: name.to_owned(), have: None, start: Start::End, priority: 0 });
    ClientFrame::Hello(Hello {
        version: version::PROTOCOL,
        capabilities: Vec::new(),
        token: None,
        connection,
        device: None,
        client: "bench".to_owned(),
        visible: true,
        cloning: Cloning::None,
        writers: Vec::new(),
        open: open.into_iter().collect(),
        window: 0,
        positions: Vec::new(),
        bases: Vec::new(),
    })
}

/// Sends frames as one message.
pub fn say(conn: &mut Conn, frame: &ClientFrame) -> Outcome<()> {
    conn.send(&codec::message(frame, Encoding::Bincode))
}

/// The frames of a message, with the bytes that flow control counts; pings are answered, a farewell
/// or a refusal is a failure.
pub fn frames(conn: &mut Conn, message: &[u8]) -> Outcome<Vec<(ServerFrame, u64)>> {
    let mut frames = Vec::new();
    for frame in codec::decode::<ServerFrame>(message, Encoding::Bincode, MAX_FRAME_BYTES) {
        let (frame, size) = frame?;
        match frame {
            ServerFrame::Ping(ping) => {
                say(conn, &ClientFrame::Pong(Pong { nonce: ping.nonce }))?;
            }
            ServerFrame::Bye(bye) => return Err(format!("the server said bye: {bye:?}").into()),
            ServerFrame::Refused(no) => return Err(format!("the server refused: {no:?}").into()),
            ServerFrame::Gap(gap) => return Err(format!("a gap: {gap:?}").into()),
            frame => frames.push((frame, size as u64)),
        }
    }
    Ok(frames)
}

/// A writer with records of one size for one log.
#[derive(Debug)]
pub struct Writer {
    id: Id,
    to: String,
    payload: Bytes,
    /// Where the bytes of varied payloads come from, if they are.
    varied: Option<u64>,
    /// Last sequence sent.
    pub sent: u64,
    /// Last sequence answered.
    pub answered: u64,
}

impl Writer {
    /// Nothing sent yet.
    pub fn new(id: Id, to: String, payload: usize) -> Self {
        // Not all alike, so that nothing on the way can make it small.
        let payload = (0..payload).map(|at| (at * 167 % 251) as u8).collect::<Vec<_>>().into();
        Self { id, to, payload, varied: None, sent: 0, answered: 0 }
    }

    /// The same with other bytes in each record, which do not pack: what is written is then not
    /// less than what came.
    pub fn varied(mut self) -> Self {
        let Id(id) = self.id;
        self.varied = Some(
            id.iter().fold(1, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte))),
        );
        self
    }

    fn next_payload(&mut self) -> Bytes {
        let Some(state) = &mut self.varied else { return self.payload.clone() };
        let length = self.payload.len();
        let mut payload = Vec::with_capacity(length + 8);
        while payload.len() < length {
            // SplitMix64: as even as a payload has to be.
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            payload.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
        }
        payload.truncate(length);
        payload.into()
    }

    /// Sends so many records in one frame.
    pub fn append(&mut self, conn: &mut Conn, count: usize) -> Outcome<()> {
        let items = (0..count)
            .map(|_| {
                self.sent += 1;
                Item {
                    seq: self.sent,
                    prev: self.sent - 1,
                    to: Target::Name(self.to.clone()),
                    if_head: None,
                    record: Record {
                        payload: Some(Payload::binary(self.next_payload())),
                        ..Record::default()
                    },
                }
            })
            .collect();
        let oldest = self.answered + 1;
        say(
            conn,
            &ClientFrame::Append(Append {
                writer: self.id,
                oldest,
                items,
                positions: vec![],
                made: vec![],
            }),
        )
    }

    /// Takes answers; any but "stored", in order, is a failure. How many there were.
    pub fn answers(&mut self, answers: &highwater::wire::Answers) -> Outcome<usize> {
        for answer in &answers.answers {
            let stored = matches!(answer.outcome, highwater::wire::Outcome::Stored { .. });
            if !stored || answer.seq != self.answered + 1 {
                let due = self.answered + 1;
                return Err(format!("answer {due} was due, and came {answer:?}").into());
            }
            self.answered = answer.seq;
        }
        Ok(answers.answers.len())
    }
}

/// Opens sockets until `count` more have been met, subscribed to a log if one is named. Ids begin
/// with the number of sockets that are there.
pub fn meet(net: &mut Net, server: &Server, count: usize, log: Option<&str>) -> Outcome<()> {
    let first = net.conns.len();
    let (mut opened, mut met) = (0, 0);
    let mut deadline = Instant::now() + PATIENCE;
    while met < count {
        while opened < count && opened - met < MEETING {
            net.open(server.address)?;
            opened += 1;
        }
        let before = met;
        net.turn(Duration::from_millis(100), |at, conn, heard| {
            match heard {
                Heard::Open => say(conn, &hello(id(at, 1), log))?,
                Heard::Message(message) if at >= first => {
                    for (frame, _) in frames(conn, message)? {
                        met += match frame {
                            ServerFrame::Welcome(_) => usize::from(log.is_none()),
                            ServerFrame::Subscribed(_) => 1,
                            other => {
                                return Err(format!("unexpected while meeting: {other:?}").into());
                            }
                        };
                    }
                }
                Heard::Message(message) => drop(frames(conn, message)?),
                Heard::Raw(_) | Heard::Closed => {}
            }
            Ok(())
        })?;
        if met > before {
            deadline = Instant::now() + PATIENCE;
        }
        patient(deadline, || format!("only {met} of {count} sockets were met"))?;
    }
    Ok(())
}

/// A failure when nothing has happened for too long.
pub fn patient(deadline: Instant, what: impl FnOnce() -> String) -> Outcome<()> {
    if Instant::now() > deadline {
        return Err(Failure(format!("nothing happened for {PATIENCE:?}: {}", what())));
    }
    Ok(())
}
