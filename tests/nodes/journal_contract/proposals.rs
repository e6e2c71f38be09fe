//! What the committing thread asks of an engine: how often the same bytes are proposed, what
//! becomes of those that are refused, and how large they may be. An engine that writes down what it
//! was asked, and answers as the test says, stands before one in memory.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::fold::{CacheSizes, Command, Effect, FOLD_VERSION, Fold, Reply, Settings};
use highwater::journal::{
    At, Bell, Committer, Ends, Engine, Event, Fate, Faults, Inbox, Journal, JournalError,
    MemoryCluster, MemoryJournal, QueueLimits, Stopped, Told, catch_up,
};
use highwater::log::{Appends, Entry, entry_hash};
use highwater::store::{Options, Store};
use highwater::wire::{Code, Id, Level, Outcome, Payload, Record, Target};

/// A wait between two proposals of the same bytes is at least as long.
const WAIT: Duration = Duration::from_millis(200);
/// A test that waits for this has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the engine does with a proposal.
#[derive(Clone, Copy, Debug)]
enum Does {
    Takes,
    Refuses,
    /// It answers nothing, and has not written it.
    Loses,
}

/// A proposal, and when it came.
struct Asked {
    bytes: Bytes,
    came: Instant,
}

/// An engine that does as it is told for the first proposals, and takes all others.
struct Watched {
    below: MemoryJournal,
    does: Vec<Does>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Fates that the test made up.
    told: VecDeque<Event>,
    /// Neither these nor batches are told for so long after the first proposal.
    late: Duration,
    /// Nor before so many batches were proposed.
    until: usize,
    held: VecDeque<Event>,
    bell: Arc<Bell>,
}

impl Journal for Watched {
    fn identity(&self) -> Id {
        self.below.identity()
    }

    fn level(&self) -> Level {
        self.below.level()
    }

    fn most_bytes(&self) -> usize {
        self.below.most_bytes()
    }

    fn ends(&mut self) -> Result<Ends, JournalError> {
        self.below.ends()
    }

    fn follow(&mut self, behind: At, bell: &Arc<Bell>) -> Result<(), JournalError> {
        self.bell = Arc::clone(bell);
        self.below.follow(behind, bell)
    }

    fn propose(&mut self, serial: u64, batch: Bytes) -> Result<(), JournalError> {
        let mut asked = self.asked.lock().unwrap();
        let does = self.does.get(asked.len()).copied().unwrap_or(Does::Takes);
        asked.push(Asked { bytes: batch.clone(), came: Instant::now() });
        let fate = match does {
            Does::Takes => return self.below.propose(serial, batch),
            Does::Refuses => Fate::Refused("as the test says".to_owned()),
            Does::Loses => Fate::Unknown("as the test says".to_owned()),
        };
        self.told.push_back(Event::Fate { serial, fate });
        self.bell.ring();
        Ok(())
    }

    fn poll(&mut self) -> Result<Event, JournalError> {
        let (first, count) = {
            let asked = self.asked.lock().unwrap();
            (asked.first().map(|asked| asked.came), asked.len())
        };
        let late = first.is_some_and(|first| first.elapsed() < self.late) || count < self.until;
        if !late && let Some(kept) = self.told.pop_front().or_else(|| self.held.pop_front()) {
            return Ok(kept);
        }
        match self.below.poll()? {
            batch @ Event::Batch { .. } if late => {
                self.held.push_back(batch);
                Ok(Event::CaughtUp)
            }
            event => Ok(event),
        }
    }

    fn drop_before(&mut self, batch: u64, keep: Duration) -> Result<(), JournalError> {
        self.below.drop_before(batch, keep)
    }
}

/// A node's committing thread over such an engine.
struct World {
    cluster: MemoryCluster,
    asked: Arc<Mutex<Vec<Asked>>>,
    committer: Option<Committer<usize>>,
    running: Option<JoinHandle<Stopped>>,
    inbox: Inbox<usize>,
    told: Receiver<Told<usize>>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new(does: &[Does], late: Duration) -> Self {
        Self::holding(does, late, 0)
    }

