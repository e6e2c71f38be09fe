//! `/v1/backup`: everything that the node keeps, of one moment, as a stream of bytes.
//!
//! It goes out as fast as it is taken, and is read piece by piece, so that memory does not grow
//! with it; the node works on meanwhile. An answer that breaks off lacks its end, and is refused by
//! whoever reads it. One at a time: each keeps what is overwritten and trimmed meanwhile on disk.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{Answer, Problem};
use super::caller::Caller;
use super::{guard, reading};
use crate::fold::position_of;
use crate::gateway::Gate;
use crate::store::backup::Export;
use crate::wire::{Code, Refusal};

/// What whoever comes second is told to wait, in milliseconds.
const AGAIN_AFTER: u32 = 5_000;

/// `POST /v1/backup`.
pub(super) async fn write(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    if !guard::arrive(&gate, &caller, &headers, body).await?.bytes.is_empty() {
        return Err(Problem::bad_request("a backup goes without a body"));
    }
    let turn = gate.http.backup().ok_or_else(|| {
        let message = "a backup is being taken: when that has ended, ask again";
        Problem::from(Refusal::because(Code::Overloaded, message).after(AGAIN_AFTER))
    })?;
    let time = gate.now();
    let begin = reading::look(&gate, move |store| {
        let mut export = store.export(time);
        export.set_position(position_of(&export)?);
        Ok(export)
    });
    let export = Box::new(begin.await?);
    let taking = Taking { gate, caller, export, _turn: turn };
    let content = (header::CONTENT_TYPE, "application/octet-stream");
    Ok((StatusCode::OK, [content], taking.body()).into_response())
}

/// A backup on its way out.
struct Taking {
    gate: Arc<Gate>,
    caller: Caller,
    export: Box<Export>,
    _turn: OwnedSemaphorePermit,
}

impl Taking {
    fn body(self) -> Body {
        Body::from_stream(stream::try_unfold(self, |taking| taking.piece()))
    }

    /// The next piece, read on a thread that may wait for a disk.
    async fn piece(mut self) -> io::Result<Option<(Bytes, Self)>> {
        let broken = |problem: Problem| io::Error::other(problem.refusal);
        self.caller.recheck(&self.gate).map_err(broken)?;
        let read = tokio::task::spawn_blocking(move || {
            let piece = self.export.piece();
            (piece, self)
        });
        let (piece, taking) = read.await.map_err(io::Error::other)?;
        let piece = piece.map_err(|error| broken(error.into()))?;
        Ok(piece.map(|piece| (Bytes::from(piece), taking)))
    }
}
