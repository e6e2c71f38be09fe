//! Snapshots that clients make.

use highwater::connection::Event;
use highwater::fold::{Command, Reply};
use highwater::log::{MAX_UPLOADS, Part};
use highwater::rows::Table;
use highwater::wire::Code;

use crate::fold::world::*;

fn code(reply: Reply) -> Code {
    match reply {
        Reply::Refused(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

fn part(connection: u8, log: u64, offset: u64, part: u32, last: bool, size: usize) -> Command {
    let (connection, data) = (id(connection), bytes(&"x".repeat(size)));
    Command::PutSnapshot(Part {
        user: "ann".to_owned(),
        connection,
        log,
        offset,
        version: 1,
        part,
        last,
        data,
    })
}

#[test]
fn a_snapshot_counts_when_its_last_part_has_come() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    assert_eq!(world.part(log, 7, 0, false, "one "), Reply::Done);
    assert_eq!(world.part(log, 7, 1, false, "two "), Reply::Done);
    assert_eq!(world.log(log).snapshots, []);
    world.reopen();
    let (reply, events) = world.run(part(1, log, 7, 2, true, 5));
    assert_eq!((reply, events), (Reply::Done, vec![Event::Snapshot { log, offset: 7 }]));
    let made = world.log(log).snapshots.remove(0);
    assert_eq!((made.offset, made.parts, made.bytes, made.version), (7, 3, 13, 1));
    assert_eq!(world.count(Table::Uploads), 0);
}

#[test]
fn parts_come_in_order_and_of_one_snapshot() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    assert_eq!(code(world.part(log, 7, 1, false, "x")), Code::SnapshotParts);
    world.part(log, 7, 0, false, "x");
    assert_eq!(code(world.part(log, 7, 2, true, "x")), Code::SnapshotParts);
    assert_eq!(code(world.part(log, 8, 1, true, "x")), Code::SnapshotParts);
    // A repeat is out of order too; the upload stands where it stood.
    world.part(log, 7, 1, false, "x");
    assert_eq!(code(world.part(log, 7, 1, false, "x")), Code::SnapshotParts);
    assert_eq!(world.part(log, 7, 2, true, "x"), Reply::Done);
}

#[test]
fn part_0_begins_anew_and_what_was_there_goes() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    world.part(log, 7, 0, false, "old");
    world.part(log, 7, 1, false, "old");
    world.part(log, 8, 0, false, "new");
    assert_eq!(world.count(Table::Snapshots), 1);
    assert_eq!(world.part(log, 8, 1, true, "new"), Reply::Done);
    assert_eq!(world.log(log).snapshots[0].offset, 8);
}

#[test]
fn a_refused_part_0_leaves_the_upload_whole() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    world.part(log, 7, 0, false, "one");
    assert_eq!(code(world.reply(part(1, log, 7, 0, false, 1_001))), Code::TooLarge);
    // The check of rows finds a snapshot whose parts are gone.
    assert_eq!(world.part(log, 7, 1, true, "two"), Reply::Done);
    assert_eq!(world.log(log).snapshots[0].bytes, 6);
}

#[test]
fn the_whole_is_bounded_and_a_smaller_part_may_follow() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    assert_eq!(world.reply(part(1, log, 7, 0, false, 600)), Reply::Done);
    assert_eq!(code(world.reply(part(1, log, 7, 1, true, 401))), Code::TooLarge);
    assert_eq!(world.reply(part(1, log, 7, 1, true, 400)), Reply::Done);
}

#[test]
fn behind_beyond_and_without_a_rule_are_refused() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    assert_eq!(code(world.part(log, 11, 0, true, "x")), Code::SnapshotBeyond);
    world.snapshot(log, 5);
    assert_eq!(code(world.part(log, 5, 0, true, "x")), Code::SnapshotBehind);
    assert_eq!(code(world.part(log, 4, 0, true, "x")), Code::SnapshotBehind);
    world.snapshot(log, 10);
    for name in ["plain", "latest/a"] {
        let other = world.grow(name, 1);
        assert_eq!(code(world.part(other, 1, 0, true, "x")), Code::SnapshotRule);
    }
    assert_eq!(code(world.part(99, 1, 0, true, "x")), Code::UnknownLog);
    world.done(Command::DeleteLog { log });
    assert_eq!(code(world.part(log, 10, 0, true, "x")), Code::UnknownLog);
}

#[test]
fn the_two_newest_are_kept_and_parts_of_older_ones_go() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    for offset in [2, 4, 6] {
        world.part(log, offset, 0, false, "x");
        world.part(log, offset, 1, true, "y");
    }
    let kept: Vec<_> = world.log(log).snapshots.iter().map(|one| one.offset).collect();
    assert_eq!(kept, [4, 6]);
    assert_eq!(world.count(Table::Snapshots), 4);
}

#[test]
fn uploads_of_two_connections_do_not_mix_and_the_overtaken_one_goes() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    world.reply(part(1, log, 5, 0, false, 3));
    world.reply(part(2, log, 6, 0, false, 3));
    world.reply(part(3, log, 9, 0, false, 3));
    assert_eq!(world.reply(part(2, log, 6, 1, true, 3)), Reply::Done);
    assert_eq!(world.count(Table::Uploads), 1);
    assert_eq!(code(world.reply(part(1, log, 5, 1, true, 3))), Code::SnapshotBehind);
    assert_eq!(world.reply(part(3, log, 9, 1, true, 3)), Reply::Done);
    assert_eq!(world.count(Table::Snapshots), 4);
}

/// Part of promise 10: what clients begin and leave takes bounded room.
#[test]
fn promise_10_uploads_that_were_left_are_few() {
    let mut world = World::new();
    let log = world.grow("client/a", 10);
    for connection in 1..=20 {
        assert_eq!(world.reply(part(connection, log, 7, 0, false, 3)), Reply::Done);
        assert_eq!(world.reply(part(connection, log, 7, 1, false, 3)), Reply::Done);
    }
    assert_eq!(world.count(Table::Uploads), MAX_UPLOADS);
    assert_eq!(world.count(Table::Snapshots), 2 * MAX_UPLOADS);
    // The oldest were let go; the newest goes on.
    assert_eq!(code(world.reply(part(1, log, 7, 2, true, 3))), Code::SnapshotParts);
    assert_eq!(world.reply(part(20, log, 7, 2, true, 3)), Reply::Done);
    assert_eq!(world.count(Table::Uploads), 0);
}
