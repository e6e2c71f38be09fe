//! Rules that change for logs that exist: what the fold derives anew, and how much at a time.

use highwater::connection::{Attach, BaseFrom, Event};
use highwater::fold::{Command, Reply, Settings};
use highwater::log::{Deriving, Rule, STEP_ROWS};
use highwater::rows::Table;
use highwater::wire::{Code, Outcome, ResetReason, SnapshotRule, Start, Target};

use crate::fold::world::*;

use SnapshotRule::{Client, Latest, None as Plain};

/// All logs are under one rule from now on.
fn configure(world: &mut World, snapshot: SnapshotRule) {
    configure_by(world, vec![rule("**", snapshot)]);
}

fn configure_by(world: &mut World, rules: Vec<Rule>) {
    world.done(Command::Configure(Settings { rules, ..settings() }));
}

fn step_of(world: &World, log: u64, rule: SnapshotRule, most: u32) -> Command {
    Command::Derive { log, rule, seen: world.log(log).deriving, most }
}

/// The next step, of at most so many rows: what happened besides.
fn step(world: &mut World, log: u64, rule: SnapshotRule, most: u32) -> Vec<Event> {
    let command = step_of(world, log, rule, most);
    let (reply, events) = world.run(command);
    assert_eq!(reply, Reply::Done);
    events
}

/// Steps until the rule is in force and nothing is left to do: how many.
fn derive(world: &mut World, log: u64, rule: SnapshotRule, most: u32) -> usize {
    let mut steps = 0;
    while world.log(log).rule != rule || world.log(log).deriving.is_some() {
        step(world, log, rule, most);
        steps += 1;
    }
    steps
}

/// Records with keys, as the next ones of a writer: a payload, or a tombstone.
fn put(world: &mut World, name: &str, keys: &[(&str, bool)]) {
    let mark = world.writer(id(9)).map_or(0, |row| row.mark);
    let entries = (mark + 1..).zip(keys).map(|(seq, (key, there))| {
        let to = Target::Name(name.to_owned());
        entry(seq, seq - 1, to, keyed(key, there.then_some("x")))
    });
    let entries = entries.collect();
    let outcomes = world.write(9, entries);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored { .. })));
}

fn latest(world: &World, log: u64) -> Vec<(String, u64)> {
    world.latest(log)
}

fn named(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(key, offset)| ((*key).to_owned(), *offset)).collect()
}

#[test]
fn the_newest_record_of_each_key_is_derived_from_the_records() {
    let mut world = World::new();
    put(&mut world, "a", &[("k1", true), ("k2", true), ("k1", true), ("k3", true), ("k2", false)]);
    let log = 1;
    assert_eq!((world.log(log).rule, latest(&world, log)), (Plain, vec![]));
    configure(&mut world, Latest);
    assert_eq!(world.log(log).rule, Plain, "rules alone change nothing");
    assert_eq!(step(&mut world, log, Latest, 99), [Event::Ruled { log, rule: Latest }]);
    assert_eq!((world.log(log).rule, world.log(log).deriving), (Latest, None));
    assert_eq!(latest(&world, log), named(&[("k1", 2), ("k3", 3)]));
    put(&mut world, "a", &[("k3", false), ("k4", true)]);
    assert_eq!(latest(&world, log), named(&[("k1", 2), ("k4", 6)]));
    // There is nothing more to do, and nothing is done.
    let again = step_of(&world, log, Latest, 99);
    world.stale(again);
}

#[test]
fn a_step_is_bounded_and_the_old_rule_holds_until_the_last_one() {
    let mut world = World::new();
    let log = world.grow("a", 10);
    configure(&mut world, Latest);
    assert_eq!(step(&mut world, log, Latest, 4), []);
    let seen = world.log(log).deriving.unwrap();
    assert_eq!((seen.rule, seen.cleared, seen.next), (Latest, true, 4));
    assert_eq!(world.log(log).rule, Plain);
    // A newcomer is met by the old rule; appends in between leave the table alone.
    world.attach_all("ann", &[1]);
    assert_eq!(world.subscribe(1, vec![open("a", Start::State)])[0].rule, Plain);
    let before = latest(&world, log);
    world.grow("a", 3);
    assert_eq!(latest(&world, log), before);
    world.reopen();
    assert_eq!(derive(&mut world, log, Latest, 4), 3, "13 records, 4 at a time, 4 done");
    // No command asks for more than the fold allows.
    let large = world.grow("b", 1_024);
    configure(&mut world, Plain);
    derive(&mut world, large, Plain, u32::MAX);
    for _ in 0..2 {
        world.grow("b", 1_024);
    }
    configure(&mut world, Latest);
    assert_eq!(derive(&mut world, large, Latest, u32::MAX), 3);
    assert_eq!(STEP_ROWS, 1_024);
}

