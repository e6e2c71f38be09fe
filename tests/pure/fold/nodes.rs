//! What nodes say of themselves.

use highwater::connection::MOST_ADDRESS;
use highwater::fold::{Alive, Command};

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
