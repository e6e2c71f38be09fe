//! One history, as the fold decides it: eras, positions, and logs known by where they were made.

use highwater::connection::{Attach, Attached};
use highwater::fold::{Command, Effect, Reply, folded_time};
use highwater::log::Appends;
use highwater::wire::{Code, Cursor, Id, Met, Open, Outcome, Position, ResetReason, Start, Target};

use crate::fold::world::{World, appends, client, entry, id, item, settings, text};

fn era(number: u8) -> Id {
    Id([number; 16])
}

fn begin(world: &mut World, number: u8) {
    let after = world.fold.eras().present();
    world.done(Command::BeginEra { after, era: era(number) });
}

/// A world in its first era, with a log of three records.
fn begun() -> (World, u64) {
    let mut world = World::new();
    begin(&mut world, 1);
    let log = world.grow("a", 3);
    (world, log)
}

fn here(world: &World) -> Position {
    world.fold.position().unwrap()
}

/// A reader of log `a` comes that has seen everything up to a position.
fn comes(world: &mut World, have: Option<Cursor>, position: Position) -> Attached {
    let open = vec![Open { name: "a".to_owned(), have, start: Start::State, priority: 0 }];
    world.attach(Attach { open, positions: vec![position], ..client("ann", id(1)) })
}

fn is_other(world: &World, position: Position) -> bool {
    let mut world = world.twin();
    comes(&mut world, None, position).other_history
}

#[test]
fn promise_15_one_history_a_position_of_another_is_told_and_its_logs_are_reset() {
    let (mut world, log) = begun();
    let have = Some(Cursor { log, next: 2 });
    let ours = here(&world);
    let met = comes(&mut world, have, ours);
    assert!(!met.other_history);
    assert_eq!((met.opened[0].reset, met.opened[0].cursor), (None, 2));
    assert_eq!(met.opened[0].made.unwrap().era, era(1));
    for theirs in [
        Position { era: era(9), ..ours },
        Position { batch: 1_000, chain: None, ..ours },
        Position { chain: Some([9; 8]), ..ours },
    ] {
        let met = comes(&mut world, have, theirs);
        assert_eq!((met.met, met.other_history), (Met::Resumed, true), "{theirs}");
        let opened = &met.opened[0];
        assert_eq!((opened.reset, opened.cursor), (Some(ResetReason::OtherHistory), 0));
    }
}

/// A batch that came twice is told as a place where the journal stands: its chain is kept too.
#[test]
fn promise_15_one_history_a_batch_that_came_twice_has_a_chain() {
    let (mut world, _) = begun();
    let all = appends("ann", id(1), vec![item(1, "a", "x")]);
    let batch = world.next_batch(vec![Command::Append(all)]);
    world.apply(&batch);
    assert!(world.apply(&batch).repeat);
    let position = here(&world);
    assert!(!is_other(&world, position));
    assert!(is_other(&world, Position { chain: Some([9; 8]), ..position }));
}

/// Without the chain, as after records alone, the bounds of the era decide.
#[test]
fn promise_15_one_history_a_position_without_a_chain_is_held_against_its_era() {
    let (mut world, _) = begun();
    let seen = Position { chain: None, ..here(&world) };
    begin(&mut world, 2);
    let first_of_two = here(&world).batch;
    world.grow("a", 3);
    assert!(!is_other(&world, seen));
    assert!(!is_other(&world, Position { batch: first_of_two - 1, ..seen }));
    assert!(is_other(&world, Position { batch: first_of_two, ..seen }));
    let now = here(&world);
    assert!(!is_other(&world, Position { chain: None, ..now }));
    assert!(is_other(&world, Position { batch: now.batch + 1, chain: None, ..now }));
}

/// An engine lost its tail, and the stores were made anew from what is left. Whoever saw the tail
/// is of another history, also when the journal has grown past it.
#[test]
fn promise_15_one_history_a_tail_that_an_engine_lost() {
    let (mut left, log) = begun();
    let mut all = left.twin();
    all.append_to(log, "lost");
    all.append_to(log, "lost too");
    let (seen, by_place) = (here(&all), Position { chain: None, ..here(&all) });
    let kept = here(&left);
    // Accepted by an operator: another era begins.
    let mut accepted = left.twin();
    begin(&mut accepted, 2);
    for _ in 0..5 {
        accepted.append_to(log, "new");
        left.append_to(log, "new");
    }
    assert!(is_other(&accepted, seen) && is_other(&accepted, by_place));
    assert!(!is_other(&accepted, kept));
    // Where nobody noticed, the chain tells those who were told it.
    assert!(is_other(&left, seen) && !is_other(&left, kept));
}

