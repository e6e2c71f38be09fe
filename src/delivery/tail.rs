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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Id, Origin, Payload, Place, Record};

    /// A record that costs 300 bytes.
    fn stored() -> Arc<Stored> {
        let origin = Origin { user: String::new(), writer: Id([1; 16]), connection: Id([2; 16]) };
        let record = Record { payload: Some(Payload::text("")), ..Record::default() };
        let text = "x".repeat(300 - 256 - record.size());
        let record = Record { payload: Some(Payload::text(&text)), ..record };
        let place = Place { batch: 1, index: 0 };
        let (origin, derived) = (Arc::new(origin), None);
        Arc::new(Stored { place, time: 0, origin, seq: 1, before: 0, derived, record })
    }

    fn tail(most: usize, most_per_log: usize) -> Tail {
        Tail::new(10, Arc::new(TailBudget::new(most, most_per_log)))
    }

    fn pushed(tail: &mut Tail, offsets: std::ops::Range<u64>) {
        offsets.for_each(|offset| tail.push(offset, stored()));
    }

    fn lengths(tail: &Tail, from: std::ops::Range<u64>) -> Vec<usize> {
        from.map(|from| tail.read(from, usize::MAX).map_or(0, |read| read.len())).collect()
    }

    /// Records that came through the store alone are not here: neither is anything before them.
    #[test]
    fn promise_01_a_tail_has_no_hole() {
        let mut tail = tail(10_000, 10_000);
        pushed(&mut tail, 10..13);
        assert_eq!(lengths(&tail, 9..14), [0, 3, 2, 1, 0]);
        tail.push(11, stored());
        assert_eq!((tail.end(), tail.budget.used()), (13, 900), "it is there already");
        pushed(&mut tail, 20..22);
        assert_eq!(lengths(&tail, 10..14), [0; 4]);
        assert_eq!(lengths(&tail, 19..23), [0, 2, 1, 0]);
        assert_eq!(tail.budget.used(), 600);
    }

    #[test]
    fn promise_10_a_tail_keeps_to_what_a_log_and_all_may_hold() {
        let mut one = tail(1_800, 900);
        pushed(&mut one, 10..15);
        assert_eq!(lengths(&one, 11..16), [0, 3, 2, 1, 0]);
        let mut other = Tail::new(0, Arc::clone(&one.budget));
        assert!(!one.budget.tight(), "half is in use");
        pushed(&mut other, 0..3);
        assert!(one.budget.tight());
        assert_eq!(one.budget.used(), 1_800);
        pushed(&mut one, 15..16);
        assert_eq!(lengths(&one, 13..16), [3, 2, 1]);
        let mut third = Tail::new(0, Arc::clone(&one.budget));
        pushed(&mut third, 0..1);
        assert_eq!((third.end(), third.read(0, 1)), (1, None), "others hold all there is");
        drop(other);
        assert_eq!(one.budget.used(), 900);
        pushed(&mut third, 1..2);
        assert_eq!(lengths(&third, 0..3), [0, 1, 0]);
    }

    #[test]
    fn promise_09_a_quiet_tail_lets_go_of_all() {
        let mut tail = tail(10_000, 10_000);
        pushed(&mut tail, 10..12);
        tail.rest();
        assert_eq!(lengths(&tail, 10..12), [2, 1], "it has just grown");
        tail.rest();
        assert_eq!((tail.end(), tail.budget.used(), tail.records.capacity()), (12, 0, 0));
        pushed(&mut tail, 12..13);
        assert_eq!(lengths(&tail, 11..14), [0, 1, 0]);
    }

    #[test]
    fn a_read_is_of_so_many_bytes_but_of_one_record_at_least() {
        let mut tail = tail(10_000, 10_000);
        pushed(&mut tail, 10..14);
        let read = |from, most| tail.read(from, most).map_or(0, |read| read.len());
        assert_eq!([0, 299, 599, 600, 899].map(|most| read(10, most)), [1, 1, 1, 2, 2]);
        assert_eq!(read(12, 10_000), 2);
    }
}
