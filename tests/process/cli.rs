//! The command line against the real server, as a person or a script would use it.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use crate::support::{
    Client, Options, Proxy, Running, Server, WAIT, command, errors, feed, run, seed, token, told,
    until,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

fn words(count: usize) -> Vec<u8> {
    let mut words = String::new();
    for at in 0..count {
        writeln!(words, "{:x}-{at}", at.wrapping_mul(2_654_435_761)).unwrap();
    }
    words.into_bytes()
}

#[test]
fn a_word_list_goes_in_and_comes_out_the_same() {
    let server = Server::start(Options::dev());
    let url = server.url();
    let list = words(100_000);
    let made = told(&url, "create words --page-size 4096", "");
    assert!(made.starts_with("created words"), "{made}");
    let began = Instant::now();
    let output = run(&url, "produce --batch-size 1024 words", list.clone());
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(errors(&output), "100000 records stored in words\n");
    assert!(output.stdout.is_empty());
    let produced = began.elapsed();
    let output = run(&url, "consume --fetch-size 512 words", "");
    println!("produced in {produced:?}, consumed in {:?}", began.elapsed() - produced);
    assert!(output.status.success(), "{}", errors(&output));
    assert!(output.stdout == list, "the same lines in the same order");
    assert_eq!(errors(&output), "");
}

#[test]
fn lines_of_any_bytes_are_kept() {
    let server = Server::start(Options::dev());
    let url = server.url();
    let list = b"text\n\n\xff\x00bytes\r\n \"quoted\\\nlast without end".to_vec();
    assert_eq!(told(&url, "produce --quiet a", list.clone()), "");
    let output = run(&url, "consume a", "");
    assert_eq!(output.stdout, [&list[..], b"\n"].concat());
    assert_eq!(told(&url, "produce -q empty", ""), "");
    assert_eq!(server.http().get("/v1/logs/empty").status, 404, "nothing to store, no log");
}

/// How often a server has answered one of a log's addresses well.
fn answered(server: &Server, method: &str) -> u64 {
    let route = r#"route="/v1/logs/{*name}",status="200""#;
    server.metric(&format!(r#"http_requests_total{{method="{method}",{route}}}"#))
}

/// Each round has a part of the input, and ends once the server has answered to some of it what the
/// client will never hear: so each cut and each crash strikes a transfer.
#[test]
fn produce_stores_each_line_once_though_answers_are_lost() {
    const ROUNDS: usize = 12;
    let mut random = StdRng::seed_from_u64(seed("produce_stores_each_line_once"));
    let mut server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    let list = words(20_000);
    let lines: Vec<&[u8]> = list.split_inclusive(|byte| *byte == b'\n').collect();
    let mut child = Running(command(&url, "produce --batch-size 50 a").spawn().unwrap());
    let mut stdin = child.0.stdin.take().unwrap();
    let mut fed = 0;
    for (round, part) in lines.chunks(lines.len().div_ceil(ROUNDS)).enumerate() {
        // The answer that is lost may be the first of this part or a later one, whole or in half.
        proxy.pass(random.random_range(0..4_000));
        assert!(stdin.write_all(&part.concat()).is_ok(), "{}", child.told());
        fed += part.len() as u64;
        until("an answer that does not arrive", || proxy.holds());
        if round % 4 == 3 {
            server.crash();
            proxy.lead_to(server.address);
        }
        proxy.cut();
        proxy.pass(u64::MAX);
        // The pipe takes the next part only once this one is through.
        let http = server.http();
        until("the rest of this part", || {
            http.get("/v1/logs/a?from=end&limit=0").number("highwater-head") == fed
        });
    }
    drop(stdin);
    let said = child.told();
    assert!(child.0.wait().unwrap().success(), "{said}");
    assert!(answered(&server, "POST") > 0, "it went on after the last crash");
    assert!(run(&server.url(), "consume a", "").stdout == list, "each once, in order");
}

#[test]
fn consume_goes_on_where_an_answer_broke_off() {
    let mut server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    let list = words(30_000);
    told(&server.url(), "produce --batch-size 1024 a", list.clone());
    // The answer does not come to its end: that much of it arrives, then it breaks off.
    proxy.pass(2_000_000);
    let mut child = Running(command(&url, "consume --fetch-size 100000 a").spawn().unwrap());
    let mut out = child.0.stdout.take().unwrap();
    let mut got = vec![0; 10_000];
    out.read_exact(&mut got).unwrap();
    until("the rest to be held", || proxy.holds());
    server.crash();
    proxy.lead_to(server.address);
    proxy.cut();
    proxy.pass(u64::MAX);
    out.read_to_end(&mut got).unwrap();
    let said = child.told();
    assert!(child.0.wait().unwrap().success(), "{said}");
    assert!(answered(&server, "GET") > 0, "the rest came from the server after the crash");
    assert!(got == list, "nothing twice, nothing left out");
}

#[test]
fn consume_begins_where_it_is_told() {
    let server = Server::start(Options::dev());
    let url = server.url();
    told(&url, "produce -q a", "zero\none\ntwo\n");
    assert_eq!(told(&url, "consume a --from 1", ""), "one\ntwo\n");
    assert_eq!(told(&url, "consume a --from start", ""), "zero\none\ntwo\n");
    assert_eq!(told(&url, "consume a --from end", ""), "");
    assert_eq!(told(&url, "consume a --from 3", ""), "");
    let json = told(&url, "consume a --from 2 --json", "");
    let line: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&line["offset"], &line["payload"]), (&2.into(), &"two".into()));
    let past = run(&url, "consume a --from 4", "");
    assert_eq!(past.status.code(), Some(1));
    assert!(
        errors(&past).contains("bad_offset: from: the log's head is at 3"),
        "{}",
        errors(&past)
    );
    server.http().post("/v1/logs/a?trim=2", "").ok();
    let gone = run(&url, "consume a --from 0", "");
    assert_eq!(gone.status.code(), Some(1));
    let said = errors(&gone);
    assert!(said.contains("of a records 0 to 1 are no longer kept: with --skip-gap"), "{said}");
    assert!(said.contains("give --from start"), "{said}");
    let skipped = run(&url, "consume a --from 0 --skip-gap", "");
    assert_eq!((skipped.status.code(), &skipped.stdout[..]), (Some(0), &b"two\n"[..]));
    let said = errors(&skipped);
    assert_eq!(said, "highwater: records 0 to 1 are no longer kept: on at 2\n");
    assert_eq!(told(&url, "consume a", ""), "two\n", "from what is kept");
}

