//! What nodes say of themselves.

use highwater::connection::MOST_ADDRESS;
use highwater::fold::{Alive, Command};
use highwater::wire::Code;

use crate::fold::world::*;

fn says(world: &World) -> (u64, String) {
    let row = world.fold.nodes().find(|(id, _)| *id == world.node.0).unwrap().1;
    (row.checkpoint(), row.address().to_owned())
}

/// It is of a run: of the next one, on another machine perhaps, nothing is known until it speaks.
#[test]
fn what_a_node_says_of_itself_holds_for_its_run() {
    let mut world = World::new();
    world.node = (node(1), 1);
    let alive = |checkpoint, address: &str| {
        Command::Alive(Alive { checkpoint, address: address.to_owned() })
    };
    world.done(Command::Look);
    assert_eq!(says(&world), (0, String::new()));
    world.done(alive(7, "https://n1"));
    assert_eq!(says(&world), (7, "https://n1".to_owned()));
    world.done(alive(9, ""));
    assert_eq!(says(&world), (9, String::new()), "it does not say any more");
    world.done(alive(9, &"n".repeat(MOST_ADDRESS + 1)));
    assert_eq!(says(&world), (9, String::new()), "no address is that long");
    world.done(alive(10, &"n".repeat(MOST_ADDRESS)));
    assert_eq!(says(&world).1.len(), MOST_ADDRESS);
    (world.node, world.serial) = ((node(1), 2), 0);
    world.done(Command::Look);
    assert_eq!(says(&world), (0, String::new()), "another run");
}

/// A node that does not run may be forgotten: its row goes, and should it come again its runs go on
/// above all that were forgotten, so that nothing that names one of those is taken for it.
#[test]
fn a_node_that_is_gone_for_good_is_forgotten() {
    let mut world = World::new();
    world.node = (node(1), 3);
    world.done(Command::Look);
    (world.node, world.serial) = ((node(2), 1), 0);
    let forget = || Command::ForgetNode { node: node(1) };
    assert_eq!(world.refused(forget()), Code::Stale, "it runs");
    world.done(Command::NodeDown { node: node(1), incarnation: 3 });
    assert_eq!(world.fold.next_incarnation(node(1)), 4);
    world.done(forget());
    assert_eq!(world.refused(forget()), Code::NotFound);
    world.reopen();
    assert!(!world.fold.knows(node(1)) && world.fold.knows(node(2)));
    assert_eq!(world.fold.next_incarnation(node(1)), 4);
    // What it said late, in a run that is over, makes it no node again.
    let serial = world.serial;
    (world.node, world.serial) = ((node(1), 3), 1);
    let late = world.next_batch(vec![Command::Look]);
    assert!(world.apply(&late).early);
    assert!(!world.fold.knows(node(1)));
    (world.node, world.serial) = ((node(2), 1), serial);
    world.done(Command::Look);
}
