//! A client as a stranger would write it: tracks cursors, keeps pending actions, sends them again,
//! resumes by what it holds. Each frame is held against the laws; a breach ends the test.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater::wire::{
    Ack, Activate, Append, BaseHeld, Bye, ClientFrame, Cloning, Cursor, DeliveredTo, Encoding,
    Hello, Id, Met, Open, Payload, Ping, Pong, Position, Reason, Record, Refusal, Refused,
    ServerFrame, Start, State, Subscribe, Target, Unsubscribed, Welcome, WriterAt, capability,
};

use super::laws::{Held, Seen, Writing};
use super::link::{Link, Next};
use super::server::{Server, token};

/// How long anything may take before a test gives up.
pub const WAIT: Duration = Duration::from_secs(30);

/// Both encodings in turn: a test runs on a thread of its own, so it meets the same ones each time.
fn next_encoding() -> Encoding {
    thread_local! {
        static MADE: Cell<usize> = const { Cell::new(0) };
    }
    Encoding::ALL[MADE.replace(MADE.get() + 1) % 2]
}

/// One client.
pub struct Client {
    pub id: Id,
    pub device: Option<Id>,
    pub token: Option<String>,
    pub visible: bool,
    pub cloning: Cloning,
    pub window: u32,
    pub encoding: Encoding,
    /// Logs that the app has open: how to begin, and priority.
    pub wants: BTreeMap<String, (Start, u8)>,
    pub logs: BTreeMap<u64, Held>,
    /// Every record ever seen, over all sockets and resets.
    pub seen: BTreeMap<(u64, u64), Seen>,
    /// Highest position shown of each log (promise 8).
    pub shown: BTreeMap<u64, u64>,
    pub writing: Writing,
    pub welcome: Option<Welcome>,
    pub active: bool,
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
    /// Whether it acknowledges by itself, by the quarter of the window and when idle.
    pub acks: bool,
    /// Whether it sends again what was put off.
    pub resends: bool,
    /// Whether it opens what it is told of as held.
    pub opens: bool,
    pub link: Option<Link>,
    /// Bytes of delivery worked off, and of those acknowledged.
    pub received: u64,
    pub told: u64,
    moved: BTreeSet<u64>,
    /// Order of the kinds of frames since the last welcome.
    pub order: Vec<&'static str>,
    /// Log ids of deliveries, in the order they came, since the last welcome.
    pub deliveries: Vec<u64>,
    /// Whether it states positions, and understands that it is of another history.
    pub history: bool,
    /// Capabilities that it lacks.
    pub lacks: Vec<&'static str>,
    /// The address that it connects to; none: the server's own.
    pub through: Option<SocketAddr>,
    /// The highest position that it has seen.
    pub position: Option<Position>,
    /// How often it was told that it is of another history.
    pub others: usize,
    pub(super) known_made: BTreeMap<u64, Position>,
    /// Its writers in histories that are over.
    pub over: Vec<Writing>,
}

impl Client {
    /// A client of a user who may do everything.
    pub fn new(user: &str) -> Self {
        Self::with(Some(token(user, &[("**", "read append snapshot signal admin")])))
    }

    /// A client with a token of its own.
    pub fn with(token: Option<String>) -> Self {
        Self {
            id: super::id(),
            device: None,
            token,
            visible: true,
            cloning: Cloning::All,
            window: 0,
            encoding: next_encoding(),
            wants: BTreeMap::new(),
            logs: BTreeMap::new(),
            seen: BTreeMap::new(),
            shown: BTreeMap::new(),
            writing: Writing::new(),
            welcome: None,
            active: false,
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
            acks: true,
            resends: true,
            opens: true,
            link: None,
            received: 0,
            told: 0,
            moved: BTreeSet::new(),
            order: Vec::new(),
            deliveries: Vec::new(),
            history: true,
            lacks: Vec::new(),
            through: None,
            position: None,
            others: 0,
            known_made: BTreeMap::new(),
            over: Vec::new(),
        }
    }

    /// A log it has open from the start on.
    pub fn wanting(mut self, name: &str) -> Self {
        self.wants.insert(name.to_owned(), (Start::State, 0));
        self
    }

    /// Connects and waits until it is met.
    pub fn join(mut self, server: &Server) -> Self {
        self.connect(server);
        self
    }

    /// The `open` list: what it wants, with what it holds.
    pub fn open_list(&self) -> Vec<Open> {
        let open = |(name, (start, priority)): (&String, &(Start, u8))| {
            let held = self.logs.values().rfind(|held| held.name == *name);
            let have = held
                .filter(|held| held.holds())
                .map(|held| Cursor { log: held.log, next: held.cursor });
            Open { name: name.clone(), have, start: *start, priority: *priority }
        };
        self.wants.iter().map(open).collect()
    }

