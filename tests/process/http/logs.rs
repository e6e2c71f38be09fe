//! Appending and reading.

use std::time::{Duration, Instant};

use highwater::rows::{Rows as _, Table};
use highwater::store::{Options as StoreOptions, Store};
use serde_json::json;

use crate::support::{Http, Options, Server, id, until};

fn dev() -> (Server, Http) {
    let server = Server::start(Options::dev());
    let http = server.http();
    (server, http)
}

#[test]
fn records_come_back_as_they_were_sent() {
    let (_server, http) = dev();
    let told = http.post("/v1/logs/a/b", "first").ok().json();
    assert_eq!(
        (&told["offset"], &told["count"], &told["level"]),
        (&json!(0), &json!(1), &json!("synced"))
    );
    let bytes = [("highwater-key", "k"), ("highwater-kind", "note"), ("highwater-header-x", "1")];
    http.ask("POST", "/v1/logs/a/b", &bytes, Some(b"\x00\xff")).ok();
    let many = json!({ "records": [{ "payload": "third" }, { "key": "k" }] });
    let told = http.post_json("/v1/logs/a/b", &many).ok().json();
    assert_eq!((&told["offset"], &told["last"], &told["count"]), (&json!(2), &json!(3), &json!(2)));
    let got = http.get("/v1/logs/a/b").ok();
    let lines = got.lines();
    let offsets: Vec<_> = lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    assert_eq!(lines[0]["payload"], "first");
    assert_eq!(lines[1]["payload"], json!({ "b64": "AP8" }));
    assert_eq!((&lines[1]["key"], &lines[1]["kind"]), (&json!("k"), &json!("note")));
    assert_eq!(lines[1]["headers"], json!([["x", "1"]]));
    assert_eq!(lines[3].get("payload"), None, "a tombstone");
    assert_eq!(lines[3]["place"], told["place"]);
    assert_eq!(lines[0]["origin"]["user"], "dev");
    for (name, want) in [("start", 0), ("head", 4), ("next", 4)] {
        assert_eq!(got.number(&format!("highwater-{name}")), want, "{name}");
    }
    let raw = http.get("/v1/logs/a/b?format=raw").ok();
    assert_eq!(raw.body, b"first\n\x00\xff\nthird\n\n");
    assert_eq!(raw.headers["content-type"], "application/octet-stream");
}

#[test]
fn a_line_that_was_read_can_be_posted() {
    let (_server, http) = dev();
    http.post_json("/v1/logs/a", &json!({ "key": "k", "payload": "x", "event_time": 5 })).ok();
    let line = http.get("/v1/logs/a").ok().body;
    let form = [("content-type", "application/x-ndjson")];
    http.ask("POST", "/v1/logs/b", &form, Some(&line)).ok();
    let copied = &http.get("/v1/logs/b").lines()[0];
    assert_eq!((&copied["key"], &copied["event_time"]), (&json!("k"), &json!(5)));
}

#[test]
fn requests_without_a_writer_leave_nothing_but_their_records() {
    let (mut server, http) = dev();
    for at in 0..40 {
        http.post("/v1/logs/a", &format!("{at}")).ok();
        let conflict = http.post("/v1/logs/a?if_head=0", "no");
        assert_eq!(conflict.status, 412);
    }
    // More than one command carries, so that each goes on where nothing is known of the last one.
    http.post_lines("/v1/logs/b", (0..2_500).map(|at| at.to_string())).ok();
    let notice = json!({ "logs": ["a", "c"], "record": { "payload": "x" } });
    http.post_json("/v1/notify", &notice).ok();
    let head = |name: &str| http.get(&format!("/v1/logs/{name}?limit=1")).number("highwater-head");
    assert_eq!((head("a"), head("b"), head("c")), (41, 2_500, 1));
    http.post("/v1/logs/a?writer=000000000000000000000000000000aa&seq=1", "named").ok();
    assert!(server.terminate().success());
    let store = Store::open(&server.data(), StoreOptions::default()).unwrap();
    for table in [Table::Writers, Table::Outcomes] {
        let rows = store.scan(table, &[], &[], 100).unwrap();
        assert_eq!(rows.len(), 1, "the named writer's row in {}", table.name());
    }
}

