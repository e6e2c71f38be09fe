//! A client comes: it is met, given a slot, and its subscriptions are decided.
//!
//! Attach and activation end in `fill`, later subscriptions in `subscribe`; both come down to
//! `set_subs`, which asks [`open`](super::open()) for each log. A clone happens here, at one point
//! of the journal: its siblings' subscriptions as far as the clone's own grants allow, and what the
//! client has open besides. What it has not opened is held, if it knows of that: a second tab that
//! shows one small log is not sent a sibling's big one.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::open::{History, Opened, Wanted, hold, open};
use super::row::{ActiveOne, Attachment, ConnectionRow, Sub};
use super::slots::Newcomer;
use super::{Connections, Context, Decided, Event, user_key};
use crate::log::{LogRow, Logs, Writer};
use crate::rows::{Cache, Io, Key, RowsError, Table};
use crate::wire::{
    Answer, BaseHeld, Cloning, Code, Cursor, Id, Met, Open, Pattern, Place, Position, Reason,
    Refusal, ResetReason, Start, Target, WriterAt, WriterMark, name,
};

/// Most writers that a client may ask after when it comes.
pub const MAX_WRITERS: usize = 16;

/// A client that comes, as a command carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// The connection.
    pub connection: Id,
    /// Whose it is, by the token.
    pub user: String,
    /// The device.
    pub device: Option<Id>,
    /// Library and version.
    pub client: String,
    /// Whether someone looks at it.
    pub visible: bool,
    /// What to take from an active sibling.
    pub cloning: Cloning,
    /// Writers it speaks for.
    pub writers: Vec<WriterAt>,
    /// Logs it has open.
    pub open: Vec<Open>,
    /// Names that its token lets it read.
    pub read: Vec<Pattern>,
    /// Names under which it may make a log by opening it.
    pub make: Vec<Pattern>,
    /// The highest positions that it has seen.
    pub positions: Vec<Position>,
    /// Bases that it has begun.
    pub bases: Vec<BaseHeld>,
    /// Whether what it has not opened is held.
    pub holds: bool,
}

/// Logs to subscribe a connection to, as a command carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribe {
    /// The connection.
    pub connection: Id,
    /// The generation that asks; none: the back end, which may always.
    pub generation: Option<u64>,
    /// The logs.
    pub open: Vec<Open>,
    /// Names that the token lets it read.
    pub read: Vec<Pattern>,
    /// Names under which it may make a log by opening it.
    pub make: Vec<Pattern>,
    /// Bases that it has begun.
    pub bases: Vec<BaseHeld>,
}

/// A writer's mark and the answers that its client may have missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterAnswers {
    /// The mark.
    pub mark: WriterMark,
    /// Every outcome from the client's oldest unanswered on.
    pub answers: Vec<Answer>,
}

/// How a client was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The connection.
    pub connection: Id,
    /// Its generation from here on.
    pub generation: u64,
    /// How the client was met.
    pub met: Met,
    /// The connection it was cloned from.
    pub source: Option<Id>,
    /// Where in the journal.
    pub place: Place,
    /// Why it is inactive, if it is.
    pub inactive: Option<Reason>,
    /// Its subscriptions.
    pub opened: Vec<Opened>,
    /// Subscriptions that were not made, by name.
    pub refused: Vec<(String, Refusal)>,
    /// Log ids it was subscribed to before and is no more.
    pub ended: Vec<u64>,
    /// What became of appends.
    pub writers: Vec<WriterAnswers>,
    /// What the client holds is of another history.
    pub other_history: bool,
}

/// What a client brings that becomes active, or was.
#[derive(Clone, Copy)]
struct Brings<'a> {
    cloning: Cloning,
    open: &'a [Open],
    bases: &'a [BaseHeld],
    may: May<'a>,
    holds: bool,
    time: u64,
}

/// How a log is to be subscribed to.
#[derive(Clone)]
pub(super) enum Want {
    /// Opened: its records follow.
    Open(Wanted),
    /// Held, with the cursor that is known.
    Hold(Sub),
}

/// What a token lets its client do with logs that it opens.
#[derive(Clone, Copy)]
pub(super) struct May<'a> {
    pub(super) read: &'a [Pattern],
    pub(super) make: &'a [Pattern],
}

/// After so many milliseconds a reader may look again for a log that others have to make.
const LOOK_AGAIN: u32 = 5_000;

