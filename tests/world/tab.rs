//! A client: what it has open and holds, what it asks, and what it holds the server to.

mod product;
mod saying;

use std::collections::{BTreeMap, BTreeSet};

use highwater::wire::{
    ClientFrame, Code, Encoding, Id, Leave, MAX_FRAME_BYTES, Met, Position, Record, Refresh, Seek,
    ServerFrame, Start, State, Subscribed, Target, Unsubscribe, Visible, Welcome, codec,
};

use crate::held::{Asked, Held};
use crate::link::{Messages, wrap};
use crate::oracle::{Action, demand};
use crate::session::token;
use crate::shared::{Shared, Turn};
use crate::writing::Writing;
use product::Product;

/// What it says it is able to.
pub const CAPABILITIES: [&str; 5] = ["held", "history", "starts", "requests", "bases"];

/// What an open request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wants {
    Names(Vec<String>),
    Logs(Vec<u64>),
    One,
    /// Each part may be refused.
    Parts,
}

pub struct Tab {
    pub number: usize,
    pub user: &'static str,
    pub connection: Id,
    pub wants: BTreeMap<String, (Start, u8)>,
    pub logs: BTreeMap<u64, Held>,
    /// How far it has seen each log id, in this history.
    seen: BTreeMap<u64, u64>,
    /// What it had seen of each log, and appended to it, when it said hello.
    floor: BTreeMap<u64, u64>,
    pub writing: Writing,
    pub link: Option<usize>,
    input: Messages,
    pub welcomed: bool,
    pub active: bool,
    pub generation: u64,
    position: Option<Position>,
    /// How often its connection had been forgotten when it was met.
    lives: Option<usize>,
    pub requests: BTreeMap<u32, Wants>,
    /// Logs that it asked for by which request (hello and activate: 0).
    asked: BTreeMap<(u32, String), Asked>,
    next: u32,
    received: u64,
    acknowledged: u64,
    moved: BTreeSet<u64>,
    /// How often each log was told to be subscribed on this socket.
    heard: BTreeMap<u64, u64>,
    acked_at: u64,
    pub back_at: u64,
    pub activate_at: u64,
    asked_at: u64,
    issued: u64,
    /// When the token was issued that this socket was opened with.
    said: u64,
    pub grants: &'static [&'static str],
    /// Another one has its connection.
    pub dead: bool,
    /// Why its last socket was closed.
    pub last: Option<Code>,
    /// It has said that it leaves: what it asked for before may be answered or not.
    pub leaving: bool,
    pub visible: bool,
    /// The product's client, where that decides what is said: this one holds both to account.
    pub product: Option<Product>,
}

impl Tab {
    pub fn new(number: usize, user: &'static str, connection: Id, writer: Id) -> Self {
        Self {
            number,
            user,
            connection,
            wants: BTreeMap::new(),
            logs: BTreeMap::new(),
            seen: BTreeMap::new(),
            floor: BTreeMap::new(),
            writing: Writing::new(writer),
            link: None,
            input: Messages::default(),
            welcomed: false,
            active: false,
            generation: 0,
            position: None,
            lives: None,
            requests: BTreeMap::new(),
            asked: BTreeMap::new(),
            next: 1,
            received: 0,
            acknowledged: 0,
            moved: BTreeSet::new(),
            heard: BTreeMap::new(),
            acked_at: 0,
            back_at: 0,
            activate_at: 0,
            asked_at: 0,
            issued: 0,
            said: 0,
            grants: &["**"],
            dead: false,
            last: None,
            leaving: false,
            visible: true,
            product: None,
        }
    }

    pub fn send(&self, frame: ClientFrame, shared: &mut Shared) {
        let Some(link) = self.link else { return };
        shared.tell(|| format!("tab {} on {link} says {frame:?}", self.number));
        shared.up(link, &wrap(&codec::message(&frame, Encoding::Bincode)));
    }

    pub fn request(&mut self, wants: Wants) -> u32 {
        self.next += 1;
        self.requests.insert(self.next, wants);
        self.next
    }

    /// Whether nothing that it asked for is open; of parts of a snapshot nobody waits for a word.
    fn idle(&self) -> bool {
        self.requests.values().all(|wants| *wants == Wants::Parts)
    }

    /// Its socket is over.
    pub fn gone(&mut self, shared: &mut Shared) {
        let had = self.link.take().is_some();
        (self.welcomed, self.active) = (false, false);
        self.requests.clear();
        self.asked.clear();
        self.moved.clear();
        self.logs.values_mut().for_each(|held| held.open = false);
        self.heard.clear();
        self.logs.retain(|_, held| !held.held);
        self.back_at = self.back_at.max(shared.now + 20);
        if had {
            self.closed(shared);
        }
    }

