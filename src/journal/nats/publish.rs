//! Proposals on their way to the stream.
//!
//! Promise: they are handed to the connection in the order in which they were proposed, and each
//! has one fate. `Refused` is said only where the stream itself said no, or nothing was sent since
//! there is no connection; whatever else goes wrong on the way leaves it open whether the batch is
//! there. Without a connection nothing is handed to it: it would keep all of that, and send it
//! later. A server that lets this node in and leads nowhere, as one that is cut off from the
//! others, is left for the next one. Nothing is added to a stream that ends before what was read of
//! it: behind each new connection it is asked first, for servers may have come back with less.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, HeaderMap};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::stream::{self, Kept};
use super::{ANSWERED_WITHIN, Fated, ON_THEIR_WAY, Speaker};
use crate::journal::{Bell, Fate};

/// Says which stream has to take it: one of another name that listens to the subject refuses.
const EXPECTED_STREAM: &str = "Nats-Expected-Stream";

/// A batch of unknown fate is not proposed again before that.
const AGAIN: Duration = Duration::from_secs(1);
/// How often is looked whether there is a connection again.
const LOOK: Duration = Duration::from_millis(20);
/// Where the stream answers nothing for so long, another server is tried.
const DEAF: Duration = Duration::from_secs(5);

/// Sends what is proposed.
pub(super) struct Publisher {
    context: Context,
    kept: Kept,
    fates: Sender<Fated>,
    /// Since when there is no connection.
    away: Option<Instant>,
    heard: Arc<Heard>,
    /// The last batch that was read.
    read: Arc<AtomicU64>,
    /// The connection behind which the stream still had that, by its number.
    looked_by: Option<u64>,
}

/// When the stream answered last, or another server was tried.
struct Heard(Mutex<Instant>);

impl Heard {
    /// What came of a question or a publication. A server that is apart from the others answers
    /// pings, so that its connection looks well; but nobody behind it answers for the stream.
    async fn note(&self, client: &Client, answered: bool) {
        let deaf = {
            let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let deaf = !answered && heard.elapsed() >= DEAF;
            if answered || deaf {
                *heard = Instant::now();
            }
            deaf
        };
        if deaf && client.connection_state() == State::Connected {
            tracing::warn!("the journal's engine answers nothing by this server: another is tried");
            // It fails where the connection is over for good, which others tell.
            client.force_reconnect().await.ok();
        }
    }
}

impl Publisher {
    pub(super) fn new(
        context: Context,
        kept: &Kept,
        fates: Sender<Fated>,
        read: &Arc<AtomicU64>,
    ) -> Self {
        let heard = Arc::new(Heard(Mutex::new(Instant::now())));
        let (kept, read, away, looked_by) = (kept.clone(), Arc::clone(read), None, None);
        Self { context, kept, fates, away, heard, read, looked_by }
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
                let why = "NATS: no server lets this node at the stream as it was read".to_owned();
                self.fates.send((serial, Fate::Refused(why))).await.ok();
                bell.ring();
                continue;
            }
            let subject = self.kept.subject.clone();
            let sent = self.context.publish_with_headers(subject, headers.clone(), batch).await;
            let (kept, fates, bell) = (self.kept.clone(), self.fates.clone(), Arc::clone(&bell));
            let (heard, client) = (Arc::clone(&self.heard), self.context.client());
            // Answers are waited for beside: the next one is sent meanwhile.
            tokio::spawn(async move {
                let begun = Instant::now();
                let answered = match sent {
                    Ok(answer) => answer.await,
                    Err(error) => Err(error),
                };
                heard.note(&client, answered.as_ref().map_or_else(is_of_stream, |_| true)).await;
                let fate = fate(&kept, answered, begun).await;
                // Who proposed it may be gone.
                fates.send((serial, fate)).await.ok();
                bell.ring();
            });
        }
    }
}

impl Publisher {
    /// Whether there is a connection, and behind it the stream with what was read; waits for one as
    /// long as for an answer, from when there was none.
    async fn is_connected(&mut self) -> bool {
        let client = self.context.client();
        loop {
            if client.connection_state() == State::Connected && self.is_whole(&client).await {
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

impl Publisher {
    /// Whether the stream has what was read of it, as far as this connection goes.
    async fn is_whole(&mut self, client: &Client) -> bool {
        let connection = client.statistics().connects.load(Ordering::Relaxed);
        if self.looked_by == Some(connection) {
            return true;
        }
        let asked = stream::ends(&self.context, &self.kept);
        let ends = tokio::time::timeout(ANSWERED_WITHIN, asked).await;
        let head = ends.ok().and_then(Result::ok).map(|ends| ends.head);
        self.heard.note(client, head.is_some()).await;
        let whole = head.is_some_and(|head| head >= self.read.load(Ordering::Relaxed));
        self.looked_by = whole.then_some(connection);
        whole
    }
}

/// What became of a publication that was sent then.
async fn fate(kept: &Kept, answered: Result<PublishAck, PublishError>, begun: Instant) -> Fate {
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

/// What the stream itself said, if it did.
fn answer(error: &PublishError) -> Option<&async_nats::jetstream::Error> {
    std::error::Error::source(error).and_then(|source| source.downcast_ref())
}

/// Whether it is an answer of the stream.
fn is_of_stream(error: &PublishError) -> bool {
    error.kind() == PublishErrorKind::MaxPayloadExceeded || answer(error).is_some()
}

/// Whether nothing of it is anywhere. What a server says of its own disk, of room or of sequences
/// may be true of that server alone, and others have stored it.
fn is_refusal(error: &PublishError) -> bool {
    if error.kind() == PublishErrorKind::MaxPayloadExceeded {
        return true;
    }
    answer(error).is_some_and(|said| {
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
