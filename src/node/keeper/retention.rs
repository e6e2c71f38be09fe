//! Retention: logs that keep more than their rule allows are trimmed, an eighth of the bound at a
//! time, so that the work is spread over many appends.

use super::life::propose;
use crate::fold::Command;
use crate::gateway::Gate;
use crate::limit::Rule;
use crate::log::LogRow;
use crate::log::rows::RowsError;
use crate::wire::{Pattern, SnapshotRule};

/// Logs looked at in one page.
const PAGE: usize = 256;

/// How much a log may keep: the smaller of its rule's bounds and those of all logs; 0: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept {
    records: u64,
    bytes: u64,
    seconds: u64,
}

/// Whether any log has a bound at all.
pub(super) fn any(gate: &Gate) -> bool {
    let limits = &gate.limits;
    let global = limits.log_bytes > 0 || limits.log_age_seconds > 0;
    global || gate.rules.as_slice().iter().any(|rule| !rule.retains_all())
}

/// Whether any log has a bound by age.
pub(super) fn by_age(gate: &Gate) -> bool {
    let rules = gate.rules.as_slice();
    gate.limits.log_age_seconds > 0 || rules.iter().any(|rule| rule.retain_seconds > 0)
}

/// Looks at a page of logs; the last name of the page, or none at the end.
pub(super) fn logs(gate: &Gate, after: Option<&str>) -> Result<Option<String>, RowsError> {
    let page = gate.store.logs("", after, PAGE)?;
    for (_, log) in &page {
        look(gate, *log)?;
    }
    Ok(page.last().filter(|_| page.len() == PAGE).map(|(name, _)| name.clone()))
}

/// Looks at logs that have grown since it last did; something, while there are more.
pub(super) fn grown(gate: &Gate) -> Result<Option<()>, RowsError> {
    let page = gate.hub.take_grown(PAGE);
    page.iter().try_for_each(|log| look(gate, *log))?;
    Ok((page.len() == PAGE).then_some(()))
}

/// Looks at one log.
fn look(gate: &Gate, log: u64) -> Result<(), RowsError> {
    let Some(row) = gate.store.log_row(log)?.filter(|row| !row.deleted) else { return Ok(()) };
    let none = Rule::keep_all(Pattern::all());
    let rule = gate.rules.find(&row.name).unwrap_or(&none);
    let kept = Kept {
        records: rule.retain_records,
        bytes: smaller(rule.retain_bytes, gate.limits.log_bytes),
        seconds: smaller(rule.retain_seconds, gate.limits.log_age_seconds),
    };
    if let Some(to) = target(gate, log, &row, kept)? {
        // Readers that have kept up stand past it, also where they said so a moment ago.
        super::commit(gate);
        propose(gate, Command::Trim { log, to });
        // Looked at again, in case the proposal found no room.
        gate.hub.note_grown(log);
    }
    Ok(())
}

const fn smaller(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, bound) | (bound, 0) => bound,
        (one, other) => {
            if one < other {
                one
            } else {
                other
            }
        }
    }
}

/// The bound less an eighth: what is kept after a trim.
const fn after_trim(bound: u64) -> u64 {
    bound - bound / 8
}

/// Where the log's start has to move, if it has to.
fn target(gate: &Gate, log: u64, row: &LogRow, kept: Kept) -> Result<Option<u64>, RowsError> {
    let mut to = row.start;
    if kept.records > 0 && row.head - row.start > kept.records {
        to = to.max(row.head - after_trim(kept.records));
    }
    if kept.bytes > 0 && row.bytes - row.start_bytes > kept.bytes {
        let from = row.bytes - after_trim(kept.bytes);
        to = to.max(first(gate, log, row, |before, _| before >= from)?);
    }
    if kept.seconds > 0 && row.start < row.head {
        let oldest = gate.now().saturating_sub(kept.seconds.saturating_mul(1_000));
        let read = gate.store.records(log, row.start, 1, 1)?;
        // In most logs nothing is too old, which the first record tells.
        if read.first().is_none_or(|(_, stored)| stored.time < oldest) {
            to = to.max(first(gate, log, row, |_, time| time >= oldest)?);
        }
    }
    let most = match row.rule {
        SnapshotRule::None => row.head,
        SnapshotRule::Latest | SnapshotRule::Client => row.newest_snapshot().unwrap_or(row.start),
    };
    let to = to.min(most);
    Ok((to > row.start).then_some(to))
}

/// The first kept offset for which a test that turns true once holds; the head if none.
fn first(
    gate: &Gate,
    log: u64,
    row: &LogRow,
    holds: impl Fn(u64, u64) -> bool,
) -> Result<u64, RowsError> {
    let (mut low, mut high) = (row.start, row.head);
    while low < high {
        let middle = low + (high - low) / 2;
        let read = gate.store.records(log, middle, 1, 1)?;
        match read.first() {
            Some((_, stored)) if !holds(stored.before, stored.time) => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
