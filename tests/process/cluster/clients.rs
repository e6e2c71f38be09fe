//! Who writes and who reads while nodes and the engine have their faults: on threads of their own,
//! at one node until that is gone or says that it is going, then at the next one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater::wire::{Cloning, Id, Outcome, Start};

use super::root;
use crate::support::{Client, Http, LONGEST, id};

/// Where they write and read.
pub const LOGS: [&str; 3] = ["load/a", "load/b", "load/c"];
/// Records of one append.
const AT_ONCE: u64 = 3;
/// Between two appends of a writer.
const PACE: Duration = Duration::from_millis(20);
/// Appends that a writer has without an answer.
pub const UNANSWERED: usize = 24;
/// What a node may take to greet, and to answer a request.
const PATIENCE: Duration = Duration::from_secs(10);

/// What they share with who started them.
#[derive(Default)]
pub struct Shared {
    /// Where nodes are: one that comes again has another port.
    pub places: Mutex<Vec<SocketAddr>>,
    /// Writers begin nothing new.
    pub stop: AtomicBool,
    /// The test has failed: all of them end.
    pub abandoned: AtomicBool,
    /// How many records of each writer are acknowledged.
    pub acknowledged: [AtomicU64; 3],
    /// How many of its records were sent and have no answer.
    pub waiting: [AtomicU64; 3],
    /// The longest that a record of it had to wait, milliseconds.
    pub longest: [AtomicU64; 3],
    /// Where logs end, once that is known.
    pub heads: Mutex<Option<BTreeMap<&'static str, u64>>>,
}

