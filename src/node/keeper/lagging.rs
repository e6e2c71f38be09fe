//! Readers that fall behind are found by the logs that move: a log that nobody writes to makes no
//! reader lag. So whoever exceeds a bound in one log is found within seconds, however long the scan
//! of all connections takes; that one finds who exceeds it in many logs together.

use super::Ground;
use super::life::{PAGE, Seen, look};
use crate::rows::RowsError;
use crate::wire::Id;

/// Logs looked at in one page.
const LOGS: usize = 256;

/// How far a scan has come.
#[derive(Clone, Debug)]
pub(super) struct After {
    /// Logs that are still to be looked at, the next one last.
    logs: Vec<u64>,
    /// The reader of that log that was looked at last.
    reader: Option<Id>,
}

/// Looks at readers of the logs that were written to since the scan before, where one of them may
/// be beyond a bound: how far it came; none at the end.
pub(super) fn page(ground: &Ground, after: &Option<After>) -> Result<Option<After>, RowsError> {
    let begin = || After { logs: ground.hub.take_written().into_iter().collect(), reader: None };
    let mut at = after.clone().unwrap_or_else(begin);
    for _ in 0..LOGS {
        let Some(log) = at.logs.last().copied() else { return Ok(None) };
        if at.reader.is_some() || may_lag(ground, log)? {
            let ids = ground.store.subscribers(log, at.reader, PAGE)?;
            let mut rows = Vec::with_capacity(ids.len());
            for id in &ids {
                rows.extend(ground.store.connection(*id)?.map(|row| (*id, row)));
            }
            look(ground, &rows, &mut Seen::default())?;
            at.reader = ids.last().copied().filter(|_| ids.len() == PAGE);
            if at.reader.is_none() {
                at.logs.pop();
            }
            break;
        }
        at.logs.pop();
    }
    Ok(Some(at).filter(|at| !at.logs.is_empty()))
}

/// Whether an active reader of the log may be beyond a bound in it: the lowest one known is.
fn may_lag(ground: &Ground, log: u64) -> Result<bool, RowsError> {
    let Some(row) = ground.store.log_row(log)?.filter(|row| !row.deleted) else { return Ok(false) };
    let floor = row.floor.max(row.start);
    if floor >= row.head {
        return Ok(false);
    }
    if row.head - floor > ground.limits.lag_limit_records {
        return Ok(true);
    }
    let first = ground.store.records(log, floor, 1, 1)?;
    let before = first.first().map_or(row.bytes, |(_, stored)| stored.before);
    Ok(row.bytes.saturating_sub(before) > ground.limits.retained_bytes_limit)
}
