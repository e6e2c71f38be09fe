//! The life of a connection: each row of the table of states, each way into and out of it, against
//! the running server.

mod early;
mod held;
mod slots;
mod stop;
mod unused;

use std::time::{Duration, Instant};

use crate::support::{Client, Held, Link, Options, SOON, Server, until};
use highwater::wire::{
    ClientFrame, Cloning, Code, Encoding, Ended, Met, Reason, Refusal, ResetReason, Start,
    Subscribe, Visible,
};

/// A server whose waits are short enough for tests.
fn quick() -> Options {
    Options::default()
        .limit("activate_after_ms", 100)
        .limit("commit_interval_ms", 50)
        .rule("state/**", "latest", "")
}

/// Waits until a client without a socket has been made inactive, then connects it.
fn back_inactive(client: &mut Client, server: &Server) -> Met {
    server.until_shows("it is downgraded", client.connection, |shown| shown["active"] == false);
    client.connect(server)
}

fn inactive(client: &mut Client, reason: Reason) {
    client.wait(&format!("{reason:?}"), |client| !client.active && client.reason == Some(reason));
}

/// Waits as long as it was told to, then asks to be activated: the refusal.
fn refused_in_time(client: &mut Client) -> Refusal {
    let wait = client.states.last().expect("it was told when to ask").activate_after;
    std::thread::sleep(Duration::from_millis(u64::from(wait)));
    let asked = client.activate();
    client.refusal(asked)
}

#[test]
fn active_detached_and_back_by_delta() {
    let server = Server::start(quick());
    let mut writer = Client::new("wim").join(&server);
    for n in 0..20 {
        writer.store("docs/a", &n.to_string());
    }
    let mut client = Client::new("ann").wanting("docs/a").wanting("docs/b").join(&server);
    assert_eq!(client.met(), Met::Fresh);
    client.reach("docs/a", 20);
    let first = client.welcome.clone().unwrap().generation;
    for round in 0..3 {
        if round == 0 {
            client.cut()
        } else {
            client.close()
        }
        writer.store("docs/a", "while it was away");
        assert_eq!(client.connect(&server), Met::Resumed);
        client.reach("docs/a", 21 + round);
    }
    assert!(client.welcome.clone().unwrap().generation >= first + 3);
    assert_eq!(client.log("docs/a").resets, [ResetReason::New], "by delta, nothing is dropped");
    assert_eq!(client.seen.len(), 23);
}

#[test]
fn a_detached_one_is_downgraded_after_its_time_and_comes_back_as_a_clone() {
    let server = Server::start(quick().limit("detached_limit_seconds", 1));
    let mut source = Client::new("ann").wanting("docs/a").wanting("state/a").join(&server);
    let mut sleeper = Client::new("ann").wanting("docs/a").wanting("docs/own").join(&server);
    assert_eq!(sleeper.met(), Met::Cloned);
    source.put("state/a", "k", Some("1"));
    source.store("docs/a", "0");
    sleeper.reach("docs/a", 1);
    sleeper.reach("state/a", 1);
    sleeper.close();
    source.store("docs/a", "1");
    source.put("state/a", "k", Some("2"));
    source.settled();
    source.reach("docs/a", 2);
    source.reach("state/a", 2);
    assert_eq!(back_inactive(&mut sleeper, &server), Met::Cloned);
    assert_eq!(sleeper.welcome.as_ref().unwrap().source, Some(source.connection));
    sleeper.reach("docs/a", 2);
    sleeper.reach("state/a", 2);
    same(&source, &sleeper, &["docs/a", "state/a"]);
    // What it has open and the source has not comes as for a newcomer.
    sleeper.reach("docs/own", 0);
    // With nobody to clone it is restored, from its own row.
    source.leave(true);
    sleeper.close();
    assert_eq!(back_inactive(&mut sleeper, &server), Met::Restored);
    sleeper.reach("docs/a", 2);
}

/// Both hold the same, whichever way they came to it.
fn same(one: &Client, other: &Client, names: &[&str]) {
    let state = |held: Held<'_>| (held.log, held.cursor, held.keys.clone(), held.texts());
    for name in names {
        let (one, other) = (one.log(name), other.log(name));
        assert_eq!((one.log, one.cursor), (other.log, other.cursor), "{name}");
        if name.starts_with("state/") {
            assert_eq!(one.keys, other.keys, "{name}");
        } else {
            assert_eq!(state(one), state(other), "{name}");
        }
    }
}

