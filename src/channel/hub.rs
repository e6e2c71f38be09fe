//! The node's registries: sockets by connection, watched logs by id, and their subscribers.
//!
//! Promise: a log is watched while a socket here is subscribed to it, and costs no memory
//! otherwise. Who subscribes is offered every record from the offset on that it was told of then,
//! and is none of the log's readers once it has left.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use dashmap::DashMap;

use super::elsewhere::Elsewhere;
use super::fanout::SLICE;
use super::hints::Hints;
use super::panics;
use super::queue::Queue;
use super::refusals::Refusals;
use super::registry::Registry;
use super::silence::Presence;
use super::socket::{Counts, Socket};
use super::wait::Waits;
use crate::connection::Opened;
use crate::delivery::{Class, Closing, Followed, Over, Owed, Tail, TailBudget};
use crate::journal::{Fence, Followers};
use crate::log::Eras;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::{Code, Cursor, Ended, Id, Position, Refusal, SnapshotRule};

/// Bounds of a hub.
#[derive(Debug, Clone, Copy)]
pub struct HubLimits {
    /// Bytes of all tails.
    pub tail_bytes: usize,
    /// Bytes of one tail.
    pub tail_bytes_per_log: usize,
    /// Milliseconds of silence before a ping; twice that, and the socket is closed.
    pub ping_interval: u64,
    /// Milliseconds that a socket stays after its token has ended.
    pub refresh_grace: u64,
}

/// A log that sockets here are subscribed to.
#[derive(Debug)]
pub(super) struct Watch {
    pub log: u64,
    pub name: Arc<str>,
    /// Everything below is dispatched, or being dispatched. It moves under the lock of the watch,
    /// under which subscribers come: whoever comes is offered all that lies behind it.
    target: AtomicU64,
    state: Mutex<Watched>,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub tail: Tail,
    /// How the log's state is kept.
    pub rule: SnapshotRule,
    pub sockets: Vec<Option<Arc<Socket>>>,
    /// Places in between that nobody has; who comes is given the first of them.
    free: BTreeSet<u32>,
    /// Whether a thread of fan-out has it in its queue, or is about to be given it.
    pub pending: bool,
    /// Offset of the newest client-made snapshot, and where one was last asked for.
    pub snapshot: u64,
    pub asked: u64,
    closed: bool,
}

impl Watch {
    pub(super) fn lock(&self) -> MutexGuard<'_, Watched> {
        // A panic under it has left a log's readers who knows where.
        self.state.lock().unwrap_or_else(|_| panics::end_the_node("under a log's lock"))
    }

    /// Whether somebody holds its lock.
    #[cfg(test)]
    pub(super) fn is_locked(&self) -> bool {
        self.state.try_lock().is_err()
    }

    /// Everything below is dispatched, or being dispatched.
    pub(super) fn target(&self) -> u64 {
        self.target.load(Ordering::Acquire)
    }

    /// What lies below is about to be dispatched; for who holds the watch's lock.
    pub(super) fn aim(&self, target: u64) {
        self.target.store(target, Ordering::Release);
    }
}

/// Everything that delivery on this node shares.
#[derive(Debug)]
pub struct Hub {
    pub(super) store: Store,
    sockets: Registry,
    watches: DashMap<u64, Arc<Watch>>,
    budget: Arc<TailBudget>,
    pub(super) limits: HubLimits,
    started: Instant,
    numbers: AtomicU64,
    pub(super) queue: Queue,
    moved: Mutex<Vec<Arc<Socket>>>,
    pub(super) waits: Arc<Waits>,
    pub(super) hints: Arc<Hints>,
    fence: OnceLock<Arc<Fence>>,
    /// Where else clients find a node.
    pub elsewhere: Elsewhere,
    /// Highest batch told; what a read may wait for.
    told: tokio::sync::watch::Sender<u64>,
    active: AtomicU64,
    /// Where the last batch told stands, and the eras of this history.
    position: RwLock<Option<Position>>,
    eras: RwLock<Arc<Eras>>,
    pub(super) delivered: AtomicU64,
    pub(super) frames: AtomicU64,
    /// Bytes of encoded deliveries that someone still holds.
    pub(super) encoded: Arc<AtomicUsize>,
    counts: Counts,
    pub(super) presence: Mutex<Presence>,
}

