//! Reads beside commits: what is given out as the state at an offset is that state.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use highwater::log::LogRow;
use highwater::rows::{Key, Table, Writes};
use highwater::store::{Options, Store};
use highwater::wire::{SnapshotRule, codec};

use crate::stored::stored;

/// The log that is read; its key is overwritten by every commit.
const LOG: u64 = 1;
/// Logs whose heads and keys are written beside it, so that a commit is large.
const OTHERS: u64 = 400;

fn row(head: u64) -> LogRow {
    LogRow { head, deleted: false, ..LogRow::new("state/a", SnapshotRule::Latest, 1, 0) }
}

/// A record that is the newest of the one key of its log.
fn record(offset: u64) -> Vec<u8> {
    stored(offset, Some("k"), vec![b'x'; 100]).row(None)
}

/// One commit in which each log gets the record at `offset`.
fn commit(store: &Store, offset: u64) {
    let mut writes = Writes::default();
    for log in LOG..=LOG + OTHERS {
        let bytes = record(offset);
        let latest = [&offset.to_be_bytes()[..], &bytes].concat();
        writes.records.push((log, offset, bytes));
        let key = Key::of(log).build();
        writes.rows.insert((Table::Logs, key), Some(codec::to_bytes(&row(offset + 1))));
        let key = Key::of(log).then_bytes(b"k").build();
        writes.rows.insert((Table::Latest, key), Some(latest));
    }
    store.commit(writes, None, false).unwrap();
}

#[test]
fn the_state_at_a_head_holds_what_was_written_last_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Options::default()).unwrap();
    commit(&store, 0);
    let (stop, made) = (AtomicBool::new(false), AtomicU64::new(0));
    let wrong = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                commit(&store, made.fetch_add(1, Ordering::Relaxed) + 1);
            }
        });
        let mut wrong = None;
        while wrong.is_none() && made.load(Ordering::Relaxed) < 250 {
            let head = store.log_row(LOG).unwrap().unwrap().head;
            store.settled();
            let page = store.latest_page(LOG, None, head, 1 << 20).unwrap();
            let found: Vec<_> = page.entries.iter().map(|(offset, _)| *offset).collect();
            // A newer record of the key comes to the reader after the state, as a record.
            let newer = store.log_row(LOG).unwrap().unwrap().head > head;
            let right = found == [head - 1] || (found.is_empty() && newer);
            wrong = (!right).then_some((head, found));
        }
        stop.store(true, Ordering::Relaxed);
        wrong
    });
    assert_eq!(wrong, None, "a head, and the state that was given out for it");
}
