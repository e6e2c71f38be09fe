//! How a command that someone waits for is handed to the fold.
//!
//! Promise: what is refused here was not submitted, so whoever asked may ask again; what was
//! submitted is answered once it is durable, or never.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::Shed;
use crate::channel::Ticket;
use crate::fold::{Command, Reply};
use crate::journal::Inbox;
use crate::wire::Refusal;

/// The time, in milliseconds since 1970, as the node tells it.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Hands a command to the fold: its batch and reply come once they are durable; nothing comes from
/// a node that goes down first, and the command may have been carried out all the same.
///
/// # Errors
/// What [`Shed`] answers for a node under pressure or with a full disk, `overloaded` where the
/// inbox is full, `failed` where the committing thread is gone. Nothing was submitted then.
pub fn hand(
    shed: &Shed,
    inbox: &Inbox<Ticket>,
    command: Command,
    weight: usize,
) -> Result<oneshot::Receiver<(u64, Reply)>, Refusal> {
    shed.admits(&command)?;
    let (caller, reply) = oneshot::channel();
    inbox.submit(command, weight, Some(Ticket::Caller(caller)))?;
    Ok(reply)
}
