//! The keeper: what a node does by the clock. It watches and proposes; the fold decides.
//!
//! Commits of cursors, pings, refusals when the store is under pressure, downgrades of connections
//! that have outlived their bounds, retention, bringing logs under rules that have changed, and the
//! forgetting of what is long unused. Every proposal names what it saw, so one that has gone stale
//! does nothing. Scans go page by page, so their cost does not grow with what is stored.

mod derive;
mod expire;
mod lagging;
mod life;
mod retention;
mod share;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

pub(in crate::node) use share::Share;

use super::clock;
use crate::admission::{Clock, Shed, close_revoked, cut_off, hand};
use crate::auth::Authority;
use crate::channel::{Hub, SWEEP, Socket, Ticket};
use crate::connection::policy::Rounds;
use crate::connection::{Attachment, Progress};
use crate::fold::{Command, Reply};
use crate::journal::{Fence, Inbox};
use crate::limit::{Limits, Rates, Rules};
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::Refusal;

/// How often the store's pressure is looked at.
const PRESSURE: Duration = Duration::from_millis(50);
/// How often is looked whether a token was revoked while its socket was being met.
const REVOKED: Duration = Duration::from_millis(500);
/// How often rates forget who has been quiet.
const RATES: Duration = Duration::from_secs(10);

/// How often tails of quiet logs give their room to others.
const TAILS: Duration = Duration::from_secs(2);
/// How often other nodes are looked at.
const NODES: Duration = Duration::from_secs(2);
/// How often buffers are held against the node's memory.
const MEMORY: Duration = Duration::from_millis(500);
/// Between two scans of writers.
const WRITERS: Duration = Duration::from_secs(60);
/// How often the files of trimmed logs are let go.
const RELEASE: Duration = Duration::from_secs(2);
/// A commit of cursors is closed when it weighs this much: the committing thread works it off in
/// one go.
const COMMIT_BYTES: usize = 256 << 10;
/// Between two pages of a scan, at least; and at least as long as the page took, so that a scan
/// takes half a core at most.
const PAGES: Duration = Duration::from_millis(2);
/// Scans of connections rest so many times as long as they work: each takes a third of a
/// hundredth of a core, however many connections there are.
const SHARE: u32 = 300;
/// And yet no longer than this.
const MOST_REST: Duration = Duration::from_millis(500);
/// Between two scans of all logs where none has a bound by age: what has grown is looked at anyway.
const ALL_LOGS: Duration = Duration::from_secs(60);

/// What the keeper looks at, and whom it proposes to.
#[allow(missing_debug_implementations, reason = "handles to what tells of itself elsewhere")]
pub(super) struct Ground {
    pub(super) hub: Arc<Hub>,
    pub(super) store: Store,
    pub(super) inbox: Inbox<Ticket>,
    pub(super) authority: Arc<Authority>,
    pub(super) rates: Arc<Rates>,
    pub(super) shed: Arc<Shed>,
    pub(super) fence: Arc<Fence>,
    pub(super) limits: Limits,
    pub(super) rules: Rules,
    pub(super) clock: Clock,
    /// This run of this node.
    pub(super) here: Attachment,
    /// What it sees to, of what all nodes could.
    pub(super) share: Share,
}

impl Ground {
    /// The time, milliseconds since 1970.
    fn now(&self) -> u64 {
        (self.clock)()
    }

    /// Proposes what an answer is waited for.
    fn hand(
        &self,
        command: Command,
        weight: usize,
    ) -> Result<oneshot::Receiver<(u64, Reply)>, Refusal> {
        hand(&self.shed, &self.inbox, command, weight)
    }
}

