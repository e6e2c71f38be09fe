//! How a client is met, and what a clone overwrites.

use highwater::connection::{Attach, Attachment, BaseFrom, Event, Opened, Progress, Reached};
use highwater::fold::{Command, Reply};
use highwater::wire::{Cloning, Code, Met, Open, Pattern, Reason, ResetReason, Start};

use crate::fold::world::*;

fn with(user: &str, number: u8, open: Vec<Open>) -> Attach {
    Attach { open, ..client(user, id(number)) }
}

#[test]
fn a_new_connection_with_nobody_to_clone_is_fresh() {
    let mut world = World::new();
    let log = world.grow("a", 3);
    let met = world.attach(with("ann", 1, vec![open("a", Start::State), open("b", Start::End)]));
    assert_eq!((met.met, met.source, met.generation), (Met::Fresh, None, 1));
    let opened = of(&met.opened, log);
    assert_eq!((opened.cursor, opened.complete, opened.reset), (0, 3, Some(ResetReason::New)));
    assert_eq!(world.subs(1), [log, log + 1]);
    // Another user's active connection is nobody to clone.
    assert_eq!(world.attach(with("bob", 2, vec![])).met, Met::Fresh);
}

/// Promise 6 as the fold decides it: after any time, with any traffic elsewhere, a cursor that saw
/// none is resumed without reset or gap.
#[test]
fn promise_06_a_quiet_log_resumes_after_any_time() {
    let mut world = World::new();
    let log = world.grow("quiet", 3);
    world.attach(with("ann", 1, vec![open("quiet", Start::State)]));
    world.commit(1, log, 3);
    world.detach(1);
    world.time += 400 * 24 * 3_600_000;
    world.grow("loud", 500);
    world.reopen();
    let met = world.attach(with("ann", 1, vec![held("quiet", log, 3)]));
    assert_eq!(met.met, Met::Resumed);
    let opened = of(&met.opened, log);
    assert_eq!((opened.cursor, opened.reset, &opened.gap, &opened.base), (3, None, &None, &None));
}

#[test]
fn an_active_connection_is_resumed_from_its_own_positions() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 5), world.grow("b", 5));
    world.attach(with("ann", 1, vec![open("a", Start::End), open("b", Start::End)]));
    world.attach(with("ann", 2, vec![]));
    world.grow("a", 5);
    world.detach(1);
    // It lists one of its two, so the other one comes as a state: it can hold nothing of it.
    let met = world.attach(with("ann", 1, vec![held("a", a, 6)]));
    assert_eq!((met.met, met.source), (Met::Resumed, None));
    assert_eq!((of(&met.opened, a).cursor, of(&met.opened, a).reset), (6, None));
    assert_eq!((of(&met.opened, b).cursor, of(&met.opened, b).reset), (0, Some(ResetReason::New)));
    assert_eq!(world.cursor(1, a), Some(6));
}

#[test]
fn a_newcomer_is_cloned_from_an_active_sibling() {
    let mut world = World::new();
    let (a, b, c) = (world.grow("a", 4), world.grow("latest/b", 4), world.grow("c", 4));
    world.attach(with("ann", 1, vec![open("a", Start::State), open("latest/b", Start::State)]));
    let met = world.attach(with("ann", 2, vec![open("c", Start::End), held("a", a, 2)]));
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(1))));
    assert_eq!(world.subs(2), [a, b, c]);
    // What it holds goes on by delta, what it does not comes as the newest base, and what only the
    // client has is as by a newcomer.
    assert_eq!((of(&met.opened, a).cursor, of(&met.opened, a).reset), (2, None));
    assert_eq!(of(&met.opened, b).base, Some(BaseFrom::Latest(4)));
    assert_eq!(of(&met.opened, b).reset, Some(ResetReason::Cloned));
    assert_eq!(of(&met.opened, c).cursor, 4);
}

