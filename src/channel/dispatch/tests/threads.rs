//! Fan-out on several threads: what crosses logs keeps its order to the records of each.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Instant;

use super::super::super::fixture::{frames, opened, to_the_end};
use super::super::super::pump::Pumps;
use super::*;
use crate::connection::Attachment;
use crate::wire::{Cursor, Start};

/// Logs, by number, which the threads share.
const LOGS: std::ops::RangeInclusive<u64> = 1..=7;
/// Batches that are told.
const BATCHES: u64 = 400;

fn name(log: u64) -> String {
    format!("docs/{log}")
}

/// A log that ends at `head`, as a back end opens it.
fn opens(log: u64, head: u64) -> Opened {
    let row = LogRow { head, ..LogRow::new(&name(log), SnapshotRule::None, 1, 0) };
    Opened { log, ..opened(&row, Start::Offset(head)) }
}

/// A socket that reads all logs, and what comes out of its other end.
fn reader(house: &House, id: u16) -> (Arc<Socket>, std::thread::JoinHandle<Vec<u8>>) {
    let (socket, mut peer): (_, TcpStream) = house.socket(id);
    for log in LOGS {
        assert_eq!(house.hub.subscribe(&socket, opens(log, 0), 1), Ok(()));
    }
    house.hub.schedule(&socket);
    (socket, std::thread::spawn(move || to_the_end(&mut peer)))
}

/// What a client that checks everything makes of all that it heard: where it stands in each log
/// that it still has.
fn stands(bytes: &[u8]) -> BTreeMap<u64, u64> {
    let (mut open, mut over) = (BTreeMap::new(), false);
    for frame in frames(bytes) {
        assert!(!over, "{frame:?} after the last words");
        match frame {
            ServerFrame::Subscribed(told) => {
                assert_eq!(open.insert(told.log, told.cursor), None, "it was open");
            }
            ServerFrame::Unsubscribed(told) => {
                assert!(open.remove(&told.log).is_some(), "it was not open");
            }
            ServerFrame::Records(records) => {
                let next = open.get_mut(&records.log).expect("the log is open");
                assert_eq!(records.base, *next, "log {}", records.log);
                *next += records.records.len() as u64;
            }
            ServerFrame::Bye(_) => over = true,
            _ => {}
        }
    }
    open
}

/// What a batch does besides appending: subscriptions end and begin anew, a socket is fenced.
fn crosses(number: u64, heads: &BTreeMap<u64, u64>, ids: &[Id]) -> Option<Event> {
    let log = number / 20 % 7 + 1;
    let (connection, fenced) = (ids[(number / 80 % 3) as usize], ids[3]);
    match number % 20 {
        5 => Some(Event::Closed { connection, logs: vec![log] }),
        15 => {
            let opened = vec![opens(log, heads[&log])];
            Some(Event::Opened { connection, generation: 1, opened })
        }
        0 if number == BATCHES / 2 => {
            let was = Attachment { node: Id::NONE, incarnation: 1 };
            Some(Event::Fenced { connection: fenced, was, generation: 2 })
        }
        _ => None,
    }
}

/// Told by the dispatcher while three threads write records and two pumps catch up.
#[tokio::test]
async fn what_crosses_logs_keeps_its_order_on_several_threads() {
    let house = House::new(16 << 20);
    let clock: Clock = Arc::new(|| 0);
    let pumps = Pumps::start(&house.hub, &clock, 2).unwrap();
    let (sockets, hears): (Vec<_>, Vec<_>) = (1..=5).map(|id| reader(&house, id)).unzip();
    let ids: Vec<Id> = sockets.iter().map(|socket| socket.connection).collect();
    let mut dispatcher = dispatcher(&house);
    // Some logs find no room, and the dispatcher takes their turns.
    dispatcher.crew.queue = 1;
    let dispatcher = dispatcher.with_fan_out(3, &clock).unwrap();
    let (tell, batches) = mpsc::sync_channel(64);
    let telling = std::thread::spawn(move || dispatcher.run(&batches, &|| 0));
    let mut heads: BTreeMap<u64, u64> = LOGS.map(|log| (log, 0)).collect();
    for number in 1..=BATCHES {
        let mut effects: Vec<_> =
            crosses(number, &heads, &ids).map(Effect::Event).into_iter().collect();
        for (log, head) in heads.iter_mut().filter(|(log, _)| (number + **log) % 3 != 0) {
            effects.push(Effect::Appended((*log, *head, stored())));
            *head += 1;
        }
        tell.send(batch(number, effects)).unwrap();
    }
    drop(tell);
    telling.join().unwrap();
    let end = Instant::now() + PATIENCE;
    let through = |socket: &Arc<Socket>| {
        // What the socket's task would do.
        house.hub.schedule(socket);
        socket.flush();
        let stands = |cursor: Cursor| cursor.next == heads[&cursor.log];
        let inner = socket.lock();
        inner.at.closing() || (!inner.at.waits() && inner.at.cursors().all(stands))
    };
    while !sockets.iter().all(through) {
        assert!(Instant::now() < end, "somebody waits for records that do not come");
        std::thread::yield_now();
    }
    pumps.stop();
    assert!(sockets[3].closing() && !sockets[4].closing());
    drop((house, sockets));
    for (at, heard) in hears.into_iter().enumerate() {
        let stands = stands(&heard.join().unwrap());
        assert!(at == 3 || stands == heads, "reader {at}: {stands:?}, {heads:?}");
    }
}
