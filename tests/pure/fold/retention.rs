//! Floors and trims.

use highwater::connection::{Attach, Event};
use highwater::fold::{Command, Reply};
use highwater::log::Trimmed;
use highwater::rows::{Key, Table, Writes};
use highwater::wire::{Cloning, Code, GapReason, Reason, Start};

use crate::fold::world::*;

fn reader(world: &mut World, number: u8, start: Start) {
    let ask = Attach { open: vec![open("a", start)], ..client("ann", id(number)) };
    world.attach(ask);
}

fn trimmed(log: u64, from: u64, to: u64) -> Trimmed {
    Trimmed { log, from, to, reason: GapReason::Trimmed }
}

#[test]
fn a_trim_moves_the_start_and_nothing_else() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    assert_eq!(world.trim(log, 4).0, Reply::Trimmed(Some(trimmed(log, 0, 4))));
    let row = world.log(log);
    assert_eq!((row.start, row.head), (4, 9));
    assert_eq!(row.start_bytes, world.records(log)[4].before);
    // Once more, and below: nothing to do. To the head: all goes. Past it: refused.
    assert_eq!(world.trim(log, 4).0, Reply::Trimmed(None));
    assert_eq!(world.trim(log, 1).0, Reply::Trimmed(None));
    assert_eq!(world.refused(Command::Trim { log, to: 10 }), Code::BadOffset);
    assert_eq!(world.trim(log, 9).0, Reply::Trimmed(Some(trimmed(log, 4, 9))));
    assert_eq!(world.log(log).start_bytes, world.log(log).bytes);
    assert_eq!(world.refused(Command::Trim { log: 99, to: 0 }), Code::UnknownLog);
    // Offsets go on where they were.
    assert_eq!(offset(&world.write_one(1, item(1, "a", "x"))), 9);
}

#[test]
fn records_of_the_same_batch_may_be_trimmed_in_it() {
    let mut world = World::new();
    let all = (1..=3).map(|seq| item(seq, "a", "four")).collect();
    world.batch(vec![Command::Append(appends("ann", id(1), all)), Command::Trim { log: 1, to: 2 }]);
    assert_eq!((world.log(1).start, world.log(1).start_bytes), (2, 8));
}

#[test]
fn the_start_never_passes_the_newest_snapshot() {
    let mut world = World::new();
    let client = world.grow("client/a", 9);
    assert_eq!(world.refused(Command::Trim { log: client, to: 1 }), Code::TrimRule);
    world.snapshot(client, 5);
    assert_eq!(world.refused(Command::Trim { log: client, to: 6 }), Code::TrimRule);
    assert_eq!(world.trim(client, 5).0, Reply::Trimmed(Some(trimmed(client, 0, 5))));
    // The server's own is always at the head.
    let latest = world.grow("latest/a", 9);
    assert_eq!(world.trim(latest, 9).0, Reply::Trimmed(Some(trimmed(latest, 0, 9))));
    assert_eq!(world.count(highwater::rows::Table::Latest), 3);
}

#[test]
fn who_stands_below_is_downgraded_in_the_same_batch_before_the_trim() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    for (number, cursor) in [(1, 3), (2, 4), (3, 9)] {
        reader(&mut world, number, Start::Offset(cursor));
    }
    world.detach(1);
    let (_, events) = world.trim(log, 4);
    let lost = Event::Downgraded {
        connection: id(1),
        user: "ann".to_owned(),
        reason: Reason::Retention,
        generation: 2,
        joined: 1,
    };
    assert_eq!(events, [lost, Event::Trimmed(trimmed(log, 0, 4))]);
    assert_eq!((world.active(1), world.active(2), world.active(3)), (false, true, true));
    assert_eq!(world.log(log).floor, 4);
    // An attached one too: it is told, and keeps its socket.
    let (_, events) = world.trim(log, 5);
    let [Event::Downgraded { connection, .. }, Event::Trimmed(_)] = events[..] else {
        panic!("a downgrade, then the trim, and not {events:?}");
    };
    assert_eq!(connection, id(2));
    assert!(world.connection(2).unwrap().attached.is_some());
    assert_eq!(world.log(log).floor, 9);
    // Nobody is below the floor now, so nobody is looked at, and nobody goes.
    let (_, events) = world.trim(log, 8);
    assert_eq!(events, [Event::Trimmed(trimmed(log, 5, 8))]);
}

