//! `config check` and `config show`: what a node would run with, without running it.
//!
//! Promise: both read what `serve` reads with the same flags, by the same code, and change
//! nothing. The text to print is returned; an error means exit code 1.

use clap::{Args, Subcommand};

use super::error::CliError;
use crate::node::config::{ConfigError, Loaded, ServeFlags};

/// Arguments of `config`.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration; exit code 1 and all problems if there are any
    Check(ServeFlags),
    /// Show the configuration in force, with the source of each value; secrets are hidden
    Show(ServeFlags),
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::failed(error)
    }
}

/// Carries out `config`; what it returns is for standard output.
///
/// # Errors
/// [`ConfigError`] with everything that is wrong.
pub fn run(args: &ConfigArgs, environment: &[(String, String)]) -> Result<String, ConfigError> {
    match &args.command {
        ConfigCommand::Check(flags) => {
            let loaded = Loaded::load(flags, environment)?;
            let file =
                loaded.file().map_or("no file".to_owned(), |file| file.display().to_string());
            Ok(warned(&loaded, "warning: ") + &format!("the configuration is good ({file})\n"))
        }
        ConfigCommand::Show(flags) => {
            let loaded = Loaded::load(flags, environment)?;
            Ok(warned(&loaded, "# warning: ") + &loaded.show())
        }
    }
}

/// A line per warning.
fn warned(loaded: &Loaded, mark: &str) -> String {
    loaded.warnings().iter().map(|warning| format!("{mark}{warning}\n")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: ConfigArgs,
    }

    fn told(words: &str) -> Result<String, ConfigError> {
        let words = std::iter::once("config").chain(words.split(' '));
        run(&Command::parse_from(words).args, &[])
    }

    #[test]
    fn an_unknown_variable_is_warned_of() {
        let environment = [("HIGHWATER_LIMIT_SOCKETS".to_owned(), "1".to_owned())];
        let told = |words: &str| {
            let words = ["config", words, "--dev"];
            run(&Command::parse_from(words).args, &environment).unwrap()
        };
        let warning = "warning: HIGHWATER_LIMIT_SOCKETS: unknown variable, left aside; did you \
                       mean HIGHWATER_LIMITS_SOCKETS?\n";
        assert_eq!(told("check"), format!("{warning}the configuration is good (no file)\n"));
        assert!(told("show").starts_with(&format!("# {warning}")));
    }

    #[test]
    fn check_says_good_or_everything_that_is_wrong() {
        assert_eq!(told("check --dev").unwrap(), "the configuration is good (no file)\n");
        let error = told("check --listen nowhere --set limits.sockets=0").unwrap_err();
        assert_eq!(error.0.len(), 3, "{error}");
    }

    #[test]
    fn show_prints_what_is_in_force() {
        let shown = told("show --dev --data /tmp/x --set limits.sockets=5").unwrap();
        assert!(shown.contains("data = \"/tmp/x\"  # --data\n"), "{shown}");
        assert!(shown.contains("sockets = 5  # --set (count)\n"), "{shown}");
    }
}
