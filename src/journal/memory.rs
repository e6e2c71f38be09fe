//! A journal in memory, shared by the nodes of one process: for tests and simulation.
//!
//! Promise: it is as unkind as a real one may be, and no more. Order is decided elsewhere, batches
//! of other nodes come in between, an append may be refused, or end with its fate unknown (written,
//! not written, or written later), and on command it loses its tail or drops its start. Faults
//! follow from a seed alone. It survives nothing: its level says so.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{AppendError, Journal, JournalError, Order};
use crate::rows::Writes;
use crate::wire::{Id, Level};

/// A delayed batch is written after at most so many later appends.
const LATEST: u8 = 8;

/// How often appends go wrong. The same seed and the same appends give the same faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Of what is random.
    pub seed: u64,
    /// Of a thousand appends, so many are refused: nothing is written.
    pub refused_per_mille: u16,
    /// Of a thousand appends, so many end unknown: a third each is written at once, never, or
    /// after some later appends.
    pub unknown_per_mille: u16,
}

#[derive(Debug)]
struct State {
    identity: Id,
    start: u64,
    most_bytes: usize,
    batches: Vec<Bytes>,
    /// Batches on their way, and after how many appends they arrive.
    delayed: Vec<(u8, Bytes)>,
    faults: Faults,
    random: StdRng,
}

impl State {
    fn head(&self) -> u64 {
        self.start + self.batches.len() as u64 - 1
    }

    fn push(&mut self, batch: Bytes) -> u64 {
        self.batches.push(batch);
        self.head()
    }

    /// One append passes: what is due arrives before it.
    fn pass(&mut self) {
        let mut due = Vec::new();
        self.delayed.retain_mut(|(after, batch)| {
            *after -= 1;
            if *after == 0 {
                due.push(batch.clone());
            }
            *after > 0
        });
        for batch in due {
            self.push(batch);
        }
    }

    fn append(&mut self, batch: &[u8]) -> Result<u64, AppendError> {
        self.pass();
        if batch.len() > self.most_bytes {
            let (bytes, most) = (batch.len(), self.most_bytes);
            return Err(AppendError::Refused(format!("{bytes} bytes, and {most} are the most")));
        }
        let batch = Bytes::copy_from_slice(batch);
        let roll = self.random.random_range(0..1000);
        let Faults { refused_per_mille: refused, unknown_per_mille: unknown, .. } = self.faults;
        if roll < refused {
            return Err(AppendError::Refused("a fault was asked for".to_owned()));
        }
        if roll < refused.saturating_add(unknown) {
            match self.random.random_range(0..3) {
                0 => drop(self.push(batch)),
                1 => self.delayed.push((self.random.random_range(1..=LATEST), batch)),
                _ => {}
            }
            return Err(AppendError::Unknown("a fault was asked for".to_owned()));
        }
        Ok(self.push(batch))
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    grown: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journal itself; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryCluster(Arc<Shared>);

impl MemoryCluster {
    /// An empty journal of that identity.
    pub fn new(identity: Id, faults: Faults) -> Self {
        let random = StdRng::seed_from_u64(faults.seed);
        let (batches, delayed, most_bytes) = (Vec::new(), Vec::new(), usize::MAX);
        let state = State { identity, start: 1, most_bytes, batches, delayed, faults, random };
        Self(Arc::new(Shared { state: Mutex::new(state), grown: Condvar::new() }))
    }

    /// A node's handle.
    pub fn node(&self) -> MemoryJournal {
        MemoryJournal(self.clone())
    }

    /// From now on it takes no larger batches than this: to be said before nodes use it.
    pub fn take_at_most(&self, bytes: usize) {
        self.0.state().most_bytes = bytes;
    }

    /// From now on nothing goes wrong; what is on its way arrives.
    pub fn heal(&self) {
        let mut state = self.0.state();
        state.faults = Faults::default();
        for (_, batch) in std::mem::take(&mut state.delayed) {
            state.push(batch);
        }
        self.0.grown.notify_all();
    }

    /// From now on it fails that often.
    pub fn fail(&self, faults: Faults) {
        let mut state = self.0.state();
        (state.faults, state.random) = (faults, StdRng::seed_from_u64(faults.seed));
    }

    /// Loses its last batches, as an engine that was not durable would; never below its start.
    pub fn lose(&self, batches: usize) {
        let mut state = self.0.state();
        let left = state.batches.len().saturating_sub(batches);
        state.batches.truncate(left);
    }

    /// Drops batches below a number, as an engine's own retention would; never past its head.
    pub fn drop_before(&self, batch: u64) {
        let mut state = self.0.state();
        let gone = batch.min(state.head() + 1).saturating_sub(state.start);
        state.start += gone;
        state.batches.drain(..usize::try_from(gone).unwrap_or(0));
    }
}

/// One node's handle on a [`MemoryCluster`].
#[derive(Debug)]
pub struct MemoryJournal(MemoryCluster);

impl MemoryJournal {
    fn shared(&self) -> &Shared {
        let Self(MemoryCluster(shared)) = self;
        shared
    }
}

impl Journal for MemoryJournal {
    fn identity(&self) -> Id {
        self.shared().state().identity
    }

    fn level(&self) -> Level {
        Level::Memory
    }

    fn order(&self) -> Order {
        Order::Elsewhere
    }

    fn most_bytes(&self) -> usize {
        self.shared().state().most_bytes
    }

    fn head(&mut self) -> Result<u64, JournalError> {
        Ok(self.shared().state().head())
    }

    fn start(&mut self) -> Result<u64, JournalError> {
        Ok(self.shared().state().start)
    }

    fn append(&mut self, batch: &[u8], effects: Option<Writes>) -> Result<u64, AppendError> {
        if effects.is_some() {
            let message = "effects belong to batches whose order is decided here";
            return Err(AppendError::Refused(message.to_owned()));
        }
        let done = self.shared().state().append(batch);
        self.shared().grown.notify_all();
        done
    }

    fn read(
        &mut self,
        from: u64,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let begun = Instant::now();
        let mut state = self.shared().state();
        loop {
            let (start, head) = (state.start, state.head());
            if from < start {
                return Err(JournalError::Dropped { start, wanted: from });
            }
            if from > head + 1 {
                return Err(JournalError::Lost { head, wanted: from });
            }
            if from <= head {
                break;
            }
            let left = wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let woken = self.shared().grown.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        let skip = usize::try_from(from - state.start).unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut bytes = 0;
        for (number, batch) in (from..).zip(state.batches.iter().skip(skip)) {
            if bytes + batch.len() > most && !found.is_empty() {
                break;
            }
            bytes += batch.len();
            found.push((number, batch.clone()));
        }
        Ok(found)
    }

    fn drop_before(&mut self, batch: u64) -> Result<(), JournalError> {
        self.0.drop_before(batch);
        Ok(())
    }
}
