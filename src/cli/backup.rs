//! `backup` and `restore`: everything that a node keeps, in one file, and a data folder made of it.
//!
//! Promise: a file under its name is a whole backup, synced and read back; one that was cut short
//! never gets the name. Nothing that is there is written over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::client::{Client, ServerArgs};
use super::error::CliError;
use super::failure::Failure;
use crate::node::folder::{self, BackupError, End, Head, Reader, Restored};

/// Arguments of `backup`.
#[derive(Clone, Debug, Args)]
pub(super) struct BackupArgs {
    /// The file to write; there must be none of that name yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder of a node that is stopped, instead of a server
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data: Option<PathBuf>,
    /// Write what was taken as an object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `restore`.
#[derive(Clone, Debug, Args)]
pub(super) struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data folder to make; not there yet, or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where people name the folder by mistake: a word to say what to write instead
    #[arg(hide = true, value_parser = without_flag)]
    folder: Option<String>,
    /// Write what was made as an object
    #[arg(long)]
    json: bool,
}

/// Carries out `backup`.
///
/// # Errors
/// When it was refused, or the file cannot be written or is not whole.
pub(super) fn write(args: &BackupArgs, now: u64, out: &mut dyn Write) -> Result<(), CliError> {
    let file = &args.file;
    if file.as_os_str() == "-" {
        let message = "a backup is read back before it counts: name a file, not the output";
        return Err(CliError::Usage(message.to_owned()));
    }
    if fs::symlink_metadata(file).is_ok() {
        let message = format!("{} is there already: name another file", file.display());
        return Err(CliError::Failed(message));
    }
    let part = Part::begin(file)?;
    match &args.data {
        Some(dir) => part.fill(&mut of_folder(dir, now)?)?,
        None => part.fill(&mut of_server(&args.server)?)?,
    }
    let (head, end) = part.finish()?;
    let bytes = fs::metadata(file).map_err(|error| unusable(file, &error))?.len();
    let told = told(&head, &end, &[("file", json!(file)), ("bytes", json!(bytes))]);
    if args.json {
        return writeln!(out, "{told}").map_err(CliError::output);
    }
    let position = position(&head);
    let rows = end.rows;
    let text = format!("{}: {position}, {rows} rows, {bytes} bytes", file.display());
    writeln!(out, "{text}").map_err(CliError::output)
}

/// Carries out `restore`.
///
/// # Errors
/// When the backup is not whole, or the folder is not empty or cannot be written.
pub(super) fn restore(args: &RestoreArgs, out: &mut dyn Write) -> Result<(), CliError> {
    if args.file.is_dir() {
        return Err(CliError::Usage(format!(
            "{} is a folder, and a backup is a file: a copied data folder is put where the node's \
             is, and used as it is",
            args.file.display()
        )));
    }
    // Twice: nothing is made of a backup that is not whole.
    verified(&args.file)?;
    let from = opened(&args.file)?;
    let made = folder::restore(from, &args.data).map_err(CliError::failed)?;
    let Restored { head, end, node } = made;
    let dir = &args.data;
    if args.json {
        let told = told(&head, &end, &[("data", json!(dir)), ("restored_as", json!(node))]);
        return writeln!(out, "{told}").map_err(CliError::output);
    }
    let position = position(&head);
    let text = format!(
        "{}: {position}, {} rows; it is the node {node}, and at its first start a new era begins: \
         clients that saw more than the backup holds are told",
        dir.display(),
        end.rows
    );
    writeln!(out, "{text}").map_err(CliError::output)
}

fn without_flag(_: &str) -> Result<String, &'static str> {
    Err("name the folder to make with --data DIR")
}

fn position(head: &Head) -> String {
    match head.position {
        Some(position) => format!("the state at {position}"),
        None => "an empty state".to_owned(),
    }
}

fn told(head: &Head, end: &End, more: &[(&str, Value)]) -> Value {
    let Head { format, program, journal, node, batch, position, time } = head;
    let End { rows, state } = end;
    let mut told = json!({
        "format": format, "program": program, "journal": journal, "node": node, "batch": batch,
        "position": position, "time": time, "rows": rows, "state": state,
    });
    for (name, value) in more {
        if let Some(members) = told.as_object_mut() {
            members.insert((*name).to_owned(), value.clone());
        }
    }
    told
}

fn unusable(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("{} cannot be used ({error}): check path and disk", path.display()))
}

fn opened(path: &Path) -> Result<BufReader<File>, CliError> {
    let file = File::open(path).map_err(|error| unusable(path, &error))?;
    Ok(BufReader::with_capacity(1 << 18, file))
}

/// A backup that was read from its beginning to its end.
fn verified(path: &Path) -> Result<(Head, End), CliError> {
    let wrong = |error: BackupError| CliError::Failed(format!("{}: {error}", path.display()));
    Reader::new(opened(path)?).and_then(Reader::verify).map_err(wrong)
}

/// A file that is written beside its place; it goes unless it is finished.
struct Part {
    file: PathBuf,
    beside: PathBuf,
}

impl Drop for Part {
    fn drop(&mut self) {
        // Gone already, if it was finished.
        fs::remove_file(&self.beside).ok();
    }
}

impl Part {
    fn begin(file: &Path) -> Result<Self, CliError> {
        let mut beside = file.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        let made = OpenOptions::new().write(true).create_new(true).open(&beside);
        made.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => CliError::Failed(format!(
                "{} is there: another backup is being written, or was cut short; in that case \
                 remove it",
                beside.display()
            )),
            _ => unusable(&beside, &error),
        })?;
        Ok(Self { file: file.to_owned(), beside })
    }

    fn fill(&self, from: &mut Source) -> Result<(), CliError> {
        let unusable = |error| unusable(&self.beside, &error);
        let mut to = OpenOptions::new().write(true).open(&self.beside).map_err(unusable)?;
        while let Some(piece) = from()? {
            to.write_all(&piece).map_err(unusable)?;
        }
        to.sync_all().map_err(unusable)
    }

    /// Reads it back, and gives it its name.
    fn finish(self) -> Result<(Head, End), CliError> {
        let found = verified(&self.beside)?;
        let unusable = |error| unusable(&self.file, &error);
        fs::rename(&self.beside, &self.file).map_err(unusable)?;
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or(Path::new(".")));
        folder.and_then(|folder| folder.sync_all()).map_err(unusable)?;
        Ok(found)
    }
}

/// Where the bytes come from, piece by piece.
type Source = Box<dyn FnMut() -> Result<Option<Vec<u8>>, CliError>>;

fn of_folder(dir: &Path, now: u64) -> Result<Source, CliError> {
    // Its own words tell what to do, and name the folder.
    let mut export = folder::export(dir, now).map_err(CliError::failed)?;
    Ok(Box::new(move || export.piece().map_err(CliError::failed)))
}

fn of_server(args: &ServerArgs) -> Result<Source, CliError> {
    let client = Client::new(args)?;
    let ask = |client: &Client| client.post("/v1/backup", "application/octet-stream", &[]);
    let answer = client.insist(false, ask).map_err(|failure| client.explain(failure))?;
    let mut body = answer.into_body().into_reader();
    Ok(Box::new(move || {
        let mut piece = vec![0; 1 << 17];
        let got = body.read(&mut piece).map_err(|error| {
            client.explain(Failure::Lost(format!("the backup broke off: {error}")))
        })?;
        piece.truncate(got);
        Ok((got > 0).then_some(piece))
    }))
}
