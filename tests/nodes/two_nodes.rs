//! Two whole nodes on one journal whose order is decided elsewhere: sockets, gateways, folds and
//! stores of their own, users shared. Appends time out with their fate unknown while it runs.
//!
//! It proves that the seam is real: a connection is met on whichever node its client lands, a clone
//! crosses nodes, a second attachment fences the first wherever it is, and both stores end equal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use highwater::auth::{Claims, Date, Grant, Signer};
use highwater::client::{Config, Event, Input, Log, Output, Writer};
use highwater::connection::NodeRow;
use highwater::journal::{Engine, Faults, MemoryCluster};
use highwater::node::Node;
use highwater::node::config::{Loaded, ServeFlags};
use highwater::rows::{Rows, Table, read_row};
use highwater::store::{OpenError, Options, Store};
use highwater::wire::{
    Bye, Cloning, Code, Encoding, Id, Met, Outcome, Payload, Record, ServerFrame, Start, Target,
    Welcome, codec,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

mod history;
mod on_nats;

/// Nothing here takes longer, also on a busy machine; a test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<std::process::ExitCode>,
    data: tempfile::TempDir,
}

const SECRET: &str = "a secret of thirty-two bytes or more";

fn token(user: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let claims = Claims {
        sub: user.to_owned(),
        exp: Date::from_ms(u64::try_from(now.as_millis()).unwrap() + 3_600_000),
        nbf: None,
        iat: None,
        aud: None,
        jti: None,
        grants: vec![Grant::everything()],
    };
    Signer::from_secret(None, SECRET.as_bytes()).unwrap().sign(&claims).unwrap()
}

async fn node(cluster: &MemoryCluster) -> Running {
    node_on(cluster, tempfile::tempdir().unwrap()).await
}

async fn node_on(cluster: &MemoryCluster, data: tempfile::TempDir) -> Running {
    started(cluster, data, "").await.unwrap()
}

/// With rules of its own; a start that fails says why.
async fn started(
    cluster: &MemoryCluster,
    data: tempfile::TempDir,
    rules: &str,
) -> Result<Running, String> {
    let loaded = loaded(&data, rules);
    let journal = cluster.node();
    started_on(Engine::elsewhere(journal), loaded, data).await
}

/// What a node with those rules is told.
fn loaded(data: &tempfile::TempDir, rules: &str) -> Loaded {
    let config = data.path().join("highwater.toml");
    let key = format!("[[auth.keys]]\nalg = \"HS256\"\nsecret = \"{SECRET}\"\n{rules}");
    std::fs::write(&config, key).unwrap();
    let flags = ServeFlags {
        listen: Some("127.0.0.1:0".to_owned()),
        data: Some(data.path().join("store").to_str().unwrap().to_owned()),
        config: Some(config),
        set: vec!["limits.commit_interval_ms=50".to_owned(), "limits.drain_ms=0".to_owned()],
        ..ServeFlags::default()
    };
    Loaded::load(&flags, &[]).unwrap()
}

/// On any engine.
async fn started_on(
    engine: Engine,
    loaded: Loaded,
    data: tempfile::TempDir,
) -> Result<Running, String> {
    let started = Node::start(loaded.config, |_| engine);
    let node = tokio::time::timeout(PATIENCE, started).await.expect("it starts or fails");
    let node = node.map_err(|error| error.to_string())?;
    let address = node.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(node.serve(async {
        stopped.await.ok();
    }));
    Ok(Running { address, stop, ended, data })
}

/// The client of the product on a WebSocket: JSON lines, cursors, appends.
struct Client {
    ws: WebSocketStream<TcpStream>,
    machine: highwater::client::Client,
    started: std::time::Instant,
    welcome: Option<Welcome>,
    seen: BTreeMap<u64, Vec<u64>>,
    bye: Option<Bye>,
}

/// A client of a user that reads `docs/1`, if that is what it opens.
fn client(user: &str, connection: u8, open: &[&str]) -> highwater::client::Client {
    let own = Config {
        token: Some(token(user)),
        encoding: Encoding::Json,
        // Frames go at once, so that many are on their way.
        credit: false,
        ..Config::new(Id([connection; 16]), Id([100 + connection; 16]))
    };
    let mut client = highwater::client::Client::new(own);
    open.iter().for_each(|name| client.want(name, Start::State, 0));
    client
}

