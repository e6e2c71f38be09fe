//! Keys under `latest` that end by age.

use highwater::connection::{Attach, BaseFrom};
use highwater::fold::{Command, Effect, Reply, Settings};
use highwater::log::{MAX_EXPIRED, MAX_HEAD, Rule};
use highwater::wire::{Code, Id, SnapshotRule, Start, Target};

use crate::fold::world::*;

/// A key lives for a second.
const LIFE: u64 = 1_000;

fn timed(snapshot: SnapshotRule, retain_seconds: u64) -> Settings {
    let rules = vec![Rule { retain_seconds, ..rule("**", snapshot) }];
    Settings { rules, ..settings() }
}

fn world() -> World {
    let mut world = World::with(timed(SnapshotRule::Latest, 1));
    world.time = 10_000;
    world
}

fn keys(all: &[(&str, u64)]) -> Vec<(String, u64)> {
    all.iter().map(|(key, offset)| ((*key).to_owned(), *offset)).collect()
}

/// Asks for the end of keys: how many ended.
fn expire(world: &mut World, log: u64, of: &[(&str, u64)]) -> u64 {
    match world.reply(Command::Expire { log, keys: keys(of) }) {
        Reply::Expired(ended) => ended,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_that_is_too_old_ends_with_a_tombstone_of_the_servers_own() {
    let mut world = world();
    let log = world.grow("a", 3);
    let before = world.records(log);
    world.time += LIFE;
    assert_eq!(expire(&mut world, log, &[("k1", 0), ("k2", 1), ("k0", 2)]), 0, "not older yet");
    world.time += 1;
    assert_eq!(expire(&mut world, log, &[("k1", 0), ("k0", 2)]), 2);
    assert_eq!(world.latest(log), keys(&[("k2", 1)]));
    let records = world.records(log);
    assert_eq!(records.len(), 5);
    for (ended, tombstone) in [(&before[0], &records[3]), (&before[2], &records[4])] {
        assert_eq!(tombstone.record.key, ended.record.key);
        assert_eq!((&tombstone.record.payload, tombstone.seq), (&None, 0));
        assert_eq!(tombstone.derived, Some(ended.place));
        let origin = &tombstone.origin;
        let seen = (origin.user.as_str(), origin.writer, origin.connection);
        assert_eq!((seen, tombstone.time), (("", Id::NONE, Id::NONE), world.time));
    }
    assert!(before.iter().all(|record| record.derived.is_none()));
    // Proposed again, nothing is left to do.
    assert_eq!(expire(&mut world, log, &[("k1", 0), ("k0", 2)]), 0);
    assert_eq!(world.log(log).head, 5);
}

#[test]
fn a_key_that_was_written_since_stays() {
    let mut world = world();
    let log = world.grow("a", 3);
    world.time += LIFE + 1;
    world.grow("a", 1);
    assert_eq!(expire(&mut world, log, &[("k1", 0), ("k1", 3), ("k2", 0), ("none", 0)]), 0);
    assert_eq!(expire(&mut world, log, &[("k2", 1), ("k2", 1)]), 1);
    assert_eq!(world.latest(log), keys(&[("k0", 2), ("k1", 3)]));
    // One that ended lives again with its next record.
    let record = keyed("k2", Some("again"));
    world.write_one(1, entry(1, 0, Target::Log(log), record));
    assert_eq!(world.latest(log), keys(&[("k0", 2), ("k1", 3), ("k2", 5)]));
}

/// Records that are trimmed take no key with them; their end comes by age all the same.
#[test]
fn a_key_whose_record_was_trimmed_ends_too() {
    let mut world = world();
    let log = world.grow("a", 3);
    world.time += LIFE + 1;
    world.trim(log, 3);
    assert_eq!(world.latest(log).len(), 3);
    assert_eq!(expire(&mut world, log, &[("k1", 0), ("k2", 1), ("k0", 2)]), 3);
    assert_eq!((world.latest(log), world.log(log).head), (vec![], 6));
    // Tombstones age like any record.
    world.trim(log, 6);
    assert_eq!(world.log(log).start, 6);
}

#[test]
fn readers_are_told_as_of_any_record() {
    let mut world = world();
    let log = world.grow("a", 3);
    world.time += LIFE + 1;
    let batch = world.next_batch(vec![Command::Expire { log, keys: keys(&[("k1", 0)]) }]);
    let effects = world.apply(&batch).effects;
    let [Effect::Reply(0, Reply::Expired(1)), Effect::Appended((told, 3, stored))] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*told, stored.record.key.as_deref()), (log, Some("k1")));
    let ask = Attach { open: vec![open("a", Start::State)], ..client("ann", id(1)) };
    let opened = world.attach(ask).opened;
    assert_eq!((&opened[0].base, opened[0].cursor), (&Some(BaseFrom::Latest(4)), 4));
}

