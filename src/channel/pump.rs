//! Catch-up: sockets that are behind read on from their cursors, a slice at a time.
//!
//! Promise: what a turn holds is one slice, whatever the lag, so the memory that a behind reader
//! costs is a constant (promise 5). A few threads serve a queue of sockets; each turn sends one
//! socket one slice of one log: by priority, then round robin over its logs. One of them serves
//! only what is in memory, and so waits for no disk. A turn ends when the
//! outbox or the window is full; the socket's task or the next acknowledgement asks for another.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::encode::{self, DELIVERY_BYTES};
use super::face::Message;
use super::hub::Hub;
use super::queue::{Reads, Work};
use super::socket::Socket;
use super::who;
use super::write_out::WriteOut as _;
use crate::connection::{Wanted, open};
use crate::delivery::{Closing, Found, Offer, Output, Owed, Read, Slice, Wrote};
use crate::fold::position_of;
use crate::log::{SnapshotAt, Stored};
use crate::rows::{RowsError, Table};
use crate::wire::{Code, Ping, Position, ResetReason, ServerFrame, SnapshotRule, Start};

/// Most records in one slice.
const SLICE_RECORDS: usize = 1024;
/// How often a node that does not know what its journal holds looks whether it does again.
const SHUT: Duration = Duration::from_millis(20);

