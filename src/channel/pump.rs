//! Catch-up: sockets that are behind read on from their cursors, a slice at a time.
//!
//! A few threads serve a queue of sockets; each turn sends one socket one slice of one log: by
//! priority, then round robin over its logs. What a turn holds is one slice, whatever the lag, so
//! the memory that a behind reader costs is a constant (promise 5). A turn ends when the way or
//! the window is full; the socket's task or the next acknowledgement asks for another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::closing::Closing;
use super::due::tell_due;
use super::encode::{self, DELIVERY_BYTES, Message, control};
use super::hub::{Hub, Watch};
use super::socket::{Inner, Phase, Socket};
use super::way::Wrote;
use super::who;
use crate::connection::{BaseFrom, Opened, Wanted, open};
use crate::log::rows::{RowsError, Table};
use crate::log::{SnapshotAt, Stored};
use crate::wire::{
    BaseAt, BaseHeld, Code, Gap, GapReason, Reset, ResetReason, ServerFrame, SnapshotRule, Start,
    Subscribed, Upto,
};

/// Most records in one slice.
const SLICE_RECORDS: usize = 1024;
/// Openings told in one message.
pub(super) const ANNOUNCE_MOST: usize = 64;

/// The catch-up threads of a node.
#[derive(Debug)]
pub struct Pumps {
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pumps {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        hub: &Arc<Hub>,
        clock: &Arc<dyn Fn() -> u64 + Send + Sync>,
        count: usize,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for _ in 0..count {
            let (hub, clock, stop) = (Arc::clone(hub), Arc::clone(clock), Arc::clone(&stop));
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Some(socket) = hub.next_work() {
                        serve(&hub, &socket, clock());
                    }
                }
            };
            threads.push(std::thread::Builder::new().name("pump".to_owned()).spawn(work)?);
        }
        Ok(Self { stop, threads: Mutex::new(threads) })
    }

    /// Ends the threads and waits for them.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has told its panic already.
            thread.join().ok();
        }
    }
}

/// One turn of a socket, and its place in the queue again if there is more.
pub(super) fn serve(hub: &Arc<Hub>, socket: &Arc<Socket>, now: u64) {
    match catch_unwind(AssertUnwindSafe(|| turn(hub, socket, now))) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, connection = %socket.connection, "catch-up could not read");
            socket.close(&Closing::new(Code::Failed));
        }
        // The panic has told itself. The thread goes on, for the others.
        Err(_) => socket.close(&Closing::new(Code::Failed)),
    }
    socket.queued.store(false, Ordering::Release);
    hub.schedule(socket);
}

/// What a turn is for.
enum Work {
    /// A slice of a log.
    Log(Job),
    /// A look at who has a record.
    Look,
}

/// What a turn has to read, taken out of the socket's lock.
struct Job {
    log: u64,
    epoch: u64,
    cursor: u64,
    watch: Arc<Watch>,
    what: What,
}

enum What {
    Latest { offset: u64, after: Option<Vec<u8>> },
    Base { snapshot: Box<SnapshotAt>, part: u32 },
    Records,
}

/// What was read for a job.
enum Slice {
    /// A delivery, the cursor after it and the phase to go on with.
    Message { message: Message, cursor: u64, phase: Phase },
    /// A range that is no longer kept, up to here.
    Gap { to: u64 },
    /// There is nothing more at the moment.
    Empty,
    /// There will be nothing more: the log is gone, and that is about to be told.
    Over,
    /// The base is no longer there: the log is opened anew.
    Reopen(Box<Opened>),
}

fn turn(hub: &Arc<Hub>, socket: &Arc<Socket>, now: u64) -> Result<(), RowsError> {
    let job = match next_job(socket, now) {
        None => return Ok(()),
        Some(Work::Look) => return who::serve(hub, socket, now),
        Some(Work::Log(job)) => job,
    };
    let slice = read(hub, &job, socket)?;
    let caught_up = match slice {
        Slice::Empty => true,
        Slice::Over => {
            rest(socket, &job);
            false
        }
        slice => put(hub, socket, &job, slice, now),
    };
    if caught_up {
        settle(socket, &job);
    }
    Ok(())
}

