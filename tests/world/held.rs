//! What a client keeps of one log, and what it holds the server to at each frame.

use std::collections::BTreeMap;

use highwater::wire::{
    Base, BaseHeld, BaseRecords, Gap, Position, Records, Reset, SnapshotRule, Subscribed, Upto,
};

use crate::oracle::{Oracle, Seen, demand, fold};

#[derive(Clone, Debug)]
pub struct Held {
    pub name: String,
    pub log: u64,
    pub rule: SnapshotRule,
    pub cursor: u64,
    pub complete: u64,
    /// Offset of the base that it began with, and what has come of it.
    base: Option<u64>,
    bytes: Vec<u8>,
    parts: u32,
    last_key: Option<String>,
    pub whole: bool,
    reset_due: bool,
    /// A gap has to follow: up to here.
    gap_due: Option<u64>,
    /// Subscribed on the present socket.
    pub open: bool,
    pub held: bool,
    pub made: Option<Position>,
    /// What is held is of another history.
    pub stale: bool,
    /// All records below the cursor, folded; none where some are missing.
    pub state: Option<u64>,
    pub keys: BTreeMap<String, (u64, Vec<u8>)>,
    /// Whether `keys` are all there are.
    pub exact: bool,
}

/// What a client asked for and has no answer to: of one log, by one request.
#[derive(Debug, Default)]
pub struct Asked {
    /// For less than the state: it said what it has, or where to begin.
    pub less: bool,
    /// What it stated, as it was then. That counts until it is answered, also where the log ends
    /// meanwhile (protocol §8.4). Two requests without numbers may be under way (hello, activate).
    pub stated: Vec<Held>,
}

impl Asked {
    /// What this goes on with, of what was stated.
    pub fn goes_on(self, told: &Subscribed) -> Option<Held> {
        if told.reset || told.held {
            return None;
        }
        let fits = |held: &Held| match &told.base {
            Some(base) => held.begun().as_ref() == Some(base),
            // What was trimmed meanwhile may be missing: a gap follows.
            None => {
                let missing = held.cursor < told.cursor && told.cursor == told.start;
                let fits = held.cursor == told.cursor || missing;
                held.holds() && held.log == told.log && fits
            }
        };
        let held = self.stated.into_iter().find(fits)?;
        Some(Held { open: false, ..held })
    }
}

impl Held {
    pub fn new(told: &Subscribed) -> Self {
        Self {
            name: told.name.clone(),
            log: told.log,
            rule: told.rule,
            cursor: told.cursor,
            complete: told.complete,
            base: None,
            bytes: Vec::new(),
            parts: 0,
            last_key: None,
            whole: true,
            reset_due: told.reset,
            gap_due: None,
            open: true,
            held: told.held,
            made: told.made,
            stale: false,
            state: Some(0).filter(|_| told.cursor == 0),
            keys: BTreeMap::new(),
            exact: told.cursor == 0,
        }
    }

    /// Whether its cursor may be stated: nothing of it is still to come.
    pub fn holds(&self) -> bool {
        self.whole && !self.reset_due && self.gap_due.is_none() && !self.stale && !self.held
    }

    /// Whether a client that asks for it says that it has something of it: of what it says nothing
    /// it holds nothing (protocol §8.2), half a base included.
    pub fn stated(&self) -> bool {
        self.holds() || self.begun().is_some()
    }

    pub fn shown(&self) -> bool {
        self.open && self.holds() && self.cursor >= self.complete
    }

    /// The base that has begun and is not whole.
    pub fn begun(&self) -> Option<BaseHeld> {
        let offset = self.base.filter(|_| !self.whole && !self.reset_due && !self.stale)?;
        let upto = match (self.rule, &self.last_key) {
            (SnapshotRule::Latest, Some(key)) => Upto::Key(key.clone()),
            (SnapshotRule::Client, _) if self.parts > 0 => Upto::Parts(self.parts),
            _ => return None,
        };
        Some(BaseHeld { log: self.log, offset, upto })
    }

    pub fn subscribed(&mut self, told: &Subscribed) {
        let name = &self.name;
        if told.held || self.held {
            *self = Self::new(told);
            return;
        }
        demand!(told.reset || !self.stale, "promise 15: {name} goes on in another history");
        if let Some(base) = &told.base {
            demand!(!told.reset, "law 4: {name}: it goes on, or begins anew");
            demand!(Some(base) == self.begun().as_ref(), "law 4: {name}: another base goes on");
            self.cursor = told.cursor;
        } else if self.open && !told.reset && !self.reset_due {
            demand!(
                self.cursor == told.cursor || !self.holds(),
                "law 4: {name}: asked again, \
                 it moves from {} to {}",
                self.cursor,
                told.cursor
            );
        } else if !told.reset {
            demand!(self.whole, "law 4: {name}: half a base, and nothing is said of it");
            demand!(told.cursor >= self.cursor, "promise 8: {name} goes back to {}", told.cursor);
            if told.cursor > self.cursor {
                demand!(told.cursor == told.start, "promise 7: {name} skips to {}", told.cursor);
                self.gap_due = Some(told.cursor);
            }
        }
        (self.rule, self.complete, self.made) = (told.rule, told.complete, told.made);
        (self.reset_due, self.open) = (told.reset, true);
    }

