//! Each bit of a small folder, altered in turn: nothing is lost in silence.
//!
//! What it shows: of every bit that is not in a zero byte, in every file of the folder, that the
//! store with this bit altered does not open, or says of a read that it cannot be done, or holds
//! exactly what it held (and takes further commits, and holds those after another start). What it
//! does not show: two bits at once, and what a disk does to files behind a running node.
//!
//! `cargo test` tries a sample that follows from a seed; `make soak` tries all, goes on where it
//! was when it was stopped, and prints the table.

mod folder;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use folder::{Content, File, Known, files, lay_out, make, open};
use highwater::rows::Writes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// How long the sample takes, about.
const SAMPLE: Duration = Duration::from_secs(15);
/// Between two looks at the clock and two states kept.
const KEEP_EVERY: usize = 500;

/// What a start with an altered bit came to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The store does not open, and says why.
    Refused,
    /// A read says that it cannot be done.
    BrokenOff,
    /// All is as it was.
    Equal,
    /// The very last commit is gone, and was cut off as one that power was lost in: the bit made
    /// a whole sector of it zeros, which is what that leaves. Nothing can tell the two apart.
    LooksLikePowerLoss,
    /// Anything else.
    Wrong(String),
}

/// What is known of the folder whose bits are altered.
struct Bench {
    files: Vec<File>,
    known: Known,
    trial: tempfile::TempDir,
}

impl Bench {
    fn new(dir: &Path, known: Known) -> Self {
        // A start syncs a lot; what is synced is not the matter here.
        let memory = Path::new("/dev/shm");
        let within = if memory.is_dir() { memory } else { dir };
        let trial = tempfile::tempdir_in(within).unwrap();
        Self { files: files(&dir.join("base")), known, trial }
    }

    /// How long all files are, without zero bytes.
    fn sizes(&self) -> String {
        let size = |file: &File| file.bytes.iter().filter(|byte| **byte != 0).count();
        self.files.iter().map(|file| format!("{} {}\n", file.name, size(file))).collect()
    }

    /// Bits that are altered: file and bit.
    fn bits(&self) -> Vec<(usize, usize)> {
        let of = |(at, file): (usize, &File)| {
            let bytes = file.bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            bytes
                .flat_map(|(byte, _)| (0..8).map(move |bit| byte * 8 + bit))
                .map(|bit| (at, bit))
                .collect::<Vec<_>>()
        };
        self.files.iter().enumerate().flat_map(of).collect()
    }

    fn attempt(&self, file: usize, bit: usize) -> Outcome {
        lay_out(self.trial.path(), &self.files, Some((file, bit)));
        let trial = || self.outcome(file, bit);
        catch_unwind(AssertUnwindSafe(trial)).unwrap_or_else(|panic| {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&s| s.to_owned()));
            Outcome::Wrong(format!("a panic: {}", said.unwrap_or_default()))
        })
    }

    fn outcome(&self, file: usize, bit: usize) -> Outcome {
        let Ok(store) = open(self.trial.path()) else { return Outcome::Refused };
        let Ok(content) = Content::of(&store) else { return Outcome::BrokenOff };
        if content != self.known.whole {
            return match content == self.known.before_last && self.makes_a_hole(file, bit) {
                true => Outcome::LooksLikePowerLoss,
                false => Outcome::Wrong(difference(&content, &self.known.whole)),
            };
        }
        // In a log all goes on from what was read there.
        if self.files[file].name.ends_with(".jnl") {
            let mut writes = Writes::default();
            writes.records.push((1, 10, b"one more".to_vec()));
            if let Err(error) = store.commit(writes, Some((10, b"batch")), true) {
                return Outcome::Wrong(format!("no commit follows: {error}"));
            }
            let Ok(more) = Content::of(&store) else { return Outcome::BrokenOff };
            drop(store);
            match open(self.trial.path()).map(|store| Content::of(&store)) {
                Ok(Ok(again)) if again == more => {}
                other => return Outcome::Wrong(format!("the next start: {:?}", other.err())),
            }
        }
        Outcome::Equal
    }

    /// Whether a bit of the newest log makes a sector zeros, as far as its commit reaches into it.
    fn makes_a_hole(&self, file: usize, bit: usize) -> bool {
        let bytes = &self.files[file].bytes;
        let sector = bit / 8 / 512 * 512;
        let until = bytes.len().min(sector + 512);
        let others =
            |from: usize| (from..until).filter(|at| *at != bit / 8).all(|at| bytes[at] == 0);
        self.files[file].name.ends_with("1.jnl")
            && bytes[bit / 8].count_ones() == 1
            && (others(sector) || others(bit / 8))
    }
}