    /// One that tells nothing before so many batches were proposed.
    fn holding(does: &[Does], late: Duration, until: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let cluster = MemoryCluster::new(Id([7; 16]), Faults::default());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (below, does) = (cluster.node(), does.to_vec());
        let (told, held, bell) = Default::default();
        let watched = Arc::clone(&asked);
        let journal = Watched { below, does, asked: watched, told, late, until, held, bell };
        let settings =
            Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
        let (id, level) = (journal.identity(), journal.level());
        let mut fold = Fold::open(&store, id, level, settings, CacheSizes::default()).unwrap();
        let mut engine = Engine::elsewhere(journal);
        catch_up(&mut fold, &mut engine, &store).unwrap();
        let limits = QueueLimits { commands: 1_000, bytes: 1 << 30, told: 64 };
        let (committer, inbox, told) = Committer::new(fold, engine, store, Arc::new(|| 1), limits);
        let (committer, running) = (Some(committer), None);
        Self { cluster, asked, committer, running, inbox, told, _folder: folder }
    }

    /// Begins to work off what was submitted.
    fn run(&mut self) {
        let committer = self.committer.take().unwrap();
        self.running = Some(std::thread::spawn(move || committer.run()));
    }

    /// The next replies to those who wait, and the batch that they stand in.
    fn next(&self) -> (u64, Vec<(usize, Reply)>) {
        let Told { applied, tickets, .. } =
            self.told.recv_timeout(PATIENCE).expect("a batch is told");
        let reply = |effect| match effect {
            Effect::Reply(index, reply) => tickets[index].map(|ticket| (ticket, reply)),
            _ => None,
        };
        (applied.batch, applied.effects.into_iter().filter_map(reply).collect())
    }

    /// Submits commands, each when the one before has been proposed, so that each has a batch.
    fn submit_apart(&self, commands: impl IntoIterator<Item = Command>) {
        let begun = Instant::now();
        for (ticket, command) in commands.into_iter().enumerate() {
            while self.asked.lock().unwrap().len() < ticket {
                assert!(begun.elapsed() < PATIENCE, "batch {ticket} is not proposed");
                std::thread::yield_now();
            }
            self.inbox.submit(command, 64, Some(ticket)).unwrap();
        }
    }

