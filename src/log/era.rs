//! Eras: the stretches of one history, and the judgement whether a position is in it.
//!
//! Promise: what this history never had is never taken for it while the era it names is less than a
//! year old. An era is named by random bits, so a history that parted from this one has other eras
//! from there on. Eras that ended more than a year ago are merged into one; what names an era that
//! is not known, with a batch up to the end of the merged one, then counts as this history.

use serde::{Deserialize, Serialize};

use crate::rows::{Io, Key, More, RowsError, Table, read_row};
use crate::wire::{ChainTag, Id, Position};

/// For so long an era is known by its own name after it ended: a year, in milliseconds.
pub const ERA_KEPT: u64 = 365 * 24 * 60 * 60 * 1000;
/// Eras that are merged at most when another begins.
const MERGED_AT_ONCE: usize = 64;

/// One era; its first batch is its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Era {
    /// Its name: random bits.
    pub id: Id,
    /// When it began, by the fold's time.
    pub began: u64,
    /// It stands for all eras before it too, whose names are forgotten.
    pub merged: bool,
    /// What is to come.
    pub more: More,
}

/// What is found of a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// In this history.
    Ours,
    /// In this history if the chain after that batch has this tag, where that is still known.
    If(ChainTag),
    /// Of another one.
    Other,
}

/// All eras of a history, by their first batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Eras(Vec<(u64, Era)>);

