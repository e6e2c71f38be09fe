//! Subscriptions and cursors of a connection, as they are kept: in chunks beside its row.
//!
//! A commit of cursors writes the chunks that moved and nothing else. A chunk holds the
//! subscriptions to logs from its key's log id on, up to the next chunk's; one that outgrows its
//! bound is divided. What is on disk is known by fingerprints, so that only what differs is
//! written. Layout: `docs/storage.md` §3.8.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::row::Sub;
use crate::rows::{Io, Key, More, Pair, RowsError, Table, read_row};
use crate::wire::{Id, Place, codec};

/// Subscriptions in a chunk, at most.
const MOST: usize = 64;
/// Chunks of one connection that are read: more than the most subscriptions can fill.
const MOST_CHUNKS: usize = 1 << 20;

/// One chunk.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Chunk {
    /// Place of the newest commit when it was written.
    committed: Place,
    /// By log id.
    subs: Vec<Sub>,
    /// What is to come.
    more: More,
}

/// What is on disk of a connection's cursors: first log id of each chunk, and its fingerprint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chunks(BTreeMap<u64, Known>);

/// What is known of a chunk on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    print: Print,
    more: More,
}

/// Of a hash that nobody finds two inputs for: clients choose the cursors, and a chunk that were
/// taken for another would be written by one node and not by the next.
type Print = [u8; 16];

impl Chunks {
    /// Bytes that it holds, about.
    pub(super) fn weight(&self) -> usize {
        self.0.len() * 32
    }
}

/// The subscriptions by log id, the place of the newest commit that a chunk knows, and what is on
/// disk.
pub(super) type Loaded = (Vec<Sub>, Place, Chunks);

/// Reads the chunks of a connection.
///
/// # Errors
/// When storage fails or a row is damaged.
pub(super) fn load(id: Id, io: &Io<'_>) -> Result<Loaded, RowsError> {
    read(&io.scan(Table::Cursors, &id.0, &id.0, MOST_CHUNKS)?)
}

/// Puts the chunks of a connection, as they are stored, together.
///
/// # Errors
/// When a row is damaged.
pub(super) fn read(pairs: &[Pair]) -> Result<Loaded, RowsError> {
    let (mut all, mut newest, mut chunks) = (Vec::new(), Place::default(), Chunks::default());
    for (key, value) in pairs {
        let damaged = || RowsError::Damaged {
            table: Table::Cursors.name(),
            problem: format!("a key of {} bytes", key.len()),
        };
        let first = key.get(16..).and_then(|first| first.try_into().ok()).ok_or_else(damaged)?;
        let Chunk { committed, subs, more } = read_row(Table::Cursors, value)?;
        newest = newest.max(committed);
        let known = Known { print: fingerprint(&subs), more };
        chunks.0.insert(u64::from_be_bytes(first), known);
        all.extend(subs);
    }
    Ok((all, newest, chunks))
}

/// Writes the chunks that differ from what is on disk, with the place of the newest commit. True
/// where a chunk went: what it knew of that place has to be kept elsewhere.
pub(super) fn save(
    id: Id,
    subs: &[Sub],
    committed: Place,
    chunks: &mut Chunks,
    io: &mut Io<'_>,
) -> bool {
    let mut kept = BTreeMap::new();
    for (first, subs) in divided(subs, &chunks.0) {
        let print = fingerprint(subs);
        let known = chunks.0.get(&first);
        let more = known.map_or_else(More::default, |known| known.more.clone());
        if known.is_none_or(|known| known.print != print) {
            let chunk = Chunk { committed, subs: subs.to_vec(), more: more.clone() };
            io.put(Table::Cursors, key(id, first), &chunk);
        }
        kept.insert(first, Known { print, more });
    }
    let known = std::mem::replace(&mut chunks.0, kept);
    let gone: Vec<u64> = known.into_keys().filter(|first| !chunks.0.contains_key(first)).collect();
    for first in &gone {
        io.remove(Table::Cursors, key(id, *first));
    }
    !gone.is_empty()
}

/// Removes all chunks of a connection.
pub(super) fn remove(id: Id, chunks: &Chunks, io: &mut Io<'_>) {
    for first in chunks.0.keys() {
        io.remove(Table::Cursors, key(id, *first));
    }
}

