//! Trimming by watermark: what is gone is freed, what may be read never is.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use highwater::fold::Head;
use highwater::log::place::{NEWEST_KEPT, PlaceRow, Run};
use highwater::log::{LogRow, PageRow};
use highwater::rows::{Key, Rows, Table, Writes};
use highwater::store::{Options, Store};
use highwater::wire::{Id, SnapshotRule, codec};

use crate::stored::stored;

fn open(dir: &Path) -> Store {
    Store::open(dir, Options { memtable_bytes: 1 << 20, ..Options::default() }).unwrap()
}

/// A record that compression cannot make small.
fn record(offset: u64) -> Vec<u8> {
    let noise = (0..500).map(|_| rand::random::<u8>()).collect();
    stored(offset, None, noise).row(None)
}

fn write(store: &Store, log: u64, offsets: Range<u64>) {
    for first in offsets.clone().step_by(100) {
        let mut writes = Writes::default();
        for offset in first..(first + 100).min(offsets.end) {
            writes.records.push((log, offset, record(offset)));
        }
        store.commit(writes, None, true).unwrap();
    }
}

/// Sets what a log's row says of start and deletion.
fn mark(store: &Store, log: u64, start: u64, deleted: bool, sync: bool) {
    let row = LogRow {
        head: 1_000_000,
        start,
        deleted,
        ..LogRow::new(&format!("log/{log}"), SnapshotRule::None, 1, 0)
    };
    let mut writes = Writes::default();
    writes.rows.insert((Table::Logs, Key::of(log).build()), Some(codec::to_bytes(&row)));
    store.commit(writes, None, sync).unwrap();
}

/// Offsets of a log that the table still holds, below its start too.
fn held(store: &Store, log: u64) -> Vec<u64> {
    let rows = store.scan(Table::Records, &log.to_be_bytes(), &[], usize::MAX >> 1).unwrap();
    rows.iter().map(|(key, _)| u64::from_be_bytes(key[8..16].try_into().unwrap())).collect()
}

#[test]
fn trimmed_records_and_deleted_logs_are_freed_when_files_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for log in 1..=4 {
        mark(&store, log, 0, false, true);
        write(&store, log, 0..1_000);
    }
    store.compact(Table::Records).unwrap();
    let before = store.disk_bytes(Table::Records).unwrap();
    assert!(before > 1_900_000, "{before}");
    mark(&store, 1, 900, false, true);
    mark(&store, 2, 1_000, true, true);
    mark(&store, 3, 0, false, true);
    assert_eq!(held(&store, 1).len(), 1_000, "nothing is removed row by row");
    store.compact(Table::Records).unwrap();
    assert_eq!(held(&store, 1), (900..1_000).collect::<Vec<_>>());
    assert_eq!(held(&store, 2), [0_u64; 0]);
    assert_eq!(held(&store, 3).len(), 1_000);
    assert_eq!(held(&store, 4).len(), 1_000);
    let after = store.disk_bytes(Table::Records).unwrap();
    assert!(after * 18 < before * 10, "{before} bytes became {after}");
    drop(store);
    let store = open(dir.path());
    assert_eq!(held(&store, 1), (900..1_000).collect::<Vec<_>>(), "and it stays so");
    assert_eq!(store.records(1, 900, 999, usize::MAX).unwrap().len(), 100);
}

/// A page is gone with its first record, and not sooner.
#[test]
fn pages_below_the_start_go_like_records() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut writes = Writes::default();
    for log in 1..=3 {
        for first in (0..50).step_by(10) {
            let page = PageRow {
                end: first + 10,
                opened: 1,
                closed: 2,
                hash: [0; 32],
                more: Default::default(),
            };
            let key = Key::of(log).then(first).build();
            writes.rows.insert((Table::Pages, key), Some(codec::to_bytes(&page)));
        }
    }
    store.commit(writes, None, true).unwrap();
    mark(&store, 1, 20, false, true);
    mark(&store, 2, 50, true, true);
    mark(&store, 3, 0, false, true);
    store.compact(Table::Pages).unwrap();
    let firsts = |log: u64| -> Vec<u64> {
        store.pages(log, 0, 99).unwrap().into_iter().map(|(first, _)| first).collect()
    };
    assert_eq!(firsts(1), [20, 30, 40]);
    assert_eq!(firsts(2), [0_u64; 0]);
    assert_eq!(firsts(3), [0, 10, 20, 30, 40]);
    assert_eq!(store.pages(3, 11, 2).unwrap().len(), 2);
    assert_eq!(store.pages(3, 11, 2).unwrap()[0].0, 20);
}

