//! `GET /v1/pages/{name}`: the pages of a log, oldest first, the one that is open last.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, json_answer};
use super::caller::{Caller, LogName};
use super::logs;
use super::query::{self, Parameters};
use super::reading::{self, Meant};
use crate::auth::Can;
use crate::gateway::Gate;
use crate::log::{LogRow, PageRow};

/// Pages in an answer where it is not said, and at most.
const PAGE: usize = 100;
const MOST: usize = 1_000;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PagesQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/pages/{name}`: `after` is the first offset of the last page seen.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    caller: Caller,
    meant: Meant,
    Parameters(asked): Parameters<PagesQuery>,
) -> Answer {
    caller.must(Can::Read, &name)?;
    let limit = query::page(asked.limit.as_deref(), PAGE, MOST)?;
    let after = asked.after.map(|after| query::offset("after", &after)).transpose()?;
    let (log, row) = meant.named(&gate, &name).await?;
    let from = after.map_or(0, |after| after.saturating_add(1)).max(row.start);
    let closed = reading::look(&gate, move |store| store.pages(log, from, limit + 1)).await?;
    let (seconds, known) = (gate.rules.kept(&name, &gate.limits).seconds, row.paging.first);
    // Those that were closed after the row was read are the open one there, or behind it.
    let closed = closed.iter().take_while(|(first, _)| *first < known);
    let mut pages: Vec<(u64, Value)> =
        closed.map(|(first, page)| (*first, closed_json(*first, page, seconds))).collect();
    if pages.len() <= limit {
        pages.extend(open(&row).filter(|(first, _)| *first >= from));
    }
    let more = pages.len() > limit;
    pages.truncate(limit);
    let next = pages.last().map(|(first, _)| *first).filter(|_| more);
    let pages: Vec<Value> = pages.into_iter().map(|(_, page)| page).collect();
    let size = row.paging.records;
    let body = json!({ "name": name, "log": log, "page_size": size, "pages": pages, "next": next });
    Ok((logs::stand(log, &row), json_answer(StatusCode::OK, body)).into_response())
}

fn closed_json(first: u64, page: &PageRow, seconds: u64) -> Value {
    let goes = page.closed.saturating_add(seconds.saturating_mul(1_000));
    json!({
        "first": first,
        "end": page.end,
        "records": page.end.saturating_sub(first),
        "opened": page.opened,
        "closed": page.closed,
        "goes": (seconds > 0).then_some(goes),
    })
}

/// The page that is open, as far as it is kept.
fn open(row: &LogRow) -> Option<(u64, Value)> {
    let first = row.paging.first.max(row.start);
    (row.paging.takes > 0 && first < row.head).then(|| {
        let page = json!({
            "first": first,
            "end": row.head,
            "records": row.head - first,
            "opened": row.paging.opened,
            "closed": null,
            "goes": null,
        });
        (first, page)
    })
}
