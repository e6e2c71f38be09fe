//! Promise 13: the same journal gives the same state, on every node, every time.
//!
//! Nodes with folds of their own share one journal whose order is decided elsewhere, under faults
//! that follow from a seed. Their commands are random, over few users, logs, connections and
//! writers, so that they get in each other's way. A failure prints its seed; `HIGHWATER_SEED=n`
//! with the test's name runs that one alone.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater::connection::{Attach, Budgets, Progress, Reached, Subscribe};
use highwater::fold::{
    Alive, Applied, Batch, CacheSizes, Command, Effect, FOLD_VERSION, Fold, FoldError, Header,
    Reply, Settings,
};
use highwater::journal::{Fate, Faults, Journal, Local, MemoryCluster};
use highwater::log::{Appends, Deriving, Entry, Part, Rule, entry_hash};
use highwater::rows::{MemoryRows, Rows, Table, Writes};
use highwater::store::{Options, Store};
use highwater::wire::{
    BaseHeld, Cloning, Cursor, Id, Open, Outcome, Pattern, Payload, Reason, Record, SnapshotRule,
    Start, Target, Upto, Whom, WriterAt, codec,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const USERS: [&str; 3] = ["ann", "bob", "cyd"];
const LOGS: [&str; 5] = ["plain/1", "plain/2", "latest/1", "latest/2", "client/1"];

fn settings() -> Settings {
    let rule = |pattern: &str, snapshot| Rule {
        pattern: Pattern::parse(pattern).unwrap(),
        snapshot,
        ask_after: 10,
        retain_records: 0,
        retain_bytes: 0,
        retain_seconds: 0,
    };
    Settings {
        rules: vec![
            Rule { retain_seconds: 1, ..rule("latest/**", SnapshotRule::Latest) },
            rule("client/**", SnapshotRule::Client),
        ],
        // Few, so that slots are fought for.
        budgets: Budgets {
            connections_per_user: 4,
            active_per_user: 2,
            active_per_device: 2,
            active_total: 4,
            ..Budgets::default()
        },
        auto_create: true,
    }
}

/// Other rules, so that logs have to follow.
fn ruled(turn: usize) -> Settings {
    let mut settings = settings();
    match turn {
        0 => settings.rules.iter_mut().for_each(|rule| rule.snapshot = SnapshotRule::Latest),
        1 => settings.rules.clear(),
        _ => {}
    }
    settings
}

/// Where a node's fold keeps its rows.
enum Place {
    Memory(MemoryRows),
    Disk(Store, tempfile::TempDir),
}

impl Place {
    fn disk() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::Disk(Store::open(dir.path(), Options::default()).unwrap(), dir)
    }

    fn rows(&self) -> &dyn Rows {
        match self {
            Self::Memory(rows) => rows,
            Self::Disk(store, _) => store,
        }
    }

    fn commit(&mut self, writes: Writes) {
        match self {
            Self::Memory(rows) => rows.commit(&writes),
            Self::Disk(store, _) => store.commit(writes, None, false).unwrap(),
        }
    }
}

fn all_rows(rows: &dyn Rows) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
    let mut all = BTreeMap::new();
    for table in Table::ALL {
        for (key, value) in rows.scan(table, &[], &[], usize::MAX >> 1).unwrap() {
            all.insert((table, key), value);
        }
    }
    all
}

/// A node: proposes, folds what the journal holds, and knows what became of its own commands.
struct Node {
    id: Id,
    incarnation: u64,
    serial: u64,
    fold: Fold,
    place: Place,
    journal: MemoryCluster,
    /// The bytes of a batch whose fate is unknown.
    unsettled: Option<Vec<u8>>,
    /// Effects of all batches folded, as told.
    told: Vec<(u64, Vec<Effect>)>,
    /// Batches of this node that were folded more than once.
    repeats: u64,
}

fn open_fold(rows: &dyn Rows, journal: &dyn Journal) -> Fold {
    // Caches so small that rows come and go.
    let sizes = CacheSizes { logs: 2, writers: 2, connections: 2, bytes: 4_096 };
    Fold::open(rows, journal.identity(), journal.level(), settings(), sizes).unwrap()
}

impl Node {
    fn new(id: u8, cluster: &MemoryCluster, place: Place) -> Self {
        let (id, journal) = (Id([id; 16]), cluster.clone());
        let fold = open_fold(place.rows(), &journal.node());
        let (unsettled, told, repeats) = (None, Vec::new(), 0);
        let incarnation = 1;
        Self { id, incarnation, serial: 0, fold, place, journal, unsettled, told, repeats }
    }

