//! Everything bad that can come over a socket, or lie in the data folder: each gets the code that
//! `docs/protocol.md` §10 and §9 name, nothing that was stored is lost, nobody else is disturbed.

mod disk;
mod folder;
mod frames;
mod hello;
mod items;
mod last;
mod load;

use crate::support::{
    Client, Link, Next, Options, SECRET, SOON, Server, WAIT, token, token_until, until,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highwater::wire::{
    Ack, Append, ClientFrame, Cloning, Code, Cursor, Encoding, Hello, Id, Item, Later, MAX_OFFSET,
    Open, Outcome, Payload, Ping, Pong, PutSnapshot, Record, Refresh, Retire, Seek, ServerFrame,
    Start, Subscribe, Target, Unsubscribe, WriterAt, codec,
};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

/// Somebody who is in the middle of work; looks after each case whether it goes on undisturbed.
struct Bystander {
    client: Client,
    stored: u64,
}

impl Bystander {
    fn new(server: &Server) -> Self {
        let client = Client::new("bystander").wanting("quiet/log").join(server);
        Self { client, stored: 0 }
    }

    fn goes_on(&mut self) {
        assert_eq!(self.client.store("quiet/log", "still here"), self.stored);
        self.stored += 1;
        self.client.reach("quiet/log", self.stored);
        assert!(self.client.active && self.client.closed.is_none());
    }

    /// And after a crash everything is there.
    fn survives(mut self, mut server: Server) {
        server.crash();
        let mut reader = Client::new("late").wanting("quiet/log").join(&server);
        reader.reach("quiet/log", self.stored);
        assert_eq!(reader.seen.len() as u64, self.stored);
        self.client.cut();
        self.client.connect(&server);
        self.goes_on();
    }
}

/// Names of logs that are none.
const BAD_NAMES: [&str; 14] = [
    "",
    "/",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/../b",
    "a/.",
    "a b",
    "a\u{7}b",
    "\u{e9}t\u{e9}",
    "a*",
    "a?b",
];

/// Takes frames until the socket closes: with `bye` of a code, and the close code of that.
fn closed_with(link: &mut Link, code: Code, what: &str) {
    let end = Instant::now() + WAIT;
    let mut bye = None;
    loop {
        match link.next(end) {
            Next::Frame(ServerFrame::Bye(told), _) => bye = Some(told),
            Next::Frame(..) => assert!(bye.is_none(), "{what}: bye is the last frame"),
            Next::Closed(number, reason) => {
                let bye = bye.unwrap_or_else(|| panic!("{what}: closed {number} without bye"));
                assert_eq!(bye.code, code, "{what}: {}", bye.message);
                assert!(!bye.message.is_empty(), "{what}: says what to do");
                assert_eq!(
                    (number, reason.as_str()),
                    (4000 + code.number(), code.name()),
                    "{what}"
                );
                return;
            }
            Next::Nothing => panic!("{what}: the socket stays open"),
        }
    }
}

fn hello(user: &str) -> Hello {
    Client::new(user).hello()
}

/// A link that was welcomed.
fn met(server: &Server, encoding: Encoding) -> Link {
    let mut link = Link::open(server.address, encoding);
    link.send(&ClientFrame::Hello(hello("bad")));
    match link.next(Instant::now() + WAIT) {
        Next::Frame(ServerFrame::Welcome(_), _) => link,
        other => panic!("not met: {other:?}"),
    }
}

fn binary(frame: &ClientFrame) -> Vec<u8> {
    codec::message(frame, Encoding::Bincode)
}

/// A binary frame of any kind and body.
fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.push(251);
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn first_is_answered(server: &Server, frames: &[ClientFrame], code: Code, what: &str) {
    for encoding in Encoding::ALL {
        let mut link = Link::open(server.address, encoding);
        link.send_all(frames);
        closed_with(&mut link, code, what);
    }
}
