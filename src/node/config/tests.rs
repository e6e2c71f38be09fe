//! Situations of configuration: what wins, what is refused and how it is said.

use std::fs;
use std::path::Path;

use super::*;
use crate::auth::Algorithm;
use crate::limit::Rule;
use crate::wire::{Pattern, SnapshotRule};

const SECRET: &str = "a secret of thirty-two bytes or more";

/// A configuration being told: file, variables and flags.
#[derive(Default)]
struct Told {
    file: Option<String>,
    variables: Vec<(String, String)>,
    flags: ServeFlags,
}

impl Told {
    fn dev() -> Self {
        Self { flags: ServeFlags { dev: true, ..ServeFlags::default() }, ..Self::default() }
    }

    /// With a key, so that nothing else is wrong.
    fn with_key() -> Self {
        Self::default().variable("HIGHWATER_AUTH_KEYS", &key())
    }

    fn file(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn set(mut self, pair: &str) -> Self {
        self.flags.set.push(pair.to_owned());
        self
    }

    fn load(self) -> Result<Loaded, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let mut flags = self.flags;
        if let Some(text) = self.file {
            let path = folder.path().join("c.toml");
            fs::write(&path, text).unwrap();
            flags.config = Some(path);
        }
        Loaded::load(&flags, &self.variables).map_err(|ConfigError(problems)| {
            let folder = format!("{}/", folder.path().display());
            let shorten = |text: String| text.replace(&folder, "");
            ConfigError(
                problems
                    .into_iter()
                    .map(|problem| Problem {
                        place: shorten(problem.place),
                        message: shorten(problem.message),
                    })
                    .collect(),
            )
        })
    }

    /// The one problem, as it is printed.
    fn problem(self) -> String {
        let error = self.load().expect_err("there is a problem");
        assert_eq!(error.0.len(), 1, "{error}");
        error.to_string()
    }
}

fn key() -> String {
    format!(r#"[{{alg = "HS256", secret = "{SECRET}"}}]"#)
}

#[test]
fn development_needs_nothing_else() {
    let config = Told::dev().load().unwrap().config;
    assert_eq!(config.server.listen, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.server.data, Path::new("./highwater-data"));
    assert!(config.server.dev && config.server.auto_create);
    assert_eq!(config.server.log_format, LogFormat::Human);
    assert!(config.server.origins.allows(Some("http://localhost:5173")));
    assert_eq!(config.limits, Limits::DEFAULT);
    assert_eq!(config.journal.engine, Engine::Local);
    assert_eq!(config.rules.as_slice(), [Rule::latest(Pattern::parse("demo/**").unwrap())]);
}

#[test]
fn without_keys_and_dev_it_says_what_to_do() {
    let problem = Told::default().problem();
    assert!(problem.starts_with("auth.keys: no key is configured"), "{problem}");
    assert!(problem.contains("--dev") && problem.contains("[[auth.keys]]"), "{problem}");
}

#[test]
fn flags_beat_variables_beat_file_beat_defaults() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\n\n[limits]\nsockets = 1\nsubscriptions = 1\n\
                active_total = 1\n";
    let mut told = Told::dev()
        .file(file)
        .variable("HIGHWATER_SERVER_LISTEN", "127.0.0.1:2")
        .variable("HIGHWATER_LIMITS_SOCKETS", "2_000")
        .variable("HIGHWATER_LIMITS_SUBSCRIPTIONS", "2")
        .set("limits.sockets=3")
        .set("server.listen=127.0.0.1:4");
    told.flags.listen = Some("localhost:3".to_owned());
    let loaded = told.load().unwrap();
    let (server, limits) = (&loaded.config.server, &loaded.config.limits);
    assert_eq!(server.listen.port(), 3, "a flag of its own beats --set");
    assert_eq!((limits.sockets, limits.subscriptions, limits.active_total), (3, 2, 1));
    let source = |path: &str| loaded.source(path).unwrap().to_string();
    assert_eq!(source("server.listen"), "--listen");
    assert_eq!(source("limits.sockets"), "--set");
    assert_eq!(source("limits.subscriptions"), "HIGHWATER_LIMITS_SUBSCRIPTIONS");
    assert!(source("limits.active_total").ends_with("c.toml:7"));
    assert_eq!(source("limits.frame_bytes"), "default");
}

