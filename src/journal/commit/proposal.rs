//! A batch of this node on its way through a journal whose order is decided elsewhere.
//!
//! Promise: a batch is proposed again only where the journal may not have it: never after it was
//! taken, and after a wait where its fate is unknown. One that is refused again and again is given
//! up, and who waits for it is told when to come again: nothing of it is in the journal, so nothing
//! of it happened. No batch is larger than the journal takes.

use std::time::{Duration, Instant};

use super::{Committer, POLL, Stopped, Submitted, Told};
use crate::fold::{Applied, Batch, Command, Effect, Header, Reply};
use crate::journal::AppendError;
use crate::rows::Writes;
use crate::wire::{Answer, Answers, Code, Outcome, Refusal};

/// How long a proposal may stay unseen before the same bytes are proposed again.
const PROPOSE_AGAIN: Duration = Duration::from_millis(200);
/// So many refusals, with that wait between them, and a batch is given up.
const REFUSALS: u32 = 5;
/// When who is told so may come again, milliseconds.
const COME_AGAIN: u32 = 1_000;

/// A batch of this node that is not folded yet.
pub(super) struct Proposal<T> {
    pub(super) bytes: Vec<u8>,
    header: Header,
    commands: Vec<Command>,
    waiting: Vec<Waiting<T>>,
    fate: Fate,
}

/// Who waits for a command, and its weight.
type Waiting<T> = (Option<T>, usize);

/// What is known of a proposal.
enum Fate {
    /// The journal does not have it: so often it was refused, and when it was last.
    Outside(u32, Option<Instant>),
    /// The journal may have it, or get it yet.
    Unknown(Instant),
    /// The journal has it, by this number.
    Taken(u64),
}

impl<T> Proposal<T> {
    /// Whether its bytes are to be proposed now, where batch `folded` was the last one folded.
    pub(super) fn due(&self, folded: u64, now: Instant) -> bool {
        let waited = |since| now.saturating_duration_since(since) > PROPOSE_AGAIN;
        match self.fate {
            Fate::Outside(_, at) => at.is_none_or(waited),
            Fate::Unknown(at) => waited(at),
            // It is folded once it is read, and then this proposal is gone. Where its number is
            // folded and it is still here, the journal has not kept what it took.
            Fate::Taken(number) => number <= folded,
        }
    }

    /// The journal's answer to its bytes.
    ///
    /// # Errors
    /// When the journal is broken.
    pub(super) fn answered(
        &mut self,
        answer: Result<u64, AppendError>,
        now: Instant,
    ) -> Result<(), Stopped> {
        self.fate = match (answer, &self.fate) {
            (Ok(number), _) => Fate::Taken(number),
            (Err(AppendError::Broken(error)), _) => return Err(error.into()),
            (Err(AppendError::Refused(why)), Fate::Outside(times, _)) => {
                if times + 1 == REFUSALS {
                    tracing::error!(why, "the journal takes nothing: who waits is put off");
                }
                Fate::Outside(times + 1, Some(now))
            }
            // A refusal says nothing of an earlier time.
            (Err(AppendError::Unknown(_) | AppendError::Refused(_)), _) => Fate::Unknown(now),
        };
        Ok(())
    }

    /// Whether it is to be given up.
    pub(super) const fn is_refused(&self) -> bool {
        matches!(self.fate, Fate::Outside(REFUSALS.., _))
    }

    /// Who waits for its commands.
    pub(super) fn tickets(self) -> Vec<Option<T>> {
        self.waiting.into_iter().map(|(ticket, _)| ticket).collect()
    }
}

impl<T: Send + 'static> Committer<T> {
    /// Makes a proposal of what was submitted; none where that is nothing, or nothing that the
    /// journal would take.
    pub(super) fn next_proposal(&mut self) -> Result<Option<Proposal<T>>, Stopped> {
        let most = self.journal.most_bytes();
        let gathered = self.gather(POLL, most)?;
        let (mut commands, mut waiting): (Vec<_>, Vec<_>) =
            (gathered.into_iter()).map(|one| (one.command, (one.ticket, one.weight))).unzip();
        while !commands.is_empty() {
            let (batch, bytes) = self.propose(commands);
            let Batch { header, commands: all } = batch;
            if bytes.len() <= most {
                let fate = Fate::Outside(0, None);
                return Ok(Some(Proposal { bytes, header, commands: all, waiting, fate }));
            }
            // Weights are estimates. What was not sent leaves its serial to the next one.
            self.serial -= 1;
            commands = all;
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

    /// Gives a batch up of which nothing is in the journal. What nobody waits for, as the end of a
    /// socket, nobody would ask for again: it goes into the next one, unless the node goes down.
    pub(super) fn give_up(&mut self, refused: Proposal<T>) -> Result<(), Stopped> {
        self.serial -= 1;
        let Proposal { header, commands, waiting, .. } = refused;
        let (mut replies, mut tickets, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        for (command, (ticket, weight)) in commands.into_iter().zip(waiting) {
            if ticket.is_none() {
                kept.push((command, (ticket, weight)));
            } else {
                replies.push(put_off(&command));
                tickets.push(ticket);
            }
        }
        if !self.gauge.stopped() {
            self.hold(kept.into_iter());
        }
        self.tell_unfolded(header, replies, tickets)
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
        let (repeat, writes) = (false, Writes::default());
        let applied = Applied { batch, header, time, position, repeat, active, writes, effects };
        self.out.send(Told { applied, tickets }).map_err(|_| Stopped::Closed)
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
