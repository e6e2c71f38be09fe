//! Hot rows, within a bound.
//!
//! Promise: what is held is bounded by count and by bytes; a row that has changed is dropped only
//! once it is saved, so that whether a row was in here makes no difference to what is decided.

use std::collections::HashMap;
use std::hash::Hash;

use super::io::Io;
use super::table::RowsError;

/// A value that a [`Cache`] can hold: it knows how to come from its rows and go back.
pub trait Hot: Sized {
    /// What it is found by.
    type Key: Clone + Eq + Hash;

    /// Reads it; none where there is no such row.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    fn load(key: &Self::Key, io: &Io<'_>) -> Result<Option<Self>, RowsError>;

    /// Writes what has changed since the last save.
    fn save(&mut self, key: &Self::Key, io: &mut Io<'_>);

    /// About the bytes that it holds besides its own size.
    fn weight(&self) -> usize;
}

/// What a row weighs besides its value: its key, twice, and its place.
const SLOT_BYTES: usize = 64;

#[derive(Debug)]
struct Slot<V> {
    value: V,
    dirty: bool,
    /// When it was last saved or loaded.
    weight: usize,
}

impl<V: Hot> Slot<V> {
    fn new(value: V, dirty: bool) -> Self {
        let weight = Self::weigh(&value);
        Self { value, dirty, weight }
    }

    fn weigh(value: &V) -> usize {
        SLOT_BYTES + size_of::<V>() + value.weight()
    }
}

/// Rows of about the same age.
#[derive(Debug)]
struct Generation<V: Hot> {
    slots: HashMap<V::Key, Slot<V>>,
    bytes: usize,
}

impl<V: Hot> Default for Generation<V> {
    fn default() -> Self {
        Self { slots: HashMap::new(), bytes: 0 }
    }
}

impl<V: Hot> Generation<V> {
    fn put(&mut self, key: V::Key, slot: Slot<V>) {
        self.bytes += slot.weight;
        if let Some(known) = self.slots.insert(key, slot) {
            self.bytes -= known.weight;
        }
    }

    fn take(&mut self, key: &V::Key) -> Option<Slot<V>> {
        let slot = self.slots.remove(key)?;
        self.bytes -= slot.weight;
        Some(slot)
    }
}

/// Hot rows of one kind: two generations, so that it is bounded without a list of uses. A row that
/// is asked for moves to the young generation; when that is full, by rows or by bytes, it becomes
/// the old one, and the old one is dropped. Rows are dropped between batches only, when all of them
/// are saved.
#[derive(Debug)]
pub struct Cache<V: Hot> {
    young: Generation<V>,
    old: Generation<V>,
    dirty: Vec<V::Key>,
    most: usize,
    most_bytes: usize,
}

impl<V: Hot> Cache<V> {
    /// At most about `most` rows between batches, of about `most_bytes`.
    pub fn new(most: usize, most_bytes: usize) -> Self {
        let (young, old) = Default::default();
        Self { young, old, dirty: Vec::new(), most, most_bytes }
    }

    fn load(&mut self, key: &V::Key, io: &Io<'_>) -> Result<Option<&mut Slot<V>>, RowsError> {
        if !self.young.slots.contains_key(key) {
            let slot = match self.old.take(key) {
                Some(slot) => slot,
                None => match V::load(key, io)? {
                    Some(value) => Slot::new(value, false),
                    None => return Ok(None),
                },
            };
            self.young.put(key.clone(), slot);
        }
        Ok(self.young.slots.get_mut(key))
    }

    /// The row, to look at.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn get(&mut self, key: &V::Key, io: &Io<'_>) -> Result<Option<&V>, RowsError> {
        Ok(self.load(key, io)?.map(|slot| &slot.value))
    }

    /// One look at a row that need not stay: many can be looked at within a batch, and memory does
    /// not grow by them.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn peek<T>(
        &self,
        key: &V::Key,
        io: &Io<'_>,
        look: impl FnOnce(&V) -> T,
    ) -> Result<Option<T>, RowsError> {
        if let Some(slot) = self.young.slots.get(key).or_else(|| self.old.slots.get(key)) {
            return Ok(Some(look(&slot.value)));
        }
        Ok(V::load(key, io)?.map(|value| look(&value)))
    }

    /// The row, to change; it will be saved at the end of the batch.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn change(&mut self, key: &V::Key, io: &Io<'_>) -> Result<Option<&mut V>, RowsError> {
        let Some(slot) = self.load(key, io)? else { return Ok(None) };
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(key.clone());
        }
        // Looked up again because the borrow of `slot` ends before `dirty` is pushed to.
        Ok(self.young.slots.get_mut(key).map(|slot| &mut slot.value))
    }

    /// A new row, or one in place of what was there.
    pub fn insert(&mut self, key: V::Key, value: V) {
        self.old.take(&key);
        let known = self.young.take(&key);
        self.young.put(key.clone(), Slot::new(value, true));
        if !known.is_some_and(|slot| slot.dirty) {
            self.dirty.push(key);
        }
    }

    /// Forgets a row; the caller removes it from its table.
    pub fn forget(&mut self, key: &V::Key) {
        self.old.take(key);
        self.young.take(key);
    }

    /// Saves what has changed.
    pub fn save(&mut self, io: &mut Io<'_>) {
        for key in self.dirty.drain(..) {
            if let Some(mut slot) = self.young.take(&key) {
                slot.value.save(&key, io);
                self.young.put(key, Slot::new(slot.value, false));
            }
        }
    }

    /// Drops the old generation when the young one is full. Only after [`Cache::save`].
    pub fn shrink(&mut self) {
        let Generation { slots, bytes } = &self.young;
        if slots.len() <= self.most / 2 && *bytes <= self.most_bytes / 2 {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        let Generation { slots, bytes } = &self.old;
        if slots.len() > self.most || *bytes > self.most_bytes {
            // One batch touched more than may stay. What stays is of no consequence.
            for (key, slot) in std::mem::take(&mut self.old).slots {
                let fits = self.old.bytes + slot.weight <= self.most_bytes;
                if fits && self.old.slots.len() < self.most {
                    self.old.put(key, slot);
                }
            }
        }
    }

    /// Rows in memory.
    pub fn len(&self) -> usize {
        self.young.slots.len() + self.old.slots.len()
    }

    /// About the bytes of rows in memory.
    pub const fn bytes(&self) -> usize {
        self.young.bytes + self.old.bytes
    }

    /// Whether no row is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
