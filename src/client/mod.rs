//! The protocol from the other side: one client as a machine, without IO.
//!
//! Promise: pure. It opens no socket, reads no clock and makes no random bits: all three are handed
//! in, so the same inputs give the same outputs. What it is sent it holds against the laws of
//! `docs/protocol.md`; a server that breaks one is told of as a [`Breach`], never a panic.
//!
//! How it is driven, by a thread with a socket, by a load or by a simulation:
//!
//! ```text
//! let mut client = Client::new(config);
//! client.open("docs/42", Start::State, 0);            // what the app wants, at any time
//! client.append(Target::Name(..), record, None);      // numbered at once, sent when it may be
//! client.handle(now, Input::Open { spare });          // a socket is open: `hello` comes out
//! client.handle(now, Input::Message(&bytes));         // or `Frame`, where frames are at hand
//! while let Some(output) = client.poll() {            // after every call, until it is empty
//!     Output::Send(frame)      -> put it on the socket, in order
//!     Output::Tell(event)      -> what the app learns: records, answers, breaches
//!     Output::Close            -> close the socket, then hand in `Input::Closed`
//!     Output::Connect { .. }   -> open another one, at the time told
//! }
//! client.deadline()                                   // when to hand in `Input::Time`, if nothing
//! ```
//!
//! Times are milliseconds of any clock that does not go back. A call of the app acts at the time of
//! the last `handle`. Every socket begins with `Input::Open` and ends with `Input::Closed`, also
//! one that the client asked to be closed; frames that were not polled by then are dropped with
//! it, and what they carried is sent again on the next socket.
//!
//! It keeps of a log where it stands ([`Log`]), not the records: an app folds them as it is told.
//! Where it asks for a log that it reads, or to be active, the app keeps what it has of the log
//! then until that is answered, also past an `unsubscribed`: a `subscribed` without a reset goes on
//! from there. Of what it let go, and of what was refused for good, it need keep nothing: where it
//! wants that again, all of it comes anew.

mod credit;
mod event;
mod frames;
mod log;
mod parts;
mod wants;
mod window;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::wire::{
    Activate, Append, BaseHeld, ClientFrame, Hello, Id, Leave, Limits, MAX_WRITERS, Ping, Position,
    Record, Refresh, Retire, ServerFrame, Start, Target, Visible, Welcome, Who, WriterAt,
    capability, version,
};

pub use event::{Breach, Config, Event, Input, Output};
pub use log::Log;
pub use writer::{Pending, Writer};

use credit::CreditHeld;
use parts::Parts;
use wants::Want;
use window::Window;

/// A client that has heard nothing this long after its own `ping` gives the socket up.
const GIVEN_UP_AFTER: u64 = 10_000;
/// The first and the longest bound of the wait before it comes back, where no time was told.
const WAIT_FIRST: u64 = 500;
const WAIT_MOST: u64 = 20_000;

/// How far the socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Away,
    /// `hello` is said.
    Greeting,
    /// `welcome` has come.
    Met,
    /// It is to be closed; what still comes is not looked at.
    Closing,
}

/// One client: its connection, the logs that it reads and its writer.
#[derive(Debug)]
pub struct Client {
    config: Config,
    phase: Phase,
    now: u64,
    out: VecDeque<Output>,
    parts: Parts,
    welcome: Option<Welcome>,
    /// Whether to come back and when, by the word of the server or by its own.
    bye: Option<(bool, u32)>,
    /// Whether the server has said its last word on this socket.
    said_bye: bool,
    active: bool,
    /// When it may ask to be active, if it is not.
    activate_at: Option<u64>,
    /// Its `activate` that has no answer yet.
    activating: Option<u32>,
    /// A token that came while `hello` had no answer, which has another one.
    refreshing: Option<Refresh>,
    /// When anything came last, and whether its own `ping` has been sent since.
    heard: u64,
    pinged: Option<u64>,
    window: Window,
    wants: BTreeMap<String, Want>,
    /// When a log that is wanted is asked for again.
    again: BTreeMap<String, u64>,
    logs: BTreeMap<u64, Log>,
    /// Logs that were announced on this socket, also those that it has forgotten since.
    announced: BTreeSet<u64>,
    /// Logs that an `unsubscribe` of its own let go, by its request.
    ending: BTreeMap<u32, Vec<u64>>,
    requests: u32,
    writer: Writer,
    /// Other writers that it speaks for, as long as something of theirs has no answer.
    others: Vec<Writer>,
    spare: Id,
    credit: CreditHeld,
    /// The highest position seen of each shard.
    positions: Vec<Position>,
    /// Where log ids were made.
    made: BTreeMap<u64, Position>,
    /// Bound of the wait before it comes back.
    wait: u64,
}

