//! Nodes as processes that share a journal on real nats-servers, and what befalls them and those.

mod clients;
mod drift;
mod engine;
mod follower;
mod forgotten;
mod history;
mod join;
mod kills;
mod machine;
mod pauses;
mod plain;
mod upgrade;
mod walls;

use crate::support::{Nats, Options, Server, token};

fn on(nats: &Nats) -> Options {
    Options { toml: nats.toml(), ..Options::default() }
}

/// So many nodes on an engine; servers that have just come up may have no leader yet.
fn nodes(count: usize, nats: &Nats) -> Vec<Server> {
    drop(nats.journal());
    (0..count).map(|_| Server::start(on(nats))).collect()
}

/// How often something is done: so many times, or as often as `make test-cluster` is told.
fn rounds(few: usize) -> usize {
    std::env::var("HIGHWATER_ROUNDS").map_or(few, |rounds| rounds.parse().unwrap())
}

/// The same of what takes long: a fifth of it, once at least.
fn slow_rounds() -> usize {
    rounds(1).div_ceil(5)
}

/// The token of who may do everything.
fn root() -> String {
    token("root", &[("**", "read append snapshot signal admin")])
}

/// Appends texts, and gives them back.
fn append(server: &Server, texts: impl IntoIterator<Item = String>) -> Vec<String> {
    let texts: Vec<_> = texts.into_iter().collect();
    server.http().post_lines("/v1/logs/a", texts.clone()).ok();
    texts
}

fn payloads(server: &Server) -> Vec<String> {
    let answer = server.http().get("/v1/logs/a?from=0");
    if answer.status == 200 { answer.payloads() } else { Vec::new() }
}

/// Whether a node says that it serves.
fn is_ready(server: &Server) -> bool {
    let asked = server.http_as(None).try_ask("GET", "/readyz", &[], None);
    asked.is_ok_and(|answer| answer.status == 200)
}
