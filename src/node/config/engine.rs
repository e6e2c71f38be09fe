//! Section `[journal]`: which engine, and how it is reached.
//!
//! Promise: what would only be noticed once servers are asked is left to them; what is plainly
//! wrong is said here. Passwords stand in files, so that no configuration that is shown has one.

use std::path::PathBuf;

use super::check::Checking;
use super::{CopyFrom, Engine, JournalConfig};
use crate::journal::NatsSettings;

/// Most addresses of one list.
const MOST_ADDRESSES: usize = 32;
/// Longest name of a stream, in bytes; it is a subject and a folder of the servers too.
const MOST_NAME: usize = 64;
/// Most nodes that may have to have a batch on disk before it goes.
const MOST_COPIES: u64 = 16;
/// How many copies a stream may have.
const COPIES: [u64; 3] = [1, 3, 5];
/// How nodes are addressed, and monitoring.
const WEB: [&str; 2] = ["http://", "https://"];
/// How servers are addressed.
const SCHEMES: [&str; 2] = ["nats://", "tls://"];

/// What means nothing without an engine on other servers.
const OF_NATS: [&str; 12] = [
    "journal.servers",
    "journal.replicas",
    "journal.follower",
    "journal.copies",
    "journal.keep_seconds",
    "journal.copy_from",
    "journal.copy_token_file",
    "journal.user",
    "journal.password_file",
    "journal.credentials_file",
    "journal.ca_file",
    "journal.monitoring",
];

impl Checking<'_> {
    pub(super) fn journal(&mut self) -> JournalConfig {
        let keep_bytes = self.number("journal.keep_bytes");
        let engine = match self.text("journal.engine") {
            "local" => self.local(),
            "nats" => Engine::Nats(self.nats()),
            "kafka" => {
                self.wrong("journal.engine", "the engine kafka is not built; local and nats are");
                Engine::Local
            }
            engine => {
                let message = format!("there is no engine {engine:?}: local or nats");
                self.wrong("journal.engine", &message);
                Engine::Local
            }
        };
        let (copies, keep_seconds) =
            (self.number("journal.copies"), self.number("journal.keep_seconds"));
        if !(1..=MOST_COPIES).contains(&copies) {
            self.wrong("journal.copies", &format!("1 to {MOST_COPIES} nodes"));
        }
        let nodes = self.addresses("journal.copy_from", &WEB);
        let copy_from = CopyFrom { nodes, token_file: self.file("copy_token_file") };
        let follower = self.switch("journal.follower");
        JournalConfig { engine, keep_bytes, copies, keep_seconds, follower, copy_from }
    }

    /// A node that was meant to share a journal must not begin one of its own.
    fn local(&mut self) -> Engine {
        let set = OF_NATS.into_iter().find(|path| self.is_set(path));
        if let Some(path) = set {
            self.wrong(path, "it counts with journal.engine = \"nats\" alone, and that is not set");
        }
        Engine::Local
    }

    fn nats(&mut self) -> NatsSettings {
        let servers = self.addresses("journal.servers", &SCHEMES);
        if servers.is_empty() {
            self.wrong("journal.servers", "at least one is needed, such as nats://10.0.0.1:4222");
        }
        let monitoring = self.addresses("journal.monitoring", &WEB);
        let stream = self.text("journal.stream").to_owned();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(1..=MOST_NAME).contains(&stream.len()) || !stream.bytes().all(plain) {
            let message = format!(
                "{stream:?} is no name of a stream: 1 to {MOST_NAME} letters, digits, - and _"
            );
            self.wrong("journal.stream", &message);
        }
        let replicas = self.number("journal.replicas");
        if !COPIES.contains(&replicas) {
            self.wrong("journal.replicas", "1 to try it, 3 or 5 so that servers may fail");
        }
        let user = Some(self.text("journal.user")).filter(|user| !user.is_empty());
        let user = user.map(str::to_owned);
        let [password_file, credentials_file, ca_file] =
            ["password_file", "credentials_file", "ca_file"].map(|key| self.file(key));
        if user.is_some() != password_file.is_some() {
            self.wrong("journal.user", "user and password_file go together");
        }
        if user.is_some() && credentials_file.is_some() {
            self.wrong("journal.credentials_file", "either this, or user and password_file");
        }
        NatsSettings {
            servers,
            stream,
            replicas: usize::try_from(replicas).unwrap_or(1),
            user,
            password_file,
            credentials_file,
            ca_file,
            monitoring,
        }
    }

    /// A file that is there, where one is named.
    fn file(&mut self, key: &str) -> Option<PathBuf> {
        let path = format!("journal.{key}");
        let file = PathBuf::from(self.text(&path));
        if file.as_os_str().is_empty() {
            return None;
        }
        if !file.is_file() {
            self.wrong(&path, &format!("{} is no file", file.display()));
        }
        Some(file)
    }

    /// Addresses that begin with one of these, and bear no password.
    fn addresses(&mut self, path: &str, schemes: &[&str]) -> Vec<String> {
        let all = self.texts(path);
        if all.len() > MOST_ADDRESSES {
            self.wrong(path, &format!("at most {MOST_ADDRESSES}, there are {}", all.len()));
        }
        for address in &all {
            let rest = schemes.iter().find_map(|scheme| address.strip_prefix(scheme));
            let message = match rest {
                None => format!("{address:?} begins with none of {}", schemes.join(", ")),
                // Not shown: it may hold a password.
                Some(rest) if rest.contains('@') => "who this node is does not stand in an \
                    address: journal.credentials_file, or journal.user and journal.password_file"
                    .to_owned(),
                Some(rest) if rest.is_empty() || rest.contains(char::is_whitespace) => {
                    format!("{address:?} names no server")
                }
                Some(_) => continue,
            };
            self.wrong(path, &message);
        }
        all
    }
}
