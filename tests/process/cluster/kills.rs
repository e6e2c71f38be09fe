//! Nodes and nats-servers that die, or are told to go, under load.

use super::history::Load;
use super::{nodes, rounds};
use crate::support::Nats;

/// One of three nodes goes by SIGKILL and comes again, each in turn. It goes while the engine has
/// what it published and has not said so: that is stored, its clients were not told, and send it
/// again elsewhere.
#[test]
fn load_a_node_is_killed_and_returns() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    for round in 0..rounds(3) {
        let at = round % 3;
        nats.signal(0, "STOP");
        load.piles_up();
        nodes[at].kill9();
        nats.signal(0, "CONT");
        load.goes_on();
        nodes[at].restart();
        load.moved(at, &nodes[at]);
        load.goes_on();
    }
    load.end(&nodes);
}

/// The nats-server that leads the stream goes by SIGKILL, and comes again.
#[test]
fn load_the_leader_of_the_engine_is_killed() {
    let Some(mut nats) = Nats::start(3) else { return };
    let nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    for _ in 0..rounds(3) {
        let leader = nats.leader();
        nats.kill(leader);
        load.goes_on();
        nats.again(leader);
        load.goes_on();
    }
    load.end(&nodes);
}

/// Nodes are restarted one after another, each once the one before serves again. While one of them
/// is away its clients are at the next one: no append waits until it is back.
#[test]
fn load_nodes_are_restarted_in_turn() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    for _ in 0..rounds(1) {
        for (at, node) in nodes.iter_mut().enumerate() {
            assert!(node.terminate().success());
            load.goes_on();
            node.restart();
            load.moved(at, node);
            load.goes_on();
        }
    }
    load.end(&nodes);
}
