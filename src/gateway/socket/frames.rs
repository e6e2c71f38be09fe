//! What each frame of a client does.

use std::sync::Arc;

use super::Session;
use crate::admission::{Making, TokenGrants, asked_for, readable};
use crate::auth::Can;
use crate::channel::{Closing, Opening, Request, Ticket};
use crate::connection::{Subscribe, too_early};
use crate::fold::Command;
use crate::limit::Costs;
use crate::log::Part;
use crate::wire::{
    Ack, Activate, BaseHeld, Class, ClientFrame, Code, Ended, Id, Pong, PutSnapshot, Refresh,
    Refreshed, Refusal, Refused, Retire, Seek, ServerFrame, State, Subscribe as SubscribeFrame,
    Unsubscribe, Visible, Who,
};

/// About what a log that is asked for takes in memory, with its refusal.
const OPEN_WEIGHT: usize = 256;

impl Session {
    /// Takes one frame; `size` is that of its body.
    pub(super) fn frame(&mut self, frame: ClientFrame, size: usize) {
        if let Err(refusal) = frame.check() {
            if refusal.code.class() == Class::Stop {
                self.socket.close(&refusal.into());
            } else {
                self.refuse(frame.request(), refusal);
            }
            return;
        }
        if let Err(refusal) = self.few_logs(&frame) {
            return self.refuse(frame.request(), refusal);
        }
        let counts = match &frame {
            ClientFrame::Append(append) => append.items.is_empty(),
            ClientFrame::Ack(_) => false,
            _ => true,
        };
        if counts && let Err(refusal) = self.rate.check() {
            return self.refuse(frame.request(), refusal);
        }
        match frame {
            ClientFrame::Append(append) => self.append(append, size),
            ClientFrame::Ack(ack) => self.ack(&ack),
            ClientFrame::Subscribe(subscribe) => self.subscribe(subscribe, size),
            ClientFrame::Unsubscribe(Unsubscribe { request, logs }) => {
                self.unsubscribe(request, logs);
            }
            ClientFrame::Activate(activate) => self.activate(activate, size),
            ClientFrame::Seek(seek) => self.seek(&seek),
            ClientFrame::PutSnapshot(part) => self.snapshot(part, size),
            ClientFrame::Visible(visible) => {
                let (connection, generation) = (self.socket.connection, self.socket.generation());
                let Visible { visible, request } = visible;
                let command = Command::Visible { connection, generation, visible };
                self.submit(command, 64, request, Request::Done(request));
            }
            ClientFrame::Refresh(refresh) => self.refresh(&refresh),
            ClientFrame::Retire(retire) => {
                let (user, Retire { writer, request }) = (self.socket.user.clone(), retire);
                let known = self.gate.store.writer(writer).ok().flatten();
                if known.is_some_and(|row| row.user != user) {
                    return self.socket.close(&Closing::new(Code::UnknownWriter));
                }
                let asked = Request::Done(request);
                self.submit(Command::Retire { user, writer }, 64, request, asked);
            }
            ClientFrame::Leave(leave) => self.leave(leave.forget),
            ClientFrame::Who(who) => self.who(who),
            ClientFrame::Ping(ping) => {
                self.socket.send(&[ServerFrame::Pong(Pong { nonce: ping.nonce })]);
            }
            ClientFrame::Pong(_) => {}
            ClientFrame::Hello(_) => self.socket.close(&Closing::new(Code::HelloTwice)),
            ClientFrame::Signal(later)
            | ClientFrame::Broadcast(later)
            | ClientFrame::Call(later)
            | ClientFrame::Reply(later)
            | ClientFrame::SubscribePattern(later)
            | ClientFrame::Fetch(later)
            | ClientFrame::Transact(later)
            | ClientFrame::Lag(later) => self.refuse(later.request, Code::Unsupported.into()),
        }
    }

