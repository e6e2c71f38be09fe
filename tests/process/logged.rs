//! What a node's log and the command line show of what clients have said.

use crate::support::{Client, Options, SECRET, Server, token};

/// At the lowest level, with each library asked for by name: no token, no secret, no payload, over
/// socket and HTTP, in both forms of the log.
#[test]
fn no_token_and_no_payload_is_logged_at_any_level() {
    let levels = ["trace", "trace,tungstenite=trace,hyper=trace,highwater=trace"];
    for (level, format) in levels.into_iter().zip(["human", "json"]) {
        let env = vec![("HIGHWATER_LOG", level.into())];
        let args = vec!["--log-format".to_owned(), format.to_owned()];
        let server = Server::start(Options { env, args, ..Options::default() });
        let own = token("ana", &[("**", "read append")]);
        let mut client = Client::with(Some(own.clone())).wanting("a").join(&server);
        client.append("a", "over-a-socket");
        client.settled();
        client.reach("a", 1);
        server.http_as(Some(own.clone())).post("/v1/logs/a", "over-http").ok();
        let stolen = format!("{own}x");
        server.http_as(Some(stolen)).post("/v1/logs/a", "over-http");
        client.reach("a", 2);
        let log = server.log();
        assert!(log.contains("TRACE"), "the level counts: {log}");
        let signature = own.rsplit('.').next().unwrap();
        for secret in [signature, SECRET, "over-a-socket", "over-http"] {
            let said = log.lines().find(|line| line.contains(secret));
            assert_eq!(said, None, "{level}: {secret:?} is logged");
        }
    }
}

/// A client's name may hold what moves a cursor or turns the direction of writing.
#[test]
fn a_client_s_name_does_nothing_to_a_terminal() {
    let server = Server::start(Options::dev());
    let mut client = Client::with(None);
    client.name = "\u{1b}[2J\nroot \u{202e}evil\u{9b}31m".to_owned();
    client.connect(&server);
    let listed = Server::command(&["connections", "list", "--server", &server.url()]);
    let shown = String::from_utf8(listed.stdout).unwrap();
    assert!(shown.contains(r"\u{1b}[2J\u{a}root \u{202e}evil\u{9b}31m"), "{shown}");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    assert!(!shown.chars().any(|letter| letter.is_control() && letter != '\n'), "{shown:?}");
}
