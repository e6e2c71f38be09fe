//! The journal contract: one suite, run on every engine.
//!
//! What it proves: numbers, order, ringing, limits, dropping, loss, and what an unknown outcome may
//! have done. What it cannot prove: durability. Closing and opening an engine in one process keeps
//! everything the operating system holds; killing a process and cutting power are tested elsewhere.

mod proposals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::journal::{
    At, Bell, Ends, Event, Fate, Faults, Journal, JournalError, Local, MemoryCluster, NatsJournal,
};
use highwater::rows::{Rows, Table, Writes};
use highwater::store::{Options, Store};
use highwater::wire::{Id, Level};

use super::nats::Nats;

/// A test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine as the suite needs it: handles of nodes, and all of them closed and opened again.
trait Engine {
    fn nodes(&self) -> usize;
    fn node(&mut self, node: usize) -> &mut Node;
    fn reopen(&mut self);
}

/// A node's handle, and what it has been told.
struct Node {
    journal: Box<dyn Journal>,
    bell: Arc<Bell>,
    serial: u64,
}

impl Node {
    fn new(journal: impl Journal + 'static) -> Self {
        Self { journal: Box::new(journal), bell: Arc::default(), serial: 0 }
    }

    fn ends(&mut self) -> (u64, u64) {
        let Ends { start, head } = self.journal.ends().unwrap();
        (start, head)
    }

    fn follow(&mut self, from: u64) -> Result<(), JournalError> {
        self.journal.follow(At { batch: from - 1, position: 0 }, &self.bell)
    }

    fn propose(&mut self, batch: &[u8]) -> u64 {
        self.serial += 1;
        self.journal.propose(self.serial, Bytes::copy_from_slice(batch)).unwrap();
        self.serial
    }

    /// What is told next, waiting for it.
    fn next(&mut self) -> Event {
        let begun = Instant::now();
        loop {
            match self.journal.poll().unwrap() {
                Event::CaughtUp => {
                    assert!(begun.elapsed() < PATIENCE, "nothing is told");
                    self.bell.wait(Duration::from_millis(100));
                }
                event => return event,
            }
        }
    }

    /// Appends a batch, and waits for its fate.
    fn append(&mut self, batch: &[u8]) -> Fate {
        let proposed = self.propose(batch);
        loop {
            if let Event::Fate { serial, fate } = self.next() {
                assert_eq!(serial, proposed);
                return fate;
            }
        }
    }

    /// Has batches below a number go; an engine elsewhere does that in its own time.
    fn let_go(&mut self, name: &str, below: u64) {
        let (start, head) = self.ends();
        self.journal.drop_before(below, Duration::ZERO).unwrap();
        let begun = Instant::now();
        while name == "nats" && self.ends().0 < below.min(head + 1).max(start) {
            assert!(begun.elapsed() < PATIENCE, "it does not let go");
        }
    }

    /// Everything from a number on.
    fn read(&mut self, from: u64) -> Vec<(u64, Bytes)> {
        self.follow(from).unwrap();
        let (mut all, head) = (Vec::new(), self.ends().1);
        while all.last().map_or(from - 1, |(number, _)| *number) < head {
            if let Event::Batch { at, bytes } = self.next() {
                all.push((at.batch, bytes));
            }
        }
        all
    }

    /// Why it cannot be read from there.
    fn unread(&mut self, from: u64) -> JournalError {
        let polled = self.follow(from).and_then(|()| {
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                self.journal.poll()?;
                self.bell.wait(Duration::from_millis(10));
            }
            Ok(())
        });
        polled.expect_err("it is not there")
    }
}

struct LocalEngine {
    dir: tempfile::TempDir,
    keep: u64,
    node: Option<Node>,
}

impl LocalEngine {
    fn new(keep: u64) -> Self {
        let mut engine = Self { dir: tempfile::tempdir().unwrap(), keep, node: None };
        engine.reopen();
        engine
    }

    fn store(&self) -> Store {
        Store::open(self.dir.path(), Options::default()).unwrap()
    }
}

impl Engine for LocalEngine {
    fn nodes(&self) -> usize {
        1
    }

    fn node(&mut self, _: usize) -> &mut Node {
        self.node.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        self.node = None;
        self.node = Some(Node::new(Local::new(self.store(), self.keep)));
    }
}

struct MemoryEngine {
    cluster: MemoryCluster,
    nodes: Vec<Node>,
}

