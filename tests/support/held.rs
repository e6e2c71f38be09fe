//! What a client's app makes of a log, beside where the client stands in it: its records, its keys,
//! its base, and what it was told of them.

use std::collections::BTreeMap;
use std::ops::Deref;

use highwater::client::Log;
use highwater::wire::{
    Base, BaseRecords, Delivered, Gap, Id, Origin, Place, Records, Reset, ResetReason, SnapshotRule,
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

/// What is folded of one log.
#[derive(Debug)]
pub struct Folded {
    pub(super) name: String,
    /// The base it began with, and its offset, where there was one.
    pub base: Option<(u64, Vec<u8>)>,
    /// How often an unfinished base was gone on with.
    pub went_on: usize,
    /// Newest record by key, for `latest`.
    pub keys: BTreeMap<String, (u64, Vec<u8>)>,
    /// Records since the base, by offset.
    pub records: BTreeMap<u64, Seen>,
    pub resets: Vec<ResetReason>,
    pub gaps: Vec<Gap>,
}

impl Folded {
    pub(super) const fn new(name: String) -> Self {
        Self {
            name,
            base: None,
            went_on: 0,
            keys: BTreeMap::new(),
            records: BTreeMap::new(),
            resets: Vec::new(),
            gaps: Vec::new(),
        }
    }

    pub(super) fn reset(&mut self, told: &Reset) {
        self.keys.clear();
        self.records.clear();
        self.base = told.base.as_ref().map(|base| (base.offset, Vec::new()));
        self.resets.push(told.reason);
    }

    pub(super) fn base(&mut self, told: &Base) {
        let (_, bytes) = self.base.as_mut().expect("a reset told of the base");
        bytes.extend_from_slice(told.data.bytes());
    }

    pub(super) fn base_records(&mut self, told: &BaseRecords) -> Vec<(u64, Seen)> {
        let seen = |kept: &highwater::wire::Kept| {
            let seen = Seen::of(&kept.record, &told.origins);
            let (key, payload) = (seen.key.clone(), seen.payload.clone());
            let (key, payload) = (key.expect("a key"), payload.expect("no tombstone"));
            assert!(self.keys.insert(key, (kept.offset, payload)).is_none(), "a key comes once");
            (kept.offset, seen)
        };
        told.records.iter().map(seen).collect()
    }

    pub(super) fn records(&mut self, rule: SnapshotRule, told: &Records) -> Vec<(u64, Seen)> {
        let all = (told.base..).zip(&told.records);
        let all: Vec<_> =
            all.map(|(offset, record)| (offset, Seen::of(record, &told.origins))).collect();
        for (offset, seen) in &all {
            if let (SnapshotRule::Latest, Some(key)) = (rule, &seen.key) {
                match &seen.payload {
                    Some(payload) => {
                        self.keys.insert(key.clone(), (*offset, payload.clone()));
                    }
                    None => drop(self.keys.remove(key)),
                }
            }
            self.records.insert(*offset, seen.clone());
        }
        all
    }
}

/// A log as a test looks at it: where the client stands in it, and what is folded of it.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    at: &'a Log,
    pub base: &'a Option<(u64, Vec<u8>)>,
    pub went_on: usize,
    pub keys: &'a BTreeMap<String, (u64, Vec<u8>)>,
    pub records: &'a BTreeMap<u64, Seen>,
    pub resets: &'a [ResetReason],
    pub gaps: &'a [Gap],
}

impl<'a> Held<'a> {
    pub(super) fn new(at: &'a Log, folded: Option<&'a Folded>) -> Self {
        static NOTHING: Folded = Folded::new(String::new());
        let folded = folded.unwrap_or(&NOTHING);
        Self {
            at,
            base: &folded.base,
            went_on: folded.went_on,
            keys: &folded.keys,
            records: &folded.records,
            resets: &folded.resets,
            gaps: &folded.gaps,
        }
    }

    /// The state of a log whose records are folded into a list, as texts.
    pub fn texts(&self) -> Vec<String> {
        let text =
            |seen: &Seen| String::from_utf8(seen.payload.clone().unwrap_or_default()).unwrap();
        self.records.values().map(text).collect()
    }
}

impl Deref for Held<'_> {
    type Target = Log;

    fn deref(&self) -> &Log {
        self.at
    }
}
