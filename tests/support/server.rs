//! The server as a process: started on a folder, killed, told to stop, started again.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater::auth::{Claims, Date, Signer};
use highwater::rows::Writes;
use highwater::store::Store;
use highwater::wire::Id;
use serde_json::Value;
use tempfile::TempDir;

use super::http::Http;
use super::nats::Nats;
use super::until;

/// The key that tests sign tokens with.
pub const SECRET: &str = "a secret of the tests, 32 bytes or more";

/// What a server is started with.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Development mode instead of a key.
    pub dev: bool,
    /// Limits other than the defaults.
    pub limits: Vec<(&'static str, u64)>,
    /// Lines of the configuration file before its sections, and after them.
    pub toml: String,
    /// Further arguments of `serve`.
    pub args: Vec<String>,
    /// How many files it may open, where that is fewer than usual.
    pub open_files: Option<u32>,
    /// Variables of the process.
    pub env: Vec<(&'static str, PathBuf)>,
    /// Blocks of 512 bytes that a file of it may have; more fails as on a full disk.
    pub file_blocks: Option<u64>,
}

impl Options {
    /// Development mode.
    pub fn dev() -> Self {
        Self { dev: true, ..Self::default() }
    }

    /// With a limit.
    pub fn limit(mut self, name: &'static str, value: u64) -> Self {
        self.limits.push((name, value));
        self
    }

    /// With a rule for a pattern: `snapshot` and lines of its own.
    pub fn rule(mut self, pattern: &str, snapshot: &str, more: &str) -> Self {
        let rule =
            format!("[[rules]]\npattern = \"{pattern}\"\nsnapshot = \"{snapshot}\"\n{more}\n");
        self.toml.push_str(&rule);
        self
    }

    fn config(&self) -> String {
        let mut text = String::new();
        if !self.dev {
            let key = format!("[[auth.keys]]\nalg = \"HS256\"\nsecret = \"{SECRET}\"\n");
            text.push_str(&key);
        }
        text.push_str("[limits]\n");
        // Tests are faster than people: rates are not what most of them are about.
        let mut limits = vec![("appends_per_user_second", 1_000_000), ("drain_ms", 500)];
        limits.retain(|(name, _)| self.limits.iter().all(|(own, _)| own != name));
        for (name, value) in limits.iter().chain(&self.limits) {
            writeln!(text, "{name} = {value}").unwrap();
        }
        text + &self.toml
    }
}

/// Copies a folder; holes of sparse files stay holes, as the engine's log is mostly one.
fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("cp");
    copy.args(["-a", "--sparse=always"]).arg(from).arg(to);
    assert!(copy.status().unwrap().success());
}

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    folder: TempDir,
    options: Options,
    /// Where its journal is, in tests that are run over an engine.
    engine: Option<Nats>,
}

impl Server {
    /// Starts one on a new folder; with `HIGHWATER_TESTS_ON=nats` over an engine of its own, where
    /// the test does not name one.
    pub fn start(mut options: Options) -> Self {
        let over = std::env::var("HIGHWATER_TESTS_ON").is_ok_and(|engine| engine == "nats");
        let engine = Some(over && !options.toml.contains("[journal]")).filter(|over| *over);
        let engine = engine.map(|_| Nats::start(1).expect("a nats-server"));
        if let Some(nats) = &engine {
            options.toml.push_str(&nats.toml());
        }
        let mut server = Self::start_in(TempDir::new().unwrap(), options);
        server.engine = engine;
        server
    }

    /// Starts one on the folder `data` in a folder.
    pub fn start_in(folder: TempDir, options: Options) -> Self {
        let (child, address) = spawn(folder.path(), &options);
        Self { child, address, folder, options, engine: None }
    }

    /// Begins to start one on the folder `data` in a folder, and kills it after a while, wherever
    /// it then is, unless it has ended.
    pub fn begin_and_kill(folder: &Path, options: &Options, after: Duration) {
        let mut child = begin(folder, options);
        let end = Instant::now() + after;
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What it has logged, over all its runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests of a user who may do everything; in development of nobody in particular.
    pub fn http(&self) -> Http {
        let token = token("root", &[("**", "read append snapshot signal admin")]);
        Http::new(&self.url(), (!self.options.dev).then_some(token))
    }

    /// Requests with a token, or none.
    pub fn http_as(&self, token: Option<String>) -> Http {
        Http::new(&self.url(), token)
    }

    /// What it shows of a connection.
    pub fn shows(&self, connection: Id) -> Value {
        self.http().get(&format!("/v1/connections/{connection}")).ok().json()
    }

    /// Waits until what it shows of a connection fits: that is durable.
    pub fn until_shows(&self, what: &str, connection: Id, fits: impl Fn(&Value) -> bool) {
        until(what, || fits(&self.shows(connection)));
    }

    /// A sample of `/metrics`, named with its labels and without the prefix; 0 where it is not.
    pub fn metric(&self, sample: &str) -> u64 {
        let text = self.http_as(None).get("/metrics").ok().text();
        let line = text.lines().find_map(|line| {
            let value = line.strip_prefix("highwater_")?.strip_prefix(sample)?;
            value.strip_prefix(' ')?.parse().ok()
        });
        line.unwrap_or_default()
    }

    /// Changes its rows behind its back: it has to have ended.
    pub fn edit(&self, change: impl FnOnce(&Store, &mut Writes)) {
        let store = Store::open(&self.data(), highwater::store::Options::default()).unwrap();
        let mut writes = Writes::default();
        change(&store, &mut writes);
        store.commit(writes, None, true).unwrap();
    }

    /// Copies its data folder, as a backup of a stopped node is made.
    pub fn back_up(&self) -> TempDir {
        let backup = TempDir::new().unwrap();
        copy(&self.data(), &backup.path().join("data"));
        backup
    }

    /// Puts a backup in the place of its data folder: it has to have ended.
    pub fn put_back(&self, backup: &TempDir) {
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&backup.path().join("data"), &self.data());
    }

