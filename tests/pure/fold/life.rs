//! Between attachments: detaching, leaving, forgetting, nodes that end, and the back end's word.

use highwater::connection::{Attach, Event, Progress};
use highwater::fold::{Command, Reply};
use highwater::rows::Table;
use highwater::wire::{Code, GapReason, Met, Pattern, Reason, ResetReason, Start};

use crate::fold::world::*;

fn subscribed(world: &mut World, number: u8, names: &[&str]) {
    let open = names.iter().map(|name| open(name, Start::State)).collect();
    world.attach(Attach { open, ..client("ann", id(number)) });
}

#[test]
fn a_detach_commits_the_last_cursors_and_keeps_the_slot() {
    let mut world = World::new();
    let log = world.grow("a", 5);
    subscribed(&mut world, 1, &["a"]);
    world.time += 7;
    let last = world.progress(1, log, 4);
    world.done(Command::Detach(last));
    let row = world.connection(1).unwrap();
    assert_eq!((row.attached, row.since, row.active()), (None, world.time, true));
    assert_eq!(world.cursor(1, log), Some(4));
    // Said twice, it is detached since the first time.
    let since = world.time;
    world.time += 7;
    world.detach(1);
    assert_eq!(world.connection(1).unwrap().since, since);
}

#[test]
fn cursors_only_rise_and_never_past_the_head() {
    let mut world = World::new();
    let (log, other) = (world.grow("a", 5), world.grow("b", 5));
    subscribed(&mut world, 1, &["a"]);
    for (next, stands) in [(3, 3), (2, 3), (6, 3), (u64::MAX, 3), (5, 5)] {
        world.commit(1, log, next);
        assert_eq!(world.cursor(1, log), Some(stands));
    }
    // A log it is not subscribed to, and one that never was.
    world.commit(1, other, 1);
    world.commit(1, 99, 1);
    assert_eq!(world.subs(1), [log]);
    world.downgrade(1, Reason::Asked);
    world.grow("a", 1);
    world.commit(1, log, 6);
    assert_eq!(world.cursor(1, log), Some(5), "inactive, it commits nothing");
}

/// A commit that is on its way while the cursor is moved says what was reached before that.
#[test]
fn a_rewind_is_not_undone_by_a_commit_on_its_way() {
    let mut world = World::new();
    let (log, other) = (world.grow("a", 5), world.grow("b", 5));
    subscribed(&mut world, 1, &["a", "b"]);
    let mut late = world.progress(1, log, 4);
    late.reached.extend(world.progress(1, other, 3).reached);
    let seek =
        |generation| Command::Seek { connection: id(1), generation, log, to: Start::Offset(1) };
    for by in [None, Some(world.generation(1))] {
        assert!(matches!(world.reply(seek(by)), Reply::Moved(..)));
        world.done(Command::Commit(vec![late.clone()]));
        assert_eq!((world.cursor(1, log), world.cursor(1, other)), (Some(1), Some(3)));
        world.commit(1, log, 2);
        assert_eq!(world.cursor(1, log), Some(2));
    }
    // The same when the log is subscribed to anew.
    let late = world.progress(1, log, 4);
    let (connection, generation) = (id(1), None);
    world.reply(Command::Unsubscribe { connection, generation, logs: vec![log] });
    world.subscribe(1, vec![open("a", Start::Earliest)]);
    world.done(Command::Commit(vec![late]));
    assert_eq!(world.cursor(1, log), Some(0));
}

/// A socket that goes, or says it is hidden, while its connection is being downgraded: it could
/// not have known the new generation. Were it stale, the row would count as attached for as long
/// as the node runs, and once active again it would hold a slot that nobody can take.
#[test]
fn what_a_socket_says_of_itself_may_cross_a_downgrade() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    let (connection, generation) = (id(1), 1);
    world.downgrade(1, Reason::Lag);
    assert_eq!(world.generation(1), 2);
    world.done(Command::Visible { connection, generation, visible: false });
    world.done(Command::Detach(Progress { connection, generation, reached: vec![] }));
    let row = world.connection(1).unwrap();
    assert_eq!((row.attached, row.visible), (None, false));
    world.done(Command::Forget { connection, generation: None });

    subscribed(&mut world, 1, &[]);
    let generation = world.generation(1);
    world.downgrade(1, Reason::Lag);
    world.done(Command::Leave { connection, generation, forget: true });
    assert_eq!(world.connection(1), None);
}

/// Promise 12: an id that was forgotten may come again. What sockets of its former life say late is
/// not said of the new one.
#[test]
fn promise_12_what_a_former_life_says_late_is_not_for_the_next() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    let (connection, former) = (id(1), [1, 2]);
    world.done(Command::Leave { connection, generation: 1, forget: true });
    for life in 1..=3 {
        let met = world.attach(client("ann", connection));
        assert_eq!(met.met, Met::Fresh);
        for generation in former {
            world.stale(Command::Detach(Progress { connection, generation, reached: vec![] }));
            world.stale(Command::Forget { connection, generation: Some(generation) });
            let refused = world.refused(Command::Leave { connection, generation, forget: true });
            assert_eq!(refused, Code::Stale, "life {life}");
        }
        assert!(world.connection(1).unwrap().attached.is_some());
        world.reopen();
        world.done(Command::Leave { connection, generation: met.generation, forget: true });
        world.reopen();
    }
}