#[test]
fn tail_writes_what_comes() {
    let mut server = Server::start(Options::dev());
    let proxy = Proxy::to(server.address);
    let url = format!("http://{}", proxy.address);
    told(&server.url(), "produce -q a", "old\n");
    let mut tail = Running(command(&url, "tail a").spawn().unwrap());
    let lines = tail.lines();
    let http = server.http();
    until("it waits", || {
        http.get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    told(&server.url(), "produce -q a", "new\n");
    assert_eq!(lines.recv_timeout(WAIT).unwrap(), "new");
    server.crash();
    proxy.lead_to(server.address);
    proxy.cut();
    told(&server.url(), "produce -q a", "after a crash\n");
    assert_eq!(lines.recv_timeout(WAIT).unwrap(), "after a crash");
    let mut follow = Running(command(&url, "consume a --from 1 --follow").spawn().unwrap());
    let lines = follow.lines();
    for want in ["new", "after a crash"] {
        assert_eq!(lines.recv_timeout(WAIT).unwrap(), want);
    }
}

#[test]
fn what_is_typed_does_not_wait_for_a_batch() {
    let server = Server::start(Options::dev());
    let mut produce = Running(command(&server.url(), "produce a").spawn().unwrap());
    let mut stdin = produce.0.stdin.take().unwrap();
    for at in 0..3_u64 {
        writeln!(stdin, "line {at}").unwrap();
        until("it is stored", || {
            let got = server.http().get("/v1/logs/a");
            got.status == 200 && got.number("highwater-head") == at + 1
        });
    }
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let server = Server::start(Options::dev());
    told(&server.url(), "produce -q a", words(50_000));
    let mut child = command(&server.url(), "consume a").spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), errors(&output)), (Some(0), String::new()));
}

