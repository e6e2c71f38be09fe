//! What a client keeps of a log and of its writer, and what it holds the server to at each frame.

use std::collections::{BTreeMap, VecDeque};

use highwater::wire::{
    Answers, Base, BaseHeld, BaseRecords, Class, Delivered, Gap, Id, Item, Origin, Outcome, Place,
    Position, Record, Records, Reset, ResetReason, SnapshotRule, Subscribed, Upto,
};

/// A record as it was seen: offsets are never recycled, so it looks the same for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub place: Place,
    pub writer: Id,
    pub seq: u64,
    pub key: Option<String>,
    /// None: a tombstone.
    pub payload: Option<Vec<u8>>,
}

impl Seen {
    fn of(record: &Delivered, origins: &[Origin]) -> Self {
        let origin = &origins[record.origin as usize];
        Self {
            place: record.place,
            writer: origin.writer,
            seq: record.seq,
            key: record.record.key.clone(),
            payload: record.record.payload.as_ref().map(|payload| payload.bytes().to_vec()),
        }
    }
}

/// What a client holds of one log.
#[derive(Clone, Debug)]
pub struct Held {
    pub name: String,
    pub log: u64,
    pub rule: SnapshotRule,
    pub priority: u8,
    /// First offset kept, and the head, when it was subscribed.
    pub start: u64,
    pub head: u64,
    pub cursor: u64,
    pub complete: u64,
    /// The base it began with, and its offset, where there was one.
    pub base: Option<(u64, Vec<u8>)>,
    /// Whether the base told of has come in full.
    pub whole: bool,
    parts: u32,
    /// The last key that a `latest` base brought.
    last_key: Option<String>,
    /// How often an unfinished base was gone on with.
    pub went_on: usize,
    /// Newest record by key, for `latest`.
    pub keys: BTreeMap<String, (u64, Vec<u8>)>,
    /// Records since the base, by offset.
    pub records: BTreeMap<u64, Seen>,
    pub resets: Vec<ResetReason>,
    pub gaps: Vec<Gap>,
    reset_due: bool,
    /// Whether it is subscribed on the present socket.
    pub open: bool,
    /// Whether it is held: told of, and nothing of it follows until it is opened.
    pub held: bool,
    /// Where the log id was made.
    pub made: Option<Position>,
    /// What is held is of another history: a reset has to come before anything else.
    pub stale: bool,
}

impl Held {
    pub fn new(told: &Subscribed) -> Self {
        Self {
            name: told.name.clone(),
            log: told.log,
            rule: told.rule,
            priority: told.priority,
            start: told.start,
            head: told.head,
            cursor: told.cursor,
            complete: told.complete,
            base: None,
            whole: true,
            parts: 0,
            last_key: None,
            went_on: 0,
            keys: BTreeMap::new(),
            records: BTreeMap::new(),
            resets: Vec::new(),
            gaps: Vec::new(),
            reset_due: false,
            open: true,
            held: told.held,
            made: told.made,
            stale: false,
        }
    }

    /// Whether it may be shown.
    pub fn shown(&self) -> bool {
        self.holds() && self.cursor >= self.complete
    }

    /// The base that has begun and is not whole, where something of it is held.
    pub fn begun(&self) -> Option<BaseHeld> {
        let (offset, _) = self.base.as_ref().filter(|_| !self.whole)?;
        let upto = match (self.rule, &self.last_key) {
            (SnapshotRule::Latest, Some(key)) => Upto::Key(key.clone()),
            (SnapshotRule::Client, _) if self.parts > 0 => Upto::Parts(self.parts),
            _ => return None,
        };
        let current = !self.reset_due && !self.stale;
        current.then_some(BaseHeld { log: self.log, offset: *offset, upto })
    }

    /// Whether its state may be spoken for in `have`: nothing of it is still to come.
    pub fn holds(&self) -> bool {
        self.whole && !self.reset_due && !self.stale && !self.held
    }

    /// The state of a log whose records are folded into a list, as texts.
    pub fn texts(&self) -> Vec<String> {
        let text =
            |seen: &Seen| String::from_utf8(seen.payload.clone().unwrap_or_default()).unwrap();
        self.records.values().map(text).collect()
    }

