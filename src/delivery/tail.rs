//! The newest records of a log that someone here watches, in memory, within a byte budget.
//!
//! Promise: no hole, and never more than the budget: what it lets go is read from the store.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::log::Stored;

/// Bytes that all tails of a node hold together.
#[derive(Debug)]
pub struct TailBudget {
    used: AtomicUsize,
    most: usize,
    most_per_log: usize,
}

impl TailBudget {
    /// At most `most` bytes in all, `most_per_log` in one.
    pub const fn new(most: usize, most_per_log: usize) -> Self {
        Self { used: AtomicUsize::new(0), most, most_per_log }
    }

    /// Whether so much is in use that logs which are written to may find no room.
    pub fn tight(&self) -> bool {
        self.used() > self.most / 2
    }

    /// Bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One log's newest records, without holes.
#[derive(Debug)]
pub struct Tail {
    budget: Arc<TailBudget>,
    first: u64,
    records: VecDeque<Arc<Stored>>,
    bytes: usize,
    /// Whether a record has come since the last [`Tail::rest`].
    grew: bool,
}

/// About what a record costs in memory.
fn weight(stored: &Stored) -> usize {
    stored.record.size() + 256
}

impl Tail {
    /// Empty; the next record is `head`.
    pub const fn new(head: u64, budget: Arc<TailBudget>) -> Self {
        Self { budget, first: head, records: VecDeque::new(), bytes: 0, grew: false }
    }

    /// Offset after the newest record.
    pub fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Keeps the next record, letting go of the oldest where the budget asks for it; an offset that
    /// is already there is left aside.
    pub fn push(&mut self, offset: u64, stored: Arc<Stored>) {
        if offset < self.end() {
            return;
        }
        if offset > self.end() {
            self.clear();
            self.first = offset;
        }
        let bytes = weight(&stored);
        self.records.push_back(stored);
        self.bytes += bytes;
        self.grew = true;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        // Down to nothing, if others hold the budget: who needs a record reads it from the store.
        while !self.records.is_empty() && self.over() {
            self.pop();
        }
    }

    fn over(&self) -> bool {
        self.bytes > self.budget.most_per_log || self.budget.used() > self.budget.most
    }

    fn pop(&mut self) {
        if let Some(oldest) = self.records.pop_front() {
            let bytes = weight(&oldest);
            self.first += 1;
            self.bytes -= bytes;
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// Lets go of all records, if none has come since this was last called.
    pub fn rest(&mut self) {
        if !std::mem::take(&mut self.grew) {
            self.clear();
            self.records = VecDeque::new();
        }
    }

    fn clear(&mut self) {
        while !self.records.is_empty() {
            self.pop();
        }
    }

    /// Records from an offset on, up to about `most` bytes but at least one; none when the offset
    /// is no longer, or not yet, here.
    pub fn read(&self, from: u64, most: usize) -> Option<Vec<Arc<Stored>>> {
        let at = usize::try_from(from.checked_sub(self.first)?).ok()?;
        if at >= self.records.len() {
            return None;
        }
        let mut bytes = 0;
        let mut read = Vec::new();
        for stored in self.records.range(at..) {
            bytes += weight(stored);
            if bytes > most && !read.is_empty() {
                break;
            }
            read.push(Arc::clone(stored));
        }
        Some(read)
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
