//! The journal contract: one suite, run on every engine.
//!
//! What it proves: numbers, order, waiting, limits, dropping, loss, and what an unknown outcome may
//! have done. What it cannot prove: durability. Closing and opening an engine in one process keeps
//! everything the operating system holds; killing a process and cutting power are tested elsewhere.

mod proposals;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::journal::{
    AppendError, Faults, Journal, JournalError, Local, MemoryCluster, MemoryJournal, Order,
};
use highwater::rows::{Rows, Table, Writes};
use highwater::store::{Options, Store};
use highwater::wire::{Id, Level};

const NOW: Duration = Duration::ZERO;
const PLENTY: usize = 1 << 20;

/// An engine as the suite needs it: handles of nodes, and all of them closed and opened again.
trait Engine {
    fn nodes(&self) -> usize;
    fn node(&mut self, node: usize) -> &mut dyn Journal;
    fn reopen(&mut self);
}

struct LocalEngine {
    dir: tempfile::TempDir,
    keep: u64,
    journal: Option<Local>,
}

impl LocalEngine {
    fn new(keep: u64) -> Self {
        let mut engine = Self { dir: tempfile::tempdir().unwrap(), keep, journal: None };
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

    fn node(&mut self, _: usize) -> &mut dyn Journal {
        self.journal.as_mut().unwrap()
    }

    fn reopen(&mut self) {
        self.journal = None;
        self.journal = Some(Local::new(self.store(), self.keep));
    }
}

struct MemoryEngine {
    cluster: MemoryCluster,
    nodes: Vec<MemoryJournal>,
}

impl MemoryEngine {
    fn new(faults: Faults) -> Self {
        let cluster = MemoryCluster::new(Id([7; 16]), faults);
        let nodes = vec![cluster.node(), cluster.node()];
        Self { cluster, nodes }
    }
}

impl Engine for MemoryEngine {
    fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn node(&mut self, node: usize) -> &mut dyn Journal {
        &mut self.nodes[node]
    }

    fn reopen(&mut self) {
        self.nodes = vec![self.cluster.node(), self.cluster.node()];
    }
}

/// Runs a check on a fresh one of every engine.
fn on_each(check: impl Fn(&str, &mut dyn Engine)) {
    check("local", &mut LocalEngine::new(64 << 20));
    check("memory", &mut MemoryEngine::new(Faults::default()));
}

/// Appends as the engine's order demands.
fn append(journal: &mut dyn Journal, batch: &[u8]) -> Result<u64, AppendError> {
    let effects = (journal.order() == Order::Here).then(Writes::default);
    journal.append(batch, effects)
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
        assert_eq!(append(engine.node(node), &batch(number)).unwrap(), number);
    }
}

/// Everything from a number on, page by page.
fn read_all(journal: &mut dyn Journal, mut from: u64, most: usize) -> Vec<(u64, Bytes)> {
    let mut all = Vec::new();
    loop {
        let page = journal.read(from, most, NOW).unwrap();
        let Some((last, _)) = page.last() else { return all };
        from = last + 1;
        all.extend(page);
    }
}

fn expected(from: u64, to: u64) -> Vec<(u64, Bytes)> {
    (from..=to).map(|number| (number, Bytes::from(batch(number)))).collect()
}

#[test]
fn an_empty_journal_begins_at_one() {
    on_each(|name, engine| {
        let journal = engine.node(0);
        assert_eq!((journal.start().unwrap(), journal.head().unwrap()), (1, 0), "{name}");
        assert_eq!(journal.read(1, PLENTY, NOW).unwrap(), vec![], "{name}");
    });
}

#[test]
fn numbers_are_dense_and_batches_come_back_in_order_on_every_node() {
    on_each(|name, engine| {
        fill(engine, 100);
        for node in 0..engine.nodes() {
            let journal = engine.node(node);
            assert_eq!((journal.start().unwrap(), journal.head().unwrap()), (1, 100), "{name}");
            assert_eq!(read_all(journal, 1, PLENTY), expected(1, 100), "{name}");
            assert_eq!(read_all(journal, 57, PLENTY), expected(57, 100), "{name}");
        }
    });
}

