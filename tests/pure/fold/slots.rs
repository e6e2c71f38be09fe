//! Slots: who gets one, whose is taken, and that their number is always right. That it is, is
//! checked after every batch of every test (`model::check`).

use highwater::connection::{Attach, Attached, Event};
use highwater::fold::{Command, Reply, Settings};
use highwater::wire::{Cloning, Code, Id, Met, Reason, Start};

use crate::fold::world::*;

fn hidden(number: u8) -> Attach {
    Attach { visible: false, ..client("ann", id(number)) }
}

fn on(device: u8, number: u8) -> Attach {
    Attach { device: Some(id(device)), ..client("ann", id(number)) }
}

/// Attaches, and tells who lost a slot to it and why.
fn comes(world: &mut World, ask: Attach) -> (Attached, Vec<(u8, Reason)>) {
    let (attached, events) = world.try_attach(ask);
    let lost = events.iter().filter_map(|event| match event {
        Event::Downgraded { connection, reason, .. } => Some((connection.0[0], *reason)),
        _ => None,
    });
    (attached.unwrap(), lost.collect())
}

fn refused(reply: Reply) -> (Code, u32) {
    match reply {
        Reply::Refused(refusal) => (refusal.code, refusal.retry_after),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn six_visible_tabs_on_five_slots_come_to_rest() {
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3, 4, 5]);
    let (attached, lost) = comes(&mut world, client("ann", id(6)));
    assert_eq!(
        (attached.met, attached.inactive, lost),
        (Met::Waiting, Some(Reason::NoSlot), vec![])
    );
    assert_eq!((attached.opened.len(), attached.source), (0, None));
    // It asks for as long as it likes; nobody loses a slot to it.
    for _ in 0..5 {
        world.time += 2_000;
        let (reply, events) = world.activate(6);
        assert_eq!((refused(reply), events), ((Code::Slots, 2_000), vec![]));
    }
    // A tab is hidden: the sixth gets its slot. Shown again, that one waits, and all is quiet.
    world.see(3, false);
    let (reply, events) = world.activate(6);
    assert!(matches!(reply, Reply::Attached(attached) if attached.met == Met::Cloned));
    assert!(matches!(events[..], [Event::Downgraded { reason: Reason::Slots, .. }]));
    world.see(3, true);
    world.time += 2_000;
    let (reply, events) = world.activate(3);
    assert_eq!((refused(reply), events), ((Code::Slots, 2_000), vec![]));
}

#[test]
fn two_hidden_tabs_never_chase_each_other() {
    let mut world = World::new();
    for number in 1..=5 {
        comes(&mut world, hidden(number));
    }
    let (attached, lost) = comes(&mut world, hidden(6));
    assert_eq!((attached.met, lost), (Met::Waiting, vec![]));
    // One that someone looks at does take a hidden one's slot; not the other way round.
    let (attached, lost) = comes(&mut world, client("ann", id(7)));
    assert_eq!((attached.met, lost), (Met::Cloned, vec![(1, Reason::Slots)]));
    world.time += 2_000;
    assert_eq!(refused(world.activate(1).0).0, Code::Slots);
}

#[test]
fn detached_before_hidden_and_longest_first() {
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3, 4]);
    comes(&mut world, hidden(5));
    for number in [3, 2] {
        world.time += 1_000;
        world.detach(number);
    }
    let lost = |world: &mut World, number| comes(world, client("ann", id(number))).1;
    assert_eq!(lost(&mut world, 6), [(3, Reason::Slots)]);
    assert_eq!(lost(&mut world, 7), [(2, Reason::Slots)]);
    assert_eq!(lost(&mut world, 8), [(5, Reason::Slots)]);
    assert_eq!(lost(&mut world, 9), []);
}

#[test]
fn the_one_with_most_lag_goes_first() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    for number in 1..=5 {
        comes(&mut world, Attach { open: vec![open("a", Start::Offset(0))], ..hidden(number) });
        world.commit(number, log, if number == 4 { 2 } else { 8 });
        world.time += 1;
    }
    assert_eq!(comes(&mut world, client("ann", id(6))).1, [(4, Reason::Slots)]);
    assert_eq!(comes(&mut world, client("ann", id(7))).1, [(1, Reason::Slots)]);
}

