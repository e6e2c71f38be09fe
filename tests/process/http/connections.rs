//! Connections, notify and revocations: the back end beside sockets.

use highwater::wire::Code;
use serde_json::json;

use crate::support::{Client, Options, Server, id, token, until};

#[test]
fn connections_are_listed_and_shown_with_their_lag() {
    let server = Server::start(Options::default().limit("commit_interval_ms", 50));
    let root = server.http();
    let mut ana = Client::new("ana").wanting("a").join(&server);
    let ben = Client::new("ben").join(&server);
    for text in ["x", "y"] {
        ana.store("a", text);
    }
    ana.reach("a", 2);
    let path = format!("/v1/connections/{}", ana.connection);
    until("the cursor is committed", || {
        ana.drain();
        root.get(&path).ok().json()["subscriptions"][0]["cursor"] == 2
    });
    let shown = root.get(&path).ok().json();
    assert_eq!((&shown["user"], &shown["active"]), (&json!("ana"), &json!(true)));
    assert_eq!((&shown["attached"], &shown["visible"]), (&json!(true), &json!(true)));
    assert_eq!(shown["lag"], 0);
    assert_eq!(shown["subscriptions"][0]["name"], "a");
    assert!(shown["socket"]["sent"].as_u64().unwrap() > 0);

    let all = root.get("/v1/connections").ok().json();
    assert_eq!(all["connections"].as_array().unwrap().len(), 2);
    let first = root.get("/v1/connections?limit=1").ok().json();
    let after = first["next"].as_str().unwrap();
    let second = root.get(&format!("/v1/connections?limit=1&after={after}")).ok().json();
    assert_ne!(first["connections"][0]["id"], second["connections"][0]["id"]);
    assert_eq!(second["next"], json!(null));
    let of_ben = root.get("/v1/connections?user=ben").ok().json();
    assert_eq!(of_ben["connections"][0]["id"], ben.connection.to_string());

    let own = server.http_as(Some(token("ana", &[("a", "read")])));
    let listed = own.get("/v1/connections").ok().json();
    assert_eq!(listed["connections"].as_array().unwrap().len(), 1);
    own.get(&path).ok();
    let foreign = own.get(&format!("/v1/connections/{}", ben.connection));
    assert_eq!(foreign.refusal(), (404, "unknown_connection".to_owned()));
    let unknown = own.get(&format!("/v1/connections/{}", id()));
    assert_eq!(unknown.refusal(), (404, "unknown_connection".to_owned()));

    ana.cut();
    root.post("/v1/logs/a", "z").ok();
    until("it is detached", || root.get(&path).ok().json()["attached"] == false);
    let shown = root.get(&path).ok().json();
    assert_eq!((&shown["lag"], &shown["active"]), (&json!(1), &json!(true)));
    assert_eq!(shown["socket"], json!(null));
}

#[test]
fn a_connection_is_downgraded_and_forgotten_by_an_operator() {
    let server = Server::start(Options::default());
    let root = server.http();
    let mut ana = Client::new("ana").wanting("a").join(&server);
    let path = format!("/v1/connections/{}", ana.connection);
    root.post(&format!("{path}/downgrade"), "").ok();
    ana.wait("it is told", |client| !client.active);
    let again = root.post(&format!("{path}/downgrade"), "");
    assert_eq!(again.refusal(), (409, "inactive".to_owned()));
    let stale = root.post(&format!("{path}/downgrade?generation=1"), "");
    assert_eq!(stale.refusal(), (409, "stale".to_owned()));
    assert_eq!(root.get(&path).ok().json()["reason"], "asked");
    let attached = root.delete(&path);
    assert_eq!(attached.refusal(), (409, "stale".to_owned()));
    ana.close();
    until("it is forgotten", || root.delete(&path).status == 200);
    assert_eq!(root.get(&path).refusal(), (404, "unknown_connection".to_owned()));
    let other = server.http_as(Some(token("ben", &[("**", "read")])));
    let refused = other.post(&format!("{path}/downgrade"), "");
    assert_eq!(refused.refusal(), (404, "unknown_connection".to_owned()));
}

