//! The logs that the app wants: asked for one at a time, let go, and asked for again.
//!
//! Promise: of a name one request is under way at most, so its answer is of what was stated last;
//! what the app has let go meanwhile is let go when the answer comes.

use std::collections::BTreeSet;

use super::Client;
use super::event::{Breach, Event};
use super::log::Log;
use crate::wire::{
    ClientFrame, Code, Cursor, Ended, Open, Refused, Seek, ServerFrame, Start, Subscribe,
    Subscribed, Unsubscribe, Unsubscribed, capability,
};

/// A log that the app wants to read.
#[derive(Clone, Debug)]
pub(super) struct Want {
    pub(super) start: Start,
    pub(super) priority: u8,
    /// The request that asks for it and has no answer yet; 0: `hello` or `activate`, whose answers
    /// have no number.
    pub(super) asked: Option<u32>,
    /// What that request stated of it, as it was then. It counts until it is
    /// answered, also where the log ends meanwhile.
    stated: Option<Box<Log>>,
    /// The app let it go while it was being asked for.
    closed: bool,
    /// And wants it again, from there: behind that answer it is asked for anew.
    anew: Option<(Start, u8)>,
}

impl Want {
    const fn new(start: Start, priority: u8) -> Self {
        Self { start, priority, asked: None, stated: None, closed: false, anew: None }
    }
}

impl Client {
    /// Wants a log from now on, from `start` where nothing of it is held. The number of the request
    /// that asks for it; none: it is asked for later.
    pub fn open(&mut self, name: &str, start: Start, priority: u8) -> Option<u32> {
        let (may_ask, later) =
            (self.is_met() && self.active, self.is_greeting() || self.activating.is_some());
        let want = self.wants.entry(name.to_owned()).or_insert(Want::new(start, priority));
        if want.closed {
            // What that answer goes on with the app has dropped (protocol §8.4).
            want.anew = Some((start, priority));
            return None;
        }
        // While it is being asked for, that answer is waited for.
        let (asked, stated) = (want.asked, want.stated.take());
        *want = Want { asked, stated, ..Want::new(start, priority) };
        if may_ask {
            if asked.is_none() {
                return Some(self.ask(name));
            }
        } else if later && asked.is_none() {
            // What asks for all that was wanted is on its way: this one comes behind its answer.
            self.again.insert(name.to_owned(), self.now);
        }
        asked.filter(|request| *request > 0)
    }

    /// Notes that a log is wanted, without asking for it: the next `hello` or `activate` does.
    pub fn want(&mut self, name: &str, start: Start, priority: u8) {
        self.wants.entry(name.to_owned()).or_insert(Want::new(start, priority));
    }

    /// Notes that a log is no longer wanted, without letting it go: the next `hello` or `activate`
    /// leaves it out.
    pub fn unwant(&mut self, name: &str) {
        self.wants.remove(name);
        self.again.remove(name);
    }

    /// Lets a log go.
    pub fn close_log(&mut self, name: &str) {
        let Some(want) = self.wants.get_mut(name) else { return };
        want.closed = true;
        if want.asked.is_some() {
            // Its id is not known for sure; the answer is let go when it comes.
            want.anew = None;
            return;
        }
        self.unwant(name);
        self.let_go(name);
    }

    fn let_go(&mut self, name: &str) {
        let Some(log) = self.log(name).map(|log| log.log) else { return };
        if !self.is_met() {
            self.logs.remove(&log);
            return;
        }
        let request = self.request();
        self.ending.insert(request, vec![log]);
        self.send(ClientFrame::Unsubscribe(Unsubscribe { request, logs: vec![log] }));
    }

    /// Moves a cursor where the app wants it; the request's number, none where it is not known.
    pub fn seek(&mut self, name: &str, to: Start) -> Option<u32> {
        let log = self.log(name).filter(|log| log.open)?.log;
        let request = self.request();
        self.send(ClientFrame::Seek(Seek { request, log, to }));
        Some(request)
    }

    /// What it wants, with what it holds.
    pub fn open_list(&self) -> Vec<Open> {
        let wanted = self.wants.iter().filter(|(_, want)| !want.closed);
        wanted.map(|(name, want)| self.opening(name, want)).collect()
    }

    /// What it has of a log, unless that is being let go: its app has dropped it then.
    fn kept(&self, name: &str) -> Option<&Log> {
        self.log(name).filter(|log| !self.is_let_go(log))
    }

    /// Whether an `unsubscribe` of its own has yet to end it.
    pub(super) fn is_let_go(&self, log: &Log) -> bool {
        let ends = |(request, logs): (&u32, &Vec<u64>)| {
            log.opened_by <= *request && logs.contains(&log.log)
        };
        self.ending.iter().any(ends)
    }

    fn opening(&self, name: &str, want: &Want) -> Open {
        let held = self.kept(name).filter(|log| log.holds());
        let have = held.map(|log| Cursor { log: log.log, next: log.cursor });
        // Its app has something of it that nothing can go on from, as half a base or what is of
        // another history: it needs the state, wherever it began.
        let broken = self.kept(name).is_some_and(Log::is_broken);
        let start = if broken { Start::State } else { want.start };
        Open { name: name.to_owned(), have, start, priority: want.priority }
    }

