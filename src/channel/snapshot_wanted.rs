//! Client-made snapshots are asked for: of whom, and when.
//!
//! Promise: one caught-up reader at a time is asked, and of one tail once. Readers are looked at in
//! the slices in which they are written to, while nobody waits for the log's watch.

use std::sync::Arc;

use super::hub::{Watch, Watched};
use super::socket::Socket;
use crate::log::Rule;
use crate::wire::{ServerFrame, SnapshotRule, SnapshotWanted};

/// Whether the log's tail has grown long since its newest snapshot, and since the last asking.
pub(super) fn wants_snapshot(
    rules: &[Rule],
    watch: &Watch,
    watched: &mut Watched,
    end: u64,
) -> bool {
    if watched.rule != SnapshotRule::Client {
        return false;
    }
    let rule = rules.iter().find(|rule| rule.pattern.matches(&watch.name));
    let after = rule.map_or(u64::MAX, |rule| rule.ask_after.max(1));
    let newest = watched.snapshot.max(watched.asked);
    let wants = end.saturating_sub(newest) >= after;
    if wants {
        watched.asked = end;
    }
    wants
}

/// Asks the first of these readers that has caught up and may make a snapshot of the log: whether
/// one was asked.
pub(super) fn ask_for_snapshot(watch: &Watch, readers: &[Arc<Socket>], end: u64) -> bool {
    let may = |socket: &&Arc<Socket>| {
        let inner = socket.lock();
        inner.at.live(watch.log) && inner.at.grants().may_snapshot(&watch.name)
    };
    let Some(socket) = readers.iter().find(may) else { return false };
    let wanted = SnapshotWanted { log: watch.log, at_least: end };
    socket.send(&[ServerFrame::SnapshotWanted(wanted)]);
    true
}
