//! Revocations at start: those of the store are known before anyone is let in, and those that an
//! earlier version kept in a file beside it are taken over.
//!
//! These become commands, and once all are durable the file is renamed. A crash in between leaves
//! the file where it was: it is taken over again, to the same end.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use tokio::sync::oneshot;

use crate::auth::{Authority, Revocation};
use crate::channel::Ticket;
use crate::fold::{Command, Reply, each_revoked};
use crate::journal::Inbox;
use crate::rows::RowsError;
use crate::store::Store;
use crate::wire::{Code, Refusal};

/// The file, and what it is called once it is taken over.
pub(super) const FILE: &str = "revocations.json";
const TAKEN: &str = "revocations.json.taken";
/// Commands on their way at once.
const AT_ONCE: usize = 64;

/// Why the file could not be taken over: who was revoked would come in again.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It cannot be read or renamed.
    #[error("{FILE}: {0}")]
    File(#[from] io::Error),
    /// It holds something else.
    #[error("{FILE}: no list of revocations: {0}")]
    Damaged(serde_json::Error),
    /// The fold does not take one of them.
    #[error("{FILE} was not taken over: {0}")]
    Refused(#[from] Refusal),
}

/// Reads what the store has. From here on the dispatcher tells of each change.
///
/// # Errors
/// When storage fails or a row is damaged.
pub(super) fn load(store: &Store, authority: &Authority) -> Result<(), RowsError> {
    each_revoked(store, |whom, at| authority.revocations().learn(whom, Some(at)))
}

/// What the file of a data folder holds, if there is one. Read before anything is written: a start
/// that it ends leaves nothing behind.
///
/// # Errors
/// [`TakeError`].
pub(super) fn left(folder: &Path) -> Result<Option<Vec<Revocation>>, TakeError> {
    match fs::read(folder.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(TakeError::Damaged),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes over what was left.
///
/// # Errors
/// [`TakeError`].
pub(super) async fn take_over(
    left: Option<Vec<Revocation>>,
    folder: &Path,
    inbox: &Inbox<Ticket>,
) -> Result<(), TakeError> {
    let Some(all) = left else { return Ok(()) };
    for some in all.chunks(AT_ONCE) {
        let mut replies = Vec::with_capacity(some.len());
        for Revocation { whom, before_ms } in some.iter().cloned() {
            let (caller, reply) = oneshot::channel();
            let weight = whom.name().len();
            let command = Command::Revoke { whom, before_ms };
            inbox.submit(command, weight, Some(Ticket::Caller(caller)))?;
            replies.push(reply);
        }
        for reply in replies {
            match reply.await {
                Ok((_, Reply::Refused(refusal))) => return Err(refusal.into()),
                Ok(_) => {}
                Err(_) => return Err(Refusal::new(Code::Failed).into()),
            }
        }
    }
    fs::rename(folder.join(FILE), folder.join(TAKEN))?;
    File::open(folder)?.sync_all()?;
    tracing::info!(revocations = all.len(), "taken over from {FILE}, which is {TAKEN} now");
    Ok(())
}
