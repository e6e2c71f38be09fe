//! What the engine keeps: full, an older copy in its place, damaged.

use std::path::{Path, PathBuf};

use highwater::wire::{Cloning, Start};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::history::Load;
use super::{append, is_ready, nodes, on, payloads, rounds};
use crate::support::{Client, Nats, Server, errors, run, seed, until};

/// The stream has no room any more. Nothing is lost: who appends is told to come again, and when.
/// Nodes go on when there is room.
#[test]
fn load_the_stream_is_full() {
    let Some(nats) = Nats::start(1) else { return };
    let nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    let room = 16 << 10;
    nats.bound(|bytes| bytes as i64 + room);
    until("all nodes say so", || !nodes.iter().any(is_ready));
    for node in &nodes {
        let refused = node.http().post("/v1/logs/load/a", "no room");
        assert_eq!(refused.refusal(), (503, "not_ready".to_owned()));
        assert!(refused.json()["retry_after"].as_u64() > Some(0));
    }
    nats.bound(|_| -1);
    load.goes_on();
    load.end(&nodes);
}

/// What one node has folded more than the engine has: that was given an older copy of its disk.
struct Older {
    nats: Nats,
    one: Server,
    /// All that was acknowledged, and how many of it the engine still has.
    all: Vec<String>,
    kept: usize,
    /// One who has read all.
    reader: Client,
}

/// The node runs on meanwhile, or it does not.
fn older(runs: bool) -> Option<Older> {
    let mut nats = Nats::start(1)?;
    let mut one = Server::start(on(&nats));
    let mut all = append(&one, (0..20).map(|n| format!("kept {n}")));
    let kept = all.len();
    nats.kill(0);
    let copy = nats.back_up(0);
    nats.again(0);
    all.extend(append(&one, (0..20).map(|n| format!("lost {n}"))));
    let mut reader = Client::new("reader");
    reader.cloning = Cloning::None;
    reader.want("a", Start::Earliest, 0);
    let mut reader = reader.join(&one);
    reader.reach("a", all.len() as u64);
    if !runs {
        one.kill9();
    }
    nats.kill(0);
    nats.put_back(0, &copy);
    nats.again(0);
    Some(Older { nats, one, all, kept, reader })
}

/// Begins a stream behind what a node has folded that does not run.
pub fn begin_behind(nats: &Nats, node: &Server) {
    let folder = TempDir::new().unwrap();
    let config = folder.path().join("highwater.toml");
    std::fs::write(&config, nats.toml()).unwrap();
    let (config, data) = (config.display(), node.data());
    let words = format!("journal move --dev --config {config} --data {}", data.display());
    let moved = run("", &words, "");
    assert!(moved.status.success(), "{}", errors(&moved));
}

/// A running node whose engine comes back with an older state stops, and says why; so does each
/// start. By an operator's word the journal goes on from the folder that had come furthest, and
/// nobody has lost anything.
#[test]
fn an_engine_that_lost_its_end_stops_nodes_and_goes_on_from_a_folder() {
    let Some(Older { nats, mut one, mut all, mut reader, .. }) = older(true) else { return };
    let ended = one.wait_for_end();
    assert!(!ended.success() && one.log().contains("it has lost its end. Stop"), "{}", one.log());
    let (ended, log) = one.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("it has lost its end. Nothing"), "{log}");

    nats.delete_stream();
    begin_behind(&nats, &one);
    one.restart_with(on(&nats));
    assert_eq!(payloads(&one), all);
    all.extend(append(&one, ["and on".to_owned()]));
    // What it saw is there: it goes on.
    reader.cut();
    reader.connect(&one);
    reader.reach("a", all.len() as u64);
    assert_eq!((reader.others, reader.log("a").texts()), (0, all));
}

/// Where what is missing is to stay lost, a node begins with an empty folder and what the engine
/// still has. A client that saw more is told, and begins anew there.
#[test]
fn promise_15_what_an_engine_lost_may_stay_lost_and_clients_are_told() {
    let Some(Older { nats, mut one, mut all, kept, mut reader }) = older(false) else { return };
    let (ended, log) = one.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("it has lost its end. Nothing"), "{log}");
    std::fs::remove_dir_all(one.data()).unwrap();
    one.restart_with(on(&nats));
    all.truncate(kept);
    assert_eq!(payloads(&one), all);
    all.extend(append(&one, (0..30).map(|n| format!("other {n}"))));
    reader.cut();
    reader.connect(&one);
    assert_eq!(reader.others, 1, "it saw what is gone");
    reader.reach("a", all.len() as u64);
    assert_eq!(reader.log("a").texts(), all);
}

/// The blocks in which the engine keeps the stream's messages.
fn blocks(store: &Path) -> Vec<PathBuf> {
    let folder = store.join("jetstream/$G/streams/highwater/msgs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "blk")).collect()
}

/// Flips a bit of a stream's only block: where.
fn flip(store: &Path, random: &mut StdRng) -> usize {
    let blocks = blocks(store);
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    let mut bytes = std::fs::read(&blocks[0]).unwrap();
    let at = random.random_range(0..bytes.len());
    bytes[at] ^= 1 << random.random_range(0..8);
    std::fs::write(&blocks[0], bytes).unwrap();
    at
}

/// Bits are flipped, one at a time, where the engine keeps its messages. A node that has folded
/// them says at its start what the engine has lost, unless that has it all. One that begins with
/// nothing cannot know what there was; but what it reads is what was written, from the beginning.
#[test]
fn a_bit_that_is_flipped_in_the_engine_makes_no_other_record() {
    let Some(mut nats) = Nats::start(1) else { return };
    let mut one = Server::start(on(&nats));
    let texts = (0..8).map(|n| format!("{n} {}", "x".repeat(200)));
    let all: Vec<_> = texts.flat_map(|text| append(&one, [text])).collect();
    one.kill9();
    let folded = one.back_up();
    // A server that was told to stop has noted where its messages are; one that was killed looks
    // for them.
    nats.kill(0);
    let killed = nats.back_up(0);
    nats.again(0);
    nats.stop(0);
    let copies = [killed, nats.back_up(0)];
    let mut random = StdRng::seed_from_u64(seed("--test process cluster::engine"));
    let (mut told, mut cut, mut refused) = (0, 0, 0);
    for round in 0..rounds(4) {
        nats.put_back(0, &copies[round % 2]);
        let at = flip(&nats.store(0), &mut random);
        nats.again(0);
        one.put_back(&folded);
        let before = one.log().len();
        let whole = one.try_restart();
        if let Err(log) = &whole {
            assert!(log[before..].contains("it has lost its end"), "byte {at}: {}", &log[before..]);
            told += 1;
        } else {
            assert!(payloads(&one) == all, "byte {at}");
            one.kill9();
        }
        std::fs::remove_dir_all(one.data()).unwrap();
        let before = one.log().len();
        if let Err(log) = one.try_restart() {
            assert!(log[before..].contains("has lost"), "byte {at}: {}", &log[before..]);
            refused += 1;
        } else {
            let found = payloads(&one);
            assert!(all.starts_with(&found), "byte {at}: {found:?}");
            // What one who knew it took for whole is whole for others.
            assert!(whole.is_err() || found == all, "byte {at}: {found:?}");
            cut += usize::from(found.len() < all.len());
            one.kill9();
        }
        nats.kill(0);
    }
    println!("told {told} times; a new node had less {cut} times, none {refused} times");
}
