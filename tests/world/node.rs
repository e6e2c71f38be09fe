//! A node: the fold over rows in memory, a journal, and the shell of its sockets.
//!
//! With a journal of its own a batch is told when it is synced. With a shared one it is told when
//! it was read back and folded; its rows are synced later, and a crash takes what is not.

use std::collections::{BTreeMap, VecDeque};

use highwater::connection::{ConnectionRow, Event};
use highwater::fold::{
    Applied, Batch, CacheSizes, Command, Effect, FOLD_VERSION, Fold, Header, Reply, Settings,
};
use highwater::journal::{Fate, MemoryCluster};
use highwater::rows::{MemoryRows, Writes};
use highwater::wire::{Id, Level, Position, codec};

use crate::oracle::demand;
use crate::session::{Asked, Session};
use crate::shared::{Shared, Turn};

/// So many batches lie between two looks at whether the tables agree, slots among them.
const TABLES_EVERY: u64 = 48;

pub const JOURNAL: Id = Id([0xAA; 16]);

/// A command of this node that waits, and who waits for it.
pub type Waiting = (Command, Option<Ticket>);

#[derive(Debug)]
pub struct Ticket {
    pub link: usize,
    pub asked: Asked,
}

struct Proposal {
    bytes: Vec<u8>,
    tickets: Vec<Option<Ticket>>,
    /// When it is to be proposed (again); none: the journal took it.
    due: Option<u64>,
}

/// Another era has to begin: who says so says it again until it has, over crashes and journals that
/// refuse (`journal begin-era`; by the era that it follows a repeat does nothing twice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewEra {
    No,
    Due,
    After(Option<Id>),
}

pub struct Node {
    pub number: usize,
    pub up: bool,
    pub incarnation: u64,
    pub fold: Option<Fold>,
    pub rows: MemoryRows,
    /// What the disk has.
    pub synced: MemoryRows,
    unsynced: VecDeque<Writes>,
    serial: u64,
    pub inbox: Vec<Waiting>,
    proposal: Option<Proposal>,
    /// Folded and not synced yet, where the order is decided here.
    committing: Option<(Applied, Vec<Option<Ticket>>)>,
    journal: Option<MemoryCluster>,
    pub sessions: BTreeMap<usize, Session>,
    /// The socket of each connection.
    pub sockets: BTreeMap<Id, usize>,
    pub committed_at: u64,
    /// Where the order is decided elsewhere: the era that has to begin, by the word of whoever
    /// lost the journal's tail.
    pub new_era: NewEra,
    pub settings: Settings,
    pub revoked: BTreeMap<String, u64>,
    /// Where it stands, as of the batch that it told last.
    pub position: Option<Position>,
    pub activate_after: u64,
}

pub fn node_id(number: usize) -> Id {
    Id([0xF0 | number as u8; 16])
}

impl Node {
    pub fn new(number: usize, journal: Option<MemoryCluster>, settings: Settings) -> Self {
        Self {
            number,
            up: false,
            incarnation: 0,
            fold: None,
            rows: MemoryRows::default(),
            synced: MemoryRows::default(),
            unsynced: VecDeque::new(),
            serial: 0,
            inbox: Vec::new(),
            proposal: None,
            committing: None,
            journal,
            sessions: BTreeMap::new(),
            sockets: BTreeMap::new(),
            committed_at: 0,
            new_era: NewEra::No,
            activate_after: u64::from(settings.budgets.activate_after_ms),
            settings,
            revoked: BTreeMap::new(),
            position: None,
        }
    }

    fn level(&self) -> Level {
        if self.journal.is_some() { Level::Memory } else { Level::Synced }
    }