impl Client {
    /// A client that has never been online.
    pub fn new(config: Config) -> Self {
        let writer = Writer::new(config.writer);
        Self {
            phase: Phase::Away,
            now: 0,
            out: VecDeque::new(),
            parts: Parts::default(),
            welcome: None,
            bye: None,
            said_bye: false,
            active: false,
            activate_at: None,
            activating: None,
            refreshing: None,
            heard: 0,
            pinged: None,
            window: Window::default(),
            wants: BTreeMap::new(),
            again: BTreeMap::new(),
            logs: BTreeMap::new(),
            announced: BTreeSet::new(),
            ending: BTreeMap::new(),
            requests: 0,
            writer,
            others: Vec::new(),
            spare: Id::NONE,
            credit: CreditHeld::default(),
            positions: Vec::new(),
            made: BTreeMap::new(),
            wait: WAIT_FIRST,
            config,
        }
    }

    /// Takes what happened, and does what is due at this time.
    pub fn handle(&mut self, now: u64, input: Input<'_>) {
        self.now = self.now.max(now);
        match input {
            Input::Open { spare } => self.opened(spare),
            Input::Message(bytes) => self.message(bytes),
            Input::Frame(frame, size) => self.came(frame, size),
            Input::Closed => self.closed(),
            Input::Time => {}
        }
        self.do_what_is_due();
    }

    /// The next thing to do; none: wait for a socket, for the app or for [`Client::deadline`].
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When to hand in [`Input::Time`], if nothing else happens before.
    pub fn deadline(&self) -> Option<u64> {
        if self.phase != Phase::Met {
            return None;
        }
        let acks = self.window.due_at(self.config.ack_after);
        let writers = std::iter::once(&self.writer).chain(&self.others);
        let resumes = |writer: &Writer| {
            let credit = self.credit.opens_at(self.now, writer).filter(|_| self.config.credit);
            writer.resumes_at().max(credit)
        };
        let resend = writers.filter_map(resumes).min();
        let silence = match self.pinged {
            Some(at) => Some(at.saturating_add(GIVEN_UP_AFTER)),
            None => self.ping_interval().map(|interval| self.heard.saturating_add(interval)),
        };
        let wants = self.again.values().min().copied();
        let activate =
            self.activate_at.filter(|_| self.config.activates && self.activating.is_none());
        let all = [acks, resend, silence, wants.filter(|_| self.active), activate];
        all.into_iter().flatten().min()
    }

    fn do_what_is_due(&mut self) {
        if self.phase != Phase::Met {
            return;
        }
        if self.window.due(self.now, self.config.ack_after) {
            self.ack();
        }
        self.hold_against_silence();
        self.ask_again();
        if self.config.activates
            && self.activating.is_none()
            && self.activate_at.is_some_and(|at| self.now >= at)
        {
            self.activate();
        }
        self.send_appends();
    }

    fn ping_interval(&self) -> Option<u64> {
        let told = self.welcome.as_ref().map(|welcome| u64::from(welcome.ping_interval));
        told.filter(|interval| *interval > 0)
    }

