//! Those who take their time: a token that ends while the body comes, bodies that announce much
//! and send little, requests of many records under a rate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Options, Server, token, until};

/// A request whose head and a part of its body are sent.
fn begun(server: &Server, token: Option<&str>, length: &str, part: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!(
        "POST /v1/logs/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: text/plain\r\n{}{length}\r\n\r\n",
        token.unwrap_or_default()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(part).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn requests_under_way(server: &Server, count: usize) {
    let line = format!("highwater_http_requests_waiting {count}\n");
    until("requests are under way", || server.http().get("/metrics").text().contains(&line));
}

#[test]
fn a_token_that_is_revoked_while_the_body_comes_stores_nothing() {
    let server = Server::start(Options::default());
    let token = token("ana", &[("a", "append")]);
    let mut slow = begun(&server, Some(&token), "Content-Length: 8", b"half");
    requests_under_way(&server, 1);
    server.http().post_json("/v1/revocations", &json!({ "user": "ana" })).ok();
    slow.write_all(b"done").unwrap();
    let told = answer(slow);
    assert!(told.starts_with("HTTP/1.1 401") && told.contains("revoked"), "{told}");
    assert_eq!(server.http().get("/v1/logs/a").status, 404, "nothing was stored");
}

#[test]
fn bodies_that_do_not_come_keep_nobody_out() {
    let options = Options::dev().limit("queue_bytes", 8 << 20).limit("http_body_bytes", 8 << 20);
    let server = Server::start(options);
    let http = server.http();
    let lengths = ["Content-Length: 8000000", "Transfer-Encoding: chunked"];
    let slow: Vec<_> = (0..20).map(|n| begun(&server, None, lengths[n % 2], b"")).collect();
    requests_under_way(&server, 20);
    http.post("/v1/logs/a", &"x".repeat(500_000)).ok();
    assert_eq!(http.get("/v1/logs/a?format=raw").ok().body.len(), 500_001);
    drop(slow);
}

#[test]
fn many_records_at_once_are_held_to_the_rate_too() {
    let server = Server::start(Options::dev().limit("appends_per_user_second", 2_000));
    let http = server.http();
    let many = |log: &str, count: usize| {
        http.post_lines(&format!("/v1/logs/{log}"), (0..count).map(|n| n.to_string()))
    };
    // A second's worth is there at once, the others come as the rate allows.
    let begun = Instant::now();
    let told = many("a", 8_000).ok().json();
    assert_eq!(told["count"], 8_000);
    assert!(begun.elapsed() >= Duration::from_millis(2_900), "{:?}", begun.elapsed());
    assert_eq!(http.get("/v1/logs/a?limit=0").number("highwater-head"), 8_000);
    // What would take too long is refused, and how much was stored is told.
    let slow = Server::start(Options::dev().limit("appends_per_user_second", 10));
    let told = slow.http().post_lines("/v1/logs/a", (0..5_000).map(|n| n.to_string()));
    assert_eq!(told.refusal(), (429, "rate".to_owned()));
    assert_eq!(slow.http().get("/v1/logs/a").status, 404, "nothing of it was stored");
    // That of which the beginning could be paid for is stored so far, and how much is told.
    let slow = Server::start(Options::dev().limit("appends_per_user_second", 1_000));
    let told = slow.http().post_lines("/v1/logs/a", (0..40_000).map(|n| n.to_string()));
    assert_eq!(told.refusal(), (429, "rate".to_owned()));
    let stored = told.json()["stored"].as_u64().unwrap();
    assert!((15_000..22_000).contains(&stored), "{stored} in 20 s at 1,000 a second");
    assert_eq!(slow.http().get("/v1/logs/a?limit=0").number("highwater-head"), stored);
    // The same for a log's own rate.
    let of_log = Server::start(Options::dev().limit("appends_per_log_second", 2_000));
    let begun = Instant::now();
    of_log.http().post_lines("/v1/logs/a", (0..6_000).map(|n| n.to_string())).ok();
    assert!(begun.elapsed() >= Duration::from_millis(1_900), "{:?}", begun.elapsed());
}