#[test]
fn without_such_a_rule_in_force_no_key_ends() {
    let mut world = world();
    let log = world.grow("a", 3);
    world.time += 100 * LIFE;
    let ask = |log| Command::Expire { log, keys: keys(&[("k1", 0)]) };
    for other in [
        timed(SnapshotRule::Latest, 0),
        timed(SnapshotRule::None, 1),
        timed(SnapshotRule::Latest, 1_000),
    ] {
        let lives_longer = other.rules[0].retain_seconds > 1;
        world.done(Command::Configure(other));
        match world.reply(ask(log)) {
            Reply::Expired(0) => assert!(lives_longer),
            Reply::Refused(why) => assert_eq!((why.code, lives_longer), (Code::Stale, false)),
            reply => panic!("{reply:?}"),
        }
    }
    // Nor while the log is on its way to another rule, or back.
    world.done(Command::Configure(timed(SnapshotRule::None, 1)));
    let seen = world.log(log).deriving;
    world.done(Command::Derive { log, rule: SnapshotRule::None, seen, most: 1 });
    world.done(Command::Configure(timed(SnapshotRule::Latest, 1)));
    assert_eq!(world.refused(ask(log)), Code::Stale);
    world.done(Command::DeleteLog { log });
    for log in [log, 99] {
        assert_eq!(world.refused(ask(log)), Code::UnknownLog);
    }
}

#[test]
fn one_command_ends_a_bounded_number_and_none_past_the_last_offset() {
    let mut world = world();
    let many = MAX_EXPIRED as u64 + 5;
    let entries = |from: u64, to: u64| {
        let one = |seq| {
            let record = keyed(&format!("k{seq:05}"), Some("x"));
            entry(seq, seq - 1, Target::Name("a".to_owned()), record)
        };
        (from..=to).map(one).collect()
    };
    world.write(1, entries(1, 1_000));
    let mut rest = appends("ann", id(1), entries(1_001, many));
    rest.oldest = 1_001;
    world.append(rest);
    world.time += LIFE + 1;
    let keys = || (1..=many).map(|seq| (format!("k{seq:05}"), seq - 1)).collect::<Vec<_>>();
    let expired = world.reply(Command::Expire { log: 1, keys: keys() });
    assert_eq!(expired, Reply::Expired(MAX_EXPIRED as u64));
    assert_eq!(world.latest(1).len(), 5);
    // Nearly full: what fits ends, the others stay.
    let mut full = self::world();
    let log = full.grow("a", 3);
    full.time += LIFE + 1;
    full.set_log(log, |row| row.head = MAX_HEAD - 1);
    let keys = keys_of_three();
    let batch = full.next_batch(vec![Command::Expire { log, keys }]);
    let done = full.try_apply(&batch).unwrap();
    assert!(done.effects.contains(&Effect::Reply(0, Reply::Expired(1))));
}

fn keys_of_three() -> Vec<(String, u64)> {
    keys(&[("k1", 0), ("k2", 1), ("k0", 2)])
}

#[test]
fn keys_of_the_same_batch_and_pages_count() {
    let mut world = world();
    world.reply(Command::CreateLog { name: "a".to_owned(), page_records: 4 });
    let log = world.grow("a", 3);
    world.time += LIFE + 1;
    let record = keyed("k2", Some("new"));
    let append = appends("ann", id(1), vec![entry(1, 0, Target::Log(log), record)]);
    let keys = keys_of_three();
    world.batch(vec![Command::Append(append), Command::Expire { log, keys }]);
    assert_eq!(world.latest(log), vec![("k2".to_owned(), 3)]);
    let pages: Vec<_> = world.pages(log).iter().map(|(first, page)| (*first, page.end)).collect();
    assert_eq!((pages, world.log(log).head), (vec![(0, 4)], 6));
}
