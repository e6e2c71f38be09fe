//! What a client has not opened is held: taken over, told, and not delivered until it is opened.

use highwater::connection::{Attach, Event, Opened, Progress, Reached};
use highwater::fold::{Command, Reply};
use highwater::wire::{Cloning, Code, Gap, GapReason, Met, Open, Pattern, Reason, Start};

use crate::fold::world::*;

/// A client that opens what it wants.
fn holder(number: u8, open: Vec<Open>) -> Attach {
    Attach { open, holds: true, ..client("ann", id(number)) }
}

fn is_held(one: &Opened, cursor: u64) {
    assert!(one.held && one.reset.is_none() && one.base.is_none() && one.gap.is_none(), "{one:?}");
    assert_eq!((one.cursor, one.complete, one.opening), (cursor, one.head, 0));
}

#[test]
fn a_clone_opens_what_it_names_and_holds_the_rest() {
    let mut world = World::new();
    let (big, small) = (world.grow("big", 9), world.grow("small", 2));
    world.attach(holder(1, vec![open("big", Start::State), open("small", Start::State)]));
    world.commit(1, big, 4);
    let met = world.attach(holder(2, vec![open("small", Start::State)]));
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(1))));
    // What it looks at comes first.
    assert_eq!(met.opened.iter().map(|one| one.log).collect::<Vec<_>>(), [small, big]);
    assert!(!met.opened[0].held && met.opened[0].reset.is_some());
    is_held(&met.opened[1], 4);
    assert_eq!((world.subs(2), world.cursor(2, big)), (vec![big, small], Some(4)));
    // A client that does not know of it is served as before.
    let met = world.attach(Attach { holds: false, ..holder(3, vec![]) });
    assert!(met.opened.iter().all(|one| !one.held && one.reset.is_some()));
}

#[test]
fn a_held_log_is_opened_by_subscribing_to_it() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    world.attach(holder(1, vec![open("a", Start::State)]));
    world.commit(1, log, 4);
    for (number, wants, cursor, reset) in [
        (2, open("a", Start::State), 0, true),
        (3, open("a", Start::Committed), 4, false),
        (4, open("a", Start::End), 9, false),
        (5, held("a", log, 7), 7, false),
    ] {
        is_held(&world.attach(holder(number, vec![])).opened[0], 4);
        let wants = Open { priority: 9, ..wants };
        let opened = world.subscribe(number, vec![wants.clone()]).remove(0);
        assert!(!opened.held && !opened.again && opened.opening > 0);
        assert_eq!((opened.cursor, opened.reset.is_some(), opened.priority), (cursor, reset, 9));
        assert_eq!(world.cursor(number, log), Some(cursor));
        // Another time it is there already.
        assert!(world.subscribe(number, vec![wants])[0].again);
        world.commit(number, log, 9);
        assert_eq!(world.cursor(number, log), Some(9));
        let generation = world.generation(number);
        world.done(Command::Leave { connection: id(number), generation, forget: true });
    }
}

#[test]
fn what_is_not_named_is_held_on_every_way_back() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 9), world.grow("b", 9));
    let names = || vec![open("a", Start::State), open("b", Start::State)];
    world.attach(holder(1, names()));
    world.commit(1, a, 5);
    world.commit(1, b, 6);
    world.detach(1);
    let met = world.attach(holder(1, vec![held("b", b, 7)]));
    assert_eq!(met.met, Met::Resumed);
    is_held(of(&met.opened, a), 5);
    assert_eq!((of(&met.opened, b).held, of(&met.opened, b).cursor), (false, 7));
    world.downgrade(1, Reason::Lag);
    world.detach(1);
    let met = world.attach(holder(1, vec![]));
    assert_eq!(met.met, Met::Restored);
    is_held(of(&met.opened, a), 5);
    is_held(of(&met.opened, b), 7);
    // And where the socket stays.
    world.downgrade(1, Reason::Lag);
    world.time += 2_000;
    let (generation, read) = (Some(world.generation(1)), vec![Pattern::all()]);
    let (open, make) = (vec![open("a", Start::Committed)], read.clone());
    let (connection, bases) = (id(1), vec![]);
    let ask = highwater::connection::Subscribe { connection, generation, open, read, make, bases };
    let activate = Command::Activate { ask, cloning: Cloning::All, holds: true };
    let Reply::Attached(met) = world.reply(activate) else { panic!("not activated") };
    assert_eq!((of(&met.opened, a).held, of(&met.opened, a).cursor), (false, 5));
    is_held(of(&met.opened, b), 7);
    // It comes back as one that does not know of it: nothing is held.
    world.detach(1);
    let met = world.attach(Attach { holds: false, ..holder(1, vec![]) });
    assert!(met.opened.iter().all(|one| !one.held && one.opening > 0));
}

/// Nothing of it was delivered: no word of a client counts, until it is opened.
#[test]
fn a_held_cursor_is_moved_by_the_back_end_alone() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    world.attach(holder(1, vec![open("a", Start::State)]));
    world.attach(holder(2, vec![]));
    let generation = world.generation(2);
    for opening in [0, 1] {
        let reached = vec![Reached { log, next: 8, opening }];
        let progress = Progress { connection: id(2), generation, reached };
        world.done(Command::Commit(vec![progress]));
        assert_eq!(world.cursor(2, log), Some(0));
    }
    let seek = |generation| Command::Seek { connection: id(2), generation, log, to: Start::End };
    assert_eq!(world.refused(seek(Some(generation))), Code::BadRequest);
    let (reply, events) = world.run(seek(None));
    let Reply::Moved(_, opened) = reply else { panic!("{reply:?}") };
    is_held(&opened, 9);
    assert!(matches!(&events[..], [Event::Opened { opened, .. }] if opened[0].held));
    assert_eq!(world.cursor(2, log), Some(9));
    // Subscribed by the back end, it is delivered.
    let open = vec![open("a", Start::Offset(3))];
    world.reply(Command::SubscribeUser { user: "ann".to_owned(), open });
    assert!(!world.connection(2).unwrap().sub(log).unwrap().held());
    assert_eq!(world.cursor(2, log), Some(3));
}