#[test]
fn everything_of_a_deleted_log_goes_and_nothing_of_its_neighbours() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tables = [Table::Latest, Table::Snapshots, Table::Uploads, Table::Subscribers];
    let mut writes = Writes::default();
    for log in [1, 2, 3] {
        for table in tables {
            for at in 0..10 {
                let key = Key::of(log).then(at).then(at).build();
                writes.rows.insert((table, key), Some(vec![1; 20]));
            }
        }
    }
    store.commit(writes, None, true).unwrap();
    mark(&store, 1, 500, false, true);
    mark(&store, 2, 500, true, true);
    for table in tables {
        store.compact(table).unwrap();
        let left = |log: u64| store.scan(table, &log.to_be_bytes(), &[], 99).unwrap().len();
        // Below the start only records go: the newest by key, and snapshots, are what is left then.
        assert_eq!((left(1), left(2), left(3)), (10, 0, 10), "{table:?}");
    }
}

/// The trim stands in a commit that a loss of power would take back: what it trims must stay.
#[test]
fn a_trim_frees_nothing_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    mark(&store, 1, 100, false, true);
    write(&store, 1, 0..1_000);
    mark(&store, 1, 600, false, false);
    store.compact(Table::Records).unwrap();
    assert_eq!(held(&store, 1), (100..1_000).collect::<Vec<_>>(), "the durable trim counts");
    store.release(1).unwrap();
    assert_eq!(held(&store, 1).len(), 900);
    store.sync().unwrap();
    store.compact(Table::Records).unwrap();
    assert_eq!(held(&store, 1), (600..1_000).collect::<Vec<_>>());
}

/// Files of one hot log overlap no others, so they are never merged: whole files are dropped.
#[test]
fn whole_files_of_a_hot_log_are_released() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    mark(&store, 1, 0, false, true);
    write(&store, 1, 0..20_000);
    let begun = Instant::now();
    while store.disk_bytes(Table::Records).unwrap() < 8 << 20 {
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "the tables were never written to files"
        );
        std::thread::yield_now();
    }
    let before = store.disk_bytes(Table::Records).unwrap();
    mark(&store, 1, 18_000, false, true);
    store.release(1).unwrap();
    let after = store.disk_bytes(Table::Records).unwrap();
    assert!(after * 3 < before, "{before} bytes became {after}");
    let left = held(&store, 1);
    assert!(left.len() < 8_000, "{} rows are left", left.len());
    let kept = store.records(1, 18_000, usize::MAX, usize::MAX).unwrap();
    assert_eq!(kept.len(), 2_000, "what is kept is whole");
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.records(1, 18_000, usize::MAX, usize::MAX).unwrap().len(), 2_000);
    write(&store, 1, 20_000..20_100);
    assert_eq!(store.records(1, 18_000, usize::MAX, usize::MAX).unwrap().len(), 2_100);
}

/// Merges, flushes and trims go on while a log is read: what is kept is always whole.
#[test]
fn readers_see_what_is_kept_while_files_merge() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    mark(&store, 1, 0, false, true);
    for round in 0..20_u64 {
        write(&store, 1, round * 500..round * 500 + 500);
        let start = round * 450;
        mark(&store, 1, start, false, true);
        std::thread::scope(|scope| {
            scope.spawn(|| store.compact(Table::Records).unwrap());
            scope.spawn(|| store.release(1).unwrap());
            let due = usize::try_from(round * 500 + 500 - start).unwrap();
            for _ in 0..5 {
                assert_eq!(store.records(1, start, usize::MAX, usize::MAX).unwrap().len(), due);
            }
        });
    }
}

