//! `/v1/journal`: how far the journal has come, who folds it, and its move to a later version.
//!
//! An operator looks before an upgrade whether every node that runs knows the next version, says
//! once that it may go on in it, and from then on older programs stop at the journal's next batch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem, json_answer};
use super::caller::Caller;
use super::query::{self, Parameters};
use super::{guard, logs, reading, sending};
use crate::connection::NodeRow;
use crate::fold::{Command, Head, Reply, Versions, head_of};
use crate::gateway::Gate;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::{Code, Id, Refusal};

/// `GET /v1/journal`.
pub(super) async fn show(State(gate): State<Arc<Gate>>, caller: Caller) -> Answer {
    caller.must_administer()?;
    let (head, nodes) = reading::look(&gate, read).await?;
    let eras = gate.hub.eras();
    let nodes: Vec<Value> = nodes.iter().map(|(id, row)| node_json(*id, row)).collect();
    let body = json!({
        "journal": head.journal,
        "version": head.version,
        "batch": head.batch,
        "records": head.records,
        "time": head.time,
        "position": gate.hub.position(),
        "era": eras.present(),
        "node": gate.node,
        "shared": gate.fence.counts(),
        "follower": gate.admission.shed.follows(),
        "lag_ms": gate.fence.lag(),
        "nodes": nodes,
    });
    Ok(json_answer(StatusCode::OK, body))
}

/// Head and nodes; a node that serves has folded its first batch.
fn read(store: &Store) -> Result<(Head, Vec<(Id, NodeRow)>), RowsError> {
    let head =
        head_of(store)?.ok_or_else(|| RowsError::Storage("no batch is folded".to_owned()))?;
    Ok((head, store.nodes()?))
}

fn node_json(id: Id, row: &NodeRow) -> Value {
    let (oldest, newest) = row.knows;
    json!({
        "node": id,
        "up": row.up,
        "run": row.incarnation,
        "since": row.since,
        "oldest": oldest,
        "newest": newest,
        "checkpoint": Some(row.checkpoint()).filter(|batch| *batch > 0),
        "address": Some(row.address()).filter(|address| !address.is_empty()),
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UpgradeQuery {
    to: String,
}

/// `POST /v1/journal/upgrade?to=N`: the journal goes on in that version, for good. Asked for again
/// it is answered alike, with `upgraded` false.
pub(super) async fn upgrade(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(asked): Parameters<UpgradeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let to = query::number("to", &asked.to, 1, u64::from(u16::MAX))?;
    let to = u16::try_from(to).unwrap_or(u16::MAX);
    without_body(&gate, &caller, &headers, body, "an upgrade goes without a body").await?;
    let upgraded = match sending::ask(&gate, Command::Upgrade { to }, 0).await {
        Ok(Reply::Done) => true,
        Ok(other) => return Err(logs::unexpected(&other)),
        Err(problem) if problem.refusal.code == Code::Stale => {
            let (head, nodes) = reading::look(&gate, read).await?;
            if head.version != to {
                return Err(no_upgrade(to, head.version, &nodes).with("version", head.version));
            }
            false
        }
        Err(problem) => return Err(problem),
    };
    Ok(json_answer(StatusCode::OK, json!({ "version": to, "upgraded": upgraded })))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EraQuery {
    after: String,
}

/// `POST /v1/journal/era?after=ERA`: what clients have seen beyond this point is not of this
/// history, since whoever runs the journal has moved it, restored it or lost its end. By the era
/// that it follows a repeat does nothing twice.
pub(super) async fn era(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(asked): Parameters<EraQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let after: Id = (asked.after.parse())
        .map_err(|_| Problem::bad_request("after: 32 hexadecimal digits, the present era"))?;
    without_body(&gate, &caller, &headers, body, "an era begins without a body").await?;
    let era = Id(rand::random());
    match sending::ask(&gate, Command::BeginEra { after: Some(after), era }, 0).await {
        Ok(Reply::Done) => Ok(json_answer(StatusCode::OK, json!({ "era": era, "after": after }))),
        Ok(other) => Err(logs::unexpected(&other)),
        Err(problem) if problem.refusal.code == Code::Stale => {
            let message = "that is not the present era: one has begun since, or it never was";
            let problem: Problem = Refusal::because(Code::Stale, message).into();
            Err(problem.with("era", gate.hub.eras().present()))
        }
        Err(problem) => Err(problem),
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForgetQuery {
    node: String,
}

/// `POST /v1/journal/forget?node=ID`: a node is gone for good, which takes that it does not run.
pub(super) async fn forget(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(asked): Parameters<ForgetQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let node: Id = (asked.node.parse())
        .map_err(|_| Problem::bad_request("node: 32 hexadecimal digits, the id of a node"))?;
    without_body(&gate, &caller, &headers, body, "a node is forgotten without a body").await?;
    let problem = match sending::ask(&gate, Command::ForgetNode { node }, 0).await {
        Ok(Reply::Done) => {
            let body = json!({ "node": node, "forgotten": true });
            return Ok(json_answer(StatusCode::OK, body));
        }
        Ok(other) => return Err(logs::unexpected(&other)),
        Err(problem) => problem,
    };
    let message = match problem.refusal.code {
        Code::Stale => "the node runs, or was not found silent yet: stop it first",
        Code::NotFound => "no such node: it never took part, or was forgotten already",
        _ => return Err(problem),
    };
    Err(Refusal::because(problem.refusal.code, message).into())
}

/// Reads the body of a request that has none; `refusal` is what one that has one is told.
async fn without_body(
    gate: &Arc<Gate>,
    caller: &Caller,
    headers: &HeaderMap,
    body: Body,
    refusal: &str,
) -> Result<(), Problem> {
    let arrived = guard::arrive(gate, caller, headers, body).await?;
    if arrived.bytes.is_empty() { Ok(()) } else { Err(Problem::bad_request(refusal)) }
}

/// Nodes that are named in a refusal.
const NAMED: usize = 10;

/// Why the journal does not go on in that version: what is known here, and who lacks it.
fn no_upgrade(to: u16, version: u16, nodes: &[(Id, NodeRow)]) -> Problem {
    let mut message = format!(
        "the journal is in version {version}; only version {} is next, and every node that runs \
         has to know it",
        version.saturating_add(1)
    );
    let lacks = |row: &NodeRow| row.up && !(row.knows.0..=row.knows.1).contains(&to);
    let lacking: Vec<_> = nodes.iter().filter(|(_, row)| lacks(row)).collect();
    if !lacking.is_empty() {
        let named: Vec<_> = lacking.iter().take(NAMED).map(|(id, _)| id.to_string()).collect();
        let more = if lacking.len() > NAMED { " and others" } else { "" };
        message += &format!("; {to} is not known to the node {}{more}", named.join(", "));
    }
    let Versions { oldest, newest } = Versions::KNOWN;
    let known = if oldest == newest { newest.to_string() } else { format!("{oldest} to {newest}") };
    message += &format!("; the program that answers knows {known}");
    Refusal::because(Code::Stale, message).into()
}