#[test]
fn an_inactive_connection_is_overwritten_by_a_clone() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 4), world.grow("b", 4));
    world.attach(with("ann", 1, vec![open("a", Start::State)]));
    world.attach(with("ann", 2, vec![open("b", Start::State)]));
    world.downgrade(1, Reason::Asked);
    let unsub = world.generation(2);
    let ask = Command::Unsubscribe { connection: id(2), generation: Some(unsub), logs: vec![a] };
    assert_eq!(world.reply(ask), Reply::Unsubscribed(vec![a]));
    let met = world.attach(with("ann", 1, vec![]));
    assert_eq!((met.met, met.source, met.ended), (Met::Cloned, Some(id(2)), vec![a]));
    assert_eq!(world.subs(1), [b]);
}

#[test]
fn a_deleted_log_is_not_cloned_and_its_name_means_the_new_one() {
    let mut world = World::new();
    let old = world.grow("a", 4);
    world.attach(with("ann", 1, vec![open("a", Start::State)]));
    world.done(Command::DeleteLog { log: old });
    assert_eq!(world.attach(with("ann", 2, vec![])).opened, []);
    let met = world.attach(with("ann", 3, vec![held("a", old, 4)]));
    let opened = &met.opened[0];
    assert_eq!((opened.log, opened.reset), (old + 1, Some(ResetReason::OtherLog)));
    // What the source itself had is ended when it comes back.
    let met = world.attach(with("ann", 1, vec![]));
    assert_eq!((met.opened.len(), met.ended), (0, vec![old]));
}

#[test]
fn without_a_sibling_an_inactive_one_is_restored_from_its_own_row() {
    let mut world = World::new();
    let (a, b) = (world.grow("client/a", 4), world.grow("b", 4));
    world.attach(with("ann", 1, vec![open("client/a", Start::State), open("b", Start::End)]));
    world.commit(1, a, 4);
    world.downgrade(1, Reason::Asked);
    world.grow("client/a", 4);
    world.grow("b", 2);
    world.snapshot(a, 6);
    let met = world.attach(with("ann", 1, vec![open("b", Start::Committed)]));
    assert_eq!((met.met, met.source), (Met::Restored, None));
    let opened = of(&met.opened, a);
    assert_eq!((opened.cursor, opened.reset), (6, Some(ResetReason::Restored)));
    assert_eq!((of(&met.opened, b).cursor, of(&met.opened, b).reset), (4, None));
}

#[test]
fn cloning_none_keeps_to_its_own_row() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 4), world.grow("b", 4));
    world.attach(with("ann", 1, vec![open("a", Start::State)]));
    let none = |open| Attach { cloning: Cloning::None, ..with("ann", 2, open) };
    let met = world.attach(none(vec![open("b", Start::Committed)]));
    assert_eq!((met.met, met.source), (Met::Fresh, None));
    assert_eq!(world.subs(2), [b]);
    world.commit(2, b, 3);
    world.downgrade(2, Reason::Detached);
    let met = world.attach(none(vec![open("b", Start::Committed)]));
    assert_eq!((met.met, of(&met.opened, b).cursor), (Met::Restored, 3));
    assert_eq!(world.subs(1), [a]);
}

#[test]
fn cloning_own_takes_positions_for_the_clients_own_logs_only() {
    let mut world = World::new();
    let (a, b) = (world.grow("a", 9), world.grow("b", 9));
    world.attach(with("ann", 1, vec![open("a", Start::State), open("b", Start::State)]));
    world.commit(1, b, 7);
    let ask = with("ann", 2, vec![open("b", Start::Committed), open("c", Start::State)]);
    let met = world.attach(Attach { cloning: Cloning::Own, ..ask });
    assert_eq!((met.met, met.source), (Met::Cloned, Some(id(1))));
    assert_eq!(of(&met.opened, b).cursor, 7);
    assert!(!world.subs(2).contains(&a) && world.subs(2).len() == 2);
}

