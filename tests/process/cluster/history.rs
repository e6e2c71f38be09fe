//! A history that is held against what everybody was told, whatever befalls nodes and engine.
//!
//! Three writers append numbered records to three logs, each at another node: two over sockets, one
//! by HTTP; each sends again what was not answered. Two readers follow from other nodes. In the end
//! each log has each acknowledged record once, in the order of its writer and at the offset that
//! was told, and no other record; all nodes have the same; readers have seen just that, each record
//! once (the client that they are holds the server to it at every frame).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use serde_json::Value;

use super::clients::{Abandon, LOGS, Shared, UNANSWERED, Written, follow, write, write_by_http};
use crate::support::{Client, Server, until};

/// Records that each writer has to get stored before something counts as going on.
const SOME: u64 = 30;
/// They.
pub const WRITERS: [usize; 3] = [0, 1, 2];
/// The writer whose requests go to another node as soon as one is refused.
pub const BY_HTTP: usize = 2;

/// What is under way.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Written>>,
    readers: Vec<JoinHandle<Client>>,
    _abandon: Abandon,
}

impl Load {
    /// Begins, and waits until all writers get something stored.
    pub fn begin(nodes: &[Server]) -> Self {
        let shared = Arc::<Shared>::default();
        *shared.places.lock().unwrap() = nodes.iter().map(|node| node.address).collect();
        // Readers open logs that are there.
        let http = nodes[0].http();
        LOGS.iter().for_each(|log| drop(http.post(&format!("/v1/logs/{log}?create"), "").ok()));
        let writers = WRITERS.map(|writer| {
            let shared = Arc::clone(&shared);
            let work = if writer == BY_HTTP { write_by_http } else { write };
            std::thread::spawn(move || work(&shared, writer))
        });
        let readers = [0, 1].map(|reader| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || follow(&shared, reader))
        });
        let (writers, readers) = (writers.into(), readers.into());
        let _abandon = Abandon(Arc::clone(&shared));
        let load = Self { shared, writers, readers, _abandon };
        load.goes_on();
        load
    }

    /// A node has come again.
    pub fn moved(&self, at: usize, node: &Server) {
        self.shared.places.lock().unwrap()[at] = node.address;
    }

    /// Waits until all writers got some more stored.
    pub fn goes_on(&self) {
        self.goes_on_for(&WRITERS);
    }

    /// The same, of these.
    pub fn goes_on_for(&self, writers: &[usize]) {
        let stored = |writer: &usize| self.shared.acknowledged[*writer].load(Ordering::SeqCst);
        let before: Vec<_> = writers.iter().map(stored).collect();
        until("writers go on", || {
            let mut all = self.writers.iter();
            assert!(all.all(|writer| !writer.is_finished()), "a writer has ended");
            assert!(self.readers.iter().all(|reader| !reader.is_finished()), "a reader has ended");
            writers.iter().zip(&before).all(|(writer, before)| stored(writer) >= before + SOME)
        });
    }

    /// Waits until as much as may be is on its way by sockets; the engine takes nothing meanwhile.
    pub fn piles_up(&self) {
        until("appends are on their way", || {
            let sockets = WRITERS.iter().filter(|writer| **writer != BY_HTTP);
            let mut waiting = sockets.map(|at| self.shared.waiting[*at].load(Ordering::SeqCst));
            waiting.all(|waiting| waiting >= UNANSWERED as u64)
        });
    }

    /// Ends it, and holds all against all.
    pub fn end(self, nodes: &[Server]) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let written = self.writers.into_iter().map(ended).collect::<Vec<_>>();
        let due = due(&written);
        let heads = due.iter().map(|(log, records)| (*log, records.len() as u64)).collect();
        for node in nodes {
            for (log, records) in &due {
                has(node, log, records);
            }
        }
        same_records(nodes);
        same_positions(nodes);
        *self.shared.heads.lock().unwrap() = Some(heads);
        let seen: Vec<_> = self.readers.into_iter().map(ended).collect();
        seen.iter().for_each(|reader| saw(reader, &due));
        let records: usize = due.values().map(BTreeMap::len).sum();
        let longest = self.shared.longest.each_ref().map(|longest| longest.load(Ordering::SeqCst));
        println!("{records} records; the longest waits, by writer: {longest:?} ms");
    }
}

