//! `/v1/revocations`: users and tokens that no longer count, in force at once and kept in a file.
//!
//! The file is written whole beside its place, synced, and renamed over the old one, so that a
//! crash leaves the one or the other. Revocations are this node's: a cluster is told node by node.

use std::any::Any;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, Problem, json_answer};
use super::caller::Caller;
use super::query::{self, Asked};
use super::{guard, reading};
use crate::auth::{Revocation, Revocations, Whom, is_user};
use crate::channel::{Closing, Readable};
use crate::gateway::{Gate, TokenGrants};
use crate::wire::{Code, MAX_OFFSET, Refusal};

/// Longest name of a token: its `jti`, or its hash.
const MAX_TOKEN_NAME_BYTES: usize = 255;
/// Revocations in one page of the list.
const PAGE: usize = 1_000;

/// The file that revocations are kept in.
#[derive(Debug)]
pub(super) struct Kept {
    /// None: they last as long as the node runs.
    file: Option<PathBuf>,
    /// Held while the file is written, so that an older list never replaces a newer one.
    writing: Mutex<()>,
}

impl Kept {
    /// Reads the file, where there is one, into `revocations`.
    ///
    /// # Errors
    /// When it cannot be read: who was revoked would come in again.
    pub(super) fn open(file: Option<PathBuf>, revocations: &Revocations) -> io::Result<Self> {
        let kept = match &file {
            Some(file) => read(file)?,
            None => Vec::new(),
        };
        for revocation in kept {
            revocations.add(revocation).map_err(io::Error::other)?;
        }
        Ok(Self { file, writing: Mutex::new(()) })
    }

    /// Writes all revocations down; blocks until they are on the disk.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn save(&self, revocations: &Revocations) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Listed under the lock: what is added from now on is written by whoever adds it.
        let bytes = serde_json::to_vec(&revocations.list())?;
        write_whole(file, &bytes)
    }
}

fn read(path: &Path) -> io::Result<Vec<Revocation>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    serde_json::from_slice(&bytes).map_err(|error| {
        let problem = format!("{}: no list of revocations: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// What is wanted, as a body says it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AddBody {
    user: Option<String>,
    token: Option<String>,
    before: Option<u64>,
}

/// Whose revocation is taken back: it goes as a whole.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveQuery {
    user: Option<String>,
    token: Option<String>,
}

/// Who is meant, checked.
fn whom(user: Option<String>, token: Option<String>) -> Result<Whom, Problem> {
    match (user, token) {
        (Some(user), None) if is_user(&user) => Ok(Whom::User(user)),
        (None, Some(token)) if (1..=MAX_TOKEN_NAME_BYTES).contains(&token.len()) => {
            Ok(Whom::Token(token))
        }
        (Some(_), Some(_)) | (None, None) => {
            Err(Problem::bad_request("name a user or a token, one of them"))
        }
        (Some(_), None) => {
            Err(Problem::bad_request("a user has 1 to 128 bytes and no control characters"))
        }
        (None, Some(_)) => {
            let message = "a token is named by its jti, or by the id that `highwater token \
                               check` prints: at most 255 bytes";
            Err(Problem::bad_request(message))
        }
    }
}

/// `POST /v1/revocations`: in force at once, matching sockets are closed, then it is written down.
pub(super) async fn add(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    caller.must_administer()?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    let AddBody { user, token, before } = reading::json(&arrived.bytes)?;
    // A token made in this very millisecond is meant too.
    let before_ms = before.unwrap_or(gate.now() + 1);
    if before_ms > MAX_OFFSET {
        return Err(Problem::bad_request("before: milliseconds since 1970, at most 2^53-1"));
    }
    let revocation = Revocation { whom: whom(user, token)?, before_ms };
    let full = |full: crate::auth::Full| Refusal::because(Code::Overloaded, full.to_string());
    let changed = gate.authority.revocations().add(revocation.clone()).map_err(full)?;
    let closed = close_revoked(&gate);
    save(&gate).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_answer(
        status,
        json!({
            "whom": revocation.whom,
            "before_ms": revocation.before_ms,
            "changed": changed,
            "closed": closed,
        }),
    ))
}