#[test]
fn the_source_is_attached_then_the_last_to_commit_then_the_smallest_id() {
    let mut world = World::new();
    let log = world.grow("a", 9);
    world.attach(with("ann", 1, vec![open("a", Start::State)]));
    world.attach_all("ann", &[2, 3]);
    let source = |world: &mut World| {
        // A connection that comes, is cloned, and is gone again.
        let met = world.attach(client("ann", id(9)));
        let generation = met.generation;
        world.done(Command::Leave { connection: id(9), generation, forget: true });
        met.source.unwrap()
    };
    assert_eq!(source(&mut world), id(1));
    world.commit(2, log, 2);
    assert_eq!(source(&mut world), id(2));
    world.commit(3, log, 1);
    assert_eq!(source(&mut world), id(3));
    // A commit that moves nothing is no news of what was seen.
    world.commit(1, log, 0);
    assert_eq!(source(&mut world), id(3));
    world.detach(3);
    assert_eq!(source(&mut world), id(2));
    world.detach(2);
    assert_eq!(source(&mut world), id(1));
    world.detach(1);
    assert_eq!(source(&mut world), id(3));
}

/// Promise 11 as the fold decides it: a clone, a resume and a subscription open what the client's
/// own grants allow. The check at each delivery is the node's.
#[test]
fn promise_11_a_clone_never_widens() {
    let mut world = World::new();
    let (a, secret) = (world.grow("open/a", 1), world.grow("secret/b", 1));
    let names = vec![open("open/a", Start::State), open("secret/b", Start::State)];
    world.attach(with("ann", 1, names.clone()));
    let narrow = vec![Pattern::parse("open/**").unwrap()];
    let ask = Attach { read: narrow.clone(), ..with("ann", 2, names.clone()) };
    let met = world.attach(ask.clone());
    assert_eq!(met.met, Met::Cloned);
    assert_eq!(met.refused[0].0, "secret/b");
    assert_eq!(met.refused[0].1.code, Code::Denied);
    assert_eq!(world.subs(2), [a]);
    // Its token has shrunk since: what it had is resumed without the rest, and told as ended.
    let met = world.attach(Attach { connection: id(1), open: vec![], ..ask });
    assert_eq!((met.met, met.ended), (Met::Resumed, vec![secret]));
    assert_eq!(world.subs(1), [a]);
    let (opened, refused) = world.subscribe_as(1, names, narrow);
    assert_eq!((opened.len(), refused), (1, vec![("secret/b".to_owned(), Code::Denied)]));
    // A name that may not be read is not made either.
    let before = world.count(highwater::rows::Table::Logs);
    world.subscribe_as(1, vec![open("secret/new", Start::State)], vec![]);
    assert_eq!(world.count(highwater::rows::Table::Logs), before);
}

/// Promise 8 as the fold decides it: whatever way a client is met, the place at which it may show
/// a log is at or past what the source had committed, what it had seen, and what it appended.
/// (`attach` and `subscribe` of the test world assert it for every log they open.)
#[test]
fn promise_08_nothing_goes_backwards_by_a_clone() {
    let mut world = World::new();
    for rule in ["", "latest/", "client/"] {
        let name = format!("{rule}doc");
        let log = world.grow(&name, 6);
        if rule == "client/" {
            world.snapshot(log, 2);
        }
        world.attach(with("ann", 1, vec![open(&name, Start::State)]));
        world.commit(1, log, 5);
        for start in [Start::State, Start::Earliest, Start::End, Start::Offset(1), Start::Committed]
        {
            let met = world.attach(with("ann", 2, vec![open(&name, start)]));
            assert!(of(&met.opened, log).complete >= 6, "{name} {start:?}");
            let met = world.attach(with("ann", 2, vec![held(&name, log, 6)]));
            assert_eq!((of(&met.opened, log).cursor, of(&met.opened, log).reset), (6, None));
            world.detach(2);
            world.done(Command::Forget { connection: id(2), generation: None });
        }
    }
}

