//! The client against a server that a test plays: every frame crosses the codec, in both forms.

mod appending;
mod attaching;
mod letting_go;
mod reading;

use super::*;
use crate::wire::{
    Answer, Answers, Code, Delivered, Encoding, Frame, Item, Level, MAX_FRAME_BYTES, Made, Met,
    Origin, Outcome, Payload, Place, Records, Refusal, SnapshotRule, Start, Subscribed, WriterMark,
    codec,
};

/// A client, and the server's side of its socket.
pub(super) struct Played {
    pub(super) client: Client,
    pub(super) now: u64,
    pub(super) sent: Vec<ClientFrame>,
    pub(super) events: Vec<Event>,
    pub(super) closes: usize,
    pub(super) connect: Option<(u64, u64)>,
}

pub(super) const ERA: Id = Id([7; 16]);

pub(super) fn in_both(test: impl Fn(Encoding)) {
    Encoding::ALL.into_iter().for_each(test);
}

pub(super) fn config(encoding: Encoding) -> Config {
    Config { encoding, ..Config::new(Id([1; 16]), Id([2; 16])) }
}

pub(super) fn at(batch: u64) -> Position {
    Position { era: ERA, batch, chain: None }
}

pub(super) fn limits() -> Limits {
    Limits {
        frame_bytes: 1 << 16,
        record_bytes: 1 << 15,
        window: 1 << 16,
        in_flight: 8,
        subscriptions: 10,
    }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        version: 1,
        capabilities: Vec::new(),
        connection: Id([1; 16]),
        user: "ada".to_owned(),
        met: Met::Fresh,
        source: None,
        place: Place { batch: 1, index: 0 },
        generation: 1,
        time: 0,
        expires: 0,
        ping_interval: 20_000,
        limits: limits(),
        token: None,
        writers: Vec::new(),
        positions: vec![at(1)],
        other_history: false,
        credit: None,
        nodes: Vec::new(),
    }
}

pub(super) fn subscribed(request: u32, cursor: u64) -> Subscribed {
    Subscribed {
        request,
        name: "docs/1".to_owned(),
        log: 5,
        priority: 0,
        rule: SnapshotRule::None,
        start: 0,
        head: cursor,
        cursor,
        complete: cursor,
        reset: false,
        made: Some(at(1)),
        held: false,
        base: None,
    }
}

pub(super) fn records(base: u64, count: u64) -> ServerFrame {
    let record = |offset: u64| Delivered {
        place: Place { batch: 10 + offset, index: 0 },
        time: 0,
        origin: 0,
        seq: 1,
        record: text("x"),
    };
    let origin = Origin { user: "ada".to_owned(), writer: Id([9; 16]), connection: Id::NONE };
    let records = (base..base + count).map(record).collect();
    ServerFrame::Records(Records { log: 5, base, origins: vec![origin], records })
}

pub(super) fn text(text: &str) -> Record {
    Record { payload: Some(Payload::text(text)), ..Record::default() }
}

pub(super) fn stored(seq: u64) -> Answer {
    let (log, offset, place) = (5, seq - 1, Place { batch: seq + 1, index: 0 });
    Answer { seq, outcome: Outcome::Stored { log, offset, place, level: Level::Synced } }
}

pub(super) fn refused(seq: u64, code: Code, after: u32) -> Answer {
    Answer { seq, outcome: Outcome::Refused(Refusal::new(code).after(after)) }
}

pub(super) fn answers(mark: u64, answers: Vec<Answer>) -> ServerFrame {
    let (positions, credit) = (Vec::new(), None);
    ServerFrame::Answers(Answers { writer: Id([2; 16]), mark, answers, positions, credit })
}

impl Played {
    pub(super) fn away(config: Config) -> Self {
        let client = Client::new(config);
        let (sent, events) = (Vec::new(), Vec::new());
        Self { client, now: 1_000, sent, events, closes: 0, connect: None }
    }

    /// Met, with nothing to read yet.
    pub(super) fn new(config: Config) -> Self {
        let mut met = Self::away(config);
        met.open();
        met.hear(ServerFrame::Welcome(welcome()));
        met.clear();
        met
    }

    /// Met, and reading `docs/1` as log 5 from its beginning.
    pub(super) fn reading(config: Config) -> Self {
        let mut met = Self::away(config);
        met.client.open("docs/1", Start::State, 0);
        met.open();
        met.hear(ServerFrame::Welcome(welcome()));
        met.hear(ServerFrame::Subscribed(subscribed(0, 0)));
        met.clear();
        met
    }

    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.events.clear();
    }

    /// A socket is open: the `hello` that is said on it.
    pub(super) fn open(&mut self) -> Hello {
        self.client.handle(self.now, Input::Open { spare: Id([3; 16]) });
        self.poll();
        match self.sent.pop() {
            Some(ClientFrame::Hello(hello)) => hello,
            other => panic!("hello comes first, and came {other:?}"),
        }
    }

    pub(super) fn closed(&mut self) {
        self.client.handle(self.now, Input::Closed);
        self.poll();
    }

    pub(super) fn wait(&mut self, time: u64) {
        self.now += time;
        self.client.handle(self.now, Input::Time);
        self.poll();
    }

    pub(super) fn hear(&mut self, frame: ServerFrame) {
        let bytes = codec::message(&frame, self.client.config.encoding);
        self.hear_bytes(&bytes);
    }

    pub(super) fn hear_bytes(&mut self, bytes: &[u8]) {
        self.client.handle(self.now, Input::Message(bytes));
        self.poll();
    }

    /// Takes what the client wants done; its frames cross the codec.
    pub(super) fn poll(&mut self) {
        let encoding = self.client.config.encoding;
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send(frame) => {
                    let bytes = codec::message(&frame, encoding);
                    let mut read = codec::decode::<ClientFrame>(&bytes, encoding, MAX_FRAME_BYTES);
                    let (read, _) = read.next().expect("a frame").expect("it can be read");
                    assert_eq!(read, frame);
                    self.sent.push(read);
                }
                Output::Tell(event) => self.events.push(event),
                Output::Close => self.closes += 1,
                Output::Connect { not_before, spread } => self.connect = Some((not_before, spread)),
            }
        }
    }

    /// Sequences of the appends sent since the last look, by frame.
    pub(super) fn appended(&mut self) -> Vec<Vec<u64>> {
        let sequences = |frame: ClientFrame| match frame {
            ClientFrame::Append(append) => Some(append.items.iter().map(|i| i.seq).collect()),
            _ => None,
        };
        std::mem::take(&mut self.sent).into_iter().filter_map(sequences).collect()
    }

    pub(super) fn append(&mut self, count: usize) {
        for _ in 0..count {
            self.client.append(Target::Name("docs/1".to_owned()), text("x"), None);
        }
        self.poll();
    }

    /// Sequences settled since the last look.
    pub(super) fn settled(&mut self) -> Vec<u64> {
        let seq = |event: Event| match event {
            Event::Settled { seq, .. } => Some(seq),
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(seq).collect()
    }

    /// The breaches told since the last look.
    pub(super) fn breaches(&mut self) -> Vec<Breach> {
        let breach = |event: Event| match event {
            Event::Breach(breach) => Some(breach),
            _ => None,
        };
        std::mem::take(&mut self.events).into_iter().filter_map(breach).collect()
    }
}

/// The same, from a frame's name: which frames were sent.
pub(super) fn names(frames: &[ClientFrame]) -> Vec<&'static str> {
    frames.iter().map(Frame::name).collect()
}

pub(super) fn mark(mark: u64) -> Vec<WriterMark> {
    vec![WriterMark { writer: Id([2; 16]), mark }]
}
