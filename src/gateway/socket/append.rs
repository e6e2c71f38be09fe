//! Appends of a socket: admitted by rate, checked item by item, handed to the fold in order.
//!
//! A frame is taken as far as the rates let it; the rest is answered with what was taken. A
//! transient refusal spends nothing and is answered here. What is refused for good (a name, a
//! grant, a size) is handed to the fold as a verdict, which records it under the sequence, so that
//! it is answered alike for ever.

use std::collections::HashMap;
use std::sync::Arc;

use super::Session;
use crate::admission::{Judged, Named, fits, may_append};
use crate::channel::{Appending, Request, Ticket, refused};
use crate::fold::Command;
use crate::limit::{Costs, Taken};
use crate::log::{Appends, Entry};
use crate::wire::{
    Answers, Append, Code, Credit, Id, Item, Made, Position, Record, Refusal, Target,
};

/// Names of logs by id and the batches that made them, as far as this socket has used them.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<u64, Known>);

/// What does not change of a log.
#[derive(Debug, Clone)]
struct Known {
    name: Arc<str>,
    made: u64,
    /// Of its rate.
    key: u64,
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
        let key = self.gate.admission.rates.log_key(&row.name);
        let known = Known { name: row.name.into(), made: row.made, key };
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
        let Append { writer, oldest, mut items, positions, made } = append;
        let (Some(first), Some(last)) = (items.first(), items.last()) else {
            let message = "an append has at least one item";
            return self.refuse(0, Refusal::because(Code::BadRequest, message));
        };
        let prev = first.prev;
        self.socket.appends(writer, oldest, (first.seq, last.seq));
        let seqs = |items: &[Item]| items.iter().map(|item| item.seq).collect::<Vec<_>>();
        if let Err(refusal) = self.admit() {
            return self.put_off((writer, prev), seqs(&items), &refusal, None);
        }
        let costs = self.costs(&items);
        let numbers = |at| items.get(at).map_or((0, 0), |item: &Item| (item.seq, item.prev));
        let Taken { charged, count, refusal } = self.purse.charge_some(writer, costs, numbers);
        let credit = self.purse.credit(writer);
        let rest = refusal.map(|refusal| (seqs(&items.split_off(count)), refusal));
        if let (true, Some((rest, refusal))) = (items.is_empty(), &rest) {
            return self.put_off((writer, prev), rest.clone(), refusal, credit);
        }
        let mut all = seqs(&items);
        all.extend(rest.iter().flat_map(|(rest, _)| rest));
        let bytes: usize = items.iter().map(|item| item.record.size()).sum();
        let entries: Vec<Entry> = items.into_iter().map(|item| self.entry(item, &made)).collect();
        self.gate.admission.read_ahead(Some(writer), &entries);
        let positions = self.to_be_judged(positions);
        let (user, connection) = (self.socket.user.clone(), self.socket.connection);
        let once = false;
        let appends = Appends { user, writer, connection, oldest, once, positions, entries };
        let command = Command::Append(appends);
        let weight = size.max(bytes + all.len() * 96);
        let asked = Request::Append(Box::new(Appending { prev, charged, rest, credit }));
        let ticket = Ticket::Socket(Arc::clone(&self.socket), asked);
        // In an answer it would count as decided, and the client would give the append up.
        if let Err(refusal) = self.gate.inbox.submit(command, weight, Some(ticket))
            && !self.ends(&refusal)
        {
            self.put_off((writer, prev), all, &refusal, None);
        }
    }

    fn admit(&self) -> Result<(), Refusal> {
        let expires = self.grants.0.expires_ms;
        if expires != 0 && self.gate.now() >= expires {
            return Err(Code::TokenExpired.into());
        }
        self.gate.admission.shed.takes()
    }

    /// What items cost: their rows, and one append to each log that has a rate.
    fn costs(&mut self, items: &[Item]) -> Costs {
        let mut costs = Costs::with_room(items.len());
        for item in items {
            let log = match &item.to {
                _ if !self.gate.admission.rates.of_logs() => 0,
                Target::Name(name) => self.gate.admission.rates.log_key(name),
                Target::Log(log) => self.known_log(*log).map_or(0, |known| known.key),
            };
            costs.push(item.record.size(), log);
        }
        costs
    }

    /// Answers items with a transient refusal. The mark is not known here: 0.
    fn put_off(
        &self,
        (writer, prev): (Id, u64),
        seqs: Vec<u64>,
        refusal: &Refusal,
        credit: Option<Credit>,
    ) {
        let answers = refused(seqs, refusal).collect();
        let positions = Vec::new();
        self.socket.answer_now(prev, Answers { writer, mark: 0, answers, positions, credit });
    }

    fn entry(&mut self, item: Item, made: &[Made]) -> Entry {
        let Item { seq, prev, to, if_head, record } = item;
        let verdict = self.verdict(&to, &record).err();
        let made = self.doubted(&to, made);
        Judged { to, if_head, record, verdict }.entry(seq, prev, made)
    }

    /// Whether nothing is wrong with an item for good, as far as it can be known before the fold.
    fn verdict(&mut self, to: &Target, record: &Record) -> Result<(), Refusal> {
        match to {
            Target::Name(name) => may_append(&self.grants.0, Named::Name(name))?,
            Target::Log(log) => {
                let name = self.name_of(*log);
                may_append(&self.grants.0, Named::Id(name.as_deref()))?;
            }
        }
        fits(record, &self.gate.limits)
    }
}