/// Promise 12 as the fold decides it: the older socket's node is told, and what the older socket
/// says is stale. That its node closes it is the node's part.
#[test]
fn promise_12_a_second_attachment_fences_the_first() {
    let mut world = World::new();
    let log = world.grow("a", 5);
    world.attach(with("ann", 1, vec![open("a", Start::State)]));
    let was = Attachment { node: node(1), incarnation: 1 };
    world.node = (node(2), 1);
    world.serial = 0;
    let (met, events) = world.try_attach(with("ann", 1, vec![]));
    assert_eq!(met.unwrap().generation, 2);
    assert_eq!(events, [Event::Fenced { connection: id(1), was, generation: 2 }]);
    let (connection, generation) = (id(1), 1);
    let reached = vec![Reached { log, next: 4, opening: 2 }];
    let progress = Progress { connection, generation, reached };
    world.done(Command::Commit(vec![progress.clone()]));
    assert_eq!(world.cursor(1, log), Some(0), "it names an old generation, so it does nothing");
    world.stale(Command::Detach(progress));
    world.stale(Command::Visible { connection, generation, visible: false });
    world.stale(Command::Leave { connection, generation, forget: true });
    world.stale(Command::Unsubscribe { connection, generation: Some(1), logs: vec![log] });
    world.stale(Command::Seek { connection, generation: Some(1), log, to: Start::End });
    let (open, read) = (vec![open("b", Start::End)], vec![Pattern::all()]);
    let ask = highwater::connection::Subscribe {
        connection,
        generation: Some(1),
        open,
        make: read.clone(),
        bases: vec![],
        read,
    };
    world.stale(Command::Subscribe(ask.clone()));
    world.stale(Command::Activate { ask, cloning: Cloning::All, holds: false });
    let reason = Reason::Lag;
    world.stale(Command::Downgrade { connection, generation: Some(1), reason });
    world.stale(Command::Forget { connection, generation: Some(1) });
    assert_eq!(world.connection(1).unwrap().attached.map(|at| at.node), Some(node(2)));
}

#[test]
fn another_users_connection_is_unknown() {
    let mut world = World::new();
    world.attach_all("ann", &[1]);
    let before = world.state();
    let foreign = Command::Attach(client("bob", id(1)));
    assert_eq!(world.refused(foreign), Code::UnknownConnection);
    assert_eq!(world.state(), before);
}

#[test]
fn a_user_has_so_many_connections_and_no_more() {
    let mut world = World::new();
    for number in 1..=12 {
        assert!(world.try_attach(client("ann", id(number))).0.is_ok());
    }
    let before = world.state();
    assert_eq!(world.refused(Command::Attach(client("ann", id(13)))), Code::Connections);
    assert_eq!(world.state(), before);
    // Known ones come back, and room is made by forgetting.
    world.attach(client("ann", id(1)));
    world.detach(12);
    world.done(Command::Forget { connection: id(12), generation: None });
    assert!(world.try_attach(client("ann", id(13))).0.is_ok());
}

