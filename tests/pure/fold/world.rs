//! A fold over rows in memory, and short words for what is done to it.

use highwater::connection::{
    Attach, Attached, Budgets, ConnectionRow, Event, NodeRow, Opened, Progress, Reached, Subscribe,
    UserRow,
};
use highwater::fold::{
    Applied, Batch, CacheSizes, Command, Effect, FOLD_VERSION, Fold, FoldError, Header, Reply,
    Settings,
};
use highwater::log::{
    Appends, Entry, LogRow, OutcomeRow, OutcomesRow, PageRow, Part, Rule, Stored, WriterRow,
    entry_hash,
};
use highwater::rows::{Key, MemoryRows, Rows, Table, read_row};
use highwater::wire::{
    Answers, Cloning, Code, Cursor, Id, Level, Met, Open, Outcome, Pattern, Payload, Record,
    Refusal, SnapshotRule, Start, Target, codec,
};

pub const JOURNAL: Id = Id([0xAA; 16]);
pub const FOLD: u16 = FOLD_VERSION;
pub const TINY: CacheSizes = CacheSizes { logs: 2, writers: 2, connections: 2, bytes: 4_096 };

/// An id that is easily told from others.
pub fn id(number: u8) -> Id {
    Id([number; 16])
}

pub fn node(number: u8) -> Id {
    Id([0xF0 | number; 16])
}

pub fn rule(pattern: &str, snapshot: SnapshotRule) -> Rule {
    Rule {
        pattern: Pattern::parse(pattern).unwrap(),
        snapshot,
        ask_after: 1_000,
        retain_records: 0,
        retain_bytes: 0,
        retain_seconds: 0,
    }
}

/// Logs under `latest/` and `client/` have those rules; five slots, two of them per device.
pub fn settings() -> Settings {
    let budgets = Budgets {
        connections_per_user: 12,
        active_per_user: 5,
        active_per_device: 2,
        active_total: 20,
        subscriptions: 8,
        activate_after_ms: 2_000,
        snapshot_bytes: 1_000,
    };
    let rules =
        vec![rule("latest/**", SnapshotRule::Latest), rule("client/**", SnapshotRule::Client)];
    Settings { rules, budgets, auto_create: true }
}

pub fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::from(text.to_owned())
}

pub fn text(payload: &str) -> Record {
    Record { payload: Some(Payload::text(payload)), ..Record::default() }
}

pub fn keyed(key: &str, payload: Option<&str>) -> Record {
    let (key, payload) = (Some(key.to_owned()), payload.map(Payload::text));
    Record { key, payload, ..Record::default() }
}

pub fn open(name: &str, start: Start) -> Open {
    Open { name: name.to_owned(), have: None, start, priority: 0 }
}

pub fn held(name: &str, log: u64, next: u64) -> Open {
    let have = Some(Cursor { log, next });
    Open { name: name.to_owned(), have, start: Start::State, priority: 0 }
}

pub fn entry(seq: u64, prev: u64, to: Target, record: Record) -> Entry {
    let hash = entry_hash(&to, None, &record);
    Entry { seq, prev, to, made: None, if_head: None, hash, verdict: None, record }
}

/// An append to a log by name, one after the other.
pub fn item(seq: u64, name: &str, payload: &str) -> Entry {
    entry(seq, seq.saturating_sub(1), Target::Name(name.to_owned()), text(payload))
}

pub fn appends(user: &str, writer: Id, entries: Vec<Entry>) -> Appends {
    let connection = Id::NONE;
    Appends {
        user: user.to_owned(),
        writer,
        connection,
        oldest: 0,
        once: false,
        positions: vec![],
        entries,
    }
}

/// A visible client without a device that clones what it can and may read everything.
pub fn client(user: &str, connection: Id) -> Attach {
    Attach {
        connection,
        user: user.to_owned(),
        device: None,
        client: "test".to_owned(),
        visible: true,
        cloning: Cloning::All,
        writers: Vec::new(),
        open: Vec::new(),
        read: vec![Pattern::all()],
        make: vec![Pattern::all()],
        positions: Vec::new(),
        bases: Vec::new(),
        holds: false,
    }
}

