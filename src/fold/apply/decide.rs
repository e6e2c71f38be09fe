//! Deciding commands: what each means for rows, its reply, and what others are told.

use super::super::command::{Command, Header, Settings};
use super::super::head::{SETTINGS, SettingsRow};
use super::{Fold, Reply};
use crate::connection::{Attachment, ConnectionRow, Connections, Event, Progress, Subscribe, Trim};
use crate::log::{Appended, Deriving, Logs, MARK_KEPT, Moment, Part, Writer};
use crate::rows::{Cache, Hot as _, Io, More, RowsError, Table};
use crate::wire::{Code, Id, Open, Pattern, Refusal, SnapshotRule, Start};

/// What a command brings about besides its reply.
pub(super) struct Step {
    pub(super) events: Vec<Event>,
    pub(super) stored: Vec<Appended>,
}

fn reply<T>(decided: Result<T, Refusal>, with: impl FnOnce(T) -> Reply) -> Reply {
    decided.map_or_else(Reply::Refused, with)
}

fn done(decided: Result<(), Refusal>) -> Reply {
    reply(decided, |()| Reply::Done)
}

const fn trimmed(trim: Trim) -> Reply {
    match trim {
        Trim::Done(trimmed) => Reply::Trimmed(trimmed),
        Trim::Looking => Reply::Looking,
    }
}

const fn created((id, new): (u64, bool)) -> Reply {
    Reply::Created(id, new)
}

