//! The store on a real disk: bad folders, atomic commits, reads, trimming, failures.
//!
//! Crashes are imitated by closing and opening, and by files that are cut: that shows what recovery
//! does with what is there. A store that syncs nothing passes all of it: what a disk keeps when
//! power goes is held by `tests/power` alone.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use highwater::log::{LogRow, NameRow, Stored};
use highwater::rows::{Key, Rows, Table, Writes};
use highwater::store::{OpenError, Options, Store, StoreError};
use highwater::wire::{Code, Payload, SnapshotRule, codec};
use rand::RngCore as _;

use crate::stored::stored;

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, Options::default())
}

/// A record whose payload tells its offset.
fn record(offset: u64, length: usize) -> Stored {
    let mut payload = format!("{offset} ").into_bytes();
    payload.resize(length.max(payload.len()), b'x');
    stored(offset, None, payload)
}

fn log_row(start: u64, head: u64, deleted: bool) -> LogRow {
    LogRow { head, start, deleted, ..LogRow::new("docs/1", SnapshotRule::None, 1, 0) }
}

fn put(writes: &mut Writes, table: Table, key: Vec<u8>, value: Vec<u8>) {
    writes.rows.insert((table, key), Some(value));
}

fn put_log(writes: &mut Writes, log: u64, row: &LogRow) {
    put(writes, Table::Logs, Key::of(log).build(), codec::to_bytes(row));
}

/// Commits one record per batch, each with the log's row and a journal entry.
fn append(store: &Store, log: u64, offsets: std::ops::Range<u64>, length: usize) {
    for offset in offsets {
        let mut writes = Writes::default();
        writes.records.push((log, offset, record(offset, length).row(None)));
        put_log(&mut writes, log, &log_row(0, offset + 1, false));
        store.commit(writes, Some((store.kept().head + 1, b"batch")), true).unwrap();
    }
}

fn offsets(store: &Store, log: u64, from: u64) -> Vec<u64> {
    let found = store.records(log, from, usize::MAX, usize::MAX).unwrap();
    assert!(
        found.iter().all(|(offset, stored)| stored.time == *offset),
        "records say their offset"
    );
    found.into_iter().map(|(offset, _)| offset).collect()
}

// The folder.

#[test]
fn a_new_folder_keeps_its_identities() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let store = open(&path).unwrap();
    let (journal, node) = (store.journal_id(), store.node_id());
    assert_ne!(journal, node);
    drop(store);
    assert_eq!(fs::read_to_string(path.join("VERSION")).unwrap(), "highwater store 3\n");
    let store = open(&path).unwrap();
    assert_eq!((store.journal_id(), store.node_id()), (journal, node));
    let other = tempfile::tempdir().unwrap();
    assert_ne!(open(other.path()).unwrap().node_id(), node);
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    for text in ["highwater store 1\n", "highwater store 4\n", "", "something else"] {
        fs::write(dir.path().join("VERSION"), text).unwrap();
        let error = open(dir.path()).unwrap_err();
        let found = text.trim_end().to_owned();
        assert_eq!(error, OpenError::Version { dir: dir.path().to_owned(), found });
        assert!(error.to_string().contains("highwater store 2\":"), "{error}");
    }
    // One bit makes today's number the one before, whose rows would be converted.
    fs::write(dir.path().join("VERSION"), "highwater store 2\n").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("VERSION says an older format"), "{error}");
}

#[test]
fn a_folder_of_others_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "years of work").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error, OpenError::NotOurs(dir.path().to_owned()));
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["thesis.tex"]);
}

#[test]
fn a_folder_whose_making_was_cut_short_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    // As a crash before the last step leaves it.
    fs::remove_file(dir.path().join("VERSION")).unwrap();
    fs::write(dir.path().join("CREATING"), "").unwrap();
    fs::remove_file(dir.path().join("store/version")).unwrap();
    append(&open(dir.path()).unwrap(), 1, 0..3, 10);
    assert!(!dir.path().join("CREATING").exists());
    assert_eq!(offsets(&open(dir.path()).unwrap(), 1, 0), [0, 1, 2]);
}

