//! What each socket was told, as the oracle saw it leave, and what may not leave next.
//!
//! Like the rest of the oracle it shares no code with the fold or delivery: it remembers frames,
//! and compares.

use std::collections::BTreeMap;

use highwater::connection::Opened;
use highwater::delivery::Read;
use highwater::rows::MemoryRows;
use highwater::wire::{Id, Position, ServerFrame};

use crate::frames::size_of;
use crate::oracle::{Oracle, demand};
use crate::rows;
use crate::session::Session;

/// What a socket was told of a log.
#[derive(Clone, Debug, Default)]
pub struct Told {
    name: String,
    priority: u8,
    cursor: u64,
    open: bool,
    whole: bool,
    /// How often it was told to be subscribed, and of these the last that was another opening.
    times: u64,
    opening: u64,
    /// It is opened anew, and that is not told yet.
    pending: bool,
    /// Its last turn to be read, and since which turn it has been waiting for one.
    turn: u64,
    waits: Option<u64>,
}

impl Told {
    /// Whether something of it is to be read for its client. Nothing is of what its grants do not
    /// cover (promise 11): that it has ended is about to be decided, and told.
    fn behind(&self, log: u64, by: &Session, rows: &MemoryRows) -> bool {
        // What costs least is looked at first.
        if !self.open || self.pending || !by.may_read(&self.name) {
            return false;
        }
        let row = rows::log_row(rows, log).filter(|row| !row.deleted);
        row.is_some_and(|row| !self.whole || self.cursor < row.head)
    }
}

/// A socket.
#[derive(Clone, Debug, Default)]
pub struct Socket {
    /// The connection that it has, at its node.
    connection: Option<(usize, Id)>,
    generation: u64,
    logs: BTreeMap<u64, Told>,
    sent: u64,
    /// Turns to be read that its logs have had.
    turns: u64,
    /// The position that its client stated.
    stated: Option<Position>,
    /// The last look that found nothing: log, cursor, head and how often.
    idle: (u64, u64, u64, u32),
}

/// What may stand in a connection's row, as long as its generation is that one: of each log its
/// opening, and how far the client has come since. What another opening has set, a socket is told
/// of that may be elsewhere, or gone.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    link: usize,
    generation: u64,
    logs: BTreeMap<u64, (u64, u64)>,
    /// What the row had of each log when it was last looked at: opening, and cursor.
    stood: BTreeMap<u64, (u64, u64)>,
}

impl Oracle {
    /// A connection is attached or active anew: what a node has told.
    pub fn attached(&mut self, node: usize, connection: Id, generation: u64) {
        let newest = self.newest.entry((node, connection)).or_default();
        *newest = (*newest).max(generation);
    }

    /// A socket is told that it has a connection, by that generation.
    pub fn claimed(&mut self, node: usize, link: usize, connection: Id, generation: u64) {
        self.sockets.entry(link).or_default().connection = Some((node, connection));
        let claims = Claims { link, generation, ..Claims::default() };
        self.claims.insert((node, connection), claims);
    }

    pub fn downgraded(&mut self, node: usize, connection: Id, generation: u64) {
        self.attached(node, connection, generation);
        self.claims.remove(&(node, connection));
    }

    /// A connection's row is gone: its generations begin anew.
    pub fn forgotten(&mut self, node: usize, connection: Id) {
        self.newest.remove(&(node, connection));
        self.claims.remove(&(node, connection));
    }

    pub fn revoked(&mut self, node: usize, user: &str, before: u64) {
        self.revoked.insert((node, user.to_owned()), before);
    }

    /// A node's run is over.
    pub fn crashed(&mut self, node: usize) {
        self.newest.retain(|(at, _), _| *at != node);
        self.revoked.retain(|(at, _), _| *at != node);
        self.claims.retain(|(at, _), _| *at != node);
    }

    /// A log is opened for a socket; that is to be told yet.
    pub fn names(&mut self, link: usize, log: u64, name: &str, again: bool) {
        let socket = self.sockets.entry(link).or_default();
        let told = socket.logs.entry(log).or_default();
        name.clone_into(&mut told.name);
        told.pending |= !again;
    }

    /// A base went away under its reader: the log is opened anew.
    pub fn reopens(&mut self, link: usize, log: u64) {
        let socket = self.sockets.entry(link).or_default();
        socket.logs.entry(log).or_default().whole = true;
    }

    /// A log is opened in a connection's row.
    pub fn claims(&mut self, link: usize, opened: &Opened) {
        let socket = self.sockets.entry(link).or_default();
        let claims = socket.connection.and_then(|id| self.claims.get_mut(&id));
        if let Some(claims) = claims.filter(|claims| claims.link == link && !opened.again) {
            claims.logs.insert(opened.log, (opened.opening, opened.cursor));
        }
    }