/// The running tasks.
#[derive(Debug)]
pub(super) struct Keeper {
    tasks: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// Starts them on the current runtime.
    pub(super) fn start(ground: Arc<Ground>) -> Self {
        let ground = &ground;
        let commits = Duration::from_millis(u64::from(ground.limits.commit_interval_ms));
        let round = round(ground);
        let rounds = Mutex::<Rounds>::default();
        let looks = derive::Looks::default();
        let mut tasks = vec![
            every(PRESSURE, ground, press),
            every(SWEEP, ground, |ground| ground.hub.sweep(ground.now())),
            every(REVOKED, ground, end_revoked()),
            every(RATES, ground, |ground| ground.rates.sweep()),
            every(TAILS, ground, |ground| ground.hub.sweep_tails()),
            every(NODES, ground, others),
            every(commits, ground, commit),
            every(MEMORY, ground, life::memory),
            every(clock::LOOK, ground, |ground| clock::watch(&ground.store, ground.now())),
            scan_within(SHARE, "connections", round, ground, move |ground, after| {
                life::connections(ground, *after, &rounds)
            }),
            scan_within(SHARE, "readers of logs that moved", round, ground, lagging::page),
            scan("files", RELEASE, ground, release),
            scan("rules of logs", ALL_LOGS, ground, move |ground, after| {
                derive::page(ground, after.as_ref(), &looks)
            }),
            scan("writers", WRITERS, ground, |ground, after| life::writers(ground, *after)),
        ];
        if retention::any(ground) {
            let all = if retention::by_age(ground) { round } else { ALL_LOGS };
            tasks.push(scan("logs", all, ground, |ground, after: &Option<String>| {
                retention::logs(ground, after.as_deref())
            }));
            tasks.push(scan("logs that have grown", round, ground, |ground, _| {
                retention::grown(ground)
            }));
        }
        if expire::any(ground) {
            let due = expire::Due::default();
            let page = move |ground: &Ground, after: &Option<expire::After>| {
                expire::page(ground, after.as_ref(), &due)
            };
            tasks.push(scan("keys", round, ground, page));
        }
        Self { tasks }
    }

    /// Ends them.
    pub(super) fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Keeps who else runs, and where they say that they are; rates are shared with them.
fn others(ground: &Ground) {
    if !ground.fence.counts() {
        return;
    }
    match ground.store.nodes() {
        Ok(nodes) => {
            let running = nodes.iter().filter(|(node, row)| row.up && *node != ground.here.node);
            let addresses = running.clone().map(|(_, row)| row.address().to_owned());
            ground.hub.elsewhere.set(addresses.filter(|one| !one.is_empty()).collect());
            let others: Vec<_> = running.map(|(node, _)| *node).collect();
            ground.rates.share(u32::try_from(others.len()).unwrap_or(u32::MAX).saturating_add(1));
            ground.share.set(others);
        }
        Err(error) => tracing::warn!(%error, "other nodes cannot be looked at"),
    }
}

fn every(
    interval: Duration,
    ground: &Arc<Ground>,
    work: impl Fn(&Ground) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let ground = Arc::clone(ground);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // A panic has told itself, and is counted. The next round comes all the same.
            catch_unwind(AssertUnwindSafe(|| work(&ground))).ok();
        }
    })
}

/// A bound of a second is looked at several times a second; one of a day, every 5 seconds.
fn round(ground: &Ground) -> Duration {
    let age = Some(ground.limits.log_age_seconds).filter(|age| *age > 0).unwrap_or(u64::MAX);
    let bound = ground.limits.detached_limit_seconds.min(age);
    Duration::from_millis((bound.saturating_mul(250)).clamp(250, 5_000))
}

/// Scans page by page, then rests for `round`.
fn scan<T: Clone + Send + Sync + 'static>(
    what: &'static str,
    round: Duration,
    ground: &Arc<Ground>,
    page: impl Fn(&Ground, &Option<T>) -> Result<Option<T>, RowsError> + Send + Sync + 'static,
) -> JoinHandle<()> {
    scan_within(1, what, round, ground, page)
}

