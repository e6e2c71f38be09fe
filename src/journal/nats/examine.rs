//! Whether the engine is set up so that an acknowledged batch stays: what a node relies on and does
//! not decide itself.
//!
//! Promise: each finding says what it means for what users wrote, and what to do. What cannot be
//! found out is a finding too. Sources: the stream's own configuration, and the servers'
//! monitoring, which alone says when they sync (Jepsen's report on NATS 2.12.1: with the default,
//! every two minutes, servers that lose power together lose what they had acknowledged).

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, PersistenceMode, RetentionPolicy, StorageType,
};
use serde::Deserialize;

use super::{NatsSettings, REST, failed, stream};
use crate::journal::JournalError;

/// The first server with which this is tried.
const OLDEST: (u32, u32) = (2, 12);
/// What monitoring may take, and how much it may say.
const ASKED_WITHIN: Duration = Duration::from_secs(3);
const MOST_SAID: u64 = 1 << 20;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// What is acknowledged may be lost while everything works: a node does not start.
    Broken,
    /// What is acknowledged may be lost when something fails.
    Risky,
    /// As it should be.
    Good,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub weight: Weight,
    /// What is so, what it means, and what to do.
    pub message: String,
}

fn found(weight: Weight, message: impl Into<String>) -> Finding {
    Finding { weight, message: message.into() }
}

/// Everything, worst first.
pub(super) async fn examine(
    context: &Context,
    settings: &NatsSettings,
) -> Result<Vec<Finding>, JournalError> {
    let server = context.client().server_info();
    let mut findings = vec![version(&server.version), room(server.max_payload)];
    match stream::info_if_there(context, &settings.stream).await? {
        Some(info) => {
            findings.extend(config(&info.config));
            findings.push(copies(info.config.num_replicas));
            findings.extend(away(&info));
        }
        None => {
            let name = &settings.stream;
            let message = format!(
                "the stream {name} is not there: a node with an empty folder makes it, and \
                 `highwater journal move` for a folder with a history"
            );
            findings.push(found(Weight::Good, message));
            findings.push(copies(settings.replicas));
        }
    }
    if settings.monitoring.is_empty() {
        findings.push(found(Weight::Risky, UNASKED));
    }
    // All at once: one that is away takes its time.
    let asked = settings.monitoring.clone().into_iter();
    let asked: Vec<_> =
        asked.map(|one| tokio::task::spawn_blocking(move || sync_of(&one))).collect();
    for synced in asked {
        findings.push(synced.await.map_err(|error| failed(&error))?);
    }
    findings.sort_by_key(|finding| finding.weight);
    Ok(findings)
}

fn version(version: &str) -> Finding {
    let mut numbers = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version_of = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version_of >= OLDEST {
        return found(Weight::Good, format!("the servers are nats-server {version}"));
    }
    let (major, minor) = OLDEST;
    found(
        Weight::Risky,
        format!(
            "the servers are nats-server {version}, older than what this is tried with: upgrade \
             them to {major}.{minor} or later"
        ),
    )
}

fn room(max_payload: usize) -> Finding {
    let most = max_payload.saturating_sub(REST);
    found(Weight::Good, format!("a batch may have {most} bytes (max_payload {max_payload})"))
}

/// What the stream itself is told to do.
fn config(config: &Config) -> Vec<Finding> {
    let bounded =
        config.max_bytes > 0 || config.max_messages > 0 || config.max_messages_per_subject > 0;
    let breaks = [
        (
            config.storage != StorageType::File,
            "the stream is kept in memory: what its servers acknowledged is gone when they stop; \
             make it with storage file",
        ),
        (
            config.retention != RetentionPolicy::Limits,
            "the stream forgets what a reader has taken, and a journal has many readers: make it \
             with retention limits",
        ),
        (
            config.no_ack,
            "the stream acknowledges nothing, so that no append would ever be answered: set no_ack \
             to false",
        ),
        (
            config.persist_mode == Some(PersistenceMode::Async),
            "the stream acknowledges before it has stored (persist_mode async): set it to default",
        ),
        (
            !config.max_age.is_zero(),
            "the stream drops batches by their age (max_age), whether nodes have folded them or \
             not: set it to 0; nodes drop what they no longer need",
        ),
        (
            bounded && config.discard == DiscardPolicy::Old,
            "the stream drops its oldest batches when it is full (discard old), whether nodes have \
             folded them or not: set discard to new",
        ),
    ];
    let mut findings: Vec<_> = breaks
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, message)| found(Weight::Broken, message))
        .collect();
    if !config.deny_delete {
        findings.push(found(
            Weight::Risky,
            "single messages of the stream can be deleted by hand, and every node would stop at \
             the gap: set deny_delete to true",
        ));
    }
    if findings.is_empty() {
        findings.push(found(Weight::Good, "the stream keeps every batch until nodes let it go"));
    }
    findings
}

