//! What is true, by what everybody was shown: of each log a list of records, of each connection
//! what it was told. It decides nothing that the fold or delivery decides, and shares no code with
//! them; it remembers, and compares.

use std::collections::BTreeMap;

use highwater::connection::Opened;
use highwater::delivery::Read;
use highwater::log::Stored;
use highwater::rows::MemoryRows;
use highwater::wire::{Id, Place, Position, Record, ServerFrame};

use crate::frames::size_of;
use crate::rows;
use crate::session::Session;

/// A broken promise or law. Its message begins with the number.
macro_rules! demand {
    ($holds:expr, $($why:tt)+) => {
        if !$holds { panic!($($why)+); }
    };
}
pub(crate) use demand;

/// A record as whoever saw it: the same for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub place: Place,
    pub writer: Id,
    pub seq: u64,
    pub key: Option<String>,
    pub payload: Option<Vec<u8>>,
}

impl Seen {
    pub fn of(place: Place, writer: Id, seq: u64, record: &Record) -> Self {
        let payload = record.payload.as_ref().map(|payload| payload.bytes().to_vec());
        Self { place, writer, seq, key: record.key.clone(), payload }
    }
}

/// What a socket was told of a log.
#[derive(Clone, Debug, Default)]
struct Told {
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
}

/// A socket.
#[derive(Clone, Debug, Default)]
struct Socket {
    /// The connection that it has, at its node.
    connection: Option<(usize, Id)>,
    generation: u64,
    logs: BTreeMap<u64, Told>,
    sent: u64,
    acknowledged: u64,
    /// The position that its client stated.
    stated: Option<Position>,
    /// The last look that found nothing: log, cursor, head and how often.
    idle: (u64, u64, u64, u32),
}

/// What may stand in a connection's row, as long as its generation is that one: of each log its
/// opening, and how far the client has come since. What another opening has set, a socket is told
/// of that may be elsewhere, or gone.
#[derive(Clone, Debug, Default)]
struct Claims {
    link: usize,
    generation: u64,
    logs: BTreeMap<u64, (u64, u64)>,
}

#[derive(Default)]
pub struct Oracle {
    /// Eras, with the first batch of each.
    eras: Vec<(Id, u64)>,
    pub batch: u64,
    logs: BTreeMap<u64, Vec<Seen>>,
    gone: BTreeMap<u64, u64>,
    /// What writers have sent: the record, by sequence.
    sent: BTreeMap<(Id, u64), Record>,
    stored: BTreeMap<(Id, u64), (u64, u64)>,
    marks: BTreeMap<Id, u64>,
    newest: BTreeMap<(usize, Id), u64>,
    revoked: BTreeMap<(usize, String), u64>,
    sockets: BTreeMap<usize, Socket>,
    /// By node: each has folded so far, and no further.
    claims: BTreeMap<(usize, Id), Claims>,
    /// How often a connection's row was told to be gone.
    lives: BTreeMap<Id, u32>,
    pub deliveries: u64,
}

impl Oracle {
    // The history.

    /// A batch of an era is durable.
    pub fn stands(&mut self, era: Id, batch: u64) {
        if self.eras.iter().all(|(known, _)| *known != era) {
            self.eras.push((era, batch));
        }
        self.batch = self.batch.max(batch);
    }

    /// Whether a client that stands there saw this history.
    pub fn in_history(&self, position: &Position) -> bool {
        let Some(at) = self.eras.iter().position(|(era, _)| *era == position.era) else {
            return false;
        };
        let last = self.eras.get(at + 1).map_or(self.batch, |(_, first)| first - 1);
        position.batch <= last
    }