    fn ready(&self, what: &str) {
        let name = &self.name;
        demand!(self.open && !self.held, "law 9: {what} of {name}, which is not open");
    }

    pub fn reset(&mut self, told: &Reset) {
        self.ready("a reset");
        self.keys.clear();
        self.bytes.clear();
        (self.parts, self.last_key, self.gap_due) = (0, None, None);
        (self.base, self.whole) = (told.base.map(|base| base.offset), told.base.is_none());
        (self.cursor, self.complete) = (told.cursor, told.complete);
        (self.reset_due, self.stale) = (false, false);
        self.state = Some(0).filter(|_| self.whole && self.cursor == 0);
        self.exact = !self.whole || self.cursor == 0;
    }

    fn base_of(&self, offset: u64) {
        self.ready("a base");
        let name = &self.name;
        let due = !self.whole && !self.reset_due && self.base == Some(offset);
        demand!(due, "law 4: {name}: a base at {offset} that was not told of");
    }

    pub fn base(&mut self, told: &Base) {
        self.base_of(told.offset);
        let name = &self.name;
        demand!(told.part == self.parts, "promise 1: {name}: part {} of a base", told.part);
        self.bytes.extend_from_slice(told.data.bytes());
        self.parts += 1;
        if told.last {
            self.whole = true;
            let state = self.bytes.as_slice().try_into().map(u64::from_be_bytes);
            demand!(state.is_ok(), "promise 8: {name}: a base of {:?}", self.bytes);
            self.state = state.ok();
        }
    }

    pub fn base_records(&mut self, told: &BaseRecords, oracle: &Oracle) {
        self.base_of(told.offset);
        let name = &self.name;
        for kept in &told.records {
            let record = &kept.record;
            let writer = told.origins[record.origin as usize].writer;
            let seen = Seen::of(record.place, writer, record.seq, &record.record);
            let known = oracle.record(self.log, kept.offset);
            demand!(known == Some(&seen), "promise 2: {name} {}: {known:?} {seen:?}", kept.offset);
            demand!(kept.offset < told.offset, "promise 1: {name}: newer than its base");
            let (Some(key), Some(payload)) = (seen.key, seen.payload) else {
                panic!("law 4: {name}: what is kept has a key and is alive");
            };
            demand!(self.last_key.as_ref() < Some(&key), "promise 1: {name}: {key} comes again");
            self.last_key = Some(key.clone());
            self.keys.insert(key, (kept.offset, payload));
        }
        if told.last {
            self.whole = true;
            self.complete = self.complete.max(told.complete);
        }
    }

    pub fn gap(&mut self, told: &Gap) {
        self.ready("a gap");
        let name = &self.name;
        let fits = told.from <= self.cursor && told.from < told.to;
        demand!(fits, "promise 7: {name} at {}: {told:?}", self.cursor);
        self.cursor = self.cursor.max(told.to);
        self.gap_due = None;
        (self.state, self.exact) = (None, false);
    }

    /// Exactly the next offset, in order.
    pub fn records(&mut self, told: &Records, oracle: &Oracle) {
        self.ready("records");
        let (name, cursor) = (&self.name, self.cursor);
        demand!(!self.reset_due, "law 4: {name}: records before the reset");
        demand!(!self.stale, "promise 15: {name} goes on in another history");
        demand!(self.whole, "promise 1: {name}: records before the base is whole");
        demand!(self.gap_due.is_none(), "promise 7: {name}: records before the gap is told");
        demand!(told.base >= cursor, "promise 1: {name}: a repeat: {} at {cursor}", told.base);
        demand!(told.base <= cursor, "law 5: {name}: a jump: {} at {cursor}", told.base);
        for record in &told.records {
            let writer = told.origins[record.origin as usize].writer;
            let seen = Seen::of(record.place, writer, record.seq, &record.record);
            let known = oracle.record(self.log, self.cursor);
            demand!(
                known == Some(&seen),
                "promise 2: {} {}: {known:?} was shown as {seen:?}",
                self.name,
                self.cursor
            );
            self.state = self.state.map(|state| fold(state, &seen));
            if let Some(key) = seen.key {
                match seen.payload {
                    Some(payload) => drop(self.keys.insert(key, (self.cursor, payload))),
                    None => drop(self.keys.remove(&key)),
                }
            }
            self.cursor += 1;
        }
    }

    /// What it shows is what is true.
    pub fn check(&self, oracle: &Oracle) {
        let (name, cursor) = (&self.name, self.cursor);
        if let Some(state) = self.state {
            let truth = oracle.folded(self.log, cursor);
            demand!(state == truth, "promise 14: {name} at {cursor} shows another state");
        }
        if self.rule == SnapshotRule::Latest && self.exact {
            let truth = oracle.latest(self.log);
            demand!(self.keys == truth, "promise 14: {name}: {:?}, not {truth:?}", self.keys);
        }
    }
}
