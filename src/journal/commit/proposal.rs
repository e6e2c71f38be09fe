//! A batch of this node on its way through a journal whose order is decided elsewhere.
//!
//! Promise: a batch is proposed again only where the journal may not have it: never after it was
//! taken, and after a wait where its fate is unknown. One that is refused again and again is given
//! up, and who waits for it is told when to come again: nothing of it is in the journal, so nothing
//! of it happened. No batch is larger than the journal takes.

use std::time::Instant;

use bytes::Bytes;

use super::super::fence::uptime;
use super::window::{PROPOSE_AGAIN, Window};
use super::{Committer, Stopped, Submitted, Told};
use crate::fold::{Applied, Batch, Command, Effect, Header, Reply};
use crate::journal::{Fate as Answered, JournalError};
use crate::rows::Writes;
use crate::wire::{Answer, Answers, Code, Outcome, Refusal};

/// So many refusals, with a wait between them, and a batch is given up.
const REFUSALS: u32 = 5;
/// When who is told so may come again, milliseconds.
const COME_AGAIN: u32 = 1_000;

/// A batch of this node that is not folded yet.
pub(super) struct Proposal<T> {
    pub(super) bytes: Bytes,
    header: Header,
    commands: Vec<Command>,
    waiting: Vec<Waiting<T>>,
    /// When it was made, by a clock that counts while the machine sleeps, milliseconds.
    pub(super) proposed: u64,
    pub(super) fate: Fate,
    /// So often it was refused.
    refused: u32,
    /// A copy of it may be on its way for ever: what bears this serial cannot be another any more.
    loose: bool,
}

/// Who waits for a command, and its weight.
type Waiting<T> = (Option<T>, usize);

/// What is known of a proposal.
pub(super) enum Fate {
    /// It is to be proposed: at once, or some time after then.
    Due(Option<Instant>),
    /// It was proposed, and has no answer yet.
    Asked,
    /// The journal has it, by this number.
    Taken(u64),
}

impl<T> Proposal<T> {
    /// One that is to be proposed.
    pub(super) fn new(batch: Batch, bytes: Bytes, waiting: Vec<Waiting<T>>) -> Self {
        let Batch { header, commands } = batch;
        let (proposed, fate, refused, loose) = (uptime(), Fate::Due(None), 0, false);
        Self { bytes, header, commands, waiting, proposed, fate, refused, loose }
    }

    pub(super) const fn serial(&self) -> u64 {
        self.header.serial
    }

    /// Since when it waits to be proposed again.
    pub(super) const fn since(&self) -> Option<Instant> {
        match self.fate {
            Fate::Due(since) => since,
            Fate::Asked | Fate::Taken(_) => None,
        }
    }

    /// Whether its bytes are to be proposed now, where batch `folded` was the last one folded; none
    /// where they are to be later.
    pub(super) fn due(&self, folded: u64, now: Instant) -> Option<bool> {
        match self.fate {
            Fate::Due(None) => Some(true),
            Fate::Due(Some(since)) => {
                let waited = now.saturating_duration_since(since) > PROPOSE_AGAIN;
                waited.then_some(true)
            }
            Fate::Asked => Some(false),
            // It is folded once it is read, and then this proposal is gone. Where its number is
            // folded and it is still here, the journal has not kept what it took.
            Fate::Taken(number) => Some(number <= folded),
        }
    }

    /// The journal's answer to its bytes. One that gives it the number of a batch that was folded
    /// before it was made has lost that batch.
    pub(super) fn answered(&mut self, answer: Answered, now: Instant) -> Result<(), JournalError> {
        match answer {
            Answered::Taken(number) if number <= self.header.known.batch => {
                let wanted = self.header.known.batch + 1;
                return Err(JournalError::Lost { head: number, wanted });
            }
            Answered::Taken(number) => self.fate = Fate::Taken(number),
            Answered::Refused(why) => {
                self.refused += 1;
                if self.refused == REFUSALS {
                    tracing::error!(why, "the journal takes nothing: who waits is put off");
                }
                self.fate = Fate::Due(Some(now));
            }
            Answered::Unknown(_) => {
                self.loose = true;
                self.fate = Fate::Due(Some(now));
            }
        }
        Ok(())
    }

