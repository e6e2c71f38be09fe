//! What writing costs two servers: appends, and commits of cursors.
//!
//! Promise: both servers get the same load on folders of their own, in alternating rounds, so that
//! what else the machine does falls on both. What they write is counted until they have come to
//! rest, and is set beside the bytes of keys and values that the load made them write.

mod cost;
mod cursors;

use std::path::PathBuf;

use clap::Args;

use crate::append::{self, Load};
use crate::report::Report;
use crate::server::{Machine, said};
use crate::stats::median;
use crate::{Common, Outcome};

use cost::Cost;

/// Between two commits of cursors, in milliseconds.
const INTERVAL: u64 = 100;

/// What `write` takes.
#[derive(Debug, Args)]
pub struct WriteArgs {
    /// Server to set beside the other one, in alternating rounds
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Connections whose cursors move
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
    /// Subscriptions of each
    #[arg(long, default_value_t = 50)]
    subscriptions: usize,
    /// Appends of a round that are measured [default: 1000000, quick: 100000]
    #[arg(long)]
    appends: Option<u64>,
    /// Commits of each kind in a round [default: 20, quick: 5]
    #[arg(long)]
    commits: Option<usize>,
    /// What all benchmarks take.
    #[command(flatten)]
    pub common: Common,
}

/// What is to be done.
#[derive(Debug)]
pub struct Plan {
    against: Option<PathBuf>,
    rounds: usize,
    clients: usize,
    appends: u64,
    connections: usize,
    subscriptions: usize,
    commits: usize,
}

impl WriteArgs {
    /// With the servers' settings, and within what they take.
    pub fn plan(mut self) -> (Common, Plan) {
        self.common.payload.get_or_insert(100);
        self.common.data.get_or_insert(PathBuf::from("."));
        self.common.set.push(format!("limits.commit_interval_ms={INTERVAL}"));
        let quick = self.common.quick;
        let (rounds, commits, appends) = if quick { (1, 5, 100_000) } else { (3, 20, 1_000_000) };
        let subscriptions = self.subscriptions.clamp(2, 1_000);
        let plan = Plan {
            against: self.against,
            rounds: self.common.rounds.unwrap_or(rounds).clamp(1, 100),
            clients: self.common.sockets.unwrap_or(64).clamp(1, 10_000),
            appends: self.appends.unwrap_or(appends).clamp(1, 1_000_000_000),
            connections: self.connections.clamp(1, 10_000),
            subscriptions,
            // One of them moves in each commit of the first kind.
            commits: self.commits.unwrap_or(commits).clamp(1, subscriptions),
        };
        (self.common, plan)
    }
}

/// Figures of one part, by server and round.
type Table = Vec<Vec<f64>>;

/// Runs appends, then commits of cursors, each on both servers in turn.
pub fn run(plan: &Plan, common: &Common, machine: &Machine, report: &mut Report) -> Outcome<()> {
    let mut sides = vec![machine.clone()];
    if let Some(other) = &plan.against {
        sides.push(machine.running(other)?);
    }
    for (side, name) in sides.iter().zip(["A", "B"]) {
        let program = side.server.display().to_string();
        let sum = said("sha256sum", &[&program]).unwrap_or_default();
        let sum = sum.get(..16).unwrap_or("unknown").to_owned();
        let file = side.server.file_name().unwrap_or_default().display().to_string();
        report.line(&format!("server {name}   {file}, sha256 {sum}…"));
    }
    appends(plan, common, &sides, report)?;
    commits(plan, &sides, report)
}

/// A line of figures, each with so many digits.
fn line(head: &str, digits: &[usize], figures: &[f64]) -> String {
    let mut line = head.to_owned();
    for (digits, figure) in digits.iter().zip(figures) {
        let figure = if figure.is_nan() { "-".to_owned() } else { format!("{figure:.digits$}") };
        line.push_str(&format!(" {figure:>14}"));
    }
    line
}

/// The medians of each server, and what A's are of B's.
fn medians(head: &str, digits: &[usize], tables: &[Table], report: &mut Report) {
    let mut of: Vec<Vec<f64>> = Vec::new();
    for (table, name) in tables.iter().zip(["A", "B"]) {
        let column = |at: usize| {
            let column: Vec<f64> = table.iter().filter_map(|row| row.get(at).copied()).collect();
            median(&column)
        };
        let row: Vec<f64> = (0..digits.len()).map(column).collect();
        report.line(&line(&format!("median   {name}{head}"), digits, &row));
        of.push(row);
    }
    if let [ours, theirs] = of.as_slice() {
        let ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        report.line(&line(&format!("A / B     {head}"), &vec![2; digits.len()], &ratios));
    }
}