    fn ask(&mut self, name: &str) -> u32 {
        let request = self.request();
        self.again.remove(name);
        self.keep_stated(name);
        let Some(want) = self.wants.get_mut(name) else { return request };
        want.asked = Some(request);
        let want = want.clone();
        let open = vec![self.opening(name, &want)];
        let known = self.kept(name).and_then(Log::begun);
        let bases = known.filter(|_| self.knows(capability::BASES)).into_iter().collect();
        self.send(ClientFrame::Subscribe(Subscribe { request, open, bases }));
        request
    }

    /// `hello` or `activate` asks for all that is wanted.
    pub(super) fn ask_for_all(&mut self) {
        for name in self.wants.keys().cloned().collect::<Vec<_>>() {
            self.keep_stated(&name);
        }
        for want in self.wants.values_mut().filter(|want| !want.closed) {
            want.asked = Some(0);
        }
        self.again.clear();
    }

    /// `activate` was refused, or changed nothing: what it asked for has no answer.
    pub(super) fn asks_for_nothing(&mut self) {
        self.no_answer(|want| want.asked == Some(0));
    }

    /// Requests for these have no answer. What the app has let go meanwhile it keeps nothing of, so
    /// nothing of it may be stated when it wants it again.
    fn no_answer(&mut self, of: impl Fn(&Want) -> bool) {
        let gone = |want: &Want| want.closed && of(want);
        self.logs.retain(|_, log| !self.wants.get(&log.name).is_some_and(gone));
        self.wants.retain(|_, want| !gone(want) || want.anew.is_some());
        for want in self.wants.values_mut().filter(|want| of(want)) {
            (want.asked, want.stated) = (None, None);
            if let Some((start, priority)) = want.anew {
                *want = Want::new(start, priority);
            }
        }
    }

    /// What is stated of a log from now on is kept until it is answered.
    fn keep_stated(&mut self, name: &str) {
        let bases = self.knows(capability::BASES);
        let stated = |log: &&Log| log.holds() || (bases && log.begun().is_some());
        let log = self.kept(name).filter(stated).cloned();
        if let Some(want) = self.wants.get_mut(name) {
            want.stated = log.map(Box::new);
        }
    }

    /// What an opening goes on with, of a log that has ended since it was asked for.
    fn take_stated(&mut self, told: &Subscribed) -> Option<Log> {
        let want = self.wants.get_mut(&told.name)?;
        let answers = want.asked.is_none_or(|asked| asked == told.request);
        let log = want.stated.take_if(|log| answers && log.log == told.log)?;
        (!told.reset && !told.held).then_some(*log)
    }

    /// The socket ended, or the channel: no answer will come, to an `unsubscribe` either.
    pub(super) fn forget_requests(&mut self) {
        let ended: Vec<_> = self.logs.values().filter(|log| self.is_let_go(log)).collect();
        let ended: BTreeSet<_> = ended.into_iter().map(|log| log.log).collect();
        self.logs.retain(|id, _| !ended.contains(id));
        self.ending.clear();
        self.no_answer(|_| true);
        self.again.clear();
    }

    /// Asks again for what was refused for now, once its time has come.
    pub(super) fn ask_again(&mut self) {
        if !self.active {
            return;
        }
        let is_free = |name: &str| self.wants.get(name).is_some_and(|want| want.asked.is_none());
        let due = self.again.iter().filter(|(name, at)| self.now >= **at && is_free(name));
        let due: Vec<_> = due.map(|(name, _)| name.clone()).collect();
        for name in due {
            self.ask(&name);
        }
    }

    /// A log is announced.
    pub(super) fn subscribed(&mut self, told: Subscribed) -> Result<(), Breach> {
        self.announced(&told)?;
        let (name, log, held, priority) = (told.name.clone(), told.log, told.held, told.priority);
        self.tell(Event::Frame(ServerFrame::Subscribed(told.clone())));
        let answers = |want: &&mut Want| want.asked.is_none_or(|asked| asked == told.request);
        let let_go = self.kept(&name).is_none();
        match self.wants.get_mut(&name).filter(answers) {
            Some(want) if want.closed => {
                let anew = want.anew;
                self.unwant(&name);
                self.let_go(&name);
                if let Some((start, priority)) = anew {
                    self.open(&name, start, priority);
                }
            }
            Some(want) => {
                (want.asked, want.stated) = (None, None);
                self.again.remove(&name);
                if held && self.config.opens_held {
                    self.ask(&name);
                }
            }
            None if held && self.config.opens_held => {
                self.open(&name, Start::State, priority);
            }
            // The answer to a `seek` may cross an `unsubscribe`: that log is not opened by it.
            None if !held && !let_go => self.want(&name, Start::State, priority),
            None => {}
        }
        debug_assert!(self.logs.contains_key(&log) || !self.is_met());
        Ok(())
    }

