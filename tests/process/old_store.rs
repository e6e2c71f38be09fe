//! A store of an older format: whatever was told of it is told of it by today's server, and
//! whoever was in the middle of something goes on.
//!
//! The folders and what was told of them are in `tests/fixtures`, made by the programs of then. A
//! member that came to an answer since is left aside; one that is missing or differs is not.

use std::collections::BTreeMap;

use crate::support::fixture::{STORE_2, STORE_3, options};
use crate::support::{Answer, Client, Http, Server, token};
use highwater::client::Writer;
use highwater::wire::{
    ClientFrame, Cloning, Code, Id, Item, Met, Open, Outcome, Payload, PutSnapshot, Reason,
    ResetReason, Start,
};
use serde_json::{Value, json};

/// Everything that was told is still told.
fn same(at: &str, told: &Value, now: &Value) {
    match (told, now) {
        (Value::Object(told), Value::Object(_)) => {
            for (member, value) in told {
                let now = now.get(member).unwrap_or_else(|| panic!("{at}.{member} is gone"));
                same(&format!("{at}.{member}"), value, now);
            }
        }
        (Value::Array(told), Value::Array(now)) => {
            assert_eq!(told.len(), now.len(), "{at}: how many");
            for (number, (told, now)) in told.iter().zip(now).enumerate() {
                same(&format!("{at}[{number}]"), told, now);
            }
        }
        _ => assert_eq!(told, now, "{at}"),
    }
}

/// Canary: what is missing, more or other is found, what came since is not.
#[test]
fn differences_are_found() {
    let told = json!({ "head": 3, "records": [{ "payload": "a" }] });
    same("all", &told, &json!({ "head": 3, "pages": 1, "records": [{ "payload": "a", "x": 1 }] }));
    for other in [
        json!({ "records": [{ "payload": "a" }] }),
        json!({ "head": 4, "records": [{ "payload": "a" }] }),
        json!({ "head": 3, "records": [] }),
        json!({ "head": 3, "records": [{ "payload": "a" }, {}] }),
        json!({ "head": 3, "records": [{ "payload": null }] }),
    ] {
        let found = std::panic::catch_unwind(|| same("all", &told, &other));
        assert!(found.is_err(), "{other}");
    }
}

/// A list of what was told.
fn list<'a>(told: &'a Value, member: &str) -> &'a [Value] {
    let list = told[member].as_array().unwrap();
    assert!(!list.is_empty(), "{member}");
    list
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}"))
}

fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_else(|| panic!("no {member} in {value}"))
}

/// A connection by what it shows.
fn connection(told: &Value, which: &str) -> Id {
    text(&told["connections"], which).parse().unwrap()
}

/// All pages of a list.
fn pages(http: &Http, path: &str, member: &str) -> Value {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("{path}?limit=40{after}")).ok().json();
        all.extend(page[member].as_array().unwrap().iter().cloned());
        match &page["next"] {
            Value::Null => return Value::Array(all),
            Value::String(next) => after = format!("&after={next}"),
            next => after = format!("&after={next}"),
        }
    }
}

fn same_headers(at: &str, told: &Value, now: &Answer) {
    // The position is of the moment: each start begins an era.
    let lasting = told["headers"].as_object().unwrap().iter().filter(|told| told.0 != "position");
    for (name, value) in lasting {
        let now = now.headers.get(format!("highwater-{name}"));
        let now = now.unwrap_or_else(|| panic!("{at} without {name}")).to_str().unwrap();
        assert_eq!(value, now, "{at}: {name}");
    }
}

/// Compares all that HTTP tells.
fn compare(server: &Server, told: &Value) {
    let http = server.http();
    same("logs", &told["logs"], &pages(&http, "/v1/logs", "logs"));
    same("revocations", &told["revocations"], &pages(&http, "/v1/revocations", "revocations"));
    for log in list(told, "records") {
        let name = text(log, "name");
        let from = number_of(&log["headers"], "start");
        let now = http.get(&format!("/v1/logs/{name}?from={from}")).ok();
        same_headers(name, log, &now);
        same(name, &log["records"], &Value::Array(now.lines()));
    }
    let mut bases = 0;
    for log in list(told, "logs") {
        let name = text(log, "name");
        let now = http.get(&format!("/v1/snapshots/{name}"));
        let snapshot = list(told, "snapshots").iter().find(|one| one["name"] == log["name"]);
        let Some(snapshot) = snapshot else {
            assert_eq!(now.refusal(), (404, "not_found".to_owned()), "{name}");
            continue;
        };
        let now = now.ok();
        same_headers(name, snapshot, &now);
        same_snapshot(name, snapshot, &now);
        bases += 1;
    }
    assert_eq!(bases, list(told, "snapshots").len());
    let ids = pages(&http, "/v1/connections", "connections");
    assert_eq!(ids.as_array().unwrap().len(), list(told, "shown").len());
    for shown in list(told, "shown") {
        let id = text(shown, "id");
        let mut shown = shown.clone();
        if id == text(&told["connections"], "attached") {
            // It is detached as of now.
            shown.as_object_mut().unwrap().remove("since");
        }
        same(id, &shown, &server.shows(id.parse().unwrap()));
    }
    for gone in list(told, "deleted") {
        let read = http.get(&format!("/v1/logs/{}", text(gone, "name")));
        let now = read.headers.get("highwater-log").map(|id| id.to_str().unwrap().to_owned());
        assert_ne!(now, Some(number(gone, "log").to_string()), "{gone}");
    }
}

