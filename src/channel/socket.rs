//! One socket: its attachment as delivery knows it, its way out, and when it was heard of.
//!
//! Promise: a socket is shared by the task that reads it, the dispatcher that writes records to it
//! and the pumps that catch it up. Whoever holds its lock sees cursors, window and the way out
//! agree.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::face::{Form, Message};
use super::losing::Lost;
use super::pieces::goes_between;
use super::refusals::Refusals;
use super::sink::Sink;
use super::upload::Uploads;
use super::write_out::WriteOut as _;
use crate::connection::Progress;
use crate::delivery::{Attachment, Class, Offer, Owed, Readable, Wrote};
use crate::wire::{Answers, Code, Cursor, Done, Id, Refusal, Refused, ServerFrame, Who};

#[derive(Debug)]
pub(super) struct Inner {
    /// What it is owed.
    pub at: Attachment,
    /// Client-made snapshots on their way up.
    pub uploads: Uploads,
    /// What its row has yet to lose.
    pub lost: Lost,
    reply_share: usize,
    /// Before this, on the node's clock, it may not ask to be activated.
    pub activate_at: u64,
    /// How much the kernel had taken when the keeper last saw that move, and when it did.
    said: (u32, u64),
    /// Bytes of replies that are counted in for this socket.
    counted: usize,
}

/// What all sockets of a node count together.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub(super) refusals: Arc<Refusals>,
    /// Bytes of replies that wait.
    pub(super) replies: Arc<AtomicUsize>,
}

/// The lock of a socket. Where it is let go, the replies that wait are counted: so whoever holds
/// all of them against the node's memory need not walk over the sockets.
#[derive(Debug)]
pub(super) struct Locked<'a> {
    inner: MutexGuard<'a, Inner>,
    all: &'a AtomicUsize,
}

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let now = self.inner.at.outbox.replies();
        let before = std::mem::replace(&mut self.inner.counted, now);
        // Mostly nothing waits, before and after: then nothing that others share is touched.
        if now > before {
            self.all.fetch_add(now - before, Ordering::Relaxed);
        } else if now < before {
            self.all.fetch_sub(before - now, Ordering::Relaxed);
        }
    }
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
    pub(super) form: Form,
    /// Its client numbers every request, and knows `superseded`.
    numbers: bool,
    /// Where what is written goes.
    pub(super) sink: Arc<dyn Sink + Send + Sync>,
    pub(super) counts: Counts,
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
    /// The kernel has it.
    Sent,
    /// The client has it already, or it is not for it.
    Skipped,
    /// A pump has to serve it.
    Behind,
    /// The kernel has some of it, and its rest waits in the way.
    Waits,
    /// The way is blocked: a pump has to serve it once the socket is writable.
    Blocked,
}

impl Socket {
    /// A socket whose client has said Hello. `window` bounds unacknowledged deliveries,
    /// `reply_share` the replies that may wait before its input is left unread; both in bytes.
    /// `numbers`: the client numbers every request, and knows `superseded`.
    #[allow(clippy::too_many_arguments, reason = "made in one place")]
    pub fn new(
        number: u64,
        connection: Id,
        user: String,
        (form, numbers): (Form, bool),
        sink: Arc<dyn Sink + Send + Sync>,
        grants: Arc<dyn Readable>,
        window: u64,
        reply_share: usize,
        counts: Counts,
    ) -> Arc<Self> {
        let inner = Inner {
            at: Attachment::new(grants, window),
            uploads: Uploads::default(),
            lost: Lost::default(),
            reply_share,
            activate_at: 0,
            said: (0, 0),
            counted: 0,
        };
        Arc::new(Self {
            number,
            connection,
            user,
            form,
            numbers,
            sink,
            counts,
            inner: Mutex::new(inner),
            wake: Notify::new(),
            queued: AtomicBool::new(false),
            heard: AtomicU64::new(0),
            pinged: AtomicBool::new(false),
            moved: AtomicBool::new(false),
        })
    }

