//! HTTP/1.0, where an answer without a length ends with its connection: each one has its length.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Http, Options, Server, WAIT};

/// Asks by HTTP/1.0: the head in lower case, and the stream behind it.
fn ask(server: &Server, path: &str) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.extend_from_slice(&byte);
    }
    (String::from_utf8(head).unwrap().to_lowercase(), stream)
}

fn length(head: &str) -> usize {
    let told = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    told.unwrap_or_else(|| panic!("no length: {head}")).parse().unwrap()
}

fn whole(server: &Server, path: &str) -> Vec<u8> {
    let (head, mut stream) = ask(server, path);
    assert!(head.contains(" 200 "), "{head}");
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    assert_eq!(body.len(), length(&head), "{path}");
    body
}

fn filled(http: &Http, log: &str, keys: usize, bytes: usize) {
    for chunk in (0..keys).collect::<Vec<_>>().chunks(100) {
        let value = "x".repeat(bytes);
        let record = |key: &usize| format!("{{\"key\":\"{key:05}\",\"payload\":\"{value}\"}}\n");
        let body: String = chunk.iter().map(record).collect();
        let lines = [("content-type", "application/x-ndjson")];
        http.ask("POST", &format!("/v1/logs/{log}"), &lines, Some(body.as_bytes())).ok();
    }
}

#[test]
fn every_answer_by_http_1_0_tells_its_length() {
    let options = Options::dev().rule("latest", "latest", "").rule("client", "client", "");
    let server = Server::start(options);
    let http = server.http();
    for log in ["plain", "latest", "client"] {
        filled(&http, log, 1_000, 2_000);
    }
    let state = vec![7; 3_000_000];
    http.ask("PUT", "/v1/snapshots/client?offset=1000", &[], Some(&state)).ok();
    for path in ["/v1/logs/plain", "/v1/logs/plain?format=raw", "/v1/logs/plain?limit=700"] {
        assert!(whole(&server, path) == http.get(path).ok().body, "{path}");
    }
    for path in ["/v1/snapshots/latest", "/v1/logs", "/v1/connections", "/v1/pages/plain"] {
        assert!(whole(&server, path) == http.get(path).ok().body, "{path}");
    }
    assert!(whole(&server, "/v1/snapshots/client") == state);
    assert_eq!(whole(&server, "/v1/logs/plain?from=end"), b"");
}

/// The reader takes the beginning and waits; meanwhile the keys that it has not got are written
/// anew, and so belong to what it reads afterwards. It gets as many bytes as it was told all the
/// same, and every line of them is a record.
#[test]
fn a_state_whose_keys_are_overwritten_on_the_way_has_the_length_it_told() {
    let server = Server::start(Options::dev().rule("a", "latest", ""));
    let http = server.http();
    let keys = 16_000;
    filled(&http, "a", keys, 1_000);
    let (head, mut stream) = ask(&server, "/v1/snapshots/a");
    // The rest waits in the kernel's buffers and in the server.
    filled(&http, "a", keys, 10);
    let mut body = Vec::new();
    stream.read_to_end(&mut body).unwrap();
    assert_eq!(body.len(), length(&head));
    let lines: Vec<_> = body.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n').collect();
    let first = lines.iter().map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
    let got = first.map(|record| record["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(got.len() < keys, "some were left out, for this test to be one");
    assert!(got.is_sorted());
}

/// Its node dies in the middle: what came is less than was told.
#[test]
fn an_answer_by_http_1_0_that_was_cut_is_shorter_than_it_told() {
    let mut server = Server::start(Options::dev());
    filled(&server.http(), "a", 3_000, 10_000);
    let (head, mut stream) = ask(&server, "/v1/logs/a");
    stream.read_exact(&mut [0; 100_000]).unwrap();
    server.kill9();
    let mut rest = Vec::new();
    let end = stream.read_to_end(&mut rest);
    assert!(100_000 + rest.len() < length(&head), "{end:?}");
}

/// What a proxy that asks by HTTP/1.0 keeps open for many requests.
#[test]
fn a_connection_by_http_1_0_can_be_kept() {
    let server = Server::start(Options::dev());
    filled(&server.http(), "a", 500, 1_000);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    for _ in 0..3 {
        let head = "GET /v1/logs/a HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.extend_from_slice(&byte);
        }
        let mut body = vec![0; length(&String::from_utf8(head).unwrap().to_lowercase())];
        stream.read_exact(&mut body).unwrap();
        assert!(body.ends_with(b"}\n"));
    }
}

/// A body that comes at 15 kB/s takes longer than any one wait of the server's.
#[test]
fn an_upload_over_a_slow_link_arrives() {
    let server = Server::start(Options::dev());
    let body = "x".repeat(495_000);
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(WAIT)).unwrap();
    let length = body.len();
    let head = "POST /v1/logs/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                Content-Type: text/plain\r\n";
    write!(stream, "{head}Content-Length: {length}\r\n\r\n").unwrap();
    for piece in body.as_bytes().chunks(1_500) {
        stream.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(server.http().get("/v1/logs/a").ok().lines().len(), 1);
}
