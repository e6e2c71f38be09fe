//! Crashes: load, SIGKILL at a random moment, restart, again and again. Acknowledged appends are
//! all there, once, in order; offsets are never given twice; no reader saw a record that is gone.
//!
//! `cargo test` runs a few rounds, `make crash` 50 (or `ROUNDS`). The seed decides what is
//! sent and when the server dies; where that strikes it, the machine decides.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Client, Options, Server};
use highwater::wire::{Cloning, Met, Outcome, Start};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const LOGS: [&str; 3] = ["crash/a", "crash/b", "crash/state"];

/// Sends and reads for a random while, in which the server is killed.
fn load(server: &mut Server, writers: &mut [Client], reader: &mut Client, random: &mut StdRng) {
    let dies = Instant::now() + Duration::from_millis(random.random_range(5..250));
    while Instant::now() < dies {
        let writer = random.random_range(0..writers.len());
        let log = LOGS[random.random_range(0..3)];
        let many = random.random_range(1..30);
        let size = random.random_range(1..2_000);
        let writer = &mut writers[writer];
        if log == "crash/state" {
            let key = format!("k{}", random.random_range(0..10));
            let text = random.random_bool(0.8).then(|| "s".repeat(size));
            writer.put(log, &key, text.as_deref());
        } else {
            writer.append_all(log, (0..many).map(|n| format!("{n}{}", "x".repeat(size))));
        }
        writer.step(Instant::now() + Duration::from_millis(1));
        reader.step(Instant::now() + Duration::from_millis(1));
    }
    server.kill9();
    // What had left the server before it died may still be read.
    for client in writers.iter_mut().chain([reader]) {
        while client.step(Instant::now() + Duration::from_millis(50)) {}
        client.cut();
    }
}

/// Reads everything anew and holds it against what writers were told and the reader has seen.
fn check(server: &Server, writers: &[Client], reader: &Client) {
    let mut all = Client::new("all");
    all.cloning = Cloning::None;
    LOGS.iter().for_each(|log| all.want(log, Start::Earliest, 0));
    let mut all = all.join(server);
    LOGS.iter().for_each(|log| all.reach(log, 0));
    all.leave(true);
    for (at, seen) in &reader.seen {
        assert_eq!(all.seen.get(at), Some(seen), "{at:?} was seen and is gone");
    }
    let mut last: BTreeMap<_, (u64, u64)> = BTreeMap::new();
    for ((log, offset), seen) in &all.seen {
        let writer = (seen.writer, *log);
        if let Some((seq, before)) = last.insert(writer, (seen.seq, *offset)) {
            assert!(seq < seen.seq && before < *offset, "out of order, or twice: {seen:?}");
        }
    }
    for writer in writers {
        for (seq, outcome) in writer.outcomes() {
            let Outcome::Stored { log, offset, place, .. } = outcome else {
                panic!("{seq} was refused: {outcome:?}")
            };
            let seen = all.seen.get(&(*log, *offset));
            let seen = seen.unwrap_or_else(|| panic!("{seq} was acknowledged and is gone"));
            assert_eq!((seen.writer, seen.seq, seen.place), (writer.writer().id(), *seq, *place));
        }
    }
}

#[test]
fn a_few_crashes() {
    crash(4, "--test process crash");
}

#[test]
#[ignore = "long: make crash"]
fn fifty_crashes() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    crash(rounds.unwrap_or(50), "--test process crash -- --ignored");
}

fn crash(rounds: u32, test: &str) {
    let seed = crate::support::seed(test);
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(Options::default().rule("crash/state", "latest", ""));
    let mut reader = Client::new("rea");
    LOGS.iter().for_each(|log| reader.want(log, Start::State, 0));
    let mut reader = reader.join(&server);
    let mut writers: Vec<Client> =
        (0..3).map(|n| Client::new(&format!("wim-{n}")).join(&server)).collect();
    for round in 0..rounds {
        load(&mut server, &mut writers, &mut reader, &mut random);
        server.restart();
        check(&server, &writers, &reader);
        for writer in &mut writers {
            assert_eq!(writer.connect(&server), Met::Resumed, "round {round}");
        }
        assert_eq!(reader.connect(&server), Met::Resumed);
        if random.random_bool(0.3) {
            // Sometimes all that was cut off is sent again before the next one.
            writers.iter_mut().for_each(Client::settled);
        }
    }
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for writer in &mut writers {
        writer.settled();
        for outcome in writer.outcomes().values() {
            if let Outcome::Stored { log, .. } = outcome {
                *counts.entry(*log).or_default() += 1;
            }
        }
        assert_eq!(writer.outcomes().len() as u64, writer.writer().last());
    }
    check(&server, &writers, &reader);
    for (log, count) in counts {
        let name = reader.logs()[&log].name.clone();
        reader.reach(&name, count);
        assert_eq!(reader.log(&name).cursor, count, "each append is there once");
    }
    println!("{rounds} crashes, {} records", reader.seen.len());
}
