//! Snapshots.

use serde_json::json;

use crate::support::{Options, Server, token};

fn server() -> Server {
    Server::start(Options::dev().rule("state/**", "latest", "").rule("doc/**", "client", ""))
}

#[test]
fn the_newest_record_of_each_key() {
    let server = server();
    let http = server.http();
    let put = |key: &str, payload: &str| {
        http.post_json("/v1/logs/state/a", &json!({ "key": key, "payload": payload })).ok();
    };
    let empty = http.post("/v1/logs/state/a?create", "").ok();
    assert_eq!(empty.status, 201);
    let none = http.get("/v1/snapshots/state/a").ok();
    assert_eq!((none.number("highwater-offset"), none.body.len()), (0, 0));
    put("x", "1");
    put("y", "1");
    put("x", "2");
    put("z", "1");
    http.post_json("/v1/logs/state/a", &json!({ "key": "z" })).ok();
    let got = http.get("/v1/snapshots/state/a").ok();
    assert_eq!(got.number("highwater-offset"), 5);
    assert_eq!(got.headers["highwater-rule"], "latest");
    let kept: Vec<_> = got
        .lines()
        .iter()
        .map(|line| (line["key"].clone(), line["offset"].clone(), line["payload"].clone()))
        .collect();
    assert_eq!(kept, [(json!("x"), json!(2), json!("2")), (json!("y"), json!(1), json!("1"))]);
    let put = http.ask("PUT", "/v1/snapshots/state/a?offset=5", &[], Some(b"x"));
    assert_eq!(put.refusal(), (409, "snapshot_rule".to_owned()));
}

#[test]
fn many_keys_stream_over_pages() {
    let server = server();
    let http = server.http();
    let records: Vec<_> = (0..3_000)
        .map(|at| json!({ "key": format!("{at:05}"), "payload": "x".repeat(200) }))
        .collect();
    http.post_json("/v1/logs/state/a", &json!({ "records": records })).ok();
    let lines = http.get("/v1/snapshots/state/a").ok().lines();
    let keys: Vec<_> = lines.iter().map(|line| line["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 3_000);
    assert!(keys.is_sorted());
}

#[test]
fn what_a_client_put_comes_back() {
    let server = server();
    let http = server.http();
    for text in ["a", "b", "c"] {
        http.post("/v1/logs/doc/1", text).ok();
    }
    assert_eq!(http.get("/v1/snapshots/doc/1").refusal(), (404, "not_found".to_owned()));
    // Several parts, the last one shorter.
    let bytes: Vec<u8> = (0..600_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    let put = http.ask("PUT", "/v1/snapshots/doc/1?offset=2&version=7", &[], Some(&bytes)).ok();
    assert_eq!((put.status, put.json()["bytes"].as_u64()), (201, Some(600_000)));
    let got = http.get("/v1/snapshots/doc/1").ok();
    assert_eq!(got.body, bytes);
    assert_eq!((got.number("highwater-offset"), got.number("highwater-version")), (2, 7));
    assert_eq!(got.number("content-length"), 600_000);

    let refused = |query: &str| {
        http.ask("PUT", &format!("/v1/snapshots/doc/1?{query}"), &[], Some(b"x")).refusal()
    };
    assert_eq!(refused("offset=2"), (409, "snapshot_behind".to_owned()));
    assert_eq!(refused("offset=4"), (409, "snapshot_beyond".to_owned()));
    assert_eq!(refused("offset=-1"), (400, "bad_offset".to_owned()));
    assert_eq!(refused("version=1"), (400, "bad_request".to_owned()));
    let empty = http.ask("PUT", "/v1/snapshots/doc/1?offset=3", &[], Some(b"")).ok();
    assert_eq!(empty.json()["bytes"], 0);
    let got = http.get("/v1/snapshots/doc/1").ok();
    assert_eq!((got.number("highwater-offset"), got.body.len()), (3, 0));
    let none = http.get("/v1/snapshots/nothing");
    assert_eq!(none.refusal(), (404, "unknown_log".to_owned()));
}

#[test]
fn exact_parts_and_too_large_ones() {
    let options = Options::dev()
        .rule("doc/**", "client", "")
        .limit("snapshot_part_bytes", 1_024)
        .limit("snapshot_bytes", 4_096);
    let server = Server::start(options);
    let http = server.http();
    http.post_lines("/v1/logs/doc/1", (0..9).map(|at| at.to_string())).ok();
    for (offset, size) in [(1, 1_024), (2, 2_048), (3, 4_096), (4, 1_025)] {
        let bytes = vec![b'x'; size];
        let path = format!("/v1/snapshots/doc/1?offset={offset}");
        http.ask("PUT", &path, &[], Some(&bytes)).ok();
        assert_eq!(http.get("/v1/snapshots/doc/1").ok().body, bytes, "{size}");
    }
    let large = vec![b'x'; 4_097];
    let refused = http.ask("PUT", "/v1/snapshots/doc/1?offset=5", &[], Some(&large));
    assert_eq!(refused.refusal(), (413, "too_large".to_owned()));
    assert_eq!(http.get("/v1/snapshots/doc/1").ok().number("highwater-offset"), 4);
}

#[test]
fn reading_and_putting_take_their_own_grants() {
    let server = Server::start(Options::default().rule("doc/**", "client", ""));
    let root = server.http();
    root.post("/v1/logs/doc/1", "x").ok();
    let reader = server.http_as(Some(token("ana", &[("doc/**", "read append")])));
    let put = |http: &crate::support::Http| {
        http.ask("PUT", "/v1/snapshots/doc/1?offset=1", &[], Some(b"state"))
    };
    assert_eq!(put(&reader).refusal(), (403, "denied".to_owned()));
    let maker = server.http_as(Some(token("bot", &[("doc/**", "snapshot")])));
    put(&maker).ok();
    assert_eq!(maker.get("/v1/snapshots/doc/1").refusal(), (403, "denied".to_owned()));
    assert_eq!(reader.get("/v1/snapshots/doc/1").ok().body, b"state");
}