fn appends(plan: &Plan, common: &Common, sides: &[Machine], report: &mut Report) -> Outcome<()> {
    let in_flight = common.in_flight.clamp(1, 1024);
    report.line(&format!(
        "\nappends: {} clients, {in_flight} unanswered each, each its own log; {} in a round",
        plan.clients, plan.appends
    ));
    report.line(
        "round  who  acknowledged/s  appends/CPU-s  written B/app   handed B/app     rows B/app\
         \x20   written/row     handed/row     disk B/app",
    );
    let digits = [0, 0, 1, 1, 1, 2, 2, 1];
    let mut tables = vec![Table::new(); sides.len()];
    let mut estimated = false;
    for round in 1..=plan.rounds {
        for ((side, name), table) in sides.iter().zip(["A", "B"]).zip(&mut tables) {
            let server = side.highwater()?;
            let before = Cost::of(&server)?;
            // As many of both, so that as much is left in memory.
            let appends = Some(plan.appends);
            let load = Load { clients: plan.clients, in_flight, one: false, varied: true, appends };
            let figures = append::load(common, &server, load)?;
            let spent = Cost::at_rest(&server)?.since(&before);
            let total = figures.total as f64;
            let rows = spent.rows.unwrap_or_else(|| {
                estimated = true;
                cost::rows_of_appends(figures.total, figures.frames, common.payload())
            });
            let acknowledged = figures.acknowledged as f64;
            let row = vec![
                acknowledged / figures.seconds,
                acknowledged / figures.cpu,
                spent.written / total,
                spent.handed / total,
                rows / total,
                spent.written / rows,
                spent.handed / rows,
                server.disk()? as f64 / total,
            ];
            report.line(&line(&format!("{round:>5}    {name}"), &digits, &row));
            table.push(row);
        }
    }
    medians("", &digits, &tables, report);
    if estimated {
        report.line(
            "rows: of a server without highwater_rows_bytes_total estimated by the layout of \
             \"highwater store 2\"",
        );
    }
    Ok(())
}

fn commits(plan: &Plan, sides: &[Machine], report: &mut Report) -> Outcome<()> {
    report.line(&format!(
        "\ncommits of cursors: {} connections with {} subscriptions, {} commits of each kind, \
         every {} ms; moved: cursors of a connection in a commit",
        plan.connections,
        plan.subscriptions,
        plan.commits,
        cursors::PACE.as_millis()
    ));
    report.line(
        "round  who  moved  CPU ms/commit  CPU us/cursor  written B/cur   handed B/cur\
         \x20    rows B/cur",
    );
    let digits = [1, 2, 1, 1, 1];
    let kinds = [0, 1, plan.subscriptions];
    let mut tables = vec![vec![Table::new(); sides.len()]; kinds.len()];
    for round in 1..=plan.rounds {
        for (at, (side, name)) in sides.iter().zip(["A", "B"]).enumerate() {
            let server = side.highwater()?;
            let spent = cursors::load(plan, &server, &kinds)?;
            for ((moved, spent), table) in kinds.iter().zip(spent).zip(&mut tables) {
                // Where none moves it is the cost of the time alone.
                let cursors = moved * plan.connections * plan.commits;
                let cursors = if cursors == 0 { f64::NAN } else { cursors as f64 };
                let row = vec![
                    spent.cpu * 1e3 / plan.commits as f64,
                    spent.cpu * 1e6 / cursors,
                    spent.written / cursors,
                    spent.handed / cursors,
                    spent.rows.unwrap_or(f64::NAN) / cursors,
                ];
                report.line(&line(&format!("{round:>5}    {name}  {moved:>5}"), &digits, &row));
                table.get_mut(at).ok_or("no such server")?.push(row);
            }
        }
    }
    for (moved, tables) in kinds.iter().zip(&tables).skip(1) {
        medians(&format!("  {moved:>5}"), &digits, tables, report);
    }
    Ok(())
}
