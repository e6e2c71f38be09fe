//! Fan-out: one log, many readers, beside the floor in the same run.
//!
//! A broadcast is out until the last reader has it; the next one is sent when fewer than the wanted
//! number are out. Highwater and the floor take turns, round by round, each time as new processes,
//! so that what else the machine does falls on both.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use highwater::wire::{Ack, ClientFrame, Cursor, ServerFrame};

use crate::net::{Conn, Heard, Net};
use crate::report::Report;
use crate::server::{Machine, Server};
use crate::stats::{Latencies, median};
use crate::talk::{PATIENCE, Writer, frames, id, meet, patient, say};
use crate::{Acks, Common, Outcome};

const LOG: &str = "bench/fanout";
/// What the server grants and the readers ask for, in bytes: the default.
const WINDOW: u64 = 1 << 20;
/// Broadcasts out at a time, one measurement each.
const OUTSTANDING: [usize; 2] = [1, 16];
/// CPU seconds of the server that make a measurement.
const ENOUGH: f64 = 1.0;
/// Readers take part in acknowledging each second in so many slices.
const SLICES: usize = 100;

/// What one measurement came to.
#[derive(Debug, Clone, Copy, Default)]
struct Figures {
    /// Deliveries a second.
    rate: f64,
    /// Deliveries per server-CPU-second.
    per_cpu: f64,
    /// From sending a broadcast to the last reader's having it, milliseconds.
    p50: f64,
    p99: f64,
    max: f64,
}

/// Runs all counts of sockets.
pub fn run(common: &Common, machine: &Machine, report: &mut Report) -> Outcome<()> {
    let counts = match (common.sockets, common.quick) {
        (Some(sockets), _) => vec![sockets.clamp(1, 19_000)],
        (None, true) => vec![1_000],
        (None, false) => vec![1_000, 10_000, 15_000],
    };
    for sockets in counts {
        compare(common, machine, report, sockets)?;
    }
    Ok(())
}

/// Rounds of Highwater and floor with so many readers.
fn compare(common: &Common, machine: &Machine, report: &mut Report, sockets: usize) -> Outcome<()> {
    let rounds = common.rounds.unwrap_or(if common.quick { 2 } else { 5 }).clamp(1, 50);
    let frames = match common.per_frame {
        0 => "all that are due in one frame".to_owned(),
        most => format!("at most {most} in a frame"),
    };
    report.line(&format!("\nfanout: {sockets} sockets on one log, {rounds} rounds, {frames}"));
    report.line(
        "round  who         out   deliveries/s   per CPU-s   last reader p50 ms   p99 ms   max ms",
    );
    let mut seen: [[Vec<Figures>; 2]; 2] = Default::default();
    for round in 1..=rounds {
        let (figures, size) = highwater(common, machine, sockets)?;
        let floor = floor(common, machine, sockets, size)?;
        for (who, name, figures) in [(0, "highwater", figures), (1, "floor", floor)] {
            for (at, (out, one)) in OUTSTANDING.into_iter().zip(figures).enumerate() {
                report.line(&format!(
                    "{round:>5}  {name:<10} {out:>4} {:>14.0} {:>11.0} {:>20.2} {:>8.2} {:>8.2}",
                    one.rate, one.per_cpu, one.p50, one.p99, one.max
                ));
                if let Some(list) = seen.get_mut(who).and_then(|list| list.get_mut(at)) {
                    list.push(one);
                }
            }
        }
    }
    let [ours, floors] = seen;
    for ((out, ours), floors) in OUTSTANDING.into_iter().zip(ours).zip(floors) {
        let per_cpu = |all: &[Figures]| all.iter().map(|one| one.per_cpu).collect::<Vec<_>>();
        let ratios: Vec<f64> =
            ours.iter().zip(&floors).map(|(our, floor)| our.per_cpu / floor.per_cpu).collect();
        let ratios_of_rates: Vec<f64> =
            ours.iter().zip(&floors).map(|(our, floor)| our.rate / floor.rate).collect();
        report.line(&format!(
            "median, {sockets} sockets, {out:>2} out: {:.0} per CPU-s, floor {:.0}, ratio {:.2} \
             (of rates {:.2})",
            median(&per_cpu(&ours)),
            median(&per_cpu(&floors)),
            median(&ratios),
            median(&ratios_of_rates),
        ));
    }
    Ok(())
}

/// Highwater's figures, and the bytes of a delivery on the wire.
fn highwater(common: &Common, machine: &Machine, sockets: usize) -> Outcome<([Figures; 2], usize)> {
    let server = machine.highwater()?;
    let mut net = Net::new()?;
    meet(&mut net, &server, 1, None)?;
    meet(&mut net, &server, sockets, Some(LOG))?;
    let writer = Writer::new(id(0, 2), LOG.to_owned(), common.payload());
    let mut ours = Ours {
        writer,
        last: Vec::new(),
        parsed: (0, 0, 0),
        log: 0,
        readers: vec![Reader::default(); sockets],
        acks: common.acks,
        slice: 0,
        sliced: Instant::now(),
        message: 0,
    };
    let figures = both(common, &server, &mut net, &mut ours)?;
    Ok((figures, ours.message))
}