/// A number that a header told.
fn number_of(headers: &Value, name: &str) -> u64 {
    text(headers, name).parse().unwrap()
}

/// The state by key as lines, what a client made as bytes.
fn same_snapshot(name: &str, told: &Value, now: &Answer) {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text(told, "b64")).unwrap();
    if text(&told["headers"], "rule") == "latest" {
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines = lines.map(|line| serde_json::from_slice(line).unwrap()).collect();
        same(name, &Value::Array(lines), &Value::Array(now.lines()));
    } else {
        assert_eq!(bytes, now.body, "{name}");
    }
}

#[test]
fn what_was_told_of_an_old_store_is_told_of_it_now_and_after_crashes() {
    for fixture in [STORE_2, STORE_3] {
        let told = fixture.told();
        let mut server = fixture.start();
        compare(&server, &told);
        server.crash();
        compare(&server, &told);
        assert!(server.terminate().success());
        server.restart();
        compare(&server, &told);
    }
}

#[test]
fn a_log_made_now_gets_a_number_that_was_never_given() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let made = server.http().ask("POST", "/v1/logs/new?create", &[], None).ok().json();
    let ids = list(&told, "logs").iter().map(|log| number(log, "id"));
    let most = ids.chain(list(&told, "deleted").iter().map(|log| number(log, "log"))).max();
    assert!(number(&made, "log") > most.unwrap(), "{made}");
    // Nor does one that is made anew under the name of one that was deleted.
    let made = server.http().ask("POST", "/v1/logs/gone/1?create", &[], None).ok().json();
    assert!(number(&made, "log") > most.unwrap(), "{made}");
}

/// A client on a connection of then, that goes by what was committed.
fn back(told: &Value, which: &str, user: &str) -> Client {
    let mut client = Client::new(user);
    client.connection = connection(told, which);
    client.cloning = Cloning::None;
    client
}

/// Its subscriptions of then, by name; those of deleted logs left out.
fn subscriptions(told: &Value, id: Id) -> BTreeMap<String, (u64, u64)> {
    let shown = list(told, "shown").iter().find(|one| text(one, "id") == id.to_string()).unwrap();
    let of_logs = list(shown, "subscriptions").iter().filter(|sub| sub["deleted"] == false);
    let all = of_logs
        .map(|sub| (text(sub, "name").to_owned(), (number(sub, "cursor"), number(sub, "head"))));
    all.collect()
}

/// What a client was sent of a log is what HTTP told then, from an offset on.
fn same_records(told: &Value, client: &Client, name: &str, from: u64) {
    let log = list(told, "records").iter().find(|log| text(log, "name") == name).unwrap();
    let held = client.log(name);
    let sent = held.records.iter().map(|(offset, seen)| {
        let payload = seen.payload.as_ref().map_or(Value::Null, |bytes| payload(bytes));
        (*offset, seen.place.to_string(), json!(seen.key), payload)
    });
    let due = log["records"].as_array().unwrap().iter().filter(|one| number(one, "offset") >= from);
    let due = due.map(|one| {
        let place = text(one, "place").to_owned();
        (number(one, "offset"), place, one["key"].clone(), one["payload"].clone())
    });
    assert_eq!(sent.collect::<Vec<_>>(), due.collect::<Vec<_>>(), "{name}");
}

/// As HTTP tells a payload.
fn payload(bytes: &[u8]) -> Value {
    use base64::Engine as _;
    let coded = || base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    std::str::from_utf8(bytes).map_or_else(|_| json!({ "b64": coded() }), |text| json!(text))
}

