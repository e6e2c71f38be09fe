//! A small model of the fold, for random runs: per log a list of records, per writer its outcomes,
//! per connection its state as a client would know it. It decides appends by itself; of slots and
//! openings it is told, and demands that what is told is lawful and that nothing else has changed.

use std::collections::{BTreeMap, BTreeSet};

use highwater::connection::{Budgets, Event, Opened, Progress, Reached, Subscribe};
use highwater::fold::{Command, Effect, Reply, Settings};
use highwater::log::{Appends, Entry, LogRow, Rule};
use highwater::rows::{MemoryRows, Table, read_row};
use highwater::wire::{Answers, Code, Id, Open, Outcome, Pattern, Reason, Target, name};

mod log;
mod meet;

use crate::fold::world::{keeps_promise_8, rule_of};
use log::{Kept, Log, Pages};

#[derive(Debug, Default)]
struct Writer {
    user: String,
    mark: u64,
    oldest: u64,
    kept: BTreeMap<u64, (String, Outcome)>,
}

#[derive(Clone, Copy, Debug)]
struct Sub {
    cursor: u64,
    /// 0: it is held.
    opening: u64,
    /// The client is known to have confirmed the cursor; a base may be due all the same, else.
    sure: bool,
}

#[derive(Clone, Debug)]
struct Connection {
    user: String,
    device: Option<Id>,
    active: bool,
    generation: u64,
    joined: u64,
    visible: bool,
    since: u64,
    node: Option<(Id, u64)>,
    /// By log.
    subs: BTreeMap<u64, Sub>,
    openings: u64,
}

/// The model. Log ids are indexes into `logs`, from 1.
#[derive(Debug)]
pub struct Oracle {
    logs: Vec<Log>,
    writers: BTreeMap<Id, Writer>,
    connections: BTreeMap<Id, Connection>,
    /// The last generation of each connection that was forgotten.
    ended: BTreeMap<Id, u64>,
    /// Logs that the back end has subscribed a user to.
    standing: BTreeMap<String, BTreeSet<u64>>,
    /// Run of each node, and whether it is up.
    pub nodes: BTreeMap<Id, (u64, bool)>,
    budgets: Budgets,
    rules: Vec<Rule>,
    pub time: u64,
    /// The proposer's clock is behind: the time says nothing.
    pub stands: bool,
}

type Said = Result<(), Code>;

impl Oracle {
    pub fn new(Settings { budgets, rules, .. }: Settings) -> Self {
        let (logs, nodes) = (Vec::new(), BTreeMap::new());
        let (writers, connections, ended) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (standing, time, stands) = (BTreeMap::new(), 0, false);
        Self { logs, writers, connections, ended, standing, nodes, budgets, rules, time, stands }
    }

    /// Where a log's head is, for commands that mean something.
    pub fn head(&self, log: u64) -> u64 {
        self.log(log).map_or(0, Log::head)
    }

    pub fn logs(&self) -> u64 {
        self.logs.len() as u64
    }

    /// Present generation of a connection.
    pub fn generation(&self, id: Id) -> u64 {
        self.connections.get(&id).map_or(1, |one| one.generation)
    }

    pub fn mark(&self, writer: Id) -> u64 {
        self.writers.get(&writer).map_or(0, |writer| writer.mark)
    }

    fn log(&self, log: u64) -> Option<&Log> {
        self.logs.get(usize::try_from(log).ok()?.checked_sub(1)?)
    }

    fn log_mut(&mut self, log: u64) -> &mut Log {
        &mut self.logs[log as usize - 1]
    }

    fn alive(&self, log: u64) -> bool {
        self.log(log).is_some_and(|log| log.alive)
    }

    fn named(&self, name: &str) -> Option<u64> {
        let at = self.logs.iter().position(|log| log.alive && log.name == name)?;
        Some(at as u64 + 1)
    }

    fn make(&mut self, name: &str) -> u64 {
        if let Some(log) = self.named(name) {
            return log;
        }
        let (name, rule) = (name.to_owned(), rule_of(name, &self.rules));
        let (records, pages, latest) = (Vec::new(), Pages::default(), BTreeMap::new());
        let (start, newest, deriving, alive) = (0, 0, None, true);
        let new = Log { name, rule, alive, start, records, newest, pages, latest, deriving };
        self.logs.push(new);
        self.logs()
    }

