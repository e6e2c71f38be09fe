//! A server as commands see it: requests, their refusals, and how long to keep trying.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body, RequestBuilder};

use super::error::CliError;
use super::failure::{Failure, Refused, answered, read_json};
use super::kept::Kept;
use crate::node::config::environment;
use crate::wire::Code;

/// How long a command keeps trying without getting anywhere, in seconds.
pub(super) const PATIENCE: u64 = 60;
/// The longest that may be asked for, in seconds: a year.
const MOST_PATIENCE: u64 = 365 * 24 * 3_600;
/// Pauses between tries where the server did not say: from here, doubled up to there.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Longest silence of a server before it counts as gone; longer than the longest wait that is
/// asked for.
const SILENCE: Duration = Duration::from_secs(90);
/// Whoever waits for longer than this is told why, so that it does not look as if it hung.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// What a server takes where nothing else is configured, as people write it.
const LARGEST_BODY: &str = "8 MiB";
/// What to do where a server has no such address, and is one of ours.
const OLDER: &str = "; this server is older than the command, and has nothing for it: run the \
                     program of the server's version, or put the server on this one's";

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
    /// Give up (exit code 3) when nothing has got through for so many seconds: till then it is
    /// tried again, whether contact is lost, a proxy answers 429, 502, 503 or 504, or the server
    /// takes no work
    #[arg(
        long,
        value_name = "SECONDS",
        global = true,
        default_value_t = PATIENCE,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u64).range(0..=MOST_PATIENCE)
    )]
    pub give_up_after: u64,
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

