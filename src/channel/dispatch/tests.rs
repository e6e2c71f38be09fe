//! The dispatcher over a real store, told of records by the test.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, TrySendError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::super::appending::Appending;
use super::super::fanout::SLICE;
use super::super::fixture::{House, LOG, PATIENCE, cursor, frames, live, opened, to_the_end};
use super::super::pace::Pace;
use super::super::pump;
use super::*;
use crate::connection::Budgets;
use crate::delivery::Output;
use crate::fold::{Applied, CacheSizes, FOLD_VERSION, Fold, Header, Known, Settings};
use crate::journal::{Committer, Engine, Follower, Local, QueueLimits};
use crate::limit::{Limits, Rates};
use crate::log::LogRow;
use crate::wire::{
    Answer, Answers, Level, Origin, Outcome, Payload, Ping, Place, Record, Refused, SnapshotRule,
    Start, Unsubscribed, Whom,
};

mod readers;
mod threads;

#[derive(Debug)]
struct Nobody;

impl Revoking for Nobody {
    fn learn(&self, _: Whom, _: Option<u64>) {}

    fn close(&self, _: &Hub) {}
}

/// A dispatcher that nothing tells of batches but the test.
fn dispatcher(house: &House) -> Dispatcher {
    dispatcher_with(house, Arc::new(Nobody))
}

fn dispatcher_with(house: &House, revoking: Arc<dyn Revoking>) -> Dispatcher {
    dispatching(house, revoking).0
}

/// The same, and who would commit what is handed in.
fn dispatching(house: &House, revoking: Arc<dyn Revoking>) -> (Dispatcher, Committer<Ticket>) {
    let journal = Engine::Here(Local::new(house.store.clone(), 0));
    let (identity, level) = (journal.identity(), journal.level());
    let budgets = Budgets::from(&Limits::DEFAULT);
    let settings = Settings { rules: Vec::new(), budgets, auto_create: true };
    let sizes = CacheSizes::default();
    let fold = Fold::open(&house.store, identity, level, settings, sizes).unwrap();
    let limits = QueueLimits { commands: 16, bytes: 1 << 20, told: 16 };
    let clock = Arc::new(|| 0);
    let (committer, inbox, _) = Committer::new(fold, journal, house.store.clone(), clock, limits);
    let (hub, node) = (Arc::clone(&house.hub), (Id::NONE, 1));
    let followers = hub.followers();
    (Dispatcher::new(hub, followers, revoking, inbox, node, 0, Vec::new()), committer)
}

fn stored() -> Arc<Stored> {
    let payload = Some(Payload::text("x"));
    let origin = Origin { user: "ann".to_owned(), writer: Id([1; 16]), connection: Id([2; 16]) };
    Arc::new(Stored {
        place: Place { batch: 1, index: 0 },
        time: 0,
        origin: Arc::new(origin),
        seq: 1,
        before: 0,
        derived: None,
        record: Record { payload, ..Record::default() },
    })
}

/// All readers have their turns.
fn slices(dispatcher: &mut Dispatcher) {
    dispatcher.crew.hand_out();
    while !dispatcher.crew.own.idle() {
        dispatcher.crew.own.slice(0);
    }
}

/// A socket that has caught up with a log that has no records.
fn caught_up(house: &House, id: u16) -> (Arc<Socket>, std::net::TcpStream) {
    let (socket, peer) = house.socket(id);
    house.subscribe(&socket, 0, 0);
    for _ in 0..4 {
        pump::serve(&house.hub, &socket, 0);
    }
    assert!(live(&socket));
    (socket, peer)
}

/// Records that nobody kept in memory, and that a trim took before they were sent: whoever waited
/// for them is told of the gap at once, not when the next record comes.
#[tokio::test]
async fn what_was_trimmed_before_it_was_sent_is_told_as_a_gap() {
    let house = House::new(0);
    let row = LogRow::new("docs/a", SnapshotRule::None, 1, 0);
    house.put(&row);
    let (socket, _peer) = caught_up(&house, 1);
    house.put(&LogRow { head: 1, start: 1, ..row });
    let mut dispatcher = dispatcher(&house);
    dispatcher.appended(LOG, 0, stored());
    slices(&mut dispatcher);
    assert!(socket.queued.load(Ordering::Acquire), "a pump is to tell it");
    for _ in 0..4 {
        pump::serve(&house.hub, &socket, 0);
    }
    assert!(live(&socket));
    assert_eq!(cursor(&socket), Some(1), "it stands behind it");
}

