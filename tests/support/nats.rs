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

/// By which ways each of the servers of a cluster reaches the others.
pub struct Ways(pub Vec<Way>);

/// The ways of one of them.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where it connects.
    pub to: Vec<SocketAddr>,
    /// What it tells others to connect to, where that is not where it listens.
    pub told: Option<SocketAddr>,
}

impl Ways {
    /// Each to all.
    pub fn all(routes: &[SocketAddr]) -> Self {
        Self(vec![Way { to: routes.to_vec(), told: None }; routes.len()])
    }
}

impl Way {
    fn text(&self, listen: SocketAddr) -> String {
        let to: Vec<_> = self.to.iter().map(|to| format!("\"nats://{to}\"")).collect();
        let told = self.told.map(|told| format!(", advertise: \"{told}\""));
        let (to, told) = (to.join(", "), told.unwrap_or_default());
        format!("cluster {{ name: tests, listen: \"{listen}\", routes: [{to}]{told} }}\n")
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Nats {
    /// So many servers, if there is a program. Ports are free when they are chosen: where somebody
    /// else takes one before a server does, all is begun anew.
    pub fn start(count: usize) -> Option<Self> {
        Self::start_with(count, |routes| Ways::all(&routes))
    }

    /// The same; how they reach one another is said of the addresses that they listen at.
    pub fn start_with(count: usize, ways: impl Fn(Vec<SocketAddr>) -> Ways) -> Option<Self> {
        let program = program()?;
        let all = (0..5).find_map(|_| Self::once(&program, count, &ways));
        all.or_else(|| panic!("no server came up"))
    }

    fn once(program: &Path, count: usize, ways: &dyn Fn(Vec<SocketAddr>) -> Ways) -> Option<Self> {
        let routes: Vec<_> = (0..count).map(|_| free()).collect();
        let Ways(ways) = ways(routes.clone());
        let servers = routes.iter().zip(ways).enumerate().map(|(at, (route, way))| {
            let (listen, monitoring, folder) = (free(), free(), TempDir::new().unwrap());
            let cluster = if count > 1 { way.text(*route) } else { String::new() };
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

    /// Where they listen to nodes.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.listen).collect()
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
        self.toml_by(&self.addresses())
    }

    /// The same, of a node that knows these addresses of it alone.
    pub fn toml_by(&self, addresses: &[SocketAddr]) -> String {
        let servers: Vec<_> = addresses.iter().map(|at| format!("nats://{at}")).collect();
        let NatsSettings { stream, replicas, monitoring, .. } = self.settings();
        format!(
            "[journal]\nengine = \"nats\"\nservers = {servers:?}\nstream = {stream:?}\n\
             replicas = {replicas}\nmonitoring = {monitoring:?}\n"
        )
    }

    /// Which of them leads the stream, as the engine itself says.
    pub fn leader(&self) -> usize {
        self.leader_by(|_| true)
    }

    /// The same, by the word of those that are asked.
    pub fn leader_by(&self, asked: impl Fn(usize) -> bool) -> usize {
        let begun = Instant::now();
        loop {
            let servers = self.servers.iter().enumerate().filter(|(at, _)| asked(*at));
            if let Some(at) = servers.filter_map(|(_, server)| server.leader()).next() {
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

    /// How many are connected to one of them.
    pub fn connections(&self, at: usize) -> u64 {
        let told = self.servers[at].told("varz").expect("it runs");
        told["connections"].as_u64().unwrap()
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

    /// SIGTERM, and it ends.
    pub fn stop(&mut self, at: usize) {
        self.signal(at, "TERM");
        self.servers[at].child.take().unwrap().wait().unwrap();
    }

    /// SIGKILL; what was synced stays.
    pub fn kill(&mut self, at: usize) {
        self.servers[at].end();
    }

    /// SIGKILL, and it comes again with an empty disk.
    pub fn lose_disk(&mut self, at: usize) {
        self.kill(at);
        std::fs::remove_dir_all(self.store(at)).unwrap();
        self.again(at);
    }

    /// What it keeps on disk.
    pub fn store(&self, at: usize) -> PathBuf {
        self.servers[at].folder.path().join("store")
    }

    /// A copy of its disk, while it does not run.
    pub fn back_up(&self, at: usize) -> TempDir {
        let copy = TempDir::new().unwrap();
        self.copy(at, &self.store(at), copy.path());
        copy
    }

    /// Puts a copy in the place of its disk, while it does not run.
    pub fn put_back(&self, at: usize, copy: &TempDir) {
        std::fs::remove_dir_all(self.store(at)).unwrap();
        self.copy(at, &copy.path().join("store"), self.servers[at].folder.path());
    }

    fn copy(&self, at: usize, from: &Path, into: &Path) {
        assert!(self.servers[at].child.is_none(), "it runs");
        let copied = Command::new("cp").arg("-a").args([from, into]).status();
        assert!(copied.unwrap().success());
    }

    /// The stream may have so many bytes from now on; -1: any number. How many it has.
    pub fn bound(&self, most: impl Fn(u64) -> i64) -> u64 {
        let urls = self.settings().servers;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(urls).await.unwrap();
            let context = async_nats::jetstream::new(client);
            let info = context.get_stream("highwater").await.unwrap().cached_info().clone();
            let max_bytes = most(info.state.bytes);
            let config = async_nats::jetstream::stream::Config { max_bytes, ..info.config };
            context.update_stream(config).await.unwrap();
            info.state.bytes
        })
    }

    /// Has the stream gone, as by somebody's hand.
    pub fn delete_stream(&self) {
        let urls = self.settings().servers;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = async_nats::connect(urls).await.unwrap();
            async_nats::jetstream::new(client).delete_stream("highwater").await.unwrap();
        });
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
        let told = self.told("jsz?streams=true")?;
        Some(told["account_details"][0]["stream_detail"][0].clone())
    }

    /// What its monitoring tells, if it runs.
    fn told(&self, path: &str) -> Option<serde_json::Value> {
        self.child.as_ref()?;
        let url = format!("http://{}/{path}", self.monitoring);
        let agent = ureq::Agent::config_builder().proxy(None);
        let agent = agent.timeout_global(Some(Duration::from_secs(5))).build().new_agent();
        let text = agent.get(&url).call().ok()?.body_mut().read_to_string().ok()?;
        serde_json::from_str(&text).ok()
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
