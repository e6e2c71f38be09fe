//! Logs: made, found, deleted, made anew; and the batches that all of it comes in.

use highwater::connection::Event;
use highwater::fold::{Command, FOLD_VERSION, Fold, FoldError, Known, Reply, Versions};
use highwater::rows::Table;
use highwater::wire::{Code, Id, Level, SnapshotRule, Start};

use crate::fold::world::*;

#[test]
fn a_log_is_made_once_and_found_after() {
    let mut world = World::new();
    let create = |name: &str| Command::CreateLog { name: name.to_owned(), page_records: 0 };
    assert_eq!(world.reply(create("a/b")), Reply::Created(1, true));
    assert_eq!(world.reply(create("a/b")), Reply::Created(1, false));
    assert_eq!(world.reply(create("a")), Reply::Created(2, true));
    assert_eq!(world.refused(create("a//b")), Code::BadName);
}

/// Part of promise 2: an id names one incarnation for ever, so its offsets are never given twice.
#[test]
fn promise_02_a_log_made_anew_has_an_id_that_was_never_used() {
    let mut world = World::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let log = world.grow("a", 2);
        assert!(!seen.contains(&log));
        seen.push(log);
        let (reply, events) = world.run(Command::DeleteLog { log });
        assert_eq!(reply, Reply::Done);
        assert_eq!(events, [Event::Deleted { log, name: "a".to_owned() }]);
        assert_eq!(world.refused(Command::DeleteLog { log }), Code::UnknownLog);
        world.reopen();
    }
    assert_eq!(world.count(Table::Names), 0);
    assert_eq!(world.refused(Command::DeleteLog { log: 99 }), Code::UnknownLog);
}

#[test]
fn made_deleted_and_made_in_one_batch() {
    let mut world = World::new();
    let create = || Command::CreateLog { name: "a".to_owned(), page_records: 0 };
    world.batch(vec![create(), Command::DeleteLog { log: 1 }, create()]);
    assert!(world.log(1).deleted && !world.log(2).deleted);
    world.reopen();
    assert_eq!(world.reply(create()), Reply::Created(2, false));
}

#[test]
fn a_log_keeps_the_rule_it_was_made_with() {
    let mut world = World::new();
    let log = world.create("latest/a");
    assert_eq!(world.log(log).rule, SnapshotRule::Latest);
    let rules = vec![rule("latest/**", SnapshotRule::None)];
    world.done(Command::Configure(highwater::fold::Settings { rules, ..settings() }));
    world.reopen();
    assert_eq!(world.log(log).rule, SnapshotRule::Latest);
    let new = world.create("latest/b");
    assert_eq!(world.log(new).rule, SnapshotRule::None);
}

#[test]
fn latest_holds_the_newest_record_per_key_and_tombstones_remove() {
    let mut world = World::new();
    let to = || highwater::wire::Target::Name("latest/a".to_owned());
    world.write(
        1,
        vec![
            entry(1, 0, to(), keyed("x", Some("1"))),
            entry(2, 1, to(), keyed("y", Some("1"))),
            entry(3, 2, to(), keyed("x", Some("2"))),
            entry(4, 3, to(), text("no key")),
        ],
    );
    assert_eq!(world.count(Table::Latest), 2);
    world.write(1, vec![entry(5, 4, to(), keyed("x", None)), entry(6, 5, to(), keyed("z", None))]);
    assert_eq!(world.count(Table::Latest), 1);
}

#[test]
fn subscriptions_to_a_deleted_log_take_no_room() {
    let mut world = World::new();
    world.attach(client("ann", id(1)));
    for _ in 0..20 {
        let opened = world.subscribe(1, vec![open("a", Start::State)]);
        world.done(Command::DeleteLog { log: opened[0].log });
    }
    assert!(world.subs(1).len() <= 8);
}

#[test]
fn a_repeated_batch_changes_nothing_but_its_own_number() {
    let mut world = World::new();
    let all = appends("ann", id(1), vec![item(1, "a", "x")]);
    let batch = world.next_batch(vec![Command::Append(all)]);
    assert_eq!(world.apply(&batch).effects.len(), 2);
    let before = world.state();
    let again = world.apply(&batch);
    assert!(again.repeat && again.effects.is_empty());
    world.reopen();
    assert!(world.apply(&batch).repeat);
    assert_eq!(world.state(), before);
}

