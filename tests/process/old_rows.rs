//! Rows of an older store that have what rows have grown by since their format was fixed: today's
//! server goes by all of it. The folder is in `tests/fixtures`, made by the program of then.

use std::time::Instant;

use crate::support::fixture::GROWN_3;
use crate::support::{Client, Next, WAIT};
use highwater::wire::{
    BaseHeld, ClientFrame, Cloning, Id, Met, Open, ServerFrame, Start, Subscribe, Subscribed, Upto,
};

fn connection(which: &str) -> Id {
    GROWN_3.told()["connections"][which].as_str().unwrap().parse().unwrap()
}

/// A client that opens what it looks at, and nothing that it is only told of.
fn looking_at(user: &str, names: &[&str]) -> Client {
    let mut client = names.iter().fold(Client::new(user), |client, name| client.wanting(name));
    client.opens_held = false;
    client
}

#[test]
fn a_user_of_an_old_store_is_still_subscribed_by_the_back_end() {
    let mut server = GROWN_3.start();
    let mut client = looking_at("ana", &[]).join(&server);
    for name in ["news/one", "news/two"] {
        client.wait(name, |client| client.find(name).is_some_and(|log| !log.held));
    }
    // What is undone now is undone after a crash.
    let one = serde_json::json!({ "logs": ["news/one"] });
    let told = server.http().post_json("/v1/users/ana/unsubscribe", &one).ok().json();
    assert_eq!(told["reached"].as_array().unwrap().len(), 3, "{told}");
    server.crash();
    let mut client = looking_at("ana", &[]);
    client.cloning = Cloning::None;
    let mut client = client.join(&server);
    client.wait("news/two", |client| client.find("news/two").is_some());
    client.sync();
    assert!(client.find("news/one").is_none());
}

#[test]
fn what_a_connection_of_an_old_store_holds_is_held() {
    let server = GROWN_3.start();
    let mut client = looking_at("ana", &["notes/small"]);
    client.connection = connection("second");
    assert_eq!(client.connect(&server), Met::Resumed);
    client.wait("notes/big", |client| client.find("notes/big").is_some());
    let big = client.log("notes/big");
    assert!(big.held, "{big:?}");
    client.reach("notes/small", 1);
    assert!(!client.log("notes/small").held);
    // It begins where the other tab had committed.
    client.subscribe("notes/big", Start::Committed, 0);
    client.reach("notes/big", 2);
    let offsets: Vec<u64> = client.log("notes/big").records.keys().copied().collect();
    assert_eq!(offsets, [1]);
}

/// Subscribes, with a base that was begun at that offset.
fn opened(client: &mut Client, request: u32, name: &str, offset: u64) -> Subscribed {
    let log = client.log(name).log;
    let link = client.link.as_mut().unwrap();
    let open = Open { name: name.to_owned(), have: None, start: Start::State, priority: 0 };
    let bases = vec![BaseHeld { log, offset, upto: Upto::Key("b".to_owned()) }];
    link.send(&ClientFrame::Subscribe(Subscribe { request, open: vec![open], bases }));
    let end = Instant::now() + WAIT;
    loop {
        match link.next(end) {
            Next::Frame(ServerFrame::Subscribed(told), _) if told.request == request => {
                return told;
            }
            Next::Frame(..) => {}
            _ => panic!("{name} was not opened"),
        }
    }
}

#[test]
fn when_a_rule_came_into_force_is_known_of_an_old_store() {
    let server = GROWN_3.start();
    for (name, offset, goes_on) in
        [("state/turned", 6, false), ("state/turned", 8, true), ("state/same", 1, true)]
    {
        let mut writer = looking_at("root", &[name]).join(&server);
        writer.reach(name, if name == "state/same" { 5 } else { 10 });
        // Held, so that it can be opened once more.
        let mut client = looking_at("root", &[]).join(&server);
        client.wait(name, |client| client.find(name).is_some_and(|log| log.held));
        let told = opened(&mut client, 7, name, offset);
        assert_eq!(told.base.is_some(), goes_on, "{name} {offset}: {told:?}");
        assert_eq!(told.reset, !goes_on);
    }
}