#[test]
fn the_back_end_subscribes_seeks_and_unsubscribes() {
    let server = Server::start(Options::default());
    let root = server.http();
    root.post_lines("/v1/logs/a", (0..5).map(|at| at.to_string())).ok();
    let mut ana = Client::new("ana").join(&server);
    let path = format!("/v1/connections/{}", ana.connection);
    let body = json!({ "logs": [{ "name": "a", "start": { "offset": 3 } }, { "name": "b" }] });
    let told = root.post_json(&format!("{path}/subscribe"), &body).ok().json();
    assert_eq!(told["subscribed"].as_array().unwrap().len(), 2);
    ana.reach("a", 5);
    assert_eq!(ana.log("a").texts(), ["3", "4"]);
    let sought = root.post_json(&format!("{path}/seek"), &json!({ "log": "a", "to": "earliest" }));
    assert_eq!(sought.ok().json()["cursor"], 0);
    ana.wait("it is sent all", |client| client.log("a").texts().len() == 5);
    let past = json!({ "log": "a", "to": { "offset": 6 } });
    let past = root.post_json(&format!("{path}/seek"), &past);
    assert_eq!(past.refusal(), (400, "bad_offset".to_owned()));
    let none = root.post_json(&format!("{path}/seek"), &json!({ "log": "zz", "to": "end" }));
    assert_eq!(none.refusal(), (404, "unknown_log".to_owned()));
    let body = json!({ "logs": ["a", "never"] });
    let told = root.post_json(&format!("{path}/unsubscribe"), &body).ok().json();
    assert_eq!((&told["unsubscribed"], &told["unknown"]), (&json!(["a"]), &json!(["never"])));
    ana.wait("it is told", |client| !client.ended.is_empty());

    let mut second = Client::new("ana").join(&server);
    let body = json!({ "logs": [{ "name": "c" }] });
    let told = root.post_json("/v1/users/ana/subscribe", &body).ok().json();
    assert_eq!(told["reached"].as_array().unwrap().len(), 2);
    root.post("/v1/logs/c", "x").ok();
    for client in [&mut ana, &mut second] {
        client
            .wait("both get it", |client| client.find("c").is_some_and(|log| log.texts() == ["x"]));
    }
    let body = json!({ "logs": ["c"] });
    let told = root.post_json("/v1/users/ana/unsubscribe", &body).ok().json();
    assert_eq!(told["reached"].as_array().unwrap().len(), 2);
    for bad in ["%00", &"x".repeat(129)] {
        let answer = root.post_json(&format!("/v1/users/{bad}/subscribe"), &body);
        assert_eq!(answer.status, 400, "{bad}");
    }
}

/// Who comes later, was inactive, or comes after a restart has it too, each within its own grants.
#[test]
fn a_user_that_is_subscribed_stays_so_for_connections_to_come() {
    let mut server = Server::start(Options::default().limit("activate_after_ms", 100));
    let root = server.http();
    let mut asleep = Client::new("ana").join(&server);
    root.post(&format!("/v1/connections/{}/downgrade", asleep.connection), "").ok();
    asleep.wait("to be inactive", |client| !client.active);
    let body = json!({ "logs": [{ "name": "news" }, { "name": "secret" }] });
    let told = root.post_json("/v1/users/ana/subscribe", &body).ok().json();
    assert_eq!(told["reached"], json!([]), "nobody is active");
    root.post("/v1/logs/news", "x").ok();
    let mut later = Client::with(Some(token("ana", &[("news", "read")]))).join(&server);
    later.reach("news", 1);
    until("it is active again", || {
        asleep.activate();
        asleep.sync();
        asleep.active
    });
    asleep.reach("news", 1);
    asleep.reach("secret", 0);
    for client in [&mut asleep, &mut later] {
        client.cut();
    }
    server.crash();
    let root = server.http();
    let mut third = Client::new("ana");
    third.cloning = highwater::wire::Cloning::None;
    let mut third = third.join(&server);
    third.reach("news", 1);
    let named = json!({ "logs": ["news", "secret", "none"] });
    let told = root.post_json("/v1/users/ana/unsubscribe", &named).ok().json();
    assert!(
        told["reached"].as_array().unwrap().contains(&json!(third.connection.to_string())),
        "{told}"
    );
    assert_eq!(told["unknown"], json!(["none"]));
    // One that states what it holds asks for it itself; one that comes with nothing has nothing.
    let mut fourth = Client::new("ana").join(&server);
    fourth.sync();
    assert_eq!(fourth.logs().len(), 0, "it is undone for all");
    // Whoever may not operate all is told nothing of others.
    let few = server.http_as(Some(token("app", &[("news", "read append admin")])));
    for path in ["/v1/users/ana/subscribe", "/v1/users/ana/unsubscribe"] {
        assert_eq!(few.post_json(path, &body).refusal(), (403, "denied".to_owned()));
    }
}

