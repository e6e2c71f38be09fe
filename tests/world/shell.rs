//! A node's shell of its sockets: what batches tell, and what delivery asks for.

use highwater::connection::{Attached, Event, Opened, Progress, Subscribe, Wanted, open};
use highwater::delivery::{Found, Offer, Output, Owed, Read, Slice, Wrote};
use highwater::fold::{Command, Reply};
use highwater::log::Stored;
use highwater::wire::{
    Answers, Base, Code, Done, Encoding, Ended, Id, Met, Open, Payload, Ping, Position, Reason,
    Refusal, ResetReason, ServerFrame, SnapshotRule, Start, State, Welcome, Whom, codec,
};

use crate::frames::{latest_frame, records_frame, refused, size_of};
use crate::link::wrap;
use crate::node::{Node, Ticket};
use crate::oracle::{Oracle, demand};
use crate::rows;
use crate::session::{Asked, reply};
use crate::shared::{Shared, Turn};

/// Turns of one socket without a pause: with the slices as they are, none needs more.
const MOST_TURNS: usize = 4_000;

impl Node {
    pub fn reply(
        &mut self,
        told: Reply,
        ticket: Option<Ticket>,
        position: Option<Position>,
        shared: &mut Shared,
    ) {
        if let Reply::Attached(attached) = &told {
            // Whoever proposed it: from here on an older generation reads nothing here.
            shared.oracle.attached(self.number, attached.connection, attached.generation);
        }
        let Some(Ticket { link, asked }) = ticket else { return };
        if let Asked::Revoke(user, before) = &asked {
            return shared.oracle.revoked(self.number, user, *before);
        }
        let Some(session) = self.sessions.get_mut(&link) else {
            return self.nobody(&asked, &told);
        };
        match (asked, told) {
            (Asked::Attach(names), Reply::Attached(attached)) => {
                self.welcome(link, &names, *attached, position, shared);
                self.go_on(link, shared);
            }
            (Asked::Attach(_), Reply::Refused(refusal)) => session.close(refusal.code),
            (Asked::Activate(request, names), Reply::Attached(attached)) => {
                self.activated(link, request, &names, *attached, shared);
            }
            (Asked::Append(prev), Reply::Answers(mut answers)) => {
                if answers.mark > 0 {
                    answers.positions = position.into_iter().collect();
                }
                session.delivery.it.in_order(prev, &mut answers);
                session.delivery.in_turn(ServerFrame::Answers(answers));
            }
            (Asked::Append(_), Reply::Refused(refusal)) => session.close(refusal.code),
            (Asked::Subscribe(request), Reply::Subscribed(_, opened, refused)) => {
                let nothing = opened.is_empty() && refused.is_empty();
                self.open(link, opened, request, &[], shared);
                self.refuse(link, request, refused);
                self.done(link, if nothing { request } else { 0 });
            }
            (Asked::Unsubscribe(request, why, logs), Reply::Unsubscribed(_)) => {
                if logs.is_empty() && why == Ended::Asked {
                    return self.done(link, request);
                }
                session.delivery.ended(logs, request, why);
            }
            (Asked::Seek(request), Reply::Moved(_, opened)) => {
                self.open(link, vec![*opened], request, &[], shared);
            }
            (Asked::Snapshot(request, true) | Asked::Done(request), Reply::Done) => {
                self.done(link, request);
            }
            (Asked::Leave, _) => session.closing = true,
            (
                Asked::Activate(request, _)
                | Asked::Subscribe(request)
                | Asked::Unsubscribe(request, ..)
                | Asked::Seek(request)
                | Asked::Snapshot(request, _)
                | Asked::Done(request),
                Reply::Refused(refusal),
            ) => reply(session, request, refusal.code),
            (Asked::Snapshot(_, false), Reply::Done) | (Asked::Revoke(..), _) => {}
            (asked, told) => panic!("{asked:?} was answered by {told:?}"),
        }
    }

    /// The socket went away before it was answered: what it was attached to is let go.
    fn nobody(&mut self, asked: &Asked, told: &Reply) {
        if let (Asked::Attach(_), Reply::Attached(attached)) = (asked, told) {
            let (connection, generation) = (attached.connection, attached.generation);
            let last = Progress { connection, generation, reached: Vec::new() };
            self.inbox.push((Command::Detach(last), None));
        }
    }