#[test]
fn a_connection_with_many_subscriptions_goes_on_at_its_cursors() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let mut client = back(&told, "wide", "ana");
    let due = subscriptions(&told, client.connection);
    assert!(due.len() > 2 * 64, "{}", due.len());
    for name in due.keys() {
        client.want(name, Start::Committed, 0);
    }
    assert_eq!(client.connect(&server), Met::Resumed);
    for (name, (cursor, head)) in &due {
        client.reach(name, *head);
        assert!(client.log(name).resets.is_empty(), "{name}");
        assert!(client.log(name).gaps.is_empty(), "{name}");
        same_records(&told, &client, name, *cursor);
    }
    assert_eq!(client.logs().len(), due.len(), "deleted logs are not opened");
    // What it commits now is kept, the rest of its cursors beside it.
    client.ack();
    client.close();
    server.until_shows("its cursors", client.connection, |shown| {
        let subs = shown["subscriptions"].as_array().unwrap().iter();
        subs.filter(|sub| sub["deleted"] == false).all(|sub| sub["cursor"] == sub["head"])
    });
    assert_eq!(subscriptions_now(&server, &client).len(), due.len());
}

fn subscriptions_now(server: &Server, client: &Client) -> Vec<String> {
    let shown = server.shows(client.connection);
    let subs = shown["subscriptions"].as_array().unwrap().iter();
    subs.filter_map(|sub| sub["name"].as_str().map(str::to_owned)).collect()
}

#[test]
fn what_a_client_holds_of_old_logs_counts() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let mut client = Client::new("dan");
    let log = |name: &str| {
        let log = list(&told, "logs").iter().find(|log| text(log, "name") == name).unwrap();
        number(log, "id")
    };
    let anew = list(&told, "deleted").iter().find(|gone| text(gone, "name") == "again").unwrap();
    let have = |log, next| Some(highwater::wire::Cursor { log, next });
    let open = |name: &str, have| {
        let (name, start) = (name.to_owned(), Start::State);
        ClientFrame::Subscribe(highwater::wire::Subscribe {
            request: 7,
            open: vec![Open { name, have, start, priority: 0 }],
            bases: vec![],
        })
    };
    client.connect(&server);
    client.send(&open("trimmed", have(log("trimmed"), 120)));
    client.send(&open("again", have(number(anew, "log"), 20)));
    client.reach("trimmed", 200);
    client.reach("again", 1);
    let gap = &client.log("trimmed").gaps[0];
    assert_eq!((gap.from, gap.to), (120, 150));
    same_records(&told, &client, "trimmed", 150);
    assert_eq!(client.log("again").resets, [ResetReason::OtherLog]);
    assert_eq!(client.log("again").texts(), ["made anew"]);
}

#[test]
fn bases_that_were_not_confirmed_come_again() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let mut client = back(&told, "unconfirmed", "cy");
    for name in subscriptions(&told, client.connection).keys() {
        client.want(name, Start::Committed, 0);
    }
    assert_eq!(client.connect(&server), Met::Resumed);
    client.reach("state/colours", 19);
    client.reach("docs/1/ops", 31);
    client.reach("many/005", 73);
    assert_eq!(client.log("state/colours").resets.len(), 1);
    let keys: Vec<_> = client.log("state/colours").keys.keys().map(String::as_str).collect();
    assert_eq!(keys, ["blue", "brown", "white"]);
    let (offset, bytes) = client.log("docs/1/ops").base.clone().unwrap();
    assert_eq!((offset, client.log("docs/1/ops").resets.len()), (20, 1));
    assert_eq!(bytes, server.http().get("/v1/snapshots/docs/1/ops").ok().body);
    assert!(client.log("many/005").resets.is_empty());
    same_records(&told, &client, "many/005", 2);
}

#[test]
fn connections_that_were_inactive_are_restored_or_cloned() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let mut asked = back(&told, "asked", "ben");
    let due = subscriptions(&told, asked.connection);
    assert!(due.len() > 64, "{}", due.len());
    assert_eq!(asked.connect(&server), Met::Restored);
    for (name, (_, head)) in &due {
        asked.reach(name, *head);
    }
    let mut passed = back(&told, "passed", "dan");
    assert_eq!(server.shows(passed.connection)["reason"], json!(Reason::Retention));
    assert_eq!(passed.connect(&server), Met::Restored);
    passed.reach("trimmed", 200);
    same_records(&told, &passed, "trimmed", 150);
    let mut left = back(&told, "left", "cy");
    left.cloning = Cloning::All;
    assert_eq!(left.connect(&server), Met::Cloned);
    let source = left.welcome.as_ref().unwrap().source;
    assert_eq!(source, Some(connection(&told, "unconfirmed")));
    left.reach("many/005", 73);
}