#[test]
fn notify_tells_where_it_went_and_who_was_reached() {
    let server = Server::start(Options::default());
    let root = server.http();
    let mut ana = Client::new("ana").wanting("users/ana/inbox").wanting("news").join(&server);
    ana.wait("it is subscribed", |client| client.logs().len() == 2);
    let record = json!({ "payload": "hello" });
    let body = json!({ "user": "ana", "record": record });
    let told = root.post_json("/v1/notify", &body).ok().json();
    assert_eq!(told["results"][0]["name"], "users/ana/inbox");
    let reached = json!({ "attached": 1, "detached": 0, "inactive": 0, "more": false });
    assert_eq!(told["results"][0]["reached"], reached);
    ana.reach("users/ana/inbox", 1);
    root.post_json("/v1/users/ana/notify", &json!({ "record": record })).ok();
    ana.reach("users/ana/inbox", 2);

    let body = json!({ "logs": ["news", "quiet"], "record": record });
    let path = format!("/v1/notify?writer={}&seq=1", id());
    let told = root.post_json(&path, &body).ok().json();
    assert_eq!(told["results"][1]["reached"]["attached"], 0);
    assert_eq!(told["place"], told["results"][1]["place"]);
    assert_eq!(root.post_json(&path, &body).ok().json()["place"], told["place"], "once");
    ana.reach("news", 1);
    assert_eq!(root.get("/v1/logs/quiet").ok().payloads(), ["hello"]);

    ana.cut();
    let inbox = || root.post_json("/v1/users/ana/notify", &json!({ "record": record })).ok().json();
    until("it counts as detached", || inbox()["results"][0]["reached"]["detached"] == 1);
    root.post(&format!("/v1/connections/{}/downgrade", ana.connection), "").ok();
    assert_eq!(inbox()["results"][0]["reached"]["inactive"], 1);

    for (body, code) in [
        (json!({ "record": record }), "bad_request"),
        (json!({ "logs": [], "record": record }), "bad_request"),
        (json!({ "user": "a/b", "record": record }), "bad_name"),
        (json!({ "user": "ana@example.com", "record": record }), "bad_name"),
        (json!({ "logs": ["a//b"], "record": record }), "bad_name"),
        (json!({ "logs": ["a"], "record": {} }), "bad_record"),
        (json!({ "logs": ["a"] }), "bad_request"),
    ] {
        assert_eq!(root.post_json("/v1/notify", &body).refusal().1, code, "{body}");
    }
    let few = server.http_as(Some(token("app", &[("news", "append")])));
    let body = json!({ "logs": ["news", "quiet"], "record": record });
    assert_eq!(few.post_json("/v1/notify", &body).refusal(), (403, "denied".to_owned()));
    assert_eq!(root.get("/v1/logs/news").ok().number("highwater-head"), 1, "all or nothing");
}

#[test]
fn who_is_revoked_is_out_at_once_and_stays_out() {
    let mut server = Server::start(Options::default());
    let root = server.http();
    let mut ana = Client::new("ana").join(&server);
    let mut ben = Client::new("ben").join(&server);
    let http = server.http_as(ana.token.clone());
    http.get("/v1/logs").ok();
    let told = root.post_json("/v1/revocations", &json!({ "user": "ana" })).ok();
    assert_eq!((told.status, told.json()["closed"].as_u64()), (201, Some(1)));
    assert_eq!(ana.until_closed(), 4077);
    assert_eq!(http.get("/v1/logs").refusal(), (401, "revoked".to_owned()));
    ben.sync();
    server.crash();
    let http = server.http_as(ana.token.clone());
    assert_eq!(http.get("/v1/logs").refusal(), (401, "revoked".to_owned()), "after a crash");
    let root = server.http();
    let listed = root.get("/v1/revocations").ok().json();
    assert_eq!(listed["revocations"][0]["whom"], json!({ "user": "ana" }));
    root.delete("/v1/revocations?user=ana").ok();
    http.get("/v1/logs").ok();
    assert_eq!(root.delete("/v1/revocations?user=ana").refusal().0, 404);
    for body in [json!({}), json!({ "user": "a", "token": "b" }), json!({ "users": "a" })] {
        assert_eq!(root.post_json("/v1/revocations", &body).refusal().1, "bad_request", "{body}");
    }
}

