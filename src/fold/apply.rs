//! Applying a batch: rows are read, commands decided in order, writes and effects given out.

mod decide;

use std::collections::VecDeque;

use decide::Step;
use xxhash_rust::xxh3::Xxh3;

use super::command::{Batch, Header, Known, Settings, Versions};
use super::drift::{Alone, Drift};
use super::head::{HEAD, Head, SETTINGS, SettingsRow, head_of};
use super::revoked::Revoked;
use crate::connection::{Attached, Attachment, Connections, Event, Heard, NodeRow, Opened};
use crate::log::place::{PlaceRow, tag};
use crate::log::{Appended, Eras, Logs, Moment, Trimmed, Writer};
use crate::rows::{Cache, Io, Key, Rows, RowsError, Table, Writes};
use crate::wire::{Answers, ChainTag, Id, Level, MAX_IN_SHARD, Position, Refusal};

/// Chain hashes kept to check what others had folded: batches that may be on their way.
const KNOWN_CHAINS: usize = 4096;

/// The batch cannot be folded here; the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Storage failed or a row is damaged.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The batch is of another journal.
    #[error(
        "what this folder has folded, up to batch {batch}, is of another journal than the one that \
         the configuration leads to: set [journal] to where it was (is the section missing?), or \
         start with an empty folder"
    )]
    OtherJournal {
        /// Number of the batch.
        batch: u64,
    },
    /// The batch's proposer saw another history.
    #[error("batch {batch} does not chain to what this store has folded: rebuild the store")]
    Chain {
        /// Number of the batch.
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
    /// The batch is of a version that this node does not know, or that the journal is not in yet.
    #[error(
        "batch {batch} is of fold version {version}, the journal is in {due}, and this node knows \
         {} to {}: run a program that knows it", known.oldest, known.newest
    )]
    Version {
        /// Number of the batch.
        batch: u64,
        /// The fold version that it names.
        version: u16,
        /// The version that the journal is in.
        due: u16,
        /// Those that this node knows.
        known: Versions,
    },
    /// Half of the running nodes, or more, have written other rows for the same batches.
    #[error(
        "after batch {known} the rows of this node are other than those of {others} of {running} \
         running nodes: two programs fold differently, or a disk lies. Where the others go on, \
         make this node anew of a copy of one of them (`highwater join`). Where all have stopped, \
         find out which is right (`highwater check`), and begin a journal behind its folder \
         (`highwater journal move`)"
    )]
    Drift {
        /// A batch after which rows differ.
        known: u64,
        /// So many running nodes differ from this one.
        others: usize,
        /// Nodes that run, this one among them.
        running: usize,
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
    /// A log's readers are looked at before it is trimmed, and there are more of them: the command
    /// is to be given again.
    Looking,
    /// So many keys have ended.
    Expired(u64),
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
    /// What the batch says of itself: journal, era, number, proposer, time.
    pub header: Header,
    /// Its time, as the fold counts it.
    pub time: u64,
    /// Where the fold stands after it; none before the first era.
    pub position: Option<Position>,
    /// A repeat: nothing was decided.
    pub repeat: bool,
    /// It came before its turn: one that its run had proposed before it was refused or lost.
    /// Nothing was decided; the same bytes count when they come again behind that one.
    pub early: bool,
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
    drift: Drift,
    /// Whose fold it is; none where nobody said.
    own: Option<Id>,
    /// Whether it reads what was before it.
    reads_on: bool,
    versions: Versions,
    level: Level,
    logs: Logs,
    writers: Cache<Writer>,
    connections: Connections,
    revoked: Revoked,
    settings: Settings,
    configured: bool,
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
        let configured = row.is_some();
        let settings = row.map_or(settings, |row| row.settings);
        let mut logs = Logs::new(sizes.logs, sizes.bytes);
        (logs.next, logs.next_origin, logs.batch) = (head.next_log, head.next_origin, head.batch);
        logs.eras = Eras::load(&io)?;
        let mut connections = Connections::new(sizes.connections, sizes.bytes, settings.budgets);
        (connections.active, connections.forgotten) = (head.active, head.forgotten());
        connections.forgotten_run = head.forgotten_run();
        connections.load_nodes(&io)?;
        let known = Known { batch: head.batch, chain: head.chain, rows: head.rows };
        let mut fold = Self {
            head,
            known: VecDeque::from([known]),
            drift: Drift::default(),
            own: None,
            reads_on: false,
            versions: Versions::KNOWN,
            level,
            logs,
            writers: Cache::new(sizes.writers, sizes.bytes),
            connections,
            revoked: Revoked::open(rows)?,
            settings: settings.clone(),
            configured,
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

    /// From here on it reads, for that node, what was in the journal before. What others say of
    /// their rows is judged once all is read ([`Fold::caught_up`]): who stood against whom in
    /// between is over.
    pub const fn catch_up(&mut self, node: Id) {
        (self.own, self.reads_on) = (Some(node), true);
    }

    /// It has read all that was there.
    ///
    /// # Errors
    /// [`FoldError::Drift`] where half of those that run have other rows.
    pub fn caught_up(&mut self) -> Result<(), FoldError> {
        self.reads_on = false;
        self.judge()
    }

    /// Runs that go on, of nodes whose rows are other than those of this node and of most.
    pub fn outvoted(&self) -> impl Iterator<Item = Attachment> {
        self.drift.outvoted().filter_map(|node| {
            let row = self.connections.nodes.get(&node).filter(|row| row.up)?;
            Some(Attachment { node, incarnation: row.incarnation })
        })
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

    /// Whether a command has set rules and limits: before, each node has those it was opened with.
    pub const fn configured(&self) -> bool {
        self.configured
    }

    /// All nodes that ever took part, by their ids.
    pub fn nodes(&self) -> impl Iterator<Item = (Id, &NodeRow)> {
        self.connections.nodes()
    }

    /// Runs of other nodes than that one which count as going on.
    pub fn others(&self, than: Id) -> impl Iterator<Item = Attachment> {
        self.connections.others(than)
    }

    /// The run that a node should call its next one: larger than any before.
    pub fn next_incarnation(&self, node: Id) -> u64 {
        let Connections { nodes, forgotten_run, .. } = &self.connections;
        nodes.get(&node).map_or(*forgotten_run, |row| row.incarnation) + 1
    }

    /// Whether a node has taken part, and was not forgotten since.
    pub fn knows(&self, node: Id) -> bool {
        self.connections.nodes.contains_key(&node)
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
        let heard = self.connections.heard(from, header.serial, time, &mut io);
        let (repeat, early) = (heard == Heard::Again, heard == Heard::Early);
        (self.head.batch, self.head.time) = (number, time);
        self.logs.batch = number;
        self.link(bytes);
        let mut effects = Vec::with_capacity(commands.len());
        let mut places = PlaceRow { before: self.head.records, ..PlaceRow::default() };
        if heard == Heard::Next {
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
        self.save(places, &mut io);
        let (position, active, writes) = (self.position(), self.active(), io.writes);
        let batch = number;
        Ok(Applied { batch, header, time, position, repeat, early, active, writes, effects })
    }

    /// Whether a batch is one to fold next, by what stands before its commands.
    ///
    /// # Errors
    /// When it is not: the node stops.
    pub fn check(&mut self, batch: u64, header: &Header) -> Result<(), FoldError> {
        let (version, due) = (header.fold, self.head.version);
        // An older one crossed the word to move on; nobody can take it out of the journal again.
        if version > due || !self.versions.has(version) {
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
            _ if theirs.batch >= batch => Err(FoldError::Chain { batch }),
            Some(ours) => {
                self.drift.heard(header.node, theirs.batch, ours.rows == theirs.rows);
                if self.reads_on { Ok(()) } else { self.judge() }
            }
            None => Ok(()),
        }
    }

    fn judge(&mut self) -> Result<(), FoldError> {
        let running = self.connections.nodes().filter(|(_, row)| row.up).map(|(node, _)| node);
        (self.drift.judge(self.own, running)).map_err(|Alone { batch: known, others, running }| {
            FoldError::Drift { known, others, running }
        })
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

    /// Saves all that the batch has changed. A repeat has a row in the order of places too, since
    /// its position is told as any other's.
    fn save(&mut self, mut places: PlaceRow, io: &mut Io<'_>) {
        self.logs.save(io);
        self.writers.save(io);
        self.connections.save(io);
        self.head.next_log = self.logs.next;
        self.head.next_origin = self.logs.next_origin;
        self.head.active = self.connections.active;
        self.head.set_forgotten(self.connections.forgotten, self.connections.forgotten_run);
        self.head.rows = hashed(self.head.rows, &io.writes);
        (places.chain, places.rows) = (tag(&self.head.chain), self.head.rows);
        self.head.records = places.after();
        io.put(Table::Places, Key::of(self.head.batch).build(), &places);
        io.put(Table::Meta, HEAD.to_vec(), &self.head);
        self.known.push_back(self.known());
        if self.known.len() > KNOWN_CHAINS {
            self.known.pop_front();
        }
        self.logs.shrink();
        self.writers.shrink();
        self.connections.shrink();
    }
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
