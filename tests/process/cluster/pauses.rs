//! A minority of the engine's servers that hangs, under load.

use super::history::Load;
use super::{is_ready, nodes, slow_rounds};
use crate::support::{Nats, until};

/// One of three servers hangs, and goes on when the others have gone on without it.
fn hangs(which: impl Fn(&Nats, usize) -> usize) {
    let Some(nats) = Nats::start(3) else { return };
    let nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    for _ in 0..slow_rounds() {
        let at = which(&nats, nats.leader());
        nats.signal(at, "STOP");
        load.goes_on();
        until("all nodes serve", || nodes.iter().all(is_ready));
        nats.signal(at, "CONT");
        load.goes_on();
    }
    load.end(&nodes);
}

#[test]
fn load_the_leader_of_the_engine_hangs() {
    hangs(|_, leader| leader);
}

#[test]
fn load_a_follower_of_the_engine_hangs() {
    // That to which more nodes are connected.
    hangs(|nats, leader| {
        let followers = (0..3).filter(|at| *at != leader);
        followers.max_by_key(|at| nats.connections(*at)).unwrap()
    });
}