#[test]
fn every_key_can_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, format!("{SECRET}\n")).unwrap();
    let public = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed.pub");
    let text = format!(
        r#"
[server]
listen = "[::]:9000"
data = "/var/lib/highwater"
dev = false
allowed_origins = ["https://app.example"]
log_format = "json"
auto_create = false

[auth]
audience = "push"
leeway_seconds = 0
[[auth.keys]]
kid = "one"
alg = "HS256"
secret_file = {secret:?}
[[auth.keys]]
alg = "EdDSA"
public_key_file = "{public}"

[limits]
sockets = 0x10

[journal]
engine = "local"
keep_bytes = 1_000

[[rules]]
pattern = "docs/*/state"
snapshot = "latest"
[[rules]]
pattern = "docs/**"
snapshot = "client"
ask_after = 10
retain_records = 1
retain_bytes = 2
retain_seconds = 3
"#
    );
    let config = Told::default().file(&text).load().unwrap().config;
    assert_eq!(config.server.listen, "[::]:9000".parse().unwrap());
    assert_eq!(config.server.data, Path::new("/var/lib/highwater"));
    assert_eq!(config.server.log_format, LogFormat::Json);
    assert!(!config.server.auto_create && !config.server.dev);
    assert!(config.server.origins.allows(Some("https://app.example")));
    assert!(!config.server.origins.allows(Some("http://localhost")));
    assert_eq!((config.auth.audience, config.auth.leeway_seconds), (vec!["push".to_owned()], 0));
    let keys: Vec<_> = config.auth.keys.iter().map(|key| (key.id(), key.algorithm())).collect();
    assert_eq!(keys, [(Some("one"), Algorithm::HS256), (None, Algorithm::EdDSA)]);
    assert_eq!((config.limits.sockets, config.journal.keep_bytes), (16, 1_000));
    assert_eq!(config.rules.snapshot("docs/1/state"), SnapshotRule::Latest);
    let rule = config.rules.find("docs/1/ops").unwrap();
    assert_eq!(rule.snapshot, SnapshotRule::Client);
    let numbers = (rule.ask_after, rule.retain_records, rule.retain_bytes, rule.retain_seconds);
    assert_eq!(numbers, (10, 1, 2, 3));
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    let keys = "[[auth.keys]]\nalg = \"HS256\"\n";
    let cases: &[(&str, &str)] = &[
        ("[server]\nlisten", "c.toml:2: "),
        (
            "[server]\n\nlistne = \"a\"",
            "c.toml:3: unknown key server.listne; did you mean server.listen?",
        ),
        ("[limit]\nsockets = 1", "c.toml:1: unknown section limit; did you mean limits?"),
        ("[rule]\npattern = \"a\"", "c.toml:1: unknown section rule; did you mean rules?"),
        ("sockets = 1", "c.toml:1: unknown key sockets; did you mean limits.sockets?"),
        (
            "[server]\nsockets = 1",
            "c.toml:2: unknown key server.sockets; did you mean limits.sockets?",
        ),
        ("server = 1", "c.toml:1: server is a section: write [server]"),
        (
            "[limits]\nsockets = \"many\"",
            "c.toml:2: limits.sockets: a whole number, 0 or more is wanted",
        ),
        ("[limits]\nsockets = -1", "c.toml:2: limits.sockets: a whole number"),
        ("[limits]\nsockets = 0", "c.toml:2: limits.sockets: out of bounds: 1 to 10000000"),
        (
            "[limits]\nsockets = 99999999999999999999",
            "c.toml:2: limits.sockets: the number is too large",
        ),
        ("[limits]\nsockets = 1.5", "c.toml:2: limits.sockets: a whole number"),
        (
            "[limits]\nactive_per_user = 1",
            "limits: limits contradict each other: active_per_device",
        ),
        ("[server]\nlisten = \"here\"", "c.toml:2: server.listen: \"here\" is no address"),
        ("[server]\nlisten = 8080", "c.toml:2: server.listen: a text is wanted"),
        ("[server]\ndev = \"yes\"", "c.toml:2: server.dev: true or false is wanted"),
        ("[server]\nlog_format = \"xml\"", "c.toml:2: server.log_format: \"xml\" is no format"),
        ("[server]\ndata = \"\"", "c.toml:2: server.data: a folder is needed"),
        (
            "[server]\nallowed_origins = [\"a\"]",
            "c.toml:2: server.allowed_origins: \"a\" is no origin",
        ),
        ("[server]\nallowed_origins = [1]", "c.toml:2: server.allowed_origins: a list of texts"),
        ("[auth]\nleeway_seconds = 61", "c.toml:2: auth.leeway_seconds: a leeway of at most 60"),
        ("[auth]\naudience = [\"\"]", "c.toml:2: auth.audience: at most 64"),
        ("[journal]\nengine = \"disk\"", "c.toml:2: journal.engine: there is no engine \"disk\""),
        ("rules = 1", "c.toml:1: rules: a list of tables is wanted"),
        (
            "[[rules]]\npattern = \"a\"\n[[rules]]\npatern = \"b\"",
            "c.toml:3: rules, number 2: unknown key patern; did you mean pattern?",
        ),
        ("[[rules]]\npattern = \"a//b\"", "c.toml:1: rules, number 1: \"a//b\" is no pattern"),
        ("[[rules]]\nsnapshot = \"none\"", "c.toml:1: rules, number 1: missing field `pattern`"),
        (
            "[[rules]]\npattern = \"a\"\nsnapshot = \"newest\"",
            "c.toml:1: rules, number 1: unknown variant `newest`",
        ),
        ("[[rules]]\npattern = \"a\"\nretain_bytes = -1", "c.toml:1: rules, number 1: "),
    ];
    for (text, want) in cases {
        // A file's own list of keys would be replaced, so the key comes by flag.
        let got = Told::default().set(&format!("auth.keys={}", key())).file(text).problem();
        assert!(got.starts_with(want), "{text}\n  wanted: {want}\n  got: {got}");
    }
    let got = Told::default().file(&format!("{keys}secret = \"short\"")).problem();
    assert_eq!(
        got,
        "c.toml:1: auth.keys, number 1: a secret for HS256 needs at least 32 bytes, this one has \
         5: make one with `openssl rand -hex 32`"
    );
}

