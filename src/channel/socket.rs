//! One socket: what it may read, where each of its logs stands, and what is on its way out.
//!
//! A socket is shared by the task that reads it, the dispatcher that writes records to it and the
//! pumps that catch it up. Whoever holds its lock sees cursors, window and the way out agree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::due::Due;
use super::encode::{Message, control};
use super::hub::Watch;
use super::pieces::{WS_CLOSE, goes_between};
use super::readable::Readable;
use super::refusals::Refusals;
use super::upload::Uploads;
use super::way::{Way, Wrote};
use super::who::Looks;
use crate::connection::{Opened, Reached};
use crate::wire::{Cursor, Encoding, Id, ServerFrame};

/// How far a subscription has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Its opening is to be told first.
    Announce { opened: Box<Opened>, request: u32 },
    /// Its client has not opened it: nothing is delivered, and it costs no turn of a pump.
    Held,
    /// A `latest` base is being sent: after this key.
    Latest { offset: u64, after: Option<Vec<u8>> },
    /// A client-made base is being sent: this part is next.
    Base { snapshot: Box<crate::log::SnapshotAt>, part: u32 },
    /// Records are read for it by a pump.
    Behind,
    /// Caught up: the dispatcher writes to it.
    Live,
}

/// One subscription of a socket.
#[derive(Debug)]
pub(super) struct Sub {
    pub watch: Arc<Watch>,
    /// Its place among the watch's subscribers.
    pub slot: usize,
    /// Next offset to send.
    pub cursor: u64,
    pub priority: u8,
    pub phase: Phase,
    /// Told apart from an earlier subscription to the same log.
    pub epoch: u64,
    /// The fold's number for the opening that set its cursor; commits name it.
    pub opening: u64,
    /// Bytes of delivery that were sent when the opening was told. A client that has worked off
    /// no more may not have heard of it, and then its word on this log is of the time before.
    pub since: u64,
    /// What the client has acknowledged and no commit has carried yet.
    pub acked: Option<u64>,
    /// The client has heard of the subscription: its log id was announced.
    pub told: bool,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub way: Way,
    /// By log; boxed, for a map sets memory aside for eleven, and most sockets have few.
    pub subs: BTreeMap<u64, Box<Sub>>,
    /// Logs that a pump has to serve, by priority; each log stands here at most once.
    pub behind: BTreeMap<u8, VecDeque<u64>>,
    /// Logs whose opening is to be told, before anything is caught up.
    pub announce: VecDeque<u64>,
    /// What must go out before any reset or snapshot.
    pub due: VecDeque<Due>,
    /// What others have done to it since nothing was due.
    pub uninvited: usize,
    pub grants: Arc<dyn Readable>,
    /// When the grants end, as they say: each delivery looks at it.
    pub expires: u64,
    pub sent: u64,
    pub received: u64,
    /// What was received when the keeper last found that it moves, and when; none: it has not
    /// looked.
    pub looked_at: Option<(u64, u64)>,
    pub window: u64,
    pub reply_share: usize,
    /// What was acknowledged when a frame last found no room in the window: until that moves,
    /// another try would find none either.
    pub no_room_at: Option<u64>,
    pub generation: u64,
    pub active: bool,
    /// Delivery is held: the token ended, or was revoked.
    pub held: bool,
    pub closing: bool,
    /// The kernel took nothing of a delivery: nothing is offered until the socket is writable.
    pub blocked: bool,
    /// The client said it leaves.
    pub leaving: bool,
    /// Client-made snapshots on their way up.
    pub uploads: Uploads,
    /// Questions who has a record.
    pub looks: Looks,
    /// Logs that were announced before it became inactive.
    pub announced: Vec<u64>,
    /// Whether the client was told that its token has ended.
    pub told_expired: bool,
    /// Before this, on the node's clock, it may not ask to be activated.
    pub activate_at: u64,
    /// Cursors of subscriptions that ended with the socket, still to be committed.
    pub last: Vec<Reached>,
    /// How much the kernel had taken when the keeper last saw that move, and when it did.
    pub said: (u32, u64),
    epochs: u64,
}

/// What its client said it is able to, as far as delivery and answers depend on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Abilities {
    /// It numbers every request, and knows `superseded`.
    pub numbers: bool,
    /// It puts parts together.
    pub parts: bool,
}

