//! Applying a batch: rows are read, commands decided in order, writes and effects given out.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::command::{Batch, Command, FOLD_VERSION, Header, Known, Settings};
use crate::connection::{
    Attached, Attachment, ConnectionRow, Connections, Event, Opened, Progress, Subscribe,
};
use crate::log::rows::{Cache, Io, Rows, RowsError, Table, Writes};
use crate::log::{Appended, Logs, MARK_KEPT, Moment, Trimmed, Writer};
use crate::wire::{Answers, Code, Id, Level, Pattern, Refusal};

/// Chain hashes kept to check what others had folded: batches that may be on their way.
const KNOWN_CHAINS: usize = 4096;

/// The batch cannot be folded here; the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Storage failed or a row is damaged.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The batch is of another journal.
    #[error("batch {batch} belongs to another journal: this store must be rebuilt for it")]
    OtherJournal {
        /// Its number.
        batch: u64,
    },
    /// The batch's proposer saw another history.
    #[error("batch {batch} does not chain to what this store has folded: rebuild the store")]
    Chain {
        /// Its number.
        batch: u64,
    },
    /// The batch does not follow the last one.
    #[error("batch {batch} came where {expected} was due: the journal lost or dropped batches")]
    Order {
        /// What came.
        batch: u64,
        /// What was due.
        expected: u64,
    },
    /// The batch speaks a later version.
    #[error(
        "batch {batch} needs fold version {version}; this node knows {FOLD_VERSION}: upgrade it"
    )]
    Version {
        /// Its number.
        batch: u64,
        /// Its version.
        version: u16,
    },
}

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done, with nothing to tell.
    Done,
    /// Not done.
    Refused(Refusal),
    /// A log is there: its id, and whether it is new.
    Created(u64, bool),
    /// Answers to appends.
    Answers(Answers),
    /// A client is attached, or active again.
    Attached(Box<Attached>),
    /// Subscriptions are made: generation, how, and what was refused.
    Subscribed(u64, Vec<Opened>, Vec<(String, Refusal)>),
    /// A cursor has moved: generation, and how the log is opened.
    Moved(u64, Box<Opened>),
    /// Subscriptions have ended.
    Unsubscribed(Vec<u64>),
    /// A log is trimmed.
    Trimmed(Option<Trimmed>),
    /// Connections of a user that were reached.
    Reached(Vec<Id>),
}

/// What happened, in the order in which nodes must tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The answer to the command at this index of the batch.
    Reply(usize, Reply),
    /// Something that concerns others than who asked.
    Event(Event),
    /// A record is stored: log, offset, record.
    Appended(Appended),
}

/// A batch's outcome. The writes must be durable before an effect is shown to anyone.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The batch's number.
    pub batch: u64,
    /// Its header.
    pub header: Header,
    /// Its time, as the fold counts it.
    pub time: u64,
    /// A repeat: nothing was decided.
    pub repeat: bool,
    /// Slots given out after it.
    pub active: u64,
    /// What to commit.
    pub writes: Writes,
    /// What to tell.
    pub effects: Vec<Effect>,
}

/// The fold's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    journal: Id,
    batch: u64,
    chain: [u8; 32],
    time: u64,
    next_log: u64,
    active: u64,
}

const HEAD: &[u8] = b"head";
const SETTINGS: &[u8] = b"settings";

/// The time of what was folded into a store, milliseconds since 1970; none for a new one.
///
/// # Errors
/// When storage fails or the row is damaged.
pub fn folded_time(rows: &dyn Rows) -> Result<Option<u64>, RowsError> {
    Ok(Io::new(rows).get::<Head>(Table::Meta, HEAD)?.map(|head| head.time))
}

/// How many hot rows each cache may keep between batches.
#[derive(Clone, Copy, Debug)]
pub struct CacheSizes {
    /// Logs.
    pub logs: usize,
    /// Writers.
    pub writers: usize,
    /// Connections.
    pub connections: usize,
    /// Bytes of each kind: logs, their names, writers, connections, users.
    pub bytes: usize,
}

impl Default for CacheSizes {
    fn default() -> Self {
        Self { logs: 65_536, writers: 4_096, connections: 16_384, bytes: 24 << 20 }
    }
}

/// The state that batches are folded into: hot rows in memory, all of it in the store.
#[derive(Debug)]
pub struct Fold {
    journal: Id,
    batch: u64,
    chain: [u8; 32],
    chains: VecDeque<(u64, [u8; 32])>,
    time: u64,
    level: Level,
    logs: Logs,
    writers: Cache<Writer>,
    connections: Connections,
    settings: Settings,
}

