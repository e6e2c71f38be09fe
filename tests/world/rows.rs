//! What a node reads of its store for a socket: as the product's store reads it, from rows in
//! memory.

use highwater::connection::ConnectionRow;
use highwater::log::{LogRow, Stored};
use highwater::rows::{Key, MemoryRows, Rows, Table, read_row};
use highwater::wire::Id;

use crate::model;

pub fn log_row(rows: &MemoryRows, log: u64) -> Option<LogRow> {
    let row = rows.get(Table::Logs, &Key::of(log).build()).unwrap()?;
    Some(read_row(Table::Logs, &row).unwrap())
}

pub fn log_of(rows: &MemoryRows, name: &str) -> Option<u64> {
    let row = rows.get(Table::Names, name.as_bytes()).unwrap()?;
    Some(read_row::<highwater::log::NameRow>(Table::Names, &row).unwrap().log)
}

pub fn connection(rows: &MemoryRows, id: Id) -> Option<ConnectionRow> {
    model::connection(rows, id)
}

/// Records from an offset on, but none below the start.
pub fn records(rows: &MemoryRows, log: u64, from: u64, most: usize) -> Vec<(u64, Stored)> {
    let start = log_row(rows, log).map_or(0, |row| row.start);
    let (prefix, from) = (Key::of(log).build(), Key::of(log).then(from.max(start)).build());
    let found = rows.scan(Table::Records, &prefix, &from, most).unwrap();
    let read = |(key, row): &(Vec<u8>, Vec<u8>)| {
        let offset = u64::from_be_bytes(key[8..16].try_into().unwrap());
        (offset, model::stored(rows, row))
    };
    found.iter().map(read).collect()
}

/// The newest records by key behind `after`, and the key to go on behind.
pub fn latest_page(
    rows: &MemoryRows,
    log: u64,
    after: Option<&[u8]>,
    below: u64,
    most: usize,
) -> (Vec<(u64, Stored)>, Option<Vec<u8>>) {
    let prefix = Key::of(log).build();
    let from = match after {
        Some(key) => [&Key::of(log).then_bytes(key).build()[..], &[0]].concat(),
        None => prefix.clone(),
    };
    let mut found = rows.scan(Table::Latest, &prefix, &from, most + 1).unwrap();
    let more = found.len() > most;
    found.truncate(most);
    let next = found.last().filter(|_| more).map(|(key, _)| key[8..].to_vec());
    let read = |(_, row): &(Vec<u8>, Vec<u8>)| {
        let offset = u64::from_be_bytes(row[..8].try_into().unwrap());
        (offset, model::stored(rows, &row[8..]))
    };
    (found.iter().map(read).filter(|(offset, _)| *offset < below).collect(), next)
}

pub fn snapshot_part(rows: &MemoryRows, log: u64, upload: u64, part: u32) -> Option<Vec<u8>> {
    rows.get(Table::Snapshots, &Key::of(log).then(upload).then_u32(part).build()).unwrap()
}

/// Users whose tokens of before a moment no longer count.
pub fn revoked(rows: &MemoryRows) -> std::collections::BTreeMap<String, u64> {
    let mut all = std::collections::BTreeMap::new();
    highwater::fold::each_revoked(rows, |whom, before| {
        all.insert(whom.name().to_owned(), before);
    })
    .unwrap();
    all
}
