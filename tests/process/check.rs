//! `highwater check` on folders of the real server: sound ones, and ones in which something is
//! wrong that no checksum knows of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::fixture::STORE_2;
use crate::support::{Client, Options, Server, command, errors};
use highwater::rows::{Key, Rows as _, Table, Writes};
use highwater::store::Store;
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

const IN_USE: &str = "in use by another process";

fn check_once(path: &Path) -> (Option<i32>, Value) {
    let Output { status, stdout, stderr } = Server::command(&["check", text(path), "--json"]);
    let told = serde_json::from_slice(&stdout)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&stderr).into_owned()));
    (status.code(), told)
}

/// What this process had open, a program that another test starts has for a moment too.
fn check(path: &Path) -> (Option<i32>, Value) {
    let mut told = (None, Value::Null);
    crate::support::until("the folder to be free", || {
        told = check_once(path);
        !told.1.as_str().is_some_and(|said| said.contains(IN_USE))
    });
    told
}

fn wrong(told: &Value) -> Vec<String> {
    let lines = told["wrong"].as_array().unwrap_or_else(|| panic!("{told}"));
    lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// One that has something in every table that clients can fill.
fn busy() -> Server {
    let options = Options::default()
        .rule("state/**", "latest", "")
        .rule("made/**", "client", "")
        .rule("short/**", "none", "retain_records = 5");
    let server = Server::start(options);
    let mut writer = Client::new("wim").wanting("docs/a").wanting("state/s").join(&server);
    for n in 0..40 {
        writer.append("docs/a", &format!("record {n}"));
        writer.put("state/s", &format!("k{}", n % 5), (n % 7 > 0).then_some("v"));
        writer.append("short/s", "soon gone");
        writer.append("made/m", "to be summed up");
    }
    writer.settled();
    writer.reach("docs/a", 40);
    writer.ack();
    let path = "/v1/snapshots/made/m?offset=20&version=1";
    server.http().ask("PUT", path, &[], Some(b"the sum of it")).ok();
    let mut other = Client::new("ann").wanting("docs/a").join(&server);
    other.store("docs/b", "kept");
    other.store("docs/gone", "deleted");
    server.http().delete("/v1/logs/docs/gone").ok();
    // Trimmed in the midst of a page: what is behind that page can be vouched for all the same.
    let ask = |path| server.http().ask("POST", path, &[], None).ok();
    ask("/v1/logs/paged/p?create&page_size=10");
    for n in 0..40 {
        other.store("paged/p", &format!("line {n}"));
    }
    ask("/v1/logs/paged/p?trim=15");
    server
}

/// Paths and contents of all files, the engine's logs without the zeros at their ends.
fn content(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            content(&path, into);
        } else {
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|ending| ending == "jnl") {
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
            }
            into.insert(path, bytes);
        }
    }
}

fn all_files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    content(dir, &mut found);
    found
}

#[test]
fn a_sound_folder_is_read_through_and_left_as_it_is() {
    for kill in [false, true] {
        let mut server = busy();
        let data = server.data();
        let (code, told) = check_once(&data);
        assert_eq!(code, Some(1));
        assert!(told.as_str().unwrap().contains(IN_USE), "{told}");
        if kill {
            server.kill9();
        } else {
            assert!(server.terminate().success());
        }
        let before = all_files(&data);
        let (code, told) = check(&data);
        assert_eq!((code, wrong(&told)), (Some(0), vec![]), "{told}");
        assert!(told["rows"].as_u64().unwrap() > 100, "{told}");
        assert!(all_files(&data) == before, "nothing is changed");
        // Through files of tables, too.
        server.edit(|store, _| Table::ALL.iter().for_each(|table| store.compact(*table).unwrap()));
        let (code, told) = check(&data);
        assert_eq!((code, wrong(&told)), (Some(0), vec![]), "{told}");
        server.restart();
    }
}

type Edit = fn(&Store, &mut Writes);

fn first(store: &Store, table: Table) -> (Vec<u8>, Vec<u8>) {
    store.scan(table, &[], &[], 1).unwrap().pop().unwrap()
}

fn remove_first(store: &Store, writes: &mut Writes, table: Table) {
    writes.rows.insert((table, first(store, table).0), None);
}

/// Another last digit of a record's payload, so that it is as long as it was.
fn alter(store: &Store, writes: &mut Writes, log: &str, offset: u64) {
    let log = store.find_log(log).unwrap().unwrap();
    let key = Key::of(log).then(offset).build();
    let mut row = store.get(Table::Records, &key).unwrap().unwrap();
    let at = row.iter().rposition(|byte| *byte == b'5').unwrap();
    row[at] = b'6';
    writes.rows.insert((Table::Records, key), Some(row));
}

