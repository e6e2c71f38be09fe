//! Revocations are the fold's: they are there after a restart, whatever the disk is like, and those
//! that an earlier version kept in a file are taken over, wherever that is interrupted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::{Client, Http, Options, Server, token};
use serde_json::{Value, json};

/// Writes the file of an earlier version beside the store.
fn leave_file(data: &Path, all: &Value) {
    std::fs::write(data.join("revocations.json"), all.to_string()).unwrap();
}

/// A server that has ended, and its data folder.
fn ended(options: Options) -> (Server, PathBuf) {
    let mut server = Server::start(options);
    assert!(server.terminate().success());
    let data = server.data();
    (server, data)
}

/// All that are in force, page by page.
fn listed(http: &Http) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("/v1/revocations{after}")).ok().json();
        all.extend(page["revocations"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("?after={next}"),
            None => return all,
        }
    }
}

#[test]
fn what_an_earlier_version_kept_is_taken_over_once() {
    let (mut server, data) = ended(Options::default());
    let ana = json!({ "whom": { "user": "ana" }, "before_ms": 9_007_199_254_740_991_u64 });
    let phone = json!({ "whom": { "token": "phone" }, "before_ms": 5 });
    leave_file(&data, &json!([ana, phone]));
    server.restart();
    assert_eq!(listed(&server.http()), [ana, phone.clone()]);
    assert!(!data.join("revocations.json").exists());
    assert!(data.join("revocations.json.taken").exists());
    let out = server.http_as(Some(token("ana", &[("**", "read")])));
    assert_eq!(out.get("/v1/logs").refusal(), (401, "revoked".to_owned()));
    server.http().delete("/v1/revocations?user=ana").ok();
    server.crash();
    assert_eq!(listed(&server.http()), [phone], "what was taken back stays so");
}

#[test]
fn a_start_that_is_interrupted_takes_over_again() {
    const MANY: usize = 3_000;
    let options = Options::dev();
    let (mut server, data) = ended(options.clone());
    let one = |n: usize| json!({ "whom": { "token": format!("{n:05}") }, "before_ms": n });
    let all: Vec<Value> = (0..MANY).map(one).collect();
    leave_file(&data, &json!(all));
    // Wherever it is by then.
    for after in (0..12).map(|step| Duration::from_millis(40 + 20 * step)) {
        Server::begin_and_kill(data.parent().unwrap(), &options, after);
        let [left, taken] =
            ["revocations.json", "revocations.json.taken"].map(|name| data.join(name).exists());
        assert!(left || taken, "the file is never gone");
    }
    server.restart();
    assert_eq!(listed(&server.http()), all);
    server.crash();
    assert_eq!(listed(&server.http()), all);
}

#[test]
fn a_file_that_is_damaged_is_no_empty_one() {
    let (mut server, data) = ended(Options::dev());
    for bad in [json!({}), json!([{ "whom": { "user": "" }, "before_ms": 1 }])] {
        leave_file(&data, &bad);
        let path = data.parent().unwrap();
        Server::begin_and_kill(path, &Options::dev(), Duration::from_secs(20));
        let log = server.log();
        assert!(log.contains("revocations.json"), "{log}");
        assert!(data.join("revocations.json").exists(), "it is left for people to look at");
        std::fs::remove_file(data.join("revocations.json")).unwrap();
    }
    server.restart();
}

#[test]
fn who_is_revoked_goes_also_when_the_disk_is_nearly_full() {
    let mut server = Server::start(Options::default());
    server.http().post("/v1/logs/a", "x").ok();
    server.kill9();
    server.restart_with(Options::default().limit("disk_reserve_bytes", 1 << 50));
    let root = server.http();
    crate::support::until("the disk is too full", || root.post("/v1/logs/a", "x").status == 507);
    let mut ana = Client::new("ana").join(&server);
    let told = root.post_json("/v1/revocations", &json!({ "user": "ana" })).ok();
    assert_eq!((told.status, told.json()["closed"].as_u64()), (201, Some(1)));
    assert_eq!(ana.until_closed(), 4077);
    let again = root.post_json("/v1/revocations", &json!({ "user": "ana", "before": 5 })).ok();
    assert_eq!((again.status, &again.json()["changed"]), (200, &json!(false)));
    server.crash();
    assert_eq!(listed(&server.http())[0]["whom"], json!({ "user": "ana" }));
    let files: Vec<_> = std::fs::read_dir(server.data()).unwrap().flatten().collect();
    let named = |name: &str| files.iter().any(|file| file.file_name().to_string_lossy() == name);
    assert!(!named("revocations.json"), "it needs no file");
}
