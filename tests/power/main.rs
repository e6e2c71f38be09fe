//! Loss of power: load, the end of the process and of everything that was not synced, restart,
//! again and again. Acknowledged appends are all there, once, in order; offsets are never given
//! twice; no reader saw a record that is gone.
//!
//! This alone holds promises 2 and 3 against loss of power. The tests that kill a process pass with
//! a node that syncs nothing, for the operating system keeps what was written; these do not.
//!
//! The server runs under a shim (`shim.c`) that keeps what was synced, apart. After SIGKILL the
//! data folder is made anew from that alone, or from that and a random part of the rest
//! (`disk.rs`). `cargo test` runs a few rounds, `make power` 50 (or `ROUNDS`). The seed decides
//! what is sent, when power goes and what of the unsynced is left; where that strikes the server,
//! the machine decides. Linux only: it needs LD_PRELOAD and a C compiler.

#![cfg(target_os = "linux")]

mod disk;
mod lost;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use disk::{Disk, Unsynced};
use highwater::wire::{Cloning, Met, Outcome, Reason, Start};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{Client, Options, Server};
use tempfile::TempDir;

/// Logs that keep everything, one with a state, and one that is large and trimmed.
const LOGS: [&str; 4] = ["power/a", "power/b", "power/state", "power/large"];
const STATE: usize = 2;
const LARGE: usize = 3;

/// Rounds on one folder: what is checked grows with them.
const LIFE: u32 = 10;

fn options(disk: &Disk) -> Options {
    let mut options = Options::default()
        .limit("append_bytes_per_user_second", 1 << 36)
        .rule(LOGS[STATE], "latest", "")
        .rule(LOGS[LARGE], "none", "retain_records = 40");
    options.env = disk.environment();
    options
}

/// The same on a disk that takes its time, so that power goes while something is written; how long
/// is drawn.
fn slow(disk: &Disk, random: &mut StdRng) -> Options {
    let mut options = options(disk);
    options.env.push(("POWER_SLOW", pick(&["0", "500", "3000"], random).into()));
    options
}

/// The same on a disk that does nothing when files, or folders, are synced.
fn dropping(disk: &Disk, what: &str) -> Options {
    let mut options = options(disk);
    options.env.push(("POWER_DROPS", what.into()));
    options
}

/// The same, up to that sync.
fn dying(disk: &Disk, sync: u32) -> Options {
    let mut options = options(disk);
    options.env.push(("POWER_DIES", sync.to_string().into()));
    options
}

/// A server, who writes and who reads.
struct World {
    disk: Disk,
    server: Server,
    writers: Vec<Client>,
    reader: Client,
}

