//! Random runs: commands of several users, connections, writers and nodes, with crashes, repeats
//! and stale words, against [`Oracle`](crate::fold::oracle) and the invariants of
//! [`model`](crate::fold::model).
//!
//! Promise 13 as one process can show it: a second fold with caches of two rows, reopened at other
//! moments, makes the same writes and tells the same, batch by batch.
//!
//! `HIGHWATER_SEED=7 cargo test --test pure fold::random` runs one seed;
//! `HIGHWATER_RUNS=20000` more.

use highwater::connection::{Attach, Progress, Reached};
use highwater::fold::{Applied, Batch, CacheSizes, Command, Effect, Fold, Header, Reply, Settings};
use highwater::log::{Appends, Entry, Part, entry_hash};
use highwater::rows::MemoryRows;
use highwater::wire::{
    BaseHeld, Cloning, Cursor, Id, Level, Open, Pattern, Reason, SnapshotRule, Start, Target, Upto,
    WriterAt, codec,
};

use crate::fold::oracle::{Oracle, ask};
use crate::fold::world::{FOLD, JOURNAL, TINY, bytes, keyed, node, rule, settings};

const NAMES: [&str; 6] = ["a", "b/1", "latest/a", "latest/b", "client/a", "client/b"];
const USERS: [&str; 3] = ["ann", "bob", "cat"];

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A fold with its rows.
struct Side {
    fold: Fold,
    rows: MemoryRows,
    sizes: CacheSizes,
}

impl Side {
    fn new(sizes: CacheSizes) -> Self {
        let rows = MemoryRows::default();
        let fold = Fold::open(&rows, JOURNAL, Level::Memory, few(), sizes).unwrap();
        Self { fold, rows, sizes }
    }

    fn reopen(&mut self) {
        self.fold = Fold::open(&self.rows, JOURNAL, Level::Memory, few(), self.sizes).unwrap();
    }

    fn apply(&mut self, number: u64, batch: &Batch, crash: bool) -> Applied {
        let encoded = codec::to_bytes(batch);
        let done = self.fold.apply(number, &encoded, batch.clone(), &self.rows).unwrap();
        if !crash {
            self.rows.commit(&done.writes);
            return done;
        }
        // The process dies before the commit: the batch is folded again by the next one.
        self.reopen();
        let again = self.apply(number, batch, false);
        assert_eq!((&done.writes, &done.effects), (&again.writes, &again.effects));
        again
    }
}

/// Budgets so small that every refusal comes up.
fn few() -> Settings {
    let mut few = settings();
    few.budgets.connections_per_user = 3;
    few.budgets.active_per_user = 2;
    few.budgets.active_per_device = 1;
    few.budgets.active_total = 5;
    few.budgets.subscriptions = 4;
    few.budgets.activate_after_ms = 20;
    // Keys end after a second.
    few.rules[0].retain_seconds = 1;
    few
}