#[test]
fn a_floor_falls_with_whoever_begins_below_it() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    reader(&mut world, 1, Start::End);
    world.trim(log, 2);
    assert_eq!(world.log(log).floor, 9);
    reader(&mut world, 2, Start::Offset(5));
    assert_eq!(world.log(log).floor, 5);
    let to = Start::Offset(3);
    world.reply(Command::Seek { connection: id(1), generation: None, log, to });
    assert_eq!(world.log(log).floor, 3);
    // Commits raise cursors, and leave the floor stale: no acknowledgement costs a log's row.
    world.commit(1, log, 9);
    assert_eq!(world.log(log).floor, 3);
    let (_, events) = world.trim(log, 5);
    assert_eq!(events.len(), 1);
    assert_eq!(world.log(log).floor, 5);
}

/// Promise 9 as the fold decides it: an inactive connection holds no slot and keeps no record; it
/// is not even looked at when one goes. That it has no task and no buffer is the node's part.
#[test]
fn promise_09_inactive_costs_nothing() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    reader(&mut world, 1, Start::Offset(1));
    world.downgrade(1, Reason::Detached);
    assert_eq!(world.fold.active(), 0);
    let before = world.connection(1);
    let (_, events) = world.trim(log, 8);
    assert_eq!(events, [Event::Trimmed(trimmed(log, 0, 8))]);
    assert_eq!(world.connection(1), before);
    assert_eq!(world.log(log).floor, 9);
    // It comes back, and what it missed is told.
    let ask = Attach { open: vec![open("a", Start::Committed)], ..client("ann", id(1)) };
    let opened = world.attach(ask).opened.remove(0);
    let gap = opened.gap.unwrap();
    assert_eq!((gap.from, gap.to, opened.cursor), (1, 8, 8));
}

#[test]
fn an_inactive_subscriber_is_looked_at_once() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    let indexed = |world: &World| world.count(highwater::rows::Table::Subscribers);
    for number in 1..=3 {
        reader(&mut world, number, Start::Offset(u64::from(number)));
    }
    world.downgrade(1, Reason::Detached);
    assert_eq!(indexed(&world), 3, "a downgrade costs nothing per subscription");
    // The inactive one is met; the one that goes now will not be looked at again either.
    world.trim(log, 3);
    assert_eq!((indexed(&world), world.active(2), world.active(3)), (1, false, true));
    // Who comes back is found again, whatever it comes back by.
    world.detach(1);
    let again = Attach { open: vec![open("a", Start::Offset(4))], ..client("ann", id(1)) };
    world.attach(Attach { cloning: Cloning::Own, ..again });
    world.time += 60_000;
    world.activate_with(2, Cloning::None, vec![open("a", Start::Offset(5))]);
    assert_eq!(indexed(&world), 3);
    let (_, events) = world.trim(log, 6);
    let lost = events.iter().filter(|event| matches!(event, Event::Downgraded { .. })).count();
    assert_eq!((lost, indexed(&world), world.log(log).floor), (3, 0, 9));
}

/// A log of three records with so many readers, each of a user of its own; they begin where that
/// says.
fn many(readers: u32, begins: impl Fn(u32) -> u64) -> (World, u64) {
    let mut deep = settings();
    deep.budgets.active_total = 10_000;
    let mut world = World::with(deep);
    let log = world.grow("a", 3);
    let commands = (0..readers).map(|number| {
        let ask = client(&format!("user{number}"), numbered(number));
        Command::Attach(Attach { open: vec![open("a", Start::Offset(begins(number)))], ..ask })
    });
    world.batch(commands.collect());
    (world, log)
}

