//! A server as commands see it: requests, their refusals, and how long to keep trying.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::error::CliError;
use crate::wire::{Class, Code};

/// How long a command keeps trying without getting anywhere.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between tries where the server did not say: from here, doubled up to there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Longest silence of a server before it counts as gone; longer than the longest wait that is
/// asked for.
const SILENCE: Duration = Duration::from_secs(90);
/// Longest answer that is read at once, in bytes.
const MOST_JSON: u64 = 64 << 20;

/// Which server, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    /// The server
    #[arg(
        long,
        value_name = "URL",
        env = "HIGHWATER_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    pub server: String,
    /// The token; a server in development needs none
    #[arg(long, env = "HIGHWATER_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
}

/// What a refusal says; other members are left to whoever knows them.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Refused {
    pub code: String,
    pub message: String,
    #[serde(default)]
    pub retry_after: u64,
    /// With a gap: where the log begins now.
    pub start: Option<u64>,
    pub gap: Option<serde_json::Value>,
    /// With appends: how many were stored, and what became of each.
    #[serde(default)]
    pub stored: u64,
    #[serde(default)]
    pub results: Vec<RefusedResult>,
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
    /// There was no answer, or not all of it.
    Lost(String),
    /// Nobody listens there; how that showed, where it was not the plain way.
    Nobody(Option<String>),
    /// Something answers that is no Highwater server, or cannot be asked at all.
    Foreign(String),
}

impl Failure {
    /// Whether the same may be asked again, by the protocol's classes.
    fn may_pass(&self) -> bool {
        match self {
            Self::Lost(_) | Self::Nobody(_) => true,
            Self::Foreign(_) => false,
            Self::Refused(refused) => match Code::from_name(&refused.code) {
                // A token does not renew itself.
                Some(Code::TokenExpired) => false,
                Some(code) => matches!(code.class(), Class::Transient | Class::Reconnect),
                None => false,
            },
        }
    }
}

/// The server that commands talk to.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Client {
    /// A client for that server; nothing is asked yet.
    ///
    /// # Errors
    /// When the address is none.
    pub(super) fn new(args: &ServerArgs) -> Result<Self, CliError> {
        let base = args.server.trim_end_matches('/').to_owned();
        let wrong = || {
            let server = &args.server;
            CliError::Usage(format!("--server {server}: write http://HOST:PORT or https://HOST"))
        };
        let uri: ureq::http::Uri = base.parse().map_err(|_| wrong())?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https")) && uri.query().is_none();
        let Some(host) = uri.host().filter(|_| plain) else { return Err(wrong()) };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            // Servers close connections that nothing came over for a while.
            .max_idle_age(Duration::from_secs(5))
            .max_redirects(0)
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")));
        if matches!(host, "localhost" | "127.0.0.1" | "[::1]") {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), base, token: args.token.clone() })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Asks for what is at a path, query included.
    pub(super) fn get(&self, path: &str) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.get(self.url(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("Authorization", bearer);
        }
        answered(request.call())
    }

    /// Sends something to a path.
    pub(super) fn post(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, Failure> {
        let mut request = self.agent.post(self.url(path)).header("Content-Type", content_type);
        if let Some(bearer) = self.bearer() {
            request = request.header("Authorization", bearer);
        }
        answered(request.send(body))
    }

    /// Asks until there is an answer, patience is at its end, or asking again is no use. Who finds
    /// nobody there at the first try does not wait, unless `met` says that there was a server.
    pub(super) fn insist<T>(
        &self,
        met: bool,
        mut ask: impl FnMut(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut since = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let failure = match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let first = since.is_none() && !met;
            if !failure.may_pass() || (first && matches!(failure, Failure::Nobody(_))) {
                return Err(failure);
            }
            let began = *since.get_or_insert_with(Instant::now);
            let told = match &failure {
                Failure::Refused(refused) => Duration::from_millis(refused.retry_after),
                _ => Duration::ZERO,
            };
            // A rate passes by itself, so that waiting it out is getting somewhere.
            let rate = matches!(&failure, Failure::Refused(refused) if refused.code == "rate");
            if !rate && began.elapsed() > PATIENCE {
                return Err(failure);
            }
            let jitter = rand::random_range(0.5..1.0);
            std::thread::sleep(if told.is_zero() { pause.mul_f64(jitter) } else { told });
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The failure in words, with what to do.
    pub(super) fn explain(&self, failure: Failure) -> CliError {
        let base = &self.base;
        match failure {
            Failure::Nobody(Some(problem)) => {
                CliError::Unreachable(format!("no server at {base}: {problem}"))
            }
            Failure::Nobody(None) => CliError::Unreachable(format!(
                "no server at {base}: start one with `highwater serve --dev`, or name another with \
                 --server or HIGHWATER_URL"
            )),
            Failure::Lost(problem) => {
                CliError::Unreachable(format!("contact with {base} was lost: {problem}"))
            }
            Failure::Foreign(problem) => CliError::Failed(format!("{base}: {problem}")),
            Failure::Refused(refused) => {
                let Refused { code, message, .. } = *refused;
                let help = match (code.as_str(), &self.token) {
                    ("unauthorized", None) => "; give one with --token or HIGHWATER_TOKEN",
                    ("token_expired" | "revoked" | "unauthorized", Some(_)) => {
                        "; give another with --token or HIGHWATER_TOKEN"
                    }
                    _ => "",
                };
                CliError::Failed(format!("{code}: {message}{help}"))
            }
        }
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// What was refused, in words.
    pub(super) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let ask = |client: &Self| read_json(client.get(path)?);
        self.insist(false, ask).map_err(|failure| self.explain(failure))
    }
}

/// Sorts what came back: an answer, a refusal, or nothing to go by.
fn answered(result: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
    let response = result.map_err(|error| match error {
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            Failure::Nobody(None)
        }
        ureq::Error::HostNotFound => {
            Failure::Nobody(Some("there is no host of that name".to_owned()))
        }
        ureq::Error::Timeout(ureq::Timeout::Connect) => {
            Failure::Nobody(Some("nothing answers there".to_owned()))
        }
        ureq::Error::Tls(problem) => Failure::Foreign(problem.to_owned()),
        ureq::Error::Rustls(problem) => Failure::Foreign(problem.to_string()),
        ureq::Error::BadUri(problem) => Failure::Foreign(problem),
        ureq::Error::Http(problem) => Failure::Foreign(problem.to_string()),
        other => Failure::Lost(other.to_string()),
    })?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    Err(match serde_json::from_slice(&body) {
        Ok(refused) => Failure::Refused(Box::new(refused)),
        Err(_) => Failure::Foreign(format!(
            "answered {status}, and not as a Highwater server does: check the address"
        )),
    })
}

/// Reads an answer of JSON.
pub(super) fn read_json<T: DeserializeOwned>(response: Response<Body>) -> Result<T, Failure> {
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::Foreign(format!("the answer cannot be understood: {error}")))
}

