//! Appends on their way into the fold: bounded commands, one after another, of one writer.
//!
//! A request without a writer of its own gets one for itself, of which the fold keeps nothing: so
//! such a request is stored at least once by whoever sends it again, while one with writer and
//! sequence is stored exactly once however often it comes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Problem, refusal_json, with};
use super::caller::Caller;
use crate::admission::{Judged, fits};
use crate::auth::Grants;
use crate::channel::settle;
use crate::fold::{Command, Reply};
use crate::gateway::Gate;
use crate::limit::{Charged, Costs, Limits, Purse};
use crate::log::{Appends, Entry, MAX_IN_FLIGHT};
use crate::wire::{Answer, Class, Code, Id, Outcome, Record, Refusal, Target};

/// A command is closed when its entries weigh this much, in bytes.
const COMMAND_BYTES: usize = 1 << 20;
/// What an entry weighs besides its record and name.
const ENTRY_BYTES: usize = 128;
/// How long a request of many records waits for the rates, in all.
const PAY_TIME: Duration = Duration::from_secs(20);
/// How long the fold's reply is waited for.
const REPLY_TIME: Duration = Duration::from_secs(30);

/// Who appends, and which sequence comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Writing {
    user: String,
    writer: Id,
    pub first: u64,
    oldest: u64,
    /// Whether the caller named the writer.
    pub named: bool,
}

impl Writing {
    /// A writer for one request.
    pub(super) fn once(grants: &Grants) -> Self {
        let writer = Id(rand::random());
        Self { user: grants.user.clone(), writer, first: 1, oldest: 1, named: false }
    }

    /// The caller's own writer, from that sequence on.
    ///
    /// # Errors
    /// `bad_request` when the numbers cannot be.
    pub(super) fn named(
        grants: &Grants,
        writer: Id,
        first: u64,
        oldest: u64,
    ) -> Result<Self, Problem> {
        if writer == Id::NONE {
            return Err(Problem::bad_request("writer: 128 random bits, not zeros: make one"));
        }
        if first == 0 || oldest == 0 || oldest > first {
            let message = "sequences begin at 1, and oldest is not past seq";
            return Err(Problem::bad_request(message));
        }
        Ok(Self { user: grants.user.clone(), writer, first, oldest, named: true })
    }
}

/// An append of a record to a log of that name, found wanting or not by the record's own rules.
pub(super) fn wanted(name: &str, record: Record, limits: &Limits) -> Judged {
    let verdict = fits(&record, limits).err();
    Judged { to: Target::Name(name.to_owned()), if_head: None, record, verdict }
}

fn weight(Judged { to, record, .. }: &Judged) -> usize {
    let name = match to {
        Target::Name(name) => name.len(),
        Target::Log(_) => 0,
    };
    ENTRY_BYTES + name + record.size()
}

/// Entries of one command, and what they weigh.
type Load = (Vec<Entry>, usize);

/// Numbers and hashes the appends, and parts them into commands. This is the work of a request
/// that grows with its bytes; large ones do it on a thread of their own.
pub(super) fn loads(first: u64, wanted: Vec<Judged>) -> Vec<Load> {
    let mut loads: Vec<Load> = Vec::new();
    for (seq, want) in (first..).zip(wanted) {
        let weight = weight(&want);
        let entry = want.entry(seq, seq - 1, None);
        match loads.last_mut() {
            Some((entries, carried))
                if entries.len() < MAX_IN_FLIGHT && *carried + weight <= COMMAND_BYTES =>
            {
                entries.push(entry);
                *carried += weight;
            }
            _ => loads.push((vec![entry], weight)),
        }
    }
    loads
}

/// What became of a request's appends.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// Answers, in order; those after the one that stopped it are missing.
    pub answers: Vec<Answer>,
    /// Why no more were asked for.
    pub stopped: Option<Refusal>,
    /// The writer's mark.
    pub mark: u64,
}

/// Sends the commands, each when the one before is answered, the token still counts and the rates
/// allow it.
pub(super) async fn send(
    gate: &Gate,
    caller: &Caller,
    writing: &Writing,
    loads: Vec<Load>,
    mut paying: Paying,
) -> Sent {
    let mut sent = Sent::default();
    let once = !writing.named;
    for (mut entries, weight) in loads {
        let mut charged = match paying.pay(gate, caller, &entries).await {
            Ok(charged) => charged,
            Err(refusal) => {
                sent.stopped = Some(refusal);
                break;
            }
        };
        if let Some(first) = entries.first_mut().filter(|_| once) {
            // Nothing is kept of the writer, so each command is its first.
            first.prev = 0;
        }
        let Writing { user, writer, oldest, .. } = writing.clone();
        gate.admission.read_ahead(writing.named.then_some(writer), &entries);
        let appends = Appends {
            user,
            writer,
            connection: Id::NONE,
            oldest,
            once,
            positions: Vec::new(),
            entries,
        };
        let reply = match gate.hand(Command::Append(appends), weight) {
            Ok(reply) => reply,
            Err(refusal) => {
                sent.stopped = Some(refusal);
                break;
            }
        };
        // Whoever hangs up now is charged all the same.
        charged.hand_in();
        match tokio::time::timeout(REPLY_TIME, reply).await {
            Ok(Ok((batch, Reply::Answers(answers)))) => {
                settle(charged, batch, &answers.answers);
                sent.mark = answers.mark;
                sent.answers.extend(answers.answers);
            }
            Ok(Ok((_, Reply::Refused(refusal)))) => {
                charged.settle(|_| true);
                sent.stopped = Some(refusal);
            }
            _ => {
                // It may have been stored: it stays charged.
                sent.stopped = Some(unknown(writing.named));
            }
        }
        if sent.stopped.is_some() || sent.ends(writing.named) {
            break;
        }
    }
    sent
}

