//! Who asks, and about which log: extractors that check before a handler runs.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::answer::Problem;
use crate::auth::{Can, Grants};
use crate::gateway::Gate;
use crate::wire::{Code, Id, Refusal, name};

/// The one whose token came with the request.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub Grants);

impl FromRequestParts<Arc<Gate>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, gate: &Arc<Gate>) -> Result<Self, Problem> {
        let token = bearer(&parts.headers)?;
        let grants = gate.authority.authenticate(token, gate.now()).map_err(Refusal::from)?;
        Ok(Self(grants))
    }
}

/// The token of `Authorization: Bearer`; none where there is no such header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), more) = (values.next(), values.next()) else { return Ok(None) };
    let parts = value.to_str().ok().and_then(|value| value.split_once(' '));
    match parts {
        Some((scheme, token)) if more.is_none() && scheme.eq_ignore_ascii_case("bearer") => {
            Ok(Some(token.trim()))
        }
        _ => {
            let message = "write one header Authorization: Bearer TOKEN";
            Err(Refusal::because(Code::Unauthorized, message).into())
        }
    }
}

impl Caller {
    /// Demands a right on a log.
    ///
    /// # Errors
    /// `denied`.
    pub(super) fn must(&self, can: Can, log: &str) -> Result<(), Problem> {
        if self.0.allows(log, can) {
            return Ok(());
        }
        let message = format!("no grant of the token allows {} on {log}", can.name());
        Err(Refusal::because(Code::Denied, message).into())
    }

    /// Demands the right to operate what is no log.
    ///
    /// # Errors
    /// `denied`.
    pub(super) fn must_administer(&self) -> Result<(), Problem> {
        if self.0.administers_all() {
            return Ok(());
        }
        let message = "this takes a grant of admin on **";
        Err(Refusal::because(Code::Denied, message).into())
    }

    /// Whether the token still counts.
    ///
    /// # Errors
    /// `token_expired` or `revoked`.
    pub(super) fn recheck(&self, gate: &Gate) -> Result<(), Problem> {
        let checked = gate.authority.recheck(&self.0, gate.now());
        checked.map_err(|error| Refusal::from(error).into())
    }
}

/// The text of a path's only parameter.
async fn parameter(parts: &mut Parts) -> Result<String, Problem> {
    let path = Path::<String>::from_request_parts(parts, &()).await;
    path.map(|Path(text)| text).map_err(|_| Problem::bad_request("the address is no UTF-8"))
}

/// A checked name of a log, from the path.
#[derive(Clone, Debug)]
pub(super) struct LogName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for LogName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let name = parameter(parts).await?;
        name::check(&name).map_err(|_| Code::BadName)?;
        Ok(Self(name))
    }
}

/// A name of a log from the path that a writer's appends may be refused for, so it is not checked.
#[derive(Clone, Debug)]
pub(super) struct LooseName(pub String);

impl<S: Send + Sync> FromRequestParts<S> for LooseName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parameter(parts).await.map(Self)
    }
}

/// An identity, from the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathId(pub Id);

impl<S: Send + Sync> FromRequestParts<S> for PathId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let text = parameter(parts).await?;
        text.parse().map(Self).map_err(|error| Problem::bad_request(format!("{error}")))
    }
}

/// A user, from the path.
#[derive(Clone, Debug)]
pub(super) struct PathUser(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let user = parameter(parts).await?;
        if crate::auth::is_user(&user) {
            return Ok(Self(user));
        }
        Err(Problem::bad_request("a user has 1 to 128 bytes and no control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(values: &[&str]) -> Result<Option<String>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers)
            .map(|token| token.map(str::to_owned))
            .map_err(|problem| problem.refusal.code)
    }

    #[test]
    fn a_token_comes_as_bearer_or_not_at_all() {
        assert_eq!(token(&[]), Ok(None));
        assert_eq!(token(&["Bearer abc"]), Ok(Some("abc".to_owned())));
        assert_eq!(token(&["bearer  abc "]), Ok(Some("abc".to_owned())));
        for bad in [&["Basic abc"][..], &["abc"], &["Bearer a", "Bearer b"], &[""]] {
            assert_eq!(token(bad), Err(Code::Unauthorized), "{bad:?}");
        }
    }
}
