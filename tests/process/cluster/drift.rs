//! A node that folds otherwise than the others: another program, or a disk that lies.

use highwater::rows::{Rows as _, Table};

use super::engine::begin_behind;
use super::history::Load;
use super::{nodes, on, payloads};
use crate::support::{Nats, Server, id, run, until};

/// What each that stops says.
const SAID: &str = "two programs fold differently, or a disk lies";

/// Nodes, the last of which will fold an append otherwise once [`Drifting::differ`] makes it: it
/// has lost rows behind its back.
struct Drifting {
    nodes: Vec<Server>,
    writer: String,
}

impl Drifting {
    fn of(count: usize, nats: &Nats) -> Self {
        let mut this = Self { nodes: nodes(count, nats), writer: id().to_string() };
        this.append(1, "first");
        until("all have it", || this.nodes.iter().all(|node| payloads(node) == ["first"]));
        let last = &mut this.nodes[count - 1];
        assert!(last.terminate().success());
        last.edit(|store, writes| {
            for (key, _) in store.scan(Table::Writers, &[], &[], 100).unwrap() {
                writes.rows.insert((Table::Writers, key), None);
            }
        });
        last.restart();
        this
    }

    fn append(&self, seq: u64, text: &str) {
        let path = format!("/v1/logs/a?writer={}&seq={seq}", self.writer);
        self.nodes[0].http().post_lines(&path, [text.to_owned()]).ok();
    }

    /// From here on the last one has other rows.
    fn differ(&self) {
        self.append(2, "second");
    }
}

/// Whether a node counts as running, as another one shows it.
fn is_up(asked: &Server, node: &str) -> bool {
    let told = asked.http().get("/v1/journal").ok().json();
    let mut nodes = told["nodes"].as_array().unwrap().iter();
    nodes.any(|row| row["node"] == node && row["up"] == true)
}

/// Of three nodes the one that folds otherwise stops, and no other; so does each start of it. The
/// others serve on meanwhile, and all that was acknowledged is there; also where one of them is
/// restarted just then.
#[test]
fn load_of_three_nodes_the_one_that_folds_differently_stops_alone() {
    let Some(nats) = Nats::start(1) else { return };
    let mut all = Drifting::of(3, &nats);
    let wrong = all.nodes[2].http().get("/v1/journal").ok().json()["node"].clone();
    let wrong = wrong.as_str().unwrap().to_owned();
    let load = Load::begin(&all.nodes[..2]);
    all.differ();
    assert!(!all.nodes[2].wait_for_end().success());
    assert!(all.nodes[2].log().contains(SAID), "{}", all.nodes[2].log());
    load.goes_on();
    until("it counts as stopped", || !is_up(&all.nodes[0], &wrong));
    all.nodes[1].crash();
    load.moved(1, &all.nodes[1]);
    load.goes_on();

    let before = all.nodes[2].log().len();
    // It reads of it at its start, or once the others have said it again.
    if all.nodes[2].try_restart().is_ok() {
        assert!(!all.nodes[2].wait_for_end().success());
    }
    assert!(all.nodes[2].log()[before..].contains(SAID), "{}", all.nodes[2].log());
    load.goes_on();
    assert!(all.nodes[..2].iter_mut().all(Server::runs));
    load.end(&all.nodes[..2]);
    assert_eq!(payloads(&all.nodes[1]), ["first", "second"]);
}

/// Of two nobody says who is right: both stop, and a person does. The journal goes on from the
/// folder of the one that is.
#[test]
fn of_two_nodes_that_fold_differently_both_stop() {
    let Some(nats) = Nats::start(1) else { return };
    let mut all = Drifting::of(2, &nats);
    all.differ();
    for node in &mut all.nodes {
        assert!(!node.wait_for_end().success());
        assert!(node.log().contains(SAID), "{}", node.log());
    }
    let is_sound =
        |node: &Server| run("", &format!("check {}", node.data().display()), "").status.success();
    assert!(is_sound(&all.nodes[0]) && !is_sound(&all.nodes[1]));
    nats.delete_stream();
    begin_behind(&nats, &all.nodes[0]);
    all.nodes[0].restart_with(on(&nats));
    assert_eq!(payloads(&all.nodes[0]), ["first", "second"]);
}
