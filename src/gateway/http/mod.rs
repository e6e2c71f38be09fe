//! stub
use super::Gate; use crate::wire::Refusal; use std::sync::Arc;
pub fn router(_g: Arc<Gate>) -> axum::Router { axum::Router::new() }
pub fn refuse(_r: &Refusal) -> axum::http::Response<axum::body::Body> { todo!() }