#[test]
fn a_step_ends_with_its_bytes_too() {
    let mut world = World::new();
    let big = "x".repeat(100_000);
    let entries = (1..=40).map(|seq| {
        let to = Target::Name("a".to_owned());
        entry(seq, seq - 1, to, keyed(&format!("k{seq}"), Some(&big)))
    });
    world.write(1, entries.collect());
    configure(&mut world, Latest);
    step(&mut world, 1, Latest, 1_000);
    let next = world.log(1).deriving.unwrap().next;
    assert_eq!(next, 16, "what is read at once, though it is more");
    derive(&mut world, 1, Latest, 1_000);
    assert_eq!(latest(&world, 1).len(), 40);
}

#[test]
fn another_rule_than_latest_holds_at_once_and_its_rows_go_in_steps() {
    let mut world = World::new();
    let keys: Vec<String> = (0..9).map(|at| format!("k{at}")).collect();
    let keys: Vec<(&str, bool)> = keys.iter().map(|key| (key.as_str(), true)).collect();
    put(&mut world, "latest/a", &keys);
    configure(&mut world, Plain);
    let log = 1;
    assert_eq!(step(&mut world, log, Plain, 4), [Event::Ruled { log, rule: Plain }]);
    assert_eq!((world.log(log).rule, latest(&world, log).len()), (Plain, 5));
    // Appends do not touch what is left.
    put(&mut world, "latest/a", &[("k0", true), ("k8", false)]);
    assert_eq!(latest(&world, log).len(), 5);
    assert_eq!(step(&mut world, log, Plain, 5), []);
    assert!(world.log(log).deriving.is_some(), "that nothing is left the next one finds");
    assert_eq!(step(&mut world, log, Plain, 1), []);
    assert_eq!((world.log(log).deriving, latest(&world, log).len()), (None, 0));
    // A reader that comes back by delta reads on; one that is new replays.
    world.attach_all("ann", &[1]);
    let opened = world.subscribe(1, vec![open("latest/a", Start::State)]);
    assert_eq!((opened[0].rule, opened[0].base.clone(), opened[0].cursor), (Plain, None, 0));
}

#[test]
fn another_mind_in_the_middle_begins_anew() {
    let mut world = World::new();
    let log = world.grow("a", 10);
    configure(&mut world, Latest);
    step(&mut world, log, Latest, 5);
    let old = step_of(&world, log, Latest, 5);
    configure(&mut world, Client);
    world.stale(old);
    // Towards a rule under which nothing is kept: what was derived so far goes.
    assert_eq!(step(&mut world, log, Client, 1), [Event::Ruled { log, rule: Client }]);
    assert_eq!(latest(&world, log).len(), 2);
    configure(&mut world, Latest);
    assert_eq!(step(&mut world, log, Latest, 1), []);
    let seen = world.log(log).deriving.unwrap();
    assert_eq!((seen.cleared, world.log(log).rule), (false, Client));
    derive(&mut world, log, Latest, 3);
    assert_eq!(latest(&world, log), named(&[("k0", 8), ("k1", 9), ("k2", 7)]));
    // Back before the first step: nothing was begun, and nothing is to do.
    configure(&mut world, Plain);
    configure(&mut world, Latest);
    let nothing = step_of(&world, log, Latest, 9);
    world.stale(nothing);
}

#[test]
fn a_step_that_did_not_see_the_last_one_does_nothing() {
    let mut world = World::new();
    let log = world.grow("a", 10);
    configure(&mut world, Latest);
    let first = step_of(&world, log, Latest, 3);
    world.done(first.clone());
    world.stale(first);
    let wrong = Command::Derive { log, rule: Client, seen: world.log(log).deriving, most: 3 };
    world.stale(wrong);
    let made_up = Some(Deriving { next: 9, ..world.log(log).deriving.unwrap() });
    world.stale(Command::Derive { log, rule: Latest, seen: made_up, most: 3 });
    world.done(Command::DeleteLog { log });
    assert_eq!(world.log(log).deriving, None);
    for log in [log, 99] {
        let gone = Command::Derive { log, rule: Latest, seen: None, most: 3 };
        assert_eq!(world.refused(gone), Code::UnknownLog);
    }
}

#[test]
fn records_and_rules_of_the_same_batch_count() {
    let mut world = World::new();
    let log = world.grow("a", 2);
    configure(&mut world, Latest);
    let first = step_of(&world, log, Latest, 1);
    let mut next = Deriving::to(Latest);
    (next.cleared, next.next) = (true, 1);
    let then = Command::Derive { log, rule: Latest, seen: Some(next), most: 9 };
    let append = |seq, key| {
        let record = keyed(key, Some("y"));
        Command::Append(appends("ann", id(1), vec![entry(seq, seq - 1, Target::Log(log), record)]))
    };
    world.batch(vec![append(1, "n1"), first, append(2, "n2"), then, append(3, "n1")]);
    assert_eq!(world.log(log).rule, Latest);
    let all = [("k1", 0), ("k2", 1), ("n1", 4), ("n2", 3)];
    assert_eq!(latest(&world, log), named(&all));
}

