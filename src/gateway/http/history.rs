//! Which history a request speaks of: the position that it states, and the one that it is told.
//!
//! Promise: whoever states a position that is not in this node's history is refused before anything
//! is read or done for it; every other answer tells a position to state next time.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts as _, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Problem;
use super::caller::Caller;
use super::reading;
use super::route::POSITION;
use crate::fold::Command;
use crate::gateway::Gate;
use crate::log::era::Judged;
use crate::wire::{Code, Position, Refusal};

/// What whoever asks over HTTP does then; a socket's client is told otherwise.
const OTHER_HISTORY: &str = "this server's history lacks what you have seen, as after a restored \
                             backup, and nothing was read or done: drop what you hold, read on \
                             from the start without highwater-position and highwater-log, and send \
                             those that these answers tell from then on";
/// How long a node may take to fold what the journal holds before it says that it cannot judge.
const LOOK_TIME: Duration = Duration::from_secs(5);
/// When whoever was told so may ask again, in milliseconds.
const NOT_READY_AFTER: u32 = 500;

/// Holds a request to the history that it states, and tells where this node's stands.
pub(super) async fn keep(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let mut response = match held(&gate, &mut parts).await {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    };
    if response.extensions().get() == Some(&Code::OtherHistory) {
        // Whoever keeps the newest one that it was told would go on here at its old offset.
        return response;
    }
    // Taken after the answer was made, so that it is not behind what the answer shows.
    let told = gate.hub.position();
    let told = told.and_then(|told| HeaderValue::from_str(&told.to_string()).ok());
    if let Some(told) = told {
        response.headers_mut().insert(HeaderName::from_static(POSITION), told);
    }
    response
}

async fn held(gate: &Arc<Gate>, parts: &mut Parts) -> Result<(), Problem> {
    let Some(stated) = stated(&parts.headers)? else { return Ok(()) };
    // Nobody else makes this node look.
    let Caller(grants) = Caller::from_request_parts(parts, gate).await?;
    judge(gate, &grants.user, stated).await
}

fn stated(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(POSITION) else { return Ok(None) };
    let stated = value.to_str().ok().and_then(|text| text.parse().ok());
    let wrong = || Problem::bad_request(format!("{POSITION}: {}", crate::wire::BadPosition));
    stated.map(Some).ok_or_else(wrong)
}

/// Whether a position is in this node's history.
///
/// # Errors
/// `other_history`; `not_ready` when this node does not get to the journal's end in time; `rate`.
async fn judge(gate: &Gate, user: &str, stated: Position) -> Result<(), Problem> {
    // What was folded here and is in this history stays in it, however far this node is behind.
    if stated.shard() != 0 || known(gate, stated).await? {
        return Ok(());
    }
    // It may be of a batch that this node has yet to fold.
    catch_up(gate, user).await?;
    if known(gate, stated).await? {
        return Ok(());
    }
    Err(Refusal::because(Code::OtherHistory, OTHER_HISTORY).into())
}

/// Folds on to where the journal ended when this was asked: only then can be said that something
/// is not there. It costs what an append does.
///
/// # Errors
/// `not_ready` when that takes too long; `rate`; the refusal of a node that is busy.
pub(super) async fn catch_up(gate: &Gate, user: &str) -> Result<(), Problem> {
    gate.admission.rates.check(user, 1)?;
    let look = gate.hand(Command::Look, 0)?;
    if matches!(tokio::time::timeout(LOOK_TIME, look).await, Ok(Ok(_))) {
        return Ok(());
    }
    let message = "this node is catching up, and cannot say yet what is not there";
    Err(Refusal::because(Code::NotReady, message).after(NOT_READY_AFTER).into())
}

/// Whether a position is in the history, as far as this node has folded and told it.
async fn known(gate: &Gate, stated: Position) -> Result<bool, Problem> {
    // One that is being told is durable.
    let newest = gate.hub.position().map_or(0, |newest| newest.batch);
    let head = newest.max(*gate.hub.told().borrow());
    match gate.hub.eras().judge(&stated, head) {
        Judged::Ours => Ok(true),
        Judged::Other => Ok(false),
        Judged::If(tag) => {
            let row = reading::look(gate, move |store| store.places(stated.batch)).await?;
            Ok(row.is_none_or(|row| row.chain == tag))
        }
    }
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