    fn runs(&self, node: (Id, u64)) -> bool {
        self.nodes.get(&node.0) == Some(&(node.1, true))
    }

    fn attached(&self, one: &Connection) -> bool {
        one.node.is_some_and(|node| self.runs(node))
    }

    fn exact(&self, id: Id, generation: Option<u64>) -> Said {
        let one = self.connections.get(&id).ok_or(Code::UnknownConnection)?;
        let fits = generation.is_none_or(|generation| generation == one.generation);
        if fits { Ok(()) } else { Err(Code::Stale) }
    }

    fn socket(&self, id: Id, generation: u64) -> Said {
        let one = self.connections.get(&id).ok_or(Code::UnknownConnection)?;
        let fits = (one.joined..=one.generation).contains(&generation);
        if fits { Ok(()) } else { Err(Code::Stale) }
    }

    fn if_active(&self, id: Id) -> Said {
        if self.connections[&id].active { Ok(()) } else { Err(Code::Inactive) }
    }

    /// Takes a batch's effects, in order; `node` and its run proposed it.
    pub fn batch(&mut self, node: (Id, u64), commands: &[Command], effects: &[Effect]) {
        let mut effects = effects.iter();
        for (at, command) in commands.iter().enumerate() {
            let mut events = Vec::new();
            let reply = loop {
                match effects.next() {
                    Some(Effect::Event(event)) => events.push(event.clone()),
                    Some(Effect::Reply(index, reply)) => {
                        assert_eq!(*index, at);
                        break reply;
                    }
                    Some(Effect::Appended(_)) => {}
                    None => panic!("no reply to {command:?}"),
                }
            };
            self.command(node, command, reply, &events);
        }
    }

    fn command(&mut self, node: (Id, u64), command: &Command, reply: &Reply, events: &[Event]) {
        let before = self.connections.clone();
        self.stand(command, reply);
        self.tell(events);
        match (command, reply) {
            (Command::Append(appends), reply) => self.append(appends, reply),
            (Command::CreateLog { name, page_records }, Reply::Created(id, new)) => {
                assert_eq!((self.named(name).is_none(), self.make(name)), (*new, *id));
                if *new {
                    self.log_mut(*id).pages.size = *page_records;
                }
            }
            (Command::Attach(ask), reply) => self.attach(node, ask, reply, events, &before),
            (Command::Activate { ask, cloning, holds }, Reply::Attached(told)) => {
                let one = &before[&ask.connection];
                assert!(!one.active && one.generation + 1 == told.generation);
                assert_eq!((Some(one.generation), one.node), (ask.generation, Some(node)));
                let ready = one.since + u64::from(self.budgets.activate_after_ms);
                assert!(self.time >= ready || self.stands);
                self.filled(told, (*cloning, *holds), (&ask.read, &ask.make), &ask.open, &before);
                self.go_on(&ask.bases, &told.opened);
                self.gave(told, events, &before);
            }
            (Command::Activate { .. }, Reply::Refused(why)) => {
                let lawful = [Code::Slots, Code::Stale, Code::UnknownConnection, Code::BadRequest];
                assert!(lawful.contains(&why.code) && events.is_empty());
            }
            (Command::Subscribe(ask), Reply::Subscribed(_, opened, refused)) => {
                assert_eq!(opened.len() + refused.len(), ask.open.len());
                self.opened(ask.connection, opened);
                self.go_on(&ask.bases, opened);
            }
            (Command::SubscribeUser { .. } | Command::UnsubscribeUser { .. }, reply) => {
                self.of_user(command, reply, events, &before);
            }
            (Command::Seek { connection, .. }, Reply::Moved(_, opened)) => {
                self.opened(*connection, std::slice::from_ref(opened));
            }
            (Command::Unsubscribe { connection, logs, .. }, Reply::Unsubscribed(ended)) => {
                for log in logs {
                    // One to a deleted log may have made room for others, untold.
                    let lawful = ended.contains(log) || !self.alive(*log);
                    let one = self.connections.get_mut(connection).unwrap();
                    assert!(one.subs.remove(log).is_none() || lawful);
                }
            }
            (Command::Expire { log, keys }, reply) => {
                let said = match reply {
                    Reply::Expired(ended) => Ok(*ended),
                    Reply::Refused(why) => Err(why.code),
                    other => panic!("{other:?}"),
                };
                assert_eq!(said, self.expire(*log, keys));
            }
            (Command::PutSnapshot(part), reply) => self.part(part, reply, events),
            (Command::Trim { log, to }, reply) => self.trim(*log, *to, reply, events, &before),
            (command, reply) => {
                let said = match reply {
                    Reply::Done => Ok(()),
                    Reply::Refused(why) => Err(why.code),
                    other => panic!("{command:?} gave {other:?}"),
                };
                assert_eq!(said, self.simple(command, events, &before), "{command:?}");
            }
        }
    }