/// What was trimmed before it was worked off is not in the state: nobody has it any more.
#[test]
fn keys_whose_records_were_trimmed_are_not_derived() {
    let mut world = World::new();
    put(&mut world, "a", &[("k1", true), ("k2", true), ("k3", true), ("k4", true), ("k3", true)]);
    world.trim(1, 1);
    configure(&mut world, Latest);
    step(&mut world, 1, Latest, 1);
    // One that is worked off already stays, though its record goes.
    world.trim(1, 3);
    derive(&mut world, 1, Latest, 1);
    assert_eq!(latest(&world, 1), named(&[("k2", 1), ("k3", 4), ("k4", 3)]));
    // Under `latest` the start may move to the head, as ever.
    world.trim(1, 5);
    assert_eq!(latest(&world, 1).len(), 3);
}

#[test]
fn snapshots_of_clients_outlive_their_rule_until_a_trim_passes_them() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    world.snapshot(log, 4);
    world.snapshot(log, 6);
    world.part(log, 8, 0, false, "on its way");
    configure(&mut world, Plain);
    derive(&mut world, log, Plain, 9);
    assert_eq!(world.count(Table::Uploads), 0, "what was on its way is over");
    assert_eq!(world.count(Table::Snapshots), 2);
    // They mean nothing under another rule, and their own again once it is back.
    world.attach_all("ann", &[1]);
    let subscribe = |world: &mut World| {
        let opened = world.subscribe(1, vec![open("client/a", Start::State)]).remove(0);
        let generation = None;
        world.reply(Command::Unsubscribe { connection: id(1), generation, logs: vec![log] });
        opened
    };
    assert_eq!((subscribe(&mut world).base, subscribe(&mut world).cursor), (None, 0));
    world.trim(log, 5);
    let kept: Vec<u64> = world.log(log).snapshots.iter().map(|one| one.offset).collect();
    assert_eq!((kept, world.count(Table::Snapshots)), (vec![6], 1));
    configure(&mut world, Client);
    derive(&mut world, log, Client, 9);
    let opened = subscribe(&mut world);
    assert!(matches!(opened.base, Some(BaseFrom::Client(snapshot)) if snapshot.offset == 6));
    assert_eq!(world.refused(Command::Trim { log, to: 7 }), Code::TrimRule);
    // Trimmed past the last one, a reader is told the gap and a client makes the next.
    configure(&mut world, Plain);
    derive(&mut world, log, Plain, 9);
    world.trim(log, 9);
    configure(&mut world, Client);
    derive(&mut world, log, Client, 9);
    let opened = subscribe(&mut world);
    assert_eq!((opened.base, opened.gap.map(|gap| (gap.from, gap.to))), (None, Some((0, 9))));
    world.snapshot(log, 10);
    assert_eq!(subscribe(&mut world).cursor, 10);
}

/// Who is subscribed reads on by records; who comes back from far is met by the new rule.
#[test]
fn readers_go_on_and_newcomers_get_the_new_rule() {
    let mut world = World::new();
    let log = world.grow("a", 3);
    let ask = |number| Attach { open: vec![open("a", Start::State)], ..client("ann", id(number)) };
    world.attach(ask(1));
    world.commit(1, log, 3);
    configure(&mut world, Latest);
    derive(&mut world, log, Latest, 2);
    assert_eq!(world.cursor(1, log), Some(3), "its cursor stands");
    world.grow("a", 1_000);
    world.grow("a", 1_000);
    world.commit(1, log, 1_500);
    let open = vec![held("a", log, 1_500)];
    let resumed = world.attach(Attach { open, ..client("ann", id(1)) });
    assert_eq!((of(&resumed.opened, log).rule, of(&resumed.opened, log).cursor), (Latest, 1_500));
    let far = vec![held("a", log, 1)];
    let resumed = world.attach(Attach { open: far, ..client("ann", id(1)) });
    let opened = of(&resumed.opened, log);
    assert_eq!((&opened.base, opened.cursor), (&Some(BaseFrom::Latest(2_003)), 2_003));
    assert_eq!(opened.reset, Some(ResetReason::New));
}

#[test]
fn the_first_rule_that_matches_is_the_one_meant() {
    let mut world = World::new();
    let (one, other) = (world.grow("a/1", 2), world.grow("a/2", 2));
    configure_by(&mut world, vec![rule("a/1", Client), rule("a/*", Latest)]);
    derive(&mut world, one, Client, 9);
    derive(&mut world, other, Latest, 9);
    assert_eq!((world.log(one).rule, world.log(other).rule), (Client, Latest));
    // One that is made now has it from the start, and nothing to derive.
    let new = world.grow("a/3", 2);
    assert_eq!((world.log(new).rule, latest(&world, new).len()), (Latest, 2));
}
