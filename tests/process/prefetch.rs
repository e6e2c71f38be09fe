//! Cold rows are read before the committing thread needs them, and not by it: shown by counting,
//! per thread, the calls that read files.

#![cfg(target_os = "linux")]

use std::path::Path;

use crate::support::{Client, Server};
use highwater::admission::{Admission, Judged};
use highwater::auth::Grants;
use highwater::limit::Limits;
use highwater::log::{LogRow, NameRow, Writer, WriterRow};
use highwater::rows::{Key, Table, Writes};
use highwater::store::{Options, Store, Wanted};
use highwater::wire::{
    Code, Id, Open, Payload, Record, Refusal, SnapshotRule, Start, Target, codec,
};

/// Ids of the logs that are made behind the server's back: it gives none of them itself.
const FIRST: u64 = 1_000_000;
const LOGS: u64 = 20_000;

fn name(at: u64) -> String {
    format!("docs/{at:0>40}")
}

fn writer(at: u64) -> Id {
    let mut bytes = [1; 16];
    bytes[..8].copy_from_slice(&at.to_be_bytes());
    Id(bytes)
}

/// Logs and writers whose rows lie in files: what the tables gather in memory is held so small that
/// it is written at once.
fn fill(data: &Path) {
    let small = Options { memtable_bytes: 1 << 20, write_buffer_bytes: 1, ..Options::default() };
    let store = Store::open(data, small).unwrap();
    for from in (0..LOGS).step_by(1_000) {
        let mut writes = Writes::default();
        let mut put = |table, key, value| drop(writes.rows.insert((table, key), Some(value)));
        for at in from..from + 1_000 {
            let log = FIRST + at;
            put(
                Table::Names,
                name(at).into_bytes(),
                codec::to_bytes(&NameRow { log, more: Default::default() }),
            );
            let row = LogRow { deleted: false, ..LogRow::new(&name(at), SnapshotRule::None, 1, 0) };
            put(Table::Logs, Key::of(log).build(), codec::to_bytes(&row));
            let user = format!("user-{at:0>40}");
            let writing = Writer::new(&user);
            let row = WriterRow { mark: 1, oldest: 2, used: u64::MAX >> 12, ..writing.row };
            put(Table::Writers, writer(at).0.to_vec(), codec::to_bytes(&row));
        }
        store.commit(writes, None, true).unwrap();
    }
}

/// Calls of a thread that read files, as the system counts them.
fn reads(thread: &Path) -> u64 {
    let told = std::fs::read_to_string(thread.join("io")).unwrap();
    let count = told.lines().find_map(|line| line.strip_prefix("syscr: "));
    count.unwrap().parse().unwrap()
}

/// How often this thread reads files for something, beyond what it takes to count that.
fn reads_for(work: impl FnOnce()) -> u64 {
    let thread = Path::new("/proc/thread-self");
    let counting = reads(thread);
    let counting = reads(thread) - counting;
    let before = reads(thread);
    work();
    reads(thread) - before - counting
}

#[test]
fn what_was_prefetched_is_read_without_a_file() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    // Opened anew, none of it is in memory but what the engine's log still held: the newest.
    let store = Store::open(dir.path(), Options::default()).unwrap();
    let ask = |at: u64| {
        assert_eq!(store.find_log(&name(at)).unwrap(), Some(FIRST + at));
        assert_eq!(store.log_row(FIRST + at).unwrap().unwrap().name, name(at));
        assert_eq!(store.writer(writer(at)).unwrap().unwrap().mark, 1);
    };
    assert!(reads_for(|| ask(1_000)) > 0, "the rows are in files, and were not read yet");
    for at in [3_000, 5_000] {
        let (name, writers) = (name(at), [writer(at)]);
        let wanted = Wanted { names: &[&name], writers: &writers, ..Wanted::default() };
        let ahead = || reads_for(|| store.prefetch(&wanted));
        let read = std::thread::scope(|scope| scope.spawn(ahead).join().unwrap());
        assert!(read > 0, "{at} was cold, and the thread that reads ahead reads");
        assert_eq!(reads_for(|| ask(at)), 0, "{at} is in memory");
    }
    // By its id alone a log is read ahead too; what is not there harms nothing.
    store.prefetch(&Wanted { names: &["none"], logs: &[FIRST + 7_000, 9], ..Wanted::default() });
    assert_eq!(reads_for(|| drop(store.log_row(FIRST + 7_000).unwrap())), 0);
    refused_is_not_read_ahead(store);
}

/// Names that nobody may use, and records that are refused, cause no read ahead of the verdict.
fn refused_is_not_read_ahead(store: Store) {
    let admission = Admission::new(store, Limits::DEFAULT, true, false);
    let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
    let reads_of = |verdict| {
        let (to, record) = (Target::Log(FIRST + 9_000), record.clone());
        let entry = Judged { to, if_head: None, record, verdict }.entry(1, 0, None);
        reads_for(|| admission.read_ahead(None, &[entry]))
    };
    assert_eq!(reads_of(Some(Refusal::new(Code::Denied))), 0);
    assert!(reads_of(None) > 0, "it was cold still");
    opened_without_a_grant_is_not_read_ahead(&admission);
}

/// Who opens logs has those read ahead that it may read, whichever way it asks for them.
fn opened_without_a_grant_is_not_read_ahead(admission: &Admission) {
    let grants = |logs: &str| Grants {
        user: "ann".to_owned(),
        expires_ms: 0,
        issued_ms: None,
        token_id: String::new(),
        grants: serde_json::from_str(&format!(r#"[{{"logs":"{logs}","can":["read"]}}]"#)).unwrap(),
    };
    let (mine, all) = (grants("me/**"), grants("docs/**"));
    let open = |at| {
        let name = name(at);
        [Open { name, have: None, start: Start::End, priority: 0 }]
    };
    let subscribes = |grants: &Grants, at| {
        let open = open(at);
        reads_for(|| admission.read_ahead_names(grants, &open))
    };
    assert_eq!(subscribes(&mine, 11_000), 0);
    assert!(subscribes(&all, 11_000) > 0, "it was cold still, and not remembered as read");
    let attaches = |grants: &Grants, at| {
        let open = open(at);
        reads_for(|| admission.read_ahead_attach(grants, writer(LOGS), &[], &open))
    };
    // Connection and user are looked for, and are in no file.
    assert_eq!(attaches(&mine, 13_000), 0);
    assert!(attaches(&all, 13_000) > 0, "it was cold still");
}

/// Of the running server: appends to logs that nobody has touched since its start.
#[test]
fn the_committing_thread_reads_no_file_for_a_cold_log() {
    let mut server = Server::start(crate::support::Options::default());
    assert!(server.terminate().success());
    fill(&server.data());
    server.restart();
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    let named = |task: &std::path::PathBuf| {
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "commit")
    };
    let thread = tasks.find(named).expect("the committing thread");
    let process = format!("/proc/{}", server.pid());
    let process = Path::new(&process);
    let mut client = Client::new("ann").join(&server);
    client.store(&name(1_000), "the first");
    client.sync();
    let (before, all) = (reads(&thread), reads(process));
    for at in (2_000..12_000).step_by(500) {
        assert_eq!(client.store(&name(at), "cold"), 0, "the log was there, and empty");
    }
    assert!(reads(process) - all > 20, "files were read for logs that were cold");
    assert_eq!(reads(&thread) - before, 0, "and not by the thread that commits");
}