impl World {
    /// One on a new folder.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let disk = Disk::new(folder.path());
        let options = options(&disk);
        Self::on(folder, disk, options)
    }

    fn on(folder: TempDir, disk: Disk, options: Options) -> Self {
        let server = Server::start_in(folder, options);
        let mut reader = Client::new("rea");
        // Not the large one, of which a reader may miss what was trimmed.
        LOGS[..LARGE].iter().for_each(|log| reader.want(log, Start::State, 0));
        let reader = reader.join(&server);
        let writers = (0..3).map(|n| Client::new(&format!("wim-{n}")).join(&server)).collect();
        Self { disk, server, writers, reader }
    }

    /// Sends and reads for a while, in which the server is killed. Large records fill tables and
    /// the engine's log, so that files are made and removed.
    fn load(&mut self, large: bool, most: u64, random: &mut StdRng) {
        let dies = Instant::now() + Duration::from_millis(random.random_range(5..most));
        while Instant::now() < dies {
            let writer = random.random_range(0..self.writers.len());
            let writer = &mut self.writers[writer];
            let log = if large { LARGE } else { random.random_range(0..LARGE) };
            let size = random.random_range(1..2_000);
            match log {
                LARGE => {
                    let many = random.random_range(1..5);
                    let size = random.random_range(1_000..200_000);
                    let texts = (0..many).map(|_| noise(size, random));
                    writer.append_all(LOGS[log], texts.collect::<Vec<_>>());
                }
                STATE => {
                    let key = format!("k{}", random.random_range(0..10));
                    let text = random.random_bool(0.8).then(|| noise(size, random));
                    writer.put(LOGS[log], &key, text.as_deref());
                }
                _ => {
                    let many = random.random_range(1..30);
                    let texts = (0..many).map(|_| noise(size, random));
                    writer.append_all(LOGS[log], texts.collect::<Vec<_>>());
                }
            }
            while writer.unanswered() > 60 && Instant::now() < dies {
                writer.step(Instant::now() + Duration::from_millis(1));
            }
            writer.step(Instant::now() + Duration::from_millis(1));
            self.reader.step(Instant::now() + Duration::from_millis(1));
        }
        self.server.kill9();
        // What had left the server before it died may still be read.
        for client in self.writers.iter_mut().chain([&mut self.reader]) {
            while client.step(Instant::now() + Duration::from_millis(50)) {}
            client.cut();
        }
    }

    /// Power goes, and sometimes goes again while the server starts.
    fn lose_power(&mut self, random: &mut StdRng) {
        let unsynced = *pick(&[Unsynced::Lost, Unsynced::Torn], random);
        let left = self.disk.lose_power(unsynced, random);
        let answered = |writer: &Client| writer.outcomes().len();
        let answered: usize = self.writers.iter().map(answered).sum();
        println!("{unsynced:?}, {answered} answered so far: {left:?}");
        while random.random_bool(0.3) {
            let dying = dying(&self.disk, random.random_range(1..20));
            Server::begin_and_kill(self.disk.root(), &dying, Duration::from_millis(150));
            self.disk.lose_power(unsynced, random);
        }
        self.server.restart_with(slow(&self.disk, random));
    }

    /// All that is there, read by a client that knows nothing.
    fn all(&self) -> Client {
        loop {
            let mut all = Client::new("all");
            all.cloning = Cloning::None;
            LOGS.iter().for_each(|log| all.want(log, Start::Earliest, 0));
            let mut all = all.join(&self.server);
            all.wait("all logs, or retention", |all| {
                let shown = |log: &&str| all.find(log).is_some_and(|held| held.shown());
                !all.active || LOGS.iter().all(shown)
            });
            if all.active {
                return all;
            }
            // The large log was trimmed past where it read.
            assert_eq!(all.reason, Some(Reason::Retention));
            all.leave(true);
        }
    }

    /// What of the promises does not hold.
    fn broken(&self) -> Vec<String> {
        let mut all = self.all();
        all.leave(true);
        let mut broken = Vec::new();
        for (at, seen) in &self.reader.seen {
            if all.seen.get(at) != Some(seen) {
                broken.push(format!("{at:?} was seen and is gone"));
            }
        }
        let mut last: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for ((log, offset), seen) in &all.seen {
            if let Some((seq, before)) = last.insert((seen.writer, *log), (seen.seq, *offset))
                && (seq >= seen.seq || before >= *offset)
            {
                broken.push(format!("({log}, {offset}) is out of order, or twice"));
            }
        }
        for writer in &self.writers {
            for (seq, outcome) in writer.outcomes() {
                let Outcome::Stored { log, offset, place, .. } = outcome else {
                    broken.push(format!("{seq} was refused: {outcome:?}"));
                    continue;
                };
                let held = all.logs().get(log);
                if held.is_some_and(|held| held.name == LOGS[LARGE] && *offset < held.start) {
                    continue;
                }
                match all.seen.get(&(*log, *offset)) {
                    Some(seen) => assert_eq!(
                        (seen.writer, seen.seq, seen.place),
                        (writer.writer().id(), *seq, *place),
                        "an offset was given twice"
                    ),
                    None => broken.push(format!("{seq} was acknowledged and is gone")),
                }
            }
        }
        broken
    }

    fn holds(&self) {
        let broken = self.broken();
        assert!(
            broken.is_empty(),
            "{} broken, as {:?}",
            broken.len(),
            &broken[..broken.len().min(5)]
        );
    }

    /// Everyone is back, and what was cut off is sent again.
    fn resume(&mut self) {
        for client in self.writers.iter_mut().chain([&mut self.reader]) {
            assert_eq!(client.connect(&self.server), Met::Resumed);
        }
    }

    /// Everything that was ever sent is there once.
    fn finish(mut self) -> usize {
        let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
        for writer in &mut self.writers {
            writer.settled();
            for outcome in writer.outcomes().values() {
                if let Outcome::Stored { log, .. } = outcome {
                    *counts.entry(*log).or_default() += 1;
                }
            }
            assert_eq!(writer.outcomes().len() as u64, writer.writer().last());
        }
        self.holds();
        let mut all = self.all();
        for (log, count) in &counts {
            let name = all.logs()[log].name.clone();
            all.reach(&name, *count);
            assert_eq!(all.log(&name).cursor, *count, "each append is there once");
        }
        counts.values().sum::<u64>() as usize
    }
}

