//! The committing thread: commands in, batches through the journal and the fold, effects out.
//!
//! Promise: an effect is handed on only after what it tells is durable (promise 2), and commands
//! are refused before they touch storage when the inbox is full, or when the journal takes none
//! (promise 10). One thread commits all that arrived while the last batch was being synced; no
//! timer holds a command back. It knows no socket: whoever submits a command gives a ticket, which
//! comes back beside the reply.

mod proposal;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use proposal::Proposal;

use super::{AppendError, Journal, JournalError, Order};
use crate::fold::{Applied, Batch, Command, Fold, FoldError, Header};
use crate::store::{Store, StoreError};
use crate::wire::{Code, Id, Refusal, codec};

/// Most commands in one batch.
const MOST_COMMANDS: usize = 4096;
/// A batch is closed when its commands weigh this much.
const MOST_BYTES: usize = 1 << 20;
/// How long a node without commands waits before it looks whether it is to stop.
const IDLE: Duration = Duration::from_millis(50);
/// How long it waits before it looks at a journal that others append to.
const POLL: Duration = Duration::from_millis(2);
/// Most bytes read from the journal at once.
const READ_BYTES: usize = 4 << 20;

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
    /// The journal ends before what was folded from it.
    #[error(
        "this store has folded batch {folded}, and the journal ends with batch {head}: it has lost \
         its end. Nothing was written into it. Give the journal its end back, or start this node \
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
}