impl MemoryEngine {
    fn new(faults: Faults) -> Self {
        let mut engine =
            Self { cluster: MemoryCluster::new(Id([7; 16]), faults), nodes: Vec::new() };
        engine.reopen();
        engine
    }
}

impl Engine for MemoryEngine {
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    fn reopen(&mut self) {
        self.nodes = (0..2).map(|_| Node::new(self.cluster.node())).collect();
    }
}

/// A real server, where there is one.
struct NatsEngine {
    nats: Nats,
    nodes: Vec<Node>,
}

impl NatsEngine {
    fn new() -> Option<Self> {
        let mut engine = Self { nats: Nats::start(1)?, nodes: Vec::new() };
        engine.reopen();
        Some(engine)
    }
}

impl Engine for NatsEngine {
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn node(&mut self, node: usize) -> &mut Node {
        &mut self.nodes[node]
    }

    fn reopen(&mut self) {
        self.nodes = (0..2).map(|_| Node::new(self.nats.journal())).collect();
    }
}

/// Runs a check on a fresh one of every engine.
fn on_each(check: impl Fn(&str, &mut dyn Engine)) {
    check("local", &mut LocalEngine::new(64 << 20));
    check("memory", &mut MemoryEngine::new(Faults::default()));
    if let Some(mut nats) = NatsEngine::new() {
        check("nats", &mut nats);
    }
}

fn batch(number: u64) -> Vec<u8> {
    let length = usize::try_from(number % 7 * 10 + 1).unwrap();
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(8 + length, 0xAB);
    bytes
}

/// Appends batches 1 to `count`, by the nodes in turn.
fn fill(engine: &mut dyn Engine, count: u64) {
    for number in 1..=count {
        let node = usize::try_from(number).unwrap() % engine.nodes();
        assert_eq!(engine.node(node).append(&batch(number)), Fate::Taken(number));
    }
}

fn expected(from: u64, to: u64) -> Vec<(u64, Bytes)> {
    (from..=to).map(|number| (number, Bytes::from(batch(number)))).collect()
}

#[test]
fn an_empty_journal_begins_at_one() {
    on_each(|name, engine| {
        let node = engine.node(0);
        assert_eq!(node.ends(), (1, 0), "{name}");
        assert_eq!(node.read(1), vec![], "{name}");
        assert_eq!(node.journal.poll(), Ok(Event::CaughtUp), "{name}");
    });
}

#[test]
fn numbers_are_dense_and_batches_come_back_in_order_on_every_node() {
    on_each(|name, engine| {
        fill(engine, 100);
        for node in 0..engine.nodes() {
            let node = engine.node(node);
            assert_eq!(node.ends(), (1, 100), "{name}");
            assert_eq!(node.read(1), expected(1, 100), "{name}");
            assert_eq!(node.read(57), expected(57, 100), "{name}");
            assert_eq!(node.read(101), vec![], "{name}");
        }
    });
}

/// Nobody waits for one before the next is sent.
#[test]
fn proposals_on_their_way_together_arrive_in_their_order_and_each_is_told_of_once() {
    on_each(|name, engine| {
        let node = engine.node(0);
        node.follow(1).unwrap();
        let serials: Vec<_> = (1..=50).map(|number| node.propose(&batch(number))).collect();
        let (mut fates, mut read) = (Vec::new(), Vec::new());
        while fates.len() < 50 || read.len() < 50 {
            match node.next() {
                Event::Fate { serial, fate } => fates.push((serial, fate)),
                Event::Batch { at, bytes } => read.push((at.batch, bytes)),
                Event::CaughtUp => {}
            }
        }
        fates.sort_by_key(|(serial, _)| *serial);
        let taken: Vec<_> = serials.iter().copied().zip((1..=50).map(Fate::Taken)).collect();
        assert_eq!((fates, read), (taken, expected(1, 50)), "{name}");
        assert_eq!(node.journal.poll(), Ok(Event::CaughtUp), "{name}: nothing twice");
    });
}

#[test]
fn large_batches_come_back_whole() {
    on_each(|name, engine| {
        let large = vec![0x5A; engine.node(0).journal.most_bytes().min(4 << 20)];
        assert_eq!(engine.node(0).append(&large), Fate::Taken(1), "{name}");
        assert_eq!(engine.node(0).append(&[]), Fate::Taken(2), "{name}");
        engine.reopen();
        let both = vec![(1, Bytes::from(large)), (2, Bytes::new())];
        assert_eq!(engine.node(0).read(1), both, "{name}");
    });
}