/// Table, key and value of a row.
pub type Row = ((Table, Vec<u8>), Vec<u8>);

pub struct World {
    pub fold: Fold,
    pub rows: MemoryRows,
    pub batch: u64,
    pub time: u64,
    /// Node and run that propose.
    pub node: (Id, u64),
    pub serial: u64,
    sizes: CacheSizes,
}

impl World {
    pub fn new() -> Self {
        Self::with(settings())
    }

    pub fn with(settings: Settings) -> Self {
        Self::sized(settings, CacheSizes::default())
    }

    pub fn sized(settings: Settings, sizes: CacheSizes) -> Self {
        let rows = MemoryRows::default();
        let fold = Fold::open(&rows, JOURNAL, Level::Memory, settings, sizes).unwrap();
        Self { fold, rows, batch: 0, time: 1_000, node: (node(1), 1), serial: 0, sizes }
    }

    /// Drops what is in memory and opens the fold from its rows.
    pub fn reopen(&mut self) {
        let settings = self.fold.settings().clone();
        self.fold = Fold::open(&self.rows, JOURNAL, Level::Memory, settings, self.sizes).unwrap();
    }

    /// Another one that has come as far.
    pub fn twin(&self) -> Self {
        let (settings, sizes) = (self.fold.settings().clone(), self.sizes);
        let fold = Fold::open(&self.rows, JOURNAL, Level::Memory, settings, sizes).unwrap();
        let Self { batch, time, node, serial, .. } = *self;
        Self { fold, rows: self.rows.clone(), batch, time, node, serial, sizes }
    }

    /// So many batches in which nothing happens.
    pub fn pass(&mut self, batches: u64) {
        for _ in 0..batches {
            let batch = self.next_batch(vec![Command::Look]);
            self.try_apply(&batch).unwrap();
        }
    }

    /// Files were merged: the row of a batch is gone.
    pub fn drop_places(&mut self, batch: u64) {
        let mut writes = highwater::rows::Writes::default();
        writes.rows.insert((Table::Places, Key::of(batch).build()), None);
        self.rows.commit(&writes);
    }

