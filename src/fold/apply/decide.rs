//! Deciding commands: what each means for rows, its reply, and what others are told.

use super::super::command::{Alive, Command, Header, Settings};
use super::super::head::{SETTINGS, SettingsRow};
use super::{Fold, Reply};
use crate::connection::{
    Attachment, ConnectionRow, Connections, Context, Event, Progress, Subscribe, Trim,
};
use crate::log::{Appended, Deriving, MARK_KEPT, Moment, Part, Writer};
use crate::rows::{Hot as _, Io, More, RowsError, Table};
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
        let Step { events, stored } = step;
        let cx = &mut Context { at, logs, writers, io, events, stored };
        let time = cx.at.time;
        let node = Attachment { node: header.node, incarnation: header.incarnation };
        Ok(match command {
            Command::Look => Reply::Done,
            Command::NodeUp { oldest, newest } => node_up(connections, node, (oldest, newest), cx),
            Command::Alive(said) => node_alive(connections, node, &said, cx),
            Command::BeginEra { after, era } => begin_era(after, era, cx),
            Command::Upgrade { to } => self.upgrade(to),
            Command::Configure(settings) => {
                write_settings(&settings, cx.io)?;
                self.set(settings)
            }
            Command::NodeDown { node, incarnation } => {
                done(connections.node_down(node, incarnation, time, cx.io))
            }
            Command::ForgetNode { node } => done(connections.forget_node(node, cx.io)),
            Command::CreateLog { name, page_records } => {
                reply(cx.logs.create(&name, page_records, time, cx.io)?, created)
            }
            Command::Derive { log, rule, seen, most } => derive((log, rule), seen, most, cx)?,
            Command::Expire { log, keys } => expire(log, keys, cx)?,
            Command::SetPages { log, records } => set_pages(log, records, cx)?,
            Command::DeleteLog { log } => delete_log(log, cx)?,
            Command::Trim { log, to } => reply(connections.trim(log, to, cx)?, trimmed),
            Command::Append(appends) => {
                let Context { at, logs, writers, io, stored, .. } = cx;
                reply(logs.append(writers, appends, at, io, stored)?, Reply::Answers)
            }
            Command::Attach(ask) => {
                let done = connections.attach(&ask, node, cx)?;
                reply(done, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Detach(last) => detach(connections, &last, cx)?,
            Command::Commit(all) => commit(connections, &all, cx)?,
            Command::Subscribe(ask) => subscribe(connections, &ask, cx)?,
            Command::SubscribeUser { user, open } => subscribe_user(connections, &user, &open, cx)?,
            Command::Unsubscribe { connection, generation, logs } => {
                unsubscribe(connections, connection, generation, &logs, cx)?
            }
            Command::UnsubscribeUser { user, logs } => {
                unsubscribe_user(connections, &user, &logs, cx)?
            }
            Command::Seek { connection, generation, log, to } => {
                seek(connections, (connection, generation, log), to, cx)?
            }
            Command::Visible { connection, generation, visible } => {
                done(connections.see(connection, generation, visible, cx.io)?)
            }
            Command::Activate { ask, cloning, holds } => {
                let how = (cloning, holds);
                let made = connections.reactivate(&ask, how, node, cx)?;
                reply(made, |attached| Reply::Attached(Box::new(attached)))
            }
            Command::Downgrade { connection: id, generation, reason } => {
                done(connections.propose_downgrade(id, generation, reason, cx)?)
            }
            Command::Leave { connection, generation, forget } => {
                done(connections.leave(connection, generation, forget, cx)?)
            }
            Command::Forget { connection, generation } => {
                done(connections.propose_forget(connection, generation, cx)?)
            }
            Command::PutSnapshot(part) => {
                put_snapshot(part, connections.budgets.snapshot_bytes, cx)?
            }
            Command::Retire { user, writer } => retire(&user, writer, cx)?,
            Command::ForgetWriter { writer, used } => forget_writer(writer, used, cx)?,
            Command::Revoke { whom, before_ms } => {
                revoked.add(whom, before_ms, time, cx.io, cx.events)?
            }
            Command::Unrevoke { whom } => revoked.remove(whom, cx.io, cx.events)?,
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
    fn set(&mut self, settings: Settings) -> Reply {
        self.configure(settings);
        self.configured = true;
        Reply::Done
    }
}

fn write_settings(settings: &Settings, io: &mut Io<'_>) -> Result<(), RowsError> {
    let before: Option<SettingsRow> = io.get(Table::Meta, SETTINGS)?;
    let more = before.map_or_else(More::default, |row| row.more);
    let row = SettingsRow { settings: settings.clone(), more };
    io.put(Table::Meta, SETTINGS.to_vec(), &row);
    Ok(())
}

fn node_up(
    connections: &mut Connections,
    from: Attachment,
    knows: (u16, u16),
    cx: &mut Context<'_, '_>,
) -> Reply {
    connections.node_knows(from.node, knows, cx.io);
    Reply::Done
}

fn set_pages(log: u64, records: u64, cx: &mut Context<'_, '_>) -> Result<Reply, RowsError> {
    Ok(done(cx.logs.set_pages(log, records, cx.at.time, cx.io)?))
}

fn node_alive(
    connections: &mut Connections,
    from: Attachment,
    said: &Alive,
    cx: &mut Context<'_, '_>,
) -> Reply {
    connections.node_alive(from.node, said.checkpoint, &said.address, cx.io);
    Reply::Done
}

fn detach(
    connections: &mut Connections,
    last: &Progress,
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    connections.commit(last, cx.at.place(), cx.logs, cx.io)?.ok();
    Ok(done(connections.detach(last.connection, last.generation, cx.at.time, cx.io)?))
}

/// Another era begins, unless one has begun that who asks has not seen.
fn begin_era(after: Option<Id>, era: Id, cx: &mut Context<'_, '_>) -> Reply {
    if cx.logs.eras.present() != after {
        return Reply::Refused(Code::Stale.into());
    }
    cx.logs.eras.begin(era, cx.at.batch, cx.at.time, cx.io);
    cx.events.push(Event::Era);
    Reply::Done
}

fn derive(
    (log, rule): (u64, SnapshotRule),
    seen: Option<Deriving>,
    most: u32,
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    Ok(reply(cx.logs.derive(log, rule, seen, most, cx.io)?, |changed| {
        cx.events.extend(changed.map(|rule| Event::Ruled { log, rule }));
        Reply::Done
    }))
}

fn expire(
    log: u64,
    keys: Vec<(String, u64)>,
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    Ok(reply(cx.logs.expire(log, keys, cx.at, cx.io, cx.stored)?, Reply::Expired))
}

fn put_snapshot(part: Part, most: u64, cx: &mut Context<'_, '_>) -> Result<Reply, RowsError> {
    let log = part.log;
    Ok(reply(cx.logs.put_snapshot(part, most, cx.at.place(), cx.io)?, |made| {
        cx.events.extend(made.map(|made| Event::Snapshot { log, offset: made.offset }));
        Reply::Done
    }))
}

/// Each is for itself: one that is stale does nothing.
fn commit(
    connections: &mut Connections,
    all: &[Progress],
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    let place = cx.at.place();
    for progress in all {
        connections.commit(progress, place, cx.logs, cx.io)?.ok();
    }
    Ok(Reply::Done)
}

fn delete_log(log: u64, cx: &mut Context<'_, '_>) -> Result<Reply, RowsError> {
    let name = cx.logs.row(log, cx.io)?.map(|row| row.name.clone()).unwrap_or_default();
    Ok(reply(cx.logs.delete(log, cx.io)?, |()| {
        cx.events.push(Event::Deleted { log, name });
        Reply::Done
    }))
}

fn subscribe(
    connections: &mut Connections,
    ask: &Subscribe,
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    Ok(reply(
        connections.subscribe(ask, cx.at.time, cx.logs, cx.io)?,
        |(generation, (opened, refused))| {
            if ask.generation.is_none() && !opened.is_empty() {
                let (connection, opened) = (ask.connection, opened.clone());
                cx.events.push(Event::Opened { connection, generation, opened });
            }
            Reply::Subscribed(generation, opened, refused)
        },
    ))
}

fn subscribe_user(
    connections: &mut Connections,
    user: &str,
    open: &[Open],
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    if let Err(refusal) = connections.stand(user, open, cx.at.time, cx.logs, cx.io)? {
        return Ok(Reply::Refused(refusal));
    }
    let mut reached = Vec::new();
    for connection in connections.of_user(user, cx.io)? {
        let (open, all) = (open.to_vec(), vec![Pattern::all()]);
        let (read, make) = (all.clone(), all);
        let ask = Subscribe { connection, generation: None, open, read, make, bases: Vec::new() };
        let reply = subscribe(connections, &ask, cx)?;
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
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    Ok(reply(connections.unsubscribe(connection, generation, logs, cx.io)?, |logs| {
        if generation.is_none() && !logs.is_empty() {
            cx.events.push(Event::Closed { connection, logs: logs.clone() });
        }
        Reply::Unsubscribed(logs)
    }))
}

fn unsubscribe_user(
    connections: &mut Connections,
    user: &str,
    logs: &[u64],
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    connections.stand_no_more(user, logs, cx.io)?;
    let mut reached = Vec::new();
    for connection in connections.of_user(user, cx.io)? {
        let reply = unsubscribe(connections, connection, None, logs, cx)?;
        if matches!(reply, Reply::Unsubscribed(logs) if !logs.is_empty()) {
            reached.push(connection);
        }
    }
    Ok(Reply::Reached(reached))
}

fn seek(
    connections: &mut Connections,
    (connection, generation, log): (Id, Option<u64>, u64),
    to: Start,
    cx: &mut Context<'_, '_>,
) -> Result<Reply, RowsError> {
    let moved = connections.seek(connection, generation, log, to, cx.logs, cx.io)?;
    // An inactive one is moved in its row alone: there is nobody to tell.
    let active = connections.row(connection, cx.io)?.is_some_and(ConnectionRow::active);
    Ok(reply(moved, |(current, opened)| {
        if generation.is_none() && active {
            let opened = vec![opened.clone()];
            cx.events.push(Event::Opened { connection, generation: current, opened });
        }
        Reply::Moved(current, Box::new(opened))
    }))
}

fn retire(user: &str, id: Id, cx: &mut Context<'_, '_>) -> Result<Reply, RowsError> {
    Ok(match cx.writers.change(&id, cx.io)? {
        Some(writer) if writer.row.user == user => {
            writer.confirm(u64::MAX);
            writer.row.retired = true;
            Reply::Done
        }
        _ => Reply::Refused(Code::UnknownWriter.into()),
    })
}

fn forget_writer(id: Id, used: u64, cx: &mut Context<'_, '_>) -> Result<Reply, RowsError> {
    let time = cx.at.time;
    // Whatever a keeper proposes: a repeat a year later is still known as one.
    let unused = |writer: &&mut Writer| {
        writer.row.used == used && (writer.row.retired || time.saturating_sub(used) >= MARK_KEPT)
    };
    let Some(writer) = cx.writers.change(&id, cx.io)?.filter(unused) else {
        return Ok(Reply::Refused(Code::Stale.into()));
    };
    // Saving removes the chunks of confirmed outcomes; then the row goes.
    writer.confirm(u64::MAX);
    writer.save(&id, cx.io);
    cx.writers.forget(&id);
    cx.io.remove(Table::Writers, id.0.to_vec());
    Ok(Reply::Done)
}