#[test]
fn a_mark_of_making_does_not_outlive_it() {
    let dir = tempfile::tempdir().unwrap();
    append(&open(dir.path()).unwrap(), 1, 0..3, 10);
    // As a crash between the last two steps leaves it.
    fs::write(dir.path().join("CREATING"), "").unwrap();
    assert_eq!(offsets(&open(dir.path()).unwrap(), 1, 0), [0, 1, 2]);
    // Years later somebody loses the other file: that is no reason to make everything anew.
    let version = fs::read(dir.path().join("VERSION")).unwrap();
    fs::remove_file(dir.path().join("VERSION")).unwrap();
    assert_eq!(open(dir.path()).unwrap_err(), OpenError::NotOurs(dir.path().to_owned()));
    fs::write(dir.path().join("VERSION"), version).unwrap();
    assert_eq!(offsets(&open(dir.path()).unwrap(), 1, 0), [0, 1, 2]);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let error = open(dir.path()).unwrap_err();
    assert_eq!(error, OpenError::InUse(dir.path().to_owned()));
    let clone = store.clone();
    drop(store);
    assert!(open(dir.path()).is_err(), "a clone still holds it");
    drop(clone);
    open(dir.path()).unwrap();
}

#[test]
fn another_process_is_kept_off_until_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::child_that_holds_a_folder", "--ignored", "--nocapture"])
        .env("HOLD", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("held") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut told, &mut line).unwrap();
        assert!(read > 0, "the child ended early");
    }
    assert_eq!(open(dir.path()).unwrap_err(), OpenError::InUse(dir.path().to_owned()));
    child.kill().unwrap();
    child.wait().unwrap();
    open(dir.path()).unwrap();
}

#[test]
#[ignore = "a helper of the test above"]
fn child_that_holds_a_folder() {
    let Some(dir) = std::env::var_os("HOLD") else { return };
    let _store = open(Path::new(&dir)).unwrap();
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_path_that_is_no_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Io { .. }), "{error}");
        assert!(error.to_string().contains("file"), "names the folder: {error}");
    }
}

/// Mode bits do not bind root, so the system's own read-only tree stands in.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_cannot_be_written_is_refused() {
    let error = open(Path::new("/sys/highwater")).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
}

// Damage.

fn files_under(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_under(&path, out) } else { out.push(path) }
    }
}

/// The beginning of a file up to its zeroes: the engine sets its log's length ahead. No file here
/// has more than a mebibyte in use.
fn used(file: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::open(file).unwrap().take(1 << 20).read_to_end(&mut bytes).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

fn cut(file: &Path, to: usize) {
    fs::OpenOptions::new().write(true).open(file).unwrap().set_len(to as u64).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let mut files = Vec::new();
    files_under(from, &mut files);
    for file in files {
        let target = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(&target, used(&file)).unwrap();
        cut(&target, usize::try_from(file.metadata().unwrap().len()).unwrap());
    }
}

/// Fifty records in files, fifty in the engine's log.
fn half_flushed(dir: &Path) {
    let store = open(dir).unwrap();
    append(&store, 1, 0..50, 100);
    for table in [Table::Records, Table::Logs] {
        store.compact(table).unwrap();
    }
    append(&store, 1, 50..100, 100);
}

fn harm(file: &Path, how: &str) {
    let bytes = used(file);
    match how {
        "gone" => fs::remove_file(file).unwrap(),
        "emptied" => cut(file, 0),
        "quartered" => cut(file, bytes.len() / 4),
        "shortened" => cut(file, bytes.len().saturating_sub(1)),
        _ => {
            let at = bytes.len() / 3;
            let mut file = fs::OpenOptions::new().write(true).open(file).unwrap();
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            file.write_all(&[bytes.get(at).unwrap_or(&0) ^ 0x55]).unwrap();
        }
    }
}

/// What a damaged folder comes to: whole, cut at its end like after a crash, or an error.
fn outcome(dir: &Path) -> Result<u64, String> {
    let store = open(dir).map_err(|error| error.to_string())?;
    let row = store.log_row(1).map_err(|error| error.to_string())?;
    let head = row.ok_or("the log is missing, and nobody said so").map_or(0, |row| row.head);
    let found = store.records(1, 0, 1_000, usize::MAX).map_err(|error| error.to_string())?;
    assert_eq!(found.len() as u64, head, "records and head agree");
    assert_eq!(store.kept().head, head, "journal and head agree");
    let intact = found.iter().all(|(offset, stored)| *stored == record(*offset, 100));
    assert!(intact, "records are as they were");
    Ok(head)
}

/// Files that say something: the engine's own, and those of the tables looked at; of manifests,
/// which are numbered, the last.
fn files_in_force(base: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_under(base, &mut files);
    files.sort_by_key(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (file.parent().unwrap().to_owned(), name.len(), name)
    });
    let tables: Vec<_> =
        ["0", "3", "4"].iter().map(|table| base.join("store/keyspaces").join(table)).collect();
    let is_manifest = |file: &Path| file.file_name().unwrap().to_string_lossy().starts_with('v');
    let mut force = Vec::<PathBuf>::new();
    for file in files {
        let of_table = file.strip_prefix(base.join("store/keyspaces")).is_ok();
        if of_table && !tables.iter().any(|table| file.starts_with(table)) || file.ends_with("LOCK")
        {
            continue;
        }
        let older = force.last().is_some_and(|last| {
            of_table && is_manifest(last) && is_manifest(&file) && last.parent() == file.parent()
        });
        if older {
            force.pop();
        }
        force.push(file);
    }
    force
}

