//! What a client can send to hurt: numbers at their ends, lists that name one thing many times, and
//! words that would cost the fold more work than they cost to send.

use std::cell::Cell;

use highwater::connection::{Attach, Budgets, Progress, Reached, Subscribe};
use highwater::fold::{Command, Effect, FOLD_VERSION, Reply, Settings};
use highwater::rows::{MemoryRows, Pair, Rows, RowsError, Table};
use highwater::wire::{Cloning, Code, MAX_OFFSET, Pattern, Start, Target, codec};

use crate::fold::world::*;

/// Rows that count how often the store is asked.
struct Counted<'a>(&'a MemoryRows, Cell<usize>);

impl Rows for Counted<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        from: &[u8],
        most: usize,
    ) -> Result<Vec<Pair>, RowsError> {
        self.1.set(self.1.get() + 1);
        self.0.scan(table, prefix, from, most)
    }
}

/// Reads from the store that one command costs when nothing is in memory.
fn reads(world: &mut World, command: Command) -> (usize, Reply) {
    world.reopen();
    let batch = world.next_batch(vec![command]);
    let counted = Counted(&world.rows, Cell::new(0));
    let number = world.batch + 1;
    let done = world.fold.apply(number, &codec::to_bytes(&batch), batch, &counted).unwrap();
    let reads = counted.1.get();
    world.batch += 1;
    world.rows.commit(&done.writes);
    let reply = done.effects.into_iter().find_map(|effect| match effect {
        Effect::Reply(_, reply) => Some(reply),
        _ => None,
    });
    (reads, reply.unwrap())
}

#[test]
fn numbers_at_their_ends() {
    let mut world = World::new();
    let log = world.grow("a", 3);
    let to = || Target::Log(log);
    for seq in [u64::MAX, MAX_OFFSET + 1] {
        let told = world.write_one(1, entry(seq, 0, to(), text("x")));
        assert_eq!(refusal(&told), Code::BadRequest);
    }
    assert_eq!(world.writer(id(1)).unwrap().mark, 0);
    assert_eq!(offset(&world.write_one(1, entry(MAX_OFFSET, 0, to(), text("x")))), 3);
    let mut all = appends("ann", id(1), vec![entry(u64::MAX, MAX_OFFSET, to(), text("x"))]);
    all.oldest = u64::MAX;
    assert_eq!(refusal(&world.append(all).answers[0].outcome), Code::BadRequest);

    let ends = [held("a", log, u64::MAX), held("b", u64::MAX, u64::MAX)];
    world.attach(Attach { open: ends.to_vec(), ..client("ann", id(1)) });
    world.subscribe(1, vec![open("c", Start::Offset(u64::MAX))]);
    world.commit(1, u64::MAX, u64::MAX);
    world.commit(1, log, u64::MAX);
    for log in [0, log, u64::MAX] {
        let (generation, to) = (Some(1), Start::Offset(u64::MAX));
        let seek = Command::Seek { connection: id(1), generation, log, to };
        assert!(matches!(world.reply(seek), Reply::Refused(_)));
        assert!(matches!(world.reply(Command::Trim { log, to: u64::MAX }), Reply::Refused(_)));
    }
    let batch =
        world.next_batch(vec![Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION }]);
    let late = highwater::fold::Header { time: u64::MAX, ..batch.header };
    world.apply(&highwater::fold::Batch { header: late, ..batch });
    world.downgrade(1, highwater::wire::Reason::Lag);
    // At the end of time there is nothing to wait for.
    assert!(matches!(world.activate(1).0, Reply::Attached(_)));
    world.detach(1);
}

#[test]
fn a_list_that_names_one_log_many_times_makes_one_subscription() {
    let mut world = World::new();
    let log = world.grow("a", 3);
    world.attach(client("ann", id(1)));
    let (opened, refused) =
        world.subscribe_as(1, vec![open("a", Start::End); 5_000], vec![Pattern::all()]);
    // As many as it may have subscriptions are looked at, and each is answered.
    assert_eq!((opened.len(), refused.len()), (8, 5_000 - 8));
    assert_eq!(opened.iter().filter(|one| !one.again).count(), 1);
    assert_eq!(world.subs(1), [log]);
    world.commit(1, log, 3);
    let (connection, generation) = (id(1), Some(1));
    let logs = vec![log; 100_000];
    let ask = Command::Unsubscribe { connection, generation, logs };
    assert_eq!(world.reply(ask), Reply::Unsubscribed(vec![log]));
    assert_eq!(world.count(Table::Subscribers), 0);
}

