//! The journal as a stream of NATS JetStream: nodes propose by publishing, and read it back.
//!
//! Promise: the stream's order is the journal's. Batch numbers are dense and ours: the stream's
//! sequence and a number that the stream keeps beside it, so that a journal that was moved here
//! goes on counting. What the stream no longer has, and what it has lost, is said and never passed
//! over: each message is looked at whether it follows the one before, and where nothing comes the
//! stream is asked whether it still ends where it was read to. A publication that was not answered
//! in time may be there or may get there: its fate is unknown, and whoever proposed it proposes the
//! same bytes again.

mod examine;
mod publish;
mod read;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};
use tokio::task::JoinHandle;

pub use examine::{Finding, Weight};

use super::{At, Bell, Ends, Event, Fate, Journal, JournalError};
use crate::wire::{Id, Level};
use stream::Kept;

/// Bytes of a message that are not the batch's: its headers.
const REST: usize = 512;
/// A question to the engine that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// A publication without an answer for so long has an unknown fate.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// Batches that are read and not polled yet.
const READ_AHEAD: usize = 64;
/// Proposals, and fates of them, that wait: more than a node has on their way at a time.
const ON_THEIR_WAY: usize = 64;

/// How the stream is reached, and what it is made with where it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsSettings {
    /// Addresses as NATS writes them: `nats://host:4222`, `tls://host:4222`.
    pub servers: Vec<String>,
    /// Name of the stream; its subject is this name and the journal's identity.
    pub stream: String,
    /// Copies of a stream that is made: 1, 3 or 5.
    pub replicas: usize,
    /// Who this node is, where the servers want a name and a password.
    pub user: Option<String>,
    /// File that the password stands in.
    pub password_file: Option<PathBuf>,
    /// File of the credentials (JWT and key), where the servers want those.
    pub credentials_file: Option<PathBuf>,
    /// Certificates of who vouches for the servers, beside the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// Where the servers' monitoring is, as `http://host:8222`: there alone they say whether they
    /// sync what they acknowledge.
    pub monitoring: Vec<String>,
}

/// One node's handle. It has a thread of its own that speaks with the servers.
#[derive(Debug)]
pub struct NatsJournal {
    speaker: Speaker,
    context: Context,
    kept: Kept,
    most_bytes: usize,
    publishing: Publishing,
    following: Option<Following>,
    bell: Arc<Bell>,
    settings: NatsSettings,
}

/// A serial, and what became of its proposal.
type Fated = (u64, Fate);

/// What publishes.
#[derive(Debug)]
struct Publishing {
    proposals: Sender<(u64, Bytes)>,
    told: Receiver<Fated>,
    /// For fates that are known at once.
    fates: Sender<Fated>,
}

/// What reads the stream, from [`Journal::follow`] on.
#[derive(Debug)]
struct Following {
    read: Receiver<Result<(At, Bytes), JournalError>>,
    task: Option<JoinHandle<()>>,
}

impl NatsJournal {
    /// Connects, and finds the stream; one that is not there is made where that may be: for a
    /// node without a history.
    ///
    /// # Errors
    /// When no server is reached or the stream cannot be had, and when it is not one of
    /// Highwater's; with what to do about it.
    pub fn open(settings: &NatsSettings, may_make: bool) -> Result<Self, JournalError> {
        let speaker = Speaker::start()?;
        let own = settings.clone();
        let (context, kept, most_bytes) =
            speaker.wait(async move { stream::open(&own, may_make).await })?;
        let (fates, told) = channel(ON_THEIR_WAY);
        let bell = Arc::<Bell>::default();
        let read = Arc::default();
        let publisher = publish::Publisher::new(context.clone(), &kept, fates.clone(), &read);
        let proposals = publisher.start(&speaker, &bell);
        let (following, settings) = (None, settings.clone());
        let publishing = Publishing { proposals, told, fates };
        Ok(Self { speaker, context, kept, most_bytes, publishing, following, bell, settings })
    }

    /// Whether a stream of that name can be begun.
    ///
    /// # Errors
    /// When no server is reached, or the stream is there already.
    pub fn may_begin(settings: &NatsSettings) -> Result<(), JournalError> {
        let settings = settings.clone();
        Speaker::start()?.wait(async move { stream::may_begin(&settings).await.map(drop) })
    }

    /// Makes the stream for a journal that was kept elsewhere until batch `before`: its next batch
    /// is the stream's first message.
    ///
    /// # Errors
    /// When no server is reached, or the stream is there already or cannot be made.
    pub fn begin(settings: &NatsSettings, identity: Id, before: u64) -> Result<(), JournalError> {
        let settings = settings.clone();
        Speaker::start()?.wait(async move { stream::begin(&settings, identity, before).await })
    }

    /// What of the engine's settings keeps the promises and what does not, worst first.
    ///
    /// # Errors
    /// When the engine cannot be asked.
    pub fn examine(&self) -> Result<Vec<Finding>, JournalError> {
        let (context, settings) = (self.context.clone(), self.settings.clone());
        self.speaker.wait(async move { examine::examine(&context, &settings).await })
    }

