//! A node from start to end: store, journal, fold, delivery and gateway wired together; then served
//! until it is told to stop, or until something that promises rest on fails.
//!
//! Promise: on SIGTERM it drains: no new sockets, clients sent away at spread times, everything
//! acknowledged kept. A failed sync, a damaged row or a broken journal stops it with an error.

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::clock;
use super::config::{Config, Loaded};
use super::keeper::{Ground, Keeper, Share};
use super::watch::Watch;
use super::{engine, files, known_versions::known_versions, logging, revoked, secret};
use crate::admission::{Admission, Enforcer};
use crate::channel::{Closing, Dispatcher, Hub, HubLimits, Pumps, Socket, Ticket, panics};
use crate::connection::{Attachment, Budgets};
use crate::fold::{CacheSizes, Command, Fold, FoldError, Reply, Settings, Versions, folded_time};
use crate::gateway::{Accepting, Gate, http, serve};
use crate::journal::{Committer, Engine, Inbox, QueueLimits, Stopped, catch_up};
use crate::limit::Limits;
use crate::store::{Lost, Options, Store};
use crate::wire::{Code, Id, MAX_ITEMS};

/// Threads that catch sockets up, where the configuration leaves it to the cores.
const PUMPS: RangeInclusive<usize> = 2..=8;
/// Threads that may wait for a disk, beside the runtime's workers.
const BLOCKING: usize = 32;
/// How long a node waits for its last word to be taken.
const GOODBYE: Duration = Duration::from_secs(3);
/// Time that a drain has in any case: for last words to be taken.
const AT_LEAST: Duration = Duration::from_millis(200);
/// Milliseconds over which clients are sent on to other nodes, at most.
const SENT_ON: u32 = 2_000;
/// Batches that are durable and wait to be told.
const TOLD: usize = 64;

