//! What a machine does to its node: a disk that is full, a clock that is wrong.

use super::history::{BY_HTTP, Load};
use super::{append, is_ready, nodes, on, payloads};
use crate::support::{Nats, Options, Server, built, now_ms, until};

/// The disk of one node has less room than it is to leave: it takes no more appends and goes on
/// reading, for what others append has to be folded; the others go on.
#[test]
fn load_a_node_whose_disk_is_nearly_full_takes_no_appends() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = nodes(3, &nats);
    let load = Load::begin(&nodes);
    nodes[0].kill9();
    nodes[0].restart_with(on(&nats).limit("disk_reserve_bytes", 1 << 50));
    load.moved(0, &nodes[0]);
    let refused = || nodes[0].http().post("/v1/logs/probe", "no room");
    until("it knows", || refused().status != 200);
    assert_eq!(refused().refusal(), (507, "storage_full".to_owned()));
    assert!(refused().json()["retry_after"].as_u64() > Some(0));
    load.goes_on_for(&[1, BY_HTTP]);
    let others = append(&nodes[1], ["of another".to_owned()]);
    until("it reads on", || payloads(&nodes[0]) == others);
    nodes[0].kill9();
    nodes[0].restart_with(on(&nats));
    load.moved(0, &nodes[0]);
    load.goes_on();
    load.end(&nodes);
}

/// Text that no compression makes much smaller.
fn noise() -> String {
    (0..100_000).map(|_| char::from(rand::random_range(b' '..=b'~'))).collect()
}

/// The disk of one node takes nothing any more: it stops and says why. The others go on, and it
/// comes back with everything once there is room.
#[test]
fn load_a_node_whose_disk_is_full_stops() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = nodes(3, &nats);
    nodes[0].kill9();
    // The store set room for its log aside when the folder was made; some of it may be used.
    nodes[0].restart_with(Options { file_blocks: Some(16 << 10), ..on(&nats) });
    let load = Load::begin(&nodes);
    let mut appended = 0;
    while nodes[0].runs() {
        assert!(appended < 1_000, "{appended} appends went into eight mebibytes");
        nodes[1].http().post("/v1/logs/noise", &noise()).ok();
        appended += 1;
    }
    assert_eq!(nodes[0].wait_for_end().code(), Some(1));
    let log = nodes[0].log();
    assert!(log.contains("the node stops: storage failed"), "{log}");
    load.goes_on();
    nodes[0].restart_with(on(&nats));
    load.moved(0, &nodes[0]);
    load.goes_on();
    load.end(&nodes);
}

/// What the clock of a node is off by, seconds.
const OFF: i64 = 10;

/// A node whose clock shows another time than the others'.
fn off_by(nats: &Nats, seconds: i64) -> Server {
    let env = vec![
        ("LD_PRELOAD", built("tests/process/cluster/off.c", "clock-off")),
        ("CLOCK_OFF", seconds.to_string().into()),
    ];
    Server::start(Options { env, ..on(nats) })
}

/// The clocks of three nodes are ten seconds apart from one another. All have the same records, at
/// the same times, which go by the clock that is ahead and never back; nobody is taken for silent
/// and nobody is cut off, for that goes by other clocks.
#[test]
fn load_clocks_are_apart() {
    let Some(nats) = Nats::start(1) else { return };
    let ahead = || now_ms() + OFF as u64 * 1_000;
    let begun = ahead();
    let nodes = [-OFF, 0, OFF].map(|seconds| off_by(&nats, seconds));
    let load = Load::begin(&nodes);
    let answer = nodes[1].http().get("/v1/logs/load/a?from=0").ok();
    let last = answer.lines().last().unwrap()["time"].as_u64().unwrap();
    assert!((begun..=ahead()).contains(&last), "{begun}, {last}, {}", ahead());
    for _ in 0..3 {
        load.goes_on();
        assert!(nodes.iter().all(is_ready));
    }
    for node in &nodes {
        let told = node.http().get("/v1/journal").ok().json();
        let up = told["nodes"].as_array().unwrap().iter().filter(|node| node["up"] == true);
        assert_eq!(up.count(), 3, "{told}");
        assert!(!node.log().contains("is silent"), "{}", node.log());
    }
    load.end(&nodes);
}
