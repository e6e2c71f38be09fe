//! A small folder with something in every table, in files and in two logs of the engine; what it
//! holds; and copies of it with one bit altered.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use highwater::rows::{Key, Rows, RowsError, Table, Writes};
use highwater::store::{Kept, OpenError, Options, Store};
use highwater::wire::Id;
use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _};

/// All that a store holds, as its readers get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    ids: (Id, Id),
    kept: Kept,
    batches: Vec<(u64, Vec<u8>)>,
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl Content {
    pub fn of(store: &Store) -> Result<Self, RowsError> {
        let mut rows = BTreeMap::new();
        for table in Table::ALL {
            for (key, value) in store.scan(table, &[], &[], usize::MAX >> 1)? {
                // By the other way too: it uses filters and hashes, which a scan does not.
                if store.get(table, &key)?.as_ref() != Some(&value) {
                    let problem = "a row is found by a scan, and not by its key".to_owned();
                    return Err(RowsError::Damaged { table: table.name(), problem });
                }
                rows.insert((table, key), value);
            }
        }
        let kept = store.kept();
        let batches = store.batches(kept.start, usize::MAX)?;
        let batches = batches.into_iter().map(|(number, bytes)| (number, bytes.to_vec())).collect();
        Ok(Self { ids: (store.journal_id(), store.node_id()), kept, batches, rows })
    }
}

pub fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, Options::default())
}

/// Bytes that are not zero, since bits of zeroes are not altered here.
fn noise(random: &mut StdRng, many: usize) -> Vec<u8> {
    (0..many).map(|_| random.random_range(1..=u8::MAX)).collect()
}

/// One batch: rows of every table, records of two logs, and some that go again.
fn batch(store: &Store, random: &mut StdRng, number: u64) {
    let mut writes = Writes::default();
    for log in 1..=2 {
        writes.records.push((log, number, noise(random, 40)));
    }
    for (at, table) in Table::ALL.into_iter().enumerate() {
        if table == Table::Records || !(number + at as u64).is_multiple_of(3) {
            continue;
        }
        // A few keys, so that they are overwritten, and one that goes.
        let key = Key::of(number % 4 + 1).then_bytes(table.name().as_bytes()).build();
        let many = random.random_range(4..24);
        writes.rows.insert((table, key), Some(noise(random, many)));
        let gone = Key::of((number + 2) % 4 + 1).then_bytes(table.name().as_bytes()).build();
        writes.rows.insert((table, gone), None);
    }
    let bytes = noise(random, 30);
    assert_eq!(store.kept().head + 1, number);
    store.commit(writes, Some((number, &bytes)), true).unwrap();
}

/// What a folder holds, and what it held before its very last commit.
pub struct Known {
    pub whole: Content,
    pub before_last: Content,
}

/// Makes it: some tables in files, twice; the rest in two logs; the last commit spans sectors.
pub fn make(dir: &Path, random: &mut StdRng) -> Known {
    let mut store = open(dir).unwrap();
    for number in 1..=6 {
        batch(&store, random, number);
        let written = match number {
            2 | 4 => &[Table::Records, Table::Logs][..],
            3 => &[Table::Latest, Table::Connections][..],
            _ => &[],
        };
        written.iter().for_each(|table| store.compact(*table).unwrap());
    }
    drop(store);
    split(dir);
    store = open(dir).unwrap();
    batch(&store, random, 7);
    batch(&store, random, 8);
    let before_last = Content::of(&store).unwrap();
    let mut writes = Writes::default();
    writes.records.push((1, 9, noise(random, 1_100)));
    let mut last = vec![0; 40];
    random.fill_bytes(&mut last);
    store.commit(writes, Some((9, &last)), true).unwrap();
    let whole = Content::of(&store).unwrap();
    drop(store);
    Known { whole, before_last }
}

/// Makes two logs of the engine's one, as if it had begun another: it does that only after 64 MB.
fn split(dir: &Path) {
    let path = dir.join("store/0.jnl");
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    let ends = bytes.windows(4).enumerate().filter(|(_, four)| four == b"FJL\x03");
    let ends: Vec<usize> = ends.map(|(at, _)| at + 4).collect();
    let at = ends[ends.len() - 3];
    fs::write(&path, &bytes[..at]).unwrap();
    fs::write(dir.join("store/1.jnl"), &bytes[at..]).unwrap();
}

/// A file: its name in the folder, its bytes up to the zeroes at its end, and its length.
pub struct File {
    pub name: String,
    pub bytes: Vec<u8>,
    length: u64,
}

/// All files of a folder that have a byte that is not zero, or a name that counts.
pub fn files(dir: &Path) -> Vec<File> {
    let mut found = Vec::new();
    walk(dir, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let length = path.metadata().unwrap().len();
        let mut bytes = Vec::new();
        // No file has more than this in use; the engine sets the length of its log ahead.
        fs::File::open(&path).unwrap().take(1 << 20).read_to_end(&mut bytes).unwrap();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
        File { name, bytes, length }
    };
    found.into_iter().map(read).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}

/// Writes the files to a folder that is made anew; one of them with a bit altered.
pub fn lay_out(dir: &Path, files: &[File], altered: Option<(usize, usize)>) {
    let _ = fs::remove_dir_all(dir);
    for (at, file) in files.iter().enumerate() {
        let path = dir.join(&file.name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match altered.filter(|(which, _)| *which == at) {
            Some((_, bit)) => {
                let mut bytes = file.bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&path, bytes).unwrap();
            }
            None => fs::write(&path, &file.bytes).unwrap(),
        }
        if file.length > file.bytes.len() as u64 {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(file.length).unwrap();
        }
    }
}