impl Fold {
    /// The fold as a store has it, or a new one for that journal, with `settings` until a command
    /// sets others.
    ///
    /// # Errors
    /// When storage fails, or the store was folded from another journal.
    pub fn open(
        rows: &dyn Rows,
        journal: Id,
        level: Level,
        settings: Settings,
        sizes: CacheSizes,
    ) -> Result<Self, FoldError> {
        let io = Io::new(rows);
        let head = io.get::<Head>(Table::Meta, HEAD)?;
        let (batch, chain, time, next_log, active) = (0, [0; 32], 0, 1, 0);
        let head = head.unwrap_or(Head { journal, batch, chain, time, next_log, active });
        if head.journal != journal {
            return Err(FoldError::OtherJournal { batch: head.batch });
        }
        let settings = io.get(Table::Meta, SETTINGS)?.unwrap_or(settings);
        let mut logs = Logs::new(sizes.logs, sizes.bytes);
        logs.next = head.next_log;
        let mut connections = Connections::new(sizes.connections, sizes.bytes, settings.budgets);
        connections.active = head.active;
        connections.load_nodes(&io)?;
        let mut fold = Self {
            journal,
            batch: head.batch,
            chain: head.chain,
            chains: VecDeque::from([(head.batch, head.chain)]),
            time: head.time,
            level,
            logs,
            writers: Cache::new(sizes.writers, sizes.bytes),
            connections,
            settings: settings.clone(),
        };
        fold.configure(settings);
        Ok(fold)
    }

    /// The last batch folded, as the next proposal names it.
    pub const fn known(&self) -> Known {
        Known { batch: self.batch, chain: self.chain }
    }

    /// Slots given out, of the budget in force.
    pub const fn active(&self) -> u64 {
        self.connections.active
    }

    /// Rules and limits in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The run that a node should call its next one: larger than any before.
    pub fn next_incarnation(&self, node: Id) -> u64 {
        self.connections.nodes.get(&node).map_or(1, |row| row.incarnation + 1)
    }

    /// Folds a batch: `bytes` are what the journal holds, for the chain.
    ///
    /// # Errors
    /// When the batch is not the next one of this journal, or storage fails: the node stops.
    pub fn apply(
        &mut self,
        number: u64,
        bytes: &[u8],
        batch: Batch,
        rows: &dyn Rows,
    ) -> Result<Applied, FoldError> {
        let Batch { header, commands } = batch;
        self.check(number, &header)?;
        let mut io = Io::new(rows);
        self.batch = number;
        let stands = header.time < self.time;
        self.time = self.time.max(header.time);
        self.link(bytes);
        let from = Attachment { node: header.node, incarnation: header.incarnation };
        let repeat = !self.connections.heard(from, header.serial, self.time, &mut io);
        let mut effects = Vec::with_capacity(commands.len());
        if !repeat {
            let (time, level) = (self.time, self.level);
            let mut at = Moment { batch: number, index: 0, time, stands, level };
            for (index, command) in commands.into_iter().enumerate() {
                let mut step = Step { events: Vec::new(), stored: Vec::new() };
                let reply = self.decide(command, &header, &mut at, &mut io, &mut step)?;
                effects.extend(step.events.into_iter().map(Effect::Event));
                effects.push(Effect::Reply(index, reply));
                effects.extend(step.stored.into_iter().map(Effect::Appended));
            }
        }
        self.save(&mut io);
        let (time, active) = (self.time, self.active());
        Ok(Applied { batch: number, header, time, repeat, active, writes: io.writes, effects })
    }

    fn check(&self, batch: u64, header: &Header) -> Result<(), FoldError> {
        if header.fold != FOLD_VERSION {
            return Err(FoldError::Version { batch, version: header.fold });
        }
        if header.journal != self.journal {
            return Err(FoldError::OtherJournal { batch });
        }
        if batch != self.batch + 1 {
            return Err(FoldError::Order { batch, expected: self.batch + 1 });
        }
        let known = self.chains.binary_search_by_key(&header.known.batch, |(number, _)| *number);
        match known.ok().and_then(|at| self.chains.get(at)) {
            Some((_, chain)) if *chain != header.known.chain => Err(FoldError::Chain { batch }),
            _ if header.known.batch >= batch => Err(FoldError::Chain { batch }),
            _ => Ok(()),
        }
    }

