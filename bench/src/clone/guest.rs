//! One client that attaches and takes in what it is sent, until it has all of its logs.
//!
//! Promise: it fails unless it was met as expected and got what is due, each thing once and in
//! order: of each log its base and the records after it, or, where it held the log, nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use highwater::wire::{
    Ack, Base, BaseRecords, ClientFrame, Cloning, Cursor, Hello, Id, Leave, Met, Open, Records,
    Reset, ResetReason, ServerFrame, SnapshotRule, Start, Subscribed, Welcome, version,
};

use super::Case;
use crate::Outcome;
use crate::net::{Conn, Heard, Net};
use crate::talk::{PATIENCE, frames, patient, say};

/// What a client has come to, and what it is due.
#[derive(Debug)]
pub struct Guest<'a> {
    case: &'a Case,
    connection: Id,
    met: Met,
    hello: Option<Instant>,
    welcome: Option<Duration>,
    complete: Option<Duration>,
    window: u64,
    /// By log id.
    logs: HashMap<u64, Seen>,
    /// How many of them are complete.
    whole: usize,
    /// Bytes that flow control counts, and how many of them are acknowledged.
    received: u64,
    acked: u64,
    /// Bytes of all messages since Hello.
    bytes: u64,
    gone: bool,
}

/// What came of one log.
#[derive(Debug)]
struct Seen {
    /// Where it stands in the case.
    at: usize,
    cursor: u64,
    complete: u64,
    /// A base is to come, or is not whole.
    awaits: bool,
    shown: bool,
    parts: u32,
    base_bytes: usize,
    records: u64,
    /// Offsets of a base's records, by key.
    kept: Vec<u64>,
}

/// Figures of one clone.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// From sending Hello to having Welcome.
    pub welcome: Duration,
    /// To having all logs complete.
    pub complete: Duration,
    /// Payload of all messages of the server.
    pub bytes: u64,
}

impl<'a> Guest<'a> {
    /// One that has not said anything yet.
    pub fn new(case: &'a Case, connection: Id, met: Met) -> Self {
        Self {
            case,
            connection,
            met,
            hello: None,
            welcome: None,
            complete: None,
            window: 0,
            logs: HashMap::new(),
            whole: 0,
            received: 0,
            acked: 0,
            bytes: 0,
            gone: false,
        }
    }

    /// How long it took to have everything, once it has.
    pub const fn complete(&self) -> Option<Duration> {
        self.complete
    }

    /// Whether the server has let it go.
    pub const fn gone(&self) -> bool {
        self.gone
    }

    /// Its figures.
    pub fn sample(&self) -> Outcome<Sample> {
        let (welcome, complete) = self.welcome.zip(self.complete).ok_or("it is not complete")?;
        Ok(Sample { welcome, complete, bytes: self.bytes })
    }

    /// Hears what comes until something is so.
    pub fn until(&mut self, net: &mut Net, own: usize, so: impl Fn(&Self) -> bool) -> Outcome<()> {
        let mut moved = Instant::now();
        while !so(self) {
            net.turn(Duration::from_millis(100), |at, conn, heard| {
                moved = Instant::now();
                match heard {
                    _ if at != own => Err("another socket was sent something".into()),
                    Heard::Open => self.say_hello(conn),
                    Heard::Message(message) => self.hear(conn, message),
                    Heard::Closed => {
                        self.gone = true;
                        Ok(())
                    }
                    Heard::Raw(_) => Err("no WebSocket".into()),
                }
            })?;
            let (name, whole) = (self.case.name, self.whole);
            patient(moved + PATIENCE, || format!("{name} has {whole} logs complete"))?;
        }
        Ok(())
    }

