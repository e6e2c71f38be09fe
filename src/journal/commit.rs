//! The committing thread: commands in, batches through the journal and the fold, effects out.
//!
//! Promise: an effect is handed on only after what it tells is durable (promise 2), and commands
//! are refused before they touch storage when the inbox is full, or when the journal takes none
//! (promise 10). One thread commits all that arrived while the last batch was being synced; no
//! timer holds a command back. It knows no socket: whoever submits a command gives a ticket, which
//! comes back beside the reply.

mod dropping;
mod last_word;
mod proposal;
mod silence;
mod window;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use dropping::Dropping;
pub use dropping::Membership;
use silence::{BEAT, Silence};
use window::Window;

use super::fence::uptime;
use super::{At, Bell, Event, Fence, Journal, JournalError, Local};
use crate::fold::{Applied, Batch, Command, Fold, FoldError, Header};
use crate::rows::{Io, Table, Writes};
use crate::store::{Store, StoreError};
use crate::wire::{Code, Id, Level, Refusal, codec};

/// Most commands in one batch.
const MOST_COMMANDS: usize = 4096;
/// A batch is closed when its commands weigh this much.
const MOST_BYTES: usize = 1 << 20;
/// How long a node without commands waits before it looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(50);
/// How long a node that has to catch up waits for the engine before it looks again.
const POLL: Duration = Duration::from_millis(50);
/// How long a node that goes down waits for what is on its way.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// The row that says where the engine has the last batch folded.
const POSITION: &[u8] = b"position";

/// Why the committing thread ended; the node goes down with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The inbox was closed: the node is going down by itself.
    #[error("no more commands can come")]
    Closed,
    /// A batch could not be folded.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The journal failed.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A batch of this run counts as a repeat, though it was never folded.
    #[error(
        "another run of this node calls itself number {0}: two nodes on copies of one folder, or \
         a batch of an earlier run that came late; see to it that only one runs, and start again"
    )]
    Twin(u64),
    /// An operator has forgotten this node while it was away.
    #[error(
        "this node was forgotten while it was taken for silent (`highwater journal forget-node`): \
         start it again, and it takes part again"
    )]
    Forgotten,
    /// The journal ends before what was folded from it.
    #[error(
        "this store has folded batch {folded}, and the journal ends with batch {head}: it has lost \
         its end. Nothing was written into it. Give the journal its end back, or begin another \
         behind the folder that has come furthest (`highwater journal move`), or start this node \
         with an empty folder: it folds what is left, and what is missing stays lost"
    )]
    Ahead {
        /// The last batch folded.
        folded: u64,
        /// The last one of the journal.
        head: u64,
    },
    /// A batch in the journal could not be read.
    #[error("batch {0} of the journal cannot be read: {1}")]
    Unreadable(u64, String),
}

/// A batch that is durable, with the tickets of those whose commands it carries.
#[derive(Debug)]
pub struct Told<T> {
    /// What happened; its writes are empty, they are in the store.
    pub applied: Applied,
    /// By index of the command; empty for a batch of another node.
    pub tickets: Vec<Option<T>>,
    /// Where it is a batch of this node that came back through an engine: when it was proposed. Who
    /// has told it says so to the [`Fence`].
    pub proposed: Option<u64>,
}

struct Submitted<T> {
    command: Command,
    weight: usize,
    ticket: Option<T>,
}

/// Where commands are submitted; cheap to clone.
#[derive(Debug)]
pub struct Inbox<T> {
    /// Boxed, because a queue sets the room of all its places aside at the start.
    sender: SyncSender<Box<Submitted<T>>>,
    gauge: Arc<Gauge>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), gauge: Arc::clone(&self.gauge) }
    }
}

#[derive(Debug)]
struct Gauge {
    bytes: AtomicUsize,
    /// Commands handed in, and those whose batch was heard of; counted round and round.
    handed: AtomicUsize,
    heard: AtomicUsize,
    most_bytes: usize,
    stopped: AtomicBool,
    /// Of a committing thread that waits for an engine, too.
    bell: Option<Arc<Bell>>,
}

