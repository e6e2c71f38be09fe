//! Subscriptions that the back end makes for a user: they hold for connections to come.

use highwater::connection::{Attach, Event};
use highwater::fold::{Command, Reply};
use highwater::rows::Table;
use highwater::wire::{Cloning, Code, Open, Pattern, Reason, Start};

use crate::fold::world::*;

fn all_of(user: &str, names: &[&str]) -> Command {
    let open = names.iter().map(|name| open(name, Start::End)).collect();
    Command::SubscribeUser { user: user.to_owned(), open }
}

fn none_of(user: &str, logs: &[u64]) -> Command {
    Command::UnsubscribeUser { user: user.to_owned(), logs: logs.to_vec() }
}

fn with(user: &str, number: u8, open: Vec<Open>) -> Attach {
    Attach { open, ..client(user, id(number)) }
}

#[test]
fn a_subscription_by_the_back_end_holds_for_connections_that_come_later() {
    let mut world = World::new();
    // Nobody is there: the log is made, nobody is reached, and the first to come has it.
    assert_eq!(world.reply(all_of("ann", &["news"])), Reply::Reached(vec![]));
    let log = world.create("news");
    world.write(9, vec![item(1, "news", "x")]);
    world.reopen();
    let met = world.attach(with("ann", 1, vec![]));
    assert_eq!(met.opened.iter().map(|one| (one.log, one.cursor)).collect::<Vec<_>>(), [(log, 0)]);
    assert_eq!(world.attach(with("bob", 2, vec![])).opened, []);
    // One that is inactive at that moment has it once it is active again.
    world.downgrade(1, Reason::Lag);
    assert_eq!(world.reply(all_of("ann", &["more"])), Reply::Reached(vec![]));
    let more = world.create("more");
    world.time += 2_000;
    let (Reply::Attached(met), _) = world.activate_with(1, Cloning::None, vec![]) else {
        panic!("not activated")
    };
    let mut logs: Vec<_> = met.opened.iter().map(|one| one.log).collect();
    logs.sort_unstable();
    assert_eq!(logs, [log, more]);
    // Until it is undone.
    assert_eq!(world.reply(none_of("ann", &[log, more, 99])), Reply::Reached(vec![id(1)]));
    assert_eq!(world.attach(with("ann", 3, vec![])).opened, []);
    let asked = with("ann", 1, vec![]);
    assert_eq!(world.attach(asked).opened, [], "nor does the one that had it find it again");
}

/// What the client ends is ended on its connection, until that is attached anew: the back end's
/// word holds until the back end takes it back.
#[test]
fn a_client_that_unsubscribes_has_the_log_again_when_it_comes_back() {
    let mut world = World::new();
    world.attach(with("ann", 1, vec![]));
    assert_eq!(world.reply(all_of("ann", &["news"])), Reply::Reached(vec![id(1)]));
    let log = world.create("news");
    let (connection, generation) = (id(1), Some(world.generation(1)));
    world.reply(Command::Unsubscribe { connection, generation, logs: vec![log] });
    assert_eq!(world.subs(1), Vec::<u64>::new());
    world.detach(1);
    assert_eq!(world.attach(with("ann", 1, vec![])).opened.len(), 1);
    assert_eq!(world.subs(1), [log]);
}

#[test]
fn promise_11_a_subscription_by_the_back_end_never_widens_a_grant() {
    let mut world = World::new();
    world.reply(all_of("ann", &["news", "secret"]));
    let read = vec![Pattern::parse("news").unwrap()];
    let met = world.attach(Attach { read, ..with("ann", 1, vec![]) });
    let names: Vec<_> = met.opened.iter().map(|one| one.name.as_str()).collect();
    assert_eq!((names, met.refused), (vec!["news"], vec![]));
}

#[test]
fn promise_10_subscriptions_by_the_back_end_are_bounded() {
    let mut world = World::new();
    let names: Vec<String> = (0..9).map(|n| format!("log/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.reply(all_of("ann", &names[..8]));
    let before = world.count(Table::Logs);
    assert_eq!(world.refused(all_of("ann", &names[8..])), Code::Subscriptions);
    assert_eq!(world.count(Table::Logs), before, "what is refused makes nothing");
    // Again is no more; and a log that is deleted makes room.
    assert_eq!(world.reply(all_of("ann", &names[..8])), Reply::Reached(vec![]));
    let first = world.create(names[0]);
    world.done(Command::DeleteLog { log: first });
    world.reply(all_of("ann", &names[8..]));
    // What the client itself has open comes first; no more than fits is added.
    let own: Vec<_> = (0..5).map(|n| open(&format!("own/{n}"), Start::State)).collect();
    let met = world.attach(with("ann", 1, own));
    assert_eq!(met.opened.len(), 8);
    assert_eq!(met.opened.iter().filter(|one| one.name.starts_with("own/")).count(), 5);
}

#[test]
fn what_is_undone_leaves_no_row() {
    let mut world = World::new();
    world.reply(all_of("ann", &["news"]));
    let log = world.create("news");
    assert_eq!(world.count(Table::Users), 1);
    let (_, events) = world.run(none_of("ann", &[log]));
    assert_eq!((events, world.count(Table::Users)), (Vec::<Event>::new(), 0));
}