    /// The process ends and starts anew on the same rows; what was on its way stays on its way.
    fn restart(&mut self) {
        self.catch_up(usize::MAX);
        let place = std::mem::replace(&mut self.place, memory());
        self.place = match place {
            Place::Disk(store, dir) => {
                // Closed first: the folder is locked.
                drop(store);
                Place::Disk(Store::open(dir.path(), Options::default()).unwrap(), dir)
            }
            memory @ Place::Memory(_) => memory,
        };
        self.fold = open_fold(self.place.rows(), &self.journal.node());
        self.incarnation = self.fold.next_incarnation(self.id);
        (self.serial, self.unsettled) = (0, None);
    }

    /// Folds at most so many batches of what is new.
    fn catch_up(&mut self, most: usize) {
        for _ in 0..most {
            let number = self.fold.known().batch + 1;
            let Some(bytes) = self.journal.batch(number).unwrap() else { return };
            let applied = self.apply(number, &bytes).unwrap();
            self.repeats += u64::from(applied.repeat && applied.header.node == self.id);
            self.told.push((number, applied.effects));
        }
    }

    fn apply(&mut self, number: u64, bytes: &Bytes) -> Result<Applied, FoldError> {
        let batch = codec::from_bytes("batch", bytes).unwrap();
        let mut applied = self.fold.apply(number, bytes, batch, self.place.rows())?;
        self.place.commit(std::mem::take(&mut applied.writes));
        Ok(applied)
    }

    /// Proposes a batch, or tries again the one whose fate is unknown.
    fn propose(&mut self, time: u64, commands: Vec<Command>) {
        let bytes = self.unsettled.take().unwrap_or_else(|| {
            self.serial += 1;
            let header = Header {
                fold: FOLD_VERSION,
                journal: self.journal.node().identity(),
                known: self.fold.known(),
                node: self.id,
                incarnation: self.incarnation,
                serial: self.serial,
                time,
            };
            codec::to_bytes(&Batch { header, commands })
        });
        match self.journal.append(&bytes) {
            Fate::Taken(_) => {}
            Fate::Refused(_) | Fate::Unknown(_) => self.unsettled = Some(bytes),
        }
    }
}

/// Random commands; they name what exists often enough to do something.
struct Commands {
    random: StdRng,
    /// What each writer is to send next, and what it sent before.
    writers: BTreeMap<Id, u64>,
}

impl Commands {
    fn id(&mut self, kind: u8, most: u8) -> Id {
        Id([kind << 4 | self.random.random_range(0..most); 16])
    }

    fn log(&mut self) -> u64 {
        self.random.random_range(1..=LOGS.len() as u64 + 2)
    }

    fn bases(&mut self) -> Vec<BaseHeld> {
        let upto = [Upto::Parts(1), Upto::Key("k".to_owned())];
        let mut base = |upto| {
            let (log, offset) = (self.log(), self.random.random_range(0..30));
            BaseHeld { log, offset, upto }
        };
        upto.map(&mut base).to_vec()
    }

    fn open(&mut self) -> Open {
        let name = LOGS[self.random.random_range(0..LOGS.len())].to_owned();
        let have = self
            .random
            .random_bool(0.3)
            .then(|| Cursor { log: self.log(), next: self.random.random_range(0..20) });
        let start = match self.random.random_range(0..4) {
            0 => Start::State,
            1 => Start::Earliest,
            2 => Start::Offset(self.random.random_range(0..20)),
            _ => Start::Committed,
        };
        Open { name, have, start, priority: self.random.random_range(0..3) }
    }

    fn appends(&mut self, user: usize, connection: Id) -> Command {
        let writer =
            Id([0x50 | u8::try_from(user).unwrap() << 2 | self.random.random_range(0..2); 16]);
        let next = self.writers.entry(writer).or_insert(0);
        // Mostly on from where it was; at times again, at times too early.
        let back = u64::from(self.random.random_bool(0.2));
        let mut prev = next.saturating_sub(back) + u64::from(self.random.random_bool(0.05));
        let mut entries = Vec::new();
        for _ in 0..self.random.random_range(1..5) {
            let key = self
                .random
                .random_bool(0.7)
                .then(|| format!("k{}", self.random.random_range(0..6)));
            let gone = key.is_some() && self.random.random_bool(0.2);
            let payload = (!gone).then(|| Payload::text(format!("{writer} {prev}")));
            let record = Record { key, payload, ..Record::default() };
            let to = if self.random.random_bool(0.3) {
                Target::Log(self.random.random_range(1..8))
            } else {
                Target::Name(LOGS[self.random.random_range(0..LOGS.len())].to_owned())
            };
            let if_head = self.random.random_bool(0.1).then(|| self.random.random_range(0..9));
            let hash = entry_hash(&to, if_head, &record);
            let seq = prev + 1;
            entries.push(Entry { seq, prev, to, made: None, if_head, hash, verdict: None, record });
            prev = seq;
        }
        *next = (*next).max(prev);
        let oldest = prev.saturating_sub(self.random.random_range(0..8));
        Command::Append(Appends {
            user: USERS[user].to_owned(),
            writer,
            connection,
            oldest,
            once: false,
            positions: Vec::new(),
            entries,
        })
    }