    pub fn subscribed(&mut self, told: &Subscribed) {
        assert_eq!((self.log, &self.name), (told.log, &told.name));
        if told.held || self.held {
            // It begins anew: of one that is held, a client holds nothing.
            assert!(!(told.held && told.reset), "{}: nothing follows", self.name);
            *self = Self { reset_due: told.reset, ..Self::new(told) };
            return;
        }
        assert!(told.reset || !self.stale, "{}: what is of another history is reset", self.name);
        self.made = told.made;
        if let Some(base) = &told.base {
            assert!(!told.reset, "{}: it goes on, or begins anew", self.name);
            assert_eq!(Some(base), self.begun().as_ref(), "{}: the base that is held", self.name);
            assert_eq!(told.cursor, base.offset, "{}: records follow the base", self.name);
            self.went_on += 1;
        } else {
            let whole = self.whole || self.open || told.reset;
            assert!(whole, "{}: half a base, and nothing is said of it", self.name);
        }
        if !told.reset && self.open {
            assert_eq!(self.cursor, told.cursor, "{}: asked again, the cursor stays", self.name);
        } else if !told.reset {
            assert!(told.cursor >= self.cursor, "{}: what was held counts", self.name);
            self.due_gap(told);
        }
        // The rules may have changed meanwhile.
        self.rule = told.rule;
        self.priority = told.priority;
        (self.start, self.head) = (told.start, told.head);
        self.complete = told.complete;
        self.reset_due = told.reset;
        self.open = true;
    }

    /// A cursor beyond what is held has to be explained by a gap, which follows at once.
    fn due_gap(&self, told: &Subscribed) {
        if told.cursor > self.cursor {
            assert_eq!(told.cursor, told.start, "{}: only trimming explains a gap", self.name);
        }
    }

    pub fn reset(&mut self, told: &Reset) {
        assert!(!self.held, "{} is held", self.name);
        self.keys.clear();
        self.records.clear();
        self.base = None;
        (self.parts, self.last_key) = (0, None);
        self.whole = told.base.is_none();
        if let Some(base) = &told.base {
            assert_eq!(base.rule, self.rule);
            assert_eq!(base.offset, told.cursor, "records follow the base");
            self.base = Some((base.offset, Vec::new()));
        }
        self.cursor = told.cursor;
        self.complete = told.complete;
        self.resets.push(told.reason);
        self.reset_due = false;
        self.stale = false;
    }

    pub fn base(&mut self, told: &Base) {
        assert!(!self.whole, "{}: a part of a base that was not told of", self.name);
        assert_eq!(told.part, self.parts, "{}: parts come in order", self.name);
        let (offset, bytes) = self.base.as_mut().expect("a reset told of the base");
        assert_eq!(told.offset, *offset);
        bytes.extend_from_slice(told.data.bytes());
        self.parts += 1;
        self.whole = told.last;
    }

    pub fn base_records(&mut self, told: &BaseRecords) -> Vec<(u64, Seen)> {
        assert!(!self.whole, "{}: a part of a base that was not told of", self.name);
        let offset = self.base.as_ref().expect("a reset told of the base").0;
        assert_eq!(told.offset, offset);
        let mut all = Vec::new();
        for kept in &told.records {
            let seen = Seen::of(&kept.record, &told.origins);
            assert!(kept.offset < offset, "{}: newer ones come as records", self.name);
            let key = seen.key.clone().expect("only keyed records are kept");
            let payload = seen.payload.clone().expect("a tombstone is not kept");
            assert!(self.last_key.as_ref() < Some(&key), "{}: keys come in order", self.name);
            self.last_key = Some(key.clone());
            assert!(self.keys.insert(key, (kept.offset, payload)).is_none(), "a key comes once");
            all.push((kept.offset, seen));
        }
        if told.last {
            self.whole = true;
            assert!(told.complete >= self.complete.min(told.offset));
            self.complete = self.complete.max(told.complete);
        }
        all
    }

    pub fn gap(&mut self, told: &Gap) {
        assert!(!self.held, "{} is held", self.name);
        assert!(told.from <= self.cursor && told.from < told.to, "{}: {told:?}", self.name);
        self.cursor = self.cursor.max(told.to);
        self.gaps.push(told.clone());
    }

