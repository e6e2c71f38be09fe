//! Backups of a store, made, read and restored in process.

use std::io::{self, Read};
use std::path::Path;

use highwater::rows::{Key, Rows, Table, Writes};
use highwater::store::backup::{BackupError, Reader, RestoreError, restore};
use highwater::store::{OpenError, Options, Store};

fn open(dir: &Path) -> Store {
    Store::open(dir, Options::default()).unwrap()
}

/// A batch with a few rows.
fn batch(store: &Store, number: u64) {
    let mut writes = Writes::default();
    for table in [Table::Names, Table::Writers, Table::Users] {
        let key = Key::of(number % 50).then_bytes(table.name().as_bytes()).build();
        writes.rows.insert((table, key), Some(vec![7; 100]));
    }
    writes.records.push((1, number, vec![1; 1_000]));
    store.commit(writes, Some((number, b"batch")), true).unwrap();
}

/// All of it, as bytes; `between` is run after each piece.
fn backup(store: &Store, mut between: impl FnMut()) -> Vec<u8> {
    let mut export = store.export(5);
    let mut all = Vec::new();
    while let Some(piece) = export.piece().unwrap() {
        all.extend(piece);
        between();
    }
    all
}

fn rows(store: &Store) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let of = |table| store.scan(table, &[], &[], usize::MAX >> 1).unwrap().into_iter();
    let all = Table::ALL.into_iter();
    all.flat_map(|table| of(table).map(move |(key, value)| (table, key, value))).collect()
}

/// The state at the batch it names, whatever is committed meanwhile.
#[test]
fn a_backup_is_of_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a"));
    (1..=900).for_each(|number| batch(&store, number));
    store.compact(Table::Records).unwrap();
    let before = rows(&store);
    let mut pieces = 0;
    let bytes = backup(&store, || {
        pieces += 1;
        batch(&store, 900 + pieces);
        store.compact(Table::Records).unwrap();
    });
    assert!(pieces > 3, "{pieces}");
    let (head, end) = Reader::new(bytes.as_slice()).unwrap().verify().unwrap();
    assert_eq!((head.batch, head.node, head.time), (900, store.node_id(), 5));
    assert_eq!(end.rows, before.len() as u64);
    let copy = dir.path().join("b");
    let restored = restore(bytes.as_slice(), &copy).unwrap();
    assert_eq!((restored.head, restored.end), (head, end));
    let copy = open(&copy);
    assert_eq!(copy.node_id(), restored.node);
    assert_eq!(rows(&copy), before);
    assert_eq!(copy.journal_id(), store.journal_id());
    assert_ne!(copy.node_id(), store.node_id(), "two nodes never are the same");
    assert_eq!((copy.kept().head, copy.kept().start), (900, 901));
    batch(&copy, 901);
}

/// Cut anywhere, or with a byte altered anywhere: refused.
#[test]
fn a_backup_that_is_not_whole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a"));
    (1..=3).for_each(|number| batch(&store, number));
    let bytes = backup(&store, || {});
    for at in 0..bytes.len() {
        let verify = |bytes: &[u8]| Reader::new(bytes).and_then(Reader::verify);
        let cut = verify(&bytes[..at]);
        assert!(matches!(cut, Err(BackupError::Cut | BackupError::NotOurs)), "{at}: {cut:?}");
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        verify(&altered).unwrap_err();
    }
    let longer = [bytes.as_slice(), b"x"].concat();
    Reader::new(longer.as_slice()).unwrap().verify().unwrap_err();
    assert!(matches!(Reader::new(io::empty()), Err(BackupError::NotOurs)));
}

/// A reader that fails half-way, as a disk does.
struct Fails<'a>(&'a [u8]);

impl Read for Fails<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("no more"));
        }
        self.0.read(into)
    }
}

#[test]
fn a_restore_that_is_cut_short_leaves_nothing_that_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("a"));
    (1..=50).for_each(|number| batch(&store, number));
    let bytes = backup(&store, || {});
    let target = dir.path().join("b");
    let failed = restore(Fails(&bytes[..bytes.len() / 2]), &target);
    assert!(matches!(failed, Err(RestoreError::Backup(BackupError::Io(_)))), "{failed:?}");
    let opened = Store::open(&target, Options::default());
    assert_eq!(opened.unwrap_err(), OpenError::Unfinished(target.clone()));
    // Nor is it restored into again.
    let again = restore(bytes.as_slice(), &target);
    assert!(matches!(again, Err(RestoreError::Open(OpenError::Unfinished(_)))), "{again:?}");
    std::fs::remove_dir_all(&target).unwrap();
    restore(bytes.as_slice(), &target).unwrap();
    let used = restore(bytes.as_slice(), &target);
    assert!(matches!(used, Err(RestoreError::Kept(_))), "{used:?}");
    assert_eq!(rows(&open(&target)), rows(&store));
}
