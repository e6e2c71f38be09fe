//! A node that folds otherwise than the others: another program, or a disk that lies.

use highwater::rows::{Rows as _, Table};

use super::engine::begin_behind;
use super::{nodes, on, payloads};
use crate::support::{Nats, Server, id, run, until};

/// Three nodes, the last of which folds one append otherwise: it has lost rows behind its back.
fn drifting(nats: &Nats) -> Vec<Server> {
    let mut nodes = nodes(3, nats);
    let writer = id();
    let path = |seq: u64| format!("/v1/logs/a?writer={writer}&seq={seq}");
    nodes[0].http().post_lines(&path(1), ["first".to_owned()]).ok();
    until("all have it", || nodes.iter().all(|node| payloads(node) == ["first"]));
    assert!(nodes[2].terminate().success());
    nodes[2].edit(|store, writes| {
        for (key, _) in store.scan(Table::Writers, &[], &[], 100).unwrap() {
            writes.rows.insert((Table::Writers, key), None);
        }
    });
    nodes[2].restart();
    nodes[0].http().post_lines(&path(2), ["second".to_owned()]).ok();
    nodes
}

/// Nodes whose rows differ do not go on beside each other: by the running hash of rows that each
/// batch carries, all stop that differ from the first who says it. Nothing says who is right, so
/// a person does: the journal goes on from that node's folder.
#[test]
fn nodes_that_fold_differently_do_not_go_on_together() {
    let Some(nats) = Nats::start(1) else { return };
    let mut nodes = drifting(&nats);
    // The two that are right go together, or the one that is not; it may be all.
    until("those that differ have stopped", || {
        let [one, two, three] = [0, 1, 2].map(|at: usize| nodes[at].runs());
        (!one && !two) || !three
    });
    for node in &mut nodes {
        if !node.runs() {
            assert!(node.log().contains("two programs fold differently"), "{}", node.log());
            continue;
        }
        node.kill9();
    }
    let is_sound =
        |node: &Server| run("", &format!("check {}", node.data().display()), "").status.success();
    assert!(is_sound(&nodes[0]) && is_sound(&nodes[1]) && !is_sound(&nodes[2]));
    nats.delete_stream();
    begin_behind(&nats, &nodes[0]);
    nodes[0].restart_with(on(&nats));
    assert_eq!(payloads(&nodes[0]), ["first", "second"]);
}