/// Every file in force, harmed in five ways: an error that gives advice, all the data, or (where
/// the engine's log lost its last entry, which a crash does too) all but the last commit.
#[test]
fn damage_is_told_and_never_taken_for_data() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    half_flushed(&base);
    let files = files_in_force(&base);
    let mut told = 0;
    for file in &files {
        let name = file.strip_prefix(&base).unwrap();
        let shown = name.display().to_string();
        for how in ["gone", "emptied", "quartered", "shortened", "altered"] {
            let harmed = dir.path().join("harmed");
            copy(&base, &harmed);
            harm(&harmed.join(name), how);
            match outcome(&harmed) {
                Ok(100) => {}
                Ok(99) if shown.ends_with(".jnl") && how == "shortened" => {}
                Ok(head) => panic!("{shown} {how}: {head} records, and nobody said so"),
                Err(error) => {
                    assert!(error.contains(": ") && error.len() > 40, "{shown} {how}: {error}");
                    told += 1;
                }
            }
            fs::remove_dir_all(&harmed).unwrap();
        }
    }
    assert!(files.len() > 8 && told > 35, "{told} noticed of 5 times {files:?}");
}

/// The engine clears away table by table, and would find out only at the last one.
#[test]
fn a_start_that_misses_a_file_clears_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    half_flushed(dir.path());
    let mut files = Vec::new();
    files_under(&dir.path().join("store/keyspaces"), &mut files);
    files.retain(|file| file.parent().unwrap().ends_with("tables"));
    files.sort();
    fs::remove_file(files.pop().unwrap()).unwrap();
    let left = dir.path().join("store/keyspaces/0/v99");
    fs::write(&left, "of a manifest before").unwrap();
    let error = open(dir.path()).unwrap_err();
    assert!(left.exists(), "{error}");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("is missing"), "{error}");
}

/// Behind what was written to files, a cut log cannot be told from a crash: a prefix is left.
#[test]
fn a_log_cut_behind_all_files_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    append(&open(&base).unwrap(), 1, 0..40, 100);
    let log = Path::new("store/0.jnl");
    let used = used(&base.join(log)).len();
    let mut heads = Vec::new();
    for to in (1..=8).map(|eighth| used * eighth / 8) {
        let harmed = dir.path().join("harmed");
        copy(&base, &harmed);
        cut(&harmed.join(log), to);
        match outcome(&harmed) {
            Ok(head) => heads.push(head),
            Err(error) => panic!("cut at {to} of {used}: {error}"),
        }
        fs::remove_dir_all(&harmed).unwrap();
    }
    assert!(heads.is_sorted() && heads[0] < 10 && heads[7] >= 39, "{heads:?}");
}

// Commits.

#[test]
fn commits_survive_reopening_whole() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let store = open(dir.path()).unwrap();
        append(&store, 1, round * 10..round * 10 + 10, 100);
        assert_eq!(store.kept().head, round * 10 + 10);
    }
    let store = open(dir.path()).unwrap();
    assert_eq!(offsets(&store, 1, 0), (0..50).collect::<Vec<_>>());
    assert_eq!(store.log_row(1).unwrap().unwrap().head, 50);
}

