//! Commits of cursors: connections that have everything already, and say by and by that they do.
//!
//! Promise: nothing is delivered while it is measured: all records came before, so what is spent
//! is for acknowledgements and their commits. Each cursor rises once in a commit, each commit is
//! given time, and in the end the server shows every cursor where it was put.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use highwater::wire::{Ack, ClientFrame, Cursor, Open, ServerFrame, Start};

use super::cost::{Cost, Spent};
use super::{INTERVAL, Plan};
use crate::Outcome;
use crate::net::{Conn, Heard, Net};
use crate::server::Server;
use crate::talk::{PATIENCE, Writer, frames, hello, id, meet, patient, say};

/// From one commit to the next: some of the keeper's own intervals.
pub const PACE: Duration = Duration::from_millis(3 * INTERVAL);
/// Connections that are greeted at once.
const MEETING: usize = 64;
/// Connections that are looked at in the end.
const LOOKED_AT: usize = 20;

/// One connection.
#[derive(Debug, Default)]
struct Reader {
    /// Bytes of deliveries, as flow control counts them.
    received: u64,
    records: usize,
}

/// What so many commits of each kind cost, where that many cursors of a connection move in each.
pub fn load(plan: &Plan, server: &Server, kinds: &[usize]) -> Outcome<Vec<Spent>> {
    let mut net = Net::new()?;
    // A cursor rises once where one moves, and in each commit where all do.
    let records = plan.commits + 1;
    fill(&mut net, server, plan.subscriptions, records)?;
    let (readers, logs) = read_all(&mut net, server, plan, records)?;
    let mut all = Vec::new();
    for moved in kinds {
        quiet(&mut net, PACE)?;
        let before = Cost::of(server)?;
        for commit in 0..plan.commits {
            if *moved > 0 {
                commit_all(&mut net, &readers, &logs, *moved, commit)?;
            }
            quiet(&mut net, PACE)?;
        }
        all.push(Cost::at_rest(server)?.since(&before));
    }
    let most = format!("\"cursor\":{records},");
    for at in (0..readers.len()).step_by((readers.len() / LOOKED_AT).max(1)) {
        let shown = server.get(&format!("/v1/connections/{}", id(at + 1, 1)))?;
        let committed = shown.matches(&most).count();
        if committed != logs.len() {
            return Err(
                format!("{committed} of {} cursors are committed: {shown}", logs.len()).into()
            );
        }
    }
    Ok(all)
}

/// Makes the logs, with so many records in each, by the first connection.
fn fill(net: &mut Net, server: &Server, logs: usize, records: usize) -> Outcome<()> {
    meet(net, server, 1, None)?;
    let name = |at: usize| format!("cursors/{at}");
    let mut writers: HashMap<_, _> =
        (0..logs).map(|at| (id(at, 3), Writer::new(id(at, 3), name(at), 16))).collect();
    for writer in writers.values_mut() {
        writer.append(net.conn(0)?, records)?;
    }
    let (mut answered, deadline) = (0, Instant::now() + PATIENCE);
    while answered < logs * records {
        net.turn(Duration::from_millis(20), |_, conn, heard| {
            let Heard::Message(message) = heard else { return Ok(()) };
            for (frame, _) in frames(conn, message)? {
                let ServerFrame::Answers(answers) = frame else { continue };
                let writer = writers.get_mut(&answers.writer).ok_or("answers to nobody")?;
                answered += writer.answers(&answers)?;
            }
            Ok(())
        })?;
        patient(deadline, || format!("{answered} records were stored"))?;
    }
    Ok(())
}

/// Has all connections subscribe to all logs and take in what is there; and the logs' ids.
fn read_all(
    net: &mut Net,
    server: &Server,
    plan: &Plan,
    records: usize,
) -> Outcome<(Vec<Reader>, Vec<u64>)> {
    let open = |at| Open {
        name: format!("cursors/{at}"),
        have: None,
        start: Start::Earliest,
        priority: 0,
    };
    let opens: Vec<Open> = (0..plan.subscriptions).map(open).collect();
    let mut readers: Vec<Reader> = Vec::new();
    let (mut logs, due) = (Vec::new(), plan.subscriptions * records);
    let (mut whole, mut deadline) = (0, Instant::now() + PATIENCE);
    while whole < plan.connections {
        while readers.len() < plan.connections && readers.len() - whole < MEETING {
            net.open(server.address)?;
            readers.push(Reader::default());
        }
        let before = whole;
        net.turn(Duration::from_millis(20), |at, conn, heard| {
            let Some(reader) = at.checked_sub(1).and_then(|at| readers.get_mut(at)) else {
                return Ok(());
            };
            let had = reader.records;
            reader.hear(at, conn, heard, &opens, &mut logs)?;
            whole += usize::from(had < due && reader.records == due);
            Ok(())
        })?;
        if whole > before {
            deadline = Instant::now() + PATIENCE;
        }
        patient(deadline, || format!("{whole} connections have read all"))?;
    }
    logs.sort_unstable();
    logs.dedup();
    Ok((readers, logs))
}

impl Reader {
    fn hear(
        &mut self,
        at: usize,
        conn: &mut Conn,
        heard: Heard<'_>,
        opens: &[Open],
        logs: &mut Vec<u64>,
    ) -> Outcome<()> {
        match heard {
            Heard::Open => {
                let mut first = hello(id(at, 1), None);
                if let ClientFrame::Hello(hello) = &mut first {
                    opens.clone_into(&mut hello.open);
                }
                say(conn, &first)?;
            }
            Heard::Message(message) => {
                for (frame, size) in frames(conn, message)? {
                    match frame {
                        ServerFrame::Subscribed(told) if at == 1 => logs.push(told.log),
                        ServerFrame::Records(told) => {
                            self.records += told.records.len();
                            self.received += size;
                        }
                        _ => {}
                    }
                }
            }
            Heard::Raw(_) | Heard::Closed => {}
        }
        Ok(())
    }
}

/// All connections acknowledge: one log each, in turn, or all of them.
fn commit_all(
    net: &mut Net,
    readers: &[Reader],
    logs: &[u64],
    moved: usize,
    commit: usize,
) -> Outcome<()> {
    for (at, reader) in readers.iter().enumerate() {
        let cursors = if moved == logs.len() {
            let next = commit as u64 + 2;
            logs.iter().map(|log| Cursor { log: *log, next }).collect()
        } else {
            let in_turn = logs.iter().cycle().skip((at + commit * moved) % logs.len());
            in_turn.take(moved).map(|log| Cursor { log: *log, next: 1 }).collect()
        };
        let ack = Ack { received: reader.received, cursors };
        say(net.conn(at + 1)?, &ClientFrame::Ack(ack))?;
    }
    Ok(())
}

/// Lets time pass, while pings are answered.
fn quiet(net: &mut Net, time: Duration) -> Outcome<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        net.turn(end.saturating_duration_since(Instant::now()), |_, conn, heard| {
            if let Heard::Message(message) = heard {
                frames(conn, message)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