impl Gauge {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.ring();
    }

    fn ring(&self) {
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl<T> Inbox<T> {
    /// Hands a command in; `weight` is about its size in bytes.
    ///
    /// # Errors
    /// `overloaded` when too much waits, `failed` when the node is going down. The ticket is
    /// dropped then, so that whoever holds its other end learns of it too.
    pub fn submit(
        &self,
        command: Command,
        weight: usize,
        ticket: Option<T>,
    ) -> Result<(), Refusal> {
        let weight = weight + 64;
        if self.gauge.stopped() {
            return Err(Code::Failed.into());
        }
        let waiting = self.gauge.bytes.fetch_add(weight, Ordering::Relaxed);
        self.gauge.handed.fetch_add(1, Ordering::Relaxed);
        let sent = if waiting + weight > self.gauge.most_bytes {
            Err(Code::Overloaded)
        } else {
            let submitted = Box::new(Submitted { command, weight, ticket });
            self.sender.try_send(submitted).map_err(|error| match error {
                TrySendError::Full(_) => Code::Overloaded,
                TrySendError::Disconnected(_) => Code::Failed,
            })
        };
        self.gauge.ring();
        sent.map_err(|code| {
            self.gauge.bytes.fetch_sub(weight, Ordering::Relaxed);
            self.gauge.handed.fetch_sub(1, Ordering::Relaxed);
            Refusal::new(code).after(if code == Code::Overloaded { 200 } else { 1_000 })
        })
    }

    /// Takes no more commands; the committing thread ends when those that wait are committed.
    pub fn close(&self) {
        self.gauge.stop();
    }

    /// How many commands were handed in, and how many of them were heard of, counted round and
    /// round: what lies between is being committed.
    pub fn under_way(&self) -> (usize, usize) {
        // In this order, so that none counts as heard of that does not count as handed in.
        let heard = self.gauge.heard.load(Ordering::Acquire);
        (self.gauge.handed.load(Ordering::Acquire), heard)
    }

    /// So many commands were heard of: whoever takes what is told says so.
    pub fn heard(&self, commands: usize) {
        self.gauge.heard.fetch_add(commands, Ordering::Release);
    }

    /// Bytes of commands that wait.
    pub fn waiting(&self) -> usize {
        self.gauge.bytes.load(Ordering::Relaxed)
    }
}

/// Who decides the order of batches.
#[allow(missing_debug_implementations, reason = "an engine tells of itself elsewhere")]
pub enum Engine {
    /// This node: a batch and its effects are one commit of the store, and durable with it.
    Here(Local),
    /// An engine that other nodes append to: this node proposes, and folds what it reads back, its
    /// own batches among others'. Its bell wakes the committing thread.
    Elsewhere(Box<dyn Journal>, Arc<Bell>, Membership),
}

impl Engine {
    /// An engine that decides the order.
    pub fn elsewhere(journal: impl Journal + 'static) -> Self {
        Self::shared(journal, Membership::default())
    }

    /// The same, and how this node takes part in it.
    pub fn shared(journal: impl Journal + 'static, membership: Membership) -> Self {
        Self::Elsewhere(Box::new(journal), Arc::default(), membership)
    }

    /// Whether order is decided here.
    pub const fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }

    fn journal(&self) -> &dyn Journal {
        match self {
            Self::Here(local) => local,
            Self::Elsewhere(journal, ..) => &**journal,
        }
    }

    /// Which journal it is; every batch names it.
    pub fn identity(&self) -> Id {
        self.journal().identity()
    }

    /// How durable a batch is that was taken.
    pub fn level(&self) -> Level {
        self.journal().level()
    }

    /// Bytes of the largest batch that it takes.
    pub fn most_bytes(&self) -> usize {
        self.journal().most_bytes()
    }
}