    fn revocation(&mut self) -> Command {
        let name = USERS[self.random.random_range(0..USERS.len())].to_owned();
        let whom = if self.random.random_bool(0.5) { Whom::User(name) } else { Whom::Token(name) };
        if self.random.random_bool(0.3) {
            return Command::Unrevoke { whom };
        }
        Command::Revoke { whom, before_ms: self.random.random_range(0..9) }
    }

    fn next(&mut self) -> Command {
        let user = self.random.random_range(0..USERS.len());
        let connection =
            Id([0x10 | u8::try_from(user).unwrap() << 2 | self.random.random_range(0..3); 16]);
        let generation = self.random.random_range(1..8);
        let name = USERS[user].to_owned();
        match self.random.random_range(0..27) {
            25 => Command::Alive(Alive {
                checkpoint: self.random.random_range(0..3),
                address: "https://n".repeat(self.random.random_range(0..40)),
            }),
            0..7 => self.appends(user, connection),
            7..10 => Command::Attach(Attach {
                connection,
                user: name,
                device: self.random.random_bool(0.5).then(|| self.id(3, 2)),
                client: "test".to_owned(),
                visible: self.random.random_bool(0.5),
                cloning: [Cloning::All, Cloning::Own, Cloning::None]
                    [self.random.random_range(0..3)],
                writers: vec![WriterAt { writer: self.id(5, 12), oldest: 1 }],
                open: (0..self.random.random_range(0..4)).map(|_| self.open()).collect(),
                read: vec![Pattern::all()],
                make: vec![Pattern::all()],
                positions: Vec::new(),
                bases: self.bases(),
                holds: self.random.random_bool(0.5),
            }),
            10 => Command::Detach(Progress { connection, generation, reached: Vec::new() }),
            11 => {
                let (log, next) = (self.log(), self.random.random_range(0..30));
                let reached = vec![Reached { log, next, opening: self.random.random_range(1..4) }];
                Command::Commit(vec![Progress { connection, generation, reached }])
            }
            12 => Command::Subscribe(Subscribe {
                connection,
                generation: None,
                open: vec![self.open()],
                read: vec![Pattern::all()],
                make: vec![Pattern::all()],
                bases: self.bases(),
            }),
            13 => Command::SubscribeUser { user: name, open: vec![self.open()] },
            14 => Command::UnsubscribeUser { user: name, logs: vec![self.log()] },
            15 => Command::Trim { log: self.log(), to: self.random.random_range(0..30) },
            16 => Command::PutSnapshot(Part {
                user: name,
                connection,
                log: self.log(),
                offset: self.random.random_range(0..30),
                version: 1,
                part: self.random.random_range(0..2),
                last: self.random.random_bool(0.5),
                data: Bytes::from(vec![7; self.random.random_range(0..50)]),
            }),
            17 => Command::Downgrade { connection, generation: None, reason: Reason::Lag },
            18 if self.random.random_bool(0.3) => Command::DeleteLog { log: self.log() },
            18 => Command::Leave { connection, generation, forget: self.random.random_bool(0.5) },
            19..25 => self.of_log(),
            _ if self.random.random_bool(0.5) => self.revocation(),
            _ => Command::Forget { connection, generation: None },
        }
    }

    /// What is done to a log as a whole: pages, other rules and steps to them, keys that end.
    fn of_log(&mut self) -> Command {
        let log = self.log();
        match self.random.random_range(0..6) {
            0 => Command::SetPages { log, records: self.random.random_range(0..5) },
            1 => Command::Configure(ruled(self.random.random_range(0..3))),
            2 => {
                let keys = (0..6).flat_map(|key| (0..60).map(move |at| (format!("k{key}"), at)));
                Command::Expire { log, keys: keys.collect() }
            }
            _ => {
                // The first step, and the next one of a log that had nothing to clear; others are
                // stale.
                let rule = [SnapshotRule::None, SnapshotRule::Latest, SnapshotRule::Client]
                    [self.random.random_range(0..3)];
                let begun = Deriving { cleared: true, next: 3, ..Deriving::to(rule) };
                let seen = self.random.random_bool(0.3).then_some(begun);
                let most = [3, 3, 1_000][self.random.random_range(0..3)];
                Command::Derive { log, rule, seen, most }
            }
        }
    }

