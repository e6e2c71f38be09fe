//! What tests of this room share: a hub over a real store, and sockets whose other end they hold.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use super::face::tests::messages;
use super::hub::{Hub, HubLimits};
use super::{Face, Form, Socket};
use crate::connection::{Opened, Wanted, open};
use crate::delivery::Readable;
use crate::log::LogRow;
use crate::rows::{Key, Table, Writes};
use crate::store::{Options, Store};
use crate::wire::{Encoding, Id, ResetReason, ServerFrame, SnapshotRule, Start, codec};

/// The log of these tests.
pub(super) const LOG: u64 = 7;
/// How sockets of these tests are written to.
const FORM: Form = Form { face: Face::WebSocket, encoding: Encoding::Json, parts: false };
/// How long a test waits for what has to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A token that allows everything, or whose check is a fault of the program.
#[derive(Debug, Default)]
pub(super) struct Grants {
    pub faulty: bool,
}

impl Readable for Grants {
    fn may_read(&self, _: &str) -> bool {
        true
    }

    fn expires(&self) -> u64 {
        0
    }

    fn may_snapshot(&self, _: &str) -> bool {
        true
    }

    fn may_ask_who(&self, _: &str) -> bool {
        assert!(!self.faulty, "a fault that a test planted");
        true
    }
}

/// A hub over a store of its own.
pub(super) struct House {
    pub hub: Arc<Hub>,
    pub store: Store,
    _dir: TempDir,
}

impl House {
    /// Nothing is in it; tails hold so many bytes.
    pub(super) fn new(tail_bytes: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        let limits = HubLimits {
            tail_bytes,
            tail_bytes_per_log: tail_bytes,
            ping_interval: 60_000,
            refresh_grace: 0,
        };
        Self { hub: Hub::new(store.clone(), limits), store, _dir: dir }
    }

    /// The log's row is stored.
    pub(super) fn put(&self, row: &LogRow) {
        let mut writes = Writes::default();
        writes.rows.insert((Table::Logs, Key::of(LOG).build()), Some(codec::to_bytes(row)));
        self.store.commit(writes, None, true).unwrap();
    }

    /// A socket that the hub knows, and the other end of it.
    pub(super) fn socket(&self, id: u16) -> (Arc<Socket>, TcpStream) {
        self.socket_of(id, Grants::default())
    }

    /// The same, with a token.
    pub(super) fn socket_of(&self, id: u16, grants: impl Readable) -> (Arc<Socket>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let socket = Socket::new(
            self.hub.number(),
            Id(std::array::from_fn(|at| id.to_be_bytes()[at % 2])),
            "ann".to_owned(),
            (FORM, false),
            Arc::new(tokio::net::TcpStream::from_std(tcp).unwrap()),
            Arc::new(grants),
            1 << 20,
            1 << 16,
            self.hub.counts().clone(),
        );
        self.hub.admit(&socket);
        socket.lock().at.attached(1, true);
        (socket, peer)
    }

    /// Subscribes it from an offset on, to a log that ends at `head`.
    pub(super) fn subscribe(&self, socket: &Arc<Socket>, from: u64, head: u64) {
        let row = LogRow { head, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) };
        assert_eq!(self.hub.subscribe(socket, opened(&row, Start::Offset(from)), 1), Ok(()));
    }
}

/// How a log is opened for a newcomer.
pub(super) fn opened(row: &LogRow, start: Start) -> Opened {
    let wanted = Wanted {
        history: Default::default(),
        have: None,
        begun: None,
        start,
        committed: None,
        priority: 0,
        because: ResetReason::New,
    };
    open(LOG, row, &wanted)
}

/// Whether the socket's subscription is written to by the dispatcher.
pub(super) fn live(socket: &Socket) -> bool {
    socket.lock().at.live(LOG)
}

/// The next offset that the socket is sent.
pub(super) fn cursor(socket: &Socket) -> Option<u64> {
    socket.lock().at.cursors().find(|cursor| cursor.log == LOG).map(|cursor| cursor.next)
}

/// Takes all that comes until the node closes its side.
pub(super) fn to_the_end(peer: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    all
}

/// The frames of unmasked WebSocket messages in JSON, back to back; other messages are left out.
pub(super) fn frames(bytes: &[u8]) -> Vec<ServerFrame> {
    let texts = messages(bytes).into_iter().filter(|(first, _)| first & 0x0f == 1);
    let decode = |(_, text)| codec::decode::<ServerFrame>(text, Encoding::Json, 1 << 20);
    texts.flat_map(decode).map(|frame| frame.unwrap().0).collect()
}

/// Whether the last words are a WebSocket close of that code.
pub(super) fn ends_with_close(all: &[u8], code: u16) -> bool {
    let number = (4000 + code).to_be_bytes();
    // A close is short: its head is two bytes, and the code follows.
    (2..all.len().min(128)).any(|back| {
        let tail = &all[all.len() - back..];
        tail.first() == Some(&0x88) && tail.get(2..4) == Some(&number)
    })
}
