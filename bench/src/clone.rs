//! Clones: what a connection costs that takes over its sibling's logs, beside how long they are.
//!
//! Promise: clones of short and of long logs take turns on one server, so that what else the
//! machine does falls on both, and each clone is held to what is due: met as `cloned`, each log's
//! base and the records after it, nothing more, nothing twice. The first clones after a restart
//! are told apart from those of a server that has answered the same before.

mod fill;
mod guest;

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use highwater::wire::{Id, Met, SnapshotRule};

use crate::net::{Heard, Net};
use crate::report::Report;
use crate::server::{Machine, Server};
use crate::stats::Latencies;
use crate::talk::{frames, id};
use crate::{Common, Outcome};

use fill::Filler;
use guest::{Guest, Sample};

/// Logs with client-made snapshots lie under `snap`, those with the newest record of each key
/// under `keys`. Nobody is asked for snapshots: they stay where the run has put them.
const RULES: &str = "rules=[\
    { pattern = \"snap/**\", snapshot = \"client\", ask_after = 1000000000 }, \
    { pattern = \"keys/**\", snapshot = \"latest\" }]";

/// What `clone` takes.
#[derive(Debug, Args)]
pub struct CloneArgs {
    /// Records of a long log [default: 10000000, quick: 100000]
    #[arg(long)]
    records: Option<u64>,
    /// Records of every other log
    #[arg(long, default_value_t = 1_000)]
    short: u64,
    /// Subscriptions of a connection
    #[arg(long, default_value_t = 50)]
    logs: usize,
    /// Clones of each case in a pass [default: 200, quick: 40]
    #[arg(long)]
    clones: Option<usize>,
    /// Records after a log's snapshot
    #[arg(long, default_value_t = 20)]
    tail: u64,
    /// Bytes of a client-made snapshot
    #[arg(long, default_value_t = 4_096)]
    snapshot: usize,
    /// Live keys of a log that keeps the newest record of each
    #[arg(long, default_value_t = 100)]
    keys: u64,
    /// Restarts, each followed by one clone of each case
    #[arg(long, default_value_t = 8)]
    restarts: usize,
    /// What all benchmarks take.
    #[command(flatten)]
    pub common: Common,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    records: u64,
    short: u64,
    logs: usize,
    clones: usize,
    tail: u64,
    keys: u64,
    restarts: usize,
    payload: usize,
    /// The content of every client-made snapshot.
    snapshot: Bytes,
}

impl CloneArgs {
    /// With the server's rules, and within what a server takes.
    pub fn plan(mut self) -> (Common, Plan) {
        let (records, clones) = if self.common.quick { (100_000, 40) } else { (10_000_000, 200) };
        let payload = *self.common.payload.get_or_insert(16);
        self.common.set.push(RULES.to_owned());
        let (tail, keys) = (self.tail.clamp(1, 100_000), self.keys.clamp(1, 100_000));
        // At least one record lies below a snapshot.
        let least = tail.max(keys) + 1;
        let snapshot = (0..self.snapshot.clamp(1, 64 << 20)).map(|at| (at * 167 % 251) as u8);
        let plan = Plan {
            records: self.records.unwrap_or(records).clamp(least, 1_000_000_000),
            short: self.short.clamp(least, 1_000_000_000),
            logs: self.logs.clamp(1, 1_000),
            clones: self.clones.unwrap_or(clones).clamp(1, 100_000),
            tail,
            keys,
            restarts: self.restarts.min(1_000),
            payload,
            snapshot: snapshot.collect::<Vec<_>>().into(),
        };
        (self.common, plan)
    }
}

/// One user's connection that is cloned, and what a clone of it has to get.
#[derive(Debug)]
struct Case {
    name: &'static str,
    token: String,
    /// The connection that is cloned.
    source: Id,
    rule: SnapshotRule,
    logs: Vec<Log>,
    /// Records after a client-made snapshot; keys of a log with the newest of each.
    due: u64,
    snapshot: Bytes,
}

impl Case {
    /// Keys that its records take in turn; 0: they have none.
    fn keys(&self) -> u64 {
        if self.rule == SnapshotRule::Latest { self.due } else { 0 }
    }
}

/// One log, as it stands when it is filled.
#[derive(Debug, Clone)]
struct Log {
    name: String,
    /// Its id; 0 before it is there.
    id: u64,
    head: u64,
}

