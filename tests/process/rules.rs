//! Rules of snapshots that change for logs that exist, with the real server: it derives what it
//! needs, readers go on, and newcomers are met by the new rule.

use crate::support::{Client, Options, Server, until};
use highwater::wire::{Cloning, ResetReason, SnapshotRule};
use serde_json::Value;

/// What the server lists of a log.
fn listed(server: &Server, log: &str) -> Value {
    server.http().get(&format!("/v1/logs?prefix={log}&limit=1")).ok().json()["logs"][0].clone()
}

/// Waits until a log has come under a rule, and nothing of the way there is left.
fn until_ruled(server: &Server, log: &str, rule: &str) {
    until(&format!("{log} is under {rule}"), || {
        let told = listed(server, log);
        told["rule"] == rule && told["deriving"].is_null()
    });
}

/// The state as the server keeps it: key, offset, payload.
fn snapshot(server: &Server, log: &str) -> Vec<(String, u64, String)> {
    let lines = server.http().get(&format!("/v1/snapshots/{log}")).ok().lines();
    let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
    let line =
        |line: &Value| (text(line, "key"), line["offset"].as_u64().unwrap(), text(line, "payload"));
    lines.iter().map(line).collect()
}

/// The state as a client holds it.
fn held(client: &Client, log: &str) -> Vec<(String, u64, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let keys = client.log(log).keys.iter();
    keys.map(|(key, (offset, payload))| (key.clone(), *offset, text(payload))).collect()
}

/// Keyed records, the last of them a tombstone.
fn fill(server: &Server, log: &str, records: u64, keys: u64) {
    for first in (0..records).step_by(10_000) {
        let line = |at: u64| format!("{{\"key\":\"k{}\",\"payload\":\"{at}\"}}\n", at % keys);
        let body: String = (first..records.min(first + 10_000)).map(line).collect();
        let form = [("content-type", "application/x-ndjson")];
        server.http().ask("POST", &format!("/v1/logs/{log}"), &form, Some(body.as_bytes())).ok();
    }
    server.http().post_json(&format!("/v1/logs/{log}"), &serde_json::json!({ "key": "k0" })).ok();
}

#[test]
fn a_log_comes_under_latest_in_steps_and_out_of_it() {
    let mut server = Server::start(Options::default());
    // More than the steps of one look, over more keys than one step can take away.
    fill(&server, "a", 12_000, 3_000);
    fill(&server, "b", 10, 3);
    let mut reader = Client::new("rea").wanting("a").join(&server);
    reader.reach("a", 12_001);
    reader.ack();
    assert_eq!(reader.log("a").rule, SnapshotRule::None);
    reader.cut();
    assert!(server.terminate().success());

    server.restart_with(Options::default().rule("a", "latest", ""));
    until_ruled(&server, "a", "latest");
    let state = snapshot(&server, "a");
    assert_eq!(state.len(), 2_999);
    assert!(state.iter().all(|(key, offset, payload)| {
        *key == format!("k{}", offset % 3_000) && *payload == offset.to_string() && *offset >= 9_000
    }));
    assert_eq!(listed(&server, "b")["rule"], "none");
    // The reader goes on by records, and is told the rule; a newcomer gets the state.
    reader.connect(&server);
    reader.append_all("a", ["x".to_owned()]);
    reader.reach("a", 12_002);
    let log = reader.log("a");
    assert_eq!((log.rule, log.resets), (SnapshotRule::Latest, &[ResetReason::New][..]));
    let newcomer = |server: &Server| {
        let mut client = Client::new("new").wanting("a");
        client.cloning = Cloning::None;
        client.join(server)
    };
    let mut new = newcomer(&server);
    new.reach("a", 12_002);
    assert_eq!((new.log("a").records.len(), held(&new, "a")), (0, state.clone()));
    new.leave(true);
    reader.put("a", "k0", Some("again"));
    reader.settled();
    assert_eq!(snapshot(&server, "a").len(), 3_000);
    reader.cut();

    // Killed on the way out and on the way in again, it goes on.
    for rule in ["none", "latest"] {
        assert!(server.terminate().success());
        server.restart_with(Options::default().rule("a", rule, ""));
        server.kill9();
        server.restart();
        until_ruled(&server, "a", rule);
    }
    let mut again = snapshot(&server, "a");
    assert_eq!(again.remove(0), ("k0".to_owned(), 12_002, "again".to_owned()));
    assert_eq!(again, state);

    assert!(server.terminate().success());
    server.restart_with(Options::default());
    until_ruled(&server, "a", "none");
    assert_eq!(server.http().get("/v1/snapshots/a").status, 404);
    let mut new = newcomer(&server);
    new.reach("a", 12_003);
    assert_eq!(new.log("a").records.len(), 12_003, "it replays");
}

