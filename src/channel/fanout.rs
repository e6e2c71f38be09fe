//! Fan-out: new records of logs, to the readers that have caught up with them.
//!
//! Promise: a frame is encoded once per form and offered to a slice of its log's readers, then the
//! next log has its turn: a log with many readers holds up no other. Nothing here waits for a
//! socket.
//!
//! # Threads, and what keeps its order
//!
//! `limits.fan_out_threads` share the logs by their numbers; the first of them is the dispatcher's
//! own, which tells batches besides.
//!
//! - **One log**: it waits in one queue once (`Watched::pending`), so its turns come one after
//!   another, as its records came. They are on the thread that its number says, unless that one has
//!   a long queue: then the dispatcher takes the turn.
//! - **What crosses logs** (answers, openings and ends of subscriptions, grants, fences,
//!   downgrades, deletions, eras) is told by the dispatcher alone, batch after batch, and takes
//!   hold under a socket's lock. A record is offered under the same lock, and is written only where
//!   a live subscription stands at that very offset by then. So whatever a thread had in hand,
//!   nothing of a log goes out behind the word that ended it, before the word that opens it, or to
//!   a socket that was fenced or revoked. The pumps, which are other threads too, rest on the same.
//! - **Records and the rest of their batch**: they come into their tails when all else of it was
//!   told, so that no turn that is under way finds them before; and logs are handed out when all
//!   batches that are there were told.
//! - **Records of two logs** have no order on a socket (`docs/protocol.md` promises none): it
//!   stands at an offset in each, and nothing else of it depends on both.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::encode::DELIVERY_BYTES;
use super::hub::{Hub, Watch};
use super::outgoing::{Outgoing, READ, begin};
use super::pace::{self, Next, Pace};
use super::snapshot_wanted::ask_for_snapshot;
use super::socket::{Offered, Socket};
use crate::log::Rule;

/// Subscribers written to in one slice.
pub(super) const SLICE: usize = 256;
/// Logs that wait for another thread to take them in.
const QUEUE: usize = 1_024;

/// The node's clock.
pub(super) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A log whose subscribers are being written to.
#[derive(Debug)]
struct LogTurn {
    watch: Arc<Watch>,
    /// What is being written; none until the turn begins.
    outgoing: Option<Outgoing>,
}

/// The logs of one thread that have new records.
#[derive(Debug)]
pub(super) struct FanOut {
    hub: Arc<Hub>,
    /// They say when a client's snapshot is asked for.
    rules: Arc<[Rule]>,
    turns: VecDeque<LogTurn>,
    pub(super) pace: Pace,
    /// The sockets of a slice, while they are written to; empty in between.
    offered: Vec<Arc<Socket>>,
}

impl FanOut {
    pub(super) fn new(hub: Arc<Hub>, rules: Arc<[Rule]>) -> Self {
        Self {
            hub,
            rules,
            turns: VecDeque::new(),
            pace: Pace::new(pace::MOST),
            offered: Vec::with_capacity(SLICE),
        }
    }

    /// Whether no log waits for a turn.
    pub(super) fn idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// How long the next turn still waits for more to be told; none: it begins, or goes on. So many
    /// commands were handed in to be committed, and so many of them were heard of.
    pub(super) fn waits(&mut self, under_way: (usize, usize)) -> Option<Duration> {
        let [LogTurn { watch, outgoing: None }] = self.turns.make_contiguous() else { return None };
        let watched = watch.lock();
        let (readers, end) = (watched.readers(), watched.tail.end());
        drop(watched);
        self.pace.wait(Instant::now(), Next { log: watch.log, readers, end }, under_way)
    }

    /// The log has new records, and no turn yet.
    fn add(&mut self, watch: Arc<Watch>) {
        self.turns.push_back(LogTurn { watch, outgoing: None });
    }

    /// Works on logs as they come, until none can come and those that came are done.
    fn work(mut self, logs: &Receiver<Arc<Watch>>, clock: &Clock) {
        loop {
            if self.idle() {
                match logs.recv() {
                    Ok(watch) => self.add(watch),
                    Err(_) => return,
                }
            }
            logs.try_iter().for_each(|watch| self.add(watch));
            self.slice(clock());
        }
    }

