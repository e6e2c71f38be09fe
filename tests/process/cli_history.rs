//! The command line keeps to the log and to the history that it began in: whatever becomes of them
//! meanwhile, it ends and says so, and writes or stores nothing that belongs elsewhere.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::support::{Options, Proxy, Running, Server, WAIT, command, errors, run, told, until};
use serde_json::Value;

fn lines(word: &str, count: usize) -> Vec<String> {
    (0..count).map(|at| format!("{word}-{at}")).collect()
}

/// Puts another log in the place of `words`.
fn make_anew(server: &Server, count: usize) {
    server.http().delete("/v1/logs/words").ok();
    server.http().post_lines("/v1/logs/words", lines("new", count)).ok();
}

/// That a command has ended with an error, said this, and wrote nothing of `new-…`.
#[track_caller]
fn assert_ended(code: Option<i32>, wrote: &str, said: &str, says: &str) {
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(says), "wanted {says:?}: {said}");
    assert!(!wrote.contains("new-"), "{wrote}");
}

#[test]
fn a_follower_that_waits_ends_when_its_log_is_made_anew() {
    let server = Server::start(Options::dev());
    server.http().post_lines("/v1/logs/words", lines("old", 5)).ok();
    let mut follower = Running(command(&server.url(), "consume --follow words").spawn().unwrap());
    let told = follower.lines();
    let wrote: Vec<String> = (0..5).map(|_| told.recv_timeout(WAIT).unwrap()).collect();
    assert_eq!(wrote, lines("old", 5));
    until("it waits", || server.metric("http_requests_waiting") == 1);
    make_anew(&server, 7);
    let said = follower.told();
    let code = follower.0.wait().unwrap().code();
    let more: String = told.iter().collect();
    assert_ended(code, &more, &said, "epoch: the log words (log 1) was deleted");
    assert!(said.contains("records below offset 5 were written"), "{said}");
}

#[test]
fn a_follower_that_was_cut_off_ends_when_its_log_was_made_anew() {
    let mut server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    server.http().post_lines("/v1/logs/words", lines("old", 5)).ok();
    let url = format!("http://{}", proxy.address);
    let mut follower = Running(command(&url, "consume --follow words").spawn().unwrap());
    let told = follower.lines();
    let wrote: Vec<String> = (0..5).map(|_| told.recv_timeout(WAIT).unwrap()).collect();
    assert_eq!(wrote, lines("old", 5));
    until("it waits", || server.metric("http_requests_waiting") == 1);
    // Nothing comes through until the other log has grown past where it stands.
    proxy.pass(0);
    proxy.cut();
    server.crash();
    make_anew(&server, 7);
    proxy.lead_to(server.address);
    proxy.pass(u64::MAX);
    let said = follower.told();
    let code = follower.0.wait().unwrap().code();
    assert_ended(code, &told.iter().collect::<String>(), &said, "epoch: the log words (log 1)");
}

#[test]
fn a_reader_in_the_middle_of_a_log_ends_when_it_is_made_anew() {
    let server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let list = lines("old", 20_000);
    server.http().post_lines("/v1/logs/words", list.clone()).ok();
    proxy.pass(500_000);
    let url = format!("http://{}", proxy.address);
    let mut reader = Running(command(&url, "consume --fetch-size 1000 words").spawn().unwrap());
    until("the rest to be held", || proxy.holds());
    make_anew(&server, 30_000);
    proxy.cut();
    proxy.pass(u64::MAX);
    let mut wrote = String::new();
    reader.0.stdout.take().unwrap().read_to_string(&mut wrote).unwrap();
    let said = reader.told();
    assert_ended(reader.0.wait().unwrap().code(), &wrote, &said, "epoch: the log words");
    let whole: Vec<&str> = wrote.lines().collect();
    assert_eq!(whole, list[..whole.len()], "in order, from the first one on");
    assert!(said.contains(&format!("below offset {} were written", whole.len())), "{said}");
}

fn cursor_of(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_cursor_goes_on_where_it_was_and_in_no_other_log() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cursor");
    let mut server = Server::start(Options::dev());
    let consume = format!("consume words --cursor {}", file.display());
    server.http().post_lines("/v1/logs/words", lines("old", 3)).ok();
    assert_eq!(told(&server.url(), &consume, ""), "old-0\nold-1\nold-2\n");
    assert_eq!((&cursor_of(&file)["next"], &cursor_of(&file)["log"]), (&3.into(), &1.into()));
    assert_eq!(told(&server.url(), &consume, ""), "");
    server.crash();
    server.http().post("/v1/logs/words", "old-3").ok();
    assert_eq!(told(&server.url(), &consume, ""), "old-3\n", "after a restart");
    let at_start = format!("{consume} --from start");
    let refused = run(&server.url(), &at_start, "");
    assert_eq!(refused.status.code(), Some(2), "--from is for the first time");
    assert!(errors(&refused).contains("goes on at offset 4"), "{}", errors(&refused));
    let other = run(&server.url(), &consume.replace("words", "others"), "");
    assert_eq!(other.status.code(), Some(2), "{}", errors(&other));

    let before = cursor_of(&file);
    for count in [7, 2] {
        make_anew(&server, count);
        let output = run(&server.url(), &consume, "");
        assert_ended(output.status.code(), "", &errors(&output), "another file for --cursor");
        assert!(output.stdout.is_empty());
    }
    server.http().delete("/v1/logs/words").ok();
    let output = run(&server.url(), &consume, "");
    assert_ended(output.status.code(), "", &errors(&output), "epoch: the log words (log 1)");
    assert_eq!(cursor_of(&file), before, "it says where the other log was left");
}

