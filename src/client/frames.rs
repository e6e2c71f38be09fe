//! What each frame of the server does to the client.
//!
//! Promise: a frame that the laws of the protocol do not allow is told of as a breach, whatever it
//! holds, and is never a panic; one of a kind that is not known is passed over.

use super::Client;
use super::event::{Breach, Event};
use super::log::Came;
use super::writer::{Answered, Writer};
use crate::wire::{
    Answers, ClientFrame, Code, Encoding, Frame as _, Id, MAX_FRAME_BYTES, Met, Outcome, Pong,
    Position, Records, Refusal, Refused, ServerFrame, State, Welcome, codec,
};

/// The least wait before it asks again to be active, whatever was told.
const ACTIVATE_AGAIN: u64 = 100;

impl Client {
    pub(super) fn message(&mut self, bytes: &[u8]) {
        let encoding: Encoding = self.config.encoding;
        for frame in codec::decode::<ServerFrame>(bytes, encoding, MAX_FRAME_BYTES) {
            match frame {
                Ok((frame, size)) => self.came(frame, size),
                Err(error) => {
                    self.breach(Breach::Unreadable(error.to_string()));
                    self.close();
                }
            }
        }
    }

    /// A frame came; parts of one are put together first.
    pub(super) fn came(&mut self, frame: ServerFrame, size: usize) {
        (self.heard, self.pinged) = (self.now, None);
        let ServerFrame::Part(part) = frame else { return self.frame(frame, size) };
        match self.parts.add(&part, self.config.encoding) {
            Ok(Some((frame, size))) => self.frame(frame, size),
            Ok(None) => {}
            Err(breach) => {
                self.breach(breach);
                self.close();
            }
        }
    }

    fn frame(&mut self, frame: ServerFrame, size: usize) {
        let name = frame.name();
        if self.phase == super::Phase::Closing || self.phase == super::Phase::Away {
            return;
        }
        if self.said_bye {
            return self.breach(Breach::AfterBye(name));
        }
        if self.phase == super::Phase::Greeting && !Self::is_early(&frame) {
            return self.breach(Breach::Early(name));
        }
        if let Err(breach) = self.act_on(frame, size) {
            self.breach(breach);
        }
    }

    fn act_on(&mut self, frame: ServerFrame, size: usize) -> Result<(), Breach> {
        match frame {
            ServerFrame::Welcome(told) => return self.welcomed(told),
            ServerFrame::State(told) => self.changed(told),
            ServerFrame::Subscribed(told) => return self.subscribed(told),
            ServerFrame::Unsubscribed(told) => self.unsubscribed(told),
            ServerFrame::Reset(_)
            | ServerFrame::Gap(_)
            | ServerFrame::Base(_)
            | ServerFrame::BaseRecords(_)
            | ServerFrame::Records(_) => return self.of_log(frame, size),
            ServerFrame::Answers(told) => self.answers(told),
            ServerFrame::Refused(told) => self.refused(told),
            ServerFrame::Ping(told) => {
                self.see(&told.positions);
                self.send(ClientFrame::Pong(Pong { nonce: told.nonce }));
            }
            ServerFrame::Refreshed(_) => {
                self.writer.refreshed();
                self.others.iter_mut().for_each(Writer::refreshed);
                self.ask_for_the_rest();
                self.tell(Event::Frame(frame));
            }
            ServerFrame::Bye(told) => {
                self.bye = Some((told.reconnect, told.after));
                self.said_bye = true;
                self.tell(Event::Frame(ServerFrame::Bye(told)));
            }
            ServerFrame::Part(_) => return Err(Breach::Unreadable("a part of a part".to_owned())),
            ServerFrame::Pong(_)
            | ServerFrame::Done(_)
            | ServerFrame::SnapshotWanted(_)
            | ServerFrame::DeliveredTo(_) => self.tell(Event::Frame(frame)),
        }
        Ok(())
    }