#[test]
fn a_second_tab_is_a_clone() {
    let server = Server::start(quick());
    let mut first = Client::new("ann").wanting("docs/a").wanting("state/a").join(&server);
    for n in 0..30 {
        first.append("docs/a", &n.to_string());
        first.put("state/a", &format!("k{}", n % 4), Some(&n.to_string()));
    }
    first.settled();
    first.reach("docs/a", 30);
    first.reach("state/a", 30);
    // It names one of the two, and opens the other when it is told of it.
    let mut second = Client::new("ann").wanting("docs/a").join(&server);
    assert_eq!(second.met(), Met::Cloned);
    assert_eq!(second.welcome.as_ref().unwrap().source, Some(first.connection));
    second.reach("docs/a", 30);
    second.reach("state/a", 30);
    same(&first, &second, &["docs/a", "state/a"]);
    assert_eq!(second.log("docs/a").resets, [ResetReason::Cloned]);
    assert_eq!(second.log("state/a").resets, [ResetReason::New]);
    // Its own logs only; and none at all.
    let mut own = Client::new("ann").wanting("state/a");
    own.cloning = Cloning::Own;
    let mut own = own.join(&server);
    assert_eq!(own.met(), Met::Cloned);
    own.reach("state/a", 30);
    own.sync();
    assert!(own.find("docs/a").is_none());
    let mut service = Client::new("ann");
    service.cloning = Cloning::None;
    let mut service = service.join(&server);
    assert_eq!(service.met(), Met::Fresh);
    service.sync();
    assert!(service.logs().is_empty());
}

/// A delta where it is cheaper, a full overwrite else: the end state is the same.
#[test]
fn a_clone_by_delta_equals_a_full_overwrite() {
    let server = Server::start(quick());
    let mut source = Client::new("ann").wanting("docs/a").wanting("state/a").join(&server);
    let write = |source: &mut Client, from: u64, to: u64| {
        for n in from..to {
            source.append("docs/a", &n.to_string());
            let text = n.to_string();
            source.put("state/a", &format!("k{}", n % 9), (n % 4 > 0).then_some(text.as_str()));
        }
        source.settled();
        source.reach("docs/a", to);
        source.reach("state/a", to);
    };
    write(&mut source, 0, 50);
    let mut near = Client::new("ann").wanting("docs/a").join(&server);
    near.reach("docs/a", 50);
    near.reach("state/a", 50);
    near.leave(false);
    write(&mut source, 50, 100);
    let mut empty = Client::new("ann");
    for clone in [&mut near, &mut empty] {
        assert_eq!(clone.connect(&server), Met::Cloned);
        clone.reach("docs/a", 100);
        clone.reach("state/a", 100);
    }
    assert_eq!(near.log("docs/a").resets, [ResetReason::Cloned], "from its first visit");
    same(&source, &near, &["docs/a", "state/a"]);
    same(&source, &empty, &["docs/a", "state/a"]);
    // Far behind, a base is cheaper; it comes to the same.
    near.leave(false);
    for from in (100..1_600).step_by(100) {
        write(&mut source, from, from + 100);
    }
    assert_eq!(near.connect(&server), Met::Cloned);
    near.reach("state/a", 1_600);
    near.reach("docs/a", 1_600);
    same(&source, &near, &["docs/a", "state/a"]);
}

/// Asks until it is activated; each refusal names a time, and nothing changes.
fn activated(client: &mut Client, met: Met) {
    let generation = client.states.last().map_or(0, |state| state.generation);
    until("to be activated", || {
        let states = client.states.len();
        let asked = client.activate();
        client.wait("state or a refusal", |client| {
            client.states.len() > states || client.refused.iter().any(|one| one.request == asked)
        });
        client.active
    });
    let state = client.states.last().unwrap();
    assert_eq!(state.met, Some(met));
    assert!(state.generation > generation);
}

/// A connection whose client holds nothing any more gets what its row had open.
#[test]
fn a_row_restores_what_was_open() {
    let mut server = Server::start(quick());
    let mut client = Client::new("ann").wanting("docs/a").wanting("docs/b").join(&server);
    client.store("docs/a", "0");
    client.reach("docs/a", 1);
    client.reach("docs/b", 0);
    for met in [Met::Resumed, Met::Restored] {
        if met == Met::Restored {
            client.leave(false)
        } else {
            client.close()
        }
        server.crash();
        client.forget();
        // Of what it names it gets the state at once; the other it opens when it is told of it.
        client.unwant(&["docs/b"]);
        assert_eq!(client.connect(&server), met);
        client.reach("docs/a", 1);
        client.reach("docs/b", 0);
        let reset = if met == Met::Restored { ResetReason::Restored } else { ResetReason::New };
        assert_eq!(client.log("docs/a").resets, [reset]);
    }
}

