//! Page marks: a list goes on where it was left off, and a mark tells nobody anything.

use serde_json::{Value, json};

use crate::support::{Http, Options, Server, token};

/// Walks a list to its end, one thing a page: the things, and the marks.
fn walk(http: &Http, path: &str, of: &str) -> (Vec<Value>, Vec<String>) {
    let (mut things, mut marks) = (Vec::new(), Vec::<String>::new());
    let joined = if path.contains('?') { '&' } else { '?' };
    loop {
        let after = marks.last().map(|mark| format!("&after={mark}")).unwrap_or_default();
        let page = http.get(&format!("{path}{joined}limit=1{after}")).ok().json();
        things.extend(page[of].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(mark) => marks.push(mark.to_owned()),
            None => return (things, marks),
        }
        assert!(marks.len() < 100, "{path} has no end: {things:?}");
    }
}

#[test]
fn promise_11_a_mark_tells_no_name_that_its_reader_may_not_know() {
    let mut server = Server::start(Options::default());
    let root = server.http();
    for log in ["a/x", "b/hidden", "c/x", "d/hidden", "e/x", "f/hidden"] {
        root.post(&format!("/v1/logs/{log}"), "x").ok();
    }
    let ana = server.http_as(Some(token("ana", &[("*/x", "read")])));
    let (logs, marks) = walk(&ana, "/v1/logs", "logs");
    let names: Vec<_> = logs.iter().map(|log| log["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a/x", "c/x", "e/x"]);
    // One is left off at a log that it may read, one at a hidden one: they look alike.
    let lengths: Vec<_> = marks.iter().map(String::len).collect();
    assert!(lengths.iter().all(|length| *length == lengths[0]), "{lengths:?}");
    let again = walk(&ana, "/v1/logs", "logs").1;
    assert_ne!(marks[0], again[0], "that a place is the same does not show either");
    // Whoever makes one up, has another's, or one of another list is not let in there.
    let ben = server.http_as(Some(token("ben", &[("*/x", "read")])));
    let refused = |http: &Http, path: &str, mark: &str| {
        let answer = http.get(&format!("{path}after={mark}"));
        assert_eq!(answer.refusal(), (400, "bad_request".to_owned()), "{path}{mark}");
        assert!(answer.text().contains("begin the list anew"), "{}", answer.text());
    };
    for bad in ["a/x", "b", "0", "", &marks[0][1..]] {
        refused(&ana, "/v1/logs?", bad);
    }
    refused(&ben, "/v1/logs?", &marks[0]);
    refused(&ana, "/v1/logs?prefix=a&", &marks[0]);
    refused(&ana, "/v1/connections?", &marks[0]);
    // Nodes of one configuration take each other's, and those from before a restart.
    server.crash();
    let ana = server.http_as(Some(token("ana", &[("*/x", "read")])));
    let rest = ana.get(&format!("/v1/logs?after={}", marks[0])).ok().json();
    assert_eq!(rest["logs"][0]["name"], "c/x", "{rest}");
}

#[test]
fn promise_11_who_may_read_nothing_is_told_nothing() {
    let server = Server::start(Options::default());
    let root = server.http();
    for batch in 0..11 {
        let names: Vec<_> = (0..1_000).map(|n| format!("secret/{batch:02}/{n:03}")).collect();
        let all = json!({ "logs": names, "record": { "payload": "x" } });
        root.post_json("/v1/notify", &all).ok();
    }
    // More than are looked at for one page.
    for grants in [&[][..], &[("other/**", "read")], &[("**", "append")]] {
        let nobody = server.http_as(Some(token("nobody", grants)));
        for query in ["", "?limit=1", "?prefix=secret/", "?prefix=s"] {
            let told = nobody.get(&format!("/v1/logs{query}")).ok().json();
            assert_eq!(told, json!({ "logs": [], "next": null }), "{grants:?} {query}");
        }
    }
    // One whose pattern has to be looked for finds it, in steps that tell nothing.
    let some = server.http_as(Some(token("some", &[("*/10/999", "read")])));
    let first = some.get("/v1/logs").ok().json();
    assert_eq!(first["logs"], json!([]));
    let next = first["next"].as_str().unwrap();
    let second = some.get(&format!("/v1/logs?after={next}")).ok().json();
    assert_eq!(second["logs"][0]["name"], "secret/10/999");
    // One with a narrow grant has it at once: what lies elsewhere is not looked at.
    let narrow = server.http_as(Some(token("narrow", &[("secret/10/**", "read")])));
    let told = narrow.get("/v1/logs?limit=1000").ok().json();
    assert_eq!(told["logs"].as_array().unwrap().len(), 1_000);
    assert_eq!(told["next"], json!(null));
}

#[test]
fn every_list_goes_on_where_it_was_left_off() {
    let server = Server::start(Options::default());
    let root = server.http();
    for user in ["ana", "ben", "cid", "dot"] {
        root.post_json("/v1/revocations", &json!({ "user": user, "before": 5 })).ok();
    }
    root.post_json("/v1/revocations", &json!({ "token": "ana", "before": 5 })).ok();
    let (all, marks) = walk(&root, "/v1/revocations", "revocations");
    assert_eq!((all.len(), marks.len()), (5, 4));
    // One that is taken back behind the mark moves none across it.
    root.delete("/v1/revocations?user=ana").ok();
    let rest = root.get(&format!("/v1/revocations?after={}", marks[1])).ok().json();
    assert_eq!(rest["revocations"].as_array().unwrap()[..], all[2..]);
    let mut clients: Vec<_> = (0..3)
        .map(|n| crate::support::Client::new("eve").wanting(&format!("a/{n}")).join(&server))
        .collect();
    let own = server.http_as(Some(token("eve", &[("a/**", "read")])));
    for (http, path) in [(&root, "/v1/connections"), (&root, "/v1/connections?user=eve")]
        .into_iter()
        .chain([(&own, "/v1/connections")])
    {
        let (all, _) = walk(http, path, "connections");
        let mut ids: Vec<_> = all.iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), 3, "{path}");
        ids.dedup();
        assert!(ids.len() == 3 && ids.is_sorted(), "{path}: {ids:?}");
    }
    clients.iter_mut().for_each(|client| client.leave(true));
}