#[test]
fn leaving_frees_the_slot_at_once_and_keeps_the_row() {
    let mut world = World::new();
    let log = world.grow("a", 1);
    subscribed(&mut world, 1, &["a"]);
    let (connection, generation) = (id(1), 1);
    let (reply, events) = world.run(Command::Leave { connection, generation, forget: false });
    assert_eq!(reply, Reply::Done);
    assert!(matches!(events[..], [Event::Downgraded { reason: Reason::Left, .. }]));
    let row = world.connection(1).unwrap();
    assert_eq!((row.inactive, row.attached), (Some(Reason::Left), None));
    assert_eq!((world.fold.active(), world.subs(1)), (0, vec![log]));
    // Also one that was inactive when it left.
    let met = world.attach(client("ann", id(1)));
    world.downgrade(1, Reason::Lag);
    world.done(Command::Leave { connection, generation: met.generation, forget: false });
    assert_eq!(world.connection(1).unwrap().inactive, Some(Reason::Left));
}

#[test]
fn forgetting_leaves_no_row_and_keeps_writers_marks() {
    let mut world = World::new();
    let mut all = appends("ann", id(7), vec![item(1, "a", "x")]);
    all.connection = id(1);
    world.append(all);
    subscribed(&mut world, 1, &["a", "b"]);
    world.detach(1);
    let (_, events) = world.run(Command::Forget { connection: id(1), generation: Some(1) });
    assert_eq!(events.last(), Some(&Event::Forgotten { connection: id(1) }));
    let tables = [Table::Connections, Table::Users, Table::UserConnections, Table::Subscribers];
    assert!(tables.iter().all(|table| world.count(*table) == 0));
    assert_eq!(world.writer(id(7)).unwrap().mark, 1);
    assert_eq!(world.attach(client("ann", id(1))).met, Met::Fresh);
}

#[test]
fn one_with_a_socket_is_not_forgotten() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    world.stale(Command::Forget { connection: id(1), generation: None });
    world.detach(1);
    world.stale(Command::Forget { connection: id(1), generation: Some(7) });
    world.done(Command::Forget { connection: id(1), generation: Some(1) });
    let gone = Command::Forget { connection: id(1), generation: None };
    assert_eq!(world.refused(gone), Code::UnknownConnection);
}

#[test]
fn a_nodes_next_run_detaches_what_it_held_without_touching_rows() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    let before = world.state();
    world.time += 100;
    world.restart();
    assert_eq!(world.state(), before);
    // It counts as detached: it may be forgotten, and no socket is fenced when it comes back.
    let (met, events) = world.try_attach(client("ann", id(1)));
    assert_eq!((met.unwrap().met, events), (Met::Resumed, vec![]));
    world.restart();
    world.done(Command::Forget { connection: id(1), generation: None });
}

#[test]
fn a_detach_after_the_nodes_end_keeps_the_time_of_that_end() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    world.time += 100;
    let ended = world.time;
    world.restart();
    world.time += 100;
    world.detach(1);
    assert_eq!(world.connection(1).unwrap().since, ended);
}

#[test]
fn a_silent_node_is_down_until_it_is_heard() {
    let mut world = World::new();
    subscribed(&mut world, 1, &[]);
    let silent = (world.node, world.serial);
    (world.node, world.serial) = ((node(2), 1), 0);
    world.done(Command::NodeDown { node: node(1), incarnation: 1 });
    world.stale(Command::NodeDown { node: node(1), incarnation: 1 });
    world.stale(Command::NodeDown { node: node(1), incarnation: 2 });
    assert!(!world.node_row(node(1)).unwrap().up);
    // While it is down its sockets count for nothing, yet it is told should one of them be alive.
    subscribed(&mut world, 2, &[]);
    let (met, events) = world.try_attach(client("ann", id(1)));
    assert_eq!(met.unwrap().met, Met::Resumed);
    assert!(matches!(events[..], [Event::Fenced { .. }]));
    // It speaks again, in the same run: whoever comes to it is attached.
    (world.node, world.serial) = silent;
    subscribed(&mut world, 3, &[]);
    assert!(world.node_row(node(1)).unwrap().up);
    world.stale(Command::Forget { connection: id(3), generation: None });
}