#[test]
fn a_cursor_whose_records_are_gone_goes_on_behind_them_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cursor");
    let server = Server::start(Options::dev());
    let consume = format!("consume words --cursor {}", file.display());
    server.http().post_lines("/v1/logs/words", lines("old", 2)).ok();
    told(&server.url(), &consume, "");
    server.http().post_lines("/v1/logs/words", lines("more", 3)).ok();
    server.http().post("/v1/logs/words?trim=4", "").ok();

    let before = cursor_of(&file);
    let stuck = run(&server.url(), &consume, "");
    let said = errors(&stuck);
    assert_ended(stuck.status.code(), "", &said, "of words records 2 to 3 are no longer kept");
    assert!(said.contains("with --skip-gap it goes on at 4"), "{said}");
    assert!(said.contains("another file for --cursor") && !said.contains("--from"), "{said}");
    assert_eq!(cursor_of(&file), before);

    let skipped = run(&server.url(), &format!("{consume} --skip-gap"), "");
    assert_eq!(skipped.status.code(), Some(0), "{}", errors(&skipped));
    assert_eq!(skipped.stdout, b"more-2\n");
    assert_eq!(errors(&skipped), "highwater: records 2 to 3 are no longer kept: on at 4\n");
    assert_eq!(cursor_of(&file)["next"], 5);
    let nothing = run(&server.url(), &format!("{consume} --skip-gap"), "");
    assert_eq!((errors(&nothing).as_str(), &nothing.stdout[..]), ("", &b""[..]));
    // Nothing at all is kept.
    server.http().post("/v1/logs/words", "last").ok();
    server.http().post("/v1/logs/words?trim=6", "").ok();
    let skipped = run(&server.url(), &format!("{consume} --skip-gap"), "");
    assert_eq!((skipped.status.code(), &skipped.stdout[..]), (Some(0), &b""[..]));
    assert_eq!(cursor_of(&file)["next"], 6);
}

#[test]
fn a_cursor_says_no_more_than_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cursor");
    let server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let list = lines("old", 5_000);
    server.http().post_lines("/v1/logs/words", list.clone()).ok();
    proxy.pass(300_000);
    let url = format!("http://{}", proxy.address);
    let consume = format!("consume words --fetch-size 5000 --cursor {}", file.display());
    let mut reader = Running(command(&url, &consume).spawn().unwrap());
    until("the rest to be held", || proxy.holds());
    proxy.cut();
    until("it has saved how far it came", || file.exists());
    // It never gets an answer again, and is killed.
    let first = cursor_of(&file)["next"].as_u64().unwrap();
    assert!((1..5_000).contains(&first), "{first}");
    reader.0.kill().unwrap();
    let mut wrote = String::new();
    reader.0.stdout.take().unwrap().read_to_string(&mut wrote).unwrap();
    assert_eq!(wrote.lines().count() as u64, first);
    proxy.pass(u64::MAX);
    let rest = told(&url, &consume, "");
    let all: Vec<&str> = wrote.lines().chain(rest.lines()).collect();
    assert_eq!(all, list, "each once, in order");
}

#[test]
fn lines_are_stored_in_one_log_or_not_at_all() {
    let server = Server::start(Options::dev());
    let mut produce = Running(command(&server.url(), "produce words").spawn().unwrap());
    let mut stdin = produce.0.stdin.take().unwrap();
    writeln!(stdin, "one").unwrap();
    until("it is stored", || server.http().get("/v1/logs/words").status == 200);
    make_anew(&server, 2);
    writeln!(stdin, "two").unwrap();
    drop(stdin);
    let said = produce.told();
    let code = produce.0.wait().unwrap().code();
    assert_ended(code, "", &said, "line 2: epoch: the log words (log 1) was deleted");
    assert!(said.contains("1 records stored in words"), "{said}");
    assert_eq!(server.http().get("/v1/logs/words").payloads(), lines("new", 2));
}

/// Copies a data folder whose server has ended.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Puts a backup in the place of what the server has, once it has ended.
fn restore(server: &mut Server, backup: &Path) {
    assert!(server.terminate().success());
    std::fs::remove_dir_all(server.data()).unwrap();
    copy(backup, &server.data());
    server.restart();
}

