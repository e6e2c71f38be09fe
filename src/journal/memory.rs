//! A journal in memory, shared by the nodes of one process: for tests and simulation.
//!
//! Promise: it is as unkind as a real one may be, and no more. Order is decided elsewhere, batches
//! of other nodes come in between, an append may be refused, or end with its fate unknown (written,
//! not written, or written later), and on command it loses its tail or drops its start. Faults
//! follow from a seed alone. It survives nothing: its level says so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{At, Bell, Ends, Event, Fate, Journal, JournalError};
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
    /// Of the nodes that follow.
    bells: Vec<Weak<Bell>>,
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

    fn append(&mut self, batch: Bytes) -> Fate {
        self.pass();
        if batch.len() > self.most_bytes {
            let (bytes, most) = (batch.len(), self.most_bytes);
            return Fate::Refused(format!("{bytes} bytes, and {most} are the most"));
        }
        let roll = self.random.random_range(0..1000);
        let Faults { refused_per_mille: refused, unknown_per_mille: unknown, .. } = self.faults;
        if roll < refused {
            return Fate::Refused("a fault was asked for".to_owned());
        }
        if roll < refused.saturating_add(unknown) {
            match self.random.random_range(0..3) {
                0 => drop(self.push(batch)),
                1 => self.delayed.push((self.random.random_range(1..=LATEST), batch)),
                _ => {}
            }
            return Fate::Unknown("a fault was asked for".to_owned());
        }
        Fate::Taken(self.push(batch))
    }

    /// Batch `number`, where there is one.
    fn batch(&self, number: u64) -> Result<Option<Bytes>, JournalError> {
        let (start, head) = (self.start, self.head());
        if number < start {
            return Err(JournalError::Dropped { start, wanted: number });
        }
        if number > head + 1 {
            return Err(JournalError::Lost { head, wanted: number });
        }
        let index = usize::try_from(number - start).unwrap_or(usize::MAX);
        Ok(self.batches.get(index).cloned())
    }

    /// There is something to read.
    fn ring(&mut self) {
        self.bells.retain(|bell| {
            bell.upgrade().is_some_and(|bell| {
                bell.ring();
                true
            })
        });
    }
}

/// The journal itself; clones share it.
#[derive(Clone, Debug)]
pub struct MemoryCluster(Arc<Mutex<State>>);

impl MemoryCluster {
    /// An empty journal of that identity.
    pub fn new(identity: Id, faults: Faults) -> Self {
        let random = StdRng::seed_from_u64(faults.seed);
        let (batches, delayed, bells) = (Vec::new(), Vec::new(), Vec::new());
        let (start, most_bytes) = (1, usize::MAX);
        let state = State { identity, start, most_bytes, batches, delayed, faults, random, bells };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's handle.
    pub fn node(&self) -> MemoryJournal {
        let (cluster, told) = (self.clone(), VecDeque::new());
        MemoryJournal { cluster, next: 1, told, bell: Arc::default() }
    }

    /// Appends a batch at once, as a proposal would: its fate.
    pub fn append(&self, batch: &[u8]) -> Fate {
        let mut state = self.state();
        let fate = state.append(Bytes::copy_from_slice(batch));
        state.ring();
        fate
    }

    /// Batch `number`; none where it is the next to come.
    ///
    /// # Errors
    /// [`JournalError::Dropped`] below the start, [`JournalError::Lost`] past head + 1.
    pub fn batch(&self, number: u64) -> Result<Option<Bytes>, JournalError> {
        self.state().batch(number)
    }

    /// What it holds.
    pub fn ends(&self) -> Ends {
        let state = self.state();
        Ends { start: state.start, head: state.head() }
    }

    /// From now on it takes no larger batches than this: to be said before nodes use it.
    pub fn take_at_most(&self, bytes: usize) {
        self.state().most_bytes = bytes;
    }

    /// From now on nothing goes wrong; what is on its way arrives.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        for (_, batch) in std::mem::take(&mut state.delayed) {
            state.push(batch);
        }
        state.ring();
    }

    /// From now on it fails that often.
    pub fn fail(&self, faults: Faults) {
        let mut state = self.state();
        (state.faults, state.random) = (faults, StdRng::seed_from_u64(faults.seed));
    }

    /// Loses its last batches, as an engine that was not durable would; never below its start.
    pub fn lose(&self, batches: usize) {
        let mut state = self.state();
        let left = state.batches.len().saturating_sub(batches);
        state.batches.truncate(left);
        state.ring();
    }

    /// Drops batches below a number, as an engine's own retention would; never past its head.
    pub fn drop_before(&self, batch: u64) {
        let mut state = self.state();
        let gone = batch.min(state.head() + 1).saturating_sub(state.start);
        state.start += gone;
        state.batches.drain(..usize::try_from(gone).unwrap_or(0));
    }
}

/// One node's handle on a [`MemoryCluster`].
#[derive(Debug)]
pub struct MemoryJournal {
    cluster: MemoryCluster,
    /// The batch that is told next.
    next: u64,
    /// Fates that are not told yet.
    told: VecDeque<Event>,
    bell: Arc<Bell>,
}

impl Journal for MemoryJournal {
    fn identity(&self) -> Id {
        self.cluster.state().identity
    }

    fn level(&self) -> Level {
        Level::Memory
    }

    fn most_bytes(&self) -> usize {
        self.cluster.state().most_bytes
    }

    fn ends(&mut self) -> Result<Ends, JournalError> {
        Ok(self.cluster.ends())
    }

    fn follow(&mut self, behind: At, bell: &Arc<Bell>) -> Result<(), JournalError> {
        (self.next, self.bell) = (behind.batch + 1, Arc::clone(bell));
        let mut state = self.cluster.state();
        state.bells.push(Arc::downgrade(bell));
        state.batch(self.next).map(drop)
    }

    fn propose(&mut self, serial: u64, batch: Bytes) -> Result<(), JournalError> {
        let mut state = self.cluster.state();
        let fate = state.append(batch);
        state.ring();
        drop(state);
        self.told.push_back(Event::Fate { serial, fate });
        self.bell.ring();
        Ok(())
    }

    fn poll(&mut self) -> Result<Event, JournalError> {
        if let Some(fate) = self.told.pop_front() {
            return Ok(fate);
        }
        let Some(bytes) = self.cluster.batch(self.next)? else { return Ok(Event::CaughtUp) };
        let at = At { batch: self.next, position: self.next };
        self.next += 1;
        Ok(Event::Batch { at, bytes })
    }

    fn drop_before(&mut self, batch: u64, _keep: Duration) -> Result<(), JournalError> {
        self.cluster.drop_before(batch);
        Ok(())
    }
}
