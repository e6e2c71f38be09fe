//! `join`: a node made of another one's store, and `serve` where a node has to be made so again.
//!
//! Promise: a folder is opened by a node only once the copy is whole, read back and synced; one
//! that was cut short is begun anew. What a node had before is set aside and not deleted.

use std::fs;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, PATIENCE, ServerArgs};
use super::error::CliError;
use super::failure::{Failure, read_json};
use super::now_ms;
use crate::node::config::{CopyFrom, Loaded};
use crate::node::folder::{self, BackupError, RestoreError, Restored};
use crate::node::{self, Ended};

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
    let (dir, client) = (&args.data, Client::new(&args.server)?);
    let Restored { head, end, node } = copy(&client, dir)?;
    let text = if args.json {
        json!({
            "data": dir, "node": node, "copied_from": head.node, "journal": head.journal,
            "position": head.position, "rows": end.rows, "state": end.state,
        })
        .to_string()
    } else {
        format!(
            "{}: the node {node}, {} rows, made of the node {}: start it with the same [journal] \
             and [[auth.keys]] as that one, and it reads on from there",
            dir.display(),
            end.rows,
            head.node
        )
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

/// Makes a folder of what a node keeps at this moment; where that breaks off, from the beginning.
fn copy(client: &Client, dir: &Path) -> Result<Restored, CliError> {
    let told = |client: &Client| client.get("/v1/journal").and_then(read_json::<Value>);
    let told = client.insist(false, told).map_err(|failure| client.explain(failure))?;
    if told.get("shared").and_then(Value::as_bool) != Some(true) {
        return Err(CliError::failed(
            "that node is alone with its journal, and nobody can join it: `highwater journal move` \
             takes it to an engine that nodes share; `highwater backup` copies it",
        ));
    }
    let once = |client: &Client| {
        folder::clear_unfinished(dir).map_err(|error| Failure::Foreign(error.to_string()))?;
        let answer = client.post("/v1/backup", "application/octet-stream", &[])?;
        let from = BufReader::with_capacity(1 << 18, answer.into_body().into_reader());
        folder::restore(from, dir).map_err(|error| match error {
            RestoreError::Backup(BackupError::Cut | BackupError::Io(_)) => {
                Failure::Lost(format!("the copy broke off: {error}"))
            }
            _ => Failure::Foreign(error.to_string()),
        })
    };
    client.insist(true, once).map_err(|failure| client.explain(failure))
}

/// Carries out `serve`. Where the configuration names nodes to copy from, a node whose store is
/// damaged, or lacks batches that the journal has let go of, is made anew, once.
pub(super) fn serve(loaded: Loaded) -> ExitCode {
    let (from, data) = (loaded.config.journal.copy_from.clone(), loaded.config.server.data.clone());
    let error = match node::run(loaded.clone()) {
        Ended::Code(code) => return code,
        Ended::Unusable(error) => error,
    };
    if from.nodes.is_empty() {
        tracing::error!("{error}");
        return ExitCode::FAILURE;
    }
    tracing::error!("{error}; it is made anew of a copy");
    match anew(&from, &data) {
        Ok(Restored { node, head, .. }) => {
            tracing::info!(%node, of = %head.node, "the store was copied");
        }
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    }
    match node::run(loaded) {
        Ended::Code(code) => code,
        Ended::Unusable(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the folder aside, and makes another of the first node that gives a copy.
fn anew(from: &CopyFrom, data: &Path) -> Result<Restored, CliError> {
    let token = from.token().map_err(CliError::failed)?;
    let mut aside = data.as_os_str().to_owned();
    aside.push(format!(".aside-{}", now_ms()));
    fs::rename(data, &aside).map_err(|error| {
        CliError::failed(format_args!("{} cannot be set aside ({error})", data.display()))
    })?;
    tracing::warn!("what the node had is in {}", Path::new(&aside).display());
    let mut problem = CliError::failed("journal.copy_from names no node");
    for node in &from.nodes {
        let (server, token) = (Some(node.clone()), token.clone());
        let client = Client::new(&ServerArgs { server, token, give_up_after: PATIENCE })?;
        match copy(&client, data) {
            Ok(made) => return Ok(made),
            Err(error) => {
                tracing::warn!("{node}: {}", error.told().unwrap_or_default());
                problem = error;
            }
        }
    }
    Err(problem)
}