    /// Writes one slice of one log's new records; then the next log has its turn.
    pub(super) fn slice(&mut self, now: u64) {
        let Some(LogTurn { watch, outgoing }) = self.turns.pop_front() else { return };
        let store = |base| self.hub.store.records(watch.log, base, READ, DELIVERY_BYTES);
        let outgoing = outgoing.or_else(|| begin(&self.hub, &watch, &self.rules, store));
        let Some(mut outgoing) = outgoing else { return };
        self.pace.begins();
        let begun = Instant::now();
        let end = outgoing.end();
        let mut offered = std::mem::take(&mut self.offered);
        let watched = watch.lock();
        let upto = watched.slice(outgoing.next, &mut offered);
        drop(watched);
        // Others have the watch while these are written to. Whoever goes meanwhile is not
        // subscribed any more, and whoever comes does not stand there yet: each is asked.
        let behind = self.offer(&watch, &mut outgoing, &offered, now);
        self.pace.wrote(offered.len(), begun.elapsed());
        outgoing.asks = outgoing.asks && !ask_for_snapshot(&watch, &offered, end);
        offered.clear();
        self.offered = offered;
        outgoing.next = upto;
        let mut watched = watch.lock();
        let finished = upto >= watched.sockets.len();
        let more = watched.tail.end() > end;
        watched.pending = !finished || more;
        drop(watched);
        behind.iter().for_each(|socket| self.hub.schedule(socket));
        if !finished {
            self.turns.push_back(LogTurn { watch, outgoing: Some(outgoing) });
            return;
        }
        self.pace.ended(watch.log);
        if more {
            self.add(watch);
        }
    }

    /// Writes a log's new records to sockets: those that have to read for themselves.
    fn offer(
        &self,
        watch: &Watch,
        outgoing: &mut Outgoing,
        sockets: &[Arc<Socket>],
        now: u64,
    ) -> Vec<Arc<Socket>> {
        let (log, base, end) = (watch.log, outgoing.base, outgoing.end());
        let (mut behind, mut delivered) = (Vec::new(), 0);
        let cut_off = self.hub.is_cut_off();
        for socket in sockets {
            let (outgoing, form) = (&mut *outgoing, socket.form());
            let range = (base, end);
            // While nothing is to be told all fall behind; what reads for them rests.
            let offered = if cut_off {
                socket.hold_back(log, end)
            } else {
                socket.offer(log, range, || outgoing.message(log, form, &self.hub), now)
            };
            match offered {
                Offered::Sent => delivered += 1,
                Offered::Skipped => {}
                Offered::Waits => {
                    delivered += 1;
                    socket.wake();
                }
                Offered::Blocked => socket.wake(),
                Offered::Behind => behind.push(Arc::clone(socket)),
            }
        }
        self.hub.delivered.fetch_add(delivered, Ordering::Relaxed);
        behind
    }
}

/// Another thread of fan-out.
#[derive(Debug)]
struct Other {
    logs: SyncSender<Arc<Watch>>,
    thread: JoinHandle<()>,
}

/// All threads of fan-out, as the dispatcher knows them.
#[derive(Debug)]
pub(super) struct Crew {
    /// The dispatcher's own logs.
    pub own: FanOut,
    others: Vec<Other>,
    /// Most logs that wait for another thread to take them in.
    pub queue: usize,
    /// Logs with new records that are not handed out yet.
    new: Vec<Arc<Watch>>,
}

impl Crew {
    /// The dispatcher alone.
    pub(super) const fn alone(own: FanOut) -> Self {
        Self { own, others: Vec::new(), queue: QUEUE, new: Vec::new() }
    }

    /// Starts threads, so that there are `count` with the dispatcher's own.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn grow(&mut self, count: usize, clock: &Clock) -> std::io::Result<()> {
        while self.others.len() + 1 < count {
            let fan = FanOut::new(Arc::clone(&self.own.hub), Arc::clone(&self.own.rules));
            let (logs, comes) = sync_channel(self.queue);
            let clock = Arc::clone(clock);
            let work = move || fan.work(&comes, &clock);
            let thread = std::thread::Builder::new().name("fan-out".to_owned()).spawn(work)?;
            self.others.push(Other { logs, thread });
        }
        Ok(())
    }

    /// The log has new records, and no turn yet.
    pub(super) fn add(&mut self, watch: Arc<Watch>) {
        self.new.push(watch);
    }

    /// Gives each thread its logs.
    pub(super) fn hand_out(&mut self) {
        for watch in self.new.drain(..) {
            let threads = self.others.len() as u64 + 1;
            let at = usize::try_from(watch.log % threads).unwrap_or_default();
            let rest = match at.checked_sub(1).and_then(|at| self.others.get(at)) {
                Some(other) => other.logs.try_send(watch).err(),
                None => Some(TrySendError::Full(watch)),
            };
            // Where a thread has panicked the node ends.
            if let Some(TrySendError::Full(watch) | TrySendError::Disconnected(watch)) = rest {
                self.own.add(watch);
            }
        }
    }

    /// No more logs come: works off those that came, and waits until the other threads have.
    pub(super) fn end(mut self, clock: &(dyn Fn() -> u64 + Send + Sync)) {
        while !self.own.idle() {
            self.own.slice(clock());
        }
        for Other { logs, thread } in self.others {
            drop(logs);
            // One that panicked has told its panic already.
            thread.join().ok();
        }
    }
}