fn floor(common: &Common, machine: &Machine, sockets: usize, size: usize) -> Outcome<[Figures; 2]> {
    let server = machine.floor(size)?;
    let mut net = Net::new()?;
    let (mut opened, mut met) = (0, 0);
    let mut deadline = Instant::now() + PATIENCE;
    while met < sockets + 1 {
        while opened < sockets + 1 && opened - met < 256 {
            net.open_raw(server.address)?;
            opened += 1;
        }
        net.turn(Duration::from_millis(100), |_, _, _| {
            met += 1;
            deadline = Instant::now() + PATIENCE;
            Ok(())
        })?;
        patient(deadline, || format!("the floor met {met} of {sockets}"))?;
    }
    let mut floor = Bare { size, message: vec![b'.'; size], got: vec![0; sockets] };
    both(common, &server, &mut net, &mut floor)
}

/// One side of the comparison: how to publish, and what a reader got.
trait Side {
    /// Sends so many broadcasts at once.
    fn publish(&mut self, publisher: &mut Conn, count: usize) -> Outcome<()>;
    /// What socket `at` heard: the broadcasts (first, how many) that a reader now has.
    fn hear(&mut self, at: usize, conn: &mut Conn, heard: Heard<'_>)
    -> Outcome<Option<(u64, u64)>>;
    /// Something between turns.
    fn tick(&mut self, net: &mut Net) -> Outcome<()>;
}

/// Both numbers of outstanding broadcasts, on the same sockets.
fn both(
    common: &Common,
    server: &Server,
    net: &mut Net,
    side: &mut impl Side,
) -> Outcome<[Figures; 2]> {
    let mut course = Course { first: 0, out: VecDeque::new(), readers: net.conns.len() - 1 };
    let mut figures = [Figures::default(); 2];
    for (figures, out) in figures.iter_mut().zip(OUTSTANDING) {
        *figures = measure(common, server, net, side, &mut course, out)?;
    }
    Ok(figures)
}

/// Broadcasts that are out.
#[derive(Debug)]
struct Course {
    /// Number of the oldest.
    first: u64,
    /// When each was sent, and how many readers have it.
    out: VecDeque<(Instant, usize)>,
    readers: usize,
}

impl Course {
    fn got(&mut self, first: u64, count: u64) -> Outcome<()> {
        for number in first..first + count {
            let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let (_, have) = at
                .and_then(|at| self.out.get_mut(at))
                .ok_or_else(|| format!("broadcast {number} came and is not out"))?;
            *have += 1;
        }
        Ok(())
    }

    /// Takes off the oldest that all have: how long it took.
    fn done(&mut self) -> Option<Duration> {
        let (sent, have) = *self.out.front()?;
        (have == self.readers).then(|| {
            self.out.pop_front();
            self.first += 1;
            sent.elapsed()
        })
    }
}

fn measure(
    common: &Common,
    server: &Server,
    net: &mut Net,
    side: &mut impl Side,
    course: &mut Course,
    out: usize,
) -> Outcome<Figures> {
    let long = Duration::from_secs(common.seconds.unwrap_or(if common.quick { 2 } else { 4 }));
    let begins = Instant::now() + Duration::from_millis(700);
    let ends = begins + long.min(Duration::from_secs(600));
    let (mut latencies, mut broadcasts) = (Latencies::default(), 0_u64);
    let (mut measured, mut moved) = (None, Instant::now());
    let (mut over, mut look) = (false, ends);
    loop {
        let now = Instant::now();
        if measured.is_none() && now >= begins {
            measured = Some((now, server.cpu()?));
            broadcasts = 0;
            latencies = Latencies::default();
        }
        if now >= ends && !over && now >= look {
            // A slow machine is given longer: the kernel counts CPU in hundredths of a second.
            look = now + Duration::from_millis(100);
            let used = measured.map_or(0.0, |(_, before)| before);
            over = server.cpu()? - used >= ENOUGH || now >= ends + 4 * long;
        }
        let free = if over { 0 } else { out.saturating_sub(course.out.len()) };
        if free > 0 {
            let per_frame = if common.per_frame == 0 { free } else { common.per_frame };
            let mut left = free;
            while left > 0 {
                let count = left.min(per_frame);
                side.publish(net.conn(0)?, count)?;
                left -= count;
            }
            course.out.extend(std::iter::repeat_n((now, 0), free));
        }
        if let Some((since, cpu)) = measured.filter(|_| over && course.out.is_empty()) {
            let deliveries = broadcasts as f64 * course.readers as f64;
            return Ok(Figures {
                rate: deliveries / since.elapsed().as_secs_f64(),
                per_cpu: deliveries / (server.cpu()? - cpu),
                p50: latencies.at(0.5),
                p99: latencies.at(0.99),
                max: latencies.at(1.0),
            });
        }
        net.turn(Duration::from_millis(10), |at, conn, heard| {
            match side.hear(at, conn, heard)? {
                Some((first, count)) => course.got(first, count),
                None => Ok(()),
            }
        })?;
        while let Some(took) = course.done() {
            broadcasts += 1;
            latencies.add(took);
            moved = Instant::now();
        }
        side.tick(net)?;
        patient(moved + PATIENCE, || "a broadcast does not reach all readers".to_owned())?;
    }
}

/// One reader of Highwater, as far as acknowledging goes.
#[derive(Debug, Clone, Copy, Default)]
struct Reader {
    next: u64,
    received: u64,
    acked: u64,
}

/// Highwater's side.
struct Ours {
    writer: Writer,
    /// The last delivery that was read, and what was in it: first offset, records, counted bytes.
    /// Deliveries to different readers are the same bytes, so most are only compared.
    last: Vec<u8>,
    parsed: (u64, u64, u64),
    log: u64,
    readers: Vec<Reader>,
    acks: Acks,
    slice: usize,
    sliced: Instant,
    /// Bytes of a delivery of one record, with the WebSocket header.
    message: usize,
}

impl Ours {
    /// Reads a delivery; anything else that comes is an answer to the publisher, or a failure.
    fn parse(&mut self, conn: &mut Conn, message: &[u8]) -> Outcome<bool> {
        let mut frames = frames(conn, message)?;
        match (frames.pop(), frames.is_empty()) {
            (Some((ServerFrame::Records(records), counted)), true) => {
                let count = records.records.len() as u64;
                if count == 1 {
                    self.message = message.len() + if message.len() < 126 { 2 } else { 4 };
                }
                self.log = records.log;
                self.parsed = (records.base, count, counted);
                message.clone_into(&mut self.last);
                Ok(true)
            }
            (Some((ServerFrame::Answers(answers), _)), true) => {
                self.writer.answers(&answers)?;
                Ok(false)
            }
            (None, _) => Ok(false),
            (other, _) => Err(format!("unexpected: {other:?}").into()),
        }
    }
}

impl Side for Ours {
    fn publish(&mut self, publisher: &mut Conn, count: usize) -> Outcome<()> {
        self.writer.append(publisher, count)
    }