/// Appends go on while a log is brought under another rule.
#[test]
fn what_is_appended_meanwhile_is_in_the_state() {
    let mut server = Server::start(Options::default());
    fill(&server, "a", 30_000, 10_000);
    assert!(server.terminate().success());
    server.restart_with(Options::default().rule("a", "latest", ""));
    let mut writer = Client::new("wri").join(&server);
    let mut at = 0;
    while listed(&server, "a")["rule"] != "latest" || at < 10 {
        let tombstone = at % 2 == 1;
        writer.put("a", &format!("k{at}"), (!tombstone).then_some("new"));
        writer.settled();
        at += 1;
        assert!(at < 10_000, "it never comes to an end");
    }
    let state = snapshot(&server, "a");
    for key in 0..at {
        let name = format!("k{key}");
        let found = state.iter().find(|(known, ..)| *known == name);
        let payload = found.map(|(_, _, payload)| payload.as_str());
        assert_eq!(payload, (key % 2 == 0).then_some("new"), "{name}");
    }
    let untouched = (at..10_000).filter(|key| *key > 0).count();
    assert_eq!(state.len(), untouched + (0..at).filter(|key| key % 2 == 0).count());
}

/// Promise 14 where keys end by age: a reader that held the state all along, one that comes by its
/// records and the server end with the same keys.
#[test]
fn promise_14_keys_that_are_too_old_end_alike_everywhere() {
    let options = Options::default().rule("a", "latest", "retain_seconds = 2");
    let options = options.rule("kept", "latest", "");
    let server = Server::start(options.limit("detached_limit_seconds", 1));
    fill(&server, "a", 3_000, 2_000);
    fill(&server, "kept", 3, 3);
    let mut reader = Client::new("rea").wanting("a").join(&server);
    reader.reach("a", 3_001);
    assert_eq!(held(&reader, "a").len(), 1_999);
    let mut writer = Client::new("wri").join(&server);
    // One key is written again and again: it lives on. All others end.
    let mut at = 0;
    reader.wait("all others have ended", |reader| {
        if at % 5 == 0 {
            writer.put("a", "k7", Some(&at.to_string()));
            writer.settled();
        }
        at += 1;
        held(reader, "a").len() == 1
    });
    let state = snapshot(&server, "a");
    assert!(state.iter().all(|(key, ..)| key == "k7"), "{state:?}");
    // It ends too, once nobody writes it.
    reader.wait("the last has ended", |reader| held(reader, "a").is_empty());
    assert_eq!(snapshot(&server, "a"), []);
    let mut new = Client::new("new").wanting("a").join(&server);
    new.wait("the log", |client| client.find("a").is_some_and(|held| held.shown()));
    assert!(held(&new, "a").is_empty());
    // What ended a key says so, and of what; it ages and is trimmed like any record.
    let records = reader.log("a").records.values();
    let own = records.filter(|record| record.writer == highwater::wire::Id::NONE);
    let own = own.inspect(|record| assert_eq!(record.payload, None)).count();
    // On a busy machine the one may have ended, and lived again, in between.
    assert!(own >= 1_999, "{own}");
    let head = reader.log("a").cursor;
    until("everything is trimmed", || {
        let told = listed(&server, "a");
        assert_eq!(told["head"], head, "nothing is said twice");
        told["start"] == head
    });
    assert_eq!(snapshot(&server, "kept").len(), 2);
}

/// After a restart, and with their records trimmed by count, keys end all the same.
#[test]
fn keys_whose_records_are_gone_end_by_age_after_a_restart() {
    let rule = |more: &str| Options::default().rule("a", "latest", more);
    let mut server = Server::start(rule("retain_records = 8").limit("detached_limit_seconds", 1));
    fill(&server, "a", 100, 50);
    until("it is trimmed", || listed(&server, "a")["start"].as_u64() > Some(90));
    assert_eq!(snapshot(&server, "a").len(), 49);
    assert!(server.terminate().success());
    server.restart_with(rule("retain_seconds = 1").limit("detached_limit_seconds", 1));
    until("all have ended", || snapshot(&server, "a").is_empty());
    assert_eq!(listed(&server, "a")["head"], 101 + 49);
    let lines = server.http().get("/v1/logs/a?gap=skip").ok().lines();
    let own = lines.iter().filter(|line| line["origin"]["user"] == "");
    assert!(own.clone().all(|line| line["seq"] == 0 && line["derived"].is_string()));
}