impl Fold {
    /// Decides one command.
    pub(super) fn decide(
        &mut self,
        command: Command,
        header: &Header,
        at: &mut Moment,
        io: &mut Io<'_>,
        step: &mut Step,
    ) -> Result<Reply, RowsError> {
        let Self { logs, writers, connections, revoked, .. } = self;
        let (events, stored) = (&mut step.events, &mut step.stored);
        let time = at.time;
        let node = Attachment { node: header.node, incarnation: header.incarnation };
        Ok(match command {
            Command::Look => Reply::Done,
            Command::NodeUp { oldest, newest } => node_up(connections, node, (oldest, newest), io),
            Command::BeginEra { after, era } => begin_era(logs, after, era, at, io, events),
            Command::Upgrade { to } => self.upgrade(to),
            Command::Configure(settings) => self.set(settings, io)?,
            Command::NodeDown { node, incarnation } => {
                done(connections.node_down(node, incarnation, time, io))
            }
            Command::CreateLog { name, page_records } => {
                reply(logs.create(&name, page_records, time, io)?, created)
            }
            Command::Derive { log, rule, seen, most } => {
                derive(logs, (log, rule), seen, most, io, events)?
            }
            Command::Expire { log, keys } => expire(logs, log, keys, at, io, stored)?,
            Command::SetPages { log, records } => done(logs.set_pages(log, records, time, io)?),
            Command::DeleteLog { log } => delete_log(logs, log, io, events)?,
            Command::Trim { log, to } => {
                reply(connections.trim(log, to, time, logs, io, events)?, trimmed)
            }
            Command::Append(appends) => {
                reply(logs.append(writers, appends, at, io, stored)?, Reply::Answers)
            }
            Command::Attach(ask) => {
                let done = connections.attach(&ask, node, at, logs, writers, io, events)?;
                reply(done, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Detach(last) => detach(connections, logs, &last, at, io)?,
            Command::Commit(all) => commit(connections, logs, &all, at, io)?,
            Command::Subscribe(ask) => subscribe(connections, logs, &ask, time, io, events)?,
            Command::SubscribeUser { user, open } => {
                subscribe_user(connections, logs, &user, &open, time, io, events)?
            }
            Command::Unsubscribe { connection, generation, logs } => {
                unsubscribe(connections, connection, generation, &logs, io, events)?
            }
            Command::UnsubscribeUser { user, logs } => {
                unsubscribe_user(connections, &user, &logs, io, events)?
            }
            Command::Seek { connection, generation, log, to } => {
                seek(connections, logs, (connection, generation, log), to, io, events)?
            }
            Command::Visible { connection, generation, visible } => {
                done(connections.see(connection, generation, visible, io)?)
            }
            Command::Activate { ask, cloning, holds } => {
                let how = (cloning, holds);
                let made = connections.reactivate(&ask, how, node, at, logs, io, events)?;
                reply(made, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Downgrade { connection: id, generation, reason } => {
                done(connections.propose_downgrade(id, generation, reason, time, io, events)?)
            }
            Command::Leave { connection, generation, forget } => {
                done(connections.leave(connection, generation, forget, time, io, events)?)
            }
            Command::Forget { connection, generation } => {
                done(connections.propose_forget(connection, generation, time, io, events)?)
            }
            Command::PutSnapshot(part) => {
                put_snapshot(logs, part, connections.budgets.snapshot_bytes, at, io, events)?
            }
            Command::Retire { user, writer } => retire(writers, &user, writer, io)?,
            Command::ForgetWriter { writer, used } => {
                forget_writer(writers, writer, used, time, io)?
            }
            Command::Revoke { whom, before_ms } => {
                revoked.add(whom, before_ms, time, io, events)?
            }
            Command::Unrevoke { whom } => revoked.remove(whom, io, events)?,
        })
    }

    /// The next batch is of the next version, where every node that runs knows it.
    fn upgrade(&mut self, to: u16) -> Reply {
        let due = self.head.version + 1;
        if to != due || !self.connections.all_know(to) {
            let message = format!("version {due} is next, and every node that runs has to know it");
            return Reply::Refused(Refusal::because(Code::Stale, message));
        }
        self.head.version = to;
        Reply::Done
    }

    /// Rules and limits from now on.
    fn set(&mut self, settings: Settings, io: &mut Io<'_>) -> Result<Reply, RowsError> {
        let before: Option<SettingsRow> = io.get(Table::Meta, SETTINGS)?;
        let more = before.map_or_else(More::default, |row| row.more);
        let row = SettingsRow { settings: settings.clone(), more };
        io.put(Table::Meta, SETTINGS.to_vec(), &row);
        self.configure(settings);
        self.configured = true;
        Ok(Reply::Done)
    }
}

fn node_up(
    connections: &mut Connections,
    from: Attachment,
    knows: (u16, u16),
    io: &mut Io<'_>,
) -> Reply {
    connections.node_knows(from.node, knows, io);
    Reply::Done
}

fn detach(
    connections: &mut Connections,
    logs: &mut Logs,
    last: &Progress,
    at: &mut Moment,
    io: &Io<'_>,
) -> Result<Reply, RowsError> {
    connections.commit(last, at.place(), logs, io)?.ok();
    Ok(done(connections.detach(last.connection, last.generation, at.time, io)?))
}

/// Another era begins, unless one has begun that who asks has not seen.
fn begin_era(
    logs: &mut Logs,
    after: Option<Id>,
    era: Id,
    at: &Moment,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Reply {
    if logs.eras.present() != after {
        return Reply::Refused(Code::Stale.into());
    }
    logs.eras.begin(era, at.batch, at.time, io);
    events.push(Event::Era);
    Reply::Done
}

fn derive(
    logs: &mut Logs,
    (log, rule): (u64, SnapshotRule),
    seen: Option<Deriving>,
    most: u32,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    Ok(reply(logs.derive(log, rule, seen, most, io)?, |changed| {
        events.extend(changed.map(|rule| Event::Ruled { log, rule }));
        Reply::Done
    }))
}

fn expire(
    logs: &mut Logs,
    log: u64,
    keys: Vec<(String, u64)>,
    at: &mut Moment,
    io: &mut Io<'_>,
    stored: &mut Vec<Appended>,
) -> Result<Reply, RowsError> {
    Ok(reply(logs.expire(log, keys, at, io, stored)?, Reply::Expired))
}

fn put_snapshot(
    logs: &mut Logs,
    part: Part,
    most: u64,
    at: &mut Moment,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let log = part.log;
    Ok(reply(logs.put_snapshot(part, most, at.place(), io)?, |made| {
        events.extend(made.map(|made| Event::Snapshot { log, offset: made.offset }));
        Reply::Done
    }))
}

/// Each is for itself: one that is stale does nothing.
fn commit(
    connections: &mut Connections,
    logs: &mut Logs,
    all: &[Progress],
    at: &mut Moment,
    io: &Io<'_>,
) -> Result<Reply, RowsError> {
    let place = at.place();
    for progress in all {
        connections.commit(progress, place, logs, io)?.ok();
    }
    Ok(Reply::Done)
}

fn delete_log(
    logs: &mut Logs,
    log: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let name = logs.row(log, io)?.map(|row| row.name.clone()).unwrap_or_default();
    Ok(reply(logs.delete(log, io)?, |()| {
        events.push(Event::Deleted { log, name });
        Reply::Done
    }))
}

fn subscribe(
    connections: &mut Connections,
    logs: &mut Logs,
    ask: &Subscribe,
    time: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    Ok(reply(connections.subscribe(ask, time, logs, io)?, |(generation, (opened, refused))| {
        if ask.generation.is_none() && !opened.is_empty() {
            let (connection, opened) = (ask.connection, opened.clone());
            events.push(Event::Opened { connection, generation, opened });
        }
        Reply::Subscribed(generation, opened, refused)
    }))
}

fn subscribe_user(
    connections: &mut Connections,
    logs: &mut Logs,
    user: &str,
    open: &[Open],
    time: u64,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    if let Err(refusal) = connections.stand(user, open, time, logs, io)? {
        return Ok(Reply::Refused(refusal));
    }
    let mut reached = Vec::new();
    for connection in connections.of_user(user, io)? {
        let (open, all) = (open.to_vec(), vec![Pattern::all()]);
        let (read, make) = (all.clone(), all);
        let ask = Subscribe { connection, generation: None, open, read, make, bases: Vec::new() };
        let reply = subscribe(connections, logs, &ask, time, io, events)?;
        if matches!(reply, Reply::Subscribed(..)) {
            reached.push(connection);
        }
    }
    Ok(Reply::Reached(reached))
}

fn unsubscribe(
    connections: &mut Connections,
    connection: Id,
    generation: Option<u64>,
    logs: &[u64],
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    Ok(reply(connections.unsubscribe(connection, generation, logs, io)?, |logs| {
        if generation.is_none() && !logs.is_empty() {
            events.push(Event::Closed { connection, logs: logs.clone() });
        }
        Reply::Unsubscribed(logs)
    }))
}

fn unsubscribe_user(
    connections: &mut Connections,
    user: &str,
    logs: &[u64],
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    connections.stand_no_more(user, logs, io)?;
    let mut reached = Vec::new();
    for connection in connections.of_user(user, io)? {
        let reply = unsubscribe(connections, connection, None, logs, io, events)?;
        if matches!(reply, Reply::Unsubscribed(logs) if !logs.is_empty()) {
            reached.push(connection);
        }
    }
    Ok(Reply::Reached(reached))
}

fn seek(
    connections: &mut Connections,
    logs: &mut Logs,
    (connection, generation, log): (Id, Option<u64>, u64),
    to: Start,
    io: &mut Io<'_>,
    events: &mut Vec<Event>,
) -> Result<Reply, RowsError> {
    let moved = connections.seek(connection, generation, log, to, logs, io)?;
    // An inactive one is moved in its row alone: there is nobody to tell.
    let active = connections.row(connection, io)?.is_some_and(ConnectionRow::active);
    Ok(reply(moved, |(current, opened)| {
        if generation.is_none() && active {
            let opened = vec![opened.clone()];
            events.push(Event::Opened { connection, generation: current, opened });
        }
        Reply::Moved(current, Box::new(opened))
    }))
}

fn retire(
    writers: &mut Cache<Writer>,
    user: &str,
    id: Id,
    io: &Io<'_>,
) -> Result<Reply, RowsError> {
    Ok(match writers.change(&id, io)? {
        Some(writer) if writer.row.user == user => {
            writer.confirm(u64::MAX);
            writer.row.retired = true;
            Reply::Done
        }
        _ => Reply::Refused(Code::UnknownWriter.into()),
    })
}

fn forget_writer(
    writers: &mut Cache<Writer>,
    id: Id,
    used: u64,
    time: u64,
    io: &mut Io<'_>,
) -> Result<Reply, RowsError> {
    // Whatever a keeper proposes: a repeat a year later is still known as one.
    let unused = |writer: &&mut Writer| {
        writer.row.used == used && (writer.row.retired || time.saturating_sub(used) >= MARK_KEPT)
    };
    let Some(writer) = writers.change(&id, io)?.filter(unused) else {
        return Ok(Reply::Refused(Code::Stale.into()));
    };
    // Saving removes the chunks of confirmed outcomes; then the row goes.
    writer.confirm(u64::MAX);
    writer.save(&id, io);
    writers.forget(&id);
    io.remove(Table::Writers, id.0.to_vec());
    Ok(Reply::Done)
}
