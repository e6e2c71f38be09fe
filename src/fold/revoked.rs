//! Revocations as all nodes know them: users and tokens that no longer count.
//!
//! Promise: their number is bounded, and the bound is decided here, so that it is the same on
//! every node. Of two revocations of one user the later time counts. Layout: `docs/storage.md` §3.

use serde::{Deserialize, Serialize};

use super::apply::Reply;
use crate::connection::Event;
use crate::rows::{Io, More, Rows, RowsError, Table, read_row};
use crate::wire::{Code, MAX_OFFSET, MAX_REVOCATIONS, Refusal, Whom};

/// Rows read at once.
const PAGE: usize = 1_000;

/// One revocation, under the key that [`Whom::to_key`] makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RevokedRow {
    /// Tokens of the user issued before this moment no longer count, in milliseconds since 1970.
    before_ms: u64,
    /// When that was said.
    made: u64,
    /// What the row has grown by.
    more: More,
}

/// How many there are.
#[derive(Debug)]
pub(super) struct Revoked {
    held: usize,
}

impl Revoked {
    /// Counts them.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub(super) fn open(rows: &dyn Rows) -> Result<Self, RowsError> {
        let mut held = 0;
        each(rows, |_, _| held += 1)?;
        Ok(Self { held })
    }

    /// One more, or a later time for one that is there; says whether anything changed.
    pub(super) fn add(
        &mut self,
        whom: Whom,
        before_ms: u64,
        made: u64,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, RowsError> {
        if !whom.is_sound() || before_ms > MAX_OFFSET {
            return Ok(Reply::Refused(Code::BadRequest.into()));
        }
        let key = whom.to_key();
        let mut more = More::default();
        match io.get::<RevokedRow>(Table::Revocations, &key)? {
            Some(row) if row.before_ms >= before_ms => return Ok(Reply::Revoked(false)),
            Some(row) => more = row.more,
            None if self.held >= MAX_REVOCATIONS => {
                let message = format!(
                    "{MAX_REVOCATIONS} revocations are held: take back those whose tokens have \
                     expired"
                );
                return Ok(Reply::Refused(Refusal::because(Code::Overloaded, message)));
            }
            None => self.held += 1,
        }
        io.put(Table::Revocations, key, &RevokedRow { before_ms, made, more });
        events.push(Event::Revoked { whom, before_ms: Some(before_ms) });
        Ok(Reply::Revoked(true))
    }

    /// One less.
    pub(super) fn remove(
        &mut self,
        whom: Whom,
        io: &mut Io<'_>,
        events: &mut Vec<Event>,
    ) -> Result<Reply, RowsError> {
        let key = whom.to_key();
        if io.raw(Table::Revocations, &key)?.is_none() {
            let message = "nothing like that is revoked";
            return Ok(Reply::Refused(Refusal::because(Code::NotFound, message)));
        }
        io.remove(Table::Revocations, key);
        self.held = self.held.saturating_sub(1);
        events.push(Event::Revoked { whom, before_ms: None });
        Ok(Reply::Done)
    }
}

/// Gives out all that a store holds: who, and from when on.
///
/// # Errors
/// When storage fails or a row is damaged.
pub fn each(rows: &dyn Rows, mut take: impl FnMut(Whom, u64)) -> Result<(), RowsError> {
    let mut from = Vec::new();
    loop {
        let page = rows.scan(Table::Revocations, &[], &from, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        from.clone_from(last);
        from.push(0);
        for (key, value) in page {
            let row: RevokedRow = read_row(Table::Revocations, &value)?;
            let whom = Whom::from_key(&key).ok_or_else(|| RowsError::Damaged {
                table: Table::Revocations.name(),
                problem: "a key that names nobody".to_owned(),
            })?;
            take(whom, row.before_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::MemoryRows;

    fn user(name: &str) -> Whom {
        Whom::User(name.to_owned())
    }

    /// Decides on rows as they are, and commits.
    fn decide(
        rows: &mut MemoryRows,
        decide: impl FnOnce(&mut Io<'_>, &mut Vec<Event>) -> Reply,
    ) -> (Reply, Vec<Event>) {
        let mut events = Vec::new();
        let mut io = Io::new(rows);
        let reply = decide(&mut io, &mut events);
        let writes = io.writes;
        rows.commit(&writes);
        (reply, events)
    }

    fn held(rows: &MemoryRows) -> Vec<(Whom, u64)> {
        let mut all = Vec::new();
        each(rows, |whom, before| all.push((whom, before))).unwrap();
        all
    }

    #[test]
    fn the_later_time_counts_and_what_changes_is_told() {
        let mut rows = MemoryRows::default();
        let mut revoked = Revoked::open(&rows).unwrap();
        let mut add = |rows: &mut MemoryRows, before| {
            decide(rows, |io, events| revoked.add(user("ana"), before, 9, io, events).unwrap())
        };
        let told = |before| vec![Event::Revoked { whom: user("ana"), before_ms: before }];
        assert_eq!(add(&mut rows, 5), (Reply::Revoked(true), told(Some(5))));
        assert_eq!(add(&mut rows, 5), (Reply::Revoked(false), vec![]));
        assert_eq!(add(&mut rows, 4), (Reply::Revoked(false), vec![]));
        assert_eq!(add(&mut rows, 6), (Reply::Revoked(true), told(Some(6))));
        assert_eq!(held(&rows), [(user("ana"), 6)]);
        let mut remove = |rows: &mut MemoryRows| {
            decide(rows, |io, events| revoked.remove(user("ana"), io, events).unwrap())
        };
        assert_eq!(remove(&mut rows), (Reply::Done, told(None)));
        assert!(matches!(remove(&mut rows).0, Reply::Refused(why) if why.code == Code::NotFound));
        assert!(held(&rows).is_empty());
    }

    #[test]
    fn names_and_times_that_cannot_be_are_refused() {
        let mut rows = MemoryRows::default();
        let mut revoked = Revoked::open(&rows).unwrap();
        for (name, before) in [(String::new(), 1), ("x".repeat(256), 1), ("a".to_owned(), u64::MAX)]
        {
            let (reply, events) = decide(&mut rows, |io, events| {
                revoked.add(Whom::Token(name), before, 0, io, events).unwrap()
            });
            assert!(matches!(reply, Reply::Refused(_)) && events.is_empty());
        }
    }

    #[test]
    fn no_more_are_held_than_may_be_also_after_a_restart() {
        let mut rows = MemoryRows::default();
        let mut revoked = Revoked::open(&rows).unwrap();
        let add = |revoked: &mut Revoked, rows: &mut MemoryRows, name: &str, before| {
            let whom = Whom::Token(name.to_owned());
            decide(rows, |io, events| revoked.add(whom, before, 0, io, events).unwrap()).0
        };
        for id in 0..MAX_REVOCATIONS {
            assert_eq!(add(&mut revoked, &mut rows, &id.to_string(), 1), Reply::Revoked(true));
        }
        for mut revoked in [revoked, Revoked::open(&rows).unwrap()] {
            let refused = add(&mut revoked, &mut rows, "one more", 1);
            assert!(matches!(refused, Reply::Refused(why) if why.code == Code::Overloaded));
            assert_eq!(add(&mut revoked, &mut rows, "7", 1), Reply::Revoked(false));
            assert_eq!(revoked.held, MAX_REVOCATIONS);
        }
        assert_eq!(held(&rows).len(), MAX_REVOCATIONS, "page by page");
    }
}
