//! The dispatcher: takes durable batches in order, answers who asked, and hands logs with new
//! records to fan-out.
//!
//! Promise: one thread tells everything but records, in the order of the journal; of a batch the
//! records come last. Nothing here waits for a socket.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};

use super::early::EarlyReaders;
use super::fanout::{Clock, Crew, FanOut};
use super::hub::Hub;
use super::opening::Opening;
use super::revoking::Revoking;
use super::socket::Socket;
use super::ticket::{Request, Ticket};
use crate::connection::{Attached, Event, Opened, Progress};
use crate::delivery::{Closing, Owed};
use crate::fold::{Command, Effect, Reply};
use crate::journal::{Followers, Inbox, Told};
use crate::log::{Rule, Stored};
use crate::wire::{
    Code, Ended, Id, Met, Position, Reason, ServerFrame, State, Welcome, WriterMark,
};

/// Batches told before readers have their turns, at most.
const TOLD: usize = 64;

/// The dispatching thread's state.
#[allow(missing_debug_implementations, reason = "moved into its thread; it tells of itself there")]
pub struct Dispatcher {
    pub(super) hub: Arc<Hub>,
    followers: Followers,
    revoking: Arc<dyn Revoking>,
    pub(super) inbox: Inbox<Ticket>,
    node: Id,
    incarnation: u64,
    activate_after: u32,
    crew: Crew,
    /// Records of the batch that is being told; empty in between.
    appended: Vec<(u64, u64, Arc<Stored>)>,
    /// The batch that is being told, and where it stands.
    batch: u64,
    position: Option<Position>,
    /// Readers that came before their log.
    pub(super) early: EarlyReaders,
}

impl Dispatcher {
    /// A dispatcher for a node's run. It tells `followers` of each batch first. `rules` say when a
    /// client's snapshot is asked for.
    pub fn new(
        hub: Arc<Hub>,
        followers: Followers,
        revoking: Arc<dyn Revoking>,
        inbox: Inbox<Ticket>,
        (node, incarnation): (Id, u64),
        activate_after: u32,
        rules: Vec<Rule>,
    ) -> Self {
        let crew = Crew::alone(FanOut::new(Arc::clone(&hub), rules.into()));
        Self {
            hub,
            followers,
            revoking,
            inbox,
            node,
            incarnation,
            activate_after,
            crew,
            appended: Vec::new(),
            batch: 0,
            position: None,
            early: EarlyReaders::default(),
        }
    }

