//! `pages`: how the records of a log are grouped, and how large groups are from now on.

use std::io::Write;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::client::{Client, ServerArgs, log_name};
use super::error::CliError;
use super::failure::read_json;
use super::logs::{Table, cell};
use crate::wire::MAX_OFFSET;

/// Arguments of `pages`.
#[derive(Clone, Debug, Args)]
pub(super) struct PagesArgs {
    /// The log
    #[arg(value_name = "NAME", value_parser = log_name)]
    name: String,
    /// Records of each page that opens from now on, instead of listing; 0: no pages any more
    #[arg(
        long,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i64).range(0..=MAX_OFFSET as i64)
    )]
    size: Option<i64>,
    /// Write each page as an object; with --size, what the server answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Deserialize)]
struct Page {
    page_size: u64,
    pages: Vec<Value>,
    next: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Set {
    page_size: u64,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// Carries out `pages`.
///
/// # Errors
/// When it was refused, the server is gone, or the output cannot be written.
pub(super) fn run(args: &PagesArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let PagesArgs { name, size, json, .. } = args;
    let Some(size) = size else { return list(&client, name, *json, out) };
    let path = format!("/v1/logs/{name}?page_size={size}");
    let ask = |client: &Client| client.post(&path, "application/json", &[]).and_then(read_json);
    let set: Result<Set, _> = client.insist(false, ask);
    let set = set.map_err(|failure| client.explain(failure))?;
    let text = match json {
        true => serde_json::to_string(&set).map_err(CliError::failed)?,
        false => format!("{name}: {}", sized(set.page_size)),
    };
    writeln!(out, "{text}").map_err(CliError::output)
}

/// How large pages are, in words.
fn sized(records: u64) -> String {
    match records {
        0 => "no pages open from now on".to_owned(),
        records => format!("pages that open from now on have {records} records"),
    }
}

fn list(client: &Client, name: &str, json: bool, out: &mut dyn Write) -> Result<(), CliError> {
    let heading = ["FIRST", "END", "RECORDS", "OPENED", "CLOSED", "GOES"];
    let mut table = Table::new(heading, json);
    let mut after = String::new();
    loop {
        let page: Page = client.json(&format!("/v1/pages/{name}?limit=1000{after}"))?;
        for one in &page.pages {
            let cells =
                ["first", "end", "records", "opened", "closed", "goes"].map(|name| cell(one, name));
            table.row(one, cells, out)?;
        }
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None if json => return table.end(out),
            None => {
                table.end(out)?;
                let sized = sized(page.page_size);
                return writeln!(out, "{name}: {sized}").map_err(CliError::output);
            }
        }
    }
}