/// Those subscribed to a log of then: how many are active, how many inactive.
fn subscribers(told: &Value, log: &str) -> (usize, usize) {
    let subscribed = |shown: &&Value| {
        shown["subscriptions"].as_array().unwrap().iter().any(|sub| sub["name"] == log)
    };
    let all: Vec<_> = list(told, "shown").iter().filter(subscribed).collect();
    let active = all.iter().filter(|shown| shown["active"] == true).count();
    (active, all.len() - active)
}

#[test]
fn subscribers_of_then_are_found_by_their_logs() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let active = list(&told, "shown").iter().filter(|shown| shown["active"] == true).count();
    assert_eq!(server.metric("connections_active"), active as u64);
    let notify = json!({ "logs": ["words"], "record": { "payload": "to all" } });
    let answer = server.http().post_json("/v1/notify", &notify).ok().json();
    let (detached, inactive) = subscribers(&told, "words");
    assert!(detached > 2 && inactive > 0);
    let due = json!({ "attached": 0, "detached": detached, "inactive": inactive, "more": false });
    assert_eq!(answer["results"][0]["reached"], due);
    // A trim downgrades those that still need what goes, and nobody else.
    let wide = connection(&told, "wide");
    let (cursor, _) = subscriptions(&told, wide)["many/001"];
    let trim = |to| {
        let path = format!("/v1/logs/many/001?trim={to}");
        server.http().ask("POST", &path, &[], None).ok();
        server.shows(wide)["reason"].clone()
    };
    assert_eq!(trim(cursor), Value::Null);
    assert_eq!(trim(cursor + 1), json!(Reason::Retention));
}

/// A client that speaks for a writer of then, to which nothing was ever answered.
fn speaks_for(server: &Server, writer: &Value) -> (Client, Vec<Item>) {
    let mut client = Client::new(text(writer, "user"));
    client.cloning = Cloning::None;
    let id = text(writer, "writer").parse().unwrap();
    let items: Vec<Item> = serde_json::from_value(writer["items"].clone()).unwrap();
    client.go_on_as(Writer::kept(id, number(writer, "mark"), items.iter().cloned()));
    client.connect(server);
    (client, items)
}

/// The next append of a writer: its mark was kept if it is stored.
fn goes_on(client: &mut Client, mark: u64) {
    assert_eq!(client.append("notes/a", "goes on"), mark + 1);
    client.settled();
    assert!(client.offset(mark + 1).is_some(), "{:?}", client.outcomes());
}

#[test]
fn writers_get_the_answers_that_were_kept_and_go_on_from_their_marks() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let (mut stored, mut refused) = (0, 0);
    for writer in list(&told, "writers") {
        let (mut client, items) = speaks_for(&server, writer);
        let mark = client.welcome.as_ref().unwrap().writers[0].mark;
        assert_eq!(mark, number(writer, "mark"), "{writer}");
        // All of them are told with `hello`, and again where they are asked for again.
        client.settled();
        if !items.is_empty() {
            client.send_items(items[0].seq, items.clone());
            client.wait("the same answers", |client| client.repeated >= items.len());
        }
        let outcomes = writer["outcomes"].as_array().unwrap();
        assert_eq!(client.outcomes().len(), outcomes.len());
        for told in outcomes {
            let now = &client.outcomes()[&number(told, "seq")];
            assert_eq!(serde_json::to_value(now).unwrap(), told["outcome"]);
            let kept = matches!(now, Outcome::Stored { .. });
            (stored, refused) = (stored + usize::from(kept), refused + usize::from(!kept));
        }
        goes_on(&mut client, mark);
    }
    assert!(stored > 100 && refused >= 5, "{stored} stored, {refused} refused");
}

#[test]
fn another_user_gets_nothing_of_an_old_connection_or_writer() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let mut client = back(&told, "wide", "ben");
    client.say_hello(&server);
    client.until_closed();
    assert_eq!(client.bye.map(|bye| bye.code), Some(Code::UnknownConnection));
    let mut client = Client::new("ben");
    let writer = list(&told, "writers").iter().find(|writer| writer["user"] == "ana").unwrap();
    client.go_on_as(Writer::new(text(writer, "writer").parse().unwrap()));
    client.say_hello(&server);
    client.until_closed();
    assert_eq!(client.bye.map(|bye| bye.code), Some(Code::UnknownWriter));
}