/// What a case came to in a pass.
#[derive(Debug, Default)]
struct Figures {
    welcome: Latencies,
    complete: Latencies,
    bytes: u64,
    clones: u64,
}

impl Figures {
    fn add(&mut self, sample: Sample) {
        self.welcome.add(sample.welcome);
        self.complete.add(sample.complete);
        self.bytes += sample.bytes;
        self.clones += 1;
    }

    /// Each at p50, p90 and p99 in milliseconds, and the bytes of a clone.
    fn row(&mut self) -> [f64; 7] {
        let mut row = [0.0; 7];
        let shares = [0.5, 0.9, 0.99].into_iter();
        let values = (shares.clone().map(|share| self.welcome.at(share)))
            .chain(shares.map(|share| self.complete.at(share)))
            .chain([self.bytes as f64 / self.clones as f64]);
        row.iter_mut().zip(values).for_each(|(to, value)| *to = value);
        row
    }
}

/// Fills the logs, then clones: warm, each first after a restart, and warm again.
pub fn run(plan: &Plan, machine: &Machine, report: &mut Report) -> Outcome<()> {
    let Plan { logs, tail, keys, .. } = plan;
    report.line(&format!(
        "\nclone: {logs} logs, in each a snapshot of {} B and {tail} records after it; beside them \
         one log with {keys} live keys",
        plan.snapshot.len()
    ));
    let mut server = machine.highwater()?;
    let mut cases = cases(plan, machine, &server)?;
    fill(plan, &server, &mut cases, report)?;
    let mut sources = attach(&server, &cases, Met::Fresh)?;
    let mut serial = 0;
    pass("as filled", plan, &server, &cases, &mut sources, &mut serial, report)?;
    let mut first = figures(&cases);
    let mut slowest = Duration::ZERO;
    for round in 0..plan.restarts {
        drop(sources);
        let since = Instant::now();
        server = machine.restart(server)?;
        slowest = slowest.max(since.elapsed());
        // Whoever comes first also pays for what all need: each does in its turn.
        for turn in 0..cases.len() {
            let at = (round + turn) % cases.len();
            one(&server, &cases, at, &mut serial, &mut first)?;
        }
        sources = attach(&server, &cases, Met::Resumed)?;
    }
    if plan.restarts > 0 {
        let seconds = slowest.as_secs_f64();
        report.line(&format!(
            "\ncold, one clone of each case after each of {} restarts by kill, ms (at most \
             {seconds:.2} s from the kill to listening):",
            plan.restarts
        ));
        table(&cases, &mut first, report);
        pass("after the restarts", plan, &server, &cases, &mut sources, &mut serial, report)?;
    }
    Ok(())
}

/// No log at all, which shows what the machine does to a clone anyway; then short and long logs,
/// under both rules.
fn cases(plan: &Plan, machine: &Machine, server: &Server) -> Outcome<Vec<Case>> {
    let names = ["bare", "snap/short", "snap/long", "keys/short", "keys/long"];
    let mut cases = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        let (rule, logs, due) = match name {
            "bare" => (SnapshotRule::None, 0, 0),
            "snap/short" | "snap/long" => (SnapshotRule::Client, plan.logs, plan.tail),
            _ => (SnapshotRule::Latest, 1, plan.keys),
        };
        let logs = (0..logs).map(|log| {
            // One of them is long, and not the first: it is to have no place of its own.
            let long = name.ends_with("long") && log == logs / 2;
            let head = if long { plan.records } else { plan.short };
            Log { name: format!("{name}/{log}"), id: 0, head }
        });
        cases.push(Case {
            name,
            token: machine.token(server, &format!("bench-{at}"))?,
            source: id(at, 3),
            rule,
            logs: logs.collect(),
            due,
            snapshot: plan.snapshot.clone(),
        });
    }
    Ok(cases)
}