    /// A client says hello, having seen so much.
    pub fn states(&mut self, link: usize, position: Option<Position>) {
        self.sockets.entry(link).or_default().stated = position;
    }

    /// Grants in force no longer cover these logs: of them nothing is read until they are opened
    /// anew.
    pub fn lost(&mut self, link: usize, logs: &[u64]) {
        let socket = self.sockets.entry(link).or_default();
        for log in logs {
            socket.logs.entry(*log).or_default().open = false;
        }
    }

    /// A client acknowledges, having heard so often of each log that it is subscribed.
    pub fn acknowledges(&mut self, link: usize, logs: &[(u64, u64, u64)]) {
        let socket = self.sockets.entry(link).or_default();
        let claims = socket.connection.and_then(|id| self.claims.get_mut(&id));
        let Some(claims) = claims.filter(|claims| claims.link == link) else { return };
        for (log, next, heard) in logs {
            let Some(told) = socket.logs.get(log) else { continue };
            if !told.pending
                && *heard >= told.opening
                && let Some((_, most)) = claims.logs.get_mut(log)
            {
                *most = (*most).max(*next);
            }
        }
    }

    /// No row says more than its client has said, since its log was opened. `serves`: whether a
    /// socket is still the one of its connection, and so was told of all that this node has folded.
    pub fn committed(
        &mut self,
        node: usize,
        rows: &MemoryRows,
        serves: impl Fn(usize, &Id) -> bool,
    ) {
        for ((_, connection), claims) in self.claims.iter_mut().filter(|((at, _), _)| *at == node) {
            let Some(row) = rows::connection(rows, *connection) else { continue };
            if row.generation != claims.generation {
                // Another socket has it by now, perhaps at another node.
                continue;
            }
            let served = serves(claims.link, connection);
            for sub in &row.subs {
                let before = claims.stood.insert(sub.log, (sub.opening, sub.cursor));
                demand!(
                    before.is_none_or(|(opening, at)| opening != sub.opening || at <= sub.cursor),
                    "law 6: {connection} is put back from {before:?} to {} of log {}",
                    sub.cursor,
                    sub.log
                );
                let Some((opening, most)) = claims.logs.get(&sub.log) else {
                    let log = sub.log;
                    demand!(!served, "law 9: {connection} has log {log}, and is not told of it");
                    continue;
                };
                let same = sub.opening == *opening;
                demand!(
                    same || !served,
                    "law 6: {connection} has opening {} of log {}, and was told {opening}",
                    sub.opening,
                    sub.log
                );
                demand!(
                    !same || sub.cursor <= *most,
                    "law 6: {connection} stands at {} of log {}, and said {most} (promise 12)",
                    sub.cursor,
                    sub.log
                );
            }
        }
    }

    /// A frame leaves for a client.
    pub fn sends(&mut self, node: usize, link: usize, by: &Session, frame: &ServerFrame) {
        let window = by.window;
        if let ServerFrame::Welcome(told) = frame {
            let stated = self.sockets.get(&link).and_then(|socket| socket.stated);
            let ours = stated.is_none_or(|position| self.in_history(&position));
            demand!(ours != told.other_history, "promise 15: {stated:?} is judged wrongly");
        }
        if let ServerFrame::Gap(told) = frame {
            let start = self.start(told.log);
            demand!(told.to <= start, "promise 7: {told:?}, and all from {start} on is kept");
        }
        let socket = self.sockets.entry(link).or_default();
        match frame {
            ServerFrame::Welcome(told) => socket.generation = told.generation,
            ServerFrame::State(told) => {
                socket.generation = told.generation;
                if !told.active {
                    socket.logs.values_mut().for_each(|log| log.open = false);
                }
            }
            ServerFrame::Subscribed(told) => {
                let log = socket.logs.entry(told.log).or_default();
                log.times += 1;
                if std::mem::take(&mut log.pending) {
                    log.opening = log.times;
                    log.whole = told.base.is_none();
                }
                (log.priority, log.cursor, log.open) = (told.priority, told.cursor, !told.held);
                (log.turn, log.waits) = (0, None);
            }
            ServerFrame::Reset(told) => {
                let log = socket.logs.entry(told.log).or_default();
                (log.cursor, log.whole) = (told.cursor, told.base.is_none());
            }
            ServerFrame::Gap(told) => {
                let log = socket.logs.entry(told.log).or_default();
                log.cursor = log.cursor.max(told.to);
            }
            ServerFrame::Unsubscribed(told) => {
                socket.logs.entry(told.log).or_default().open = false;
            }
            ServerFrame::Records(told) => {
                let end = told.base + told.records.len() as u64;
                socket.logs.entry(told.log).or_default().cursor = end;
                self.delivers(node, link, by, told.log, size_of(frame), window);
            }
            ServerFrame::Base(told) => {
                socket.logs.entry(told.log).or_default().whole = told.last;
                self.delivers(node, link, by, told.log, size_of(frame), window);
            }
            ServerFrame::BaseRecords(told) => {
                socket.logs.entry(told.log).or_default().whole = told.last;
                self.delivers(node, link, by, told.log, size_of(frame), window);
            }
            _ => {}
        }
    }

