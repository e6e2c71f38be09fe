//! The client of the product on a socket and a clock, and an app that remembers all that it was
//! told. The client holds each frame against the laws; a breach ends the test.
//!
//! What a well-behaved client does not do goes past it: [`Client::send`] sends any frame, and
//! whoever reads from `link` takes frames that the client then never sees.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use highwater::client::{Config, Input, Log, Output, Writer};
use highwater::wire::{
    Answers, Append, Bye, ClientFrame, DeliveredTo, Encoding, Frame as _, Hello, Id, Item, Met,
    Outcome, Payload, Ping, Position, Reason, Record, Refusal, Refused, ServerFrame, Start, State,
    Target, Unsubscribed, Welcome,
};

use super::held::{Folded, Held, Seen};
use super::link::{Link, Next};
use super::server::{Server, token};

/// How long nothing may come before a test gives up.
pub const WAIT: Duration = Duration::from_secs(30);
/// No wait is longer, whatever comes meanwhile: so long that no machine is too busy.
pub const LONGEST: Duration = Duration::from_secs(180);
/// Milliseconds after which a client acknowledges what came.
pub const SOON: Option<u64> = Some(20);

/// Both encodings in turn: a test runs on a thread of its own, so it meets the same ones each time.
fn next_encoding() -> Encoding {
    thread_local! {
        static MADE: Cell<usize> = const { Cell::new(0) };
    }
    Encoding::ALL[MADE.replace(MADE.get() + 1) % 2]
}

/// One client. What is set of it (`client.window = ..`) is its [`Config`], read at the next socket.
pub struct Client {
    pub(super) machine: highwater::client::Client,
    began: Instant,
    pub link: Option<Link>,
    /// The address that it connects to; none: the server's own.
    pub through: Option<SocketAddr>,
    /// What is folded of each log, by its id.
    pub folded: BTreeMap<u64, Folded>,
    /// Every record ever seen, over all sockets and resets.
    pub seen: BTreeMap<(u64, u64), Seen>,
    /// Highest position shown of each log (promise 8).
    pub shown: BTreeMap<u64, u64>,
    /// Final outcomes, by writer and sequence.
    pub all_outcomes: BTreeMap<Id, BTreeMap<u64, Outcome>>,
    /// Refusals for now, in the order they came.
    pub put_off: Vec<(u64, Refusal)>,
    /// How many answers came for sequences that had theirs.
    pub repeated: usize,
    /// `welcome` of this socket.
    pub welcome: Option<Welcome>,
    /// Whether it gets updates, and bytes of delivery worked off: as the machine says.
    pub active: bool,
    pub received: u64,
    pub reason: Option<Reason>,
    pub states: Vec<State>,
    pub refused: Vec<Refused>,
    pub ended: Vec<Unsubscribed>,
    pub done: Vec<u32>,
    pub wanted: Vec<(u64, u64)>,
    pub refreshed: Vec<u64>,
    pub pongs: Vec<u64>,
    pub having: Vec<DeliveredTo>,
    pub bye: Option<Bye>,
    /// Close code and reason of the last socket.
    pub closed: Option<(u16, String)>,
    /// Order of the kinds of frames since the last welcome.
    pub order: Vec<&'static str>,
    /// Log ids of deliveries, in the order they came, since the last welcome.
    pub deliveries: Vec<u64>,
    /// How often it was told that it is of another history.
    pub others: usize,
    /// Whether it may give a socket up that is silent; else that ends the test.
    pub gives_up: bool,
}

impl Client {
    /// A client of a user who may do everything.
    pub fn new(user: &str) -> Self {
        Self::with(Some(token(user, &[("**", "read append snapshot signal admin")])))
    }