    fn some(&mut self) -> Vec<Command> {
        (0..self.random.random_range(1..6)).map(|_| self.next()).collect()
    }
}

/// Drives nodes to `rounds` proposals each under faults, then heals and lets all of them fold all.
fn drive(seed: u64, places: Vec<Place>, rounds: usize) -> Vec<Node> {
    let faults = Faults { seed, refused_per_mille: 50, unknown_per_mille: 250 };
    let cluster = MemoryCluster::new(Id([9; 16]), faults);
    let nodes = (1..).zip(places);
    let mut nodes: Vec<_> = nodes.map(|(id, place)| Node::new(id, &cluster, place)).collect();
    let random = StdRng::seed_from_u64(seed);
    let mut commands = Commands { random, writers: BTreeMap::new() };
    for round in 0..rounds {
        for node in &mut nodes {
            let some = commands.some();
            // Clocks that differ, and go back.
            let time = 1_000_000 + round as u64 * 40 + commands.random.random_range(0..200);
            node.propose(time, some);
            if commands.random.random_bool(0.5) {
                node.catch_up(3);
            }
            if commands.random.random_bool(0.02) {
                node.restart();
            }
        }
    }
    cluster.heal();
    for node in &mut nodes {
        node.catch_up(usize::MAX);
        while node.unsettled.is_some() {
            node.propose(0, Vec::new());
        }
    }
    nodes.iter_mut().for_each(|node| node.catch_up(usize::MAX));
    nodes
}

/// Runs a test under one seed or several, saying which one it was.
fn seeds(count: u64, test: impl Fn(u64)) {
    if let Some(seed) = std::env::var("HIGHWATER_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return test(seed);
    }
    for seed in 0..count {
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(seed)));
        if let Err(panic) = run {
            eprintln!("seed {seed}: run HIGHWATER_SEED={seed} cargo test --test nodes same_state");
            std::panic::resume_unwind(panic);
        }
    }
}

/// All nodes hold the same rows, folded the same batches, and told the same.
fn agree(nodes: &[Node]) {
    let first = &nodes[0];
    let rows = all_rows(first.place.rows());
    for node in &nodes[1..] {
        assert_eq!(node.fold.known(), first.fold.known(), "the same batches, the same chain");
        let other = all_rows(node.place.rows());
        let keys: std::collections::BTreeSet<_> = rows.keys().chain(other.keys()).collect();
        for key in keys {
            assert_eq!(rows.get(key), other.get(key), "row {key:?}");
        }
        assert_eq!(node.told, first.told, "the same effects, in the same order");
    }
}

/// How often a kind of thing happened: a run in which little does proves little.
#[derive(Default, Debug)]
struct Seen {
    stored: u64,
    refused: u64,
    attached: u64,
    trimmed: u64,
    expired: u64,
    events: u64,
    repeats: u64,
}

impl Seen {
    fn count(&mut self, node: &Node) {
        self.repeats += node.repeats;
        for effect in node.told.iter().flat_map(|(_, effects)| effects) {
            match effect {
                Effect::Reply(_, Reply::Answers(answers)) => {
                    let stored = |outcome: &Outcome| matches!(outcome, Outcome::Stored { .. });
                    let count = answers.answers.iter().filter(|one| stored(&one.outcome)).count();
                    self.stored += count as u64;
                }
                Effect::Reply(_, Reply::Refused(_)) => self.refused += 1,
                Effect::Reply(_, Reply::Attached(_)) => self.attached += 1,
                Effect::Reply(_, Reply::Trimmed(Some(_))) => self.trimmed += 1,
                Effect::Reply(_, Reply::Expired(ended)) => self.expired += ended,
                Effect::Event(_) => self.events += 1,
                _ => {}
            }
        }
    }

    fn enough(&self) {
        let least = self.stored.min(self.refused).min(self.attached).min(self.events);
        assert!(self.expired > 20, "too little: {self:?}");
        assert!(least > 500 && self.trimmed > 20 && self.repeats > 20, "too little: {self:?}");
    }
}

