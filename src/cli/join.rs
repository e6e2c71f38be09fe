//! `join`: a node made of another one's store, and `serve` where a node has to be made so again.
//!
//! Promise: a folder is opened by a node only once the copy is whole, read back and synced; one
//! that was cut short is begun anew. What a node had before is set aside and not deleted.

use std::fs;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ServerArgs};
use super::error::CliError;
use super::failure::{Failure, read_json};
use super::logs::cell;
use super::now_ms;
use crate::node::config::{CopyFrom, Loaded};
use crate::node::folder::{self, BackupError, RestoreError, Restored};
use crate::node::{self, Ended};
use crate::wire::Id;

/// How long one node of several is tried without getting anywhere, in seconds.
const TURN: u64 = 10;
/// What the name of a copy ends with until it takes its folder's place.
const COPY: &str = ".copy";
/// A node that gives nothing of a copy for so long is gone: it reads rows and sends them, and no
/// client's wait stands in between.
const SILENCE: Duration = Duration::from_secs(10);

/// Arguments of `join`.
#[derive(Clone, Debug, Args)]
#[command(mut_arg("server", |arg| arg.visible_alias("from")))]
pub(super) struct JoinArgs {
    /// The data folder to make; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Write what was made as an object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `join`.
///
/// # Errors
/// When it was refused, the server is gone or is no node of a shared journal, or the folder is not
/// empty or cannot be written.
pub(super) fn run(args: &JoinArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let (dir, client) = (&args.data, Client::new(&args.server)?.gone_after(SILENCE));
    let journal = shared_journal(&client)?;
    let Restored { head, end, node } = copy(&client, dir)?;
    let text = if args.json {
        json!({
            "data": dir, "node": node, "copied_from": head.node, "journal": journal,
            "position": head.position, "rows": end.rows, "state": end.state,
        })
        .to_string()
    } else {
        format!(
            "{}: the node {node}, {} rows, made of the node {}: start it with the same [journal] \
             and [[auth.keys]] as that one, before journal.keep_seconds have passed, and it reads \
             on from there",
            dir.display(),
            end.rows,
            head.node
        )
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

/// The journal that a node shares with others; one that is alone with its own cannot be joined.
fn shared_journal(client: &Client) -> Result<String, CliError> {
    let told = |client: &Client| client.get("/v1/journal").and_then(read_json::<Value>);
    let told = client.insist(false, told).map_err(|failure| client.explain(failure))?;
    if told.get("shared").and_then(Value::as_bool) != Some(true) {
        return Err(CliError::failed(
            "that node is alone with its journal, and nobody can join it: `highwater journal move` \
             takes it to an engine that nodes share; `highwater backup` copies it",
        ));
    }
    Ok(cell(&told, "journal"))
}

/// Makes a folder of what a node keeps at this moment; where that breaks off, from the beginning.
fn copy(client: &Client, dir: &Path) -> Result<Restored, CliError> {
    let once = |client: &Client| {
        if let Err(error) = folder::clear_unfinished(dir) {
            return Ok(Err(CliError::failed(error)));
        }
        let answer = client.post("/v1/backup", "application/octet-stream", &[])?;
        let from = BufReader::with_capacity(1 << 18, answer.into_body().into_reader());
        match folder::restore(from, dir) {
            Err(RestoreError::Backup(error @ (BackupError::Cut | BackupError::Io(_)))) => {
                Err(Failure::Lost(format!("the copy broke off: {error}")))
            }
            made => Ok(made.map_err(CliError::failed)),
        }
    };
    client.insist(true, once).map_err(|failure| client.explain(failure))?
}

/// Carries out `serve`. Where the configuration names nodes to copy from, a node whose store is
/// damaged, or lacks batches that the journal has let go of, is made anew, once.
pub(super) fn serve(loaded: Loaded) -> ExitCode {
    let (from, data) = (loaded.config.journal.copy_from.clone(), loaded.config.server.data.clone());
    if !from.nodes.is_empty()
        && let Err(error) = finish(&data)
    {
        return told(&error);
    }
    let (error, journal) = match node::run(loaded.clone()) {
        Ended::Code(code) => return code,
        Ended::Unusable { error, journal } => (error, journal),
    };
    tracing::error!("{error}");
    if from.nodes.is_empty() {
        return ExitCode::FAILURE;
    }
    tracing::warn!("the store is made anew, of a copy of a node of journal.copy_from");
    if let Err(error) = anew(&from, &data, journal) {
        return told(&error);
    }
    match node::run(loaded) {
        Ended::Code(code) => code,
        Ended::Unusable { error, .. } => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Most links that lead to a folder, as the system has it.
const MOST_LINKS: usize = 40;

/// Where a folder really is, or would be: a link stays a link, and its disk is the one that has the
/// room.
fn place(data: &Path) -> PathBuf {
    let mut at = data.components().as_path().to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(to) = fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("")).join(to);
    }
    at
}

/// Where a copy is made, and what had its place goes: beside the folder, on the same disk.
fn beside(data: &Path, end: &str) -> PathBuf {
    let mut name = data.components().as_path().as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// A copy whose folder was set aside, and that was kept from taking its place by a crash, takes it.
fn finish(data: &Path) -> Result<(), CliError> {
    let data = place(data);
    let copied = beside(&data, COPY);
    if data.exists() || !folder::is_whole(&copied) {
        return Ok(());
    }
    fs::rename(&copied, &data).map_err(|error| unusable(&data, &error))
}

fn told(error: &CliError) -> ExitCode {
    tracing::error!("{}", error.told().unwrap_or_default());
    ExitCode::FAILURE
}

/// Makes a copy of the first node that gives one, beside the folder; once it is whole, the folder
/// is set aside and the copy takes its place. Where none is had all stays as it is.
fn anew(from: &CopyFrom, data: &Path, journal: Option<Id>) -> Result<(), CliError> {
    let data = place(data);
    let token = from.token().map_err(CliError::failed)?;
    let (copied, aside) = (beside(&data, COPY), beside(&data, &format!(".aside-{}", now_ms())));
    // One that was made before, and whose turn did not come, is of another moment.
    if folder::is_whole(&copied) {
        fs::remove_dir_all(&copied).map_err(|error| unusable(&copied, &error))?;
    }
    let Restored { node, head, .. } = first_copy(from, token.as_deref(), journal, &copied)?;
    fs::rename(&data, &aside).map_err(|error| unusable(&data, &error))?;
    fs::rename(&copied, &data).map_err(|error| unusable(&copied, &error))?;
    tracing::info!(%node, of = %head.node, aside = %aside.display(), "the store was copied");
    Ok(())
}

/// A copy of the first node that gives one.
fn first_copy(
    from: &CopyFrom,
    token: Option<&str>,
    journal: Option<Id>,
    dir: &Path,
) -> Result<Restored, CliError> {
    let mut problem = CliError::failed("journal.copy_from names no node");
    for node in &from.nodes {
        let made = Client::to(node, token, TURN).and_then(|client| {
            let client = client.gone_after(SILENCE);
            let told = shared_journal(&client)?;
            if journal.is_some_and(|own| own.to_string() != told) {
                return Err(CliError::failed("it is a node of another journal"));
            }
            copy(&client, dir)
        });
        match made {
            Ok(made) => return Ok(made),
            Err(error) => {
                let why = error.told().unwrap_or_default();
                tracing::warn!("journal.copy_from {node} gives no copy: {why}");
                problem = CliError::failed(
                    "no node of journal.copy_from gave a copy (journal.copy_token_file names the \
                     token); what this one had is where it was",
                );
            }
        }
    }
    Err(problem)
}

fn unusable(path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format_args!(
        "{} cannot be put in another's place ({error}): the folder above it has to be writable, \
         and the data folder no mount of its own",
        path.display()
    ))
}