/// Counts for metrics.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct HubStats {
    /// Sockets with a connection.
    pub sockets: usize,
    /// Logs that are watched.
    pub watched: usize,
    /// Bytes of tails.
    pub tail_bytes: usize,
    /// Bytes of deliveries that sockets have not taken whole; what many wait for counts once.
    pub encoded_bytes: usize,
    /// Bytes of replies that wait in sockets.
    pub reply_bytes: usize,
    /// Deliveries: frames written to sockets.
    pub delivered: u64,
    /// Frames encoded for delivery.
    pub frames: u64,
    /// Sockets that wait for a pump.
    pub behind: usize,
}

impl Hub {
    /// A hub over a store.
    pub fn new(store: Store, limits: HubLimits) -> Arc<Self> {
        let budget = TailBudget::new(limits.tail_bytes, limits.tail_bytes_per_log);
        Arc::new(Self {
            store,
            sockets: Registry::default(),
            watches: DashMap::new(),
            budget: Arc::new(budget),
            limits,
            started: Instant::now(),
            numbers: AtomicU64::new(1),
            queue: Queue::default(),
            moved: Mutex::default(),
            waits: Arc::default(),
            hints: Arc::default(),
            fence: OnceLock::new(),
            elsewhere: Elsewhere::default(),
            told: tokio::sync::watch::channel(0).0,
            active: AtomicU64::new(0),
            position: RwLock::default(),
            eras: RwLock::default(),
            delivered: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            encoded: Arc::default(),
            counts: Counts::default(),
            presence: Mutex::default(),
        })
    }

    /// Who follows the journal for this hub.
    pub fn followers(&self) -> Followers {
        vec![Box::new(Arc::clone(&self.hints)), Box::new(Arc::clone(&self.waits))]
    }

    /// Counts for metrics.
    pub fn stats(&self) -> HubStats {
        HubStats {
            sockets: self.sockets.len(),
            watched: self.watches.len(),
            tail_bytes: self.budget.used(),
            encoded_bytes: self.encoded.load(Ordering::Relaxed),
            reply_bytes: self.counts.replies.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            behind: self.queue.len(),
        }
    }

    /// Milliseconds since this hub was made: they go on evenly, whatever happens to the clock.
    pub fn ticks(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Refusals that went to clients.
    pub const fn refusals(&self) -> &Arc<Refusals> {
        &self.counts.refusals
    }

    /// What its sockets count together.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Lets go of the newest records of logs that had none since the last call, where tails fill
    /// much of their budget: so that it serves the logs that are written to.
    pub fn sweep_tails(&self) {
        if !self.budget.tight() {
            return;
        }
        let watches: Vec<_> = self.watches.iter().map(|watch| Arc::clone(&watch)).collect();
        for watch in watches {
            watch.lock().tail.rest();
        }
    }

    /// A number for a new socket.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// The socket of a connection on this node.
    pub fn socket(&self, connection: Id) -> Option<Arc<Socket>> {
        self.sockets.get(connection)
    }

    /// Every socket, for sweeps.
    pub fn each(&self, visit: impl FnMut(&Arc<Socket>)) {
        self.sockets.each_of(0, 1, visit);
    }

    /// Every socket of a part, of so many parts; those of the others are not touched.
    pub(super) fn each_of(&self, part: u8, parts: u8, visit: impl FnMut(&Arc<Socket>)) {
        self.sockets.each_of(part.into(), parts.into(), visit);
    }

    /// Waits until a batch is told: reads then see it.
    pub fn told(&self) -> tokio::sync::watch::Receiver<u64> {
        self.told.subscribe()
    }

    /// Slots given out, as of the last batch told.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Relaxed)
    }

