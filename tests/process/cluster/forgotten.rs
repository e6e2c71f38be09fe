//! Nodes that are gone for good, and one that was only taken for it.

use serde_json::Value;

use super::{append, on, payloads, root};
use crate::support::{Nats, Server, errors, run, until};

/// The row of a node, as another one lists it.
fn row(by: &Server, node: &str) -> Option<Value> {
    let told = by.http().get("/v1/journal").ok().json();
    told["nodes"].as_array().unwrap().iter().find(|row| row["node"] == node).cloned()
}

/// `highwater journal forget-node`: what it says where it is refused.
fn forget(by: &Server, node: &str) -> Result<(), String> {
    let server = format!("--server {} --token {}", by.url(), root());
    let done = run("", &format!("journal forget-node {node} {server}"), "");
    if done.status.success() { Ok(()) } else { Err(errors(&done)) }
}

/// A node that runs is not forgotten; one that was found silent is, and is listed no more. Where it
/// was only asleep it stops with a sentence when it reads of that, and started again it takes part
/// as before, in a run above all former ones.
#[test]
fn a_node_that_is_gone_is_forgotten_and_one_that_comes_again_takes_part() {
    let Some(nats) = Nats::start(1) else { return };
    let (one, mut two) = (Server::start(on(&nats)), Server::start(on(&nats)));
    let node = two.http().get("/v1/journal").ok().json()["node"].as_str().unwrap().to_owned();
    assert!(forget(&one, &node).unwrap_err().contains("the node runs"));
    let run = row(&one, &node).unwrap()["run"].as_u64().unwrap();
    two.signal("STOP");
    until("it is found silent", || row(&one, &node).unwrap()["up"] == false);
    forget(&one, &node).unwrap();
    assert_eq!(row(&one, &node), None);
    assert!(forget(&one, &node).unwrap_err().contains("no such node"));
    two.signal("CONT");
    assert!(!two.wait_for_end().success());
    assert!(two.log().contains("this node was forgotten"), "{}", two.log());
    assert_eq!(row(&one, &node), None, "it said nothing more");

    two.restart();
    until("the other has read that it is back", || row(&one, &node).is_some());
    let again = row(&one, &node).unwrap();
    assert_eq!((&again["up"], again["run"].as_u64()), (&true.into(), Some(run + 1)));
    let all = append(&two, (0..5).map(|n| format!("two {n}")));
    until("what it took is on the other", || payloads(&one) == all);
}
