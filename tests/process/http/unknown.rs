//! Whatever a request says is looked at: what an address does not know is refused, and nothing is
//! done. The table of addresses is the one that the server's router is made of.

use std::collections::BTreeSet;

use highwater::gateway::http::{Takes, addresses};
use serde_json::json;

use crate::support::{Answer, Client, Http, Options, Server, id, until};

/// Addresses under `/v1` that say nothing of a history, being for sockets.
const SOCKETS: &str = "/v1/connect";

/// A server that holds one of each thing.
struct World {
    server: Server,
    root: Http,
    ana: Client,
    writer: String,
}

impl World {
    fn new() -> Self {
        let server = Server::start(Options::dev().rule("kept", "client", ""));
        let root = server.http();
        let writer = id().to_string();
        root.post(&format!("/v1/logs/kept?writer={writer}&seq=1"), "x").ok();
        root.post("/v1/logs/kept", "y").ok();
        root.ask("PUT", "/v1/snapshots/kept?offset=1", &[], Some(b"state")).ok();
        let mut ana = Client::with(None).wanting("kept").join(&server);
        ana.reach("kept", 2);
        root.post_json("/v1/revocations", &json!({ "user": "ben", "before": 5 })).ok();
        Self { server, root, ana, writer }
    }

    /// An address with what this world has in the place of its names.
    fn path(&self, takes: &Takes) -> String {
        let id = if takes.path.contains("/writers/") {
            self.writer.clone()
        } else {
            self.ana.connection.to_string()
        };
        let path = takes.path.replace("{*name}", "kept").replace("{user}", "dev");
        let path = path.replace("{id}", &id);
        assert!(!path.contains('{'), "{path}: this test has nothing of that name");
        path
    }

    /// A body with which the request would be carried out.
    fn body(takes: &Takes) -> Option<String> {
        let text = match (takes.method, takes.path) {
            ("POST", "/v1/logs/{*name}") => "never stored".to_owned(),
            ("PUT", _) => "never kept".to_owned(),
            ("POST", "/v1/revocations") => json!({ "user": "dev" }).to_string(),
            ("POST", "/v1/notify") => {
                json!({ "logs": ["kept"], "record": { "payload": "never told" } }).to_string()
            }
            ("POST", path) if path.ends_with("/notify") => {
                json!({ "record": { "payload": "never told" } }).to_string()
            }
            ("POST", path) if path.ends_with("/seek") => {
                json!({ "log": "kept", "to": "earliest" }).to_string()
            }
            ("POST", path) if path.ends_with("/unsubscribe") => {
                json!({ "logs": ["kept"] }).to_string()
            }
            ("POST", path) if path.ends_with("/subscribe") => {
                json!({ "logs": [{ "name": "new" }] }).to_string()
            }
            ("POST", _) => String::new(),
            _ => return None,
        };
        Some(text)
    }

    fn send(&self, takes: &Takes, query: &str, headers: &[(&str, &str)]) -> Answer {
        let body = Self::body(takes);
        let path = format!("{}{query}", self.path(takes));
        self.root.ask(takes.method, &path, headers, body.as_deref().map(str::as_bytes))
    }

    /// Refused for what it says.
    fn ask(&self, takes: &Takes, query: &str, headers: &[(&str, &str)]) -> Answer {
        let path = takes.path;
        let answer = self.send(takes, query, headers);
        assert_eq!(
            answer.status,
            400,
            "{} {path} {query}{headers:?}: {}",
            takes.method,
            answer.text()
        );
        if takes.method != "HEAD" {
            assert_eq!(answer.json()["code"], "bad_request", "{} {path}", takes.method);
        }
        answer
    }

    /// All that requests can change, as it is.
    fn all(&self) -> Vec<String> {
        let connection = format!("/v1/connections/{}", self.ana.connection);
        let mut all: Vec<String> = ["/v1/logs", "/v1/logs/kept", "/v1/snapshots/kept"]
            .into_iter()
            .chain(["/v1/revocations", "/v1/connections?user=dev"])
            .map(|path| self.root.get(path).ok().text())
            .collect();
        let mut shown = self.root.get(&connection).ok().json();
        // What went over its socket goes on by itself.
        shown["socket"] = json!(shown["socket"].is_object());
        all.push(shown.to_string());
        all
    }
}