    fn welcomed(&mut self, told: Welcome) -> Result<(), Breach> {
        if self.phase == super::Phase::Met {
            return Err(Breach::Unasked("a second welcome"));
        }
        if told.connection != self.config.connection {
            return Err(Breach::Unasked("the connection of welcome"));
        }
        let newer = self.refreshing.take();
        if let Some(token) = told.token.as_ref().filter(|_| newer.is_none()) {
            self.config.token = Some(token.clone());
        }
        self.phase = super::Phase::Met;
        self.wait = super::WAIT_FIRST;
        self.active = told.met != Met::Waiting;
        self.positions.clone_from(&told.positions);
        self.window.set_size(told.limits.window);
        self.credit.met(self.now, told.credit);
        if told.other_history {
            self.logs.values_mut().for_each(|log| log.stale = true);
            // Appends that were made before keep what they know of it.
            self.made.clear();
            self.writers_are_over(&told);
        } else {
            let writers = std::iter::once(&mut self.writer).chain(&mut self.others);
            writers.for_each(|writer| writer.met(mark_of(&told, writer.id())));
        }
        self.welcome = Some(told.clone());
        self.tell(Event::Frame(ServerFrame::Welcome(told)));
        newer.into_iter().for_each(|newer| self.send(ClientFrame::Refresh(newer)));
        Ok(())
    }

    /// Marks of its writers are there in the server's history: what lies above is numbered anew,
    /// under one writer that nobody has used.
    fn writers_are_over(&mut self, told: &Welcome) {
        let to = self.spare;
        let own = std::mem::replace(&mut self.writer, Writer::new(to));
        for mut old in std::mem::take(&mut self.others).into_iter().chain([own]) {
            let from = old.id();
            let (sequences, refused) = old.over(mark_of(told, from), &mut self.writer);
            for seq in refused {
                let outcome = Outcome::Refused(Refusal::new(Code::Conflict));
                self.tell(Event::Settled { writer: from, seq, outcome });
            }
            if old.pending().len() > 0 {
                self.others.push(old);
            }
            self.tell(Event::Renumbered { from, to, sequences });
        }
    }

    fn changed(&mut self, told: State) {
        if told.request != 0 || told.active {
            self.activating = None;
        }
        if told.active && self.active {
            self.asks_for_nothing();
        }
        self.active = told.active;
        let wait = u64::from(told.activate_after);
        self.activate_at = (!told.active).then(|| self.now.saturating_add(wait));
        if !told.active {
            self.logs.values_mut().for_each(|log| log.open = false);
            self.forget_requests();
        }
        self.tell(Event::Frame(ServerFrame::State(told)));
    }

    fn refused(&mut self, told: Refused) {
        let after = u64::from(told.refusal.retry_after);
        if self.activating.is_some_and(|request| request == told.request && told.name.is_none()) {
            self.activating = None;
            self.asks_for_nothing();
            self.activate_at = Some(self.now.saturating_add(after.max(ACTIVATE_AGAIN)));
        }
        if told.refusal.code == Code::Rate {
            self.credit.ended();
        }
        self.not_opened(&told);
        self.tell(Event::Frame(ServerFrame::Refused(told)));
    }