#[test]
fn an_engine_takes_what_it_says_and_refuses_more() {
    on_each(|name, engine| {
        let most = engine.node(0).journal.most_bytes();
        assert!(most >= 1 << 20, "{name}: a batch of a node has room");
    });
    let mut engine = MemoryEngine::new(Faults::default());
    engine.cluster.take_at_most(1_000);
    for node in 0..2 {
        assert_eq!(engine.node(node).journal.most_bytes(), 1_000);
    }
    assert_eq!(engine.node(0).append(&[7; 1_000]), Fate::Taken(1));
    let refused = engine.node(1).append(&[7; 1_001]);
    assert!(matches!(refused, Fate::Refused(_)), "{refused:?}");
    assert_eq!(engine.node(0).ends().1, 1, "nothing of it was written");
}

#[test]
fn a_waiting_follower_is_woken_by_another_nodes_append() {
    let cluster = MemoryCluster::new(Id([7; 16]), Faults::default());
    let (mut reader, mut writer) = (Node::new(cluster.node()), Node::new(cluster.node()));
    reader.follow(1).unwrap();
    assert_eq!(reader.journal.poll(), Ok(Event::CaughtUp));
    let waiting = std::thread::spawn(move || {
        let begun = Instant::now();
        reader.bell.wait(2 * PATIENCE);
        (reader.journal.poll().unwrap(), begun.elapsed())
    });
    writer.append(b"come");
    let (found, waited) = waiting.join().unwrap();
    let at = At { batch: 1, position: 1 };
    assert_eq!(found, Event::Batch { at, bytes: Bytes::from_static(b"come") });
    assert!(waited < PATIENCE, "woken, not timed out: {waited:?}");
}

#[test]
fn what_is_dropped_is_told_and_what_is_not_stays() {
    on_each(|name, engine| {
        fill(engine, 20);
        engine.node(0).let_go(name, 8);
        // An engine may keep more than it was told to.
        let start = engine.node(0).ends().0;
        assert!((1..=8).contains(&start), "{name}: start {start}");
        assert_eq!(engine.node(0).read(8), expected(8, 20), "{name}");
        if start > 1 {
            let lost = JournalError::Dropped { start, wanted: start - 1 };
            assert_eq!(engine.node(0).unread(start - 1), lost, "{name}");
        }
        engine.node(0).let_go(name, 3);
        assert!(engine.node(0).ends().0 >= start, "{name}: never goes back");
        engine.reopen();
        assert_eq!(engine.node(0).ends().0, start, "{name}");
        assert_eq!(engine.node(0).append(&batch(21)), Fate::Taken(21), "{name}: numbers go on");
    });
}

/// An engine with a clock keeps what is young, whatever it may let go of.
#[test]
fn a_batch_stays_as_long_as_it_is_to() {
    let Some(mut nats) = NatsEngine::new() else { return };
    let node = nats.node(0);
    let (begun, mut came) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(4) {
        assert!(matches!(node.append(b"batch"), Fate::Taken(_)));
        came.push(Instant::now());
    }
    node.journal.drop_before(u64::MAX, Duration::from_secs(2)).unwrap();
    let asked = Instant::now();
    while node.ends().0 == 1 {
        assert!(asked.elapsed() < PATIENCE, "it does not let go");
    }
    let (start, head) = node.ends();
    assert!(start <= head, "what is young stays");
    let at = |batch: u64| came[usize::try_from(batch - 1).unwrap()];
    // The engine's times count in whole seconds.
    assert!(at(head) - at(start - 1) >= Duration::from_secs(1), "what went was old");
}

