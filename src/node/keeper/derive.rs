//! Logs whose rule of snapshots is not what the rules in force say are brought under it, one after
//! another, a step at a time.
//!
//! Rules come with the configuration, so one look at all logs after the start finds them; it is
//! repeated while something was left. A step waits for the answer of the one before and rests for
//! as long as that took, so that appends go on beside it.

use std::sync::atomic::{AtomicBool, Ordering};

use super::Ground;
use crate::fold::{Command, Reply};
use crate::log::{LogRow, STEP_BYTES, STEP_ROWS};
use crate::rows::RowsError;
use crate::wire::SnapshotRule;

/// Names looked at in one page.
const PAGE: usize = 256;

/// Where a look at all logs stands.
#[derive(Clone, Debug)]
pub(super) struct After {
    /// The name to go on after.
    name: String,
}

/// What a look remembers.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// The last one has found nothing: there is nothing to find in this run.
    over: AtomicBool,
    /// The present one has found something.
    found: AtomicBool,
}

/// Looks at a page of logs, or takes a step with the first one of it that needs it; where to go on,
/// or none at the end.
pub(super) fn page(
    ground: &Ground,
    after: Option<&After>,
    looks: &Looks,
) -> Result<Option<After>, RowsError> {
    if looks.over.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let from = after.map(|after| after.name.as_str());
    if from.is_none() {
        looks.found.store(false, Ordering::Relaxed);
    }
    let page = ground.store.logs("", from, PAGE)?;
    let mut last = after.cloned();
    for (name, log) in &page {
        let row = ground.store.log_row(*log)?.filter(|row| !row.deleted);
        let wanted = ground.rules.snapshot(name);
        let differs = |row: &LogRow| row.rule != wanted || row.deriving.is_some();
        if let Some(row) = row.filter(differs) {
            looks.found.store(true, Ordering::Relaxed);
            if ground.share.has_log(*log) && step(ground, *log, wanted, &row)? {
                // The same log again, after a rest.
                return Ok(last.or(Some(After { name: String::new() })));
            }
        }
        last = Some(After { name: name.clone() });
    }
    if page.len() == PAGE {
        return Ok(last);
    }
    looks.over.store(!looks.found.load(Ordering::Relaxed), Ordering::Relaxed);
    Ok(None)
}

/// Proposes a step and waits for its answer: whether it was taken.
fn step(ground: &Ground, log: u64, rule: SnapshotRule, row: &LogRow) -> Result<bool, RowsError> {
    let seen = row.deriving.clone().filter(|seen| seen.rule == rule);
    if rule == SnapshotRule::Latest {
        // Into memory: the committing thread is not to wait for a disk.
        let next = seen.as_ref().map_or(0, |seen| seen.next).max(row.start);
        ground.store.records(log, next, STEP_ROWS as usize, STEP_BYTES)?;
    }
    let most = STEP_ROWS;
    let command = Command::Derive { log, rule, seen: row.deriving.clone(), most };
    let answer = match ground.hand(command, STEP_BYTES) {
        // This thread may wait; a node that goes down answers nothing.
        Ok(reply) => reply.blocking_recv().ok().map(|(_, reply)| reply),
        Err(refusal) => Some(Reply::Refused(refusal)),
    };
    match answer {
        Some(Reply::Refused(refusal)) => {
            tracing::debug!(%refusal, log, "a step to another rule waits for the next look");
            Ok(false)
        }
        Some(_) => Ok(true),
        None => Ok(false),
    }
}
