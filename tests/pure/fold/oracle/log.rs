//! What the model knows of logs: records, pages, snapshots, the newest record of each key, and the
//! way to another rule.

use std::collections::BTreeMap;

use highwater::connection::Event;
use highwater::fold::{Command, Reply};
use highwater::log::{Deriving, Part, STEP_ROWS};
use highwater::wire::{Code, Id, Reason, Record, SnapshotRule, name};

use super::{Before, Oracle, Said};
use crate::fold::world::rule_of;

#[derive(Debug)]
pub(super) struct Log {
    pub(super) name: String,
    pub(super) rule: SnapshotRule,
    pub(super) alive: bool,
    pub(super) start: u64,
    pub(super) records: Vec<Kept>,
    pub(super) newest: u64,
    pub(super) pages: Pages,
    /// Offset of the newest record by key.
    pub(super) latest: BTreeMap<String, u64>,
    pub(super) deriving: Option<Deriving>,
}

/// A record: its writer and sequence, its time, all of it as text, its key, and whether it has a
/// payload.
#[derive(Debug, PartialEq)]
pub(super) struct Kept {
    writer: Id,
    seq: u64,
    time: u64,
    text: String,
    key: Option<String>,
    there: bool,
}

impl Kept {
    pub(super) fn new(writer: Id, seq: u64, time: u64, record: &Record) -> Self {
        let (key, there) = (record.key.clone(), record.payload.is_some());
        let text = format!("{record:?}");
        Self { writer, seq, time, text, key, there }
    }
}

/// Records of pages to come; where the open one began, and what it takes; where the last one ended,
/// and all that are closed.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) size: u64,
    pub(super) open: Option<(u64, u64)>,
    pub(super) end: u64,
    pub(super) closed: Vec<(u64, u64)>,
}

impl Log {
    pub(super) fn head(&self) -> u64 {
        self.records.len() as u64
    }

    /// Takes a record.
    pub(super) fn push(&mut self, record: Kept) {
        let head = self.head();
        if self.rule == SnapshotRule::Latest {
            keep_latest(&mut self.latest, head, &record);
        }
        self.records.push(record);
        if self.pages.open.is_none() && self.pages.size > 0 {
            self.pages.open = Some((head, self.pages.size));
        }
        if let Some((first, takes)) = self.pages.open
            && head + 1 == first + takes
        {
            self.close_page(first);
        }
    }

    /// A step to another rule, as the fold should take it.
    pub(super) fn derive(
        &mut self,
        wanted: SnapshotRule,
        seen: &Option<Deriving>,
        most: u32,
    ) -> Said {
        let there = self.rule == wanted && self.deriving.is_none();
        if there || self.deriving != *seen {
            return Err(Code::Stale);
        }
        let mut left = most.min(STEP_ROWS);
        let mut step = match seen {
            Some(step) if step.rule == wanted => step.clone(),
            _ => Deriving::to(wanted),
        };
        while left > 0 && !step.cleared {
            let next = self.latest.range(String::from_utf8(step.from.clone()).unwrap()..).next();
            let Some(key) = next.map(|(key, _)| key.clone()) else {
                step.cleared = true;
                break;
            };
            self.latest.remove(&key);
            step.from = [key.as_bytes(), &[0]].concat();
            left -= 1;
        }
        let mut done = step.cleared;
        if wanted == SnapshotRule::Latest && step.cleared {
            step.next = step.next.max(self.start);
            while left > 0 && step.next < self.head() {
                keep_latest(&mut self.latest, step.next, &self.records[step.next as usize]);
                (left, step.next) = (left - 1, step.next + 1);
            }
            done = step.next == self.head();
        }
        if done || wanted != SnapshotRule::Latest {
            self.rule = wanted;
        }
        self.deriving = (!done).then_some(step);
        Ok(())
    }

    pub(super) fn close_page(&mut self, first: u64) {
        let (first, end) = (first.max(self.start), self.head());
        self.pages.closed.extend((first < end).then_some((first, end)));
        (self.pages.open, self.pages.end) = (None, end);
    }

    pub(super) fn set_pages(&mut self, size: u64) {
        match (self.pages.open, self.pages.size, size) {
            (Some((first, _)), _, 0) => self.close_page(first),
            (None, 0, 1..) => self.close_page(self.pages.end),
            _ => {}
        }
        self.pages.size = size;
    }
}

fn keep_latest(latest: &mut BTreeMap<String, u64>, offset: u64, record: &Kept) {
    let Some(key) = record.key.clone() else { return };
    match record.there {
        true => latest.insert(key, offset),
        false => latest.remove(&key),
    };
}

impl Oracle {
    /// How far a log has come to another rule.
    pub fn deriving(&self, log: u64) -> Option<Deriving> {
        self.log(log)?.deriving.clone()
    }