    /// What the back end does with all connections of a user.
    fn of_user(&mut self, command: &Command, reply: &Reply, events: &[Event], before: &Before) {
        match (command, reply) {
            (Command::SubscribeUser { user, .. }, Reply::Reached(reached)) => {
                let active = before.iter().filter(|(_, one)| one.user == *user && one.active);
                assert!(active.map(|(id, _)| id).eq(reached));
            }
            (Command::SubscribeUser { user, open }, Reply::Refused(why)) => {
                let held = self.standing.get(user).map_or(0, BTreeSet::len);
                assert!(held + open.len() > self.budgets.subscriptions as usize);
                assert!(why.code == Code::Subscriptions && events.is_empty());
            }
            (Command::UnsubscribeUser { user, logs }, Reply::Reached(reached)) => {
                assert_eq!(reached.len(), events.len());
                let standing = self.standing.entry(user.clone()).or_default();
                standing.retain(|log| !logs.contains(log));
            }
            (command, reply) => panic!("{command:?} gave {reply:?}"),
        }
    }

    /// Where a user was subscribed, its connections are whenever they come.
    fn stand(&mut self, command: &Command, reply: &Reply) {
        let (Command::SubscribeUser { user, open }, Reply::Reached(_)) = (command, reply) else {
            return;
        };
        for open in open.iter().take(self.budgets.subscriptions as usize) {
            let log = self.make(&open.name);
            self.standing.entry(user.to_owned()).or_default().insert(log);
        }
    }