    fn knows(&self, capability: &str) -> bool {
        self.history && !self.lacks.contains(&capability)
    }

    fn capabilities(&self) -> Vec<String> {
        let all = capability::ALL.into_iter().filter(|name| self.knows(name));
        all.map(str::to_owned).collect()
    }

    /// Bases that it has begun, of the logs that it has open.
    fn bases(&self) -> Vec<BaseHeld> {
        if !self.knows(capability::BASES) {
            return Vec::new();
        }
        self.logs.values().filter_map(Held::begun).collect()
    }

    /// Its `hello`.
    pub fn hello(&self) -> Hello {
        Hello {
            version: 1,
            capabilities: self.capabilities(),
            token: self.token.clone(),
            connection: self.id,
            device: self.device,
            client: "test/1".to_owned(),
            visible: self.visible,
            cloning: self.cloning,
            writers: vec![WriterAt { writer: self.writing.id, oldest: self.writing.oldest() }],
            open: self.open_list(),
            window: self.window,
            bases: self.bases(),
            positions: self.stated(),
        }
    }

    /// Opens a socket and says `hello`.
    pub fn say_hello(&mut self, server: &Server) {
        let mut link = Link::open(self.through.unwrap_or(server.address), self.encoding);
        link.send(&ClientFrame::Hello(self.hello()));
        self.link = Some(link);
        self.begin();
    }

    /// Forgets what belonged to the socket before.
    fn begin(&mut self) {
        (self.received, self.told) = (0, 0);
        self.moved.clear();
        self.welcome = None;
        self.bye = None;
        self.closed = None;
        self.order.clear();
        self.deliveries.clear();
        // A base that broke off goes on, where something of it is held.
        let bases = self.knows(capability::BASES);
        self.logs.retain(|_, held| held.holds() || (bases && held.begun().is_some()));
        self.logs.values_mut().for_each(|held| held.open = false);
    }

    /// Connects, waits for `welcome` and sends pending actions again.
    pub fn connect(&mut self, server: &Server) -> Met {
        self.say_hello(server);
        self.wait("welcome", |client| client.welcome.is_some());
        let met = self.met();
        self.resend();
        met
    }

    /// How it was met.
    pub fn met(&self) -> Met {
        self.welcome.as_ref().expect("it was met").met
    }

    /// Sends all pending actions again, oldest first.
    pub fn resend(&mut self) {
        self.writing.put_off.clear();
        let (writer, oldest) = (self.writing.id, self.writing.oldest());
        let most = self.welcome.as_ref().map_or(64 << 10, |met| met.limits.frame_bytes as usize);
        let mut pending = self.writing.pending.iter().cloned().peekable();
        let mut frames = Vec::new();
        while pending.peek().is_some() {
            // Room for names and numbers is left beside the records.
            let (mut items, mut bytes) = (Vec::new(), 4 << 10);
            while let Some(item) = pending.peek()
                && (items.is_empty() || bytes + item.record.size() + 512 < most)
                && items.len() < 256
            {
                bytes += item.record.size() + 512;
                items.extend(pending.next());
            }
            let (positions, made) = (self.stated(), self.made(&items));
            frames.push(ClientFrame::Append(Append { writer, oldest, items, positions, made }));
        }
        frames.iter().for_each(|frame| self.send(frame));
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &ClientFrame) {
        if let Some(link) = &mut self.link {
            link.send(frame);
        }
    }

    /// Appends a text to a log by name; its sequence.
    pub fn append(&mut self, name: &str, text: &str) -> u64 {
        self.append_all(name, [text.to_owned()])
    }

    /// Appends texts in one frame; the last one's sequence.
    pub fn append_all(&mut self, name: &str, texts: impl IntoIterator<Item = String>) -> u64 {
        let to = Target::Name(name.to_owned());
        let record = |text| Record { payload: Some(Payload::text(text)), ..Record::default() };
        let items =
            texts.into_iter().map(|text| self.writing.number(to.clone(), record(text))).collect();
        self.send_items(items)
    }

    /// Puts a text under a key, or removes it; its sequence.
    pub fn put(&mut self, name: &str, key: &str, text: Option<&str>) -> u64 {
        let payload = text.map(Payload::text);
        let record = Record { key: Some(key.to_owned()), payload, ..Record::default() };
        let item = self.writing.number(Target::Name(name.to_owned()), record);
        self.send_items(vec![item])
    }

    /// Sends numbered items.
    pub fn send_items(&mut self, items: Vec<highwater::wire::Item>) -> u64 {
        let (writer, oldest) = (self.writing.id, self.writing.oldest());
        let last = items.last().map_or(0, |item| item.seq);
        let (positions, made) = (self.stated(), self.made(&items));
        self.send(&ClientFrame::Append(Append { writer, oldest, items, positions, made }));
        last
    }