/// The refusal of a connection that asks to be activated before the time that it was told.
pub fn too_early(wait: u32) -> Refusal {
    let message = "too early: ask to be activated after the time told, and not before";
    Refusal::because(Code::Slots, message).after(wait)
}

/// Who asks for subscriptions, and on what ground.
pub(super) struct Ask<'a> {
    pub(super) open: &'a [Open],
    pub(super) may: May<'a>,
    pub(super) because: ResetReason,
    pub(super) time: u64,
    /// Subscriptions that stay as they are; they count against the budget.
    pub(super) held: &'a [Sub],
    pub(super) history: History,
    pub(super) bases: BTreeMap<u64, &'a BaseHeld>,
}

/// Bases that a client has begun, by log; of two for one log the later counts.
pub(super) fn by_log(bases: &[BaseHeld]) -> BTreeMap<u64, &BaseHeld> {
    bases.iter().map(|base| (base.log, base)).collect()
}

pub(super) type Made = (Vec<Opened>, Vec<(String, Refusal)>);

/// What becomes of names that were asked for, besides what is opened.
#[derive(Default)]
pub(super) struct Named {
    /// Those that are not opened.
    pub(super) refused: Vec<(String, Refusal)>,
    /// Logs whose names came before in the same list, with the later priorities: each name of a
    /// list is answered, so these are told again once the first is opened.
    pub(super) twice: Vec<(u64, u8)>,
}