    /// A clone asks for everything and holds nothing; a source names its logs, and what it holds.
    fn say_hello(&mut self, conn: &mut Conn) -> Outcome<()> {
        let held = self.met == Met::Resumed;
        let open = self.case.logs.iter().map(|log| Open {
            name: log.name.clone(),
            have: held.then_some(Cursor { log: log.id, next: log.head }),
            start: Start::State,
            priority: 0,
        });
        let clone = self.met == Met::Cloned;
        let hello = ClientFrame::Hello(Hello {
            version: version::PROTOCOL,
            capabilities: Vec::new(),
            token: Some(self.case.token.clone()),
            connection: self.connection,
            device: None,
            client: "bench".to_owned(),
            visible: true,
            cloning: if clone { Cloning::All } else { Cloning::None },
            writers: Vec::new(),
            open: if clone { Vec::new() } else { open.collect() },
            window: 0,
            positions: Vec::new(),
            bases: Vec::new(),
        });
        self.hello = Some(Instant::now());
        say(conn, &hello)
    }

    fn hear(&mut self, conn: &mut Conn, message: &[u8]) -> Outcome<()> {
        self.bytes += message.len() as u64;
        for (frame, counted) in frames(conn, message)? {
            let (log, counted) = match frame {
                ServerFrame::Welcome(welcome) => {
                    self.welcome(&welcome)?;
                    continue;
                }
                ServerFrame::Subscribed(subscribed) => (self.subscribed(&subscribed)?, 0),
                ServerFrame::Reset(reset) => (self.reset(&reset)?, 0),
                ServerFrame::Base(base) => (self.base(&base)?, counted),
                ServerFrame::BaseRecords(base) => (self.base_records(&base)?, counted),
                ServerFrame::Records(records) => (self.records(&records)?, counted),
                other => return Err(format!("unexpected at a clone: {other:?}").into()),
            };
            self.received += counted;
            self.show(log)?;
        }
        if self.received > self.acked && self.received - self.acked >= self.window / 4 {
            self.acknowledge(conn, Vec::new())?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, conn: &mut Conn, cursors: Vec<Cursor>) -> Outcome<()> {
        self.acked = self.received;
        say(conn, &ClientFrame::Ack(Ack { received: self.received, cursors }))
    }

    fn welcome(&mut self, welcome: &Welcome) -> Outcome<()> {
        let source = (self.met == Met::Cloned).then_some(self.case.source);
        if welcome.met != self.met || welcome.source != source || self.welcome.is_some() {
            let due = self.met;
            return Err(format!("{due:?} from {source:?} was due, and came {welcome:?}").into());
        }
        self.welcome = self.hello.map(|hello| hello.elapsed());
        self.window = u64::from(welcome.limits.window);
        if self.case.logs.is_empty() {
            self.complete = self.welcome;
        }
        Ok(())
    }

    fn subscribed(&mut self, told: &Subscribed) -> Outcome<u64> {
        let logs = &self.case.logs;
        let at = logs.iter().position(|log| log.name == told.name && log.id == told.log);
        let at = at.ok_or_else(|| format!("no log of this user: {told:?}"))?;
        let head = logs.get(at).map_or(0, |log| log.head);
        let reset = self.met != Met::Resumed;
        if told.head != head || told.complete != head || told.reset != reset || told.start != 0 {
            return Err(format!("head and complete at {head} were due, and came {told:?}").into());
        }
        let seen = Seen {
            at,
            cursor: told.cursor,
            complete: told.complete,
            awaits: told.reset,
            shown: false,
            parts: 0,
            base_bytes: 0,
            records: 0,
            kept: Vec::new(),
        };
        match self.logs.insert(told.log, seen) {
            Some(_) => Err(format!("subscribed twice: {told:?}").into()),
            None => Ok(told.log),
        }
    }

    fn reset(&mut self, reset: &Reset) -> Outcome<u64> {
        let case = self.case;
        let reason = if self.met == Met::Cloned { ResetReason::Cloned } else { ResetReason::New };
        let seen = seen(&mut self.logs, reset.log)?;
        let base = reset.base.filter(|base| base.rule == case.rule && base.offset == reset.cursor);
        let due = match case.rule {
            SnapshotRule::Client => seen.complete - case.due,
            _ => seen.complete,
        };
        if !seen.awaits || reset.reason != reason || base.is_none() || reset.cursor != due {
            return Err(format!("a {reason:?} base at {due} was due, and came {reset:?}").into());
        }
        seen.cursor = reset.cursor;
        Ok(reset.log)
    }

    fn base(&mut self, base: &Base) -> Outcome<u64> {
        let whole = &self.case.snapshot;
        let seen = seen(&mut self.logs, base.log)?;
        let data = base.data.bytes();
        let end = seen.base_bytes + data.len();
        let same = whole.get(seen.base_bytes..end) == Some(data);
        if !seen.awaits || base.offset != seen.cursor || base.part != seen.parts || !same {
            return Err(format!("part {} of log {} is not as put", base.part, base.log).into());
        }
        if base.last != (end == whole.len()) {
            return Err(format!("the base of log {} has {end} bytes", base.log).into());
        }
        seen.base_bytes = end;
        seen.parts += 1;
        seen.awaits = !base.last;
        Ok(base.log)
    }

    fn base_records(&mut self, base: &BaseRecords) -> Outcome<u64> {
        let seen = seen(&mut self.logs, base.log)?;
        if !seen.awaits || base.offset != seen.cursor {
            return Err(format!("a base of log {} that is not due", base.log).into());
        }
        seen.kept.extend(base.records.iter().map(|kept| kept.offset));
        seen.awaits = !base.last;
        Ok(base.log)
    }

    fn records(&mut self, records: &Records) -> Outcome<u64> {
        let seen = seen(&mut self.logs, records.log)?;
        if seen.awaits || records.base != seen.cursor {
            let (log, cursor) = (records.log, seen.cursor);
            return Err(format!("log {log} is at {cursor}, and got {}", records.base).into());
        }
        seen.cursor += records.records.len() as u64;
        seen.records += records.records.len() as u64;
        Ok(records.log)
    }

    /// Notes a log that has become complete, and when the last one has.
    fn show(&mut self, log: u64) -> Outcome<()> {
        let seen = seen(&mut self.logs, log)?;
        if !seen.shown && !seen.awaits && seen.cursor >= seen.complete {
            seen.shown = true;
            self.whole += 1;
            if self.whole == self.case.logs.len() {
                self.complete = self.hello.map(|hello| hello.elapsed());
            }
        }
        Ok(())
    }

    /// Acknowledges everything, as a client does that stays.
    pub fn settle(&mut self, conn: &mut Conn) -> Outcome<()> {
        let cursors = self.logs.iter().map(|(log, seen)| Cursor { log: *log, next: seen.cursor });
        let cursors = cursors.collect();
        self.acknowledge(conn, cursors)
    }

    /// Asks to be forgotten.
    pub fn leave(&self, conn: &mut Conn) -> Outcome<()> {
        say(conn, &ClientFrame::Leave(Leave { forget: true }))
    }

    /// Whether it has all that is due and nothing more.
    pub fn check(&self) -> Outcome<()> {
        let Case { name, logs, rule, due, snapshot, .. } = self.case;
        if self.logs.len() != logs.len() || self.whole != logs.len() {
            return Err(format!("{name} has {} logs, {} whole", self.logs.len(), self.whole).into());
        }
        for seen in self.logs.values() {
            let head = logs.get(seen.at).map_or(0, |log| log.head);
            let mut kept = seen.kept.clone();
            kept.sort_unstable();
            let got = (seen.cursor, seen.base_bytes, seen.records);
            let (wanted, keys) = match (self.met, rule) {
                (Met::Resumed, _) => ((head, 0, 0), 0),
                (_, SnapshotRule::Client) => ((head, snapshot.len(), *due), 0),
                (_, _) => ((head, 0, 0), *due),
            };
            // The last records of such a log are one of each key.
            if got != wanted || !kept.into_iter().eq(head - keys..head) {
                let kept = seen.kept.len();
                return Err(format!(
                    "{name}: due were {wanted:?} (cursor, bytes of the base, records) and the \
                     newest {keys} by key; came {got:?} and {kept}"
                )
                .into());
            }
        }
        Ok(())
    }
}

fn seen(logs: &mut HashMap<u64, Seen>, log: u64) -> Outcome<&mut Seen> {
    logs.get_mut(&log).ok_or_else(|| format!("log {log} is not announced").into())
}