    /// One turn: what has arrived, then what is to be said.
    pub fn turn(&mut self, shared: &mut Shared) {
        if self.dead {
            return;
        }
        let Some(link) = self.link else {
            if shared.now >= self.back_at {
                self.connect(shared);
            }
            return;
        };
        if shared.links[link].stalled > shared.now {
            return;
        }
        let bytes = shared.links[link].down.take(shared.now);
        if !bytes.is_empty() {
            let node = shared.links[link].node;
            shared.at(shared.now, Turn::Node(node));
        }
        self.input.push(&bytes);
        while let Some(message) = self.input.next() {
            for frame in codec::decode(&message, Encoding::Bincode, MAX_FRAME_BYTES) {
                if self.link == Some(link) {
                    self.hears(frame.unwrap(), shared);
                }
            }
        }
        match self.product {
            Some(_) => self.product_says(shared),
            None => self.says(shared),
        }
    }

    pub fn write(&mut self, to: Target, record: Record, shared: &mut Shared) {
        let (name, log) = match &to {
            Target::Name(name) => (name.clone(), None),
            Target::Log(log) => {
                let held = &self.logs[log];
                (held.name.clone(), Some((*log, held.made)))
            }
        };
        let action = Action { record: record.clone(), name, log };
        self.writing.number(to.clone(), action, &mut shared.oracle);
        self.by_app(shared, |client| {
            _ = client.append(to, record, None);
        });
    }

    pub fn open(&mut self, name: &str, start: Start, priority: u8) {
        self.wants.entry(name.to_owned()).or_insert((start, priority));
    }

    pub fn close(&mut self, name: &str, shared: &mut Shared) {
        let wanted = self.wants.remove(name).is_some();
        if self.product.is_some() {
            return self.lets_go(name, shared);
        }
        if !wanted || !self.welcomed {
            return;
        }
        let held = self.logs.values().find(|held| held.name == name && held.open);
        let Some(log) = held.map(|held| held.log) else { return };
        let request = self.request(Wants::Logs(vec![log]));
        self.send(ClientFrame::Unsubscribe(Unsubscribe { request, logs: vec![log] }), shared);
    }

    pub fn seek(&mut self, log: u64, to: Start, shared: &mut Shared) {
        if self.product.is_some() {
            let name = self.logs[&log].name.clone();
            return self.by_app(shared, |client| {
                _ = client.seek(&name, to);
            });
        }
        let request = self.request(Wants::One);
        self.send(ClientFrame::Seek(Seek { request, log, to }), shared);
    }

    /// Says whether someone looks at it.
    pub fn show(&mut self, shared: &mut Shared) {
        let visible = self.visible;
        if self.product.is_some() {
            return self.by_app(shared, |client| client.show(visible));
        }
        if self.welcomed {
            let request = self.request(Wants::One);
            self.send(ClientFrame::Visible(Visible { visible, request }), shared);
        }
    }

    pub fn leave(&mut self, forget: bool, shared: &mut Shared) {
        match self.product {
            Some(_) => self.by_app(shared, |client| client.leave(forget)),
            None => self.send(ClientFrame::Leave(Leave { forget }), shared),
        }
    }

