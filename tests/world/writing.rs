//! A client's writer: what it has sent, and what became of it.

use std::collections::{BTreeMap, VecDeque};

use highwater::wire::{Answers, Class, Code, Id, Item, Outcome, Record, Target};

use crate::oracle::{Oracle, demand};

#[derive(Clone, Debug)]
pub struct Writing {
    pub id: Id,
    next: u64,
    last: u64,
    pub pending: VecDeque<Item>,
    outcomes: BTreeMap<u64, Outcome>,
    /// So many of `pending` are on their way on this socket.
    pub sent: usize,
    /// Not before this.
    pub again_at: u64,
    /// Answers up to here are owed before any state.
    pub owed: u64,
    /// The highest mark that was told.
    pub mark: u64,
}

impl Writing {
    pub const fn new(id: Id) -> Self {
        Self {
            id,
            next: 1,
            last: 0,
            pending: VecDeque::new(),
            outcomes: BTreeMap::new(),
            sent: 0,
            again_at: 0,
            owed: 0,
            mark: 0,
        }
    }

    pub fn number(&mut self, to: Target, record: Record, oracle: &mut Oracle) {
        oracle.writes(self.id, self.next, &record);
        let item = Item { seq: self.next, prev: self.last, to, if_head: None, record };
        (self.last, self.next) = (self.next, self.next + 1);
        self.pending.push_back(item);
    }

    pub fn oldest(&self) -> u64 {
        self.pending.front().map_or(self.next, |item| item.seq)
    }

    /// Another history: what lies above its mark is numbered anew.
    pub fn anew(&mut self, id: Id, oracle: &mut Oracle) {
        let old = std::mem::replace(self, Self::new(id));
        for item in old.pending {
            // A log id of another history may mean another log here: by name it would not.
            if let Target::Name(_) = item.to {
                self.number(item.to, item.record, oracle);
            }
        }
    }

    /// The mark that a welcome tells.
    pub fn met(&mut self, mark: u64, oracle: &Oracle) {
        demand!(mark >= self.mark, "law 8: the mark went back from {} to {mark}", self.mark);
        demand!(mark < self.next, "promise 4: mark {mark}, and {} is not sent", self.next);
        let last = self.pending.iter().rev().find(|item| item.seq <= mark);
        self.owed = last.map_or(0, |item| item.seq);
        (self.sent, self.mark) = (0, mark);
        for (seq, outcome) in &self.outcomes {
            if let Outcome::Stored { log, offset, .. } = outcome {
                let at = oracle.where_is(self.id, *seq);
                demand!(at == Some((*log, *offset)), "promise 3: {seq} is lost: {at:?}");
            }
        }
    }

    pub fn answered(&mut self, told: &Answers, now: u64, oracle: &Oracle) {
        for answer in &told.answers {
            let seq = answer.seq;
            let put_off = match &answer.outcome {
                Outcome::Refused(why) => why.code.class() == Class::Transient,
                Outcome::Stored { .. } => false,
            };
            if let Some(known) = self.outcomes.get(&seq) {
                let alike = *known == answer.outcome || put_off || old(&answer.outcome);
                demand!(alike, "promise 4: {seq} was {known:?}, and is {:?}", answer.outcome);
                continue;
            }
            if put_off {
                self.sent = 0;
                self.again_at = now + 40;
                continue;
            }
            let first = self.pending.pop_front();
            demand!(
                first.as_ref().is_some_and(|item| item.seq == seq),
                "law 7: {seq} is answered where {first:?} was due"
            );
            self.sent = self.sent.saturating_sub(1);
            demand!(told.mark >= seq, "law 7: mark {} does not count {seq}", told.mark);
            self.mark = self.mark.max(told.mark);
            if let Outcome::Stored { log, offset, .. } = &answer.outcome {
                let at = oracle.where_is(self.id, seq);
                demand!(
                    at == Some((*log, *offset)),
                    "promise 3: {seq} is said to be at {log} {offset}, and is at {at:?}"
                );
            }
            self.outcomes.insert(seq, answer.outcome.clone());
        }
        if self.pending.front().is_none_or(|item| item.seq > self.owed) {
            self.owed = 0;
        }
    }

    /// Behind its last record in each log.
    pub fn own(&self) -> BTreeMap<u64, u64> {
        let mut own: BTreeMap<u64, u64> = BTreeMap::new();
        for outcome in self.outcomes.values() {
            if let Outcome::Stored { log, offset, .. } = outcome {
                let end = own.entry(*log).or_default();
                *end = (*end).max(offset + 1);
            }
        }
        own
    }
}

/// What is sent again behind its confirmation.
fn old(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(why) if why.code == Code::SequenceOld)
}