    /// All behind a batch is lost: another history begins.
    pub fn cut(&mut self, batch: u64) {
        self.batch = batch;
        self.eras.retain(|(_, first)| *first <= batch);
        for records in self.logs.values_mut() {
            records.retain(|seen| seen.place.batch <= batch);
        }
        self.logs.retain(|_, records| !records.is_empty());
        self.gone.retain(|_, at| *at <= batch);
        let logs = &self.logs;
        self.stored.retain(|_, (log, offset)| {
            logs.get(log).is_some_and(|records| (*offset as usize) < records.len())
        });
        self.marks.clear();
        for (writer, seq) in self.stored.keys() {
            let mark = self.marks.entry(*writer).or_default();
            *mark = (*mark).max(*seq);
        }
        self.newest.clear();
        self.claims.clear();
        self.revoked.clear();
    }

    /// A writer numbers an action.
    pub fn writes(&mut self, writer: Id, seq: u64, record: &Record) {
        self.sent.insert((writer, seq), record.clone());
    }

    /// A record is durable.
    pub fn stored(&mut self, log: u64, offset: u64, stored: &Stored) {
        let seen = Seen::of(stored.place, stored.origin.writer, stored.seq, &stored.record);
        let records = self.logs.entry(log).or_default();
        if let Some(known) = records.get(offset as usize) {
            demand!(*known == seen, "promise 2: log {log} offset {offset} was {known:?}: {seen:?}");
            return;
        }
        demand!(offset == records.len() as u64, "promise 2: log {log}: {offset} is not the next");
        let last = records.last().map(|last| last.place);
        demand!(last < Some(seen.place), "promise 1: log {log}: places fall: {seen:?}");
        demand!(!self.gone.contains_key(&log), "law 4: log {log} is gone, and grows");
        records.push(seen);
        let (writer, seq) = (stored.origin.writer, stored.seq);
        if writer == Id::NONE {
            return;
        }
        let asked = self.sent.get(&(writer, seq));
        demand!(asked == Some(&stored.record), "promise 4: {writer} {seq} is not what was sent");
        let twice = self.stored.insert((writer, seq), (log, offset));
        demand!(twice.is_none(), "promise 4: {writer} {seq} is stored twice: {twice:?}");
        let mark = self.marks.insert(writer, seq).unwrap_or(0);
        demand!(mark < seq, "promise 4: {writer}: {seq} is stored behind {mark}");
    }

    pub fn deleted(&mut self, log: u64) {
        let batch = self.batch;
        self.gone.entry(log).or_insert(batch);
    }

    pub fn trimmed(&self, log: u64, to: u64) {
        let head = self.logs.get(&log).map_or(0, Vec::len) as u64;
        demand!(to <= head, "promise 7: log {log} is trimmed to {to}, and ends at {head}");
    }

    pub fn record(&self, log: u64, offset: u64) -> Option<&Seen> {
        self.logs.get(&log)?.get(offset as usize)
    }

    pub fn where_is(&self, writer: Id, seq: u64) -> Option<(u64, u64)> {
        self.stored.get(&(writer, seq)).copied()
    }

    /// What a store holds is what is true, from its start to its head.
    pub fn compare(&self, rows: &MemoryRows) {
        for (log, records) in &self.logs {
            let row = rows::log_row(rows, *log);
            demand!(row.is_some(), "promise 3: log {log} is lost");
            let Some(row) = row.filter(|row| !row.deleted) else { continue };
            let head = records.len() as u64;
            demand!(row.head == head, "promise 3: log {log} ends at {}, not {head}", row.head);
            for (offset, stored) in rows::records(rows, *log, row.start, usize::MAX) {
                let seen = Seen::of(stored.place, stored.origin.writer, stored.seq, &stored.record);
                let known = &records[offset as usize];
                demand!(*known == seen, "promise 2: log {log} {offset}: {known:?} is {seen:?}");
            }
        }
    }