    /// Where the last batch stands that was told, or is being told; none before the first era.
    pub fn position(&self) -> Option<Position> {
        *self.position.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The eras of this history, as of the last batch told.
    pub fn eras(&self) -> Arc<Eras> {
        Arc::clone(&self.eras.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the eras: at the start, and when one has begun.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn load_eras(&self) -> Result<(), RowsError> {
        let eras = Arc::new(Eras::of_rows(self.store.eras()?));
        *self.eras.write().unwrap_or_else(PoisonError::into_inner) = eras;
        Ok(())
    }

    /// A batch is about to be told: whoever gets an answer of it is told its position.
    pub(super) fn stand(&self, position: Option<Position>) {
        *self.position.write().unwrap_or_else(PoisonError::into_inner) = position;
    }

    pub(super) fn tell(&self, batch: u64, active: u64) {
        self.active.store(active, Ordering::Relaxed);
        self.told.send_replace(batch);
    }

    /// Takes a socket in; one that was there for the same connection is fenced.
    pub(super) fn admit(&self, socket: &Arc<Socket>) {
        let before = self.sockets.insert(socket);
        if let Some(before) = before.filter(|before| before.number != socket.number) {
            before.close(&Closing::new(Code::Fenced));
            self.drop_subs(&before);
        }
    }

    /// The socket is gone: nothing of it stays here.
    pub fn leave(&self, socket: &Arc<Socket>) {
        socket.lock().at.gone();
        self.sockets.remove(socket);
        self.drop_subs(socket);
    }

    /// Whether this is still the connection's socket on this node.
    pub fn holds(&self, socket: &Socket) -> bool {
        self.sockets.holds(socket)
    }

    /// Removes all subscriptions of a socket from their watches.
    pub(super) fn drop_subs(&self, socket: &Socket) {
        let over = socket.lock().at.end_all(&Code::Inactive.into());
        over.iter().for_each(|over| self.unwatch(over));
    }

    /// Removes subscriptions; those that there are not are passed over. Where an opening was still
    /// to be told, its request is refused by `why`. Returns the logs that the client had heard of.
    fn drop_some(&self, socket: &Socket, logs: &[u64], why: &Refusal) -> BTreeSet<u64> {
        let over = socket.lock().at.end(logs, why);
        over.iter().for_each(|over| self.unwatch(over));
        over.into_iter().filter(|over| over.told).map(|over| over.log).collect()
    }

    /// Tells of logs that were asked for and are not opened, with the reason of each.
    pub fn refuse(&self, socket: &Arc<Socket>, request: u32, refused: Vec<(String, Refusal)>) {
        if refused.is_empty() {
            return;
        }
        socket.lock().at.owe(Owed::Refused(request, refused.into_iter()));
        self.schedule(socket);
    }

    /// Whether a cursor lies past what is told of its log, as far as the log is watched here.
    pub fn past_head(&self, cursor: Cursor) -> bool {
        self.watch(cursor.log).is_some_and(|watch| cursor.next > watch.lock().tail.end())
    }

    /// Ends subscriptions of a socket at once, and tells it: of those that it had heard of, and
    /// that it names itself.
    pub fn end(&self, socket: &Arc<Socket>, logs: Vec<u64>, request: u32, reason: Ended) {
        self.end_as(socket, logs, request, reason, reason == Ended::Asked);
    }

    /// Ends what a refreshed token of the socket's own client does not cover, at once: who asked
    /// for it takes the answer, so that it counts as no deed of others, however many logs it ends.
    pub fn end_by_refresh(&self, socket: &Arc<Socket>, logs: Vec<u64>) {
        self.end_as(socket, logs, 0, Ended::Denied, true);
    }

    fn end_as(
        &self,
        socket: &Arc<Socket>,
        mut logs: Vec<u64>,
        request: u32,
        reason: Ended,
        invited: bool,
    ) {
        if logs.is_empty() {
            return;
        }
        // Of what the rows lose to grants mostly nothing is left to be told: that is counted below.
        if !invited && reason != Ended::Denied {
            socket.uninvited(logs.len());
        }
        let why = match reason {
            Ended::Asked => socket.superseded("the subscription was ended by a later request"),
            Ended::BackEnd | Ended::Overwritten => {
                socket.superseded("the subscription was ended meanwhile")
            }
            Ended::Deleted => Refusal::because(Code::UnknownLog, "the log was deleted meanwhile"),
            Ended::Denied => Code::Denied.into(),
        };
        let mut told = self.drop_some(socket, &logs, &why);
        // Of one that is inactive now, what it was told before.
        told.extend(socket.lock().at.take_announced(&logs));
        if matches!(reason, Ended::BackEnd | Ended::Deleted | Ended::Denied) {
            logs.retain(|log| told.contains(log));
        }
        if !logs.is_empty() {
            if !invited && reason == Ended::Denied {
                socket.uninvited(logs.len());
            }
            let ended = Owed::Unsubscribed(request, reason, logs.into_iter());
            socket.lock().at.owe(ended);
        }
        self.schedule(socket);
    }

    fn unwatch(&self, over: &Over) {
        // It is there for as long as anyone has a place in it.
        let Some(watch) = self.watch(over.log) else { return };
        let mut watched = watch.lock();
        watched.leave(over.place);
        if watched.sockets.is_empty() {
            // Decided under the lock under which subscribers come: nobody knocks at a closed door.
            watched.closed = true;
            drop(watched);
            self.watches.remove_if(&watch.log, |_, known| Arc::ptr_eq(known, &watch));
        }
    }

    /// A batch that was proposed then has been told.
    pub(super) fn came_back(&self, proposed: u64) {
        if let Some(fence) = self.fence.get() {
            fence.came_back(proposed);
        }
    }

    /// From now on nothing is told while that fence is shut.
    #[must_use]
    pub fn fenced_by(self: Arc<Self>, fence: &Arc<Fence>) -> Arc<Self> {
        self.fence.get_or_init(|| Arc::clone(fence));
        self
    }

    /// Whether nothing is to be told at the moment.
    pub(super) fn is_cut_off(&self) -> bool {
        self.fence.get().is_some_and(|fence| fence.is_shut())
    }

    /// The watch of a log, if someone here is subscribed.
    pub(super) fn watch(&self, log: u64) -> Option<Arc<Watch>> {
        self.watches.get(&log).map(|watch| Arc::clone(&watch))
    }

    /// Takes a subscription in; it begins by announcing itself. Only the dispatcher calls it,
    /// between two batches, so that a new watch's target is the head all of them agree on.
    ///
    /// # Errors
    /// `denied` where the grants do not cover the log: those in force now are what counts. `stale`
    /// where the fold knows of a subscription that this socket has no more: grants that have grown
    /// again since ended it, and that is yet to be folded. Its cursor says nothing of what the
    /// client holds, who was told of the end, or never of the beginning.
    pub(super) fn subscribe(
        &self,
        socket: &Arc<Socket>,
        opened: Opened,
        request: u32,
    ) -> Result<(), Code> {
        if !socket.lock().at.grants().may_read(&opened.name) {
            return Err(Code::Denied);
        }
        if opened.again {
            return tell_again(socket, &opened, request).ok_or(Code::Stale);
        }
        let why = socket.superseded("a later request opened the log anew");
        let log = opened.log;
        let told = self.drop_some(socket, &[log], &why).contains(&log);
        loop {
            let watch = self.open_watch(&opened);
            let mut watched = watch.lock();
            if watched.closed {
                drop(watched);
                self.watches.remove_if(&log, |_, known| Arc::ptr_eq(known, &watch));
                continue;
            }
            let (name, place) = (Arc::clone(&watch.name), watched.enter(socket));
            let followed = Followed { name, place, offered: watch.target() };
            // New grants may have come since they were looked at: they are looked at again here.
            let taken_in = socket.lock().at.subscribe(opened, request, followed, told);
            drop(watched);
            if !taken_in {
                // Who asked for it answers.
                self.unwatch(&Over { log, place, told });
                if told {
                    let ended = Owed::Unsubscribed(0, Ended::Denied, vec![log].into_iter());
                    socket.lock().at.owe(ended);
                }
            }
            return if taken_in { Ok(()) } else { Err(Code::Denied) };
        }
    }

    fn open_watch(&self, opened: &Opened) -> Arc<Watch> {
        let snapshot = opened.snapshot;
        let entry = self.watches.entry(opened.log).or_insert_with(|| {
            Arc::new(Watch {
                log: opened.log,
                name: opened.name.as_str().into(),
                target: AtomicU64::new(opened.head),
                state: Mutex::new(Watched {
                    rule: opened.rule,
                    tail: Tail::new(opened.head, Arc::clone(&self.budget)),
                    sockets: Vec::new(),
                    free: BTreeSet::new(),
                    pending: false,
                    snapshot,
                    asked: snapshot,
                    closed: false,
                }),
            })
        });
        Arc::clone(&entry)
    }

    /// A log's state is kept by another rule: that says whether snapshots are asked for.
    pub(super) fn ruled(&self, log: u64, rule: SnapshotRule) {
        let Some(watch) = self.watch(log) else { return };
        let newest = if rule == SnapshotRule::Client { self.newest_snapshot(log) } else { 0 };
        let mut watched = watch.lock();
        watched.rule = rule;
        (watched.snapshot, watched.asked) = (newest, newest);
    }

    fn newest_snapshot(&self, log: u64) -> u64 {
        let row = self.store.log_row(log).ok().flatten();
        row.and_then(|row| row.newest_snapshot()).unwrap_or(0)
    }

    /// Asks a pump to serve a socket, once.
    pub fn schedule(&self, socket: &Arc<Socket>) {
        if !socket.wants_pump() || socket.queued.swap(true, Ordering::AcqRel) {
            return;
        }
        self.queue.push(Arc::clone(socket));
    }

    /// The client moved cursors: they will be committed with the next round.
    pub fn note_moved(&self, socket: &Arc<Socket>) {
        if !socket.moved.swap(true, Ordering::AcqRel) {
            let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
            moved.push(Arc::clone(socket));
        }
    }

    /// Sockets with cursors to commit, since the last round.
    pub fn take_moved(&self) -> Vec<Arc<Socket>> {
        let moved = std::mem::take(&mut *self.moved.lock().unwrap_or_else(PoisonError::into_inner));
        moved.iter().for_each(|socket| socket.moved.store(false, Ordering::Release));
        moved
    }
}

impl Watched {
    /// How many sockets are subscribed.
    pub(super) fn readers(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    /// Puts the next subscribers from a place on into a slice: where those after them begin.
    pub(super) fn slice(&self, from: usize, slice: &mut Vec<Arc<Socket>>) -> usize {
        let places = self.sockets.get(from..).unwrap_or_default();
        let taken =
            places.iter().enumerate().filter_map(|(at, socket)| Some((at, socket.as_ref()?)));
        let mut upto = self.sockets.len();
        for (at, socket) in taken {
            if slice.len() == SLICE {
                upto = from + at;
                break;
            }
            slice.push(Arc::clone(socket));
        }
        upto
    }

    /// Takes a subscriber's place back. Free ones at the end go, so that the list is no longer than
    /// the last place that is taken.
    fn leave(&mut self, place: u32) {
        let Some(taken) = self.sockets.get_mut(place as usize) else { return };
        if taken.take().is_some() {
            self.free.insert(place);
        }
        while let Some(None) = self.sockets.last() {
            self.sockets.pop();
            self.free.pop_last();
        }
        if self.sockets.len() < self.sockets.capacity() / 4 {
            self.sockets.shrink_to(self.sockets.len() * 2);
        }
    }

    /// Gives a subscriber its place.
    fn enter(&mut self, socket: &Arc<Socket>) -> u32 {
        let place = self.free.pop_first().unwrap_or_else(|| {
            self.sockets.push(None);
            u32::try_from(self.sockets.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(free) = self.sockets.get_mut(place as usize) {
            *free = Some(Arc::clone(socket));
        }
        place
    }
}

/// Answers who is subscribed already: the cursor stays, the priority is the new one. None when
/// this socket has no such subscription.
fn tell_again(socket: &Socket, opened: &Opened, request: u32) -> Option<()> {
    let mut inner = socket.lock();
    // What stands before it in the socket's order goes first.
    while let Some(frames) = inner.at.before_again(opened.log) {
        socket.tell(&mut inner, Class::Owed, &frames);
    }
    let frames = inner.at.opened_again(opened, request)?;
    socket.send_now(&mut inner, &frames);
    Some(())
}