    /// A client with a token of its own. It asks for nothing by itself but to open what is held,
    /// and is refused for rate where it may be, so that tests see each refusal.
    pub fn with(token: Option<String>) -> Self {
        let config = Config {
            token,
            name: "test/1".to_owned(),
            encoding: next_encoding(),
            ack_after: SOON,
            activates: false,
            credit: false,
            asks_again: false,
            ..Config::new(super::id(), super::id())
        };
        Self {
            machine: highwater::client::Client::new(config),
            began: Instant::now(),
            link: None,
            through: None,
            folded: BTreeMap::new(),
            seen: BTreeMap::new(),
            shown: BTreeMap::new(),
            all_outcomes: BTreeMap::new(),
            put_off: Vec::new(),
            repeated: 0,
            welcome: None,
            active: false,
            received: 0,
            reason: None,
            states: Vec::new(),
            refused: Vec::new(),
            ended: Vec::new(),
            done: Vec::new(),
            wanted: Vec::new(),
            refreshed: Vec::new(),
            pongs: Vec::new(),
            having: Vec::new(),
            bye: None,
            closed: None,
            order: Vec::new(),
            deliveries: Vec::new(),
            others: 0,
            gives_up: false,
        }
    }

    /// A log it has open from the start on.
    pub fn wanting(mut self, name: &str) -> Self {
        self.want(name, Start::State, 0);
        self
    }

    /// Notes that it wants a log; `hello` or `activate` asks for it.
    pub fn want(&mut self, name: impl AsRef<str>, start: Start, priority: u8) {
        self.machine.want(name.as_ref(), start, priority);
    }

