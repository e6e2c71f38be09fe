//! The canary: plants faults in a copy of the sources, and counts the seeds of the world after
//! which each is found.
//!
//! Promise: what is shipped has none of them; and a seed counts for a fault only where it passes
//! without. All are built into one program, of which the environment says which one it has: a
//! build for each would take many times as long as all seeds.
//!
//! `make canary`; `--only window`: those alone whose names have that.

mod plants;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use plants::{PLANTS, Plant};

const SEEDS: u64 = 5_000;
/// Crates that the planted files are built into.
const ROOTS: [&str; 2] = ["tests/world/rooms/lib.rs", "src/lib.rs"];
const PARTS: [&str; 7] =
    ["src", "tests", "bench", ".cargo", "Cargo.toml", "Cargo.lock", "rustfmt.toml"];

/// Which one is planted: by the environment, once for a process.
const SWITCH: &str = r#"
/// Whether the canary has planted that fault in this process.
pub fn planted(number: usize) -> bool {
    static WHICH: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();
    let which = || std::env::var("HIGHWATER_PLANT").ok()?.parse().ok();
    *WHICH.get_or_init(which) == Some(number)
}
"#;

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let only = given.iter().skip_while(|arg| *arg != "--only").nth(1).cloned().unwrap_or_default();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned();
    let canary = Canary { root: root.clone(), copy: root.join("target/canary/tree") };
    canary.plant_all();
    if !canary.cargo(&["build", "--package", "highwater-world", "--bin", "world"]) {
        println!("canary: the planted world is not built");
        return ExitCode::FAILURE;
    }
    let (begun, mut missed) = (Instant::now(), 0);
    println!("| broken line | breaks | seeds | told |\n|---|---|---|---|");
    for (number, plant) in PLANTS.iter().enumerate().filter(|(_, one)| one.name.contains(&only)) {
        let Plant { name, breaks, world, test, .. } = plant;
        if !world {
            let (_, test) = test.unwrap_or_default();
            println!("| {name} | {breaks} | | not in the world's sight: `{test}` |");
            continue;
        }
        match canary.seeds(number) {
            Some((seed, told)) => println!("| {name} | {breaks} | {seed} | {told} |"),
            None => {
                missed += 1;
                println!("| {name} | {breaks} | NOT FOUND within {SEEDS} | |");
            }
        }
    }
    println!("canary: {missed} missed, in {:.0} s", begun.elapsed().as_secs_f64());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Canary {
    root: PathBuf,
    copy: PathBuf,
}

impl Canary {
    /// The copy is made, or made like the sources again; what is alike keeps its time, so that
    /// little is built anew.
    fn plant_all(&self) {
        for part in PARTS {
            self.sync(&self.root.join(part), &self.copy.join(part));
        }
    }

    fn sync(&self, from: &Path, to: &Path) {
        if !from.is_dir() {
            let bytes = fs::read(from).unwrap();
            let bytes = self.planted(from, bytes);
            if fs::read(to).ok().as_ref() != Some(&bytes) {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
            return;
        }
        let names = |folder: &Path| -> Vec<_> {
            let all = fs::read_dir(folder).into_iter().flatten();
            all.map(|entry| entry.unwrap().file_name()).collect()
        };
        let here = names(from);
        for gone in names(to).into_iter().filter(|name| !here.contains(name)) {
            let gone = to.join(gone);
            if gone.is_dir() {
                fs::remove_dir_all(gone).unwrap();
            } else {
                fs::remove_file(gone).unwrap();
            }
        }
        for name in here.iter().filter(|name| *name != "node_modules") {
            self.sync(&from.join(name), &to.join(name));
        }
    }

    /// A file with all faults that belong into it, each behind a question.
    fn planted(&self, path: &Path, bytes: Vec<u8>) -> Vec<u8> {
        let path = path.strip_prefix(&self.root).unwrap().to_string_lossy().replace('\\', "/");
        let here = PLANTS.iter().enumerate().filter(|(_, plant)| plant.file == path);
        if ROOTS.contains(&path.as_str()) {
            return [bytes, SWITCH.into()].concat();
        }
        let mut places = Vec::new();
        for (number, plant) in here {
            let text = std::str::from_utf8(&bytes).unwrap();
            assert_eq!(text.matches(plant.at).count(), 1, "{}: {}", plant.name, plant.at);
            assert_eq!(plant.at.matches(plant.is).count(), 1, "{}: {}", plant.name, plant.is);
            let at = text.find(plant.at).unwrap() + plant.at.find(plant.is).unwrap();
            places.push((at, number, plant));
        }
        places.sort_by_key(|(at, ..)| *at);
        let mut bytes = bytes;
        for (at, number, Plant { is, put, .. }) in places.into_iter().rev() {
            let both = format!("(if crate::planted({number}) {{ {put} }} else {{ {is} }})");
            bytes.splice(at..at + is.len(), both.into_bytes());
        }
        bytes
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).current_dir(&self.copy);
        command.env("CARGO_TARGET_DIR", self.root.join("target/canary/build"));
        command.env_remove("HIGHWATER_PLANT");
        command
    }

    fn cargo(&self, args: &[&str]) -> bool {
        // What is replaced may be all that used a name.
        let flags = ("RUSTFLAGS", "-A warnings");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.command(cargo, args).env(flags.0, flags.1).status().unwrap().success()
    }

    /// The first seed that fails with the fault and passes without, and what it told.
    fn seeds(&self, number: usize) -> Option<(u64, String)> {
        let mut from = 1;
        while from <= SEEDS {
            let (seed, told) = self.world(Some(number), from, SEEDS + 1 - from)?;
            if self.world(None, seed, 1).is_none() {
                let law = told.split(": ").next().unwrap_or_default().replace('|', "/");
                return Some((seed, law));
            }
            from = seed + 1;
        }
        None
    }

    /// The first of so many seeds that fails, and why.
    fn world(&self, plant: Option<usize>, from: u64, seeds: u64) -> Option<(u64, String)> {
        let (from, seeds) = (from.to_string(), seeds.to_string());
        let program = self.root.join("target/canary/build/debug/world");
        let args = ["--brief", "--from", &from, "--seeds", &seeds];
        let mut command = self.command(program, &args);
        command.envs(plant.map(|number| ("HIGHWATER_PLANT", number.to_string())));
        let done = command.stderr(Stdio::inherit()).output().unwrap();
        if done.status.success() {
            return None;
        }
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        let told = text.lines().filter_map(|line| line.strip_prefix("seed ")?.split_once(": "));
        let told = told.filter_map(|(seed, why)| Some((seed.parse().ok()?, why.to_owned())));
        // A crash of the whole process tells nothing: that is no finding.
        Some(told.min().unwrap_or_else(|| panic!("the world told nothing: {text}")))
    }
}