/// One of ana's that reads `docs/1` and takes over nothing of her others.
fn by_itself(connection: u8) -> highwater::client::Client {
    let mut own = client("ana", connection, &["docs/1"]);
    own.config_mut().cloning = Cloning::None;
    own
}

impl Client {
    async fn hello(address: SocketAddr, machine: highwater::client::Client) -> (Self, Welcome) {
        let mut request = format!("ws://{address}/v1/connect").into_client_request().unwrap();
        let subprotocol = "highwater.v1.json".parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let tcp = TcpStream::connect(address).await.unwrap();
        let (ws, _) = tokio_tungstenite::client_async(request, tcp).await.unwrap();
        let started = std::time::Instant::now();
        let (welcome, seen, bye) = Default::default();
        let mut client = Self { ws, machine, started, welcome, seen, bye };
        client.hand_in(Input::Open { spare: Id([99; 16]) }).await;
        client.until("it is met", |client| client.welcome.is_some()).await;
        let welcome = client.welcome.clone().unwrap();
        (client, welcome)
    }

    async fn hand_in(&mut self, input: Input<'_>) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        self.machine.handle(now, input);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send(frame) => {
                    let line = codec::message(&frame, Encoding::Json);
                    self.ws.send(Message::text(String::from_utf8(line).unwrap())).await.unwrap();
                }
                Output::Tell(event) => self.told(event),
                Output::Close | Output::Connect { .. } => {}
            }
        }
    }

    /// Promise 1: each record once, in order, without a hole. No append is refused or put off,
    /// though the journal leaves batches without an answer.
    fn told(&mut self, event: Event) {
        match event {
            Event::Frame(ServerFrame::Welcome(told)) => self.welcome = Some(told),
            Event::Frame(ServerFrame::Bye(told)) => self.bye = Some(told),
            Event::Frame(ServerFrame::Records(told)) => {
                let offsets = told.base..told.base + told.records.len() as u64;
                self.seen.entry(told.log).or_default().extend(offsets);
            }
            Event::Settled { outcome: Outcome::Stored { .. }, .. }
            | Event::Renumbered { .. }
            | Event::Frame(_) => {}
            other => panic!("{other:?}"),
        }
    }

    async fn until(&mut self, what: &str, so: impl Fn(&Self) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !so(self) {
            let due = self.machine.deadline().map(|at| self.started + Duration::from_millis(at));
            let due = due.map_or(end, |due| end.min(due.into()));
            match tokio::time::timeout_at(due, self.ws.next()).await {
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.hand_in(Input::Message(text.as_bytes())).await;
                }
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(_)) | None) => panic!("closed before {what}: {:?}", self.bye),
                Err(_) => self.hand_in(Input::Time).await,
            }
            assert!(tokio::time::Instant::now() < end, "in vain: {what}");
        }
    }

    async fn until_cursor(&mut self, name: &str, cursor: u64) {
        let reached = |log: &Log| log.shown() && log.cursor >= cursor;
        let what = format!("{name} at {cursor}");
        self.until(&what, |client| client.machine.log(name).is_some_and(reached)).await;
    }

    /// Appends as a writer of its own, and takes the answers.
    async fn append_all(&mut self, id: u8, log: &str, count: u64) {
        self.machine.adopt(unanswered(id, log, count));
        self.until("all answers", |client| client.machine.unanswered() == 0).await;
    }
}

/// A writer whose appends have no answer yet; they are the same each time.
fn unanswered(id: u8, log: &str, count: u64) -> Writer {
    let mut writer = Writer::new(Id([id; 16]));
    for seq in 1..=count {
        let payload = Some(Payload::text(format!("{id} {seq}")));
        let record = Record { payload, ..Record::default() };
        writer.number(Target::Name(log.to_owned()), None, record);
    }
    writer
}

