//! Turns of the pumps over a real store: what is read, and what is not there.

use std::io::Read as _;

use super::super::fixture::{
    Grants, House, LOG, PATIENCE, ends_with_close, frames, live, opened, to_the_end,
};
use super::super::queue::Queue;
use super::*;
use crate::connection::Opened;
use crate::fold::{Batch, CacheSizes, Command, Fold, Header, Settings};
use crate::log::LogRow;
use crate::wire::{Id, Level, Origin, Payload, Place, Record, Who};

/// A few turns, as many as there is work for.
fn turns(house: &House, socket: &Arc<Socket>, most: usize) {
    for _ in 0..most {
        if !socket.wants_pump() {
            return;
        }
        serve(&house.hub, socket, 0);
    }
}

/// Records that a row says are kept and that are not there: no reader may wait for them for ever,
/// and none may be told that all is well.
#[tokio::test]
async fn records_that_are_not_there_close_the_socket_with_a_code() {
    let house = House::new(1 << 20);
    house.put(&LogRow { head: 5, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) });
    let (socket, mut peer) = house.socket(1);
    house.subscribe(&socket, 0, 5);
    turns(&house, &socket, 50);
    assert!(!socket.wants_pump(), "a pump reads in vain again and again");
    assert!(socket.closing());
    house.hub.leave(&socket);
    drop((socket, house));
    assert!(ends_with_close(&to_the_end(&mut peer), Code::Failed.number()));
}

/// Of a log that is deleted nothing is there either: that its end is on its way is no fault.
#[tokio::test]
async fn a_deleted_log_is_waited_for_in_peace() {
    let house = House::new(1 << 20);
    let row = LogRow::new("docs/a", SnapshotRule::None, 1, 0);
    house.put(&LogRow { head: 5, deleted: true, ..row });
    let (socket, _peer) = house.socket(1);
    house.subscribe(&socket, 0, 5);
    turns(&house, &socket, 50);
    assert!(!socket.wants_pump(), "a pump reads in vain again and again");
    assert!(!socket.closing());
}

/// Who opens a log at its head has all there is: nothing is read for it.
#[tokio::test]
async fn a_subscription_that_has_caught_up_costs_no_turn() {
    let house = House::new(1 << 20);
    let (socket, _peer) = house.socket(1);
    house.subscribe(&socket, 5, 5);
    serve(&house.hub, &socket, 0);
    assert!(live(&socket), "the turn that told its opening is the last");
    assert!(!socket.wants_pump());
    // Who is behind has turns.
    let (behind, _other) = house.socket(2);
    house.subscribe(&behind, 4, 5);
    serve(&house.hub, &behind, 0);
    assert!(!live(&behind) && behind.wants_pump());
}

/// Promise 15: a base that went away under its reader is begun anew at a later state, of which it
/// may see no place: it is told where the node stands.
#[tokio::test]
async fn who_is_given_another_base_is_told_where_the_node_stands() {
    let house = House::new(1 << 20);
    let row = LogRow { head: 5, ..LogRow::new("docs/a", SnapshotRule::Latest, 1, 0) };
    house.put(&LogRow { start: 5, rule: SnapshotRule::None, ..row.clone() });
    let position = Position { era: Id([3; 16]), batch: 9, chain: None };
    house.hub.stand(Some(position));
    let (socket, _peer) = house.socket(1);
    assert_eq!(house.hub.subscribe(&socket, opened(&row, Start::State), 1), Ok(()));
    // The opening, then the read that finds no base.
    turns(&house, &socket, 2);
    let next = socket.lock().at.poll(0);
    let Some(Output::Frames(_, frames)) = next else { panic!("{next:?}") };
    assert_eq!(frames, [ServerFrame::Ping(Ping { nonce: 0, positions: vec![position] })]);
}

/// Its store has folded one batch, by which an era begins: where it stands.
fn began(house: &House) -> Position {
    let settings = Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
    let journal = Id([5; 16]);
    let (level, sizes) = (Level::Synced, CacheSizes::default());
    let mut fold = Fold::open(&house.store, journal, level, settings, sizes).unwrap();
    let (node, incarnation, serial, time) = (Id([6; 16]), 1, 1, 7);
    let (version, known) = (fold.version(), fold.known());
    let header = Header { fold: version, journal, known, node, incarnation, serial, time };
    let commands = vec![Command::BeginEra { after: None, era: Id([7; 16]) }];
    let applied = fold.apply(1, b"the first", Batch { header, commands }, &house.store).unwrap();
    house.store.commit(applied.writes, None, true).unwrap();
    fold.position().unwrap()
}

/// Promise 15: a base leaves out what was written to a key since its offset, for it comes as a
/// record. Should the server lose that record, the key would be missing for ever: before the base
/// its client is told how far that depends on the log.
#[tokio::test]
async fn who_is_given_a_base_that_depends_on_later_records_is_told_of_them() {
    for (head, tells) in [(5, false), (6, true)] {
        let house = House::new(1 << 20);
        let position = began(&house);
        let row = LogRow::new("docs/a", SnapshotRule::Latest, 1, 0);
        let (socket, mut peer) = house.socket(1);
        let at_five = opened(&LogRow { head: 5, ..row.clone() }, Start::State);
        assert_eq!(house.hub.subscribe(&socket, at_five, 1), Ok(()));
        house.put(&LogRow { head, ..row });
        turns(&house, &socket, 2);
        while !socket.flush() {
            std::thread::yield_now();
        }
        house.hub.leave(&socket);
        drop((socket, house));
        let told = frames(&to_the_end(&mut peer));
        let base = |frame: &ServerFrame| matches!(frame, ServerFrame::BaseRecords(_));
        let before: Vec<_> = told.iter().take_while(|frame| !base(frame)).collect();
        assert!(before.len() < told.len(), "{told:?}");
        let ping = ServerFrame::Ping(Ping { nonce: 0, positions: vec![position] });
        assert_eq!(before.contains(&&ping), tells, "{told:?}");
    }
}

