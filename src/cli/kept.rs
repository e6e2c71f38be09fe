//! What a command keeps to once a server has answered: the log by its id, and the history.
//!
//! Promise: a command that has begun in one log and one history never goes on in another in
//! silence. It says with each request which ones it means, and looks at each answer.

use ureq::Body;
use ureq::http::Response;

use super::failure::{Failure, Refused, number};
use crate::wire::{Code, Position};

/// The header that tells and states a position.
const POSITION: &str = "Highwater-Position";
/// The header that tells and states the log's id.
const LOG: &str = "Highwater-Log";

/// The log and the history of what was answered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// The log's id.
    pub log: Option<u64>,
    /// The newest position that was told.
    pub position: Option<Position>,
}

impl Kept {
    /// What goes with a request.
    pub(super) fn headers(&self) -> Vec<(&'static str, String)> {
        let log = self.log.map(|log| (LOG, log.to_string()));
        let position = self.position.map(|position| (POSITION, position.to_string()));
        log.into_iter().chain(position).collect()
    }

    /// Looks at an answer to a reader.
    ///
    /// # Errors
    /// `epoch` when it is of another log, which a server that does not know the header gives.
    pub(super) fn read(&mut self, answer: &Response<Body>) -> Result<(), Failure> {
        self.in_log(number(answer, LOG)?)?;
        self.told(answer)
    }

    /// Looks at the log that an answer speaks of.
    ///
    /// # Errors
    /// `epoch` when it is another one.
    pub(super) fn in_log(&mut self, log: u64) -> Result<(), Failure> {
        if self.log.is_some_and(|kept| kept != log) {
            let message = format!("the name leads to log {log} now");
            return Err(Failure::Refused(Box::new(Refused::because(Code::Epoch, message))));
        }
        self.log = Some(log);
        Ok(())
    }

    /// Looks at the position that an answer tells.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn told(&mut self, answer: &Response<Body>) -> Result<(), Failure> {
        let Some(told) = answer.headers().get(POSITION) else { return Ok(()) };
        let told = told.to_str().ok().and_then(|text| text.parse().ok());
        let told = told.ok_or_else(|| Failure::foreign(format_args!("{POSITION} is none")))?;
        self.position = Some(told);
        Ok(())
    }
}

/// Why it cannot be gone on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parted {
    /// The log is gone: what happened, in words.
    Log(String),
    /// The history is another one: what happened, in words.
    History(String),
}

/// Whether a failure says that it cannot be gone on in the log of that name.
pub(super) fn parted(failure: &Failure, kept: &Kept, name: &str) -> Option<Parted> {
    let Failure::Refused(refused) = failure else { return None };
    let id = kept.log.map(|log| format!(" (log {log})")).unwrap_or_default();
    match Code::from_name(&refused.code)? {
        Code::Epoch => Some(Parted::Log(format!(
            "epoch: the log {name}{id} was deleted, and may have been made anew under its name"
        ))),
        Code::OtherHistory => Some(Parted::History(format!(
            "other_history: the server does not know what this has seen of {name}: a backup was \
             restored, its folder was copied or made anew, or it is another server"
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(log: &str, position: Option<&str>) -> Response<Body> {
        let answer = Response::builder().header(LOG, log);
        let told = position.into_iter().fold(answer, |answer, told| answer.header(POSITION, told));
        told.body(Body::builder().data("")).unwrap()
    }

    #[test]
    fn the_log_stays_and_the_position_follows() {
        let (first, second) = (format!("{}.1", "07".repeat(16)), format!("{}.2", "08".repeat(16)));
        let mut kept = Kept::default();
        assert!(kept.headers().is_empty());
        kept.read(&answer("5", Some(&first))).unwrap();
        kept.read(&answer("5", Some(&second))).unwrap();
        kept.read(&answer("5", None)).unwrap();
        assert_eq!(kept.headers(), [(LOG, "5".to_owned()), (POSITION, second)]);
        let failure = kept.read(&answer("6", None)).unwrap_err();
        assert!(!failure.may_pass(), "it is not asked again");
        let told = parted(&failure, &kept, "words").unwrap();
        let begins = |text: &str| text.starts_with("epoch: the log words (log 5) was deleted");
        assert!(matches!(&told, Parted::Log(text) if begins(text)), "{told:?}");
        assert_eq!(kept.log, Some(5));
    }

    #[test]
    fn what_is_no_position_is_no_answer_of_ours() {
        let failure = Kept::default().read(&answer("5", Some("12"))).unwrap_err();
        assert!(matches!(failure, Failure::Foreign(_)), "{failure:?}");
        assert_eq!(parted(&failure, &Kept::default(), "a"), None);
    }
}