#[test]
fn seeking_moves_a_cursor_either_way_and_tells_what_it_means() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    subscribed(&mut world, 1, &["a"]);
    world.commit(1, log, 6);
    world.trim(log, 3);
    let mut seek = |to| {
        let generation = Some(1);
        match world.reply(Command::Seek { connection: id(1), generation, log, to }) {
            Reply::Moved(1, opened) => Ok((*opened, world.cursor(1, log).unwrap())),
            Reply::Refused(refusal) => Err(refusal.code),
            other => panic!("{other:?}"),
        }
    };
    for (to, stands) in [
        (Start::Offset(4), 4),
        (Start::Offset(9), 9),
        (Start::Committed, 9),
        (Start::Earliest, 3),
        (Start::End, 9),
        (Start::State, 3),
    ] {
        let (opened, cursor) = seek(to).unwrap();
        assert_eq!(
            (opened.cursor, cursor, opened.reset),
            (stands, stands, Some(ResetReason::Asked))
        );
    }
    let (opened, _) = seek(Start::Offset(1)).unwrap();
    let gap = opened.gap.unwrap();
    assert_eq!((gap.from, gap.to, gap.reason), (1, 3, GapReason::Trimmed));
    assert_eq!(seek(Start::Offset(10)).unwrap_err(), Code::BadOffset);
    let foreign = Command::Seek { connection: id(1), generation: Some(1), log: 99, to: Start::End };
    assert_eq!(world.refused(foreign), Code::UnknownLog);
    world.done(Command::DeleteLog { log });
    let gone = Command::Seek { connection: id(1), generation: Some(1), log, to: Start::End };
    assert_eq!(world.refused(gone), Code::UnknownLog);
}

#[test]
fn the_back_end_seeks_and_only_an_active_client_is_told() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    subscribed(&mut world, 1, &["a"]);
    let seek = Command::Seek { connection: id(1), generation: None, log, to: Start::Offset(2) };
    let (_, events) = world.run(seek.clone());
    assert!(matches!(&events[..], [Event::Opened { opened, .. }] if opened[0].cursor == 2));
    world.downgrade(1, Reason::Asked);
    let (reply, events) = world.run(seek);
    assert!(matches!(reply, Reply::Moved(..)) && events.is_empty());
    // An inactive client itself has nothing to be moved for.
    let own = Command::Seek { connection: id(1), generation: Some(2), log, to: Start::End };
    assert_eq!(world.refused(own), Code::Inactive);
}

#[test]
fn the_back_end_subscribes_the_active_connections_of_a_user() {
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3]);
    world.attach_all("bob", &[4]);
    world.downgrade(2, Reason::Asked);
    let open = vec![open("news", Start::End)];
    let ask = Command::SubscribeUser { user: "ann".to_owned(), open };
    let (reply, events) = world.run(ask);
    assert_eq!(reply, Reply::Reached(vec![id(1), id(3)]));
    assert_eq!(events.len(), 2);
    let log = world.create("news");
    assert_eq!((world.subs(1), world.subs(2), world.subs(4)), (vec![log], vec![], vec![]));
    let ask = Command::UnsubscribeUser { user: "ann".to_owned(), logs: vec![log] };
    let (reply, events) = world.run(ask);
    assert_eq!(reply, Reply::Reached(vec![id(1), id(3)]));
    assert_eq!(events[0], Event::Closed { connection: id(1), logs: vec![log] });
    assert_eq!(world.subs(1), Vec::<u64>::new());
}

#[test]
fn the_back_end_reaches_all_also_after_the_budget_was_lowered() {
    let mut world = World::new();
    world.attach_all("ann", &[1, 2, 3]);
    let mut low = settings();
    low.budgets.connections_per_user = 1;
    world.done(Command::Configure(low));
    let open = vec![open("news", Start::End)];
    let reply = world.reply(Command::SubscribeUser { user: "ann".to_owned(), open });
    assert_eq!(reply, Reply::Reached(vec![id(1), id(2), id(3)]));
}

#[test]
fn a_subscription_of_an_inactive_connection_is_refused_and_its_end_is_not() {
    let mut world = World::new();
    let log = world.grow("a", 1);
    subscribed(&mut world, 1, &["a"]);
    world.downgrade(1, Reason::Memory);
    let (connection, generation) = (id(1), Some(2));
    let (open, read) = (vec![open("b", Start::End)], vec![Pattern::all()]);
    let (make, bases) = (read.clone(), vec![]);
    let ask = highwater::connection::Subscribe { connection, generation, open, make, read, bases };
    assert_eq!(world.refused(Command::Subscribe(ask)), Code::Inactive);
    let ask = Command::Unsubscribe { connection, generation, logs: vec![log, log, 99] };
    assert_eq!(world.reply(ask), Reply::Unsubscribed(vec![log]));
}

#[test]
fn nobody_is_known_before_coming() {
    let mut world = World::new();
    let (connection, generation) = (id(1), 1);
    for command in [
        Command::Detach(Progress { connection, generation, reached: vec![] }),
        Command::Visible { connection, generation, visible: true },
        Command::Leave { connection, generation, forget: true },
        Command::Unsubscribe { connection, generation: None, logs: vec![] },
        Command::Seek { connection, generation: None, log: 1, to: Start::End },
        Command::Downgrade { connection, generation: None, reason: Reason::Asked },
        Command::Forget { connection, generation: None },
    ] {
        assert_eq!(world.refused(command), Code::UnknownConnection);
    }
    assert_eq!(world.state(), []);
}
