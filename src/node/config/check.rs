//! From values to a checked [`Config`]. Whatever is wrong is noted, and a harmless value stands in
//! for it, so that one run names all problems; the stand-ins are never used.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::known::{find, nearest};
use super::layers::{Settings, read_bounded};
use super::{AuthConfig, Config, LogFormat, Problem, ServerConfig};
use crate::auth::{Algorithm, Key, MAX_KEYS, Origins, Verifier};
use crate::connection::MOST_ADDRESS;
use crate::limit::{Limits, Rule, Rules};
use crate::wire::Pattern;

/// Longest file that holds a key or a secret, in bytes.
const MAX_KEY_FILE_BYTES: u64 = 64 << 10;
/// Longest key id, in bytes.
const MAX_KEY_ID_BYTES: usize = 128;
/// Most audiences.
const MAX_AUDIENCES: usize = 64;

const KEY_MEMBERS: [&str; 5] = ["kid", "alg", "secret", "secret_file", "public_key_file"];
const RULE_MEMBERS: [&str; 6] =
    ["pattern", "snapshot", "ask_after", "retain_records", "retain_bytes", "retain_seconds"];

/// The logs that development makes snapshots of.
pub(super) const DEV_PATTERN: &str = "demo/**";

const NO_KEYS: &str = "no key is configured, so no token could be believed: name with --config a \
    file that has [[auth.keys]] with alg = \"HS256\" and secret_file (make one with `openssl rand \
    -hex 32`), or with alg and public_key_file; or give --dev to try things out on this machine";

/// Checks everything; the result counts only where no problem was noted.
pub(super) fn config(settings: &Settings, problems: &mut Vec<Problem>) -> Config {
    let mut check = Checking { settings, problems };
    let server = check.server();
    Config {
        auth: check.auth(server.dev),
        limits: check.limits(),
        journal: check.journal(),
        rules: check.rules(server.dev),
        server,
    }
}

/// Values on their way to a [`Config`], and what is wrong with them.
pub(super) struct Checking<'a> {
    settings: &'a Settings,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Checking<'a> {
    fn value(&self, path: &str) -> Option<&'a Value> {
        self.settings.get(path).map(|setting| &setting.value)
    }

    /// Whether somebody has set it, to something else than it would be anyway.
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.value(path) != find(path).map(|known| &known.default)
    }

    pub(super) fn text(&self, path: &str) -> &'a str {
        self.value(path).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn switch(&self, path: &str) -> bool {
        self.value(path).and_then(Value::as_bool).unwrap_or_default()
    }

    pub(super) fn number(&self, path: &str) -> u64 {
        let number = self.value(path).and_then(Value::as_integer);
        number.and_then(|number| u64::try_from(number).ok()).unwrap_or_default()
    }

    fn list(&self, path: &str) -> &'a [Value] {
        self.value(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    pub(super) fn texts(&self, path: &str) -> Vec<String> {
        self.list(path).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Notes a problem with the value of a key, in the place that the value comes from.
    pub(super) fn wrong(&mut self, path: &str, message: &str) {
        let place = self.settings.get(path).map(|setting| setting.source.to_string());
        let problem = match place.filter(|place| place != "default") {
            Some(place) => Problem { place, message: format!("{path}: {message}") },
            None => Problem { place: path.to_owned(), message: message.to_owned() },
        };
        self.problems.push(problem);
    }

    /// Notes a problem with an item of a list.
    fn wrong_item(&mut self, path: &str, item: usize, message: &str) {
        let place = self.settings.get(path).map(|setting| setting.place_of(item));
        let message = format!("{path}, number {}: {message}", item + 1);
        self.problems.push(Problem { place: place.unwrap_or_default(), message });
    }

    fn server(&mut self) -> ServerConfig {
        let dev = self.switch("server.dev");
        let listen = self.listen();
        if dev && !listen.ip().is_loopback() {
            self.wrong(
                "server.listen",
                "--dev gives every right to everyone, so it listens on a loopback address only, \
                 such as 127.0.0.1:8080",
            );
        }
        let advertise = self.advertise();
        let data = PathBuf::from(self.text("server.data"));
        if data.as_os_str().is_empty() {
            self.wrong("server.data", "a folder is needed");
        }
        let origins = match Origins::parse(&self.texts("server.allowed_origins"), dev) {
            Ok(origins) => origins,
            Err(error) => {
                self.wrong("server.allowed_origins", &error.to_string());
                Origins::none()
            }
        };
        let log_format = match self.text("server.log_format") {
            "human" => LogFormat::Human,
            "json" => LogFormat::Json,
            other => {
                let message = format!("{other:?} is no format: human or json");
                self.wrong("server.log_format", &message);
                LogFormat::Human
            }
        };
        let auto_create = self.switch("server.auto_create");
        ServerConfig { listen, advertise, data, dev, origins, log_format, auto_create }
    }

    fn listen(&mut self) -> SocketAddr {
        let text = self.text("server.listen");
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        match numeric.as_deref().unwrap_or(text).parse() {
            Ok(address) => address,
            Err(_) => {
                let message = format!(
                    "{text:?} is no address: write ip:port, such as 127.0.0.1:8080, \
                     0.0.0.0:8080 or [::]:8080"
                );
                self.wrong("server.listen", &message);
                SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
            }
        }
    }

    /// Scheme, host and port: who is told of it adds the path.
    fn advertise(&mut self) -> String {
        let text = self.text("server.advertise").trim_end_matches('/').to_owned();
        let host = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
        let fits = host.is_some_and(|host| !host.is_empty() && host.bytes().all(plain));
        if text.is_empty() || (fits && text.len() <= MOST_ADDRESS) {
            return text;
        }
        let message = format!(
            "{text:?} is no address of a node: write https://HOST or https://HOST:PORT, at most \
             {MOST_ADDRESS} bytes"
        );
        self.wrong("server.advertise", &message);
        String::new()
    }

    fn auth(&mut self, dev: bool) -> AuthConfig {
        let items = self.list("auth.keys");
        let mut keys = Vec::new();
        for (item, value) in items.iter().enumerate().take(MAX_KEYS) {
            match value.as_table().map(read_key) {
                Some(Ok(key)) => keys.push(key),
                Some(Err(message)) => self.wrong_item("auth.keys", item, &message),
                None => {}
            }
        }
        // Development brings one of its own.
        let room = MAX_KEYS - usize::from(dev);
        if items.len() > room {
            self.wrong("auth.keys", &format!("at most {room} keys, there are {}", items.len()));
        }
        if items.is_empty() && !dev {
            self.wrong("auth.keys", NO_KEYS);
        }
        let audience = self.texts("auth.audience");
        if audience.len() > MAX_AUDIENCES || audience.iter().any(String::is_empty) {
            let message = format!("at most {MAX_AUDIENCES} audiences, none of them empty");
            self.wrong("auth.audience", &message);
        }
        let leeway_seconds = self.number("auth.leeway_seconds");
        if let Err(error) = Verifier::new(vec![], vec![], leeway_seconds) {
            self.wrong("auth.leeway_seconds", &error.to_string());
        } else if let Err(error) = Verifier::new(keys.clone(), vec![], leeway_seconds) {
            self.wrong("auth.keys", &error.to_string());
        }
        AuthConfig { keys, audience, leeway_seconds }
    }

    fn limits(&mut self) -> Limits {
        let mut limits = Limits::DEFAULT;
        for row in Limits::TABLE {
            let path = format!("limits.{}", row.name);
            if limits.set(row.name, self.number(&path)).is_err() {
                self.wrong(&path, &format!("out of bounds: {} to {}", row.min, row.max));
            }
        }
        if let Some(relation) = limits.broken_relation() {
            let message = format!("limits contradict each other: {relation}");
            self.problems.push(Problem { place: "limits".to_owned(), message });
        }
        limits
    }

    fn rules(&mut self, dev: bool) -> Rules {
        let items = self.list("rules");
        let mut rules = Vec::new();
        for (item, value) in items.iter().enumerate().take(Rules::MOST) {
            match value.as_table().map(read_rule) {
                Some(Ok(rule)) => rules.push(rule),
                Some(Err(message)) => self.wrong_item("rules", item, &message),
                None => {}
            }
        }
        let room = Rules::MOST - usize::from(dev);
        if items.len() > room {
            self.wrong("rules", &format!("at most {room} rules, there are {}", items.len()));
        }
        if dev {
            rules.extend(Pattern::parse(DEV_PATTERN).map(Rule::latest));
        }
        Rules::new(rules)
    }
}

/// Refuses members that are not known.
fn only(table: &Table, known: &[&str]) -> Result<(), String> {
    match table.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let meant = nearest(name, known.iter().copied());
            Err(format!("unknown key {name}; did you mean {meant}?"))
        }
    }
}

