//! What must hold of the rows after every batch, whatever was folded. Read from the rows alone.

use std::collections::{BTreeMap, BTreeSet};

use highwater::connection::{ActiveOne, ConnectionRow, UserRow};
use highwater::fold::Fold;
use highwater::rows::{Key, MemoryRows, Rows, Table, read_row};
use std::sync::Arc;

use highwater::log::place::PlaceRow;
use highwater::log::record::{RecordRow, Whose, chained};
use highwater::log::{
    LogRow, MAX_IN_FLIGHT, MAX_UPLOADS, NameRow, OriginRow, OutcomesRow, PageRow, Stored, WriterRow,
};
use highwater::wire::{Id, Place, SnapshotRule, codec};
use serde::de::DeserializeOwned;

type Bytes = Vec<u8>;

/// The rows of one table, by key.
fn table(rows: &MemoryRows, of: Table) -> impl Iterator<Item = (&Bytes, &Bytes)> {
    rows.iter().filter(move |((table, _), _)| *table == of).map(|((_, key), value)| (key, value))
}

fn rows_of<T: DeserializeOwned>(rows: &MemoryRows, of: Table) -> BTreeMap<Bytes, T> {
    table(rows, of).map(|(key, value)| (key.clone(), read_row(of, value).unwrap())).collect()
}

fn number(key: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(key[at..at + 8].try_into().unwrap())
}

/// A record, with who appended it.
pub fn stored(rows: &MemoryRows, row: &[u8]) -> Stored {
    let row = RecordRow::read(Table::Records, row).unwrap();
    let origin = match row.whose.clone() {
        Whose::Written(origin) => origin,
        Whose::Numbered(number) => {
            let row = rows.get(Table::Origins, &Key::of(number).build()).unwrap().unwrap();
            Arc::new(read_row::<OriginRow>(Table::Origins, &row).unwrap().origin)
        }
    };
    row.with(origin)
}

/// A connection, with its cursors.
pub fn connection(rows: &MemoryRows, id: Id) -> Option<ConnectionRow> {
    let row = rows.get(Table::Connections, &id.0).unwrap()?;
    let chunks = rows.scan(Table::Cursors, &id.0, &id.0, usize::MAX).unwrap();
    Some(ConnectionRow::read(&row, &chunks).unwrap())
}

/// The newest records of a log by key, as the server keeps them: key and offset.
pub fn latest(rows: &MemoryRows, log: u64) -> Vec<(String, u64)> {
    let prefix = Key::of(log).build();
    let found = rows.scan(Table::Latest, &prefix, &prefix, usize::MAX).unwrap();
    let read = |(key, row): &(Bytes, Bytes)| {
        (String::from_utf8(key[8..].to_vec()).unwrap(), number(row, 0))
    };
    found.iter().map(read).collect()
}

/// A log's closed pages, by their first offsets.
pub fn pages(rows: &MemoryRows, log: u64) -> Vec<(u64, PageRow)> {
    let prefix = Key::of(log).build();
    let found = rows.scan(Table::Pages, &prefix, &prefix, usize::MAX).unwrap();
    let read = |row: &[u8]| read_row(Table::Pages, row).unwrap();
    found.iter().map(|(key, row)| (number(key, 8), read(row))).collect()
}

fn to_id(bytes: &[u8]) -> Id {
    Id(bytes.try_into().unwrap())
}

/// Asserts every invariant.
pub fn check(rows: &MemoryRows, fold: &Fold) {
    let logs: BTreeMap<u64, LogRow> =
        (rows_of(rows, Table::Logs).into_iter()).map(|(key, row)| (number(&key, 0), row)).collect();
    let connections: BTreeMap<Id, ConnectionRow> = table(rows, Table::Connections)
        .map(|(key, _)| (to_id(key), connection(rows, to_id(key)).unwrap()))
        .collect();
    check_names(rows, &logs);
    check_records(rows, &logs);
    check_latest(rows, &logs);
    check_places(rows, &logs, fold);
    check_pages(rows, &logs);
    check_snapshots(rows, &logs);
    check_writers(rows);
    check_indexes(rows, &connections);
    check_users(rows, &connections, fold.active());
    check_cursors(&logs, &connections);
}

