//! Tables of rows, and the one way in which the fold reads and writes them.
//!
//! Promise: deterministic. The fold sees rows through [`Rows`] and its own pending [`Writes`]; it
//! knows no file, no clock and no randomness. A [`Cache`] keeps hot rows within a bound; what it
//! holds is never newer or older than what the fold has decided. Layouts: `docs/storage.md` §3.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::wire::codec;

/// The tables of the store. Numbers and names are part of the format on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Single rows: the fold's head, rules and limits.
    Meta = 0,
    /// Log name → log id.
    Names = 1,
    /// Log id → log row.
    Logs = 2,
    /// Log id, offset → record.
    Records = 3,
    /// Log id, key → offset and record.
    Latest = 4,
    /// Log id, upload, part → bytes of a client-made snapshot.
    Snapshots = 5,
    /// Log id, connection → a snapshot on its way in.
    Uploads = 6,
    /// Writer → writer row.
    Writers = 7,
    /// Writer, last sequence → outcomes.
    Outcomes = 8,
    /// Connection → connection row.
    Connections = 9,
    /// User → what it holds.
    Users = 10,
    /// User, connection → nothing.
    UserConnections = 11,
    /// Log id, connection → nothing.
    Subscribers = 12,
    /// Node → its incarnation.
    Nodes = 13,
    /// Batch → where its records are, by place: the lane over everything.
    Places = 14,
    /// Connection, first log id of a chunk → cursors of up to 64 subscriptions.
    Cursors = 15,
    /// Number → who appends.
    Origins = 16,
    /// First batch → era.
    Eras = 17,
    /// Kind and name → a user or a token that no longer counts.
    Revocations = 18,
    /// Log id, first offset → a page that is closed.
    Pages = 19,
}

/// Numbers of tables that are to come, so that none is given twice: groups and their members,
/// cursors of groups, lanes and their rows.
pub const RESERVED: [(u8, &str); 5] =
    [(20, "groups"), (21, "members"), (22, "group_cursors"), (23, "lanes"), (24, "lane_rows")];

impl Table {
    /// All tables, by number.
    pub const ALL: [Self; 20] = [
        Self::Meta,
        Self::Names,
        Self::Logs,
        Self::Records,
        Self::Latest,
        Self::Snapshots,
        Self::Uploads,
        Self::Writers,
        Self::Outcomes,
        Self::Connections,
        Self::Users,
        Self::UserConnections,
        Self::Subscribers,
        Self::Nodes,
        Self::Places,
        Self::Cursors,
        Self::Origins,
        Self::Eras,
        Self::Revocations,
        Self::Pages,
    ];

    /// Its name on disk.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Names => "names",
            Self::Logs => "logs",
            Self::Records => "records",
            Self::Latest => "latest",
            Self::Snapshots => "snapshots",
            Self::Uploads => "uploads",
            Self::Writers => "writers",
            Self::Outcomes => "outcomes",
            Self::Connections => "connections",
            Self::Users => "users",
            Self::UserConnections => "user_connections",
            Self::Subscribers => "subscribers",
            Self::Nodes => "nodes",
            Self::Places => "places",
            Self::Cursors => "cursors",
            Self::Origins => "origins",
            Self::Eras => "eras",
            Self::Revocations => "revocations",
            Self::Pages => "pages",
        }
    }
}

/// Rows could not be read or written: the node stops.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowsError {
    /// The storage engine failed.
    #[error("storage failed: {0}")]
    Storage(String),
    /// A row does not have its table's layout.
    #[error("row of {table} is damaged: {problem}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong.
        problem: String,
    },
}

/// What a row has grown by since its layout was fixed: tags and their content, at its end. A
/// program that does not know a tag keeps it when it writes the row anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct More(Vec<(u32, Bytes)>);

impl More {
    /// The content of a tag.
    pub fn get(&self, tag: u32) -> Option<&Bytes> {
        self.0.iter().find(|(known, _)| *known == tag).map(|(_, content)| content)
    }

    /// Sets the content of a tag; tags stand in their order, so that equal rows have equal bytes.
    pub fn set(&mut self, tag: u32, content: Bytes) {
        let at = self.0.partition_point(|(known, _)| *known < tag);
        match self.0.get_mut(at).filter(|(known, _)| *known == tag) {
            Some((_, known)) => *known = content,
            None => self.0.insert(at, (tag, content)),
        }
    }

    /// Takes a tag away.
    pub fn remove(&mut self, tag: u32) {
        self.0.retain(|(known, _)| *known != tag);
    }

    /// Bytes that it holds.
    pub fn weight(&self) -> usize {
        self.0.iter().map(|(_, content)| content.len() + size_of::<(u32, Bytes)>()).sum()
    }
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Rows as they were after the last committed batch.
pub trait Rows {
    /// The row under a key.
    ///
    /// # Errors
    /// When storage fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError>;

