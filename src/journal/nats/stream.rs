//! The stream itself: found or made, asked where it ends, shortened.
//!
//! Promise: it is used only where it says that it is a journal of ours. What it is, stands in its
//! metadata: which journal it holds, and how many batches came before its first message. Its
//! subject bears the identity too, so that what a node of another journal still has on its way
//! finds nobody.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream,
};
use async_nats::{ConnectOptions, Event, ReconnectToServer, Server};

use super::{Ends, NatsSettings, REST, failed, jetstream_of};
use crate::journal::{At, JournalError};
use crate::wire::Id;

/// Of the stream's metadata: the journal's identity, 32 hex digits.
const JOURNAL: &str = "highwater-journal";
/// Of the stream's metadata: the number of the batch before its first message.
const BEFORE: &str = "highwater-before";

/// How often a server is asked whether it is there; the third question without an answer ends the
/// connection, and another server is tried.
const PING: Duration = Duration::from_secs(3);

/// A server that takes longer is passed over for the next one.
const CONNECTED_WITHIN: Duration = Duration::from_secs(2);

/// What a node keeps in mind of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: String,
    /// What batches are published to.
    pub(super) subject: String,
    pub(super) identity: Id,
    /// Batch numbers are sequences and this.
    pub(super) before: u64,
}

impl Kept {
    /// The sequence of a batch.
    pub(super) const fn sequence(&self, batch: u64) -> u64 {
        batch.saturating_sub(self.before)
    }

    /// The batch of a sequence.
    pub(super) const fn batch(&self, sequence: u64) -> u64 {
        sequence.saturating_add(self.before)
    }

    /// Whether the place that a store remembers is one of this stream.
    pub(super) fn agrees(&self, at: At) -> Result<(), JournalError> {
        if at.position == 0 || self.batch(at.position) == at.batch {
            return Ok(());
        }
        let At { batch, position } = at;
        let here = self.sequence(batch);
        Err(failed(&format!(
            "this store has batch {batch} as message {position}, the stream {} has it as {here}: \
             it is another stream; name the one that this store belongs to",
            self.name
        )))
    }

    /// Where it begins and ends; that it is still the journal that was opened.
    pub(super) fn ends(&self, info: &Info) -> Result<Ends, JournalError> {
        if Self::read(&info.config)? != *self {
            return Err(failed(&format!(
                "the stream {} is another journal than it was: somebody has made it anew",
                self.name
            )));
        }
        let state = &info.state;
        // One that is empty begins behind its last; one that never had a message says 0.
        let empty = state.messages == 0;
        let start = if empty { state.last_sequence + 1 } else { state.first_sequence };
        Ok(Ends { start: self.batch(start), head: self.batch(state.last_sequence) })
    }

    /// What a stream's metadata says.
    fn read(config: &Config) -> Result<Self, JournalError> {
        let name = config.name.clone();
        let say = |key: &str| config.metadata.get(key).map(String::as_str);
        let identity = say(JOURNAL).and_then(|text| text.parse().ok());
        let before = say(BEFORE).unwrap_or("0").parse().ok();
        let subject = config.subjects.first().cloned();
        match (identity, before, subject) {
            (Some(identity), Some(before), Some(subject)) => {
                Ok(Self { name, subject, identity, before })
            }
            _ => Err(failed(&format!(
                "the stream {name} is there and does not say which journal it is (metadata \
                 {JOURNAL}): name another with journal.stream, or delete it if nothing needs it"
            ))),
        }
    }
}

/// Connects, and finds the stream or makes it: with the bytes that it takes at most.
pub(super) async fn open(
    settings: &NatsSettings,
    may_make: bool,
) -> Result<(Context, Kept, usize), JournalError> {
    let client = connect(settings).await?;
    let most = client.server_info().max_payload.saturating_sub(REST);
    let context = jetstream_of(client);
    let info = match info_if_there(&context, &settings.stream).await? {
        Some(info) => info,
        None if may_make => make(&context, settings).await?,
        None => return Err(gone(&settings.stream)),
    };
    let kept = Kept::read(&info.config)?;
    Ok((context, kept, most))
}