fn pick<'a, T>(from: &'a [T], random: &mut StdRng) -> &'a T {
    &from[random.random_range(0..from.len())]
}

/// A text that compression cannot shorten much, for the engine's files are to fill; and that JSON
/// does not lengthen.
fn noise(size: usize, random: &mut StdRng) -> String {
    static NOISE: OnceLock<String> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let mut random = StdRng::seed_from_u64(1);
        (0..1 << 20).map(|_| char::from(random.random_range(b'#'..=b'Z'))).collect()
    });
    let from = random.random_range(0..noise.len() - size);
    noise[from..from + size].to_owned()
}

#[test]
fn promises_02_and_03_hold_when_power_is_lost_a_few_times() {
    lose_power(4, "--test power");
}

#[test]
#[ignore = "long: make power"]
fn promises_02_and_03_hold_when_power_is_lost_fifty_times() {
    let rounds = std::env::var("ROUNDS").ok().and_then(|text| text.parse().ok());
    lose_power(rounds.unwrap_or(50), "--test power -- --ignored");
}

fn lose_power(rounds: u32, test: &str) {
    let mut random = StdRng::seed_from_u64(support::seed(test));
    let mut appends = 0;
    for life in 0..rounds.div_ceil(LIFE) {
        let mut world = World::new();
        for _ in 0..LIFE.min(rounds - life * LIFE) {
            let large = random.random_bool(0.5);
            world.load(large, if large { 2_000 } else { 400 }, &mut random);
            world.lose_power(&mut random);
            world.holds();
            world.resume();
            if random.random_bool(0.3) {
                // Sometimes all that was cut off is sent again before the next one.
                world.writers.iter_mut().for_each(Client::settled);
            }
        }
        appends += world.finish();
    }
    println!("power was lost {rounds} times, {appends} appends");
}

/// While a folder is made power may go at any of its syncs; the next start makes it, or finds it.
#[test]
fn power_is_lost_while_a_folder_is_made() {
    let mut random = StdRng::seed_from_u64(support::seed("--test power"));
    for _ in 0..3 {
        let folder = TempDir::new().unwrap();
        let disk = Disk::new(folder.path());
        for _ in 0..3 {
            let dying = dying(&disk, random.random_range(1..250));
            Server::begin_and_kill(folder.path(), &dying, Duration::from_millis(1000));
            let unsynced = *pick(&[Unsynced::Lost, Unsynced::Torn], &mut random);
            disk.lose_power(unsynced, &mut random);
        }
        let options = options(&disk);
        let mut world = World::on(folder, disk, options);
        world.load(false, 50, &mut random);
        world.disk.lose_power(Unsynced::Lost, &mut random);
        world.server.restart();
        world.holds();
    }
}

/// Canaries: on a disk whose syncs do nothing what was acknowledged is lost, and that is noticed.
#[test]
fn a_disk_that_does_not_sync_files_is_found_out() {
    let mut random = StdRng::seed_from_u64(support::seed("--test power"));
    let mut world = World::new();
    world.load(false, 200, &mut random);
    world.disk.lose_power(Unsynced::Lost, &mut random);
    // A folder that was never on the disk would not be opened again.
    world.server.restart_with(dropping(&world.disk, "files"));
    world.holds();
    world.resume();
    is_found_out(world, &mut random);
}

#[test]
fn a_disk_that_does_not_sync_folders_is_found_out() {
    let mut random = StdRng::seed_from_u64(support::seed("--test power"));
    let folder = TempDir::new().unwrap();
    let disk = Disk::new(folder.path());
    let options = dropping(&disk, "folders");
    is_found_out(World::on(folder, disk, options), &mut random);
}

fn is_found_out(mut world: World, random: &mut StdRng) {
    world.writers.iter_mut().for_each(|writer| assert!(writer.store(LOGS[0], "x") < 3_000));
    world.load(false, 100, random);
    world.disk.lose_power(Unsynced::Lost, random);
    world.server.restart_with(options(&world.disk));
    let broken = world.broken();
    let gone = broken.iter().filter(|told| told.ends_with("was acknowledged and is gone"));
    assert!(gone.count() > 0, "nothing was lost: {broken:?}");
}