    fn done(&mut self, link: usize, request: u32) {
        if let Some(session) = self.sessions.get_mut(&link).filter(|_| request != 0) {
            session.delivery.reply(ServerFrame::Done(Done { request }));
        }
    }

    fn refuse(&mut self, link: usize, request: u32, names: Vec<(String, Refusal)>) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let frames = names.into_iter().map(|(name, why)| refused(request, Some(name), why.code));
        frames.for_each(|frame| session.delivery.owe(frame));
    }

    fn welcome(
        &mut self,
        link: usize,
        names: &[String],
        attached: Attached,
        position: Option<Position>,
        shared: &mut Shared,
    ) {
        let Attached { connection, generation, met, source, place, inactive, .. } = attached;
        if let Some(before) = self.sockets.insert(connection, link).filter(|known| *known != link)
            && let Some(before) = self.sessions.get_mut(&before)
        {
            before.close(Code::Fenced);
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.welcomed = true;
        shared.oracle.claimed(self.number, link, connection, generation);
        let mut welcome = Welcome {
            version: 1,
            capabilities: Vec::new(),
            connection,
            user: session.user.clone(),
            met,
            source,
            place,
            generation,
            time: shared.now,
            expires: 0,
            ping_interval: 10_000,
            limits: highwater::wire::Limits {
                frame_bytes: 1 << 20,
                record_bytes: 1 << 20,
                window: shared.weights.window as u32,
                in_flight: 1_024,
                subscriptions: 100,
            },
            token: None,
            writers: Vec::new(),
            positions: position.into_iter().collect(),
            other_history: attached.other_history,
            credit: None,
            nodes: Vec::new(),
        };
        let mut owed = Vec::new();
        for writer in attached.writers {
            welcome.writers.push(writer.mark);
            if !writer.answers.is_empty() {
                let (id, mark) = (writer.mark.writer, writer.mark.mark);
                let (answers, positions) = (writer.answers, Vec::new());
                let frame = Answers { writer: id, mark, answers, positions, credit: None };
                owed.push(ServerFrame::Answers(frame));
            }
        }
        owed.extend(inactive.map(|reason| state(reason, generation, self.activate_after)));
        let active = inactive.is_none();
        let welcome = ServerFrame::Welcome(welcome);
        session.delivery.it.attached(generation, active);
        session.delivery.reply(welcome);
        owed.into_iter().for_each(|frame| session.delivery.owe(frame));
        self.take_in(link, attached.opened, 0, names, shared);
        self.refuse(link, 0, attached.refused);
    }

    fn activated(
        &mut self,
        link: usize,
        request: u32,
        names: &[String],
        attached: Attached,
        shared: &mut Shared,
    ) {
        let Attached { generation, met, source, opened, refused, ended, .. } = attached;
        let attached_id = attached.connection;
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let state = ServerFrame::State(State {
            active: true,
            met: Some(met),
            reason: None,
            activate_after: 0,
            generation,
            source,
            request,
        });
        shared.oracle.claimed(self.number, link, attached_id, generation);
        session.delivery.activated(generation, state, &ended);
        self.open(link, opened, 0, names, shared);
        self.refuse(link, 0, refused);
    }

    /// Takes subscriptions in that come without a welcome.
    fn open(
        &mut self,
        link: usize,
        opened: Vec<Opened>,
        request: u32,
        names: &[String],
        shared: &mut Shared,
    ) {
        if let Some(session) = self.sessions.get_mut(&link) {
            let stands = Owed::position(self.position, &opened);
            stands.into_iter().for_each(|owed| session.delivery.it.owe(owed));
        }
        self.take_in(link, opened, request, names, shared);
    }

    /// Takes subscriptions in, as far as the grants go at this moment.
    fn take_in(
        &mut self,
        link: usize,
        opened: Vec<Opened>,
        request: u32,
        names: &[String],
        shared: &mut Shared,
    ) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.closing || self.sockets.get(&session.connection) != Some(&link) {
            return;
        }
        let (mut ended, mut frames, mut anew) = (Vec::new(), Vec::new(), Vec::new());
        for one in opened {
            let (log, name, again) = (one.log, one.name.clone(), one.again);
            shared.oracle.claims(link, &one);
            let Err(why) = session.delivery.opened(one, request) else {
                shared.oracle.names(link, log, &name, again);
                continue;
            };
            ended.push(log);
            if request != 0 || names.contains(&name) {
                frames.push(refused(request, Some(name), why));
            } else if why == Code::Stale {
                anew.push(name);
            }
        }
        frames.into_iter().for_each(|frame| session.delivery.owe(frame));
        if ended.is_empty() {
            return;
        }
        let (connection, generation) = (session.connection, session.delivery.it.generation());
        let (generation, read) = (Some(generation), session.grants.clone());
        let command = Command::Unsubscribe { connection, generation, logs: ended.clone() };
        self.submit(command, link, Asked::Unsubscribe(0, Ended::Denied, ended));
        // What the back end opened is opened behind that end.
        for name in anew {
            let open = vec![Open { name, have: None, start: Start::State, priority: 0 }];
            let (read, make, bases) = (read.clone(), Vec::new(), Vec::new());
            let ask = Subscribe { connection, generation, open, read, make, bases };
            self.submit(Command::Subscribe(ask), link, Asked::Subscribe(0));
        }
    }

    fn socket(&mut self, connection: Id) -> Option<&mut crate::session::Session> {
        let link = self.sockets.get(&connection)?;
        self.sessions.get_mut(link)
    }

    /// A newer attachment has the connection: an older socket of it is over.
    fn fence(&mut self, connection: Id, generation: u64) {
        if let Some(session) = self.socket(connection)
            && session.delivery.it.generation() < generation
        {
            session.close(Code::Fenced);
            self.sockets.remove(&connection);
        }
    }

    pub fn event(&mut self, event: Event, shared: &mut Shared) {
        match event {
            Event::Fenced { connection, was, generation } => {
                let here = (crate::node::node_id(self.number), self.incarnation);
                if (was.node, was.incarnation) == here {
                    self.fence(connection, generation);
                }
            }
            Event::Downgraded { connection, reason, generation, joined, .. } => {
                let after = self.activate_after;
                shared.oracle.downgraded(self.number, connection, generation);
                self.fence(connection, joined);
                if let Some(session) = self.socket(connection)
                    && session.delivery.it.generation() < generation
                {
                    let state = state(reason, generation, after);
                    session.delivery.downgraded(generation, state);
                }
            }
            Event::Forgotten { connection } => {
                shared.oracle.forgotten(self.number, connection);
                if let Some(session) = self.socket(connection) {
                    session.close(Code::UnknownConnection);
                }
            }
            Event::Opened { connection, generation, opened } => {
                if let Some(link) = self.sockets.get(&connection).copied()
                    && self.sessions[&link].delivery.it.generation() == generation
                {
                    self.open(link, opened, 0, &[], shared);
                }
            }
            Event::Closed { connection, logs } => {
                if let Some(session) = self.socket(connection) {
                    let why = Ended::BackEnd;
                    session.delivery.ended(logs, 0, why);
                }
            }
            Event::Deleted { log, .. } => {
                for session in self.sessions.values_mut() {
                    if session.delivery.it.name_of(log).is_some() {
                        let (logs, why) = (vec![log], Ended::Deleted);
                        session.delivery.ended(logs, 0, why);
                    }
                }
            }
            Event::Revoked { whom: Whom::User(user), before_ms } => match before_ms {
                Some(before) => {
                    self.revoked.insert(user.clone(), before);
                    let hit = |session: &&mut crate::session::Session| {
                        session.user == user && session.issued < before
                    };
                    let hit = self.sessions.values_mut().filter(hit);
                    hit.for_each(|session| session.close(Code::Revoked));
                }
                None => drop(self.revoked.remove(&user)),
            },
            Event::Era => {
                let sessions = self.sessions.values_mut().filter(|session| session.welcomed);
                sessions.for_each(|session| session.close(Code::OtherHistory));
            }
            Event::Revoked { .. }
            | Event::Ruled { .. }
            | Event::Snapshot { .. }
            | Event::Trimmed(_) => {}
        }
    }

    /// A log's new records go to the sockets that are caught up.
    pub fn offer(&mut self, log: u64, base: u64, records: &[Stored], shared: &mut Shared) {
        let end = base + records.len() as u64;
        let frame = records_frame(log, base, records);
        let size = size_of(&frame);
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            let session = self.sessions.get_mut(&link).unwrap();
            let offer = session.delivery.it.offer(shared.now, log, (base, end), || size);
            if session.closing || offer != Offer::Write {
                continue;
            }
            // Where something else waits, the kernel takes nothing of it: it is read later.
            let free = session.out.is_empty() && session.delivery.replies.is_empty();
            let taken = free && shared.links[link].room() > 0;
            let wrote = if taken { Wrote::All } else { Wrote::Nothing };
            session.delivery.it.wrote(log, end, size, wrote);
            if taken {
                self.send(link, std::slice::from_ref(&frame), shared);
            }
        }
    }

    /// Frames of a machine leave: the oracle looks at each.
    fn send(&mut self, link: usize, frames: &[ServerFrame], shared: &mut Shared) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let mut message = Vec::new();
        for frame in frames {
            shared.oracle.sends(self.number, link, session, frame);
            codec::encode(frame, Encoding::Bincode, &mut message);
        }
        session.out.extend(wrap(&message));
        let taken = shared.down(link, &session.out);
        session.out.drain(..taken);
    }

    /// Cursors are committed from time to time.
    pub fn keep(&mut self, shared: &Shared) {
        if shared.now < self.committed_at + shared.weights.commits {
            return;
        }
        self.committed_at = shared.now;
        let mut all = Vec::new();
        for session in self.sessions.values_mut().filter(|session| session.moved) {
            session.moved = false;
            let (connection, generation) = (session.connection, session.delivery.it.generation());
            let reached = session.delivery.take_acked();
            if !reached.is_empty() {
                all.push(Progress { connection, generation, reached });
            }
        }
        if !all.is_empty() {
            self.inbox.push((Command::Commit(all), None));
        }
    }

    /// Serves each socket as far as it takes something.
    pub fn serve(&mut self, shared: &mut Shared) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            for turn in 0.. {
                assert!(turn < MOST_TURNS, "nothing spins: link {link} is served again and again");
                if !self.step(link, shared) {
                    break;
                }
            }
            self.served(link, shared);
        }
    }

    /// Promise 5: what is held for a reader does not grow with its lag, and one that can take
    /// something has it.
    fn served(&self, link: usize, shared: &Shared) {
        let Some(session) = self.sessions.get(&link) else { return };
        let it = &session.delivery.it;
        let (behind, logs) = (it.behind(), it.cursors().count());
        demand!(behind <= logs, "promise 5: {behind} turns wait for {logs} logs");
        let here = session.welcomed && !session.closing && !session.leaving;
        let takes = session.out.is_empty() && shared.links[link].room() > 0;
        if here && takes {
            shared.oracle.served(link, session, &self.rows);
        }
    }

    fn step(&mut self, link: usize, shared: &mut Shared) -> bool {
        let Some(session) = self.sessions.get_mut(&link) else { return false };
        if !session.out.is_empty() {
            let taken = shared.down(link, &session.out);
            session.out.drain(..taken);
            if !session.out.is_empty() {
                return false;
            }
        }
        if session.closing {
            shared.links[link].node_gone = true;
            shared.links[link].cut(0, usize::MAX);
            shared.at(shared.now + shared.weights.delay + 2, Turn::ClientGone(link));
            self.gone(link);
            return false;
        }
        session.delivery.it.writable();
        if !session.delivery.replies.is_empty() {
            let frames: Vec<_> = session.delivery.replies.drain(..).collect();
            self.send(link, &frames, shared);
            return true;
        }
        match session.delivery.it.poll(shared.now) {
            None => false,
            Some(Output::Frames(_, frames)) => {
                Oracle::opens(session, &frames);
                self.send(link, &frames, shared);
                true
            }
            Some(Output::Read(read)) => {
                self.read_for(link, &read, shared);
                true
            }
            Some(Output::Close(closing)) => {
                session.close(closing.code);
                true
            }
            Some(Output::Look(_)) => panic!("law 14: nobody asks who has a record here"),
        }
    }

    /// What delivery wants to be read is read, and goes as far as it may.
    fn read_for(&mut self, link: usize, read: &Read, shared: &mut Shared) {
        let found = self.read(read);
        let idle = matches!(found, Err(Found::Nothing));
        let head = || rows::log_row(&self.rows, read.log).map_or(0, |row| row.head);
        let nothing = idle.then(head);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        shared.oracle.reads(link, session, read, nothing, &self.rows);
        let (frame, cursor, next) = match found {
            Ok(data) => data,
            Err(found) => {
                if let Found::Reopen(opened) = &found {
                    shared.oracle.reopens(link, read.log);
                    let stands = Owed::position(self.position, std::slice::from_ref(&**opened));
                    stands.into_iter().for_each(|owed| session.delivery.it.owe(owed));
                }
                shared.oracle.turn(link, read.log);
                return session.delivery.it.found(read, found);
            }
        };
        let size = size_of(&frame);
        if session.delivery.it.offer_read(shared.now, read, size) == Offer::Write {
            let after = (cursor, next);
            session.delivery.it.wrote_read(read, size, after, Wrote::All);
            shared.oracle.turn(link, read.log);
            // A part of a base that leaves out what is yet to come as a record depends on that.
            let head = rows::log_row(&self.rows, read.log).map_or(0, |row| row.head);
            let depends = matches!(&frame, ServerFrame::BaseRecords(told) if head > told.offset);
            let positions: Vec<_> = self.position.into_iter().filter(|_| depends).collect();
            let told =
                (!positions.is_empty()).then_some(ServerFrame::Ping(Ping { nonce: 0, positions }));
            let frames: Vec<_> = told.into_iter().chain([frame]).collect();
            self.send(link, &frames, shared);
        }
    }

    /// A frame, the cursor behind it, and what is read next; or why there is none.
    fn read(&self, read: &Read) -> Result<(ServerFrame, u64, Slice), Found> {
        let (log, cursor) = (read.log, read.cursor);
        let row = rows::log_row(&self.rows, log).filter(|row| !row.deleted);
        let Some(row) = row else { return Err(Found::Over) };
        match &read.slice {
            Slice::Records => {
                let found = rows::records(&self.rows, log, cursor, 3);
                match found.first().map(|(offset, _)| *offset) {
                    Some(base) if base > cursor => Err(Found::Gap(base)),
                    Some(base) => {
                        let records: Vec<_> = found.into_iter().map(|(_, stored)| stored).collect();
                        let end = base + records.len() as u64;
                        Ok((records_frame(log, base, &records), end, Slice::Records))
                    }
                    None if row.start > cursor => Err(Found::Gap(row.start)),
                    None => Err(Found::Nothing),
                }
            }
            Slice::Latest { offset, after } => {
                if row.rule != SnapshotRule::Latest {
                    return Err(self.reopen(log, &row));
                }
                let (records, next) =
                    rows::latest_page(&self.rows, log, after.as_deref(), *offset, 2);
                let frame = latest_frame(log, *offset, &records, next.is_none(), row.head);
                let offset = *offset;
                let next = next.map(|after| Slice::Latest { offset, after: Some(after) });
                Ok((frame, cursor, next.unwrap_or(Slice::Records)))
            }
            Slice::Base { snapshot, part } => {
                let data = rows::snapshot_part(&self.rows, log, snapshot.upload, *part);
                let Some(data) = data else { return Err(self.reopen(log, &row)) };
                let (part, last) = (*part, part + 1 >= snapshot.parts);
                let (offset, data) = (snapshot.offset, Payload::binary(data.into()));
                let frame = ServerFrame::Base(Base { log, offset, part, last, data });
                let snapshot = snapshot.clone();
                let next =
                    if last { Slice::Records } else { Slice::Base { snapshot, part: part + 1 } };
                Ok((frame, cursor, next))
            }
        }
    }

    fn reopen(&self, log: u64, row: &highwater::log::LogRow) -> Found {
        let wanted = Wanted {
            history: Default::default(),
            have: None,
            begun: None,
            start: Start::State,
            committed: None,
            priority: 0,
            because: ResetReason::Trimmed,
        };
        let mut opened = open(log, row, &wanted);
        opened.made = self.fold.as_ref().and_then(|fold| fold.eras().position(row.made));
        Found::Reopen(Box::new(opened))
    }
}

fn state(reason: Reason, generation: u64, activate_after: u64) -> ServerFrame {
    ServerFrame::State(State {
        active: false,
        met: Some(Met::Waiting).filter(|_| reason == Reason::NoSlot),
        reason: Some(reason),
        activate_after: activate_after as u32,
        generation,
        source: None,
        request: 0,
    })
}
