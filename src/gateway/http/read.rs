//! `GET /v1/logs/{name}`: records from an offset on, at once or when they come.
//!
//! Promise: an answer holds the records from `from` up to `Highwater-Next`, without a hole, or it
//! breaks off; what is gone is told as a gap before anything is sent. Memory per answer is a page,
//! whatever its length. The grant is looked at again before each page. Who asks by HTTP/1.0, which
//! has no chunks and so no end that shows, is told the length before: what is read is read twice.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::answer::{Answer, Problem};
use super::caller::{Caller, LogName};
use super::guard::Slot;
use super::history;
use super::line::{self, Form};
use super::logs::stand;
use super::query::{self, Parameters};
use super::reading::{self, Meant};
use crate::auth::Can;
use crate::gateway::Gate;
use crate::log::{LogRow, Stored};
use crate::wire::{Code, GapReason, Place, Refusal};

/// Records and bytes of rows that are read at once.
const PAGE_RECORDS: usize = 4_096;
const PAGE_BYTES: usize = 64 << 10;
/// An answer with `max_bytes` is one page; it may be this large.
const MOST_BYTES: u64 = 1 << 20;
/// Longest wait for records or a place, in milliseconds.
const LONGEST_WAIT: u64 = 60_000;
/// How long a place is waited for where it is not said, in milliseconds.
const PLACE_WAIT: u64 = 5_000;
/// How often one who waits looks whether the token still counts and the node still stays.
const LOOK: Duration = Duration::from_millis(100);

const NEXT: HeaderName = HeaderName::from_static("highwater-next");
const GAP: HeaderName = HeaderName::from_static("highwater-gap");

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    from: Option<String>,
    limit: Option<String>,
    max_bytes: Option<String>,
    wait: Option<String>,
    at: Option<String>,
    timeout: Option<String>,
    format: Option<String>,
    gap: Option<String>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Start,
    End,
    Offset(u64),
}

/// A checked [`ReadQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wish {
    from: From,
    limit: Option<u64>,
    max_bytes: Option<usize>,
    wait: Duration,
    at: Option<(Place, u64)>,
    form: Form,
    skip_gap: bool,
}

impl ReadQuery {
    fn check(self, headers: &HeaderMap) -> Result<Wish, Problem> {
        let from = match self.from.as_deref() {
            None | Some("start") => From::Start,
            Some("end") => From::End,
            Some(from) => From::Offset(query::offset("from", from)?),
        };
        let limit = self.limit.map(|limit| query::offset("limit", &limit)).transpose()?;
        let most = |text: String| query::number("max_bytes", &text, 1, MOST_BYTES);
        let max_bytes = self.max_bytes.map(most).transpose()?;
        let wait = match &self.wait {
            Some(wait) => query::number("wait", wait, 0, LONGEST_WAIT)?,
            None => 0,
        };
        let timeout = match &self.timeout {
            Some(timeout) => query::number("timeout", timeout, 0, LONGEST_WAIT)?,
            None => PLACE_WAIT,
        };
        let place = |text: String| match text.parse() {
            Ok(place) => Ok((place, timeout)),
            Err(error) => Err(Problem::bad_request(format!("at: {error}"))),
        };
        let skip_gap = match self.gap.as_deref() {
            None => false,
            Some("skip") => true,
            Some(other) => return Err(Problem::bad_request(format!("gap: skip, not {other:?}"))),
        };
        Ok(Wish {
            from,
            limit,
            max_bytes: max_bytes.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            wait: Duration::from_millis(wait),
            at: self.at.map(place).transpose()?,
            form: form(self.format.as_deref(), headers)?,
            skip_gap,
        })
    }
}

/// The form that is asked for: by parameter, else by `Accept`, else JSON lines.
fn form(format: Option<&str>, headers: &HeaderMap) -> Result<Form, Problem> {
    let accepted = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let raw = |accept: &str| accept.trim().eq_ignore_ascii_case("application/octet-stream");
    match format {
        Some("json") => Ok(Form::Json),
        Some("raw") => Ok(Form::Raw),
        Some(other) => Err(Problem::bad_request(format!("format: json or raw, not {other:?}"))),
        None if accepted.is_some_and(raw) => Ok(Form::Raw),
        None => Ok(Form::Json),
    }
}