    /// Whether a frame names no more logs than a connection may be subscribed to: each that it
    /// names is looked for, and all of them answered.
    fn few_logs(&self, frame: &ClientFrame) -> Result<(), Refusal> {
        let named = match frame {
            ClientFrame::Unsubscribe(body) => body.logs.len(),
            ClientFrame::Ack(body) => body.cursors.len(),
            _ => 0,
        };
        let most = self.gate.limits.subscriptions as usize;
        if named <= most {
            return Ok(());
        }
        let message = format!("a frame names at most {most} logs: as many as may be subscribed to");
        Err(Refusal::because(Code::BadRequest, message))
    }

    fn named(&self) -> (Id, Option<u64>) {
        (self.socket.connection, Some(self.socket.generation()))
    }

    pub(super) fn refuse(&self, request: u32, refusal: Refusal) {
        self.socket.send(&[ServerFrame::Refused(Refused { request, name: None, refusal })]);
    }

    /// Hands a command in, or tells why not.
    pub(super) fn submit(&self, command: Command, weight: usize, request: u32, asked: Request) {
        if let Err(refusal) = self.hand_in(command, weight, asked)
            && !self.ends(&refusal)
        {
            self.refuse(request, refusal);
        }
    }

    fn hand_in(&self, command: Command, weight: usize, asked: Request) -> Result<(), Refusal> {
        let ticket = Ticket::Socket(Arc::clone(&self.socket), asked);
        self.gate.admission.shed.admits(&command)?;
        self.gate.inbox.submit(command, weight, Some(ticket))
    }

    /// Closes the socket where a refusal is the node's end: no answer would be true.
    pub(super) fn ends(&self, refusal: &Refusal) -> bool {
        let ends = matches!(refusal.code.class(), Class::Reconnect | Class::Stop);
        if ends {
            self.socket.close(&refusal.clone().into());
        }
        ends
    }

    fn ack(&self, ack: &Ack) {
        match self.socket.acknowledge(ack.received, &ack.cursors) {
            Ok((moved, beyond)) => {
                if moved {
                    self.gate.hub.note_moved(&self.socket);
                }
                self.gate.hub.schedule(&self.socket);
                if beyond.iter().any(|cursor| self.gate.hub.past_head(*cursor)) {
                    let message = "a cursor was acknowledged past the log's head";
                    self.refuse(0, Refusal::because(Code::BadOffset, message));
                }
            }
            Err(refusal) => self.refuse(0, refusal),
        }
    }

    /// The socket is closed when it is durable that the client has left, which is decided after
    /// all that it asked for before: its last word counts. Where there is no room for that word at
    /// the moment, it is said again.
    pub(super) fn leave(&mut self, forget: bool) {
        let progress = self.socket.take_acked();
        let (connection, generation) = (progress.connection, progress.generation);
        self.socket.set_leaving();
        let (weight, commit) = (progress.weight(), Command::Commit(vec![progress.clone()]));
        let command = Command::Leave { connection, generation, forget };
        let ticket = Ticket::Socket(Arc::clone(&self.socket), Request::Leave);
        let submitted = (self.gate.inbox.submit(commit, weight, None))
            .and_then(|()| self.gate.inbox.submit(command, 64, Some(ticket)));
        self.leaves = None;
        match submitted {
            Ok(()) => {}
            Err(refusal) if self.ends(&refusal) => {}
            Err(_) => {
                self.socket.put_back(&progress);
                self.leaves = Some(forget);
            }
        }
    }

    /// Whether there was no room for something that it has to say again.
    pub(super) fn has_to_say(&self) -> bool {
        self.leaves.is_some() || self.socket.has_lost()
    }

    /// Says again what there was no room for.
    pub(super) fn say_again(&mut self) {
        let said = self.socket.say_lost(&self.gate.inbox);
        if said.is_err_and(|refusal| self.ends(&refusal)) {
            return;
        }
        if let Some(forget) = self.leaves {
            self.leave(forget);
        }
    }