impl Connections {
    /// Attaches a client to a node's run.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn attach(
        &mut self,
        ask: &Attach,
        node: Attachment,
        cx: &mut Context<'_, '_>,
    ) -> Decided<Attached> {
        let writers = match self.meet_writers(ask, cx.writers, cx.io)? {
            Ok(writers) => writers,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let other_history = !cx.logs.judge(&ask.positions, cx.io)?;
        let known = self.rows.get(&ask.connection, cx.io)?.cloned();
        let room = match self.admit(ask, known.as_ref(), cx.io)? {
            Ok(room) => room,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let siblings = self.siblings(&ask.user, ask.connection, ask.cloning, cx.io)?;
        if let Some(unused) = room {
            // It gives its slot first and its row last: the newcomer may be a clone of it.
            self.downgrade(unused, Reason::Slots, cx)?;
        }
        let is_new = known.is_none();
        let was_active = known.as_ref().is_some_and(ConnectionRow::active);
        let place = cx.at.place();
        let generation = self.renew(ask, known, node, cx)?;
        let id = ask.connection;
        let became = if was_active {
            Some(Met::Resumed)
        } else {
            let want = ActiveOne { connection: id, device: ask.device };
            let new = Newcomer { want, user: &ask.user, visible: ask.visible };
            self.activate(&new, &siblings, cx)?
        };
        let mut attached = Attached {
            connection: id,
            generation,
            met: Met::Waiting,
            source: None,
            place,
            inactive: Some(Reason::NoSlot),
            opened: Vec::new(),
            refused: Vec::new(),
            ended: Vec::new(),
            writers,
            other_history,
        };
        if let Some(met) = became {
            attached.met = if is_new && met == Met::Restored { Met::Fresh } else { met };
            attached.inactive = None;
            let may = May { read: &ask.read, make: &ask.make };
            let Attach { cloning, ref open, ref bases, holds, .. } = *ask;
            let brings = Brings { cloning, open, bases, may, holds, time: cx.at.time };
            self.fill(&mut attached, &siblings, &brings, cx.logs, cx.io)?;
        }
        if let Some(unused) = room {
            self.forget(unused, cx)?;
        }
        Ok(Ok(attached))
    }

    /// An inactive connection with a socket asks for a slot.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn reactivate(
        &mut self,
        ask: &Subscribe,
        (cloning, holds): (Cloning, bool),
        node: Attachment,
        cx: &mut Context<'_, '_>,
    ) -> Decided<Attached> {
        let id = ask.connection;
        let row = match self.current(id, ask.generation.unwrap_or_default(), cx.io)? {
            Ok(row) if row.active() => {
                let message = "the connection is active already";
                return Ok(Err(Refusal::because(Code::BadRequest, message)));
            }
            // Only a socket may hold a channel, and only one that this node has.
            Ok(row) if row.attached != Some(node) => return Ok(Err(Code::Stale.into())),
            Ok(row) => row.clone(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let ready = row.since.saturating_add(u64::from(self.budgets.activate_after_ms));
        // After a clock jump the fold's time is frozen, so it cannot measure the wait; the
        // proposing node already checked with its own clock.
        if cx.at.time < ready && !cx.at.stands {
            let wait = u32::try_from(ready - cx.at.time).unwrap_or(u32::MAX);
            return Ok(Err(too_early(wait)));
        }
        let want = ActiveOne { connection: id, device: row.device };
        let new = Newcomer { want, user: &row.user, visible: row.visible };
        let siblings = self.siblings(&row.user, id, cloning, cx.io)?;
        let Some(met) = self.activate(&new, &siblings, cx)? else {
            return Ok(Err(Refusal::new(Code::Slots).after(self.budgets.activate_after_ms)));
        };
        let generation = row.generation + 1;
        if let Some(row) = self.rows.change(&id, cx.io)? {
            row.generation = generation;
        }
        let mut attached = Attached {
            connection: id,
            generation,
            met,
            source: None,
            place: cx.at.place(),
            inactive: None,
            opened: Vec::new(),
            refused: Vec::new(),
            ended: Vec::new(),
            writers: Vec::new(),
            other_history: false,
        };
        let may = May { read: &ask.read, make: &ask.make };
        let (open, bases) = (ask.open.as_slice(), ask.bases.as_slice());
        let brings = Brings { cloning, open, bases, may, holds, time: cx.at.time };
        self.fill(&mut attached, &siblings, &brings, cx.logs, cx.io)?;
        Ok(Ok(attached))
    }

    /// Marks, and answers the client may have missed; refused when a writer is another user's.
    fn meet_writers(
        &self,
        ask: &Attach,
        writers: &mut Cache<Writer>,
        io: &Io<'_>,
    ) -> Decided<Vec<WriterAnswers>> {
        if ask.writers.len() > MAX_WRITERS {
            let message = format!("a client speaks for at most {MAX_WRITERS} writers at a time");
            return Ok(Err(Refusal::because(Code::BadRequest, message)));
        }
        let mut met = Vec::with_capacity(ask.writers.len());
        for WriterAt { writer: id, oldest } in &ask.writers {
            let Some(writer) = writers.get(id, io)? else {
                met.push(WriterAnswers {
                    mark: WriterMark { writer: *id, mark: 0 },
                    answers: Vec::new(),
                });
                continue;
            };
            if writer.row.user != ask.user {
                return Ok(Err(Code::UnknownWriter.into()));
            }
            let due = writer.outcomes.iter().filter(|outcome| outcome.seq >= *oldest);
            let answers =
                due.map(|kept| Answer { seq: kept.seq, outcome: kept.outcome.clone() }).collect();
            let mark = WriterMark { writer: *id, mark: writer.row.mark };
            met.push(WriterAnswers { mark, answers });
        }
        Ok(Ok(met))
    }

    /// Sets the row's attachment, making the row where there is none; fences the socket before.
    fn renew(
        &mut self,
        ask: &Attach,
        known: Option<ConnectionRow>,
        node: Attachment,
        cx: &mut Context<'_, '_>,
    ) -> Result<u64, RowsError> {
        let id = ask.connection;
        let is_new = known.is_none();
        let mut row = known.unwrap_or_else(|| {
            let mut row = ConnectionRow::new(&ask.user, ask.device, cx.at.time);
            row.generation = self.forgotten;
            row
        });
        row.generation += 1;
        let generation = row.generation;
        if let Some(was) = row.attached.filter(|was| self.may_hold(*was)) {
            cx.events.push(Event::Fenced { connection: id, was, generation });
        }
        row.attached = Some(node);
        row.joined = generation;
        if row.inactive.is_some() {
            // Unless it gets a slot; and its device holds none of its slots to count yet.
            row.inactive = Some(Reason::NoSlot);
            row.device = ask.device;
        }
        row.visible = ask.visible;
        row.client.clone_from(&ask.client);
        row.since = cx.at.time;
        self.rows.insert(id, row);
        if is_new {
            cx.io.put_raw(Table::UserConnections, user_key(&ask.user, id), Vec::new());
            if self.users.get(&ask.user, cx.io)?.is_none() {
                self.users.insert(ask.user.clone(), Default::default());
            }
            if let Some(user) = self.users.change(&ask.user, cx.io)? {
                user.connections += 1;
            }
        }
        Ok(generation)
    }

    /// Makes an inactive connection active, if a slot can be had: how. The siblings that it may be
    /// cloned from were chosen before: one of them may be the one that has to give its slot.
    fn activate(
        &mut self,
        new: &Newcomer<'_>,
        siblings: &[Id],
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Met>, RowsError> {
        if !self.reserve_slot(new, cx)? {
            return Ok(None);
        }
        if let Some(row) = self.rows.change(&new.want.connection, cx.io)? {
            row.inactive = None;
            row.since = cx.at.time;
        }
        Ok(Some(if siblings.is_empty() { Met::Restored } else { Met::Cloned }))
    }

    /// Decides the subscriptions of a connection that has become active, or was.
    fn fill(
        &mut self,
        attached: &mut Attached,
        siblings: &[Id],
        brings: &Brings<'_>,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Result<(), RowsError> {
        let (id, Brings { open: asked, may, time, .. }) = (attached.connection, *brings);
        let own = self.rows.get(&id, io)?.map(|row| row.subs.clone()).unwrap_or_default();
        let cloned = attached.met == Met::Cloned;
        let source = if cloned { self.union(siblings, asked.len(), io)? } else { Vec::new() };
        attached.source = siblings.first().copied().filter(|_| cloned);
        let (known, because) = match attached.met {
            Met::Cloned => (&source, ResetReason::Cloned),
            Met::Restored => (&own, ResetReason::Restored),
            Met::Fresh | Met::Resumed | Met::Waiting => (&own, ResetReason::New),
        };
        let history = if attached.other_history { History::Other } else { History::This };
        let bases = by_log(brings.bases);
        let ask = Ask { open: asked, may, because, time, held: &[], history, bases };
        let mut wants = BTreeMap::new();
        let taken = known.iter().filter(|_| !cloned || brings.cloning == Cloning::All);
        for sub in taken {
            let visible = logs.row(sub.log, io)?.is_some_and(|row| {
                !row.deleted && may.read.iter().any(|pattern| pattern.matches(&row.name))
            });
            let want = if brings.holds {
                Want::Hold(sub.hold())
            } else {
                Want::Open(wanted(None, Start::State, sub.priority, known, &ask, sub.log))
            };
            if visible {
                wants.insert(sub.log, want);
            }
        }
        let Named { refused, twice } = self.name_logs(&ask, known, &mut wants, logs, io)?;
        attached.refused = refused;
        self.want_standing(id, may, because, &mut wants, logs, io)?;
        if attached.met != Met::Resumed
            && let Some(row) = self.rows.change(&id, io)?
        {
            // While it was inactive a trim may have taken it out of the index: it is new there.
            row.subs.clear();
        }
        attached.opened = self.set_subs(id, &wants, logs, io)?;
        attached.opened.extend(self.keep_subs(id, &twice, logs, io)?);
        // What its client looks at is told before what it does not.
        attached.opened.sort_by_key(|opened| opened.held);
        attached.ended =
            own.iter().map(|sub| sub.log).filter(|log| !wants.contains_key(log)).collect();
        for log in &attached.ended {
            io.remove(Table::Subscribers, Key::of(*log).then_bytes(&id.0).build());
        }
        Ok(())
    }

    /// Finds or makes the logs that are asked for by name, as far as grants and budget go.
    pub(super) fn name_logs(
        &self,
        ask: &Ask<'_>,
        known: &[Sub],
        wants: &mut BTreeMap<u64, Want>,
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<Named, RowsError> {
        let (Named { mut refused, mut twice }, mut named) = (Named::default(), BTreeSet::new());
        let most = self.budgets.subscriptions as usize;
        for (at, open) in ask.open.iter().enumerate() {
            if at >= most {
                // Not even looked up: a list of a frame's length would be that many reads.
                refused.push((open.name.clone(), Code::Subscriptions.into()));
                continue;
            }
            let why = if name::check(&open.name).is_err() {
                Some(Code::BadName)
            } else {
                let granted = ask.may.read.iter().any(|pattern| pattern.matches(&open.name));
                (!granted).then_some(Code::Denied)
            };
            if let Some(code) = why {
                refused.push((open.name.clone(), code.into()));
                continue;
            }
            let found = logs.find(&open.name, io)?;
            let held = found
                .is_some_and(|log| wants.contains_key(&log) || sub_of(ask.held, log).is_some());
            if !held && wants.len() + ask.held.len() >= most {
                refused.push((open.name.clone(), Code::Subscriptions.into()));
                continue;
            }
            let makes = || ask.may.make.iter().any(|pattern| pattern.matches(&open.name));
            if found.is_none() && logs.auto_create && !makes() {
                let message = "there is no log of that name yet, and this token may not make it";
                let refusal = Refusal::because(Code::UnknownLog, message).after(LOOK_AGAIN);
                refused.push((open.name.clone(), refusal));
                continue;
            }
            match logs.resolve(&Target::Name(open.name.clone()), ask.time, io)? {
                Ok(log) => {
                    let want = match wants.get(&log).filter(|_| named.contains(&log)) {
                        // Named twice: only the priority is taken from the later one.
                        Some(Want::Open(first)) => {
                            twice.push((log, open.priority));
                            Wanted { priority: open.priority, ..first.clone() }
                        }
                        _ => {
                            let start = logs.located(log, open.start, io)?;
                            let begun = ask.bases.get(&log).map(|base| (*base).clone());
                            let want = wanted(open.have, start, open.priority, known, ask, log);
                            Wanted { begun, ..want }
                        }
                    };
                    named.insert(log);
                    wants.insert(log, Want::Open(want));
                }
                Err(refusal) if refusal.code == Code::NoLog => {
                    refused.push((open.name.clone(), Code::UnknownLog.into()));
                }
                Err(refusal) => refused.push((open.name.clone(), refusal)),
            }
        }
        Ok(Named { refused, twice })
    }

    /// Writes the subscriptions into row and index, lowering floors where a reader begins below.
    pub(super) fn set_subs(
        &mut self,
        id: Id,
        wants: &BTreeMap<u64, Want>,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Result<Vec<Opened>, RowsError> {
        let openings = self.rows.get(&id, io)?.map_or(0, |row| row.openings) + 1;
        let mut made = Vec::with_capacity(wants.len());
        let mut subs: BTreeMap<u64, Sub> = BTreeMap::new();
        for (log, want) in wants {
            let Some(row) = logs.row(*log, io)? else { continue };
            let (mut opened, sub) = decided(*log, row, want, openings);
            let (lowers, batch) = (row.lowers(sub.cursor), row.made);
            (opened.made, opened.opening) = (logs.eras.position(batch), sub.opening);
            if lowers && let Some(row) = logs.change(*log, io)? {
                row.begins(sub.cursor);
            }
            made.push(opened);
            subs.insert(*log, sub);
        }
        if let Some(row) = self.rows.change(&id, io)? {
            row.openings = openings;
            for log in subs.keys().filter(|log| row.sub(**log).is_none()) {
                let key = Key::of(*log).then_bytes(&id.0).build();
                io.put_raw(Table::Subscribers, key, Vec::new());
            }
            row.subs = subs.into_values().collect();
        }
        Ok(made)
    }
}

/// What is told of a log, and what the row keeps of it.
fn decided(log: u64, row: &LogRow, want: &Want, opening: u64) -> (Opened, Sub) {
    match want {
        Want::Open(wanted) => {
            let opened = open(log, row, wanted);
            let Opened { cursor, priority, ref base, .. } = opened;
            let base = base.is_some();
            (opened, Sub { log, cursor, priority, base, opening })
        }
        // What was committed stays as it is, also below the start: who begins there is told of the
        // gap.
        Want::Hold(sub) => {
            (hold(log, row, sub), Sub { cursor: sub.cursor.min(row.head), ..sub.hold() })
        }
    }
}

fn wanted(
    have: Option<Cursor>,
    start: Start,
    priority: u8,
    known: &[Sub],
    ask: &Ask<'_>,
    log: u64,
) -> Wanted {
    let committed = sub_of(known, log).and_then(Sub::confirmed);
    let (because, history) = (ask.because, ask.history);
    Wanted { have, begun: None, start, committed, priority, because, history }
}

fn sub_of(subs: &[Sub], log: u64) -> Option<&Sub> {
    subs.get(subs.binary_search_by_key(&log, |sub| sub.log).ok()?)
}
