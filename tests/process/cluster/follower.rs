//! Nodes that only read: they take no records of their own clients, and tell how old what they say
//! may be.

use highwater::wire::Code;

use super::{append, nodes, on, payloads};
use crate::support::{Client, Nats, Options, Server, until};

fn follower(nats: &Nats, address: &str) -> Options {
    let args = vec!["--set".to_owned(), format!("server.advertise={address}")];
    let toml = format!("{}follower = true\n", nats.toml());
    Options { toml, args, ..on(nats) }
}

/// What others take it shows, live and read; what its own clients bring is refused for now, and is
/// taken, once, where they go with it.
#[test]
fn a_follower_reads_and_takes_no_records() {
    let Some(nats) = Nats::start(1) else { return };
    let leads = nodes(1, &nats);
    let follows = Server::start(follower(&nats, "https://reads.example"));
    let first = append(&leads[0], ["first".to_owned()]);
    until("it has what the other took", || payloads(&follows) == first);

    let mut client = Client::new("ana").wanting("a").join(&follows);
    client.reach("a", 1);
    append(&leads[0], ["second".to_owned()]);
    client.reach("a", 2);

    // Over a socket, and by HTTP: a record, a log that is made for records, a note to many.
    client.append("a", "mine");
    client.wait("it is put off", |client| !client.put_off.is_empty());
    assert_eq!(client.put_off[0].1.code, Code::NotReady);
    let http = follows.http();
    for refused in [http.post("/v1/logs/a", "x"), http.post("/v1/logs/b?create", "")] {
        assert_eq!(refused.refusal(), (503, "not_ready".to_owned()));
        assert!(refused.json()["retry_after"].as_u64() > Some(0), "{}", refused.text());
        assert!(refused.text().contains("this node follows"), "{}", refused.text());
    }
    assert_eq!(client.closed, None, "its socket stays open");
    client.cut();
    client.connect(&leads[0]);
    client.settled();
    client.reach("a", 3);
    let all = ["first", "second", "mine"];
    assert_eq!(client.log("a").texts(), all);
    until("everywhere", || payloads(&follows) == all && payloads(&leads[0]) == all);

    // A snapshot, and a note to many logs.
    let note = http
        .post_json("/v1/notify", &serde_json::json!({"logs": ["a"], "record": {"payload": "x"}}));
    assert_eq!(note.refusal(), (503, "not_ready".to_owned()));

    let told = http.get("/v1/journal").ok().json();
    assert_eq!((&told["follower"], told["lag_ms"].is_u64()), (&true.into(), true));
    let named = told["nodes"].as_array().unwrap().iter().filter(|node| node["address"].is_string());
    assert_eq!(named.count(), 0, "no writer is sent to it");
    let told = leads[0].http().get("/v1/journal").ok().json();
    assert_eq!(told["follower"], false);
    let metrics = http.get("/metrics").text();
    assert!(metrics.contains("highwater_journal_lag_ms "), "{metrics}");
}

/// Without other nodes nobody would write.
#[test]
fn a_node_alone_cannot_follow() {
    let mut server = Server::start(Options::default());
    assert!(server.terminate().success());
    let toml = "[journal]\nfollower = true\n".to_owned();
    let (ended, log) = server.fails_with(&Options { toml, ..Options::default() });
    assert!(!ended.success() && log.contains("journal.follower"), "{log}");
    server.restart();
    let told = server.http().get("/v1/journal").ok().json();
    assert_eq!((&told["follower"], &told["lag_ms"]), (&false.into(), &serde_json::Value::Null));
}