#[test]
fn a_page_is_bounded_and_holds_at_least_one() {
    on_each(|name, engine| {
        fill(engine, 50);
        let journal = engine.node(0);
        assert_eq!(journal.read(1, 0, NOW).unwrap(), expected(1, 1), "{name}");
        let page = journal.read(1, 100, NOW).unwrap();
        assert!(page.iter().map(|(_, batch)| batch.len()).sum::<usize>() <= 100, "{name}");
        assert!(page.len() > 1, "{name}: a page is filled");
        assert_eq!(read_all(journal, 1, 100), expected(1, 50), "{name}");
    });
}

#[test]
fn large_batches_come_back_whole() {
    on_each(|name, engine| {
        let large = vec![0x5A; 4 << 20];
        append(engine.node(0), &large).unwrap();
        append(engine.node(0), &[]).unwrap();
        engine.reopen();
        let found = engine.node(0).read(1, PLENTY, NOW).unwrap();
        assert_eq!(found, vec![(1, Bytes::from(large))], "{name}: and nothing beside it");
        assert_eq!(engine.node(0).read(2, PLENTY, NOW).unwrap(), vec![(2, Bytes::new())], "{name}");
    });
}

#[test]
fn an_engine_takes_what_it_says_and_refuses_more() {
    on_each(|name, engine| {
        let most = engine.node(0).most_bytes();
        assert!(most >= 1 << 20, "{name}: a batch of a node has room");
    });
    let mut engine = MemoryEngine::new(Faults::default());
    engine.cluster.take_at_most(1_000);
    for node in 0..2 {
        assert_eq!(engine.node(node).most_bytes(), 1_000);
    }
    append(engine.node(0), &[7; 1_000]).unwrap();
    let refused = append(engine.node(1), &[7; 1_001]);
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    assert_eq!(engine.node(0).head().unwrap(), 1, "nothing of it was written");
}

#[test]
fn a_reader_at_the_head_waits_as_long_as_it_may() {
    on_each(|name, engine| {
        fill(engine, 3);
        let wait = Duration::from_millis(60);
        let begun = Instant::now();
        assert_eq!(engine.node(0).read(4, PLENTY, wait).unwrap(), vec![], "{name}");
        assert!(begun.elapsed() >= wait, "{name}: {:?}", begun.elapsed());
    });
}

#[test]
fn a_waiting_reader_is_woken_by_another_nodes_append() {
    let cluster = MemoryCluster::new(Id([7; 16]), Faults::default());
    let (mut reader, mut writer) = (cluster.node(), cluster.node());
    let waiting = std::thread::spawn(move || {
        let begun = Instant::now();
        (reader.read(1, PLENTY, Duration::from_secs(60)).unwrap(), begun.elapsed())
    });
    writer.append(b"come", None).unwrap();
    let (found, waited) = waiting.join().unwrap();
    assert_eq!(found, vec![(1, Bytes::from_static(b"come"))]);
    assert!(waited < Duration::from_secs(30), "woken, not timed out: {waited:?}");
}

#[test]
fn what_is_dropped_is_told_and_what_is_not_stays() {
    on_each(|name, engine| {
        fill(engine, 20);
        engine.node(0).drop_before(8).unwrap();
        // An engine may keep more than it was told to.
        let start = engine.node(0).start().unwrap();
        assert!((1..=8).contains(&start), "{name}: start {start}");
        assert_eq!(read_all(engine.node(0), 8, PLENTY), expected(8, 20), "{name}");
        if start > 1 {
            let lost = JournalError::Dropped { start, wanted: start - 1 };
            assert_eq!(engine.node(0).read(start - 1, PLENTY, NOW), Err(lost), "{name}");
        }
        engine.node(0).drop_before(3).unwrap();
        assert!(engine.node(0).start().unwrap() >= start, "{name}: never goes back");
        engine.reopen();
        assert_eq!(engine.node(0).start().unwrap(), start, "{name}");
        assert_eq!(append(engine.node(0), &batch(21)).unwrap(), 21, "{name}: numbers go on");
    });
}

#[test]
fn dropping_everything_keeps_the_numbers() {
    on_each(|name, engine| {
        fill(engine, 5);
        engine.node(0).drop_before(u64::MAX).unwrap();
        engine.reopen();
        let journal = engine.node(0);
        assert_eq!((journal.start().unwrap(), journal.head().unwrap()), (6, 5), "{name}");
        assert_eq!(journal.read(6, PLENTY, NOW).unwrap(), vec![], "{name}");
        assert_eq!(append(journal, &batch(6)).unwrap(), 6, "{name}");
        assert_eq!(read_all(journal, 6, PLENTY), expected(6, 6), "{name}");
    });
}