/// Which server is tried next: the one behind the one before, so that who leaves one comes to
/// another. Until one was reached all of them are tried, in any order.
#[derive(Default)]
struct Turn {
    first: OnceLock<usize>,
    tried: AtomicUsize,
}

impl Turn {
    fn next<'a>(&self, servers: &'a [Server]) -> Option<&'a Server> {
        let reached = servers.iter().position(|server| server.did_connect)?;
        let first = self.first.get_or_init(|| reached);
        let turn = self.tried.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        servers.get(first.wrapping_add(turn).checked_rem(servers.len())?)
    }
}

/// Connects to one of the servers.
pub(super) async fn connect(settings: &NatsSettings) -> Result<async_nats::Client, JournalError> {
    let turn = Turn::default();
    let mut options = ConnectOptions::new()
        .name("highwater")
        .subscription_capacity(4_096)
        .client_capacity(256)
        .ping_interval(PING)
        .connection_timeout(CONNECTED_WITHIN)
        .reconnect_to_server_callback(move |servers, _| {
            let next = turn.next(&servers);
            let next = next.map(|next| ReconnectToServer { addr: next.addr.clone(), delay: None });
            std::future::ready(next)
        })
        .event_callback(|event| async move {
            match event {
                Event::Connected => tracing::info!("the journal's engine is reached"),
                other => tracing::warn!("the journal's engine: {other}"),
            }
        });
    if let Some(file) = &settings.credentials_file {
        options = options.credentials_file(file).await.map_err(|error| {
            failed(&format!("journal.credentials_file {}: {error}", file.display()))
        })?;
    }
    if let (Some(user), Some(file)) = (&settings.user, &settings.password_file) {
        let password = tokio::fs::read_to_string(file).await.map_err(|error| {
            failed(&format!("journal.password_file {}: {error}", file.display()))
        })?;
        // Editors end a file with a newline that nobody means.
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        options = options.user_and_password(user.clone(), password);
    }
    if let Some(file) = &settings.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    let servers = settings.servers.join(", ");
    options.connect(settings.servers.as_slice()).await.map_err(|error| {
        failed(&format!("no server of journal.servers ({servers}) lets this node in: {error}"))
    })
}

/// The stream of a folder with a history is not there.
pub(super) fn gone(name: &str) -> JournalError {
    failed(&format!(
        "the stream {name} is not there, and this folder has a history: give the stream back, name \
         the right one with journal.stream, or begin one behind this folder's last batch with \
         `highwater journal move`"
    ))
}

/// Makes the stream; another node may do so at the same time, and then it is theirs.
async fn make(context: &Context, settings: &NatsSettings) -> Result<Info, JournalError> {
    let name = &settings.stream;
    let config = new_stream(settings, Id(rand::random()), 0);
    match context.create_stream(config).await {
        Ok(stream) => Ok(stream.cached_info().clone()),
        Err(refused) => match context.get_stream(name).await {
            Ok(stream) => Ok(stream.cached_info().clone()),
            Err(_) => Err(failed(&format!(
                "the stream {name} cannot be made with {} copies: {refused}",
                settings.replicas
            ))),
        },
    }
}

/// Connects, and sees to it that there is no stream of that name.
pub(super) async fn may_begin(settings: &NatsSettings) -> Result<Context, JournalError> {
    let context = jetstream_of(connect(settings).await?);
    let name = &settings.stream;
    if info_if_there(&context, name).await?.is_some() {
        return Err(failed(&format!(
            "the stream {name} is there already: name another with journal.stream, or delete it if \
             nothing needs it"
        )));
    }
    Ok(context)
}

/// Makes a stream that goes on behind a batch of a journal which was kept elsewhere.
pub(super) async fn begin(
    settings: &NatsSettings,
    identity: Id,
    before: u64,
) -> Result<(), JournalError> {
    let context = may_begin(settings).await?;
    let name = &settings.stream;
    let made = context.create_stream(new_stream(settings, identity, before)).await;
    made.map(drop).map_err(|refused| {
        let replicas = settings.replicas;
        failed(&format!("the stream {name} cannot be made with {replicas} copies: {refused}"))
    })
}