struct Run {
    random: Random,
    oracle: Oracle,
    one: Side,
    twin: Side,
    /// Node, run and serial of each node.
    nodes: [(Id, u64, u64); 2],
    sent: Vec<Batch>,
    time: u64,
    batch: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            oracle: Oracle::new(few()),
            one: Side::new(CacheSizes::default()),
            twin: Side::new(TINY),
            nodes: [(node(1), 1, 0), (node(2), 1, 0)],
            sent: Vec::new(),
            time: 1_000,
            batch: 0,
        }
    }

    fn connection(&mut self) -> Id {
        Id([1 + self.random.below(12) as u8; 16])
    }

    /// Mostly the user that a connection or writer belongs to.
    fn owner(&mut self, of: Id) -> &'static str {
        if self.random.one_in(20) { self.random.pick(&USERS) } else { USERS[of.0[0] as usize % 3] }
    }

    fn writer(&mut self) -> Id {
        Id([0x20 + self.random.below(5) as u8; 16])
    }

    fn log(&mut self) -> u64 {
        self.random.below(self.oracle.logs() + 1) + u64::from(!self.random.one_in(30))
    }

    fn offset(&mut self, log: u64) -> u64 {
        self.random.below(self.oracle.head(log) + 2)
    }

    fn generation(&mut self, of: Id) -> u64 {
        let stale = self.random.below(8).saturating_sub(5);
        self.oracle.generation(of).saturating_sub(stale)
    }

    fn open(&mut self) -> Open {
        let (log, name) = (self.log(), self.random.pick(&NAMES).to_owned());
        let next = self.offset(log);
        let have = self.random.one_in(2).then_some(Cursor { log, next });
        Open { name, have, start: self.start(next), priority: 0 }
    }

    fn opens(&mut self) -> Vec<Open> {
        (0..self.random.below(4)).map(|_| self.open()).collect()
    }

    fn start(&mut self, at: u64) -> Start {
        let starts =
            [Start::State, Start::Earliest, Start::End, Start::Offset(at), Start::Committed];
        self.random.pick(&starts)
    }

    /// What a client says it has reached: mostly from the openings in force.
    fn progress(&mut self, connection: Id, generation: u64) -> Progress {
        let one = |run: &mut Self| {
            let log = run.log();
            let opening = run.oracle.opening(connection, log);
            let opening = if run.random.one_in(5) { opening.saturating_sub(1) } else { opening };
            Reached { log, next: run.offset(log), opening }
        };
        let reached = (0..self.random.below(4)).map(|_| one(self)).collect();
        Progress { connection, generation, reached }
    }

    /// Of one to three connections.
    fn commit(&mut self) -> Command {
        let one = |run: &mut Self| {
            let connection = run.connection();
            let generation = run.generation(connection);
            run.progress(connection, generation)
        };
        Command::Commit((0..1 + self.random.below(3)).map(|_| one(self)).collect())
    }

    fn append(&mut self) -> Command {
        // The node's own writer for one request is never heard of again.
        let once = self.random.one_in(9);
        let writer = match once {
            true => Id(u128::from(self.random.next()).to_be_bytes()),
            false => self.writer(),
        };
        let mut mark = self.oracle.mark(writer);
        if self.random.one_in(3) {
            mark = mark.saturating_sub(self.random.below(4));
        } else if self.random.one_in(9) {
            mark += 1;
        }
        let count = self.random.below(4);
        let entries = (mark + 1..=mark + count).map(|seq| {
            // The content follows from the sequence, so that a repeat is one, but for a few.
            let turn = seq + u64::from(writer.0[0]) + u64::from(self.random.one_in(15));
            let to = match turn % 5 {
                0 => Target::Log(1 + turn % 7),
                1 if turn % 25 == 1 => Target::Name("bad//name".to_owned()),
                _ => Target::Name(NAMES[turn as usize % 6].to_owned()),
            };
            let if_head = (turn % 11 == 0).then_some(turn % 4);
            let record = keyed(&format!("k{}", turn % 3), (turn % 4 > 0).then_some("payload"));
            let hash = entry_hash(&to, if_head, &record);
            Entry { seq, prev: seq - 1, to, made: None, if_head, hash, verdict: None, record }
        });
        let mut entries: Vec<Entry> = entries.collect();
        if let Some(first) = entries.first_mut().filter(|_| self.random.one_in(15)) {
            first.prev = first.prev.saturating_sub(1);
        }
        let oldest = (mark + 1).saturating_sub(self.random.below(6));
        let (user, connection) = (self.owner(writer).to_owned(), Id::NONE);
        Command::Append(Appends {
            user,
            writer,
            connection,
            oldest,
            once,
            positions: vec![],
            entries,
        })
    }

    fn attach(&mut self) -> Command {
        let connection = self.connection();
        let device = (!self.random.one_in(3)).then(|| Id([0xD0 | self.random.below(2) as u8; 16]));
        let writers = match self.random.below(10) {
            0 => vec![WriterAt { writer: self.writer(), oldest: 1 }],
            _ => Vec::new(),
        };
        let narrow = Pattern::parse("latest/*").unwrap();
        Command::Attach(Attach {
            connection,
            user: self.owner(connection).to_owned(),
            device,
            client: String::new(),
            visible: self.random.one_in(2),
            cloning: self.random.pick(&[Cloning::All, Cloning::All, Cloning::Own, Cloning::None]),
            writers,
            open: self.opens(),
            read: vec![if self.random.one_in(5) { narrow.clone() } else { Pattern::all() }],
            make: vec![if self.random.one_in(5) { narrow } else { Pattern::all() }],
            positions: vec![],
            bases: self.bases(),
            holds: self.random.one_in(2),
        })
    }

    /// Bases that may have been begun, at offsets where there may be one.
    fn bases(&mut self) -> Vec<BaseHeld> {
        let base = |random: &mut Self| {
            let log = random.log();
            let offset = random.offset(log);
            let upto = match random.random.below(2) {
                0 => Upto::Parts(random.random.below(3) as u32),
                _ => Upto::Key("k".to_owned()),
            };
            BaseHeld { log, offset, upto }
        };
        (0..self.random.below(4)).map(|_| base(self)).collect()
    }

    fn part(&mut self) -> Command {
        let (connection, log) = (self.connection(), self.log());
        let (part, last) = (self.random.below(3) as u32, self.random.one_in(2));
        let offset = self.offset(log);
        let data = bytes(&"x".repeat(if self.random.one_in(9) { 600 } else { 10 }));
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

    fn command(&mut self) -> Command {
        let connection = self.connection();
        let generation = self.generation(connection);
        let by = if self.random.one_in(4) { None } else { Some(generation) };
        let (log, writer) = (self.log(), self.writer());
        match self.random.below(51) {
            0..=10 => self.append(),
            11..=16 => self.attach(),
            17..=18 => Command::Detach(self.progress(connection, generation)),
            19..=21 => self.commit(),
            22..=23 => {
                let ask = ask(connection, by, self.opens());
                Command::Subscribe(highwater::connection::Subscribe { bases: self.bases(), ..ask })
            }
            24 => Command::Unsubscribe { connection, generation: by, logs: vec![log, log] },
            25 => {
                let open = vec![self.open()];
                Command::SubscribeUser { user: self.random.pick(&USERS).to_owned(), open }
            }
            26 => {
                let user = self.random.pick(&USERS).to_owned();
                Command::UnsubscribeUser { user, logs: vec![log] }
            }
            27 => {
                let at = self.offset(log);
                Command::Seek { connection, generation: by, log, to: self.start(at) }
            }
            28 => Command::Visible { connection, generation, visible: self.random.one_in(2) },
            29..=30 => {
                let cloning = self.random.pick(&[Cloning::All, Cloning::Own, Cloning::None]);
                let ask = ask(connection, Some(generation), self.opens());
                Command::Activate { ask, cloning, holds: self.random.one_in(2) }
            }
            31 => {
                let reason = self.random.pick(&[Reason::Lag, Reason::Detached, Reason::NodeSlots]);
                Command::Downgrade { connection, generation: by, reason }
            }
            32 => Command::Leave { connection, generation, forget: self.random.one_in(2) },
            33 => Command::Forget { connection, generation: by },
            34..=35 => self.part(),
            36 => Command::Trim { log, to: self.offset(log) },
            37 if self.random.one_in(2) => Command::DeleteLog { log },
            37 => {
                let page_records = self.random.below(3);
                Command::CreateLog { name: self.random.pick(&NAMES).to_owned(), page_records }
            }
            38 => Command::Retire { user: self.owner(writer).to_owned(), writer },
            41..=45 => self.derive(),
            47..=49 => self.expire(),
            46 if self.random.one_in(2) => self.configure(),
            39 | 40 => Command::SetPages { log, records: self.random.below(4) },
            _ if self.random.one_in(9) => self.node_down(),
            _ => Command::Trim { log, to: self.offset(log) },
        }
    }

    /// Other rules, so that logs have to follow.
    fn configure(&mut self) -> Command {
        let mut settings = few();
        let [none, latest, client] =
            [SnapshotRule::None, SnapshotRule::Latest, SnapshotRule::Client];
        match self.random.below(4) {
            0 => settings.rules = vec![rule("**", self.random.pick(&[none, latest, client]))],
            1 => settings.rules = vec![rule("latest/*", client), rule("client/*", latest)],
            2 => settings.rules.insert(0, rule("a", latest)),
            _ => {}
        }
        Command::Configure(settings)
    }

    /// A step that mostly is the next one.
    fn derive(&mut self) -> Command {
        let logs: Vec<u64> = (1..=self.oracle.logs()).collect();
        let on_its_way = |log: &u64| self.oracle.deriving(*log).is_some();
        let on_its_way: Vec<u64> = logs.iter().copied().filter(on_its_way).collect();
        let log = match on_its_way.is_empty() || self.random.one_in(3) {
            true => self.log(),
            false => self.random.pick(&on_its_way),
        };
        let rule = match self.random.one_in(9) {
            true => SnapshotRule::Latest,
            false => self.oracle.wanted(log),
        };
        let seen = self.oracle.deriving(log).filter(|_| !self.random.one_in(9));
        Command::Derive { log, rule, seen, most: self.random.below(7) as u32 }
    }

    /// The end of keys, mostly with the offsets that they have.
    fn expire(&mut self) -> Command {
        let logs: Vec<u64> = (1..=self.oracle.logs()).collect();
        let full: Vec<u64> =
            logs.into_iter().filter(|log| !self.oracle.latest(*log).is_empty()).collect();
        let log = if full.is_empty() { self.log() } else { self.random.pick(&full) };
        let mut keys = self.oracle.latest(log);
        keys.retain(|_| !self.random.one_in(3));
        for (_, offset) in &mut keys {
            *offset -= u64::from(*offset > 0 && self.random.one_in(5));
        }
        keys.extend(self.random.one_in(5).then(|| ("none".to_owned(), 0)));
        Command::Expire { log, keys }
    }

    fn node_down(&mut self) -> Command {
        let (node, run, _) = self.random.pick(&self.nodes);
        let incarnation = run.saturating_sub(self.random.below(2));
        Command::NodeDown { node, incarnation }
    }

    /// A batch of the next few commands. Each is made from what is known before the batch, so
    /// later ones may be stale by then: that is how it goes.
    fn next_batch(&mut self) -> Batch {
        let at = self.random.below(2) as usize;
        if self.random.one_in(25) {
            self.nodes[at] = (self.nodes[at].0, self.nodes[at].1 + 1, 0);
        }
        self.nodes[at].2 += 1;
        let (node, incarnation, serial) = self.nodes[at];
        self.time += self.random.below(30);
        // At times so much passes that keys are too old.
        self.time += if self.random.one_in(8) { 600 } else { 0 };
        let time = self.time.saturating_sub(self.random.below(20));
        let known = self.one.fold.known();
        let header =
            Header { fold: FOLD, journal: JOURNAL, known, node, incarnation, serial, time };
        let commands = (0..1 + self.random.below(4)).map(|_| self.command()).collect();
        Batch { header, commands }
    }

    fn step(&mut self) {
        let repeat = !self.sent.is_empty() && self.random.one_in(12);
        let batch = if repeat {
            let at = self.random.below(self.sent.len() as u64) as usize;
            self.sent[at].clone()
        } else {
            self.next_batch()
        };
        self.batch += 1;
        let (crash, other) = (self.random.one_in(10), self.random.one_in(10));
        let done = self.one.apply(self.batch, &batch, crash);
        let twin = self.twin.apply(self.batch, &batch, other);
        assert_eq!((&done.writes, &done.effects), (&twin.writes, &twin.effects));
        assert_eq!(done.repeat, repeat);
        let Header { node, incarnation, .. } = batch.header;
        assert!(done.time >= self.oracle.time);
        self.oracle.time = done.time;
        self.oracle.stands = done.header.time < done.time;
        if !repeat {
            self.oracle.nodes.insert(node, (incarnation, true));
            self.oracle.batch((node, incarnation), &batch.commands, &done.effects);
            self.sent.push(batch);
        }
        // What is told is judged at each step; all rows are read at some.
        if self.batch.is_multiple_of(4) {
            self.check();
        }
        if self.random.one_in(15) {
            self.one.reopen();
        }
        if self.random.one_in(5) {
            self.twin.reopen();
        }
    }

    fn check(&self) {
        crate::fold::model::check(&self.one.rows, &self.one.fold);
        self.oracle.check(&self.one.rows);
        self.within_budgets();
    }

    fn within_budgets(&self) {
        let budgets = few().budgets;
        assert!(self.one.fold.active() <= budgets.active_total);
        for ((table, _), value) in self.one.rows.iter() {
            if *table != highwater::rows::Table::Users {
                continue;
            }
            let user: highwater::connection::UserRow =
                highwater::rows::read_row(*table, value).unwrap();
            assert!(user.active.len() <= budgets.active_per_user as usize);
            assert!(user.connections <= budgets.connections_per_user);
            let devices = user.active.iter().filter(|one| one.device.is_some());
            for one in devices {
                assert!(user.on_device(one.device) <= budgets.active_per_device as usize);
            }
        }
    }
}

