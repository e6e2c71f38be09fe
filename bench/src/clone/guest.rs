//! One client that attaches and takes in what it is sent, until it has all of its logs.
//!
//! Promise: it fails unless it was met as expected and got what is due: of each log its base and
//! the records after it, or, where it held the log, nothing. That each thing comes once and in
//! order is what the client of the product holds the server to.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use highwater::client::{Client, Config, Event};
use highwater::wire::{
    Base, BaseRecords, Cloning, Id, Met, Reason, Records, Reset, ResetReason, ServerFrame,
    SnapshotRule, Start, Subscribed, Welcome,
};

use super::Case;
use crate::Outcome;
use crate::net::{Conn, Heard, Net};
use crate::talk::{PATIENCE, patient};
use crate::user::User;

/// What a client has come to, and what it is due.
#[derive(Debug)]
pub struct Guest<'a> {
    case: &'a Case,
    user: User,
    met: Met,
    hello: Option<Instant>,
    welcome: Option<Duration>,
    complete: Option<Duration>,
    /// By log id.
    logs: HashMap<u64, Seen>,
    /// How many of them are complete.
    whole: usize,
    /// Bytes of all messages since Hello.
    bytes: u64,
    gone: bool,
}

/// What came of one log.
#[derive(Debug)]
struct Seen {
    /// Where it stands in the case.
    at: usize,
    shown: bool,
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
    /// One that has not said anything yet. A clone asks for everything and holds nothing; a source
    /// names its logs, and what it holds.
    pub fn new(case: &'a Case, connection: Id, met: Met) -> Self {
        let clone = met == Met::Cloned;
        // Without capabilities: it is sent all logs of the source, and each frame whole.
        let mut user = User::new(Config {
            token: Some(case.token.clone()),
            name: "bench".to_owned(),
            cloning: if clone { Cloning::All } else { Cloning::None },
            capabilities: Vec::new(),
            ack_after: Some(1_000),
            ..Config::new(connection, connection)
        });
        for log in case.logs.iter().filter(|_| !clone) {
            user.client_mut().want(&log.name, Start::State, 0);
            if met == Met::Resumed {
                user.client_mut().hold(&log.name, log.id, log.head);
            }
        }
        Self {
            case,
            user,
            met,
            hello: None,
            welcome: None,
            complete: None,
            logs: HashMap::new(),
            whole: 0,
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
                if at != own {
                    return Err("another socket was sent something".into());
                }
                self.hear(conn, &heard)
            })?;
            let (name, whole) = (self.case.name, self.whole);
            patient(moved + PATIENCE, || format!("{name} has {whole} logs complete"))?;
        }
        Ok(())
    }

    fn hear(&mut self, conn: &mut Conn, heard: &Heard<'_>) -> Outcome<()> {
        match heard {
            Heard::Open => self.hello = Some(Instant::now()),
            Heard::Message(message) => self.bytes += message.len() as u64,
            Heard::Closed => self.gone = true,
            Heard::Raw(_) => {}
        }
        for event in self.user.hear(conn, heard)? {
            let log = match event {
                Event::Frame(ServerFrame::Welcome(welcome)) => {
                    self.welcome(&welcome)?;
                    continue;
                }
                Event::Frame(ServerFrame::Subscribed(subscribed)) => {
                    self.subscribed(&subscribed)?
                }
                Event::Frame(ServerFrame::Reset(reset)) => self.reset(&reset)?,
                Event::Frame(ServerFrame::Base(base)) => self.base(&base)?,
                Event::Frame(ServerFrame::BaseRecords(base)) => self.base_records(&base)?,
                Event::Frame(ServerFrame::Records(records)) => self.records(&records)?,
                // The answer to its leaving, before the server closes.
                Event::Frame(ServerFrame::State(state)) if state.reason == Some(Reason::Left) => {
                    continue;
                }
                other => return Err(format!("unexpected at a clone: {other:?}").into()),
            };
            self.show(log)?;
        }
        Ok(())
    }

    fn welcome(&mut self, welcome: &Welcome) -> Outcome<()> {
        let source = (self.met == Met::Cloned).then_some(self.case.source);
        if welcome.met != self.met || welcome.source != source || self.welcome.is_some() {
            let due = self.met;
            return Err(format!("{due:?} from {source:?} was due, and came {welcome:?}").into());
        }
        self.welcome = self.hello.map(|hello| hello.elapsed());
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
        let seen = Seen { at, shown: false, base_bytes: 0, records: 0, kept: Vec::new() };
        match self.logs.insert(told.log, seen) {
            Some(_) => Err(format!("subscribed twice: {told:?}").into()),
            None => Ok(told.log),
        }
    }

    fn reset(&mut self, reset: &Reset) -> Outcome<u64> {
        let case = self.case;
        let reason = if self.met == Met::Cloned { ResetReason::Cloned } else { ResetReason::New };
        let head = case.logs.get(seen(&mut self.logs, reset.log)?.at).map_or(0, |log| log.head);
        let base = reset.base.filter(|base| base.rule == case.rule && base.offset == reset.cursor);
        let due = match case.rule {
            SnapshotRule::Client => head - case.due,
            _ => head,
        };
        if reset.reason != reason || base.is_none() || reset.cursor != due {
            return Err(format!("a {reason:?} base at {due} was due, and came {reset:?}").into());
        }
        Ok(reset.log)
    }

    fn base(&mut self, base: &Base) -> Outcome<u64> {
        let whole = &self.case.snapshot;
        let seen = seen(&mut self.logs, base.log)?;
        let data = base.data.bytes();
        let end = seen.base_bytes + data.len();
        let same = whole.get(seen.base_bytes..end) == Some(data);
        if !same {
            return Err(format!("part {} of log {} is not as put", base.part, base.log).into());
        }
        if base.last != (end == whole.len()) {
            return Err(format!("the base of log {} has {end} bytes", base.log).into());
        }
        seen.base_bytes = end;
        Ok(base.log)
    }

    fn base_records(&mut self, base: &BaseRecords) -> Outcome<u64> {
        let seen = seen(&mut self.logs, base.log)?;
        seen.kept.extend(base.records.iter().map(|kept| kept.offset));
        Ok(base.log)
    }

    fn records(&mut self, records: &Records) -> Outcome<u64> {
        let seen = seen(&mut self.logs, records.log)?;
        seen.records += records.records.len() as u64;
        Ok(records.log)
    }

    /// Notes a log that has become complete, and when the last one has.
    fn show(&mut self, log: u64) -> Outcome<()> {
        let shown = self.user.client().logs().get(&log).is_some_and(|log| log.shown());
        let seen = seen(&mut self.logs, log)?;
        if shown && !seen.shown {
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
        self.user.act(conn, Client::ack).map(drop)
    }

    /// Asks to be forgotten.
    pub fn leave(&mut self, conn: &mut Conn) -> Outcome<()> {
        self.user.act(conn, |client| client.leave(true)).map(drop)
    }

    /// Whether it has all that is due and nothing more.
    pub fn check(&self) -> Outcome<()> {
        let Case { name, logs, rule, due, snapshot, .. } = self.case;
        if self.logs.len() != logs.len() || self.whole != logs.len() {
            return Err(format!("{name} has {} logs, {} whole", self.logs.len(), self.whole).into());
        }
        for (log, seen) in &self.logs {
            let head = logs.get(seen.at).map_or(0, |log| log.head);
            let mut kept = seen.kept.clone();
            kept.sort_unstable();
            let cursor = self.user.client().logs().get(log).map_or(0, |log| log.cursor);
            let got = (cursor, seen.base_bytes, seen.records);
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
