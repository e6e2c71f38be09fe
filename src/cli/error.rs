//! Why a command did not do what was asked, and the exit code that says so.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// It was refused, or failed: exit code 1.
    #[error("{0}")]
    Failed(String),
    /// The arguments contradict each other: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// No server, or no longer one: exit code 3.
    #[error("{0}")]
    Unreachable(String),
    /// Whoever read the output has gone; nobody is waiting for more, so all is well.
    #[error("")]
    Unread,
}

impl CliError {
    /// Something failed; its own words tell what to do.
    pub(super) fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The output could not be written.
    pub(super) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::Unread;
        }
        Self::Failed(format!("the output could not be written: {error}"))
    }

    /// What goes to standard error, if anything.
    pub(super) fn told(&self) -> Option<String> {
        match self {
            Self::Unread => None,
            Self::Failed(_) | Self::Usage(_) | Self::Unreachable(_) => Some(self.to_string()),
        }
    }

    /// The exit code, as documented.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Unread => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let gone = CliError::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(gone.told(), None);
        assert_eq!(gone.exit_code(), ExitCode::SUCCESS);
        let full = CliError::output(io::ErrorKind::StorageFull.into());
        assert!(full.told().unwrap().contains("could not be written"));
        assert_ne!(full.exit_code(), ExitCode::SUCCESS);
    }
}
