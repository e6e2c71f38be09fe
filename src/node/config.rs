//! Configuration: defaults, then a TOML file, then the environment, then flags; the later wins.
//!
//! Promise: loose text becomes a checked [`Config`] once, and nobody asks again whether it is
//! valid. All problems are reported together, each with the file and line, the variable or the
//! flag that it stands in; an unknown key is one of them and names the nearest known one. An
//! unknown variable is a warning, since an environment is shared with others. Secrets are never
//! printed. `docs/configuration.md` lists every key.

mod check;
mod engine;
mod known;
mod layers;
mod show;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::auth::{Authority, BadVerifier, Key, KeyError, Origins, Signer, Verifier};
use crate::journal::NatsSettings;
use crate::limit::{Limits, Rules};

pub use layers::Source;

/// Flags of `serve`, and of all commands that read the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ServeFlags {
    /// Configuration file (TOML); also HIGHWATER_CONFIG
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Folder that everything is kept in
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<String>,
    /// Development: no keys needed, every right for everyone; this machine only
    #[arg(long)]
    pub dev: bool,
    /// How the log is written
    #[arg(long, value_name = "FORMAT", value_parser = ["human", "json"])]
    pub log_format: Option<String>,
    /// Any key of the configuration; may be given many times
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Human,
    /// An object per line.
    Json,
}

/// Where the journal is kept.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Engine {
    /// In the data folder of this node.
    #[default]
    Local,
    /// In a stream of NATS JetStream, which many nodes share.
    Nats(NatsSettings),
}

/// Section `[server]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where clients and other nodes reach it, `https://HOST[:PORT]`; empty: it does not say.
    pub advertise: String,
    /// Where everything is kept.
    pub data: PathBuf,
    /// Development: on a loopback address only.
    pub dev: bool,
    /// Pages that may connect.
    pub origins: Origins,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Whether an append to a log that does not exist makes it.
    pub auto_create: bool,
}

/// Section `[auth]`.
#[derive(Clone, Debug)]
pub struct AuthConfig {
    /// The keys that sign tokens; at least one but in development.
    pub keys: Vec<Key>,
    /// One of these has to stand in a token's `aud`; empty: it is not looked at.
    pub audience: Vec<String>,
    /// Seconds that clocks may differ.
    pub leeway_seconds: u64,
}

/// Section `[journal]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Where it is kept.
    pub engine: Engine,
    /// Bytes of folded batches that it keeps besides those still needed.
    pub keep_bytes: u64,
    /// Of one that nodes share: so many have a batch on disk before it goes.
    pub copies: u64,
    /// Of one that nodes share: so long a batch stays in any case.
    pub keep_seconds: u64,
    /// Of one that nodes share: the node takes no records.
    pub follower: bool,
    /// Of one that nodes share: of whom this node is made anew.
    pub copy_from: CopyFrom,
}

/// Nodes that a node is copied from where its own store is of no use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CopyFrom {
    /// Their addresses; the first that gives a copy will do. None: it is not made anew.
    pub nodes: Vec<String>,
    /// A file with a token that has `admin` on `**`.
    pub token_file: Option<PathBuf>,
}

impl CopyFrom {
    /// The token, where one is named.
    ///
    /// # Errors
    /// When the file cannot be read; in words.
    pub fn token(&self) -> Result<Option<String>, String> {
        let Some(file) = &self.token_file else { return Ok(None) };
        match std::fs::read_to_string(file) {
            Ok(token) => Ok(Some(token.trim().to_owned())),
            Err(error) => Err(format!("journal.copy_token_file {}: {error}", file.display())),
        }
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Section `[server]`.
    pub server: ServerConfig,
    /// Section `[auth]`.
    pub auth: AuthConfig,
    /// Section `[limits]`; bounds and relations hold.
    pub limits: Limits,
    /// Section `[journal]`.
    pub journal: JournalConfig,
    /// The list `[[rules]]`; in development with `demo/**` as its last.
    pub rules: Rules,
}

impl Config {
    /// Who is believed under this configuration. In development that takes the data folder's
    /// secret ([`super::secret::of_data_folder`]); otherwise it is left aside.
    ///
    /// # Errors
    /// [`AuthorityError`], about the secret; the rest was checked.
    pub fn authority(&self, dev_secret: Option<&[u8]>) -> Result<Authority, AuthorityError> {
        let mut keys = self.auth.keys.clone();
        let mut signer = None;
        if self.server.dev {
            let secret = dev_secret.ok_or(AuthorityError::NoSecret)?;
            keys.push(Key::from_secret(None, secret)?);
            signer = Some(Signer::from_secret(None, secret)?);
        }
        let verifier = Verifier::new(keys, self.auth.audience.clone(), self.auth.leeway_seconds)?;
        Ok(Authority::new(verifier, self.server.origins.clone(), signer))
    }
}

/// Why nobody could be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// Development without its secret.
    #[error("--dev needs the secret of the data folder")]
    NoSecret,
    /// The secret is too short.
    #[error("the secret of the data folder: {0}")]
    Secret(#[from] KeyError),
    /// The keys do not go together.
    #[error(transparent)]
    Keys(#[from] BadVerifier),
}

/// One thing that is wrong, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File and line, variable, flag, or the key itself.
    pub place: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigError(pub Vec<Problem>);

/// One line per problem.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A checked configuration with the source of each value.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    file: Option<PathBuf>,
    settings: layers::Settings,
    warnings: Vec<Problem>,
}

impl Loaded {
    /// Reads, layers and checks: the file that flag or `HIGHWATER_CONFIG` names, the environment
    /// (see [`environment`]) and the flags. Reads the configuration file and the key files,
    /// nothing else.
    ///
    /// # Errors
    /// [`ConfigError`] with everything that is wrong.
    pub fn load(flags: &ServeFlags, environment: &[(String, String)]) -> Result<Self, ConfigError> {
        let (mut problems, mut warnings) = (Vec::new(), Vec::new());
        let file = layers::file_of(flags, environment);
        let settings =
            layers::collect(file.as_deref(), flags, environment, &mut problems, &mut warnings);
        let Some(settings) = settings else { return Err(ConfigError(problems)) };
        let config = check::config(&settings, &mut problems);
        if problems.is_empty() {
            Ok(Self { config, file, settings, warnings })
        } else {
            Err(ConfigError(problems))
        }
    }

    /// The configuration file, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What looks like a mistake and may be none: unknown variables.
    pub fn warnings(&self) -> &[Problem] {
        &self.warnings
    }

    /// The effective configuration as TOML, each line with the source of its value; secrets are
    /// left out.
    pub fn show(&self) -> String {
        show::show(&self.settings, self.config.server.dev)
    }

    /// Where the value of a key, `section.key`, comes from; none where there is no such key.
    pub fn source(&self, path: &str) -> Option<&Source> {
        self.settings.get(path).map(|setting| &setting.source)
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The variables of this process whose names begin with `HIGHWATER_`.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(layers::PREFIX).then(|| (name, value.to_string_lossy().into_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests;