    /// The rule that the rules in force give a log.
    pub fn wanted(&self, log: u64) -> SnapshotRule {
        self.log(log).map_or(SnapshotRule::None, |log| rule_of(&log.name, &self.rules))
    }

    /// Commands on a log as a whole that are done or refused, and what they mean.
    pub(super) fn of_log(&mut self, command: &Command, events: &[Event]) -> Said {
        let alive = |log: &u64| if self.alive(*log) { Ok(*log) } else { Err(Code::UnknownLog) };
        match command {
            Command::CreateLog { name, .. } => {
                return name::check(name).map(|_| ()).or(Err(Code::BadName));
            }
            Command::DeleteLog { log } => {
                let log = alive(log)?;
                let log = self.log_mut(log);
                (log.alive, log.start, log.deriving) = (false, log.head(), None);
            }
            Command::SetPages { log, records } => {
                let log = alive(log)?;
                self.log_mut(log).set_pages(*records);
            }
            Command::Derive { log, rule, seen, most } => {
                let log = alive(log)?;
                let (wanted, before) = (self.wanted(log), self.log_mut(log).rule);
                if *rule != wanted {
                    return Err(Code::Stale);
                }
                self.log_mut(log).derive(wanted, seen, *most)?;
                let changed = self.log_mut(log).rule != before;
                let told = changed.then_some(Event::Ruled { log, rule: *rule });
                assert!(events.iter().eq(&told));
            }
            other => panic!("not of a log: {other:?}"),
        }
        Ok(())
    }

    /// Keys that end by age.
    pub(super) fn expire(&mut self, log: u64, keys: &[(String, u64)]) -> Result<u64, Code> {
        if !self.alive(log) {
            return Err(Code::UnknownLog);
        }
        let time = self.time;
        let name = &self.log(log).unwrap().name;
        let rule = self.rules.iter().find(|rule| rule.pattern.matches(name));
        let rule = rule.filter(|rule| rule.snapshot == SnapshotRule::Latest);
        let life = rule.map_or(0, |rule| rule.retain_seconds) * 1_000;
        let log = self.log_mut(log);
        if life == 0 || log.rule != SnapshotRule::Latest || log.deriving.is_some() {
            return Err(Code::Stale);
        }
        let mut ended = 0;
        for (key, offset) in keys {
            let newest = log.latest.get(key) == Some(offset);
            if newest && log.records[*offset as usize].time + life < time {
                let tombstone = Record { key: Some(key.clone()), ..Record::default() };
                log.push(Kept::new(Id::NONE, 0, time, &tombstone));
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// The newest records of a log by key.
    pub fn latest(&self, log: u64) -> Vec<(String, u64)> {
        let latest = self.log(log).map(|log| log.latest.clone()).unwrap_or_default();
        latest.into_iter().collect()
    }

    pub(super) fn part(&mut self, part: &Part, reply: &Reply, events: &[Event]) {
        let Some(Event::Snapshot { log, offset }) = events.first() else { return };
        assert!(part.last && *reply == Reply::Done && (*log, *offset) == (part.log, part.offset));
        let log = self.log_mut(*log);
        assert!(log.alive && log.rule == SnapshotRule::Client);
        assert!(log.newest < *offset || log.newest == 0);
        assert!(*offset <= log.head());
        log.newest = *offset;
    }

    pub(super) fn trim(
        &mut self,
        log: u64,
        to: u64,
        reply: &Reply,
        events: &[Event],
        before: &Before,
    ) {
        if !self.alive(log) {
            assert!(matches!(reply, Reply::Refused(why) if why.code == Code::UnknownLog));
            return;
        }
        let known = self.log_mut(log);
        let most = if known.rule == SnapshotRule::Client { known.newest } else { known.head() };
        match reply {
            Reply::Refused(why) => {
                let code = if to > known.head() { Code::BadOffset } else { Code::TrimRule };
                assert_eq!(why.code, code);
                assert!(to > most || (to == 0 && known.rule == SnapshotRule::Client));
            }
            Reply::Trimmed(None) => assert!(to <= known.start),
            Reply::Trimmed(Some(told)) => {
                assert!(to <= most && (told.from, told.to) == (known.start, to) && to > told.from);
                known.start = to;
                if known.rule != SnapshotRule::Client && known.newest < to {
                    known.newest = 0;
                }
            }
            other => panic!("{other:?}"),
        }
        let below = before
            .iter()
            .filter(|(_, one)| one.active && one.subs.get(&log).is_some_and(|sub| sub.cursor < to));
        if matches!(reply, Reply::Trimmed(Some(_))) {
            let lost: Vec<_> = below.map(|(id, _)| *id).collect();
            assert_eq!(events.len(), lost.len() + 1);
            assert!(lost.iter().all(|id| crate::fold::oracle::lost(events, id, Reason::Retention)));
        } else {
            assert!(events.is_empty());
        }
    }
}
