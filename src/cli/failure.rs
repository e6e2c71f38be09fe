//! Why a request was not answered as it should be, and whether asking again may help.
//!
//! Promise: what a proxy answers in the place of a server is told from what a server answers, by
//! its form: a refusal of Highwater is JSON with a code of its own. An answer that broke off is
//! never taken for a whole one.

use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use crate::wire::{Class, Code};

/// Longest answer that is read at once, in bytes.
const MOST_JSON: u64 = 64 << 20;
/// How the system's word for a name that leads nowhere begins; it has no kind of its own.
const NO_NAME: &str = "failed to lookup address information";

/// What a refusal says; other members are left to whoever knows them.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refused {
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub retry_after: u64,
    /// With a gap: where the log begins now.
    pub start: Option<u64>,
    pub gap: Option<Value>,
    /// With appends: how many were stored, and what became of each.
    #[serde(default)]
    pub stored: u64,
    #[serde(default)]
    pub results: Vec<RefusedResult>,
}

impl Refused {
    /// A refusal that the server did not have to say.
    pub(super) fn because(code: Code, message: String) -> Self {
        Self {
            code: code.name().to_owned(),
            message,
            retry_after: 0,
            start: None,
            gap: None,
            stored: 0,
            results: Vec::new(),
        }
    }
}

/// What became of one append.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct RefusedResult {
    pub seq: u64,
    pub code: Option<String>,
    pub message: Option<String>,
}

/// A request that was not answered as it should.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused.
    Refused(Box<Refused>),
    /// Something between here and the server answered in its place; when to come back, if it says.
    Between(StatusCode, Duration),
    /// There was no answer, or not all of it.
    Lost(String),
    /// Nobody listens there; how that showed, where it was not the plain way.
    Nobody(Option<String>),
    /// Something answers that is no Highwater server, or cannot be asked at all.
    Foreign(String),
}

impl Failure {
    /// An answer that no Highwater server gives; how that showed.
    pub(super) fn foreign(problem: impl std::fmt::Display) -> Self {
        Self::Foreign(format!(
            "answered, and not as a Highwater server does ({problem}): check the address"
        ))
    }

    /// Whether the same may be asked again, by the protocol's classes.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Nobody(_) => true,
            Self::Foreign(_) => false,
            Self::Between(status, _) => passes(*status),
            Self::Refused(refused) => match Code::from_name(&refused.code) {
                // A token does not renew itself, and a history does not come back.
                Some(Code::TokenExpired | Code::OtherHistory) => false,
                Some(code) => matches!(code.class(), Class::Transient | Class::Reconnect),
                None => false,
            },
        }
    }

    /// Whether what was asked may have been carried out all the same.
    pub(super) fn leaves_open(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            // Who answers so may have handed the request on before.
            Self::Between(status, _) => passes(*status),
            Self::Nobody(_) | Self::Foreign(_) => false,
            Self::Refused(refused) => Code::from_name(&refused.code)
                .is_some_and(|code| code == Code::Unknown || code.class() == Class::Reconnect),
        }
    }

    /// Whether the body was too large as a whole, so that less at once may get through.
    pub(super) fn is_too_much(&self) -> bool {
        match self {
            Self::Between(status, _) => *status == StatusCode::PAYLOAD_TOO_LARGE,
            // Of a record that is too large it would be said which.
            Self::Refused(refused) => {
                refused.code == Code::TooLarge.name() && refused.results.is_empty()
            }
            Self::Lost(_) | Self::Nobody(_) | Self::Foreign(_) => false,
        }
    }

    /// Whether the body may have come too slowly, so that less at once may get through.
    pub(super) fn may_be_slowness(&self) -> bool {
        match self {
            Self::Lost(_) => true,
            Self::Between(status, _) => *status == StatusCode::REQUEST_TIMEOUT,
            Self::Refused(refused) => refused.code == Code::Silent.name(),
            Self::Nobody(_) | Self::Foreign(_) => false,
        }
    }

    /// Whether somebody on the way may have given up waiting for the answer.
    pub(super) fn may_be_impatience(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::Between(..)) && self.may_pass()
    }

    /// How long whoever answered says to wait.
    pub(super) fn after(&self) -> Duration {
        match self {
            Self::Refused(refused) => Duration::from_millis(refused.retry_after),
            Self::Between(_, after) => *after,
            Self::Lost(_) | Self::Nobody(_) | Self::Foreign(_) => Duration::ZERO,
        }
    }
}

/// Whether a status of a proxy speaks of a moment, not of the request: too many requests, or a
/// server that it did not reach or lost. Those from 520 on are Cloudflare's for the same.
fn passes(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 502..=504 | 520..=524 | 527 | 530)
}

/// Why there is no answer.
pub(super) fn unanswered(error: ureq::Error) -> Failure {
    let nobody = |problem: &str| Failure::Nobody(Some(problem.to_owned()));
    match error {
        ureq::Error::Io(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Failure::Nobody(None),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => {
                nobody(&format!("no way leads there ({error}); check the address and the network"))
            }
            // So TLS says that the other side speaks something else, or who it is.
            io::ErrorKind::InvalidData => Failure::Foreign(format!(
                "no TLS with what is there ({error}): check the address, and http or https"
            )),
            _ if error.to_string().starts_with(NO_NAME) => {
                nobody(&format!("{error}; check the host's name"))
            }
            _ => Failure::Lost(error.to_string()),
        },
        ureq::Error::HostNotFound => nobody("there is no host of that name"),
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            nobody("nothing answers there; check the address")
        }
        ureq::Error::Protocol(problem) => Failure::foreign(problem),
        ureq::Error::Tls(problem) => Failure::Foreign(problem.to_owned()),
        ureq::Error::Rustls(problem) => Failure::Foreign(problem.to_string()),
        ureq::Error::BadUri(problem) => Failure::Foreign(problem),
        ureq::Error::Http(problem) => Failure::Foreign(problem.to_string()),
        other => Failure::Lost(other.to_string()),
    }
}

