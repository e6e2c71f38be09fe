//! A clone costs what is looked at: what a client has not opened is held, told and not delivered.

use crate::support::token;
use highwater::wire::{
    Ack, Cursor, Open, Outcome, Payload, Record, Refresh, Seek, Target, Unsubscribe,
};

use super::*;

/// One that opens nothing but what it names.
fn looking_at(user: &str, names: &[&str]) -> Client {
    let mut client = Client::new(user);
    client.opens_held = false;
    for name in names {
        client.want(name, Start::State, 0);
    }
    client
}

/// Waits until a log is announced as held, at a cursor.
fn holds(client: &mut Client, name: &str, cursor: u64) {
    let told = |client: &Client| client.find(name).is_some_and(|log| log.open && log.held);
    client.wait(&format!("{name} to be held"), told);
    assert_eq!(client.log(name).cursor, cursor, "{name}");
    let log = client.log(name).log;
    assert!(!client.deliveries.contains(&log), "nothing of {name} is sent");
}

/// A tab with a big log and a small one, both read and acknowledged to their ends.
fn a_tab_with_two(server: &Server) -> Client {
    let mut first = Client::new("ann").wanting("big").wanting("small").join(server);
    for _ in 0..4 {
        first.append_all("big", (0..16).map(|_| "x".repeat(16 << 10)));
        first.settled();
    }
    first.store("small", "s");
    first.reach("big", 64);
    first.reach("small", 1);
    committed(&mut first, server, &[64, 1]);
    first
}

/// Waits until its cursors are committed, by log id.
fn committed(client: &mut Client, server: &Server, cursors: &[u64]) {
    client.drain();
    client.ack();
    server.until_shows("committed", client.connection, |shown| {
        let subs = shown["subscriptions"].as_array().unwrap();
        subs.iter().map(|sub| sub["cursor"].as_u64().unwrap()).eq(cursors.iter().copied())
    });
}

/// The finding: a second tab that opens one small log was sent 1,046,760 bytes of a sibling's big
/// one, and dropped them.
#[test]
fn a_second_tab_is_sent_what_it_looks_at() {
    let server = Server::start(quick());
    let mut first = a_tab_with_two(&server);
    assert!(first.received > 1 << 20, "{}", first.received);
    let mut second = looking_at("ann", &["small"]).join(&server);
    assert_eq!(second.met(), Met::Cloned);
    second.reach("small", 1);
    holds(&mut second, "big", 64);
    let big = second.log("big").log;
    assert_eq!((second.log("big").start, second.log("big").head), (0, 64));
    // Nor does what comes live.
    first.store("big", "more");
    first.store("small", "more");
    second.reach("small", 2);
    second.sync();
    assert!(second.received < 1_000, "{} bytes", second.received);
    assert!(!second.deliveries.contains(&big));
    // What is appended to it by its id is stored: it was announced.
    let record = Record { payload: Some(Payload::text("mine")), ..Record::default() };
    let seq = second.append_to(Target::Log(big), None, record);
    second.settled();
    assert!(matches!(second.outcomes()[&seq], Outcome::Stored { offset: 65, .. }));
    // One that does not know of it is served as before.
    let mut third = looking_at("ann", &["small"]);
    third.capabilities.clear();
    let mut third = third.join(&server);
    third.reach("big", 66);
    assert!(third.received > 1 << 20);
}

/// Promise 14 counts from opening: everything is there, once, and goes on live.
#[test]
fn promise_14_a_held_log_is_delivered_once_it_is_opened() {
    let server = Server::start(quick());
    let mut first = a_tab_with_two(&server);
    let mut tabs: Vec<Client> = (0..3).map(|_| looking_at("ann", &["small"])).collect();
    for tab in &mut tabs {
        tab.connect(&server);
        holds(tab, "big", 64);
    }
    let starts = [(Start::State, 0), (Start::Committed, 64), (Start::End, 65)];
    first.store("big", "after the clones");
    for (tab, (start, cursor)) in tabs.iter_mut().zip(starts) {
        tab.subscribe("big", start, 0);
        tab.reach("big", 65);
        let log = tab.log("big");
        assert_eq!(
            log.records.keys().copied().collect::<Vec<_>>(),
            (cursor..65).collect::<Vec<_>>()
        );
        assert_eq!(log.resets.len(), usize::from(cursor == 0));
        // Another time it is told where it stands, and nothing is sent again.
        let told = tab.order.iter().filter(|kind| **kind == "subscribed").count();
        tab.subscribe("big", Start::Earliest, 3);
        tab.wait("told again", |tab| {
            tab.order.iter().filter(|kind| **kind == "subscribed").count() > told
        });
        assert_eq!(tab.log("big").priority, 3);
    }
    first.store("big", "to all");
    for tab in &mut tabs {
        tab.reach("big", 66);
        committed(tab, &server, &[66, 1]);
    }
}

