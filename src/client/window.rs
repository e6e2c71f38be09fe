//! Flow control: what was worked off, what of it is acknowledged, and when the next word is due.
//!
//! Promise: a log is acknowledged only where it could be restarted from, so not while its base is
//! incomplete; and each delivery is acknowledged by the time that was told, or a quarter of the
//! window earlier.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Breach;
use super::log::Log;
use crate::wire::{Ack, Cursor};

/// Deliveries of one socket.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Bytes that may be unacknowledged, as `welcome` told.
    size: u64,
    received: u64,
    told: u64,
    /// Logs that moved since the last word.
    moved: BTreeSet<u64>,
    /// When the first thing came that is not acknowledged.
    since: Option<u64>,
}

impl Window {
    /// Bytes of delivery that came.
    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn set_size(&mut self, size: u32) {
        self.size = u64::from(size);
    }

    /// A log moved, without bytes that count.
    pub(super) fn moved(&mut self, now: u64, log: u64) {
        self.moved.insert(log);
        self.since.get_or_insert(now);
    }

    /// A delivery came. More than the window is a breach, but for a frame on its own.
    pub(super) fn came(&mut self, now: u64, log: u64, size: usize) -> Result<(), Breach> {
        let alone = self.received == self.told;
        self.received += size as u64;
        self.moved(now, log);
        let (unacknowledged, window) = (self.received - self.told, self.size);
        if alone || unacknowledged <= window {
            Ok(())
        } else {
            Err(Breach::Window { unacknowledged, window })
        }
    }

    /// Whether a word is due: a quarter of the window, or the time since something came.
    pub(super) fn due(&self, now: u64, after: Option<u64>) -> bool {
        let Some(at) = self.due_at(after) else { return false };
        now >= at || (self.received - self.told) * 4 >= self.size
    }

    pub(super) fn due_at(&self, after: Option<u64>) -> Option<u64> {
        Some(self.since?.saturating_add(after?))
    }

    /// The word, if anything came since the last one. A log whose base is not whole is left out: it
    /// could not be restarted from there.
    pub(super) fn ack(&mut self, logs: &BTreeMap<u64, Log>) -> Option<Ack> {
        if self.received == self.told && self.moved.is_empty() {
            return None;
        }
        let cursor = |id: &u64| {
            let log = logs.get(id).filter(|log| log.open && log.holds())?;
            Some(Cursor { log: *id, next: log.cursor })
        };
        let cursors = self.moved.iter().filter_map(cursor).collect();
        // The last part of a base moves its log again, so nothing is lost by forgetting it here.
        self.moved.clear();
        (self.told, self.since) = (self.received, None);
        Some(Ack { received: self.received, cursors })
    }
}
