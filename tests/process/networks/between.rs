//! The commands through a proxy of our own, which does what proxies do by themselves.

use std::io::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::support::{
    Between, Manner, Options, Running, Server, WAIT, command, errors, run, seed, told, until,
};

fn words(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| format!("{:x}-{at}\n", at.wrapping_mul(2_654_435_761)))
        .collect::<String>()
        .into()
}

/// The proxy takes each end for the end of the answer and tells no length, so that only the last
/// offset shows that there was to be more. The cuts fall everywhere, between records too.
#[test]
fn consume_writes_all_though_each_answer_is_cut_and_looks_whole() {
    let mut random = StdRng::seed_from_u64(seed("consume_writes_all_though_each_answer"));
    let server = Server::start(Options::dev());
    let list = words(600);
    told(&server.url(), "produce -q a", list.clone());
    let lines = server.http().get("/v1/logs/a").ok().body;
    let first = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let manner = Manner { drops_length: true, ..Manner::default() };
    let between = Between::to(server.address, manner);
    for at in 0..4 {
        // The first ends exactly behind a record.
        let cut = if at == 0 { 50 * first } else { random.random_range(20 * first..40_000) };
        between.be(Manner { cut_answers: Some(cut), ..manner });
        let output = run(&between.url(), "consume a", "");
        assert!(output.status.success(), "{cut}: {}", errors(&output));
        assert!(output.stdout == list, "cut after {cut} bytes: each once, in order");
    }
    // Nothing of a record gets through: it says how far it came, and how to go on.
    between.be(Manner { cut_answers: Some(first / 2), ..manner });
    let output = run(&between.url(), "consume a --from 7 --give-up-after 0", "");
    assert_eq!(output.status.code(), Some(3));
    let said = errors(&output);
    assert!(said.contains("broke off at 7"), "{said}");
    assert!(said.contains("records below offset 7 were written; --from 7 goes on there"), "{said}");
    // A list that was cut is no list.
    between.be(Manner { cut_answers: Some(20), ..manner });
    let output = run(&between.url(), "create a --if-not-exists --give-up-after 0", "");
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
}

#[test]
fn the_commands_ride_through_a_restart_behind_a_proxy() {
    let mut server = Server::start(Options::dev());
    let between = Between::to(server.address, Manner::default());
    told(&server.url(), "produce -q a", "first\n");
    let mut follow = Running(command(&between.url(), "consume --follow a").spawn().unwrap());
    let mut tail = Running(command(&between.url(), "tail a").spawn().unwrap());
    let (followed, tailed) = (follow.lines(), tail.lines());
    assert_eq!(followed.recv_timeout(WAIT).unwrap(), "first");
    until("both wait", || {
        let waiting = "highwater_http_requests_waiting 2\n";
        server.http().get("/metrics").text().contains(waiting)
    });
    let mut produce = Running(command(&between.url(), "produce a").spawn().unwrap());
    let mut stdin = produce.0.stdin.take().unwrap();
    for at in 0..3 {
        writeln!(stdin, "line {at}").unwrap();
        for lines in [&followed, &tailed] {
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), format!("line {at}"));
        }
        server.kill9();
        let before = between.answered();
        writeln!(stdin, "while it was away {at}").unwrap();
        until("each has been answered by the proxy", || between.answered() >= before + 6);
        server.restart();
        between.lead_to(server.address);
        for lines in [&followed, &tailed] {
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), format!("while it was away {at}"));
        }
    }
    drop(stdin);
    let said = produce.told();
    assert!(produce.0.wait().unwrap().success(), "{said}");
    assert_eq!(server.http().get("/v1/logs/a").ok().lines().len(), 7, "each once");
}