#[test]
fn reason_lag() {
    let server = Server::start(quick().limit("lag_limit_records", 1_000));
    let mut writer = Client::new("wim").join(&server);
    let mut lazy = Client::new("ann").wanting("docs/a");
    lazy.ack_after = None;
    let mut lazy = lazy.join(&server);
    lazy.reach("docs/a", 0);
    for _ in 0..3 {
        writer.append_all("docs/a", (0..500).map(|n| n.to_string()));
    }
    writer.settled();
    inactive(&mut lazy, Reason::Lag);
    // It comes back by itself, and has everything.
    lazy.ack_after = SOON;
    activated(&mut lazy, Met::Restored);
    lazy.reach("docs/a", 1_500);
    assert_eq!(lazy.seen.len(), 1_500);
}

#[test]
fn reason_retained_bytes() {
    let server = Server::start(quick().limit("retained_bytes_limit", 1 << 20));
    let mut writer = Client::new("wim").join(&server);
    let mut lazy = Client::new("ann").wanting("docs/a");
    lazy.ack_after = None;
    let mut lazy = lazy.join(&server);
    lazy.reach("docs/a", 0);
    for _ in 0..20 {
        writer.append("docs/a", &"x".repeat(100_000));
    }
    writer.settled();
    inactive(&mut lazy, Reason::RetainedBytes);
}

#[test]
fn reason_retention() {
    let server = Server::start(quick().rule("short/**", "none", "retain_records = 10"));
    let mut writer = Client::new("wim").join(&server);
    let mut lazy = Client::new("ann").wanting("short/a");
    lazy.ack_after = None;
    let mut lazy = lazy.join(&server);
    lazy.reach("short/a", 0);
    writer.append_all("short/a", (0..100).map(|n| n.to_string()));
    writer.settled();
    inactive(&mut lazy, Reason::Retention);
    lazy.ack_after = SOON;
    activated(&mut lazy, Met::Restored);
    lazy.reach("short/a", 100);
}

/// One that keeps up stays active however short the retention is.
#[test]
fn who_keeps_up_is_not_downgraded_by_retention() {
    // A bound of a second has logs looked at four times in one.
    let options = quick().limit("detached_limit_seconds", 1);
    let server = Server::start(options.rule("short/**", "none", "retain_records = 40"));
    let mut writer = Client::new("wim").join(&server);
    let mut reader = Client::new("ann").wanting("short/a").join(&server);
    let http = server.http();
    let start = || http.ask("HEAD", "/v1/logs/short/a", &[], None).number("highwater-start");
    let mut starts = Vec::new();
    let (mut n, end) = (0, Instant::now() + crate::support::WAIT);
    // Trimmed twice, and of more than is kept: however much or little one trim takes.
    while starts.len() < 3 || starts.last() <= Some(&40) {
        assert!(Instant::now() < end, "the log is not trimmed: {starts:?}");
        for _ in 0..10 {
            writer.store("short/a", &n.to_string());
            n += 1;
            reader.reach("short/a", n);
            reader.ack();
        }
        // What it has told is heard: it is never further behind than what retention leaves.
        reader.sync();
        starts.push(start());
        starts.dedup();
    }
    assert!(reader.active && reader.states.is_empty(), "{:?}", reader.states);
    assert!(reader.log("short/a").gaps.is_empty());
    assert_eq!(reader.seen.len() as u64, n);
}

#[test]
fn reason_node_slots() {
    let server = Server::start(quick().limit("active_total", 10));
    let mut tabs: Vec<Client> = (0..10)
        .map(|n| {
            let mut client = Client::new(&format!("user-{n}"));
            client.visible = n > 0;
            client.join(&server)
        })
        .collect();
    assert!(tabs.iter().all(|tab| tab.active));
    // The one that is hidden is missed least; a reserve is kept free for newcomers.
    inactive(&mut tabs[0], Reason::NodeSlots);
    let newcomer = Client::new("newcomer").join(&server);
    assert_eq!(newcomer.met(), Met::Fresh);
    for tab in &mut tabs[1..] {
        tab.sync();
        assert!(tab.active, "attached and visible ones stay");
    }
}

#[test]
fn reason_asked() {
    let server = Server::start(quick());
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    client.store("docs/a", "0");
    server.http().post(&format!("/v1/connections/{}/downgrade", client.connection), "").ok();
    inactive(&mut client, Reason::Asked);
    activated(&mut client, Met::Restored);
    client.reach("docs/a", 1);
}

