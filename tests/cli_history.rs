//! The command line keeps to the log and to the history that it began in: whatever becomes of them
//! meanwhile, it ends and says so, and writes or stores nothing that belongs elsewhere.

mod support;

use std::io::{Read as _, Write as _};
use std::path::Path;

use serde_json::Value;
use support::{Options, Proxy, Running, Server, WAIT, command, errors, run, told, until};

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
    assert_eq!(told(&server.url(), &at_start, ""), "", "--from is for the first time");
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