#[test]
fn slots_are_counted_per_device() {
    let mut world = World::new();
    comes(&mut world, on(0xD1, 1));
    comes(&mut world, on(0xD1, 2));
    comes(&mut world, Attach { visible: false, ..on(0xD2, 3) });
    // A third tab of the device waits, though the user has slots left and a hidden phone.
    let (attached, lost) = comes(&mut world, on(0xD1, 4));
    assert_eq!((attached.met, lost), (Met::Waiting, vec![]));
    // It takes one of its own device, never the phone's.
    world.see(2, false);
    world.time += 2_000;
    let (_, events) = world.activate(4);
    assert!(matches!(events[..], [Event::Downgraded { connection, .. }] if connection == id(2)));
    assert!(world.active(3));
}

#[test]
fn the_device_with_most_slots_gives_first() {
    let mut world = World::new();
    for (device, number) in [(0xD1, 1), (0xD2, 2), (0xD2, 3), (0xD3, 4), (0xD4, 5)] {
        comes(&mut world, Attach { visible: false, ..on(device, number) });
        world.time += 1;
    }
    assert_eq!(comes(&mut world, on(0xD5, 6)).1, [(2, Reason::Slots)]);
}

#[test]
fn resuming_needs_no_slot() {
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3, 4, 5]);
    world.detach(1);
    let (attached, lost) = comes(&mut world, client("ann", id(1)));
    assert_eq!((attached.met, lost), (Met::Resumed, vec![]));
    // A device that it tells now does not change whose slot it holds.
    comes(&mut world, on(0xD1, 1));
    assert_eq!(world.connection(1).unwrap().device, None);
}

#[test]
fn one_that_waits_counts_for_the_device_it_came_with() {
    let mut world = World::new();
    world.attach_all("ann", &[1]);
    world.downgrade(1, Reason::Lag);
    world.attach_all("ann", &[2, 3, 4, 5, 6]);
    let (attached, _) = comes(&mut world, on(0xD1, 1));
    assert_eq!(attached.met, Met::Waiting);
    assert_eq!(world.connection(1).unwrap().inactive, Some(Reason::NoSlot));
    world.downgrade(2, Reason::Asked);
    world.time += 2_000;
    world.activate(1);
    assert_eq!(world.user("ann").unwrap().on_device(Some(id(0xD1))), 1);
}

#[test]
fn with_one_slot_the_newcomer_is_cloned_from_the_one_that_gives_it() {
    let mut one = settings();
    one.budgets.active_per_user = 1;
    let mut world = World::with(one);
    let log = world.grow("a", 5);
    comes(&mut world, Attach { open: vec![open("a", Start::State)], ..client("ann", id(1)) });
    assert_eq!(comes(&mut world, client("ann", id(2))).0.met, Met::Waiting);
    world.detach(1);
    let (attached, lost) = comes(&mut world, client("ann", id(2)));
    assert_eq!((attached.met, attached.source), (Met::Cloned, Some(id(1))));
    assert_eq!((lost, world.subs(2)), (vec![(1, Reason::Slots)], vec![log]));
}

#[test]
fn the_nodes_budget_is_shared_and_taken_from_the_users_own_only() {
    let mut few = settings();
    few.budgets.active_total = 3;
    let mut world = World::with(few);
    for (user, number) in [("ann", 1), ("ann", 2), ("bob", 3)] {
        world.attach(client(user, id(number)));
    }
    world.detach(3);
    let (attached, lost) = comes(&mut world, client("cat", id(4)));
    assert_eq!((attached.met, lost), (Met::Waiting, vec![]));
    world.detach(1);
    let (attached, lost) = comes(&mut world, client("ann", id(5)));
    assert_eq!((attached.met, lost), (Met::Cloned, vec![(1, Reason::NodeSlots)]));
    // The keeper of the node makes room for others. It saw this one hidden, and now somebody looks
    // at it, which moves no generation.
    let propose = |connection, generation| Command::Downgrade {
        connection,
        generation: Some(generation),
        reason: Reason::NodeSlots,
    };
    world.stale(propose(id(2), world.generation(2)));
    world.done(propose(id(3), world.generation(3)));
    world.time += 2_000;
    assert!(matches!(world.activate(4).0, Reply::Attached(_)));
    assert_eq!(world.fold.active(), 3);
}

