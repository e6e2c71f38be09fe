//! The journal engine that the configuration names, opened.
//!
//! Promise: a node does not start on an engine that may lose what it acknowledged while everything
//! works; where it may lose it only when something fails, the log says so at each start.

use crate::journal::{Engine, Finding, JournalError, Local, NatsJournal, NatsSettings, Weight};
use crate::store::Store;

use super::config::{self, JournalConfig};

/// The engine cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It is not there, or not ours.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// What it acknowledges does not stay.
    #[error(
        "the journal's engine does not keep what it acknowledges: {0}. `highwater journal check` \
         tells all that it found"
    )]
    Forgets(String),
}

/// Makes the engine over a store that was opened.
pub(super) type Made = Box<dyn FnOnce(&Store) -> Engine + Send>;

/// The engine of that section.
pub(super) fn of(journal: &JournalConfig) -> Result<Made, EngineError> {
    match &journal.engine {
        config::Engine::Local => {
            let keep = journal.keep_bytes;
            Ok(Box::new(move |store| Engine::Here(Local::new(store.clone(), keep))))
        }
        config::Engine::Nats(settings) => {
            let opened = nats(settings)?;
            Ok(Box::new(move |_| Engine::elsewhere(opened)))
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

fn nats(settings: &NatsSettings) -> Result<NatsJournal, EngineError> {
    let journal = NatsJournal::open(settings)?;
    for Finding { weight, message } in journal.examine()? {
        match weight {
            Weight::Broken => return Err(EngineError::Forgets(message)),
            Weight::Risky => tracing::warn!("the journal's engine: {message}"),
            Weight::Good => tracing::debug!("the journal's engine: {message}"),
        }
    }
    Ok(journal)
}
