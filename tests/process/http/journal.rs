//! `/v1/journal`: what an operator sees of it, and its move to a later version.

use highwater::fold::FOLD_VERSION;
use serde_json::json;

use crate::support::{Client, Options, Server, token};

#[test]
fn an_operator_sees_how_far_the_journal_has_come_and_who_knows_which_version() {
    let mut server = Server::start(Options::default());
    server.http().post_lines("/v1/logs/a", (0..3).map(|at| at.to_string())).ok();
    let told = server.http().get("/v1/journal").ok().json();
    assert_eq!(told["version"], FOLD_VERSION);
    assert_eq!(told["records"], 3);
    let [node] = told["nodes"].as_array().unwrap().as_slice() else { panic!("{told}") };
    assert_eq!(node["node"], told["node"]);
    let seen = ["up", "run", "oldest", "newest"].map(|name| node[name].clone());
    assert_eq!(seen, [json!(true), json!(1), json!(FOLD_VERSION), json!(FOLD_VERSION)]);
    let era = told["era"].as_str().unwrap();
    assert!(told["position"].as_str().unwrap().starts_with(era), "{told}");
    // Another start: another era of the same journal, and the node's next run.
    server.terminate();
    server.restart();
    let again = server.http().get("/v1/journal").ok().json();
    assert_eq!((&again["journal"], &again["records"]), (&told["journal"], &json!(3)));
    assert_ne!(again["era"], told["era"]);
    assert_eq!(again["nodes"][0]["run"], 2);
    assert!(again["batch"].as_u64() > told["batch"].as_u64());
}

#[test]
fn an_upgrade_is_refused_while_a_node_does_not_know_the_version() {
    let server = Server::start(Options::default());
    let http = server.http();
    let post = |path: &str| http.ask("POST", path, &[], None);
    let next = FOLD_VERSION + 1;
    let refused = post(&format!("/v1/journal/upgrade?to={next}"));
    assert_eq!(refused.refusal(), (409, "stale".to_owned()));
    assert_eq!(refused.json()["version"], FOLD_VERSION);
    assert!(refused.text().contains("every node that runs has to know it"));
    let node = http.get("/v1/journal").json()["node"].as_str().unwrap().to_owned();
    for to in [next, next + 5, FOLD_VERSION - 1] {
        let told = post(&format!("/v1/journal/upgrade?to={to}")).text();
        assert!(told.contains(&format!("{to} is not known to the node {node}")), "{told}");
        assert!(told.contains(&format!("only version {next} is next")), "{told}");
        assert!(told.contains(&format!("the program that answers knows {FOLD_VERSION}")), "{told}");
    }
    let missing = post("/v1/journal/upgrade").json();
    assert_eq!(missing["message"], "to: is needed");
    // Where it is already, it was asked for before.
    let same = post(&format!("/v1/journal/upgrade?to={FOLD_VERSION}")).ok().json();
    assert_eq!(same, json!({ "version": FOLD_VERSION, "upgraded": false }));
    for bad in ["", "?to=", "?to=0", "?to=65536", "?to=-1", "?to=4&to=5", "?to=4&from=3"] {
        let refused = post(&format!("/v1/journal/upgrade{bad}"));
        assert_eq!(refused.refusal(), (400, "bad_request".to_owned()), "{bad}");
    }
    let body = http.post(&format!("/v1/journal/upgrade?to={next}"), "x");
    assert_eq!(body.refusal(), (400, "bad_request".to_owned()));
    assert_eq!(http.get("/v1/journal?x").refusal(), (400, "bad_request".to_owned()));
}

/// The sentence goes out of date with the next version.
#[test]
fn the_documents_say_which_version_there_is() {
    let sentence = format!("this program knows version {FOLD_VERSION} and no other");
    assert!(include_str!("../../../docs/cli.md").contains(&sentence), "{sentence}");
}

#[test]
fn the_journal_is_for_who_administers_everything() {
    let server = Server::start(Options::default());
    for token in [None, Some(token("ana", &[("a/**", "admin"), ("**", "read append")]))] {
        let status = if token.is_some() { 403 } else { 401 };
        let http = server.http_as(token);
        assert_eq!(http.get("/v1/journal").status, status);
        let upgrade = http.ask("POST", "/v1/journal/upgrade?to=4", &[], None);
        assert_eq!(upgrade.status, status);
    }
}

