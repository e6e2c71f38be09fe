//! Logs as a whole: list, look at, create, trim and delete.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem, json_answer};
use super::caller::{Caller, LogName};
use super::query::{self, Parameters};
use super::reading::{self, Meant};
use super::{route, sending, spans};
use crate::auth::{Can, Grants};
use crate::fold::{Command, Reply};
use crate::gateway::Gate;
use crate::log::LogRow;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::Code;

/// Logs in a page of the list where it is not said, and at most.
const PAGE: usize = 100;
const MOST: usize = 1_000;
/// Names looked at for one page: one whose grants cover few of them gets short pages.
const LOOKED_AT: usize = 10_000;

pub(super) const START: HeaderName = HeaderName::from_static("highwater-start");
pub(super) const HEAD: HeaderName = HeaderName::from_static("highwater-head");
pub(super) const LOG: HeaderName = HeaderName::from_static(route::LOG);
pub(super) const RULE: HeaderName = HeaderName::from_static("highwater-rule");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    prefix: Option<String>,
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/logs`: those that the caller may read, by name.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    Caller(grants): Caller,
    Parameters(asked): Parameters<ListQuery>,
) -> Answer {
    let limit = query::page(asked.limit.as_deref(), PAGE, MOST)?;
    let prefix = asked.prefix.unwrap_or_default();
    let marks = gate.http.marks.of("logs", &grants.user, &prefix);
    let after = marks.open(asked.after.as_deref())?;
    let after = after.and_then(|after| String::from_utf8(after).ok());
    let listed = reading::look(&gate, move |store| page(store, &grants, &prefix, after, limit));
    let (logs, next) = listed.await?;
    let next = next.and_then(|next| marks.seal(next.as_bytes()));
    Ok(json_answer(StatusCode::OK, json!({ "logs": logs, "next": next })))
}

/// A page of logs, and the name to go on after. Only what the grants may cover is looked at.
fn page(
    store: &Store,
    grants: &Grants,
    prefix: &str,
    mut after: Option<String>,
    limit: usize,
) -> Result<(Vec<Value>, Option<String>), RowsError> {
    let mut logs = Vec::new();
    let mut looked_at = 0;
    let mut spans = spans::of(grants, prefix);
    spans.retain(|span| !span.is_behind(after.as_deref()));
    for span in spans {
        let mut ended = false;
        while !ended {
            if looked_at >= LOOKED_AT {
                return Ok((logs, after));
            }
            let names = span.names(store, after.as_deref(), MOST)?;
            ended = names.len() < MOST;
            looked_at += names.len();
            for (name, id) in names {
                if logs.len() == limit {
                    return Ok((logs, after));
                }
                if grants.allows(&name, Can::Read)
                    && let Some(row) = store.log_row(id)?.filter(|row| !row.deleted)
                {
                    logs.push(log_json(id, &row));
                }
                after = Some(name);
            }
        }
    }
    Ok((logs, None))
}

fn log_json(id: u64, row: &LogRow) -> Value {
    json!({
        "name": row.name,
        "id": id,
        "start": row.start,
        "head": row.head,
        "bytes": row.bytes.saturating_sub(row.start_bytes),
        "rule": row.rule,
        "deriving": row.deriving.as_ref().map(|deriving| deriving.rule),
        "page_size": row.paging.records,
        "created": row.created,
        "appended": row.appended,
    })
}

/// The headers that tell where a log stands.
pub(super) fn stand(id: u64, row: &LogRow) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(LOG, id.into());
    headers.insert(START, row.start.into());
    headers.insert(HEAD, row.head.into());
    headers.insert(RULE, HeaderValue::from_static(row.rule.name()));
    headers
}

/// `HEAD /v1/logs/{name}`.
pub(super) async fn head(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    meant: Meant,
    caller: Caller,
) -> Answer {
    caller.must(Can::Read, &name)?;
    let (id, row) = meant.named(&gate, &name).await?;
    reading::told(&gate, id, &row).await?;
    Ok((StatusCode::OK, stand(id, &row)).into_response())
}

/// `POST /v1/logs/{name}?create`, with `page_size` where it is to have pages: 201 when it is new,
/// 200 when it was there, and stays as it is.
pub(super) async fn create(gate: &Arc<Gate>, name: String, page_records: u64) -> Answer {
    let weight = name.len();
    let command = Command::CreateLog { name: name.clone(), page_records };
    match sending::ask(gate, command, weight).await? {
        Reply::Created(log, new) => {
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            Ok(json_answer(status, json!({ "name": name, "log": log, "created": new })))
        }
        other => Err(unexpected(&other)),
    }
}

/// `POST /v1/logs/{name}?trim=OFFSET`: what lies below is gone.
pub(super) async fn trim(gate: &Arc<Gate>, name: &str, to: u64) -> Answer {
    let (log, row) = reading::log_named(gate, name).await?;
    let trimmed = loop {
        match sending::ask(gate, Command::Trim { log, to }, 0).await? {
            // Its readers are looked at in steps, and others have their turns in between.
            Reply::Looking => {}
            other => break other,
        }
    };
    match trimmed {
        Reply::Trimmed(trimmed) => {
            let start = trimmed.map_or(row.start.max(to), |trimmed| trimmed.to);
            let body = json!({ "log": log, "start": start, "trimmed": trimmed.is_some() });
            Ok(json_answer(StatusCode::OK, body))
        }
        other => Err(unexpected(&other)),
    }
}

/// `POST /v1/logs/{name}?page_size=N`: pages that open from now on have so many records; 0: none
/// opens.
pub(super) async fn set_pages(gate: &Arc<Gate>, name: &str, records: u64) -> Answer {
    let (log, _) = reading::log_named(gate, name).await?;
    sending::ask(gate, Command::SetPages { log, records }, 0).await?;
    Ok(json_answer(StatusCode::OK, json!({ "name": name, "log": log, "page_size": records })))
}

/// `DELETE /v1/logs/{name}`.
pub(super) async fn delete(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    caller: Caller,
) -> Answer {
    caller.must(Can::Admin, &name)?;
    let (log, _) = reading::log_named(&gate, &name).await?;
    sending::ask(&gate, Command::DeleteLog { log }, 0).await?;
    Ok(json_answer(StatusCode::OK, json!({ "name": name, "log": log, "deleted": true })))
}

/// The fold gave a reply that does not go with the command.
pub(super) fn unexpected(reply: &Reply) -> Problem {
    tracing::error!(?reply, "a reply that does not go with its command");
    Code::Failed.into()
}

/// `POST /v1/writers/{id}/retire`: it will send no more; its mark may be forgotten early.
pub(super) async fn retire(
    State(gate): State<Arc<Gate>>,
    super::caller::PathId(writer): super::caller::PathId,
    Caller(grants): Caller,
) -> Result<Response, Problem> {
    let command = Command::Retire { user: grants.user, writer };
    sending::ask(&gate, command, 0).await?;
    Ok(json_answer(StatusCode::OK, json!({ "writer": writer, "retired": true })))
}