#[test]
fn a_batch_out_of_order_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, 0..2, 10);
    for number in [0, 2, 4] {
        let mut writes = Writes::default();
        put(&mut writes, Table::Meta, b"head".to_vec(), vec![1]);
        let refused = store.commit(writes, Some((number, b"batch")), true);
        assert_eq!(refused, Err(StoreError::Order { batch: number, head: 2 }));
    }
    assert_eq!(store.get(Table::Meta, b"head").unwrap(), None);
    append(&store, 1, 2..3, 10);
}

/// A full disk, as a limit on the size of files: the engine cannot write its log on. What is tried
/// is not seen by readers, nothing is written after it, and what was committed is all there.
#[test]
#[cfg(unix)]
fn a_failed_write_stops_all_writing_and_takes_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 132000; exec \"$0\" --exact \
                  store::child_that_runs_out_of_room \
                  --ignored --nocapture";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env("FILL", dir.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&child.stdout).into_owned();
    assert!(child.status.success(), "{told}{}", String::from_utf8_lossy(&child.stderr));
    let committed = told.split("committed ").nth(1).and_then(|rest| rest.split('.').next());
    let committed: u64 = committed.unwrap_or_else(|| panic!("{told}")).parse().unwrap();
    let found = offsets(&open(dir.path()).unwrap(), 1, 0);
    assert_eq!(found.len() as u64 / 2, committed, "what was answered, and nothing else");
    assert_eq!(found, (0..committed * 2).collect::<Vec<_>>());
}

#[test]
#[ignore = "a helper of the test above"]
fn child_that_runs_out_of_room() {
    let Some(dir) = std::env::var_os("FILL") else { return };
    let large =
        Options { memtable_bytes: 1 << 30, write_buffer_bytes: 1 << 30, ..Options::default() };
    let store = Store::open(Path::new(&dir), large).unwrap();
    let mut noise = vec![0; 512 << 10];
    rand::rng().fill_bytes(&mut noise);
    let two = |round: u64| {
        let mut writes = Writes::default();
        for offset in [round * 2, round * 2 + 1] {
            // Of no use to compression.
            let mut stored = record(offset, 0);
            stored.record.payload = Some(Payload::binary(noise.clone().into()));
            writes.records.push((1, offset, stored.row(None)));
        }
        writes
    };
    let failed = (0..500).find_map(|round| {
        let error = store.commit(two(round), None, true).err()?;
        Some((round, error))
    });
    let (round, error) = failed.expect("five hundred mebibytes went into a file of a hundred");
    assert!(matches!(error, StoreError::Failed(_)), "{error}");
    let small = || {
        let mut writes = Writes::default();
        put(&mut writes, Table::Meta, b"small".to_vec(), vec![1]);
        writes
    };
    for _ in 0..3 {
        let refused = store.commit(small(), None, true).unwrap_err();
        assert!(matches!(refused, StoreError::Stopped(_)), "{refused}");
    }
    assert!(matches!(store.sync(), Err(StoreError::Stopped(_))));
    assert_eq!(store.get(Table::Meta, b"small").unwrap(), None);
    let last = store.records(1, round * 2 - 2, 9, usize::MAX).unwrap();
    assert_eq!(last.len(), 2, "readers go on, and see nothing of what failed");
    println!("committed {round}.");
}

// Reads.

#[test]
fn records_are_read_within_bounds_and_up_to_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, 0..20, 100);
    append(&store, 2, 0..5, 100);
    append(&store, 1, 21..25, 100);
    assert_eq!(offsets(&store, 1, 0), (0..20).collect::<Vec<_>>(), "stops at the hole");
    assert_eq!(offsets(&store, 1, 20), [0_u64; 0]);
    assert_eq!(offsets(&store, 1, 21), [21, 22, 23, 24]);
    assert_eq!(offsets(&store, 2, 3), [3, 4]);
    assert_eq!(offsets(&store, 2, 5), [0_u64; 0]);
    assert_eq!(offsets(&store, 3, 0), [0_u64; 0]);
    assert_eq!(store.records(1, 4, 3, usize::MAX).unwrap().len(), 3);
    assert_eq!(store.records(1, 4, 99, 0).unwrap().len(), 1, "at least one");
    let some = store.records(1, 0, 99, 1_000).unwrap();
    let bytes: usize = some.iter().map(|(_, stored)| stored.row(None).len()).sum();
    assert!(some.len() > 1 && bytes <= 1_000, "{bytes}");
}