/// A stream that was begun anew behind another node's folder bears the same journal, with other
/// numbers: who had the former one open shortens nothing of it.
#[test]
fn a_stream_that_was_begun_anew_is_another_one() {
    let Some(mut nats) = NatsEngine::new() else { return };
    fill(&mut nats, 5);
    let identity = nats.nodes[0].journal.identity();
    nats.nats.lose_disk(0);
    let begun = Instant::now();
    while let Err(error) = NatsJournal::begin(&nats.nats.settings(), identity, 2) {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    let mut new = Node::new(nats.nats.journal());
    (3..=9).for_each(|number| assert_eq!(new.append(&batch(number)), Fate::Taken(number)));
    let old = &mut nats.nodes[0].journal;
    let begun = Instant::now();
    // Until it has a connection again it is told nothing.
    let why = loop {
        match old.ends() {
            Err(error) if error.to_string().contains("another journal") => break error,
            told => assert!(begun.elapsed() < PATIENCE, "it takes it for its own: {told:?}"),
        }
    };
    assert!(matches!(why, JournalError::Failed(_)));
    old.drop_before(9, Duration::ZERO).unwrap();
    new.let_go("nats", 4);
    assert_eq!(new.ends(), (4, 9), "what the new one was told, and no more");
}

#[test]
fn dropping_everything_keeps_the_numbers() {
    on_each(|name, engine| {
        fill(engine, 5);
        engine.node(0).let_go(name, u64::MAX);
        engine.reopen();
        let node = engine.node(0);
        assert_eq!(node.ends(), (6, 5), "{name}");
        assert_eq!(node.read(6), vec![], "{name}");
        assert_eq!(node.append(&batch(6)), Fate::Taken(6), "{name}");
        assert_eq!(node.read(6), expected(6, 6), "{name}");
    });
}

#[test]
fn past_the_head_is_a_loss() {
    on_each(|name, engine| {
        fill(engine, 4);
        let lost = JournalError::Lost { head: 4, wanted: 6 };
        assert_eq!(engine.node(0).unread(6), lost, "{name}");
    });
}

#[test]
fn identity_and_batches_survive_reopening() {
    on_each(|name, engine| {
        let identity = engine.node(0).journal.identity();
        for node in 0..engine.nodes() {
            assert_eq!(engine.node(node).journal.identity(), identity, "{name}: one name");
        }
        fill(engine, 30);
        engine.reopen();
        assert_eq!(engine.node(0).journal.identity(), identity, "{name}");
        assert_eq!(engine.node(0).read(1), expected(1, 30), "{name}");
        assert_eq!(engine.node(0).append(&batch(31)), Fate::Taken(31), "{name}");
    });
}

#[test]
fn two_local_journals_are_two() {
    let mut one = LocalEngine::new(0);
    let mut other = LocalEngine::new(0);
    assert_ne!(one.node(0).journal.identity(), other.node(0).journal.identity());
}

#[test]
fn a_local_batch_and_its_effects_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(dir.path(), Options::default()).unwrap();
    let mut local = Local::new(open(), 64 << 20);
    assert_eq!(local.level(), Level::Synced);
    for number in 1..=20_u64 {
        let mut effects = Writes::default();
        let value = Some(number.to_be_bytes().to_vec());
        effects.rows.insert((Table::Meta, b"head".to_vec()), value);
        effects.records.push((1, number, batch(number)));
        assert_eq!(local.commit(&batch(number), effects), Ok(number));
        if number % 5 == 0 {
            drop(local);
            let store = open();
            let head = store.get(Table::Meta, b"head").unwrap().unwrap();
            assert_eq!(head, number.to_be_bytes());
            assert_eq!(store.kept().head, number);
            assert_eq!(store.scan(Table::Records, &[], &[], 99).unwrap().len() as u64, number);
            drop(store);
            local = Local::new(open(), 64 << 20);
        }
    }
}

#[test]
fn local_keeps_a_bound_and_catches_up_with_it() {
    let mut engine = LocalEngine::new(10_000);
    for number in 1..=2_000 {
        engine.node(0).append(&batch(number));
    }
    let check = |engine: &mut LocalEngine, head: u64| {
        let start = engine.node(0).ends().0;
        let kept = engine.node(0).read(start);
        assert_eq!(kept.last().map(|(number, _)| *number), Some(head));
        let bytes: usize = kept.iter().map(|(_, batch)| batch.len()).sum();
        assert!(bytes <= 10_000, "{bytes} bytes kept");
        assert!(
            bytes + 100 > 10_000 || kept.len() == 1,
            "no more is dropped than need be: {bytes}"
        );
    };
    check(&mut engine, 2_000);
    engine.reopen();
    check(&mut engine, 2_000);
    // A batch larger than the bound is kept alone: the last one always is.
    engine.node(0).append(&vec![1; 50_000]);
    assert_eq!(engine.node(0).ends().0, 2_001);
    engine.node(0).append(&batch(2_002));
    assert_eq!(engine.node(0).ends().0, 2_002);
}

