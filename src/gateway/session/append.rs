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
    Answer, Answers, Append, Code, Item, Outcome, Record, Refusal, ServerFrame, Target, name,
};

/// Names of logs by id, as far as this socket has used them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u64, Arc<str>>);

/// Names kept per socket.
const MOST_NAMES: usize = 256;

impl Session {
    /// The name of a log id.
    pub(super) fn name_of(&mut self, log: u64) -> Option<Arc<str>> {
        if let Some(name) = self.names.0.get(&log) {
            return Some(Arc::clone(name));
        }
        let name = self.socket.name_of(log).or_else(|| {
            let row = self.gate.store.log_row(log).ok().flatten();
            row.map(|row| row.name)
        })?;
        if self.names.0.len() >= MOST_NAMES {
            self.names.0.clear();
        }
        let name: Arc<str> = name.into();
        self.names.0.insert(log, Arc::clone(&name));
        Some(name)
    }

    pub(super) fn append(&mut self, append: Append, size: usize) {
        let Append { writer, oldest, items, .. } = append;
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
        let entries = items.into_iter().map(|item| self.entry(item)).collect();
        let (user, connection) = (self.socket.user.clone(), self.socket.connection);
        let once = false;
        let command = Command::Append(Appends { user, writer, connection, oldest, once, entries });
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
        self.socket.send(&[ServerFrame::Answers(Answers { writer, mark: 0, answers, positions })]);
    }

    fn entry(&mut self, item: Item) -> Entry {
        let Item { seq, prev, to, if_head, record } = item;
        let hash = entry_hash(&to, if_head, &record);
        let verdict = self.verdict(&to, &record);
        let record = if verdict.is_some() { Record::default() } else { record };
        Entry { seq, prev, to, if_head, hash, verdict, record }
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