/// Sends what needs no reading, then picks the log to serve.
fn next_job(socket: &Arc<Socket>, now: u64) -> Option<Work> {
    let mut inner = socket.lock();
    if inner.closing || inner.blocked {
        return None;
    }
    match inner.way.flush(&*socket.tcp) {
        Wrote::All => {}
        Wrote::Waits | Wrote::Nothing | Wrote::Full => {
            socket.wake();
            return None;
        }
        Wrote::Broken => {
            inner.closing = true;
            socket.wake();
            return None;
        }
    }
    if tell_due(socket, &mut inner) {
        return None;
    }
    let others = !inner.announce.is_empty() || !inner.behind.is_empty();
    if inner.looks.turn(others) {
        return Some(Work::Look);
    }
    if !inner.readable(now) {
        return None;
    }
    if announce(socket, &mut inner) || !inner.open() {
        return None;
    }
    let (log, sub) = loop {
        let (priority, log) = {
            let (priority, logs) = inner.behind.iter_mut().next()?;
            (*priority, logs.pop_front())
        };
        match log.and_then(|log| Some((log, inner.subs.get(&log)?))) {
            Some(found) => break found,
            None => {
                inner.behind.retain(|known, logs| *known != priority || !logs.is_empty());
            }
        }
    };
    let what = match &sub.phase {
        Phase::Latest { offset, after } => What::Latest { offset: *offset, after: after.clone() },
        Phase::Base { snapshot, part } => What::Base { snapshot: snapshot.clone(), part: *part },
        Phase::Announce { .. } | Phase::Held | Phase::Behind | Phase::Live => What::Records,
    };
    let (epoch, cursor, watch) = (sub.epoch, sub.cursor, Arc::clone(&sub.watch));
    let job = Job { log, epoch, cursor, watch, what };
    inner.tidy_behind();
    Some(Work::Log(job))
}

/// Tells how logs are opened, many to a message.
pub(super) fn announce(socket: &Socket, inner: &mut Inner) -> bool {
    let mut frames = Vec::new();
    let sent = inner.sent;
    for _ in 0..ANNOUNCE_MOST {
        let Some(log) = inner.announce.pop_front() else { break };
        let Some(sub) = inner.subs.get_mut(&log) else { continue };
        let Phase::Announce { opened, request } = std::mem::replace(&mut sub.phase, Phase::Behind)
        else {
            continue;
        };
        (sub.since, sub.told) = (sent, true);
        if opened.held {
            sub.phase = Phase::Held;
            tell_opened(&opened, request, &mut frames);
            continue;
        }
        sub.phase = match base_phase(&opened) {
            // It has all there is, and is offered what comes next.
            Phase::Behind if sub.cursor >= sub.watch.target() => Phase::Live,
            phase => {
                inner.behind.entry(sub.priority).or_default().push_back(log);
                phase
            }
        };
        tell_opened(&opened, request, &mut frames);
    }
    if frames.is_empty() {
        return false;
    }
    let message = control(&frames, socket.encoding);
    finish(socket, inner, |inner| inner.way.reply(message, &*socket.tcp));
    true
}

/// What is sent first: the base, from where the reader has come in it.
fn base_phase(opened: &Opened) -> Phase {
    match (&opened.base, &opened.upto) {
        (Some(BaseFrom::Latest(offset)), upto) => {
            let after = match upto {
                Some(Upto::Key(key)) => Some(key.as_bytes().to_vec()),
                Some(Upto::Parts(_)) | None => None,
            };
            Phase::Latest { offset: *offset, after }
        }
        (Some(BaseFrom::Client(snapshot)), upto) => {
            let part = match upto {
                Some(Upto::Parts(parts)) => *parts,
                Some(Upto::Key(_)) | None => 0,
            };
            Phase::Base { snapshot: Box::new(snapshot.clone()), part }
        }
        (None, _) => Phase::Behind,
    }
}

/// The frames that open a log: `subscribed`, then `reset` and `gap` where they apply.
pub(super) fn tell_opened(opened: &Opened, request: u32, frames: &mut Vec<ServerFrame>) {
    let Opened { log, rule, priority, start, head, cursor, complete, .. } = *opened;
    let reset = opened.reset.is_some();
    let name = opened.name.clone();
    let goes_on = opened.base.as_ref().zip(opened.upto.clone());
    let begun = goes_on.map(|(base, upto)| BaseHeld { log, offset: base.offset(), upto });
    frames.push(ServerFrame::Subscribed(Subscribed {
        request,
        name,
        log,
        priority,
        rule,
        start,
        head,
        cursor,
        complete,
        reset,
        made: opened.made,
        held: opened.held,
        base: begun,
    }));
    if let Some(reason) = opened.reset {
        let base = opened.base.as_ref().map(|base| match base {
            BaseFrom::Latest(offset) => {
                BaseAt { rule: SnapshotRule::Latest, offset: *offset, version: 0 }
            }
            BaseFrom::Client(snapshot) => BaseAt {
                rule: SnapshotRule::Client,
                offset: snapshot.offset,
                version: snapshot.version,
            },
        });
        frames.push(ServerFrame::Reset(Reset { log, reason, base, cursor, complete }));
    }
    frames.extend(opened.gap.clone().map(ServerFrame::Gap));
}

