//! Applying a batch: rows are read, commands decided in order, writes and effects given out.

use std::collections::VecDeque;

use xxhash_rust::xxh3::Xxh3;

use super::command::{Batch, Command, Header, Known, Settings, Versions};
use super::head::{HEAD, Head, SETTINGS, SettingsRow, head_of};
use super::revoked::Revoked;
use crate::connection::{
    Attached, Attachment, ConnectionRow, Connections, Event, Heard, Opened, Progress, Subscribe,
};
use crate::log::place::{PlaceRow, tag};
use crate::log::rows::{Cache, Io, Key, More, Rows, RowsError, Table, Writes};
use crate::log::{Appended, Eras, Logs, MARK_KEPT, Moment, Trimmed, Writer};
use crate::wire::{Answers, ChainTag, Code, Id, Level, MAX_IN_SHARD, Pattern, Position, Refusal};

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
        "batch {batch} is of fold version {version}, the journal is in {due}, and this node knows \
         {} to {}: run a program that knows it", known.oldest, known.newest
    )]
    Version {
        /// Its number.
        batch: u64,
        /// Its version.
        version: u16,
        /// The version that the journal is in.
        due: u16,
        /// Those that this node knows.
        known: Versions,
    },
    /// Another node has written other rows for the same batches.
    #[error(
        "batch {batch} comes from a node that folded batch {known} to other rows: two programs fold \
         differently, or a disk lies. Stop one of them, and rebuild its store"
    )]
    Drift {
        /// Its number.
        batch: u64,
        /// The batch after which the rows differ.
        known: u64,
    },
    /// Batches of a run are missing.
    #[error(
        "batch {batch} has serial {serial} of its node's run where {due} was due: the journal lost \
         batches in its midst"
    )]
    Hole {
        /// Its number.
        batch: u64,
        /// What came.
        serial: u64,
        /// What was due.
        due: u64,
    },
    /// This shard has given its last batch number.
    #[error("batch {MAX_IN_SHARD} was the last one of this shard: go on in another")]
    Full,
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
    /// A user or a token no longer counts: whether that changed anything.
    Revoked(bool),
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
    /// Where the fold stands after it; none before the first era.
    pub position: Option<Position>,
    /// A repeat: nothing was decided.
    pub repeat: bool,
    /// Slots given out after it.
    pub active: u64,
    /// What to commit.
    pub writes: Writes,
    /// What to tell.
    pub effects: Vec<Effect>,
}

