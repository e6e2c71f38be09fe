//! Sockets and the hub: what is due, what is acknowledged, how they are closed.

use std::sync::{Arc, mpsc};

use super::Socket;
use super::fixture::{Grants, House, LOG, PATIENCE, cursor, ends_with_close, opened, to_the_end};
use crate::connection::{Opened, Reached};
use crate::delivery::{Closing, Offer, Output, Readable, Slice, Wrote};
use crate::log::{LogRow, SnapshotAt};
use crate::wire::{Code, Cursor, Ended, Refusal, Refused, ServerFrame, SnapshotRule, Start};

fn log() -> LogRow {
    LogRow::new("docs/a", SnapshotRule::None, 1, 0)
}

/// Its opening is told, and records up to `next` are sent.
fn sent(socket: &Socket, next: u64) {
    let mut inner = socket.lock();
    while let Some(output) = inner.at.poll(0) {
        if let Output::Read(read) = output {
            assert_eq!(inner.at.offer_read(0, &read, 100), Offer::Write);
            inner.at.wrote_read(&read, 100, (next, Slice::Records), Wrote::All);
        }
    }
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
    let opening = 0;
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
    house.subscribe(&socket, 0, 0);
    sent(&socket, 0);
    // The kernel takes nothing.
    assert_eq!(socket.lock().at.offer(0, LOG, (0, 1), || 100), Offer::Write);
    socket.lock().at.wrote(LOG, 1, 100, Wrote::Nothing);
    for _ in 0..20_000 {
        let told = Arc::clone(&socket);
        house.hub.subscribe(&told, opened(&log(), Start::End), 0).unwrap();
        house.hub.end(&told, vec![LOG], 0, Ended::BackEnd);
    }
    assert!(!socket.lock().at.owes());
    assert!(socket.closing(), "it is told to come back, and then sees how things are");
}

/// What replies hold is known of all sockets together, without a look at each of them.
#[tokio::test]
async fn replies_that_wait_are_counted_together() {
    let house = House::new(0);
    let refusal = Refusal::because(Code::BadRequest, "x".repeat(64 << 10));
    let frame = ServerFrame::Refused(Refused { request: 1, name: None, refusal });
    let wait = |id| {
        let (socket, peer) = house.socket(id);
        while socket.waiting() == 0 {
            socket.send(std::slice::from_ref(&frame));
        }
        let waiting = socket.waiting();
        (socket, peer, waiting)
    };
    let (first, mut peer, one) = wait(1);
    let (second, other, two) = wait(2);
    assert_eq!(house.hub.stats().reply_bytes, one + two);
    first.lock().at.gone();
    let reader = std::thread::spawn(move || to_the_end(&mut peer));
    while !first.flush() {
        std::thread::yield_now();
    }
    assert_eq!(house.hub.stats().reply_bytes, two, "the first one's are with the kernel");
    house.hub.leave(&second);
    drop((second, other));
    assert_eq!(house.hub.stats().reply_bytes, 0, "and nobody waits for the second one's");
    house.hub.leave(&first);
    drop(first);
    assert!(reader.join().unwrap().len() >= one);
    assert_eq!(house.hub.stats().reply_bytes, 0);
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
    assert_eq!(house.hub.subscribe(&socket, opened(&row, Start::End), 1), Ok(()));
    assert_eq!(house.hub.watch(LOG).unwrap().lock().snapshot, 3);
}

/// Who leaves by its own word is not told that it was closed, and counts as no refusal.
#[tokio::test]
async fn who_has_left_hears_no_last_words() {
    let house = House::new(1 << 20);
    for leaves in [true, false] {
        let (socket, mut peer) = house.socket(u16::from(leaves));
        if leaves {
            socket.set_leaving();
        }
        socket.close(&Closing::new(Code::Fenced));
        while !socket.flush() {
            std::thread::yield_now();
        }
        house.hub.leave(&socket);
        drop(socket);
        let heard = to_the_end(&mut peer);
        assert_eq!(ends_with_close(&heard, Code::Fenced.number()), !leaves, "{heard:?}");
    }
}