fn read_rule(table: &Table) -> Result<Rule, String> {
    only(table, &RULE_MEMBERS)?;
    Value::Table(table.clone())
        .try_into()
        .map_err(|error: toml::de::Error| error.message().trim_end().to_owned())
}

fn read_key(table: &Table) -> Result<Key, String> {
    only(table, &KEY_MEMBERS)?;
    let text = |name: &str| match table.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) => Err(format!("{name}: a text is wanted")),
    };
    let id = text("kid")?.map(str::to_owned);
    if id.as_ref().is_some_and(|id| !(1..=MAX_KEY_ID_BYTES).contains(&id.len())) {
        return Err(format!("kid has 1 to {MAX_KEY_ID_BYTES} bytes"));
    }
    let names = Algorithm::ALL.map(Algorithm::name).join(", ");
    let name = text("alg")?.ok_or_else(|| format!("alg is needed: one of {names}"))?;
    let algorithm = Algorithm::from_name(name)
        .ok_or_else(|| format!("alg {name:?} is not supported: one of {names}"))?;
    let given = (text("secret")?, text("secret_file")?, text("public_key_file")?);
    let key = match (algorithm, given) {
        (Algorithm::HS256, (Some(secret), None, None)) => Key::from_secret(id, secret.as_bytes()),
        (Algorithm::HS256, (None, Some(file), None)) => {
            let secret = read_key_file(file)?;
            // Editors and `openssl rand` end a file with a newline that nobody means.
            Key::from_secret(id, secret.trim_end_matches(['\r', '\n']).as_bytes())
        }
        (Algorithm::HS256, _) => return Err("HS256 takes either secret or secret_file".to_owned()),
        (_, (None, None, Some(file))) => {
            let pem = read_key_file(file)?;
            Key::from_public_pem(id, algorithm, pem.as_bytes())
        }
        _ => return Err(format!("{name} takes public_key_file and no secret")),
    };
    key.map_err(|error| error.to_string())
}

fn read_key_file(file: &str) -> Result<String, String> {
    read_bounded(Path::new(file), MAX_KEY_FILE_BYTES).map_err(|error| format!("{file}: {error}"))
}
