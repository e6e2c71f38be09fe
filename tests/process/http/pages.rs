//! Pages of a log: made, listed, and made larger or smaller.

use serde_json::{Value, json};

use crate::support::{Http, Options, Server, token};

fn post(http: &Http, path: &str) -> crate::support::Answer {
    http.ask("POST", path, &[], None)
}

fn append(http: &Http, log: &str, many: u64) {
    http.post_lines(&format!("/v1/logs/{log}"), (0..many).map(|at| at.to_string())).ok();
}

fn bounds(told: &Value) -> Vec<(u64, u64)> {
    let number = |page: &Value, name: &str| page[name].as_u64().unwrap();
    let pages = told["pages"].as_array().unwrap();
    pages.iter().map(|page| (number(page, "first"), number(page, "end"))).collect()
}

#[test]
fn pages_are_listed_in_pages() {
    let server = Server::start(Options::dev().rule("timed/**", "none", "retain_seconds = 60"));
    let http = server.http();
    assert_eq!(post(&http, "/v1/logs/timed/a?create&page_size=4").status, 201);
    append(&http, "timed/a", 11);
    let got = http.get("/v1/pages/timed/a").ok();
    assert_eq!(got.number("highwater-head"), 11);
    let told = got.json();
    assert_eq!(bounds(&told), [(0, 4), (4, 8), (8, 11)]);
    assert_eq!((&told["page_size"], &told["next"]), (&json!(4), &Value::Null));
    let [first, _, open] = told["pages"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(first["records"], 4);
    assert!(first["opened"].as_u64() <= first["closed"].as_u64());
    assert_eq!(first["goes"].as_u64().unwrap(), first["closed"].as_u64().unwrap() + 60_000);
    assert_eq!(
        (&open["records"], &open["closed"], &open["goes"]),
        (&json!(3), &json!(null), &json!(null))
    );
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let told = http.get(&format!("/v1/pages/timed/a?limit=1{after}")).ok().json();
        all.extend(bounds(&told));
        let Some(next) = told["next"].as_u64() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(all, [(0, 4), (4, 8), (8, 11)]);
    // A log that an append made has none.
    append(&http, "plain", 3);
    let told = http.get("/v1/pages/plain").ok().json();
    assert_eq!((bounds(&told), &told["page_size"]), (vec![], &json!(0)));
}

#[test]
fn the_size_is_changed_for_pages_that_follow_and_making_it_again_changes_nothing() {
    let server = Server::start(Options::dev());
    let http = server.http();
    append(&http, "a", 5);
    assert_eq!(post(&http, "/v1/logs/a?create&page_size=2").status, 200);
    assert_eq!(bounds(&http.get("/v1/pages/a").json()), []);
    let told = post(&http, "/v1/logs/a?page_size=2").ok().json();
    assert_eq!((&told["name"], &told["page_size"]), (&json!("a"), &json!(2)));
    append(&http, "a", 3);
    assert_eq!(bounds(&http.get("/v1/pages/a").json()), [(0, 5), (5, 7), (7, 8)]);
    post(&http, "/v1/logs/a?page_size=0").ok();
    assert_eq!(bounds(&http.get("/v1/pages/a").json()), [(0, 5), (5, 7), (7, 8)]);
    let listed = http.get("/v1/logs?prefix=a").json();
    assert_eq!(listed["logs"][0]["page_size"], 0);
    // What is trimmed by hand is in no page.
    post(&http, "/v1/logs/a?trim=6").ok();
    assert_eq!(bounds(&http.get("/v1/pages/a").json()), [(7, 8)]);
}

#[test]
fn what_cannot_be_is_refused_and_who_may_not_is_denied() {
    let server = Server::start(Options::default());
    let http = server.http();
    append(&http, "a", 1);
    for bad in ["?page_size=x", "?page_size=-1", "?page_size=9007199254740992"] {
        assert_eq!(post(&http, &format!("/v1/logs/a{bad}")).status, 400, "{bad}");
    }
    let most = (1_u64 << 53) - 1;
    let told = post(&http, &format!("/v1/logs/a?page_size={most}")).ok().json();
    assert_eq!(told["page_size"], most);
    assert_eq!(post(&http, "/v1/logs/a?page_size=0").ok().json()["page_size"], 0);
    for bad in ["?page_size=1&trim=1", "?create&trim=1", "?create&page_size=1&trim=1"] {
        let refused = post(&http, &format!("/v1/logs/a{bad}"));
        assert_eq!(refused.refusal(), (400, "bad_request".to_owned()), "{bad}");
    }
    for bad in ["?limit=0", "?limit=1001", "?before=1", "?after=x"] {
        assert_eq!(http.get(&format!("/v1/pages/a{bad}")).status, 400, "{bad}");
    }
    assert_eq!(http.post("/v1/logs/a?page_size=2", "body").status, 400);
    let none = (404, "unknown_log".to_owned());
    assert_eq!(post(&http, "/v1/logs/b?page_size=2").refusal(), none);
    assert_eq!(http.get("/v1/pages/b").refusal(), none);
    let reader = server.http_as(Some(token("ana", &[("a", "read append")])));
    assert_eq!(reader.get("/v1/pages/a").status, 200);
    assert_eq!(post(&reader, "/v1/logs/a?page_size=2").status, 403);
    let writer = server.http_as(Some(token("ben", &[("a", "append admin")])));
    assert_eq!(writer.get("/v1/pages/a").status, 403);
    assert_eq!(post(&writer, "/v1/logs/a?page_size=2").status, 200);
}

#[test]
fn commands_make_pages_and_list_them() {
    let server = Server::start(Options::dev());
    let url = server.url();
    let run = |words: &str| {
        let arguments: Vec<&str> = words.split(' ').chain(["--server", &url]).collect();
        let output = Server::command(&arguments);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    assert_eq!(run("create words --page-size 4").1, "created words (log 1)\n");
    append(&server.http(), "words", 9);
    let (code, shown, _) = run("pages words");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 5), "{shown}");
    assert!(lines[0].starts_with("FIRST  END  RECORDS"), "{shown}");
    assert!(lines[2].starts_with("4      8    4"), "{shown}");
    assert!(lines[3].starts_with("8      9    1"), "{shown}");
    assert_eq!(lines[4], "words: pages that open from now on have 4 records");
    let (_, shown, _) = run("pages words --json");
    assert_eq!(shown.lines().count(), 3);
    // Made again, it stays as it is; the command says what changes it.
    let (code, _, said) = run("create words --page-size 2");
    assert_eq!(code, Some(1));
    assert!(said.contains("`highwater pages words --size 2`"), "{said}");
    assert_eq!(run("create words --page-size 2 --if-not-exists").0, Some(0));
    let (code, shown, _) = run("pages words --size 2");
    assert_eq!((code, shown.contains("have 2 records")), (Some(0), true), "{shown}");
    append(&server.http(), "words", 5);
    let told = server.http().get("/v1/pages/words").json();
    assert_eq!(bounds(&told), [(0, 4), (4, 8), (8, 12), (12, 14)]);
    let told = |words: &str| serde_json::from_str::<Value>(&run(words).1).unwrap();
    let most = (1_u64 << 53) - 1;
    for size in [0, 5, most] {
        let set = told(&format!("pages words --size {size} --json"));
        assert_eq!((&set["name"], &set["page_size"]), (&json!("words"), &json!(size)));
    }
    assert_eq!(run(&format!("create large --page-size {most}")).0, Some(0));
    for size in [0, most + 1] {
        assert_eq!(run(&format!("create none --page-size {size}")).0, Some(2), "{size}");
    }
    assert_eq!(run(&format!("pages words --size {}", most + 1)).0, Some(2));
}

/// Rows of pages, keys and rules, as the check of a stopped node's folder sees them.
#[test]
fn the_folder_of_a_node_with_pages_and_ended_keys_is_sound() {
    let options = Options::dev().rule("keyed/**", "latest", "retain_seconds = 1");
    let mut server = Server::start(options.limit("detached_limit_seconds", 1));
    let http = server.http();
    post(&http, "/v1/logs/keyed/a?create&page_size=3").ok();
    for key in ["a", "b", "a", "c"] {
        http.post_json("/v1/logs/keyed/a", &json!({ "key": key, "payload": "x" })).ok();
    }
    crate::support::until("all keys have ended", || {
        http.get("/v1/snapshots/keyed/a").ok().lines().is_empty()
    });
    assert!(server.terminate().success());
    let data = server.data().display().to_string();
    let output = Server::command(&["check", &data]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
}