/// Everything up to where the snapshots are put, then those, then what comes after them: the ends
/// of short and long logs are of one age, and so lie in the same places of the store.
fn fill(plan: &Plan, server: &Server, cases: &mut [Case], report: &mut Report) -> Outcome<()> {
    let mut filler = Filler::new(server, plan.payload)?;
    let since = Instant::now();
    let mut records = 0;
    for case in cases.iter_mut() {
        let keys = case.keys();
        for log in &mut case.logs {
            let below = log.head - case.due;
            log.id = filler.fill(&log.name, 0..below, keys)?;
            records += below;
        }
    }
    let seconds = since.elapsed().as_secs_f64();
    report.line(&format!(
        "filled {records} records of {} B in {seconds:.1} s, {:.0} a second, all synced; {} were \
         refused for a while and sent again",
        plan.payload,
        records as f64 / seconds,
        filler.again,
    ));
    let rows = cases.iter().map(|case| case.logs.len()).max().unwrap_or_default();
    for row in 0..rows {
        for case in cases.iter() {
            let Some(log) = case.logs.get(row) else { continue };
            let below = log.head - case.due;
            if case.rule == SnapshotRule::Client {
                filler.put(log.id, below, &case.snapshot)?;
            }
            filler.end(&log.name, below..log.head, case.keys())?;
        }
    }
    Ok(())
}

/// The connections that are cloned, one a user, with all their logs complete.
fn attach(server: &Server, cases: &[Case], met: Met) -> Outcome<Net> {
    let mut net = Net::new()?;
    for case in cases {
        let at = net.open(server.address)?;
        let mut guest = Guest::new(case, case.source, met);
        guest.until(&mut net, at, |guest| guest.complete().is_some())?;
        guest.check()?;
        guest.settle(net.conn(at)?)?;
    }
    Ok(net)
}

/// Clones of all cases in turn, and what they came to.
fn pass(
    name: &str,
    plan: &Plan,
    server: &Server,
    cases: &[Case],
    sources: &mut Net,
    serial: &mut usize,
    report: &mut Report,
) -> Outcome<()> {
    let mut all = figures(cases);
    for round in 0..plan.clones {
        for turn in 0..cases.len() {
            one(server, cases, (round + turn) % cases.len(), serial, &mut all)?;
        }
        // Sources answer pings; they are sent nothing else.
        sources.turn(Duration::ZERO, |_, conn, heard| match heard {
            Heard::Message(message) => match frames(conn, message)?.pop() {
                Some(frame) => Err(format!("a source was sent {frame:?}").into()),
                None => Ok(()),
            },
            heard => Err(format!("a source heard {heard:?}").into()),
        })?;
    }
    report.line(&format!("\n{name}, {} clones of each case, ms:", plan.clones));
    table(cases, &mut all, report);
    Ok(())
}

/// One clone of a case, which is forgotten afterwards.
fn one(
    server: &Server,
    cases: &[Case],
    at: usize,
    serial: &mut usize,
    figures: &mut [Figures],
) -> Outcome<()> {
    let (case, figures) = cases.get(at).zip(figures.get_mut(at)).ok_or("no such case")?;
    *serial += 1;
    let mut net = Net::new()?;
    let socket = net.open(server.address)?;
    let mut guest = Guest::new(case, id(*serial, 4), Met::Cloned);
    guest.until(&mut net, socket, |guest| guest.complete().is_some())?;
    guest.leave(net.conn(socket)?)?;
    guest.until(&mut net, socket, Guest::gone)?;
    guest.check()?;
    figures.add(guest.sample()?);
    Ok(())
}

fn figures(cases: &[Case]) -> Vec<Figures> {
    cases.iter().map(|_| Figures::default()).collect()
}

/// A line for each case, and after each pair how much the long one's figures are of the short's.
fn table(cases: &[Case], figures: &mut [Figures], report: &mut Report) {
    report.line(
        "case           records   welcome p50    p90    p99   complete p50    p90    p99    bytes",
    );
    let mut before: Option<[f64; 7]> = None;
    for (case, figures) in cases.iter().zip(figures) {
        let row = figures.row();
        let records = case.logs.iter().map(|log| log.head).max().unwrap_or_default();
        report.line(&line(case.name, &records.to_string(), row, 0));
        if case.name.ends_with("short") {
            before = Some(row);
        } else if let Some(short) = before.take() {
            let mut ratio = row;
            ratio.iter_mut().zip(short).for_each(|(long, short)| *long /= short);
            report.line(&line("long/short", "", ratio, 3));
        }
    }
}

fn line(name: &str, records: &str, row: [f64; 7], digits: usize) -> String {
    let [w50, w90, w99, c50, c90, c99, bytes] = row;
    format!(
        "{name:<11} {records:>10} {w50:>13.2} {w90:>6.2} {w99:>6.2} {c50:>14.2} {c90:>6.2} \
         {c99:>6.2} {bytes:>8.digits$}"
    )
}