    /// Events, as a node would take them.
    fn tell(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Downgraded { connection, user, generation, .. } => {
                    let time = self.time;
                    let one = self.connections.get_mut(connection).unwrap();
                    assert!(one.active && one.user == *user && one.generation + 1 == *generation);
                    (one.active, one.generation, one.since) = (false, *generation, time);
                }
                Event::Forgotten { connection } => {
                    let one = self.connections.remove(connection).unwrap();
                    self.ended.insert(*connection, one.generation);
                }
                Event::Opened { connection, opened, .. } => self.opened(*connection, opened),
                Event::Closed { connection, logs } => {
                    let one = self.connections.get_mut(connection).unwrap();
                    logs.iter().for_each(|log| assert!(one.subs.remove(log).is_some()));
                }
                Event::Revoked { .. } | Event::Fenced { .. } | Event::Trimmed(_) | Event::Era => {}
                Event::Deleted { .. } | Event::Snapshot { .. } | Event::Ruled { .. } => {}
            }
        }
    }

    fn opened(&mut self, id: Id, opened: &[Opened]) {
        keeps_promise_8(opened);
        let openings = self.connections[&id].openings;
        for one in opened {
            let log = self.make(&one.name);
            assert_eq!((log, self.head(log)), (one.log, one.head), "{one:?}");
            assert_eq!(self.log_mut(log).start, one.start);
            let connection = self.connections.get_mut(&id).unwrap();
            let Opened { cursor, opening, .. } = *one;
            let sure = one.base.is_none() && !one.held;
            let known = connection.subs.insert(log, Sub { cursor, opening, sure });
            assert_eq!(one.held, opening == 0, "{one:?}");
            assert!(!one.held || (one.reset, &one.base, &one.gap) == (None, &None, &None));
            // What the back end brings about is told twice: in the reply and as an event.
            let stands =
                known.is_some_and(|known| (known.cursor, known.opening) == (cursor, opening));
            assert!(stands || one.held || (!one.again && opening > openings), "{one:?}");
            if let Some(known) = known.filter(|_| stands) {
                connection.subs.insert(log, known);
            }
            connection.openings = connection.openings.max(one.opening);
        }
    }

    /// Commands that are done or refused, and what they mean.
    fn simple(&mut self, command: &Command, events: &[Event], before: &Before) -> Said {
        match command {
            Command::NodeUp { .. } => {}
            Command::Configure(settings) => self.rules.clone_from(&settings.rules),
            Command::NodeDown { node, incarnation } => {
                let up = self.nodes.get(node) == Some(&(*incarnation, true));
                if !up {
                    return Err(Code::Stale);
                }
                self.nodes.insert(*node, (*incarnation, false));
            }
            Command::CreateLog { .. }
            | Command::DeleteLog { .. }
            | Command::SetPages { .. }
            | Command::Derive { .. } => self.of_log(command, events)?,
            Command::Commit(all) => all.iter().for_each(|progress| self.commit(progress)),
            Command::Detach(progress) => {
                self.commit(progress);
                let Progress { connection, generation, .. } = progress;
                self.socket(*connection, *generation)?;
                self.connections.get_mut(connection).unwrap().node = None;
            }
            Command::Visible { connection, generation, visible } => {
                self.socket(*connection, *generation)?;
                self.connections.get_mut(connection).unwrap().visible = *visible;
            }
            Command::Subscribe(ask) => {
                self.exact(ask.connection, ask.generation)?;
                self.if_active(ask.connection)?;
                panic!("a subscription was refused: {ask:?}");
            }
            Command::Unsubscribe { connection, generation, .. } => {
                self.exact(*connection, *generation)?
            }
            Command::Seek { connection, generation, log, .. } => {
                self.exact(*connection, *generation)?;
                if generation.is_some() {
                    self.if_active(*connection)?;
                }
                let known = self.connections[connection].subs.get(log);
                return Err(match known.filter(|_| self.alive(*log)) {
                    None => Code::UnknownLog,
                    Some(sub) if sub.opening == 0 && generation.is_some() => Code::BadRequest,
                    Some(_) => Code::BadOffset,
                });
            }
            Command::Downgrade { connection, generation, reason } => {
                let one = before.get(connection).ok_or(Code::UnknownConnection)?;
                if generation.is_some_and(|at| at != one.generation || self.spared(one, *reason)) {
                    return Err(Code::Stale);
                }
                return lost(events, connection, *reason).then_some(()).ok_or(Code::Inactive);
            }
            Command::Leave { connection, generation, forget } => {
                let one = before.get(connection).ok_or(Code::UnknownConnection)?;
                if !(one.joined..=one.generation).contains(generation) {
                    return Err(Code::Stale);
                }
                assert_eq!(one.active, lost(events, connection, Reason::Left));
                assert_ne!(*forget, self.connections.contains_key(connection));
                if let Some(one) = self.connections.get_mut(connection) {
                    (one.node, one.since) = (None, self.time);
                }
            }
            Command::Forget { connection, generation } => {
                let one = before.get(connection).ok_or(Code::UnknownConnection)?;
                let stale = generation.is_some_and(|generation| generation != one.generation);
                if stale || self.attached(one) {
                    return Err(Code::Stale);
                }
                assert!(!self.connections.contains_key(connection));
            }
            Command::Retire { user, writer } => {
                let known = self.writers.get_mut(writer).filter(|known| known.user == *user);
                let known = known.ok_or(Code::UnknownWriter)?;
                known.oldest = known.mark + 1;
                known.kept.clear();
            }
            other => panic!("not simple: {other:?}"),
        }
        Ok(())
    }

    /// Number of the opening in force, or of none.
    pub fn opening(&self, id: Id, log: u64) -> u64 {
        let known = self.connections.get(&id).and_then(|known| known.subs.get(&log));
        known.map_or(0, |known| known.opening)
    }

    fn commit(&mut self, progress: &Progress) {
        let Progress { connection: id, generation, reached } = progress;
        if self.exact(*id, Some(*generation)).is_err() || !self.connections[id].active {
            return;
        }
        for Reached { log, next, opening } in reached {
            let head = self.head(*log);
            if let Some(sub) = self.connections.get_mut(id).unwrap().subs.get_mut(log)
                && sub.opening == *opening
                && *opening > 0
                && *next <= head
            {
                sub.sure |= *next >= sub.cursor;
                sub.cursor = sub.cursor.max(*next);
            }
        }
    }

    /// Whether a proposal has lost its ground though the generation is the one it saw.
    fn spared(&self, one: &Connection, reason: Reason) -> bool {
        let looked_at = reason == Reason::NodeSlots && one.visible;
        self.attached(one) && (reason == Reason::Detached || looked_at)
    }

    fn append(&mut self, appends: &Appends, reply: &Reply) {
        let Appends { user, writer: id, oldest, once, entries, .. } = appends;
        if *once {
            // It is met as one that was never seen, and what was known of it stays as it was.
            let known = self.writers.remove(id);
            self.append(&Appends { once: false, ..appends.clone() }, reply);
            self.writers.remove(id);
            self.writers.extend(known.map(|known| (*id, known)));
            return;
        }
        // A writer begins with an append that says it is its first; before, nothing is kept of it.
        let begins = self.writers.contains_key(id) || entries.iter().any(|entry| entry.prev == 0);
        let mut writer = self.writers.remove(id).unwrap_or_else(|| Writer {
            user: user.clone(),
            oldest: 1,
            ..Writer::default()
        });
        if writer.user != *user {
            assert!(matches!(reply, Reply::Refused(why) if why.code == Code::UnknownWriter));
            self.writers.insert(*id, writer);
            return;
        }
        if entries.iter().any(|entry| entry.prev <= writer.mark) {
            writer.oldest = writer.oldest.max((*oldest).min(writer.mark + 1));
        }
        let oldest = writer.oldest;
        writer.kept.retain(|seq, _| *seq >= oldest);
        let Reply::Answers(Answers { answers, mark, .. }) = reply else { panic!("{reply:?}") };
        assert_eq!(answers.len(), entries.len());
        for (entry, answer) in entries.iter().zip(answers) {
            assert_eq!(entry.seq, answer.seq);
            let content = format!("{:?} {:?} {:?}", entry.to, entry.if_head, entry.record);
            if entry.seq > writer.mark && entry.prev == writer.mark {
                self.stored(*id, entry, &answer.outcome);
                writer.mark = entry.seq;
                writer.kept.insert(entry.seq, (content, answer.outcome.clone()));
                continue;
            }
            let expect = match writer.kept.get(&entry.seq) {
                _ if entry.seq > writer.mark => Code::SequenceGap,
                None => Code::SequenceOld,
                Some((known, outcome)) if *known == content => {
                    assert_eq!(*outcome, answer.outcome, "a repeat was answered otherwise");
                    continue;
                }
                Some(_) => Code::SequenceReused,
            };
            assert!(matches!(&answer.outcome, Outcome::Refused(why) if why.code == expect));
        }
        assert_eq!(*mark, writer.mark);
        if begins {
            self.writers.insert(*id, writer);
        }
    }

    fn stored(&mut self, writer: Id, entry: &Entry, outcome: &Outcome) {
        let expect = self.expect(entry);
        match (outcome, expect) {
            (Outcome::Stored { log, offset, .. }, Ok(expected)) => {
                assert_eq!((*log, *offset), expected);
                let record = Kept::new(writer, entry.seq, self.time, &entry.record);
                self.log_mut(*log).push(record);
            }
            (Outcome::Refused(why), Err(code)) => assert_eq!(why.code, code),
            (told, expect) => panic!("{told:?} instead of {expect:?}"),
        }
    }

    fn expect(&mut self, entry: &Entry) -> Result<(u64, u64), Code> {
        let log = match &entry.to {
            Target::Log(log) if self.alive(*log) => *log,
            Target::Log(_) => return Err(Code::Epoch),
            Target::Name(name) if name::check(name).is_err() => return Err(Code::BadName),
            Target::Name(name) if self.named(name).is_none() && entry.if_head.unwrap_or(0) > 0 => {
                return Err(Code::Conflict);
            }
            Target::Name(name) => self.make(name),
        };
        let head = self.head(log);
        if entry.if_head.is_some_and(|at| at != head) {
            return Err(Code::Conflict);
        }
        Ok((log, head))
    }

    /// Asserts that the rows say what the model says.
    pub fn check(&self, rows: &MemoryRows) {
        let of = |table| rows.iter().filter(move |((of, _), _)| *of == table);
        assert_eq!(of(Table::Connections).count(), self.connections.len());
        for ((_, key), _) in of(Table::Connections) {
            let id = Id(key.as_slice().try_into().unwrap());
            let row = crate::fold::model::connection(rows, id).unwrap();
            let one = &self.connections[&id];
            let seen = (one.active, one.generation, one.joined, one.visible, one.device);
            let is = (row.active(), row.generation, row.joined, row.visible, row.device);
            assert_eq!(seen, is, "{id}");
            let seen = one.subs.iter().filter(|(log, _)| self.alive(**log));
            let is = row.subs.iter().filter(|sub| self.alive(sub.log));
            assert!(
                seen.map(|(log, at)| (*log, at.cursor, at.opening)).eq(is.map(|sub| (
                    sub.log,
                    sub.cursor,
                    sub.opening
                ))),
                "{id}"
            );
        }
        for ((_, key), value) in of(Table::Logs) {
            let id = u64::from_be_bytes(key.as_slice().try_into().unwrap());
            let row: LogRow = read_row(Table::Logs, value).unwrap();
            let log = self.log(id).unwrap();
            let seen = (&log.name, log.alive, log.start, log.head());
            assert_eq!(seen, (&row.name, !row.deleted, row.start, row.head));
            assert_eq!((log.rule, &log.deriving), (row.rule, &row.deriving), "log {id}");
            let latest = log.latest.iter().map(|(key, offset)| (key.clone(), *offset));
            assert!(!log.alive || latest.eq(crate::fold::model::latest(rows, id)), "log {id}");
            let open = (row.paging.takes > 0).then_some((row.paging.first, row.paging.takes));
            assert_eq!((log.pages.size, log.pages.open), (row.paging.records, open));
            let closed = crate::fold::model::pages(rows, id).into_iter();
            assert!(closed.map(|(first, page)| (first, page.end)).eq(log.pages.closed.clone()));
        }
        let mut records = BTreeMap::new();
        for ((_, key), value) in of(Table::Records) {
            let log = u64::from_be_bytes(key[..8].try_into().unwrap());
            let row = crate::fold::model::stored(rows, value);
            let all: &mut Vec<_> = records.entry(log).or_default();
            all.push(Kept::new(row.origin.writer, row.seq, row.time, &row.record));
        }
        for (at, log) in self.logs.iter().enumerate() {
            let none = Vec::new();
            assert_eq!(records.get(&(at as u64 + 1)).unwrap_or(&none), &log.records);
        }
        assert_eq!(of(Table::Writers).count(), self.writers.len());
    }
}

type Before = BTreeMap<Id, Connection>;

/// Whether events say that a connection lost its channel for a reason.
fn lost(events: &[Event], id: &Id, why: Reason) -> bool {
    events.iter().any(|event| {
        let Event::Downgraded { connection, reason, .. } = event else { return false };
        connection == id && *reason == why
    })
}

/// A subscription that may or may not be refused by what it names.
pub fn ask(connection: Id, generation: Option<u64>, open: Vec<Open>) -> Subscribe {
    Subscribe {
        connection,
        generation,
        open,
        read: vec![Pattern::all()],
        make: vec![Pattern::all()],
        bases: vec![],
    }
}
