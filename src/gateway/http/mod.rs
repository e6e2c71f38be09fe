//! HTTP beside the sockets. Not built yet: refusals of handshakes only.

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Response, StatusCode};

use super::Gate;
use crate::wire::Refusal;

/// No address yet.
pub fn router(_: Arc<Gate>) -> axum::Router {
    axum::Router::new()
}

/// A refusal as a response.
pub fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::from(refusal.to_string()));
    *response.status_mut() = StatusCode::from_u16(refusal.code.status()).unwrap_or_default();
    response
}
