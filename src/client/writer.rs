//! The writing side: pending appends, what of them is in flight, and their answers.
//!
//! Promise: an append is sent until it has its final outcome, always in order and under the same
//! number: a refusal for now, or a socket that ended, spends nothing.

use std::collections::{BTreeMap, VecDeque};

use super::credit::Room;
use super::event::Breach;
use crate::wire::{
    Answer, Append, Class, ClientFrame, Code, Encoding, Id, Item, MAX_ITEMS, Made, Outcome,
    Position, Record, Refusal, Target, codec,
};

/// What a frame holds beside its items.
const FRAME_REST: usize = 4 << 10;
/// What an item holds beside its record, in the binary form: its numbers and its log's name.
const ITEM_REST: usize = 512;

/// An append without a final outcome.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The append as it is sent.
    pub item: Item,
    /// Where the log id that it names was made, as it was known when the append was.
    made: Option<Position>,
    /// How often it was sent on this socket, less the answers that have come.
    copies: u32,
}

/// One writer.
#[derive(Clone, Debug)]
pub struct Writer {
    id: Id,
    next: u64,
    last: u64,
    pending: VecDeque<Pending>,
    /// How many of the pending are on their way, from the oldest on.
    in_flight: usize,
    /// Nothing is sent before this time.
    hold: Option<u64>,
    /// The mark that `welcome` told: what is at or below it is answered unasked.
    mark: u64,
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Settled,
    Repeated,
    PutOff(Refusal),
}

impl Writer {
    /// A writer that has not said anything yet.
    pub const fn new(id: Id) -> Self {
        Self { id, next: 1, last: 0, pending: VecDeque::new(), in_flight: 0, hold: None, mark: 0 }
    }

    /// A writer as a run before this one kept it: the last sequence that it gave, and its appends
    /// without an answer, oldest first.
    pub fn kept(id: Id, last: u64, pending: impl IntoIterator<Item = Item>) -> Self {
        let pending = pending.into_iter().map(|item| Pending { item, made: None, copies: 0 });
        Self { next: last + 1, last, pending: pending.collect(), ..Self::new(id) }
    }

    /// Its identity.
    pub const fn id(&self) -> Id {
        self.id
    }

    /// The last sequence given; 0: none yet.
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// The oldest sequence without an answer.
    pub fn oldest(&self) -> u64 {
        self.pending.front().map_or(self.next, |pending| pending.item.seq)
    }

    /// The appends without an answer, oldest first.
    pub fn pending(&self) -> impl ExactSizeIterator<Item = &Item> {
        self.pending.iter().map(|pending| &pending.item)
    }

    /// Whether an append is on its way.
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Numbers an append; it is pending from now on.
    pub fn number(&mut self, to: Target, if_head: Option<u64>, record: Record) -> u64 {
        self.number_made(None, to, if_head, record)
    }

    /// The same, where it is known where the log id that it names was made.
    pub(super) fn number_made(
        &mut self,
        made: Option<Position>,
        to: Target,
        if_head: Option<u64>,
        record: Record,
    ) -> u64 {
        let item = Item { seq: self.next, prev: self.last, to, if_head, record };
        self.last = self.next;
        self.next += 1;
        self.pending.push_back(Pending { item, made, copies: 0 });
        self.last
    }

    /// Whether something waits to be sent.
    pub(super) fn waits(&self) -> bool {
        self.in_flight < self.pending.len()
    }

    pub(super) fn next_size(&self) -> Option<u64> {
        self.pending.get(self.in_flight).map(|pending| pending.item.record.size() as u64)
    }

    /// When it goes on, if it waits for a time.
    pub(super) fn resumes_at(&self) -> Option<u64> {
        self.hold.filter(|until| *until < u64::MAX && self.waits())
    }

    pub(super) fn may_send(&mut self, now: u64) -> bool {
        if self.hold.is_some_and(|until| now >= until) {
            self.hold = None;
        }
        self.hold.is_none() && self.waits()
    }

    /// The socket ended: nothing is on its way.
    pub(super) fn cut(&mut self) {
        (self.in_flight, self.hold, self.mark) = (0, None, 0);
        self.pending.iter_mut().for_each(|pending| pending.copies = 0);
    }

    /// All that lies above a mark is to be sent from here on; what lies below gets its answer.
    pub(super) fn begin_again(&mut self, mark: u64) {
        self.hold = None;
        self.in_flight = self.pending.iter().take_while(|pending| pending.item.seq <= mark).count();
    }

    pub(super) fn met(&mut self, mark: u64) {
        self.mark = mark;
        self.begin_again(mark);
    }

    /// The oldest sequence whose answer is owed since `welcome`.
    pub(super) fn owed(&self) -> Option<u64> {
        let first = self.pending.front()?;
        (first.item.seq <= self.mark).then_some(first.item.seq)
    }