#[test]
fn a_lost_tail_is_told_to_who_had_read_it() {
    let mut engine = MemoryEngine::new(Faults::default());
    fill(&mut engine, 10);
    assert_eq!(engine.node(1).read(1).len(), 10);
    engine.cluster.lose(3);
    assert_eq!(engine.node(1).journal.poll(), Err(JournalError::Lost { head: 7, wanted: 11 }));
    assert_eq!(engine.node(0).read(1), expected(1, 7));
}

/// The servers go by SIGKILL while batches are on their way, and come again.
#[test]
fn what_a_real_engine_acknowledged_is_there_after_it_was_killed() {
    let Some(nats) = Nats::start(1) else { return };
    let mut engine = NatsEngine { nats, nodes: Vec::new() };
    engine.reopen();
    fill(&mut engine, 20);
    let node = &mut engine.nodes[0];
    node.follow(1).unwrap();
    let serials: Vec<_> = (21..=28).map(|number| node.propose(&batch(number))).collect();
    engine.nats.kill(0);
    engine.nats.again(0);
    let (mut fates, mut read) = (BTreeMap::new(), Vec::new());
    while fates.len() < serials.len() {
        match node.next() {
            Event::Fate { serial, fate } => drop(fates.insert(serial, fate)),
            Event::Batch { at, bytes } => read.push((at.batch, bytes)),
            Event::CaughtUp => {}
        }
    }
    // The same handle goes on, and so does its reading.
    let Fate::Taken(last) = node.append(&batch(99)) else { panic!("it takes none any more") };
    let all = node.read(1);
    assert_eq!(all[..20], expected(1, 20));
    assert_eq!(all.last(), Some(&(last, Bytes::from(batch(99)))));
    for (serial, fate) in fates {
        let bytes = Bytes::from(batch(20 + serial - (serials[0] - 1)));
        let there = all.iter().filter(|(_, read)| *read == bytes).count();
        match fate {
            Fate::Taken(number) => assert!(all.contains(&(number, bytes)), "batch {number}"),
            Fate::Unknown(_) => assert!(there <= 1, "serial {serial}: {there} times"),
            Fate::Refused(why) => assert_eq!(there, 0, "serial {serial}: {why}"),
        }
    }
    assert!(read.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0), "in order, without holes");
}

/// Appends of a thousand distinct batches under faults: what each call said.
fn under_faults(seed: u64) -> (Vec<&'static str>, Vec<(u64, Bytes)>) {
    let faults = Faults { seed, refused_per_mille: 100, unknown_per_mille: 300 };
    let mut engine = MemoryEngine::new(faults);
    let mut said = Vec::new();
    for number in 0..1_000 {
        said.push(match engine.node(0).append(&batch(number)) {
            Fate::Taken(_) => "written",
            Fate::Refused(_) => "refused",
            Fate::Unknown(_) => "unknown",
        });
    }
    engine.cluster.heal();
    (said, engine.node(1).read(1))
}

#[test]
fn an_unknown_outcome_is_written_at_most_once_and_a_refused_one_never() {
    for seed in 0..20 {
        let (said, found) = under_faults(seed);
        let mut times = BTreeMap::<u64, u64>::new();
        for (_, batch) in &found {
            let number = u64::from_be_bytes(batch[..8].try_into().unwrap());
            *times.entry(number).or_default() += 1;
        }
        let mut fates = BTreeSet::new();
        for (number, said) in (0..).zip(&said) {
            let times = times.get(&number).copied().unwrap_or(0);
            match *said {
                "written" => assert_eq!(times, 1, "seed {seed}, batch {number}"),
                "refused" => assert_eq!(times, 0, "seed {seed}, batch {number}"),
                _ => drop(fates.insert(times)),
            }
        }
        assert_eq!(fates, BTreeSet::from([0, 1]), "seed {seed}: written once, or not");
    }
}

#[test]
fn delayed_batches_come_behind_later_ones() {
    let late = (0..20).any(|seed| {
        let (_, found) = under_faults(seed);
        found.windows(2).any(|pair| pair[0].1[..8] > pair[1].1[..8])
    });
    assert!(late, "no seed of twenty had a batch arrive late");
}

#[test]
fn one_seed_gives_one_course() {
    assert_eq!(under_faults(3), under_faults(3));
    assert_ne!(under_faults(3).0, under_faults(4).0);
}
