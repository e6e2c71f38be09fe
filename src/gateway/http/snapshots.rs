//! `/v1/snapshots/{name}`: the folded state of a log, and putting one where clients make them.
//!
//! Under rule `latest` a snapshot is the newest record of each key, as JSON lines; under `client`
//! it is the bytes that a client put. Both stream; memory is a page or a part. Who asks by HTTP/1.0
//! is told the length before, since an end that comes too early would not show there.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use axum::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

use super::answer::{Answer, Problem, json_answer};
use super::caller::{Caller, LogName};
use super::coming::Coming;
use super::filling::Filling;
use super::guard::Slot;
use super::line::{self, Form};
use super::query::{self, Parameters};
use super::reading::{self, Meant};
use super::{guard, logs, sending};
use crate::auth::Can;
use crate::fold::Command;
use crate::gateway::Gate;
use crate::limit::{Costs, Purse};
use crate::log::{LogRow, Part, SnapshotAt};
use crate::wire::{Code, Id, Refusal, SnapshotRule};

/// Bytes of rows that are looked at for one page.
const PAGE_BYTES: usize = 64 << 10;
/// Longest that a part waits for the rates; with less than its bytes in this time, it is refused.
const WAIT_TIME: Duration = Duration::from_secs(1_200);

const OFFSET: HeaderName = HeaderName::from_static("highwater-offset");
const VERSION: HeaderName = HeaderName::from_static("highwater-version");

/// `GET /v1/snapshots/{name}`: read records from `Highwater-Offset` on to follow it.
pub(super) async fn get(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    meant: Meant,
    caller: Caller,
    Extension(slot): Extension<Arc<Slot>>,
    version: Version,
) -> Answer {
    caller.must(Can::Read, &name)?;
    let (log, row) = meant.named(&gate, &name).await?;
    // The head, or the snapshot, may be of a commit whose other rows are not visible yet. What a
    // reader is given as the state at an offset, nothing puts right later.
    reading::look(&gate, |store| {
        store.settled();
        Ok(())
    })
    .await?;
    reading::told(&gate, log, &row).await?;
    let headers = logs::stand(log, &row);
    let reading = Reading { gate, caller, log, _slot: slot };
    match row.rule {
        SnapshotRule::Latest => {
            let measured = version < Version::HTTP_11;
            reading.latest(headers, row.head, measured).await
        }
        SnapshotRule::Client => match row.snapshots.last() {
            Some(snapshot) => reading.client(headers, snapshot.clone()).await,
            None => {
                let message = format!("no client has put a snapshot of {name} yet");
                Err(Refusal::because(Code::NotFound, message).into())
            }
        },
        SnapshotRule::None => {
            let message = format!("no rule makes snapshots of {name}: read its records");
            Err(Refusal::because(Code::NotFound, message).into())
        }
    }
}

/// A snapshot on its way out.
struct Reading {
    gate: Arc<Gate>,
    caller: Caller,
    log: u64,
    /// Counts as a request under way until the last page is sent.
    _slot: Arc<Slot>,
}

fn broken(problem: Problem) -> io::Error {
    io::Error::other(problem.refusal)
}

impl Reading {
    /// The newest record of each key below `below`. A key that is overwritten meanwhile is left
    /// out: its record stands at `below` or past it, where the reader goes on.
    async fn latest(self, mut headers: HeaderMap, below: u64, measured: bool) -> Answer {
        headers.insert(OFFSET, below.into());
        let form = HeaderValue::from_static(Form::Json.content_type());
        headers.insert(header::CONTENT_TYPE, form);
        let filling = match measured {
            true => {
                let length = self.length(below).await?;
                headers.insert(header::CONTENT_LENGTH, length.into());
                Some(Filling::new(length))
            }
            false => None,
        };
        // Before the first page, a key to go on after, or the end.
        let begin = (Some(None), filling, self);
        let pages = stream::try_unfold(begin, move |(after, mut filling, reading)| async move {
            let Some(after) = after else {
                let rest = filling.as_mut().map(Filling::rest).transpose()?.flatten();
                return Ok::<_, io::Error>(rest.map(|rest| (rest, (None, filling, reading))));
            };
            let (lines, next) = reading.keys(after, below).await.map_err(broken)?;
            let lines = filling.as_mut().map_or(lines.clone(), |filling| filling.lines(&lines));
            Ok(Some((lines, (next.map(Some), filling, reading))))
        });
        Ok((StatusCode::OK, headers, Body::from_stream(pages)).into_response())
    }