    /// The node's next run.
    pub fn restart(&mut self) {
        self.node.1 += 1;
        self.serial = 0;
        self.run(Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION });
    }

    pub fn next_batch(&mut self, commands: Vec<Command>) -> Batch {
        self.serial += 1;
        let header = Header {
            fold: self.fold.version(),
            journal: JOURNAL,
            known: self.fold.known(),
            node: self.node.0,
            incarnation: self.node.1,
            serial: self.serial,
            time: self.time,
        };
        Batch { header, commands }
    }

    pub fn try_apply(&mut self, batch: &Batch) -> Result<Applied, FoldError> {
        let bytes = codec::to_bytes(batch);
        let done = self.fold.apply(self.batch + 1, &bytes, batch.clone(), &self.rows)?;
        self.batch += 1;
        self.rows.commit(&done.writes);
        Ok(done)
    }

    pub fn apply(&mut self, batch: &Batch) -> Applied {
        let done = self.try_apply(batch).unwrap();
        crate::fold::model::check(&self.rows, &self.fold);
        done
    }

    pub fn batch(&mut self, commands: Vec<Command>) -> Vec<Effect> {
        let batch = self.next_batch(commands);
        self.apply(&batch).effects
    }

    /// One command in a batch of its own: its reply, and what happened besides.
    pub fn run(&mut self, command: Command) -> (Reply, Vec<Event>) {
        let mut reply = None;
        let mut events = Vec::new();
        for effect in self.batch(vec![command]) {
            match effect {
                Effect::Reply(_, given) => reply = Some(given),
                Effect::Event(event) => events.push(event),
                Effect::Appended(_) => {}
            }
        }
        (reply.unwrap(), events)
    }

    pub fn reply(&mut self, command: Command) -> Reply {
        self.run(command).0
    }

    pub fn refused(&mut self, command: Command) -> Code {
        match self.reply(command) {
            Reply::Refused(refusal) => refusal.code,
            other => panic!("not refused: {other:?}"),
        }
    }

    pub fn done(&mut self, command: Command) {
        assert_eq!(self.reply(command), Reply::Done);
    }

    /// Asserts that a command is refused as stale and that nothing but the head has changed.
    pub fn stale(&mut self, command: Command) {
        let before = self.state();
        let said = self.refused(command.clone());
        assert_eq!(said, Code::Stale, "{command:?}");
        assert_eq!(self.state(), before, "{command:?}");
    }

    /// All rows but those that each batch changes.
    pub fn state(&self) -> Vec<Row> {
        let counted = |table| matches!(table, Table::Meta | Table::Nodes | Table::Places);
        let rows = self.rows.iter().filter(|((table, _), _)| !counted(*table));
        rows.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    // Logs and appends.

    pub fn create(&mut self, name: &str) -> u64 {
        match self.reply(Command::CreateLog { name: name.to_owned(), page_records: 0 }) {
            Reply::Created(id, _) => id,
            other => panic!("not created: {other:?}"),
        }
    }

    pub fn append(&mut self, appends: Appends) -> Answers {
        match self.reply(Command::Append(appends)) {
            Reply::Answers(answers) => answers,
            other => panic!("not answered: {other:?}"),
        }
    }

    /// Appends of a writer of `ann`: what became of each.
    pub fn write(&mut self, writer: u8, entries: Vec<Entry>) -> Vec<Outcome> {
        let answers = self.append(appends("ann", id(writer), entries)).answers;
        answers.into_iter().map(|answer| answer.outcome).collect()
    }

    pub fn write_one(&mut self, writer: u8, entry: Entry) -> Outcome {
        self.write(writer, vec![entry]).remove(0)
    }

    /// Records in a log, by a writer that nobody else uses: the log's id.
    pub fn grow(&mut self, name: &str, records: u64) -> u64 {
        let log = self.create(name);
        let writer = Id([name.len() as u8, 0xEE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, log as u8, 1]);
        let mark = self.writer(writer).map_or(0, |row| row.mark);
        let entries = (mark + 1..=mark + records).map(|seq| {
            entry(seq, seq - 1, Target::Log(log), keyed(&format!("k{}", seq % 3), Some("x")))
        });
        let mut all = appends("filler", writer, entries.collect());
        all.oldest = mark + 1;
        let answers = self.append(all).answers;
        assert!(answers.iter().all(|one| matches!(one.outcome, Outcome::Stored { .. })));
        log
    }

    /// One more record, of a writer of its own.
    pub fn append_to(&mut self, log: u64, payload: &str) {
        let writer = Id([&[0xB0; 8][..], &self.batch.to_be_bytes()].concat().try_into().unwrap());
        let entry = entry(1, 0, Target::Log(log), text(payload));
        let answers = self.append(appends("ann", writer, vec![entry])).answers;
        assert!(matches!(answers[0].outcome, Outcome::Stored { .. }), "{answers:?}");
    }

    pub fn trim(&mut self, log: u64, to: u64) -> (Reply, Vec<Event>) {
        self.run(Command::Trim { log, to })
    }

    pub fn part(&mut self, log: u64, offset: u64, part: u32, last: bool, data: &str) -> Reply {
        let (connection, version, data) = (id(1), 1, bytes(data));
        self.reply(Command::PutSnapshot(Part {
            user: "ann".to_owned(),
            connection,
            log,
            offset,
            version,
            part,
            last,
            data,
        }))
    }

    pub fn snapshot(&mut self, log: u64, offset: u64) {
        assert_eq!(self.part(log, offset, 0, true, "state"), Reply::Done);
    }

    // Connections.

    pub fn try_attach(&mut self, ask: Attach) -> (Result<Attached, Refusal>, Vec<Event>) {
        let (reply, events) = self.run(Command::Attach(ask));
        match reply {
            Reply::Attached(attached) => (Ok(*attached), events),
            Reply::Refused(refusal) => (Err(refusal), events),
            other => panic!("no answer to an attach: {other:?}"),
        }
    }

    pub fn attach(&mut self, ask: Attach) -> Attached {
        let (attached, _) = self.try_attach(ask);
        let attached = attached.unwrap();
        keeps_promise_8(&attached.opened);
        attached
    }

    /// Attaches connections of one user, each active.
    pub fn attach_all(&mut self, user: &str, connections: &[u8]) {
        for number in connections {
            let attached = self.attach(client(user, id(*number)));
            assert_ne!(attached.met, Met::Waiting);
        }
    }

    pub fn detach(&mut self, number: u8) {
        let (connection, generation) = (id(number), self.generation(number));
        self.done(Command::Detach(Progress { connection, generation, reached: Vec::new() }));
    }

    pub fn subscribe(&mut self, number: u8, open: Vec<Open>) -> Vec<Opened> {
        let (opened, refused) = self.subscribe_as(number, open, vec![Pattern::all()]);
        assert_eq!(refused, Vec::new());
        opened
    }

    pub fn subscribe_as(
        &mut self,
        number: u8,
        open: Vec<Open>,
        read: Vec<Pattern>,
    ) -> (Vec<Opened>, Vec<(String, Code)>) {
        let generation = Some(self.generation(number));
        let ask = Subscribe {
            connection: id(number),
            generation,
            open,
            read,
            make: vec![Pattern::all()],
            bases: vec![],
        };
        match self.reply(Command::Subscribe(ask)) {
            Reply::Subscribed(_, opened, refused) => {
                keeps_promise_8(&opened);
                (opened, refused.into_iter().map(|(name, why)| (name, why.code)).collect())
            }
            other => panic!("not subscribed: {other:?}"),
        }
    }

    /// What a client has reached of one log, from the opening in force.
    pub fn progress(&self, number: u8, log: u64, next: u64) -> Progress {
        let row = self.connection(number).unwrap();
        let opening = row.sub(log).map_or(0, |sub| sub.opening);
        let reached = vec![Reached { log, next, opening }];
        Progress { connection: id(number), generation: row.generation, reached }
    }

    pub fn commit(&mut self, number: u8, log: u64, next: u64) {
        let progress = self.progress(number, log, next);
        self.done(Command::Commit(vec![progress]));
    }

    pub fn see(&mut self, number: u8, visible: bool) {
        let (connection, generation) = (id(number), self.generation(number));
        self.done(Command::Visible { connection, generation, visible });
    }

    pub fn activate(&mut self, number: u8) -> (Reply, Vec<Event>) {
        self.activate_with(number, Cloning::All, Vec::new())
    }

    pub fn activate_with(
        &mut self,
        number: u8,
        cloning: Cloning,
        open: Vec<Open>,
    ) -> (Reply, Vec<Event>) {
        let (connection, generation) = (id(number), Some(self.generation(number)));
        let read = vec![Pattern::all()];
        let ask =
            Subscribe { connection, generation, open, make: read.clone(), read, bases: vec![] };
        self.run(Command::Activate { ask, cloning, holds: false })
    }

    pub fn downgrade(&mut self, number: u8, reason: highwater::wire::Reason) {
        let connection = id(number);
        self.done(Command::Downgrade { connection, generation: None, reason });
    }

    pub fn active(&self, number: u8) -> bool {
        self.connection(number).is_some_and(|row| row.active())
    }

    pub fn generation(&self, number: u8) -> u64 {
        self.connection(number).unwrap().generation
    }

    // Rows.

    fn read<T: serde::de::DeserializeOwned>(&self, table: Table, key: &[u8]) -> Option<T> {
        let row = self.rows.get(table, key).unwrap()?;
        Some(read_row(table, &row).unwrap())
    }

    pub fn log(&self, log: u64) -> LogRow {
        self.read(Table::Logs, &Key::of(log).build()).unwrap()
    }

    pub fn set_log(&mut self, log: u64, change: impl FnOnce(&mut LogRow)) {
        let mut row = self.log(log);
        change(&mut row);
        let mut writes = highwater::rows::Writes::default();
        let key = (Table::Logs, Key::of(log).build());
        writes.rows.insert(key, Some(codec::to_bytes(&row)));
        self.rows.commit(&writes);
        self.reopen();
    }

    pub fn records(&self, log: u64) -> Vec<Stored> {
        let prefix = Key::of(log).build();
        let rows = self.rows.scan(Table::Records, &prefix, &prefix, usize::MAX).unwrap();
        rows.iter().map(|(_, row)| crate::fold::model::stored(&self.rows, row)).collect()
    }

    /// The newest records by key, as the server keeps them: key and offset.
    pub fn latest(&self, log: u64) -> Vec<(String, u64)> {
        crate::fold::model::latest(&self.rows, log)
    }

    /// Closed pages, by their first offsets.
    pub fn pages(&self, log: u64) -> Vec<(u64, PageRow)> {
        crate::fold::model::pages(&self.rows, log)
    }

    pub fn connection(&self, number: u8) -> Option<ConnectionRow> {
        crate::fold::model::connection(&self.rows, id(number))
    }

    pub fn cursor(&self, number: u8, log: u64) -> Option<u64> {
        self.connection(number).unwrap().sub(log).map(|sub| sub.cursor)
    }

    pub fn subs(&self, number: u8) -> Vec<u64> {
        self.connection(number).unwrap().subs.iter().map(|sub| sub.log).collect()
    }

    pub fn user(&self, user: &str) -> Option<UserRow> {
        self.read(Table::Users, user.as_bytes())
    }

    pub fn writer(&self, writer: Id) -> Option<WriterRow> {
        self.read(Table::Writers, &writer.0)
    }

    pub fn node_row(&self, node: Id) -> Option<NodeRow> {
        self.read(Table::Nodes, &node.0)
    }

    pub fn outcomes(&self, writer: Id) -> Vec<OutcomeRow> {
        let rows = self.rows.scan(Table::Outcomes, &writer.0, &writer.0, usize::MAX).unwrap();
        let read = |row: &[u8]| read_row::<OutcomesRow>(Table::Outcomes, row).unwrap().outcomes;
        rows.iter().flat_map(|(_, row)| read(row)).collect()
    }

    pub fn count(&self, table: Table) -> usize {
        self.rows.iter().filter(|((of, _), _)| *of == table).count()
    }
}

