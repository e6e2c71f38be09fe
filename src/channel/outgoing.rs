//! A log's new records on their way to its readers: where a turn begins, and what it sends.
//!
//! Promise: whoever cannot be sent them here reads for itself; nobody is left waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::encode::{self, DELIVERY_BYTES};
use super::face::{Form, Message, Messages};
use super::hub::{Hub, Watch, Watched};
use super::snapshot_wanted::wants_snapshot;
use crate::log::{Rule, Stored};
use crate::rows::RowsError;

/// Most records that are read at once where the tail has let go of them.
pub(super) const READ: usize = 256;

/// Records on their way, and the frame in each form that is wanted.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub base: u64,
    stored: Vec<Arc<Stored>>,
    messages: Messages,
    /// Whom to offer it next.
    pub next: usize,
    /// Whether one of the readers is to be asked for a snapshot, and none was yet.
    pub asks: bool,
}

impl Outgoing {
    pub(super) fn end(&self) -> u64 {
        self.base + self.stored.len() as u64
    }

    /// The frame in a form.
    pub(super) fn message(&mut self, log: u64, form: Form, hub: &Hub) -> &Message {
        let (base, stored) = (self.base, &self.stored);
        self.messages.get(form, || {
            hub.frames.fetch_add(1, Ordering::Relaxed);
            encode::records(log, base, stored, form, &hub.encoded)
        })
    }
}

/// What a log's turn begins with: the records after those of the turn before, from the tail or,
/// where the budget took them, from the store. None: there are none, and the log waits for no turn.
/// Others have the watch while `read` reads the store.
pub(super) fn begin(
    hub: &Hub,
    watch: &Watch,
    rules: &[Rule],
    read: impl FnOnce(u64) -> Result<Vec<(u64, Stored)>, RowsError>,
) -> Option<Outgoing> {
    let mut watched = watch.lock();
    let (base, end) = (watch.target(), watched.tail.end());
    if let Some(stored) = watched.tail.read(base, DELIVERY_BYTES).filter(|some| !some.is_empty()) {
        return Some(aim(watch, &mut watched, rules, base, stored));
    }
    if end <= base {
        watched.pending = false;
        return None;
    }
    drop(watched);
    // Only this turn moves the target, and whoever comes meanwhile is offered all from there on.
    // What lies behind the tail's end is stored and not told: it comes with its own batch.
    let read = read(base).map(|mut read| {
        read.retain(|(offset, _)| *offset < end);
        read
    });
    if let Err(error) = &read {
        tracing::error!(%error, log = watch.log, "a tail could not be read");
    }
    let mut watched = watch.lock();
    // Trimmed meanwhile: whoever stood there reads on by itself and is told of a gap.
    match read.unwrap_or_default() {
        read if read.is_empty() => {
            give_up(hub, watch, &watched);
            watched.pending = false;
            None
        }
        read => {
            let first = read.first().map_or(base, |(first, _)| *first);
            let stored = read.into_iter().map(|(_, stored)| Arc::new(stored)).collect();
            Some(aim(watch, &mut watched, rules, first, stored))
        }
    }
}

/// These records go to the log's readers now.
fn aim(
    watch: &Watch,
    watched: &mut Watched,
    rules: &[Rule],
    base: u64,
    stored: Vec<Arc<Stored>>,
) -> Outgoing {
    let end = base + stored.len() as u64;
    watch.aim(end);
    let asks = wants_snapshot(rules, watch, watched, end);
    Outgoing { base, stored, messages: Messages::default(), next: 0, asks }
}

/// The newest records cannot be read: those that wait for them read for themselves. A pump that
/// meets the same error closes its socket with it, so nobody is left waiting.
fn give_up(hub: &Hub, watch: &Watch, watched: &Watched) {
    let end = watched.tail.end();
    watch.aim(end);
    for socket in watched.sockets.iter().flatten() {
        let waits = socket.lock().at.missed(watch.log, end);
        if waits {
            hub.schedule(socket);
        }
    }
}