#[test]
fn the_command_shows_it() {
    let server = Server::start(Options::dev());
    let url = server.url();
    let run = |more: &[&str]| {
        let mut arguments = vec!["journal", "--server", &url];
        arguments.extend(more);
        let output = Server::command(&arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, shown, _) = run(&[]);
    assert_eq!(code, Some(0));
    assert!(shown.contains(&format!("version   {FOLD_VERSION}\n")), "{shown}");
    assert!(shown.contains("NODE"), "{shown}");
    let (code, shown, _) = run(&["--json"]);
    assert_eq!(code, Some(0));
    let told: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(told["version"], FOLD_VERSION);
    let next = (FOLD_VERSION + 1).to_string();
    let (code, _, said) = run(&["upgrade", "--to", &next]);
    assert_eq!(code, Some(1));
    assert!(said.contains("every node that runs has to know it"), "{said}");
    let (code, shown, _) = run(&["upgrade", "--to", &FOLD_VERSION.to_string()]);
    assert_eq!((code, shown.contains("was already in version")), (Some(0), true), "{shown}");
    let (code, shown, _) = run(&["upgrade", "--json", "--to", &FOLD_VERSION.to_string()]);
    let told: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((code, told), (Some(0), json!({ "version": FOLD_VERSION, "upgraded": false })));
}

/// An operator says that what clients saw beyond is not of this history: once, by the era before.
#[test]
fn an_era_begins_by_the_one_that_it_follows() {
    let server = Server::start(Options::default());
    let http = server.http();
    let mut client = Client::new("ann").join(&server);
    let before = http.get("/v1/journal").json();
    let era = before["era"].as_str().unwrap();
    let path = format!("/v1/journal/era?after={era}");
    let begun = http.ask("POST", &path, &[], None).ok().json();
    assert_eq!(begun["after"], before["era"]);
    let now = http.get("/v1/journal").json();
    assert_eq!(now["era"], begun["era"]);
    assert_ne!(now["era"], before["era"]);
    // Who is connected is sent away once, and told where this history stands when it returns.
    client.until_closed();
    let again = http.ask("POST", &path, &[], None);
    assert_eq!(again.refusal(), (409, "stale".to_owned()));
    assert_eq!(again.json()["era"], begun["era"]);
    // What was seen up to the word is of this history, what was seen beyond is not.
    let at = |batch: u64| format!("{era}.{batch}");
    let stating =
        |position: String| http.ask("GET", "/v1/logs", &[("highwater-position", &position)], None);
    let batch = before["batch"].as_u64().unwrap();
    stating(at(batch)).ok();
    assert_eq!(stating(at(batch + 1000)).refusal(), (409, "other_history".to_owned()));
    for bad in ["", "?after=", "?after=x", "?after=00"] {
        let refused = http.ask("POST", &format!("/v1/journal/era{bad}"), &[], None);
        assert_eq!(refused.refusal(), (400, "bad_request".to_owned()), "{bad}");
    }
    let mine = server.http_as(Some(token("ann", &[("docs/**", "read")])));
    assert_eq!(mine.ask("POST", &path, &[], None).refusal().0, 403);
}

/// A node that runs is not forgotten, nor one that never was.
#[test]
fn only_a_node_that_took_part_and_does_not_run_can_be_forgotten() {
    let server = Server::start(Options::default());
    let http = server.http();
    let own = http.get("/v1/journal").json()["node"].as_str().unwrap().to_owned();
    let path = |node: &str| format!("/v1/journal/forget?node={node}");
    let ask = |path: &str| http.ask("POST", path, &[], None).refusal();
    assert_eq!(ask(&path(&own)), (409, "stale".to_owned()));
    assert_eq!(ask(&path(&"0".repeat(32))), (404, "not_found".to_owned()));
    for bad in ["/v1/journal/forget", &path("x"), &format!("{}&run=1", path(&own))] {
        assert_eq!(ask(bad), (400, "bad_request".to_owned()), "{bad}");
    }
    let mine = server.http_as(Some(token("ann", &[("docs/**", "read")])));
    assert_eq!(mine.ask("POST", &path(&own), &[], None).refusal().0, 403);
    assert_eq!(http.get("/v1/journal").json()["nodes"].as_array().unwrap().len(), 1);
}