    /// The next run begins.
    pub fn start(&mut self, shared: &mut Shared) {
        if self.up {
            return;
        }
        self.rows = self.synced.clone();
        let sizes = CacheSizes { logs: 3, writers: 3, connections: 3, bytes: 1 << 20 };
        let opened =
            Fold::open(&self.rows, JOURNAL, self.level(), self.settings.clone(), sizes).unwrap();
        let present = opened.eras().present();
        let configured = opened.configured();
        self.fold = Some(opened);
        self.read_on(shared);
        self.revoked = revocations(&self.rows);
        let fold = self.fold.as_ref().unwrap();
        self.incarnation = fold.next_incarnation(node_id(self.number));
        (self.serial, self.up) = (0, true);
        let mut commands = vec![Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION }];
        let after = fold.eras().present();
        if self.new_era == NewEra::Due {
            self.new_era = NewEra::After(after);
        }
        self.settle_era();
        let due = self.journal.is_none() || self.new_era != NewEra::No;
        if due || (present.is_none() && after.is_none()) {
            let era = Id(shared.random.next().to_be_bytes().repeat(2).try_into().unwrap());
            commands.insert(0, Command::BeginEra { after, era });
        }
        if !configured && !self.fold.as_ref().unwrap().configured() {
            commands.push(Command::Configure(self.settings.clone()));
        }
        self.inbox.extend(commands.into_iter().map(|command| (command, None)));
        shared.at(shared.now, Turn::Node(self.number));
    }

    /// The process dies, or the machine does: of what was not synced some may be there.
    pub fn crash(&mut self, shared: &mut Shared) {
        if !self.up {
            return;
        }
        self.up = false;
        let kept = shared.random.below(self.unsynced.len() as u64 + 1) as usize;
        for writes in self.unsynced.drain(..).take(kept) {
            self.synced.commit(&writes);
        }
        self.unsynced.clear();
        if let Some((applied, _)) = self.committing.take()
            && shared.random.one_in(2)
        {
            // It was on the disk, and nobody was told.
            self.synced.commit(&applied.writes);
            self.rows.commit(&applied.writes);
            self.witness(&applied, shared);
        }
        shared.oracle.crashed(self.number);
        self.fold = None;
        self.inbox.clear();
        self.proposal = None;
        self.sockets.clear();
        for link in std::mem::take(&mut self.sessions).into_keys() {
            shared.links[link].node_gone = true;
            shared.cut(link);
        }
    }

    /// One turn: commands become batches, batches are told, sockets are served.
    pub fn turn(&mut self, shared: &mut Shared) {
        if !self.up {
            return;
        }
        self.hear(shared);
        self.keep(shared);
        if self.journal.is_some() {
            self.propose(shared);
            self.read_on(shared);
            self.settle_era();
        } else {
            self.commit(shared);
        }
        self.serve(shared);
        if self.unsynced.len() > 8 || (!self.unsynced.is_empty() && shared.random.one_in(4)) {
            for writes in self.unsynced.drain(..) {
                self.synced.commit(&writes);
            }
        }
    }

    /// The era that had to begin has begun.
    fn settle_era(&mut self) {
        let present = self.fold.as_ref().and_then(|fold| fold.eras().present());
        if matches!(self.new_era, NewEra::After(after) if after != present) {
            self.new_era = NewEra::No;
        }
    }

    /// Whether anything is on its way.
    pub fn busy(&self) -> bool {
        !self.inbox.is_empty() || self.proposal.is_some() || self.committing.is_some()
    }

    fn batch(&mut self, commands: Vec<Command>, now: u64) -> (Batch, Vec<u8>) {
        self.serial += 1;
        let fold = self.fold.as_ref().unwrap();
        let header = Header {
            fold: fold.version(),
            journal: JOURNAL,
            known: fold.known(),
            node: node_id(self.number),
            incarnation: self.incarnation,
            serial: self.serial,
            time: now,
        };
        let batch = Batch { header, commands };
        let bytes = codec::to_bytes(&batch);
        (batch, bytes)
    }

    /// Here the node decides the order: one batch at a time, told once it is synced.
    fn commit(&mut self, shared: &mut Shared) {
        if let Some((applied, tickets)) = self.committing.take() {
            self.take_in_rows(&applied);
            self.synced.commit(&applied.writes);
            self.tell(applied, tickets, shared);
        }
        if self.inbox.is_empty() {
            return;
        }
        let (commands, tickets) = std::mem::take(&mut self.inbox).into_iter().unzip();
        let (batch, bytes) = self.batch(commands, shared.now);
        let fold = self.fold.as_mut().unwrap();
        let number = fold.known().batch + 1;
        let applied = fold.apply(number, &bytes, batch, &self.rows);
        let applied = applied.unwrap_or_else(|error| panic!("the fold stopped: {error}"));
        self.committing = Some((applied, tickets));
        shared.at(shared.now + 1 + shared.random.clone().below(4), Turn::Node(self.number));
    }

    /// The journal decides: the next batch is proposed, or the present one again.
    fn propose(&mut self, shared: &Shared) {
        if self.proposal.is_none() && !self.inbox.is_empty() {
            let (commands, tickets): (Vec<_>, _) =
                std::mem::take(&mut self.inbox).into_iter().unzip();
            let (_, bytes) = self.batch(commands, shared.now);
            let due = Some(shared.now);
            self.proposal = Some(Proposal { bytes, tickets, due });
        }
        let Some(mine) = self.proposal.as_mut() else { return };
        if mine.due.is_none_or(|due| due > shared.now) {
            return;
        }
        mine.due = match self.journal.as_ref().unwrap().append(&mine.bytes) {
            Fate::Taken(_) => None,
            // A second copy is known by its bytes, and folded once.
            Fate::Refused(_) | Fate::Unknown(_) => Some(shared.now + 200),
        };
    }

    /// Folds what the journal has.
    fn read_on(&mut self, shared: &mut Shared) {
        let Some(journal) = self.journal.clone() else { return };
        loop {
            let number = self.fold.as_ref().unwrap().known().batch + 1;
            let read = journal.batch(number);
            let read = read.unwrap_or_else(|error| panic!("the journal cannot be read: {error}"));
            let Some(bytes) = read else { return };
            {
                let batch: Batch = codec::from_bytes("batch", &bytes).unwrap();
                let fold = self.fold.as_mut().unwrap();
                let applied = fold.apply(number, &bytes, batch, &self.rows);
                let applied = applied.unwrap_or_else(|error| panic!("the fold stopped: {error}"));
                self.take_in_rows(&applied);
                self.unsynced.push_back(applied.writes.clone());
                let own = self.proposal.take_if(|own| own.bytes == bytes);
                if own.is_some() && applied.repeat {
                    // A batch of the run before came late, and this run took the same number: the
                    // product stops too (`Stopped::Twin`), and is started anew.
                    self.crash(shared);
                    shared.at(shared.now + 50, Turn::Start(self.number));
                    return;
                }
                self.tell(applied, own.map(|own| own.tickets).unwrap_or_default(), shared);
            }
        }
    }

    /// A batch's rows count from here on. Promise 8: what a clone is told of a log is at or past
    /// what its source had committed.
    fn take_in_rows(&mut self, applied: &Applied) {
        let clones = applied.effects.iter().filter_map(|effect| match effect {
            Effect::Reply(_, Reply::Attached(told)) => Some((told.source?, told)),
            _ => None,
        });
        let row = |rows: &MemoryRows, id| crate::rows::connection(rows, id);
        let clones: Vec<_> = clones.map(|(id, told)| (id, row(&self.rows, id), told)).collect();
        self.rows.commit(&applied.writes);
        for (source, before, told) in clones {
            let Some((before, after)) = before.zip(row(&self.rows, source)) else { continue };
            for opened in &told.opened {
                // Others may have moved it in the same batch. Behind a base that its client has not
                // confirmed nothing counts as committed (protocol §8.2).
                let at = |row: &ConnectionRow| {
                    row.sub(opened.log).filter(|sub| !sub.base).map(|sub| (sub.opening, sub.cursor))
                };
                let Some((known, now)) = at(&before).zip(at(&after)) else { continue };
                let (least, log) = (known.1.min(now.1), opened.log);
                let stands = if opened.held { opened.cursor } else { opened.complete };
                demand!(
                    known.0 != now.0 || stands >= least,
                    "promise 8: a clone has log {log} at {stands}, its source {source} at {least}"
                );
            }
        }
    }

    /// The oracle is told what is durable, before anybody else is.
    fn witness(&self, applied: &Applied, shared: &mut Shared) {
        if let Some(position) = applied.position {
            shared.oracle.stands(position.era, applied.batch);
        }
        let batch = applied.batch;
        for (at, effect) in applied.effects.iter().enumerate() {
            match effect {
                Effect::Appended((log, offset, stored)) => {
                    let row = crate::rows::log_row(&self.rows, *log);
                    shared.oracle.stored(*log, *offset, stored, row.as_ref());
                }
                Effect::Reply(_, Reply::Attached(told)) => {
                    shared.oracle.attaches(told.connection, told.place, (batch, at));
                }
                Effect::Event(Event::Forgotten { connection }) => {
                    shared.oracle.forgets(*connection, (batch, at));
                }
                Effect::Event(Event::Deleted { log, .. }) => shared.oracle.deleted(*log, batch),
                Effect::Event(Event::Trimmed(trimmed)) => {
                    shared.oracle.trimmed(trimmed.log, trimmed.to, batch);
                }
                Effect::Event(_) | Effect::Reply(..) => {}
            }
        }
    }

    fn tell(&mut self, applied: Applied, mut tickets: Vec<Option<Ticket>>, shared: &mut Shared) {
        self.witness(&applied, shared);
        shared.note(&[applied.batch, applied.effects.len() as u64]);
        let number = self.number;
        shared.tell(|| format!("node {number} folds {} {:?}", applied.batch, applied.effects));
        let mut grown: BTreeMap<u64, (u64, Vec<highwater::log::Stored>)> = BTreeMap::new();
        let position = applied.position;
        self.position = position;
        for effect in applied.effects {
            match effect {
                Effect::Reply(index, reply) => {
                    let ticket = tickets.get_mut(index).and_then(Option::take);
                    self.reply(reply, ticket, position, shared);
                }
                Effect::Event(event) => self.event(event, shared),
                Effect::Appended((log, offset, stored)) => {
                    let at = grown.entry(log).or_insert_with(|| (offset, Vec::new()));
                    at.1.push((*stored).clone());
                }
            }
        }
        for (log, (base, records)) in grown {
            self.offer(log, base, &records, shared);
        }
        if applied.batch.is_multiple_of(4) {
            self.committed(shared);
        }
        if applied.batch.is_multiple_of(TABLES_EVERY) {
            crate::model::check(&self.rows, self.fold.as_ref().unwrap());
        }
    }

    /// The rows say no more than clients have said, and have all that is delivered.
    pub fn committed(&self, shared: &mut Shared) {
        for (connection, link) in &self.sockets {
            let Some(session) = self.sessions.get(link).filter(|one| !one.closing) else {
                continue;
            };
            let row = crate::rows::connection(&self.rows, *connection);
            let it = &session.delivery.it;
            let Some(row) = row.filter(|row| row.generation == it.generation()) else { continue };
            for at in it.cursors() {
                let log = at.log;
                demand!(
                    row.sub(log).is_some(),
                    "law 6: {connection} follows {log}, its row does not"
                );
            }
        }
        shared.oracle.committed(self.number, &self.rows, |link, connection| {
            let session = self.sessions.get(&link).filter(|session| !session.closing);
            session.is_some() && self.sockets.get(connection) == Some(&link)
        });
    }
}

fn revocations(rows: &MemoryRows) -> BTreeMap<String, u64> {
    // The fold tells them as events; a node that starts reads what was revoked before.
    crate::rows::revoked(rows)
}
