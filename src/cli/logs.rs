//! `create` and `logs`: logs as a whole.

use std::io::Write;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, ServerArgs, log_name, quoted};
use super::error::CliError;
use super::failure::{Failure, read_json};
use crate::wire::MAX_OFFSET;

/// Arguments of `create`.
#[derive(Clone, Debug, Args)]
pub(super) struct CreateArgs {
    /// The log
    #[arg(value_name = "NAME", value_parser = log_name)]
    name: String,
    /// Records of each page: retention lets go of whole pages, by age counted from their closing
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(1..=MAX_OFFSET as i64)
    )]
    page_size: Option<i64>,
    /// Do nothing where the log is there already
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Created {
    log: u64,
    created: bool,
}

/// Carries out `create`.
///
/// # Errors
/// When it was refused, or the log is there already.
pub(super) fn create(args: &CreateArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let pages = args.page_size.map(|records| format!("&page_size={records}")).unwrap_or_default();
    let path = format!("/v1/logs/{}?create{pages}", args.name);
    // Whether an earlier try may have made it, so that the log of this name is this command's own.
    let mut open = false;
    let ask = |client: &Client| {
        let answer = client.post(&path, "application/json", &[]).and_then(read_json);
        open |= answer.as_ref().is_err_and(Failure::leaves_open);
        answer
    };
    let made = client.insist(false, ask).map_err(|failure| client.explain(failure))?;
    let Created { log, created } = made;
    let name = &args.name;
    if !created && !args.if_not_exists && !open {
        let pages = match args.page_size {
            Some(size) => format!("; `highwater pages {name} --size {size}` changes its pages"),
            None => String::new(),
        };
        let message =
            format!("the log {name} is there already: --if-not-exists lets that pass{pages}");
        return Err(CliError::Failed(message));
    }
    let word = if created { "created" } else { "exists" };
    writeln!(out, "{word} {name} (log {log})").map_err(CliError::output)
}

/// Arguments of `logs`.
#[derive(Clone, Debug, Args)]
pub(super) struct LogsArgs {
    /// Only logs whose names begin so
    #[arg(value_name = "PREFIX", default_value = "")]
    prefix: String,
    /// Write each log as an object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Page {
    logs: Vec<Value>,
    next: Option<String>,
}

/// Carries out `logs`.
///
/// # Errors
/// When it was refused, the server is gone, or the output cannot be written.
pub(super) fn list(args: &LogsArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let mut table = Table::new(["NAME", "START", "HEAD", "BYTES", "SNAPSHOTS"], args.json);
    let mut after = String::new();
    loop {
        let prefix = quoted(&args.prefix);
        let page: Page = client.json(&format!("/v1/logs?limit=1000&prefix={prefix}{after}"))?;
        for log in &page.logs {
            let cells = ["name", "start", "head", "bytes", "rule"].map(|name| cell(log, name));
            table.row(log, cells, out)?;
        }
        match page.next {
            Some(next) => after = format!("&after={}", quoted(&next)),
            None => return table.end(out),
        }
    }
}

/// A member of an object as people read it.
pub(super) fn cell(object: &Value, name: &str) -> String {
    match object.get(name) {
        Some(Value::String(text)) => printable(text),
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(other) => other.to_string(),
    }
}

/// A text as a terminal may be given it. Clients choose some of what is shown, as their names; what
/// moves the cursor, ends a line or turns the direction of writing would show something else.
fn printable(text: &str) -> String {
    let turns = |letter: char| {
        let marks = [0x200E..=0x200F, 0x2028..=0x202E, 0x2066..=0x2069];
        marks.iter().any(|range| range.contains(&u32::from(letter)))
    };
    let shown = |letter: char| match letter {
        letter if letter.is_control() || turns(letter) => letter.escape_unicode().to_string(),
        letter => letter.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Rows for people, or an object per line for programs.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    json: bool,
}

impl<const N: usize> Table<N> {
    /// A table under that heading.
    pub(super) fn new(heading: [&str; N], json: bool) -> Self {
        Self { rows: vec![heading.map(str::to_owned)], json }
    }

    /// Takes a row in; an object goes out at once.
    pub(super) fn row(
        &mut self,
        object: &Value,
        cells: [String; N],
        out: &mut dyn Write,
    ) -> Result<(), CliError> {
        if self.json {
            return writeln!(out, "{object}").map_err(CliError::output);
        }
        self.rows.push(cells);
        Ok(())
    }

    /// Writes the table, its columns as wide as they have to be.
    pub(super) fn end(self, out: &mut dyn Write) -> Result<(), CliError> {
        if self.json {
            return out.flush().map_err(CliError::output);
        }
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &self.rows {
            let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            writeln!(out, "{}", line.trim_end()).map_err(CliError::output)?;
        }
        out.flush().map_err(CliError::output)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_cell_moves_no_terminal() {
        let told = json!({"client": "a\u{1b}[2J\nb\u{202e}c\u{9b}d", "user": "Zoë 😀"});
        assert_eq!(cell(&told, "client"), "a\\u{1b}[2J\\u{a}b\\u{202e}c\\u{9b}d");
        assert_eq!(cell(&told, "user"), "Zoë 😀");
    }

    #[test]
    fn a_table_has_even_columns() {
        let mut table = Table::new(["NAME", "HEAD"], false);
        let mut out = Vec::new();
        for (name, head) in [("a", "10"), ("longer", "9")] {
            table.row(&json!({}), [name.to_owned(), head.to_owned()], &mut out).unwrap();
        }
        table.end(&mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "NAME    HEAD\na       10\nlonger  9\n");
    }

    #[test]
    fn objects_go_out_as_they_come() {
        let mut table = Table::new(["NAME"], true);
        let mut out = Vec::new();
        table.row(&json!({"name": "a"}), ["a".to_owned()], &mut out).unwrap();
        table.end(&mut out).unwrap();
        assert_eq!(out, b"{\"name\":\"a\"}\n");
    }
}