    fn announced(&mut self, told: &Subscribed) -> Result<(), Breach> {
        self.announced.insert(told.log);
        if told.held && told.reset {
            return Err(Breach::OfHeld { log: told.log, frame: "reset" });
        }
        if let Some(made) = told.made {
            self.made.insert(told.log, made);
            // Another history may have given that log id to another name.
            self.raise(made.batch);
        }
        if let Some(log) = self.logs.get_mut(&told.log).filter(|log| log.name == told.name) {
            log.opened_by = if told.request == 0 { log.opened_by } else { told.request };
            return log.subscribed(told);
        }
        // A name stands for one log at a time, and a log id for one name in a history.
        let before = self.log(&told.name).map(|log| (log.log, log.open));
        let other = self.logs.get(&told.log).is_some_and(|other| !other.stale);
        if other || before.is_some_and(|(_, open)| open) {
            return Err(Breach::Names { log: told.log });
        }
        before.into_iter().for_each(|(before, _)| drop(self.logs.remove(&before)));
        let mut log = match self.take_stated(told) {
            Some(mut log) => {
                log.open = false;
                log.subscribed(told)?;
                log
            }
            None if told.base.is_some() => return Err(Breach::OtherBase { log: told.log }),
            None => Log::new(told),
        };
        (log.open, log.opened_by) = (true, told.request);
        self.logs.insert(told.log, log);
        Ok(())
    }

    /// A subscription ended. One that a request of its own let go is not one opened since.
    pub(super) fn unsubscribed(&mut self, told: Unsubscribed) {
        let own = self.ending.get_mut(&told.request).filter(|_| told.request != 0);
        if let Some(logs) = own {
            logs.retain(|log| *log != told.log);
            if logs.is_empty() {
                self.ending.remove(&told.request);
            }
            if self.logs.get(&told.log).is_some_and(|log| log.opened_by > told.request) {
                return;
            }
        }
        let known = self.logs.remove(&told.log);
        if let Some(log) = &known
            && !self.is_asked_for(&log.name)
        {
            self.unwant(&log.name);
        }
        if !self.announced.contains(&told.log) && told.reason != Ended::Asked {
            self.breach(Breach::Unannounced { log: told.log, frame: "unsubscribed" });
        }
        self.tell(Event::Frame(ServerFrame::Unsubscribed(told)));
    }

    /// Whether a request for it is under way, which the server answers for itself.
    fn is_asked_for(&self, name: &str) -> bool {
        let want = self.wants.get(name);
        want.is_some_and(|want| want.asked.is_some() || self.activating.is_some())
    }

    /// A log was not opened: for now, and it is asked for again, or for good. Without a name it is
    /// about all that the request asked for.
    pub(super) fn not_opened(&mut self, told: &Refused) {
        if let Some(name) = &told.name {
            return self.refused_of(name, told);
        }
        if told.request == 0 {
            // Of a frame without a number; names of `hello` and `activate` are refused by name.
            return;
        }
        let asked = |want: &Want| want.asked == Some(told.request);
        let asked = self.wants.iter().filter(|(_, want)| asked(want));
        let names: Vec<_> = asked.map(|(name, _)| name.clone()).collect();
        names.iter().for_each(|name| self.refused_of(name, told));
    }

    fn refused_of(&mut self, name: &str, told: &Refused) {
        let Some(want) = self.wants.get_mut(name) else { return };
        if want.asked.unwrap_or_default() != told.request {
            return;
        }
        (want.asked, want.stated) = (None, None);
        let at = match (told.refusal.code, told.refusal.retry_after) {
            (Code::Stale, _) if self.active => Some(self.now),
            (_, 0) => None,
            (_, after) => Some(self.now.saturating_add(u64::from(after))),
        };
        // Without a channel nothing is opened; what asks for one says again what is wanted. A new
        // token, or a later request of its own, brings the others.
        let later = matches!(told.refusal.code, Code::TokenExpired | Code::Superseded);
        if want.closed || !(at.is_some() || later || !self.active) {
            let anew = want.anew;
            self.unwant(name);
            self.logs.retain(|_, log| log.open || log.name != name);
            if let Some((start, priority)) = anew {
                self.open(name, start, priority);
            }
            return;
        }
        if let Some(at) = at.filter(|_| self.config.asks_again) {
            self.again.insert(name.to_owned(), at);
        }
    }

    /// A new token is in force: what the old one's end kept from being opened is asked for.
    pub(super) fn ask_for_the_rest(&mut self) {
        if !self.config.asks_again {
            return;
        }
        let open: BTreeSet<&str> =
            self.logs.values().filter(|log| log.open).map(|log| log.name.as_str()).collect();
        let rest = self.wants.iter().filter(|(name, want)| {
            want.asked.is_none() && !open.contains(name.as_str()) && !self.again.contains_key(*name)
        });
        let rest: Vec<_> = rest.map(|(name, _)| (name.clone(), self.now)).collect();
        self.again.extend(rest);
    }
}