/// What it was told of before is ended for an inactive one, too; of what it was not, it hears
/// nothing.
#[test]
fn an_inactive_one_is_told_what_the_back_end_ends() {
    let server = Server::start(quick());
    let mut client = Client::new("ann").wanting("docs/a").wanting("docs/b").join(&server);
    client.reach("docs/a", 0);
    client.reach("docs/b", 0);
    let (a, b) = (client.log("docs/a").log, client.log("docs/b").log);
    let http = server.http();
    http.post(&format!("/v1/connections/{}/downgrade", client.connection), "").ok();
    inactive(&mut client, Reason::Asked);
    let user = "/v1/users/ann/subscribe";
    http.post_json(user, &serde_json::json!({ "logs": [{ "name": "docs/c" }] })).ok();
    let path = format!("/v1/connections/{}/unsubscribe", client.connection);
    http.post_json(&path, &serde_json::json!({ "logs": ["docs/a"] })).ok();
    client.wait("its end", |client| !client.ended.is_empty());
    let names = serde_json::json!({ "logs": ["docs/b", "docs/c"] });
    http.post_json("/v1/users/ann/unsubscribe", &names).ok();
    client.wait("its end", |client| client.ended.len() > 1);
    client.sync();
    let ended: Vec<_> = client.ended.iter().map(|end| (end.log, end.reason)).collect();
    assert_eq!(ended, [(a, Ended::BackEnd), (b, Ended::BackEnd)]);
}

#[test]
fn killed_in_the_middle_of_a_clone() {
    let mut server = Server::start(quick());
    let mut source = Client::new("ann").wanting("docs/a").wanting("state/a").join(&server);
    for n in 0..60 {
        source.append_all("docs/a", (0..20).map(|m| format!("{n}.{m}.{}", "x".repeat(500))));
        source.put("state/a", &format!("key-{n}"), Some(&"y".repeat(8_000)));
    }
    source.settled();
    source.reach("docs/a", 1_200);
    source.reach("state/a", 60);
    let mut clone = Client::new("ann");
    clone.window = 64 << 10;
    for round in 0..3 {
        clone.say_hello(&server);
        // Each time a little further, then the server dies.
        for _ in 0..4 + 4 * round {
            clone.step(Instant::now() + Duration::from_millis(200));
        }
        server.kill9();
        clone.cut();
        source.cut();
        server.restart();
        assert_eq!(source.connect(&server), Met::Resumed);
    }
    let met = clone.connect(&server);
    assert!([Met::Cloned, Met::Resumed].contains(&met), "{met:?}");
    clone.reach("docs/a", 1_200);
    clone.reach("state/a", 60);
    same(&source, &clone, &["state/a"]);
    assert_eq!(clone.log("docs/a").texts(), source.log("docs/a").texts());
}

/// A service keeps its own position over anything.
#[test]
fn a_service_goes_on_from_what_it_committed() {
    let mut server = Server::start(quick());
    let mut writer = Client::new("wim").join(&server);
    writer.append_all("jobs/a", (0..10).map(|n| n.to_string()));
    writer.settled();
    let mut service = Client::new("svc");
    service.cloning = Cloning::None;
    service.want("jobs/a", Start::Committed, 0);
    let mut service = service.join(&server);
    service.reach("jobs/a", 10);
    service.ack();
    service.close();
    // Its last word counts once it is durable.
    server.until_shows("its cursor is committed", service.connection, |shown| {
        shown["attached"] == false && shown["subscriptions"][0]["cursor"] == 10
    });
    writer.append_all("jobs/a", (10..15).map(|n| n.to_string()));
    writer.settled();
    server.crash();
    // It holds nothing: where it is, is on the server.
    service.forget();
    assert_eq!(service.connect(&server), Met::Resumed);
    service
        .wait("the rest", |service| service.find("jobs/a").is_some_and(|held| held.cursor == 15));
    let offsets: Vec<u64> = service.log("jobs/a").records.keys().copied().collect();
    assert_eq!(offsets, (10..15).collect::<Vec<_>>());
}

/// A network that ends, a tab that is closed: nobody was refused anything.
#[test]
fn who_goes_without_a_word_counts_as_no_refusal() {
    let server = Server::start(quick());
    let gone = || until("it to be gone", || server.metric("sockets") == 0);
    let silent = Link::try_open(server.address, Encoding::Bincode).unwrap();
    until("it to be there", || server.metric("sockets_greeting") == 1);
    silent.cut();
    gone();
    for encoding in Encoding::ALL {
        let mut client = Client::new("ann");
        client.encoding = encoding;
        let mut client = client.wanting("docs/a").join(&server);
        client.reach("docs/a", 0);
        client.cut();
        gone();
    }
    for code in Code::ALL {
        let sample = format!("refusals_total{{code=\"{code}\"}}");
        assert_eq!(server.metric(&sample), 0, "{code}");
    }
    // What cannot be read is one.
    let mut client = Client::new("ann");
    client.encoding = Encoding::Json;
    let mut client = client.join(&server);
    assert!(client.link.as_mut().unwrap().send_bytes(b"{\"".to_vec()));
    client.until_closed();
    assert_eq!(server.metric("refusals_total{code=\"bad_frame\"}"), 1);
}
