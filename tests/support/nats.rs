//! Real nats-servers with JetStream, on this machine's loopback: one alone or three that are a
//! cluster. They sync what they acknowledge. Where no program is found, tests say so and test
//! nothing, unless `HIGHWATER_ENGINE=needed`.

#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater::journal::{NatsJournal, NatsSettings};
use tempfile::TempDir;

/// A server that takes longer to come has failed.
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams of tests are made anew until then: a cluster takes a while to have a leader.
const MOST_PAYLOAD: u32 = 8 << 20;

/// Servers that are one engine; ended when it is dropped.
pub struct Nats {
    servers: Vec<Server>,
}

struct Server {
    child: Option<Child>,
    program: PathBuf,
    folder: TempDir,
    listen: SocketAddr,
    monitoring: SocketAddr,
}

/// The program, where there is one: `NATS_SERVER`, one that is installed, or one that
/// `scripts/engine.sh` has taken.
fn program() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").filter(|named| !named.is_empty());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    let taken = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/nats/nats-server");
    let found =
        named.map(PathBuf::from).or_else(|| installed.chain([taken]).find(|place| place.is_file()));
    if found.is_none() {
        let needed = std::env::var("HIGHWATER_ENGINE").is_ok_and(|said| said == "needed");
        assert!(!needed, "there is no nats-server, and it is needed: see scripts/engine.sh");
        eprintln!("left out: there is no nats-server; scripts/engine.sh gets one");
    }
    found
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Nats {
    /// So many servers, if there is a program. Ports are free when they are chosen: where somebody
    /// else takes one before a server does, all is begun anew.
    pub fn start(count: usize) -> Option<Self> {
        let program = program()?;
        (0..5).find_map(|_| Self::once(&program, count)).or_else(|| panic!("no server came up"))
    }

    fn once(program: &Path, count: usize) -> Option<Self> {
        let routes: Vec<_> = (0..count).map(|_| free()).collect();
        let all: Vec<_> = routes.iter().map(|route| format!("\"nats://{route}\"")).collect();
        let servers = routes.iter().enumerate().map(|(at, route)| {
            let (listen, monitoring, folder) = (free(), free(), TempDir::new().unwrap());
            let cluster = if count > 1 {
                let routes = all.join(", ");
                format!("cluster {{ name: tests, listen: \"{route}\", routes: [{routes}] }}\n")
            } else {
                String::new()
            };
            let text = format!(
                "server_name: n{at}\nlisten: \"{listen}\"\nhttp: \"{monitoring}\"\n\
                 max_payload: {MOST_PAYLOAD}\n\
                 jetstream {{ store_dir: \"{}\", sync_interval: always }}\n{cluster}",
                folder.path().join("store").display()
            );
            std::fs::write(folder.path().join("nats.conf"), text).unwrap();
            let program = program.to_owned();
            Server { child: None, program, folder, listen, monitoring }
        });
        let mut own = Self { servers: servers.collect() };
        own.servers.iter_mut().for_each(Server::run);
        own.servers.iter_mut().all(Server::comes_up).then_some(own)
    }

    /// How a node reaches it.
    pub fn settings(&self) -> NatsSettings {
        let servers = self.servers.iter().map(|server| format!("nats://{}", server.listen));
        let monitoring = self.servers.iter().map(|server| format!("http://{}", server.monitoring));
        NatsSettings {
            servers: servers.collect(),
            stream: "highwater".to_owned(),
            replicas: self.servers.len(),
            user: None,
            password_file: None,
            credentials_file: None,
            ca_file: None,
            monitoring: monitoring.collect(),
        }
    }

    /// The lines of a node's configuration.
    pub fn toml(&self) -> String {
        let NatsSettings { servers, stream, replicas, monitoring, .. } = self.settings();
        format!(
            "[journal]\nengine = \"nats\"\nservers = {servers:?}\nstream = {stream:?}\n\
             replicas = {replicas}\nmonitoring = {monitoring:?}\n"
        )
    }

    /// Which of them leads the stream, as the engine itself says.
    pub fn leader(&self) -> usize {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.servers.iter().find_map(Server::leader) {
                return at;
            }
            assert!(begun.elapsed() < PATIENCE, "no server says who leads");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The first message that the stream still has, as one of them tells; 0: none tells.
    pub fn first_sequence(&self) -> u64 {
        let first = |server: &Server| server.stream()?["state"]["first_seq"].as_u64();
        self.servers.iter().find_map(first).unwrap_or(0)
    }

    /// A node's handle; a cluster that has just come up may have no leader yet.
    pub fn journal(&self) -> NatsJournal {
        let begun = Instant::now();
        loop {
            match NatsJournal::open(&self.settings(), true) {
                Ok(journal) => return journal,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        }
    }

    /// SIGKILL; what was synced stays.
    pub fn kill(&mut self, at: usize) {
        self.servers[at].end();
    }

    /// SIGKILL, and it comes again with an empty disk.
    pub fn lose_disk(&mut self, at: usize) {
        self.kill(at);
        std::fs::remove_dir_all(self.servers[at].folder.path().join("store")).unwrap();
        self.again(at);
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, at: usize, name: &str) {
        let pid = self.servers[at].child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// It comes again, with what it has on disk.
    pub fn again(&mut self, at: usize) {
        self.servers[at].run();
        assert!(self.servers[at].comes_up(), "it comes again");
    }
}

impl Server {
    fn run(&mut self) {
        let log = self.folder.path().join("log");
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.folder.path().join("nats.conf"));
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.child = Some(quiet.spawn().unwrap());
    }

    /// Whether it listens; false where it ended, as on a port that was taken.
    fn comes_up(&mut self) -> bool {
        let begun = Instant::now();
        while TcpStream::connect(self.listen).is_err() {
            if self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some()) {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "nats-server does not listen");
            std::thread::yield_now();
        }
        true
    }

    /// Who leads the stream, by this server's word, if it runs and knows.
    fn leader(&self) -> Option<usize> {
        self.stream()?["cluster"]["leader"].as_str()?.strip_prefix('n')?.parse().ok()
    }

    /// What it tells of the stream.
    fn stream(&self) -> Option<serde_json::Value> {
        self.child.as_ref()?;
        let url = format!("http://{}/jsz?streams=true", self.monitoring);
        let agent = ureq::Agent::config_builder().proxy(None);
        let agent = agent.timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        let text = agent.get(&url).call().ok()?.body_mut().read_to_string().ok()?;
        let told: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(told["account_details"][0]["stream_detail"][0].clone())
    }

    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}
