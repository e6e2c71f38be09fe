//! `check`: whether a data folder, or a backup, is whole.
//!
//! Promise: everything is read and nothing is changed; what is wrong is told, a line each.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::error::CliError;
use crate::node::check::{Checked, check};
use crate::node::folder::{BackupError, FolderError, Reader};

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    /// The data folder of a node that is stopped, or a backup
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Write what was found as an object
    #[arg(long)]
    json: bool,
}

/// Carries out `check`.
///
/// # Errors
/// Where something is wrong with what is there (1), or there is nothing to check (2).
pub(super) fn run(args: &CheckArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let path = &args.path;
    // What is wrong with a copy is mended by another, what is wrong with a folder is not.
    let (checked, advice) = match path.is_file() {
        true => (backup(path)?, "take another backup, or copy this one again"),
        false => (folder(path)?, "keep it aside, and restore a backup"),
    };
    let Checked { wrong, notes, files, bytes, rows } = &checked;
    let write = |out: &mut dyn Write| {
        if args.json {
            let told = json!({
                "sound": wrong.is_empty(), "wrong": wrong, "notes": notes,
                "files": files, "bytes": bytes, "rows": rows,
            });
            return writeln!(out, "{told}");
        }
        for line in wrong.iter().chain(notes) {
            writeln!(out, "{line}")?;
        }
        let verdict = if wrong.is_empty() { "sound" } else { "DAMAGED" };
        let counts = [(*files, "file"), (*bytes, "byte"), (*rows, "row")];
        let counts = counts.map(|(many, of)| counted(many, of)).join(", ");
        writeln!(out, "{}: {verdict} ({counts})", path.display())
    };
    write(out).map_err(CliError::output)?;
    if wrong.is_empty() {
        return Ok(());
    }
    let many = counted(wrong.len() as u64, "finding");
    Err(CliError::Failed(format!("{} is damaged ({many}): {advice}", path.display())))
}

/// A number with what it counts, in the singular or the plural.
fn counted(many: u64, of: &str) -> String {
    format!("{many} {of}{}", if many == 1 { "" } else { "s" })
}

fn folder(dir: &Path) -> Result<Checked, CliError> {
    check(dir).map_err(|error| match error {
        FolderError::None(_) => CliError::Usage(error.to_string()),
        _ => CliError::failed(error),
    })
}

fn backup(path: &Path) -> Result<Checked, CliError> {
    let unusable = |error| CliError::Failed(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(unusable)?;
    let bytes = file.metadata().map_err(unusable)?.len();
    let read = Reader::new(BufReader::with_capacity(1 << 18, file)).and_then(Reader::verify);
    let mut checked = Checked { files: 1, bytes, ..Checked::default() };
    match read {
        Ok((_, end)) => checked.rows = end.rows,
        Err(BackupError::NotOurs) => {
            let message =
                format!("{} is no backup and no data folder: check the path", path.display());
            return Err(CliError::Usage(message));
        }
        Err(error) => checked.wrong.push(format!("{}: {error}", path.display())),
    }
    Ok(checked)
}