impl Shared {
    fn place(&self, at: usize) -> SocketAddr {
        let places = self.places.lock().unwrap();
        places[at % places.len()]
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Panics where nobody waits any more, or for too long.
    fn hold_on(&self, begun: Instant) {
        assert!(!self.abandoned.load(Ordering::SeqCst), "the test has ended");
        assert!(!self.is_stopped() || begun.elapsed() < 3 * LONGEST, "it does not come to its end");
    }

    fn note(&self, writer: usize, acknowledged: usize, waited: Duration) {
        self.acknowledged[writer].store(acknowledged as u64, Ordering::SeqCst);
        let waited = u64::try_from(waited.as_millis()).unwrap();
        self.longest[writer].fetch_max(waited, Ordering::SeqCst);
    }
}

/// What was acknowledged to a writer, oldest first: where, and what.
pub type Written = Vec<(&'static str, u64, String)>;

/// The texts of a writer are its name and their number.
fn texts(writer: usize, first: u64) -> impl Iterator<Item = String> {
    (first..first + AT_ONCE).map(move |n| format!("{writer}-{n}"))
}

/// A client that is at some node.
struct Attached {
    client: Client,
    at: usize,
    greeted_by: Instant,
}

impl Attached {
    fn new(user: &str, at: usize) -> Self {
        let mut client = Client::new(user);
        client.cloning = Cloning::None;
        (client.activates, client.credit, client.asks_again) = (true, true, true);
        client.gives_up = true;
        Self { client, at, greeted_by: Instant::now() }
    }

    /// Takes what comes for a moment; goes to the next node where this one has closed.
    fn step(&mut self, shared: &Shared) {
        if self.client.link.is_none() {
            if !self.client.try_hello(shared.place(self.at), PATIENCE) {
                self.at += 1;
                std::thread::sleep(PACE);
                return;
            }
            self.greeted_by = Instant::now() + PATIENCE;
        }
        self.client.step(Instant::now() + PACE);
        let late = self.client.welcome.is_none() && Instant::now() > self.greeted_by;
        if self.client.closed.is_some() || late {
            self.client.cut();
            self.at += 1;
        }
    }

    /// It was never told that it is of another history, nor of a gap.
    fn had_one_history(&self) {
        assert_eq!(self.client.others, 0, "another history");
        let gaps = self.client.folded.values().all(|folded| folded.gaps.is_empty());
        assert!(gaps, "a gap");
    }
}

/// Writes over a socket, several appends under way, until it is to stop and all are answered.
pub fn write(shared: &Shared, writer: usize) -> Written {
    let mut own = Attached::new(&format!("writer-{writer}"), writer);
    let (mut sent, mut due, begun) = (Vec::new(), Instant::now(), Instant::now());
    // When the sequence was sent that is the oldest without an answer.
    let mut times: Vec<Instant> = Vec::new();
    loop {
        shared.hold_on(begun);
        let met = own.client.link.is_some() && own.client.welcome.is_some();
        let room = own.client.unanswered() < UNANSWERED;
        if met && room && !shared.is_stopped() && Instant::now() >= due {
            let first = sent.len() as u64;
            let log = LOGS[(first / AT_ONCE) as usize % LOGS.len()];
            sent.extend(texts(writer, first).map(|text| (log, text)));
            times.resize(sent.len(), Instant::now());
            own.client.append_all(log, texts(writer, first));
            due = Instant::now() + PACE;
        }
        let answered = own.client.outcomes().len();
        own.step(shared);
        let more = own.client.outcomes().len();
        let waited = times.get(answered).filter(|_| more > answered).map(Instant::elapsed);
        shared.note(writer, more, waited.unwrap_or_default());
        shared.waiting[writer].store(own.client.unanswered() as u64, Ordering::SeqCst);
        if shared.is_stopped() && own.client.unanswered() == 0 {
            break;
        }
    }
    own.had_one_history();
    let outcomes = own.client.outcomes();
    let written = (1..).zip(sent).map(|(seq, (log, text))| match &outcomes[&seq] {
        Outcome::Stored { offset, .. } => (log, *offset, text),
        Outcome::Refused(refusal) => panic!("{text} was refused: {refusal:?}"),
    });
    written.collect()
}

/// Writes by HTTP, one request after the other, each sent again until it is answered.
pub fn write_by_http(shared: &Shared, writer: usize) -> Written {
    let (name, begun): (Id, _) = (id(), Instant::now());
    let (mut written, mut at) = (Written::new(), writer);
    let mut asked = Instant::now();
    while !shared.is_stopped() || written.len() % AT_ONCE as usize != 0 {
        let first = written.len() as u64;
        let log = LOGS[(first / AT_ONCE) as usize % LOGS.len()];
        let path = format!("/v1/logs/{log}?writer={name}&seq={}", first + 1);
        let answer = loop {
            shared.hold_on(begun);
            let url = format!("http://{}", shared.place(at));
            let http = Http::within(PATIENCE, &url, Some(root()));
            match http.try_post_lines(&path, texts(writer, first)) {
                Ok(answer) if answer.status == 200 => break answer.json(),
                Ok(answer) => {
                    let for_now = [429, 503, 504, 507].contains(&answer.status);
                    assert!(for_now, "{}: {}", answer.status, answer.text());
                    assert!(answer.json()["retry_after"].as_u64() > Some(0), "{}", answer.text());
                }
                Err(_) => {}
            }
            at += 1;
            std::thread::sleep(PACE);
        };
        let offset = answer["offset"].as_u64().unwrap();
        assert_eq!(answer["last"].as_u64(), Some(offset + AT_ONCE - 1), "they follow one another");
        written.extend((offset..).zip(texts(writer, first)).map(|(at, text)| (log, at, text)));
        shared.note(writer, written.len(), asked.elapsed());
        std::thread::sleep(PACE);
        asked = Instant::now();
    }
    written
}

/// Follows all logs from their beginning, until it has come to where they end.
pub fn follow(shared: &Shared, reader: usize) -> Client {
    let mut own = Attached::new(&format!("reader-{reader}"), reader);
    LOGS.iter().for_each(|log| own.client.want(log, Start::Earliest, 0));
    let begun = Instant::now();
    loop {
        shared.hold_on(begun);
        own.step(shared);
        let heads = shared.heads.lock().unwrap();
        let reached = |(log, head): (&&str, &u64)| {
            own.client.find(log).is_some_and(|held| held.shown() && held.cursor >= *head)
        };
        if heads.as_ref().is_some_and(|heads| heads.iter().all(reached)) {
            break;
        }
    }
    own.had_one_history();
    own.client
}

/// Ends all of them where the test ends before them.
pub struct Abandon(pub Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
    }
}