fn difference(found: &Content, due: &Content) -> String {
    let (found, due) = (format!("{found:?}"), format!("{due:?}"));
    let at = found.bytes().zip(due.bytes()).take_while(|(one, other)| one == other).count();
    let around =
        |text: &str| text.chars().skip(at.saturating_sub(60)).take(160).collect::<String>();
    format!("{} instead of {}", around(&found), around(&due))
}

/// Outcomes by file.
#[derive(Default)]
struct Tally(BTreeMap<String, [u64; 5]>);

impl Tally {
    fn count(&mut self, file: &str, outcome: &Outcome) {
        let column = match outcome {
            Outcome::Refused => 0,
            Outcome::BrokenOff => 1,
            Outcome::Equal => 2,
            Outcome::LooksLikePowerLoss => 3,
            Outcome::Wrong(_) => 4,
        };
        self.0.entry(file.to_owned()).or_default()[column] += 1;
    }

    fn table(&self) -> String {
        let mut text = format!(
            "{:<28}{:>8}{:>9}{:>12}{:>8}{:>10}{:>7}\n",
            "file", "bits", "refused", "broken off", "equal", "excepted", "wrong"
        );
        let mut all = [0; 5];
        let mut row = |name: &str, [refused, broken, equal, excepted, wrong]: [u64; 5]| {
            let bits = refused + broken + equal + excepted + wrong;
            writeln!(
                text,
                "{name:<28}{bits:>8}{refused:>9}{broken:>12}{equal:>8}{excepted:>10}{wrong:>7}"
            )
            .unwrap();
        };
        for (name, counts) in &self.0 {
            row(name, *counts);
            all.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        row("all", all);
        text + "excepted: the bit makes a sector of the very last commit zeros, as a loss of power \
                does\n"
    }

    /// As it is kept between two runs.
    fn kept(&self) -> String {
        let row = |(name, counts): (&String, &[u64; 5])| {
            format!("{name} {}\n", counts.map(|count| count.to_string()).join(" "))
        };
        self.0.iter().map(row).collect()
    }

    fn read(text: &str) -> Self {
        let row = |line: &str| {
            let mut words = line.split(' ');
            let name = words.next().unwrap().to_owned();
            let counts: Vec<u64> = words.map(|word| word.parse().unwrap()).collect();
            (name, counts.try_into().unwrap())
        };
        Self(text.lines().map(row).collect())
    }
}

/// Panics are outcomes; what they would print is in the way.
fn quiet() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn seed() -> u64 {
    match std::env::var("HIGHWATER_SEED") {
        Ok(seed) => seed.parse().expect("HIGHWATER_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// A sample: first a file, then a bit of it, so that small files have their turn.
#[test]
fn a_bit_that_is_altered_is_told_or_changes_nothing() {
    let seed = seed();
    eprintln!(
        "again: HIGHWATER_SEED={seed} cargo test --test disk bitflips::a_bit_that_is -- --nocapture"
    );
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let known = make(&dir.path().join("base"), &mut random);
    let bench = Bench::new(dir.path(), known);
    untouched(&bench);
    let bits = bench.bits();
    let named: Vec<usize> = (0..bench.files.len())
        .filter(|at| bench.files[*at].bytes.iter().any(|byte| *byte != 0))
        .collect();
    let mut tally = Tally::default();
    let mut wrong = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < SAMPLE {
        let file = named[random.random_range(0..named.len())];
        let of_it: Vec<_> = bits.iter().filter(|(at, _)| *at == file).collect();
        let (_, bit) = *of_it[random.random_range(0..of_it.len())];
        let outcome = bench.attempt(file, bit);
        let name = &bench.files[file].name;
        tally.count(name, &outcome);
        if let Outcome::Wrong(what) = outcome {
            wrong.push(format!("{name} byte {} bit {}: {what}", bit / 8, bit % 8));
        }
    }
    println!("{}", tally.table());
    assert!(wrong.is_empty(), "seed {seed}\n{}", wrong.join("\n"));
}

/// The folder as it is opens, and is what it is said to be.
fn untouched(bench: &Bench) {
    lay_out(bench.trial.path(), &bench.files, None);
    assert_eq!(Content::of(&open(bench.trial.path()).unwrap()).unwrap(), bench.known.whole);
    // Nearly half of it is the engine's own list of tables and their settings.
    let bytes: usize = bench.bits().len() / 8;
    assert!((16 << 10..48 << 10).contains(&bytes), "{bytes} bytes:\n{}", bench.sizes());
}

/// All of them, from where the last run was stopped; `target/bitflips` holds folder and state.
#[test]
#[ignore = "takes about an hour: make soak"]
fn every_bit_that_is_altered_is_told_or_changes_nothing() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bitflips");
    let (base, state) = (dir.join("base"), dir.join("state"));
    let seed: u64 = fs::read_to_string(dir.join("seed"))
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(seed);
    // The folder is what follows from the seed, but for its ids and the times in its files.
    let kept = fs::read_to_string(&state).ok().filter(|_| base.exists());
    if kept.is_none() {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("seed"), seed.to_string()).unwrap();
        make(&base, &mut StdRng::seed_from_u64(seed));
    }
    let bench = Bench::new(&dir, reread(&dir));
    untouched(&bench);
    quiet();
    let bits = bench.bits();
    let (mut next, mut tally, mut wrong) = (0, Tally::default(), Vec::new());
    if let Some(text) = kept {
        let (first, rest) = text.split_once('\n').unwrap();
        next = first.parse().unwrap();
        tally = Tally::read(rest);
    }
    let begun = Instant::now();
    for (at, (file, bit)) in bits.iter().enumerate().skip(next) {
        let outcome = bench.attempt(*file, *bit);
        let name = &bench.files[*file].name;
        tally.count(name, &outcome);
        if let Outcome::Wrong(what) = outcome {
            println!("WRONG {name} byte {} bit {}: {what}", bit / 8, bit % 8);
            wrong.push(format!("{name} byte {} bit {}: {what}", bit / 8, bit % 8));
        }
        if (at + 1) % KEEP_EVERY == 0 {
            fs::write(&state, format!("{}\n{}", at + 1, tally.kept())).unwrap();
            println!("{} of {} bits, {:?}", at + 1, bits.len(), begun.elapsed());
        }
    }
    println!("{}", tally.table());
    let all_wrong: u64 = tally.0.values().map(|counts| counts[4]).sum();
    fs::remove_file(&state).ok();
    assert!(wrong.is_empty() && all_wrong == 0, "{all_wrong} wrong\n{}", wrong.join("\n"));
}

/// What the kept folder holds; and before its last commit, which is cut off a copy for that.
fn reread(dir: &Path) -> Known {
    let trial = dir.join("trial");
    let mut base = files(&dir.join("base"));
    lay_out(&trial, &base, None);
    let whole = Content::of(&open(&trial).unwrap()).unwrap();
    let newest = base.iter_mut().find(|file| file.name.ends_with("1.jnl")).unwrap();
    let ends = newest.bytes.windows(4).enumerate().filter(|(_, four)| four == b"FJL\x03");
    let ends: Vec<usize> = ends.map(|(at, _)| at + 4).collect();
    newest.bytes.truncate(ends[ends.len() - 2]);
    lay_out(&trial, &base, None);
    let before_last = Content::of(&open(&trial).unwrap()).unwrap();
    Known { whole, before_last }
}