#[test]
fn a_parameter_that_an_address_does_not_know_is_refused_and_nothing_is_done() {
    let world = World::new();
    let before = world.all();
    let table = addresses(true);
    assert!(table.len() > 25, "{}", table.len());
    for takes in &table {
        for query in ["?before=1", "?if_head_=99", "?x&x", "?%62efore=1", "?=1", "?a=%C3%A4"] {
            let told = world.ask(takes, query, &[]);
            if takes.method == "HEAD" {
                continue;
            }
            let message = told.json()["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with('`') && !message.contains('*'), "{message}");
            let known =
                if takes.query.is_empty() { "none".to_owned() } else { takes.query.join(", ") };
            assert!(message.ends_with(&format!("it takes {known}")), "{message}");
        }
        for known in takes.query {
            world.ask(takes, &format!("?{known}=1&{known}=1"), &[]);
            world.ask(takes, &format!("?{known}=1&{known}"), &[]);
            world.ask(takes, &format!("?{known}=1&before=1"), &[]);
        }
        if takes.method == "GET" {
            // The same address answers this too, by the same rules.
            let head = Takes { method: "HEAD", ..*takes };
            world.ask(&head, "?before=1", &[]);
            world.ask(&head, "", &[("highwater-if-heads", "1")]);
        }
    }
    // What destroyed a log once.
    let delete = table.iter().find(|t| (t.method, t.path) == ("DELETE", "/v1/logs/{*name}"));
    world.ask(delete.unwrap(), "?if_head=99", &[]);
    assert_eq!(world.all(), before, "nothing was done");
}

/// The table has every address: the documents name what is in it, and it has what they name.
#[test]
fn no_address_is_missing_from_the_table() {
    let documents = include_str!("../../../docs/http.md");
    let table = addresses(true);
    for takes in table.iter().filter(|takes| takes.path.starts_with("/v1/")) {
        let path = takes.path.replace("{*", "{");
        assert!(documents.contains(&path), "{path} is in no document");
    }
    let mut named = 0;
    for piece in documents.split('`') {
        let mut words = piece.split(' ');
        let (Some(method), Some(path)) = (words.next(), words.next()) else { continue };
        let methods = ["GET", "HEAD", "POST", "PUT", "DELETE"];
        if !methods.contains(&method) || !path.starts_with("/v1/") || path.contains("NAME") {
            continue;
        }
        let path = path.split('?').next().unwrap_or_default();
        let is = |takes: &&Takes| {
            let method = takes.method == method || (takes.method == "GET" && method == "HEAD");
            let (own, asked) = (takes.path.replace("{*", "{"), path);
            let name = asked.strip_prefix("/v1/logs/").filter(|name| !name.contains('{'));
            method && (own == asked || (name.is_some() && own == "/v1/logs/{name}"))
        };
        assert!(table.iter().any(|takes| is(&takes)), "{method} {path} is not in the table");
        named += 1;
    }
    assert!(named > 20, "{named}");
}

#[test]
fn a_header_of_ours_that_means_nothing_there_is_refused_and_nothing_is_done() {
    let world = World::new();
    let before = world.all();
    let table = addresses(true);
    let all: BTreeSet<&str> = table.iter().flat_map(|takes| takes.headers).copied().collect();
    for takes in &table {
        for name in all.iter().copied().chain(["highwater-if-heads"]) {
            let given = if name.ends_with('-') { "highwater-header-trace" } else { name };
            if !takes.headers.contains(&name) {
                world.ask(takes, "", &[(given, "1")]);
            } else if given == name {
                world.ask(takes, "", &[(given, "1"), (given, "1")]);
            }
        }
    }
    for (query, header) in [("?create", "highwater-if-head"), ("?trim=1", "highwater-key")] {
        let answer =
            world.root.ask("POST", &format!("/v1/logs/kept{query}"), &[(header, "9")], None);
        assert_eq!(answer.refusal(), (400, "bad_request".to_owned()), "{query} {header}");
    }
    let queries = ["?create&if_head=9", "?trim=1&if_head=9", "?trim=1&writer=1", "?trim=1&results"];
    for query in queries.into_iter().chain(["?trim=1&results=false", "?create=yes", "?results=no"])
    {
        let answer = world.root.post(&format!("/v1/logs/kept{query}"), "");
        assert_eq!(answer.refusal(), (400, "bad_request".to_owned()), "{query}");
    }
    assert_eq!(world.all(), before, "nothing was done");
}

#[test]
fn each_address_under_v1_takes_a_position() {
    let table = addresses(false);
    let of_v1 = table.iter().filter(|takes| takes.path.starts_with("/v1/"));
    for takes in of_v1.filter(|takes| takes.path != SOCKETS) {
        assert!(takes.headers.contains(&"highwater-position"), "{} {}", takes.method, takes.path);
    }
    let world = World::new();
    let before = world.all();
    for takes in table.iter().filter(|takes| takes.headers.contains(&"highwater-position")) {
        for none in ["here", ""] {
            let told = world.ask(takes, "", &[("highwater-position", none)]);
            if takes.method != "HEAD" {
                let message = told.json()["message"].as_str().unwrap().to_owned();
                assert!(message.starts_with("highwater-position: a position is"), "{message}");
            }
        }
    }
    // Well written, and of nobody's history.
    let foreign = format!("{}.1.{}", "ab".repeat(16), "cd".repeat(8));
    for takes in table.iter().filter(|takes| takes.headers.contains(&"highwater-position")) {
        let told = world.send(takes, "", &[("highwater-position", &foreign)]);
        assert_eq!(told.status, 409, "{} {}: {}", takes.method, takes.path, told.text());
        if takes.method != "HEAD" {
            assert_eq!(told.json()["code"], "other_history", "{} {}", takes.method, takes.path);
        }
        // Who kept it would go on here at its old offset.
        assert!(!told.headers.contains_key("highwater-position"), "nothing to go on with");
        if takes.method != "HEAD" {
            assert!(told.text().contains("from the start without highwater-position"));
        }
    }
    assert_eq!(world.all(), before, "nothing was done");
    // And this node's own.
    let own = world.root.get("/v1/logs").ok().headers["highwater-position"].clone();
    let own = [("highwater-position", own.to_str().unwrap())];
    world.root.ask("GET", "/v1/logs/kept", &own, None).ok();
}

#[test]
fn what_development_adds_is_not_there_without_it() {
    let table = addresses(false);
    assert!(addresses(true).len() > table.len());
    let server = Server::start(Options::default());
    let mut world = World::new();
    for path in ["/", "/demo", "/highwater.js"] {
        assert_eq!(server.http().get(path).status, 404, "{path}");
        assert_eq!(world.server.http().get(path).status, 200, "{path}");
    }
    assert_eq!(server.http().post("/v1/dev/kill", "").status, 404);
    // Not at its own pace: what killed it would be told here.
    assert_eq!(world.server.http().post("/v1/dev/kill", "").status, 202);
    until("it is gone", || !world.server.runs());
    world.server.restart();
    assert_eq!(world.server.http().get("/v1/logs/kept").ok().lines().len(), 2, "nothing is lost");
}
