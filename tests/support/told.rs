//! What the app of a client is told, remembered: for tests to look at, and to hold against what it
//! was told before.

use highwater::client::Event;
use highwater::wire::{Class, Id, Outcome, ServerFrame, Welcome, capability};

use super::client::Client;
use super::held::{Folded, Seen};

impl Client {
    /// What the machine tells. A repeat or a jump is no breach, but no server needs one.
    pub(super) fn told(&mut self, event: Event) {
        match event {
            Event::Frame(frame) => self.told_frame(frame),
            Event::Settled { writer, seq, outcome } => {
                let known = self.all_outcomes.entry(writer).or_default();
                let known = known.entry(seq).or_insert_with(|| outcome.clone());
                assert_eq!(*known, outcome, "seq {seq} is answered alike");
            }
            Event::Repeated { writer, seq, outcome } => self.repeated(writer, seq, &outcome),
            Event::PutOff { seq, refusal, .. } => self.put_off.push((seq, refusal)),
            Event::Renumbered { .. } => {}
            Event::Repeat { .. } | Event::Jump { .. } => {
                panic!("neither gap nor repeat: {event:?}")
            }
            Event::Breach(breach) => panic!("{breach}; {}", self.describe()),
        }
    }

    /// A repeat is the answer it was before (promise 4).
    fn repeated(&mut self, writer: Id, seq: u64, outcome: &Outcome) {
        if let Outcome::Refused(refusal) = outcome
            && refusal.code.class() == Class::Transient
        {
            // What was sent twice may be stored once and put off once.
            return;
        }
        let known = self.all_outcomes.get(&writer).and_then(|known| known.get(&seq));
        assert_eq!(known, Some(outcome), "seq {seq} is answered alike");
        self.repeated += 1;
    }

    fn told_frame(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Welcome(told) => self.welcomed(told),
            ServerFrame::State(told) => {
                self.reason = told.reason;
                self.states.push(told);
            }
            ServerFrame::Unsubscribed(told) => {
                self.folded.remove(&told.log);
                self.ended.push(told);
            }
            ServerFrame::Refused(told) => self.refused.push(told),
            ServerFrame::Done(told) => self.done.push(told.request),
            ServerFrame::SnapshotWanted(told) => self.wanted.push((told.log, told.at_least)),
            ServerFrame::Refreshed(told) => self.refreshed.push(told.expires),
            ServerFrame::Pong(told) => self.pongs.push(told.nonce),
            ServerFrame::DeliveredTo(told) => self.having.push(told),
            ServerFrame::Bye(told) => self.bye = Some(told),
            other => self.of_log(other),
        }
    }

    fn welcomed(&mut self, told: Welcome) {
        assert_eq!(told.version, 1);
        assert!(!told.positions.is_empty(), "welcome tells where the server stands");
        if told.other_history {
            let states = self.capabilities.contains(&capability::HISTORY);
            assert!(states, "only who states positions is told");
            self.others += 1;
            self.seen.clear();
            self.shown.clear();
        }
        self.reason = None;
        self.welcome = Some(told);
    }

    /// What is told of a log, folded.
    fn of_log(&mut self, frame: ServerFrame) {
        let (log, records) = match frame {
            ServerFrame::Subscribed(told) => {
                let (name, log) = (told.name.clone(), told.log);
                let folded = self.folded.entry(log).or_insert_with(|| Folded::new(name.clone()));
                if told.held || folded.name != name {
                    // Of a log that is held a client holds nothing.
                    *folded = Folded::new(name);
                }
                folded.went_on += usize::from(told.base.is_some());
                (log, vec![])
            }
            ServerFrame::Reset(told) => {
                self.fold(told.log).reset(&told);
                (told.log, vec![])
            }
            ServerFrame::Gap(told) => {
                let log = told.log;
                self.fold(log).gaps.push(told);
                (log, vec![])
            }
            ServerFrame::Base(told) => {
                self.deliveries.push(told.log);
                self.fold(told.log).base(&told);
                (told.log, vec![])
            }
            ServerFrame::BaseRecords(told) => {
                self.deliveries.push(told.log);
                (told.log, self.fold(told.log).base_records(&told))
            }
            ServerFrame::Records(told) => {
                self.deliveries.push(told.log);
                let rule = self.machine.logs()[&told.log].rule;
                (told.log, self.fold(told.log).records(rule, &told))
            }
            other => panic!("not taken: {other:?}"),
        };
        self.remember(log, records);
        self.note_shown(log);
    }

    fn fold(&mut self, log: u64) -> &mut Folded {
        self.folded.get_mut(&log).expect("it was announced")
    }

    /// An offset holds the same record for ever (promise 2).
    fn remember(&mut self, log: u64, records: Vec<(u64, Seen)>) {
        for (offset, seen) in records {
            let known = self.seen.entry((log, offset)).or_insert_with(|| seen.clone());
            assert_eq!(*known, seen, "log {log}, offset {offset} was another record before");
        }
    }

    /// What is shown never goes backwards (promise 8).
    fn note_shown(&mut self, log: u64) {
        if let Some(held) = self.machine.logs().get(&log).filter(|held| held.open && held.shown()) {
            let before = self.shown.entry(held.log).or_default();
            assert!(held.cursor >= *before, "{} went back from {before}", held.name);
            *before = held.cursor;
        }
    }
}