/// Sockets say their last words for a moment after their node has stopped, and hold its store.
fn free_store(data: &std::path::Path) -> Store {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match Store::open(&data.join("store"), Options::default()) {
            Ok(store) => return store,
            Err(OpenError::InUse(_)) if std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn all_rows(data: &std::path::Path) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let store = free_store(data);
    let rows = |table| {
        let pairs = store.scan(table, &[], &[], 1_000_000).unwrap();
        pairs.into_iter().map(move |(key, value)| (table, key, value))
    };
    Table::ALL.into_iter().flat_map(rows).collect()
}

async fn stop(running: Running) -> tempfile::TempDir {
    let Running { stop, ended, data, .. } = running;
    stop.send(()).unwrap();
    let code = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
    assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
    drop(free_store(data.path()));
    data
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a node folded and lost, the journal still has: its next run gets a number that none had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_on_an_older_copy_of_its_store_catches_up_first() {
    let cluster = MemoryCluster::new(Id([8; 16]), Faults::default());
    let data = stop(node(&cluster).await).await;
    let older = tempfile::tempdir().unwrap();
    copy(&data.path().join("store"), older.path());
    // Two runs that the copy knows nothing of.
    let mut data = data;
    for run in 1..=2 {
        let running = node_on(&cluster, data).await;
        let (mut reader, _) = Client::hello(running.address, client("ann", 1, &["docs/1"])).await;
        reader.append_all(10 + run, "docs/1", 20).await;
        drop(reader);
        data = stop(running).await;
    }
    std::fs::remove_dir_all(data.path().join("store")).unwrap();
    copy(older.path(), &data.path().join("store"));
    let running = node_on(&cluster, data).await;
    let (mut reader, welcome) = Client::hello(running.address, client("ann", 1, &["docs/1"])).await;
    assert_eq!(welcome.met, Met::Resumed, "the connection is known");
    reader.append_all(13, "docs/1", 5).await;
    reader.until_cursor("docs/1", 45).await;
    let data = stop(running).await;
    let nodes = all_rows(data.path()).into_iter().filter(|row| row.0 == Table::Nodes);
    let nodes: Vec<NodeRow> =
        nodes.map(|(table, _, value)| read_row(table, &value).unwrap()).collect();
    assert_eq!(nodes.iter().map(|row| row.incarnation).collect::<Vec<_>>(), [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_13_two_nodes_that_share_users_end_equal() {
    let cluster = MemoryCluster::new(
        Id([9; 16]),
        Faults { seed: 7, unknown_per_mille: 100, ..Faults::default() },
    );
    let one = node(&cluster).await;
    let two = node(&cluster).await;
    // A client on node one, its second connection on node two: the same user by the same token.
    let (mut first, welcome) = Client::hello(one.address, client("ann", 1, &["docs/1"])).await;
    assert_eq!(welcome.met, Met::Fresh);
    first.append_all(11, "docs/1", 200).await;

    let (mut second, welcome) = Client::hello(two.address, client("ann", 2, &[])).await;
    assert_eq!((welcome.met, welcome.source), (Met::Cloned, Some(Id([1; 16]))));
    second.until_cursor("docs/1", 200).await;

    // What is appended on one node is delivered on both.
    second.append_all(12, "docs/1", 100).await;
    first.until_cursor("docs/1", 300).await;
    second.until_cursor("docs/1", 300).await;

    // The first connection lands on the other node: resumed there, fenced here.
    let log = first.machine.log("docs/1").unwrap().log;
    let mut again = client("ann", 1, &["docs/1"]);
    again.hold("docs/1", log, 300);
    again.adopt(unanswered(11, "docs/1", 200));
    let (mut moved, welcome) = Client::hello(two.address, again).await;
    assert_eq!(welcome.met, Met::Resumed);
    let mark = welcome.writers.iter().find(|at| at.writer == Id([11; 16])).unwrap().mark;
    assert_eq!(mark, 200);
    first.until("the fence", |client| client.bye.is_some()).await;
    assert_eq!(first.bye.unwrap().code, Code::Fenced);
    moved.append_all(13, "docs/1", 50).await;
    second.until_cursor("docs/1", 350).await;
    assert_eq!(second.seen[&log], (0..350).collect::<Vec<_>>());

    // A repeat on another node, much later, is stored once and answered alike.
    moved.append_all(11, "docs/1", 200).await;
    cluster.heal();
    moved.append_all(14, "docs/1", 1).await;
    second.until_cursor("docs/1", 351).await;

    for running in [one, two].map(|running| (running.stop, running.ended, running.data)) {
        let (stop, ended, data) = running;
        stop.send(()).unwrap();
        let code = tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
        FOLDED.lock().unwrap().push(data);
    }
    let folded = std::mem::take(&mut *FOLDED.lock().unwrap());
    let [one, two] = [all_rows(folded[0].path()), all_rows(folded[1].path())];
    assert!(one.len() > 350);
    let [one, two] = in_both(&one, &two);
    assert!(one == two, "the same rows");
}

type AllRows = [Row];

/// Table, key and value of a row.
type Row = (Table, Vec<u8>, Vec<u8>);

/// What two nodes have to have alike. The one that stopped first did not see the other's farewell:
/// a node's row, the batch's, and the fold's own.
fn in_both(one: &AllRows, two: &AllRows) -> [Vec<Row>; 2] {
    let last = |rows: &AllRows| {
        rows.iter().filter(|row| row.0 == Table::Places).map(|row| row.1.clone()).max()
    };
    let both_have = last(one).min(last(two)).unwrap();
    [one, two].map(|rows| {
        let keeps = |row: &&Row| match row.0 {
            Table::Nodes | Table::Meta => false,
            Table::Places => row.1 <= both_have,
            _ => true,
        };
        rows.iter().filter(keeps).cloned().collect()
    })
}

/// An HTTP request of a user: its status.
async fn ask(address: SocketAddr, user: &str, method: &str, path: &str, body: &Value) -> u16 {
    state(address, user, (method, path), body, None).await.0
}

/// An HTTP request that may state a position, on a thread that may wait: its status, and the
/// position that it is told.
async fn state(
    address: SocketAddr,
    user: &str,
    (method, path): (&str, &str),
    body: &Value,
    position: Option<&str>,
) -> (u16, String) {
    let url = format!("http://{address}{path}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let token = format!("Bearer {}", token(user));
    let request = ureq::http::Request::builder().method(method).uri(url);
    let request = request.header("authorization", token);
    let request = position
        .into_iter()
        .fold(request, |request, position| request.header("highwater-position", position));
    let asked = tokio::task::spawn_blocking(move || {
        let request = request.body(body).unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        config.allow_non_standard_methods(true).build().new_agent().run(request).unwrap()
    });
    let answer = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    let told = answer.headers().get("highwater-position");
    // A refusal for another history tells none: it would be taken for one to go on with.
    assert_eq!(told.is_none(), answer.status().as_u16() == 409);
    let told = told.map_or("", |told| told.to_str().unwrap()).to_owned();
    (answer.status().as_u16(), told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promise_11_who_is_revoked_on_one_node_is_out_on_all() {
    let faults = Faults { seed: 11, unknown_per_mille: 100, ..Faults::default() };
    let cluster = MemoryCluster::new(Id([10; 16]), faults);
    let one = node(&cluster).await;
    let two = node(&cluster).await;
    let (mut ann, _) = Client::hello(two.address, client("ann", 1, &["docs/1"])).await;
    let (mut ben, _) = Client::hello(two.address, client("ben", 2, &["docs/1"])).await;
    let nothing = Value::Null;
    assert_eq!(ask(two.address, "ann", "GET", "/v1/logs", &nothing).await, 200);

    let body = json!({ "user": "ann" });
    assert_eq!(ask(one.address, "root", "POST", "/v1/revocations", &body).await, 201);
    ann.until("the end", |client| client.bye.is_some()).await;
    assert_eq!(ann.bye.unwrap().code, Code::Revoked);
    for node in [&one, &two] {
        assert_eq!(ask(node.address, "ann", "GET", "/v1/logs", &nothing).await, 401);
    }
    ben.append_all(12, "docs/1", 5).await;

    // A node that joins later, and one that comes back, know it before they let anyone in.
    let three = node(&cluster).await;
    assert_eq!(ask(three.address, "ann", "GET", "/v1/logs", &nothing).await, 401);
    let two = node_on(&cluster, stop(two).await).await;
    assert_eq!(ask(two.address, "ann", "GET", "/v1/logs", &nothing).await, 401);

    let path = "/v1/revocations?user=ann";
    assert_eq!(ask(three.address, "root", "DELETE", path, &nothing).await, 200);
    for node in [&one, &two, &three] {
        let deadline = std::time::Instant::now() + PATIENCE;
        while ask(node.address, "ann", "GET", "/v1/logs", &nothing).await != 200 {
            assert!(std::time::Instant::now() < deadline, "it counts again on every node");
        }
    }
    for node in [one, two, three] {
        stop(node).await;
    }
}

/// Folders of stopped nodes, kept until both are compared.
static FOLDED: std::sync::Mutex<Vec<tempfile::TempDir>> = std::sync::Mutex::new(Vec::new());

/// The engine loses its tail. The node whose store is further than the journal now cannot go on,
/// and says so; but the one whose store is not must be able to.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_ahead_of_the_journal_writes_nothing_into_it() {
    let cluster = MemoryCluster::new(Id([9; 16]), Faults::default());
    let (ahead, behind) = (node(&cluster).await, node(&cluster).await);
    let behind = stop(behind).await;
    let (mut writer, _) = Client::hello(ahead.address, client("ana", 1, &["docs/1"])).await;
    for n in 0..10 {
        writer.append_all(20 + n, "docs/1", 1).await;
    }
    drop(writer);
    let ahead = stop(ahead).await;
    cluster.lose(6);
    let refused = started(&cluster, ahead, "").await.err().expect("it cannot start");
    assert!(refused.contains("Nothing was written into it"), "{refused}");
    let behind = node_on(&cluster, behind).await;
    stop(behind).await;
}

/// On a new journal no command has set rules and limits yet. What each node was told must not make
/// it fold otherwise than the next one does: the one that starts last is the one that counts.
#[tokio::test(flavor = "multi_thread")]
async fn promise_13_nodes_that_are_told_different_rules_fold_by_the_same() {
    let cluster = MemoryCluster::new(Id([9; 16]), Faults::default());
    let rule = "[[rules]]\npattern = \"docs/**\"\nsnapshot = \"latest\"\n";
    let folder = || tempfile::tempdir().unwrap();
    let one = started(&cluster, folder(), "").await.unwrap();
    let two = started(&cluster, folder(), rule).await.unwrap();
    for (at, node) in [&one, &two].into_iter().enumerate() {
        let at = u8::try_from(at).unwrap();
        let log = format!("docs/{at}");
        let mut own = client("ana", 1 + at, &[&log]);
        own.config_mut().cloning = Cloning::None;
        let (mut writer, _) = Client::hello(node.address, own).await;
        // Each batch names the rows that its node has, so that one that folds otherwise ends.
        for n in 0..10 {
            writer.append_all(20 + 20 * at + n, &log, 1).await;
        }
    }
    stop(one).await;
    stop(two).await;
}

/// A client that keeps to the limits must never be refused for what the engine takes at once.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_takes_less_than_a_frame_is_refused_at_the_start() {
    let cluster = MemoryCluster::new(Id([9; 16]), Faults::default());
    cluster.take_at_most(512 << 10);
    let folder = || tempfile::tempdir().unwrap();
    let refused = started(&cluster, folder(), "").await.err().expect("1 MiB is too much");
    assert!(refused.contains("limits.frame_bytes is 1048576"), "{refused}");
    assert!(refused.contains("set limits.frame_bytes to 245760 or less"), "{refused}");
    let small = "[limits]\nframe_bytes = 245760\nrecord_bytes = 65536\n\
                 snapshot_part_bytes = 65536\n";
    stop(started(&cluster, folder(), small).await.unwrap()).await;
}

/// What is too much for one batch comes in the next, and what the engine refuses is proposed anew:
/// each append is stored once, on the node that took it and on the other.
#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_takes_little_and_refuses_some_of_it_holds_nobody_up() {
    let faults = Faults { seed: 5, refused_per_mille: 100, ..Faults::default() };
    let cluster = MemoryCluster::new(Id([9; 16]), faults);
    let (one, two) = (node(&cluster).await, node(&cluster).await);
    // An engine that takes less than a frame would not be started on; here it is set lower later,
    // so that a few small frames are too much for one batch.
    cluster.take_at_most(8 << 10);
    let (mut writer, _) = Client::hello(one.address, by_itself(1)).await;
    let (mut reader, _) = Client::hello(two.address, by_itself(2)).await;
    // Ten frames are on their way at a time: together they are more than a batch may hold.
    for n in 0..10 {
        let mut many = Writer::new(Id([20 + n; 16]));
        for _ in 0..20 {
            let payload = Some(Payload::text("x".repeat(200)));
            let record = Record { payload, ..Record::default() };
            many.number(Target::Name("docs/1".to_owned()), None, record);
        }
        writer.machine.adopt(many);
    }
    writer.hand_in(Input::Time).await;
    writer.until_cursor("docs/1", 200).await;
    reader.until_cursor("docs/1", 200).await;
    drop((writer, reader));
    stop(one).await;
    stop(two).await;
}
