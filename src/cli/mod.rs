//! The command line: each command is a struct of arguments and a function that carries it out.
//!
//! Promise: what was asked for goes to standard output, everything else to standard error; a
//! reader that goes away early ends a command quietly. `docs/cli.md` tells commands and exit codes.

mod backup;
mod check;
mod client;
pub mod config;
mod connections;
mod consume;
mod cursor;
mod error;
mod failure;
mod join;
mod journal;
mod kept;
mod logs;
mod pages;
mod produce;
pub mod token;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Parser, Subcommand};

use crate::node::config::{Loaded, ServeFlags, environment};
use error::CliError;

/// A push service for collaborative apps: a connection is a durable cursor over many logs.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, after_help = AFTER)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Try it:
  highwater serve --dev
  printf 'one\\ntwo\\n' | highwater produce words
  highwater consume words

Commands that talk to a server take --server and --token, or HIGHWATER_URL and HIGHWATER_TOKEN.
Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 no server there, or nothing got through
for a minute (contact lost, a proxy alone answering, no work taken).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node
    Serve(ServeFlags),
    /// Create a log
    Create(logs::CreateArgs),
    /// Append standard input to a log, a record a line
    Produce(produce::ProduceArgs),
    /// Write a log's records to standard output, a payload a line
    Consume(consume::ConsumeArgs),
    /// Write records as they come: consume --from end --follow
    Tail(consume::TailArgs),
    /// List logs
    Logs(logs::LogsArgs),
    /// List a log's pages, or set how large they are from now on
    Pages(pages::PagesArgs),
    /// Look at connections, and operate them
    Connections(connections::ConnectionsArgs),
    /// Take a backup of a running node (right: admin on **), or of a stopped one's folder
    Backup(backup::BackupArgs),
    /// Make a data folder of a backup
    Restore(backup::RestoreArgs),
    /// Make a data folder for another node of a shared journal: --from names one that runs (right:
    /// admin on **)
    Join(join::JoinArgs),
    /// Check the data folder of a stopped node, or a backup: all of it is read
    Check(check::CheckArgs),
    /// Show how far the journal has come, and who knows which version of it (right: admin on **)
    Journal(journal::JournalArgs),
    /// Make and check tokens
    Token(token::TokenArgs),
    /// Check and show the configuration
    Config(config::ConfigArgs),
}

/// Carries out what the process's arguments say.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(flags) => match Loaded::load(&flags, &environment()) {
            Ok(loaded) => return join::serve(loaded),
            Err(error) => Err(CliError::failed(error)),
        },
        Command::Create(args) => logs::create(&args, &mut io::stdout().lock()),
        Command::Produce(args) => produce::run(&args, io::stdin().lock(), &mut io::stderr().lock()),
        Command::Consume(args) => consume::run(&args, io::stdout().lock()),
        Command::Tail(args) => consume::tail(&args, io::stdout().lock()),
        Command::Logs(args) => logs::list(&args, &mut io::stdout().lock()),
        Command::Pages(args) => pages::run(&args, &mut io::stdout().lock()),
        Command::Connections(args) => connections::run(&args, &mut io::stdout().lock()),
        Command::Backup(args) => backup::write(&args, now_ms(), &mut io::stdout().lock()),
        Command::Restore(args) => backup::restore(&args, &mut io::stdout().lock()),
        Command::Join(args) => join::run(&args, &mut io::stdout().lock()),
        Command::Check(args) => check::run(&args, &mut io::stdout().lock()),
        Command::Journal(args) => journal::run(&args, &mut io::stdout().lock()),
        Command::Token(args) => {
            told(token::run(&args, &environment(), &mut io::stdin().lock(), now_ms()))
        }
        Command::Config(args) => told(config::run(&args, &environment())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(text) = error.told() {
                // Where standard error is gone too there is nobody left to tell.
                let _ = writeln!(io::stderr().lock(), "highwater: {text}");
            }
            error.exit_code()
        }
    }
}

/// Writes what a command returns.
fn told(text: Result<String, impl Into<CliError>>) -> Result<(), CliError> {
    let text = text.map_err(Into::into)?;
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(CliError::output)
}

#[allow(clippy::disallowed_methods, reason = "a command has no node, and asks the time once")]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn words_that_must_run_are_understood() {
        for words in [
            "highwater create words --page-size 4096",
            "highwater produce --batch-size 1024 words",
            "highwater consume --fetch-size 512 words",
            "highwater consume words --from 17 --follow --json",
            "highwater consume words --from end",
            "highwater consume words --cursor words.cursor --follow",
            "highwater tail words",
            "highwater logs docs/ --json",
            "highwater pages words --json",
            "highwater pages words --size 0",
            "highwater connections list --user ana",
            "highwater connections show 0123456789abcdef0123456789abcdef",
            "highwater connections downgrade 0123456789abcdef0123456789abcdef",
            "highwater backup x.backup",
            "highwater backup x.backup --data y --json",
            "highwater restore x.backup --data y",
            "highwater check y --json",
            "highwater journal --json",
            "highwater journal upgrade --to 4",
            "highwater journal begin-era",
            "highwater journal forget-node 0123456789abcdef0123456789abcdef",
            "highwater journal move --config highwater.toml --data x",
            "highwater journal check --config highwater.toml --json",
            "highwater serve --listen 127.0.0.1:0 --data x --dev",
            "highwater --version",
        ] {
            let parsed = Cli::try_parse_from(words.split(' '));
            let shown = parsed.as_ref().err().map(clap::Error::kind);
            let fine = parsed.is_ok() || shown == Some(clap::error::ErrorKind::DisplayVersion);
            assert!(fine, "{words}: {shown:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_before_a_server_is_asked() {
        for words in [
            "highwater",
            "highwater produce",
            "highwater produce --batch-size 0 words",
            "highwater produce --batch-size 1025 words",
            "highwater consume --fetch-size 0 words",
            "highwater consume --from middle words",
            "highwater consume --from -1 words",
            "highwater connections show xyz",
            "highwater backup",
            "highwater restore x.backup",
            "highwater restore --data y",
            "highwater create a//b",
            "highwater create ../a",
            "highwater create words --page-size 0",
            "highwater pages words --size -1",
            "highwater journal upgrade",
            "highwater journal upgrade --to -1",
            "highwater journal forget-node",
            "highwater journal forget-node xyz",
        ] {
            assert!(Cli::try_parse_from(words.split(' ')).is_err(), "{words}");
        }
    }
}
