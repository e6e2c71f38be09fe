//! A log's new records on their way to its readers: where a turn begins, and what it sends.
//!
//! Promise: whoever cannot be sent them here reads for itself; nobody is left waiting.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::encode::{self, DELIVERY_BYTES};
use super::face::{Form, Message, Messages};
use super::hub::{Hub, Watch, Watched};
use crate::log::Stored;

/// Most records that are read at once where the tail has let go of them.
const READ: usize = 256;

/// Records on their way, and the frame in each form that is wanted.
#[derive(Debug)]
pub(super) struct Going {
    pub base: u64,
    stored: Vec<Arc<Stored>>,
    messages: Messages,
    /// Whom to offer it next.
    pub next: usize,
}

impl Going {
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
/// where the budget took them, from the store.
pub(super) fn begin(hub: &Hub, watch: &Watch, watched: &Watched) -> Option<Going> {
    let base = watch.target();
    let stored = match watched.tail.read(base, DELIVERY_BYTES) {
        Some(stored) => stored,
        None if watched.tail.end() > base => {
            let read = match hub.store.records(watch.log, base, READ, DELIVERY_BYTES) {
                Ok(read) => read,
                Err(error) => {
                    tracing::error!(%error, log = watch.log, "a tail could not be read");
                    give_up(hub, watch, watched);
                    return None;
                }
            };
            // Trimmed meanwhile: whoever stood there reads on by itself and is told of a gap.
            match read.first() {
                Some((first, _)) => watch.aim(*first),
                None => {
                    give_up(hub, watch, watched);
                    return None;
                }
            }
            read.into_iter().map(|(_, stored)| Arc::new(stored)).collect()
        }
        None => return None,
    };
    if stored.is_empty() {
        return None;
    }
    let base = watch.target();
    watch.aim(base + stored.len() as u64);
    Some(Going { base, stored, messages: Messages::default(), next: 0 })
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