#[test]
fn failures_say_what_to_do() {
    let nobody = run("http://127.0.0.1:1", "consume a", "");
    assert_eq!(nobody.status.code(), Some(3));
    assert!(errors(&nobody).contains("no server at http://127.0.0.1:1"), "{}", errors(&nobody));
    assert!(errors(&nobody).contains("`highwater serve --dev`"));
    for arguments in ["create a", "produce a", "logs", "connections list"] {
        assert_eq!(
            run("http://127.0.0.1:1", arguments, "x\n").status.code(),
            Some(3),
            "{arguments}"
        );
    }
    assert_eq!(run("nonsense", "logs", "").status.code(), Some(2));
    assert_eq!(run("http://127.0.0.1:1", "consume a//b", "").status.code(), Some(2));
    assert_eq!(run("http://127.0.0.1:1", "consume", "").status.code(), Some(2));

    let server = Server::start(Options::default());
    let url = server.url();
    let none = run(&url, "logs", "");
    assert_eq!(none.status.code(), Some(1));
    assert!(errors(&none).contains("--token or HIGHWATER_TOKEN"), "{}", errors(&none));
    let root = token("root", &[("**", "read append admin")]);
    let flag = format!("--token {root}");
    let unknown = run(&url, &format!("consume nothing {flag}"), "");
    assert_eq!(unknown.status.code(), Some(1));
    assert!(errors(&unknown).contains("unknown_log: there is no log nothing"));
    told(&url, &format!("create a {flag}"), "");
    let twice = run(&url, &format!("create a {flag}"), "");
    assert_eq!(twice.status.code(), Some(1));
    assert!(errors(&twice).contains("--if-not-exists"), "{}", errors(&twice));
    assert!(told(&url, &format!("create a --if-not-exists {flag}"), "").starts_with("exists a"));
    let reader = token("ana", &[("a", "read")]);
    let denied = run(&url, &format!("produce a --token {reader}"), "x\n");
    assert_eq!(denied.status.code(), Some(1));
    assert!(errors(&denied).contains("line 1: denied: no grant"), "{}", errors(&denied));
}

#[test]
fn a_line_that_is_refused_is_named() {
    let server = Server::start(Options::dev());
    let mut list = b"one\ntwo\n".to_vec();
    list.extend(vec![b'x'; 600_000]);
    list.extend_from_slice(b"\nfour\n");
    let output = run(&server.url(), "produce a", list);
    assert_eq!(output.status.code(), Some(1));
    let text = errors(&output);
    assert!(text.contains("line 3: too_large: a record of 600000 bytes"), "{text}");
    let stored = server.http().get("/v1/logs/a").ok().number("highwater-head");
    assert!(text.contains(&format!("{stored} records stored in a")), "{text}");
}

#[test]
fn a_rate_is_waited_out() {
    let options = Options::dev().limit("appends_per_user_second", 1_000);
    let server = Server::start(options);
    let list = words(3_000);
    let began = Instant::now();
    let output = run(&server.url(), "produce a", list.clone());
    assert!(output.status.success(), "{}", errors(&output));
    // A second's worth passes at once, the rest at a thousand a second.
    assert!(began.elapsed() >= Duration::from_millis(1_500), "{:?}", began.elapsed());
    assert!(run(&server.url(), "consume a", "").stdout == list);
}

#[test]
fn logs_and_connections_are_shown() {
    let server = Server::start(Options::dev());
    let url = server.url();
    told(&url, "produce -q docs/1", "12345\n");
    told(&url, "produce -q other", "1\n2\n");
    let all = told(&url, "logs", "");
    let rows: Vec<Vec<&str>> = all.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "START", "HEAD", "BYTES", "SNAPSHOTS"]);
    assert_eq!(rows[1], ["docs/1", "0", "1", "5", "none"]);
    assert_eq!(rows[2], ["other", "0", "2", "2", "none"]);
    let json = told(&url, "logs docs/ --json", "");
    let log: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(log["name"], "docs/1");

    let mut client = Client::with(None).wanting("other").join(&server);
    client.reach("other", 2);
    let id = client.connection.to_string();
    let list = told(&url, "connections list", "");
    assert!(list.contains(&id) && list.contains("active"), "{list}");
    let shown = told(&url, &format!("connections show {id}"), "");
    assert!(shown.contains("state       active\n"), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("other ")), "{shown}");
    assert_eq!(
        told(&url, &format!("connections downgrade {id}"), ""),
        format!("downgraded {id}\n")
    );
    client.wait("it is told", |client| !client.active);
    let json = told(&url, &format!("connections show {id} --json"), "");
    let shown: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&shown["reason"], &shown["active"]), (&"asked".into(), &false.into()));
    let unknown = format!("connections show {}", "0".repeat(31) + "1");
    assert_eq!(run(&url, &unknown, "").status.code(), Some(1));
}

#[test]
fn a_token_comes_from_flag_or_environment() {
    let server = Server::start(Options::default());
    let root = token("root", &[("**", "read append admin")]);
    let mut child =
        command(&server.url(), "produce -q a").env("HIGHWATER_TOKEN", &root).spawn().unwrap();
    feed(&mut child, b"x\n".to_vec());
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(told(&server.url(), &format!("consume a --token {root}"), ""), "x\n");
    let help = told(&server.url(), "consume --help", "");
    assert!(!help.contains(&root));
}