    /// The next frame's items: as many as fit the frame, the limit of those in flight, and credit.
    /// With them, where the log ids that they name were made: one place for each id.
    pub(super) fn next(
        &mut self,
        encoding: Encoding,
        frame_bytes: usize,
        limit: u32,
        room: Option<Room>,
    ) -> (Vec<Item>, Vec<Made>) {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let most = limit.saturating_sub(self.in_flight).min(MAX_ITEMS);
        let mut room = room.unwrap_or(Room { appends: u64::MAX, bytes: u64::MAX });
        let (mut items, mut bytes, mut made) = (Vec::new(), FRAME_REST, BTreeMap::new());
        while let Some(pending) = self.pending.get_mut(self.in_flight)
            && items.len() < most
        {
            let size = pending.item.record.size() as u64;
            if room.appends == 0 || size > room.bytes {
                break;
            }
            bytes += size_of(self.id, &pending.item, encoding);
            if !items.is_empty() && bytes > frame_bytes {
                break;
            }
            if let (Target::Log(log), Some(at)) = (&pending.item.to, pending.made)
                && *made.entry(*log).or_insert(at) != at
            {
                break;
            }
            room = Room { appends: room.appends - 1, bytes: room.bytes - size };
            pending.copies += 1;
            items.push(pending.item.clone());
            self.in_flight += 1;
        }
        (items, made.into_iter().map(|(log, position)| Made { log, position }).collect())
    }

    /// One answer. Final ones come in the order of sequences.
    pub(super) fn answered(
        &mut self,
        now: u64,
        answer: &Answer,
        mark: u64,
        resends: bool,
    ) -> Result<Answered, Breach> {
        let (writer, seq) = (self.id, answer.seq);
        if seq == 0 || seq > self.last {
            return Err(Breach::AnswerOrder { writer, seq });
        }
        let at = self.pending.iter().position(|pending| pending.item.seq == seq);
        let Some(at) = at else { return Ok(Answered::Repeated) };
        if let Some(pending) = self.pending.get_mut(at) {
            pending.copies = pending.copies.saturating_sub(1);
        }
        if let Outcome::Refused(refusal) = &answer.outcome
            && refusal.code.class() == Class::Transient
        {
            self.put_off(now, at, refusal, resends);
            return Ok(Answered::PutOff(refusal.clone()));
        }
        if at > 0 {
            return Err(Breach::AnswerOrder { writer, seq });
        }
        if mark < seq {
            return Err(Breach::Mark { writer, seq, mark });
        }
        self.pending.pop_front();
        self.in_flight = self.in_flight.saturating_sub(1);
        Ok(Answered::Settled)
    }

    /// It goes on from the first append that was refused, at the time told for that one. What was
    /// sent behind it follows from it, and a refusal of a copy that was sent again says nothing.
    fn put_off(&mut self, now: u64, at: usize, refusal: &Refusal, resends: bool) {
        let again = self.pending.get(at).is_some_and(|pending| pending.copies > 0);
        if at >= self.in_flight || again {
            return;
        }
        self.in_flight = at;
        let wait = match refusal.code {
            // A new token is what it waits for, not a time.
            _ if !resends => u64::MAX,
            Code::TokenExpired => u64::MAX,
            Code::SequenceGap => u64::from(refusal.retry_after),
            _ => u64::from(refusal.retry_after).max(1),
        };
        self.hold = Some(now.saturating_add(wait));
    }

    /// A new token is in force.
    pub(super) fn refreshed(&mut self) {
        self.hold = self.hold.filter(|until| *until < u64::MAX);
    }

    /// The server has another history, in which its mark is there: what lies above is numbered
    /// anew, in order, by the next writer. Gives old and new sequences, and what is refused here: a
    /// condition that speaks of a head of the other history.
    pub(super) fn over(&mut self, mark: u64, next: &mut Self) -> (Vec<(u64, u64)>, Vec<u64>) {
        let known = self.pending.iter().take_while(|pending| pending.item.seq <= mark).count();
        let (mut renumbered, mut refused) = (Vec::new(), Vec::new());
        for Pending { item, made, .. } in self.pending.split_off(known) {
            if item.if_head.is_some() {
                refused.push(item.seq);
            } else {
                renumbered.push((item.seq, next.number_made(made, item.to, None, item.record)));
            }
        }
        self.met(mark);
        (renumbered, refused)
    }
}

/// Bytes of an item in a frame: in JSON by writing it, since text may grow there by its escapes.
fn size_of(writer: Id, item: &Item, encoding: Encoding) -> usize {
    if encoding == Encoding::Bincode {
        return item.record.size() + ITEM_REST;
    }
    let alone = ClientFrame::Append(Append {
        writer,
        oldest: 0,
        items: vec![item.clone()],
        positions: vec![],
        made: vec![],
    });
    codec::message(&alone, encoding).len()
}
