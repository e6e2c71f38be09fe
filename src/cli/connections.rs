//! `connections`: list, show and downgrade.

use std::io::Write;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, ServerArgs, quoted};
use super::error::CliError;
use super::failure::{Failure, read_json};
use super::logs::{Table, cell};
use crate::wire::Id;

/// Arguments of `connections`.
#[derive(Clone, Debug, Args)]
pub(super) struct ConnectionsArgs {
    #[command(subcommand)]
    command: ConnectionsCommand,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Clone, Debug, Subcommand)]
enum ConnectionsCommand {
    /// List connections: all of them with a grant of admin on **, else your own
    List(ListArgs),
    /// Show a connection: state, subscriptions, cursors and lag
    Show(ShowArgs),
    /// Take a connection's channel: it gets no more updates until it asks for one again
    Downgrade(DowngradeArgs),
}

#[derive(Clone, Debug, Args)]
struct ListArgs {
    /// Only connections of this user
    #[arg(long)]
    user: Option<String>,
    /// Write each connection as an object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// The connection: 32 hexadecimal digits
    id: Id,
    /// Write the connection as an object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, Args)]
struct DowngradeArgs {
    /// The connection: 32 hexadecimal digits
    id: Id,
}

/// Carries out `connections`.
///
/// # Errors
/// When it was refused, the server is gone, or the output cannot be written.
pub(super) fn run(args: &ConnectionsArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    match &args.command {
        ConnectionsCommand::List(args) => list(&client, args, out),
        ConnectionsCommand::Show(args) => show(&client, args, out),
        ConnectionsCommand::Downgrade(DowngradeArgs { id }) => {
            let path = format!("/v1/connections/{id}/downgrade");
            let ask = |client: &Client| {
                let Downgraded { active } =
                    read_json(client.post(&path, "application/json", &[])?)?;
                if active { Err(Failure::foreign("still active")) } else { Ok(()) }
            };
            client.insist(false, ask).map_err(|failure| client.explain(failure))?;
            writeln!(out, "downgraded {id}").map_err(CliError::output)
        }
    }
}

/// The member of an answer that matters here.
#[derive(Deserialize)]
struct Downgraded {
    active: bool,
}

#[derive(Deserialize)]
struct Page {
    connections: Vec<Value>,
    next: Option<String>,
}

fn list(client: &Client, args: &ListArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let heading = ["ID", "USER", "STATE", "ATTACHED", "LOGS", "CLIENT"];
    let mut table = Table::new(heading, args.json);
    let user = args.user.as_ref().map(|user| format!("&user={}", quoted(user)));
    let user = user.unwrap_or_default();
    let mut after = String::new();
    loop {
        let page: Page = client.json(&format!("/v1/connections?limit=1000{user}{after}"))?;
        for one in &page.connections {
            let cells = [
                cell(one, "id"),
                cell(one, "user"),
                state(one),
                cell(one, "attached"),
                cell(one, "subscriptions"),
                cell(one, "client"),
            ];
            table.row(one, cells, out)?;
        }
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return table.end(out),
        }
    }
}

fn state(one: &Value) -> String {
    if one.get("active") == Some(&Value::Bool(true)) {
        return "active".to_owned();
    }
    format!("inactive ({})", cell(one, "reason"))
}

#[derive(Deserialize)]
struct Shown {
    subscriptions: Vec<Value>,
    next: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

fn show(client: &Client, args: &ShowArgs, out: &mut dyn Write) -> Result<(), CliError> {
    let id = args.id;
    let mut shown: Shown = client.json(&format!("/v1/connections/{id}"))?;
    while let Some(next) = shown.next {
        let more: Shown = client.json(&format!("/v1/connections/{id}?after={next}"))?;
        shown.subscriptions.extend(more.subscriptions);
        shown.next = more.next;
    }
    let lags = shown.subscriptions.iter().filter_map(|sub| sub.get("lag")?.as_u64());
    shown.rest.insert("lag".to_owned(), lags.sum::<u64>().into());
    if args.json {
        shown.rest.insert("subscriptions".to_owned(), shown.subscriptions.into());
        return writeln!(out, "{}", Value::Object(shown.rest)).map_err(CliError::output);
    }
    let rest = Value::Object(shown.rest);
    let rows = [
        ("connection", cell(&rest, "id")),
        ("user", cell(&rest, "user")),
        ("state", state(&rest)),
        ("attached", cell(&rest, "attached")),
        ("visible", cell(&rest, "visible")),
        ("generation", cell(&rest, "generation")),
        ("device", cell(&rest, "device")),
        ("client", cell(&rest, "client")),
        ("lag", cell(&rest, "lag")),
    ];
    for (name, value) in rows {
        writeln!(out, "{name:<12}{value}").map_err(CliError::output)?;
    }
    writeln!(out).map_err(CliError::output)?;
    let mut table = Table::new(["LOG", "CURSOR", "HEAD", "LAG", "PRIORITY"], false);
    for sub in &shown.subscriptions {
        let name = if sub["deleted"] == true {
            format!("{} (deleted)", sub["log"])
        } else {
            cell(sub, "name")
        };
        let [cursor, head, lag, priority] =
            ["cursor", "head", "lag", "priority"].map(|name| cell(sub, name));
        table.row(sub, [name, cursor, head, lag, priority], out)?;
    }
    table.end(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_state_tells_its_reason() {
        assert_eq!(state(&json!({"active": true, "reason": null})), "active");
        assert_eq!(state(&json!({"active": false, "reason": "lag"})), "inactive (lag)");
    }
}
