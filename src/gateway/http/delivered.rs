//! `GET /v1/delivered/{name}`: which users have a record, as far as committed cursors say.
//!
//! Promise: asked by the right `delivered` alone, and by a token that counts when it is answered.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, json_answer};
use super::caller::{Caller, LogName};
use super::logs;
use super::query::{self, Parameters};
use super::reading::{self, Meant};
use crate::auth::Can;
use crate::connection::Having;
use crate::gateway::Gate;

/// Subscribers taken in with one look at their index.
const SLICE: usize = 256;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveredQuery {
    offset: String,
}

/// `GET /v1/delivered/{name}`: `offset` is the record's.
pub(super) async fn get(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    caller: Caller,
    meant: Meant,
    Parameters(asked): Parameters<DeliveredQuery>,
) -> Answer {
    caller.must(Can::Delivered, &name)?;
    let offset = query::offset("offset", &asked.offset)?;
    let (log, row) = meant.named(&gate, &name).await?;
    Having::judge(offset, Some(&row))?;
    let most = gate.limits.subscribers_looked_at as usize;
    let looked = reading::look(&gate, move |store| {
        let mut having = Having::new(log, offset, most);
        while !store.having(&mut having, SLICE)? {}
        store.settled();
        Ok((having, store.log_row(log)?))
    });
    let (having, row) = looked.await?;
    // It may have been trimmed or deleted while the subscribers were looked at.
    Having::judge(offset, row.as_ref()).map_err(|refusal| meant.gone(refusal.into()))?;
    caller.recheck(&gate)?;
    let (users, more) = having.named();
    let body = json!({ "name": name, "log": log, "offset": offset, "users": users, "more": more });
    let stand = row.map(|row| logs::stand(log, &row));
    Ok((stand, json_answer(StatusCode::OK, body)).into_response())
}