#[test]
fn an_address_to_tell_is_scheme_host_and_port() {
    for bad in ["n1.example", "https://me:pw@n1", "https://n1/v1", "https:", "ftp://n1"] {
        let told = Told::default().set(&format!("auth.keys={}", key()));
        let got = told.set(&format!("server.advertise={bad}")).problem();
        let want = format!("--set: server.advertise: {bad:?} is no address of a node");
        assert!(got.starts_with(&want), "{got}");
    }
    for (good, kept) in [
        ("", ""),
        ("https://n1.example/", "https://n1.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ] {
        let told = Told::default().set(&format!("server.advertise={good}"));
        let loaded = told.set(&format!("auth.keys={}", key())).load().unwrap();
        assert_eq!(loaded.config.server.advertise, kept);
    }
}

#[test]
fn keys_are_checked() {
    let ed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed.pub");
    let rsa = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem");
    let secret = format!("secret = \"{SECRET}\"");
    let cases = [
        (secret.clone(), "alg is needed: one of HS256, RS256, ES256, EdDSA"),
        (format!("alg = \"none\", {secret}"), "alg \"none\" is not supported"),
        (format!("alg = \"RS256\", {secret}"), "RS256 takes public_key_file and no secret"),
        ("alg = \"HS256\"".to_owned(), "HS256 takes either secret or secret_file"),
        (format!("alg = \"HS256\", public_key_file = \"{ed}\""), "HS256 takes either"),
        (format!("alg = \"HS256\", {secret}, secret_file = \"x\""), "HS256 takes either"),
        ("alg = \"HS256\", secret_file = \"/no/such\"".to_owned(), "/no/such: cannot be read"),
        (format!("alg = \"ES256\", public_key_file = \"{ed}\""), "not a public key for ES256"),
        (format!("alg = \"RS256\", public_key_file = \"{rsa}\""), "this is a private key"),
        (
            format!("alg = \"HS256\", secrets = 1, {secret}"),
            "unknown key secrets; did you mean secret?",
        ),
        (format!("alg = \"HS256\", kid = \"\", {secret}"), "kid has 1 to 128 bytes"),
        (format!("alg = \"HS256\", kid = 1, {secret}"), "kid: a text is wanted"),
    ];
    for (members, want) in cases {
        let got = Told::default().set(&format!("auth.keys=[{{{members}}}]")).problem();
        let want = format!("--set: auth.keys, number 1: {want}");
        assert!(got.starts_with(&want), "{members}\n  wanted: {want}\n  got: {got}");
        assert!(!got.contains(SECRET), "{got}");
    }
    let two = format!(
        "[{{alg = \"HS256\", kid = \"a\", {secret}}}, {{alg = \"HS256\", kid = \"a\", {secret}}}]"
    );
    let got = Told::default().variable("HIGHWATER_AUTH_KEYS", &two).problem();
    assert_eq!(got, "HIGHWATER_AUTH_KEYS: auth.keys: two keys have the id (kid) a");
    let many = format!("[{}]", format!("{{alg = \"HS256\", {secret}}},").repeat(17));
    let got = Told::default().variable("HIGHWATER_AUTH_KEYS", &many).problem();
    assert_eq!(got, "HIGHWATER_AUTH_KEYS: auth.keys: at most 16 keys, there are 17");
}

#[test]
fn an_engine_on_other_servers_is_checked_and_shows_no_password() {
    let nats = |rest: &str| {
        let text = format!("[journal]\nengine = \"nats\"\nservers = \"nats://a:4222\"\n{rest}");
        Told::default().set(&format!("auth.keys={}", key())).file(&text)
    };
    let Engine::Nats(settings) = nats("replicas = 3").load().unwrap().config.journal.engine else {
        panic!("another engine")
    };
    assert_eq!(settings.servers, ["nats://a:4222"]);
    assert_eq!((settings.stream.as_str(), settings.replicas), ("highwater", 3));
    for (rest, want) in [
        ("replicas = 2", "c.toml:4: journal.replicas: 1 to try it, 3 or 5"),
        ("stream = \"a.b\"", "c.toml:4: journal.stream: \"a.b\" is no name of a stream"),
        ("user = \"hw\"", "c.toml:4: journal.user: user and password_file go together"),
        ("ca_file = \"/no/such\"", "c.toml:4: journal.ca_file: /no/such is no file"),
        ("monitoring = \"a:8222\"", "c.toml:4: journal.monitoring: \"a:8222\" begins with none"),
    ] {
        let got = nats(rest).problem();
        assert!(got.starts_with(want), "{rest}\n  wanted: {want}\n  got: {got}");
    }
    for (journal, want) in [
        ("engine = \"kafka\"", "c.toml:2: journal.engine: the engine kafka is not built"),
        ("engine = \"nats\"", "journal.servers: at least one is needed"),
        ("copies = 3", "c.toml:2: journal.copies: it counts with"),
        ("replicas = 3", "c.toml:2: journal.replicas: it counts with"),
        ("servers = [\"nats://a:4222\"]", "c.toml:2: journal.servers: it counts with"),
    ] {
        let told = Told::default().set(&format!("auth.keys={}", key()));
        let got = told.file(&format!("[journal]\n{journal}")).problem();
        assert!(got.starts_with(want), "{journal}\n  wanted: {want}\n  got: {got}");
    }
    let secret = "[journal]\nengine = \"nats\"\nservers = \"nats://hw:pass@a:4222\"";
    let got = Told::default().set(&format!("auth.keys={}", key())).file(secret).problem();
    assert!(got.contains("does not stand in an address"), "{got}");
    assert!(!got.contains("pass@"), "{got}");
}

#[test]
fn development_stays_on_this_machine() {
    for (listen, good) in [
        ("127.0.0.1:80", true),
        ("127.8.8.8:80", true),
        ("[::1]:80", true),
        ("localhost:80", true),
        ("0.0.0.0:80", false),
        ("[::]:80", false),
        ("192.168.0.1:80", false),
    ] {
        let outcome = Told::dev().set(&format!("server.listen={listen}")).load();
        assert_eq!(outcome.is_ok(), good, "{listen}");
    }
    let problem = Told::dev().variable("HIGHWATER_SERVER_LISTEN", "0.0.0.0:80").problem();
    assert!(
        problem.starts_with("HIGHWATER_SERVER_LISTEN: server.listen: --dev gives"),
        "{problem}"
    );
}

#[test]
fn variables_are_read_by_the_form_of_their_key() {
    let config = Told::with_key()
        .variable("HIGHWATER_SERVER_ALLOWED_ORIGINS", "https://a.example, https://b.example")
        .variable("HIGHWATER_AUTH_AUDIENCE", r#"["x", "y"]"#)
        .variable("HIGHWATER_SERVER_AUTO_CREATE", "false")
        .variable("HIGHWATER_RULES", r#"[{pattern = "a/**", snapshot = "latest"}]"#)
        .load()
        .unwrap()
        .config;
    assert!(config.server.origins.allows(Some("https://b.example")));
    assert_eq!(config.auth.audience, ["x", "y"]);
    assert!(!config.server.auto_create);
    assert_eq!(config.rules.snapshot("a/b"), SnapshotRule::Latest);
}

#[test]
fn unknown_variables_are_named_and_foreign_ones_left_alone() {
    let unknown = |name: &str| {
        let loaded = Told::with_key().variable(name, "1").load().unwrap();
        loaded.warnings().iter().map(Problem::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        unknown("HIGHWATER_LIMIT_SOCKETS"),
        ["HIGHWATER_LIMIT_SOCKETS: unknown variable, left aside; did you mean \
          HIGHWATER_LIMITS_SOCKETS?"]
    );
    for short in ["LISTEN", "DATA", "DEV", "AUDIENCE"] {
        let told = unknown(&format!("HIGHWATER_{short}")).join("");
        assert!(told.ends_with(&format!("_{short}?")), "{told}");
    }
    assert_eq!(unknown("HIGHWATER_LOG"), [""; 0], "logging reads it");
    let problem = Told::with_key().variable("HIGHWATER_LIMITS_SOCKETS", "5\nx = 1").problem();
    assert!(problem.starts_with("HIGHWATER_LIMITS_SOCKETS: limits.sockets: a whole"), "{problem}");
    Told::with_key()
        .variable("HIGHWATER_LOG", "debug")
        .variable("HIGHWATER_URL", "x")
        .variable("HIGHWATER_TOKEN", "x")
        .variable("HIGHWATER_SERVICE_HOST", "10.0.0.1")
        .variable("HIGHWATER_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .variable("PATH", "/bin")
        .load()
        .unwrap();
}

#[test]
fn flags_that_say_nothing_sensible_are_refused() {
    assert_eq!(
        Told::with_key().set("limits.sockets").problem(),
        "--set: limits.sockets: write section.key=value"
    );
    assert_eq!(
        Told::with_key().set("limits.soket=1").problem(),
        "--set: unknown key limits.soket; did you mean limits.sockets?"
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let error = Told::default()
        .file("[server]\nlisten = \"here\"\nport = 1\n[limits]\nsockets = 0\n")
        .variable("HIGHWATER_JOURNAL_ENGINE", "kafka")
        .set("nonsense")
        .load()
        .unwrap_err();
    let places: Vec<_> = error.0.iter().map(|problem| problem.place.as_str()).collect();
    assert_eq!(
        places,
        ["c.toml:3", "--set", "c.toml:2", "auth.keys", "c.toml:5", "HIGHWATER_JOURNAL_ENGINE"]
    );
    assert_eq!(error.to_string().lines().count(), 6);
}

#[test]
fn the_file_is_named_by_flag_or_variable_and_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.toml");
    fs::write(&path, "[limits]\nsockets = 7\n").unwrap();
    let name = path.to_str().unwrap();
    let loaded = Told::with_key().variable("HIGHWATER_CONFIG", name).load().unwrap();
    assert_eq!(loaded.config.limits.sockets, 7);
    let problem = Told::with_key().variable("HIGHWATER_CONFIG", "/no/such").problem();
    assert!(problem.starts_with("/no/such: cannot be read"), "{problem}");
    let mut told = Told::default();
    told.flags.config = Some(folder.path().to_owned());
    let problem = told.problem();
    assert!(problem.contains("cannot be read"), "that no key was found there says nothing");
    let problem = Told::default().file("[server\nlisten = 1").problem();
    assert!(problem.starts_with("c.toml:1: "), "{problem}");
    let mut told = Told::with_key().variable("HIGHWATER_CONFIG", "/no/such");
    told.flags.config = Some(path.clone());
    assert_eq!(told.load().unwrap().config.limits.sockets, 7, "the flag beats the variable");
    fs::write(&path, "#".repeat((1 << 20) + 1)).unwrap();
    let problem = Told::with_key().variable("HIGHWATER_CONFIG", name).problem();
    assert!(problem.ends_with("larger than 1048576 bytes"), "{problem}");
}

#[test]
fn what_is_shown_can_be_read_again_and_holds_no_secret() {
    let loaded = Told::with_key()
        .file("[limits]\nsockets = 9\n\n[[rules]]\npattern = \"a/**\"\nsnapshot = \"latest\"\n")
        .set("server.allowed_origins=https://app.example")
        .load()
        .unwrap();
    let shown = loaded.show();
    assert!(!shown.contains(SECRET) && !format!("{loaded:?}").contains(SECRET), "{shown}");
    let has = |line: &str| assert!(shown.lines().any(|have| have == line), "{line}\n{shown}");
    has("listen = \"127.0.0.1:8080\"  # default");
    has("allowed_origins = [\"https://app.example\"]  # --set");
    has("keys = [{ alg = \"HS256\", secret = \"(hidden)\" }]  # HIGHWATER_AUTH_KEYS");
    has("frame_bytes = 1048576  # default (bytes)");
    assert!(shown.contains("sockets = 9  # ") && shown.contains("c.toml:2 (count)"), "{shown}");
    let again = shown.replace("(hidden)", SECRET);
    let again = Told::default().file(&again).load().unwrap();
    assert_eq!(again.config.limits, loaded.config.limits);
    assert_eq!(again.config.server, loaded.config.server);
    assert_eq!(again.config.rules, loaded.config.rules);
}

#[test]
fn development_is_shown_with_what_it_adds() {
    let shown = Told::dev().load().unwrap().show();
    assert!(shown.contains("dev = true  # --dev\n"), "{shown}");
    assert!(shown.contains("# --dev adds: pattern \"demo/**\", snapshot \"latest\"\n"), "{shown}");
    assert!(shown.contains("dev-secret"), "{shown}");
}

#[test]
fn an_authority_believes_the_configured_keys_and_in_dev_its_own() {
    const NOW: u64 = 1_800_000_000_000;
    let secret = b"the development secret of a folder";
    let dev = Told::dev().load().unwrap().config.authority(Some(secret)).unwrap();
    let user = dev.dev_user(NOW).unwrap().unwrap();
    assert_eq!(dev.authenticate(Some(&user.token), NOW).unwrap().user, user.user);
    assert!(dev.authenticate(None, NOW).is_ok());

    let bare = Told::dev().load().unwrap().config;
    assert_eq!(bare.authority(None).unwrap_err(), AuthorityError::NoSecret);
    assert!(matches!(bare.authority(Some(b"short")).unwrap_err(), AuthorityError::Secret(_)));

    let config = Told::with_key().load().unwrap().config;
    let strict = config.authority(Some(secret)).unwrap();
    assert!(strict.authenticate(Some(&user.token), NOW).is_err(), "no development secret here");
    assert!(strict.authenticate(None, NOW).is_err());
    assert_eq!(strict.dev_user(NOW), Ok(None));
    let signer = config.auth.keys[0].signer().unwrap();
    let own = crate::auth::dev_user(&signer, None, NOW).unwrap();
    assert!(strict.authenticate(Some(&own.token), NOW).is_ok());
}

#[test]
fn the_document_names_every_key() {
    let document = include_str!("../../../docs/configuration.md");
    for known in known::all() {
        let key = known.path.rsplit('.').next().unwrap();
        assert!(document.contains(&format!("| `{key}` |")) || known.path == "rules", "{key}");
    }
    assert!(document.contains("[[rules]]"));
}

#[test]
fn the_documents_examples_are_good() {
    let document = include_str!("../../../docs/configuration.md");
    let examples: Vec<_> =
        document.split("```toml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        let public = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/ed.pub");
        let example = example.replace("/etc/highwater/2026-07.pub", public);
        let told = if example.contains("auth.keys") { Told::default() } else { Told::with_key() };
        told.file(&example).load().unwrap();
    }
}