/// How a request pays: a purse, and what it has paid for before its work began.
#[derive(Debug)]
pub(super) struct Paying {
    purse: Purse,
    /// The log's key for its rate, where items name it by its id.
    log: u64,
    paid: Charged,
    until: Instant,
}

impl Paying {
    /// Pays for the first items, before anything is done. A budget of which something is left is
    /// waited for a bounded time; one that is spent refuses at once, so that nobody has more than
    /// one request waiting for the rates.
    ///
    /// `holder` names whose turn it is where no writer does: what comes again by that name.
    ///
    /// # Errors
    /// `rate` with the time after which all of the items fit: they are kept for who comes again.
    pub(super) async fn begin(
        gate: &Gate,
        caller: &Caller,
        writing: &Writing,
        log: &str,
        holder: &str,
        costs: Costs,
    ) -> Result<Self, Refusal> {
        let writer = writing.named.then_some(writing.writer);
        // A writer's appends have their order, whatever log they are for. And what the user alone
        // owes is set aside for it once, so that who tries many logs does not book for each.
        let by_log = writer.is_none() && gate.admission.rates.of_logs();
        let besides = if by_log { holder } else { "" };
        let mut purse = gate.admission.rates.purse_again(&writing.user, writer, besides);
        let until = Instant::now() + PAY_TIME;
        let paid = match purse.charge_whole(Id::NONE, costs.clone()) {
            Ok(paid) => paid,
            Err((refusal, false)) => return Err(refusal),
            Err((refusal, true)) => wait(gate, caller, &mut purse, costs, refusal, until).await?,
        };
        Ok(Self { purse, log: gate.admission.rates.log_key(log), paid, until })
    }

    /// Pays for the entries of a command, as far as that was not done.
    async fn pay(
        &mut self,
        gate: &Gate,
        caller: &Caller,
        entries: &[Entry],
    ) -> Result<Charged, Refusal> {
        caller.recheck(gate).map_err(|problem| problem.refusal)?;
        let mut charged = self.paid.split_to(entries.len());
        let unpaid = entries.get(charged.len()..).unwrap_or_default();
        if unpaid.is_empty() {
            return Ok(charged);
        }
        let mut costs = Costs::with_room(unpaid.len());
        for entry in unpaid {
            let log = match &entry.to {
                _ if entry.verdict.is_some() => 0,
                Target::Name(name) => gate.admission.rates.log_key(name),
                Target::Log(_) => self.log,
            };
            costs.push(entry.record.size(), log);
        }
        let purse = &mut self.purse;
        let more = match purse.charge_whole(Id::NONE, costs.clone()) {
            Ok(more) => more,
            Err((refusal, _)) => wait(gate, caller, purse, costs, refusal, self.until).await?,
        };
        charged.join(more);
        Ok(charged)
    }
}

/// Waits until what was refused fits, a bounded time: a request of many records is held to the
/// rates like as many small ones. The token may end meanwhile.
///
/// # Errors
/// The refusal, where it would take too long.
pub(super) async fn wait(
    gate: &Gate,
    caller: &Caller,
    purse: &mut Purse,
    costs: Costs,
    mut refusal: Refusal,
    until: Instant,
) -> Result<Charged, Refusal> {
    loop {
        let wait = Duration::from_millis(u64::from(refusal.retry_after));
        if Instant::now() + wait > until {
            return Err(refusal);
        }
        tokio::time::sleep(wait).await;
        caller.recheck(gate).map_err(|problem| problem.refusal)?;
        match purse.charge_whole(Id::NONE, costs.clone()) {
            Ok(charged) => return Ok(charged),
            Err((again, _)) => refusal = again,
        }
    }
}

fn unknown(named: bool) -> Refusal {
    if named {
        return Code::Unknown.into();
    }
    let message = "nobody can say yet whether it was stored; sent again, it may be stored twice: \
                   name a writer and a sequence to have it stored once";
    Refusal::because(Code::Unknown, message)
}

impl Sent {
    /// Whether what follows is not to be tried: after a refusal that spent nothing all that
    /// follows is refused too, and one without a writer of its own gets all or the first part.
    fn ends(&self, named: bool) -> bool {
        let refused = self.answers.iter().filter_map(|answer| refusal(&answer.outcome));
        refused.into_iter().any(|refusal| !named || refusal.code.class() == Class::Transient)
    }