/// A token that allows reading or does not, and says when it is looked at.
#[derive(Debug)]
struct Looked {
    may: bool,
    at: mpsc::Sender<()>,
}

impl Readable for Looked {
    fn may_read(&self, _: &str) -> bool {
        // Nobody listens any more where the test has seen what it waited for.
        self.at.send(()).ok();
        self.may
    }

    fn expires(&self) -> u64 {
        0
    }

    fn may_snapshot(&self, _: &str) -> bool {
        false
    }

    fn may_ask_who(&self, _: &str) -> bool {
        false
    }
}

/// Promise 11. A log is being opened, and its grants have been looked at; they shrink before it is
/// taken in: the test holds the log's watch for so long. The second look denies it.
#[tokio::test]
async fn promise_11_a_grant_that_shrinks_while_a_log_is_opened_denies_it() {
    let house = House::new(1 << 20);
    let (other, _stays) = house.socket(2);
    house.subscribe(&other, 0, 0);
    let (at, looks) = mpsc::channel();
    let (socket, _peer) = house.socket_of(1, Looked { may: true, at: at.clone() });
    let watch = house.hub.watch(LOG).unwrap();
    let held = watch.lock();
    let opening = std::thread::scope(|scope| {
        let opening = scope.spawn(|| house.hub.subscribe(&socket, opened(&log(), Start::End), 1));
        looks.recv_timeout(PATIENCE).expect("the grants are looked at first");
        assert!(socket.regrant(Arc::new(Looked { may: false, at })).is_empty());
        drop(held);
        opening.join().unwrap()
    });
    assert_eq!(opening, Err(Code::Denied));
    assert_eq!(cursor(&socket), None);
    assert_eq!(watch.lock().readers(), 1, "it has no place among the log's readers");
}

/// A log that many have left has as many readers as are left: the list of them shrinks, and a free
/// place in it is no reader.
#[tokio::test]
async fn who_has_left_is_no_reader() {
    let house = House::new(1 << 20);
    let readers: Vec<_> = (1..=40).map(|id| house.socket(id)).collect();
    readers.iter().for_each(|(socket, _)| house.subscribe(socket, 0, 0));
    let watch = house.hub.watch(LOG).unwrap();
    let list = || {
        let watched = watch.lock();
        (watched.readers(), watched.sockets.len())
    };
    let leave = |at: usize| house.hub.leave(&readers[at].0);
    (0..20).for_each(leave);
    assert_eq!(list(), (20, 40), "the last place is taken");
    (21..40).for_each(leave);
    assert_eq!(list(), (1, 21));
    // Who comes takes the first place that is free, so that the list stays short.
    let (late, _peer) = house.socket(41);
    house.subscribe(&late, 0, 0);
    assert_eq!(list(), (2, 21));
    leave(20);
    assert_eq!(list(), (1, 1));
    house.hub.leave(&late);
    assert!(house.hub.watch(LOG).is_none());
}

/// A client that refreshes its token to one that covers none of its many logs has asked for the
/// ends that it is told: it is not closed for what others do to it.
#[tokio::test]
async fn ends_that_a_refresh_brings_are_no_deed_of_others() {
    let house = House::new(1 << 20);
    let (socket, _peer) = house.socket_of(1, Grants::default());
    let logs: Vec<u64> = (1..=5_000).collect();
    for log in &logs {
        let row = LogRow::new(&format!("docs/{log}"), SnapshotRule::None, 1, 0);
        let opened = Opened { log: *log, ..opened(&row, Start::End) };
        house.hub.subscribe(&socket, opened, 1).unwrap();
    }
    sent(&socket, 0);
    house.hub.end_by_refresh(&socket, logs.clone());
    assert!(!socket.closing());
    // Nothing is left to be told when the rows have lost them too.
    house.hub.end(&socket, logs, 0, Ended::Denied);
    assert!(!socket.closing());
}