#[test]
fn past_the_head_is_a_loss() {
    on_each(|name, engine| {
        fill(engine, 4);
        let lost = Err(JournalError::Lost { head: 4, wanted: 6 });
        assert_eq!(engine.node(0).read(6, PLENTY, NOW), lost, "{name}");
    });
}

#[test]
fn identity_and_batches_survive_reopening() {
    on_each(|name, engine| {
        let identity = engine.node(0).identity();
        for node in 0..engine.nodes() {
            assert_eq!(engine.node(node).identity(), identity, "{name}: one journal, one name");
        }
        fill(engine, 30);
        engine.reopen();
        assert_eq!(engine.node(0).identity(), identity, "{name}");
        assert_eq!(read_all(engine.node(0), 1, PLENTY), expected(1, 30), "{name}");
        assert_eq!(append(engine.node(0), &batch(31)).unwrap(), 31, "{name}");
    });
}

#[test]
fn two_local_journals_are_two() {
    let mut one = LocalEngine::new(0);
    let mut other = LocalEngine::new(0);
    assert_ne!(one.node(0).identity(), other.node(0).identity());
}

#[test]
fn a_local_batch_and_its_effects_are_one() {
    let mut engine = LocalEngine::new(64 << 20);
    assert_eq!(engine.node(0).level(), Level::Synced);
    for number in 1..=20_u64 {
        let mut effects = Writes::default();
        let value = Some(number.to_be_bytes().to_vec());
        effects.rows.insert((Table::Meta, b"head".to_vec()), value);
        effects.records.push((1, number, batch(number)));
        assert_eq!(engine.node(0).append(&batch(number), Some(effects)).unwrap(), number);
        if number % 5 == 0 {
            engine.journal = None;
            let store = engine.store();
            let head = store.get(Table::Meta, b"head").unwrap().unwrap();
            assert_eq!(head, number.to_be_bytes());
            assert_eq!(store.kept().head, number);
            assert_eq!(store.scan(Table::Records, &[], &[], 99).unwrap().len() as u64, number);
            drop(store);
            engine.reopen();
        }
    }
}

#[test]
fn local_keeps_a_bound_and_catches_up_with_it() {
    let mut engine = LocalEngine::new(10_000);
    for number in 1..=2_000 {
        append(engine.node(0), &batch(number)).unwrap();
    }
    let check = |engine: &mut LocalEngine, head: u64| {
        let start = engine.node(0).start().unwrap();
        let kept = read_all(engine.node(0), start, PLENTY);
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
    append(engine.node(0), &vec![1; 50_000]).unwrap();
    assert_eq!(engine.node(0).start().unwrap(), 2_001);
    append(engine.node(0), &batch(2_002)).unwrap();
    assert_eq!(engine.node(0).start().unwrap(), 2_002);
}

#[test]
fn an_order_decided_elsewhere_takes_no_effects() {
    let mut journal = MemoryCluster::new(Id([7; 16]), Faults::default()).node();
    let refused = journal.append(b"x", Some(Writes::default()));
    assert!(matches!(refused, Err(AppendError::Refused(_))), "{refused:?}");
    assert_eq!(journal.head().unwrap(), 0);
}

#[test]
fn a_lost_tail_is_told_to_who_had_read_it() {
    let mut engine = MemoryEngine::new(Faults::default());
    fill(&mut engine, 10);
    engine.cluster.lose(3);
    let lost = Err(JournalError::Lost { head: 7, wanted: 11 });
    assert_eq!(engine.node(1).read(11, PLENTY, NOW), lost);
    assert_eq!(read_all(engine.node(0), 1, PLENTY), expected(1, 7));
}

/// Appends of a thousand distinct batches under faults: what each call said.
fn under_faults(seed: u64) -> (Vec<&'static str>, Vec<(u64, Bytes)>) {
    let faults = Faults { seed, refused_per_mille: 100, unknown_per_mille: 300 };
    let mut engine = MemoryEngine::new(faults);
    let mut said = Vec::new();
    for number in 0..1_000 {
        said.push(match engine.node(0).append(&batch(number), None) {
            Ok(_) => "written",
            Err(AppendError::Refused(_)) => "refused",
            Err(AppendError::Unknown(_)) => "unknown",
            Err(AppendError::Broken(error)) => panic!("seed {seed}: {error}"),
        });
    }
    engine.cluster.heal();
    (said, read_all(engine.node(1), 1, PLENTY))
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
