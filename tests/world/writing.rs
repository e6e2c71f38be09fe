//! A client's writer: what it has sent, and what became of it.

use std::collections::{BTreeMap, VecDeque};

use highwater::wire::{Answers, Class, Code, Id, Item, Made, Outcome, Position, Target};

use crate::oracle::{Action, Oracle, demand};

#[derive(Clone, Debug)]
pub struct Writing {
    pub id: Id,
    next: u64,
    last: u64,
    pub pending: VecDeque<Item>,
    /// Where the log was made that an action names by its id, as of when it was numbered.
    made: BTreeMap<u64, Position>,
    outcomes: BTreeMap<u64, Outcome>,
    /// So many of `pending` are on their way on this socket.
    pub sent: usize,
    /// Not before this.
    pub again_at: u64,
    /// Answers up to here are owed before any state.
    pub owed: u64,
    /// The highest mark that was told.
    pub mark: u64,
    /// Writers that another history ended, with what of theirs was stored there and has no answer:
    /// the product's client waits for those.
    before: Vec<(Id, VecDeque<Item>)>,
}

impl Writing {
    pub const fn new(id: Id) -> Self {
        Self {
            id,
            next: 1,
            last: 0,
            pending: VecDeque::new(),
            made: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            sent: 0,
            again_at: 0,
            owed: 0,
            mark: 0,
            before: Vec::new(),
        }
    }

    pub fn number(&mut self, to: Target, action: Action, oracle: &mut Oracle) {
        let record = action.record.clone();
        if let Some(made) = action.log.and_then(|(_, made)| made) {
            self.made.insert(self.next, made);
        }
        oracle.writes(self.id, self.next, action);
        let item = Item { seq: self.next, prev: self.last, to, if_head: None, record };
        (self.last, self.next) = (self.next, self.next + 1);
        self.pending.push_back(item);
    }

    pub fn oldest(&self) -> u64 {
        self.pending.front().map_or(self.next, |item| item.seq)
    }

    /// Another history: what lies above a writer's mark is numbered anew. What lies below is stored
    /// there: its answer is of no use to the world's client, and `waits` where it is waited for.
    pub fn anew(&mut self, id: Id, mark: impl Fn(Id) -> u64, waits: bool, oracle: &mut Oracle) {
        let mut old = std::mem::replace(self, Self::new(id));
        old.before.push((old.id, old.pending));
        for (writer, items) in old.before {
            let mark = mark(writer);
            let (above, below): (VecDeque<_>, _) =
                items.into_iter().partition(|item| item.seq > mark);
            for item in above {
                let action = oracle.action(writer, item.seq).unwrap().clone();
                self.number(item.to, action, oracle);
            }
            if waits {
                self.before.push((writer, below));
            }
        }
    }

    /// Answers to a writer that is over.
    pub fn answered_before(&mut self, told: &Answers) {
        for answer in &told.answers {
            let put_off = match &answer.outcome {
                Outcome::Refused(why) => why.code.class() == Class::Transient,
                Outcome::Stored { .. } => false,
            };
            for (_, items) in self.before.iter_mut().filter(|(id, _)| *id == told.writer) {
                items.retain(|item| put_off || item.seq != answer.seq);
            }
        }
    }

    /// What is sent next, and where the logs were made that it names by id: one frame says one
    /// place of each.
    pub fn next(&self, sent: usize) -> (Vec<Item>, Vec<Made>) {
        let (mut items, mut all) = (Vec::new(), Vec::<Made>::new());
        for item in self.pending.iter().skip(sent).take(6) {
            if let (Target::Log(log), Some(position)) = (&item.to, self.made.get(&item.seq)) {
                match all.iter().find(|made| made.log == *log) {
                    Some(made) if made.position != *position => break,
                    Some(_) => {}
                    None => all.push(Made { log: *log, position: *position }),
                }
            }
            items.push(item.clone());
        }
        (items, all)
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
            // It said that it waits for this one, so its answer is kept.
            demand!(!old(&answer.outcome), "promise 4: the answer to {seq} is kept no more");
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

    pub fn outcome(&self, seq: u64) -> Option<&Outcome> {
        self.outcomes.get(&seq)
    }

    /// Where the log was made that an action names by its id.
    pub fn made(&self, seq: u64) -> Option<Position> {
        self.made.get(&seq).copied()
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
