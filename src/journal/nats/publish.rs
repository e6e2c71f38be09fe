//! Proposals on their way to the stream.
//!
//! Promise: they are handed to the connection in the order in which they were proposed, and each
//! has one fate. `Refused` is said only where the stream itself said no, or nothing was sent since
//! there is no connection; whatever else goes wrong on the way leaves it open whether the batch is
//! there. Without a connection nothing is handed to it: it would keep all of that, and send it
//! later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::connection::State;
use async_nats::jetstream::context::{PublishAckFuture, PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::stream::Kept;
use super::{ANSWERED_WITHIN, Fated, ON_THEIR_WAY, Speaker};
use crate::journal::{Bell, Fate};

/// Says which stream has to take it: one of another name that listens to the subject refuses.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// A batch of unknown fate is not proposed again before that.
const AGAIN: Duration = Duration::from_secs(1);
/// How often is looked whether there is a connection again.
const LOOK: Duration = Duration::from_millis(20);

/// Sends what is proposed.
pub(super) struct Publisher {
    context: Context,
    kept: Kept,
    fates: Sender<Fated>,
    /// Since when there is no connection.
    away: Option<Instant>,
}

impl Publisher {
    pub(super) fn new(context: Context, kept: &Kept, fates: Sender<Fated>) -> Self {
        Self { context, kept: kept.clone(), fates, away: None }
    }

    /// Sends what is handed in, until nobody can hand anything in any more.
    pub(super) fn start(self, speaker: &Speaker, bell: &Arc<Bell>) -> Sender<(u64, Bytes)> {
        let (proposals, proposed) = channel(ON_THEIR_WAY);
        speaker.spawn(self.run(proposed, Arc::clone(bell)));
        proposals
    }

    async fn run(mut self, mut proposed: Receiver<(u64, Bytes)>, bell: Arc<Bell>) {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED_STREAM, self.kept.name.as_str());
        while let Some((serial, batch)) = proposed.recv().await {
            if !self.is_connected().await {
                let why = "NATS: there is no connection to a server".to_owned();
                self.fates.send((serial, Fate::Refused(why))).await.ok();
                bell.ring();
                continue;
            }
            let subject = self.kept.subject.clone();
            let sent = self.context.publish_with_headers(subject, headers.clone(), batch).await;
            let (kept, fates, bell) = (self.kept.clone(), self.fates.clone(), Arc::clone(&bell));
            // Answers are waited for beside: the next one is sent meanwhile.
            tokio::spawn(async move {
                let fate = fate(&kept, sent).await;
                // Who proposed it may be gone.
                fates.send((serial, fate)).await.ok();
                bell.ring();
            });
        }
    }
}

impl Publisher {
    /// Whether there is a connection; waits for one as long as for an answer, from when there was
    /// none.
    async fn is_connected(&mut self) -> bool {
        let client = self.context.client();
        loop {
            if client.connection_state() == State::Connected {
                self.away = None;
                return true;
            }
            let away = *self.away.get_or_insert_with(Instant::now);
            if away.elapsed() >= ANSWERED_WITHIN {
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What became of a publication.
async fn fate(kept: &Kept, sent: Result<PublishAckFuture, PublishError>) -> Fate {
    let begun = Instant::now();
    let answered = match sent {
        Ok(answer) => answer.await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(PublishAck { sequence, .. }) => Fate::Taken(kept.batch(sequence)),
        Err(error) if is_refusal(&error) => Fate::Refused(format!("NATS: {}", said(&error))),
        Err(error) => {
            // That nobody listens is said at once, again and again, as long as nobody leads.
            tokio::time::sleep(AGAIN.saturating_sub(begun.elapsed())).await;
            Fate::Unknown(format!("NATS: {}", said(&error)))
        }
    }
}

/// Whether nothing of it is anywhere. What a server says of its own disk, of room or of sequences
/// may be true of that server alone, and others have stored it.
fn is_refusal(error: &PublishError) -> bool {
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return true;
    }
    let source = std::error::Error::source(error);
    let said = source.and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    said.is_some_and(|said| {
        let code = said.error_code();
        code == ErrorCode::STREAM_NOT_MATCH || code == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
    })
}

/// The error with what it says of its cause.
fn said(error: &PublishError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