/// Each living log has its name, and each name a living log.
fn check_names(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>) {
    let names = rows_of::<NameRow>(rows, Table::Names);
    let names: BTreeMap<Bytes, u64> = names.into_iter().map(|(key, row)| (key, row.log)).collect();
    let alive: BTreeMap<Bytes, u64> = (logs.iter().filter(|(_, row)| !row.deleted))
        .map(|(id, row)| (row.name.clone().into_bytes(), *id))
        .collect();
    assert_eq!(names, alive);
}

/// Offsets are dense, places rise, sizes add up, and each (writer, sequence) is stored once and in
/// the writer's order.
fn check_records(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>) {
    let mut next: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut hashes: BTreeMap<u64, [u8; 32]> = BTreeMap::new();
    let mut sent: BTreeMap<Place, (Id, u64)> = BTreeMap::new();
    for (key, value) in table(rows, Table::Records) {
        let (log, offset) = (number(key, 0), number(key, 8));
        let record = stored(rows, value);
        let numbered = RecordRow::read(Table::Records, value).unwrap().whose;
        let numbered = matches!(numbered, Whose::Numbered(_));
        let hash = hashes.entry(log).or_default();
        let origin = numbered.then(|| codec::to_bytes(&*record.origin));
        *hash = chained(hash, value, origin.as_deref());
        let (head, bytes) = next.entry(log).or_default();
        assert_eq!((offset, record.before), (*head, *bytes), "log {log}");
        if offset == logs[&log].start {
            assert_eq!(logs[&log].start_bytes, record.before);
        }
        *head += 1;
        *bytes += record.record.size() as u64;
        if record.origin.writer == Id::NONE {
            // The server's own: it names what it was derived from, and has no sequence.
            assert!(record.derived.is_some_and(|cause| cause < record.place) && record.seq == 0);
            assert_eq!((record.origin.user.as_str(), record.record.payload), ("", None));
            continue;
        }
        assert_eq!(record.derived, None);
        let known = sent.insert(record.place, (record.origin.writer, record.seq));
        assert_eq!(known, None, "a place was given twice");
    }
    for (id, row) in logs.iter().filter(|(id, row)| row.head > 0 && next.contains_key(id)) {
        assert_eq!((row.head, row.bytes), next[id], "log {id}");
        assert_eq!(row.hash, hashes[id], "log {id} vouches for its records");
    }
    let mut marks: BTreeMap<Id, u64> = BTreeMap::new();
    for (writer, seq) in sent.into_values() {
        let before = marks.insert(writer, seq).unwrap_or(0);
        assert!(before < seq, "writer {writer}: {seq} after {before}");
    }
}

/// Where the rule is `latest` and none other is on its way, its table holds the newest record of
/// each key, as far as its log keeps that; of a key whose record was trimmed it may. Elsewhere it
/// holds nothing but what a step has left.
fn check_latest(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>) {
    let mut newest: BTreeMap<u64, BTreeMap<Bytes, Option<Bytes>>> = BTreeMap::new();
    for (key, value) in table(rows, Table::Records) {
        let (log, record) = (number(key, 0), stored(rows, value).record);
        let Some(name) = record.key else { continue };
        let row = record.payload.map(|_| [&key[8..16], value].concat());
        newest.entry(log).or_default().insert(name.into_bytes(), row);
    }
    let mut kept: BTreeMap<u64, BTreeMap<Bytes, Bytes>> = BTreeMap::new();
    for (key, value) in table(rows, Table::Latest) {
        kept.entry(number(key, 0)).or_default().insert(key[8..].to_vec(), value.clone());
    }
    for (id, row) in logs.iter().filter(|(_, row)| !row.deleted) {
        let kept = kept.remove(id).unwrap_or_default();
        if row.deriving.is_some() || row.rule != SnapshotRule::Latest {
            assert!(row.deriving.is_some() || kept.is_empty(), "log {id} holds {kept:?}");
            continue;
        }
        let all = newest.remove(id).unwrap_or_default();
        for (name, value) in &kept {
            assert_eq!(all[name].as_ref(), Some(value), "log {id}, {name:?}");
        }
        let must = all.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        for (name, value) in must.filter(|(_, value)| number(value, 0) >= row.start) {
            assert!(kept.get(name) == Some(value), "log {id} lacks {name:?}");
        }
    }
}

