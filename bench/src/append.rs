//! Durable appends: clients that keep a number of them unanswered, each answer followed by the
//! next.

use std::time::{Duration, Instant};

use highwater::wire::ServerFrame;

use crate::net::{Conn, Heard, Net};
use crate::report::Report;
use crate::server::{Machine, Server};
use crate::stats::Latencies;
use crate::talk::{PATIENCE, Writer, frames, id, meet, patient};
use crate::{Common, Outcome};

/// One writing client.
#[derive(Debug)]
struct Client {
    writer: Writer,
    /// When each unanswered record was sent, by sequence.
    sent: Vec<Instant>,
    /// Answered and not yet replaced.
    free: usize,
}

impl Client {
    fn fill(&mut self, conn: &mut Conn, per_frame: usize) -> Outcome<()> {
        let (now, most) = (Instant::now(), self.sent.len() as u64);
        while self.free > 0 && self.free >= per_frame {
            let count = if per_frame == 0 { self.free } else { per_frame };
            let first = self.writer.sent + 1;
            self.writer.append(conn, count)?;
            for seq in first..=self.writer.sent {
                let at = usize::try_from(seq % most)?;
                *self.sent.get_mut(at).ok_or("no such sequence")? = now;
            }
            self.free -= count;
        }
        Ok(())
    }
}

/// What a run came to.
struct Figures {
    acknowledged: u64,
    seconds: f64,
    cpu: f64,
    latencies: Latencies,
}

/// Runs both variants: each client its own log, and all of them one.
pub fn run(common: &Common, machine: &Machine, report: &mut Report) -> Outcome<()> {
    let clients = common.sockets.unwrap_or(64).clamp(1, 10_000);
    let in_flight = common.in_flight.clamp(1, 1024);
    report.line(&format!(
        "\nappend: {clients} clients, {in_flight} unanswered each, {} records a frame",
        if common.per_frame == 0 { "answered".to_owned() } else { common.per_frame.to_string() }
    ));
    report.line(
        "log          acknowledged/s   p50 ms   p99 ms   server CPU s   cores   appends/CPU-s",
    );
    for (name, one) in [("own", false), ("one for all", true)] {
        let server = machine.highwater()?;
        let mut figures = load(common, &server, clients, in_flight, one)?;
        let Figures { acknowledged, seconds, cpu, .. } = figures;
        let count = acknowledged as f64;
        report.line(&format!(
            "{name:<12} {:>14.0} {:>8.2} {:>8.2} {cpu:>14.2} {:>7.2} {:>15.0}",
            count / seconds,
            figures.latencies.at(0.5),
            figures.latencies.at(0.99),
            cpu / seconds,
            count / cpu,
        ));
    }
    Ok(())
}

fn load(
    common: &Common,
    server: &Server,
    clients: usize,
    in_flight: usize,
    one: bool,
) -> Outcome<Figures> {
    let mut net = Net::new()?;
    meet(&mut net, server, clients, None)?;
    let started = Instant::now();
    let mut all: Vec<Client> = (0..clients)
        .map(|at| {
            let log = if one { "bench/one".to_owned() } else { format!("bench/{at}") };
            let writer = Writer::new(id(at, 2), log, common.payload());
            Client { writer, sent: vec![started; in_flight], free: in_flight }
        })
        .collect();
    let per_frame = common.per_frame.min(in_flight);
    for (at, client) in all.iter_mut().enumerate() {
        client.fill(net.conn(at)?, per_frame)?;
    }
    let warm = Duration::from_secs(1);
    let long = Duration::from_secs(common.seconds.unwrap_or(if common.quick { 2 } else { 6 }));
    let begins = started + warm;
    let ends = begins + long.min(Duration::from_secs(600));
    let mut figures =
        Figures { acknowledged: 0, seconds: 0.0, cpu: 0.0, latencies: Latencies::default() };
    let (mut measured, mut heard_at) = (None, Instant::now());
    loop {
        let now = Instant::now();
        if measured.is_none() && now >= begins {
            measured = Some((now, server.cpu()?));
        }
        if let Some((since, cpu)) = measured.filter(|_| now >= ends) {
            figures.seconds = since.elapsed().as_secs_f64();
            figures.cpu = server.cpu()? - cpu;
            return Ok(figures);
        }
        net.turn(Duration::from_millis(20), |at, conn, heard| {
            let Heard::Message(message) = heard else { return Ok(()) };
            let client = all.get_mut(at).ok_or("a message for nobody")?;
            heard_at = Instant::now();
            for (frame, _) in frames(conn, message)? {
                let ServerFrame::Answers(answers) = frame else {
                    return Err(format!("unexpected: {frame:?}").into());
                };
                let count = client.writer.answers(&answers)?;
                client.free += count;
                if measured.is_some() {
                    figures.acknowledged += count as u64;
                    let most = client.sent.len() as u64;
                    for answer in &answers.answers {
                        let sent = client.sent.get(usize::try_from(answer.seq % most)?);
                        figures.latencies.add(heard_at - *sent.ok_or("no such sequence")?);
                    }
                }
            }
            client.fill(conn, per_frame)
        })?;
        patient(heard_at + PATIENCE, || "no append was answered".to_owned())?;
    }
}
