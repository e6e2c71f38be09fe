//! Looking at the store for a request, on threads that may wait for a disk.

use std::fmt::Display;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::answer::Problem;
use super::route::LOG;
use crate::gateway::Gate;
use crate::log::LogRow;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::{Code, Refusal, surrogate};

/// Reads the store.
///
/// # Errors
/// `failed` when storage does.
pub(super) async fn look<T: Send + 'static>(
    gate: &Gate,
    read: impl FnOnce(&Store) -> Result<T, RowsError> + Send + 'static,
) -> Result<T, Problem> {
    let store = gate.store.clone();
    let looked = tokio::task::spawn_blocking(move || read(&store)).await;
    looked.map_err(|_| Problem::from(Code::Failed))?.map_err(Problem::from)
}

/// The present log of a name.
///
/// # Errors
/// `unknown_log`, `failed`.
pub(super) async fn log_named(gate: &Arc<Gate>, name: &str) -> Result<(u64, LogRow), Problem> {
    let wanted = name.to_owned();
    let found = look(gate, move |store| {
        let Some(id) = store.find_log(&wanted)? else { return Ok(None) };
        Ok(store.log_row(id)?.filter(|row| !row.deleted).map(|row| (id, row)))
    });
    found
        .await?
        .ok_or_else(|| Refusal::because(Code::UnknownLog, format!("there is no log {name}")).into())
}

/// How long a batch that is durable may take to be told, in milliseconds.
const TOLD_WAIT: u64 = 5_000;

/// Waits until the position that answers tell is not behind what stands in a log's row: a row is
/// seen in the store a moment before its batch is told, and a reader that goes by an older position
/// would not find out that a restored backup lacks what it has read.
///
/// # Errors
/// `failed`; `timeout` when it takes too long.
pub(super) async fn told(gate: &Gate, log: u64, row: &LogRow) -> Result<(), Problem> {
    let newest = row.head.checked_sub(1).filter(|newest| *newest >= row.start);
    let stored = look(gate, move |store| match newest {
        Some(newest) => store.records(log, newest, 1, 1),
        None => Ok(Vec::new()),
    });
    let stored = stored.await?.first().map_or(0, |(_, stored)| stored.place.batch);
    let batch = stored.max(row.made).max(row.trimmed.batch);
    Ok(gate.reach(batch, TOLD_WAIT).await?)
}

/// The log that a reader means by its id, with a header; none: whichever has the name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meant(pub Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for Meant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(LOG) else { return Ok(Self(None)) };
        // What is no text is no number either.
        let id = super::query::offset(LOG, value.to_str().unwrap_or_default())?;
        Ok(Self(Some(id)))
    }
}

impl Meant {
    /// The present log of a name, if it is the one that is meant.
    ///
    /// # Errors
    /// `epoch` when it is not, or is gone; `unknown_log` where none was meant; `failed`.
    pub(super) async fn named(
        self,
        gate: &Arc<Gate>,
        name: &str,
    ) -> Result<(u64, LogRow), Problem> {
        let found = log_named(gate, name).await;
        match self.0 {
            Some(meant) if found.as_ref().is_ok_and(|(id, _)| *id != meant) => {
                Err(not_here(gate, meant, name).await?)
            }
            Some(meant) if found.as_ref().is_err_and(is_no_log) => {
                Err(not_here(gate, meant, name).await?)
            }
            _ => found,
        }
    }

    /// Why a log that was looked at before cannot be gone on with.
    pub(super) fn gone(self, problem: Problem) -> Problem {
        match self.0 {
            Some(meant) if is_no_log(&problem) => {
                Refusal::because(Code::Epoch, format!("log {meant} was deleted")).into()
            }
            _ => problem,
        }
    }
}

fn is_no_log(problem: &Problem) -> bool {
    problem.refusal.code == Code::UnknownLog
}

/// Why a name does not lead to the log that is meant: it did once, or never.
async fn not_here(gate: &Gate, meant: u64, name: &str) -> Result<Problem, Problem> {
    // The row of a log that is deleted stays.
    let row = look(gate, move |store| store.log_row(meant)).await?;
    let message = match row.filter(|row| row.name == name) {
        Some(_) => format!("log {meant}, which {name} led to, was deleted"),
        None => never_here(meant, name),
    };
    Ok(Refusal::because(Code::Epoch, message).into())
}

/// A log that is, or is not, and in no case had that name.
pub(super) fn never_here(log: u64, name: &str) -> String {
    format!("log {log} is none that {name} ever led to")
}

/// The row of a log that was there a moment ago.
///
/// # Errors
/// `unknown_log` once it is deleted, `failed`.
pub(super) async fn log_again(gate: &Gate, id: u64) -> Result<LogRow, Problem> {
    let row = look(gate, move |store| store.log_row(id)).await?;
    row.filter(|row| !row.deleted).ok_or_else(|| Code::UnknownLog.into())
}

/// A body of JSON, in that form.
///
/// # Errors
/// `bad_request` that says what is wrong.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let object = bytes.trim_ascii_start().first() == Some(&b'{');
    if !object {
        return Err(Problem::bad_request("the body is to be a JSON object"));
    }
    let wrong = |problem: &dyn Display| Problem::bad_request(format!("the body: {problem}"));
    surrogate::check(bytes).map_err(|problem| wrong(&problem))?;
    serde_json::from_slice(bytes).map_err(|error| wrong(&error))
}