/// Each record stands in the row of its batch, by its place, and the rows count them all.
fn check_places(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>, fold: &Fold) {
    let (mut before, mut placed) = (0, BTreeMap::new());
    for (key, row) in rows_of::<PlaceRow>(rows, Table::Places) {
        let batch = number(&key, 0);
        assert_eq!(row.before, before, "batch {batch}");
        before = row.after();
        for run in &row.runs {
            for at in 0..run.many {
                let place = Place { batch, index: run.index + at };
                placed.insert((run.log, run.offset + u64::from(at)), place);
            }
        }
    }
    assert_eq!(before, fold.head().records);
    let stands: BTreeMap<(u64, u64), Place> = table(rows, Table::Records)
        .map(|(key, value)| ((number(key, 0), number(key, 8)), stored(rows, value).place))
        .collect();
    // Tests set heads by hand; what a log holds is placed, and nothing else but that.
    let held = |(log, _): &(u64, u64)| logs.contains_key(log);
    assert!(stands.iter().all(|(at, place)| placed.get(at) == Some(place)));
    assert!(placed.keys().filter(|at| held(at)).all(|at| stands.contains_key(at)));
}

/// Pages follow each other, each with records and closed after it opened, up to the open one, which
/// is not full.
fn check_pages(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>) {
    for (id, row) in logs {
        let (mut end, mut closed) = (0, 0);
        for (first, page) in pages(rows, *id) {
            assert!(end <= first && first < page.end, "log {id}: {first} {page:?}");
            assert!(closed <= page.closed && page.opened <= page.closed, "log {id}: {page:?}");
            (end, closed) = (page.end, page.closed);
        }
        let paging = row.paging;
        assert!(end <= paging.first && paging.first <= row.head, "log {id}: {paging:?}");
        match paging.takes {
            0 => assert!(paging.records == 0 || row.head == paging.first, "log {id}: {paging:?}"),
            takes => assert!((1..takes).contains(&(row.head - paging.first)), "log {id}"),
        }
    }
}

/// Snapshots are whole, at most two, rising; nothing else lies in their table for living logs.
fn check_snapshots(rows: &MemoryRows, logs: &BTreeMap<u64, LogRow>) {
    let mut parts: BTreeMap<(u64, u64), BTreeMap<u32, u64>> = BTreeMap::new();
    for (key, value) in table(rows, Table::Snapshots) {
        let part = u32::from_be_bytes(key[16..20].try_into().unwrap());
        let of = parts.entry((number(key, 0), number(key, 8))).or_default();
        of.insert(part, value.len() as u64);
    }
    for (id, row) in logs {
        assert!(row.snapshots.len() <= 2 && row.snapshots.is_sorted_by(|a, b| a.offset < b.offset));
        for snapshot in &row.snapshots {
            assert!(snapshot.offset <= row.head);
            let found = parts.remove(&(*id, snapshot.upload)).unwrap();
            assert!(found.keys().copied().eq(0..snapshot.parts), "log {id}: {found:?}");
            assert_eq!(found.values().sum::<u64>(), snapshot.bytes);
        }
        if row.rule == SnapshotRule::Client && !row.deleted {
            // One without a snapshot may have been trimmed under another rule.
            let newest = row.snapshots.last().map_or(row.start, |snapshot| snapshot.offset);
            assert!(row.start <= newest, "start passed the newest snapshot");
        }
    }
    let mut uploads: BTreeMap<u64, usize> = BTreeMap::new();
    for (key, _) in table(rows, Table::Uploads) {
        assert!(!logs[&number(key, 0)].deleted);
        *uploads.entry(number(key, 0)).or_default() += 1;
    }
    assert!(uploads.values().all(|count| *count <= MAX_UPLOADS));
    let mut left: BTreeMap<u64, usize> = BTreeMap::new();
    for (log, _) in parts.keys().filter(|(log, _)| !logs[log].deleted) {
        *left.entry(*log).or_default() += 1;
    }
    assert_eq!(left, uploads, "parts that belong to nothing");
}

