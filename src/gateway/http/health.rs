//! `/healthz` and `/readyz`: whether the process answers, and whether clients may come.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::answer::{Answer, Problem, json_answer};
use crate::gateway::Gate;
use crate::wire::{Code, Refusal};

/// `GET /healthz`: it answers, so it is alive.
pub(super) async fn alive() -> Response {
    json_answer(StatusCode::OK, json!({ "alive": true }))
}

/// `GET /readyz`.
pub(super) async fn ready(State(gate): State<Arc<Gate>>) -> Answer {
    match readiness(&gate) {
        Ok(()) => Ok(json_answer(StatusCode::OK, json!({ "ready": true }))),
        // Load balancers know one status for this, whatever the code's own is.
        Err(refusal) => Err(Problem::from(refusal).status(503).with("ready", false)),
    }
}

/// Whether clients may come.
///
/// # Errors
/// The refusal that they would get.
pub(super) fn readiness(gate: &Gate) -> Result<(), Refusal> {
    if gate.admission.shed.draining() {
        return Err(Code::Draining.into());
    }
    gate.admission.shed.check()
}