    /// Up to `most` rows whose keys begin with `prefix` and are not below `from`, by key.
    ///
    /// # Errors
    /// When storage fails.
    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError>;
}

/// What a batch changes: committed in one atom. Each key stands once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Writes {
    /// New value, or none where the row goes.
    pub rows: BTreeMap<(Table, Vec<u8>), Option<Vec<u8>>>,
    /// Records, whose keys are new by construction: log id, offset, value.
    pub records: Vec<(u64, u64, Vec<u8>)>,
}

/// Rows in memory: for tests, models and simulation.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MemoryRows(BTreeMap<(Table, Vec<u8>), Vec<u8>>);

impl MemoryRows {
    /// Makes a batch's changes.
    pub fn commit(&mut self, writes: &Writes) {
        for (key, value) in &writes.rows {
            match value {
                Some(value) => self.0.insert(key.clone(), value.clone()),
                None => self.0.remove(key),
            };
        }
        for (log, offset, value) in &writes.records {
            let key = Key::of(*log).then(*offset).build();
            self.0.insert((Table::Records, key), value.clone());
        }
    }

    /// All rows, by table and key.
    pub fn iter(&self) -> impl Iterator<Item = (&(Table, Vec<u8>), &Vec<u8>)> {
        self.0.iter()
    }
}

impl Rows for MemoryRows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        Ok(self.0.get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let from = (table, from.max(prefix).to_vec());
        let under = self
            .0
            .range(from..)
            .take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
        Ok(under.take(most).map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }
}

/// The rows of the last batch with this batch's changes over them.
pub struct Io<'a> {
    rows: &'a dyn Rows,
    /// The changes so far.
    pub writes: Writes,
}

impl std::fmt::Debug for Io<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl<'a> Io<'a> {
    /// Nothing changed yet.
    pub fn new(rows: &'a dyn Rows) -> Self {
        Self { rows, writes: Writes::default() }
    }

    /// A raw row.
    ///
    /// # Errors
    /// When storage fails.
    pub fn raw(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        match self.writes.rows.get(&(table, key.to_vec())) {
            Some(pending) => Ok(pending.clone()),
            None => self.rows.get(table, key),
        }
    }

    /// A row, read.
    ///
    /// # Errors
    /// When storage fails or the row is damaged.
    pub fn get<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, RowsError> {
        self.raw(table, key)?.map(|bytes| read_row(table, &bytes)).transpose()
    }

    /// Sets a row.
    pub fn put<T: Serialize>(&mut self, table: Table, key: Vec<u8>, value: &T) {
        self.put_raw(table, key, codec::to_bytes(value));
    }

    /// Sets a row to bytes as they are.
    pub fn put_raw(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.writes.rows.insert((table, key), Some(value));
    }

    /// Removes a row.
    pub fn remove(&mut self, table: Table, key: Vec<u8>) {
        self.writes.rows.insert((table, key), None);
    }

    /// Up to `most` rows under a prefix and not below `from`, pending changes included, by key.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        let first = (table, from.max(prefix).to_vec());
        let under = |key: &[u8]| key.starts_with(prefix);
        let pending: Vec<_> = (self.writes.rows.range(first.clone()..))
            .take_while(|((of, key), _)| *of == table && under(key))
            .collect();
        let room = most.saturating_add(pending.len());
        let stored = self.rows.scan(table, prefix, &first.1, room)?;
        let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
        for ((_, key), value) in pending {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(most).collect())
    }

    /// The rows below the pending changes, for reads that know their key is not pending.
    pub fn stored(&self) -> &dyn Rows {
        self.rows
    }
}

/// Reads a row's bytes.
///
/// # Errors
/// [`RowsError::Damaged`] when they do not have the layout.
pub fn read_row<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, RowsError> {
    codec::from_bytes(table.name(), bytes)
        .map_err(|error| RowsError::Damaged { table: table.name(), problem: error.to_string() })
}

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

    fn warm(&mut self, key: &V::Key, io: &Io<'_>) -> Result<Option<&mut Slot<V>>, RowsError> {
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
        Ok(self.warm(key, io)?.map(|slot| &slot.value))
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
        let Some(slot) = self.warm(key, io)? else { return Ok(None) };
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

/// A key made of numbers and bytes, big-endian, so that order of keys is order of numbers.
#[derive(Debug, Default, Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// Begins with a number.
    pub fn of(number: u64) -> Self {
        Self(number.to_be_bytes().to_vec())
    }

    /// Begins with bytes.
    pub fn bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }

    /// Goes on with a number.
    #[must_use]
    pub fn then(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Goes on with a small number.
    #[must_use]
    pub fn then_u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Goes on with bytes.
    #[must_use]
    pub fn then_bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The key.
    pub fn build(self) -> Vec<u8> {
        self.0
    }
}