    /// What is told of a log that is open.
    fn of_log(&mut self, mut frame: ServerFrame, size: usize) -> Result<(), Breach> {
        let name = frame.name();
        let id = match &frame {
            ServerFrame::Reset(told) => told.log,
            ServerFrame::Gap(told) => told.log,
            ServerFrame::Base(told) => told.log,
            ServerFrame::BaseRecords(told) => told.log,
            ServerFrame::Records(told) => told.log,
            _ => return Ok(()),
        };
        let delivery = !matches!(frame, ServerFrame::Reset(_) | ServerFrame::Gap(_));
        if delivery {
            // It counts as worked off, whatever is made of it: the server counts it as sent.
            self.window.came(self.now, id, size)?;
        }
        if !self.active {
            return Err(Breach::Inactive { log: id, frame: name });
        }
        if matches!(frame, ServerFrame::Reset(_) | ServerFrame::Base(_))
            && let Some(seq) =
                self.writer.owed().or_else(|| self.others.iter().find_map(Writer::owed))
        {
            return Err(Breach::AnswersFirst { log: id, seq });
        }
        let log = self.logs.get_mut(&id).filter(|log| log.open);
        let log = log.ok_or(Breach::Unannounced { log: id, frame: name })?;
        match &mut frame {
            ServerFrame::Reset(told) => log.reset(told)?,
            ServerFrame::Gap(told) => log.gap(told)?,
            ServerFrame::Base(told) => log.base(told)?,
            ServerFrame::BaseRecords(told) => {
                log.base_records(told)?;
                let newest = told.records.iter().map(|kept| kept.record.place.batch).max();
                newest.into_iter().for_each(|batch| self.raise(batch));
            }
            ServerFrame::Records(told) => {
                let cursor = log.cursor;
                let came = log.records(told)?;
                if !self.may_take(came, cursor, told) {
                    return Ok(());
                }
            }
            _ => {}
        }
        self.window.moved(self.now, id);
        self.tell(Event::Frame(frame));
        Ok(())
    }

    /// Law 5: what came before is dropped, and what lies behind something missing asked for again.
    fn may_take(&mut self, came: Came, cursor: u64, told: &Records) -> bool {
        let log = told.log;
        match came {
            Came::Beyond => {
                self.tell(Event::Jump { log, cursor, came: told.base });
                self.close();
                return false;
            }
            Came::After(repeats) if repeats > 0 => {
                let from = told.base - repeats as u64;
                self.tell(Event::Repeat { log, from, to: told.base });
            }
            Came::After(_) => {}
        }
        let newest = told.records.iter().map(|record| record.place.batch).max();
        newest.into_iter().for_each(|batch| self.raise(batch));
        !told.records.is_empty()
    }

    fn answers(&mut self, told: Answers) {
        self.see(&told.positions);
        let (now, id, resends) = (self.now, told.writer, self.config.resends);
        let mut rate = false;
        for answer in &told.answers {
            let mut own = std::iter::once(&mut self.writer).chain(&mut self.others);
            let Some(found) = own.find(|writer| writer.id() == id) else {
                return self.breach(Breach::Unasked("the writer of answers"));
            };
            let (writer, seq, outcome) = (id, answer.seq, answer.outcome.clone());
            match found.answered(now, answer, told.mark, resends) {
                Ok(Answered::Settled) => {
                    if let Outcome::Stored { place, .. } = &outcome {
                        self.raise(place.batch);
                    }
                    self.tell(Event::Settled { writer, seq, outcome });
                }
                Ok(Answered::Repeated) => self.tell(Event::Repeated { writer, seq, outcome }),
                Ok(Answered::PutOff(refusal)) => {
                    rate |= refusal.code == Code::Rate;
                    self.tell(Event::PutOff { writer, seq, refusal });
                }
                Err(breach) => self.breach(breach),
            }
        }
        if let Some(last) = told.answers.last() {
            self.credit.answered(now, (id, last.seq), rate, told.credit);
        }
        self.others.retain(|other| other.pending().len() > 0);
    }

    /// Positions that were told: those of another era replace what is held, those of the same one
    /// if they are not lower.
    pub(super) fn see(&mut self, told: &[Position]) {
        for position in told {
            let same = self.positions.iter_mut().find(|own| own.shard() == position.shard());
            match same {
                Some(own) if own.era == position.era && own.batch > position.batch => {}
                Some(own) => *own = *position,
                None => self.positions.push(*position),
            }
        }
    }

    /// A place of the era that the socket stands in was seen.
    pub(super) fn raise(&mut self, batch: u64) {
        let shard = batch >> crate::wire::SHARD_SHIFT;
        let own = self.positions.iter_mut().find(|own| own.shard() == shard);
        if let Some(own) = own.filter(|own| batch > own.batch) {
            *own = Position { batch, chain: None, ..*own };
        }
    }
}

fn mark_of(told: &Welcome, writer: Id) -> u64 {
    told.writers.iter().find(|own| own.writer == writer).map_or(0, |own| own.mark)
}
