//! Sockets and the hub: what is due, what is acknowledged, how they are closed.

use std::sync::Arc;

use super::Socket;
use super::fixture::{House, LOG, ends_with_close, opened, to_the_end};
use super::socket::Phase;
use crate::connection::Reached;
use crate::log::{LogRow, SnapshotAt};
use crate::wire::{Code, Cursor, Ended, Refusal, Refused, ServerFrame, SnapshotRule, Start};

fn log() -> LogRow {
    LogRow::new("docs/a", SnapshotRule::None, 1, 0)
}

/// Its opening was told, and all of it sent.
fn sent(socket: &Socket, next: u64) {
    let mut inner = socket.lock();
    let sub = inner.subs.get_mut(&LOG).unwrap();
    (sub.phase, sub.cursor, sub.since, sub.told) = (Phase::Live, next, 0, true);
    inner.sent = 100;
}

/// What a client has reached goes with the last word on its socket, however often the socket is
/// seen off: by who fences it, by an answer that comes late, by its own task.
#[tokio::test]
async fn cursors_that_wait_for_their_commit_outlive_a_second_farewell() {
    let house = House::new(1 << 20);
    let (socket, _peer) = house.socket(1);
    house.subscribe(&socket, 0, 5);
    sent(&socket, 5);
    let cursor = Cursor { log: LOG, next: 4 };
    assert!(socket.acknowledge(100, &[cursor]).unwrap().0);
    let opening = socket.lock().subs.get(&LOG).unwrap().opening;
    house.hub.leave(&socket);
    house.hub.leave(&socket);
    assert_eq!(socket.take_last().reached, [Reached { log: LOG, next: 4, opening }]);
    assert!(socket.take_last().reached.is_empty(), "it is said once");
}

/// A back end that subscribes and unsubscribes a client that takes nothing: what is to be told of
/// it does not pile up without a bound.
#[tokio::test]
async fn what_a_back_end_does_piles_up_within_a_bound() {
    let house = House::new(1 << 20);
    let (socket, _peer) = house.socket(1);
    // As where the kernel took nothing.
    socket.lock().blocked = true;
    for _ in 0..20_000 {
        let told = Arc::clone(&socket);
        house.hub.subscribe(&told, opened(&log(), Start::End), 0);
        house.hub.end(&told, vec![LOG], 0, Ended::BackEnd);
    }
    assert!(socket.lock().due.len() < 10_000, "{}", socket.lock().due.len());
    assert!(socket.closing(), "it is told to come back, and then sees how things are");
}

/// Of a client that takes no answers, the last word is still a code.
#[tokio::test]
async fn too_many_replies_end_a_socket_with_a_code() {
    let house = House::new(1 << 20);
    let (socket, mut peer) = house.socket(1);
    let message = "x".repeat(256 << 10);
    let refusal = Refusal::because(Code::BadRequest, message);
    let frame = ServerFrame::Refused(Refused { request: 1, name: None, refusal });
    for _ in 0..200 {
        socket.send(std::slice::from_ref(&frame));
    }
    assert!(socket.closing());
    let reader = std::thread::spawn(move || to_the_end(&mut peer));
    while !socket.flush() {
        std::thread::yield_now();
    }
    drop((socket, house));
    assert!(ends_with_close(&reader.join().unwrap(), Code::Overloaded.number()));
}

/// What a watch begins with comes with the opening: while others wait for it, nobody reads a disk.
#[tokio::test]
async fn a_watch_begins_without_the_store() {
    let house = House::new(1 << 20);
    let (socket, _peer) = house.socket(1);
    let snapshot = SnapshotAt {
        offset: 3,
        upload: 1,
        parts: 1,
        bytes: 1,
        version: 1,
        origin: None,
        views: Vec::new(),
        confirmed: false,
        more: Default::default(),
    };
    let row = LogRow { head: 5, snapshots: vec![snapshot], ..log() };
    // The store does not have the log at all.
    let row = LogRow { rule: SnapshotRule::Client, ..row };
    assert!(house.hub.subscribe(&socket, opened(&row, Start::End), 1));
    assert_eq!(house.hub.watch(LOG).unwrap().lock().snapshot, 3);
}
