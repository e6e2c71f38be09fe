//! `POST /v1/notify`: one record to a log, to many logs, or to a user's own, and who was reached.
//!
//! A user's own log is `users/USER/inbox`; so a user whose name is no segment of a log's name has
//! none. The record goes to all logs in one command of one writer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem, json_answer, with};
use super::append::WriterQuery;
use super::caller::{Caller, PathUser};
use super::connections::Nodes;
use super::query::Parameters;
use super::sending::{self, Paying, Sent, Writing, answer_json, wanted};
use super::{guard, reading};
use crate::admission::{Named, may_append};
use crate::gateway::Gate;
use crate::limit::Costs;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::{Code, Outcome, Record, Refusal, name};

/// Logs in one request.
const MOST_LOGS: usize = 1_000;
/// Connections looked at to say who was reached, for all logs of a request together.
const LOOKED_AT: usize = 10_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotifyQuery {
    writer: Option<String>,
    seq: Option<String>,
    oldest: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NotifyBody {
    logs: Option<Vec<String>>,
    user: Option<String>,
    record: Record,
}

/// `POST /v1/notify`.
pub(super) async fn notify(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(asked): Parameters<NotifyQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let writing = writing(asked, &caller, &headers)?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let NotifyBody { logs, user, record } = reading::json(&arrived.bytes)?;
    let names = match (logs, user) {
        (Some(logs), None) if (1..=MOST_LOGS).contains(&logs.len()) => logs,
        (None, Some(user)) => vec![inbox(&user)?],
        (Some(_), None) => {
            return Err(Problem::bad_request(format!("logs: a list of 1 to {MOST_LOGS}")));
        }
        _ => return Err(Problem::bad_request("name logs or a user, one of them")),
    };
    tell(&gate, &caller, &writing, names, record).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserBody {
    record: Record,
}

/// `POST /v1/users/{user}/notify`.
pub(super) async fn notify_user(
    State(gate): State<Arc<Gate>>,
    PathUser(user): PathUser,
    caller: Caller,
    Parameters(asked): Parameters<NotifyQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let writing = writing(asked, &caller, &headers)?;
    let inbox = inbox(&user)?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let UserBody { record } = reading::json(&arrived.bytes)?;
    tell(&gate, &caller, &writing, vec![inbox], record).await
}

fn writing(asked: NotifyQuery, caller: &Caller, headers: &HeaderMap) -> Result<Writing, Problem> {
    let NotifyQuery { writer, seq, oldest } = asked;
    WriterQuery { writer, seq, oldest }.writing(caller, headers)
}

/// A user's own log.
fn inbox(user: &str) -> Result<String, Problem> {
    let log = format!("users/{user}/inbox");
    if user.contains('/') || name::check(&log).is_err() {
        let message = "this user has no log of its own: its name would have to be a segment of a \
                       log's name, of A-Z a-z 0-9 _ . ~ -";
        return Err(Refusal::because(Code::BadName, message).into());
    }
    Ok(log)
}

async fn tell(
    gate: &Arc<Gate>,
    caller: &Caller,
    writing: &Writing,
    names: Vec<String>,
    record: Record,
) -> Answer {
    gate.admission.shed.takes()?;
    let size = record.size();
    let mut all = Vec::with_capacity(names.len());
    for name in &names {
        let mut want = wanted(name, record.clone(), &gate.limits);
        want.verdict = may_append(&caller.0, Named::Name(name)).err().or(want.verdict);
        if let Some(refusal) = want.verdict.as_ref().filter(|_| !writing.named) {
            let message = format!("{name}: {}", refusal.message);
            return Err(Refusal::because(refusal.code, message).into());
        }
        all.push(want);
    }
    // Each log gets a copy of its own. One is paid for here, the others as they are sent.
    let mut first = Costs::with_room(1);
    first.push(size, names.first().map_or(0, |name| gate.admission.rates.log_key(name)));
    // No log's name has a space.
    let holder = format!("notify {}", names.join(" "));
    let paying = Paying::begin(gate, caller, writing, "", &holder, first).await?;
    let loads = sending::loads(writing.first, all);
    let sent = sending::send(gate, caller, writing, loads, paying).await;
    told(gate, &names, &sent).await
}

async fn told(gate: &Arc<Gate>, names: &[String], sent: &Sent) -> Answer {
    let logs: Vec<Option<u64>> = sent
        .answers
        .iter()
        .map(|answer| match answer.outcome {
            Outcome::Stored { log, .. } => Some(log),
            Outcome::Refused(_) => None,
        })
        .collect();
    let reached = reading::look(gate, move |store| reached(store, &logs)).await?;
    let results: Vec<Value> = names
        .iter()
        .zip(&sent.answers)
        .zip(reached)
        .map(|((name, answer), reached)| {
            let shown = with(answer_json(answer), "name", name);
            if let Some(reached) = reached { with(shown, "reached", reached) } else { shown }
        })
        .collect();
    if let Some(refusal) = sent.refused() {
        let problem = Problem::from(refusal.clone()).with("stored", sent.stored());
        return Err(problem.with("results", results));
    }
    let place = results.last().and_then(|last| last.get("place")).cloned();
    Ok(json_answer(StatusCode::OK, json!({ "place": place, "results": results })))
}

/// For each log: connections subscribed to it that have a socket and get the record now, those
/// that are active and get it when they come back, and the inactive ones, which get the log's
/// state when they do. `more` where not all could be looked at.
fn reached(store: &Store, logs: &[Option<u64>]) -> Result<Vec<Option<Value>>, RowsError> {
    let mut room = LOOKED_AT;
    let mut nodes = Nodes::default();
    let mut shown = Vec::with_capacity(logs.len());
    for log in logs {
        let Some(log) = log else {
            shown.push(None);
            continue;
        };
        let subscribers = store.subscribers(*log, None, room + 1)?;
        let more = subscribers.len() > room;
        let (mut attached, mut detached, mut inactive) = (0_u32, 0_u32, 0_u32);
        for id in subscribers.into_iter().take(room) {
            room -= 1;
            let Some(row) = store.connection(id)? else { continue };
            if !row.active() {
                inactive += 1;
            } else if nodes.attached(store, &row)?.0 {
                attached += 1;
            } else {
                detached += 1;
            }
        }
        shown.push(Some(json!({
            "attached": attached, "detached": detached, "inactive": inactive, "more": more,
        })));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_a_log_where_its_name_is_a_segment() {
        assert_eq!(inbox("ana").unwrap(), "users/ana/inbox");
        for bad in ["a/b", "..", "", "ana@example.com", "Zoë", &"x".repeat(250)] {
            assert_eq!(inbox(bad).unwrap_err().refusal.code, Code::BadName, "{bad}");
        }
    }
}
