//! `journal`: how far it has come, who knows which version of it, its move to the next
//! one, and the beginning of an era.

use std::io::Write;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, ServerArgs};
use super::error::CliError;
use super::failure::read_json;
use super::logs::{Table, cell};
use crate::node::config::{Loaded, ServeFlags, environment};
use crate::node::{Finding, Moved, Weight, examine, move_journal};
use crate::wire::Id;

/// Arguments of `journal`.
#[derive(Clone, Debug, Args)]
pub(super) struct JournalArgs {
    #[command(subcommand)]
    command: Option<JournalCommand>,
    /// Write what the server tells as an object
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum JournalCommand {
    /// Move the journal on to the next version of the fold (the rules by which a program turns the
    /// journal into state), which every node that runs has to know: programs that do not know it
    /// cannot come back
    Upgrade(UpgradeArgs),
    /// Check whether the engine that the configuration names keeps what it acknowledges; asks its
    /// servers, and no node
    Check(ServeFlags),
    /// Move the journal of a stopped node from its data folder to the engine that the configuration
    /// names; the folder goes on with it, and other nodes are made of copies of it
    Move(ServeFlags),
    /// Begin an era: after a journal was moved or restored, or lost its end, so that clients that
    /// saw more of it are told. Each socket is closed once, and connects again
    BeginEra,
    /// Forget a node that never comes back: it is listed no more. Refused while it runs
    ForgetNode(ForgetArgs),
}

#[derive(Clone, Debug, Args)]
struct ForgetArgs {
    /// Its id, as `journal` lists it
    #[arg(value_name = "NODE")]
    node: Id,
}

#[derive(Clone, Debug, Args)]
struct UpgradeArgs {
    /// The version: one more than the present one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    to: u16,
}

#[derive(Deserialize, Serialize)]
struct Begun {
    era: String,
    after: String,
}

#[derive(Deserialize, Serialize)]
struct Upgraded {
    version: u16,
    upgraded: bool,
}

/// Carries out `journal`.
///
/// # Errors
/// When it was refused, the server is gone, or the output cannot be written.
pub(super) fn run(args: &JournalArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let (json, client) = (args.json, || Client::new(&args.server));
    match &args.command {
        None => show(&client()?, json, out),
        Some(JournalCommand::Check(flags)) => check(flags, json, out),
        Some(JournalCommand::Move(flags)) => move_it(flags, json, out),
        Some(JournalCommand::Upgrade(UpgradeArgs { to })) => upgrade(&client()?, *to, json, out),
        Some(JournalCommand::BeginEra) => begin_era(&client()?, json, out),
        Some(JournalCommand::ForgetNode(ForgetArgs { node })) => {
            forget(&client()?, *node, json, out)
        }
    }
}

/// What was looked at, for people or as a list.
fn check(flags: &ServeFlags, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let loaded = Loaded::load(flags, &environment())?;
    let findings = examine(&loaded.config.journal).map_err(CliError::failed)?;
    let word = |weight| match weight {
        Weight::Broken => "broken",
        Weight::Risky => "risky",
        Weight::Good => "good",
    };
    let text = if json {
        let all = findings.iter().map(|Finding { weight, message }| {
            serde_json::json!({ "weight": word(*weight), "message": message })
        });
        Value::Array(all.collect()).to_string()
    } else {
        let line =
            |Finding { weight, message }: &Finding| format!("{:6}  {message}", word(*weight));
        findings.iter().map(line).collect::<Vec<_>>().join("\n")
    };
    writeln!(out, "{text}").map_err(CliError::output)?;
    let worst = findings.iter().map(|finding| finding.weight).min();
    if worst == Some(Weight::Broken) {
        return Err(CliError::failed("a node does not start on an engine that is broken"));
    }
    Ok(())
}

fn move_it(flags: &ServeFlags, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let loaded = Loaded::load(flags, &environment())?;
    let Moved { journal, batch } = move_journal(&loaded.config).map_err(CliError::failed)?;
    let text = match json {
        true => serde_json::json!({ "journal": journal, "batch": batch }).to_string(),
        false => format!(
            "the journal {journal} goes on in the engine behind batch {batch}: start the node with \
             the same configuration; other nodes are made of copies of it (docs/cluster.md)"
        ),
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

fn begin_era(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let told: Value = client.json("/v1/journal")?;
    let path = format!("/v1/journal/era?after={}", cell(&told, "era"));
    // Named by the era that it follows, so that it begins once however often it is asked for.
    let ask = |client: &Client| client.post(&path, "application/json", &[]).and_then(read_json);
    let done: Result<Begun, _> = client.insist(false, ask);
    let done = done.map_err(|failure| client.explain(failure))?;
    let text = match json {
        true => serde_json::to_string(&done).map_err(CliError::failed)?,
        false => format!("the era {} has begun, after {}", done.era, done.after),
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

fn forget(client: &Client, node: Id, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let path = format!("/v1/journal/forget?node={node}");
    let done: Value = (client.post(&path, "application/json", &[]).and_then(read_json))
        .map_err(|failure| client.explain(failure))?;
    let text = if json { done.to_string() } else { format!("the node {node} is forgotten") };
    writeln!(out, "{text}").map_err(CliError::output)
}

fn upgrade(client: &Client, to: u16, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let path = format!("/v1/journal/upgrade?to={to}");
    let ask = |client: &Client| client.post(&path, "application/json", &[]).and_then(read_json);
    let done: Result<Upgraded, _> = client.insist(false, ask);
    let done = done.map_err(|failure| client.explain(failure))?;
    let word = if done.upgraded { "goes on" } else { "was already" };
    let text = match json {
        true => serde_json::to_string(&done).map_err(CliError::failed)?,
        false => format!("the journal {word} in version {}", done.version),
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

fn show(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let told: Value = client.json("/v1/journal")?;
    if json {
        return writeln!(out, "{told}").map_err(CliError::output);
    }
    for (word, name) in [
        ("journal", "journal"),
        ("version", "version"),
        ("position", "position"),
        ("batches", "batch"),
        ("records", "records"),
    ] {
        writeln!(out, "{word:9} {}", cell(&told, name)).map_err(CliError::output)?;
    }
    if told.get("lag_ms").is_some_and(Value::is_number) {
        writeln!(out, "lag       {} ms", cell(&told, "lag_ms")).map_err(CliError::output)?;
    }
    writeln!(out).map_err(CliError::output)?;
    let head = ["NODE", "UP", "RUN", "OLDEST", "NEWEST", "CHECKPOINT", "ADDRESS"];
    let mut table = Table::new(head, false);
    let none = Vec::new();
    for node in told.get("nodes").and_then(Value::as_array).unwrap_or(&none) {
        let members = ["node", "up", "run", "oldest", "newest", "checkpoint", "address"];
        let cells = members.map(|name| cell(node, name));
        table.row(node, cells, out)?;
    }
    table.end(out)
}