/// One attachment of a connection.
#[derive(Debug)]
pub struct Socket {
    /// Number of the socket on this node.
    pub number: u64,
    /// The connection; known from Hello on.
    pub connection: Id,
    /// Whose it is.
    pub user: String,
    /// How it is written.
    pub encoding: Encoding,
    pub(super) abilities: Abilities,
    pub(super) tcp: Arc<TcpStream>,
    pub(super) refusals: Arc<Refusals>,
    inner: Mutex<Inner>,
    /// Wakes the task of the socket: something waits for it to be writable, or it is closing.
    wake: Notify,
    /// Whether a pump has it in its queue.
    pub(super) queued: AtomicBool,
    /// When something was last heard of it, milliseconds of the hub's clock.
    pub(super) heard: AtomicU64,
    pub(super) pinged: AtomicBool,
    /// Whether it stands on the hub's list of those with cursors to commit.
    pub(super) moved: AtomicBool,
}

/// What the console and the API show of a socket.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SocketInfo {
    /// Its encoding's subprotocol.
    pub encoding: &'static str,
    /// Bytes of delivery sent.
    pub sent: u64,
    /// Bytes of delivery acknowledged.
    pub received: u64,
    /// Bytes that wait in its way out.
    pub waiting: usize,
    /// Next offset to send, by log id.
    pub cursors: Vec<Cursor>,
    /// Logs it is behind on.
    pub behind: usize,
}

/// What an offered frame came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offered {
    /// Sent, or had already.
    Sent,
    /// It does not stand there, or its way is blocked: a pump has to serve it.
    Behind,
    /// The way is blocked, and the frame's rest waits in it.
    Waits,
    /// The socket is gone.
    Gone,
}