/// The parts that the committing thread drives.
pub struct Committer<T> {
    fold: Fold,
    /// None once it runs.
    engine: Option<Engine>,
    /// Of the journal's batches.
    identity: Id,
    store: Store,
    node: Id,
    incarnation: u64,
    serial: u64,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    inbox: Receiver<Box<Submitted<T>>>,
    /// Out of the inbox, for the next batch.
    held: VecDeque<Box<Submitted<T>>>,
    gauge: Arc<Gauge>,
    fence: Arc<Fence>,
    out: SyncSender<Told<T>>,
}

impl<T> std::fmt::Debug for Committer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Committer").field("node", &self.node).finish_non_exhaustive()
    }
}

/// How much may wait for the committing thread, and behind it.
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Commands in the inbox.
    pub commands: usize,
    /// Bytes in the inbox.
    pub bytes: usize,
    /// Batches that are durable but not told yet.
    pub told: usize,
}

/// Folds what the journal holds already, and follows it from there. Before a node calls its run by
/// a number, and before it looks whether settings have to change: an earlier run of it may have
/// gone further than this store. Where order is decided here, the store is never behind.
///
/// Whether its journal was moved: this store has folded batches, and none of this engine.
///
/// # Errors
/// When the journal or the store fails, or a batch cannot be folded.
pub fn catch_up(fold: &mut Fold, engine: &mut Engine, store: &Store) -> Result<bool, Stopped> {
    let Engine::Elsewhere(journal, bell, _) = engine else { return Ok(false) };
    let (folded, head) = (fold.known().batch, journal.ends()?.head);
    if folded > head {
        return Err(Stopped::Ahead { folded, head });
    }
    let position: Option<(u64,)> =
        Io::new(store).get(Table::Meta, POSITION).map_err(FoldError::from)?;
    let moved = position.is_none() && folded > 0 && folded == head;
    let (position,) = position.unwrap_or_default();
    journal.follow(At { batch: folded, position }, bell)?;
    store.end_local()?;
    fold.catch_up(store.node_id());
    while fold.known().batch < head {
        match journal.poll()? {
            Event::Batch { at, bytes } => drop(fold_read(fold, store, at, &bytes)?),
            // Of an earlier run's proposals nobody waits for anything.
            Event::Fate { .. } => {}
            Event::CaughtUp => bell.wait(POLL),
        }
    }
    fold.caught_up()?;
    Ok(moved)
}

/// Has a store forget where an engine had its last batch: its journal is to go on in another.
///
/// # Errors
/// When storage fails.
pub fn forget_position(store: &Store) -> Result<(), StoreError> {
    let mut writes = Writes::default();
    writes.rows.insert((Table::Meta, POSITION.to_vec()), None);
    store.commit(writes, None, true)
}

/// Folds and commits a batch that the journal holds.
fn fold_read(fold: &mut Fold, store: &Store, at: At, bytes: &[u8]) -> Result<Applied, Stopped> {
    let number = at.batch;
    let unreadable = |error: codec::FrameError| Stopped::Unreadable(number, error.to_string());
    // First of what version it is: commands of another cannot be read.
    fold.check(number, &Batch::header_of(bytes).map_err(unreadable)?)?;
    let batch: Batch = codec::from_bytes("batch", bytes).map_err(unreadable)?;
    let mut applied = fold.apply(number, bytes, batch, store)?;
    let mut writes = std::mem::take(&mut applied.writes);
    // Beside the fold's rows: engines number alike on all nodes, but not alike among each other.
    let position = codec::to_bytes(&(at.position,));
    writes.rows.insert((Table::Meta, POSITION.to_vec()), Some(position));
    store.commit(writes, None, false)?;
    Ok(applied)
}