/// Says how to run a seed again, should its run fail.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: HIGHWATER_SEED={} cargo test --test pure fold::random", self.0);
        }
    }
}

fn run(seed: u64) -> Run {
    let _told = Told(seed);
    let mut run = Run::new(seed);
    for _ in 0..10 + run.random.below(50) {
        run.step();
    }
    run.check();
    assert_eq!(run.one.rows, run.twin.rows);
    run
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// Promise 13, and with it what the oracle holds of promises 1, 4, 6, 7, 8, 9, 11 and 12.
#[test]
fn promise_13_random_runs_agree_with_the_model_and_with_a_twin() {
    if let Some(seed) = number("HIGHWATER_SEED") {
        run(seed);
        return;
    }
    let runs = number("HIGHWATER_RUNS").unwrap_or(200);
    for seed in 0..runs {
        run(seed);
    }
}

/// What an effect shows to have come up.
fn word(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Reply(_, Reply::Attached(told)) => format!("{:?}", told.met),
        Effect::Reply(_, Reply::Refused(why)) => why.code.to_string(),
        Effect::Reply(_, Reply::Expired(1..)) => "Expired".to_owned(),
        Effect::Event(event) => format!("{event:?}").split([' ', '(']).next()?.to_owned(),
        Effect::Reply(..) | Effect::Appended(_) => return None,
    })
}