#[test]
fn a_lowered_budget_is_kept_by_the_next_newcomer_or_it_waits() {
    let lower = |world: &mut World, user: u32, total: u64| {
        let Settings { mut budgets, rules, auto_create } = settings();
        (budgets.active_per_user, budgets.active_total) = (user, total);
        world.done(Command::Configure(Settings { rules, budgets, auto_create }));
    };
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3, 4, 5]);
    lower(&mut world, 2, 20);
    // Only three may go: one too few, so nobody does.
    for number in [1, 2, 3] {
        world.detach(number);
    }
    world.attach_all("ann", &[1]);
    let (attached, lost) = comes(&mut world, client("ann", id(6)));
    assert_eq!((attached.met, lost.len(), world.fold.active()), (Met::Waiting, 0, 5));
    world.detach(1);
    world.detach(4);
    world.time += 2_000;
    let (reply, events) = world.activate(6);
    assert!(matches!(reply, Reply::Attached(_)));
    assert_eq!((events.len(), world.fold.active()), (4, 2));
    // Over the total, a user's slots are passed on one for one.
    lower(&mut world, 5, 1);
    world.detach(5);
    let (attached, lost) = comes(&mut world, client("ann", id(7)));
    assert_eq!((attached.met, lost.len(), world.fold.active()), (Met::Cloned, 1, 2));
}

#[test]
fn a_budget_of_none_lets_everybody_wait() {
    let mut none = settings();
    none.budgets.active_per_user = 0;
    let mut world = World::with(none);
    assert_eq!(comes(&mut world, client("ann", id(1))).0.met, Met::Waiting);
    world.time += 2_000;
    assert_eq!(refused(world.activate(1).0).0, Code::Slots);
}

#[test]
fn activating_waits_for_the_time_told_and_needs_a_socket() {
    let mut world = World::new();
    world.attach_all("ann", &[1]);
    world.downgrade(1, Reason::Lag);
    world.time += 500;
    assert_eq!(refused(world.activate(1).0), (Code::Slots, 1_500));
    world.time += 1_499;
    let Reply::Refused(early) = world.activate(1).0 else { panic!("it was too early") };
    assert_eq!((early.code, early.retry_after), (Code::Slots, 1));
    assert!(early.message.starts_with("too early"), "{early}");
    world.time += 1;
    let (reply, _) = world.activate(1);
    let Reply::Attached(attached) = reply else { panic!("{reply:?}") };
    assert_eq!((attached.met, attached.generation, attached.inactive), (Met::Restored, 3, None));
    assert_eq!(refused(world.activate(1).0).0, Code::BadRequest);
    world.downgrade(1, Reason::Lag);
    world.detach(1);
    world.time += 2_000;
    assert_eq!(refused(world.activate(1).0).0, Code::Stale);
    // Nor may the back end, which has no socket either.
    let (connection, generation) = (id(1), None);
    let ask = highwater::connection::Subscribe {
        connection,
        generation,
        open: vec![],
        read: vec![],
        make: vec![],
        bases: vec![],
    };
    world.stale(Command::Activate { ask, cloning: Cloning::All, holds: false });
}

#[test]
fn activating_overwrites_what_is_read() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 5), world.grow("b", 5));
    world.attach(Attach { open: vec![open("a", Start::State)], ..client("ann", id(1)) });
    world.attach(Attach { open: vec![open("b", Start::State)], ..client("ann", id(2)) });
    world.downgrade(1, Reason::Lag);
    let logs = vec![a];
    world.reply(Command::Unsubscribe { connection: id(2), generation: None, logs });
    world.time += 2_000;
    let (reply, _) = world.activate_with(1, Cloning::All, vec![held("b", b, 3)]);
    let Reply::Attached(attached) = reply else { panic!("{reply:?}") };
    assert_eq!((attached.met, attached.source), (Met::Cloned, Some(id(2))));
    keeps_promise_8(&attached.opened);
    assert_eq!((of(&attached.opened, b).cursor, attached.ended), (3, vec![a]));
    assert_eq!(world.subs(1), [b]);
}