/// While a slice of readers is written to, others have the log's watch.
#[tokio::test]
async fn a_log_is_not_locked_while_its_readers_are_written_to() {
    let house = House::new(1 << 20);
    let row = LogRow::new("docs/a", SnapshotRule::None, 1, 0);
    house.put(&row);
    let (first, _one) = caught_up(&house, 1);
    let (second, _other) = caught_up(&house, 2);
    let mut dispatcher = dispatcher(&house);
    dispatcher.appended(LOG, 0, stored());
    dispatcher.crew.hand_out();
    let watch = house.hub.watch(LOG).unwrap();
    // The first reader is being written to for as long as this lasts.
    let busy = first.lock();
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || dispatcher.crew.own.slice(0));
        scope.spawn(|| {
            // Past this the slice has begun.
            while watch.target() == 0 {
                std::thread::yield_now();
            }
            drop(watch.lock());
            tell.send(()).ok();
        });
        let free = told.recv_timeout(PATIENCE / 4);
        drop(busy);
        free.expect("the watch is locked while a socket is written to");
    });
    assert_eq!(cursor(&second), Some(1));
}

/// A batch as the committing thread tells it, with the log's record of that offset.
fn told(offset: u64) -> Told<Ticket> {
    batch(offset + 1, vec![Effect::Appended((LOG, offset, stored()))])
}

/// A batch of that number as the committing thread tells it.
fn batch(number: u64, effects: Vec<Effect>) -> Told<Ticket> {
    let known = Known { batch: 0, chain: [0; 32], rows: Default::default() };
    let header = Header {
        fold: FOLD_VERSION,
        journal: Id::NONE,
        known,
        node: Id::NONE,
        incarnation: 1,
        serial: number,
        time: 0,
    };
    let applied = Applied {
        batch: number,
        header,
        time: 0,
        position: None,
        repeat: false,
        early: false,
        active: 0,
        writes: Default::default(),
        effects,
    };
    Told { applied, tickets: Vec::new(), proposed: None }
}

/// Notes what had been told of each batch when it heard of it.
struct Notes {
    socket: Arc<Socket>,
    answers: Vec<oneshot::Receiver<(u64, Reply)>>,
    heard: mpsc::Sender<(u64, Option<u64>, usize)>,
}

impl Follower for Notes {
    fn follow(&mut self, batch: &Applied) {
        let answered = self.answers.iter_mut().filter_map(|answer| answer.try_recv().ok()).count();
        self.heard.send((batch.batch, cursor(&self.socket), answered)).unwrap();
    }
}

/// Followers hear of each batch, in order, before anybody is answered or sent anything of it.
#[tokio::test]
async fn followers_hear_first() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let mut dispatcher = dispatcher(&house);
    let (mut callers, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (caller, answer) = oneshot::channel();
        callers.push(caller);
        answers.push(answer);
    }
    let (heard, hears) = mpsc::channel();
    dispatcher.followers.push(Box::new(Notes { socket: Arc::clone(&socket), answers, heard }));
    let waits = house.hub.await_log(LOG);
    for (offset, caller) in (0..).zip(callers) {
        let woken = waits.next();
        let mut batch = told(offset);
        batch.applied.effects.push(Effect::Reply(0, Reply::Done));
        batch.tickets.push(Some(Ticket::Caller(caller)));
        dispatcher.take(batch);
        slices(&mut dispatcher);
        assert_eq!(cursor(&socket), Some(offset + 1));
        woken.await;
    }
    // When it heard of the second batch, one answer was out, and one record.
    let heard: Vec<_> = hears.try_iter().collect();
    assert_eq!(heard, [(1, Some(0), 0), (2, Some(1), 1), (3, Some(2), 1)]);
    assert_eq!(house.hub.take_grown(10), [LOG].into());
    assert_eq!(house.hub.take_written(), [LOG].into());
    assert!(house.hub.take_written().is_empty() && house.hub.take_trimmed().is_empty());
}

