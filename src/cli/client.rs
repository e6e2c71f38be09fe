//! A server as commands see it: requests, their refusals, and how long to keep trying.

use std::io;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, RequestBuilder};

use super::error::CliError;
use super::kept::Kept;
use crate::node::config::environment;
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
/// What to do where a server has no such address, and is one of ours.
const OLDER: &str = "; this server is older than the command, and has nothing for it: run the \
                     program of the server's version, or put the server on this one's";
/// How the system's word for a name that leads nowhere begins; it has no kind of its own.
const NO_NAME: &str = "failed to lookup address information";

/// Which server, and as whom.
#[derive(Clone, Debug, Args)]
pub(super) struct ServerArgs {
    // Variables are read here and not by the parser, which would take them for flags that were
    // written: in its usage lines, and where two exclude each other.
    /// The server [variable: HIGHWATER_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL", global = true)]
    pub server: Option<String>,
    /// The token; a server in development needs none [variable: HIGHWATER_TOKEN]
    #[arg(long, global = true)]
    pub token: Option<String>,
}

/// Where a server in development listens.
const HERE: &str = "http://127.0.0.1:8080";

impl ServerArgs {
    /// Server and token: as the flag says, else the variable.
    fn resolved(&self) -> (String, Option<String>) {
        let variables = environment();
        let variable = |name: &str| {
            let found = variables.iter().find(|(variable, _)| variable == name);
            found.map(|(_, value)| value.clone())
        };
        let server = self.server.clone().or_else(|| variable("HIGHWATER_URL"));
        let token = self.token.clone().or_else(|| variable("HIGHWATER_TOKEN"));
        (server.unwrap_or_else(|| HERE.to_owned()), token)
    }
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
            Self::Nobody(_) | Self::Foreign(_) => false,
            Self::Refused(refused) => Code::from_name(&refused.code)
                .is_some_and(|code| code == Code::Unknown || code.class() == Class::Reconnect),
        }
    }
}

/// The server that commands talk to.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
    /// How long it keeps trying without getting anywhere.
    pub(super) patience: Duration,
}

impl Client {
    /// A client for that server; nothing is asked yet.
    ///
    /// # Errors
    /// When the address or the token is none.
    pub(super) fn new(args: &ServerArgs) -> Result<Self, CliError> {
        let (server, bearer) = args.resolved();
        let (base, here) = address(&server)?;
        let token = token(bearer.as_deref())?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            // Servers close connections that nothing came over for a while.
            .max_idle_age(Duration::from_secs(5))
            .max_redirects(0)
            .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")));
        if here {
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().new_agent(), base, token, patience: PATIENCE })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn bearer(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("Bearer {token}"))
    }

    /// Asks for what is at a path, query included.
    pub(super) fn get(&self, path: &str) -> Result<Response<Body>, Failure> {
        self.get_kept(path, &Kept::default())
    }

    /// Asks for what is at a path, in a log and a history.
    pub(super) fn get_kept(&self, path: &str, kept: &Kept) -> Result<Response<Body>, Failure> {
        answered(self.said(self.agent.get(self.url(path)), kept).call())
    }

    /// Sends something to a path.
    pub(super) fn post(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Response<Body>, Failure> {
        self.post_kept(path, content_type, body, &Kept::default())
    }

    /// Sends something to a path, for a log and a history.
    pub(super) fn post_kept(
        &self,
        path: &str,
        content_type: &str,
        body: &[u8],
        kept: &Kept,
    ) -> Result<Response<Body>, Failure> {
        let request = self.agent.post(self.url(path)).header("Content-Type", content_type);
        answered(self.said(request, kept).send(body))
    }

    /// The request with who asks, and what is kept to.
    fn said<B>(&self, request: RequestBuilder<B>, kept: &Kept) -> RequestBuilder<B> {
        let bearer = self.bearer().map(|bearer| ("Authorization", bearer));
        let headers = kept.headers().into_iter().chain(bearer);
        headers.fold(request, |request, (name, value)| request.header(name, value))
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
            if !rate && began.elapsed() > self.patience {
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
                let Refused { code, message, .. } = &*refused;
                let older = code == Code::NotFound.name() && self.is_served();
                let help = if older { OLDER } else { self.help(code) };
                let text = format!("{code}: {message}{help}");
                if Failure::Refused(refused).may_pass() {
                    // It was asked again until patience was at its end.
                    return CliError::Unreachable(format!("{text}; it has stayed so for a minute"));
                }
                CliError::Failed(text)
            }
        }
    }

    /// Whether a Highwater server answers under this address. All of them have a list of logs, so
    /// that one which has no address that a command asks for is older than the command.
    fn is_served(&self) -> bool {
        match self.get("/v1/logs?limit=1").and_then(read_json::<Value>) {
            Ok(list) => list.get("logs").is_some(),
            Err(Failure::Refused(refused)) => {
                Code::from_name(&refused.code).is_some_and(|code| code != Code::NotFound)
            }
            Err(_) => false,
        }
    }

    /// What to do about a refusal, where the server cannot know it.
    fn help(&self, code: &str) -> &'static str {
        match (code, &self.token) {
            ("unauthorized", None) => "; give one with --token or HIGHWATER_TOKEN",
            ("token_expired" | "revoked" | "unauthorized", Some(_)) => {
                "; give another with --token or HIGHWATER_TOKEN"
            }
            ("not_found", _) => "; check --server or HIGHWATER_URL",
            ("unknown_log", _) => "; `highwater logs` lists logs, `highwater create` makes one",
            ("unknown_connection", _) => "; `highwater connections list` lists those there are",
            ("bad_offset", _) => {
                "; --from start begins with the first record that is kept, --from end waits at the \
                 head"
            }
            ("origin", _) => {
                "; a server with --dev is reached as 127.0.0.1 or localhost, and by no other name"
            }
            _ => "",
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

/// Reads the address of a server: without a slash at its end, and whether it is on this machine.
fn address(text: &str) -> Result<(String, bool), CliError> {
    let wrong = |problem: &str| {
        CliError::Usage(format!(
            "{problem}: write http://HOST:PORT or https://HOST in --server or HIGHWATER_URL"
        ))
    };
    let base = text.trim_end_matches('/');
    let uri = base.parse::<Uri>().ok().filter(|uri| uri.query().is_none());
    let uri = uri.filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    let authority = uri.as_ref().and_then(Uri::authority);
    let Some(authority) = authority.filter(|authority| !authority.host().is_empty()) else {
        return Err(wrong(&format!("{text:?} is not the address of a server")));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("a server is asked with a token, not with a name and a password"));
    }
    let host = authority.host();
    if authority.as_str() != host && authority.port_u16().is_none() {
        return Err(wrong(&format!("{text:?} has a port that is none")));
    }
    Ok((base.to_owned(), matches!(host, "localhost" | "127.0.0.1" | "[::1]")))
}

