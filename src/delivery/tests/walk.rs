//! One attachment and one log through many orders of events, against a client that only counts.

use std::collections::VecDeque;

use super::*;

/// Draws of one seed (SplitMix64).
struct Draws(u64);

impl Draws {
    /// Below `most`, which is not 0.
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % most
    }

    fn wrote(&mut self) -> Wrote {
        match self.below(4) {
            0 => Wrote::Nothing,
            1 => Wrote::Waits,
            _ => Wrote::All,
        }
    }
}

/// The world around the attachment: a log, what is being offered of it, and the client.
struct Walk {
    one: Attachment,
    draws: Draws,
    head: u64,
    /// Records below this are being offered, or were.
    begun: u64,
    offers: VecDeque<(u64, u64)>,
    /// A read under way.
    reading: Option<Read>,
    /// The next offset that the client is to be sent; none: it has not been told the log.
    next: Option<u64>,
    opening: u64,
    /// What the client was sent, in order: the bytes of delivery up to there, the offset that it
    /// wants next then, and the opening that this is of.
    sent: Vec<(u64, u64, u64)>,
    /// How many of these it has said that it has.
    said: usize,
    trace: Vec<String>,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let mut walk = Self {
            one: attachment(),
            draws: Draws(seed),
            head: 3,
            begun: 3,
            offers: VecDeque::new(),
            reading: None,
            next: None,
            opening: 0,
            sent: vec![(0, 0, 0)],
            said: 0,
            trace: Vec::new(),
        };
        walk.opens();
        walk
    }

    /// The log is opened, or opened anew from another offset.
    fn opens(&mut self) {
        let from = self.draws.below(self.head + 1);
        let over = self.one.end(&[LOG], &Code::Superseded.into());
        let mut opened = opened(LOG, from, self.head);
        self.opening += 1;
        opened.opening = self.opening;
        let log = Followed { name: "docs/7".into(), place: 0, offered: self.begun };
        let told = over.iter().any(|over| over.told);
        assert!(self.one.subscribe(opened, 1, log, told));
        self.next = None;
        self.trace.push(format!("opened at {from}"));
    }

    /// A frame reaches the client: law 5 and promise 1.
    fn delivers(&mut self, base: u64, end: u64) {
        assert_eq!(self.next, Some(base), "{base}..{end} is not what comes next");
        self.next = Some(end);
        self.sent.push((self.one.flow().0 + end - base, end, self.opening));
        self.trace.push(format!("sent {base}..{end}"));
    }

    fn offers(&mut self) {
        let Some((base, end)) = self.offers.pop_front() else { return };
        let size = end - base;
        let offer = self.one.offer(0, LOG, (base, end), || size);
        self.trace.push(format!("offered {base}..{end}: {offer:?}"));
        if offer == Offer::Write {
            let wrote = self.draws.wrote();
            if matches!(wrote, Wrote::All | Wrote::Waits) {
                self.delivers(base, end);
            }
            self.one.wrote(LOG, end, size, wrote);
        }
    }

    fn begins(&mut self) {
        if self.begun < self.head {
            let end = self.begun + 1 + self.draws.below(self.head - self.begun);
            self.offers.push_back((self.begun, end));
            self.begun = end;
        }
    }

    fn polls(&mut self) {
        if self.reading.is_some() {
            return;
        }
        match self.one.poll(0) {
            Some(Output::Frames(_, frames)) => {
                for frame in frames {
                    if let ServerFrame::Subscribed(subscribed) = frame {
                        let cursor = subscribed.cursor;
                        self.next = Some(cursor);
                        self.sent.push((self.one.flow().0, cursor, self.opening));
                        self.trace.push(format!("told of {cursor}"));
                    }
                }
            }
            Some(Output::Read(read)) => self.reading = Some(read),
            Some(Output::Look(_) | Output::Close(_)) => panic!("nobody asked for that"),
            None => {}
        }
    }

    fn reads(&mut self) {
        let Some(read) = self.reading.take() else { return };
        if read.cursor >= self.head {
            return self.one.found(&read, Found::Nothing);
        }
        let end = read.cursor + 1 + self.draws.below(self.head - read.cursor);
        let size = end - read.cursor;
        let offer = self.one.offer_read(0, &read, size);
        self.trace.push(format!("read {}..{end}: {offer:?}", read.cursor));
        if offer == Offer::Write {
            let wrote = self.draws.wrote();
            if matches!(wrote, Wrote::All | Wrote::Waits) {
                self.delivers(read.cursor, end);
            }
            self.one.wrote_read(&read, size, (end, Slice::Records), wrote);
        }
    }

    /// The client says what it has worked off, which may be of a while ago.
    fn says(&mut self) {
        self.said +=
            usize::try_from(self.draws.below((self.sent.len() - self.said) as u64)).unwrap();
        let (received, next, opening) = self.sent[self.said];
        self.trace.push(format!("has {received}, wants {next} of opening {opening}"));
        self.one.acknowledge(received, &[Cursor { log: LOG, next }]).unwrap();
        for reached in self.one.take_acked() {
            assert_eq!((reached.next, reached.opening), (next, opening), "an old word counts");
        }
    }

    fn step(&mut self) {
        match self.draws.below(16) {
            0..=2 => self.head += 1 + self.draws.below(3),
            3 | 4 => self.begins(),
            5..=7 => self.offers(),
            8..=10 => self.polls(),
            11 | 12 => self.reads(),
            13 => self.says(),
            14 => self.one.writable(),
            _ if self.draws.below(4) == 0 => self.opens(),
            _ => {}
        }
    }

    /// Faults are over: all records arrive, within a bound (promise 14).
    fn heals(&mut self) {
        for _ in 0..1_000 {
            self.begins();
            self.offers();
            self.one.writable();
            self.one.acknowledge(self.one.flow().0, &[]).unwrap();
            self.polls();
            self.reads();
        }
        assert_eq!(self.next, Some(self.head), "the client was not sent all there is");
        assert!(self.one.live(LOG) && !self.one.wants_turn(), "it goes on without need");
    }
}

#[test]
fn promises_01_and_14_hold_in_every_order_of_events() {
    for seed in 0..2_000 {
        let mut walk = Walk::new(seed);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..300 {
                walk.step();
            }
            walk.heals();
        }));
        assert!(run.is_ok(), "seed {seed}: {}", walk.trace.join("; "));
    }
}