/// Batches that came while others were told go to a reader together: one frame, one write.
#[tokio::test]
async fn a_turn_begins_when_all_batches_are_told() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let mut dispatcher = dispatcher(&house);
    let (tell, batches) = mpsc::sync_channel(200);
    for offset in 0..100 {
        tell.send(told(offset)).unwrap();
    }
    assert!(dispatcher.gather(&batches).1);
    dispatcher.crew.own.slice(0);
    assert_eq!(cursor(&socket), Some(TOLD as u64), "as many as may come before a turn");
    assert_eq!(house.hub.stats().frames, 1);
    assert!(dispatcher.gather(&batches).1);
    dispatcher.crew.own.slice(0);
    assert_eq!((cursor(&socket), house.hub.stats().frames), (Some(100), 2));
    drop(tell);
    assert_eq!(dispatcher.gather(&batches), (0, false));
}

/// Promise 15: a client that is given a log's state is told first where the node stands, for of a
/// base it may see no place that it could state when it comes back. One that begins with nothing,
/// or whose logs came with the welcome, is told no such thing.
#[tokio::test]
async fn who_is_given_a_state_is_told_where_the_node_stands() {
    let house = House::new(1 << 20);
    let row = LogRow { head: 3, ..LogRow::new("docs/a", SnapshotRule::Latest, 1, 0) };
    house.put(&row);
    let mut dispatcher = dispatcher(&house);
    let position = Position { era: Id([3; 16]), batch: 9, chain: None };
    dispatcher.position = Some(position);
    let told = |from: &LogRow, again| {
        let (socket, _peer) = house.socket(1);
        let opened = Opened { again, ..opened(from, Start::State) };
        dispatcher.open(&socket, vec![opened], &Opening::default());
        let mut inner = socket.lock();
        let first = inner.at.poll(0);
        matches!(first, Some(Output::Frames(_, frames)) if frames == [ping(position)])
    };
    assert!(told(&row, false));
    assert!(!told(&row, true), "it stays where it is");
    assert!(!told(&LogRow { head: 0, ..row }, false), "there is nothing yet");
}

fn ping(position: Position) -> ServerFrame {
    ServerFrame::Ping(Ping { nonce: 0, positions: vec![position] })
}

/// However many batches are told at once, their readers have a slice for each before more are told.
#[tokio::test]
async fn readers_have_a_slice_for_each_batch() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let readers: Vec<_> = (1..).take(SLICE + 10).map(|id| caught_up(&house, id)).collect();
    let mut dispatcher = dispatcher(&house);
    let (tell, batches) = mpsc::sync_channel(2);
    for offset in 0..2 {
        tell.send(told(offset)).unwrap();
    }
    assert!(dispatcher.round(&batches, &|| 0));
    let behind = readers.iter().filter(|(socket, _)| cursor(socket) != Some(2)).count();
    assert_eq!(behind, 0, "the first slice is of {SLICE}");
}

/// Notes how far the log's tail went when revocations closed sockets.
#[derive(Debug, Default)]
struct Closes(std::sync::Mutex<Vec<u64>>);

impl Revoking for Closes {
    fn learn(&self, _: Whom, _: Option<u64>) {}

    fn close(&self, hub: &Hub) {
        let end = hub.watch(LOG).unwrap().lock().tail.end();
        self.0.lock().unwrap().push(end);
    }
}

/// Whatever stands before it in the batch: a thread that has the log in hand at that moment finds
/// no record of the batch before those are closed whom it revokes.
#[tokio::test]
async fn records_come_behind_the_revocations_of_their_batch() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let _reader = caught_up(&house, 1);
    let closes = Arc::new(Closes::default());
    let mut dispatcher = dispatcher_with(&house, Arc::clone(&closes) as _);
    for offset in 0..2 {
        let mut told = told(offset);
        let revoked = Event::Revoked { whom: Whom::User("bob".to_owned()), before_ms: Some(1) };
        told.applied.effects.push(Effect::Event(revoked));
        dispatcher.take(told);
    }
    assert_eq!(*closes.0.lock().unwrap(), [0, 1]);
    assert_eq!(house.hub.watch(LOG).unwrap().lock().tail.end(), 2);
}

/// What has been owed to a socket, told.
fn owed(socket: &Socket) -> Vec<ServerFrame> {
    let mut inner = socket.lock();
    std::iter::from_fn(|| inner.at.next_owed()).flatten().collect()
}

fn unsubscribed(reason: Ended) -> ServerFrame {
    ServerFrame::Unsubscribed(Unsubscribed { request: 0, log: LOG, reason })
}