fn ended<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// What each log has to have, by offset: no two records were told the same place, and each writer's
/// follow one another.
fn due(written: &[Written]) -> BTreeMap<&'static str, BTreeMap<u64, String>> {
    let mut due: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for writer in written {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (log, offset, text) in writer {
            let before = last.insert(log, *offset);
            assert!(before.is_none_or(|before| before < *offset), "{text} went past another");
            let other = due.entry(*log).or_default().insert(*offset, text.clone());
            assert_eq!(other, None, "{text} is where another was stored");
        }
    }
    due
}

/// A node has these records of a log, and no others, once it has read all.
fn has(node: &Server, log: &str, records: &BTreeMap<u64, String>) {
    until("a node has all", || lines(node, log).len() >= records.len());
    let found = lines(node, log).into_iter().map(|line| {
        let text = line["payload"].as_str().unwrap().to_owned();
        (line["offset"].as_u64().unwrap(), text)
    });
    let found: BTreeMap<_, _> = found.collect();
    for (offset, text) in records {
        assert_eq!(found.get(offset), Some(text), "{log} at {offset}: it was acknowledged");
    }
    for (offset, text) in &found {
        assert!(records.contains_key(offset), "{log} at {offset}: {text} was stored once more");
    }
}

/// What a node tells of a log; nothing, where it tells nothing for now.
fn lines(node: &Server, log: &str) -> Vec<Value> {
    let answer = node.http().get(&format!("/v1/logs/{log}?from=0"));
    if answer.status == 200 { answer.lines() } else { Vec::new() }
}

/// Nodes agree in all that records have, times and places among it.
fn same_records(nodes: &[Server]) {
    let of = |node: &Server| LOGS.map(|log| lines(node, log));
    let first = of(&nodes[0]);
    nodes.iter().for_each(|node| assert!(of(node) == first, "nodes have other records"));
    for line in first.iter().flat_map(|lines| lines.windows(2)) {
        assert!(line[0]["time"].as_u64() <= line[1]["time"].as_u64(), "time went back");
    }
}

/// Nodes have the same chain behind the same batch. They propose signs of life, so that they are
/// asked until all were once behind one batch.
fn same_positions(nodes: &[Server]) {
    let mut chains: Vec<BTreeMap<u64, String>> = vec![BTreeMap::new(); nodes.len()];
    until("nodes are behind one batch", || {
        for (node, chains) in nodes.iter().zip(&mut chains) {
            let told = node.http().get("/v1/journal").ok().json();
            let position = told["position"].as_str().unwrap().to_owned();
            let batch = position.split('.').nth(1).unwrap().parse::<u64>().unwrap();
            chains.insert(batch, position);
        }
        let others = &chains[1..];
        chains[0].keys().any(|batch| others.iter().all(|other| other.contains_key(batch)))
    });
    for (batch, position) in &chains[0] {
        let others = chains[1..].iter().filter_map(|other| other.get(batch));
        others.for_each(|other| assert_eq!(other, position, "another history"));
    }
}

/// A reader saw all that is there, and nothing else.
fn saw(reader: &Client, due: &BTreeMap<&str, BTreeMap<u64, String>>) {
    for (log, records) in due {
        let id = reader.log(log).log;
        let seen = reader.seen.range((id, 0)..=(id, u64::MAX));
        let seen = seen.map(|((_, offset), seen)| {
            let text = String::from_utf8(seen.payload.clone().unwrap()).unwrap();
            (*offset, text)
        });
        let seen: BTreeMap<_, _> = seen.collect();
        assert!(seen == *records, "{log}: a reader saw other records than there are");
    }
}