/// The same; after a page it rests `share` times as long as that took. Pages are read on threads
/// that may wait for a disk.
fn scan_within<T: Clone + Send + Sync + 'static>(
    share: u32,
    what: &'static str,
    round: Duration,
    ground: &Arc<Ground>,
    page: impl Fn(&Ground, &Option<T>) -> Result<Option<T>, RowsError> + Send + Sync + 'static,
) -> JoinHandle<()> {
    let (ground, page) = (Arc::clone(ground), Arc::new(page));
    tokio::spawn(async move {
        let mut after = None;
        let (mut begun, mut pages) = (Instant::now(), 0_u32);
        loop {
            let turn = Instant::now();
            let (shared, work, from) = (Arc::clone(&ground), Arc::clone(&page), after.clone());
            let read = tokio::task::spawn_blocking(move || work(&shared, &from)).await;
            after = match read {
                Ok(Ok(next)) => next,
                Ok(Err(error)) => {
                    tracing::error!(%error, "a scan could not read");
                    None
                }
                // The page said so itself; the next scan begins anew.
                Err(error) if error.is_panic() => None,
                // The runtime is going down.
                Err(_) => return,
            };
            pages += 1;
            if after.is_some() {
                tokio::time::sleep(rest(turn.elapsed(), share)).await;
            } else {
                tracing::trace!(what, pages, took = ?begun.elapsed(), "a scan has ended");
                tokio::time::sleep(round).await;
                (begun, pages) = (Instant::now(), 0);
            }
        }
    })
}

/// How long a scan rests after a page that took so long. Where a page waits for a disk or for a
/// processor, that is not what is to be spared: so there is an end to it.
fn rest(took: Duration, share: u32) -> Duration {
    (took * share).min(MOST_REST.max(took)).max(PAGES)
}

/// Lets go of files that hold nothing but what was trimmed or deleted.
fn release(ground: &Ground, _: &Option<()>) -> Result<Option<()>, RowsError> {
    ground.hub.take_trimmed().iter().try_for_each(|log| ground.store.release(*log))?;
    Ok(None)
}

/// Keeps commands out while the node does not know what its journal holds, and before the store
/// would stall or the disk fills.
fn press(ground: &Ground) {
    if ground.fence.is_shut() {
        return ground.shed.set(Some(&cut_off()));
    }
    match ground.store.pressure() {
        Ok(pressure) => ground.shed.set(pressure.refusal().as_ref()),
        // The watch says it, once, and ends the node.
        Err(error) => tracing::debug!(%error, "the store's pressure cannot be read"),
    }
}

/// Closes sockets that were being met while their token was revoked.
fn end_revoked() -> impl Fn(&Ground) {
    let seen = AtomicU64::new(0);
    move |ground| {
        let generation = ground.authority.revocations().generation();
        if seen.swap(generation, Ordering::Relaxed) != generation {
            close_revoked(&ground.authority, &ground.hub);
        }
    }
}

/// Commits what clients have reached since the last round: of all of them as one command, or as
/// few as its bound allows.
fn commit(ground: &Ground) {
    let (mut sockets, mut all, mut weight) = (Vec::new(), Vec::new(), 0);
    for socket in ground.hub.take_moved() {
        let progress = socket.take_acked();
        if progress.reached.is_empty() {
            continue;
        }
        weight += progress.weight();
        sockets.push(socket);
        all.push(progress);
        if weight >= COMMIT_BYTES {
            let (sockets, all) = (std::mem::take(&mut sockets), std::mem::take(&mut all));
            commit_of(ground, &sockets, all, std::mem::take(&mut weight));
        }
    }
    if !all.is_empty() {
        commit_of(ground, &sockets, all, weight);
    }
}

fn commit_of(ground: &Ground, sockets: &[Arc<Socket>], all: Vec<Progress>, weight: usize) {
    if let Err(refusal) = ground.inbox.submit(Command::Commit(all.clone()), weight, None) {
        tracing::debug!(%refusal, sockets = sockets.len(), "cursors wait for the next round");
        for (socket, progress) in sockets.iter().zip(&all) {
            socket.put_back(progress);
            ground.hub.note_moved(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two scans of connections, each within a third of the keeper's hundredth of a core.
    #[test]
    fn scans_of_connections_keep_to_their_share_of_a_core() {
        for took in [10, 200, 1_000, 1_600].map(Duration::from_micros) {
            let part = took.as_secs_f64() / (took + rest(took, SHARE)).as_secs_f64();
            assert!(3.0 * part <= 0.01, "{took:?}: {part}");
        }
        // A page that waited is made up for only so long.
        let slow = Duration::from_millis(40);
        assert_eq!((rest(slow, SHARE), rest(slow, 1)), (MOST_REST, slow));
        assert_eq!(rest(2 * MOST_REST, SHARE), 2 * MOST_REST);
    }
}