    /// The newest record of each key.
    pub fn latest(&self, log: u64) -> BTreeMap<String, (u64, Vec<u8>)> {
        let mut latest = BTreeMap::new();
        for (offset, seen) in self.logs.get(&log).into_iter().flatten().enumerate() {
            let Some(key) = seen.key.clone() else { continue };
            match seen.payload.clone() {
                Some(payload) => drop(latest.insert(key, (offset as u64, payload))),
                None => drop(latest.remove(&key)),
            }
        }
        latest
    }

    /// The state that records below an offset come to.
    pub fn folded(&self, log: u64, below: u64) -> u64 {
        let records = self.logs.get(&log).into_iter().flatten();
        records.take(below as usize).fold(0, fold)
    }

    // Sockets.

    /// A connection is attached or active anew: what a node has told.
    pub fn attached(&mut self, node: usize, connection: Id, generation: u64) {
        let newest = self.newest.entry((node, connection)).or_default();
        *newest = (*newest).max(generation);
    }

    /// A socket is told that it has a connection, by that generation.
    pub fn claimed(&mut self, node: usize, link: usize, connection: Id, generation: u64) {
        self.sockets.entry(link).or_default().connection = Some((node, connection));
        let claims = Claims { link, generation, logs: BTreeMap::new() };
        self.claims.insert((node, connection), claims);
    }

    pub fn downgraded(&mut self, node: usize, connection: Id, generation: u64) {
        self.attached(node, connection, generation);
        self.claims.remove(&(node, connection));
    }

    /// A connection's row is gone: its generations begin anew.
    pub fn forgotten(&mut self, node: usize, connection: Id) {
        *self.lives.entry(connection).or_default() += 1;
        self.newest.remove(&(node, connection));
        self.claims.remove(&(node, connection));
    }

    pub fn lives(&self, connection: Id) -> u32 {
        self.lives.get(&connection).copied().unwrap_or(0)
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

    /// A client acknowledges, having heard so often of each log that it is subscribed.
    pub fn acknowledges(&mut self, link: usize, received: u64, logs: &[(u64, u64, u64)]) {
        let socket = self.sockets.entry(link).or_default();
        socket.acknowledged = socket.acknowledged.max(received);
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
    pub fn committed(&self, node: usize, rows: &MemoryRows, serves: impl Fn(usize, &Id) -> bool) {
        for ((_, connection), claims) in self.claims.iter().filter(|((at, _), _)| *at == node) {
            let Some(row) = rows::connection(rows, *connection) else { continue };
            if row.generation != claims.generation {
                // Another socket has it by now, perhaps at another node.
                continue;
            }
            let served = serves(claims.link, connection);
            for sub in &row.subs {
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
        let alone = socket.sent <= socket.acknowledged;
        socket.sent += size;
        let fits = socket.sent.saturating_sub(socket.acknowledged) <= most;
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
        let Some(this) = socket.logs.get(&read.log) else { return };
        for (log, told) in &socket.logs {
            let first = told.priority < this.priority && told.open && !told.pending;
            // What the grants in force do not cover is not read any more (promise 11): that it has
            // ended is about to be decided, and told.
            if !first || !by.may_read(&told.name) {
                continue;
            }
            let row = rows::log_row(rows, *log).filter(|row| !row.deleted);
            let behind = row.is_some_and(|row| !told.whole || told.cursor < row.head);
            demand!(!behind, "law 10: log {} is read, and {log} is to go before it", read.log);
        }
        if let Some(head) = nothing {
            let same = (read.log, read.cursor, head);
            let (log, cursor, known, times) = socket.idle;
            let times = if (log, cursor, known) == same { times + 1 } else { 0 };
            socket.idle = (same.0, same.1, same.2, times);
            demand!(times < 20, "nothing spins: log {log} is read at {cursor} again and again");
        }
    }
}

/// One step of the state that clients keep of a log.
pub fn fold(state: u64, seen: &Seen) -> u64 {
    let mut state = state.wrapping_mul(31).wrapping_add(seen.seq);
    for byte in seen.writer.0.iter().chain(seen.payload.iter().flatten()) {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
    }
    state
}