/// The catch-up threads of a node.
#[derive(Debug)]
pub struct Pumps {
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pumps {
    /// Starts `count` threads that may read the disk, and one that serves what is in memory. They
    /// rest while nothing is to be told.
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
        for at in 0..=count {
            let reads = if at == 0 { Reads::Memory } else { Reads::Disk };
            let (hub, clock, stop) = (Arc::clone(hub), Arc::clone(clock), Arc::clone(&stop));
            let work = move || {
                while !stop.load(Ordering::Relaxed) {
                    // What waits stays in the queue, and goes on from there.
                    if hub.is_cut_off() {
                        std::thread::sleep(SHUT);
                        continue;
                    }
                    match hub.queue.next(reads) {
                        Some(Work::Turn(socket)) => {
                            served(&hub, &socket, || turn(&hub, &socket, reads, clock()));
                        }
                        Some(Work::Read(socket, read)) => {
                            served(&hub, &socket, || act(&hub, &socket, *read, None, clock()));
                        }
                        None => {}
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

/// One turn of a socket, by who may read the disk, and its place in the queue again if there is
/// more.
#[cfg(test)]
pub(super) fn serve(hub: &Arc<Hub>, socket: &Arc<Socket>, now: u64) {
    served(hub, socket, || turn(hub, socket, Reads::Disk, now));
}

/// Does what a socket is owed; then it has its place in the queue again if there is more. What
/// this pump may not do goes to another.
fn served(
    hub: &Arc<Hub>,
    socket: &Arc<Socket>,
    work: impl FnOnce() -> Result<Option<Output>, RowsError>,
) {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(output))) => return hub.queue.hand_on(Arc::clone(socket), output),
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

/// A delivery that was read, the cursor after it and what is read next.
struct Piece {
    message: Message,
    cursor: u64,
    next: Slice,
    /// Where the store stood when it was read, if it depends on records that it does not hold; its
    /// client is told so first.
    stands: Option<Position>,
}

/// One turn of a socket: what is to be read from the disk, where that is another's to do.
fn turn(
    hub: &Arc<Hub>,
    socket: &Arc<Socket>,
    reads: Reads,
    now: u64,
) -> Result<Option<Output>, RowsError> {
    let Some(output) = next(socket, now) else { return Ok(None) };
    let tail = tail(hub, &output);
    if reads == Reads::Memory && tail.is_none() {
        return Ok(Some(output));
    }
    act(hub, socket, output, tail, now)
}

/// The records that are to be read, if they are in memory.
fn tail(hub: &Hub, output: &Output) -> Option<Vec<Arc<Stored>>> {
    let Output::Read(Read { log, cursor, slice: Slice::Records, .. }) = output else { return None };
    hub.watch(*log)?.lock().tail.read(*cursor, DELIVERY_BYTES)
}

/// Does what a turn came to: of records, with those that were found in memory.
fn act(
    hub: &Arc<Hub>,
    socket: &Arc<Socket>,
    output: Output,
    tail: Option<Vec<Arc<Stored>>>,
    now: u64,
) -> Result<Option<Output>, RowsError> {
    match output {
        Output::Look(look) => who::serve(hub, socket, look, now)?,
        Output::Read(read) => match fetch(hub, &read, tail, socket)? {
            Ok(piece) => {
                if let Some(position) = piece.stands {
                    let positions = vec![position];
                    socket.send(&[ServerFrame::Ping(Ping { nonce: 0, positions })]);
                }
                put(hub, socket, &read, piece, now);
            }
            Err(found) => {
                let mut inner = socket.lock();
                if let Found::Reopen(opened) = &found {
                    let stands = Owed::position(hub.position(), std::slice::from_ref(&**opened));
                    stands.into_iter().for_each(|owed| inner.at.owe(owed));
                }
                inner.at.found(&read, found);
            }
        },
        Output::Frames(..) | Output::Close(_) => {}
    }
    Ok(None)
}

/// Sends what needs no reading, or says what is to be read.
fn next(socket: &Arc<Socket>, now: u64) -> Option<Output> {
    let mut inner = socket.lock();
    if inner.at.closing() || inner.at.blocked() {
        return None;
    }
    match inner.at.outbox.flush(&*socket.sink) {
        Wrote::All => {}
        Wrote::Waits | Wrote::Nothing | Wrote::Full => {
            socket.wake();
            return None;
        }
        Wrote::Broken => {
            inner.at.gone();
            socket.wake();
            return None;
        }
    }
    match inner.at.poll(now)? {
        Output::Frames(class, frames) => socket.tell(&mut inner, class, &frames),
        Output::Close(closing) => socket.say(&mut inner, &closing),
        output @ (Output::Read(_) | Output::Look(_)) => return Some(output),
    }
    None
}

/// Reads a slice, or what there is in its place.
fn fetch(
    hub: &Hub,
    read: &Read,
    tail: Option<Vec<Arc<Stored>>>,
    socket: &Socket,
) -> Result<Result<Piece, Found>, RowsError> {
    match &read.slice {
        Slice::Records => read_records(hub, read, tail, socket),
        Slice::Latest { offset, after } => {
            let after = after.as_deref();
            let page = hub.store.latest_page(read.log, after, *offset, DELIVERY_BYTES)?;
            let last = page.next.is_none();
            // Read after the page: whatever the page left out lies below this head, and rows have
            // gone from it by another rule only where that rule is seen by now.
            let row = hub.store.log_row(read.log)?;
            if row.as_ref().is_some_and(|row| !row.deleted && row.rule != SnapshotRule::Latest) {
                return reopen(hub, read).map(Err);
            }
            let head = row.map_or(read.cursor, |row| row.head);
            let to = (socket.form(), &hub.encoded);
            let message = encode::base_records(read.log, *offset, &page.entries, last, head, to);
            let next = match page.next {
                Some(after) => Slice::Latest { offset: *offset, after: Some(after) },
                None => Slice::Records,
            };
            // A key that was written since the base's offset is left out: it comes as a record. If
            // the server then lost that record, the key would be missing for ever, so the client
            // is told how far what it is given depends on (promise 15).
            let stands = if head > *offset { position_of(&hub.store)? } else { None };
            Ok(Ok(Piece { message, cursor: read.cursor, next, stands }))
        }
        Slice::Base { snapshot, part } => read_part(hub, read, socket, snapshot, *part),
    }
}

fn read_part(
    hub: &Hub,
    read: &Read,
    socket: &Socket,
    snapshot: &SnapshotAt,
    part: u32,
) -> Result<Result<Piece, Found>, RowsError> {
    let Some(data) = hub.store.snapshot_part(read.log, snapshot.upload, part)? else {
        return reopen(hub, read).map(Err);
    };
    let last = part + 1 >= snapshot.parts;
    let to = (socket.form(), &hub.encoded);
    let message = encode::base(read.log, snapshot.offset, part, last, data, to);
    let next = if last {
        Slice::Records
    } else {
        Slice::Base { snapshot: Box::new(snapshot.clone()), part: part + 1 }
    };
    Ok(Ok(Piece { message, cursor: read.cursor, next, stands: None }))
}

fn read_records(
    hub: &Hub,
    read: &Read,
    tail: Option<Vec<Arc<Stored>>>,
    socket: &Socket,
) -> Result<Result<Piece, Found>, RowsError> {
    let (first, stored) = match tail {
        Some(stored) => (read.cursor, stored),
        None => match read_stored(hub, read)? {
            Ok(records) => records,
            Err(nothing) => return Ok(Err(nothing)),
        },
    };
    if first > read.cursor {
        return Ok(Err(Found::Gap(first)));
    }
    let message = encode::records(read.log, first, &stored, socket.form(), &hub.encoded);
    let cursor = first + stored.len() as u64;
    Ok(Ok(Piece { message, cursor, next: Slice::Records, stands: None }))
}

/// Records and the offset of the first.
type Records = (u64, Vec<Arc<Stored>>);

/// The next records of the store, or why there are none.
///
/// # Errors
/// Also when the log's row says that there are some: whoever waited for them would wait for ever.
fn read_stored(hub: &Hub, read: &Read) -> Result<Result<Records, Found>, RowsError> {
    let mut ought_to_be = false;
    loop {
        let records = hub.store.records(read.log, read.cursor, SLICE_RECORDS, DELIVERY_BYTES)?;
        if let Some((first, _)) = records.first() {
            let first = *first;
            let records = records.into_iter().map(|(_, stored)| Arc::new(stored)).collect();
            return Ok(Ok((first, records)));
        }
        match hub.store.log_row(read.log)? {
            Some(row) if row.deleted => return Ok(Err(Found::Over)),
            None => return Ok(Err(Found::Over)),
            Some(row) if row.start > read.cursor => return Ok(Err(Found::Gap(row.start))),
            Some(row) if row.head <= read.cursor => return Ok(Err(Found::Nothing)),
            Some(row) if ought_to_be => {
                let problem =
                    format!("log {}: {} to {} are missing", read.log, read.cursor, row.head);
                return Err(RowsError::Damaged { table: Table::Records.name(), problem });
            }
            // It may have come, or have been trimmed, between the two looks.
            Some(_) => ought_to_be = true,
        }
    }
}

/// The base that was being sent is no longer there: a newer snapshot took its place, or another
/// rule holds.
fn reopen(hub: &Hub, read: &Read) -> Result<Found, RowsError> {
    let Some(row) = hub.store.log_row(read.log)? else { return Ok(Found::Nothing) };
    let wanted = Wanted {
        history: Default::default(),
        have: None,
        begun: None,
        start: Start::State,
        committed: None,
        priority: 0,
        because: ResetReason::Trimmed,
    };
    let mut opened = open(read.log, &row, &wanted);
    opened.made = hub.eras().position(row.made);
    Ok(Found::Reopen(Box::new(opened)))
}

/// Writes what was read, if the subscription still stands where it was read for.
fn put(hub: &Hub, socket: &Socket, read: &Read, piece: Piece, now: u64) {
    let Piece { message, cursor, next, .. } = piece;
    let mut inner = socket.lock();
    if inner.at.offer_read(now, read, message.counted) != Offer::Write {
        return;
    }
    let wrote = socket.deliver(&mut inner, &message);
    if matches!(wrote, Wrote::All | Wrote::Waits) {
        hub.delivered.fetch_add(1, Ordering::Relaxed);
    }
    inner.at.wrote_read(read, message.counted, (cursor, next), wrote);
    socket.after(&mut inner, wrote);
}

#[cfg(test)]
mod tests;