fn key(id: Id, first: u64) -> Vec<u8> {
    Key::bytes(&id.0).then(first).build()
}

fn fingerprint(subs: &[Sub]) -> Print {
    let hash = blake3::hash(&codec::to_bytes(&subs));
    let mut print = Print::default();
    print.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    print
}

/// Subscriptions by chunk, with the chunks' first log ids: along the known bounds, where a chunk
/// does not outgrow its own. The first chunk begins at 0; one that is left empty goes.
fn divided<'a>(subs: &'a [Sub], known: &BTreeMap<u64, Known>) -> Vec<(u64, &'a [Sub])> {
    let mut bounds: Vec<u64> = known.keys().copied().filter(|first| *first > 0).collect();
    bounds.push(u64::MAX);
    let (mut rest, mut first, mut all) = (subs, 0, Vec::new());
    for bound in bounds {
        let (chunk, after) = rest.split_at(rest.partition_point(|sub| sub.log < bound));
        let parts = chunk.len().div_ceil(MOST);
        if parts > 0 {
            let pieces = chunk.chunks(chunk.len().div_ceil(parts)).enumerate();
            all.extend(pieces.map(|(at, piece)| {
                let own = piece.first().map_or(first, |sub| sub.log);
                (if at == 0 { first } else { own }, piece)
            }));
        }
        (rest, first) = (after, bound);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::MemoryRows;

    const ID: Id = Id([5; 16]);

    fn sub(log: u64, cursor: u64) -> Sub {
        Sub { log, cursor, priority: 0, base: false, opening: 1 }
    }

    /// Saves into rows: how many rows were put, and removed.
    fn saved(rows: &mut MemoryRows, subs: &[Sub], chunks: &mut Chunks) -> (usize, usize) {
        let place = Place { batch: 1, index: 0 };
        let mut io = Io::new(rows);
        save(ID, subs, place, chunks, &mut io);
        let writes = io.writes;
        rows.commit(&writes);
        let put = writes.rows.values().filter(|value| value.is_some()).count();
        (put, writes.rows.len() - put)
    }

    fn held(rows: &MemoryRows) -> Loaded {
        load(ID, &Io::new(rows)).unwrap()
    }

    #[test]
    fn only_what_moved_is_written() {
        let (mut rows, mut chunks) = (MemoryRows::default(), Chunks::default());
        let mut subs: Vec<Sub> = (1..=1_000).map(|log| sub(log * 10, 0)).collect();
        assert_eq!(saved(&mut rows, &subs, &mut chunks), (16, 0));
        assert_eq!(held(&rows), (subs.clone(), Place { batch: 1, index: 0 }, chunks.clone()));
        assert_eq!(saved(&mut rows, &subs, &mut chunks), (0, 0));
        subs[500].cursor = 7;
        assert_eq!(saved(&mut rows, &subs, &mut chunks), (1, 0));
        // One more in the midst of a full chunk divides it; the others stay.
        for log in [5_001, 5_002, 5_003] {
            let at = subs.partition_point(|sub| sub.log < log);
            subs.insert(at, sub(log, 0));
        }
        assert_eq!(saved(&mut rows, &subs, &mut chunks), (2, 0));
        assert_eq!(held(&rows).0, subs);
        // A chunk that is left empty goes.
        subs.retain(|sub| sub.log > 640);
        let (_, gone) = saved(&mut rows, &subs, &mut chunks);
        assert_eq!(gone, 1);
        assert_eq!((held(&rows).0, held(&rows).2), (subs, chunks.clone()));
        assert_eq!(saved(&mut rows, &[], &mut chunks).0, 0);
        assert!(held(&rows).0.is_empty());
    }

    #[test]
    fn a_lower_log_id_than_any_goes_to_the_first_chunk() {
        let (mut rows, mut chunks) = (MemoryRows::default(), Chunks::default());
        let mut subs: Vec<Sub> = (100..300).map(|log| sub(log, 0)).collect();
        saved(&mut rows, &subs, &mut chunks);
        subs.drain(..64);
        saved(&mut rows, &subs, &mut chunks);
        subs.insert(0, sub(1, 0));
        saved(&mut rows, &subs, &mut chunks);
        assert_eq!((held(&rows).0, held(&rows).2), (subs, chunks));
    }
}