    /// The same, of a stream that may not be there; none is made.
    ///
    /// # Errors
    /// When no server is reached, or lets this node in.
    pub fn look(settings: &NatsSettings) -> Result<Vec<Finding>, JournalError> {
        let settings = settings.clone();
        Speaker::start()?.wait(async move {
            let context = jetstream_of(stream::connect(&settings).await?);
            examine::examine(&context, &settings).await
        })
    }
}

/// A thread that speaks with the servers; dropped, it is told to end and not waited for: whoever
/// drops it may be one that may not wait.
#[derive(Debug)]
struct Speaker(Option<Runtime>);

impl Speaker {
    fn start() -> Result<Self, JournalError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let one = runtime.worker_threads(1).thread_name("journal").enable_all();
        one.build().map(|runtime| Self(Some(runtime))).map_err(|error| failed(&error))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Option<JoinHandle<()>> {
        self.0.as_ref().map(|runtime| runtime.spawn(work))
    }

    /// Waits for its work, on any thread: also on one that another runtime drives.
    fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, JournalError>> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (done, result) = sync_channel(1);
        self.spawn(async move {
            // Who waits may have given up.
            done.send(work.await).ok();
        });
        result.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => failed(&format!("no answer within {PATIENCE:?}")),
            RecvTimeoutError::Disconnected => failed(&"its thread ended"),
        })?
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Journal for NatsJournal {
    fn identity(&self) -> Id {
        self.kept.identity
    }

    fn level(&self) -> Level {
        Level::Replicated
    }

    fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    fn ends(&mut self) -> Result<Ends, JournalError> {
        let (context, kept) = (self.context.clone(), self.kept.clone());
        self.speaker.wait(async move { stream::ends(&context, &kept).await })
    }

    fn follow(&mut self, behind: At, bell: &Arc<Bell>) -> Result<(), JournalError> {
        self.following = None;
        let Ends { start, head } = self.ends()?;
        let wanted = behind.batch + 1;
        if wanted < start {
            return Err(JournalError::Dropped { start, wanted });
        }
        if wanted > head + 1 {
            return Err(JournalError::Lost { head, wanted });
        }
        self.kept.agrees(behind)?;
        self.bell = Arc::clone(bell);
        // What is published from now on rings this bell.
        let fates = self.publishing.fates.clone();
        let last = Arc::new(AtomicU64::new(behind.batch));
        let publisher = publish::Publisher::new(self.context.clone(), &self.kept, fates, &last);
        self.publishing.proposals = publisher.start(&self.speaker, bell);
        let (told, read) = channel(READ_AHEAD);
        let reader = read::Reader {
            context: self.context.clone(),
            kept: self.kept.clone(),
            next: wanted,
            last,
            told,
            bell: Arc::clone(bell),
            patience: read::QUIET,
            doubted: None,
        };
        let task = self.speaker.spawn(reader.run());
        self.following = Some(Following { read, task });
        Ok(())
    }

    fn propose(&mut self, serial: u64, batch: Bytes) -> Result<(), JournalError> {
        if batch.len() > self.most_bytes {
            let (bytes, most) = (batch.len(), self.most_bytes);
            let why = format!("{bytes} bytes, and {most} are the most");
            let fated = (serial, Fate::Refused(why));
            self.publishing.fates.try_send(fated).map_err(|_| failed(&"too much is on its way"))?;
            self.bell.ring();
            return Ok(());
        }
        let sent = self.publishing.proposals.try_send((serial, batch));
        sent.map_err(|_| failed(&"too much is on its way"))
    }

    fn poll(&mut self) -> Result<Event, JournalError> {
        // What was read comes first: a batch that is here already is folded, not asked about.
        if let Some(following) = &mut self.following {
            match following.read.try_recv() {
                Ok(read) => return read.map(|(at, bytes)| Event::Batch { at, bytes }),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(failed(&"its reader ended")),
            }
        }
        match self.publishing.told.try_recv() {
            Ok((serial, fate)) => Ok(Event::Fate { serial, fate }),
            Err(_) => Ok(Event::CaughtUp),
        }
    }

    fn drop_before(&mut self, batch: u64, keep: Duration) -> Result<(), JournalError> {
        let (context, kept) = (self.context.clone(), self.kept.clone());
        // Nobody waits for it: whoever asks is the thread that reads the journal.
        self.speaker.spawn(async move {
            if let Err(error) = stream::drop_before(&context, &kept, batch, keep).await {
                tracing::warn!(batch, "the journal was not let go of: {error}");
            }
        });
        Ok(())
    }
}

fn failed(error: &dyn std::fmt::Display) -> JournalError {
    JournalError::Failed(format!("NATS: {error}"))
}

/// Its connection, as far as the trait does not know it.
fn jetstream_of(client: async_nats::Client) -> Context {
    jetstream::context::ContextBuilder::new()
        .timeout(PATIENCE / 2)
        .ack_timeout(ANSWERED_WITHIN)
        .max_ack_inflight(4 * ON_THEIR_WAY)
        .build(client)
}