pub(super) fn finish(
    socket: &Socket,
    inner: &mut Inner,
    write: impl FnOnce(&mut Inner) -> Wrote,
) -> Wrote {
    let wrote = write(inner);
    match wrote {
        Wrote::All => {}
        Wrote::Waits | Wrote::Nothing => socket.wake(),
        Wrote::Full => socket.overflow(inner),
        Wrote::Broken => {
            inner.closing = true;
            socket.wake();
        }
    }
    wrote
}

fn read(hub: &Hub, job: &Job, socket: &Socket) -> Result<Slice, RowsError> {
    match &job.what {
        What::Records => read_records(hub, job, socket),
        What::Latest { offset, after } => {
            let page = hub.store.latest_page(job.log, after.as_deref(), *offset, DELIVERY_BYTES)?;
            let last = page.next.is_none();
            // Read after the page: whatever the page left out lies below this head, and rows have
            // gone from it by another rule only where that rule is seen by now.
            let row = hub.store.log_row(job.log)?;
            if row.as_ref().is_some_and(|row| !row.deleted && row.rule != SnapshotRule::Latest) {
                return reopen(hub, job);
            }
            let head = row.map_or(job.cursor, |row| row.head);
            let to = (socket.form(), &hub.encoded);
            let message = encode::base_records(job.log, *offset, &page.entries, last, head, to);
            let phase = match page.next {
                Some(after) => Phase::Latest { offset: *offset, after: Some(after) },
                None => Phase::Behind,
            };
            Ok(Slice::Message { message, cursor: job.cursor, phase })
        }
        What::Base { snapshot, part } => {
            let Some(data) = hub.store.snapshot_part(job.log, snapshot.upload, *part)? else {
                return reopen(hub, job);
            };
            let last = part + 1 >= snapshot.parts;
            let to = (socket.form(), &hub.encoded);
            let message = encode::base(job.log, snapshot.offset, *part, last, data, to);
            let phase = if last {
                Phase::Behind
            } else {
                Phase::Base { snapshot: snapshot.clone(), part: part + 1 }
            };
            Ok(Slice::Message { message, cursor: job.cursor, phase })
        }
    }
}

fn read_records(hub: &Hub, job: &Job, socket: &Socket) -> Result<Slice, RowsError> {
    let tail = job.watch.lock().tail.read(job.cursor, DELIVERY_BYTES);
    let (first, stored) = match tail {
        Some(stored) => (job.cursor, stored),
        None => match read_stored(hub, job)? {
            Ok(found) => found,
            Err(nothing) => return Ok(nothing),
        },
    };
    if first > job.cursor {
        return Ok(Slice::Gap { to: first });
    }
    let message = encode::records(job.log, first, &stored, socket.form(), &hub.encoded);
    let cursor = first + stored.len() as u64;
    Ok(Slice::Message { message, cursor, phase: Phase::Behind })
}

/// Records and the offset of the first.
type Found = (u64, Vec<Arc<Stored>>);

/// The next records of the store, or why there are none.
///
/// # Errors
/// Also when the log's row says that there are some: whoever waited for them would wait for ever.
fn read_stored(hub: &Hub, job: &Job) -> Result<Result<Found, Slice>, RowsError> {
    let mut ought_to_be = false;
    loop {
        let read = hub.store.records(job.log, job.cursor, SLICE_RECORDS, DELIVERY_BYTES)?;
        if let Some((first, _)) = read.first() {
            let first = *first;
            return Ok(Ok((first, read.into_iter().map(|(_, stored)| Arc::new(stored)).collect())));
        }
        match hub.store.log_row(job.log)? {
            Some(row) if row.deleted => return Ok(Err(Slice::Over)),
            None => return Ok(Err(Slice::Over)),
            Some(row) if row.start > job.cursor => return Ok(Err(Slice::Gap { to: row.start })),
            Some(row) if row.head <= job.cursor => return Ok(Err(Slice::Empty)),
            Some(row) if ought_to_be => {
                let problem =
                    format!("log {}: {} to {} are missing", job.log, job.cursor, row.head);
                return Err(RowsError::Damaged { table: Table::Records.name(), problem });
            }
            // It may have come, or have been trimmed, between the two looks.
            Some(_) => ought_to_be = true,
        }
    }
}