impl Eras {
    /// As a store has them; they are few.
    ///
    /// # Errors
    /// When storage fails or a row is damaged.
    pub fn load(io: &Io<'_>) -> Result<Self, RowsError> {
        let rows = io.scan(Table::Eras, &[], &[], usize::MAX >> 1)?;
        let read = rows.into_iter().map(|(key, value)| {
            let first = key.as_slice().try_into().map(u64::from_be_bytes).map_err(|_| {
                let problem = format!("a key of {} bytes", key.len());
                RowsError::Damaged { table: Table::Eras.name(), problem }
            })?;
            Ok((first, read_row(Table::Eras, &value)?))
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// Of rows by their first batches, in that order.
    pub const fn of_rows(rows: Vec<(u64, Era)>) -> Self {
        Self(rows)
    }

    /// The present era.
    pub fn present(&self) -> Option<Id> {
        self.0.last().map(|(_, era)| era.id)
    }

    /// The era of a batch.
    pub fn of(&self, batch: u64) -> Option<Id> {
        let after = self.0.partition_point(|(first, _)| *first <= batch);
        self.0.get(after.checked_sub(1)?).map(|(_, era)| era.id)
    }

    /// The position of a batch, without its chain.
    pub fn position(&self, batch: u64) -> Option<Position> {
        Some(Position { era: self.of(batch)?, batch, chain: None })
    }

    /// Whether a position is in this history, whose newest batch is `head`.
    pub fn judge(&self, position: &Position, head: u64) -> Judged {
        let Position { era, batch, chain } = *position;
        let Some(at) = self.0.iter().rposition(|(_, known)| known.id == era) else {
            let merged = self.0.iter().position(|(_, era)| era.merged);
            let forgotten = merged.is_some_and(|at| batch <= self.last(at, head));
            return if forgotten { Judged::Ours } else { Judged::Other };
        };
        let first = self.0.get(at).map_or(0, |(first, _)| *first);
        if batch < first || batch > self.last(at, head) {
            return Judged::Other;
        }
        chain.map_or(Judged::Ours, Judged::If)
    }

    /// Whether a log id that a client says was made at `stated` is the one that was made in
    /// `batch` here.
    pub fn same_log(&self, batch: u64, stated: &Position) -> bool {
        let by_bounds = Position { chain: None, ..*stated };
        stated.batch == batch && self.judge(&by_bounds, u64::MAX) != Judged::Other
    }

    /// The last batch of an era.
    fn last(&self, at: usize, head: u64) -> u64 {
        self.0.get(at + 1).map_or(head, |(next, _)| next.saturating_sub(1))
    }

    /// An era begins with a batch; of those that ended long ago, names are forgotten.
    pub(crate) fn begin(&mut self, id: Id, batch: u64, time: u64, io: &mut Io<'_>) {
        for _ in 0..MERGED_AT_ONCE {
            // The second one ended when the third began.
            let Some((_, third)) = self.0.get(2) else { break };
            if third.began.saturating_add(ERA_KEPT) > time {
                break;
            }
            let (gone, _) = self.0.remove(1);
            io.remove(Table::Eras, Key::of(gone).build());
            if let Some((first, oldest)) = self.0.first_mut() {
                oldest.merged = true;
                io.put(Table::Eras, Key::of(*first).build(), oldest);
            }
        }
        let era = Era { id, began: time, merged: false, more: More::default() };
        io.put(Table::Eras, Key::of(batch).build(), &era);
        // Two in one batch: the later one stands for both.
        self.0.retain(|(first, _)| *first != batch);
        self.0.push((batch, era));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::MemoryRows;

    fn at(era: u8, batch: u64) -> Position {
        Position { era: Id([era; 16]), batch, chain: None }
    }

    fn begun(eras: &[(u8, u64, u64)]) -> (Eras, MemoryRows) {
        let (mut all, mut rows) = (Eras::default(), MemoryRows::default());
        for (id, batch, time) in eras {
            let mut io = Io::new(&rows);
            all.begin(Id([*id; 16]), *batch, *time, &mut io);
            let writes = io.writes;
            rows.commit(&writes);
        }
        (all, rows)
    }

    #[test]
    fn a_position_is_held_against_the_bounds_of_its_era() {
        let (eras, rows) = begun(&[(1, 1, 0), (2, 10, 1), (3, 20, 2)]);
        assert_eq!(Eras::load(&Io::new(&rows)).unwrap(), eras);
        assert_eq!(Eras::of_rows(eras.0.clone()), eras);
        assert_eq!(ERA_KEPT, 31_536_000_000, "a year");
        for (position, wanted) in [
            (at(1, 1), Judged::Ours),
            (at(1, 9), Judged::Ours),
            (at(1, 10), Judged::Other),
            (at(2, 9), Judged::Other),
            (at(2, 19), Judged::Ours),
            (at(3, 25), Judged::Ours),
            (at(3, 26), Judged::Other),
            (at(4, 1), Judged::Other),
        ] {
            assert_eq!(eras.judge(&position, 25), wanted, "{position}");
        }
        let told = Position { chain: Some([7; 8]), ..at(2, 12) };
        assert_eq!(eras.judge(&told, 25), Judged::If([7; 8]));
        assert_eq!(eras.present(), Some(Id([3; 16])));
        assert_eq!(eras.of(19), Some(Id([2; 16])));
        assert_eq!(eras.of(0), None);
    }

    #[test]
    fn eras_that_ended_a_year_ago_count_as_one() {
        let year = ERA_KEPT;
        let (eras, rows) = begun(&[(1, 1, 0), (2, 10, 5), (3, 20, 6), (4, 30, year + 6)]);
        assert_eq!(Eras::load(&Io::new(&rows)).unwrap(), eras);
        // The second ended when the third began, a year before the fourth.
        for (position, wanted) in [
            (at(2, 19), Judged::Ours),
            (at(9, 19), Judged::Ours),
            (at(9, 20), Judged::Other),
            (at(1, 19), Judged::Ours),
            (at(3, 29), Judged::Ours),
            (at(3, 30), Judged::Other),
        ] {
            assert_eq!(eras.judge(&position, 99), wanted, "{position}");
        }
        let (eras, _) = begun(&[(1, 1, 0), (2, 10, 5), (3, 20, 6), (4, 30, year + 5)]);
        assert_eq!(eras.judge(&at(9, 1), 99), Judged::Other, "a day too early");
    }

    #[test]
    fn a_log_is_known_by_where_it_was_made() {
        let (eras, _) = begun(&[(1, 1, 0), (2, 10, 1)]);
        assert!(eras.same_log(5, &at(1, 5)));
        assert!(!eras.same_log(5, &at(1, 6)));
        assert!(!eras.same_log(12, &at(1, 12)), "made in another history's end of that era");
        assert!(!eras.same_log(5, &at(9, 5)));
    }
}