    /// The thread ends because it was asked to; what it had proposed.
    fn end(mut self) -> Vec<Asked> {
        self.inbox.close();
        assert_eq!(self.running.take().unwrap().join().unwrap(), Stopped::Closed);
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

fn create(name: String) -> Command {
    Command::CreateLog { name, page_records: 0 }
}

fn append() -> Command {
    let (to, record) = (
        Target::Name("a".to_owned()),
        Record { payload: Some(Payload::text("x")), ..Record::default() },
    );
    let hash = entry_hash(&to, None, &record);
    let entry =
        Entry { seq: 1, prev: 0, to, made: None, if_head: None, hash, verdict: None, record };
    let (user, writer, connection) = ("ann".to_owned(), Id([1; 16]), Id([2; 16]));
    let (oldest, once, positions, entries) = (1, false, Vec::new(), vec![entry]);
    Command::Append(Appends { user, writer, connection, oldest, once, positions, entries })
}

/// The engine has said that it has it; that it is read back late is no reason to send it again.
#[test]
fn a_batch_that_was_taken_is_not_proposed_again() {
    let mut world = World::new(&[], 4 * WAIT);
    world.inbox.submit(Command::Look, 64, Some(1)).unwrap();
    world.run();
    assert_eq!(world.next(), (1, vec![(1, Reply::Done)]));
    assert_eq!(world.end().len(), 1);
}

/// Nobody waits for what is on its way: nothing is read back before all are proposed.
#[test]
fn a_batch_is_proposed_while_others_are_on_their_way() {
    let mut world = World::holding(&[], Duration::ZERO, 6);
    world.run();
    world.submit_apart((0..6).map(|n| create(n.to_string())));
    for n in 0..6 {
        let created = Reply::Created(n + 1, true);
        assert_eq!(world.next(), (n + 1, vec![(usize::try_from(n).unwrap(), created)]));
    }
    assert_eq!(world.end().len(), 6, "each once");
}

/// One that is refused or lost takes those behind it with it: they came before their turn, and are
/// proposed anew behind it, the same bytes in the same order. Each counts once.
#[test]
fn one_that_is_refused_or_lost_takes_those_behind_it_with_it() {
    for first in [Does::Refuses, Does::Loses] {
        let mut world = World::holding(&[first], Duration::ZERO, 4);
        world.run();
        world.submit_apart((0..4).map(|n| create(n.to_string())));
        let mut told = Vec::new();
        while told.len() < 4 {
            told.extend(world.next().1);
        }
        let created = (0..4_usize).map(|n| (n, Reply::Created(n as u64 + 1, true)));
        assert_eq!(told, created.collect::<Vec<_>>(), "{first:?}");
        let cluster = world.cluster.clone();
        let asked: Vec<_> = world.end().into_iter().map(|asked| asked.bytes).collect();
        assert_eq!(asked.len(), 8, "{first:?}");
        assert_eq!(asked[..4], asked[4..], "{first:?}");
        assert_eq!(cluster.ends().head, 3 + 4, "{first:?}: three came early");
    }
}

/// All that was proposed is given up where nothing is taken, in its order.
#[test]
fn all_that_is_on_its_way_is_put_off_where_nothing_is_taken() {
    let mut world = World::new(&[Does::Refuses; 200], Duration::ZERO);
    world.run();
    world.submit_apart((0..3).map(|n| create(n.to_string())));
    for n in 0..3 {
        let (batch, replies) = world.next();
        let [(ticket, Reply::Refused(refusal))] = replies.as_slice() else { panic!("{replies:?}") };
        assert_eq!((batch, *ticket, refusal.code), (0, n, Code::Overloaded));
    }
    assert_eq!(world.cluster.ends().head, 0);
    world.end();
}

#[test]
fn a_batch_of_unknown_fate_is_proposed_again_after_a_wait() {
    let mut world = World::new(&[Does::Loses, Does::Refuses, Does::Loses], Duration::ZERO);
    world.inbox.submit(Command::Look, 64, Some(1)).unwrap();
    world.run();
    assert_eq!(world.next(), (1, vec![(1, Reply::Done)]));
    let asked = world.end();
    assert_eq!(asked.len(), 4);
    for pair in asked.windows(2) {
        assert!(pair[0].bytes == pair[1].bytes, "the same bytes, so that it is folded once");
        let waited = pair[1].came.duration_since(pair[0].came);
        assert!(waited >= WAIT, "again after {waited:?}");
    }
}

/// Nothing of it was written, so who waits is told when to come again. What nobody waits for is
/// done as soon as the engine takes something.
#[test]
fn a_batch_that_is_refused_again_and_again_is_given_up() {
    let mut world = World::new(&[Does::Refuses; 5], Duration::ZERO);
    let up = Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION };
    world.inbox.submit(create("a".to_owned()), 64, Some(1)).unwrap();
    world.inbox.submit(up, 64, None).unwrap();
    world.inbox.submit(append(), 64, Some(2)).unwrap();
    world.run();
    let (batch, replies) = world.next();
    assert_eq!(batch, 0, "none was folded");
    let [(1, Reply::Refused(one)), (2, Reply::Answers(other))] = replies.as_slice() else {
        panic!("{replies:?}");
    };
    let Outcome::Refused(put_off) = &other.answers[0].outcome else { panic!("{other:?}") };
    assert_eq!((other.answers[0].seq, other.mark), (1, 0));
    for refusal in [one, put_off] {
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.retry_after > 0);
    }
    assert_eq!(world.next(), (1, vec![]), "what nobody waits for");
    // It comes again, and is what it would have been.
    world.inbox.submit(create("a".to_owned()), 64, Some(3)).unwrap();
    assert_eq!(world.next(), (2, vec![(3, Reply::Created(1, true))]));
    let cluster = world.cluster.clone();
    let asked = world.end();
    assert_eq!(asked.len(), 5 + 2);
    assert!(asked[..5].windows(2).all(|pair| pair[1].came - pair[0].came >= WAIT));
    assert_eq!(cluster.ends().head, 2);
}

/// Whatever was said of their weight; one that is too large alone is refused and holds up no other.
#[test]
fn no_batch_is_larger_than_the_engine_takes() {
    const MOST: usize = 4_096;
    let name = |n: usize| format!("{n:0>200}");
    for weighed in [true, false] {
        let mut world = World::new(&[], Duration::ZERO);
        world.cluster.take_at_most(MOST);
        for n in 0..60 {
            let name = if n == 30 { "x".repeat(MOST) } else { name(n) };
            let weight = if weighed { name.len() } else { 0 };
            world.inbox.submit(create(name), weight, Some(n)).unwrap();
        }
        world.run();
        let mut replies = Vec::new();
        while replies.len() < 60 {
            replies.extend(world.next().1);
        }
        for (at, (ticket, reply)) in replies.into_iter().enumerate() {
            assert_eq!(ticket, at, "in the order in which they came");
            match reply {
                Reply::Created(..) => assert_ne!(at, 30),
                Reply::Refused(refusal) => assert_eq!((at, refusal.code), (30, Code::TooLarge)),
                other => panic!("{other:?}"),
            }
        }
        let asked = world.end();
        assert!(asked.iter().all(|asked| asked.bytes.len() <= MOST));
        assert!(asked.len() < 20, "many go together: {}", asked.len());
    }
}