    /// How long all pages are together, or were: keys that are overwritten later count.
    async fn length(&self, below: u64) -> Result<u64, Problem> {
        let (mut length, mut after) = (0, None);
        loop {
            let (lines, next) = self.keys(after, below).await?;
            length += lines.len() as u64;
            match next {
                Some(next) => after = Some(next),
                None => return Ok(length),
            }
        }
    }

    /// A page of keys, and the one to go on after.
    async fn keys(
        &self,
        after: Option<Vec<u8>>,
        below: u64,
    ) -> Result<(Bytes, Option<Vec<u8>>), Problem> {
        self.caller.recheck(&self.gate)?;
        let log = self.log;
        let read = reading::look(&self.gate, move |store| {
            let page = store.latest_page(log, after.as_deref(), below, PAGE_BYTES)?;
            let mut lines = Vec::new();
            for (offset, stored) in &page.entries {
                line::push(Form::Json, *offset, stored, &mut lines);
            }
            // Looked at after the page: rows have gone from it only where this is seen by now.
            let ruled = store.log_row(log)?.map(|row| row.rule);
            Ok((Bytes::from(lines), page.next, ruled))
        });
        let (lines, next, ruled) = read.await?;
        if ruled != Some(SnapshotRule::Latest) {
            let message = "another rule holds for the log by now";
            return Err(Refusal::because(Code::Stale, message).into());
        }
        Ok((lines, next))
    }