/// The part of promise 8 that one answer shows: what may be shown is the whole log as it stands,
/// and delivery goes on from a place that leads there.
pub fn keeps_promise_8(opened: &[Opened]) {
    for one in opened {
        assert_eq!(one.complete, one.head, "{one:?}");
        assert!(one.cursor <= one.head && one.cursor >= one.start.min(one.head), "{one:?}");
        if let Some(base) = &one.base {
            assert_eq!(base.offset(), one.cursor, "{one:?}");
        }
        if let Some(gap) = &one.gap {
            assert_eq!((gap.to, gap.log), (one.cursor, one.log), "{one:?}");
            assert!(gap.from < gap.to, "{one:?}");
        }
    }
}

/// The one that a list of opened logs has for a log id.
pub fn of(opened: &[Opened], log: u64) -> &Opened {
    opened.iter().find(|one| one.log == log).unwrap()
}

pub fn refusal(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Refused(refusal) => refusal.code,
        Outcome::Stored { .. } => panic!("stored: {outcome:?}"),
    }
}

pub fn offset(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Stored { offset, .. } => *offset,
        Outcome::Refused(_) => panic!("refused: {outcome:?}"),
    }
}

/// The rule that a log of that name has under these.
pub fn rule_of(name: &str, rules: &[Rule]) -> SnapshotRule {
    let rule = rules.iter().find(|rule| rule.pattern.matches(name));
    rule.map_or(SnapshotRule::None, |rule| rule.snapshot)
}