/// Outcomes lie from the oldest unconfirmed to the mark, in order, bounded.
fn check_writers(rows: &MemoryRows) {
    let writers: BTreeMap<Bytes, WriterRow> = rows_of(rows, Table::Writers);
    let mut kept: BTreeMap<Bytes, Vec<u64>> = BTreeMap::new();
    for (key, chunk) in rows_of::<OutcomesRow>(rows, Table::Outcomes) {
        let row = &writers[&key[..16]];
        let seqs: Vec<u64> = chunk.outcomes.iter().map(|outcome| outcome.seq).collect();
        assert_eq!(seqs.last(), Some(&number(&key, 16)));
        assert!(number(&key, 16) >= row.oldest, "a chunk of confirmed outcomes only");
        let seqs = seqs.into_iter().filter(|seq| *seq >= row.oldest);
        kept.entry(key[..16].to_vec()).or_default().extend(seqs);
    }
    for (writer, seqs) in kept {
        assert!(seqs.is_sorted_by(|a, b| a < b) && seqs.len() <= MAX_IN_FLIGHT);
        assert_eq!(seqs.last(), Some(&writers[&writer].mark));
    }
}

/// The indexes say what the rows say, and no cursors are left of who is gone.
fn check_indexes(rows: &MemoryRows, connections: &BTreeMap<Id, ConnectionRow>) {
    for (key, _) in table(rows, Table::Cursors) {
        assert!(connections.contains_key(&to_id(&key[..16])), "cursors of nobody");
    }
    let (mut subscribers, mut active) = (BTreeSet::new(), BTreeSet::new());
    let mut owned = BTreeSet::new();
    for (id, row) in connections {
        assert!(row.subs.is_sorted_by(|a, b| a.log < b.log));
        assert!(row.joined <= row.generation);
        let key = |log: u64| [&log.to_be_bytes()[..], &id.0[..]].concat();
        subscribers.extend(row.subs.iter().map(|sub| key(sub.log)));
        if row.active() {
            active.extend(row.subs.iter().map(|sub| key(sub.log)));
        }
        owned.insert([row.user.as_bytes(), &[0], &id.0[..]].concat());
    }
    let keys = |of| table(rows, of).map(|(key, _)| key.clone()).collect::<BTreeSet<Bytes>>();
    // Of those who are inactive, the ones that no trim has met yet.
    let indexed = keys(Table::Subscribers);
    assert!(indexed.is_superset(&active) && indexed.is_subset(&subscribers));
    assert_eq!(keys(Table::UserConnections), owned);
}

/// Slots given out are those that active rows hold, by user and in all.
fn check_users(rows: &MemoryRows, connections: &BTreeMap<Id, ConnectionRow>, active: u64) {
    let mut users: BTreeMap<Bytes, UserRow> = BTreeMap::new();
    for (id, row) in connections {
        let user = users.entry(row.user.clone().into_bytes()).or_default();
        user.connections += 1;
        if row.active() {
            user.active.push(ActiveOne { connection: *id, device: row.device });
        }
    }
    assert_eq!(users.values().map(|user| user.active.len() as u64).sum::<u64>(), active);
    let mut stored = rows_of::<UserRow>(rows, Table::Users);
    // What the back end has subscribed a user to stands there too, also where there is nobody.
    for user in stored.values_mut() {
        assert_ne!(*user, UserRow::default(), "a row with nothing in it");
        user.more = Default::default();
    }
    stored.retain(|_, user| *user != UserRow::default());
    assert_eq!(stored, users);
}

/// No floor is above an active cursor; nobody active waits for what is gone, or is ahead.
fn check_cursors(logs: &BTreeMap<u64, LogRow>, connections: &BTreeMap<Id, ConnectionRow>) {
    for (id, row) in connections.iter().filter(|(_, row)| row.active()) {
        for sub in &row.subs {
            let log = &logs[&sub.log];
            assert!(sub.cursor <= log.head, "{id} is past the head of {}", sub.log);
            // One that is held is told of the gap when it is opened.
            let gone = sub.cursor < log.start && !sub.held();
            assert!(log.deleted || !gone, "{id} waits for what is gone");
            assert!(log.deleted || log.floor <= sub.cursor, "floor of {} too high", sub.log);
        }
    }
    assert!(logs.values().all(|log| log.start <= log.head && log.floor <= log.head));
}
