//! The journal engine that the configuration names, opened.
//!
//! Promise: a node does not start on an engine that may lose what it acknowledged while everything
//! works; where it may lose it only when something fails, the log says so at each start.

use crate::fold::head_of;
use crate::journal::{
    Engine, Finding, Journal as _, JournalError, Local, Membership, NatsJournal, NatsSettings,
    Weight, forget_position,
};
use crate::rows::RowsError;
use crate::store::{OpenError, Options, Store, StoreError};
use crate::wire::Id;

use super::config::{self, Config, JournalConfig};

/// The folder's rows, once it has had a node.
const STORE: &str = "store";

/// The engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It is not there, or not ours.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The folder whose journal is to be moved.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// Its rows.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Its disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is nothing to move, or nowhere to move it.
    #[error("{0}")]
    Unmoved(&'static str),
    /// What it acknowledges does not stay.
    #[error(
        "the journal's engine does not keep what it acknowledges: {0}. `highwater journal check` \
         tells all that it found"
    )]
    Forgets(String),
}

/// Makes the engine over a store that was opened.
pub(super) type Made = Box<dyn FnOnce(&Store) -> Engine + Send>;

/// The engine of that section, and the journal that it has, where others may append to it.
pub(super) fn of(config: &Config) -> Result<(Made, Option<Id>), EngineError> {
    let journal = &config.journal;
    match &journal.engine {
        config::Engine::Local => {
            let keep = journal.keep_bytes;
            Ok((Box::new(move |store| Engine::Here(Local::new(store.clone(), keep))), None))
        }
        config::Engine::Nats(settings) => {
            // Of a folder with a history no journal begins: it would be another one.
            let new = !config.server.data.join(STORE).is_dir();
            let opened = nats(settings, new)?;
            // Clients that are sent on go where they can write too.
            let named = !journal.follower;
            let membership = Membership {
                address: if named { config.server.advertise.clone() } else { String::new() },
                copies: usize::try_from(journal.copies).unwrap_or(usize::MAX),
                keep: journal.keep_seconds.saturating_mul(1_000),
            };
            let journal = opened.identity();
            Ok((Box::new(move |_| Engine::shared(opened, membership)), Some(journal)))
        }
    }
}

/// What of an engine keeps what it acknowledges, and what does not, worst first: asked of its
/// servers, and of no node.
///
/// # Errors
/// When no server is reached, or lets nobody in.
pub fn examine(journal: &JournalConfig) -> Result<Vec<Finding>, EngineError> {
    let local = "the engine is local: each batch is synced to this node's disk before anyone hears \
                 of it; keep backups";
    match &journal.engine {
        config::Engine::Local => {
            Ok(vec![Finding { weight: Weight::Good, message: local.to_owned() }])
        }
        config::Engine::Nats(settings) => Ok(NatsJournal::look(settings)?),
    }
}

/// What was moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// The journal's identity, which it keeps.
    pub journal: Id,
    /// Its last batch before the move.
    pub batch: u64,
}

/// Moves the journal of a stopped node from its folder to the engine that the configuration names:
/// that goes on behind the last batch. What was folded stays in the folder, of which other nodes
/// are made by copies ([`crate::node::folder`]).
///
/// # Errors
/// When a node runs on the folder, it is empty, or the engine is local, not there, or in use.
pub fn move_journal(config: &Config) -> Result<Moved, EngineError> {
    let config::Engine::Nats(settings) = &config.journal.engine else {
        let message = "journal.engine is local: name the engine that it is to be moved to";
        return Err(EngineError::Unmoved(message));
    };
    let reserve = config.limits.disk_reserve_bytes;
    let options = Options { disk_reserve_bytes: reserve, ..Options::default() };
    let store = Store::open(&config.server.data, options)?;
    let nothing = "the folder has no journal yet: start the node with the new engine";
    let head = head_of(&store)?.ok_or(EngineError::Unmoved(nothing))?;
    NatsJournal::may_begin(settings)?;
    // First, so that the folder is never started alone beside a stream that goes on from it.
    store.end_local()?;
    forget_position(&store)?;
    NatsJournal::begin(settings, head.journal, head.batch)?;
    Ok(Moved { journal: head.journal, batch: head.batch })
}

fn nats(settings: &NatsSettings, new: bool) -> Result<NatsJournal, EngineError> {
    let journal = NatsJournal::open(settings, new)?;
    for Finding { weight, message } in journal.examine()? {
        match weight {
            Weight::Broken => return Err(EngineError::Forgets(message)),
            Weight::Risky => tracing::warn!("the journal's engine: {message}"),
            Weight::Good => tracing::debug!("the journal's engine: {message}"),
        }
    }
    Ok(journal)
}
