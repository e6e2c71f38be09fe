//! Readers that come before their log is made.

use highwater::wire::Refused;

use super::*;
use crate::support::token;

fn reader(user: &str) -> Client {
    Client::with(Some(token(user, &[("docs/**", "read")])))
}

fn told_of_no_log(client: &mut Client, name: &str) {
    let of = |refused: &&Refused| refused.name.as_deref() == Some(name);
    client.wait("a refusal", |client| client.refused.iter().any(|refused| of(&refused)));
    let at = client.refused.iter().position(|refused| of(&refused)).unwrap();
    let Refused { refusal, .. } = client.refused.remove(at);
    assert!(refusal.code == Code::UnknownLog && refusal.retry_after > 0, "{refusal:?}");
}

/// Who may read and not make a log hears of it when it has its first record: also one that came
/// with the log in its Hello, and one that was inactive for a while. None of them asks again.
#[test]
fn a_reader_that_comes_first_hears_of_the_log_when_it_begins() {
    let server = Server::start(quick());
    let mut writer = Client::new("wim").join(&server);
    let mut early = reader("ana").wanting("docs/a").join(&server);
    let mut later = reader("ben").join(&server);
    let mut gone = reader("cid").wanting("docs/a").join(&server);
    let mut other = Client::with(Some(token("dot", &[("docs/b", "read")]))).join(&server);
    later.subscribe("docs/a", Start::State, 0);
    for reader in [&mut early, &mut later, &mut gone] {
        told_of_no_log(reader, "docs/a");
    }
    let asked = other.subscribe("docs/a", Start::State, 0);
    assert_eq!(other.refusal(asked).code, Code::Denied);
    gone.unwant(&["docs/a"]);
    gone.cut();
    writer.store("docs/a", "first");
    writer.store("docs/a", "second");
    for reader in [&mut early, &mut later] {
        reader.reach("docs/a", 2);
        assert_eq!(reader.log("docs/a").texts(), ["first", "second"]);
    }
    other.sync();
    assert!(other.find("docs/a").is_none() && other.refused.is_empty());
    // It is a subscription as any: it goes on over sockets, and is not made twice.
    early.cut();
    writer.store("docs/a", "third");
    early.connect(&server);
    early.reach("docs/a", 3);
    let shown = server.shows(early.connection);
    assert_eq!(shown["subscriptions"].as_array().unwrap().len(), 1, "{shown}");
    // A name that nobody asked for lately, or no longer, subscribes nobody.
    gone.connect(&server);
    gone.sync();
    assert!(gone.find("docs/a").is_none());
}