    /// The bytes that a client put.
    async fn client(self, mut headers: HeaderMap, snapshot: SnapshotAt) -> Answer {
        let SnapshotAt { offset, upload, parts, bytes, version, .. } = snapshot;
        headers.insert(OFFSET, offset.into());
        headers.insert(VERSION, version.into());
        headers.insert(header::CONTENT_LENGTH, bytes.into());
        let form = HeaderValue::from_static("application/octet-stream");
        headers.insert(header::CONTENT_TYPE, form);
        let pages = stream::try_unfold((0, self), move |(part, reading)| async move {
            if part == parts {
                return Ok::<_, io::Error>(None);
            }
            reading.caller.recheck(&reading.gate).map_err(broken)?;
            let log = reading.log;
            let read =
                reading::look(&reading.gate, move |store| store.snapshot_part(log, upload, part));
            // Two newer ones took its place meanwhile: the answer breaks off.
            let gone = || io::Error::other("the snapshot is no longer kept");
            let data = read.await.map_err(broken)?.ok_or_else(gone)?;
            Ok(Some((data, (part + 1, reading))))
        });
        Ok((StatusCode::OK, headers, Body::from_stream(pages)).into_response())
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutQuery {
    offset: String,
    version: Option<String>,
}

/// `PUT /v1/snapshots/{name}?offset=&version=`.
pub(super) async fn put(
    State(gate): State<Arc<Gate>>,
    LogName(name): LogName,
    caller: Caller,
    Parameters(asked): Parameters<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must(Can::Snapshot, &name)?;
    let offset = query::offset("offset", &asked.offset)?;
    let version = match &asked.version {
        Some(version) => query::number("version", version, 0, u64::from(u32::MAX))?,
        None => 0,
    };
    let version = u32::try_from(version).unwrap_or(u32::MAX);
    let (log, row) = reading::log_named(&gate, &name).await?;
    foresee(&gate, &row, offset, &headers)?;
    let connection = place_of(&caller.0.user);
    let user = caller.0.user.clone();
    let part =
        Part { user, connection, log, offset, version, part: 0, last: false, data: Bytes::new() };
    let bytes = upload(&gate, &caller, part, body).await?;
    let body = json!({ "log": log, "offset": offset, "version": version, "bytes": bytes });
    Ok(json_answer(StatusCode::CREATED, body))
}

/// What the fold would refuse at the first part is refused before anything is read.
fn foresee(gate: &Gate, row: &LogRow, offset: u64, headers: &HeaderMap) -> Result<(), Problem> {
    gate.admission.shed.takes()?;
    if row.rule != SnapshotRule::Client {
        return Err(Code::SnapshotRule.into());
    }
    if offset > row.head {
        return Err(Problem::from(Code::SnapshotBeyond).with("head", row.head));
    }
    if let Some(newest) = row.newest_snapshot().filter(|newest| offset <= *newest) {
        return Err(Problem::from(Code::SnapshotBehind).with("newest", newest));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
    let length = length.and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    if length > gate.limits.snapshot_bytes {
        let message = format!("a snapshot has at most {} bytes", gate.limits.snapshot_bytes);
        return Err(Refusal::because(Code::TooLarge, message).into());
    }
    Ok(())
}

/// Where a user's upload over HTTP is kept: one at a time per log, as for a connection.
fn place_of(user: &str) -> Id {
    let hash = blake3::derive_key("highwater 2026 uploads over http", user.as_bytes());
    let mut id = Id::NONE;
    id.0.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// Sends the body part by part, each when the one before is taken; the size of it all.
async fn upload(gate: &Gate, caller: &Caller, mut part: Part, body: Body) -> Result<u64, Problem> {
    let size = gate.limits.snapshot_part_bytes as usize;
    let _room = gate.http.room_for(size).ok_or_else(guard::no_room)?;
    let mut purse = gate.admission.rates.purse(&caller.0.user);
    let mut body = Coming::new(body);
    let mut waiting = BytesMut::new();
    let mut sent = 0;
    loop {
        let piece = body.next().await?;
        let ended = piece.is_none();
        waiting.extend_from_slice(&piece.unwrap_or_default());
        // The last part is marked, so the rest is kept until it is known whether more comes.
        while waiting.len() > size || ended {
            part.data = waiting.split_to(waiting.len().min(size)).freeze();
            part.last = ended && waiting.is_empty();
            sent += part.data.len() as u64;
            let begun = Instant::now();
            put_part(gate, caller, &mut purse, part.clone()).await?;
            body.paused(begun.elapsed());
            if part.last {
                return Ok(sent);
            }
            part.part += 1;
        }
    }
}

async fn put_part(
    gate: &Gate,
    caller: &Caller,
    purse: &mut Purse,
    part: Part,
) -> Result<(), Problem> {
    let weight = part.data.len();
    caller.recheck(gate)?;
    let mut costs = Costs::with_room(1);
    costs.push(weight, 0);
    // The body waits in the kernel meanwhile: whoever sends too fast is slowed down.
    let mut charged = match purse.charge_whole(Id::NONE, costs.clone()) {
        Ok(charged) => charged,
        Err((refusal, _)) => {
            let until = Instant::now() + WAIT_TIME;
            sending::wait(gate, caller, purse, costs, refusal, until).await?
        }
    };
    // Whoever hangs up now is charged all the same.
    charged.hand_in();
    let put = sending::ask(gate, Command::PutSnapshot(part), weight).await;
    let unknown = |problem: &Problem| problem.refusal.code == Code::Unknown;
    let refused = put.as_ref().is_err_and(|problem| !unknown(problem));
    charged.settle(|_| refused);
    put.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_do_not_share_a_place() {
        assert_eq!(place_of("ana"), place_of("ana"));
        assert_ne!(place_of("ana"), place_of("ben"));
        assert_ne!(place_of(""), Id::NONE);
    }
}
