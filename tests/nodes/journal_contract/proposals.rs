//! What the committing thread asks of an engine: how often the same bytes are proposed, what
//! becomes of those that are refused, and how large they may be. An engine that writes down what it
//! was asked, and answers as the test says, stands before one in memory.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater::fold::{CacheSizes, Command, Effect, FOLD_VERSION, Fold, Reply, Settings};
use highwater::journal::{
    AppendError, Committer, Faults, Inbox, Journal, JournalError, MemoryCluster, MemoryJournal,
    Order, QueueLimits, Stopped, Told,
};
use highwater::log::{Appends, Entry, entry_hash};
use highwater::rows::Writes;
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

/// A proposal, when it came and when it was answered.
struct Asked {
    bytes: Vec<u8>,
    came: Instant,
    answered: Instant,
}

/// An engine that does as it is told for the first proposals, and takes all others.
struct Watched {
    below: MemoryJournal,
    does: Vec<Does>,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// What was taken is not read back for so long after the first proposal.
    late: Duration,
}

impl Journal for Watched {
    fn identity(&self) -> Id {
        self.below.identity()
    }

    fn level(&self) -> Level {
        self.below.level()
    }

    fn order(&self) -> Order {
        self.below.order()
    }

    fn most_bytes(&self) -> usize {
        self.below.most_bytes()
    }

    fn head(&mut self) -> Result<u64, JournalError> {
        self.below.head()
    }

    fn start(&mut self) -> Result<u64, JournalError> {
        self.below.start()
    }

    fn append(&mut self, batch: &[u8], effects: Option<Writes>) -> Result<u64, AppendError> {
        let came = Instant::now();
        let mut asked = self.asked.lock().unwrap();
        let answer = match self.does.get(asked.len()).unwrap_or(&Does::Takes) {
            Does::Takes => self.below.append(batch, effects),
            Does::Refuses => Err(AppendError::Refused("as the test says".to_owned())),
            Does::Loses => Err(AppendError::Unknown("as the test says".to_owned())),
        };
        asked.push(Asked { bytes: batch.to_vec(), came, answered: Instant::now() });
        answer
    }

    fn read(
        &mut self,
        from: u64,
        most: usize,
        wait: Duration,
    ) -> Result<Vec<(u64, Bytes)>, JournalError> {
        let first = self.asked.lock().unwrap().first().map(|asked| asked.came);
        if first.is_some_and(|first| first.elapsed() < self.late) {
            // As an engine with nothing to read: the caller's time passes, and nothing came.
            std::thread::sleep(wait);
            return Ok(Vec::new());
        }
        self.below.read(from, most, wait)
    }

    fn drop_before(&mut self, batch: u64) -> Result<(), JournalError> {
        self.below.drop_before(batch)
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
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Options::default()).unwrap();
        let cluster = MemoryCluster::new(Id([7; 16]), Faults::default());
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (below, does) = (cluster.node(), does.to_vec());
        let journal = Watched { below, does, asked: Arc::clone(&asked), late };
        let settings =
            Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
        let (id, level) = (journal.identity(), journal.level());
        let fold = Fold::open(&store, id, level, settings, CacheSizes::default()).unwrap();
        let limits = QueueLimits { commands: 1_000, bytes: 1 << 30, told: 64 };
        let (committer, inbox, told) =
            Committer::new(fold, Box::new(journal), store, Arc::new(|| 1), limits);
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
        let Told { applied, tickets } = self.told.recv_timeout(PATIENCE).expect("a batch is told");
        let reply = |effect| match effect {
            Effect::Reply(index, reply) => tickets[index].map(|ticket| (ticket, reply)),
            _ => None,
        };
        (applied.batch, applied.effects.into_iter().filter_map(reply).collect())
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
        let waited = pair[1].came.duration_since(pair[0].answered);
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
    assert!(asked[..5].windows(2).all(|pair| pair[1].came - pair[0].answered >= WAIT));
    assert_eq!(cluster.node().head(), Ok(2));
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