    /// Whether the token is in force; else it tells so.
    fn in_force(&self, request: u32) -> bool {
        let expires = self.grants.0.expires_ms;
        let ended = expires != 0 && self.gate.now() >= expires;
        if ended {
            self.refuse(request, Code::TokenExpired.into());
        }
        !ended
    }

    fn subscribe(&self, subscribe: SubscribeFrame, size: usize) {
        let SubscribeFrame { request, mut open, bases } = subscribe;
        if !self.in_force(request) {
            return;
        }
        let (connection, generation) = self.named();
        let weight = size + open.len() * OPEN_WEIGHT;
        // An inactive one is refused as a whole.
        let active = self.socket.active();
        let Making { make, unmade, spent } = if active {
            self.gate.admission.read_ahead_names(&self.grants.0, &open);
            self.gate.admission.making(&self.grants.0, &mut open)
        } else {
            Making::default()
        };
        if open.is_empty() && !unmade.is_empty() {
            // Nothing is left to decide.
            return self.gate.hub.refuse(&self.socket, request, unmade);
        }
        let read = readable(&self.grants.0);
        let bases = self.known_bases(bases);
        let ask = Subscribe { connection, generation, open, read, make, bases };
        let opening = Opening { request, unmade, spent, ..Opening::default() };
        let asked = Request::Subscribe(Box::new(opening));
        self.submit(Command::Subscribe(ask), weight, request, asked);
    }

    /// Bases that were begun, of a client that goes on with them.
    fn known_bases(&self, bases: Vec<BaseHeld>) -> Vec<BaseHeld> {
        if self.bases { bases } else { Vec::new() }
    }

    fn unsubscribe(&self, request: u32, logs: Vec<u64>) {
        let (connection, generation) = self.named();
        let weight = 64 + logs.len() * 8;
        let asked = Request::Unsubscribe(request, Ended::Asked, logs.clone());
        let command = Command::Unsubscribe { connection, generation, logs };
        self.submit(command, weight, request, asked);
    }

    fn seek(&self, seek: &Seek) {
        let Seek { request, log, to } = *seek;
        if !self.in_force(request) {
            return;
        }
        let (connection, generation) = self.named();
        let command = Command::Seek { connection, generation, log, to };
        self.submit(command, 64, request, Request::Seek(request));
    }

    /// Also of one that is inactive: it writes, and may want to know whom that came to.
    fn who(&self, who: Who) {
        if !self.in_force(who.request) {
            return;
        }
        let most = self.gate.limits.subscribers_looked_at as usize;
        match self.socket.ask_who(who, most) {
            Ok(()) => self.gate.hub.schedule(&self.socket),
            Err(refusal) => self.refuse(who.request, refusal),
        }
    }

    fn activate(&self, activate: Activate, size: usize) {
        let Activate { request, cloning, mut open, bases } = activate;
        if !self.in_force(request) {
            return;
        }
        if self.socket.active() {
            return self.socket.send(&[ServerFrame::State(State {
                active: true,
                met: None,
                reason: None,
                activate_after: 0,
                generation: self.socket.generation(),
                source: None,
                request,
            })]);
        }
        let wait = self.socket.activate_at().saturating_sub(self.gate.hub.ticks());
        if wait > 0 {
            let wait = u32::try_from(wait).unwrap_or(u32::MAX);
            return self.refuse(request, too_early(wait));
        }
        let (connection, generation) = self.named();
        let weight = size + open.len() * OPEN_WEIGHT;
        self.gate.admission.read_ahead_names(&self.grants.0, &open);
        let names = asked_for(&self.gate.limits, &open);
        let Making { make, unmade, spent } = self.gate.admission.making(&self.grants.0, &mut open);
        let read = readable(&self.grants.0);
        let bases = self.known_bases(bases);
        let ask = Subscribe { connection, generation, open, read, make, bases };
        let command = Command::Activate { ask, cloning, holds: self.holds };
        let asked = Request::Activate(Box::new(Opening { request, names, unmade, spent }));
        self.submit(command, weight, request, asked);
    }

