//! What all requests of a node share besides the gate's own: counts, room for bodies, the turn to
//! take a backup.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::mark::Marks;
use super::metrics::Counters;
use crate::limit::Limits;

/// Room for bodies is given out in pieces of this size, in bytes.
const PIECE: usize = 1 << 10;

/// Shared by all requests.
#[derive(Debug)]
pub struct Shared {
    /// Requests and refusals, for the metrics.
    pub counters: Counters,
    /// Where lists go on.
    pub marks: Marks,
    bodies: Semaphore,
    /// One backup at a time is taken.
    backups: Arc<Semaphore>,
}

impl Shared {
    /// Nothing is asked yet. Bodies on their way in take as much room as `queue_bytes` allows.
    pub fn new(limits: &Limits, marks: Marks) -> Self {
        let pieces = usize::try_from(limits.queue_bytes).unwrap_or(usize::MAX) / PIECE;
        Self {
            counters: Counters::default(),
            marks,
            bodies: Semaphore::new(pieces.min(Semaphore::MAX_PERMITS)),
            backups: Arc::new(Semaphore::new(1)),
        }
    }

    /// More room for a body that has so many bytes by now, if there is.
    pub(super) fn grow<'a>(&'a self, room: &mut SemaphorePermit<'a>, bytes: usize) -> Option<()> {
        let held = room.num_permits() * PIECE;
        room.merge(self.room_for(bytes.saturating_sub(held))?);
        Some(())
    }

    /// The turn to take a backup, if nobody has it; it is given back when it is dropped.
    pub(super) fn backup(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.backups).try_acquire_owned().ok()
    }

    /// Room for so many bytes of a body, if there is.
    pub(super) fn room_for(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        self.bodies.try_acquire_many(pieces).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_bounded_and_comes_back() {
        let limits = Limits { queue_bytes: 1 << 20, ..Limits::DEFAULT };
        let shared = Shared::new(&limits, Marks::new(None));
        let most = shared.room_for(1 << 20).unwrap();
        assert!(shared.room_for(1).is_none());
        drop(most);
        let _half = shared.room_for(1 << 19).unwrap();
        assert!(shared.room_for((1 << 19) + 1).is_none());
        assert!(shared.room_for(1 << 19).is_some());
        // Small pieces take no more room than they are.
        let mut grown = shared.room_for(0).unwrap();
        for bytes in 1..=5_000 {
            assert!(shared.grow(&mut grown, bytes).is_some());
        }
        assert_eq!(grown.num_permits(), 5_000_usize.div_ceil(PIECE));
        assert!(shared.grow(&mut grown, 1 << 20).is_none());
    }
}