    /// Law 5 and promise 1: exactly the next offset, in order, places rising.
    pub fn take(&mut self, told: &Records) -> Vec<(u64, Seen)> {
        assert!(!self.held, "{} is held", self.name);
        assert!(!self.reset_due, "{}: the reset comes first", self.name);
        assert!(self.whole, "{}: the base comes before records", self.name);
        assert!(!told.records.is_empty(), "an empty frame");
        assert_eq!(told.base, self.cursor, "{}: neither gap nor repeat", self.name);
        let mut all = Vec::new();
        for record in &told.records {
            let seen = Seen::of(record, &told.origins);
            if let Some((_, before)) = self.records.last_key_value() {
                assert!(before.place < seen.place, "{}: places rise", self.name);
            }
            if let (SnapshotRule::Latest, Some(key)) = (self.rule, &seen.key) {
                match &seen.payload {
                    Some(payload) => {
                        self.keys.insert(key.clone(), (self.cursor, payload.clone()));
                    }
                    None => drop(self.keys.remove(key)),
                }
            }
            self.records.insert(self.cursor, seen.clone());
            all.push((self.cursor, seen));
            self.cursor += 1;
        }
        all
    }
}

/// The writing side: pending actions and their answers.
#[derive(Clone, Debug)]
pub struct Writing {
    pub id: Id,
    next: u64,
    last: u64,
    pub pending: VecDeque<Item>,
    /// Final outcomes, by sequence.
    pub outcomes: BTreeMap<u64, Outcome>,
    /// Transient refusals, in the order they came.
    pub put_off: Vec<(u64, highwater::wire::Refusal)>,
    /// How many answers came for sequences that had theirs.
    pub repeated: usize,
}

impl Writing {
    pub fn new() -> Self {
        Self {
            id: super::id(),
            next: 1,
            last: 0,
            pending: VecDeque::new(),
            outcomes: BTreeMap::new(),
            put_off: Vec::new(),
            repeated: 0,
        }
    }

    /// The server has another history, in which this writer's mark is there: what lies above is
    /// numbered anew, in order, under a new writer. The old one, with what still gets its answer.
    pub fn begin_anew(&mut self, mark: u64) -> Self {
        let mut old = std::mem::replace(self, Self::new());
        let known = old.pending.iter().take_while(|item| item.seq <= mark).count();
        for item in old.pending.split_off(known) {
            self.number_if(item.to, item.if_head, item.record);
        }
        old.put_off.clear();
        old
    }

    /// Numbers an action; it is pending from now on.
    pub fn number(&mut self, to: highwater::wire::Target, record: Record) -> Item {
        self.number_if(to, None, record)
    }

    pub fn number_if(
        &mut self,
        to: highwater::wire::Target,
        if_head: Option<u64>,
        record: Record,
    ) -> Item {
        let item = Item { seq: self.next, prev: self.last, to, if_head, record };
        self.last = self.next;
        self.next += 1;
        self.pending.push_back(item.clone());
        item
    }

    /// The last sequence given.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The oldest sequence without an answer.
    pub fn oldest(&self) -> u64 {
        self.pending.front().map_or(self.next, |item| item.seq)
    }

    /// Offset at which a sequence was stored.
    pub fn offset(&self, seq: u64) -> Option<u64> {
        match self.outcomes.get(&seq) {
            Some(Outcome::Stored { offset, .. }) => Some(*offset),
            _ => None,
        }
    }

    /// Answers come in order; a repeat is the answer it was before (promise 4).
    pub fn answered(&mut self, told: &Answers) {
        assert_eq!(told.writer, self.id);
        for answer in &told.answers {
            let put_off = match &answer.outcome {
                Outcome::Refused(refusal) => refusal.code.class() == Class::Transient,
                Outcome::Stored { .. } => false,
            };
            if let Some(known) = self.outcomes.get(&answer.seq) {
                if put_off {
                    // What was sent twice may be stored once and put off once.
                    continue;
                }
                assert_eq!(*known, answer.outcome, "seq {} is answered alike", answer.seq);
                self.repeated += 1;
                continue;
            }
            if let Outcome::Refused(refusal) = &answer.outcome
                && put_off
            {
                self.put_off.push((answer.seq, refusal.clone()));
                continue;
            }
            let first = self.pending.pop_front().expect("an answer to nothing");
            assert_eq!(first.seq, answer.seq, "answers come in the order of sequences");
            self.outcomes.insert(answer.seq, answer.outcome.clone());
            assert!(told.mark >= answer.seq, "the mark counts what is answered: {told:?}");
        }
    }
}