/// Sorts what came back: an answer, a refusal, or nothing to go by.
pub(super) fn answered(
    result: Result<Response<Body>, ureq::Error>,
) -> Result<Response<Body>, Failure> {
    let response = result.map_err(unanswered)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let after = retry_after(&response);
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    let between = passes(status) || status == StatusCode::PAYLOAD_TOO_LARGE;
    let refused = serde_json::from_slice::<Refused>(&body).ok();
    // Other programs have codes too.
    let ours = |refused: &Refused| !between || Code::from_name(&refused.code).is_some();
    Err(match refused.filter(ours) {
        Some(refused) => Failure::Refused(Box::new(refused)),
        None if between => Failure::Between(status, after),
        None => Failure::foreign(status),
    })
}

/// What `Retry-After` says in seconds; a date is left to those with a clock to trust.
fn retry_after(response: &Response<Body>) -> Duration {
    let told = response.headers().get(header::RETRY_AFTER).and_then(|told| told.to_str().ok());
    told.and_then(|told| told.trim().parse().ok()).map_or(Duration::ZERO, Duration::from_secs)
}

/// Reads an answer of JSON.
pub(super) fn read_json<T: DeserializeOwned>(response: Response<Body>) -> Result<T, Failure> {
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| {
        // A proxy that asks by HTTP/1.0 may pass on a part for the whole.
        if error.is_eof() && !body.is_empty() {
            return Failure::Lost(format!("the answer broke off after {} bytes", body.len()));
        }
        Failure::foreign(error)
    })
}

/// A number that an answer tells in a header.
pub(super) fn number(response: &Response<Body>, name: &str) -> Result<u64, Failure> {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Failure::foreign(format_args!("{name} is missing")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str) -> Failure {
        let text = format!(r#"{{"code":"{code}","message":"m","retry_after":1}}"#);
        Failure::Refused(serde_json::from_str(&text).unwrap())
    }

    fn said(status: u16, body: &str) -> Failure {
        let response = Response::builder().status(status).header("Retry-After", "7");
        answered(Ok(response.body(Body::builder().data(body.to_owned())).unwrap())).unwrap_err()
    }

    #[test]
    fn where_no_way_leads_is_nobody() {
        for kind in [
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::HostUnreachable,
            io::ErrorKind::NetworkUnreachable,
        ] {
            let failure = unanswered(ureq::Error::Io(kind.into()));
            assert!(matches!(failure, Failure::Nobody(_)), "{kind:?}: {failure:?}");
        }
        let cut = unanswered(ureq::Error::Io(io::ErrorKind::ConnectionReset.into()));
        assert!(matches!(cut, Failure::Lost(_)), "{cut:?}");
    }

    #[test]
    fn only_what_was_on_its_way_may_have_been_done() {
        for code in ["unknown_outcome", "shutting_down", "failed"] {
            assert!(refused(code).leaves_open(), "{code}");
        }
        for code in ["rate", "overloaded", "denied", "made_up"] {
            assert!(!refused(code).leaves_open(), "{code}");
        }
        assert!(Failure::Lost(String::new()).leaves_open());
        assert!(said(502, "").leaves_open());
        assert!(!said(413, "").leaves_open());
        assert!(!Failure::Nobody(None).leaves_open());
    }

    #[test]
    fn what_a_proxy_says_is_told_from_what_a_server_says() {
        let page = "<html>Bad Gateway</html>";
        for status in [408, 429, 502, 503, 504, 522] {
            for body in [page, "", r#"{"code":"E1","message":"m"}"#, r#"{"code":5}"#] {
                let failure = said(status, body);
                assert!(matches!(failure, Failure::Between(..)), "{status} {body}: {failure:?}");
                assert!(failure.may_pass(), "{status} {body}");
                assert_eq!(failure.after(), Duration::from_secs(7));
            }
            let ours = said(status, r#"{"code":"not_ready","message":"m","retry_after":5}"#);
            assert!(matches!(ours, Failure::Refused(_)), "{ours:?}");
            assert_eq!(ours.after(), Duration::from_millis(5));
        }
        for status in [301, 401, 403, 404, 500] {
            let failure = said(status, page);
            assert!(matches!(failure, Failure::Foreign(_)), "{status}: {failure:?}");
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_told_from_a_record_that_is() {
        assert!(said(413, "<html>").is_too_much());
        assert!(!said(413, "<html>").may_pass());
        assert!(said(413, r#"{"code":"too_large","message":"m"}"#).is_too_much());
        let results = r#"[{"seq":3,"code":"too_large","message":"m"}]"#;
        let record = format!(r#"{{"code":"too_large","message":"m","results":{results}}}"#);
        assert!(!said(413, &record).is_too_much());
        assert!(!said(502, "").is_too_much());
    }

    #[test]
    fn half_of_an_answer_is_none() {
        let read = |body: &str| {
            let response = Response::builder().body(Body::builder().data(body.to_owned()));
            read_json::<Value>(response.unwrap()).map(drop)
        };
        assert!(read("{\"logs\":[]}").is_ok());
        assert!(matches!(read("{\"logs\":[{\"na"), Err(Failure::Lost(_))));
        assert!(matches!(read("<html>"), Err(Failure::Foreign(_))));
        assert!(matches!(read(""), Err(Failure::Foreign(_))));
    }
}