impl Socket {
    /// A socket whose client has said Hello. `window` bounds unacknowledged deliveries,
    /// `reply_share` the replies that may wait before its input is left unread; both in bytes.
    /// `parts`: the client puts parts together.
    #[allow(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        number: u64,
        connection: Id,
        user: String,
        (encoding, abilities): (Encoding, Abilities),
        tcp: Arc<TcpStream>,
        grants: Arc<dyn Readable>,
        window: u64,
        reply_share: usize,
        refusals: Arc<Refusals>,
    ) -> Arc<Self> {
        let inner = Inner {
            way: Way::default(),
            subs: BTreeMap::new(),
            behind: BTreeMap::new(),
            announce: VecDeque::new(),
            due: VecDeque::new(),
            uninvited: 0,
            expires: grants.expires(),
            grants,
            sent: 0,
            received: 0,
            looked_at: None,
            window,
            reply_share,
            no_room_at: None,
            generation: 0,
            active: false,
            held: false,
            closing: false,
            blocked: false,
            leaving: false,
            uploads: Uploads::default(),
            looks: Looks::default(),
            announced: Vec::new(),
            told_expired: false,
            activate_at: 0,
            last: Vec::new(),
            said: (0, 0),
            epochs: 0,
        };
        Arc::new(Self {
            number,
            connection,
            user,
            encoding,
            abilities,
            tcp,
            refusals,
            inner: Mutex::new(inner),
            wake: Notify::new(),
            queued: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            pinged: AtomicBool::new(false),
            moved: AtomicBool::new(false),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the socket's task has something to do: flush or close.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Something was heard of the client.
    pub fn hear(&self, now: u64) {
        self.heard.store(now, Ordering::Relaxed);
        self.pinged.store(false, Ordering::Relaxed);
    }

    /// Whether nothing was said to the client for longer than that, in milliseconds of the hub's
    /// clock, as the keeper sees it from time to time; from now on it counts anew. A client that
    /// sends one large message cannot ask meanwhile whether anybody is there: it has to be told.
    pub(super) fn was_mute(&self, now: u64, longest: u64) -> bool {
        let mut inner = self.lock();
        let written = inner.way.written();
        let (before, since) = inner.said;
        let mute = written == before && since != 0 && now.saturating_sub(since) > longest;
        if mute || written != before || since == 0 {
            inner.said = (written, now);
        }
        mute
    }

    /// The generation that commands of this socket name.
    pub fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// Whether its connection holds a channel.
    pub fn active(&self) -> bool {
        self.lock().active
    }

    /// Whether it is being closed.
    pub fn closing(&self) -> bool {
        self.lock().closing
    }

    /// Whether replies have filled their share: input is left unread until they drain.
    pub fn full(&self) -> bool {
        let inner = self.lock();
        inner.way.replies() > inner.reply_share || !inner.due.is_empty()
    }

    /// Sends a frame, or lets it wait behind what is due.
    pub(super) fn send_in_turn(&self, frame: ServerFrame) {
        let mut inner = self.lock();
        if inner.due.is_empty() {
            drop(inner);
            return self.send(&[frame]);
        }
        inner.owe(Due::Frame(Box::new(frame)));
    }

    /// Sends frames in order behind what waits.
    pub fn send(&self, frames: &[ServerFrame]) {
        if frames.is_empty() {
            return;
        }
        let mut inner = self.lock();
        self.send_now(&mut inner, frames);
    }

    /// Like [`Socket::send`], for who holds the lock.
    pub(super) fn send_now(&self, inner: &mut Inner, frames: &[ServerFrame]) {
        if !inner.closing {
            self.refusals.count_in(frames);
            let message = control(frames, self.encoding);
            let wrote = if frames.iter().all(goes_between) {
                inner.way.between(message, &*self.tcp)
            } else {
                inner.way.reply(message, &*self.tcp)
            };
            self.after(inner, wrote);
        }
    }

    /// Raw bytes from the WebSocket layer (pongs, closes), through the same way.
    pub fn send_raw(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if bytes.first().is_some_and(|first| first & 0x0f == WS_CLOSE) {
            inner.way.drop_pieces();
        }
        let wrote = inner.way.between(Bytes::copy_from_slice(bytes), &*self.tcp);
        self.after(&mut inner, wrote);
    }

    fn after(&self, inner: &mut Inner, wrote: Wrote) {
        match wrote {
            Wrote::All | Wrote::Nothing => {}
            Wrote::Waits => self.wake(),
            Wrote::Full => self.overflow(inner),
            Wrote::Broken => {
                inner.closing = true;
                self.wake();
            }
        }
    }

    /// The socket is writable: writes what waits; true when the way is free again.
    pub fn flush(&self) -> bool {
        let mut inner = self.lock();
        inner.blocked = false;
        match inner.way.flush(&*self.tcp) {
            Wrote::All => true,
            Wrote::Waits | Wrote::Nothing | Wrote::Full => false,
            Wrote::Broken => {
                inner.closing = true;
                true
            }
        }
    }

    /// Bytes that wait to be written, and how many of them are replies.
    pub fn waiting(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.way.waiting(), inner.way.replies())
    }

    /// Whether something waits for the socket to be writable.
    pub fn waits(&self) -> bool {
        let inner = self.lock();
        inner.way.busy() || inner.blocked
    }

    /// Whether a pump has something to do that the way and the window allow.
    pub(super) fn wants_pump(&self) -> bool {
        let inner = self.lock();
        inner.wants_pump()
    }

    /// Before this, on the node's clock, it may not ask to be activated.
    pub fn activate_at(&self) -> u64 {
        self.lock().activate_at
    }

    /// Those of the logs that were announced before it became inactive; each is told once.
    pub(super) fn take_announced(&self, logs: &[u64]) -> Vec<u64> {
        let mut inner = self.lock();
        let known = |log: &u64| inner.announced.binary_search(log).is_ok();
        let found: BTreeSet<u64> = logs.iter().copied().filter(known).collect();
        if !found.is_empty() {
            inner.announced.retain(|log| !found.contains(log));
        }
        found.into_iter().collect()
    }

    /// The name of a log it is subscribed to.
    pub fn name_of(&self, log: u64) -> Option<String> {
        self.lock().subs.get(&log).map(|sub| sub.watch.name.clone())
    }

    /// The grants in force.
    pub fn grants(&self) -> Arc<dyn Readable> {
        Arc::clone(&self.lock().grants)
    }

    /// New grants are in force: logs that they do not cover, to be unsubscribed.
    pub fn regrant(&self, grants: Arc<dyn Readable>) -> Vec<u64> {
        let mut inner = self.lock();
        inner.held = false;
        inner.told_expired = false;
        inner.expires = grants.expires();
        inner.grants = grants;
        let grants = Arc::clone(&inner.grants);
        let lost = |sub: &Sub| !grants.may_read(&sub.watch.name);
        let lost: Vec<u64> =
            inner.subs.iter().filter(|(_, sub)| lost(sub)).map(|(log, _)| *log).collect();
        inner.announce.retain(|log| !lost.contains(log));
        for log in &lost {
            let epoch = inner.next_epoch();
            // An opening that is still to be told is answered when the subscription ends.
            if let Some(sub) = inner.subs.get_mut(log).filter(|sub| sub.owed().is_none()) {
                // Past any offset: neither the dispatcher nor a pump sends it anything more.
                (sub.epoch, sub.phase, sub.cursor) = (epoch, Phase::Live, u64::MAX);
                sub.acked = None;
            }
        }
        lost
    }

    /// What the console shows.
    pub fn info(&self) -> SocketInfo {
        let inner = self.lock();
        let cursors =
            inner.subs.iter().map(|(log, sub)| Cursor { log: *log, next: sub.cursor }).collect();
        SocketInfo {
            encoding: self.encoding.subprotocol(),
            sent: inner.sent,
            received: inner.received,
            waiting: inner.way.waiting(),
            cursors,
            behind: inner.behind.values().map(VecDeque::len).sum(),
        }
    }

    /// Offers a frame with records `base..end` of a log to a caught-up socket. The frame is made
    /// when the first one takes it: where nobody stands there, as of a log that is held, never.
    pub(super) fn offer<'a>(
        &self,
        log: u64,
        base: u64,
        end: u64,
        message: impl FnOnce() -> &'a Message,
        now: u64,
    ) -> Offered {
        let mut inner = self.lock();
        if inner.closing {
            return Offered::Gone;
        }
        let readable = inner.readable(now);
        let Some(sub) = inner.subs.get(&log) else { return Offered::Gone };
        if !matches!(sub.phase, Phase::Live) || sub.cursor >= end {
            return Offered::Sent;
        }
        if sub.cursor != base || !readable {
            inner.fall_behind(log);
            return Offered::Behind;
        }
        let message = message();
        if !inner.fits(message.counted) {
            inner.fall_behind(log);
            return Offered::Behind;
        }
        let wrote = self.deliver(&mut inner, message);
        match wrote {
            Wrote::All | Wrote::Waits => {
                inner.sent += message.counted;
                if let Some(sub) = inner.subs.get_mut(&log) {
                    sub.cursor = end;
                }
                if wrote == Wrote::All { Offered::Sent } else { Offered::Waits }
            }
            Wrote::Nothing | Wrote::Full => {
                inner.blocked = true;
                inner.fall_behind(log);
                Offered::Waits
            }
            Wrote::Broken => {
                inner.closing = true;
                Offered::Gone
            }
        }
    }
}

