//! `/v1/revocations`: users and tokens that no longer count.
//!
//! They are commands of the fold, so every node learns of them with their batch, and they are there
//! after a restart. The node that is asked does not wait for that: there they are in force at once.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Problem, json_answer};
use super::caller::Caller;
use super::query::{self, Parameters};
use super::{guard, logs, reading, sending};
use crate::admission::close_revoked;
use crate::auth::{Full, Revocation, is_user};
use crate::fold::{Command, Reply};
use crate::gateway::Gate;
use crate::wire::{Code, MAX_OFFSET, Refusal, Whom};

/// Longest name of a token: its `jti`, or its hash.
const MAX_TOKEN_NAME_BYTES: usize = 255;
/// Revocations in one page of the list.
const PAGE: usize = 1_000;

/// What is wanted, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    user: Option<String>,
    token: Option<String>,
    before: Option<u64>,
}

/// Whose revocation is taken back: it goes as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    user: Option<String>,
    token: Option<String>,
}

/// Who is meant, checked.
fn whom(user: Option<String>, token: Option<String>) -> Result<Whom, Problem> {
    match (user, token) {
        (Some(user), None) if is_user(&user) => Ok(Whom::User(user)),
        (None, Some(token)) if (1..=MAX_TOKEN_NAME_BYTES).contains(&token.len()) => {
            Ok(Whom::Token(token))
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(Problem::bad_request("name a user or a token, one of them"))
        }
        (Some(_), None) => {
            Err(Problem::bad_request("a user has 1 to 128 bytes and no control characters"))
        }
        (None, Some(_)) => {
            let message = "a token is named by its jti, or by the id that `highwater token \
                               check` prints: at most 255 bytes";
            Err(Problem::bad_request(message))
        }
    }
}

/// `POST /v1/revocations`: in force here at once, matching sockets are closed, then it is made
/// durable and known everywhere.
pub(super) async fn add(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let AddBody { user, token, before } = reading::json(&arrived.bytes)?;
    // A token made in this very millisecond is meant too.
    let before_ms = before.unwrap_or(gate.now() + 1);
    if before_ms > MAX_OFFSET {
        return Err(Problem::bad_request("before: milliseconds since 1970, at most 2^53-1"));
    }
    let whom = whom(user, token)?;
    let full = |full: Full| Refusal::because(Code::Overloaded, full.to_string());
    let revocation = Revocation { whom: whom.clone(), before_ms };
    gate.authority.revocations().add(revocation).map_err(full)?;
    let closed = close_revoked(&gate.authority, &gate.hub);
    let command = Command::Revoke { whom: whom.clone(), before_ms };
    let decided = sending::ask(&gate, command, whom.name().len()).await;
    match decided.map_err(kept_here)? {
        Reply::Revoked(changed) => {
            let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
            let body = json!({
                "whom": whom, "before_ms": before_ms, "changed": changed, "closed": closed,
            });
            Ok(json_answer(status, body))
        }
        other => Err(logs::unexpected(&other)),
    }
}

/// What was not made durable is in force all the same: whoever asked did not ask for less.
fn kept_here(problem: Problem) -> Problem {
    let Refusal { code, message, retry_after } = problem.refusal;
    let message = format!(
        "in force on this node until it restarts, and perhaps not kept ({message}): ask again"
    );
    Refusal::because(code, message).after(retry_after).into()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/revocations`: by whom they name.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(asked): Parameters<ListQuery>,
) -> Answer {
    caller.must_administer()?;
    let limit = query::page(asked.limit.as_deref(), PAGE, PAGE)?;
    let marks = gate.http.marks.of("revocations", &caller.0.user, "");
    let after = marks.open(asked.after.as_deref())?;
    let after = after.and_then(|after| whom_of(&after));
    // By whom they name: one that comes or goes meanwhile moves no other across the mark.
    let all = gate.authority.revocations().list();
    let rest = all.iter().filter(|one| after.as_ref().is_none_or(|after| one.whom > *after));
    let page: Vec<_> = rest.clone().take(limit).collect();
    let last = page.last().filter(|_| rest.count() > limit);
    let next = last.and_then(|last| marks.seal(&position_of(&last.whom)));
    Ok(json_answer(StatusCode::OK, json!({ "revocations": page, "next": next })))
}

/// Where somebody stands in the list.
fn position_of(whom: &Whom) -> Vec<u8> {
    let kind = match whom {
        Whom::User(_) => 0,
        Whom::Token(_) => 1,
    };
    [&[kind], whom.name().as_bytes()].concat()
}

/// Who stands there.
fn whom_of(position: &[u8]) -> Option<Whom> {
    let (kind, name) = position.split_first()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some(if *kind == 0 { Whom::User(name) } else { Whom::Token(name) })
}

/// `DELETE /v1/revocations?user=` or `?token=`.
pub(super) async fn remove(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Parameters(RemoveQuery { user, token }): Parameters<RemoveQuery>,
) -> Answer {
    caller.must_administer()?;
    let whom = whom(user, token)?;
    let command = Command::Unrevoke { whom: whom.clone() };
    match sending::ask(&gate, command, whom.name().len()).await {
        Ok(_) => {}
        // One that is in force here alone, since it could not be kept.
        Err(problem) if problem.refusal.code == Code::NotFound => {
            if !gate.authority.revocations().remove(&whom) {
                return Err(problem);
            }
        }
        Err(problem) => return Err(problem),
    }
    Ok(json_answer(StatusCode::OK, json!({ "whom": whom, "removed": true })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_or_a_token_is_meant_and_not_both() {
        let meant = |text: &str| {
            let RemoveQuery { user, token } = serde_json::from_str(text).unwrap();
            whom(user, token)
        };
        assert_eq!(meant(r#"{"user":"ana"}"#).unwrap(), Whom::User("ana".to_owned()));
        assert_eq!(meant(r#"{"token":"t"}"#).unwrap(), Whom::Token("t".to_owned()));
        for bad in [r#"{}"#, r#"{"user":"a","token":"b"}"#, r#"{"user":""}"#, r#"{"token":""}"#] {
            assert_eq!(meant(bad).unwrap_err().refusal.code, Code::BadRequest, "{bad}");
        }
    }
}