#[test]
fn with_writer_and_sequence_it_is_stored_once() {
    let (mut server, http) = dev();
    let writer = id();
    let path = format!("/v1/logs/a?writer={writer}");
    let first = http.post(&format!("{path}&seq=1"), "x").ok().json();
    assert_eq!(http.post(&format!("{path}&seq=1"), "x").ok().json(), first);
    let (status, code) = http.post(&format!("{path}&seq=1"), "y").refusal();
    assert_eq!((status, code.as_str()), (409, "sequence_reused"));
    let gap = http.post(&format!("{path}&seq=5"), "x");
    assert_eq!(gap.refusal(), (409, "sequence_gap".to_owned()));
    assert_eq!(gap.json()["mark"], 1);
    let again = http.post(&format!("{path}&seq=1"), "x").ok().json();
    assert_eq!(again, first, "what comes too early confirms no answer before it");
    let batch = ["b", "c", "d"].map(str::to_owned);
    let many = http.post_lines(&format!("{path}&seq=2&results"), batch.clone()).ok().json();
    assert_eq!(many["results"][2]["seq"], 4);
    server.crash();
    let http = server.http();
    let again = http.post_lines(&format!("{path}&seq=2&results"), batch).ok().json();
    assert_eq!(again, many, "answered alike after a crash");
    assert_eq!(http.get("/v1/logs/a").payloads(), ["x", "b", "c", "d"]);
    let headers = [("highwater-writer", &*writer.to_string()), ("highwater-seq", "5")];
    http.ask("POST", "/v1/logs/a", &headers, Some(b"e")).ok();
    http.post(&format!("/v1/writers/{writer}/retire"), "").ok();
    let old = http.post(&format!("{path}&seq=5&oldest=5"), "e");
    assert_eq!(old.refusal(), (409, "sequence_old".to_owned()));
}

#[test]
fn a_refusal_for_good_spends_its_sequence_and_is_answered_alike() {
    let (_server, http) = dev();
    let path = format!("/v1/logs/a?writer={}", id());
    let large = "x".repeat(512 * 1024 + 1);
    let body = ["ok", &large, "fine"].map(str::to_owned);
    for _ in 0..2 {
        let told = http.post_lines(&format!("{path}&seq=1"), body.clone());
        assert_eq!(told.refusal(), (413, "too_large".to_owned()));
        let told = told.json();
        assert_eq!(told["stored"], 2);
        assert_eq!(told["results"][1]["code"], "too_large");
        assert_eq!(told["results"][2]["offset"], 1);
    }
    http.post(&format!("{path}&seq=4"), "next").ok();
    assert_eq!(http.get("/v1/logs/a").payloads(), ["ok", "fine", "next"]);
    // Without a writer, all or nothing.
    let told = http.post_lines("/v1/logs/a", body);
    assert_eq!(told.refusal(), (413, "too_large".to_owned()));
    assert!(told.json()["message"].as_str().unwrap().starts_with("record 2: "));
    assert_eq!(http.get("/v1/logs/a").number("highwater-head"), 3);
}

#[test]
fn a_condition_holds_one_record_back() {
    let (_server, http) = dev();
    http.post("/v1/logs/a?if_head=0", "x").ok();
    let conflict = http.post("/v1/logs/a?if_head=0", "y");
    assert_eq!(conflict.refusal(), (412, "conflict".to_owned()));
    http.ask("POST", "/v1/logs/a", &[("highwater-if-head", "1")], Some(b"y")).ok();
    let two = ["a", "b"].map(str::to_owned);
    let refused = http.post_lines("/v1/logs/a?if_head=2", two);
    assert_eq!(refused.refusal(), (400, "bad_request".to_owned()));
    assert_eq!(http.get("/v1/logs/a").number("highwater-head"), 2);
}

#[test]
fn a_large_request_is_stored_whole_and_in_order() {
    let (_server, http) = dev();
    let texts: Vec<_> = (0..20_000).map(|at| format!("{at:0200}")).collect();
    let told = http.post_lines("/v1/logs/a", texts.clone()).ok().json();
    assert_eq!((&told["count"], &told["last"]), (&json!(20_000), &json!(19_999)));
    let got = http.get("/v1/logs/a").ok();
    assert_eq!(got.payloads(), texts, "streamed over many pages");
    assert_eq!(got.number("highwater-next"), 20_000);
    let mut from = 0;
    let mut pages = 0;
    while from < 20_000 {
        let page = http.get(&format!("/v1/logs/a?from={from}&max_bytes=65536&format=raw")).ok();
        let next = page.number("highwater-next");
        let lines = page.body.split(|byte| *byte == b'\n').count() as u64 - 1;
        assert_eq!(next - from, lines);
        assert!(page.body.len() <= 65_536 && next > from);
        (from, pages) = (next, pages + 1);
    }
    assert!(pages > 50, "{pages}");
    let part = http.get("/v1/logs/a?from=19990&limit=5").ok();
    assert_eq!(part.payloads(), texts[19_990..19_995]);
    assert_eq!(part.number("highwater-next"), 19_995);
}