    /// It was read before its turn, and is to come again behind those that it overtook: at once,
    /// unless another copy is on its way or in the journal. That one comes in its turn, or is due
    /// again by its own fate; a copy more for each that comes early would be more and more of them.
    pub(super) const fn came_early(&mut self) {
        if matches!(self.fate, Fate::Due(_)) {
            self.fate = Fate::Due(None);
        }
    }

    /// Whether it was refused so often that it is to be given up.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused >= REFUSALS
    }

    /// Whether nothing of it is in the journal, or may get there.
    pub(super) const fn is_outside(&self) -> bool {
        matches!(self.fate, Fate::Due(_)) && !self.loose
    }

    /// Who waits for its commands.
    pub(super) fn tickets(self) -> Vec<Option<T>> {
        self.waiting.into_iter().map(|(ticket, _)| ticket).collect()
    }
}

impl<T: Send + 'static> Committer<T> {
    /// Makes proposals of what was submitted, as long as there is room for them.
    pub(super) fn fill(&mut self, window: &mut Window<T>, most: usize) -> Result<(), Stopped> {
        while !window.is_full() {
            let gathered = self.gather(None, most)?;
            if gathered.is_empty() {
                return Ok(());
            }
            match self.proposal(gathered, most, window.is_empty())? {
                Some(proposal) => window.push(proposal),
                None if window.is_empty() => {}
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// A batch of at most so many bytes of these commands; those behind it are held for the next.
    /// None where the first one alone is larger: it is refused, once nothing before it is on its
    /// way, so that answers come in the order of commands.
    fn proposal(
        &mut self,
        gathered: Vec<Submitted<T>>,
        most: usize,
        alone: bool,
    ) -> Result<Option<Proposal<T>>, Stopped> {
        let (mut commands, mut waiting): (Vec<_>, Vec<_>) =
            (gathered.into_iter()).map(|one| (one.command, (one.ticket, one.weight))).unzip();
        while !commands.is_empty() {
            let (batch, bytes) = self.propose(commands);
            if bytes.len() <= most {
                return Ok(Some(Proposal::new(batch, bytes.into(), waiting)));
            }
            let Batch { header, commands: all } = batch;
            // Weights are estimates. What was not sent leaves its serial to the next one.
            self.serial -= 1;
            commands = all;
            if commands.len() == 1 && !alone {
                self.hold(commands.into_iter().zip(waiting));
                return Ok(None);
            }
            if commands.len() == 1 {
                let length = bytes.len();
                tracing::error!(length, most, "a command is larger than the journal takes");
                let message = format!("the journal takes at most {most} bytes at once");
                let reply = Reply::Refused(Refusal::because(Code::TooLarge, message));
                let tickets = waiting.into_iter().map(|(ticket, _)| ticket).collect();
                self.tell_unfolded(header, vec![reply], tickets)?;
                return Ok(None);
            }
            let half = commands.len() / 2;
            let later = commands.split_off(half).into_iter().zip(waiting.split_off(half));
            self.hold(later);
        }
        Ok(None)
    }

    /// Gives batches up of which nothing is in the journal, where it takes nothing. What nobody
    /// waits for, as the end of a socket, nobody would ask for again: it goes into the next one,
    /// unless the node goes down.
    pub(super) fn give_up(&mut self, window: &mut Window<T>) -> Result<(), Stopped> {
        let mut all = window.take_refused();
        self.serial -= all.len() as u64;
        let mut kept = Vec::new();
        all.reverse();
        for Proposal { header, commands, waiting, .. } in all {
            let (mut replies, mut tickets) = (Vec::new(), Vec::new());
            for (command, (ticket, weight)) in commands.into_iter().zip(waiting) {
                if ticket.is_none() {
                    kept.push((command, (ticket, weight)));
                } else {
                    replies.push(put_off(&command));
                    tickets.push(ticket);
                }
            }
            self.tell_unfolded(header, replies, tickets)?;
        }
        if !self.gauge.stopped() {
            self.hold(kept.into_iter());
        }
        Ok(())
    }

    /// Keeps commands for the next batch, before all others.
    fn hold(&mut self, commands: impl DoubleEndedIterator<Item = (Command, Waiting<T>)>) {
        for (command, (ticket, weight)) in commands.rev() {
            self.held.push_front(Box::new(Submitted { command, weight, ticket }));
        }
    }

    /// Tells replies to commands that no batch has carried: all stands where it stood.
    fn tell_unfolded(
        &self,
        header: Header,
        replies: Vec<Reply>,
        tickets: Vec<Option<T>>,
    ) -> Result<(), Stopped> {
        let effects = replies.into_iter().enumerate();
        let effects = effects.map(|(index, reply)| Effect::Reply(index, reply)).collect();
        let (batch, time) = (self.fold.known().batch, self.fold.head().time);
        let (position, active) = (self.fold.position(), self.fold.active());
        let (repeat, early, writes) = (false, false, Writes::default());
        let applied =
            Applied { batch, header, time, position, repeat, early, active, writes, effects };
        self.tell(Told { applied, tickets, proposed: None })
    }
}

/// The answer to a command that the journal did not take: it is to come again. Appends are
/// answered one by one, as wherever they are put off, so that their socket lives on.
fn put_off(command: &Command) -> Reply {
    let message = "the journal takes nothing at the moment";
    let refusal = Refusal::because(Code::Overloaded, message).after(COME_AGAIN);
    let Command::Append(appends) = command else { return Reply::Refused(refusal) };
    let answer = |seq| Answer { seq, outcome: Outcome::Refused(refusal.clone()) };
    let answers = appends.entries.iter().map(|entry| answer(entry.seq)).collect();
    let (writer, positions) = (appends.writer, Vec::new());
    Reply::Answers(Answers { writer, mark: 0, answers, positions, credit: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::Known;
    use crate::wire::Id;

    fn proposal() -> Proposal<()> {
        let known = Known { batch: 5, chain: [0; 32], rows: [0; 8] };
        let (fold, journal, node, incarnation, serial, time) = (1, Id::NONE, Id::NONE, 1, 1, 0);
        let header = Header { fold, journal, known, node, incarnation, serial, time };
        Proposal::new(Batch { header, commands: Vec::new() }, Bytes::new(), Vec::new())
    }

    #[test]
    fn a_batch_that_is_taken_where_another_was_folded_tells_that_the_end_is_lost() {
        let mut one = proposal();
        let lost = one.answered(Answered::Taken(5), Instant::now());
        assert_eq!(lost, Err(JournalError::Lost { head: 5, wanted: 6 }));
        one.answered(Answered::Taken(6), Instant::now()).unwrap();
        assert_eq!(one.due(5, Instant::now()), Some(false), "it is waited for");
    }

    #[test]
    fn one_that_comes_early_again_and_again_has_one_copy_on_its_way() {
        let (mut one, now) = (proposal(), Instant::now());
        one.fate = Fate::Asked;
        one.came_early();
        assert_eq!(one.due(6, now), Some(false), "its fate is not told yet");
        one.answered(Answered::Taken(7), now).unwrap();
        one.came_early();
        assert_eq!(one.due(6, now), Some(false), "that copy is still to be read");
        assert_eq!(one.due(7, now), Some(true), "it came early too");
        one.answered(Answered::Unknown(String::new()), now).unwrap();
        one.came_early();
        assert_eq!(one.due(7, now), Some(true), "nothing of it is on its way");
    }
}