    pub(super) fn lock(&self) -> Locked<'_> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Locked { inner, all: &self.counts.replies }
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
        let written = inner.at.outbox.written();
        let (before, since) = inner.said;
        let mute = written == before && since != 0 && now.saturating_sub(since) > longest;
        if mute || written != before || since == 0 {
            inner.said = (written, now);
        }
        mute
    }

    /// The generation that commands of this socket name.
    pub fn generation(&self) -> u64 {
        self.lock().at.generation()
    }

    /// Whether its connection holds a channel.
    pub fn active(&self) -> bool {
        self.lock().at.active()
    }

    /// Whether it is being closed.
    pub fn closing(&self) -> bool {
        self.lock().at.closing()
    }

    /// Whether replies have filled their share: input is left unread until they drain.
    pub fn full(&self) -> bool {
        let inner = self.lock();
        inner.at.outbox.replies() > inner.reply_share || inner.at.owes_answers()
    }

    /// Sends a frame, or lets it wait behind what is owed.
    pub(super) fn send_in_turn(&self, frame: ServerFrame) {
        self.in_turn(&mut self.lock(), frame);
    }

    fn in_turn(&self, inner: &mut Inner, frame: ServerFrame) {
        if inner.at.owes() {
            inner.at.owe(Owed::Frame(Box::new(frame)));
        } else {
            self.send_now(inner, &[frame]);
        }
    }

    /// A frame of appends has come, with these sequences first and last.
    pub fn appends(&self, writer: Id, oldest: u64, seqs: (u64, u64)) {
        self.lock().at.appends(writer, oldest, seqs);
    }

    /// Answers a frame of appends, in its turn; its first item named `prev` as sent before it.
    pub(super) fn answer(&self, prev: u64, mut answers: Answers) {
        let mut inner = self.lock();
        inner.at.in_order(prev, &mut answers);
        self.in_turn(&mut inner, ServerFrame::Answers(answers));
    }

    /// The same at once, where all of the frame is to come later.
    pub fn answer_now(&self, prev: u64, mut answers: Answers) {
        let mut inner = self.lock();
        inner.at.in_order(prev, &mut answers);
        self.send_now(&mut inner, &[ServerFrame::Answers(answers)]);
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
        if !inner.at.closing() {
            self.counts.refusals.count_in(frames);
            let message = self.form.message(frames);
            let wrote = if frames.iter().all(goes_between) {
                inner.at.outbox.between(message, &*self.sink)
            } else {
                inner.at.outbox.reply(message, &*self.sink)
            };
            self.after(inner, wrote);
        }
    }

    /// Sends what delivery says comes next.
    pub(super) fn tell(&self, inner: &mut Inner, class: Class, frames: &[ServerFrame]) {
        if class == Class::Owed && !inner.at.owes() {
            // Its input is read again.
            self.wake();
        }
        self.counts.refusals.count_in(frames);
        let message = self.form.message(frames);
        let wrote = inner.at.outbox.reply(message, &*self.sink);
        self.after(inner, wrote);
    }

    /// Raw bytes from the layer of its face (a WebSocket's pongs and closes), through the same way.
    pub fn send_raw(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if self.form.face.closes(bytes) {
            inner.at.outbox.drop_pieces();
        }
        let wrote = inner.at.outbox.between(Bytes::copy_from_slice(bytes), &*self.sink);
        self.after(&mut inner, wrote);
    }

    /// What follows from a write: who waits for the socket to be writable is told, and so is the
    /// end of it.
    pub(super) fn after(&self, inner: &mut Inner, wrote: Wrote) {
        match wrote {
            Wrote::All => {}
            Wrote::Waits | Wrote::Nothing => self.wake(),
            Wrote::Full => self.overflow(inner),
            Wrote::Broken => {
                inner.at.gone();
                self.wake();
            }
        }
    }

    /// The socket is writable: writes what waits; true when the way is free again.
    pub fn flush(&self) -> bool {
        let mut inner = self.lock();
        inner.at.writable();
        match inner.at.outbox.flush(&*self.sink) {
            Wrote::All => true,
            Wrote::Waits | Wrote::Nothing | Wrote::Full => false,
            Wrote::Broken => {
                inner.at.gone();
                true
            }
        }
    }

    /// Bytes that wait to be written.
    pub fn waiting(&self) -> usize {
        self.lock().at.outbox.waiting()
    }

    /// Whether something waits for the socket to be writable.
    pub fn waits(&self) -> bool {
        self.lock().at.waits()
    }

    /// Whether a pump has something to do that the way and the window allow.
    pub(super) fn wants_pump(&self) -> bool {
        self.lock().at.wants_turn()
    }

    /// Before this, on the node's clock, it may not ask to be activated.
    pub fn activate_at(&self) -> u64 {
        self.lock().activate_at
    }

    /// Others do something to it, of which so much is to be told.
    pub(super) fn uninvited(&self, items: usize) {
        let mut inner = self.lock();
        inner.at.uninvited(items);
        self.say_last(&mut inner);
    }

    /// The name of a log it is subscribed to.
    pub fn name_of(&self, log: u64) -> Option<Arc<str>> {
        self.lock().at.name_of(log).map(Arc::clone)
    }

    /// The grants in force.
    pub fn grants(&self) -> Arc<dyn Readable> {
        Arc::clone(self.lock().at.grants())
    }

    /// New grants are in force: logs that they do not cover, to be unsubscribed.
    pub fn regrant(&self, grants: Arc<dyn Readable>) -> Vec<u64> {
        self.lock().at.regrant(grants)
    }

    /// What the console shows.
    pub fn info(&self) -> SocketInfo {
        let inner = self.lock();
        let (sent, received) = inner.at.flow();
        SocketInfo {
            encoding: self.form.encoding.subprotocol(),
            sent,
            received,
            waiting: inner.at.outbox.waiting(),
            cursors: inner.at.cursors().collect(),
            behind: inner.at.behind(),
        }
    }

    /// Has it fall behind a log's records up to `end`, as if they did not fit.
    pub(super) fn hold_back(&self, log: u64, end: u64) -> Offered {
        if self.lock().at.hold_back(log, end) { Offered::Behind } else { Offered::Skipped }
    }

    /// Offers a frame with records `base..end` of a log. The frame is made when the first one
    /// takes it: where nobody stands there, as of a log that is held, never.
    pub(super) fn offer<'a>(
        &self,
        log: u64,
        (base, end): (u64, u64),
        message: impl FnOnce() -> &'a Message,
        now: u64,
    ) -> Offered {
        let mut inner = self.lock();
        let mut made = None;
        let size = || made.insert(message()).counted;
        match (inner.at.offer(now, log, (base, end), size), made) {
            (Offer::Write, Some(message)) => {
                let wrote = self.deliver(&mut inner, message);
                inner.at.wrote(log, end, message.counted, wrote);
                match wrote {
                    Wrote::All => Offered::Sent,
                    Wrote::Waits => Offered::Waits,
                    Wrote::Nothing | Wrote::Full | Wrote::Broken => Offered::Blocked,
                }
            }
            (Offer::Behind, _) if inner.at.waits() => Offered::Blocked,
            (Offer::Behind, _) => Offered::Behind,
            (Offer::Write | Offer::Skip, _) => Offered::Skipped,
        }
    }

    /// The client acknowledged delivery: whether cursors moved, and those that lie past what was
    /// sent.
    ///
    /// # Errors
    /// `bad_offset` when more is acknowledged than was sent.
    pub fn acknowledge(
        &self,
        received: u64,
        cursors: &[Cursor],
    ) -> Result<(bool, Vec<Cursor>), Refusal> {
        self.lock().at.acknowledge(received, cursors)
    }

    /// Takes what waits for a commit.
    pub fn take_acked(&self) -> Progress {
        let mut inner = self.lock();
        let (generation, reached) = (inner.at.generation(), inner.at.take_acked());
        Progress { connection: self.connection, generation, reached }
    }

    /// What could not be committed goes back, to be taken again.
    pub fn put_back(&self, progress: &Progress) {
        self.lock().at.put_back(&progress.reached);
    }

    /// Whether its client works off more: it has since it was last found to, or that was less than
    /// `time` ago, in milliseconds of the hub's clock.
    pub fn progressed(&self, now: u64, time: u64) -> bool {
        self.lock().at.progressed(now, time)
    }

    /// What the client of a socket that is gone had reached, for its last commit.
    pub fn take_last(&self) -> Progress {
        let mut inner = self.lock();
        let (generation, reached) = (inner.at.generation(), inner.at.take_last());
        Progress { connection: self.connection, generation, reached }
    }

    /// Takes a question up who has a record, whose look takes at most so many subscribers in.
    ///
    /// # Errors
    /// `overloaded` where as many questions of this socket wait as may.
    pub fn ask_who(&self, who: Who, most: usize) -> Result<(), Refusal> {
        self.lock().at.ask_who(who, most)
    }

    /// Answers a request that is done.
    pub(super) fn done(&self, request: u32) {
        self.send(&[ServerFrame::Done(Done { request })]);
    }

    /// Refuses a request.
    pub(super) fn refuse(&self, request: u32, refusal: Refusal) {
        self.send(&[ServerFrame::Refused(Refused { request, name: None, refusal })]);
    }

    /// What is said of a request whose place another took.
    pub(super) fn superseded(&self, message: &str) -> Refusal {
        // Who does not know that code is told the nearest one there was.
        let code = if self.numbers { Code::Superseded } else { Code::Stale };
        Refusal::because(code, message)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        // What it was counted in with is nobody's any more.
        self.counts.replies.fetch_sub(inner.counted, Ordering::Relaxed);
    }
}
