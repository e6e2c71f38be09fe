//! Where a client stands in one log, and what it holds the server to at each frame of it.
//!
//! Promise: what comes through is each record once, in the order of offsets, behind a base or a gap
//! that explains where it begins (promises 1 and 7); anything else is a breach.

use crate::wire::{
    Base, BaseHeld, BaseRecords, Gap, Place, Position, Records, Reset, SnapshotRule, Subscribed,
    Upto,
};

use super::event::Breach;

/// What a client knows of one log. What it folds of it is the app's.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its name.
    pub name: String,
    /// Its id.
    pub log: u64,
    /// How its state is kept.
    pub rule: SnapshotRule,
    /// Its priority.
    pub priority: u8,
    /// First offset kept, when it was subscribed.
    pub start: u64,
    /// Its head, when it was subscribed.
    pub head: u64,
    /// The next offset wanted.
    pub cursor: u64,
    /// It may be shown when the cursor has reached this.
    pub complete: u64,
    /// Whether the base that was told of has come in full.
    pub whole: bool,
    /// Whether it is subscribed on the present socket.
    pub open: bool,
    /// Whether it is held: told of, and nothing of it follows until it is opened.
    pub held: bool,
    /// What is held is of another history: a reset has to come before anything else.
    pub stale: bool,
    /// Where the log id was made.
    pub made: Option<Position>,
    reset_due: bool,
    /// Offset of the base that it began with.
    base: Option<u64>,
    parts: u32,
    last_key: Option<String>,
    last_place: Option<Place>,
    /// The gap from here to there explains a cursor behind what was held; it follows at once.
    gap_due: Option<(u64, u64)>,
    /// The request of its own that opened it last.
    pub(super) opened_by: u32,
}

/// What records came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// They follow the cursor; so many at their beginning were dropped, because they came before.
    After(usize),
    /// Something is missing before them.
    Beyond,
}

impl Log {
    pub(super) fn new(told: &Subscribed) -> Self {
        Self {
            name: told.name.clone(),
            log: told.log,
            rule: told.rule,
            priority: told.priority,
            start: told.start,
            head: told.head,
            cursor: told.cursor,
            complete: told.complete,
            whole: true,
            open: false,
            held: told.held,
            stale: false,
            made: told.made,
            reset_due: told.reset,
            base: None,
            parts: 0,
            last_key: None,
            last_place: None,
            gap_due: None,
            opened_by: 0,
        }
    }

    /// A log that a run before this one held, up to an offset.
    pub(super) fn kept(name: &str, log: u64, next: u64) -> Self {
        let told = Subscribed {
            request: 0,
            name: name.to_owned(),
            log,
            priority: 0,
            rule: SnapshotRule::None,
            start: 0,
            head: next,
            cursor: next,
            complete: next,
            reset: false,
            made: None,
            held: false,
            base: None,
        };
        Self::new(&told)
    }

    /// Whether its state may be spoken for in `have`: nothing of it is still to come.
    pub const fn holds(&self) -> bool {
        self.whole && !self.reset_due && !self.stale && !self.held && self.gap_due.is_none()
    }

    /// Whether it may be shown.
    pub const fn shown(&self) -> bool {
        self.holds() && self.cursor >= self.complete
    }

    /// Whether its app has something of it that nothing can go on from.
    pub(super) const fn is_broken(&self) -> bool {
        !self.holds() && !self.held
    }

    /// The base that has begun and is not whole, where something of it is held.
    pub fn begun(&self) -> Option<BaseHeld> {
        let offset = self.base.filter(|_| !self.whole && !self.reset_due && !self.stale)?;
        let upto = match (self.rule, &self.last_key) {
            (SnapshotRule::Latest, Some(key)) => Upto::Key(key.clone()),
            (SnapshotRule::Client, _) if self.parts > 0 => Upto::Parts(self.parts),
            _ => return None,
        };
        Some(BaseHeld { log: self.log, offset, upto })
    }

    /// It is told of again, on the same socket or on another.
    pub(super) fn subscribed(&mut self, told: &Subscribed) -> Result<(), Breach> {
        let log = self.log;
        if told.held || self.held {
            // Of a log that is held a client holds nothing: it begins anew.
            *self = Self { open: true, opened_by: self.opened_by, ..Self::new(told) };
            return Ok(());
        }
        if self.stale && !told.reset {
            return Err(Breach::Stale { log });
        }
        if let Some(base) = &told.base {
            if told.reset || self.begun().as_ref() != Some(base) || told.cursor != base.offset {
                return Err(Breach::OtherBase { log });
            }
        } else if !self.whole && !self.open && !told.reset {
            return Err(Breach::BaseForgotten { log });
        }
        if !told.reset && told.base.is_none() {
            self.goes_on_at(told)?;
        }
        self.made = told.made;
        // The rules may have changed meanwhile.
        (self.rule, self.priority) = (told.rule, told.priority);
        (self.start, self.head) = (told.start, told.head);
        self.complete = told.complete;
        self.reset_due = told.reset;
        self.open = true;
        Ok(())
    }