/// In the order in which readers are looked at.
fn numbered(number: u32) -> highwater::wire::Id {
    let mut bytes = [1; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    highwater::wire::Id(bytes)
}

#[test]
fn readers_beyond_one_page_are_all_found() {
    let (mut world, log) = many(2_100, |number| if number % 700 == 699 { 0 } else { 2 });
    let (mut commands, mut lost) = (1, 0);
    let told = loop {
        let (reply, events) = world.trim(log, 1);
        lost += events.iter().filter(|one| matches!(one, Event::Downgraded { .. })).count();
        if reply != Reply::Looking {
            assert_eq!(events.last(), Some(&Event::Trimmed(trimmed(log, 0, 1))));
            break reply;
        }
        assert_eq!(world.log(log).start, 0, "who was not looked at may stand there");
        commands += 1;
    };
    assert_eq!(told, Reply::Trimmed(Some(trimmed(log, 0, 1))));
    assert_eq!((commands, lost), (3, 3));
    assert_eq!((world.log(log).floor, world.fold.active()), (2, 2_097));
    assert!(world.log(log).sweep().is_none(), "nothing of it stays in the row");
}

/// All other commands wait while readers are looked at: so one command looks at a bounded number.
#[test]
fn a_trim_looks_at_so_many_readers_and_no_more() {
    let (mut world, log) = many(2_500, |_| 0);
    for left in [2_500 - 1_024, 2_500 - 2_048] {
        let (reply, events) = world.trim(log, 1);
        assert_eq!((reply, events.len()), (Reply::Looking, 1_024));
        assert_eq!((world.fold.active(), world.log(log).start), (left, 0));
    }
    let (reply, events) = world.trim(log, 1);
    assert_eq!(reply, Reply::Trimmed(Some(trimmed(log, 0, 1))));
    assert_eq!((events.len(), world.fold.active()), (2_500 - 2_048 + 1, 0));
    assert_eq!(world.log(log).floor, 3);
}

/// Between two steps readers move: whoever begins below, having been looked at, is found all the
/// same, and a higher offset is looked at from the beginning.
#[test]
fn readers_that_move_between_two_steps_are_found() {
    let (mut world, log) = many(1_500, |_| 2);
    assert_eq!(world.trim(log, 1).0, Reply::Looking);
    let back =
        Command::Seek { connection: numbered(0), generation: None, log, to: Start::Offset(0) };
    world.reply(back);
    // The rest of them; then it is known that one is low, and who.
    assert_eq!(world.trim(log, 1).0, Reply::Looking);
    assert_eq!(world.log(log).floor, 0);
    assert_eq!(world.trim(log, 1), (Reply::Looking, vec![lost(0)]));
    let (reply, events) = world.trim(log, 1);
    assert_eq!(reply, Reply::Trimmed(Some(trimmed(log, 0, 1))));
    assert_eq!((events.len(), world.log(log).floor), (1, 2));
    // All stand at 2: what was found out for less is not enough.
    let (mut world, log) = many(1_500, |number| u64::from(number != 0) + 1);
    assert_eq!(world.trim(log, 1).0, Reply::Looking);
    let (reply, events) = world.trim(log, 2);
    assert_eq!((reply, events), (Reply::Looking, vec![lost(0)]));
    assert_eq!(world.trim(log, 2).0, Reply::Trimmed(Some(trimmed(log, 0, 2))));
}

/// That reader was downgraded.
fn lost(number: u32) -> Event {
    Event::Downgraded {
        connection: numbered(number),
        user: format!("user{number}"),
        reason: Reason::Retention,
        generation: 2,
        joined: 1,
    }
}

/// Where a store has lost a record, a node does not go on as if there had been none.
#[test]
fn a_trim_does_not_pass_over_a_record_that_is_lost() {
    for lost in [3, 4] {
        let mut world = World::new();
        let log = world.grow("a", 9);
        let mut writes = Writes::default();
        writes.rows.insert((Table::Records, Key::of(log).then(lost).build()), None);
        world.rows.commit(&writes);
        let batch = world.next_batch(vec![Command::Trim { log, to: 4 }]);
        let told = world.try_apply(&batch).unwrap_err().to_string();
        assert!(told.contains(&format!("no record {lost} in log {log}")), "{told}");
    }
}
