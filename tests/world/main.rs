//! The world: fold, delivery and clients in one process without IO, from one seed, with faults; an
//! oracle holds them to the promises and laws, each by its number.
//!
//! `cargo world -- --seeds 5000` runs so many; `--from` says where to begin, `--seed 7` runs one
//! and tells what happened; `--frames` with it tells, of the shortened history, each frame too.
//! `--brief` runs the seeds alone, without those that once failed, and shortens no history.

// The server's names, for the same files.
extern crate rooms as highwater;

mod args;
mod frames;
mod held;
mod link;
mod machine;
#[path = "../pure/fold/model.rs"]
#[allow(dead_code, reason = "shared with the tests of the fold")]
mod model;
mod node;
mod oracle;
mod random;
mod rows;
mod session;
mod shared;
mod shell;
mod shrink;
mod tab;
mod told;
mod weights;
mod world;
mod writing;

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use args::Args;
use world::{Cut, Outcome};

/// Seeds that once failed: they are run before all others. What each found is in
/// `docs/testing.md`.
const REGRESSIONS: &[u64] = &[
    410, 526, 537, 579, 607, 1053, 1147, 1546, 2693, 2998, 4736, 6919, 7132, 10404, 20083, 24608,
    28921, 28989, 32808, 34387, 37697, 38498, 49592, 58770, 87488, 138203, 149232,
];

fn main() -> ExitCode {
    let args = match Args::of(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("world: {why}: [--seeds N] [--from N] [--brief], or --seed N [--frames]");
            return ExitCode::from(2);
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = args.seed {
        return one(seed, args.frames);
    }
    let same = same_trace();
    let once = if args.brief { &[] } else { REGRESSIONS };
    let all = once.iter().copied().chain(args.from..args.from + args.seeds).collect();
    if same && many(all, args.brief) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One seed, and what happened.
fn one(seed: u64, frames: bool) -> ExitCode {
    let weights = weights::Weights::draw(seed);
    println!("seed {seed}: {weights:?}");
    match shrink::run(seed, Cut { tell: true, ..Cut::default() }) {
        Ok(Outcome { trace, turns, deliveries }) => {
            println!("holds: {turns} turns, {deliveries} deliveries, trace {trace:016x}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("seed {seed}: {why}");
            shrink::report(seed, &why, frames);
            ExitCode::FAILURE
        }
    }
}

/// The same seed, the same trace.
fn same_trace() -> bool {
    for seed in [1, 2, 3] {
        let trace = || shrink::run(seed, Cut::default()).map(|done| done.trace);
        let (one, other) = (trace(), trace());
        if one != other {
            println!("seed {seed}: two runs differ: {one:?} and {other:?}");
            return false;
        }
    }
    true
}

/// Runs seeds on two threads; the first that fails is shortened and told.
fn many(seeds: Vec<u64>, brief: bool) -> bool {
    let most = std::env::var("WORLD_FAILURES").ok();
    let most = most.and_then(|most| most.parse().ok()).unwrap_or(1);
    let begun = Instant::now();
    let (next, turns, deliveries) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let failed: Mutex<Vec<(u64, String)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while failed.lock().unwrap().len() < most {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = seeds.get(at as usize) else { return };
                    match shrink::run(*seed, Cut::default()) {
                        Ok(done) => {
                            turns.fetch_add(done.turns as u64, Ordering::Relaxed);
                            deliveries.fetch_add(done.deliveries, Ordering::Relaxed);
                        }
                        Err(why) => failed.lock().unwrap().push((*seed, why)),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    for (seed, why) in &failed {
        println!("seed {seed}: {why}");
        if failed.len() == 1 && !brief {
            shrink::report(*seed, why, false);
        }
    }
    let (turns, deliveries) = (turns.into_inner(), deliveries.into_inner());
    println!(
        "world: {} seeds, {turns} turns, {deliveries} deliveries in {:.1} s: {}",
        next.into_inner().min(seeds.len() as u64),
        begun.elapsed().as_secs_f64(),
        if failed.is_empty() { "all hold" } else { "FAILED" }
    );
    failed.is_empty()
}