/// A fault in what is done for one socket is that socket's end, and nobody else's.
#[tokio::test]
async fn a_panic_in_a_turn_closes_its_socket_and_no_other() {
    let house = House::new(1 << 20);
    house.put(&LogRow { head: 5, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) });
    let clock: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(|| 0);
    let pumps = Pumps::start(&house.hub, &clock, 1).unwrap();
    let (faulty, mut peer) = house.socket_of(1, Grants { faulty: true });
    faulty.ask_who(Who { request: 1, log: LOG, offset: 0 }, 16).unwrap();
    house.hub.schedule(&faulty);
    let (other, mut hears) = house.socket(2);
    house.subscribe(&other, 5, 5);
    house.hub.schedule(&other);
    let mut first = [0; 1];
    hears.read_exact(&mut first).expect("the other socket is served");
    let end = std::time::Instant::now() + PATIENCE;
    while !faulty.closing() {
        assert!(std::time::Instant::now() < end, "its socket stays open");
        std::thread::yield_now();
    }
    pumps.stop();
    drop(faulty);
    drop((house, other));
    assert!(ends_with_close(&to_the_end(&mut peer), Code::Failed.number()));
}

/// Records in the log's tail, as if they had been told.
fn tail(house: &House, records: u64) {
    let origin = Origin { user: "ann".to_owned(), writer: Id([1; 16]), connection: Id([2; 16]) };
    let stored = Arc::new(Stored {
        place: Place::default(),
        time: 0,
        origin: Arc::new(origin),
        seq: 1,
        before: 0,
        derived: None,
        record: Record { payload: Some(Payload::text("x")), ..Record::default() },
    });
    let watch = house.hub.watch(LOG).unwrap();
    (0..records).for_each(|offset| watch.lock().tail.push(offset, Arc::clone(&stored)));
}

/// The pump that serves from memory reads no disk, which may be slow: what has to be read goes on
/// to the others, and who is behind on what is in memory is served meanwhile.
#[tokio::test]
async fn who_is_behind_on_what_is_in_memory_waits_for_no_disk() {
    let house = House::new(1 << 20);
    house.put(&LogRow { head: 3, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) });
    let (cold, _one) = house.socket(1);
    let (warm, _other) = house.socket(2);
    // The row says of three records that they are there, and only the tail has them, so that a look
    // at the disk ends in an error.
    house.subscribe(&warm, 0, 0);
    tail(&house, 3);
    let row = LogRow { head: 9, ..LogRow::new("docs/b", SnapshotRule::None, 1, 0) };
    let other = Opened { log: LOG + 1, ..opened(&row, Start::Offset(0)) };
    house.hub.subscribe(&cold, other, 1).unwrap();
    let behind = |socket: &Socket| socket.lock().at.behind();
    let memory = |socket: &Arc<Socket>| {
        house.hub.schedule(socket);
        match house.hub.queue.next(Reads::Memory) {
            Some(Work::Turn(one)) => {
                served(&house.hub, &one, || turn(&house.hub, &one, Reads::Memory, 0))
            }
            other => assert!(other.is_none(), "{other:?}"),
        }
    };
    // Each is told its opening; then the one is to be read for from the disk.
    (0..2).for_each(|_| memory(&cold));
    assert!(cold.queued.load(Ordering::Acquire) && !cold.closing(), "its read waits for a disk");
    house.hub.schedule(&cold);
    assert_eq!(house.hub.stats().behind, 1, "and it has no other turn until then");
    (0..3).for_each(|_| memory(&warm));
    assert!(live(&warm), "{:?}", warm.info());
    assert_eq!((behind(&warm), house.hub.stats().behind), (0, 1));
    match house.hub.queue.next(Reads::Disk) {
        Some(Work::Read(one, read)) => {
            served(&house.hub, &one, || act(&house.hub, &one, *read, None, 0))
        }
        other => panic!("{other:?}"),
    }
    assert!(!cold.queued.load(Ordering::Acquire), "the disk was asked");
    assert_eq!((behind(&cold), house.hub.stats().behind), (0, 0));
}

/// Of the pumps that may read the disk none is for one kind of work alone: reads that were handed
/// on and turns come by turns.
#[tokio::test]
async fn reads_and_turns_come_by_turns() {
    let house = House::new(1 << 20);
    let sockets: Vec<_> = (1..=4).map(|id| house.socket(id)).collect();
    let queue = Queue::default();
    let look = || Output::Close(Closing::new(Code::Failed));
    for (at, (socket, _)) in sockets.iter().enumerate() {
        match at % 2 {
            0 => queue.push(Arc::clone(socket)),
            _ => queue.hand_on(Arc::clone(socket), look()),
        }
    }
    let reads: Vec<bool> =
        (0..4).map(|_| matches!(queue.next(Reads::Disk), Some(Work::Read(..)))).collect();
    assert_eq!(reads, [true, false, true, false]);
    assert!(queue.next(Reads::Disk).is_none());
    queue.hand_on(Arc::clone(&sockets[0].0), look());
    assert!(queue.next(Reads::Memory).is_none(), "it is not for this one");
    assert_eq!(queue.len(), 1);
}