    /// Appends a text and waits for its final answer: the offset.
    pub fn store(&mut self, name: &str, text: &str) -> u64 {
        let seq = self.append(name, text);
        self.settled();
        self.writing.offset(seq).expect("it was stored")
    }

    /// Waits until nothing is pending.
    pub fn settled(&mut self) {
        self.wait("answers to all appends", |client| client.writing.pending.is_empty());
    }

    /// What it holds of a log.
    pub fn log(&self, name: &str) -> &Held {
        self.find(name).unwrap_or_else(|| panic!("nothing is held of {name}"))
    }

    /// What it holds of a log, if anything.
    pub fn find(&self, name: &str) -> Option<&Held> {
        self.logs.values().rfind(|held| held.name == name)
    }

    /// Waits until a log is shown with its cursor at `next` or later.
    pub fn reach(&mut self, name: &str, next: u64) {
        self.wait(&format!("{name} at {next}"), |client| {
            client.find(name).is_some_and(|held| held.shown() && held.cursor >= next)
        });
    }

    /// Waits until something holds; panics with what it was, and what was seen, after [`WAIT`].
    pub fn wait(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + WAIT;
        while !holds(self) {
            let came = self.step(Instant::now() + Duration::from_millis(50));
            if !came && (Instant::now() >= end || self.closed.is_some()) && !holds(self) {
                panic!("waited in vain: {what}; {}", self.describe());
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        let held = |held: &Held| {
            let Held { name, log, cursor, complete, whole, open, .. } = held;
            format!("{name} ({log}): cursor {cursor}, complete {complete}, {whole}, {open}")
        };
        // A few of them tell enough.
        let logs: Vec<_> = self.logs.values().take(10).map(held).collect();
        let (bye, closed, pending) = (&self.bye, &self.closed, self.writing.pending.len());
        let (active, refused) = (self.active, &self.refused);
        let put_off = &self.writing.put_off;
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
        let Some(link) = &mut self.link else { return false };
        match link.next(end) {
            Next::Frame(frame, size) => {
                self.take(frame, size);
                true
            }
            Next::Closed(code, reason) => {
                self.closed.get_or_insert((code, reason));
                false
            }
            Next::Nothing => {
                if self.acks && (self.received > self.told || !self.moved.is_empty()) {
                    self.ack();
                }
                if self.resends && !self.writing.put_off.is_empty() {
                    self.resend();
                }
                false
            }
        }
    }

    /// Acknowledges what was worked off.
    pub fn ack(&mut self) {
        let cursor =
            |log: &u64| self.logs.get(log).map(|held| Cursor { log: *log, next: held.cursor });
        let cursors = self.moved.iter().filter_map(cursor).collect();
        self.moved.clear();
        self.told = self.received;
        self.send(&ClientFrame::Ack(Ack { received: self.received, cursors }));
    }

    fn window_in_force(&self) -> u64 {
        self.welcome.as_ref().map_or(0, |welcome| u64::from(welcome.limits.window))
    }

    /// Flow control: never more unacknowledged than the window, but for a frame on its own.
    fn count(&mut self, log: u64, size: usize) {
        self.deliveries.push(log);
        let alone = self.received == self.told;
        self.received += size as u64;
        let waits = self.received - self.told;
        let window = self.window_in_force();
        assert!(alone || waits <= window, "{waits} bytes unacknowledged, the window is {window}");
        if self.acks && waits * 4 >= window {
            self.ack();
        }
    }

    fn take(&mut self, frame: ServerFrame, size: usize) {
        assert!(self.bye.is_none(), "bye is the last frame, then came {frame:?}");
        let first = self.welcome.is_none();
        let early = matches!(frame, ServerFrame::Welcome(_) | ServerFrame::Bye(_));
        assert!(!first || early, "welcome comes first: {frame:?}");
        self.order.push(highwater::wire::Frame::name(&frame));
        let about = match &frame {
            ServerFrame::Subscribed(told) => Some(told.log),
            ServerFrame::Reset(told) => Some(told.log),
            ServerFrame::Gap(told) => Some(told.log),
            ServerFrame::Base(told) => Some(told.log),
            ServerFrame::BaseRecords(told) => Some(told.log),
            ServerFrame::Records(told) => Some(told.log),
            _ => None,
        };
        match frame {
            ServerFrame::Welcome(welcome) => self.welcomed(welcome),
            ServerFrame::State(told) => {
                (self.active, self.reason) = (told.active, told.reason);
                if !told.active {
                    self.logs.values_mut().for_each(|held| held.open = false);
                }
                self.states.push(told);
            }
            ServerFrame::Unsubscribed(told) => {
                if told.reason != highwater::wire::Ended::Asked {
                    assert!(self.logs.contains_key(&told.log), "only of what was announced");
                }
                let name = self.logs.remove(&told.log).map(|held| held.name);
                if let Some(name) = name {
                    self.wants.remove(&name);
                }
                self.ended.push(told);
            }
            other => match about {
                Some(log) => {
                    self.of_log(other, size);
                    self.note_shown(log);
                }
                None => self.noted(other),
            },
        }
    }

    /// Law 7: what the server knew of its appends when they met is told before any state.
    fn owes_nothing(&self) {
        let met = self.welcome.iter().flat_map(|met| &met.writers);
        let mark = met.filter(|at| at.writer == self.writing.id).map(|at| at.mark).max();
        let first = self.writing.pending.front().map(|item| item.seq);
        let answered = first.is_none_or(|first| first > mark.unwrap_or_default());
        assert!(answered, "{first:?} has no answer yet, and the mark was {mark:?}");
    }

    /// What is told of a log.
    fn of_log(&mut self, frame: ServerFrame, size: usize) {
        if matches!(frame, ServerFrame::Reset(_) | ServerFrame::Base(_)) {
            self.owes_nothing();
        }
        match frame {
            ServerFrame::Subscribed(told) => self.subscribed(told),
            ServerFrame::Reset(told) => self.held(told.log).reset(&told),
            ServerFrame::Gap(told) => {
                self.held(told.log).gap(&told);
                self.moved.insert(told.log);
            }
            ServerFrame::Base(told) => {
                self.held(told.log).base(&told);
                self.moved.insert(told.log);
                self.count(told.log, size);
            }
            ServerFrame::BaseRecords(told) => {
                let records = self.held(told.log).base_records(&told);
                self.remember(told.log, records);
                self.moved.insert(told.log);
                self.count(told.log, size);
            }
            ServerFrame::Records(told) => {
                assert!(self.active, "an inactive connection gets no records");
                let records = self.held(told.log).take(&told);
                let newest = told.records.iter().map(|record| record.place.batch).max();
                self.raise(newest.unwrap_or_default());
                self.remember(told.log, records);
                self.moved.insert(told.log);
                self.count(told.log, size);
            }
            other => panic!("not of a log: {other:?}"),
        }
    }

    fn noted(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Answers(told) => {
                self.position = told.positions.first().copied().or(self.position);
                let over = self.over.iter_mut().find(|over| over.id == told.writer);
                over.unwrap_or(&mut self.writing).answered(&told);
            }
            ServerFrame::Refused(told) => self.refused.push(told),
            ServerFrame::Done(told) => self.done.push(told.request),
            ServerFrame::SnapshotWanted(told) => self.wanted.push((told.log, told.at_least)),
            ServerFrame::Refreshed(told) => self.refreshed.push(told.expires),
            ServerFrame::Ping(told) => {
                self.position = told.positions.first().copied().or(self.position);
                self.send(&ClientFrame::Pong(Pong { nonce: told.nonce }));
            }
            ServerFrame::Pong(told) => self.pongs.push(told.nonce),
            ServerFrame::DeliveredTo(told) => self.having.push(told),
            ServerFrame::Bye(told) => self.bye = Some(told),
            other => panic!("not taken: {other:?}"),
        }
    }

    fn held(&mut self, log: u64) -> &mut Held {
        let held = self.logs.get_mut(&log).filter(|held| held.open);
        held.unwrap_or_else(|| panic!("log {log} was not announced"))
    }

    /// An offset holds the same record for ever (promise 2).
    fn remember(&mut self, log: u64, records: Vec<(u64, Seen)>) {
        for (offset, seen) in records {
            let known = self.seen.entry((log, offset)).or_insert_with(|| seen.clone());
            assert_eq!(*known, seen, "log {log}, offset {offset} was another record before");
        }
    }

    /// What is shown never goes backwards (promise 8).
    fn note_shown(&mut self, log: u64) {
        if let Some(held) = self.logs.get(&log).filter(|held| held.open && held.shown()) {
            let before = self.shown.entry(held.log).or_default();
            assert!(held.cursor >= *before, "{} went back from {before}", held.name);
            *before = held.cursor;
        }
    }

    /// Asks to be activated.
    pub fn activate(&mut self) {
        let (cloning, open) = (self.cloning, self.open_list());
        let bases = self.bases();
        self.send(&ClientFrame::Activate(Activate { request: 9, cloning, open, bases }));
    }

    /// The refusal of a request.
    pub fn refusal(&mut self, request: u32) -> Refusal {
        self.wait(&format!("a refusal of {request}"), |client| {
            client.refused.iter().any(|refused| refused.request == request)
        });
        let at = self.refused.iter().position(|refused| refused.request == request).unwrap();
        self.refused.remove(at).refusal
    }
}