/// The chain is believed as long as the batch's row is kept, and that does not depend on when
/// files are merged: the same on each node.
#[test]
fn promise_13_the_same_judgement_whether_an_old_row_is_still_there() {
    let (mut world, log) = begun();
    world.append_to(log, "x");
    let position = Position { chain: Some([9; 8]), ..here(&world) };
    assert!(is_other(&world, position), "its record is kept, and so is the row");
    world.trim(log, 4);
    assert!(is_other(&world, position), "it is among the newest");
    world.pass(65_600);
    let mut gone = world.twin();
    gone.drop_places(position.batch);
    // By the same batch: without the row the rows as a whole are not what a model wants.
    let ask = Attach { positions: vec![position], ..client("ann", id(1)) };
    let batch = world.next_batch(vec![Command::Attach(ask)]);
    let (one, other) = (world.try_apply(&batch).unwrap(), gone.try_apply(&batch).unwrap());
    assert_eq!(one.effects, other.effects, "nobody goes by the row");
    let told = |effect: &Effect| match effect {
        Effect::Reply(_, Reply::Attached(attached)) => Some(attached.other_history),
        _ => None,
    };
    assert_eq!(one.effects.iter().find_map(told), Some(false));
}

#[test]
fn an_era_begins_once_for_all_who_saw_the_same() {
    let (mut world, _) = begun();
    let (one, two) = (Some(era(1)), Some(era(2)));
    world.done(Command::BeginEra { after: one, era: era(2) });
    assert_eq!(world.refused(Command::BeginEra { after: one, era: era(3) }), Code::Stale);
    assert_eq!(world.refused(Command::BeginEra { after: None, era: era(3) }), Code::Stale);
    assert_eq!(world.fold.eras().present(), two);
    world.reopen();
    assert_eq!(world.fold.eras().present(), two);
}

/// A log id that a client saw made elsewhere is refused with `epoch`; one that this history has
/// too is taken.
#[test]
fn promise_15_one_history_an_append_names_where_its_log_was_made() {
    let (mut world, log) = begun();
    let made = world.fold.eras().position(world.log(log).made).unwrap();
    let to = |seq, made| {
        let entry = entry(seq, seq - 1, Target::Log(log), text("x"));
        highwater::log::Entry { made: Some(made), ..entry }
    };
    let elsewhere = [
        Position { era: era(9), ..made },
        Position { batch: made.batch + 1, ..made },
        Position { batch: 1_000, ..made },
    ];
    let mut entries: Vec<_> = (1..).zip(elsewhere).map(|(seq, made)| to(seq, made)).collect();
    entries.push(to(4, made));
    let answers = world.append(appends("ann", id(1), entries)).answers;
    for answer in &answers[..3] {
        assert!(matches!(&answer.outcome, Outcome::Refused(why) if why.code == Code::Epoch));
    }
    assert!(matches!(answers[3].outcome, Outcome::Stored { offset: 3, .. }));
}

/// Appends that state a position of another history spend nothing.
#[test]
fn promise_15_one_history_appends_of_another_spend_nothing() {
    let (mut world, _) = begun();
    let theirs = Position { era: era(9), ..here(&world) };
    let other =
        Appends { positions: vec![theirs], ..appends("ann", id(1), vec![item(1, "a", "x")]) };
    let told = world.append(other.clone());
    assert_eq!(told.mark, 0);
    let outcome = &told.answers[0].outcome;
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::OtherHistory));
    assert_eq!(world.writer(id(1)), None);
    let ours = Appends { positions: vec![here(&world)], ..other };
    assert!(matches!(world.append(ours).answers[0].outcome, Outcome::Stored { offset: 3, .. }));
}

/// Of other shards' positions this one says nothing.
#[test]
fn positions_of_other_shards_are_left_to_them() {
    let (world, _) = begun();
    let theirs = Position { era: era(9), batch: 1 << highwater::wire::SHARD_SHIFT, chain: None };
    assert!(!is_other(&world, theirs));
}

#[test]
fn a_reader_begins_at_the_last_records_or_at_a_time() {
    let mut world = World::with(settings());
    let log = world.create("a");
    for time in [100, 200, 200, 300, 400] {
        world.time = 1_000_000 + time;
        world.append_to(log, "x");
    }
    world.trim(log, 1);
    for (start, cursor) in [
        (Start::Last(0), 5),
        (Start::Last(2), 3),
        (Start::Last(4), 1),
        (Start::Last(u64::MAX), 1),
        (Start::Time(0), 1),
        (Start::Time(1_000_200), 1),
        (Start::Time(1_000_201), 3),
        (Start::Time(1_000_400), 4),
        (Start::Time(1_000_401), 5),
    ] {
        let open = vec![Open { name: "a".to_owned(), have: None, start, priority: 0 }];
        let mut world = world.twin();
        let met = world.attach(Attach { open, ..client("ann", id(1)) });
        assert_eq!((met.opened[0].cursor, met.opened[0].reset), (cursor, None), "{start:?}");
        // And a cursor that is there is moved in the same way.
        let (connection, generation) = (id(1), Some(met.generation));
        let Reply::Moved(_, moved) =
            world.reply(Command::Seek { connection, generation, log, to: start })
        else {
            panic!("not moved")
        };
        assert_eq!(moved.cursor, cursor, "{start:?}");
    }
}

/// A node whose clock stands before it does not start: it looks before it has a fold.
#[test]
fn the_time_of_what_was_folded_is_known_from_the_rows_alone() {
    let mut world = World::new();
    assert_eq!(folded_time(&world.rows).unwrap(), None);
    for time in [5_000, 70_000] {
        world.time = time;
        world.pass(1);
        assert_eq!(folded_time(&world.rows).unwrap(), Some(time));
    }
}
