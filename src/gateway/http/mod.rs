//! HTTP for back ends, scripts and operators: the addresses of `docs/http.md`.
//!
//! Promise: what holds for sockets holds here. Who asks is known and may, before anything is read;
//! requests, bodies and pages are bounded; refusals have the codes and words of the protocol. An
//! answer that has begun is whole or breaks off; it never leaves something out in silence.

mod answer;
mod append;
mod body;
mod caller;
mod connections;
mod guard;
mod health;
mod line;
mod logs;
mod metrics;
mod notify;
mod query;
mod read;
mod reading;
mod revocations;
mod sending;
mod shared;
mod snapshots;

pub use metrics::Counters;
pub use shared::Shared;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Router, http};

use super::Gate;
use crate::wire::{Code, Refusal};
use answer::Problem;

pub(super) use guard::{is_local, same_origin};
pub(super) use revocations::close_revoked;

/// All addresses but `/v1/connect`, with a word for those that are none.
pub fn router(gate: Arc<Gate>) -> Router {
    let admitted = api().layer(from_fn_with_state(Arc::clone(&gate), guard::admit));
    Router::new()
        // An operator looks at these when all room is taken.
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .merge(admitted)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(from_fn_with_state(Arc::clone(&gate), guard::check_origin))
        .layer(from_fn(guard::linger))
        .layer(from_fn_with_state(Arc::clone(&gate), metrics::count))
        .with_state(gate)
}

fn api() -> Router<Arc<Gate>> {
    let log = get(read::get).head(logs::head).post(append::post).delete(logs::delete);
    let revocations = get(revocations::list).post(revocations::add).delete(revocations::remove);
    Router::new()
        .route("/v1/logs", get(logs::list))
        .route("/v1/logs/{*name}", log)
        .route("/v1/writers/{id}/retire", post(logs::retire))
        .route("/v1/snapshots/{*name}", get(snapshots::get).put(snapshots::put))
        .route("/v1/connections", get(connections::list))
        .route("/v1/connections/{id}", get(connections::show).delete(connections::forget))
        .route("/v1/connections/{id}/downgrade", post(connections::downgrade))
        .route("/v1/connections/{id}/subscribe", post(connections::subscribe))
        .route("/v1/connections/{id}/unsubscribe", post(connections::unsubscribe))
        .route("/v1/connections/{id}/seek", post(connections::seek))
        .route("/v1/users/{user}/subscribe", post(connections::subscribe_user))
        .route("/v1/users/{user}/unsubscribe", post(connections::unsubscribe_user))
        .route("/v1/users/{user}/notify", post(notify::notify_user))
        .route("/v1/notify", post(notify::notify))
        .route("/v1/revocations", revocations)
}

async fn nothing_here(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(100).collect();
    Refusal::because(Code::NotFound, format!("there is nothing at {path}: see docs/http.md")).into()
}

async fn wrong_method() -> Problem {
    let refusal = Refusal::because(Code::BadRequest, "this address has no such method");
    Problem::from(refusal).status(http::StatusCode::METHOD_NOT_ALLOWED.as_u16())
}

/// A refusal as a response; it is counted.
pub(super) fn refuse(gate: &Gate, refusal: &Refusal) -> Response<Body> {
    gate.hub.refusals().count(refusal.code);
    Problem::from(refusal.clone()).into_response()
}
