//! Benchmarks of one node: `append`, `fanout`, `idle`, `clone` and `write`.
//!
//! Promise: one client process (this one, one thread, one epoll) against one server process on a
//! core of its own; every run is bounded in count and time, ends only the processes it started, and
//! leaves nothing behind but what `--save` asks for. What is measured and how to read it:
//! `docs/performance.md`.

mod append;
mod clone;
mod fanout;
mod floor;
mod idle;
mod net;
mod report;
mod server;
mod stats;
mod talk;
mod user;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use report::Report;

/// Loads one node from one thread and tells what it cost.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Durable appends: acknowledged a second, latency, server CPU
    Append(Common),
    /// One log, many readers: deliveries per server-CPU-second, beside a bare epoll loop
    Fanout(Common),
    /// Memory of the server per subscribed connection that does nothing
    Idle(Common),
    /// A clone's cost beside the length of the logs; fills millions of records first
    Clone(clone::CloneArgs),
    /// What appends and commits of cursors cost two servers in turn: CPU, bytes written, disk
    Write(write::WriteArgs),
    /// All of them but `clone` and `write`, one after the other
    All(Common),
    /// The bare epoll loop that `fanout` compares with; started by it
    #[command(hide = true)]
    Floor {
        /// Bytes of a message.
        size: usize,
    },
}

/// What all benchmarks take.
#[derive(Debug, Clone, Args)]
struct Common {
    /// Fewer rounds, shorter ones
    #[arg(long)]
    quick: bool,
    /// Sockets, instead of a benchmark's own counts; for `append`, clients
    #[arg(long)]
    sockets: Option<usize>,
    /// Bytes of a record's payload [default: 128, of `clone` 16, of `write` 100]
    #[arg(long)]
    payload: Option<usize>,
    /// Appends that a client of `append` keeps unanswered
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Records in one frame of `append` and `fanout`; 0: as many as are due at once
    #[arg(long, default_value_t = 0)]
    per_frame: usize,
    /// Measured seconds of each part
    #[arg(long)]
    seconds: Option<u64>,
    /// Rounds of `fanout` and `write`
    #[arg(long)]
    rounds: Option<usize>,
    /// When readers of `fanout` acknowledge
    #[arg(long, value_enum, default_value_t = Acks::Window)]
    acks: Acks,
    /// Core of the server; the load keeps to the others
    #[arg(long)]
    core: Option<usize>,
    /// Server to run instead of the one built beside this program
    #[arg(long)]
    server: Option<PathBuf>,
    /// Folder on the disk to be measured; a folder of its own is made in it and removed
    #[arg(long)]
    data: Option<PathBuf>,
    /// Further `--set` of the server
    #[arg(long)]
    set: Vec<String>,
    /// Keep the output as bench/runs/DATE-NAME.txt
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
}

impl Common {
    /// Bytes of a record's payload.
    fn payload(&self) -> usize {
        self.payload.unwrap_or(128)
    }
}

/// When a reader acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Acks {
    /// When a quarter of the window has been worked off
    Window,
    /// Also each second, with the cursor: what the protocol asks of clients
    Second,
}

/// What went wrong, for people.
#[derive(Debug)]
pub struct Failure(String);

impl<T: std::fmt::Display> From<T> for Failure {
    fn from(problem: T) -> Self {
        Self(problem.to_string())
    }
}

/// A result of this program.
pub type Outcome<T> = Result<T, Failure>;

fn main() -> ExitCode {
    let (common, done) = match Cli::parse().bench {
        Bench::Floor { size } => (None, floor::serve(size)),
        Bench::Append(common) => (Some(common.clone()), run(&common, "append")),
        Bench::Fanout(common) => (Some(common.clone()), run(&common, "fanout")),
        Bench::Idle(common) => (Some(common.clone()), run(&common, "idle")),
        Bench::Clone(args) => (Some(args.common.clone()), clone(args)),
        Bench::Write(args) => (Some(args.common.clone()), write(args)),
        Bench::All(common) => (Some(common.clone()), run(&common, "all")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(problem)) => {
            let what = if common.is_some() { "the benchmark" } else { "the floor" };
            eprintln!("{what} failed: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(common: &Common, name: &str) -> Outcome<()> {
    let machine = server::Machine::prepare(common)?;
    let mut report = Report::begin(name, common, &machine);
    if name == "append" || name == "all" {
        append::run(common, &machine, &mut report)?;
    }
    if name == "fanout" || name == "all" {
        fanout::run(common, &machine, &mut report)?;
    }
    if name == "idle" || name == "all" {
        idle::run(common, &machine, &mut report)?;
    }
    report.end(common.save.as_deref())
}

/// `clone` sets rules of its own, so it has a server and a report of its own.
fn clone(args: clone::CloneArgs) -> Outcome<()> {
    let (common, plan) = args.plan();
    let machine = server::Machine::prepare(&common)?;
    let mut report = Report::begin("clone", &common, &machine);
    clone::run(&plan, &machine, &mut report)?;
    report.end(common.save.as_deref())
}

/// `write` has two servers, and settings of its own.
fn write(args: write::WriteArgs) -> Outcome<()> {
    let (common, plan) = args.plan();
    let machine = server::Machine::prepare(&common)?;
    let mut report = Report::begin("write", &common, &machine);
    write::run(&plan, &common, &machine, &mut report)?;
    report.end(common.save.as_deref())
}