/// A stream that keeps everything until it is told otherwise.
fn new_stream(settings: &NatsSettings, identity: Id, before: u64) -> Config {
    Config {
        name: settings.stream.clone(),
        subjects: vec![format!("{}.{identity}", settings.stream)],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        discard: DiscardPolicy::New,
        num_replicas: settings.replicas,
        deny_delete: true,
        description: Some("The journal of Highwater: each message is a batch".to_owned()),
        metadata: HashMap::from([
            (JOURNAL.to_owned(), identity.to_string()),
            (BEFORE.to_owned(), before.to_string()),
        ]),
        ..Config::default()
    }
}

/// The stream as it is now.
pub(super) async fn info(context: &Context, name: &str) -> Result<Info, JournalError> {
    let stream: Stream =
        context.get_stream(name).await.map_err(|error| unreadable(name, &error))?;
    Ok(stream.cached_info().clone())
}

/// The same, of one that may not be there.
pub(super) async fn info_if_there(
    context: &Context,
    name: &str,
) -> Result<Option<Info>, JournalError> {
    match context.get_stream(name).await {
        Ok(stream) => Ok(Some(stream.cached_info().clone())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(unreadable(name, &error)),
    }
}

/// Where it begins and ends; that it is still the journal that was opened.
pub(super) async fn ends(context: &Context, kept: &Kept) -> Result<Ends, JournalError> {
    kept.ends(&info(context, &kept.name).await?)
}

/// Lets go of messages below a batch that are older than so long, never of one that is not there
/// yet. Their age is by the engine's clock alone: by the time of its last message, which is as old
/// as a node's last sign of life.
pub(super) async fn drop_before(
    context: &Context,
    kept: &Kept,
    batch: u64,
    keep: Duration,
) -> Result<(), JournalError> {
    let stream =
        context.get_stream(&kept.name).await.map_err(|error| unreadable(&kept.name, &error))?;
    // It may have been made anew since, behind another node's folder.
    let Ends { start, head } = kept.ends(stream.cached_info())?;
    let (first, last) = (kept.sequence(start), kept.sequence(head));
    let below = kept.sequence(batch).min(last + 1);
    if below <= first {
        return Ok(());
    }
    let below = oldest_kept(&stream, first, below, last, keep).await?;
    if below <= first {
        return Ok(());
    }
    stream.purge().sequence(below).await.map(drop).map_err(|error| failed(&error))
}

/// The first message from `first` on that is not older than so long; `below` where all are.
async fn oldest_kept(
    stream: &Stream,
    first: u64,
    below: u64,
    last: u64,
    keep: Duration,
) -> Result<u64, JournalError> {
    if keep.is_zero() {
        return Ok(below);
    }
    let came = async |sequence: u64| {
        let message = stream.get_raw_message(sequence).await.map_err(|error| failed(&error))?;
        Ok::<_, JournalError>(message.time.unix_timestamp())
    };
    let keep = i64::try_from(keep.as_secs()).unwrap_or(i64::MAX);
    let oldest = came(last).await?.saturating_sub(keep);
    let (mut low, mut high) = (first, below);
    while low < high {
        let middle = low + (high - low) / 2;
        if came(middle).await? < oldest { low = middle + 1 } else { high = middle }
    }
    Ok(low)
}

fn is_missing(error: &async_nats::jetstream::context::GetStreamError) -> bool {
    use async_nats::jetstream::ErrorCode;
    matches!(error.kind(), GetStreamErrorKind::JetStream(error)
        if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn unreadable(name: &str, error: &dyn std::fmt::Display) -> JournalError {
    failed(&format!("the stream {name} cannot be had: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_a_server_comes_to_the_next_one() {
        let server = |port: u16| Server {
            addr: format!("nats://127.0.0.1:{port}").parse().unwrap(),
            failed_attempts: 0,
            did_connect: false,
            is_discovered: false,
            last_error: None,
        };
        let (turn, mut servers) = (Turn::default(), [server(1), server(2), server(3)]);
        assert!(turn.next(&servers).is_none(), "none was reached");
        servers[1].did_connect = true;
        for port in [3, 1, 2, 3] {
            let next = turn.next(&servers).unwrap();
            assert_eq!(next.addr.port(), port);
            servers[usize::from(port) - 1].did_connect = true;
        }
        assert!(turn.next(&[]).is_none());
    }
}