/// It holds its floor as any does, and of what was trimmed before it came it is told when it opens.
#[test]
fn promise_07_a_held_log_keeps_its_floor_and_its_gap() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    world.attach(holder(1, vec![open("a", Start::State)]));
    world.commit(1, log, 4);
    world.attach(holder(2, vec![]));
    world.commit(1, log, 9);
    world.trim(log, 4);
    assert!(world.active(2));
    world.trim(log, 6);
    assert!(world.active(1) && !world.active(2), "a trim has to pass it");
    assert_eq!(world.connection(2).unwrap().inactive, Some(Reason::Retention));
    world.downgrade(1, Reason::Asked);
    world.detach(2);
    let met = world.attach(holder(2, vec![]));
    assert_eq!(met.met, Met::Restored);
    is_held(&met.opened[0], 6);
    let opened = world.subscribe(2, vec![open("a", Start::Committed)]).remove(0);
    let gap = Gap { log, from: 4, to: 6, reason: GapReason::Trimmed };
    assert_eq!((opened.cursor, opened.gap), (6, Some(gap)));
}

/// Grants, deletions and clones end one that is held as any other.
#[test]
fn promise_11_a_held_log_ends_as_any_does() {
    let mut world = World::new();
    let (a, b) = (world.grow("open/a", 1), world.grow("secret/b", 1));
    let names = vec![open("open/a", Start::State), open("secret/b", Start::State)];
    world.attach(holder(1, names.clone()));
    let narrow = vec![Pattern::parse("open/**").unwrap()];
    let met = world.attach(Attach { read: narrow.clone(), ..holder(2, vec![]) });
    assert_eq!((met.opened.len(), world.subs(2)), (1, vec![a]));
    world.attach(holder(3, vec![]));
    let met = world.attach(Attach { read: narrow.clone(), ..holder(3, vec![]) });
    assert_eq!((met.met, met.ended), (Met::Resumed, vec![b]));
    world.attach(holder(4, vec![]));
    let (opened, refused) = world.subscribe_as(4, names, narrow);
    assert_eq!((opened.len(), refused), (1, vec![("secret/b".to_owned(), Code::Denied)]));
    let ask = Command::Unsubscribe { connection: id(4), generation: None, logs: vec![b] };
    assert_eq!(world.reply(ask), Reply::Unsubscribed(vec![b]));
    world.done(Command::DeleteLog { log: a });
    world.detach(2);
    let met = world.attach(holder(2, vec![]));
    assert_eq!((met.opened.len(), met.ended), (0, vec![a]));
}

/// Promise 8 with several siblings: what each of them has, and of each log the greatest cursor that
/// one of them has committed.
#[test]
fn promise_08_a_clone_takes_the_union_of_its_siblings() {
    let mut world = World::new();
    let [a, b, c] = ["a", "b", "c"].map(|name| world.grow(name, 9));
    world.attach(holder(1, vec![open("a", Start::State), open("b", Start::State)]));
    let own = Attach { cloning: Cloning::None, ..holder(2, vec![]) };
    let opens = vec![open("b", Start::State), open("c", Start::State)];
    world.attach(Attach { open: opens, ..own });
    world.commit(1, b, 7);
    world.commit(2, b, 5);
    world.commit(2, c, 3);
    // The source is the one that moved last; it is behind the other in one log.
    let met = world.attach(holder(3, vec![]));
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(2))));
    for (log, cursor) in [(a, 0), (b, 7), (c, 3)] {
        is_held(of(&met.opened, log), cursor);
    }
    // A position counts as well for one that takes positions alone, and for one that opens it.
    let ask = holder(4, vec![open("b", Start::Committed)]);
    let met = world.attach(Attach { cloning: Cloning::Own, ..ask });
    assert_eq!((met.opened.len(), of(&met.opened, b).cursor), (1, 7));
    // One that does not know of held logs gets them all.
    let met = world.attach(Attach { holds: false, ..holder(5, vec![]) });
    assert_eq!(met.opened.iter().map(|one| one.log).collect::<Vec<_>>(), [a, b, c]);
}

#[test]
fn a_union_is_bounded_and_leaves_room_for_what_is_asked_for() {
    let mut world = World::new();
    let opens = |from: u8, to: u8| {
        (from..to).map(|n| open(&format!("log/{n}"), Start::State)).collect::<Vec<_>>()
    };
    let own = |number, open| Attach { cloning: Cloning::None, ..holder(number, open) };
    world.attach(own(1, opens(0, 5)));
    world.attach(own(2, opens(5, 10)));
    // Of eight there may be: the five of the source, one of the sibling's, and two that it opens.
    let met = world.attach(holder(3, vec![open("x", Start::State), open("y", Start::State)]));
    assert_eq!((met.source, met.refused.len(), met.opened.len()), (Some(id(1)), 0, 8));
    let held: Vec<_> = met.opened.iter().filter(|one| one.held).map(|one| &one.name[..]).collect();
    assert_eq!(held, ["log/0", "log/1", "log/2", "log/3", "log/4", "log/5"]);
    assert_eq!(world.attach(holder(4, vec![])).opened.len(), 8);
}