/// `GET /v1/logs/{name}`.
pub(super) async fn get(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    meant: Meant,
    caller: Caller,
    Parameters(asked): Parameters<ReadQuery>,
    Extension(slot): Extension<Arc<Slot>>,
    (version, headers): (Version, HeaderMap),
) -> Answer {
    caller.must(Can::Read, &name)?;
    let wish = asked.check(&headers)?;
    if let Some((place, timeout)) = wish.at {
        gate.reach(place.batch, timeout).await?;
        caller.recheck(&gate)?;
    }
    let (log, mut row) = meant.named(&gate, &name).await?;
    if matches!(wish.from, From::Offset(from) if from > row.head) {
        // Another node may have written what this one has not folded yet.
        history::catch_up(&gate, &caller.0.user).await?;
        row = reading::log_again(&gate, log).await?;
    }
    let mut out = HeaderMap::new();
    let from = begin(log, &row, &wish, &mut out)?;
    if from == row.head && !wish.wait.is_zero() && wish.limit != Some(0) {
        let waited = wait_for_records(&gate, &caller, log, from, wish.wait).await;
        row = waited.map_err(|problem| meant.gone(problem))?;
        if from < row.start {
            return Err(gone(log, &row, from));
        }
    }
    reading::told(&gate, log, &row).await?;
    let end = wish.limit.map_or(row.head, |limit| row.head.min(from.saturating_add(limit)));
    let measured = version < Version::HTTP_11;
    let form = wish.form;
    let reading = Reading { gate, caller, log, next: from, end, form, measured, _slot: slot };
    out.extend(stand(log, &row));
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(wish.form.content_type()));
    reading.answer(out, wish.max_bytes).await.map_err(|problem| meant.gone(problem))
}

/// The offset to begin at.
fn begin(log: u64, row: &LogRow, wish: &Wish, out: &mut HeaderMap) -> Result<u64, Problem> {
    let from = match wish.from {
        From::Start => row.start,
        From::End => row.head,
        From::Offset(from) => from,
    };
    if from > row.head {
        let message = format!("from: the log's head is at {}", row.head);
        let refusal = Refusal::because(Code::BadOffset, message);
        return Err(Problem::from(refusal).with("head", row.head).with("start", row.start));
    }
    if from >= row.start {
        return Ok(from);
    }
    if !wish.skip_gap {
        return Err(gone(log, row, from));
    }
    if let Ok(gap) = HeaderValue::from_str(&format!("{from}-{}", row.start)) {
        out.insert(GAP, gap);
    }
    Ok(row.start)
}

/// The range that a reader will never get, as a refusal.
fn gone(log: u64, row: &LogRow, from: u64) -> Problem {
    let message = format!(
        "records below {} are no longer kept: read from there, or with gap=skip",
        row.start
    );
    let gap = json!({ "log": log, "from": from, "to": row.start, "reason": GapReason::Trimmed });
    Problem::from(Refusal::because(Code::BadOffset, message))
        .status(StatusCode::GONE.as_u16())
        .with("gap", gap)
        .with("start", row.start)
        .with("head", row.head)
}

/// Waits until the head is past `from`, the time is over or the node goes away.
async fn wait_for_records(
    gate: &Arc<Gate>,
    caller: &Caller,
    log: u64,
    from: u64,
    wait: Duration,
) -> Result<LogRow, Problem> {
    let until = Instant::now() + wait;
    let waiting = gate.hub.await_log(log);
    loop {
        // Made before the look, so that what comes after it is not missed.
        let woken = waiting.next();
        let row = reading::log_again(gate, log).await?;
        let left = until.saturating_duration_since(Instant::now());
        if row.head > from || left.is_zero() || gate.admission.shed.draining() {
            return Ok(row);
        }
        let _ = tokio::time::timeout(left.min(LOOK), woken).await;
        caller.recheck(gate)?;
    }
}

/// An answer on its way.
struct Reading {
    gate: Arc<Gate>,
    caller: Caller,
    log: u64,
    next: u64,
    end: u64,
    form: Form,
    /// Whether its length is told before, since its end would not show.
    measured: bool,
    /// Counts as a request under way until the last page is sent.
    _slot: Arc<Slot>,
}

/// Why an answer that has begun breaks off.
fn broken(problem: Problem) -> io::Error {
    io::Error::other(problem.refusal)
}

