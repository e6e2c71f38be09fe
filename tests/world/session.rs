//! A node's shell of one socket: frames in, commands out.

use std::sync::Arc;

use highwater::connection::{Attach, Progress, Subscribe};
use highwater::fold::Command;
use highwater::log::{Appends, Entry, Part, entry_hash};
use highwater::wire::{
    Activate, Answer, Answers, Append, ClientFrame, Code, Encoding, Ended, Hello, Id, Item,
    MAX_FRAME_BYTES, Outcome, Pattern, Refusal, ServerFrame, Target, codec,
};

use crate::frames::refused;
use crate::link::Messages;
use crate::machine::{Grants, Machine};
use crate::node::{Node, Ticket};
use crate::shared::Shared;

/// What was asked for, so that the answer finds its form.
#[derive(Debug)]
pub enum Asked {
    Attach(Vec<String>),
    Activate(u32, Vec<String>),
    /// Appends, the first of which names that as sent before it.
    Append(u64),
    Subscribe(u32),
    Unsubscribe(u32, Ended, Vec<u64>),
    Seek(u32),
    Snapshot(u32, bool),
    Done(u32),
    Leave,
    /// The world's own word: it is told whom it has shut out.
    Revoke(String, u64),
}

pub struct Session {
    pub connection: Id,
    pub user: String,
    pub grants: Vec<Pattern>,
    pub issued: u64,
    pub delivery: Machine,
    pub out: Vec<u8>,
    pub window: u64,
    /// Bytes of delivery that its client said it has worked off.
    pub acknowledged: u64,
    /// The client said that it leaves: nothing more is delivered.
    pub leaving: bool,
    /// Frames with appends that have come, and each which of them is put off.
    appended: u64,
    busy: u64,
    input: Messages,
    /// Frames that wait for the welcome.
    waiting: Vec<ClientFrame>,
    pub hello: bool,
    pub welcomed: bool,
    /// The last word has been said: what is in `out` goes, and then it is over.
    pub closing: bool,
    /// The kernel took nothing.
    pub moved: bool,
}

impl Session {
    fn new(window: u64, busy: u64) -> Self {
        Self {
            connection: Id::NONE,
            user: String::new(),
            grants: Vec::new(),
            issued: 0,
            delivery: Machine::new(Vec::new(), window),
            out: Vec::new(),
            window,
            acknowledged: 0,
            leaving: false,
            appended: 0,
            busy,
            input: Messages::default(),
            waiting: Vec::new(),
            hello: false,
            welcomed: false,
            closing: false,
            moved: false,
        }
    }

    pub fn may_read(&self, name: &str) -> bool {
        self.grants.iter().any(|grant| grant.matches(name))
    }

    /// Says goodbye: nothing more is delivered.
    pub fn close(&mut self, code: Code) {
        if self.closing {
            return;
        }
        let (message, nodes) = (String::new(), Vec::new());
        let bye = highwater::wire::Bye { code, message, reconnect: true, after: 10, nodes };
        let message = codec::message(&ServerFrame::Bye(bye), Encoding::Bincode);
        self.out.extend(crate::link::wrap(&message));
        self.closing = true;
    }
}

/// A token of the world: when it was issued, and what it lets its bearer read.
pub fn token(issued: u64, user: &str, grants: &[&str]) -> String {
    format!("{issued};{user};{}", grants.join(","))
}

fn read_token(token: &str) -> Option<(u64, String, Vec<Pattern>)> {
    let mut parts = token.split(';');
    let (issued, user) = (parts.next()?.parse().ok()?, parts.next()?.to_owned());
    let grants = parts.next()?.split(',').filter_map(|one| Pattern::parse(one).ok());
    Some((issued, user, grants.collect()))
}

impl Node {
    /// Takes in what has arrived.
    pub fn hear(&mut self, shared: &mut Shared) {
        for number in 0..shared.links.len() {
            let link = &mut shared.links[number];
            if link.node != self.number || link.node_gone {
                continue;
            }
            let bytes = link.up.take(shared.now);
            let (window, busy) = (shared.weights.window, shared.weights.busy);
            let new = || Session::new(window, if shared.healed { 0 } else { busy });
            let session = self.sessions.entry(number).or_insert_with(new);
            session.input.push(&bytes);
            while let Some(message) =
                self.sessions.get_mut(&number).and_then(|session| session.input.next())
            {
                for frame in codec::decode(&message, Encoding::Bincode, MAX_FRAME_BYTES) {
                    self.frame(number, frame.unwrap().0, shared);
                }
            }
        }
    }