/// Promise 1: grants that shrank ended a subscription, they have grown again, and the fold, which
/// has yet to hear of the end, says where the row stands. Its client has let go of what it held,
/// and would go on behind a hole.
#[tokio::test]
async fn promise_01_what_was_denied_is_not_gone_on_with_where_its_row_stands() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let (dispatcher, _committer) = dispatching(&house, Arc::new(Nobody));
    house.hub.end(&socket, vec![LOG], 0, Ended::Denied);
    assert_eq!(owed(&socket), [unsubscribed(Ended::Denied)]);
    let row = LogRow { head: 3, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) };
    let again = || vec![Opened { again: true, ..opened(&row, Start::Offset(2)) }];
    dispatcher.open(&socket, again(), &Opening { request: 5, ..Opening::default() });
    assert_eq!(cursor(&socket), None);
    let name = Some("docs/a".to_owned());
    let refused = Refused { request: 5, name, refusal: Code::Stale.into() };
    assert_eq!(owed(&socket), [ServerFrame::Refused(refused)]);
    assert_eq!(dispatcher.inbox.under_way().0, 1, "the row loses it before it is asked for anew");
    // Nobody waits for what the back end opened: it is opened behind the end.
    dispatcher.open(&socket, again(), &Opening::default());
    assert_eq!((cursor(&socket), owed(&socket)), (None, vec![]));
    assert_eq!(dispatcher.inbox.under_way().0, 3, "an end, and a subscription behind it");
}

/// What a row is to lose goes to the fold when there is room for it again: where the inbox is full,
/// its socket keeps what it has lost, and says it again.
#[tokio::test]
async fn what_a_socket_has_lost_is_said_until_there_is_room() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let (dispatcher, _committer) = dispatching(&house, Arc::new(Nobody));
    house.hub.end(&socket, vec![LOG], 0, Ended::Denied);
    let full = |_: &u32| dispatcher.inbox.submit(Command::Commit(Vec::new()), 1, None).is_err();
    let room = (0..).find(full).unwrap() as usize;
    let row = LogRow { head: 3, ..LogRow::new("docs/a", SnapshotRule::None, 1, 0) };
    let again = vec![Opened { again: true, ..opened(&row, Start::Offset(2)) }];
    dispatcher.open(&socket, again, &Opening { request: 5, ..Opening::default() });
    assert!(socket.has_lost(), "there was no room for the word that the row is to lose it");
    assert!(socket.say_lost(&dispatcher.inbox).is_err(), "nor is there now");
    assert!(socket.has_lost());
    let (roomy, _other) = dispatching(&house, Arc::new(Nobody));
    socket.say_lost(&roomy.inbox).unwrap();
    assert_eq!((roomy.inbox.under_way().0, socket.has_lost()), (1, false));
    assert_eq!(dispatcher.inbox.under_way().0, room);
    // What it has opened since is its own; and what another generation has lost is nobody's.
    socket.lose(vec![LOG], Vec::new(), &dispatcher.inbox).unwrap_err();
    house.subscribe(&socket, 3, 3);
    socket.say_lost(&roomy.inbox).unwrap();
    assert_eq!((roomy.inbox.under_way().0, socket.has_lost()), (1, false));
}

/// A socket that its client has left, and that has not gone yet, is no longer its connection's:
/// another node may have that. A downgrade that it heard of for its own made it speak for the new
/// attachment, so that its end detached that one, which was refused a channel from then on.
#[tokio::test]
async fn promise_12_a_downgrade_of_the_next_attachment_fences_the_one_before() {
    let house = House::new(1 << 20);
    let (own, _peer) = caught_up(&house, 1);
    let (left, _gone) = caught_up(&house, 2);
    let dispatcher = dispatcher(&house);
    let downgraded = |socket: &Socket, generation, joined| Event::Downgraded {
        connection: socket.connection,
        user: "ann".to_owned(),
        reason: Reason::Lag,
        generation,
        joined,
    };
    dispatcher.event(downgraded(&own, 2, 1));
    assert!(house.hub.holds(&own) && own.generation() == 2);
    dispatcher.event(downgraded(&left, 3, 2));
    assert!(!house.hub.holds(&left) && left.take_last().generation == 1);
    assert!(left.closing() && !own.closing());
}

/// What the fold ends because grants shrank is over on the socket too, also where it was opened
/// since: else it was delivered and no cursor of it was kept.
#[tokio::test]
async fn what_a_row_loses_to_smaller_grants_its_socket_loses() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let mut dispatcher = dispatcher(&house);
    for told in [vec![unsubscribed(Ended::Denied)], vec![]] {
        dispatcher.answer(&socket, Request::Denied(vec![LOG]), Reply::Unsubscribed(vec![LOG]));
        assert_eq!((cursor(&socket), owed(&socket)), (None, told));
    }
}

