//! Bases that were cut and go on, as the fold decides it for each way in.

use highwater::connection::{Attach, BaseFrom, Opened, Subscribe};
use highwater::fold::{Command, Reply, Settings};
use highwater::wire::{BaseHeld, Cloning, Pattern, Reason, ResetReason, SnapshotRule, Start, Upto};

use crate::fold::world::*;

fn held(log: u64, offset: u64) -> BaseHeld {
    BaseHeld { log, offset, upto: Upto::Key("k".to_owned()) }
}

fn ask(number: u8, generation: u64, names: &[&str], bases: Vec<BaseHeld>) -> Subscribe {
    Subscribe {
        connection: id(number),
        generation: Some(generation),
        open: names.iter().map(|name| open(name, Start::State)).collect(),
        read: vec![Pattern::all()],
        make: vec![],
        bases,
    }
}

fn goes_on(one: &Opened, offset: u64) -> bool {
    assert_eq!(one.upto.is_some(), one.reset.is_none(), "{one:?}");
    one.upto.is_some() && one.base == Some(BaseFrom::Latest(offset)) && one.cursor == offset
}

#[test]
fn a_base_goes_on_at_each_way_in() {
    let mut world = World::new();
    let (a, b) = (world.grow("latest/a", 9), world.grow("latest/b", 9));
    // By `hello`: of a log that is not open nothing is taken.
    let opens = vec![open("latest/a", Start::State)];
    let come = Attach { open: opens, bases: vec![held(a, 6), held(b, 6)], ..client("ann", id(1)) };
    let met = world.attach(come.clone());
    assert!(goes_on(of(&met.opened, a), 6) && met.opened.len() == 1);
    // By `subscribe`.
    let by_subscribe = ask(1, world.generation(1), &["latest/b"], vec![held(b, 5)]);
    let reply = world.reply(Command::Subscribe(by_subscribe));
    let Reply::Subscribed(_, opened, _) = reply else { panic!("{reply:?}") };
    assert!(goes_on(of(&opened, b), 5));
    // By `hello` again: it resumes both, and has told of the other one alone what it wants.
    let met = world.attach(Attach { bases: vec![held(a, 7), held(b, 7)], ..come });
    assert!(goes_on(of(&met.opened, a), 7));
    assert_eq!(of(&met.opened, b).reset, Some(ResetReason::New));
    // By `activate`.
    world.downgrade(1, Reason::Memory);
    world.time += 60_000;
    let ask = ask(1, world.generation(1), &["latest/a", "latest/b"], vec![held(a, 8), held(b, 10)]);
    let reply = world.reply(Command::Activate { ask, cloning: Cloning::None, holds: false });
    let Reply::Attached(met) = reply else { panic!("{reply:?}") };
    assert!(goes_on(of(&met.opened, a), 8));
    assert_eq!(of(&met.opened, b).reset, Some(ResetReason::Restored), "past the head");
}

/// What follows the base is kept for it: its floor is the base's offset.
#[test]
fn records_from_a_base_that_goes_on_are_kept() {
    let mut world = World::new();
    let log = world.grow("latest/a", 9);
    let open = vec![open("latest/a", Start::State)];
    let come = |bases| Attach { open: open.clone(), bases, ..client("ann", id(1)) };
    world.attach(come(vec![]));
    assert_eq!(world.connection(1).unwrap().sub(log).unwrap().cursor, 9);
    world.attach(come(vec![held(log, 4)]));
    let sub = *world.connection(1).unwrap().sub(log).unwrap();
    assert_eq!((sub.cursor, sub.base, sub.confirmed()), (4, true, None));
    assert!(world.log(log).floor <= 4);
    // Of two the later one counts, and what was trimmed meanwhile ends both.
    let met = world.attach(come(vec![held(log, 3), held(log, 5)]));
    assert!(goes_on(of(&met.opened, log), 5));
    world.reply(Command::Trim { log, to: 6 });
    let met = world.attach(come(vec![held(log, 5)]));
    assert!(!goes_on(of(&met.opened, log), 5));
}

/// Under another rule keys may go without a record that says so: a base of before is not gone on
/// with, also where the rule came back.
#[test]
fn a_base_does_not_outlive_its_rule() {
    let mut world = World::new();
    let log = world.grow("latest/a", 9);
    let open = vec![open("latest/a", Start::State)];
    let come = |bases| Attach { open: open.clone(), bases, ..client("ann", id(1)) };
    world.attach(come(vec![]));
    assert!(goes_on(of(&world.attach(come(vec![held(log, 8)])).opened, log), 8));
    for snapshot in [SnapshotRule::None, SnapshotRule::Latest] {
        let rules = vec![rule("**", snapshot)];
        world.done(Command::Configure(Settings { rules, ..settings() }));
        while world.log(log).rule != snapshot || world.log(log).deriving.is_some() {
            let seen = world.log(log).deriving;
            world.done(Command::Derive { log, rule: snapshot, seen, most: 3 });
        }
    }
    assert_eq!((world.log(log).start, world.log(log).ruled()), (0, 9));
    let met = world.attach(come(vec![held(log, 8)]));
    assert_eq!(of(&met.opened, log).reset, Some(ResetReason::New));
    // One of the rule that is in force goes on.
    world.grow("latest/a", 3);
    assert!(goes_on(of(&world.attach(come(vec![held(log, 10)])).opened, log), 10));
}