/// Reads a token; a blank one is none, since that is how variables are often left.
fn token(text: Option<&str>) -> Result<Option<String>, CliError> {
    let token = text.map(str::trim).filter(|token| !token.is_empty());
    if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
        let message = "--token or HIGHWATER_TOKEN: a token is one word: give it alone, without \
                       \"Bearer\" and without line breaks";
        return Err(CliError::Usage(message.to_owned()));
    }
    Ok(token.map(str::to_owned))
}

/// Why there is no answer.
fn unanswered(error: ureq::Error) -> Failure {
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
fn answered(result: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
    let response = result.map_err(unanswered)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    Err(match serde_json::from_slice(&body) {
        Ok(refused) => Failure::Refused(Box::new(refused)),
        Err(_) => Failure::foreign(status),
    })
}

/// Reads an answer of JSON.
pub(super) fn read_json<T: DeserializeOwned>(response: Response<Body>) -> Result<T, Failure> {
    let body = response.into_body().into_with_config().limit(MOST_JSON).read_to_vec();
    let body = body.map_err(|error| Failure::Lost(error.to_string()))?;
    serde_json::from_slice(&body).map_err(Failure::foreign)
}

/// A number that an answer tells in a header.
pub(super) fn number(response: &Response<Body>, name: &str) -> Result<u64, Failure> {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Failure::foreign(format_args!("{name} is missing")))
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
        Client::new(&ServerArgs { server: Some(server.to_owned()), token: None })
    }

    fn refused(code: &str) -> Failure {
        let text = format!(r#"{{"code":"{code}","message":"m","retry_after":1}}"#);
        Failure::Refused(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn an_address_is_checked() {
        assert_eq!(client("http://127.0.0.1:80/").unwrap().url("/v1"), "http://127.0.0.1:80/v1");
        assert_eq!(client("https://a.example/x").unwrap().url("/v1"), "https://a.example/x/v1");
        let bad = ["", "127.0.0.1:80", "localhost:80", "ftp://a", "http://", "a b", "http://a?b"];
        let worse = ["http://a:", "http://a:99999", "http://[::1]:x", "http://ana:secret@a"];
        for bad in bad.into_iter().chain(worse) {
            assert!(matches!(client(bad), Err(CliError::Usage(_))), "{bad}");
        }
        assert!(client("http://[::1]:80").is_ok());
    }

    #[test]
    fn a_token_is_one_word_or_none() {
        assert_eq!(token(None).unwrap(), None);
        assert_eq!(token(Some(" \n")).unwrap(), None);
        assert_eq!(token(Some("a.b-c_d\r\n")).unwrap().as_deref(), Some("a.b-c_d"));
        for bad in ["Bearer a.b.c", "a\nb", "ä"] {
            assert!(matches!(token(Some(bad)), Err(CliError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_server_that_takes_no_work_counts_as_none_in_the_end() {
        let mut client = client("http://127.0.0.1:1").unwrap();
        client.patience = Duration::ZERO;
        for code in ["overloaded", "storage_full", "shutting_down", "unknown_outcome"] {
            let failure = client.insist::<()>(false, |_| Err(refused(code))).unwrap_err();
            let error = client.explain(failure);
            assert!(matches!(error, CliError::Unreachable(_)), "{code}: {error:?}");
            assert!(error.to_string().starts_with(code), "{error}");
        }
        for code in ["denied", "token_expired", "made_up"] {
            let error = client.explain(refused(code));
            assert!(matches!(error, CliError::Failed(_)), "{code}: {error:?}");
        }
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
        assert!(!Failure::Nobody(None).leaves_open());
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