    /// The id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait_for_end()
    }

    /// SIGTERM.
    pub fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// How it ended, once it has.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "the server did not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal, by its name.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Starts it again on the same data, once it has ended.
    pub fn restart(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        (self.child, self.address) = spawn(self.folder.path(), &self.options);
    }

    /// Starts it again, once it has ended: its log where it cannot.
    pub fn try_restart(&mut self) -> Result<(), String> {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        (self.child, self.address) = try_spawn(self.folder.path(), &self.options)?;
        Ok(())
    }

    /// Starts it again with other options.
    pub fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.restart();
    }

    /// Starts it with options with which it cannot, once it has ended: how it ended, and its log.
    pub fn fails_with(&mut self, options: &Options) -> (ExitStatus, String) {
        assert!(self.child.try_wait().unwrap().is_some(), "it still runs");
        self.child = begin(self.folder.path(), options);
        let ended = self.wait_for_end();
        (ended, self.log())
    }

    /// SIGKILL and start.
    pub fn crash(&mut self) {
        self.kill9();
        self.restart();
    }

    /// Runs the program with these arguments to its end.
    pub fn command(arguments: &[&str]) -> Output {
        program().args(arguments).output().unwrap()
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// Processor time used, user and system, in ticks of 10 ms.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let after = stat.rsplit(") ").next().unwrap();
        let fields: Vec<&str> = after.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log());
        }
    }
}

/// The program, by a shell that first takes something away from it.
fn after(script: &str) -> Command {
    let script = format!("{script}; exec \"$0\" \"$@\"");
    let mut command = clean("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_highwater")]);
    command
}

fn program() -> Command {
    clean(env!("CARGO_BIN_EXE_highwater"))
}

/// A command that hears nothing of this process's own settings.
fn clean(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(name);
        }
    }
    command
}

/// A process that has begun to start.
fn begin(folder: &Path, options: &Options) -> Child {
    let config = folder.join("highwater.toml");
    std::fs::write(&config, options.config()).unwrap();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.join("log"));
    let mut command = match (options.open_files, options.file_blocks) {
        (Some(files), _) => after(&format!("ulimit -n {files}")),
        // It is not ended by the signal that comes with that, so writes fail.
        (None, Some(blocks)) => after(&format!("trap '' XFSZ; ulimit -f {blocks}")),
        (None, None) => program(),
    };
    command.arg("serve").arg("--config").arg(config).arg("--data").arg(folder.join("data"));
    command.args(["--listen", "127.0.0.1:0"]);
    if options.dev {
        command.arg("--dev");
    }
    command.args(&options.args).stdout(Stdio::piped()).stderr(log.unwrap());
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    command.spawn().unwrap()
}

fn spawn(folder: &Path, options: &Options) -> (Child, SocketAddr) {
    try_spawn(folder, options).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
}

/// A process that serves; or the log of one that did not start.
fn try_spawn(folder: &Path, options: &Options) -> Result<(Child, SocketAddr), String> {
    let mut child = begin(folder, options);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Some(address) = line.trim().strip_prefix("listening on http://") else {
        child.kill().ok();
        child.wait().ok();
        return Err(std::fs::read_to_string(folder.join("log")).unwrap_or_default());
    };
    let address = address.parse().unwrap();
    Ok((child, address))
}

/// The time, milliseconds since 1970.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// A token for a user, with grants like `("docs/**", "read append")`, for an hour.
pub fn token(user: &str, grants: &[(&str, &str)]) -> String {
    token_until(user, grants, now_ms() + 3_600_000)
}

/// A token that ends at a time, milliseconds since 1970.
pub fn token_until(user: &str, grants: &[(&str, &str)], exp: u64) -> String {
    let grants: Vec<_> = (grants.iter())
        .map(|(logs, can)| {
            serde_json::json!({ "logs": logs, "can": can.split(' ').collect::<Vec<_>>() })
        })
        .collect();
    let claims: Claims =
        serde_json::from_value(serde_json::json!({ "sub": user, "exp": 0, "grants": grants }))
            .unwrap();
    let claims = Claims { exp: Date::from_ms(exp), ..claims };
    Signer::from_secret(None, SECRET.as_bytes()).unwrap().sign(&claims).unwrap()
}
