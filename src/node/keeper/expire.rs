//! Keys under `latest` that are older than their rule lets them be are found and proposed for their
//! end: [`crate::log`] stores a tombstone for each.
//!
//! Only logs that have such a rule are looked at. A log's keys are read through, a part at a time;
//! then its next look is due when its oldest key may be too old, and not before a hundred times as
//! long as the last look took. So what does not expire costs next to nothing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Ground;
use crate::fold::Command;
use crate::log::MAX_EXPIRED;
use crate::rows::RowsError;
use crate::wire::SnapshotRule;

/// Names looked at in one page.
const PAGE: usize = 256;
/// Bytes of rows that are looked at in one page.
const PAGE_BYTES: usize = 256 << 10;
/// What an ended key weighs besides its name, in bytes.
const KEY_BYTES: usize = 128;
/// Logs whose next look is remembered; of more, all are looked at again.
const MOST: usize = 65_536;
/// So many times as long as a look took, the log is left alone.
const REST: u64 = 100;

/// Whether any log has keys that end.
pub(super) fn any(ground: &Ground) -> bool {
    let ends = |rule: &crate::limit::Rule| {
        rule.snapshot == SnapshotRule::Latest && rule.retain_seconds > 0
    };
    ground.rules.as_slice().iter().any(ends)
}

/// When logs are to be looked at next, milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Due(Mutex<HashMap<u64, u64>>);

impl Due {
    fn is(&self, log: u64, now: u64) -> bool {
        let due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.get(&log).is_none_or(|at| *at <= now)
    }

    fn set(&self, log: u64, at: u64) {
        let mut due = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if due.len() >= MOST {
            due.clear();
        }
        due.insert(log, at);
    }
}

/// Where a look at all logs stands.
#[derive(Clone, Debug, Default)]
pub(super) struct After {
    /// The name to go on after.
    name: Option<String>,
    /// The log that is being read through.
    within: Option<Within>,
}

/// Where a look at one log stands.
#[derive(Clone, Debug)]
struct Within {
    log: u64,
    seconds: u64,
    /// The key to go on after.
    key: Option<Vec<u8>>,
    /// When the oldest key that stays came.
    oldest: u64,
    /// Whether any key was to end.
    ended: bool,
    /// Milliseconds that it took so far.
    took: u64,
}

/// Looks at a page of logs, or of one log's keys; where to go on, or none at the end.
pub(super) fn page(
    ground: &Ground,
    after: Option<&After>,
    due: &Due,
) -> Result<Option<After>, RowsError> {
    let After { name, within } = after.cloned().unwrap_or_default();
    if let Some(within) = within {
        return Ok(Some(After { name, within: look(ground, within, due)? }));
    }
    let now = ground.now();
    let page = ground.store.logs("", name.as_deref(), PAGE)?;
    let full = page.len() == PAGE;
    let mut last = name;
    for (name, log) in page {
        let rule = ground.rules.find(&name).filter(|rule| rule.snapshot == SnapshotRule::Latest);
        let seconds = rule.map_or(0, |rule| rule.retain_seconds);
        last = Some(name);
        if seconds > 0 && ground.share.has_log(log) && due.is(log, now) {
            let (key, oldest, ended, took) = (None, now, false, 0);
            let within = Some(Within { log, seconds, key, oldest, ended, took });
            return Ok(Some(After { name: last, within }));
        }
    }
    Ok(full.then_some(After { name: last, within: None }))
}

/// Looks at a part of a log's keys; where to go on, or none at the end.
fn look(ground: &Ground, mut within: Within, due: &Due) -> Result<Option<Within>, RowsError> {
    let (begun, now) = (Instant::now(), ground.now());
    let Within { log, seconds, .. } = within;
    let life = seconds.saturating_mul(1_000);
    let row = ground.store.log_row(log)?.filter(|row| !row.deleted);
    if !row.is_some_and(|row| row.rule == SnapshotRule::Latest && row.deriving.is_none()) {
        // It is on its way to that rule, or gone.
        return Ok(None);
    }
    let read = ground.store.latest_page(log, within.key.as_deref(), u64::MAX, PAGE_BYTES)?;
    let mut keys = Vec::new();
    for (offset, stored) in read.entries {
        match stored.record.key {
            Some(key) if stored.time < now.saturating_sub(life) => keys.push((key, offset)),
            _ => within.oldest = within.oldest.min(stored.time),
        }
    }
    within.ended |= !keys.is_empty();
    for keys in keys.chunks(MAX_EXPIRED) {
        end(ground, log, keys.to_vec());
    }
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    within.took = within.took.saturating_add(took);
    within.key = read.next;
    if within.key.is_some() {
        return Ok(Some(within));
    }
    let rested = now.saturating_add(within.took.saturating_mul(REST));
    // What was proposed is looked at again, in case it found no room.
    let ripe = if within.ended { now } else { within.oldest.saturating_add(life) };
    due.set(log, ripe.max(rested));
    Ok(None)
}

/// Proposes the end of keys; where it finds no room, the next look does.
fn end(ground: &Ground, log: u64, keys: Vec<(String, u64)>) {
    let weight = keys.iter().map(|(key, _)| KEY_BYTES + key.len()).sum();
    let command = Command::Expire { log, keys };
    let taken =
        ground.shed.admits(&command).and_then(|()| ground.inbox.submit(command, weight, None));
    if let Err(refusal) = taken {
        tracing::debug!(%refusal, log, "keys that are too old wait for the next look");
    }
}