/// Rows that no longer agree with one another, each of them whole: what is said of it.
#[test]
fn rows_that_contradict_each_other_are_told() {
    let edits: [(&str, &str, Edit); 12] = [
        ("records", "where", |store, writes| {
            let log = store.find_log("docs/a").unwrap().unwrap();
            writes.rows.insert((Table::Records, Key::of(log).then(17).build()), None);
        }),
        ("records", "records end before", |store, writes| {
            let log = store.find_log("docs/a").unwrap().unwrap();
            writes.rows.insert((Table::Records, Key::of(log).then(39).build()), None);
        }),
        ("records", "hash", |store, writes| alter(store, writes, "docs/a", 5)),
        ("records", "hash", |store, writes| alter(store, writes, "paged/p", 35)),
        ("logs", "its name leads elsewhere", |store, writes| {
            remove_first(store, writes, Table::Names);
        }),
        ("latest", "is another", |store, writes| {
            let (key, mut value) = first(store, Table::Latest);
            value[7] ^= 1;
            writes.rows.insert((Table::Latest, key), Some(value));
        }),
        ("logs", "part 0 of its snapshot", |store, writes| {
            remove_first(store, writes, Table::Snapshots);
        }),
        ("connections", "does not know its subscription", |store, writes| {
            remove_first(store, writes, Table::Subscribers);
        }),
        ("connections", "not among its user's", |store, writes| {
            remove_first(store, writes, Table::UserConnections);
        }),
        ("connections", "differ about whether", |store, writes| {
            remove_first(store, writes, Table::Users);
        }),
        ("outcomes", "of a writer that there is not", |store, writes| {
            let (key, value) = first(store, Table::Outcomes);
            let moved = [&[9; 16], &key[16..]].concat();
            writes.rows.insert((Table::Outcomes, key), None);
            writes.rows.insert((Table::Outcomes, moved), Some(value));
        }),
        ("writers", "damaged", |store, writes| {
            let (key, _) = first(store, Table::Writers);
            writes.rows.insert((Table::Writers, key), Some(vec![200]));
        }),
    ];
    let mut server = busy();
    assert!(server.terminate().success());
    let good = server.data().with_file_name("good");
    fs::rename(server.data(), &good).unwrap();
    for (table, what, edit) in edits {
        let mut copy = Command::new("cp");
        assert!(copy.arg("-a").arg(&good).arg(server.data()).status().unwrap().success());
        server.edit(edit);
        let (code, told) = check(&server.data());
        assert_eq!(code, Some(1), "{table} {what}: {told}");
        let lines = wrong(&told);
        let said = lines.iter().any(|line| line.starts_with(table) && line.contains(what));
        assert!(said, "{table} {what}: {lines:?}");
        fs::remove_dir_all(server.data()).unwrap();
    }
}

/// Files that are cut or altered, a folder that is none, a backup.
#[test]
fn files_that_are_damaged_are_named() {
    let mut server = busy();
    assert!(server.terminate().success());
    server.edit(|store, _| store.compact(Table::Records).unwrap());
    let data = server.data();
    let mut files = all_files(&data);
    let table = files.keys().find(|file| text(file).contains("keyspaces/4/tables/")).unwrap();
    let table = table.clone();
    let log = data.join("store/0.jnl");
    for file in [table, log] {
        let bytes = files.remove(&file).unwrap();
        let mut altered = bytes.clone();
        altered[bytes.len() / 2] ^= 4;
        fs::write(&file, &altered).unwrap();
        let (code, told) = check(&data);
        let lines = wrong(&told);
        assert_eq!(code, Some(1), "{lines:?}");
        assert!(lines[0].contains(text(&file)), "{lines:?}");
        fs::write(&file, &bytes).unwrap();
    }
    assert_eq!(check(&data).0, Some(0));
    let none = data.join("none");
    let (code, told) = check(&none);
    assert_eq!(code, Some(2), "{told}");
    assert!(!none.exists());
    let file = data.with_file_name("x.backup");
    assert!(Server::command(&["backup", text(&file), "--data", text(&data)]).status.success());
    assert_eq!(check(&file).0, Some(0));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 9]).unwrap();
    let (code, told) = check(&file);
    assert_eq!(code, Some(1));
    assert!(wrong(&told)[0].contains("cut off"), "{told}");
    let Output { stdout, stderr, .. } = Server::command(&["check", text(&file)]);
    let verdict = String::from_utf8(stdout).unwrap();
    assert!(verdict.contains("DAMAGED (1 file, "), "{verdict}");
    let said = String::from_utf8(stderr).unwrap();
    assert!(said.contains("(1 finding): take another backup, or copy this one again"), "{said}");
    // It says nothing of a file that is something else.
    fs::write(&file, "1\n2\n3\n").unwrap();
    let (code, told) = check(&file);
    assert_eq!(code, Some(2));
    assert!(told.as_str().unwrap().contains("is no backup and no data folder"), "{told}");
}

#[test]
fn a_folder_for_temporary_files_that_takes_nothing_is_not_the_data_folders_fault() {
    let mut server = busy();
    assert!(server.terminate().success());
    let data = server.data();
    let missing = data.with_file_name("missing");
    let words = format!("check {}", text(&data));
    let check = || command("", &words).env("TMPDIR", &missing).output().unwrap();
    let output = check();
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty(), "nothing is found wrong");
    assert!(said.contains("TMPDIR") && said.contains(text(&missing)), "{said}");
    // What is wrong all the same is told.
    fs::remove_file(data.join("store/0.jnl")).unwrap();
    let output = check();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("0.jnl is missing") && told.contains("TMPDIR"), "{told}");
    assert!(errors(&output).contains("is damaged"), "{}", errors(&output));
}

#[test]
fn an_old_folder_is_checked_as_what_it_is() {
    let folder = STORE_2.unpack();
    let data = folder.path().join("data");
    let before = all_files(&data);
    let (code, told) = check(&data);
    assert_eq!(code, Some(0), "{told}");
    let notes = told["notes"].to_string();
    assert!(notes.contains("highwater store 2") && notes.contains("revocations.json"), "{notes}");
    assert!(all_files(&data) == before, "nothing was changed");
}