impl Reading {
    /// The first page decides the status; the others follow as they are taken.
    async fn answer(mut self, mut headers: HeaderMap, max_bytes: Option<usize>) -> Answer {
        let first = match max_bytes {
            Some(most) => {
                let first = self.page(most).await?;
                self.end = self.next;
                first
            }
            None => self.page(PAGE_BYTES).await?,
        };
        headers.insert(NEXT, self.end.into());
        if self.next >= self.end {
            return Ok((StatusCode::OK, headers, first).into_response());
        }
        if self.measured {
            let length = first.len() as u64 + self.length().await?;
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        Ok((StatusCode::OK, headers, self.stream(first)).into_response())
    }

    /// How long the pages to come are together. Records do not change; should some be trimmed
    /// before they are sent, the answer breaks off short of this.
    async fn length(&mut self) -> Result<u64, Problem> {
        let begin = self.next;
        let mut length = 0;
        while self.next < self.end {
            length += self.page(PAGE_BYTES).await?.len() as u64;
        }
        self.next = begin;
        Ok(length)
    }

    fn stream(self, first: Bytes) -> Body {
        let pages = stream::try_unfold((Some(first), self), |(first, mut reading)| async move {
            if let Some(first) = first {
                return Ok(Some((first, (None, reading))));
            }
            if reading.next >= reading.end {
                return Ok::<_, io::Error>(None);
            }
            let page = reading.page(PAGE_BYTES).await.map_err(broken)?;
            Ok(Some((page, (None, reading))))
        });
        Body::from_stream(pages)
    }

    /// The next page; empty only at the end.
    async fn page(&mut self, most_bytes: usize) -> Result<Bytes, Problem> {
        if self.next >= self.end {
            return Ok(Bytes::new());
        }
        self.caller.recheck(&self.gate)?;
        let (log, next, form) = (self.log, self.next, self.form);
        let most = usize::try_from(self.end - next).unwrap_or(usize::MAX).min(PAGE_RECORDS);
        let read = reading::look(&self.gate, move |store| {
            let records = store.records(log, next, most, most_bytes)?;
            Ok((records.len() as u64, lines(form, &records)))
        });
        let (count, page) = read.await?;
        if count == 0 {
            // Trimmed or deleted in the meantime; a hole is never passed over in silence.
            let row = reading::log_again(&self.gate, log).await?;
            return Err(gone(log, &row, next));
        }
        self.next += count;
        Ok(page)
    }
}

fn lines(form: Form, records: &[(u64, Stored)]) -> Bytes {
    let mut out = Vec::new();
    for (offset, stored) in records {
        line::push(form, *offset, stored, &mut out);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SnapshotRule;

    fn wish(query: &str) -> Result<Wish, Problem> {
        let uri = format!("http://x/?{query}").parse().unwrap();
        let query = axum::extract::Query::<ReadQuery>::try_from_uri(&uri).unwrap().0;
        query.check(&HeaderMap::new())
    }

    fn row(start: u64, head: u64) -> LogRow {
        LogRow { start, head, ..LogRow::new("a", SnapshotRule::None, 1, 0) }
    }

    fn begun(query: &str, row: &LogRow) -> Result<(u64, Option<String>), Problem> {
        let mut out = HeaderMap::new();
        let from = begin(1, row, &wish(query).unwrap(), &mut out)?;
        Ok((from, out.get(GAP).map(|gap| gap.to_str().unwrap().to_owned())))
    }

    #[test]
    fn parameters_are_checked_one_by_one() {
        let all = wish("from=5&limit=6&max_bytes=7&wait=8&at=9.1&timeout=10&format=raw&gap=skip");
        let place = Place { batch: 9, index: 1 };
        let want = Wish {
            from: From::Offset(5),
            limit: Some(6),
            max_bytes: Some(7),
            wait: Duration::from_millis(8),
            at: Some((place, 10)),
            form: Form::Raw,
            skip_gap: true,
        };
        assert_eq!(all.unwrap(), want);
        for (bad, code) in [
            ("from=-1", Code::BadOffset),
            ("from=9007199254740992", Code::BadOffset),
            ("from=first", Code::BadOffset),
            ("limit=x", Code::BadOffset),
            ("max_bytes=0", Code::BadRequest),
            ("max_bytes=1048577", Code::BadRequest),
            ("wait=60001", Code::BadRequest),
            ("at=5", Code::BadRequest),
            ("timeout=-1", Code::BadRequest),
            ("format=xml", Code::BadRequest),
            ("gap=tell", Code::BadRequest),
        ] {
            assert_eq!(wish(bad).unwrap_err().refusal.code, code, "{bad}");
        }
    }

    #[test]
    fn a_reader_begins_where_it_says() {
        let row = row(3, 9);
        for (query, want) in [("", 3), ("from=start", 3), ("from=end", 9), ("from=5", 5)] {
            assert_eq!(begun(query, &row).unwrap(), (want, None), "{query}");
        }
        assert_eq!(begun("from=9", &row).unwrap().0, 9);
    }

    #[test]
    fn what_is_gone_is_told_as_a_gap() {
        use axum::response::IntoResponse as _;
        let problem = begun("from=1", &row(3, 9)).unwrap_err();
        assert_eq!(problem.into_response().status(), 410);
        let skipped = begun("from=1&gap=skip", &row(3, 9)).unwrap();
        assert_eq!(skipped, (3, Some("1-3".to_owned())));
        let past = begun("from=10&gap=skip", &row(3, 9)).unwrap_err();
        assert_eq!(past.refusal.code, Code::BadOffset);
        assert_eq!(past.into_response().status(), 400);
    }

    #[test]
    fn the_form_comes_from_the_query_or_accept() {
        let mut headers = HeaderMap::new();
        assert_eq!(form(None, &headers).unwrap(), Form::Json);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/octet-stream"));
        assert_eq!(form(None, &headers).unwrap(), Form::Raw);
        assert_eq!(form(Some("json"), &headers).unwrap(), Form::Json);
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        assert_eq!(form(None, &headers).unwrap(), Form::Json);
    }
}