/// The tester tested: over a handful of seeds every kind of event and meeting has come up, so that
/// the runs reach what they are about; and one seed is one run.
#[test]
fn random_runs_reach_everything() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        let _told = Told(seed);
        let mut run = Run::new(seed);
        for _ in 0..60 {
            let batch = run.next_batch();
            run.batch += 1;
            let done = run.one.apply(run.batch, &batch, false);
            let Header { node, incarnation, .. } = batch.header;
            run.oracle.nodes.insert(node, (incarnation, true));
            run.oracle.time = done.time;
            run.oracle.stands = done.header.time < done.time;
            run.oracle.batch((node, incarnation), &batch.commands, &done.effects);
            seen.extend(done.effects.iter().filter_map(word));
        }
    }
    let wanted = [
        "Fresh",
        "Resumed",
        "Cloned",
        "Restored",
        "Waiting",
        "stale",
        "slots",
        "inactive",
        "connections",
        "unknown_connection",
        "unknown_writer",
        "snapshot_parts",
        "trim_rule",
        "Fenced",
        "Downgraded",
        "Forgotten",
        "Opened",
        "Closed",
        "Trimmed",
        "Deleted",
        "Snapshot",
        "Ruled",
        "Expired",
    ];
    let missing: Vec<_> = wanted.iter().filter(|word| !seen.contains(**word)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?} in {seen:?}");
    let (one, two) = (run(5), run(5));
    assert_eq!((one.one.rows, one.batch), (two.one.rows, two.batch));
}