/// The node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Open(#[from] crate::store::OpenError),
    /// The development secret.
    #[error(transparent)]
    Secret(#[from] secret::SecretError),
    /// The keys.
    #[error(transparent)]
    Authority(#[from] super::config::AuthorityError),
    /// The state.
    #[error("the data folder cannot be read on: {0}")]
    Fold(#[from] FoldError),
    /// The journal.
    #[error("the journal cannot be caught up with: {0}")]
    Journal(#[from] Stopped),
    /// The folder's journal is kept elsewhere.
    #[error(
        "the journal of this folder was moved to an engine that nodes share, behind batch {0} or \
         earlier: set journal.engine to it; to be alone again, restore a backup"
    )]
    Moved(u64),
    /// The port.
    #[error("cannot listen on {at}: {error}; {cure}", at = .0, error = .1, cure = cure(.1.kind()))]
    Listen(std::net::SocketAddr, std::io::Error),
    /// The system.
    #[error("the system refused: {0}")]
    System(#[from] std::io::Error),
    /// What an earlier version kept in a file.
    #[error(transparent)]
    Taken(#[from] revoked::TakeError),
    /// The engine takes too little at once.
    #[error(
        "limits.frame_bytes is {frame}, and what one frame may bring takes up to {wanted} bytes in \
         the journal, which takes at most {most} at once: set limits.frame_bytes to {room} or \
         less, or let the engine take more"
    )]
    Frames {
        /// The limit as it is set.
        frame: usize,
        /// What a frame may come to in a batch.
        wanted: usize,
        /// What the engine takes.
        most: usize,
        /// The largest limit that fits it.
        room: usize,
    },
    /// The first commands.
    #[error("the node could not be announced: {0}")]
    Announce(#[from] crate::wire::Refusal),
}

/// What to do where a port cannot be had.
const fn cure(kind: std::io::ErrorKind) -> &'static str {
    match kind {
        std::io::ErrorKind::AddrInUse => {
            "another server is there: stop that one, or name another port with --listen"
        }
        std::io::ErrorKind::PermissionDenied => {
            "ports below 1024 need rights: name another with --listen"
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: name another with --listen"
        }
        _ => "name another address and port with --listen",
    }
}

/// A node that has started: it is bound and announced, and serves once it is told to.
#[allow(missing_debug_implementations, reason = "a handle to threads; nothing in it is for people")]
pub struct Node {
    gate: Arc<Gate>,
    accepting: Accepting,
    keeper: Keeper,
    committer: JoinHandle<()>,
    dispatcher: JoinHandle<()>,
    pumps: Pumps,
    stopped: oneshot::Receiver<Stopped>,
    watch: Watch,
    lost: oneshot::Receiver<Lost>,
}

/// How many threads catch sockets up.
fn pumps_of(limits: &Limits) -> usize {
    if limits.catch_up_threads > 0 {
        return limits.catch_up_threads as usize;
    }
    let cores = std::thread::available_parallelism().map_or(*PUMPS.start(), |cores| cores.get());
    cores.clamp(*PUMPS.start(), *PUMPS.end())
}

/// How many threads write new records to readers.
const fn fan_out_of(limits: &Limits) -> usize {
    limits.fan_out_threads as usize
}

/// How a node ended.
#[derive(Debug)]
pub enum Ended {
    /// It was told to stop, or something failed that the log tells.
    Code(ExitCode),
    /// It did not start, for its store is damaged or lacks what the journal has let go of: a copy
    /// of another node's would do.
    Unusable {
        /// Why.
        error: StartError,
        /// The journal that it was to go on with, where an engine has it.
        journal: Option<Id>,
    },
}

impl StartError {
    /// Whether another store would start.
    const fn is_of_the_store(&self) -> bool {
        use crate::journal::JournalError::Dropped;
        use crate::store::OpenError::{Damaged, TailLost};
        matches!(
            self,
            Self::Open(Damaged { .. } | TailLost { .. })
                | Self::Journal(Stopped::Journal(Dropped { .. }))
        )
    }
}

/// Runs a node until it is told to stop; what it returns tells how it ended.
pub fn run(loaded: Loaded) -> Ended {
    logging::log_to_stderr(loaded.config.server.log_format);
    panics::watch();
    for warning in loaded.warnings() {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "no runtime");
            return Ended::Code(ExitCode::FAILURE);
        }
    };
    let ended = runtime.block_on(async {
        let dev = loaded.config.server.dev;
        let (engine, journal) = match engine::of(&loaded.config) {
            Ok(made) => made,
            Err(error) => {
                tracing::error!("{error}");
                return Ended::Code(ExitCode::FAILURE);
            }
        };
        match Node::start(loaded.config, engine).await {
            Ok(node) => {
                // Before anyone is told that it is there: who is told may stop it at once.
                let stop = match told_to_stop() {
                    Ok(stop) => stop,
                    Err(error) => {
                        tracing::error!(%error, "signals cannot be waited for");
                        return Ended::Code(ExitCode::FAILURE);
                    }
                };
                tell_ready(node.address());
                if dev {
                    tell_demo(node.address());
                }
                Ended::Code(node.serve(stop).await)
            }
            Err(error) if error.is_of_the_store() => Ended::Unusable { error, journal },
            Err(error) => {
                tracing::error!("{error}");
                Ended::Code(ExitCode::FAILURE)
            }
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    ended
}

impl Node {
    /// Opens the data folder, catches up with the journal that `engine` makes over its store, and
    /// binds the port.
    ///
    /// # Errors
    /// [`StartError`], with what to do about it.
    pub async fn start(
        config: Config,
        engine: impl FnOnce(&Store) -> Engine,
    ) -> Result<Self, StartError> {
        let accepting = Accepting::bind(config.server.listen, config.limits.listen_backlog)
            .map_err(|error| StartError::Listen(config.server.listen, error))?;
        let disk_reserve_bytes = config.limits.disk_reserve_bytes;
        let options = Options { disk_reserve_bytes, ..Options::default() };
        let store = Store::open(&config.server.data, options)?;
        let dev_secret =
            config.server.dev.then(|| secret::of_data_folder(&config.server.data)).transpose()?;
        let authority = Arc::new(config.authority(dev_secret.as_deref())?);
        let (clock, limits, follows) = (clock::clock(), config.limits, config.journal.follower);
        clock::check(clock(), folded_time(&store).map_err(FoldError::from)?);
        let (node, settings, mut engine) = (store.node_id(), settings(&config), engine(&store));
        frames_fit(&limits, engine.most_bytes())?;
        let (fold, alone) = folded(&store, &mut engine, &settings)?;
        let (versions, first) = (fold.versions(), first(&fold, node, alone, &settings));
        let left = revoked::left(&config.server.data)?;
        revoked::load(&store, &authority).map_err(FoldError::from)?;
        let (committer, inbox, told) =
            Committer::new(fold, engine, store.clone(), Arc::clone(&clock), queue(&limits));
        let (incarnation, fence) = (committer.incarnation(), committer.fence());
        let hub = Hub::new(store.clone(), hub_limits(&limits)).fenced_by(&fence);
        let (tell, stopped) = oneshot::channel();
        let committer = std::thread::Builder::new().name("commit".to_owned()).spawn(move || {
            // The node may be gone already when this ends.
            tell.send(committer.run()).ok();
        })?;
        let dispatcher = Dispatcher::new(
            Arc::clone(&hub),
            hub.followers(),
            Arc::new(Enforcer(Arc::clone(&authority))),
            inbox.clone(),
            (node, incarnation),
            limits.activate_after_ms,
            settings.rules,
        )
        .with_fan_out(fan_out_of(&limits), &clock)?;
        let time = Arc::clone(&clock);
        let dispatcher = std::thread::Builder::new()
            .name("dispatch".to_owned())
            .spawn(move || dispatcher.run(&told, &*time))?;
        let pumps = Pumps::start(&hub, &clock, pumps_of(&limits))?;
        hub.load_eras().map_err(FoldError::from)?;
        announce(&inbox, versions, first).await?;
        revoked::take_over(left, &config.server.data, &inbox).await?;
        let gate = Arc::new(Gate {
            hub,
            inbox,
            http: http::Shared::new(&limits, http::Marks::of_authority(&authority)),
            authority,
            admission: Admission::new(store.clone(), limits, config.server.auto_create, follows),
            store,
            limits,
            rules: config.rules,
            dev: config.server.dev,
            clock,
            node,
            incarnation,
            fence,
            connections: files::connections(&limits),
            sockets: Default::default(),
            greeting: Default::default(),
            requests: Default::default(),
        });
        let keeper = Keeper::start(ground(&gate));
        let (watch, lost) = Watch::start(gate.store.clone())?;
        Ok(Self { gate, accepting, keeper, committer, dispatcher, pumps, stopped, watch, lost })
    }
}

/// What the keeper looks at, of what sockets and requests share.
fn ground(gate: &Gate) -> Arc<Ground> {
    Arc::new(Ground {
        hub: Arc::clone(&gate.hub),
        store: gate.store.clone(),
        inbox: gate.inbox.clone(),
        authority: Arc::clone(&gate.authority),
        rates: Arc::clone(&gate.admission.rates),
        shed: Arc::clone(&gate.admission.shed),
        fence: Arc::clone(&gate.fence),
        limits: gate.limits,
        rules: gate.rules.clone(),
        clock: Arc::clone(&gate.clock),
        here: Attachment { node: gate.node, incarnation: gate.incarnation },
        share: Share::new(gate.node),
    })
}

/// What a batch holds beside what a frame brought: its header; and for each of a frame's items its
/// hash, where its log was made, and a verdict in words.
const BATCH_REST: usize = (16 << 10) + MAX_ITEMS * 256;

/// Whether the engine takes whatever one frame may bring: else clients that keep to the limits
/// would be refused, each with its own frame, and nobody would know why.
fn frames_fit(limits: &Limits, most: usize) -> Result<(), StartError> {
    let frame = limits.frame_bytes as usize;
    let wanted = frame + BATCH_REST;
    if wanted <= most {
        return Ok(());
    }
    Err(StartError::Frames { frame, wanted, most, room: most.saturating_sub(BATCH_REST) })
}

/// The fold as the store has it, caught up with the journal; whether order is decided here, and
/// whether the journal was moved to where it is.
fn folded(
    store: &Store,
    engine: &mut Engine,
    settings: &Settings,
) -> Result<(Fold, (bool, bool)), StartError> {
    let (identity, level, sizes) = (engine.identity(), engine.level(), CacheSizes::default());
    let fold = Fold::open(store, identity, level, settings.clone(), sizes)?;
    let mut fold = fold.knowing(known_versions());
    let moved = catch_up(&mut fold, engine, store)?;
    let (folded, head) = (fold.known().batch, store.kept().head);
    if engine.is_here() && folded != head {
        return Err(StartError::Moved(folded));
    }
    Ok((fold, (engine.is_here(), moved)))
}

/// What a node has to say at its start: that an era begins, where it is alone with its journal or
/// that was moved, for what it was before may go on without it; that the runs of others are over,
/// where it is alone: a restored backup holds the node that it was taken of, which does not come
/// back to say so; and what it is told of rules and limits, where that is
/// new or nobody has said it yet: nodes must not fold by what each was told.
fn first(fold: &Fold, node: Id, (here, moved): (bool, bool), settings: &Settings) -> Vec<Command> {
    let present = fold.eras().present();
    let era = (here || moved || present.is_none())
        .then(|| Command::BeginEra { after: present, era: Id(rand::random()) });
    let over = fold
        .others(node)
        .filter(|_| here)
        .map(|Attachment { node, incarnation }| Command::NodeDown { node, incarnation });
    let configure = (fold.settings() != settings || !fold.configured())
        .then(|| Command::Configure(settings.clone()));
    era.into_iter().chain(over).chain(configure).collect()
}

/// What the fold must agree on.
fn settings(config: &Config) -> Settings {
    Settings {
        rules: config.rules.as_slice().to_vec(),
        budgets: Budgets::from(&config.limits),
        auto_create: config.server.auto_create,
    }
}

fn queue(limits: &Limits) -> QueueLimits {
    QueueLimits {
        commands: limits.queue_commands as usize,
        bytes: usize::try_from(limits.queue_bytes).unwrap_or(usize::MAX),
        told: TOLD,
    }
}

fn hub_limits(limits: &Limits) -> HubLimits {
    HubLimits {
        tail_bytes: usize::try_from(limits.tail_bytes).unwrap_or(usize::MAX),
        tail_bytes_per_log: limits.tail_bytes_per_log as usize,
        ping_interval: u64::from(limits.ping_interval_ms),
        refresh_grace: u64::from(limits.refresh_grace_ms),
    }
}

/// The node's first commands; from then on what an earlier run had attached counts as detached.
async fn announce(
    inbox: &Inbox<Ticket>,
    Versions { oldest, newest }: Versions,
    others: Vec<Command>,
) -> Result<(), StartError> {
    let up = Command::NodeUp { oldest, newest };
    // An era comes in the first batch: who crashed behind another one would begin none later.
    let (eras, others): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|command| matches!(command, Command::BeginEra { .. }));
    for command in eras.into_iter().chain([up]).chain(others) {
        let (caller, reply) = oneshot::channel();
        inbox.submit(command, 256, Some(Ticket::Caller(caller)))?;
        let (_, reply) = reply.await.map_err(|_| crate::wire::Refusal::new(Code::Failed))?;
        // Others are the fold's, as where another node has said it first.
        if let Reply::Refused(refusal) = reply
            && matches!(refusal.code, Code::Overloaded | Code::TooLarge)
        {
            return Err(refusal.into());
        }
    }
    Ok(())
}

impl Node {
    /// Where it listens.
    pub const fn address(&self) -> std::net::SocketAddr {
        self.accepting.address
    }

    /// Serves until `until` resolves, then drains; or until something that promises rest on fails.
    pub async fn serve(self, until: impl Future<Output = ()>) -> ExitCode {
        let Self { gate, accepting, keeper, committer, dispatcher, pumps, stopped, watch, lost } =
            self;
        if gate.dev {
            tracing::warn!(
                "DEVELOPMENT MODE: every client is believed and may do everything. Loopback only."
            );
        }
        let mut serving = tokio::spawn(serve(accepting, Arc::clone(&gate)));
        let failed = tokio::select! {
            biased;
            why = broken(lost, stopped) => {
                let data = gate.store.dir().display();
                tracing::error!(%data, "the node stops: {why}");
                gate.admission.shed.drain();
                true
            }
            _ = &mut serving => {
                tracing::error!("the node stops: nobody takes connections any more");
                gate.admission.shed.drain();
                true
            }
            () = until => {
                drain(&gate).await;
                false
            }
        };
        serving.abort();
        keeper.stop();
        let down = Command::NodeDown { node: gate.node, incarnation: gate.incarnation };
        // A node that cannot say so any more is found out by its next start, or by others.
        tokio::time::timeout(GOODBYE, gate.ask(down, 64)).await.ok();
        gate.inbox.close();
        pumps.stop();
        let wait = move || {
            watch.stop();
            (committer.join().is_ok(), dispatcher.join().is_ok())
        };
        let ended = tokio::task::spawn_blocking(wait);
        if tokio::time::timeout(Duration::from_secs(10), ended).await.is_err() {
            tracing::error!("threads did not end in time");
            return ExitCode::FAILURE;
        }
        if failed {
            return ExitCode::FAILURE;
        }
        if let Err(error) = gate.store.sync() {
            tracing::error!(%error, "the last sync failed");
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

/// Why the node cannot go on.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Lost(Lost),
    #[error(transparent)]
    Stopped(Stopped),
    #[error("the committing thread ended without a word")]
    Silent,
}

/// Resolves once the folder is lost, or the committing thread has ended.
async fn broken(lost: oneshot::Receiver<Lost>, stopped: oneshot::Receiver<Stopped>) -> Broken {
    let lost = async {
        match lost.await {
            Ok(lost) => lost,
            // The watch has ended: only the committing thread can tell.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        lost = lost => Broken::Lost(lost),
        stopped = stopped => stopped.map_or(Broken::Silent, Broken::Stopped),
    }
}

/// One line on standard output, for people and for scripts that wait for it; where they have gone
/// the node serves all the same.
fn tell_ready(address: std::net::SocketAddr) {
    let mut out = std::io::stdout().lock();
    let told = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
    if let Err(error) = told {
        tracing::warn!(%error, "nobody could be told: listening on http://{address}");
    }
}

/// In development, where to look first; on standard error, for people alone.
fn tell_demo(address: std::net::SocketAddr) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "the demo: http://{address}/demo").ok();
}

/// Resolves at SIGTERM or SIGINT, also where they come before it is waited for: they are listened
/// to from this call on.
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}

/// Sends every client away, each told another time to come back within the configured span; lets
/// requests under way be answered.
async fn drain(gate: &Arc<Gate>) {
    let span = Duration::from_millis(u64::from(gate.limits.drain_ms));
    let sockets = gate.sockets.load(Ordering::Relaxed);
    let requests = gate.requests.load(Ordering::Relaxed);
    tracing::info!(sockets, requests, "draining");
    gate.admission.shed.drain();
    let begun = Instant::now();
    let empty = async {
        loop {
            // Again and again: one that was being met when this began comes in afterwards.
            gate.hub.each(|socket| send_away(gate, socket, begun.elapsed()));
            let left = [&gate.sockets, &gate.requests];
            if left.iter().all(|count| count.load(Ordering::Relaxed) == 0) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // At once, where there is no span, but not before all have been told.
    tokio::time::timeout(span.max(AT_LEAST), empty).await.ok();
}

/// Closes a socket with a time to come back that is its own.
/// Who is told of other nodes goes there at once: they are sent one after the other, so that those
/// nodes are not met by all at the same moment.
fn send_away(gate: &Gate, socket: &Socket, since: Duration) {
    if socket.closing() {
        return;
    }
    let span = gate.limits.drain_ms;
    let Id([a, b, c, d, ..]) = socket.connection;
    let spread = u32::from_be_bytes([a, b, c, d]);
    let mut closing = Closing::new(Code::ShuttingDown);
    closing.after = 500 + if span == 0 { 0 } else { spread % span };
    let closing = gate.hub.elsewhere.name(socket.connection, closing);
    // Half of the span, so that the last of them are told before it ends.
    let turn = spread.checked_rem((span / 2).min(SENT_ON)).unwrap_or_default();
    if closing.nodes.is_empty() || since >= Duration::from_millis(u64::from(turn)) {
        socket.close(&closing);
    }
}