impl<T: Send + 'static> Committer<T> {
    /// Sets it up: the inbox to submit to, and where durable batches come out, in order. The fold
    /// has caught up with the journal ([`catch_up`]), so that the run gets a number of its own.
    pub fn new(
        fold: Fold,
        engine: Engine,
        store: Store,
        clock: Arc<dyn Fn() -> u64 + Send + Sync>,
        limits: QueueLimits,
    ) -> (Self, Inbox<T>, Receiver<Told<T>>) {
        let (sender, inbox) = sync_channel(limits.commands);
        let (out, told) = sync_channel(limits.told);
        let gauge = Arc::new(Gauge {
            bytes: AtomicUsize::new(0),
            handed: AtomicUsize::new(0),
            heard: AtomicUsize::new(0),
            most_bytes: limits.bytes,
            stopped: AtomicBool::new(false),
            bell: match &engine {
                Engine::Here(_) => None,
                Engine::Elsewhere(_, bell, _) => Some(Arc::clone(bell)),
            },
        });
        let node = store.node_id();
        let incarnation = fold.next_incarnation(node);
        let fence = if engine.is_here() { Fence::open() } else { Fence::counting() };
        let committer = Self {
            fold,
            identity: engine.identity(),
            engine: Some(engine),
            store,
            node,
            incarnation,
            serial: 0,
            clock,
            inbox,
            held: VecDeque::new(),
            gauge: Arc::clone(&gauge),
            fence: Arc::new(fence),
            out,
        };
        (committer, Inbox { sender, gauge }, told)
    }

    /// This run's number; attachments name it.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Whether this node still knows what the journal holds.
    pub fn fence(&self) -> Arc<Fence> {
        Arc::clone(&self.fence)
    }

    /// Works until the inbox is closed or something fails.
    pub fn run(mut self) -> Stopped {
        let stopped = match self.engine.take() {
            Some(Engine::Here(local)) => self.run_here(&local),
            Some(Engine::Elsewhere(mut journal, bell, membership)) => {
                let stopped = self.run_elsewhere(&mut *journal, &bell, membership);
                if matches!(stopped, Err(Stopped::Fold(FoldError::Drift { .. }))) {
                    self.last_word(&mut *journal, &bell);
                }
                stopped
            }
            None => Err(Stopped::Closed),
        };
        self.gauge.stop();
        match stopped {
            Ok(never) => match never {},
            Err(stopped) => stopped,
        }
    }

    /// This node decides the order: each batch is one commit of the store.
    fn run_here(&mut self, local: &Local) -> Result<Infallible, Stopped> {
        loop {
            let gathered = self.gather(Some(IDLE), usize::MAX)?;
            if gathered.is_empty() {
                continue;
            }
            let (commands, tickets) =
                gathered.into_iter().map(|one| (one.command, one.ticket)).unzip();
            let (batch, bytes) = self.propose(commands);
            let number = self.fold.known().batch + 1;
            let mut applied = self.fold.apply(number, &bytes, batch, &self.store)?;
            local.commit(&bytes, std::mem::take(&mut applied.writes))?;
            self.tell(Told { applied, tickets, proposed: None })?;
        }
    }

    /// The engine decides: propose, read back, fold, all in one thread. Batches are proposed while
    /// others are on their way, so that nobody waits for the engine's answer to those before.
    fn run_elsewhere(
        &mut self,
        journal: &mut dyn Journal,
        bell: &Bell,
        membership: Membership,
    ) -> Result<Infallible, Stopped> {
        let mut window = Window::default();
        let mut closing = None;
        let (mut silence, mut next_beat) = (Silence::new(uptime()), uptime() + BEAT);
        let mut dropping = Dropping::new(self.node, membership);
        loop {
            if uptime() >= next_beat {
                self.beat(&silence, &mut dropping, journal)?;
                next_beat = uptime() + BEAT;
            }
            self.fill(&mut window, journal.most_bytes())?;
            for (serial, bytes) in window.due(self.fold.known().batch, Instant::now()) {
                journal.propose(serial, bytes)?;
            }
            match journal.poll()? {
                Event::Batch { at, bytes } => {
                    self.follow(at, &bytes, &mut window, &mut silence)?;
                }
                Event::Fate { serial, fate } => {
                    window.answered(serial, fate, Instant::now())?;
                    self.give_up(&mut window)?;
                }
                Event::CaughtUp => {
                    if window.is_empty()
                        && let Some(first) = self.first(Duration::ZERO)?
                    {
                        self.gauge.bytes.fetch_sub(first.weight, Ordering::Relaxed);
                        self.held.push_back(first);
                        continue;
                    }
                    // What is on its way when the node goes down gets a while, and no longer.
                    if self.gauge.stopped()
                        && closing.get_or_insert_with(Instant::now).elapsed() > LAST_WORDS
                    {
                        return Err(Stopped::Closed);
                    }
                    bell.wait(window.rest(Instant::now()).min(IDLE));
                }
            }
        }
    }

    /// Folds a batch that the engine has ordered, whoever proposed it.
    fn follow(
        &mut self,
        at: At,
        bytes: &[u8],
        window: &mut Window<T>,
        silence: &mut Silence,
    ) -> Result<(), Stopped> {
        let was_known = self.fold.knows(self.node);
        let applied = fold_read(&mut self.fold, &self.store, at, bytes)?;
        // No batch of this run is the next one any more.
        if was_known && !self.fold.knows(self.node) {
            return Err(Stopped::Forgotten);
        }
        silence.heard(applied.header.node, uptime());
        let mut proposed = None;
        // By its bytes: a number may be another run's too.
        let tickets = if applied.early {
            window.came_early(bytes);
            Vec::new()
        } else {
            match window.take(bytes) {
                Some(_) if applied.repeat => return Err(Stopped::Twin(self.incarnation)),
                Some(own) => {
                    silence.came_back(own.proposed, uptime());
                    proposed = Some(own.proposed);
                    own.tickets()
                }
                None => Vec::new(),
            }
        };
        self.tell(Told { applied, tickets, proposed })
    }

    fn tell(&self, told: Told<T>) -> Result<(), Stopped> {
        self.out.send(told).map_err(|_| Stopped::Closed)
    }

    /// Takes all commands that have arrived, up to a batch's bounds and as far as they weigh
    /// `most`; where a wait is given, it waits so long for the first. Empty when none came.
    fn gather(
        &mut self,
        wait: Option<Duration>,
        most: usize,
    ) -> Result<Vec<Submitted<T>>, Stopped> {
        let (mut gathered, mut weight, mut taken) = (Vec::new(), 0, 0);
        while gathered.len() < MOST_COMMANDS && weight < MOST_BYTES {
            let next = match self.held.pop_front() {
                Some(held) => held,
                None => {
                    let next = match wait.filter(|_| gathered.is_empty()) {
                        Some(wait) => self.first(wait)?,
                        None => self.inbox.try_recv().ok(),
                    };
                    let Some(next) = next else { break };
                    taken += next.weight;
                    next
                }
            };
            if !gathered.is_empty() && weight + next.weight > most {
                self.held.push_front(next);
                break;
            }
            weight += next.weight;
            gathered.push(*next);
        }
        self.gauge.bytes.fetch_sub(taken, Ordering::Relaxed);
        Ok(gathered)
    }

    /// The next command of the inbox, waiting for one.
    fn first(&self, wait: Duration) -> Result<Option<Box<Submitted<T>>>, Stopped> {
        match self.inbox.recv_timeout(wait) {
            Ok(first) => Ok(Some(first)),
            Err(RecvTimeoutError::Timeout) if self.gauge.stopped() => Err(Stopped::Closed),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Stopped::Closed),
        }
    }

    /// A batch of this node, and its bytes.
    fn propose(&mut self, commands: Vec<Command>) -> (Batch, Vec<u8>) {
        self.serial += 1;
        let header = Header {
            fold: self.fold.version(),
            journal: self.identity,
            known: self.fold.known(),
            node: self.node,
            incarnation: self.incarnation,
            serial: self.serial,
            time: (self.clock)(),
        };
        let batch = Batch { header, commands };
        let bytes = codec::to_bytes(&batch);
        (batch, bytes)
    }
}
