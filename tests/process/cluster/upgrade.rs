//! A journal that is moved on to the next version of the fold while its nodes are replaced one by
//! one: by programs that know the next version too.

use highwater::fold::FOLD_VERSION;
use serde_json::Value;

use super::history::Load;
use super::{nodes, on};
use crate::support::{Answer, Nats, Options, Server, until};

const NEXT: u16 = FOLD_VERSION + 1;

/// A program that knows the next version besides.
fn newer(nats: &Nats) -> Options {
    Options { env: vec![("FOLD_KNOWS_NEXT", "yes".into())], ..on(nats) }
}

fn version(node: &Server) -> Value {
    node.http().get("/v1/journal").ok().json()["version"].clone()
}

fn upgrade(node: &Server) -> Answer {
    node.http().ask("POST", &format!("/v1/journal/upgrade?to={NEXT}"), &[], None)
}

/// No node stops but to be replaced, no append is refused for good, and nothing is lost; while one
/// node does not know the next version the journal stays in its own. Once it is moved on, a program
/// that does not know it does not start.
#[test]
fn load_nodes_are_replaced_in_turn_and_the_journal_is_moved_on() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    for (at, node) in nodes.iter_mut().enumerate() {
        let refused = upgrade(node);
        assert_eq!(refused.refusal(), (409, "stale".to_owned()));
        assert_eq!(version(node), FOLD_VERSION);
        assert!(node.terminate().success());
        load.goes_on();
        node.restart_with(newer(&nats));
        load.moved(at, node);
        load.goes_on();
    }
    assert_eq!(upgrade(&nodes[1]).ok().json()["upgraded"], true);
    until("all nodes are in it", || nodes.iter().all(|node| version(node) == NEXT));
    load.goes_on();
    assert!(nodes[2].terminate().success());
    let (ended, log) = nodes[2].fails_with(&on(&nats));
    assert!(!ended.success() && log.contains(&format!("the journal is in {NEXT}")), "{log}");
    nodes[2].restart_with(newer(&nats));
    load.moved(2, &nodes[2]);
    load.goes_on();
    load.end(&nodes);
}
