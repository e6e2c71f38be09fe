//! Each promise of the design against the running system: the real server as a process, its store
//! on disk, sockets over loopback. What a promise says of the fold alone, or of several nodes, is
//! also held in `tests/pure/fold` and `tests/nodes/journal_contract.rs`.

mod bounded;
mod delivered;
mod durable;
mod guarded;
mod history;

use crate::support::{Client, Options, SOON, Server, token, until};
use highwater::wire::{
    Ack, Append, ClientFrame, Cloning, Code, Cursor, Encoding, Item, Met, Open, Outcome, Payload,
    Reason, Record, Refresh, ResetReason, Start, Subscribe, Target,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// A reader that takes a log from its first record on, whatever it has missed.
fn replay(server: &Server, user: &str, logs: &[&str]) -> Client {
    let mut reader = Client::new(user);
    reader.cloning = Cloning::None;
    for log in logs {
        reader.want(log, Start::Earliest, 0);
    }
    let mut reader = reader.join(server);
    for log in logs {
        reader.reach(log, 0);
    }
    reader
}

/// Where a log begins.
fn start_of(server: &Server, log: &str) -> u64 {
    let mut probe = Client::new("probe");
    probe.cloning = Cloning::None;
    probe.want(log, Start::End, 0);
    let mut probe = probe.join(server);
    probe.wait("subscribed", |probe| probe.find(log).is_some());
    let start = probe.log(log).start;
    probe.leave(true);
    start
}

/// Asserts that what a writer was told is stored is there, once, where it was told.
fn assert_stored(writer: &Client, reader: &Client) {
    let mut stored = 0;
    for (seq, outcome) in writer.outcomes() {
        let Outcome::Stored { log, offset, place, .. } = outcome else { continue };
        let seen = reader.seen.get(&(*log, *offset));
        let seen = seen.unwrap_or_else(|| panic!("seq {seq} at {offset} of log {log} is gone"));
        assert_eq!((seen.writer, seen.seq, seen.place), (writer.writer().id(), *seq, *place));
        stored += 1;
    }
    let mine = reader.seen.values().filter(|seen| seen.writer == writer.writer().id());
    assert!(mine.count() >= stored);
    let mut seqs: Vec<_> = (reader.seen.iter())
        .filter(|(_, seen)| seen.writer == writer.writer().id())
        .map(|((log, offset), seen)| (*log, seen.seq, *offset))
        .collect();
    seqs.sort_unstable();
    for pair in seqs.windows(2) {
        let [(log, seq, offset), (next_log, next_seq, next_offset)] = pair else { continue };
        if log == next_log {
            assert!(seq < next_seq && offset < next_offset, "a writer's order, each once");
        }
    }
}