/// Rows of logs are looked up by merges that last while those rows are written, flushed and merged
/// themselves: the view they are looked up by must stay.
#[test]
fn merges_look_logs_up_while_their_rows_move_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let value = record(0);
    for round in 0..400_u64 {
        let mut writes = Writes::default();
        for log in 1..=100 {
            writes.records.push((log, round, value.clone()));
            writes.rows.insert((Table::Logs, Key::of(log).build()), Some(long_row(round)));
        }
        // Without sync at times: a view must then last until the next checkpoint.
        store.commit(writes, None, round / 100 % 2 == 0).unwrap();
    }
    store.compact(Table::Records).unwrap();
    for log in 1..=100 {
        let start = 399_u64.saturating_sub(50);
        assert_eq!(store.records(log, start, 999, usize::MAX).unwrap().len(), 51);
    }
    assert!(held(&store, 1).len() < 200, "trims of durable commits counted");
}

/// A row of a log, large so that its table is flushed often.
fn long_row(round: u64) -> Vec<u8> {
    let row = LogRow {
        head: round + 1,
        start: round.saturating_sub(50),
        deleted: false,
        ..LogRow::new(&"log/".repeat(60), SnapshotRule::None, 1, 0)
    };
    codec::to_bytes(&row)
}

/// Rows that others have taken the place of do not stay in the way of who reads the newest ones: a
/// clone would cost what was overwritten, though none of it is sent.
#[test]
fn what_was_overwritten_leaves_memory_when_the_newest_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let gathered = || store.pressure().unwrap().write_buffer_bytes;
    for round in 0..100_u64 {
        let mut writes = Writes::default();
        for key in 0..100_u64 {
            let key = Key::of(1).then_bytes(key.to_string().as_bytes()).build();
            let row = [&round.to_be_bytes()[..], &record(round)].concat();
            writes.rows.insert((Table::Latest, key), Some(row));
        }
        store.commit(writes, None, false).unwrap();
    }
    let newest = || {
        let page = store.latest_page(1, None, 100, usize::MAX).unwrap();
        assert!(page.next.is_none() && page.entries.len() == 100);
        assert!(page.entries.iter().all(|(offset, _)| *offset == 99));
    };
    assert!(gathered() > 4 << 20, "{}", gathered());
    newest();
    let end = Instant::now() + Duration::from_secs(30);
    while gathered() > 1 << 20 {
        assert!(Instant::now() < end, "they are still in memory");
        std::thread::sleep(Duration::from_millis(5));
    }
    newest();
}

/// The row of a batch is kept while any record that it names is, and while it is among the newest.
#[test]
fn places_go_when_all_they_name_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let row = |log: u64, offset: u64| {
        let runs = vec![Run { index: 0, log, offset, many: 2 }];
        codec::to_bytes(&PlaceRow { runs, ..PlaceRow::default() })
    };
    // Log 1 is trimmed up to 10, log 2 is deleted, log 3 is whole; one batch has no records.
    mark(&store, 1, 10, false, true);
    mark(&store, 2, 0, true, true);
    mark(&store, 3, 0, false, true);
    let nothing = codec::to_bytes(&PlaceRow::default());
    let batches = [row(1, 8), row(1, 9), row(2, 5), row(3, 0), nothing.clone(), row(1, 0), nothing];
    let put = |head: u64| {
        let mut writes = Writes::default();
        for (batch, row) in [1, 2, 3, 4, 5, 1_000, 1_001].into_iter().zip(&batches) {
            let key = (Table::Places, Key::of(batch).build());
            writes.rows.insert(key, Some(row.clone()));
        }
        let head = Head { batch: head, ..Head::new(Id([1; 16])) };
        let key = (Table::Meta, b"head".to_vec());
        writes.rows.insert(key, Some(codec::to_bytes(&head)));
        store.commit(writes, None, true).unwrap();
        store.compact(Table::Places).unwrap();
    };
    let left = || -> Vec<u64> {
        let rows = store.scan(Table::Places, &[], &[], 99).unwrap();
        rows.iter().map(|(key, _)| u64::from_be_bytes(key.as_slice().try_into().unwrap())).collect()
    };
    put(1_001);
    assert_eq!(left(), [1, 2, 3, 4, 5, 1_000, 1_001], "all are among the newest");
    put(1_000 + NEWEST_KEPT);
    assert_eq!(left(), [2, 4, 1_001], "what names a kept record, and the newest");
}