#[test]
fn an_operators_downgrade_needs_no_generation_and_is_done_once() {
    let mut world = World::new();
    world.attach_all("ann", &[1]);
    let ask = Command::Downgrade { connection: id(1), generation: None, reason: Reason::Asked };
    world.done(ask.clone());
    assert_eq!(world.refused(ask), Code::Inactive);
    let row = world.connection(1).unwrap();
    assert_eq!((row.inactive, row.generation), (Some(Reason::Asked), 2));
    assert!(row.attached.is_some());
    let _: Id = id(1);
}

/// A user at the budget of connections is not locked out: the one unused for longest makes room.
#[test]
fn the_longest_unused_connection_makes_room_for_a_newcomer() {
    let mut world = World::new();
    few_connections(&mut world, 2, 5);
    world.attach_all("ann", &[1, 2]);
    let third = Command::Attach(client("ann", id(3)));
    assert_eq!(world.refused(third.clone()), Code::Connections, "both are in use");
    world.downgrade(1, Reason::Asked);
    assert_eq!(world.refused(third.clone()), Code::Connections, "its socket is still there");
    world.detach(1);
    let (_, events) = world.run(third);
    assert!(events.contains(&Event::Forgotten { connection: id(1) }));
}

fn few_connections(world: &mut World, connections: u32, active: u32) {
    let mut low = settings();
    low.budgets.connections_per_user = connections;
    low.budgets.active_per_user = active;
    world.done(Command::Configure(low));
}

/// Two closed tabs whose ids are lost: both are active and without a socket, and there is no third
/// row to be had. The one that is away for longest goes, an inactive one before it.
#[test]
fn connections_that_never_come_back_do_not_lock_their_user_out() {
    let mut world = World::new();
    few_connections(&mut world, 2, 2);
    let log = world.grow("a", 5);
    world.attach(Attach { open: vec![open("a", Start::State)], ..client("ann", id(1)) });
    world.attach_all("ann", &[2]);
    world.commit(1, log, 4);
    for number in [2, 1] {
        world.time += 1;
        world.detach(number);
    }
    let (met, events) = world.try_attach(client("ann", id(3)));
    let met = met.unwrap();
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(1))));
    assert!(events.contains(&Event::Forgotten { connection: id(2) }));
    assert!(world.connection(2).is_none() && world.active(1) && world.active(3));
    // One has a socket, so it is the other that goes, though it is the one with most to give.
    let (met, events) = world.try_attach(client("ann", id(4)));
    assert!(events.contains(&Event::Forgotten { connection: id(1) }));
    assert_eq!(met.unwrap().source, Some(id(3)));
    assert_eq!(world.refused(Command::Attach(client("ann", id(5)))), Code::Connections);
    // An inactive one goes before an active one that is away for longer.
    world.detach(3);
    world.time += 9;
    world.downgrade(4, Reason::Asked);
    world.detach(4);
    let (_, events) = world.try_attach(client("ann", id(5)));
    assert_eq!(events, [Event::Forgotten { connection: id(4) }]);
}

/// The last one that is active goes as well, and what it had lives on in the newcomer.
#[test]
fn the_last_active_connection_is_cloned_before_it_makes_room() {
    let mut world = World::new();
    few_connections(&mut world, 1, 1);
    let log = world.grow("a", 5);
    world.attach(Attach { open: vec![open("a", Start::State)], ..client("ann", id(1)) });
    world.commit(1, log, 4);
    world.detach(1);
    let (met, events) = world.try_attach(Attach { holds: true, ..client("ann", id(2)) });
    let met = met.unwrap();
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(1))));
    assert!(events.contains(&Event::Forgotten { connection: id(1) }));
    assert_eq!((world.cursor(2, log), world.user("ann").unwrap().connections), (Some(4), 1));
}