#[test]
fn who_waits_at_the_head_is_woken() {
    let (server, http) = dev();
    http.post("/v1/logs/a", "old").ok();
    let waiting = server.http();
    let waits = std::thread::spawn(move || waiting.get("/v1/logs/a?from=end&wait=30000").ok());
    until("the request is under way", || {
        http.get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    http.post("/v1/logs/other", "not it").ok();
    http.post("/v1/logs/a", "new").ok();
    let got = waits.join().unwrap();
    assert_eq!(got.payloads(), ["new"]);
    assert_eq!((got.number("highwater-next"), got.number("highwater-head")), (2, 2));
    let began = Instant::now();
    let nothing = http.get("/v1/logs/a?from=2&wait=200").ok();
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(nothing.body.is_empty());
    assert_eq!(nothing.number("highwater-next"), 2);
    let at_once = http.get("/v1/logs/a?from=1&wait=30000").ok();
    assert_eq!(at_once.payloads(), ["new"]);
}

#[test]
fn a_read_can_wait_for_a_place() {
    let (_server, http) = dev();
    let place = http.post("/v1/logs/a", "x").ok().json()["place"].as_str().unwrap().to_owned();
    assert_eq!(http.get(&format!("/v1/logs/a?at={place}")).ok().payloads(), ["x"]);
    let batch: u64 = place.split('.').next().unwrap().parse().unwrap();
    let later = format!("/v1/logs/a?at={}.0&timeout=100", batch + 1_000);
    assert_eq!(http.get(&later).refusal(), (504, "timeout".to_owned()));
    let target = batch + 20;
    let soon = format!("/v1/logs/a?at={target}.0&timeout=20000");
    let waits = {
        let http = http.clone();
        std::thread::spawn(move || http.get(&soon).ok())
    };
    let mut posted = Vec::new();
    while !waits.is_finished() {
        let told = http.post("/v1/logs/a", "y").ok().json();
        let place = told["place"].as_str().unwrap().to_owned();
        posted.push((place, told["offset"].as_u64().unwrap()));
    }
    let head = waits.join().unwrap().number("highwater-head");
    let batch = |place: &str| place.split('.').next().unwrap().parse::<u64>().unwrap();
    let due: Vec<_> = posted.iter().filter(|(place, _)| batch(place) <= target).collect();
    assert!(!due.is_empty() && due.len() <= posted.len());
    assert!(due.iter().all(|(_, offset)| *offset < head), "all up to the place is there");
}

#[test]
fn logs_are_made_listed_trimmed_and_deleted() {
    let (_server, http) = dev();
    let made = http.post("/v1/logs/docs/1/ops?create", "").ok();
    assert_eq!((made.status, made.json()["created"].as_bool()), (201, Some(true)));
    assert_eq!(http.post("/v1/logs/docs/1/ops?create=true", "").ok().status, 200);
    for log in ["docs/2/ops", "docs/3/ops", "other"] {
        http.post(&format!("/v1/logs/{log}"), "12345").ok();
    }
    let list = http.get("/v1/logs?prefix=docs/&limit=2").ok().json();
    let names = |list: &serde_json::Value| -> Vec<String> {
        let logs = list["logs"].as_array().unwrap();
        logs.iter().map(|log| log["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&list), ["docs/1/ops", "docs/2/ops"]);
    assert_eq!((&list["logs"][1]["head"], &list["logs"][1]["bytes"]), (&json!(1), &json!(5)));
    let next = list["next"].as_str().unwrap();
    let rest = http.get(&format!("/v1/logs?prefix=docs/&limit=2&after={next}")).ok().json();
    assert_eq!((names(&rest), &rest["next"]), (vec!["docs/3/ops".to_owned()], &json!(null)));

    for text in ["b", "c", "d"] {
        http.post("/v1/logs/other", text).ok();
    }
    let trimmed = http.post("/v1/logs/other?trim=2", "").ok().json();
    assert_eq!((&trimmed["start"], &trimmed["trimmed"]), (&json!(2), &json!(true)));
    assert_eq!(http.post("/v1/logs/other?trim=1", "").ok().json()["trimmed"], false);
    let beyond = http.post("/v1/logs/other?trim=9", "");
    assert_eq!(beyond.refusal(), (400, "bad_offset".to_owned()));
    let head = http.ask("HEAD", "/v1/logs/other", &[], None).ok();
    assert_eq!((head.number("highwater-start"), head.number("highwater-head")), (2, 4));
    assert!(head.body.is_empty());

    let gone = http.get("/v1/logs/other?from=1");
    assert_eq!(gone.refusal(), (410, "bad_offset".to_owned()));
    let told = gone.json();
    assert_eq!((&told["gap"]["from"], &told["gap"]["to"]), (&json!(1), &json!(2)));
    assert_eq!((&told["start"], &told["gap"]["reason"]), (&json!(2), &json!("trimmed")));
    let skipped = http.get("/v1/logs/other?from=1&gap=skip").ok();
    assert_eq!(skipped.payloads(), ["c", "d"]);
    assert_eq!(skipped.headers["highwater-gap"], "1-2");
    assert_eq!(http.get("/v1/logs/other").ok().payloads(), ["c", "d"], "from its start");

    let id = head.number("highwater-log");
    assert_eq!(http.delete("/v1/logs/other").ok().json()["deleted"], true);
    assert_eq!(http.get("/v1/logs/other").refusal(), (404, "unknown_log".to_owned()));
    assert_eq!(http.delete("/v1/logs/other").refusal().0, 404);
    let again = http.post("/v1/logs/other", "new").ok().json();
    assert_eq!(again["offset"], 0);
    assert!(again["log"].as_u64().unwrap() > id, "another incarnation");
}

#[test]
fn what_is_deleted_while_it_is_waited_for_is_told() {
    let (_server, http) = dev();
    http.post("/v1/logs/a", "x").ok();
    let waits = {
        let http = http.clone();
        std::thread::spawn(move || http.get("/v1/logs/a?from=end&wait=20000"))
    };
    until("the request is under way", || {
        http.get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    http.delete("/v1/logs/a").ok();
    assert_eq!(waits.join().unwrap().refusal(), (404, "unknown_log".to_owned()));
}

#[test]
fn a_log_that_is_meant_by_its_id_is_that_one_or_none() {
    let server = Server::start(Options::dev().rule("s", "latest", ""));
    let http = server.http();
    let made = |name: &str| http.post(&format!("/v1/logs/{name}"), "x").ok().json()["log"].clone();
    let (first, other, state) = (made("a"), made("b"), made("s"));
    let ask = |method: &str, path: &str, log: &serde_json::Value| {
        let body = (method == "POST").then_some(&b"y"[..]);
        http.ask(method, path, &[("highwater-log", &log.to_string())], body)
    };
    ask("GET", "/v1/logs/a", &first).ok();
    ask("HEAD", "/v1/logs/a", &first).ok();
    ask("POST", "/v1/logs/a", &first).ok();
    http.post(&format!("/v1/logs/a?log={first}"), "z").ok();
    ask("GET", "/v1/snapshots/s", &state).ok();
    assert_eq!(http.get("/v1/logs/a").number("highwater-head"), 3);

    let epoch = (409, "epoch".to_owned());
    assert_eq!(ask("GET", "/v1/logs/a", &other).refusal(), epoch);
    assert_eq!(ask("POST", "/v1/logs/a", &other).refusal(), epoch, "another's id");
    assert_eq!(ask("POST", "/v1/logs/a", &json!(99)).refusal(), epoch, "an id never given");
    assert_eq!(ask("GET", "/v1/snapshots/s", &first).refusal(), epoch);
    for (method, log) in
        [("GET", &other), ("POST", &other), ("GET", &json!(99)), ("POST", &json!(99))]
    {
        let never = format!("log {log} is none that a ever led to");
        assert_eq!(ask(method, "/v1/logs/a", log).json()["message"], never, "{method}");
    }
    let nowhere = ask("GET", "/v1/logs/nothing", &other);
    assert_eq!(nowhere.refusal(), epoch);
    assert!(nowhere.text().contains("is none that nothing ever led to"), "{}", nowhere.text());
    assert_eq!(ask("GET", "/v1/logs/a", &json!("x")).refusal(), (400, "bad_offset".to_owned()));
    let waits = {
        let (http, log) = (http.clone(), first.to_string());
        let path = "/v1/logs/a?from=end&wait=30000";
        std::thread::spawn(move || http.ask("GET", path, &[("highwater-log", &log)], None))
    };
    until("it waits", || server.metric("http_requests_waiting") == 1);
    http.delete("/v1/logs/a").ok();
    assert_eq!(waits.join().unwrap().refusal(), epoch);
    assert_eq!(ask("GET", "/v1/logs/a", &first).refusal(), epoch, "there is none of that name");
    assert_eq!(http.get("/v1/logs/a").refusal(), (404, "unknown_log".to_owned()));
    made("a");
    for method in ["GET", "POST"] {
        assert_eq!(ask(method, "/v1/logs/a", &first).refusal(), epoch, "{method}");
    }
    assert_eq!(ask("HEAD", "/v1/logs/a", &first).status, 409);
    let gone = ask("GET", "/v1/logs/a", &first).json();
    assert_eq!(gone["message"], format!("log {first}, which a led to, was deleted"));
    assert_eq!(http.get("/v1/logs/a").ok().payloads(), ["x"], "nothing went into the new one");
    assert_eq!(http.get("/v1/logs/b").ok().payloads(), ["x"]);
}
