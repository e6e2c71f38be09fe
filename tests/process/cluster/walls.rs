//! Ways that are broken: between a node and the engine, and between the engine's servers.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use highwater::journal::SHUT_AFTER;

use super::history::{BY_HTTP, Load};
use super::{is_ready, nodes, on, slow_rounds};
use crate::support::{Nats, Options, Server, Wall, Way, Ways, until};

/// What looking may take on a machine that does much else.
const LATE: Duration = Duration::from_secs(5);

/// The first node's only way to the engine.
fn walled(nats: &Nats) -> (Wall, Vec<Server>) {
    let wall = Wall::before(nats.addresses()[0]);
    let toml = nats.toml_by(&[wall.address]);
    let mut nodes = nodes(3, nats);
    nodes[0].kill9();
    nodes[0].restart_with(Options { toml, ..on(nats) });
    (wall, nodes)
}

/// A node hears nothing of the engine any more: by silence, or since its connections are cut and
/// none comes up. It says so in time and tells nothing, the others go on, and when the way is free
/// again it has everything.
fn is_cut_off(cuts: bool) {
    let Some(nats) = Nats::start(1) else { return };
    let (wall, nodes) = walled(&nats);
    let load = Load::begin(&nodes);
    for _ in 0..slow_rounds() {
        let begun = Instant::now();
        wall.raise();
        if cuts {
            wall.cut();
        }
        until("it says that it is cut off", || !is_ready(&nodes[0]));
        let took = begun.elapsed();
        assert!(took < SHUT_AFTER + LATE, "it took {took:?}");
        let refused = nodes[0].http().get("/v1/logs/load/a?from=0");
        assert_eq!(refused.refusal(), (503, "not_ready".to_owned()));
        assert!(refused.json()["retry_after"].as_u64() > Some(0));
        load.goes_on_for(&[1, BY_HTTP]);
        assert!(is_ready(&nodes[1]) && is_ready(&nodes[2]), "the others serve");
        assert!(!is_ready(&nodes[0]), "nothing has come through");
        wall.lower();
        until("it goes on", || is_ready(&nodes[0]));
        load.goes_on();
    }
    load.end(&nodes);
}

#[test]
fn load_a_node_hears_nothing_of_its_engine() {
    is_cut_off(false);
}

#[test]
fn load_a_node_is_cut_from_its_engine() {
    is_cut_off(true);
}

/// Three servers, one of which the others reach by one way alone; it knows no other.
fn apart() -> Option<(Wall, Nats)> {
    let wall = Mutex::new(None);
    let nats = Nats::start_with(3, |routes| {
        let made = Wall::before(routes[0]);
        // A server of a cluster has to have a route, and what others tell it of one another leads
        // nowhere.
        let nowhere = "127.0.0.1:9".parse().unwrap();
        let alone = Way { to: vec![nowhere], told: Some(made.address) };
        let to = vec![made.address, routes[1], routes[2]];
        let other = Way { to, told: Some(nowhere) };
        *wall.lock().unwrap() = Some(made);
        Ways(vec![alone, other.clone(), other])
    })?;
    Some((wall.into_inner().unwrap().unwrap(), nats))
}

/// One nats-server is cut from the other two, be it the one that leads or not. Nodes that are
/// connected to it find the others; nothing is lost.
#[test]
fn load_a_server_of_the_engine_is_apart() {
    let Some((wall, nats)) = apart() else { return };
    let mut nodes = nodes(3, &nats);
    // One of them at least has to be connected to it.
    while nats.connections(0) == 0 {
        nodes[0].crash();
    }
    let load = Load::begin(&nodes);
    for _ in 0..slow_rounds() {
        wall.raise();
        until("another leads", || nats.leader_by(|at| at > 0) != 0);
        load.goes_on();
        until("all nodes serve", || nodes.iter().all(is_ready));
        wall.lower();
        load.goes_on();
    }
    load.end(&nodes);
}
