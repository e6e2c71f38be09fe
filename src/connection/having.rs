//! Who has a record: what committed cursors say of it.
//!
//! Promise: a user is named once, and only where a connection of it stands past the record, by what
//! it has committed or stated itself; never for a base that is still on its way to it, nor for a
//! gap that it was told in the record's place. What is looked at, and who is named, is bounded, and
//! where that leaves anybody out it is said. Pure: the rows are handed in.

use std::collections::BTreeSet;

use super::{ConnectionRow, Sub};
use crate::log::LogRow;
use crate::wire::{Code, Id, Refusal};

/// Users that are named, at most.
pub const MOST_USERS: usize = 256;

/// What a look at a log's subscribers has come to so far.
#[derive(Clone, Debug)]
pub struct Having {
    /// The log that the record is in, by its id.
    pub log: u64,
    offset: u64,
    after: Option<Id>,
    left: usize,
    users: BTreeSet<String>,
    more: bool,
}

impl Having {
    /// A look that takes in at most so many subscribers.
    pub const fn new(log: u64, offset: u64, most: usize) -> Self {
        Self { log, offset, after: None, left: most, users: BTreeSet::new(), more: false }
    }

    /// The subscriber that was looked at last; they are taken in the order of their ids.
    pub const fn after(&self) -> Option<Id> {
        self.after
    }

    /// How many more are looked at.
    pub const fn left(&self) -> usize {
        self.left
    }

    /// Whether there is anything to be asked of the log, its row being that one. What is no longer
    /// kept is not: a reader may stand past it because it was told of a gap there.
    ///
    /// # Errors
    /// `unknown_log` where there is no such log or it was deleted; `bad_offset` where the record is
    /// not kept any more or not there yet: of those nobody can say who has them.
    pub fn judge(offset: u64, row: Option<&LogRow>) -> Result<(), Refusal> {
        let row = row.filter(|row| !row.deleted).ok_or(Code::UnknownLog)?;
        let (start, head) = (row.start, row.head);
        if (start..head).contains(&offset) {
            return Ok(());
        }
        let message =
            format!("there is no record {offset} here: {start} is the first, {head} next");
        Err(Refusal::because(Code::BadOffset, message))
    }

    /// Adds the next subscriber, with the cursor it has of the log; none: it is gone.
    pub fn add(&mut self, id: Id, row: Option<ConnectionRow>) {
        (self.after, self.left) = (Some(id), self.left.saturating_sub(1));
        let Some(row) = row else { return };
        let reached = row.sub(self.log).and_then(Sub::confirmed);
        if reached.is_some_and(|cursor| cursor > self.offset) {
            self.users.insert(row.user);
        }
        if self.users.len() > MOST_USERS {
            self.users.pop_last();
            self.more = true;
        }
    }

    /// Whether the look is over; `rest`: there are subscribers behind the last one.
    pub const fn over(&mut self, rest: bool) -> bool {
        self.more |= rest && self.left == 0;
        !rest || self.left == 0
    }

    /// The users, sorted, and whether there may be more.
    pub fn named(self) -> (Vec<String>, bool) {
        (self.users.into_iter().collect(), self.more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(user: &str, cursor: u64, base: bool) -> ConnectionRow {
        let mut row = ConnectionRow::new(user, None, 0);
        row.subs.push(Sub { log: 7, cursor, priority: 0, base, opening: 1 });
        row
    }

    fn id(n: u16) -> Id {
        let mut id = [0; 16];
        id[14..].copy_from_slice(&n.to_be_bytes());
        Id(id)
    }

    #[test]
    fn who_stands_past_it_is_named_once_and_sorted() {
        let mut having = Having::new(7, 4, 100);
        let rows = [
            ("zoe", 5, false),
            ("ana", 9, false),
            ("ana", 1, false),
            ("bob", 4, false),
            // The base that holds it is on its way.
            ("eve", 9, true),
        ];
        for (n, (user, cursor, base)) in (0..).zip(rows) {
            having.add(id(n), Some(row(user, cursor, base)));
        }
        having.add(id(90), None);
        having.add(id(91), Some(ConnectionRow::new("ann", None, 0)));
        assert_eq!((having.after(), having.left()), (Some(id(91)), 93));
        assert!(!having.over(true));
        assert!(having.over(false));
        assert_eq!(having.named(), (vec!["ana".to_owned(), "zoe".to_owned()], false));
    }

    #[test]
    fn bounds_are_told() {
        let mut having = Having::new(7, 0, 2);
        having.add(id(1), Some(row("ana", 1, false)));
        assert!(!having.over(true));
        having.add(id(2), Some(row("bob", 1, false)));
        assert!(having.over(true));
        assert_eq!(having.named(), (vec!["ana".to_owned(), "bob".to_owned()], true));

        // Those are left out that come last, in whatever order they are found.
        let mut having = Having::new(7, 0, 10_000);
        for n in (0..300).rev() {
            having.add(id(n), Some(row(&format!("user-{n:03}"), 1, false)));
        }
        assert!(having.over(false));
        let (users, more) = having.named();
        assert_eq!((users.len(), more), (MOST_USERS, true));
        assert_eq!(users.last().unwrap(), "user-255");
        assert!(users.is_sorted());
    }
}
