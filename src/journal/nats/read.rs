//! The stream, read in order.
//!
//! Promise: each message is told once, and follows the one before by its sequence. A gap at the
//! beginning is what was dropped, a gap within is what was lost; both end the reading with an
//! error. Where nothing comes for a second the stream is asked whether it still has what was read,
//! and whether it has more: the servers forget a reader with the one that led it, and tell nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc::Sender;

use super::stream::{self, Kept};
use super::{At, Ends, JournalError, failed};
use crate::journal::Bell;

/// How long nothing comes before the stream is asked where it ends.
pub(super) const QUIET: Duration = Duration::from_secs(1);
/// The longest wait for a message that is there: one may be large, and the way to it slow.
const MOST_QUIET: Duration = Duration::from_secs(30);
/// How long until a reading that broke off is begun anew.
const AGAIN: Duration = Duration::from_millis(200);
/// What a stream has lost is believed when it was said for so long: a server that was cut off or
/// asleep may not know yet that others lead.
const DOUBT: Duration = Duration::from_secs(15);

/// Reads from one batch on.
pub(super) struct Reader {
    pub(super) context: Context,
    pub(super) kept: Kept,
    /// The batch that is told next.
    pub(super) next: u64,
    /// The one that was read last, for who publishes.
    pub(super) last: Arc<AtomicU64>,
    pub(super) told: Sender<Result<(At, Bytes), JournalError>>,
    pub(super) bell: Arc<Bell>,
    /// How long nothing comes before the stream is asked; longer after each reading in vain.
    pub(super) patience: Duration,
    /// Since when the stream is said to be gone, or to have lost what was read.
    pub(super) doubted: Option<Instant>,
}

/// Why a reading ended.
enum Ended {
    /// Nobody polls any more, or an error has been told.
    Over,
    /// The servers could not go on: a new one begins where this one was.
    Broken(String),
}

impl Reader {
    /// Until nobody polls, or something is lost.
    pub(super) async fn run(mut self) {
        loop {
            match self.read().await {
                Ended::Over => return,
                Ended::Broken(why) => {
                    tracing::warn!(why, "the journal is read anew from where it was read to");
                    tokio::time::sleep(AGAIN).await;
                }
            }
            // What broke it off may have been the loss of the stream itself.
            if let Err(lost) = self.look().await {
                self.tell(Err(lost)).await;
                return;
            }
        }
    }

    async fn read(&mut self) -> Ended {
        let start_sequence = self.kept.sequence(self.next);
        let config = OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..OrderedConfig::default()
        };
        let consumer = self.context.create_consumer_on_stream(config, &self.kept.name).await;
        let mut messages = match consumer {
            Ok(consumer) => match consumer.messages().await {
                Ok(messages) => messages,
                Err(error) => return Ended::Broken(error.to_string()),
            },
            Err(error) => return Ended::Broken(error.to_string()),
        };
        loop {
            let message = match tokio::time::timeout(self.patience, messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Ended::Broken(error.to_string()),
                Ok(None) => return Ended::Broken("the servers ended it".to_owned()),
                Err(_) => match self.look().await {
                    Ok(None) => continue,
                    Ok(Some(head)) if head < self.next => continue,
                    Ok(Some(head)) => {
                        self.patience = (self.patience * 2).min(MOST_QUIET);
                        return Ended::Broken(format!("it has batch {head}"));
                    }
                    Err(lost) => {
                        self.tell(Err(lost)).await;
                        return Ended::Over;
                    }
                },
            };
            let sequence = match message.info() {
                Ok(info) => info.stream_sequence,
                Err(error) => return Ended::Broken(error.to_string()),
            };
            if sequence < self.kept.sequence(self.next) {
                // A reader that the servers made anew before its first message begins at the first.
                return Ended::Broken(format!("message {sequence} came again"));
            }
            if sequence != self.kept.sequence(self.next) {
                let gap = self.gap(sequence).await;
                self.tell(Err(gap)).await;
                return Ended::Over;
            }
            (self.patience, self.doubted) = (QUIET, None);
            let at = At { batch: self.next, position: sequence };
            self.last.store(self.next, Ordering::Relaxed);
            self.next += 1;
            if !self.tell(Ok((at, message.message.payload))).await {
                return Ended::Over;
            }
        }
    }

    /// Whether somebody is there to hear it.
    async fn tell(&self, told: Result<(At, Bytes), JournalError>) -> bool {
        let heard = self.told.send(told).await.is_ok();
        self.bell.ring();
        heard
    }

    /// What it means that another message came than the next one.
    async fn gap(&self, sequence: u64) -> JournalError {
        let wanted = self.next;
        match stream::ends(&self.context, &self.kept).await {
            Ok(Ends { start, .. }) if wanted < start => JournalError::Dropped { start, wanted },
            Ok(Ends { head, .. }) if wanted > head + 1 => JournalError::Lost { head, wanted },
            Ok(_) => failed(&format!(
                "message {sequence} came where {} is the next: the stream {} has lost what is \
                 between; give it back, or start with an empty folder",
                self.kept.sequence(wanted),
                self.kept.name
            )),
            Err(error) => error,
        }
    }

    /// The stream's last batch, where it still has what was read. Servers that do not answer say
    /// nothing of it.
    async fn look(&mut self) -> Result<Option<u64>, JournalError> {
        let wanted = self.next;
        let looked = stream::info_if_there(&self.context, &self.kept.name).await;
        let Ok(found) = looked else { return Ok(None) };
        let ends =
            found.map_or_else(|| Err(stream::gone(&self.kept.name)), |info| self.kept.ends(&info));
        let lost = match ends {
            Ok(Ends { start, .. }) if wanted < start => JournalError::Dropped { start, wanted },
            Ok(Ends { head, .. }) if wanted > head + 1 => JournalError::Lost { head, wanted },
            Ok(Ends { head, .. }) => {
                self.doubted = None;
                return Ok(Some(head));
            }
            Err(error) => error,
        };
        if self.doubted.get_or_insert_with(Instant::now).elapsed() < DOUBT {
            return Ok(None);
        }
        Err(lost)
    }
}