#[test]
fn promise_13_the_same_journal_gives_the_same_state_in_memory() {
    let seen = std::cell::RefCell::new(Seen::default());
    seeds(20, |seed| {
        let nodes = drive(seed, vec![memory(), memory(), memory()], 80);
        agree(&nodes);
        nodes.iter().for_each(|node| seen.borrow_mut().count(node));
    });
    if std::env::var("HIGHWATER_SEED").is_err() {
        seen.borrow().enough();
    }
}

#[test]
fn promise_13_the_same_journal_gives_the_same_state_on_disk() {
    seeds(2, |seed| agree(&drive(seed, vec![Place::disk(), memory(), Place::disk()], 60)));
}

fn memory() -> Place {
    Place::Memory(MemoryRows::default())
}

/// The comparison itself: one row that differs on one node is found.
#[test]
#[should_panic(expected = "row (Logs")]
fn agree_finds_a_row_that_differs() {
    let mut nodes = drive(1, vec![memory(), memory()], 20);
    let mut writes = Writes::default();
    writes.rows.insert((Table::Logs, 1_u64.to_be_bytes().to_vec()), Some(vec![0]));
    nodes[1].place.commit(writes);
    agree(&nodes);
}

/// A node that folds late, from the journal alone, comes to where the others are.
#[test]
fn promise_13_a_new_node_folds_to_the_same_state() {
    seeds(5, |seed| {
        let mut nodes = drive(seed, vec![memory(), memory()], 60);
        let mut late = Node::new(77, &MemoryCluster::new(Id([9; 16]), Faults::default()), memory());
        let batch = |number| Some((number, nodes[0].journal.batch(number).unwrap()?));
        let from: Vec<_> = (1..).map_while(batch).collect();
        for (number, bytes) in &from {
            let applied = late.apply(*number, bytes).unwrap();
            late.told.push((*number, applied.effects));
        }
        nodes.iter_mut().for_each(|node| node.told.truncate(from.len()));
        nodes.push(late);
        agree(&nodes);
    });
}

/// A journal that lost its tail and went on differently is noticed by who had folded the tail.
#[test]
fn promise_13_another_history_stops_the_node() {
    let cluster = MemoryCluster::new(Id([9; 16]), Faults::default());
    let mut nodes: Vec<_> = (1..=2).map(|id| Node::new(id, &cluster, memory())).collect();
    let create = |name: &str| vec![Command::CreateLog { name: name.to_owned(), page_records: 0 }];
    for round in 0..5 {
        nodes[0].propose(round, create(&format!("log/{round}")));
    }
    nodes[0].catch_up(usize::MAX);
    cluster.lose(2);
    // The other has folded the shortened journal; it goes on from there.
    nodes[1].catch_up(usize::MAX);
    for round in 0..3 {
        nodes[1].propose(round, create(&format!("other/{round}")));
        nodes[1].catch_up(usize::MAX);
    }
    let (number, bytes) = (6, nodes[0].journal.batch(6).unwrap().unwrap());
    let stopped = nodes[0].apply(number, &bytes).unwrap_err();
    assert_eq!(stopped, FoldError::Chain { batch: 6 });
}

/// The local engine gives what the fold in memory gives, batch by batch, across restarts.
#[test]
fn promise_13_the_local_journal_and_its_store_are_one() {
    seeds(2, |seed| {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(dir.path(), Options::default()).unwrap();
        let mut store = open();
        let mut model = MemoryRows::default();
        let mut local = Local::new(store.clone(), 20_000);
        let mut fold = open_fold(&store, &local);
        let random = StdRng::seed_from_u64(seed);
        let mut commands = Commands { random, writers: BTreeMap::new() };
        for serial in 1..=200 {
            if commands.random.random_bool(0.03) {
                drop((local, store));
                store = open();
                local = Local::new(store.clone(), 20_000);
                fold = open_fold(&store, &local);
            }
            let (known, node, time) = (fold.known(), Id([1; 16]), serial * 7);
            let (fold_version, journal) = (FOLD_VERSION, local.identity());
            let header =
                Header { fold: fold_version, journal, known, node, incarnation: 1, serial, time };
            let batch = Batch { header, commands: commands.some() };
            let bytes = codec::to_bytes(&batch);
            let number = known.batch + 1;
            let applied = fold.apply(number, &bytes, batch, &store).unwrap();
            model.commit(&applied.writes);
            assert_eq!(local.commit(&bytes, applied.writes), Ok(number));
        }
        assert_eq!(local.ends().unwrap().head, 200);
        assert_eq!(all_rows(&store), all_rows(&model));
    });
}
