//! Subscriptions besides those an attach brings, and cursors that are moved by word.

use std::collections::{BTreeMap, BTreeSet};

use super::attach::{Ask, Made, May, Named, Want, by_log};
use super::open::{History, Opened, Wanted, open};
use super::row::{ConnectionRow, Sub};
use super::{Connections, Decided, Subscribe};
use crate::log::Logs;
use crate::rows::{Io, RowsError};
use crate::wire::{Code, Id, Refusal, ResetReason, Start};

impl Connections {
    /// Subscribes a connection to logs besides those it has.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn subscribe(
        &mut self,
        ask: &Subscribe,
        time: u64,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Decided<(u64, Made)> {
        let id = ask.connection;
        let Some(mut row) = self.rows.get(&id, io)?.cloned() else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        if ask.generation.is_some_and(|generation| generation != row.generation) {
            return Ok(Err(Code::Stale.into()));
        }
        if !row.active() {
            return Ok(Err(Code::Inactive.into()));
        }
        if row.subs.len() + ask.open.len() > self.budgets.subscriptions as usize {
            self.end_gone(&mut row, id, logs, io)?;
        }
        let because = ResetReason::New;
        let (mut again, mut new) = (Vec::new(), Vec::new());
        let most = self.budgets.subscriptions as usize;
        for (at, open) in ask.open.iter().enumerate() {
            // No more are looked up than there may be; the others are refused by name.
            let known = if at < most { logs.find(&open.name, io)? } else { None };
            // One that is held is opened now, as a new one is.
            let has = known.filter(|log| row.sub(*log).is_some_and(|sub| !sub.held()));
            match has.filter(|_| ask.read.iter().any(|pattern| pattern.matches(&open.name))) {
                Some(log) => again.push((log, open.priority)),
                None => new.push(open.clone()),
            }
        }
        let may = May { read: &ask.read, make: &ask.make };
        let history = History::This;
        let bases = by_log(&ask.bases);
        let asks = Ask { open: &new, may, because, time, held: &row.subs, history, bases };
        let mut wants = BTreeMap::new();
        let Named { refused, twice } = self.name_logs(&asks, &row.subs, &mut wants, logs, io)?;
        let mut opened = self.add_subs(id, &wants, logs, io)?;
        again.extend(twice);
        opened.extend(self.keep_subs(id, &again, logs, io)?);
        Ok(Ok((row.generation, (opened, refused))))
    }

    /// Ends subscriptions to logs that were deleted, so that they take no room from others.
    fn end_gone(
        &mut self,
        row: &mut ConnectionRow,
        id: Id,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Result<(), RowsError> {
        let mut gone = BTreeSet::new();
        for sub in &row.subs {
            if logs.row(sub.log, io)?.is_none_or(|log| log.deleted) {
                gone.insert(sub.log);
            }
        }
        if !gone.is_empty() {
            self.end_subs(id, &gone, io)?;
            row.subs.retain(|sub| !gone.contains(&sub.log));
        }
        Ok(())
    }

    /// Subscriptions that are asked for again: they stay, with another priority.
    pub(super) fn keep_subs(
        &mut self,
        id: Id,
        again: &[(u64, u8)],
        logs: &mut Logs,
        io: &Io<'_>,
    ) -> Result<Vec<Opened>, RowsError> {
        let mut kept = Vec::with_capacity(again.len());
        for (log, priority) in again {
            let row = self.rows.change(&id, io)?;
            let Some(sub) = row.and_then(|row| row.sub_mut(*log)) else { continue };
            sub.priority = *priority;
            let (next, opening) = (sub.cursor, sub.opening);
            let Some(row) = logs.row(*log, io)? else { continue };
            let want = Wanted {
                have: None,
                begun: None,
                start: Start::Offset(next.min(row.head)),
                committed: None,
                priority: *priority,
                because: ResetReason::New,
                history: History::This,
            };
            let (opened, made) = (open(*log, row, &want), row.made);
            let made = logs.eras.position(made);
            kept.push(Opened { again: true, gap: None, opening, made, ..opened });
        }
        Ok(kept)
    }

    /// Like `set_subs`, but what was there stays.
    fn add_subs(
        &mut self,
        id: Id,
        wants: &BTreeMap<u64, Want>,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Result<Vec<Opened>, RowsError> {
        let kept = self.rows.get(&id, io)?.map(|row| row.subs.clone()).unwrap_or_default();
        let made = self.set_subs(id, wants, logs, io)?;
        if let Some(row) = self.rows.change(&id, io)? {
            let new = std::mem::take(&mut row.subs);
            let mut all: BTreeMap<u64, Sub> = kept.into_iter().map(|sub| (sub.log, sub)).collect();
            all.extend(new.into_iter().map(|sub| (sub.log, sub)));
            row.subs = all.into_values().collect();
        }
        Ok(made)
    }

    /// Moves a cursor where the client wants it.
    ///
    /// # Errors
    /// When storage fails.
    pub(crate) fn seek(
        &mut self,
        id: Id,
        generation: Option<u64>,
        log: u64,
        to: Start,
        logs: &mut Logs,
        io: &mut Io<'_>,
    ) -> Decided<(u64, Opened)> {
        let Some(row) = self.rows.get(&id, io)?.cloned() else {
            return Ok(Err(Code::UnknownConnection.into()));
        };
        if generation.is_some_and(|generation| generation != row.generation) {
            return Ok(Err(Code::Stale.into()));
        }
        if generation.is_some() && !row.active() {
            return Ok(Err(Code::Inactive.into()));
        }
        let Some(sub) = row.sub(log) else { return Ok(Err(Code::UnknownLog.into())) };
        let to = logs.located(log, to, io)?;
        let Some(at) = logs.row(log, io)?.filter(|log| !log.deleted) else {
            return Ok(Err(Code::UnknownLog.into()));
        };
        if sub.held() && generation.is_some() {
            let message = "the log is held: subscribe to it, and say there where to begin";
            return Ok(Err(Refusal::because(Code::BadRequest, message)));
        }
        if matches!(to, Start::Offset(offset) if offset > at.head) {
            return Ok(Err(Code::BadOffset.into()));
        }
        let want = Wanted {
            have: None,
            begun: None,
            start: to,
            committed: sub.confirmed(),
            priority: sub.priority,
            because: ResetReason::Asked,
            history: History::This,
        };
        let want = match sub.held() {
            // The back end moves it; that opens nothing.
            true => {
                let Opened { cursor, base, .. } = open(log, at, &want);
                Want::Hold(Sub { cursor, base: base.is_some(), ..*sub })
            }
            false => Want::Open(want),
        };
        let mut opened = self.add_subs(id, &BTreeMap::from([(log, want)]), logs, io)?;
        let missing = || RowsError::Storage("a log vanished from the cache".to_owned());
        let mut opened = opened.pop().ok_or_else(missing)?;
        // A reader that is moved drops what it holds, also where no base follows.
        opened.reset = Some(ResetReason::Asked).filter(|_| !opened.held);
        Ok(Ok((row.generation, opened)))
    }
}