#[test]
fn a_held_log_ends_as_any_does() {
    let server = Server::start(quick());
    let mut first = Client::new("ann").join(&server);
    let names = ["asked", "back", "gone", "kept", "secret"];
    for name in names {
        first.store(name, "x");
        first.subscribe(name, Start::State, 0);
        first.reach(name, 1);
    }
    let mut second = looking_at("ann", &[]).join(&server);
    for name in names {
        let told = |second: &Client| second.find(name).is_some_and(|log| log.held);
        second.wait(name, told);
    }
    let ids = names.map(|name| second.log(name).log);
    let ended = |second: &mut Client, log: u64, reason: Ended| {
        second.wait("its end", |second| second.ended.iter().any(|end| end.log == log));
        let end = second.ended.iter().find(|end| end.log == log).unwrap();
        assert_eq!(end.reason, reason);
    };
    second.send(&ClientFrame::Unsubscribe(Unsubscribe { request: 5, logs: vec![ids[0]] }));
    ended(&mut second, ids[0], Ended::Asked);
    let http = server.http();
    let path = format!("/v1/connections/{}/unsubscribe", second.connection);
    assert_eq!(http.post_json(&path, &serde_json::json!({ "logs": ["back"] })).status, 200);
    ended(&mut second, ids[1], Ended::BackEnd);
    assert_eq!(http.delete("/v1/logs/gone").status, 200);
    ended(&mut second, ids[2], Ended::Deleted);
    let token = token("ann", &[("kept", "read")]);
    second.send(&ClientFrame::Refresh(Refresh { token, request: 0 }));
    ended(&mut second, ids[4], Ended::Denied);
    // A clone at activation overwrites what is held, too.
    let keeps = Unsubscribe { request: 6, logs: vec![ids[3]] };
    first.send(&ClientFrame::Unsubscribe(keeps));
    first.wait("unsubscribed", |first| first.ended.iter().any(|end| end.log == ids[3]));
    assert_eq!(
        http.post(&format!("/v1/connections/{}/downgrade", second.connection), "").status,
        200
    );
    inactive(&mut second, Reason::Asked);
    activated(&mut second, Met::Cloned);
    ended(&mut second, ids[3], Ended::Overwritten);
    assert!(second.logs().is_empty() && second.deliveries.is_empty());
}

/// No word of the client counts for a log that it has not opened.
#[test]
fn a_held_log_is_neither_sought_nor_acknowledged() {
    let server = Server::start(quick());
    let _first = a_tab_with_two(&server);
    let mut second = looking_at("ann", &["small"]).join(&server);
    second.reach("small", 1);
    holds(&mut second, "big", 64);
    let log = second.log("big").log;
    second.send(&ClientFrame::Seek(Seek { request: 5, log, to: Start::Earliest }));
    assert_eq!(second.refusal(5).code, Code::BadRequest);
    second.drain();
    let received = second.received;
    for next in [10, 64, 900] {
        let cursors = vec![Cursor { log, next }];
        second.send(&ClientFrame::Ack(Ack { received, cursors }));
    }
    second.sync();
    assert!(second.refused.is_empty(), "{:?}", second.refused);
    // The back end moves it, and that delivers nothing.
    let path = format!("/v1/connections/{}/seek", second.connection);
    let to = serde_json::json!({ "log": "big", "to": { "offset": 30 } });
    let moved = server.http().post_json(&path, &to);
    assert_eq!(moved.status, 200, "{moved:?}");
    second.wait("it is told", |second| second.log("big").cursor == 30);
    holds(&mut second, "big", 30);
    server.until_shows("held", second.connection, |shown| {
        let subs = shown["subscriptions"].as_array().unwrap();
        subs.iter().any(|sub| sub["held"] == true && sub["cursor"] == 30)
    });
}

/// What the client does not name is held on every way back: by delta, restored, and after the node
/// was killed.
#[test]
fn what_was_held_is_held_after_a_crash() {
    let mut server = Server::start(quick());
    let mut first = a_tab_with_two(&server);
    let mut second = looking_at("ann", &["small"]).join(&server);
    holds(&mut second, "big", 64);
    second.cut();
    first.cut();
    server.kill9();
    server.restart();
    assert_eq!(second.connect(&server), Met::Resumed);
    second.reach("small", 1);
    holds(&mut second, "big", 64);
    // It opens it: so it is named from now on, and comes by delta.
    second.subscribe("big", Start::Committed, 0);
    second.reach("big", 64);
    assert_eq!(second.connect(&server), Met::Resumed);
    second.reach("big", 64);
    second.leave(false);
    first.connect(&server);
    first.leave(true);
    // It looks at nothing any more.
    second.unwant(&["big", "small"]);
    second.forget();
    assert_eq!(second.connect(&server), Met::Restored);
    holds(&mut second, "big", 64);
    holds(&mut second, "small", 1);
}

/// A log that nobody has open costs its appends no frame, whoever holds it.
#[test]
fn promise_10_a_log_that_is_only_held_is_not_encoded() {
    let server = Server::start(quick());
    let mut first = Client::new("ann").wanting("big").join(&server);
    first.store("big", "x");
    first.reach("big", 1);
    committed(&mut first, &server, &[1]);
    let mut second = looking_at("ann", &[]).join(&server);
    holds(&mut second, "big", 1);
    first.leave(true);
    let frames = server.metric("frames_total");
    let mut writer = Client::new("wim").join(&server);
    for n in 0..20 {
        writer.store("big", &n.to_string());
    }
    second.sync();
    assert_eq!(server.metric("frames_total"), frames);
    second.want("big", Start::State, 0);
    let open: Vec<Open> = second.hello().open;
    assert_eq!(open[0].have, None, "it holds nothing of it");
    second.send(&ClientFrame::Subscribe(Subscribe { request: 4, open, bases: vec![] }));
    second.reach("big", 21);
}