/// What requests go by, to a server that is gone after that silence.
fn agent(here: bool, silence: Duration) -> Agent {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_connect(Some(Duration::from_secs(10)))
        .timeout_recv_response(Some(silence))
        .timeout_per_read(Some(silence))
        // Servers close connections that nothing came over for a while.
        .max_idle_age(Duration::from_secs(5))
        .max_redirects(0)
        .tls_config(tls())
        .user_agent(concat!("highwater/", env!("CARGO_PKG_VERSION")));
    if here {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// The server that commands talk to.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
    /// How long it keeps trying without getting anywhere.
    pub(super) patience: Duration,
    /// Whether it is on this machine, where no proxy stands between.
    here: bool,
}

impl Client {
    /// A client for that server; nothing is asked yet.
    ///
    /// # Errors
    /// When the address or the token is none.
    pub(super) fn new(args: &ServerArgs) -> Result<Self, CliError> {
        let (server, bearer) = args.resolved();
        Self::to(&server, bearer.as_deref(), args.give_up_after)
    }

    /// A client for a server that is named otherwise than by flags and variables; `patience` is in
    /// seconds.
    ///
    /// # Errors
    /// When the address or the token is none.
    pub(super) fn to(server: &str, bearer: Option<&str>, patience: u64) -> Result<Self, CliError> {
        let (base, here) = address(server)?;
        let token = token(bearer)?;
        let patience = Duration::from_secs(patience);
        Ok(Self { agent: agent(here, SILENCE), base, token, patience, here })
    }

    /// The same, to whom a server is gone sooner: after so long without a byte.
    pub(super) fn gone_after(self, silence: Duration) -> Self {
        Self { agent: agent(self.here, silence), ..self }
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
        let mut waiting = Waiting { met, since: None, pause: FIRST_PAUSE, told: false };
        loop {
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(failure) => waiting.out(self, failure)?,
            }
        }
    }

    /// The failure in words, with what to do.
    pub(super) fn explain(&self, failure: Failure) -> CliError {
        let base = &self.base;
        match &failure {
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
            Failure::Between(status, _) if failure.is_too_much() => CliError::Failed(format!(
                "{base}: {status}: a proxy before the server takes no body of this size: have it \
                 take {LARGEST_BODY} (nginx: client_max_body_size)"
            )),
            Failure::Between(status, _) => CliError::Unreachable(format!(
                "{base}: {status}, said by a proxy and not by the server; {}",
                self.stayed(&failure)
            )),
            Failure::Refused(refused) => {
                let Refused { code, message, .. } = &**refused;
                let older = code == Code::NotFound.name() && self.is_served();
                let help = if older { OLDER } else { self.help(code) };
                let text = format!("{code}: {message}{help}");
                if failure.may_pass() {
                    let stayed = self.stayed(&failure);
                    return CliError::Unreachable(format!("{text}; {stayed}"));
                }
                CliError::Failed(text)
            }
        }
    }

    /// The failure in a few words.
    fn explain_short(&self, failure: &Failure) -> String {
        let base = &self.base;
        match failure {
            Failure::Nobody(_) => format!("no server at {base}"),
            Failure::Lost(problem) => format!("contact with {base} was lost: {problem}"),
            Failure::Between(status, _) => format!("{base}: {status}, said by a proxy"),
            Failure::Refused(refused) => format!("{base}: {}: {}", refused.code, refused.message),
            Failure::Foreign(problem) => format!("{base}: {problem}"),
        }
    }

    /// Why it is not asked again what may pass.
    fn stayed(&self, failure: &Failure) -> String {
        let patience = self.patience.as_secs();
        match failure.after() {
            after if after > self.patience => {
                format!(
                    "it says to come back in {} s, and {patience} s are waited",
                    after.as_secs()
                )
            }
            _ => format!("it has stayed so for {patience} s"),
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

/// A command that asks again, from its first failure on.
struct Waiting {
    /// Whether there was a server before.
    met: bool,
    since: Option<Instant>,
    pause: Duration,
    /// Whether it was said what is waited for.
    told: bool,
}

impl Waiting {
    /// Waits until the same may be asked again.
    ///
    /// # Errors
    /// The failure, where that is no use, or the patience with it is at its end. Who finds nobody
    /// there at the first try does not wait, unless there was a server before.
    fn out(&mut self, client: &Client, failure: Failure) -> Result<(), Failure> {
        let first = self.since.is_none() && !self.met;
        if !failure.may_pass() || (first && matches!(failure, Failure::Nobody(_))) {
            return Err(failure);
        }
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = client.patience.saturating_sub(waited);
        // A rate passes by itself, so that waiting it out is getting somewhere.
        let rate = matches!(&failure, Failure::Refused(refused) if refused.code == "rate");
        let after = failure.after();
        if !rate && (left.is_zero() || after > left) {
            return Err(failure);
        }
        if waited.max(after) >= TOLD_AFTER && !rate && !std::mem::replace(&mut self.told, true) {
            let told = client.explain_short(&failure);
            let _ = writeln!(std::io::stderr(), "highwater: {told}: trying again");
        }
        // Many that were cut off at once do not come back at once.
        let jitter = rand::random_range(0.5..1.0);
        let pause = match after.is_zero() {
            true => self.pause.mul_f64(jitter).min(left),
            false => after.mul_f64(1.0 + jitter / 10.0),
        };
        std::thread::sleep(pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        Ok(())
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

/// How a server with HTTPS is met: by the ciphers that check tokens too.
fn tls() -> TlsConfig {
    let ciphers = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    TlsConfig::builder().unversioned_rustls_crypto_provider(ciphers).build()
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
        let server = Some(server.to_owned());
        Client::new(&ServerArgs { server, token: None, give_up_after: PATIENCE })
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

    fn between(after: u64) -> Failure {
        let status = ureq::http::StatusCode::BAD_GATEWAY;
        Failure::Between(status, Duration::from_secs(after))
    }

    #[test]
    fn who_is_told_to_come_back_too_late_does_not_wait() {
        let mut client = client("http://127.0.0.1:1").unwrap();
        client.patience = Duration::from_secs(5);
        let asked = Cell::new(0);
        let failure = client.insist::<()>(true, |_| {
            asked.set(asked.get() + 1);
            Err(between(3_600))
        });
        let text = client.explain(failure.unwrap_err()).to_string();
        assert_eq!(asked.get(), 1);
        assert!(text.contains("502 Bad Gateway, said by a proxy"), "{text}");
        assert!(text.contains("come back in 3600 s, and 5 s are waited"), "{text}");
    }

    #[test]
    fn a_proxy_that_answers_for_a_server_is_asked_again() {
        let client = client("http://127.0.0.1:1").unwrap();
        let asked = Cell::new(0);
        let answer = client.insist(false, |_| {
            asked.set(asked.get() + 1);
            if asked.get() < 3 { Err(between(0)) } else { Ok(()) }
        });
        assert!(answer.is_ok());
        let large = Failure::Between(ureq::http::StatusCode::PAYLOAD_TOO_LARGE, Duration::ZERO);
        let failure = client.insist::<()>(true, |_| Err(between(9_999))).unwrap_err();
        let error = client.explain(failure);
        assert!(matches!(error, CliError::Unreachable(_)), "{error:?}");
        let error = client.explain(large);
        assert!(matches!(&error, CliError::Failed(text) if text.contains("client_max_body_size")));
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
