//! The judgement of an append, the same on every face.
//!
//! Promise: what is wrong with an append for good is found here, in one order and in one wording:
//! the log's name, the right, the record, its size. It goes to the fold as a verdict, which records
//! it under the sequence, so that it is answered alike for ever; a refused record takes no room in
//! the journal.

use crate::auth::{Can, Grants};
use crate::limit::Limits;
use crate::log::{Entry, entry_hash};
use crate::wire::{Code, Position, Record, Refusal, Target, name};

/// A log as an append names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// By its name, which may be none.
    Name(&'a str),
    /// By its id, which is of the log of that name; none: of no log.
    Id(Option<&'a str>),
}

/// Whether a token's user may append to a log.
///
/// # Errors
/// `bad_name`; `epoch` where no log has that id; `denied`, without the name of a log that was
/// named by its id.
pub fn may_append(grants: &Grants, log: Named<'_>) -> Result<(), Refusal> {
    match log {
        Named::Name(name) if name::check(name).is_err() => Err(Code::BadName.into()),
        Named::Id(None) => Err(Code::Epoch.into()),
        Named::Name(name) | Named::Id(Some(name)) if grants.allows(name, Can::Append) => Ok(()),
        Named::Name(name) => {
            let message = format!("no grant of the token allows append on {name}");
            Err(Refusal::because(Code::Denied, message))
        }
        Named::Id(Some(_)) => {
            Err(Refusal::because(Code::Denied, "no grant of the token allows append on this log"))
        }
    }
}

/// Whether a record keeps to the rules that hold in every log.
///
/// # Errors
/// `bad_record`, `too_large`.
pub fn fits(record: &Record, limits: &Limits) -> Result<(), Refusal> {
    record.check().map_err(|bad| Refusal::because(Code::BadRecord, bad.to_string()))?;
    let (size, most) = (record.size(), limits.record_bytes as usize);
    if size > most {
        let message = format!("a record of {size} bytes; at most {most} are allowed");
        return Err(Refusal::because(Code::TooLarge, message));
    }
    Ok(())
}

/// An append that has been looked at, with what is wrong with it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The log, as it was named.
    pub to: Target,
    /// Only if the head stands here.
    pub if_head: Option<u64>,
    /// What to store, as it was sent: also where it is refused, for its hash.
    pub record: Record,
    /// What is wrong with it for good.
    pub verdict: Option<Refusal>,
}

impl Judged {
    /// As the fold takes it: under that sequence, behind the one that the writer sent before, where
    /// the log's id was made by the client's word.
    pub fn entry(self, seq: u64, prev: u64, made: Option<Position>) -> Entry {
        let Self { to, if_head, record, verdict } = self;
        let hash = entry_hash(&to, if_head, &record);
        let (to, record) = match (&verdict, to) {
            (None, to) => (to, record),
            (Some(_), Target::Log(log)) => (Target::Log(log), Record::default()),
            (Some(_), Target::Name(_)) => (Target::Name(String::new()), Record::default()),
        };
        Entry { seq, prev, to, made, if_head, hash, verdict, record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Payload;

    fn grants() -> Grants {
        Grants {
            user: "ana".to_owned(),
            expires_ms: 0,
            issued_ms: None,
            token_id: String::new(),
            grants: serde_json::from_str(r#"[{"logs":"a/**","can":["append"]}]"#).unwrap(),
        }
    }

    fn code(log: Named<'_>) -> Option<Code> {
        may_append(&grants(), log).err().map(|refusal| refusal.code)
    }

    #[test]
    fn names_and_grants_are_judged_before_the_fold() {
        assert_eq!(code(Named::Name("a/b")), None);
        assert_eq!(code(Named::Id(Some("a/b"))), None);
        assert_eq!(code(Named::Name("b")), Some(Code::Denied));
        assert_eq!(code(Named::Id(Some("b"))), Some(Code::Denied));
        assert_eq!(code(Named::Id(None)), Some(Code::Epoch));
        for name in ["a/../b", "a//b", "a/", "a/ä", "a/\u{1}", &format!("a/{}", "x".repeat(254))] {
            assert_eq!(code(Named::Name(name)), Some(Code::BadName), "{name}");
        }
    }

    /// Who names a log by its id may not know what it is called.
    #[test]
    fn a_denial_does_not_tell_the_name_behind_an_id() {
        let told = may_append(&grants(), Named::Id(Some("secret/plan"))).unwrap_err();
        assert!(!told.message.contains("secret"), "{}", told.message);
    }

    #[test]
    fn a_record_is_refused_by_its_own_rules_and_then_by_its_size() {
        let limits = Limits { record_bytes: 3, ..Limits::DEFAULT };
        let of = |text: &str| Record { payload: Some(Payload::text(text)), ..Record::default() };
        assert_eq!(fits(&of("abc"), &limits), Ok(()));
        assert_eq!(fits(&of("abcd"), &limits).unwrap_err().code, Code::TooLarge);
        assert_eq!(fits(&Record::default(), &limits).unwrap_err().code, Code::BadRecord);
    }

    #[test]
    fn a_verdict_takes_no_room_and_keeps_the_hash_of_what_was_asked() {
        let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
        let to = Target::Name("a".to_owned());
        let hash = entry_hash(&to, Some(4), &record);
        let judged = Judged { to, if_head: Some(4), record, verdict: Some(Code::Denied.into()) };
        let entry = judged.entry(7, 6, None);
        assert_eq!((entry.seq, entry.prev, entry.if_head), (7, 6, Some(4)));
        assert_eq!((entry.record, entry.to), (Record::default(), Target::Name(String::new())));
        assert_eq!(entry.hash, hash);
    }
}