/// Closes the sockets here whose tokens no longer count: how many.
pub(in crate::gateway) fn close_revoked(gate: &Gate) -> usize {
    let mut closed = 0;
    gate.hub.each(|socket| {
        let grants = socket.grants();
        let grants: &dyn Readable = &*grants;
        let token = (grants as &dyn Any).downcast_ref::<TokenGrants>();
        if token.is_some_and(|token| gate.authority.revocations().check(&token.0).is_err()) {
            socket.close(&Closing::new(Code::Revoked));
            closed += 1;
        }
    });
    closed
}

async fn save(gate: &Arc<Gate>) -> Result<(), Problem> {
    let work = Arc::clone(gate);
    let saved = tokio::task::spawn_blocking(move || {
        work.http.revocations.save(work.authority.revocations())
    });
    let saved = saved.await.map_err(io::Error::other).and_then(|saved| saved);
    saved.map_err(|error| {
        tracing::error!(%error, "revocations could not be written down");
        let message = "in force until this node restarts, and not written down: see its log";
        Refusal::because(Code::Failed, message).into()
    })
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    after: Option<String>,
    limit: Option<String>,
}

/// `GET /v1/revocations`: `after` counts those that were seen.
pub(super) async fn list(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Asked(asked): Asked<ListQuery>,
) -> Answer {
    caller.must_administer()?;
    let limit = query::page(asked.limit.as_deref(), PAGE, PAGE)?;
    let after = match &asked.after {
        Some(after) => query::number("after", after, 0, u64::from(u32::MAX))?,
        None => 0,
    };
    let skip = usize::try_from(after).unwrap_or(usize::MAX);
    let all = gate.authority.revocations().list();
    let next = skip.saturating_add(limit);
    let page: Vec<_> = all.iter().skip(skip).take(limit).collect();
    let next = (next < all.len()).then_some(next);
    Ok(json_answer(StatusCode::OK, json!({ "revocations": page, "next": next })))
}

/// `DELETE /v1/revocations?user=` or `?token=`.
pub(super) async fn remove(
    State(gate): State<Arc<Gate>>,
    caller: Caller,
    Asked(RemoveQuery { user, token }): Asked<RemoveQuery>,
) -> Answer {
    caller.must_administer()?;
    let whom = whom(user, token)?;
    if !gate.authority.revocations().remove(&whom) {
        return Err(Refusal::because(Code::NotFound, "nothing like that is revoked").into());
    }
    save(&gate).await?;
    Ok(json_answer(StatusCode::OK, json!({ "whom": whom, "removed": true })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, before_ms: u64) -> Revocation {
        Revocation { whom: Whom::User(name.to_owned()), before_ms }
    }

    #[test]
    fn what_was_revoked_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revocations.json");
        let before = Revocations::default();
        let kept = Kept::open(Some(file.clone()), &before).unwrap();
        before.add(user("ana", 5)).unwrap();
        kept.save(&before).unwrap();
        before.add(user("ben", 6)).unwrap();
        kept.save(&before).unwrap();
        let after = Revocations::default();
        Kept::open(Some(file.clone()), &after).unwrap();
        assert_eq!(after.list(), [user("ana", 5), user("ben", 6)]);
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside the file");
    }

    #[test]
    fn a_damaged_file_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("revocations.json");
        fs::write(&file, "[{\"whom\":").unwrap();
        let error = Kept::open(Some(file), &Revocations::default()).unwrap_err();
        assert!(error.to_string().contains("revocations.json: no list"), "{error}");
    }

    #[test]
    fn without_a_file_nothing_is_written() {
        let revocations = Revocations::default();
        Kept::open(None, &revocations).unwrap().save(&revocations).unwrap();
    }

    #[test]
    fn a_user_or_a_token_is_meant_and_not_both() {
        let meant = |text: &str| {
            let RemoveQuery { user, token } = serde_json::from_str(text).unwrap();
            whom(user, token)
        };
        assert_eq!(meant(r#"{"user":"ana"}"#).unwrap(), Whom::User("ana".to_owned()));
        assert_eq!(meant(r#"{"token":"t"}"#).unwrap(), Whom::Token("t".to_owned()));
        for bad in [r#"{}"#, r#"{"user":"a","token":"b"}"#, r#"{"user":""}"#, r#"{"token":""}"#] {
            assert_eq!(meant(bad).unwrap_err().refusal.code, Code::BadRequest, "{bad}");
        }
    }
}