    /// With so many threads that write records to readers, its own among them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn with_fan_out(mut self, threads: usize, clock: &Clock) -> std::io::Result<Self> {
        self.crew.grow(threads, clock)?;
        Ok(self)
    }

    /// Works until the committing thread is gone, and what it has told is written.
    pub fn run(mut self, told: &Receiver<Told<Ticket>>, clock: &(dyn Fn() -> u64 + Send + Sync)) {
        while self.round(told, clock) {}
        self.crew.end(clock);
    }

    /// Tells what is there, and then gives its own readers as many slices as batches were told: so
    /// they keep their share of the thread, however fast batches come. False: none comes any more.
    fn round(
        &mut self,
        told: &Receiver<Told<Ticket>>,
        clock: &(dyn Fn() -> u64 + Send + Sync),
    ) -> bool {
        let (batches, more) = self.gather(told);
        for _ in 0..batches.max(1) {
            self.crew.own.slice(clock());
        }
        more
    }

    /// Tells the batches that are there, before a log's readers have a turn: what they hold goes
    /// to a reader as one frame where it fits, and nobody's answer waits for readers. Where there
    /// is nothing to do it waits for a batch. How many it told, and whether more may come.
    fn gather(&mut self, told: &Receiver<Told<Ticket>>) -> (usize, bool) {
        let (mut batches, mut more) = (0, true);
        while batches < TOLD {
            match self.next(told, batches == 0) {
                Ok(told) => self.take(told),
                Err(end) => {
                    more = end == TryRecvError::Empty;
                    break;
                }
            }
            batches += 1;
        }
        self.crew.hand_out();
        (batches, more)
    }

    /// The next batch: one that is there, or that the next turn waits for; where there is nothing
    /// else to do and none was told before, any.
    fn next(
        &mut self,
        told: &Receiver<Told<Ticket>>,
        first: bool,
    ) -> Result<Told<Ticket>, TryRecvError> {
        loop {
            let there = told.try_recv();
            if !matches!(there, Err(TryRecvError::Empty)) {
                return there;
            }
            // Other threads wait for nothing.
            self.crew.hand_out();
            if self.crew.own.idle() {
                if !first {
                    return there;
                }
                self.crew.own.pace.idle();
                return told.recv().map_err(|_| TryRecvError::Disconnected);
            }
            let Some(wait) = self.crew.own.waits(self.inbox.under_way()) else { return there };
            match told.recv_timeout(wait) {
                Ok(told) => return Ok(told),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(TryRecvError::Disconnected),
            }
        }
    }

    /// Tells one batch: its records last, so that none goes out before what comes with it.
    fn take(&mut self, told: Told<Ticket>) {
        let Told { applied, mut tickets, proposed } = told;
        self.inbox.heard(tickets.len());
        self.followers.iter_mut().for_each(|follower| follower.follow(&applied));
        (self.batch, self.position) = (applied.batch, applied.position);
        self.hub.stand(applied.position);
        let mut revoked = false;
        for effect in applied.effects {
            match effect {
                Effect::Reply(index, reply) => {
                    match tickets.get_mut(index).and_then(Option::take) {
                        Some(Ticket::Caller(caller)) => {
                            // Whoever asked may have gone meanwhile.
                            caller.send((applied.batch, reply)).ok();
                        }
                        Some(Ticket::Socket(socket, asked)) => self.answer(&socket, asked, reply),
                        None => {}
                    }
                }
                Effect::Event(Event::Revoked { whom, before_ms }) => {
                    revoked |= before_ms.is_some();
                    self.revoking.learn(whom, before_ms);
                }
                Effect::Event(event) => self.event(event),
                Effect::Appended(appended) => self.appended.push(appended),
            }
        }
        if revoked {
            // Once for all of them, and before any record of the batch goes out.
            self.revoking.close(&self.hub);
        }
        let mut appended = std::mem::take(&mut self.appended);
        appended.drain(..).for_each(|(log, offset, stored)| self.appended(log, offset, stored));
        self.appended = appended;
        self.hub.tell(applied.batch, applied.active);
        // Only now: until all of it was told, who knew no better may still have been served.
        proposed.into_iter().for_each(|proposed| self.hub.came_back(proposed));
    }

    fn appended(&mut self, log: u64, offset: u64, stored: Arc<Stored>) {
        if offset == 0 {
            self.began(log);
        }
        let Some(watch) = self.hub.watch(log) else { return };
        let mut watched = watch.lock();
        watched.tail.push(offset, stored);
        if !std::mem::replace(&mut watched.pending, true) {
            drop(watched);
            self.crew.add(watch);
        }
    }

    /// Gives a socket the answer to what it asked.
    fn answer(&mut self, socket: &Arc<Socket>, asked: Request, reply: Reply) {
        match (asked, reply) {
            (Request::Attach(asked), Reply::Attached(attached)) => {
                let (welcome, opening) = *asked;
                self.attached(socket, welcome, opening, *attached);
            }
            (Request::Attach(_), Reply::Refused(refusal)) => socket.close(&refusal.into()),
            (Request::Activate(opening), Reply::Attached(attached)) => {
                self.activated(socket, *opening, *attached);
            }
            (Request::Append(appending), Reply::Answers(mut answers)) => {
                let prev = appending.answer(self.batch, &mut answers);
                if answers.mark > 0 {
                    answers.positions = self.position.into_iter().collect();
                }
                socket.answer(prev, answers);
                self.hub.schedule(socket);
            }
            (Request::Append(_), Reply::Refused(refusal)) => socket.close(&refusal.into()),
            (Request::Subscribe(opening), Reply::Subscribed(_, opened, refused)) => {
                let (request, nothing) = (opening.request, opened.is_empty());
                self.open(socket, opened, &opening);
                let refused = opening.refused(refused);
                if nothing && refused.is_empty() {
                    socket.done(request);
                }
                self.refuse(socket, request, refused);
            }
            (Request::Early, Reply::Subscribed(_, opened, _)) => {
                self.open(socket, opened, &Opening::default());
            }
            (Request::Unsubscribe(request, reason, logs), Reply::Unsubscribed(_)) => {
                if logs.is_empty() && reason == Ended::Asked {
                    socket.done(request);
                }
                // Each is answered, whether there was a subscription or not.
                self.hub.end(socket, logs, request, reason);
            }
            (Request::Seek(request), Reply::Moved(_, opened)) => {
                self.open(socket, vec![*opened], &Opening { request, ..Opening::default() });
            }
            (Request::Done(request @ 1..), Reply::Done) => socket.done(request),
            (Request::Snapshot { request, last, charged, .. }, Reply::Done) => {
                charged.settle(|_| false);
                if last {
                    socket.done(request);
                }
            }
            (
                Request::Unsubscribe(request, ..)
                | Request::Seek(request)
                | Request::Done(request @ 1..),
                Reply::Refused(refusal),
            ) => socket.refuse(request, refusal),
            (Request::Activate(opening) | Request::Subscribe(opening), Reply::Refused(refusal)) => {
                socket.refuse(opening.request, refusal);
            }
            // What the part cost goes back with it.
            (Request::Snapshot { request, turn, .. }, Reply::Refused(refusal)) => {
                socket.refuse_part(turn, request, refusal);
            }
            (Request::Leave, _) => self.left(socket),
            (Request::Denied(logs), Reply::Unsubscribed(_)) => self.denied(socket, logs),
            (Request::Denied(_) | Request::Early | Request::Done(_), _) => {}
            (asked, reply) => {
                tracing::error!(?asked, ?reply, "a reply of another kind than was asked for");
                socket.close(&Closing::new(Code::Failed));
            }
        }
    }

    /// A client is met: welcome, answers it may have missed, its state, then its logs.
    fn attached(
        &mut self,
        socket: &Arc<Socket>,
        mut welcome: Welcome,
        opening: Opening,
        attached: Attached,
    ) {
        let Attached { generation, met, source, place, inactive, opened, refused, .. } = attached;
        // Without a slot nothing was opened: no name is told, and no log that was to be made costs.
        let opening = if inactive.is_some() { Opening::default() } else { opening };
        if socket.closing() {
            opening.refused(refused);
            self.detach(socket.connection, generation);
            return;
        }
        self.hub.admit(socket);
        let mut inner = socket.lock();
        inner.at.attached(generation, inactive.is_none());
        inner.activate_at = self.hub.ticks() + u64::from(self.activate_after);
        for writer in attached.writers {
            welcome.writers.push(writer.mark);
            if !writer.answers.is_empty() {
                let WriterMark { writer: id, mark } = writer.mark;
                inner.at.owe(Owed::Answers(id, mark, writer.answers.into_iter()));
            }
        }
        let state = inactive.map(|reason| self.state(reason, generation));
        if let Some(frame) = state {
            inner.at.owe(Owed::Frame(Box::new(frame)));
        }
        (welcome.met, welcome.source) = (met, source);
        (welcome.place, welcome.generation) = (place, generation);
        welcome.positions = self.position.into_iter().collect();
        welcome.other_history = attached.other_history;
        // Under the same lock: the socket's task goes on as soon as it sees the generation.
        socket.send_now(&mut inner, &[ServerFrame::Welcome(welcome)]);
        drop(inner);
        self.take_in(socket, opened, &opening);
        self.refuse(socket, 0, opening.refused(refused));
        if socket.closing() {
            // Its task may have left before it was admitted.
            self.hub.leave(socket);
        }
        socket.wake();
        self.hub.schedule(socket);
    }

    /// The socket went away before its attachment was told; the row must not stay attached.
    fn detach(&self, connection: Id, generation: u64) {
        let command = Command::Detach(Progress { connection, generation, reached: Vec::new() });
        if let Err(refusal) = self.inbox.submit(command, 64, None) {
            tracing::warn!(%refusal, %connection, "a lost attachment waits for the keeper");
        }
    }

    fn state(&self, reason: Reason, generation: u64) -> ServerFrame {
        ServerFrame::State(State {
            active: false,
            met: Some(Met::Waiting).filter(|_| reason == Reason::NoSlot),
            reason: Some(reason),
            activate_after: self.activate_after,
            generation,
            source: None,
            request: 0,
        })
    }

    /// It has left: whoever asked for something before has its answer by now, or is told that it
    /// left.
    fn left(&self, socket: &Arc<Socket>) {
        let why = socket.superseded("the client left");
        socket.lock().at.refuse_asked(&why);
        socket.close_quietly();
    }

    fn activated(&mut self, socket: &Arc<Socket>, opening: Opening, attached: Attached) {
        let Attached { generation, met, source, opened, refused, ended, .. } = attached;
        socket.lock().at.activated(generation);
        socket.send(&[ServerFrame::State(State {
            active: true,
            met: Some(met),
            reason: None,
            activate_after: 0,
            generation,
            source,
            request: opening.request,
        })]);
        // Only of what this socket was told of; a log that it was not means nothing to it.
        let ended = {
            let mut inner = socket.lock();
            let known = inner.at.take_announced(&ended);
            inner.at.forget_announced();
            known
        };
        self.hub.end(socket, ended, 0, Ended::Overwritten);
        // Of a name it is told as of what comes by itself: without a number.
        let opening = Opening { request: 0, ..opening };
        self.open(socket, opened, &opening);
        self.refuse(socket, 0, opening.refused(refused));
    }

    /// Takes subscriptions in, unless the socket is no longer its connection's.
    fn open(&self, socket: &Arc<Socket>, opened: Vec<Opened>, opening: &Opening) {
        if !self.hub.holds(socket) {
            return;
        }
        let stands = Owed::position(self.position, &opened);
        stands.into_iter().for_each(|owed| socket.lock().at.owe(owed));
        self.take_in(socket, opened, opening);
        if socket.closing() {
            self.hub.leave(socket);
        }
        self.hub.schedule(socket);
    }

    /// Something that concerns others than who asked.
    fn event(&self, event: Event) {
        match event {
            Event::Fenced { connection, was, generation } => {
                if (was.node, was.incarnation) == (self.node, self.incarnation) {
                    self.fence(connection, generation);
                }
            }
            Event::Downgraded { connection, reason, generation, joined, .. } => {
                self.fence(connection, joined);
                self.downgraded(connection, reason, generation);
            }
            Event::Forgotten { connection } => {
                if let Some(socket) = self.hub.socket(connection) {
                    socket.close(&Closing::new(Code::UnknownConnection));
                }
            }
            Event::Opened { connection, generation, opened } => {
                self.opened_by_back_end(connection, generation, opened);
            }
            Event::Closed { connection, logs } => {
                if let Some(socket) = self.hub.socket(connection) {
                    self.hub.end(&socket, logs, 0, Ended::BackEnd);
                }
            }
            Event::Deleted { log, .. } => self.deleted(log),
            Event::Snapshot { log, offset } => {
                if let Some(watch) = self.hub.watch(log) {
                    watch.lock().snapshot = offset;
                }
            }
            Event::Ruled { log, rule } => self.hub.ruled(log, rule),
            Event::Era => self.era_began(),
            // Learnt before (see `take`); and of a trim readers below it were downgraded in the
            // same batch.
            Event::Revoked { .. } | Event::Trimmed(_) => {}
        }
    }

    /// What sockets were told is of the era before: each comes again, and is judged.
    fn era_began(&self) {
        if let Err(error) = self.hub.load_eras() {
            tracing::error!(%error, "the eras cannot be read");
        }
        self.hub.each(|socket| {
            socket.close(&Closing::new(Code::OtherHistory));
            self.hub.leave(socket);
        });
    }

    fn fence(&self, connection: Id, generation: u64) {
        let Some(socket) = self.hub.socket(connection) else { return };
        if socket.generation() < generation {
            socket.close(&Closing::new(Code::Fenced));
            self.hub.leave(&socket);
        }
    }

    fn downgraded(&self, connection: Id, reason: Reason, generation: u64) {
        let Some(socket) = self.hub.socket(connection) else { return };
        {
            let mut inner = socket.lock();
            if !inner.at.downgraded(generation) {
                return;
            }
            inner.activate_at = self.hub.ticks() + u64::from(self.activate_after);
        }
        self.hub.drop_subs(&socket);
        socket.send_in_turn(self.state(reason, generation));
        self.hub.schedule(&socket);
    }

    /// A subscription by the back end never gives more than the socket's own grants do.
    fn opened_by_back_end(&self, connection: Id, generation: u64, opened: Vec<Opened>) {
        let Some(socket) = self.hub.socket(connection) else { return };
        if socket.generation() == generation {
            socket.uninvited(opened.len());
            self.open(&socket, opened, &Opening::default());
        }
    }

    /// Subscriptions come in as far as the socket's grants go at this moment; the others end.
    fn take_in(&self, socket: &Arc<Socket>, opened: Vec<Opened>, opening: &Opening) {
        let request = opening.request;
        let (mut ended, mut refused, mut anew) = (Vec::new(), Vec::new(), Vec::new());
        for one in opened {
            let (log, name) = (one.log, one.name.clone());
            let Err(why) = self.hub.subscribe(socket, one, request) else { continue };
            ended.push(log);
            // What came by itself was never told.
            if request != 0 || opening.asked(&name) {
                refused.push((name, why.into()));
            } else if why == Code::Stale {
                anew.push(name);
            }
        }
        if ended.is_empty() {
            return;
        }
        self.hub.refuse(socket, request, refused);
        // Whoever is refused asks again; what the back end opened is opened behind that end.
        if let Err(refusal) = socket.lose(ended, anew, &self.inbox) {
            let connection = socket.connection;
            tracing::debug!(%refusal, %connection, "what was denied leaves its row later");
        }
    }

    /// The rows have lost what grants did not cover. The socket was told at once, so that mostly
    /// nothing is left; what was opened since is over too.
    fn denied(&self, socket: &Arc<Socket>, logs: Vec<u64>) {
        self.hub.end(socket, logs, 0, Ended::Denied);
    }

    fn deleted(&self, log: u64) {
        let Some(watch) = self.hub.watch(log) else { return };
        let sockets: Vec<_> = watch.lock().sockets.iter().flatten().cloned().collect();
        for socket in sockets {
            self.hub.end(&socket, vec![log], 0, Ended::Deleted);
        }
    }
}

#[cfg(test)]
mod tests;
