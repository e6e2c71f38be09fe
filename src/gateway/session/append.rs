//! Appends of a socket: admitted by rate, checked item by item, handed to the fold in order.
//!
//! A transient refusal spends nothing and is answered here. What is refused for good (a name, a
//! grant, a size) is handed to the fold as a verdict, which records it under the sequence, so that
//! it is answered alike for ever.

use std::collections::HashMap;
use std::sync::Arc;

use super::Session;
use crate::auth::Can;
use crate::channel::{Asked, Ticket};
use crate::fold::Command;
use crate::log::{Appends, Entry, entry_hash};
use crate::wire::{
    Answer, Answers, Append, Code, Item, Made, Outcome, Position, Record, Refusal, ServerFrame,
    Target, name,
};

/// Names of logs by id and the batches that made them, as far as this socket has used them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u64, Known>);

/// What does not change of a log.
#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    made: u64,
}

/// Names kept per socket.
const MOST_NAMES: usize = 256;

impl Session {
    /// The name of a log id.
    pub(super) fn name_of(&mut self, log: u64) -> Option<Arc<str>> {
        self.known_log(log).map(|known| known.name)
    }

    fn known_log(&mut self, log: u64) -> Option<Known> {
        if let Some(known) = self.names.0.get(&log) {
            return Some(known.clone());
        }
        let row = self.gate.store.log_row(log).ok().flatten()?;
        if self.names.0.len() >= MOST_NAMES {
            self.names.0.clear();
        }
        let known = Known { name: row.name.into(), made: row.made };
        self.names.0.insert(log, known.clone());
        Some(known)
    }

    /// Of what a client has seen, what the fold has yet to judge: what it was told on this very
    /// socket, in the era that this node is in, is known to be of this history.
    fn to_be_judged(&self, mut stated: Vec<Position>) -> Vec<Position> {
        let present = self.gate.hub.position().map(|position| position.era);
        stated.retain(|one| self.history && one.shard() == 0 && Some(one.era) != present);
        stated
    }

    /// Where a log id was made by the client's word, where that is not what this node knows: the
    /// fold decides then.
    fn doubted(&mut self, to: &Target, made: &[Made]) -> Option<Position> {
        let Target::Log(log) = to else { return None };
        let stated = made.iter().find(|made| made.log == *log)?.position;
        let known = self.known_log(*log);
        let eras = self.gate.hub.eras();
        (!known.is_some_and(|known| eras.same_log(known.made, &stated))).then_some(stated)
    }

    pub(super) fn append(&mut self, append: Append, size: usize) {
        let Append { writer, oldest, items, positions, made } = append;
        if items.is_empty() {
            let message = "an append has at least one item";
            return self.refuse(0, Refusal::because(Code::BadRequest, message));
        }
        let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
        let bytes: usize = items.iter().map(|item| item.record.size()).sum();
        let admitted = self.admit(count, bytes as u64).and_then(|()| self.admit_logs(&items));
        if let Err(refusal) = admitted {
            return self.put_off(writer, items.iter().map(|item| item.seq).collect(), &refusal);
        }
        let seqs: Vec<u64> = items.iter().map(|item| item.seq).collect();
        let targets = items.iter().map(|item| &item.to);
        self.gate.warmth.append(&self.gate.store, Some(writer), targets);
        let entries = items.into_iter().map(|item| self.entry(item, &made)).collect();
        let positions = self.to_be_judged(positions);
        let (user, connection) = (self.socket.user.clone(), self.socket.connection);
        let once = false;
        let appends = Appends { user, writer, connection, oldest, once, positions, entries };
        let command = Command::Append(appends);
        let ticket = Ticket::Socket(Arc::clone(&self.socket), Asked::Append);
        let weight = size.max(bytes + seqs.len() * 96);
        // In an answer it would count as decided, and the client would give the append up.
        if let Err(refusal) = self.gate.inbox.submit(command, weight, Some(ticket))
            && !self.ends(&refusal)
        {
            self.put_off(writer, seqs, &refusal);
        }
    }

    fn admit(&self, count: u32, bytes: u64) -> Result<(), Refusal> {
        let expires = self.grants.0.expires_ms;
        if expires != 0 && self.gate.now() >= expires {
            return Err(Code::TokenExpired.into());
        }
        self.gate.shed.check()?;
        self.gate.rates.check(&self.socket.user, count, bytes)
    }

    /// The rate of each log, where logs have one.
    fn admit_logs(&mut self, items: &[Item]) -> Result<(), Refusal> {
        if self.gate.limits.appends_per_log_second == 0 {
            return Ok(());
        }
        for item in items {
            let name: Arc<str> = match &item.to {
                Target::Name(name) => name.as_str().into(),
                Target::Log(log) => match self.name_of(*log) {
                    Some(name) => name,
                    None => continue,
                },
            };
            self.gate.rates.check_log(&name, 1)?;
        }
        Ok(())
    }

    /// Answers items with a transient refusal. The mark is not known here: 0.
    fn put_off(&self, writer: crate::wire::Id, seqs: Vec<u64>, refusal: &Refusal) {
        let answers = seqs
            .into_iter()
            .map(|seq| Answer { seq, outcome: Outcome::Refused(refusal.clone()) })
            .collect();
        let positions = Vec::new();
        let answers = Answers { writer, mark: 0, answers, positions, credit: None };
        self.socket.send(&[ServerFrame::Answers(answers)]);
    }

    fn entry(&mut self, item: Item, made: &[Made]) -> Entry {
        let Item { seq, prev, to, if_head, record } = item;
        let hash = entry_hash(&to, if_head, &record);
        let verdict = self.verdict(&to, &record);
        let record = if verdict.is_some() { Record::default() } else { record };
        let made = self.doubted(&to, made);
        Entry { seq, prev, to, made, if_head, hash, verdict, record }
    }

    /// What is wrong with an item for good, as far as it can be known before the fold.
    fn verdict(&mut self, to: &Target, record: &Record) -> Option<Refusal> {
        let name: Arc<str> = match to {
            Target::Name(name) if name::check(name).is_err() => return Some(Code::BadName.into()),
            Target::Name(name) => name.as_str().into(),
            Target::Log(log) => match self.name_of(*log) {
                Some(name) => name,
                None => return Some(Code::Epoch.into()),
            },
        };
        if !self.grants.0.allows(&name, Can::Append) {
            return Some(Code::Denied.into());
        }
        if let Err(bad) = record.check() {
            return Some(Refusal::because(Code::BadRecord, bad.to_string()));
        }
        let most = self.gate.limits.record_bytes as usize;
        (record.size() > most)
            .then(|| Refusal::because(Code::TooLarge, format!("a record has at most {most} bytes")))
    }
}