/// The time of what was folded into a store, milliseconds since 1970; none for a new one.
///
/// # Errors
/// When storage fails or the row is damaged.
pub fn folded_time(rows: &dyn Rows) -> Result<Option<u64>, RowsError> {
    Ok(head_of(rows)?.map(|head| head.time))
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
    head: Head,
    /// Chain and rows after the newest batches, by number.
    known: VecDeque<Known>,
    versions: Versions,
    level: Level,
    logs: Logs,
    writers: Cache<Writer>,
    connections: Connections,
    revoked: Revoked,
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
        let head = head_of(rows)?.unwrap_or_else(|| Head::new(journal));
        if head.journal != journal {
            return Err(FoldError::OtherJournal { batch: head.batch });
        }
        let row: Option<SettingsRow> = io.get(Table::Meta, SETTINGS)?;
        let settings = row.map_or(settings, |row| row.settings);
        let mut logs = Logs::new(sizes.logs, sizes.bytes);
        (logs.next, logs.next_origin, logs.batch) = (head.next_log, head.next_origin, head.batch);
        logs.eras = Eras::load(&io)?;
        let mut connections = Connections::new(sizes.connections, sizes.bytes, settings.budgets);
        connections.active = head.active;
        connections.load_nodes(&io)?;
        let known = Known { batch: head.batch, chain: head.chain, rows: head.rows };
        let mut fold = Self {
            head,
            known: VecDeque::from([known]),
            versions: Versions::KNOWN,
            level,
            logs,
            writers: Cache::new(sizes.writers, sizes.bytes),
            connections,
            revoked: Revoked::open(rows)?,
            settings: settings.clone(),
        };
        fold.configure(settings);
        Ok(fold)
    }

    /// The same, of a program that knows other versions of the fold.
    #[must_use]
    pub const fn knowing(mut self, versions: Versions) -> Self {
        self.versions = versions;
        self
    }

    /// The last batch folded, as the next proposal names it.
    pub const fn known(&self) -> Known {
        Known { batch: self.head.batch, chain: self.head.chain, rows: self.head.rows }
    }

    /// How far it has come.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The version of the fold that the journal is in: that of the next proposal.
    pub const fn version(&self) -> u16 {
        self.head.version
    }

    /// The versions that this program knows.
    pub const fn versions(&self) -> Versions {
        self.versions
    }

    /// The eras of this history.
    pub const fn eras(&self) -> &Eras {
        &self.logs.eras
    }

    /// Where it stands; none before the first era.
    pub fn position(&self) -> Option<Position> {
        let chain = Some(tag(&self.head.chain));
        Some(Position { chain, ..self.logs.eras.position(self.head.batch)? })
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
        let from = Attachment { node: header.node, incarnation: header.incarnation };
        let stands = header.time < self.head.time;
        let time = self.head.time.max(header.time);
        let repeat = match self.connections.heard(from, header.serial, time, &mut io) {
            Heard::Next => false,
            Heard::Again => true,
            Heard::Hole { due } => {
                return Err(FoldError::Hole { batch: number, serial: header.serial, due });
            }
        };
        (self.head.batch, self.head.time) = (number, time);
        self.logs.batch = number;
        self.link(bytes);
        let mut effects = Vec::with_capacity(commands.len());
        let mut places = PlaceRow { before: self.head.records, ..PlaceRow::default() };
        if !repeat {
            let mut at = Moment { batch: number, index: 0, time, stands, level: self.level };
            for (index, command) in commands.into_iter().enumerate() {
                let mut step = Step { events: Vec::new(), stored: Vec::new() };
                let reply = self.decide(command, &header, &mut at, &mut io, &mut step)?;
                effects.extend(step.events.into_iter().map(Effect::Event));
                effects.push(Effect::Reply(index, reply));
                for (log, offset, stored) in &step.stored {
                    places.note(stored.place, *log, *offset);
                }
                effects.extend(step.stored.into_iter().map(Effect::Appended));
            }
        }
        self.save(places, repeat, &mut io);
        let (position, active, writes) = (self.position(), self.active(), io.writes);
        Ok(Applied { batch: number, header, time, position, repeat, active, writes, effects })
    }

    /// Whether a batch is one to fold next, by what stands before its commands.
    ///
    /// # Errors
    /// When it is not: the node stops.
    pub fn check(&self, batch: u64, header: &Header) -> Result<(), FoldError> {
        let (version, due) = (header.fold, self.head.version);
        if version != due || !self.versions.has(version) {
            return Err(FoldError::Version { batch, version, due, known: self.versions });
        }
        if header.journal != self.head.journal {
            return Err(FoldError::OtherJournal { batch });
        }
        if batch != self.head.batch + 1 {
            return Err(FoldError::Order { batch, expected: self.head.batch + 1 });
        }
        if batch > MAX_IN_SHARD {
            return Err(FoldError::Full);
        }
        let theirs = &header.known;
        let ours = self.known.binary_search_by_key(&theirs.batch, |known| known.batch);
        match ours.ok().and_then(|at| self.known.get(at)) {
            Some(ours) if ours.chain != theirs.chain => Err(FoldError::Chain { batch }),
            Some(ours) if ours.rows != theirs.rows => {
                Err(FoldError::Drift { batch, known: theirs.batch })
            }
            _ if theirs.batch >= batch => Err(FoldError::Chain { batch }),
            _ => Ok(()),
        }
    }

    fn link(&mut self, bytes: &[u8]) {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.head.chain).update(bytes);
        self.head.chain = *hash.finalize().as_bytes();
    }

    fn configure(&mut self, settings: Settings) {
        self.logs.rules.clone_from(&settings.rules);
        self.logs.auto_create = settings.auto_create;
        self.connections.budgets = settings.budgets.within_rows();
        self.settings = settings;
    }

    /// Saves all that the batch has changed; a repeat has no places.
    fn save(&mut self, mut places: PlaceRow, repeat: bool, io: &mut Io<'_>) {
        self.logs.save(io);
        self.writers.save(io);
        self.connections.save(io);
        self.head.next_log = self.logs.next;
        self.head.next_origin = self.logs.next_origin;
        self.head.active = self.connections.active;
        self.head.rows = hashed(self.head.rows, &io.writes);
        if !repeat {
            (places.chain, places.rows) = (tag(&self.head.chain), self.head.rows);
            self.head.records = places.after();
            io.put(Table::Places, Key::of(self.head.batch).build(), &places);
        }
        io.put(Table::Meta, HEAD.to_vec(), &self.head);
        self.known.push_back(self.known());
        if self.known.len() > KNOWN_CHAINS {
            self.known.pop_front();
        }
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
        let Self { logs, writers, connections, revoked, .. } = self;
        let (events, stored) = (&mut step.events, &mut step.stored);
        let time = at.time;
        let node = Attachment { node: header.node, incarnation: header.incarnation };
        Ok(match command {
            Command::Look => Reply::Done,
            Command::NodeUp { oldest, newest } => {
                connections.node_knows(node.node, (oldest, newest), io);
                Reply::Done
            }
            Command::BeginEra { after, era } => begin_era(logs, after, era, at, io, events),
            Command::Upgrade { to } => self.upgrade(to),
            Command::Configure(settings) => {
                let row = SettingsRow { settings: settings.clone(), more: More::default() };
                io.put(Table::Meta, SETTINGS.to_vec(), &row);
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
            Command::Revoke { whom, before_ms } => {
                revoked.add(whom, before_ms, time, io, events)?
            }
            Command::Unrevoke { whom } => revoked.remove(whom, io, events)?,
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

impl Fold {
    /// The next batch is of the next version, where every node that runs knows it.
    fn upgrade(&mut self, to: u16) -> Reply {
        let due = self.head.version + 1;
        if to != due || !self.connections.all_know(to) {
            let message = format!("version {due} is next, and every node that runs has to know it");
            return Reply::Refused(Refusal::because(Code::Stale, message));
        }
        self.head.version = to;
        Reply::Done
    }
}

/// Another era begins, unless one has begun that who asks has not seen.
fn begin_era(
    logs: &mut Logs,
    after: Option<Id>,
    era: Id,
    at: &Moment,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Reply {
    if logs.eras.present() != after {
        return Reply::Refused(Code::Stale.into());
    }
    logs.eras.begin(era, at.batch, at.time, io);
    events.push(Event::Era);
    Reply::Done
}

/// The running hash of rows with those of one batch: keys and values in their order, and which go.
fn hashed(before: ChainTag, writes: &Writes) -> ChainTag {
    let mut hash = Xxh3::new();
    hash.update(&before);
    let mut sized = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for ((table, key), value) in &writes.rows {
        sized(&[*table as u8, u8::from(value.is_some())]);
        sized(key);
        sized(value.as_deref().unwrap_or_default());
    }
    for (log, offset, value) in &writes.records {
        sized(&Key::of(*log).then(*offset).build());
        sized(value);
    }
    hash.digest().to_be_bytes()
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
