//! The keeper: what a node does by the clock. It watches and proposes; the fold decides.
//!
//! Commits of cursors, pings, refusals when the store is under pressure, downgrades of connections
//! that have outlived their bounds, retention, and the forgetting of what is long unused. Every
//! proposal names what it saw, so one that has gone stale does nothing. Scans go page by page, so
//! their cost does not grow with what is stored.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::fold::Command;
use crate::gateway::Gate;

/// How often the store's pressure is looked at.
const PRESSURE: Duration = Duration::from_millis(50);
/// How often sockets are swept.
const SWEEP: Duration = Duration::from_millis(500);
/// How often rates forget who has been quiet.
const RATES: Duration = Duration::from_secs(10);

/// The running tasks.
#[derive(Debug)]
pub struct Keeper {
    tasks: Vec<JoinHandle<()>>,
}

impl Keeper {
    /// Starts them on the current runtime.
    pub fn start(gate: &Arc<Gate>) -> Self {
        let commits = Duration::from_millis(u64::from(gate.limits.commit_interval_ms));
        let tasks = vec![
            every(PRESSURE, gate, press),
            every(SWEEP, gate, |gate| gate.hub.sweep(gate.now())),
            every(RATES, gate, |gate| gate.rates.sweep()),
            every(commits, gate, commit),
        ];
        Self { tasks }
    }

    /// Ends them.
    pub fn stop(self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

fn every(
    interval: Duration,
    gate: &Arc<Gate>,
    work: impl Fn(&Gate) + Send + Sync + 'static,
) -> JoinHandle<()> {
    let gate = Arc::clone(gate);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            work(&gate);
        }
    })
}

/// Keeps commands out before the store would stall, or the disk fills.
fn press(gate: &Gate) {
    match gate.store.pressure() {
        Ok(pressure) => gate.shed.set(pressure.refusal().as_ref()),
        Err(error) => tracing::error!(%error, "the store's pressure cannot be read"),
    }
}

/// Commits cursors that clients have acknowledged since the last round.
fn commit(gate: &Gate) {
    for socket in gate.hub.take_moved() {
        let (generation, cursors) = socket.take_acked();
        if cursors.is_empty() {
            continue;
        }
        let weight = 64 + cursors.len() * 16;
        let connection = socket.connection;
        let command = Command::Commit { connection, generation, cursors };
        // One that is lost costs a repeat that the client drops, never a gap.
        if let Err(refusal) = gate.inbox.submit(command, weight, None) {
            tracing::debug!(%refusal, %connection, "cursors wait for the next round");
        }
    }
}