    fn link(&mut self, bytes: &[u8]) {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.chain).update(bytes);
        self.chain = *hash.finalize().as_bytes();
        self.chains.push_back((self.batch, self.chain));
        if self.chains.len() > KNOWN_CHAINS {
            self.chains.pop_front();
        }
    }

    fn configure(&mut self, settings: Settings) {
        self.logs.rules.clone_from(&settings.rules);
        self.logs.auto_create = settings.auto_create;
        self.connections.budgets = settings.budgets.within_rows();
        self.settings = settings;
    }

    fn save(&mut self, io: &mut Io<'_>) {
        self.logs.save(io);
        self.writers.save(io);
        self.connections.save(io);
        let head = Head {
            journal: self.journal,
            batch: self.batch,
            chain: self.chain,
            time: self.time,
            next_log: self.logs.next,
            active: self.connections.active,
        };
        io.put(Table::Meta, HEAD.to_vec(), &head);
        self.logs.shrink();
        self.writers.shrink();
        self.connections.shrink();
    }

    /// Decides one command.
    fn decide(
        &mut self,
        command: Command,
        header: &Header,
        at: &mut Moment,
        io: &mut Io<'_>,
        step: &mut Step,
    ) -> Result<Reply, RowsError> {
        let Self { logs, writers, connections, .. } = self;
        let (events, stored) = (&mut step.events, &mut step.stored);
        let time = at.time;
        let node = Attachment { node: header.node, incarnation: header.incarnation };
        Ok(match command {
            Command::NodeUp => Reply::Done,
            Command::Configure(settings) => {
                io.put(Table::Meta, SETTINGS.to_vec(), &settings);
                self.configure(settings);
                Reply::Done
            }
            Command::NodeDown { node, incarnation } => {
                done(connections.node_down(node, incarnation, time, io))
            }
            Command::CreateLog { name } => {
                reply(logs.create(&name, time, io)?, |(id, new)| Reply::Created(id, new))
            }
            Command::DeleteLog { log } => delete_log(logs, log, io, events)?,
            Command::Trim { log, to } => {
                reply(connections.trim(log, to, time, logs, io, events)?, Reply::Trimmed)
            }
            Command::Append(appends) => {
                reply(logs.append(writers, appends, at, io, stored)?, Reply::Answers)
            }
            Command::Attach(ask) => {
                let done = connections.attach(&ask, node, at, logs, writers, io, events)?;
                reply(done, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Detach(last) => {
                connections.commit(&last, at.place(), logs, io)?.ok();
                done(connections.detach(last.connection, last.generation, time, io)?)
            }
            Command::Commit(all) => commit(connections, logs, &all, at, io)?,
            Command::Subscribe(ask) => subscribe(connections, logs, &ask, time, io, events)?,
            Command::SubscribeUser { user, open } => {
                subscribe_user(connections, logs, &user, &open, time, io, events)?
            }
            Command::Unsubscribe { connection, generation, logs } => {
                unsubscribe(connections, connection, generation, &logs, io, events)?
            }
            Command::UnsubscribeUser { user, logs } => {
                unsubscribe_user(connections, &user, &logs, io, events)?
            }
            Command::Seek { connection, generation, log, to } => {
                seek(connections, logs, (connection, generation, log), to, io, events)?
            }
            Command::Visible { connection, generation, visible } => {
                done(connections.see(connection, generation, visible, io)?)
            }
            Command::Activate { ask, cloning } => {
                let made = connections.reactivate(&ask, cloning, node, at, logs, io, events)?;
                reply(made, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Downgrade { connection: id, generation, reason } => {
                done(connections.propose_downgrade(id, generation, reason, time, io, events)?)
            }
            Command::Leave { connection, generation, forget } => {
                done(connections.leave(connection, generation, forget, time, io, events)?)
            }
            Command::Forget { connection, generation } => {
                done(connections.propose_forget(connection, generation, time, io, events)?)
            }
            Command::PutSnapshot(part) => {
                let (log, most) = (part.log, connections.budgets.snapshot_bytes);
                let made = logs.put_snapshot(part, most, at.place(), io)?;
                reply(made, |made| {
                    events.extend(made.map(|made| Event::Snapshot { log, offset: made.offset }));
                    Reply::Done
                })
            }
            Command::Retire { user, writer } => retire(writers, &user, writer, io)?,
            Command::ForgetWriter { writer, used } => {
                forget_writer(writers, writer, used, time, io)?
            }
        })
    }
}

/// What a command brings about besides its reply.
struct Step {
    events: Vec<Event>,
    stored: Vec<Appended>,
}

fn reply<T>(decided: Result<T, Refusal>, with: impl FnOnce(T) -> Reply) -> Reply {
    decided.map_or_else(Reply::Refused, with)
}

fn done(decided: Result<(), Refusal>) -> Reply {
    reply(decided, |()| Reply::Done)
}

/// Each is for itself: one that is stale does nothing.
fn commit(
    connections: &mut Connections,
    logs: &mut Logs,
    all: &[Progress],
    at: &mut Moment,
    io: &Io<'_>,
) -> Result<Reply, RowsError> {
    let place = at.place();
    for progress in all {
        connections.commit(progress, place, logs, io)?.ok();
    }
    Ok(Reply::Done)
}

fn delete_log(
    logs: &mut Logs,
    log: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let name = logs.row(log, io)?.map(|row| row.name.clone()).unwrap_or_default();
    Ok(reply(logs.delete(log, io)?, |()| {
        events.push(Event::Deleted { log, name });
        Reply::Done
    }))
}

fn subscribe(
    connections: &mut Connections,
    logs: &mut Logs,
    ask: &Subscribe,
    time: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    Ok(reply(connections.subscribe(ask, time, logs, io)?, |(generation, (opened, refused))| {
        if ask.generation.is_none() && !opened.is_empty() {
            let (connection, opened) = (ask.connection, opened.clone());
            events.push(Event::Opened { connection, generation, opened });
        }
        Reply::Subscribed(generation, opened, refused)
    }))
}

fn subscribe_user(
    connections: &mut Connections,
    logs: &mut Logs,
    user: &str,
    open: &[crate::wire::Open],
    time: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let mut reached = Vec::new();
    for connection in connections.of_user(user, io)? {
        let (open, all) = (open.to_vec(), vec![Pattern::all()]);
        let (read, make) = (all.clone(), all);
        let ask = Subscribe { connection, generation: None, open, read, make };
        let reply = subscribe(connections, logs, &ask, time, io, events)?;
        if matches!(reply, Reply::Subscribed(..)) {
            reached.push(connection);
        }
    }
    Ok(Reply::Reached(reached))
}

fn unsubscribe(
    connections: &mut Connections,
    connection: Id,
    generation: Option<u64>,
    logs: &[u64],
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    Ok(reply(connections.unsubscribe(connection, generation, logs, io)?, |logs| {
        if generation.is_none() && !logs.is_empty() {
            events.push(Event::Closed { connection, logs: logs.clone() });
        }
        Reply::Unsubscribed(logs)
    }))
}

fn unsubscribe_user(
    connections: &mut Connections,
    user: &str,
    logs: &[u64],
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let mut reached = Vec::new();
    for connection in connections.of_user(user, io)? {
        let reply = unsubscribe(connections, connection, None, logs, io, events)?;
        if matches!(reply, Reply::Unsubscribed(logs) if !logs.is_empty()) {
            reached.push(connection);
        }
    }
    Ok(Reply::Reached(reached))
}

fn seek(
    connections: &mut Connections,
    logs: &mut Logs,
    (connection, generation, log): (Id, Option<u64>, u64),
    to: crate::wire::Start,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let moved = connections.seek(connection, generation, log, to, logs, io)?;
    // An inactive one is moved in its row alone: there is nobody to tell.
    let active = connections.row(connection, io)?.is_some_and(ConnectionRow::active);
    Ok(reply(moved, |(current, opened)| {
        if generation.is_none() && active {
            let opened = vec![opened.clone()];
            events.push(Event::Opened { connection, generation: current, opened });
        }
        Reply::Moved(current, Box::new(opened))
    }))
}

fn retire(
    writers: &mut Cache<Writer>,
    user: &str,
    id: Id,
    io: &Io<'_>,
) -> Result<Reply, RowsError> {
    Ok(match writers.change(&id, io)? {
        Some(writer) if writer.row.user == user => {
            writer.confirm(u64::MAX);
            writer.row.retired = true;
            Reply::Done
        }
        _ => Reply::Refused(Code::UnknownWriter.into()),
    })
}

fn forget_writer(
    writers: &mut Cache<Writer>,
    id: Id,
    used: u64,
    time: u64,
    io: &mut Io<'_>,
) -> Result<Reply, RowsError> {
    // Whatever a keeper proposes: a repeat a year later is still known as one.
    let unused = |writer: &&mut Writer| {
        writer.row.used == used && (writer.row.retired || time.saturating_sub(used) >= MARK_KEPT)
    };
    let Some(writer) = writers.change(&id, io)?.filter(unused) else {
        return Ok(Reply::Refused(Code::Stale.into()));
    };
    // Saving removes the chunks of confirmed outcomes; then the row goes.
    writer.confirm(u64::MAX);
    crate::log::rows::Hot::save(writer, &id, io);
    writers.forget(&id);
    io.remove(Table::Writers, id.0.to_vec());
    Ok(Reply::Done)
}