/// Part of promise 10: foreign logs in an acknowledgement cost no read each.
#[test]
fn promise_10_a_commit_reads_its_own_subscriptions_only() {
    let mut world = World::new();
    let log = world.grow("a", 3);
    let names: Vec<_> = (0..50).map(|n| world.create(&format!("other/{n}"))).collect();
    world.attach(Attach { open: vec![open("a", Start::Earliest)], ..client("ann", id(1)) });
    let all = names.iter().chain([&log]).map(|log| Reached { log: *log, next: 2, opening: 1 });
    let (connection, reached) = (id(1), all.collect());
    let commit = Command::Commit(vec![Progress { connection, generation: 1, reached }]);
    let (reads, reply) = reads(&mut world, commit);
    assert_eq!((reply, world.cursor(1, log)), (Reply::Done, Some(2)));
    assert!(reads <= 4, "{reads} reads");
}

/// Part of promise 10: a client that waits and asks again costs no read per subscription of its
/// siblings, since lag is looked at only where it decides.
#[test]
fn promise_10_asking_for_a_slot_in_vain_is_cheap() {
    let budgets = Budgets { subscriptions: 500, ..settings().budgets };
    let mut world = World::with(Settings { budgets, ..settings() });
    let names: Vec<String> = (0..300).map(|n| format!("log/{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| open(name, Start::State)).collect();
    for number in 1..=5 {
        world.attach(Attach { open: all.clone(), ..client("ann", id(number)) });
    }
    world.attach(client("ann", id(6)));
    world.time += 2_000;
    let (connection, generation, read) = (id(6), Some(1), vec![Pattern::all()]);
    let ask = Subscribe { connection, generation, open: vec![], read, make: vec![], bases: vec![] };
    let (reads, reply) =
        reads(&mut world, Command::Activate { ask, cloning: Cloning::All, holds: false });
    assert!(matches!(reply, Reply::Refused(why) if why.code == Code::Slots));
    // Row and cursors of each of the six, and a few besides; not their 300 logs.
    assert!(reads <= 2 * 6 + 4, "{reads} reads");
}

/// Part of promise 10: a list as long as a frame holds is not looked up name by name.
#[test]
fn promise_10_a_long_list_of_logs_is_cut() {
    let mut world = World::new();
    world.attach(client("ann", id(1)));
    let names: Vec<String> = (0..2_000).map(|n| format!("log/{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| open(name, Start::State)).collect();
    let (connection, generation, read) = (id(1), Some(1), vec![Pattern::all()]);
    let ask = Command::Subscribe(Subscribe {
        connection,
        generation,
        open: all,
        make: read.clone(),
        read,
        bases: vec![],
    });
    let (reads, reply) = reads(&mut world, ask);
    let Reply::Subscribed(_, opened, refused) = reply else { panic!("{reply:?}") };
    assert_eq!((opened.len(), refused.len()), (8, 1_992));
    assert!(reads <= 40, "{reads} reads");
}

#[test]
fn promise_10_writers_asked_after_are_few() {
    let mut world = World::new();
    let at = highwater::wire::WriterAt { writer: id(7), oldest: 1 };
    let writers = vec![at; highwater::connection::MAX_WRITERS + 1];
    let ask = Attach { writers, ..client("ann", id(1)) };
    assert_eq!(world.refused(Command::Attach(ask)), Code::BadRequest);
    assert_eq!(world.state(), []);
}

/// A budget that a configuration sets too high would make rows that cannot be read back.
#[test]
fn rows_stay_readable_whatever_the_budgets_say() {
    let most = Budgets::MOST_SUBSCRIPTIONS as usize;
    let budgets =
        Budgets { subscriptions: u32::MAX, active_per_user: u32::MAX, ..settings().budgets };
    let mut world = World::with(Settings { budgets, ..settings() });
    let names: Vec<String> = (0..most + 5).map(|n| format!("log/{n}")).collect();
    let all: Vec<_> = names.iter().map(|name| open(name, Start::State)).collect();
    let ask = Command::Attach(Attach { open: all, ..client("ann", id(1)) });
    let batch = world.next_batch(vec![ask]);
    world.try_apply(&batch).unwrap();
    world.reopen();
    assert_eq!(world.subs(1).len(), most);
}