    /// Notes that it wants these logs no longer, without letting them go.
    pub fn unwant(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.machine.unwant(name));
    }

    /// Wants a log from now on; the request's number.
    pub fn subscribe(&mut self, name: &str, start: Start, priority: u8) -> u32 {
        self.act(|machine| machine.open(name, start, priority)).expect("it may ask")
    }

    /// Forgets all that it holds, as a page that is loaded anew.
    pub fn forget(&mut self) {
        self.machine.forget();
        self.folded.clear();
    }

    /// Says that it holds a log that it may never have seen.
    pub fn hold(&mut self, name: &str, log: u64, next: u64) {
        self.machine.hold(name, log, next);
    }

    /// Goes on as another writer, with all that is known of it.
    pub fn go_on_as(&mut self, writer: Writer) {
        self.act(|machine| machine.go_on_as(writer));
    }

    /// States a position, as if it had seen it.
    pub fn saw(&mut self, positions: Vec<Position>) {
        positions.into_iter().for_each(|position| self.machine.saw(position));
    }

    /// The positions that it states.
    pub fn positions(&self) -> Vec<Position> {
        self.machine.stated()
    }

    /// Connects and waits until it is met.
    pub fn join(mut self, server: &Server) -> Self {
        self.connect(server);
        self
    }

    /// Its `hello`.
    pub fn hello(&self) -> Hello {
        self.machine.hello()
    }

    /// Opens a socket and says `hello`.
    pub fn say_hello(&mut self, server: &Server) {
        let link = Link::open(self.through.unwrap_or(server.address), self.encoding);
        self.greet(link);
    }

    /// The same at an address where perhaps no server answers; whether one does, within a while.
    pub fn try_hello(&mut self, address: SocketAddr, patience: Duration) -> bool {
        let link = Link::try_open_within(Some(patience), None, address, self.encoding);
        link.map(|link| self.greet(link)).is_ok()
    }

    fn greet(&mut self, link: Link) {
        self.hand_in(Input::Closed);
        self.link = Some(link);
        (self.welcome, self.bye, self.closed) = (None, None, None);
        self.order.clear();
        self.deliveries.clear();
        self.put_off.clear();
        self.hand_in(Input::Open { spare: super::id() });
        let logs = self.machine.logs();
        self.folded.retain(|log, _| logs.contains_key(log));
    }

    /// Connects and waits for `welcome`; what is pending is sent again.
    pub fn connect(&mut self, server: &Server) -> Met {
        self.say_hello(server);
        self.wait("welcome", |client| client.welcome.is_some());
        self.met()
    }

    /// How it was met.
    pub fn met(&self) -> Met {
        self.welcome.as_ref().expect("it was met").met
    }

    /// The socket is no more.
    pub(super) fn gone(&mut self) {
        self.link = None;
        self.hand_in(Input::Closed);
    }

    /// Hands something in, and does what the machine says.
    fn hand_in(&mut self, input: Input<'_>) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap();
        self.act(|machine| machine.handle(now, input));
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut highwater::client::Client) -> T) -> T {
        let came = act(&mut self.machine);
        while let Some(output) = self.machine.poll() {
            match output {
                Output::Send(frame) => self.send(&frame),
                Output::Tell(event) => self.told(event),
                // The next read finds it closed.
                Output::Close if self.gives_up => self.link.iter().for_each(Link::cut),
                Output::Close => panic!("it gives the socket up; {}", self.describe()),
                // Tests say when it comes back.
                Output::Connect { .. } => {}
            }
        }
        (self.active, self.received) = (self.machine.is_active(), self.machine.received());
        came
    }

    /// Sends a frame past the machine.
    pub fn send(&mut self, frame: &ClientFrame) {
        if let Some(link) = &mut self.link {
            link.send(frame);
        }
    }

    /// Sends all pending actions again, oldest first.
    pub fn resend(&mut self) {
        self.put_off.clear();
        self.act(highwater::client::Client::resend);
    }

    /// Appends a text to a log by name; its sequence.
    pub fn append(&mut self, name: &str, text: &str) -> u64 {
        self.append_all(name, [text.to_owned()])
    }

    /// Appends texts, in one frame where they fit; the last one's sequence.
    pub fn append_all(&mut self, name: &str, texts: impl IntoIterator<Item = String>) -> u64 {
        let to = Target::Name(name.to_owned());
        let record = |text| Record { payload: Some(Payload::text(text)), ..Record::default() };
        let items = texts.into_iter().map(|text| (to.clone(), record(text)));
        self.act(|machine| machine.append_all(items))
    }

    /// Puts a text under a key, or removes it; its sequence.
    pub fn put(&mut self, name: &str, key: &str, text: Option<&str>) -> u64 {
        let payload = text.map(Payload::text);
        let record = Record { key: Some(key.to_owned()), payload, ..Record::default() };
        self.append_to(Target::Name(name.to_owned()), None, record)
    }

    /// Appends any record; its sequence.
    pub fn append_to(&mut self, to: Target, if_head: Option<u64>, record: Record) -> u64 {
        self.act(|machine| machine.append(to, record, if_head))
    }

    /// Sends items past the machine, under the name of its writer.
    pub fn send_items(&mut self, oldest: u64, items: Vec<Item>) {
        let (writer, positions, made) = (self.writer().id(), vec![], vec![]);
        self.send(&ClientFrame::Append(Append { writer, oldest, items, positions, made }));
    }

    /// The next answers on its socket, past the machine; so is whatever comes before them.
    pub fn answers_past(&mut self) -> Answers {
        let link = self.link.as_mut().expect("it has a socket");
        loop {
            match link.next(Instant::now() + WAIT) {
                Next::Frame(ServerFrame::Answers(told), _) => return told,
                Next::Frame(..) => {}
                other => panic!("no answer: {other:?}"),
            }
        }
    }

    /// Appends a text and waits for its final answer: the offset.
    pub fn store(&mut self, name: &str, text: &str) -> u64 {
        let seq = self.append(name, text);
        self.settled();
        self.offset(seq).expect("it was stored")
    }

    /// Waits until nothing is pending.
    pub fn settled(&mut self) {
        self.wait("answers to all appends", |client| client.unanswered() == 0);
    }

    /// Its writer.
    pub const fn writer(&self) -> &Writer {
        self.machine.writer()
    }

    /// How many appends have no answer.
    pub fn unanswered(&self) -> usize {
        self.machine.unanswered()
    }

    /// Final outcomes of its writer, by sequence.
    pub fn outcomes(&self) -> &BTreeMap<u64, Outcome> {
        static NONE: BTreeMap<u64, Outcome> = BTreeMap::new();
        self.all_outcomes.get(&self.writer().id()).unwrap_or(&NONE)
    }

    /// Offset at which a sequence was stored.
    pub fn offset(&self, seq: u64) -> Option<u64> {
        match self.outcomes().get(&seq) {
            Some(Outcome::Stored { offset, .. }) => Some(*offset),
            _ => None,
        }
    }

    /// The logs that it knows of, by their ids.
    pub const fn logs(&self) -> &BTreeMap<u64, Log> {
        self.machine.logs()
    }

    /// What it holds of a log.
    pub fn log(&self, name: &str) -> Held<'_> {
        self.find(name).unwrap_or_else(|| panic!("nothing is held of {name}"))
    }

    /// What it holds of a log, if anything.
    pub fn find(&self, name: &str) -> Option<Held<'_>> {
        self.machine.log(name).map(|log| Held::new(log, self.folded.get(&log.log)))
    }

    /// Waits until a log is shown with its cursor at `next` or later.
    pub fn reach(&mut self, name: &str, next: u64) {
        self.wait(&format!("{name} at {next}"), |client| {
            client.find(name).is_some_and(|held| held.shown() && held.cursor >= next)
        });
    }

    /// Waits until something holds; panics with what it was, and what was seen, where nothing has
    /// come for [`WAIT`], or it has lasted [`LONGEST`].
    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        let mut heard = begun;
        while !holds(self) {
            if self.step(Instant::now() + Duration::from_millis(50)) {
                heard = Instant::now();
                continue;
            }
            let over = heard.elapsed() >= WAIT || begun.elapsed() >= LONGEST;
            if (over || self.closed.is_some()) && !holds(self) {
                panic!("waited in vain: {what}; {}", self.describe());
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let held = |log: &Log| {
            let Log { name, log, cursor, complete, whole, open, .. } = log;
            format!("{name} ({log}): cursor {cursor}, complete {complete}, {whole}, {open}")
        };
        // A few of them tell enough.
        let logs: Vec<_> = self.logs().values().take(10).map(held).collect();
        let (bye, closed, pending) = (&self.bye, &self.closed, self.unanswered());
        let (active, refused) = (self.active, &self.refused);
        let put_off = &self.put_off;
        format!(
            "active {active}, pending {pending}, put off {put_off:?}, {logs:?}, {refused:?}, \
             {bye:?}, {closed:?}"
        )
    }

    /// Takes what has come until nothing does for a moment.
    pub fn drain(&mut self) {
        while self.step(Instant::now() + Duration::from_millis(30)) {}
    }

    /// Takes frames until a `ping` sent now is answered: all that was sent before it is then taken.
    pub fn sync(&mut self) {
        let nonce = u64::from(rand::random::<u32>());
        self.send(&ClientFrame::Ping(Ping { nonce, positions: vec![] }));
        self.wait("pong", |client| client.pongs.contains(&nonce));
    }

    /// Takes one frame, waiting until `end`; false when none came.
    pub fn step(&mut self, end: Instant) -> bool {
        loop {
            let due = self.machine.deadline().map(|at| self.began + Duration::from_millis(at));
            let Some(link) = &mut self.link else { return false };
            match link.next(due.map_or(end, |due| due.min(end))) {
                Next::Frame(frame, size) => {
                    self.came(&frame);
                    self.hand_in(Input::Frame(frame, size));
                    return true;
                }
                Next::Closed(code, reason) => {
                    if self.closed.is_none() {
                        self.closed = Some((code, reason));
                        self.hand_in(Input::Closed);
                    }
                    return false;
                }
                Next::Nothing => {
                    self.hand_in(Input::Time);
                    if Instant::now() >= end {
                        return false;
                    }
                }
            }
        }
    }

    /// Acknowledges what was worked off.
    pub fn ack(&mut self) {
        self.act(highwater::client::Client::ack);
    }

    /// Asks to be activated; the request's number.
    pub fn activate(&mut self) -> u32 {
        self.act(highwater::client::Client::activate)
    }

    /// The refusal of a request.
    pub fn refusal(&mut self, request: u32) -> Refusal {
        self.wait(&format!("a refusal of {request}"), |client| {
            client.refused.iter().any(|refused| refused.request == request)
        });
        let at = self.refused.iter().position(|refused| refused.request == request).unwrap();
        self.refused.remove(at).refusal
    }

    /// A frame as it came, before the machine has it.
    fn came(&mut self, frame: &ServerFrame) {
        let early = matches!(frame, ServerFrame::Welcome(_) | ServerFrame::Bye(_));
        assert!(self.machine.is_met() || early, "welcome comes first: {frame:?}");
        self.order.push(frame.name());
    }
}

impl Deref for Client {
    type Target = Config;

    fn deref(&self) -> &Config {
        self.machine.config()
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Config {
        self.machine.config_mut()
    }
}