impl Inner {
    /// Whether delivery is allowed at this moment: promise 11. A token that has ended holds it
    /// until there are new grants.
    pub(super) fn readable(&mut self, now: u64) -> bool {
        self.held |= self.expires != 0 && now >= self.expires;
        self.active && !self.held && !self.closing && !self.leaving
    }

    /// Whether the window has room; an empty one takes a frame of any size.
    pub(super) const fn fits(&self, counted: u64) -> bool {
        self.sent == self.received || self.sent - self.received + counted <= self.window
    }

    /// Whether the window may have room for something.
    pub(super) fn open(&self) -> bool {
        let some = self.sent == self.received || self.sent - self.received < self.window;
        some && self.no_room_at != Some(self.received)
    }

    pub(super) fn wants_pump(&self) -> bool {
        let catch_up = !self.announce.is_empty() || (!self.behind.is_empty() && self.open());
        let asked = !self.due.is_empty() || self.looks.wait();
        let work = asked || (catch_up && !self.held && !self.leaving);
        work && !self.blocked && !self.way.busy() && !self.closing
    }

    /// A live subscription has to be read on from its cursor.
    pub(super) fn fall_behind(&mut self, log: u64) {
        if let Some(sub) = self.subs.get_mut(&log) {
            if matches!(sub.phase, Phase::Live) {
                sub.phase = Phase::Behind;
            }
            self.behind.entry(sub.priority).or_default().push_back(log);
        }
    }

    /// Takes away priorities at which nothing is behind, and the map's memory with the last.
    pub(super) fn tidy_behind(&mut self) {
        self.behind.retain(|_, logs| !logs.is_empty());
        if self.behind.is_empty() {
            self.behind = BTreeMap::new();
        }
    }

    pub(super) fn next_epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }
}