/// A server that has 3 lines, the backup that was made of it then, and 2 lines more.
fn with_backup() -> (Server, tempfile::TempDir) {
    let mut server = Server::start(Options::dev());
    server.http().post_lines("/v1/logs/words", lines("old", 3)).ok();
    assert!(server.terminate().success());
    let backup = tempfile::tempdir().unwrap();
    copy(&server.data(), backup.path());
    server.restart();
    server.http().post_lines("/v1/logs/words", ["old-3", "old-4"].map(str::to_owned)).ok();
    (server, backup)
}

#[test]
fn promise_15_a_follower_does_not_go_on_in_a_restored_backup() {
    let (mut server, backup) = with_backup();
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    let mut follower = Running(command(&url, "consume --follow words").spawn().unwrap());
    let told = follower.lines();
    let wrote: Vec<String> = (0..5).map(|_| told.recv_timeout(WAIT).unwrap()).collect();
    assert_eq!(wrote, lines("old", 5));
    until("it waits", || server.metric("http_requests_waiting") == 1);
    proxy.pass(0);
    proxy.cut();
    restore(&mut server, backup.path());
    // It has grown past where the follower stands before that comes back.
    server.http().post_lines("/v1/logs/words", lines("new", 6)).ok();
    proxy.lead_to(server.address);
    proxy.pass(u64::MAX);
    let said = follower.told();
    let code = follower.0.wait().unwrap().code();
    assert_ended(code, &told.iter().collect::<String>(), &said, "other_history: ");
    assert!(said.contains("records below offset 5 were written"), "{said}");
}

#[test]
fn a_cursor_holds_for_one_history_and_not_for_its_copies() {
    let folder = tempfile::tempdir().unwrap();
    let [early, late] = ["early", "late"].map(|name| folder.path().join(name));
    let consume = |file: &Path| format!("consume words --cursor {}", file.display());
    let mut server = Server::start(Options::dev());
    server.http().post_lines("/v1/logs/words", lines("old", 3)).ok();
    told(&server.url(), &consume(&early), "");
    assert!(server.terminate().success());
    let copied = tempfile::tempdir().unwrap();
    copy(&server.data(), &copied.path().join("data"));
    server.restart();
    server.http().post("/v1/logs/words", "old-3").ok();
    told(&server.url(), &consume(&late), "");

    let other = Server::start_in(copied, Options::dev());
    other.http().post_lines("/v1/logs/words", lines("new", 2)).ok();
    let common = told(&other.url(), &consume(&early), "");
    assert_eq!(common, "new-0\nnew-1\n", "the copy has all that this one has seen");
    let refused = run(&other.url(), &consume(&late), "");
    assert_ended(refused.status.code(), "", &errors(&refused), "other_history: ");
    assert!(refused.stdout.is_empty());
    assert_eq!(told(&server.url(), &consume(&late), ""), "", "where it is from it goes on");
    let there_and_back = run(&server.url(), &consume(&early), "");
    assert_ended(there_and_back.status.code(), "", &errors(&there_and_back), "other_history: ");

    // A folder made anew: the log has the same name and the same id.
    let anew = Server::start(Options::dev());
    anew.http().post_lines("/v1/logs/words", lines("new", 9)).ok();
    let refused = run(&anew.url(), &consume(&late), "");
    assert_ended(refused.status.code(), "", &errors(&refused), "another file for --cursor");
}

#[test]
fn lines_are_stored_in_one_history_or_not_at_all() {
    let (mut server, backup) = with_backup();
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    let mut produce = Running(command(&url, "produce words").spawn().unwrap());
    let mut stdin = produce.0.stdin.take().unwrap();
    let head = |server: &Server| server.http().get("/v1/logs/words").number("highwater-head");
    // The second is not sent before the first is answered; its own answer may get lost.
    for (line, want) in [("one", 6), ("two", 7)] {
        writeln!(stdin, "{line}").unwrap();
        until("it is stored", || head(&server) == want);
    }
    proxy.cut();
    restore(&mut server, backup.path());
    proxy.lead_to(server.address);
    writeln!(stdin, "three").unwrap();
    drop(stdin);
    let said = produce.told();
    assert_ended(produce.0.wait().unwrap().code(), "", &said, ": other_history: the server");
    assert!(said.contains("lines were stored before: see which of them"), "{said}");
    assert_eq!(server.http().get("/v1/logs/words").payloads(), lines("old", 3));
}

#[test]
fn a_restart_is_no_other_history() {
    let mut server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    server.http().post("/v1/logs/words", "0").ok();
    let mut follower = Running(command(&url, "consume --follow words").spawn().unwrap());
    let lines = follower.lines();
    assert_eq!(lines.recv_timeout(WAIT).unwrap(), "0");
    for round in 1..=4 {
        if round % 2 == 0 {
            server.crash()
        } else {
            assert!(server.terminate().success())
        }
        if !server.runs() {
            server.restart();
        }
        proxy.lead_to(server.address);
        proxy.cut();
        server.http().post("/v1/logs/words", &round.to_string()).ok();
        assert_eq!(lines.recv_timeout(WAIT).unwrap(), round.to_string());
    }
}