/// Nothing more comes of a log: its subscription costs no turn until it is ended.
fn rest(socket: &Socket, job: &Job) {
    let mut inner = socket.lock();
    if let Some(sub) = inner.subs.get_mut(&job.log).filter(|sub| sub.epoch == job.epoch) {
        sub.phase = Phase::Live;
    }
}

/// The base that was being sent is no longer there: a newer snapshot took its place, or another
/// rule holds.
fn reopen(hub: &Hub, job: &Job) -> Result<Slice, RowsError> {
    let Some(row) = hub.store.log_row(job.log)? else { return Ok(Slice::Empty) };
    let wanted = Wanted {
        history: Default::default(),
        have: None,
        begun: None,
        start: Start::State,
        committed: None,
        priority: 0,
        because: ResetReason::Trimmed,
    };
    let mut opened = open(job.log, &row, &wanted);
    opened.made = hub.eras().position(row.made);
    Ok(Slice::Reopen(Box::new(opened)))
}

/// Writes what was read, if the subscription still stands where it was read for. Returns whether
/// it may have caught up.
fn put(hub: &Arc<Hub>, socket: &Arc<Socket>, job: &Job, slice: Slice, now: u64) -> bool {
    let mut inner = socket.lock();
    let readable = inner.readable(now);
    let Some(sub) = inner.subs.get_mut(&job.log).filter(|sub| sub.epoch == job.epoch) else {
        return false;
    };
    let priority = sub.priority;
    let again = |inner: &mut Inner| {
        inner.behind.entry(priority).or_default().push_back(job.log);
        false
    };
    // One that could send nothing has not had its turn: where the window takes a few frames each
    // time, the same log would else find it full again and again.
    let keeps_its_turn = |inner: &mut Inner| {
        inner.behind.entry(priority).or_default().push_front(job.log);
        false
    };
    match slice {
        Slice::Empty | Slice::Over => false,
        Slice::Reopen(mut opened) => {
            opened.priority = priority;
            sub.cursor = opened.cursor;
            sub.phase = Phase::Announce { opened, request: 0 };
            inner.announce.push_back(job.log);
            false
        }
        Slice::Gap { to } => {
            let (log, from, reason) = (job.log, job.cursor, GapReason::Trimmed);
            sub.cursor = to;
            let frame = ServerFrame::Gap(Gap { log, from, to, reason });
            let message = control(&[frame], socket.encoding);
            finish(socket, &mut inner, |inner| inner.way.reply(message, &*socket.tcp));
            again(&mut inner)
        }
        Slice::Message { message, cursor, phase } => {
            if !readable {
                return keeps_its_turn(&mut inner);
            }
            if !inner.fits(message.counted) {
                inner.no_room_at = Some(inner.received);
                return keeps_its_turn(&mut inner);
            }
            let deliver = |inner: &mut Inner| socket.deliver(inner, &message);
            match finish(socket, &mut inner, deliver) {
                Wrote::All | Wrote::Waits => {
                    hub.delivered.fetch_add(1, Ordering::Relaxed);
                    inner.sent += message.counted;
                    let mut may_be_done = false;
                    if let Some(sub) = inner.subs.get_mut(&job.log) {
                        sub.cursor = cursor;
                        may_be_done = matches!(phase, Phase::Behind);
                        sub.phase = phase;
                    }
                    if !may_be_done {
                        again(&mut inner);
                    }
                    may_be_done
                }
                Wrote::Nothing | Wrote::Full => {
                    inner.blocked = true;
                    keeps_its_turn(&mut inner)
                }
                Wrote::Broken => false,
            }
        }
    }
}

/// Makes a subscription live if it has caught up with what the dispatcher has begun to send; else
/// it waits for its next turn. Decided under the socket's lock, see [`Watch::target`].
fn settle(socket: &Arc<Socket>, job: &Job) {
    let mut inner = socket.lock();
    let Some(sub) = inner.subs.get_mut(&job.log).filter(|sub| sub.epoch == job.epoch) else {
        return;
    };
    if sub.cursor >= job.watch.target() {
        sub.phase = Phase::Live;
    } else {
        let priority = sub.priority;
        inner.behind.entry(priority).or_default().push_back(job.log);
    }
}

#[cfg(test)]
mod tests;