    /// Openings come out of a machine: of what may be read at that moment. (What waits for the
    /// kernel since is on its way, as bytes are.)
    pub fn opens(by: &Session, frames: &[ServerFrame]) {
        for frame in frames {
            let ServerFrame::Subscribed(told) = frame else { continue };
            let may = by.may_read(&told.name);
            demand!(may, "promise 11: {} is opened to one who may not read it", told.name);
        }
    }

    fn delivers(&mut self, node: usize, link: usize, by: &Session, log: u64, size: u64, most: u64) {
        self.deliveries += 1;
        let socket = self.sockets.entry(link).or_default();
        let name = socket.logs.get(&log).map_or("", |told| &told.name);
        demand!(by.may_read(name), "promise 11: {name} is sent to one who may not read it");
        let revoked = self.revoked.get(&(node, by.user.clone()));
        let counts = revoked.is_none_or(|before| by.issued >= *before);
        demand!(counts, "promise 11: {name} is sent to one whose token is revoked");
        let newest = self.newest.get(&(node, by.connection)).copied().unwrap_or(0);
        let told = socket.generation;
        demand!(newest <= told, "promise 12: {name} goes to generation {told}, {newest} is there");
        let alone = socket.sent <= by.acknowledged;
        socket.sent += size;
        let fits = socket.sent.saturating_sub(by.acknowledged) <= most;
        demand!(alone || fits, "law 10: the window of {most} is overrun: {}", socket.sent);
    }

    /// A machine asked for a read: of the logs that are behind those come first that are to.
    pub fn reads(
        &mut self,
        link: usize,
        by: &Session,
        read: &Read,
        nothing: Option<u64>,
        rows: &MemoryRows,
    ) {
        let socket = self.sockets.entry(link).or_default();
        let Some(priority) = socket.logs.get(&read.log).map(|this| this.priority) else { return };
        let turns = socket.turns;
        for (log, told) in &mut socket.logs {
            let waits = told.behind(*log, by, rows);
            let first = waits && told.priority < priority;
            demand!(!first, "law 10: log {} is read, and {log} is to go before it", read.log);
            told.waits = waits.then(|| told.waits.unwrap_or(turns));
        }
        if let Some(head) = nothing {
            let same = (read.log, read.cursor, head);
            let (log, cursor, known, times) = socket.idle;
            let times = if (log, cursor, known) == same { times + 1 } else { 0 };
            socket.idle = (same.0, same.1, same.2, times);
            demand!(times < 20, "nothing spins: log {log} is read at {cursor} again and again");
        }
    }

    /// A log has had its turn: something of it was sent, or there was nothing to send. Of those of
    /// its priority none has two while another waits for one.
    pub fn turn(&mut self, link: usize, log: u64) {
        let socket = self.sockets.entry(link).or_default();
        socket.turns += 1;
        let turns = socket.turns;
        let Some(this) = socket.logs.get_mut(&log) else { return };
        let (priority, last) = (this.priority, std::mem::replace(&mut this.turn, turns));
        this.waits = None;
        for (other, told) in socket.logs.iter().filter(|(_, told)| told.priority == priority) {
            let passed = told.waits.is_some_and(|since| since < last);
            demand!(!passed, "law 10: log {log} is read twice, and {other} waits");
        }
    }

    /// A socket was served as far as it takes anything. Where its client has worked off all it was
    /// sent, and reads, nothing that it may read is left: whoever else reads slowly.
    pub fn served(&self, link: usize, by: &Session, rows: &MemoryRows) {
        let Some(socket) = self.sockets.get(&link) else { return };
        if socket.sent > by.acknowledged {
            return;
        }
        for (log, told) in &socket.logs {
            let behind = told.behind(*log, by, rows);
            demand!(!behind, "promise 5: {} waits, and its reader {link} does not", told.name);
        }
    }
}