impl Gauge {
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
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

/// The parts that the committing thread drives.
pub struct Committer<T> {
    fold: Fold,
    journal: Box<dyn Journal>,
    store: Store,
    node: Id,
    incarnation: u64,
    serial: u64,
    clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    inbox: Receiver<Box<Submitted<T>>>,
    /// Out of the inbox, for the next batch.
    held: VecDeque<Box<Submitted<T>>>,
    gauge: Arc<Gauge>,
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

/// Folds what the journal holds already. Before a node calls its run by a number, and before it
/// looks whether settings have to change: an earlier run of it may have gone further than this
/// store. Where order is decided here, the store is never behind.
///
/// # Errors
/// When the journal or the store fails, or a batch cannot be folded.
pub fn catch_up(fold: &mut Fold, journal: &mut dyn Journal, store: &Store) -> Result<(), Stopped> {
    if journal.order() == Order::Here {
        return Ok(());
    }
    let head = journal.head()?;
    if fold.known().batch > head {
        return Err(Stopped::Ahead { folded: fold.known().batch, head });
    }
    while fold.known().batch < head {
        for (number, bytes) in journal.read(fold.known().batch + 1, READ_BYTES, POLL)? {
            fold_read(fold, store, number, &bytes)?;
        }
    }
    Ok(())
}

/// Folds and commits a batch that the journal holds.
fn fold_read(
    fold: &mut Fold,
    store: &Store,
    number: u64,
    bytes: &[u8],
) -> Result<Applied, Stopped> {
    let unreadable = |error: codec::FrameError| Stopped::Unreadable(number, error.to_string());
    // First of what version it is: commands of another cannot be read.
    fold.check(number, &Batch::header_of(bytes).map_err(unreadable)?)?;
    let batch: Batch = codec::from_bytes("batch", bytes).map_err(unreadable)?;
    let mut applied = fold.apply(number, bytes, batch, store)?;
    store.commit(std::mem::take(&mut applied.writes), None, false)?;
    Ok(applied)
}

impl<T: Send + 'static> Committer<T> {
    /// Sets it up: the inbox to submit to, and where durable batches come out, in order. The fold
    /// has caught up with the journal ([`catch_up`]), so that the run gets a number of its own.
    pub fn new(
        fold: Fold,
        journal: Box<dyn Journal>,
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
        });
        let node = store.node_id();
        let incarnation = fold.next_incarnation(node);
        let committer = Self {
            fold,
            journal,
            store,
            node,
            incarnation,
            serial: 0,
            clock,
            inbox,
            held: VecDeque::new(),
            gauge: Arc::clone(&gauge),
            out,
        };
        (committer, Inbox { sender, gauge }, told)
    }

    /// This run's number; attachments name it.
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Works until the inbox is closed or something fails.
    pub fn run(mut self) -> Stopped {
        let stopped = match self.journal.order() {
            Order::Here => self.run_here(),
            Order::Elsewhere => self.run_elsewhere(),
        };
        self.gauge.stop();
        match stopped {
            Ok(never) => match never {},
            Err(stopped) => stopped,
        }
    }

    /// This node decides the order: each batch is one commit of the store.
    fn run_here(&mut self) -> Result<std::convert::Infallible, Stopped> {
        loop {
            let gathered = self.gather(IDLE, usize::MAX)?;
            if gathered.is_empty() {
                continue;
            }
            let (commands, tickets) =
                gathered.into_iter().map(|one| (one.command, one.ticket)).unzip();
            let (batch, bytes) = self.propose(commands);
            let number = self.fold.known().batch + 1;
            let mut applied = self.fold.apply(number, &bytes, batch, &self.store)?;
            let writes = std::mem::take(&mut applied.writes);
            match self.journal.append(&bytes, Some(writes)) {
                Ok(_) => {}
                Err(AppendError::Broken(error)) => return Err(error.into()),
                // The fold has moved on: only a restart brings it back to what is on disk.
                Err(error) => return Err(JournalError::Failed(error.to_string()).into()),
            }
            self.tell(applied, tickets)?;
        }
    }

    /// The engine decides: propose, read back, fold, all in one thread.
    fn run_elsewhere(&mut self) -> Result<std::convert::Infallible, Stopped> {
        let mut proposal: Option<Proposal<T>> = None;
        loop {
            if proposal.is_none() {
                proposal = self.next_proposal()?;
            }
            let folded = self.fold.known().batch;
            if let Some(mine) = proposal.as_mut().filter(|mine| mine.due(folded, Instant::now())) {
                let answer = self.journal.append(&mine.bytes, None);
                mine.answered(answer, Instant::now())?;
            }
            if let Some(refused) = proposal.take_if(|mine| mine.is_refused()) {
                self.give_up(refused)?;
            }
            let wait = if proposal.is_some() { POLL } else { Duration::ZERO };
            let from = self.fold.known().batch + 1;
            for (number, bytes) in self.journal.read(from, READ_BYTES, wait)? {
                self.follow(number, &bytes, &mut proposal)?;
            }
        }
    }

    /// Folds a batch that the engine has ordered, whoever proposed it.
    fn follow(
        &mut self,
        number: u64,
        bytes: &[u8],
        proposal: &mut Option<Proposal<T>>,
    ) -> Result<(), Stopped> {
        let applied = fold_read(&mut self.fold, &self.store, number, bytes)?;
        // By its bytes: a number may be another run's too.
        let tickets = match proposal.take_if(|own| own.bytes == bytes) {
            Some(_) if applied.repeat => return Err(Stopped::Twin(self.incarnation)),
            Some(own) => own.tickets(),
            None => Vec::new(),
        };
        self.tell(applied, tickets)
    }

    fn tell(&self, applied: Applied, tickets: Vec<Option<T>>) -> Result<(), Stopped> {
        self.out.send(Told { applied, tickets }).map_err(|_| Stopped::Closed)
    }

    /// Waits for a command, then takes all that have arrived, up to a batch's bounds and as far as
    /// they weigh `most`; empty when none came.
    fn gather(&mut self, wait: Duration, most: usize) -> Result<Vec<Submitted<T>>, Stopped> {
        let (mut gathered, mut weight, mut taken) = (Vec::new(), 0, 0);
        while gathered.len() < MOST_COMMANDS && weight < MOST_BYTES {
            let next = match self.held.pop_front() {
                Some(held) => held,
                None => {
                    let next = if gathered.is_empty() {
                        self.first(wait)?
                    } else {
                        self.inbox.try_recv().ok()
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
            journal: self.journal.identity(),
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
