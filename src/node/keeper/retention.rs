//! Retention: logs that keep more than their rule allows are trimmed, an eighth of the bound at a
//! time, so that the work is spread over many appends; logs with pages by whole pages.

use super::Ground;
use crate::fold::{Command, Reply};
use crate::limit::Kept;
use crate::log::{LogRow, PageRow};
use crate::rows::RowsError;
use crate::wire::SnapshotRule;

/// Logs looked at in one page.
const PAGE: usize = 256;

/// Closed pages looked at in one look at a log.
const PAGES: usize = 256;

/// Whether any log has a bound at all.
pub(super) fn any(ground: &Ground) -> bool {
    let limits = &ground.limits;
    let global = limits.log_bytes > 0 || limits.log_age_seconds > 0;
    global || ground.rules.as_slice().iter().any(|rule| !rule.retains_all())
}

/// Whether any log has a bound by age.
pub(super) fn by_age(ground: &Ground) -> bool {
    let rules = ground.rules.as_slice();
    ground.limits.log_age_seconds > 0 || rules.iter().any(|rule| rule.retain_seconds > 0)
}

/// Looks at a page of logs; the last name of the page, or none at the end.
pub(super) fn logs(ground: &Ground, after: Option<&str>) -> Result<Option<String>, RowsError> {
    let page = ground.store.logs("", after, PAGE)?;
    for (_, log) in &page {
        look(ground, *log)?;
    }
    Ok(page.last().filter(|_| page.len() == PAGE).map(|(name, _)| name.clone()))
}

/// Looks at logs that have grown since it last did; something, while there are more.
pub(super) fn grown(ground: &Ground) -> Result<Option<()>, RowsError> {
    let page = ground.hub.take_grown(PAGE);
    page.iter().try_for_each(|log| look(ground, *log))?;
    Ok((page.len() == PAGE).then_some(()))
}

/// Looks at one log.
fn look(ground: &Ground, log: u64) -> Result<(), RowsError> {
    if !ground.share.has_log(log) {
        return Ok(());
    }
    let Some(row) = ground.store.log_row(log)?.filter(|row| !row.deleted) else { return Ok(()) };
    let kept = ground.rules.kept(&row.name, &ground.limits);
    let to = match row.paging.records {
        0 => target(ground, log, &row, kept)?,
        _ => target_by_pages(ground, log, &row, kept)?,
    };
    if let Some(to) = to {
        // Readers that have kept up stand past it, also where they said so a moment ago.
        super::commit(ground);
        trim(ground, log, to);
        // Looked at again, in case the proposal found no room.
        ground.hub.note_grown(log);
    }
    Ok(())
}

/// Trims a log: the fold looks at so many of its readers with one command, and at the others with
/// the next ones. Others have their turns in between.
fn trim(ground: &Ground, log: u64, to: u64) {
    loop {
        let reply = match ground.hand(Command::Trim { log, to }, 64) {
            Ok(reply) => reply.blocking_recv(),
            Err(refusal) => {
                tracing::debug!(%refusal, "a trim waits for the next scan");
                return;
            }
        };
        // Nothing comes from a node that goes down.
        if !matches!(reply, Ok((_, Reply::Looking))) {
            return;
        }
    }
}

/// The bound less an eighth: what is kept after a trim.
const fn after_trim(bound: u64) -> u64 {
    bound - bound / 8
}

/// Where the log's start has to move, if it has to.
fn target(ground: &Ground, log: u64, row: &LogRow, kept: Kept) -> Result<Option<u64>, RowsError> {
    let mut to = row.start;
    if kept.records > 0 && row.head - row.start > kept.records {
        to = to.max(row.head - after_trim(kept.records));
    }
    if kept.bytes > 0 && row.bytes - row.start_bytes > kept.bytes {
        let from = row.bytes - after_trim(kept.bytes);
        to = to.max(first(ground, log, row, |before, _| before >= from)?);
    }
    if kept.seconds > 0 && row.start < row.head {
        let oldest = ground.now().saturating_sub(kept.seconds.saturating_mul(1_000));
        let read = ground.store.records(log, row.start, 1, 1)?;
        // In most logs nothing is too old, which the first record tells.
        if read.first().is_none_or(|(_, stored)| stored.time < oldest) {
            to = to.max(first(ground, log, row, |_, time| time >= oldest)?);
        }
    }
    let to = to.min(most(row));
    Ok((to > row.start).then_some(to))
}

/// How far the start may move.
fn most(row: &LogRow) -> u64 {
    match row.rule {
        SnapshotRule::None => row.head,
        SnapshotRule::Latest | SnapshotRule::Client => row.newest_snapshot().unwrap_or(row.start),
    }
}

/// The same for a log with pages: the end of the last one of those, from the start on, that may go
/// whole. One that is open never may.
fn target_by_pages(
    ground: &Ground,
    log: u64,
    row: &LogRow,
    kept: Kept,
) -> Result<Option<u64>, RowsError> {
    if kept == Kept::default() {
        return Ok(None);
    }
    let mut to = row.start;
    for (_, page) in ground.store.pages(log, row.start, PAGES)? {
        if page.end > most(row) || !may_go(ground, log, row, kept, &page)? {
            break;
        }
        to = page.end;
    }
    Ok((to > row.start).then_some(to))
}

/// Whether a closed page is beyond one of the bounds with all of its records.
fn may_go(
    ground: &Ground,
    log: u64,
    row: &LogRow,
    kept: Kept,
    page: &PageRow,
) -> Result<bool, RowsError> {
    let age = ground.now().saturating_sub(page.closed);
    if kept.seconds > 0 && age > kept.seconds.saturating_mul(1_000) {
        return Ok(true);
    }
    if kept.records > 0 && row.head.saturating_sub(page.end) >= kept.records {
        return Ok(true);
    }
    if kept.bytes == 0 {
        return Ok(false);
    }
    let next = ground.store.records(log, page.end, 1, 1)?;
    let before = next.first().map_or(row.bytes, |(_, stored)| stored.before);
    Ok(row.bytes.saturating_sub(before) >= kept.bytes)
}

/// The first kept offset for which a test that turns true once holds; the head if none.
fn first(
    ground: &Ground,
    log: u64,
    row: &LogRow,
    holds: impl Fn(u64, u64) -> bool,
) -> Result<u64, RowsError> {
    let (mut low, mut high) = (row.start, row.head);
    while low < high {
        let middle = low + (high - low) / 2;
        let read = ground.store.records(log, middle, 1, 1)?;
        match read.first() {
            Some((_, stored)) if !holds(stored.before, stored.time) => low = middle + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