    fn hold_against_silence(&mut self) {
        let Some(interval) = self.ping_interval() else { return };
        match self.pinged {
            Some(at) if self.now >= at.saturating_add(GIVEN_UP_AFTER) => self.close(),
            None if self.now >= self.heard.saturating_add(interval) => {
                self.pinged = Some(self.now);
                self.send(ClientFrame::Ping(Ping { nonce: self.now, positions: vec![] }));
            }
            _ => {}
        }
    }

    /// A socket is open: forgets what belonged to the one before, and says `hello`.
    fn opened(&mut self, spare: Id) {
        self.phase = Phase::Greeting;
        self.spare = spare;
        (self.welcome, self.bye, self.pinged) = (None, None, None);
        self.said_bye = false;
        (self.active, self.activate_at, self.activating) = (false, None, None);
        self.refreshing = None;
        self.heard = self.now;
        self.parts = Parts::default();
        self.window = Window::default();
        self.credit = CreditHeld::default();
        self.announced.clear();
        self.forget_requests();
        for log in self.logs.values().filter(|log| log.is_broken()) {
            self.wants.entry(log.name.clone()).and_modify(|want| want.start = Start::State);
        }
        let bases = self.knows(capability::BASES);
        // Of what it does not name in `hello` it holds nothing from here on (protocol §8.2).
        let wanted = |log: &Log| self.wants.contains_key(&log.name);
        let stated = |log: &Log| log.holds() || (bases && log.begun().is_some());
        self.logs.retain(|_, log| wanted(log) && stated(log));
        self.logs.values_mut().for_each(|log| log.open = false);
        self.writer.cut();
        self.others.iter_mut().for_each(Writer::cut);
        let hello = self.hello();
        self.ask_for_all();
        self.send(ClientFrame::Hello(hello));
    }

    /// The socket ended: what was to be sent on it is not sent on the next one.
    fn closed(&mut self) {
        self.phase = Phase::Away;
        self.forget_requests();
        self.out.retain(|output| !matches!(output, Output::Send(_) | Output::Close));
        let (comes_back, after) = self.bye.take().unwrap_or((true, 0));
        if !comes_back {
            return;
        }
        let (not_before, spread) = match after {
            0 => (self.now, self.wait),
            after => (self.now.saturating_add(u64::from(after)), 0),
        };
        self.wait = (self.wait * 2).min(WAIT_MOST);
        self.out.push_back(Output::Connect { not_before, spread });
    }

    fn send(&mut self, frame: ClientFrame) {
        self.out.push_back(Output::Send(frame));
    }

    fn tell(&mut self, event: Event) {
        self.out.push_back(Output::Tell(event));
    }

    fn breach(&mut self, breach: Breach) {
        self.tell(Event::Breach(breach));
    }

    fn close(&mut self) {
        if self.phase != Phase::Closing {
            self.phase = Phase::Closing;
            self.out.push_back(Output::Close);
        }
    }

    fn knows(&self, capability: &str) -> bool {
        self.config.capabilities.contains(&capability)
    }

    fn request(&mut self) -> u32 {
        self.requests = self.requests.checked_add(1).unwrap_or(1);
        self.requests
    }

    /// Its `hello`, as it would be said now.
    pub fn hello(&self) -> Hello {
        let at = |writer: &Writer| WriterAt { writer: writer.id(), oldest: writer.oldest() };
        let others = self.others.iter().take(MAX_WRITERS - 1);
        Hello {
            version: version::PROTOCOL,
            capabilities: self.config.capabilities.iter().map(|name| (*name).to_owned()).collect(),
            token: self.config.token.clone(),
            connection: self.config.connection,
            device: self.config.device,
            client: self.config.name.clone(),
            visible: self.config.visible,
            cloning: self.config.cloning,
            writers: std::iter::once(&self.writer).chain(others).map(at).collect(),
            open: self.open_list(),
            window: self.config.window,
            bases: self.bases(),
            positions: self.stated(),
        }
    }