    pub fn submit(&mut self, command: Command, link: usize, asked: Asked) {
        self.inbox.push((command, Some(Ticket { link, asked })));
    }

    fn frame(&mut self, link: usize, frame: ClientFrame, shared: &mut Shared) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.closing {
            return;
        }
        match frame {
            ClientFrame::Hello(hello) if !session.hello => self.hello(link, hello),
            frame if !session.welcomed => session.waiting.push(frame),
            frame => self.asked(link, frame, shared),
        }
    }

    /// The welcome was told: what waited for it is looked at.
    pub fn go_on(&mut self, link: usize, shared: &mut Shared) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        for frame in std::mem::take(&mut session.waiting) {
            self.frame(link, frame, shared);
        }
    }

    fn hello(&mut self, link: usize, hello: Hello) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.hello = true;
        let Some((issued, user, grants)) = hello.token.as_deref().and_then(read_token) else {
            return session.close(Code::Unauthorized);
        };
        if self.revoked.get(&user).is_some_and(|before| issued < *before) {
            return session.close(Code::Revoked);
        }
        session.connection = hello.connection;
        session.user.clone_from(&user);
        session.delivery = Machine::new(grants.clone(), session.window);
        (session.issued, session.grants) = (issued, grants.clone());
        let names = hello.open.iter().map(|open| open.name.clone()).collect();
        let attach = Attach {
            connection: hello.connection,
            user,
            device: hello.device,
            client: hello.client,
            visible: hello.visible,
            cloning: hello.cloning,
            writers: hello.writers,
            open: hello.open,
            read: grants.clone(),
            make: grants,
            positions: hello.positions,
            bases: hello.bases,
            holds: hello.capabilities.iter().any(|known| known == "held"),
        };
        self.submit(Command::Attach(attach), link, Asked::Attach(names));
    }

    fn asked(&mut self, link: usize, frame: ClientFrame, shared: &mut Shared) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let (connection, user) = (session.connection, session.user.clone());
        let current = session.delivery.it.generation();
        let (generation, grants) = (Some(current), session.grants.clone());
        match frame {
            ClientFrame::Append(append) => self.append(link, append),
            ClientFrame::Ack(ack) => {
                let taken = session.delivery.it.acknowledge(ack.received, &ack.cursors);
                taken.unwrap_or_else(|why| panic!("law 6: an honest client: {why}"));
                session.moved = true;
                session.acknowledged = session.acknowledged.max(ack.received);
            }
            ClientFrame::Subscribe(ask) => {
                if !session.delivery.it.active() {
                    return reply(session, ask.request, Code::Inactive);
                }
                let (open, bases, request) = (ask.open, ask.bases, ask.request);
                let (read, make) = (grants.clone(), grants);
                let ask = Subscribe { connection, generation, open, read, make, bases };
                self.submit(Command::Subscribe(ask), link, Asked::Subscribe(request));
            }
            ClientFrame::Unsubscribe(ask) => {
                let command =
                    Command::Unsubscribe { connection, generation, logs: ask.logs.clone() };
                let asked = Asked::Unsubscribe(ask.request, Ended::Asked, ask.logs);
                self.submit(command, link, asked);
            }
            ClientFrame::Seek(seek) => {
                let (log, to) = (seek.log, seek.to);
                let command = Command::Seek { connection, generation, log, to };
                self.submit(command, link, Asked::Seek(seek.request));
            }
            ClientFrame::Activate(ask) => {
                if session.delivery.it.active() {
                    return reply(session, ask.request, Code::Stale);
                }
                self.activate(link, ask);
            }
            ClientFrame::PutSnapshot(put) => {
                let (part, last, data) = (put.part, put.last, put.data.bytes().clone());
                let (log, offset, version) = (put.log, put.offset, put.version);
                let part = Part { user, connection, log, offset, version, part, last, data };
                let asked = Asked::Snapshot(put.request, last);
                self.submit(Command::PutSnapshot(part), link, asked);
            }
            ClientFrame::Visible(ask) => {
                let (generation, visible) = (current, ask.visible);
                let command = Command::Visible { connection, generation, visible };
                self.submit(command, link, Asked::Done(ask.request));
            }
            ClientFrame::Leave(leave) => {
                let (generation, forget) = (current, leave.forget);
                session.delivery.it.leave();
                session.leaving = true;
                let command = Command::Leave { connection, generation, forget };
                self.submit(command, link, Asked::Leave);
            }
            ClientFrame::Ping(ping) => {
                let pong = highwater::wire::Pong { nonce: ping.nonce };
                session.delivery.reply(ServerFrame::Pong(pong));
            }
            ClientFrame::Refresh(refresh) => {
                self.refresh(link, &refresh.token, refresh.request, shared);
            }
            _ => {}
        }
    }

    fn activate(&mut self, link: usize, ask: Activate) {
        let Some(session) = self.sessions.get(&link) else { return };
        let (connection, grants) = (session.connection, session.grants.clone());
        let generation = Some(session.delivery.it.generation());
        let names = ask.open.iter().map(|open| open.name.clone()).collect();
        let Activate { request, cloning, open, bases } = ask;
        let (read, make) = (grants.clone(), grants);
        let ask = Subscribe { connection, generation, open, read, make, bases };
        let command = Command::Activate { ask, cloning, holds: true };
        self.submit(command, link, Asked::Activate(request, names));
    }

    fn append(&mut self, link: usize, append: Append) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let (Some(first), Some(last)) = (append.items.first(), append.items.last()) else { return };
        let (prev, seqs) = (first.prev, (first.seq, last.seq));
        session.delivery.it.appends(append.writer, append.oldest, seqs);
        session.appended += 1;
        if session.busy > 0 && session.appended.is_multiple_of(session.busy) {
            return put_off(session, prev, &append);
        }
        let entry = |item: Item| {
            let name = match &item.to {
                Target::Name(name) => Some(name.clone()),
                Target::Log(log) => crate::rows::log_row(&self.rows, *log).map(|row| row.name),
            };
            let denied = name.is_some_and(|name| !session.may_read(&name));
            let verdict = denied.then(|| Refusal::new(Code::Denied));
            let made = match item.to {
                Target::Log(log) => append.made.iter().find(|made| made.log == log),
                Target::Name(_) => None,
            };
            let hash = entry_hash(&item.to, item.if_head, &item.record);
            let made = made.map(|made| made.position);
            let record = if denied { Default::default() } else { item.record };
            Entry {
                seq: item.seq,
                prev: item.prev,
                to: item.to,
                made,
                if_head: item.if_head,
                hash,
                verdict,
                record,
            }
        };
        let entries = append.items.into_iter().map(entry).collect();
        let appends = Appends {
            user: session.user.clone(),
            writer: append.writer,
            connection: session.connection,
            oldest: append.oldest,
            once: false,
            positions: append.positions,
            entries,
        };
        self.submit(Command::Append(appends), link, Asked::Append(prev));
    }

    fn refresh(&mut self, link: usize, token: &str, request: u32, shared: &mut Shared) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let Some((issued, _, grants)) = read_token(token) else { return };
        (session.issued, session.grants) = (issued, grants);
        let grants = Arc::new(Grants(session.grants.clone()));
        let lost = session.delivery.it.regrant(grants);
        let refreshed = highwater::wire::Refreshed { expires: 0, request };
        session.delivery.reply(ServerFrame::Refreshed(refreshed));
        shared.oracle.lost(link, &lost);
        if !lost.is_empty() {
            // It ends here and now; the row follows.
            session.delivery.ended(lost.clone(), 0, Ended::Denied);
            let (connection, generation) = (session.connection, session.delivery.it.generation());
            let generation = Some(generation);
            let command = Command::Unsubscribe { connection, generation, logs: lost.clone() };
            self.submit(command, link, Asked::Unsubscribe(0, Ended::Denied, lost));
        }
    }

    /// The socket is gone: what its client had reached is committed.
    pub fn gone(&mut self, link: usize) {
        let Some(mut session) = self.sessions.remove(&link) else { return };
        if self.sockets.get(&session.connection) == Some(&link) {
            self.sockets.remove(&session.connection);
        }
        if session.welcomed {
            let reached = session.delivery.take_acked();
            let (connection, generation) = (session.connection, session.delivery.it.generation());
            let last = Progress { connection, generation, reached };
            self.inbox.push((Command::Detach(last), None));
        }
    }
}

/// The node is busy: nothing of a frame is taken, and nothing is spent. The mark is not known here.
fn put_off(session: &mut Session, prev: u64, append: &Append) {
    let refused = |item: &Item| {
        let outcome = Outcome::Refused(Code::Overloaded.into());
        Answer { seq: item.seq, outcome }
    };
    let answers = append.items.iter().map(refused).collect();
    let (writer, positions) = (append.writer, Vec::new());
    let mut answers = Answers { writer, mark: 0, answers, positions, credit: None };
    session.delivery.it.in_order(prev, &mut answers);
    session.delivery.reply(ServerFrame::Answers(answers));
}

pub fn reply(session: &mut Session, request: u32, why: Code) {
    if request != 0 {
        session.delivery.reply(refused(request, None, why));
    }
}