#[test]
fn a_damaged_row_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut writes = Writes::default();
    writes.records.push((1, 0, vec![9; 30]));
    put(&mut writes, Table::Logs, Key::of(1).build(), vec![9; 3]);
    put(&mut writes, Table::Latest, Key::of(1).then_bytes(b"k").build(), vec![9; 3]);
    store.commit(writes, None, true).unwrap();
    for error in [
        store.records(1, 0, 9, 9).unwrap_err(),
        store.log_row(1).unwrap_err(),
        store.latest_page(1, None, 9, 9).unwrap_err(),
    ] {
        assert!(error.to_string().contains("is damaged"), "{error}");
    }
}

#[test]
fn newest_by_key_comes_in_pages_without_what_is_newer_than_the_base() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut writes = Writes::default();
    for at in 0..300_u64 {
        let key = Key::of(1).then_bytes(format!("key{at:03}").as_bytes()).build();
        // Keys in one order, offsets in another.
        let offset = at * 7 % 300;
        let mut row = offset.to_be_bytes().to_vec();
        row.extend(record(offset, 100).row(None));
        put(&mut writes, Table::Latest, key, row);
    }
    for log in [0, 2] {
        put(&mut writes, Table::Latest, Key::of(log).then_bytes(b"key").build(), vec![0; 3]);
    }
    store.commit(writes, None, true).unwrap();
    let (mut found, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page = store.latest_page(1, after.as_deref(), 200, 2_000).unwrap();
        assert!(page.entries.len() <= 20, "a page is bounded");
        assert!(page.entries.iter().all(|(offset, stored)| stored.time == *offset));
        found.extend(page.entries.into_iter().map(|(offset, _)| offset));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 15, "{pages}");
    let expected: Vec<u64> = (0..300).map(|at| at * 7 % 300).filter(|at| *at < 200).collect();
    assert_eq!(found, expected, "each once, by key");
    let none = store.latest_page(1, None, 0, 1_000).unwrap();
    assert!(none.entries.is_empty() && none.next.is_some(), "work is bounded, not entries");
}

#[test]
fn names_are_listed_by_prefix_in_pages() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let mut writes = Writes::default();
    let names = ["a", "docs", "docs/1", "docs/1/ops", "docs/2", "docs0", "e"];
    for (name, id) in names.iter().zip(1_u64..) {
        let row = NameRow { log: id, more: Default::default() };
        put(&mut writes, Table::Names, name.as_bytes().to_vec(), codec::to_bytes(&row));
    }
    store.commit(writes, None, true).unwrap();
    let list = |prefix: &str, after: Option<&str>, most: usize| -> Vec<String> {
        store.logs(prefix, after, most).unwrap().into_iter().map(|(name, _)| name).collect()
    };
    assert_eq!(list("", None, 99), names);
    assert_eq!(list("docs/", None, 99), ["docs/1", "docs/1/ops", "docs/2"]);
    assert_eq!(list("docs/", None, 2), ["docs/1", "docs/1/ops"]);
    assert_eq!(list("docs/", Some("docs/1/ops"), 2), ["docs/2"]);
    assert_eq!(list("docs/", Some("docs/2"), 2), [""; 0]);
    assert_eq!(list("docs/", Some("zzz"), 2), [""; 0]);
    assert_eq!(list("docs/", Some("a"), 1), ["docs/1"]);
    assert_eq!(store.find_log("docs/2").unwrap(), Some(5));
    assert_eq!(store.find_log("docs/3").unwrap(), None);
}

#[test]
fn pressure_tells_a_disk_that_is_nearly_full() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    append(&store, 1, 0..10, 100);
    let pressure = store.pressure().unwrap();
    assert!(pressure.disk_free_bytes > 0 && pressure.journal_bytes > 0);
    assert!(pressure.write_buffer_bytes > 1_000);
    drop(store);
    let reserve = Options { disk_reserve_bytes: u64::MAX, ..Options::default() };
    let pressure = Store::open(dir.path(), reserve).unwrap().pressure().unwrap();
    let refusal = pressure.refusal().unwrap();
    assert_eq!(refusal.code, Code::StorageFull);
    assert!(refusal.retry_after > 0);
}