/// On how many servers it is.
fn copies(copies: usize) -> Finding {
    match copies {
        0 | 1 => found(
            Weight::Risky,
            "the stream has one copy: while its server is away nothing is written, and with its \
             disk all that no node has folded is lost; use three servers and journal.replicas = 3",
        ),
        even if even % 2 == 0 => found(
            Weight::Risky,
            format!("the stream has {even} copies, which bear no more losses than one fewer"),
        ),
        odd => found(
            Weight::Good,
            format!("the stream has {odd} copies: {} of their servers may fail", (odd - 1) / 2),
        ),
    }
}

/// Copies that do not count at the moment.
fn away(info: &Info) -> Vec<Finding> {
    let peers = info.cluster.iter().flat_map(|cluster| &cluster.replicas);
    let away = peers.filter(|peer| peer.offline || !peer.current).map(|peer| {
        let how = if peer.offline { "away" } else { "behind" };
        let name = &peer.name;
        let message = format!("the copy on {name} is {how}: until it is back one less may fail");
        found(Weight::Risky, message)
    });
    away.collect()
}

/// What `/jsz` says of a server's syncs.
#[derive(Deserialize)]
struct Told {
    config: Option<Syncs>,
}

#[derive(Deserialize)]
struct Syncs {
    #[serde(default)]
    sync_always: bool,
    /// How long a server lets pass between two syncs where it does not always sync, nanoseconds.
    #[serde(default)]
    sync_interval: u64,
}

/// What is said where no monitoring is named.
const UNASKED: &str = "whether the servers sync what they acknowledge could not be found out: \
    their monitoring alone says so (http_port there, journal.monitoring here). It has to be \
    sync_interval: always in the jetstream block of each";

/// Whether a server syncs before it acknowledges.
fn sync_of(address: &str) -> Finding {
    let told = match ask(address) {
        Ok(told) => told,
        Err(why) => {
            let message = format!("{address} does not say whether its server syncs: {why}");
            return found(Weight::Risky, message);
        }
    };
    match told.config {
        Some(Syncs { sync_always: true, .. }) => {
            found(Weight::Good, format!("the server at {address} syncs before it acknowledges"))
        }
        Some(Syncs { sync_interval, .. }) => {
            let every = Duration::from_nanos(sync_interval);
            found(
                Weight::Risky,
                format!(
                    "the server at {address} syncs every {every:?}: where most servers lose power \
                     together, what was acknowledged since is lost. Set sync_interval: always in \
                     its jetstream block"
                ),
            )
        }
        None => found(Weight::Risky, format!("the server at {address} has no JetStream")),
    }
}

fn ask(address: &str) -> Result<Told, String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(ASKED_WITHIN)).proxy(None);
    let url = format!("{}/jsz", address.trim_end_matches('/'));
    let mut answer =
        agent.build().new_agent().get(url).call().map_err(|error| error.to_string())?;
    let text = answer.body_mut().with_config().limit(MOST_SAID).read_to_string();
    serde_json::from_str(&text.map_err(|error| error.to_string())?).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(config_of: Config) -> Weight {
        config(&config_of).into_iter().map(|finding| finding.weight).min().unwrap()
    }

    fn good() -> Config {
        Config { deny_delete: true, storage: StorageType::File, ..Config::default() }
    }

    #[test]
    fn a_stream_that_may_forget_is_broken() {
        assert_eq!(worst(good()), Weight::Good);
        assert_eq!(worst(Config { storage: StorageType::Memory, ..good() }), Weight::Broken);
        let retention = RetentionPolicy::WorkQueue;
        assert_eq!(worst(Config { retention, ..good() }), Weight::Broken);
        assert_eq!(worst(Config { no_ack: true, ..good() }), Weight::Broken);
        let persist_mode = Some(PersistenceMode::Async);
        assert_eq!(worst(Config { persist_mode, ..good() }), Weight::Broken);
        let max_age = Duration::from_secs(1);
        assert_eq!(worst(Config { max_age, ..good() }), Weight::Broken);
        let old = Config { max_bytes: 1, discard: DiscardPolicy::Old, ..good() };
        assert_eq!(worst(old), Weight::Broken);
        let new = Config { max_bytes: 1, discard: DiscardPolicy::New, ..good() };
        assert_eq!(worst(new), Weight::Good);
        assert_eq!(worst(Config { deny_delete: false, ..good() }), Weight::Risky);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(version("2.12.1").weight, Weight::Good);
        assert_eq!(version("10.0.0").weight, Weight::Good);
        assert_eq!(version("2.9.25").weight, Weight::Risky);
        assert_eq!(version("odd").weight, Weight::Risky);
    }
}