    /// The first thing that was refused.
    pub(super) fn refused(&self) -> Option<&Refusal> {
        let first = self.answers.iter().find_map(|answer| refusal(&answer.outcome));
        first.or(self.stopped.as_ref())
    }

    /// How many were stored.
    pub(super) fn stored(&self) -> usize {
        self.answers.iter().filter(|answer| refusal(&answer.outcome).is_none()).count()
    }
}

const fn refusal(outcome: &Outcome) -> Option<&Refusal> {
    match outcome {
        Outcome::Stored { .. } => None,
        Outcome::Refused(refusal) => Some(refusal),
    }
}

/// An answer as JSON: sequence, then offset and place, or the refusal.
pub(super) fn answer_json(answer: &Answer) -> Value {
    match &answer.outcome {
        Outcome::Stored { log, offset, place, .. } => {
            json!({ "seq": answer.seq, "log": log, "offset": offset, "place": place })
        }
        Outcome::Refused(refusal) => with(refusal_json(refusal), "seq", answer.seq),
    }
}

/// Asks the fold for something else than appends, and waits a bounded time.
///
/// # Errors
/// The fold's refusal, or the node's.
pub(super) async fn ask(gate: &Gate, command: Command, weight: usize) -> Result<Reply, Problem> {
    let reply = gate.hand(command, weight)?;
    match tokio::time::timeout(REPLY_TIME, reply).await {
        Ok(Ok((_, Reply::Refused(refusal)))) => Err(refusal.into()),
        Ok(Ok((_, reply))) => Ok(reply),
        _ => {
            let message = "nobody can say yet whether it was done: look before asking again";
            Err(Refusal::because(Code::Unknown, message).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Level, Payload, Place};

    fn record(bytes: usize) -> Record {
        Record { payload: Some(Payload::text("x".repeat(bytes))), ..Record::default() }
    }

    fn of(bytes: usize) -> Judged {
        wanted("a", record(bytes), &Limits::DEFAULT)
    }

    #[test]
    fn sequences_follow_each_other_over_commands() {
        let loads = loads(7, vec![of(1); 2 * MAX_IN_FLIGHT + 1]);
        let sizes: Vec<_> = loads.iter().map(|(entries, _)| entries.len()).collect();
        assert_eq!(sizes, [MAX_IN_FLIGHT, MAX_IN_FLIGHT, 1]);
        let entries: Vec<_> = loads.into_iter().flat_map(|(entries, _)| entries).collect();
        for (entry, seq) in entries.iter().zip(7..) {
            assert_eq!((entry.seq, entry.prev), (seq, seq - 1));
        }
    }

    #[test]
    fn commands_are_bounded_in_bytes() {
        let loads = loads(1, vec![of(400_000); 5]);
        let sizes: Vec<_> = loads.iter().map(|(entries, _)| entries.len()).collect();
        assert_eq!(sizes, [2, 2, 1]);
        assert!(loads.iter().all(|(_, weight)| *weight <= COMMAND_BYTES));
    }

    fn sent(codes: &[Option<Code>]) -> Sent {
        let outcome = |code: &Option<Code>| match code {
            Some(code) => Outcome::Refused((*code).into()),
            None => Outcome::Stored {
                log: 1,
                offset: 2,
                place: Place { batch: 3, index: 4 },
                level: Level::Synced,
            },
        };
        let answers = (1..).zip(codes);
        let answers = answers.map(|(seq, code)| Answer { seq, outcome: outcome(code) }).collect();
        Sent { answers, stopped: None, mark: 0 }
    }

    #[test]
    fn a_request_goes_on_after_a_refusal_only_where_it_spent_its_sequence() {
        assert!(!sent(&[None, None]).ends(false));
        assert!(sent(&[None, Some(Code::Conflict)]).ends(false));
        assert!(!sent(&[None, Some(Code::Conflict)]).ends(true));
        assert!(sent(&[Some(Code::SequenceGap)]).ends(true));
    }

    #[test]
    fn the_first_refusal_and_the_number_stored_are_told() {
        let sent = sent(&[None, Some(Code::Epoch), None, Some(Code::LogFull)]);
        assert_eq!(sent.refused().map(|refusal| refusal.code), Some(Code::Epoch));
        assert_eq!(sent.stored(), 2);
        let shown: Vec<_> = sent.answers.iter().map(answer_json).collect();
        assert_eq!(shown[0], json!({"seq": 1, "log": 1, "offset": 2, "place": "3.4"}));
        assert_eq!((&shown[1]["seq"], &shown[1]["code"]), (&json!(2), &json!("epoch")));
    }

    #[test]
    fn a_writer_is_checked() {
        let grants = Grants {
            user: "ana".to_owned(),
            expires_ms: 0,
            issued_ms: None,
            token_id: String::new(),
            grants: vec![],
        };
        let id = Id([1; 16]);
        assert!(Writing::named(&grants, id, 5, 3).unwrap().named);
        for (writer, first, oldest) in [(Id::NONE, 1, 1), (id, 0, 0), (id, 1, 0), (id, 1, 2)] {
            assert!(Writing::named(&grants, writer, first, oldest).is_err());
        }
        assert_ne!(Writing::once(&grants), Writing::once(&grants));
    }
}