/// A token is named by its jti, or by the id that `highwater token check` prints; the user's other
/// tokens stay good, and so do their sockets.
#[test]
fn a_revoked_token_is_out_and_the_users_others_stay() {
    let server = Server::start(Options::default());
    let root = server.http();
    let config = server.data().parent().unwrap().join("highwater.toml");
    let command = |words: &[&str]| {
        let from = ["--config", config.to_str().unwrap()];
        let output = Server::command(&[words, &from].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let make = |more: &[&str]| {
        let words = ["token", "make", "--user", "ana", "--grant", "**=read,append"];
        command(&[&words, more].concat()).trim().to_owned()
    };
    // Lives of their own, so that no two are the same token.
    let named = make(&["--id", "phone-1", "--expires-in", "2h"]);
    let (unnamed, other) = (make(&["--expires-in", "3h"]), make(&["--expires-in", "4h"]));
    let id_of = |token: &str| {
        let told = command(&["token", "check", token]);
        let line = told.lines().find_map(|line| line.strip_prefix("id:"));
        line.unwrap_or_else(|| panic!("no id: {told}")).trim().to_owned()
    };
    assert_eq!(id_of(&named), "phone-1");
    assert_ne!(id_of(&unnamed), id_of(&other));
    let join = |token: &str| Client::with(Some(token.to_owned())).wanting("a").join(&server);
    let mut stays = join(&other);
    stays.reach("a", 0);
    for (token, id) in [(&named, "phone-1".to_owned()), (&unnamed, id_of(&unnamed))] {
        let mut goes = join(token);
        goes.reach("a", 0);
        let told = root.post_json("/v1/revocations", &json!({ "token": id })).ok();
        assert_eq!((told.status, told.json()["closed"].as_u64()), (201, Some(1)));
        assert_eq!(goes.until_closed(), 4077);
        assert_eq!(goes.bye.as_ref().unwrap().code, Code::Revoked);
        let http = server.http_as(Some(token.clone()));
        assert_eq!(http.get("/v1/logs").refusal(), (401, "revoked".to_owned()));
        goes.say_hello(&server);
        assert_eq!(goes.until_closed(), 4077, "and it does not come in again");
        let before = stays.log("a").cursor;
        stays.store("a", "still here");
        stays.reach("a", before + 1);
    }
    assert!(stays.active && stays.closed.is_none());
    server.http_as(Some(other)).get("/v1/logs").ok();
}

#[test]
fn a_long_wait_ends_when_its_token_is_revoked() {
    let server = Server::start(Options::default());
    let root = server.http();
    root.post("/v1/logs/a", "x").ok();
    let reader = server.http_as(Some(token("ana", &[("a", "read")])));
    let waits = std::thread::spawn(move || reader.get("/v1/logs/a?from=end&wait=30000"));
    until("the request is under way", || {
        root.get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    root.post_json("/v1/revocations", &json!({ "user": "ana" })).ok();
    assert_eq!(waits.join().unwrap().refusal(), (401, "revoked".to_owned()));
}

/// What a token does not let its user read it does not tell either, whatever the user's other
/// clients may.
#[test]
fn a_narrow_token_learns_nothing_of_what_a_wide_one_reads() {
    let server = Server::start(Options::default());
    let mut wide = Client::new("ana").wanting("open/a").wanting("secret/b").join(&server);
    wide.store("open/a", "1");
    wide.store("secret/b", "1");
    wide.reach("secret/b", 1);
    let narrow = server.http_as(Some(token("ana", &[("open/**", "read")])));
    let shown = narrow.get(&format!("/v1/connections/{}", wide.connection)).ok();
    let subscriptions = shown.json()["subscriptions"].clone();
    let of = |name: &str| {
        let id = wide.log(name).log;
        let all = subscriptions.as_array().unwrap();
        all.iter().find(|one| one["log"] == id).unwrap().clone()
    };
    assert_eq!(of("open/a")["name"], "open/a");
    assert_eq!(of("secret/b"), json!({ "log": wide.log("secret/b").log, "denied": true }));
    assert!(!shown.text().contains("secret/b"));
    // It can end nothing there, nor find out what is there.
    let path = format!("/v1/connections/{}/unsubscribe", wide.connection);
    let names = json!({ "logs": ["secret/b", "secret/none"] });
    let told = narrow.post_json(&path, &names).ok().json();
    assert_eq!((&told["unsubscribed"], &told["unknown"]), (&json!([]), &names["logs"]));
    let path = format!("/v1/connections/{}/seek", wide.connection);
    for log in ["secret/b", "secret/none"] {
        let told = narrow.post_json(&path, &json!({ "log": log, "to": "earliest" }));
        assert_eq!(told.refusal(), (403, "denied".to_owned()), "{log}");
    }
    // An operator sees all.
    let shown = server.http().get(&format!("/v1/connections/{}", wide.connection)).ok().text();
    assert!(shown.contains("secret/b"));
}