#[test]
fn batches_of_an_earlier_run_do_nothing() {
    let mut world = World::new();
    let create = |name: &str| vec![Command::CreateLog { name: name.to_owned(), page_records: 0 }];
    let late = {
        world.serial += 5;
        world.next_batch(create("late"))
    };
    world.restart();
    assert!(world.apply(&late).repeat);
    assert_eq!(world.count(Table::Logs), 0);
    assert_eq!(world.fold.next_incarnation(node(1)), 3);
    assert_eq!(world.fold.next_incarnation(node(2)), 1);
}

/// Several batches of a run may be on their way. One that overtook another counts for nothing until
/// it comes again behind that one; then it counts once.
#[test]
fn a_batch_that_comes_before_its_turn_decides_nothing_and_counts_later() {
    let mut one = World::new();
    (one.node, one.serial) = ((node(7), 0), 0);
    let known = one.fold.known().batch;
    let create = |n: u32| vec![Command::CreateLog { name: n.to_string(), page_records: 0 }];
    let batches: Vec<_> = (0..3).map(|n| one.next_batch(create(n))).collect();
    for early in [&batches[2], &batches[1], &batches[2]] {
        let applied = one.apply(early);
        assert!(applied.early && !applied.repeat && applied.effects.is_empty());
        assert_eq!((one.count(Table::Logs), one.node_row(node(7))), (0, None));
    }
    let logs = |one: &mut World, batch| {
        let applied = one.apply(batch);
        (applied.early, applied.repeat, one.count(Table::Logs))
    };
    assert_eq!(logs(&mut one, &batches[0]), (false, false, 1));
    assert_eq!(logs(&mut one, &batches[2]), (true, false, 1));
    assert_eq!(logs(&mut one, &batches[1]), (false, false, 2));
    assert_eq!(logs(&mut one, &batches[2]), (false, false, 3));
    assert_eq!(logs(&mut one, &batches[1]), (false, true, 3));
    assert_eq!(one.fold.known().batch, known + 8, "each has a number");
    let known = one.fold.known();
    one.reopen();
    assert_eq!(one.fold.known(), known);
}

#[test]
fn time_never_goes_back() {
    let mut world = World::new();
    world.time = 5_000;
    world.create("a");
    world.time = 10;
    let log = world.create("b");
    assert_eq!(world.log(log).created, 5_000);
    world.reopen();
    let log = world.create("c");
    assert_eq!(world.log(log).created, 5_000);
}

#[test]
fn what_does_not_chain_stops_the_node_and_changes_nothing() {
    let mut world = World::new();
    world.create("a");
    let good =
        world.next_batch(vec![Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION }]);
    type Spoil = fn(&mut highwater::fold::Batch);
    let tries: [(Spoil, FoldError); 5] = [
        (|bad| bad.header.journal = Id([1; 16]), FoldError::OtherJournal { batch: 2 }),
        (
            |bad| bad.header.fold = FOLD_VERSION + 1,
            FoldError::Version {
                batch: 2,
                version: FOLD_VERSION + 1,
                due: FOLD_VERSION,
                known: Versions::KNOWN,
            },
        ),
        (|bad| bad.header.known.chain = [9; 32], FoldError::Chain { batch: 2 }),
        // Another program folded the same batch to other rows.
        (
            |bad| bad.header.known.rows = [9; 8],
            FoldError::Drift { known: 1, others: 1, running: 1 },
        ),
        (
            |bad| bad.header.known = Known { batch: 2, chain: [0; 32], rows: [0; 8] },
            FoldError::Chain { batch: 2 },
        ),
    ];
    for (spoil, error) in tries {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(world.try_apply(&bad).unwrap_err(), error);
    }
    world.batch += 3;
    let error = FoldError::Order { batch: 5, expected: 2 };
    assert_eq!(world.try_apply(&good).unwrap_err(), error);
    world.batch -= 3;
    assert_eq!(world.apply(&good).batch, 2);
    let other = Fold::open(&world.rows, Id([1; 16]), Level::Memory, settings(), TINY);
    assert_eq!(other.unwrap_err(), FoldError::OtherJournal { batch: 2 });
}