#[test]
fn subscriptions_are_bounded_at_attach_and_after() {
    let mut world = World::new();
    let names: Vec<String> = (0..10).map(|n| format!("log/{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| open(name, Start::State)).collect();
    let met = world.attach(with("ann", 1, all.clone()));
    assert_eq!(met.opened.len(), 8);
    let refused: Vec<_> = met.refused.iter().map(|(name, why)| (name.as_str(), why.code)).collect();
    assert_eq!(refused, [("log/8", Code::Subscriptions), ("log/9", Code::Subscriptions)]);
    // Those it has may be asked for again; a further one not, and it is not made.
    let (opened, refused) = world.subscribe_as(1, all[6..9].to_vec(), vec![Pattern::all()]);
    assert_eq!((opened.len(), refused.len()), (2, 1));
    assert_eq!(world.count(highwater::rows::Table::Logs), 8);
}

#[test]
fn subscriptions_that_cannot_be_made_are_told_by_name() {
    let mut world = World::with(highwater::fold::Settings { auto_create: false, ..settings() });
    let met =
        world.attach(with("ann", 1, vec![open("a", Start::State), open("b//", Start::State)]));
    let refused: Vec<_> = met.refused.iter().map(|(name, why)| (name.as_str(), why.code)).collect();
    assert_eq!(refused, [("a", Code::UnknownLog), ("b//", Code::BadName)]);
}

/// Each name of a list has an answer, also one that stands there twice: the second is the log as it
/// is by then, with the later priority.
#[test]
fn promise_20_one_answer_to_each_name_of_a_list() {
    let mut world = World::new();
    let twice = |name: &str| {
        let later = Open { priority: 7, ..open(name, Start::State) };
        vec![open(name, Start::State), open("b", Start::State), later, open("c//", Start::State)]
    };
    let answers = |opened: &[Opened]| {
        opened.iter().map(|one| (one.name.clone(), one.priority, one.again)).collect::<Vec<_>>()
    };
    let all = |name: &str| {
        let first = (name.to_owned(), 7, false);
        let mut all = vec![first, ("b".to_owned(), 0, false), (name.to_owned(), 7, true)];
        all[..2].sort();
        all
    };
    world.write(1, vec![item(1, "a", "x"), item(2, "a", "y")]);
    let met = world.attach(with("ann", 1, twice("a")));
    assert_eq!(answers(&met.opened), all("a"));
    let [first, .., second] = &met.opened[..] else { panic!("{met:?}") };
    assert_eq!((first.cursor, first.opening), (second.cursor, second.opening));
    assert_eq!((second.reset, &second.gap), (None, &None), "{second:?}");
    let mut list = twice("d");
    list.push(list[3].clone());
    let (opened, refused) = world.subscribe_as(1, list, vec![Pattern::all()]);
    let mut want = vec![("d".to_owned(), 7, false)];
    want.extend([("b".to_owned(), 0, true), ("d".to_owned(), 7, true)]);
    assert_eq!(answers(&opened), want);
    assert_eq!(refused.len(), 2, "a name that is refused is refused twice: {refused:?}");
    world.downgrade(1, Reason::Asked);
    world.time += 2_000;
    let (Reply::Attached(met), _) = world.activate_with(1, Cloning::None, twice("e")) else {
        panic!("not activated")
    };
    assert_eq!(met.opened.iter().filter(|one| one.name == "e").count(), 2, "{met:?}");
}

#[test]
fn who_may_only_read_makes_no_log() {
    let mut world = World::new();
    let opens = || vec![open("a", Start::State), open("b", Start::State)];
    let reader = |number| Attach { make: vec![], ..with("ann", number, opens()) };
    world.write(1, vec![item(1, "a", "x")]);
    let met = world.attach(reader(1));
    assert_eq!(met.opened.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["a"]);
    let [(name, why)] = &met.refused[..] else { panic!("{:?}", met.refused) };
    // Not for good: the log may be there when it asks again.
    assert_eq!((name.as_str(), why.code), ("b", Code::UnknownLog));
    assert!(why.retry_after > 0);
    let ask = |open| highwater::connection::Subscribe {
        connection: id(1),
        generation: Some(1),
        open,
        read: vec![Pattern::all()],
        make: vec![Pattern::parse("c").unwrap()],
        bases: vec![],
    };
    let opened = |reply| match reply {
        Reply::Subscribed(_, opened, refused) => (opened.len(), refused.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(opened(world.reply(Command::Subscribe(ask(opens())))), (1, 1));
    assert_eq!(world.count(highwater::rows::Table::Logs), 1);
    world.write(1, vec![item(2, "b", "x")]);
    let more = vec![open("b", Start::State), open("c", Start::State)];
    assert_eq!(opened(world.reply(Command::Subscribe(ask(more)))), (2, 0));
}

/// A service whose base was sent but never confirmed begins with the state again, not behind it.
#[test]
fn promise_01_a_base_that_was_never_confirmed_is_sent_again() {
    for (name, at) in [("latest/a", 5), ("client/a", 3)] {
        let mut world = World::new();
        let log = world.grow(name, 5);
        if name == "client/a" {
            world.snapshot(log, 3);
        }
        let ask =
            Attach { cloning: Cloning::None, ..with("ann", 1, vec![open(name, Start::Committed)]) };
        for _ in 0..2 {
            // It comes, is sent the base, and its process dies before it has worked it off.
            let met = world.attach(ask.clone());
            let opened = of(&met.opened, log);
            assert_eq!(opened.base.as_ref().map(BaseFrom::offset), Some(at));
            world.restart();
        }
        world.attach(ask.clone());
        world.commit(1, log, at);
        let met = world.attach(ask);
        assert_eq!((of(&met.opened, log).cursor, &of(&met.opened, log).base), (at, &None));
    }
}