    fn snapshot(&mut self, put: PutSnapshot, size: usize) {
        let turn = match self.socket.admit_part(&put) {
            Ok(Some(turn)) => turn,
            Ok(None) => return,
            Err(refusal) => return self.refuse(put.request, refusal),
        };
        if let Err(refusal) = self.may_put(put.log, put.data.bytes().len()) {
            return self.socket.refuse_part(turn, put.request, refusal);
        }
        let mut costs = Costs::with_room(1);
        costs.push(put.data.bytes().len(), 0);
        let charged = match self.purse.charge_whole(Id::NONE, costs) {
            Ok(charged) => charged,
            Err((refusal, _)) => return self.put_part_off(turn, put.request, put.part, refusal),
        };
        let PutSnapshot { request, log, offset, version, part: number, last, data } = put;
        let (connection, data) = (self.socket.connection, data.bytes().clone());
        let user = self.socket.user.clone();
        let part = Part { user, connection, log, offset, version, part: number, last, data };
        let asked = Request::Snapshot { request, turn, last, charged };
        match self.hand_in(Command::PutSnapshot(part), size, asked) {
            Ok(()) => {}
            Err(refusal) if self.ends(&refusal) => {}
            Err(refusal) if refusal.code.class() == Class::Transient => {
                self.put_part_off(turn, request, number, refusal);
            }
            Err(refusal) => self.socket.refuse_part(turn, request, refusal),
        }
    }

    /// A part of a snapshot is to come again, and those behind it.
    fn put_part_off(&self, turn: u64, request: u32, part: u32, refusal: Refusal) {
        let message = format!("{}: send part {part} and on again", refusal.message);
        self.socket.put_off(turn, part);
        self.refuse(request, Refusal { message, ..refusal });
    }

    /// What can be known of a part of a snapshot before the fold.
    fn may_put(&mut self, log: u64, bytes: usize) -> Result<(), Refusal> {
        let expires = self.grants.0.expires_ms;
        if expires != 0 && self.gate.now() >= expires {
            return Err(Code::TokenExpired.into());
        }
        if !self.socket.active() {
            return Err(Code::Inactive.into());
        }
        let name = self.name_of(log).ok_or(Code::UnknownLog)?;
        if !self.grants.0.allows(&name, Can::Snapshot) {
            return Err(Code::Denied.into());
        }
        let most = self.gate.limits.snapshot_part_bytes as usize;
        if bytes > most {
            let message = format!("a part of a snapshot has at most {most} bytes");
            return Err(Refusal::because(Code::TooLarge, message));
        }
        Ok(())
    }

    /// A new token of the same user takes the place of the old one.
    fn refresh(&mut self, refresh: &Refresh) {
        let request = refresh.request;
        let grants = match self.gate.authority.authenticate(Some(&refresh.token), self.gate.now()) {
            Ok(grants) if grants.user == self.socket.user => grants,
            Ok(_) => {
                let message = "the new token is another user's";
                return self.refuse(request, Refusal::because(Code::Unauthorized, message));
            }
            Err(error) => return self.refuse(request, error.into()),
        };
        let expires = grants.expires_ms;
        self.grants = Arc::new(TokenGrants(grants));
        self.names = Default::default();
        let lost = self.socket.regrant(Arc::clone(&self.grants) as _);
        self.socket.send(&[ServerFrame::Refreshed(Refreshed { expires, request })]);
        if !lost.is_empty() {
            // Delivery ends here and now; the row follows.
            self.gate.hub.end_by_refresh(&self.socket, lost.clone());
            let said = self.socket.lose(lost, Vec::new(), &self.gate.inbox);
            said.err().map(|refusal| self.ends(&refusal));
        }
        self.gate.hub.schedule(&self.socket);
    }
}