/// Protocol §2: the outcomes of a writer come in order. What this socket put off was stored from a
/// socket before it, and so the fold took what this one had sent behind that.
#[tokio::test]
async fn outcomes_come_behind_those_that_were_put_off() {
    let house = House::new(1 << 20);
    let (socket, mut peer) = house.socket(1);
    let mut dispatcher = dispatcher(&house);
    let answers = |seq, outcome| Answers {
        writer: Id([2; 16]),
        mark: seq,
        answers: vec![Answer { seq, outcome }],
        positions: Vec::new(),
        credit: None,
    };
    let place = Place { batch: 1, index: 0 };
    let stored = |seq| {
        let outcome = Outcome::Stored { log: LOG, offset: seq, place, level: Level::Synced };
        answers(seq, outcome)
    };
    socket.answer_now(0, answers(1, Outcome::Refused(Code::Overloaded.into())));
    let rates = Rates::new(&Limits::DEFAULT);
    for (prev, seq) in [(1, 2), (0, 1), (1, 2)] {
        let (charged, _) = rates.charge_some("ann", 1);
        let asked =
            Request::Append(Box::new(Appending { prev, charged, rest: None, credit: None }));
        dispatcher.answer(&socket, asked, Reply::Answers(stored(seq)));
    }
    socket.close(&Closing::new(Code::Failed));
    while !socket.flush() {}
    drop((socket, dispatcher, house));
    let told: Vec<_> = frames(&to_the_end(&mut peer))
        .into_iter()
        .filter_map(|frame| match frame {
            ServerFrame::Answers(told) => Some((told.mark, told.answers[0].clone())),
            _ => None,
        })
        .map(|(mark, answer)| match answer.outcome {
            Outcome::Stored { .. } => (mark, answer.seq, None),
            Outcome::Refused(why) => (mark, answer.seq, Some(why.code)),
        })
        .collect();
    let (overloaded, gap) = (Some(Code::Overloaded), Some(Code::SequenceGap));
    assert_eq!(told, [(1, 1, overloaded), (0, 2, gap), (1, 1, None), (2, 2, None)]);
}

/// A long turn waits for what is being committed: one frame for both batches.
#[tokio::test]
async fn a_turn_takes_what_is_being_committed_with_it() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let (mut dispatcher, _committer) = dispatching(&house, Arc::new(Nobody));
    // So long a turn that the test's own pace does not matter.
    dispatcher.crew.own.pace = Pace::new(PATIENCE);
    dispatcher.crew.own.pace.wrote(1, PATIENCE);
    let (tell, batches) = mpsc::sync_channel(0);
    std::thread::scope(|scope| {
        let inbox = dispatcher.inbox.clone();
        scope.spawn(move || {
            tell.send(told(0)).unwrap();
            // It is taken by whoever waits, and by nobody else: by the turn; or, where that did not
            // wait, by who has nothing to do behind it.
            let mut next = Told { tickets: vec![None], ..told(1) };
            while let Err(TrySendError::Full(back)) = tell.try_send(next) {
                next = back;
                std::thread::yield_now();
            }
            // Whoever asks for more learns that none comes.
            drop(tell);
        });
        inbox.submit(Command::Commit(Vec::new()), 1, None).unwrap();
        while dispatcher.round(&batches, &|| 0) {}
    });
    assert_eq!((cursor(&socket), house.hub.stats().frames), (Some(2), 1));
    assert_eq!(dispatcher.inbox.under_way(), (1, 1));
}

/// What is never told holds up no reader.
#[tokio::test]
async fn a_turn_that_waits_in_vain_begins() {
    let house = House::new(1 << 20);
    house.put(&LogRow::new("docs/a", SnapshotRule::None, 1, 0));
    let (socket, _peer) = caught_up(&house, 1);
    let (mut dispatcher, _committer) = dispatching(&house, Arc::new(Nobody));
    dispatcher.crew.own.pace.wrote(1, PATIENCE);
    dispatcher.inbox.submit(Command::Commit(Vec::new()), 1, None).unwrap();
    let (tell, batches) = mpsc::sync_channel(1);
    tell.send(told(0)).unwrap();
    assert!(dispatcher.round(&batches, &|| 0));
    assert_eq!(cursor(&socket), Some(1));
    assert_eq!(dispatcher.inbox.under_way(), (1, 0));
    drop(tell);
}
