//! What the client may append without being refused for rate, as the server tells it.
//!
//! Promise: what was sent behind the word that told the credit is taken off it, so no more is sent
//! than the server lets through; and one append goes all the same where nothing is in flight, so
//! that a small credit never ends the writing.

use std::collections::VecDeque;

use super::writer::Writer;
use crate::wire::{Credit, Id, Item};

/// Room for appends: so many, of so many bytes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) appends: u64,
    pub(super) bytes: u64,
}

/// A frame of appends that was sent.
#[derive(Debug)]
struct Sent {
    number: u64,
    writer: Id,
    first: u64,
    last: u64,
    appends: u64,
    bytes: u64,
}

/// The credit in force on one socket.
#[derive(Debug, Default)]
pub(super) struct CreditHeld {
    told: Option<Told>,
    sent: VecDeque<Sent>,
    /// Number of the next frame.
    next: u64,
}

#[derive(Debug)]
struct Told {
    /// The frame behind which it was told.
    behind: u64,
    /// What is left of it.
    room: Room,
    /// Not before this time.
    from: u64,
}

impl CreditHeld {
    /// Credit told by `welcome`: it counts from `hello` on.
    pub(super) fn met(&mut self, now: u64, credit: Option<Credit>) {
        self.told = credit.map(|credit| self.told_behind(0, now, credit));
    }

    /// A frame of appends goes out.
    pub(super) fn sent(&mut self, writer: Id, items: &[Item]) {
        self.next += 1;
        let bytes = items.iter().map(|item| item.record.size() as u64).sum();
        let (first, last) = match items {
            [first, .., last] => (first.seq, last.seq),
            [one] => (one.seq, one.seq),
            [] => return,
        };
        let appends = items.len() as u64;
        if let Some(told) = &mut self.told {
            told.room.subtract(appends, bytes);
        }
        self.sent.push_back(Sent { number: self.next, writer, first, last, appends, bytes });
    }

    /// Answers came, up to a sequence of a writer. Those of the frame that was sent last are the
    /// newest word; a refusal for rate ends what was told before.
    pub(super) fn answered(
        &mut self,
        now: u64,
        (writer, seq): (Id, u64),
        rate: bool,
        credit: Option<Credit>,
    ) {
        let holds = |sent: &&Sent| sent.writer == writer && (sent.first..=sent.last).contains(&seq);
        let number = self.sent.iter().find(holds).map_or(0, |sent| sent.number);
        match credit {
            Some(credit) if self.told.as_ref().is_none_or(|told| number >= told.behind) => {
                self.told = Some(self.told_behind(number, now, credit));
            }
            Some(_) => {}
            None if rate => self.told = None,
            None => {}
        }
        self.sent.retain(|sent| {
            let answered = sent.number < number || (sent.number == number && sent.last <= seq);
            sent.writer != writer || !answered
        });
    }

    /// A part of a snapshot was refused for rate.
    pub(super) fn ended(&mut self) {
        self.told = None;
    }

    /// Room for the next frame; none: nothing is told, and the client sends as it likes. What does
    /// not fit is sent all the same when nothing is in flight, one append at a time.
    pub(super) fn room(&self, now: u64, writer: &Writer) -> Option<Room> {
        let told = self.told.as_ref()?;
        if now < told.from {
            return Some(Room { appends: 0, bytes: 0 });
        }
        let left = told.room;
        let fits = writer.next_size().is_none_or(|size| left.appends > 0 && size <= left.bytes);
        if !fits && !writer.is_in_flight() {
            return Some(Room { appends: 1, bytes: u64::MAX });
        }
        Some(left)
    }

    /// When credit that is told for later begins, if something waits for it.
    pub(super) fn opens_at(&self, now: u64, writer: &Writer) -> Option<u64> {
        let told = self.told.as_ref().filter(|told| told.from > now && writer.waits())?;
        Some(told.from)
    }

    /// What was sent behind the frame that is answered is to be taken off.
    fn told_behind(&self, behind: u64, now: u64, credit: Credit) -> Told {
        let mut room = Room { appends: u64::from(credit.appends), bytes: credit.bytes };
        for sent in self.sent.iter().filter(|sent| sent.number > behind) {
            room.subtract(sent.appends, sent.bytes);
        }
        Told { behind, room, from: now.saturating_add(u64::from(credit.after)) }
    }
}

impl Room {
    const fn subtract(&mut self, appends: u64, bytes: u64) {
        self.appends = self.appends.saturating_sub(appends);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
