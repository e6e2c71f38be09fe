//! The planter: many faults in one copy of the sources, each behind a switch, so that one build
//! serves all of them.
//!
//! Promise: what cannot be switched or is not built is named, with the reason; and every fault that
//! is called built is in the programs, on where `HIGHWATER_PLANTED` is its number.
//!
//! It reads from standard input what to plant where, and writes what became of it; `make mutants`
//! asks it.

mod blame;
mod edit;
mod place;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use blame::{Blamed, Line, Regions};
use edit::Fault;
use place::{Form, Place};

/// How faults are planted, and what is made of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Way {
    /// Each behind its switch, and built.
    Switch,
    /// Each in its place, as far as they do not overlap, and only looked at by the compiler.
    Check,
    /// The same, and built.
    Plain,
}

#[derive(Debug, Deserialize)]
struct Ask {
    way: Way,
    /// A copy of the sources without a fault.
    tree: PathBuf,
    build: PathBuf,
    /// What is made of the tree.
    parts: Vec<Part>,
    faults: Vec<Given>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    World,
    /// The library's unit tests, and `tests/pure`.
    Tests,
}

/// A fault as `cargo mutants --list --json` tells it.
#[derive(Debug, Clone, Deserialize)]
struct Given {
    number: usize,
    file: PathBuf,
    span: Extent,
    replacement: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Extent {
    start: Point,
    end: Point,
}

/// Both from 1; columns are characters.
#[derive(Debug, Clone, Deserialize)]
struct Point {
    line: usize,
    column: usize,
}

#[derive(Debug, Default, Serialize)]
struct Answer {
    built: BTreeSet<usize>,
    left: Vec<Left>,
    /// What was built, by name.
    programs: BTreeMap<String, PathBuf>,
}

/// A fault that is not in the programs.
#[derive(Debug, Serialize)]
struct Left {
    number: usize,
    /// Whether its own words are what the compiler refuses.
    own: bool,
    why: String,
}

/// The switch. It is read once, for a fault may be asked for millions of times.
const SWITCH: &str = r#"
pub mod planted {
    //! Which fault is on, by the environment.

    /// Whether it is that one.
    pub fn on(number: usize) -> bool {
        static WHICH: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
        let told = || std::env::var("HIGHWATER_PLANTED").ok()?.parse().ok();
        *WHICH.get_or_init(|| told().unwrap_or(0)) == number
    }
}
"#;
/// What is built once for many faults is worth more time to build.
const FASTER: &str = "profile.dev.package.highwater.opt-level=1";
const MANY: usize = 100;
/// Crates that the files are built into.
const ROOTS: [&str; 2] = ["tests/world/rooms/lib.rs", "src/lib.rs"];

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let ask: Ask = serde_json::from_reader(std::io::stdin())?;
    let answer = planted(&ask)?;
    println!("{}", serde_json::to_string(&answer)?);
    Ok(())
}

/// Plants all, takes out what the compiler refuses, and again until it refuses nothing.
fn planted(ask: &Ask) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    let mut files = BTreeMap::new();
    for given in &ask.faults {
        if !files.contains_key(&given.file) {
            files.insert(given.file.clone(), Planted::read(&ask.tree, &given.file)?);
        }
        let file = files.get_mut(&given.file).ok_or("a file that was read")?;
        if let Err(why) = file.take(given, ask.way) {
            answer.left.push(Left { number: given.number, own: false, why: why.to_owned() });
        }
    }
    if ask.way == Way::Switch {
        for root in ROOTS {
            let path = ask.tree.join(root);
            let text = fs::read_to_string(&path)?;
            fs::write(path, text + SWITCH)?;
        }
    }
    loop {
        let mut regions = Regions::new();
        for (path, file) in &mut files {
            regions.insert(path.clone(), file.write(ask, path)?);
        }
        let (lines, passed) = build(ask)?;
        if passed {
            answer.programs = programs(&lines);
            answer.built = files.values().flat_map(Planted::numbers).collect();
            return Ok(answer);
        }
        let errors = blame::errors(&lines);
        let mut blamed: Vec<Blamed> =
            errors.iter().flat_map(|told| blame::blame(told, &regions)).collect();
        if blamed.is_empty() {
            let told: Vec<_> = errors.iter().map(|told| &told.message).collect();
            return Err(format!("no fault is to blame for what is not built: {told:?}").into());
        }
        // Where one is blamed twice, its own words count.
        blamed.sort_by_key(|one| (one.number, !one.own));
        blamed.dedup_by_key(|one| one.number);
        for Blamed { number, own, why } in blamed {
            files.values_mut().for_each(|file| file.faults.retain(|(one, _)| one.number != number));
            answer.left.push(Left { number, own, why });
        }
    }
}