#[test]
fn requests_of_old_http_writers_are_answered_alike_and_go_on() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let root = &[("**", "read append snapshot signal admin")];
    for asked in list(&told, "httpWriters") {
        let http = server.http_as(Some(token(text(asked, "user"), root)));
        let again = http.post_json(text(asked, "path"), &asked["body"]);
        assert_eq!(u64::from(again.status), number(asked, "status"), "{}", again.text());
        same("answer", &asked["answer"], &again.json());
        let next = text(asked, "path").split('&').next().unwrap().to_owned() + "&seq=6&oldest=1";
        if asked == list(&told, "httpWriters").last().unwrap() {
            assert_eq!(
                http.post_json(&next, &json!({ "payload": "goes on" })).ok().json()["offset"],
                4
            );
        }
    }
}

#[test]
fn an_upload_that_was_on_its_way_ends_or_begins_anew() {
    let told = STORE_2.told();
    let server = STORE_2.start();
    let upload = list(&told, "uploads").iter().find(|upload| upload["parts"].is_array()).unwrap();
    let mut client = back(&told, "unconfirmed", "cy");
    client.want("docs/1/ops", Start::End, 0);
    client.connect(&server);
    client.wait("its log", |client| client.find("docs/1/ops").is_some());
    let log = client.log("docs/1/ops").log;
    let (offset, version) = (number(upload, "offset"), number(upload, "version") as u32);
    let put = |request, part, last, data: &str| {
        let data = Payload::text(data.to_owned());
        ClientFrame::PutSnapshot(PutSnapshot { request, log, offset, version, part, last, data })
    };
    let parts: Vec<&str> =
        list(upload, "parts").iter().map(|part| part.as_str().unwrap()).collect();
    client.send(&put(1, parts.len() as u32, true, "the end"));
    client.wait("an answer", |client| !client.done.is_empty() || !client.refused.is_empty());
    if client.done.is_empty() {
        assert_eq!(client.refusal(1).code, Code::SnapshotParts);
        for (number, part) in parts.iter().enumerate() {
            client.send(&put(2, number as u32, false, part));
        }
        client.send(&put(2, parts.len() as u32, true, "the end"));
        client.wait("a snapshot", |client| client.done.contains(&2));
    }
    let now = server.http().get("/v1/snapshots/docs/1/ops").ok();
    assert_eq!(now.text(), parts.concat() + "the end");
    assert_eq!((now.number("highwater-offset"), now.number("highwater-version")), (25, 3));
    // One over HTTP begins anew with its request.
    let path = "/v1/snapshots/docs/1/ops?offset=28&version=4";
    let http = server.http_as(Some(token("dan", &[("**", "read snapshot")])));
    assert_eq!(http.ask("PUT", path, &[], Some(b"whole")).status, 201);
    assert_eq!(server.http().get("/v1/snapshots/docs/1/ops").ok().text(), "whole");
}

#[test]
fn keys_go_on_where_they_were() {
    let server = STORE_2.start();
    let mut client = Client::new("ana").wanting("state/colours").join(&server);
    client.put("state/colours", "red", Some("back"));
    client.put("state/colours", "blue", None);
    client.settled();
    client.reach("state/colours", 21);
    let keys: Vec<_> = client.log("state/colours").keys.keys().cloned().collect();
    assert_eq!(keys, ["brown", "red", "white"]);
    let state = server.http().get("/v1/snapshots/state/colours").ok().lines();
    let keys: Vec<_> = state.iter().map(|line| text(line, "key")).collect();
    assert_eq!(keys, ["brown", "red", "white"]);
}

#[test]
fn a_revoked_user_stays_out_and_development_knows_its_tokens() {
    let told = STORE_2.told();
    let mut server = STORE_2.start();
    let eve = server.http_as(Some(token("eve", &[("**", "read")])));
    assert_eq!(eve.get("/v1/logs").refusal(), (401, "revoked".to_owned()));
    let dora = text(&told, "devToken").to_owned();
    assert_eq!(server.http_as(Some(dora.clone())).get("/v1/logs").status, 401);
    assert!(server.terminate().success());
    let mut dev = options();
    dev.args.push("--dev".to_owned());
    server.restart_with(dev);
    assert_eq!(server.http_as(Some(dora)).get("/v1/logs").status, 200);
}

/// What a start refuses is left for the program that made it.
#[test]
fn an_old_folder_that_is_refused_stays_one() {
    let folder = STORE_2.unpack();
    let data = folder.path().join("data");
    let version = || std::fs::read_to_string(data.join("VERSION")).unwrap();
    let before = version();
    let dir = data.to_str().unwrap();
    let log = data.join("store/4.jnl");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let refused = Server::command(&["serve", "--dev", "--listen", "127.0.0.1:0", "--data", dir]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("is damaged"), "{said}");
    assert_eq!(version(), before);
}
