//! Answers: JSON that was asked for, or a refusal with its status.
//!
//! Every refusal has the form `{"code", "message", "retry_after"}`, the status of its code and,
//! where waiting helps, a `Retry-After` in whole seconds, rounded up.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::rows::RowsError;
use crate::wire::{Code, Refusal};

/// What a handler comes to.
pub(super) type Answer = Result<Response, Problem>;

/// A refusal on its way out, with what else the caller should know.
#[derive(Debug, Clone)]
pub(super) struct Problem {
    pub refusal: Refusal,
    status: Option<u16>,
    more: Map<String, Value>,
}

impl Problem {
    /// The request breaks a rule; the message says which.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Refusal::because(Code::BadRequest, message).into()
    }

    /// Another status than the code's own.
    pub(super) const fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Another member of the body.
    pub(super) fn with(mut self, name: &str, value: impl Serialize) -> Self {
        self.more.insert(name.to_owned(), json!(value));
        self
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, status: None, more: Map::new() }
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Refusal::new(code).into()
    }
}

impl From<RowsError> for Problem {
    fn from(error: RowsError) -> Self {
        // What is wrong with the storage is for the node's log, not for whoever asked.
        tracing::error!(%error, "a read for an HTTP request failed");
        Code::Failed.into()
    }
}

/// Seconds that hold so many milliseconds.
pub(super) const fn whole_seconds(milliseconds: u32) -> u32 {
    milliseconds.div_ceil(1_000)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { refusal, status, more } = self;
        let Refusal { code, message, retry_after } = refusal;
        let status = StatusCode::from_u16(status.unwrap_or(code.status()))
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({ "code": code, "message": message, "retry_after": retry_after });
        if let Some(object) = body.as_object_mut() {
            object.extend(more);
        }
        let mut response = (status, Json(body)).into_response();
        let out = response.headers_mut();
        if retry_after > 0 {
            out.insert(header::RETRY_AFTER, whole_seconds(retry_after).into());
        }
        if status == StatusCode::UNAUTHORIZED {
            out.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(code);
        response
    }
}

/// A JSON answer with a status.
pub(super) fn json_answer(status: StatusCode, body: impl Serialize) -> Response {
    (status, Json(body)).into_response()
}

/// An object with another member.
pub(super) fn with(mut object: Value, name: &str, value: impl Serialize) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), json!(value));
    }
    object
}

/// A refusal inside an answer that tells of many things.
pub(super) fn refusal_json(refusal: &Refusal) -> Value {
    let Refusal { code, message, retry_after } = refusal;
    json!({ "code": code, "message": message, "retry_after": retry_after })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    async fn shown(problem: Problem) -> (u16, HeaderMap, Value) {
        let response = problem.into_response();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, headers, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_refusal_has_its_codes_status_and_time() {
        let refusal = Refusal::because(Code::Rate, "slower").after(1_001);
        let (status, headers, body) = shown(refusal.into()).await;
        assert_eq!(status, 429);
        assert_eq!(headers["retry-after"], "2");
        assert_eq!(body, json!({"code": "rate", "message": "slower", "retry_after": 1001}));
    }

    #[tokio::test]
    async fn more_members_and_another_status() {
        let problem = Problem::from(Code::BadOffset).status(410).with("start", 7);
        let (status, headers, body) = shown(problem).await;
        assert_eq!((status, &body["start"]), (410, &json!(7)));
        assert!(!headers.contains_key("retry-after"));
    }

    #[tokio::test]
    async fn every_code_has_a_status_that_http_knows() {
        for code in Code::ALL {
            let (status, headers, body) = shown((*code).into()).await;
            assert_eq!(status, code.status());
            assert!((400..600).contains(&status), "{code}");
            assert_eq!(body["code"], code.name());
            assert_eq!(headers.contains_key("www-authenticate"), status == 401, "{code}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        assert_eq!([0, 1, 1_000, 1_001, u32::MAX].map(whole_seconds), [0, 1, 1, 2, 4_294_968]);
    }
}