/// A file with what is planted in it.
struct Planted {
    /// As it is without.
    text: String,
    syntax: syn::File,
    faults: Vec<(Fault, Place)>,
    /// What was written last.
    now: String,
}

impl Planted {
    fn read(tree: &Path, path: &Path) -> Result<Self, Failure> {
        let text = fs::read_to_string(tree.join(path))?;
        let syntax = syn::parse_file(&text)?;
        Ok(Self { now: text.clone(), text, syntax, faults: Vec::new() })
    }

    fn take(&mut self, given: &Given, way: Way) -> Result<(), &'static str> {
        let span = bytes(&self.text, &given.span.start)?..bytes(&self.text, &given.span.end)?;
        let found = place::find(&self.syntax, &span);
        let place = match way {
            Way::Switch => found?,
            Way::Check | Way::Plain => found.unwrap_or_else(|_| Place {
                form: Form::Expression,
                range: span.clone(),
                function: span.clone(),
                constant: None,
            }),
        };
        let fault = Fault { number: given.number, span, replacement: given.replacement.clone() };
        self.faults.push((fault, place));
        Ok(())
    }

    fn numbers(&self) -> impl Iterator<Item = usize> {
        self.faults.iter().map(|(fault, _)| fault.number)
    }

    /// Writes the file, where it is not so already, and tells what is where.
    fn write(&mut self, ask: &Ask, path: &Path) -> Result<Vec<edit::Region>, Failure> {
        let (text, regions) = match ask.way {
            Way::Switch => edit::switched(&self.text, &self.faults),
            Way::Check | Way::Plain => edit::plain(&self.text, &self.faults),
        };
        if text != self.now {
            fs::write(ask.tree.join(path), &text)?;
            self.now = text;
        }
        Ok(regions)
    }
}

/// Where a line and column are, in bytes.
fn bytes(text: &str, point: &Point) -> Result<usize, &'static str> {
    let mut lines = text.split_inclusive('\n');
    let before: usize = lines.by_ref().take(point.line - 1).map(str::len).sum();
    let line = lines.next().unwrap_or_default();
    let mut columns = line.char_indices().map(|(at, _)| at).chain([line.len()]);
    Ok(before + columns.nth(point.column - 1).ok_or("a place that is not in the file")?)
}

/// Builds, or only looks, as far as it goes; and whether it went to the end.
fn build(ask: &Ask) -> Result<(Vec<Line>, bool), Failure> {
    let mut lines = Vec::new();
    for part in &ask.parts {
        let command: &[&str] = match (part, ask.way) {
            (Part::World, Way::Check) => &["check", "--package", "highwater-world"],
            (Part::World, _) => &["build", "--package", "highwater-world", "--bin", "world"],
            (Part::Tests, Way::Check) => &["check", "--lib"],
            (Part::Tests, _) => &["test", "--no-run", "--lib", "--test", "pure"],
        };
        let faster: &[&str] = if ask.faults.len() < MANY { &[] } else { &["--config", FASTER] };
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let done = Command::new(cargo)
            .args(command)
            .arg("--message-format=json")
            .args(faster)
            .current_dir(&ask.tree)
            .env("CARGO_TARGET_DIR", &ask.build)
            // What is replaced may be all that used a name.
            .env("RUSTFLAGS", "-A warnings")
            .stderr(Stdio::null())
            .output()?;
        let told = String::from_utf8_lossy(&done.stdout);
        lines.extend(told.lines().filter_map(|line| serde_json::from_str(line).ok()));
        if !done.status.success() {
            return Ok((lines, false));
        }
    }
    Ok((lines, true))
}

/// The world and the programs of tests, by the names of what they were built from.
fn programs(lines: &[Line]) -> BTreeMap<String, PathBuf> {
    let mut programs = BTreeMap::new();
    for Line { target, executable, profile, .. } in lines {
        let (Some(target), Some(path), Some(profile)) = (target, executable, profile) else {
            continue;
        };
        if profile.test || target.name == "world" {
            programs.insert(target.name.clone(), path.clone());
        }
    }
    programs
}