/// A number that an answer tells in a header.
pub(super) fn number(response: &Response<Body>, name: &str) -> Result<u64, Failure> {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Failure::Foreign(format!("the answer lacks {name}: check the address")))
}

/// Text as a part of a query.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Reads an argument that names a log.
pub(super) fn log_name(text: &str) -> Result<String, String> {
    crate::wire::name::check(text).map(str::to_owned).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn client(server: &str) -> Result<Client, CliError> {
        Client::new(&ServerArgs { server: server.to_owned(), token: None })
    }

    fn refused(code: &str) -> Failure {
        let text = format!(r#"{{"code":"{code}","message":"m","retry_after":1}}"#);
        Failure::Refused(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn an_address_is_checked() {
        assert_eq!(client("http://127.0.0.1:80/").unwrap().url("/v1"), "http://127.0.0.1:80/v1");
        assert_eq!(client("https://a.example/x").unwrap().url("/v1"), "https://a.example/x/v1");
        for bad in ["", "127.0.0.1:80", "ftp://a", "http://", "a b", "http://a?b"] {
            assert!(matches!(client(bad), Err(CliError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn what_may_pass_is_asked_again_and_nothing_else() {
        let client = client("http://127.0.0.1:1").unwrap();
        for (code, tries) in [
            ("rate", 3),
            ("overloaded", 3),
            ("shutting_down", 3),
            ("denied", 1),
            ("token_expired", 1),
            ("made_up", 1),
        ] {
            let asked = Cell::new(0);
            let outcome = client.insist(false, |_| {
                asked.set(asked.get() + 1);
                if asked.get() < 3 { Err(refused(code)) } else { Ok(()) }
            });
            assert_eq!((asked.get(), outcome.is_ok()), (tries, tries == 3), "{code}");
        }
    }

    #[test]
    fn nobody_there_is_told_at_once_but_not_once_met() {
        let client = client("http://127.0.0.1:1").unwrap();
        let asked = Cell::new(0);
        let ask = |_: &Client| {
            asked.set(asked.get() + 1);
            if asked.get() % 2 == 1 { Err(Failure::Nobody(None)) } else { Ok(()) }
        };
        let failure = client.insist(false, ask).unwrap_err();
        let text = client.explain(failure).told().unwrap();
        assert!(text.contains("highwater serve --dev"), "{text}");
        asked.set(0);
        client.insist(true, ask).unwrap();
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn queries_are_quoted() {
        assert_eq!(quoted("a/b ä&~"), "a%2Fb%20%C3%A4%26~");
    }
}