    /// Without a reset what is held counts: asked again, the cursor stays; after a time away, only
    /// what was trimmed meanwhile may be missing, and a gap says so.
    fn goes_on_at(&mut self, told: &Subscribed) -> Result<(), Breach> {
        let breach = Breach::Cursor { log: self.log, told: told.cursor, held: self.cursor };
        if self.open || told.cursor <= self.cursor {
            return if told.cursor == self.cursor { Ok(()) } else { Err(breach) };
        }
        if told.cursor != told.start {
            return Err(breach);
        }
        self.gap_due = Some((self.cursor, told.cursor));
        Ok(())
    }

    /// Whether a frame of it may come now, of those that follow its announcement.
    fn expects(&self, frame: &'static str) -> Result<(), Breach> {
        let log = self.log;
        if self.held {
            return Err(Breach::OfHeld { log, frame });
        }
        if self.reset_due {
            return Err(Breach::BeforeReset { log, frame });
        }
        Ok(())
    }

    pub(super) fn reset(&mut self, told: &Reset) -> Result<(), Breach> {
        let (log, frame) = (self.log, "reset");
        if self.held {
            return Err(Breach::OfHeld { log, frame });
        }
        if let Some(base) = &told.base
            && (base.rule != self.rule || base.offset != told.cursor)
        {
            return Err(Breach::OtherBase { log });
        }
        (self.parts, self.last_key, self.last_place) = (0, None, None);
        self.base = told.base.map(|base| base.offset);
        self.whole = told.base.is_none();
        (self.cursor, self.complete) = (told.cursor, told.complete);
        (self.reset_due, self.stale, self.gap_due) = (false, false, None);
        Ok(())
    }

    pub(super) fn base(&mut self, told: &Base) -> Result<(), Breach> {
        self.expects("base")?;
        if self.whole || told.part != self.parts {
            return Err(Breach::BaseOrder { log: self.log });
        }
        if self.base != Some(told.offset) {
            return Err(Breach::OtherBase { log: self.log });
        }
        self.parts += 1;
        self.whole = told.last;
        if told.last {
            self.cursor = self.cursor.max(told.offset);
        }
        Ok(())
    }

    pub(super) fn base_records(&mut self, told: &BaseRecords) -> Result<(), Breach> {
        self.expects("base_records")?;
        let log = self.log;
        if self.whole {
            return Err(Breach::BaseOrder { log });
        }
        if self.base != Some(told.offset) {
            return Err(Breach::OtherBase { log });
        }
        for kept in &told.records {
            // Newer ones come as records; a tombstone is not kept; keys come once and in order.
            let record = &kept.record.record;
            let rises = record.key.is_some() && self.last_key < record.key;
            if kept.offset >= told.offset || record.payload.is_none() || !rises {
                return Err(Breach::BaseOrder { log });
            }
            self.last_key.clone_from(&record.key);
        }
        if told.last {
            if told.complete < self.complete.min(told.offset) {
                return Err(Breach::BaseOrder { log });
            }
            self.whole = true;
            self.complete = self.complete.max(told.complete);
            self.cursor = self.cursor.max(told.offset);
        }
        Ok(())
    }

    pub(super) fn gap(&mut self, told: &Gap) -> Result<(), Breach> {
        self.expects("gap")?;
        let Gap { log, from, to, .. } = *told;
        if from > self.cursor || from >= to {
            return Err(Breach::Gap { log, from, to, cursor: self.cursor });
        }
        self.cursor = self.cursor.max(to);
        self.gap_due = None;
        Ok(())
    }

    /// Law 5: exactly the next offset. Repeats are taken off the frame.
    pub(super) fn records(&mut self, told: &mut Records) -> Result<Came, Breach> {
        self.expects("records")?;
        let log = self.log;
        if !self.whole {
            return Err(Breach::BeforeBase { log, frame: "records" });
        }
        if told.records.is_empty() {
            return Err(Breach::Empty { log });
        }
        let Some(before) = self.cursor.checked_sub(told.base) else { return Ok(Came::Beyond) };
        if self.gap_due.is_some() {
            return Ok(Came::Beyond);
        }
        let before = usize::try_from(before).unwrap_or(usize::MAX).min(told.records.len());
        told.records.drain(..before);
        told.base += before as u64;
        for record in &told.records {
            if self.last_place.is_some_and(|last| last >= record.place) {
                return Err(Breach::Places { log });
            }
            self.last_place = Some(record.place);
        }
        self.cursor += told.records.len() as u64;
        Ok(Came::After(before))
    }
}