    /// The bases that it has begun and not finished.
    pub fn bases(&self) -> Vec<BaseHeld> {
        if !self.knows(capability::BASES) {
            return Vec::new();
        }
        self.logs.values().filter(|log| !self.is_let_go(log)).filter_map(Log::begun).collect()
    }

    /// The positions that it states.
    pub fn stated(&self) -> Vec<Position> {
        if self.knows(capability::HISTORY) { self.positions.clone() } else { Vec::new() }
    }

    fn number(&mut self, to: Target, record: Record, if_head: Option<u64>) -> u64 {
        let made = match to {
            Target::Log(log) => self.made.get(&log).copied(),
            Target::Name(_) => None,
        };
        self.writer.number_made(made, to, if_head, record)
    }

    /// Numbers an append; it is sent as soon as it may be, and again until it has its answer.
    pub fn append(&mut self, to: Target, record: Record, if_head: Option<u64>) -> u64 {
        let seq = self.number(to, record, if_head);
        self.send_appends();
        seq
    }

    /// Numbers several appends before any is sent, so that they go in as few frames as may be; the
    /// last one's sequence.
    pub fn append_all(&mut self, items: impl IntoIterator<Item = (Target, Record)>) -> u64 {
        for (to, record) in items {
            self.number(to, record, None);
        }
        self.send_appends();
        self.writer.last()
    }

    /// Sends everything that has no answer again, from the oldest on and at once.
    pub fn resend(&mut self) {
        self.writer.begin_again(0);
        self.send_appends();
    }

    fn send_appends(&mut self) {
        if self.phase != Phase::Met {
            return;
        }
        let Some(limits) = self.limits() else { return };
        // Writers that it took over come first: what they have is older.
        for at in (0..self.others.len()).map(Some).chain([None]) {
            while let Some(append) = self.next_append(at, &limits) {
                self.send(ClientFrame::Append(append));
            }
        }
    }

    /// The next frame of one of the other writers, or of its own.
    fn next_append(&mut self, at: Option<usize>, limits: &Limits) -> Option<Append> {
        let writer = match at {
            Some(at) => self.others.get_mut(at)?,
            None => &mut self.writer,
        };
        if !writer.may_send(self.now) {
            return None;
        }
        let most = usize::try_from(limits.frame_bytes).unwrap_or(usize::MAX);
        let room = self.credit.room(self.now, writer).filter(|_| self.config.credit);
        let (items, mut made) = writer.next(self.config.encoding, most, limits.in_flight, room);
        if items.is_empty() {
            return None;
        }
        let (writer, oldest) = (writer.id(), writer.oldest());
        self.credit.sent(writer, &items);
        if !self.knows(capability::HISTORY) {
            made.clear();
        }
        let positions = self.stated();
        Some(Append { writer, oldest, items, positions, made })
    }

    /// Speaks for another writer too, as for one that a run before left unanswered: what it has is
    /// sent until it has its answers, then it is dropped. At most 15 of them are named in `hello`.
    pub fn adopt(&mut self, writer: Writer) {
        self.others.push(writer);
        self.send_appends();
    }

    /// Goes on as a writer that a run before this one left; the one that it had is forgotten.
    pub fn go_on_as(&mut self, writer: Writer) {
        self.writer = writer;
        self.writer.cut();
        self.send_appends();
    }

    /// Forgets what it holds of all logs, as a run that kept nothing does. Only without a socket.
    pub fn forget(&mut self) {
        if self.phase == Phase::Away {
            self.logs.clear();
        }
    }

    /// What a run before this one held of a log, as it was kept: everything below `next`. It counts
    /// where the log is wanted by the time that a socket opens.
    pub fn hold(&mut self, name: &str, log: u64, next: u64) {
        self.logs.retain(|_, known| known.name != name);
        self.logs.insert(log, Log::kept(name, log, next));
    }

    /// A position that a run before this one saw; it is stated.
    pub fn saw(&mut self, position: Position) {
        self.see(&[position]);
    }

