//! What appends cost, and a receipt for what was charged, by which it can be given back.
//!
//! An append costs one append and the bytes of its row: those of its record and [`ROW_BYTES`].
//! What spends nothing costs nothing: what the fold answers by a transient refusal, or as a repeat
//! of what was stored before, is given back when its answer is known.

use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};

use super::rate::{Budget, Rates};

/// What a row has besides its record's key, kind, headers and payload: its key in the table,
/// place, time, origin, sequence and lengths; rounded up.
pub const ROW_BYTES: u64 = 64;

/// What the items of one frame or request cost, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Costs {
    bytes: Vec<u32>,
    /// The logs, by [`Rates::log_key`]; empty where logs have no rate.
    logs: Vec<u64>,
    /// So many of the first were taken before, and come again with what was refused.
    pub(super) again: usize,
}

impl Costs {
    /// No items, with room for so many.
    pub fn with_room(items: usize) -> Self {
        Self { bytes: Vec::with_capacity(items), ..Self::default() }
    }

    /// So many items that cost an append each, and no bytes.
    pub(super) fn of_appends(items: u32) -> Self {
        Self { bytes: vec![0; items as usize], ..Self::default() }
    }

    /// Adds an item: its record's size, and its log's key; 0: none that has a rate.
    pub fn push(&mut self, record: usize, log: u64) {
        self.add(u32::try_from(record as u64 + ROW_BYTES).unwrap_or(u32::MAX), log);
    }

    fn add(&mut self, row: u32, log: u64) {
        if log != 0 || !self.logs.is_empty() {
            self.logs.resize(self.bytes.len(), 0);
            self.logs.push(log);
        }
        self.bytes.push(row);
    }

    /// How many items.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn bytes(&self, from: usize) -> impl Iterator<Item = u64> + '_ {
        self.bytes.iter().skip(from).map(|bytes| u64::from(*bytes))
    }

    /// The keys of logs that have a rate, item by item.
    pub(super) fn logs(&self, from: usize) -> impl Iterator<Item = u64> + '_ {
        self.logs.iter().skip(from).copied()
    }

    /// The items after the first so many.
    #[must_use]
    pub fn split_off(&mut self, at: usize) -> Self {
        let logs = self.logs.split_off(at.min(self.logs.len()));
        Self { bytes: self.bytes.split_off(at.min(self.bytes.len())), logs, again: 0 }
    }
}

/// What was charged for items: given back when this is dropped, unless it is settled, or was handed
/// in with them.
pub struct Charged<C: Clock + Clone = DefaultClock> {
    pub(super) rates: Arc<Rates<C>>,
    pub(super) user: Arc<Budget>,
    pub(super) costs: Costs,
    /// The items may be stored by now, whether somebody waits for the answer or not.
    pub(super) handed_in: bool,
}

impl<C: Clock + Clone> Charged<C> {
    /// From here on the items may be stored: only what is known of them gives anything back.
    pub fn hand_in(&mut self) {
        self.handed_in = true;
    }

    /// What became of the items is known: gives back what those cost that `spent_nothing` is true
    /// of, by their number, and no more.
    pub fn settle(mut self, spent_nothing: impl Fn(usize) -> bool) {
        self.give_back(spent_nothing);
        self.costs = Costs::default();
    }

    /// Items that came again were not charged; those that were not stored before are now.
    fn give_back(&self, spent_nothing: impl Fn(usize) -> bool) {
        let Costs { bytes, logs, again } = &self.costs;
        let (mut back, mut late) = ((0, 0), (0, 0));
        for (at, bytes) in bytes.iter().enumerate() {
            let (came_again, nothing) = (at < *again, spent_nothing(at));
            if came_again == nothing {
                continue;
            }
            let sum = if nothing { &mut back } else { &mut late };
            *sum = (sum.0 + 1, sum.1 + u64::from(*bytes));
            match logs.get(at).filter(|log| **log != 0) {
                Some(log) if nothing => self.rates.hand_back_log(*log, 1),
                Some(log) => drop(self.rates.book_log(*log, 1, self.rates.now())),
                None => {}
            }
        }
        if back.0 > 0 {
            self.rates.hand_back(&self.user, back.0, back.1);
        }
        if late.0 > 0 {
            self.rates.charge_late(&self.user, late.0, late.1);
        }
    }

    /// The receipt for the first so many items, which are no longer in this one.
    #[must_use]
    pub fn split_to(&mut self, items: usize) -> Self {
        let rest = self.costs.split_off(items);
        let costs = std::mem::replace(&mut self.costs, rest);
        let (rates, user) = (Arc::clone(&self.rates), Arc::clone(&self.user));
        Self { rates, user, costs, handed_in: self.handed_in }
    }

    /// Joins the receipt for the items that follow.
    pub fn join(&mut self, mut next: Self) {
        let Costs { bytes, logs, .. } = std::mem::take(&mut next.costs);
        let logs = logs.into_iter().chain(std::iter::repeat(0));
        bytes.into_iter().zip(logs).for_each(|(bytes, log)| self.costs.add(bytes, log));
    }

    /// How many items it is for.
    pub fn len(&self) -> usize {
        self.costs.len()
    }

    /// Whether it is for none.
    pub fn is_empty(&self) -> bool {
        self.costs.is_empty()
    }
}

impl<C: Clock + Clone> Drop for Charged<C> {
    fn drop(&mut self) {
        if !self.handed_in {
            self.give_back(|_| true);
        }
    }
}

impl<C: Clock + Clone> std::fmt::Debug for Charged<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Charged").field("costs", &self.costs).finish_non_exhaustive()
    }
}