    fn hear(
        &mut self,
        at: usize,
        conn: &mut Conn,
        heard: Heard<'_>,
    ) -> Outcome<Option<(u64, u64)>> {
        let Heard::Message(message) = heard else { return Err("no message".into()) };
        if message != self.last && !self.parse(conn, message)? {
            return Ok(None);
        }
        let (base, count, counted) = self.parsed;
        let reader = at.checked_sub(1).and_then(|at| self.readers.get_mut(at));
        let reader = reader.ok_or("a delivery to the publisher")?;
        if base != reader.next {
            return Err(format!("reader {at} is at {}, and got {base}", reader.next).into());
        }
        reader.next = base + count;
        reader.received += counted;
        if reader.received - reader.acked >= WINDOW / 4 {
            reader.acked = reader.received;
            acknowledge(conn, self.log, *reader)?;
        }
        Ok(Some((base, count)))
    }

    /// Acknowledges for a hundredth of the readers each hundredth of a second.
    fn tick(&mut self, net: &mut Net) -> Outcome<()> {
        let every = Duration::from_secs(1) / SLICES as u32;
        if self.acks != Acks::Second || self.sliced.elapsed() < every {
            return Ok(());
        }
        self.sliced += every;
        self.slice = (self.slice + 1) % SLICES;
        for at in (self.slice..self.readers.len()).step_by(SLICES) {
            let Some(reader) = self.readers.get_mut(at) else { continue };
            if reader.received > reader.acked {
                reader.acked = reader.received;
                acknowledge(net.conn(at + 1)?, self.log, *reader)?;
            }
        }
        Ok(())
    }
}

fn acknowledge(conn: &mut Conn, log: u64, reader: Reader) -> Outcome<()> {
    let cursors = vec![Cursor { log, next: reader.next }];
    say(conn, &ClientFrame::Ack(Ack { received: reader.received, cursors }))
}

/// The floor's side.
struct Bare {
    size: usize,
    message: Vec<u8>,
    /// Bytes by reader.
    got: Vec<u64>,
}

impl Side for Bare {
    fn publish(&mut self, publisher: &mut Conn, count: usize) -> Outcome<()> {
        publisher.write(&self.message.repeat(count))
    }

    fn hear(&mut self, at: usize, _: &mut Conn, heard: Heard<'_>) -> Outcome<Option<(u64, u64)>> {
        let Heard::Raw(bytes) = heard else { return Err("no bytes".into()) };
        let got = at.checked_sub(1).and_then(|at| self.got.get_mut(at));
        let got = got.ok_or("bytes for the publisher")?;
        let (before, size) = (*got / self.size as u64, self.size as u64);
        *got += bytes.len() as u64;
        Ok(Some((before, *got / size - before)))
    }

    fn tick(&mut self, _: &mut Net) -> Outcome<()> {
        Ok(())
    }
}