    /// Acknowledges what was worked off, and where each log that moved could be restarted from.
    pub fn ack(&mut self) {
        if let Some(ack) = self.window.ack(&self.logs) {
            self.send(ClientFrame::Ack(ack));
        }
    }

    /// Asks to be active again; the request's number.
    pub fn activate(&mut self) -> u32 {
        let request = self.request();
        self.activating = Some(request);
        let (cloning, open, bases) = (self.config.cloning, self.open_list(), self.bases());
        self.ask_for_all();
        self.send(ClientFrame::Activate(Activate { request, cloning, open, bases }));
        request
    }

    /// Brings a new token, in band where there is a socket, as soon as that has its `welcome`; the
    /// request's number. Of several that come before `welcome` the last one is sent.
    pub fn refresh(&mut self, token: String) -> u32 {
        let request = self.request();
        self.config.token = Some(token.clone());
        match self.phase {
            Phase::Met => self.send(ClientFrame::Refresh(Refresh { token, request })),
            Phase::Greeting => self.refreshing = Some(Refresh { token, request }),
            Phase::Away | Phase::Closing => {}
        }
        request
    }

    /// Says whether someone looks at it.
    pub fn show(&mut self, visible: bool) {
        self.config.visible = visible;
        if self.phase == Phase::Met {
            self.send(ClientFrame::Visible(Visible { visible, request: 0 }));
        }
    }

    /// Asks who has a record; the request's number.
    pub fn who(&mut self, log: u64, offset: u64) -> u32 {
        let request = self.request();
        self.send(ClientFrame::Who(Who { request, log, offset }));
        request
    }

    /// Lets a writer's mark be forgotten; the request's number.
    pub fn retire(&mut self, writer: Id) -> u32 {
        let request = self.request();
        self.send(ClientFrame::Retire(Retire { writer, request }));
        request
    }

    /// Goes for good, or for long: it does not come back by itself.
    pub fn leave(&mut self, forget: bool) {
        self.bye = Some((false, 0));
        self.send(ClientFrame::Leave(Leave { forget }));
    }

    /// Sends a frame as it is: what the client does not know of is its caller's affair.
    pub fn send_raw(&mut self, frame: ClientFrame) {
        self.send(frame);
    }

    /// Whether `welcome` has come on this socket.
    pub fn is_met(&self) -> bool {
        self.phase == Phase::Met
    }

    fn is_greeting(&self) -> bool {
        self.phase == Phase::Greeting
    }

    /// Whether it gets updates.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// The `welcome` of this socket, or of the last one until the next is open.
    pub const fn welcome(&self) -> Option<&Welcome> {
        self.welcome.as_ref()
    }

    /// Bytes of delivery that it worked off on this socket.
    pub const fn received(&self) -> u64 {
        self.window.received()
    }

    /// The limits in force.
    pub fn limits(&self) -> Option<Limits> {
        self.welcome.as_ref().map(|welcome| welcome.limits)
    }

    /// Who and how it is.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The same, to be changed; what `hello` says of it counts from the next socket on.
    pub const fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }

    /// Its writer.
    pub const fn writer(&self) -> &Writer {
        &self.writer
    }

    /// How many appends have no answer, of all writers that it speaks for.
    pub fn unanswered(&self) -> usize {
        let others = self.others.iter().map(|other| other.pending().len()).sum::<usize>();
        self.writer.pending().len() + others
    }

    /// The logs that it knows of, by their ids.
    pub const fn logs(&self) -> &BTreeMap<u64, Log> {
        &self.logs
    }

    /// The log of this name, if it knows one.
    pub fn log(&self, name: &str) -> Option<&Log> {
        self.logs.values().rfind(|log| log.name == name)
    }

    /// Whether a frame would be taken by a server, and so by this client, before `welcome`.
    const fn is_early(frame: &ServerFrame) -> bool {
        matches!(frame, ServerFrame::Welcome(_) | ServerFrame::Bye(_) | ServerFrame::Ping(_))
    }
}