    pub fn regrant(&mut self, grants: &'static [&'static str], shared: &mut Shared) {
        (self.grants, self.issued) = (grants, shared.now);
        if self.welcomed || self.product.is_some() {
            self.refresh(shared);
        }
    }

    // What comes.

    fn frame(&mut self, frame: ServerFrame, shared: &mut Shared) {
        shared.tell(|| format!("tab {} hears {frame:?}", self.number));
        let size = crate::frames::size_of(&frame);
        let first = matches!(frame, ServerFrame::Welcome(_) | ServerFrame::Bye(_));
        demand!(first || self.welcomed, "law 2: {frame:?} comes before the welcome");
        let state = matches!(
            frame,
            ServerFrame::Reset(_) | ServerFrame::Base(_) | ServerFrame::BaseRecords(_)
        );
        let owed = self.writing.owed;
        demand!(owed == 0 || !state, "law 7: the answer to {owed} is owed before {frame:?}");
        match frame {
            ServerFrame::Welcome(told) => self.met(&told, shared),
            ServerFrame::Subscribed(told) => self.subscribed(&told),
            ServerFrame::Reset(told) => self.held(told.log, "a reset").reset(&told),
            ServerFrame::Gap(told) => {
                self.held(told.log, "a gap").gap(&told);
                self.saw(told.log, None);
            }
            ServerFrame::Base(told) => {
                self.received += size;
                self.held(told.log, "a base").base(&told);
                self.saw(told.log, None);
            }
            ServerFrame::BaseRecords(told) => {
                self.received += size;
                self.held(told.log, "a base").base_records(&told, &shared.oracle);
                let batches = told.records.iter().map(|kept| kept.record.place.batch);
                self.saw(told.log, batches.max());
            }
            ServerFrame::Records(told) => {
                self.received += size;
                let held = self.held(told.log, "records");
                demand!(!told.records.is_empty(), "law 5: an empty frame");
                held.records(&told, &shared.oracle);
                self.saw(told.log, told.records.last().map(|last| last.place.batch));
            }
            ServerFrame::Answers(told) => {
                if told.writer == self.writing.id {
                    self.writing.answered(&told, shared.now, &shared.oracle);
                } else {
                    self.writing.answered_before(&told);
                }
                told.positions.iter().for_each(|position| self.stands(*position));
            }
            ServerFrame::Unsubscribed(told) => {
                let known = self.heard.contains_key(&told.log);
                demand!(known || told.request != 0, "law 9: {} ends, and was not told", told.log);
                self.answer(told.request, None, Some(told.log));
                if let Some(held) = self.logs.get_mut(&told.log) {
                    held.open = false;
                }
                let gone = told.reason != highwater::wire::Ended::Asked;
                if gone || told.request != 0 {
                    self.logs.remove(&told.log);
                }
            }
            ServerFrame::Ping(told) => {
                told.positions.iter().for_each(|position| self.stands(*position));
            }
            ServerFrame::Refused(told) => self.answer(told.request, told.name, None),
            ServerFrame::Done(told) => self.answer(told.request, None, None),
            ServerFrame::Refreshed(told) => self.answer(told.request, None, None),
            ServerFrame::State(told) => self.state(&told, shared),
            ServerFrame::Bye(told) => self.bye(told.code, shared),
            ServerFrame::Pong(_) if self.product.is_some() => {}
            other => panic!("law 1: nobody asked for {other:?}"),
        }
    }

    fn held(&mut self, log: u64, what: &str) -> &mut Held {
        let known = self.logs.get_mut(&log);
        known.unwrap_or_else(|| panic!("law 9: {what} of log {log}, which was not announced"))
    }

    fn saw(&mut self, log: u64, batch: Option<u64>) {
        let Some(held) = self.logs.get(&log) else { return };
        if held.holds() {
            let seen = self.seen.entry(log).or_default();
            *seen = (*seen).max(held.cursor);
            self.moved.insert(log);
        }
        batch.into_iter().for_each(|batch| self.raise(batch));
    }

    /// A place of the era that its socket stands in was seen.
    fn raise(&mut self, batch: u64) {
        if let Some(position) = self.position.as_mut().filter(|position| batch > position.batch) {
            *position = Position { batch, chain: None, ..*position };
        }
    }

    fn stands(&mut self, told: Position) {
        let newer =
            self.position.is_none_or(|known| known.era != told.era || told.batch >= known.batch);
        if newer {
            self.position = Some(told);
        }
    }

    fn met(&mut self, told: &Welcome, shared: &mut Shared) {
        let lives = shared.oracle.lives(self.connection, told.place);
        let anew = std::mem::replace(&mut self.lives, lives) != lives || told.other_history;
        let fits = told.connection == self.connection && told.generation > self.generation;
        demand!(
            fits || anew,
            "promise 12: generation {} after {}",
            told.generation,
            self.generation
        );
        (self.welcomed, self.generation) = (true, told.generation);
        self.active = told.met != Met::Waiting;
        let own = told.writers.iter().find(|writer| writer.writer == self.writing.id);
        let mark = own.map_or(0, |writer| writer.mark);
        if told.other_history {
            self.position = None;
            self.seen.clear();
            self.floor.clear();
            self.logs.values_mut().for_each(|held| held.stale = true);
            let id = match &self.product {
                Some(product) => product.spare,
                None => Id(shared.random.next().to_be_bytes().repeat(2).try_into().unwrap()),
            };
            let marks = |id| {
                let own = told.writers.iter().find(|writer| writer.writer == id);
                own.map_or(0, |writer| writer.mark)
            };
            self.writing.anew(id, marks, self.product.is_some(), &mut shared.oracle);
        } else {
            self.writing.met(mark, &shared.oracle);
        }
        told.positions.iter().for_each(|position| self.stands(*position));
        if self.said != self.issued && self.product.is_none() {
            // It was given another while this one was on its way.
            self.refresh(shared);
        }
    }

    fn refresh(&mut self, shared: &mut Shared) {
        self.said = self.issued;
        let token = token(self.issued, self.user, self.grants);
        if self.product.is_some() {
            return self.by_app(shared, |client| {
                _ = client.refresh(token);
            });
        }
        let request = self.request(Wants::One);
        self.send(ClientFrame::Refresh(Refresh { token, request }), shared);
    }

    fn subscribed(&mut self, told: &Subscribed) {
        let most = self.floor.get(&told.log).copied().unwrap_or(0);
        demand!(
            told.complete >= most || told.held,
            "promise 8: {} is complete at {}, and {most} was seen",
            told.name,
            told.complete
        );
        *self.heard.entry(told.log).or_default() += 1;
        let asked = self.asked.remove(&(told.request, told.name.clone())).unwrap_or_default();
        self.answer(told.request, Some(told.name.clone()), Some(told.log));
        // Another history may have given that log id to another name.
        told.made.into_iter().for_each(|made| self.raise(made.batch));
        if let Some(other) = self.logs.get(&told.log).filter(|held| held.name != told.name) {
            demand!(
                other.stale,
                "law 9: log {} was {}, and is {}",
                told.log,
                other.name,
                told.name
            );
            self.logs.remove(&told.log);
        }
        match self.logs.get_mut(&told.log) {
            Some(held) => held.subscribed(told),
            None => {
                // Of what it holds nothing of it is given the state, where it did not ask for less.
                let less = asked.less && told.base.is_none();
                let mut kept = asked.goes_on(told);
                kept.iter_mut().for_each(|held| held.subscribed(told));
                let given = told.reset || told.held || less || kept.is_some();
                demand!(given, "law 4: {} goes on at {}, and is not held", told.name, told.cursor);
                // Of an earlier log of that name nothing is kept.
                self.logs.retain(|_, held| held.name != told.name);
                self.logs.insert(told.log, kept.unwrap_or_else(|| Held::new(told)));
            }
        }
        self.moved.remove(&told.log);
    }

    fn answer(&mut self, request: u32, name: Option<String>, log: Option<u64>) {
        if request == 0 || self.leaving {
            return;
        }
        let Some(open) = self.requests.get_mut(&request) else {
            panic!("law 14: {request} is answered, and no answer is due: {name:?} {log:?}");
        };
        let done = match (&mut *open, name, log) {
            (Wants::Names(names), Some(name), _) => {
                let at = names.iter().position(|known| *known == name);
                demand!(
                    at.is_some(),
                    "law 14: {request} did not ask for {name}, or has its answer"
                );
                at.map(|at| names.remove(at));
                names.is_empty()
            }
            (Wants::Logs(logs), _, Some(log)) => {
                let at = logs.iter().position(|known| *known == log);
                demand!(at.is_some(), "law 14: {request} did not ask for {log}, or has its answer");
                at.map(|at| logs.remove(at));
                logs.is_empty()
            }
            (Wants::Parts, ..) => false,
            _ => true,
        };
        if done {
            self.requests.remove(&request);
        }
    }

    fn state(&mut self, told: &State, shared: &Shared) {
        self.answer(told.request, None, None);
        (self.active, self.generation) = (told.active, told.generation);
        if told.active {
            return;
        }
        self.activate_at = shared.now + u64::from(told.activate_after);
        // Of what `hello` or `activate` stated no answer will come any more.
        self.asked.retain(|(request, _), _| *request != 0);
        for held in self.logs.values_mut() {
            held.open = false;
        }
        self.moved.clear();
    }

    fn bye(&mut self, code: Code, shared: &mut Shared) {
        self.last = Some(code);
        match code {
            Code::Fenced if !shared.healed => self.back_at = shared.now + 1_000,
            Code::Revoked => self.issued = shared.now + 1,
            Code::UnknownConnection => {
                self.generation = 0;
            }
            _ => {}
        }
        self.end(shared);
    }

    /// The client closes its socket; the node hears of it.
    pub fn end(&mut self, shared: &mut Shared) {
        if let Some(link) = self.link {
            let up = shared.links[link].up.bytes();
            shared.links[link].cut(up, 0);
            shared.at(shared.now + 2 + shared.weights.delay, Turn::NodeGone(link));
        }
        self.gone(shared);
    }
}
