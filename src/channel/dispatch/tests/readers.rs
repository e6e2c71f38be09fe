//! What fan-out asks of a log's readers, and what it leaves alone meanwhile.

use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

use super::super::super::fanout::FanOut;
use super::super::super::hub::Watch;
use super::super::super::outgoing::begin;
use super::*;
use crate::delivery::Readable;
use crate::wire::Pattern;

/// A turn waits for as long as its readers take, and who has left is none of them.
#[tokio::test]
async fn no_turn_waits_for_readers_that_have_left() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (left, _gone) = caught_up(&house, 1);
    let (_stays, _peer) = caught_up(&house, 2);
    house.hub.leave(&left);
    let mut dispatcher = dispatcher(&house);
    dispatcher.appended(LOG, 0, stored());
    dispatcher.crew.hand_out();
    // Two such readers would be worth a wait.
    dispatcher.crew.own.pace.wrote(1, Duration::from_micros(300));
    assert_eq!(dispatcher.crew.own.waits((1, 0)), None);
}

/// A token that may make snapshots or not, and that notes how often it was asked for that, and
/// whether the log's watch was locked meanwhile.
#[derive(Debug, Default)]
struct Makes {
    may: bool,
    watch: OnceLock<Arc<Watch>>,
    asked: AtomicUsize,
    locked: AtomicUsize,
}

#[derive(Debug)]
struct Made(Arc<Makes>);

impl Readable for Made {
    fn may_read(&self, _: &str) -> bool {
        true
    }

    fn expires(&self) -> u64 {
        0
    }

    fn may_snapshot(&self, _: &str) -> bool {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let locked = self.0.watch.get().is_some_and(|watch| watch.is_locked());
        self.0.locked.fetch_add(usize::from(locked), Ordering::Relaxed);
        self.0.may
    }

    fn may_ask_who(&self, _: &str) -> bool {
        true
    }
}

/// However many readers may make no snapshot, a slice of them at a time is asked for its grants,
/// and others have the log's watch meanwhile; the first that may is asked to make it, and no other.
#[tokio::test]
async fn who_may_make_a_snapshot_is_looked_for_by_slices() {
    let house = House::new(1 << 20);
    let row =
        LogRow { rule: SnapshotRule::Client, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) };
    house.put(&row);
    let reads = Arc::new(Makes::default());
    let makes = Arc::new(Makes { may: true, ..Makes::default() });
    let socket = |id, grants: &Arc<Makes>| house.socket_of(id, Made(Arc::clone(grants)));
    let mut sockets: Vec<_> = (1..).take(SLICE).map(|id| socket(id, &reads)).collect();
    sockets.extend((1_000..).take(3).map(|id| socket(id, &makes)));
    for (socket, _) in &sockets {
        let opened = opened(&row, Start::Offset(0));
        house.hub.subscribe(socket, opened, 1).unwrap();
        pump::serve(&house.hub, socket, 0);
        assert!(live(socket));
    }
    let watch = house.hub.watch(LOG).unwrap();
    [&reads, &makes].iter().for_each(|grants| grants.watch.set(Arc::clone(&watch)).unwrap());
    let rule = Rule { ask_after: 1, ..Rule::keep_all(Pattern::parse("docs/**").unwrap()) };
    let mut dispatcher = dispatcher(&house);
    dispatcher.crew.own = FanOut::new(Arc::clone(&house.hub), [rule].into());
    dispatcher.appended(LOG, 0, stored());
    dispatcher.crew.hand_out();
    dispatcher.crew.own.slice(0);
    let asked = |grants: &Makes| grants.asked.load(Ordering::Relaxed);
    assert_eq!((asked(&reads), asked(&makes)), (SLICE, 0), "those that were just written to");
    dispatcher.crew.own.slice(0);
    assert_eq!((asked(&reads), asked(&makes)), (SLICE, 1), "nobody after one that may");
    assert!(dispatcher.crew.own.idle());
    let locked = |grants: &Makes| grants.locked.load(Ordering::Relaxed);
    assert_eq!((locked(&reads), locked(&makes)), (0, 0));
    drop((dispatcher, watch));
    let told = sockets.into_iter().skip(SLICE).map(|(socket, mut peer)| {
        house.hub.leave(&socket);
        drop(socket);
        let frames = frames(&to_the_end(&mut peer));
        frames.iter().filter(|frame| matches!(frame, ServerFrame::SnapshotWanted(_))).count()
    });
    assert_eq!(told.collect::<Vec<_>>(), [1, 0, 0]);
}

/// Records that the tail has let go of are read from the disk, and others have the log's watch
/// meanwhile; of those that are stored and not told none goes out with them.
#[tokio::test]
async fn a_log_is_not_locked_while_its_records_are_read() {
    let house = House::new(0);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (_socket, _peer) = caught_up(&house, 1);
    let mut dispatcher = dispatcher(&house);
    dispatcher.appended(LOG, 0, stored());
    let watch = house.hub.watch(LOG).unwrap();
    let outgoing = begin(&house.hub, &watch, &[], |base| {
        assert!(!watch.is_locked());
        let stored = |offset| (offset, Stored::clone(&stored()));
        Ok(vec![stored(base), stored(base + 1)])
    });
    let outgoing = outgoing.expect("there is a record");
    assert_eq!((outgoing.base, outgoing.end(), watch.target()), (0, 1, 1));
    assert!(begin(&house.hub, &watch, &[], |_| unreachable!()).is_none());
    assert!(!watch.lock().pending);
}
