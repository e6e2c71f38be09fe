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
    frames: u64,
}

impl Client {
    fn fill(&mut self, conn: &mut Conn, per_frame: usize) -> Outcome<()> {
        let (now, most) = (Instant::now(), self.sent.len() as u64);
        while self.free > 0 && self.free >= per_frame {
            let count = if per_frame == 0 { self.free } else { per_frame };
            let first = self.writer.sent + 1;
            self.writer.append(conn, count)?;
            self.frames += 1;
            for seq in first..=self.writer.sent {
                let at = usize::try_from(seq % most)?;
                *self.sent.get_mut(at).ok_or("no such sequence")? = now;
            }
            self.free -= count;
        }
        Ok(())
    }
}

/// What the clients do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many they are.
    pub clients: usize,
    /// Appends that each keeps unanswered.
    pub in_flight: usize,
    /// All to one log, instead of each to its own.
    pub one: bool,
    /// Every payload has other bytes, which do not pack.
    pub varied: bool,
    /// Measured until so many are answered, instead of for a time.
    pub appends: Option<u64>,
}

impl Load {
    fn client(&self, at: usize, payload: usize) -> Client {
        let log = if self.one { "bench/one".to_owned() } else { format!("bench/{at}") };
        let writer = Writer::new(id(at, 2), log, payload);
        let writer = if self.varied { writer.varied() } else { writer };
        let sent = vec![Instant::now(); self.in_flight];
        Client { writer, sent, free: self.in_flight, frames: 0 }
    }
}

/// What a run came to: of its measured seconds, and in all.
#[derive(Debug, Default)]
pub struct Figures {
    /// Appends answered in the measured seconds.
    pub acknowledged: u64,
    /// How many these were.
    pub seconds: f64,
    /// CPU seconds of the server in them.
    pub cpu: f64,
    latencies: Latencies,
    /// Appends answered in all, before and after that too.
    pub total: u64,
    /// Frames they came in.
    pub frames: u64,
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
        let mut figures =
            load(common, &server, Load { clients, in_flight, one, varied: false, appends: None })?;
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

/// Appends for as long as is to be measured; returns when all are answered.
pub fn load(common: &Common, server: &Server, load: Load) -> Outcome<Figures> {
    let Load { clients, in_flight, .. } = load;
    let mut net = Net::new()?;
    meet(&mut net, server, clients, None)?;
    let started = Instant::now();
    let mut all: Vec<Client> = (0..clients).map(|at| load.client(at, common.payload())).collect();
    let per_frame = common.per_frame.min(in_flight);
    for (at, client) in all.iter_mut().enumerate() {
        client.fill(net.conn(at)?, per_frame)?;
    }
    let warm = Duration::from_secs(1);
    let long = Duration::from_secs(common.seconds.unwrap_or(if common.quick { 2 } else { 6 }));
    let begins = started + warm;
    let ends = begins + long.min(Duration::from_secs(600));
    let mut figures = Figures::default();
    let (mut measured, mut done, mut heard_at) = (None, false, Instant::now());
    loop {
        let now = Instant::now();
        if measured.is_none() && now >= begins {
            measured = Some((now, server.cpu()?));
        }
        let enough = load.appends.map_or(now >= ends, |most| figures.acknowledged >= most);
        if let Some((since, cpu)) = measured.filter(|_| enough && !done) {
            figures.seconds = since.elapsed().as_secs_f64();
            figures.cpu = server.cpu()? - cpu;
            done = true;
        }
        if done && all.iter().all(|client| client.free == in_flight) {
            figures.total = all.iter().map(|client| client.writer.answered).sum();
            figures.frames = all.iter().map(|client| client.frames).sum();
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
                if measured.is_some() && !done {
                    figures.acknowledged += count as u64;
                    let most = client.sent.len() as u64;
                    for answer in &answers.answers {
                        let sent = client.sent.get(usize::try_from(answer.seq % most)?);
                        figures.latencies.add(heard_at - *sent.ok_or("no such sequence")?);
                    }
                }
            }
            if done { Ok(()) } else { client.fill(conn, per_frame) }
        })?;
        patient(heard_at + PATIENCE, || "no append was answered".to_owned())?;
    }
}