/// What it says when it gives up: what is stored, and what may be.
#[test]
fn produce_that_gives_up_says_what_is_stored() {
    let mut server = Server::start(Options::dev());
    let between = Between::to(server.address, Manner::default());
    told(&server.url(), "produce -q a", "x\ny\nz\n");
    let words = "produce a --batch-size 2 --give-up-after 1";
    let mut produce = Running(command(&between.url(), words).spawn().unwrap());
    let mut stdin = produce.0.stdin.take().unwrap();
    writeln!(stdin, "one\ntwo").unwrap();
    until("they are stored", || server.http().get("/v1/logs/a").ok().lines().len() == 5);
    server.kill9();
    stdin.write_all(b"three\nfour\nfive\n").unwrap();
    drop(stdin);
    let said = produce.told();
    assert_eq!(produce.0.wait().unwrap().code(), Some(3), "{said}");
    assert!(said.contains("line 3: "), "{said}");
    assert!(said.contains("502 Bad Gateway, said by a proxy and not by the server"), "{said}");
    assert!(
        said.contains("lines 1 to 2 are stored, the last at offset 4, lines 3 to 4 may be"),
        "{said}"
    );
    assert!(said.contains("2 records stored in a"), "{said}");
    let consume = run(&between.url(), "consume a --give-up-after 1", "");
    assert_eq!(consume.status.code(), Some(3), "{}", errors(&consume));
    assert!(errors(&consume).contains("it has stayed so for 1 s"), "{}", errors(&consume));
}

#[test]
fn produce_sends_less_at_once_where_a_proxy_takes_no_more() {
    let server = Server::start(Options::dev());
    let manner = Manner { most_body: 40_000, ..Manner::default() };
    let between = Between::to(server.address, manner);
    let list = words(20_000);
    let output = run(&between.url(), "produce --batch-size 1024 a", list.clone());
    assert!(output.status.success(), "{}", errors(&output));
    assert!(between.answered() < 5, "it has learned how much is taken");
    assert!(run(&server.url(), "consume a", "").stdout == list, "each once, in order");
    // A limit of the server's own says so itself.
    let small = Server::start(
        Options::dev().limit("http_body_bytes", 70_000).limit("record_bytes", 20_000),
    );
    let output = run(&small.url(), "produce --batch-size 1024 a", list.clone());
    assert!(output.status.success(), "{}", errors(&output));
    assert!(run(&small.url(), "consume a", "").stdout == list, "each once, in order");
    // A single line that is too large cannot be parted.
    let large = format!("small\n{}\nlast\n", "x".repeat(50_000));
    let output = run(&between.url(), "produce b", large);
    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    assert!(said.contains("line 2: ") && said.contains("client_max_body_size"), "{said}");
    assert_eq!(run(&server.url(), "consume b", "").stdout, b"small\n");
    // By default no request is larger than what nginx takes by itself.
    let between = Between::to(server.address, Manner::default());
    let wide = format!("{}\n", "y".repeat(100_000)).repeat(30);
    let output = run(&between.url(), "produce c", wide);
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(between.answered(), 0);
}

/// No connection carries more than so much of a body, as on a link that is cut again and again.
#[test]
fn produce_gets_on_where_no_connection_carries_a_whole_batch() {
    let server = Server::start(Options::dev());
    let manner = Manner { cut_bodies: Some(30_000), ..Manner::default() };
    let between = Between::to(server.address, manner);
    let list = words(10_000);
    let output =
        run(&between.url(), "produce --batch-size 1024 a --give-up-after 20", list.clone());
    assert!(output.status.success(), "{}", errors(&output));
    assert!(run(&server.url(), "consume a", "").stdout == list, "each once, in order");
}

/// A proxy with less patience than a long wait has: shorter ones are tried, and nothing is lost.
#[test]
fn a_follower_outlasts_a_proxy_without_patience() {
    let server = Server::start(Options::dev());
    let patience = Duration::from_millis(1_500);
    let between = Between::to(server.address, Manner { patience, ..Manner::default() });
    told(&server.url(), "produce -q a", "first\n");
    let words = "tail a --give-up-after 4";
    let mut tail = Running(command(&between.url(), words).spawn().unwrap());
    let lines = tail.lines();
    until("it waits", || {
        server.http().get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    let answered = || {
        let route = r#"route="/v1/logs/{*name}",status="200""#;
        server.metric(&format!(r#"http_requests_total{{method="GET",{route}}}"#))
    };
    // Longer in all than it would wait for a proxy that never lets anything through.
    let before = answered();
    until("waits that end well", || answered() >= before + 6);
    assert_eq!(between.answered(), 1, "the first wait was too long");
    told(&server.url(), "produce -q a", "second\n");
    assert_eq!(lines.recv_timeout(WAIT).unwrap(), "second");
}
