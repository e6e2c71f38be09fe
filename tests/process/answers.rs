//! Promise 20: one answer to each request, whatever crosses it; and no log id before it was
//! announced (law 9). Every pair of requests goes out back to back, in one message and in two, and
//! each request crosses each event: a downgrade, a deletion, a grant that shrinks, a leave.

mod uploads;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::support::{Client, Link, Next, Options, Server, WAIT, token};
use highwater::wire::*;

const NAME: &str = "client/a";

/// A client that keeps nothing but the account of its requests.
struct Asker {
    link: Link,
    id: Id,
    next: u32,
    answers: BTreeMap<u32, Vec<String>>,
    /// Answers by writer: each writer here appends once.
    stored: BTreeMap<Id, Vec<String>>,
    announced: BTreeMap<u64, String>,
    /// What was told of logs by name and without a number.
    unnumbered: Vec<(String, &'static str)>,
    active: bool,
    closed: Option<u16>,
}

type Make = fn(&mut Asker, u64) -> ClientFrame;

/// Each kind of request, of one log.
const REQUESTS: &[(&str, Make)] = &[
    ("subscribe", |asker, _| {
        let request = asker.number();
        let open = vec![Asker::open(NAME)];
        ClientFrame::Subscribe(Subscribe { request, open, bases: vec![] })
    }),
    ("subscribe to nothing", |asker, _| {
        let request = asker.number();
        ClientFrame::Subscribe(Subscribe { request, open: vec![], bases: vec![] })
    }),
    ("unsubscribe", |asker, log| {
        let request = asker.number();
        ClientFrame::Unsubscribe(Unsubscribe { request, logs: vec![log] })
    }),
    ("unsubscribe from nothing", |asker, _| {
        let request = asker.number();
        ClientFrame::Unsubscribe(Unsubscribe { request, logs: vec![] })
    }),
    ("seek", |asker, log| {
        let request = asker.number();
        ClientFrame::Seek(Seek { request, log, to: Start::Earliest })
    }),
    ("seek to state", |asker, log| {
        let request = asker.number();
        ClientFrame::Seek(Seek { request, log, to: Start::State })
    }),
    ("activate", |asker, _| {
        let request = asker.number();
        let open = vec![Asker::open(NAME)];
        let cloning = Cloning::All;
        ClientFrame::Activate(Activate { request, cloning, open, bases: vec![] })
    }),
    ("visible", |asker, _| {
        let request = asker.number();
        ClientFrame::Visible(Visible { visible: request.is_multiple_of(2), request })
    }),
    ("refresh", |asker, _| {
        let request = asker.number();
        ClientFrame::Refresh(Refresh { token: everything(), request })
    }),
    ("refresh of another", |asker, _| {
        let request = asker.number();
        ClientFrame::Refresh(Refresh { token: token("eve", &[("**", "read")]), request })
    }),
    ("retire", |asker, _| {
        let request = asker.number();
        ClientFrame::Retire(Retire { writer: crate::support::id(), request })
    }),
    ("snapshot", |asker, log| {
        let request = asker.number();
        let data = Payload::text("state");
        let (offset, version, part) = (1, 1, 0);
        let put = PutSnapshot { request, log, offset, version, part, last: true, data };
        ClientFrame::PutSnapshot(put)
    }),
    ("append", |asker, _| {
        let writer = crate::support::id();
        asker.stored.insert(writer, vec![]);
        let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
        let to = Target::Name(NAME.to_owned());
        let items = vec![Item { seq: 1, prev: 0, to, if_head: None, record }];
        let (positions, made) = (vec![], vec![]);
        ClientFrame::Append(Append { writer, oldest: 1, items, positions, made })
    }),
    ("who", |asker, log| ClientFrame::Who(Who { request: asker.number(), log, offset: 3 })),
    ("who, and nobody can say", |asker, log| {
        ClientFrame::Who(Who { request: asker.number(), log, offset: 1 << 40 })
    }),
    ("later", |asker, _| ClientFrame::Fetch(Later { request: asker.number() })),
];

fn everything() -> String {
    token("ann", &[("**", "read append snapshot delivered")])
}

fn server() -> Server {
    let options = Options::default().rule("client/**", "client", "");
    let options =
        options.limit("activate_after_ms", 100).limit("frames_per_socket_second", 100_000);
    let server = Server::start(options.limit("connections_per_user", 1_000));
    let mut writer = Client::new("wim").join(&server);
    for n in 0..5 {
        writer.store(NAME, &n.to_string());
    }
    server
}

impl Asker {
    fn join(server: &Server, encoding: Encoding) -> Self {
        let mut link = Link::open(server.address, encoding);
        let id = crate::support::id();
        let capabilities = capability::ALL.map(str::to_owned).to_vec();
        link.send(&ClientFrame::Hello(Hello {
            version: 1,
            capabilities,
            token: Some(everything()),
            connection: id,
            device: None,
            client: String::new(),
            visible: true,
            cloning: Cloning::None,
            writers: vec![],
            open: vec![Self::open(NAME)],
            window: 0,
            positions: vec![],
            bases: vec![],
        }));
        let mut asker = Self {
            link,
            id,
            next: 1,
            answers: BTreeMap::new(),
            stored: BTreeMap::new(),
            announced: BTreeMap::new(),
            unnumbered: vec![],
            active: true,
            closed: None,
        };
        asker.until("the log", |asker| !asker.announced.is_empty());
        asker
    }

    fn open(name: &str) -> Open {
        Open { name: name.to_owned(), have: None, start: Start::State, priority: 0 }
    }

    fn number(&mut self) -> u32 {
        self.next += 1;
        self.answers.insert(self.next, vec![]);
        self.next
    }

    fn log(&self) -> u64 {
        *self.announced.keys().last().expect("it was announced")
    }

    fn step(&mut self, end: Instant) -> bool {
        match self.link.next(end) {
            Next::Frame(frame, _) => self.take(&frame),
            Next::Closed(code, _) => self.closed = Some(code),
            Next::Nothing => return false,
        }
        true
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + WAIT;
        while !holds(self) {
            let came = self.step(end);
            assert!(came && Instant::now() < end, "{what}: {:?}", self.missing());
            assert!(self.closed.is_none() || holds(self), "closed: {what}, {:?}", self.missing());
        }
    }

    fn missing(&self) -> Vec<String> {
        let requests = self.answers.iter().filter(|(_, told)| told.is_empty());
        let appends = self.stored.iter().filter(|(_, told)| told.is_empty());
        let requests = requests.map(|(request, _)| request.to_string());
        requests.chain(appends.map(|(writer, _)| writer.to_string())).collect()
    }

    fn note(&mut self, request: u32, what: &str) {
        if request != 0 {
            let told = self.answers.get_mut(&request);
            told.unwrap_or_else(|| panic!("{what} of {request}")).push(what.to_owned());
        }
    }

    fn of(&self, log: u64, what: &str) {
        assert!(self.announced.contains_key(&log), "{what} of {log}, which was not announced");
    }

    fn take(&mut self, frame: &ServerFrame) {
        let name = Frame::name(frame);
        match frame {
            ServerFrame::Subscribed(told) => {
                self.announced.insert(told.log, told.name.clone());
                if told.request == 0 {
                    self.unnumbered.push((told.name.clone(), name));
                }
                self.note(told.request, name);
            }
            ServerFrame::Refused(told) => {
                if let (0, Some(log)) = (told.request, &told.name) {
                    self.unnumbered.push((log.clone(), told.refusal.code.name()));
                }
                self.note(told.request, told.refusal.code.name());
            }
            ServerFrame::Done(told) => self.note(told.request, name),
            ServerFrame::Unsubscribed(told) => {
                if told.reason != Ended::Asked {
                    self.of(told.log, name);
                }
                self.note(told.request, name);
            }
            ServerFrame::State(told) => {
                self.active = told.active;
                self.note(told.request, name);
            }
            ServerFrame::Refreshed(told) => self.note(told.request, name),
            ServerFrame::DeliveredTo(told) => self.note(told.request, name),
            ServerFrame::Answers(told) => {
                for answer in &told.answers {
                    let what = format!("{:?}", answer.outcome);
                    self.stored.get_mut(&told.writer).expect("an own writer").push(what);
                }
            }
            ServerFrame::Records(told) => self.of(told.log, name),
            ServerFrame::Reset(told) => self.of(told.log, name),
            ServerFrame::Gap(told) => self.of(told.log, name),
            ServerFrame::Base(told) => self.of(told.log, name),
            ServerFrame::BaseRecords(told) => self.of(told.log, name),
            ServerFrame::Bye(told) => panic!("{told:?}"),
            _ => {}
        }
    }

    /// Every request has exactly one answer. What is decided after all of them is asked twice, so
    /// that a second answer to one of them would have come.
    fn settle(&mut self, of: &str) {
        self.until(of, |asker| asker.missing().is_empty());
        for _ in 0..2 {
            let request = self.number();
            self.link.send(&ClientFrame::Subscribe(Subscribe {
                request,
                open: vec![],
                bases: vec![],
            }));
            self.until(of, |asker| asker.missing().is_empty());
        }
        for told in self.answers.values().chain(self.stored.values()) {
            assert_eq!(told.len(), 1, "{of}: {told:?}");
        }
        self.answers.clear();
        self.stored.clear();
    }

    /// Active again, and subscribed.
    fn recover(&mut self) {
        while !self.active {
            let request = self.number();
            let (cloning, open) = (Cloning::None, vec![]);
            let activate = Activate { request, cloning, open, bases: vec![] };
            self.link.send(&ClientFrame::Activate(activate));
            self.settle("to be active again");
        }
        let frame = REQUESTS[0].1(self, 0);
        self.link.send(&frame);
        self.settle("to be subscribed again");
    }
}

#[test]
fn promise_20_each_of_two_requests_back_to_back_has_one_answer() {
    let server = server();
    for encoding in Encoding::ALL {
        for together in [true, false] {
            let mut asker = Asker::join(&server, encoding);
            for (first, one) in REQUESTS {
                for (second, other) in REQUESTS {
                    let log = asker.log();
                    let frames = [one(&mut asker, log), other(&mut asker, log)];
                    if together {
                        asker.link.send_all(&frames);
                    } else {
                        frames.iter().for_each(|frame| asker.link.send(frame));
                    }
                    asker.settle(&format!("{first}, {second}"));
                    if second.contains("unsubscribe") {
                        asker.recover();
                    }
                }
            }
        }
    }
}

/// Several that supersede one another, while nothing can be told of the log for want of a window.
#[test]
fn promise_20_requests_that_supersede_one_another_are_answered() {
    let server = server();
    let mut asker = Asker::join(&server, Encoding::Bincode);
    let log = asker.log();
    for many in [3, 7, 20] {
        let mut frames = Vec::new();
        for n in 0..many {
            let which = ["seek", "subscribe", "unsubscribe", "seek to state"][n % 4];
            let make = REQUESTS.iter().find(|(name, _)| *name == which).unwrap().1;
            frames.push(make(&mut asker, log));
        }
        asker.link.send_all(&frames);
        asker.settle(&format!("{many} of them"));
        asker.recover();
    }
}

/// A request that was decided, and whose opening waits to be told, says what took its place.
#[test]
fn promise_20_superseded_is_said_to_who_knows_it() {
    for (capabilities, code) in
        [(vec![], Code::Stale), (vec!["requests".to_owned()], Code::Superseded)]
    {
        let told = superseded(capabilities);
        assert_eq!(told, BTreeSet::from([code]), "and it happened");
    }
}

/// What was said of seeks that crossed one another, over many rounds.
fn superseded(capabilities: Vec<String>) -> BTreeSet<Code> {
    let server = server();
    let mut client = Client::new("ann").wanting(NAME).join(&server);
    client.reach(NAME, 5);
    let log = client.log(NAME).log;
    client.cut();
    let mut link = Link::open(server.address, Encoding::Json);
    let hello = Hello { capabilities, open: vec![], ..client.hello() };
    link.send(&ClientFrame::Hello(hello));
    let (mut codes, mut answered) = (BTreeSet::new(), 0);
    let end = Instant::now() + WAIT;
    let mut sent = 0;
    while codes.is_empty() && Instant::now() < end {
        let seek = |n: u32| ClientFrame::Seek(Seek { request: sent + n, log, to: Start::Earliest });
        let frames: Vec<_> = (1..=50).map(seek).collect();
        link.send_all(&frames);
        sent += 50;
        while answered < sent {
            match link.next(end) {
                Next::Frame(ServerFrame::Refused(told), _) => {
                    answered += 1;
                    codes.insert(told.refusal.code);
                }
                Next::Frame(ServerFrame::Subscribed(told), _) if told.request > 0 => answered += 1,
                Next::Frame(..) => {}
                other => panic!("{answered} of {sent}: {other:?}"),
            }
        }
    }
    codes
}

/// Each request, while an operator takes the slot away.
#[test]
fn promise_20_requests_that_cross_a_downgrade_are_answered() {
    let server = server();
    let mut asker = Asker::join(&server, Encoding::Json);
    let path = format!("/v1/connections/{}/downgrade", asker.id);
    crossing(&server, &mut asker, "a downgrade", &|server| {
        server.http().ask("POST", &path, &[], None);
    });
}

/// Each request, while its log is deleted, and made anew.
#[test]
fn promise_20_requests_that_cross_a_deletion_are_answered() {
    let server = server();
    for encoding in Encoding::ALL {
        let mut asker = Asker::join(&server, encoding);
        crossing(&server, &mut asker, "a deletion", &|server| {
            server.http().delete(&format!("/v1/logs/{NAME}"));
        });
    }
}

/// Sends each request, alone and two at once, while something happens; a few times each, since
/// what comes first is left to chance.
fn crossing(server: &Server, asker: &mut Asker, what: &str, happens: &(dyn Fn(&Server) + Sync)) {
    for round in 0..3 {
        for (at, (first, one)) in REQUESTS.iter().enumerate() {
            asker.recover();
            let (second, other) = REQUESTS[(at * 5 + round) % REQUESTS.len()];
            std::thread::scope(|scope| {
                let log = asker.log();
                let event = scope.spawn(|| happens(server));
                for _ in 0..=round {
                    let frames = [one(asker, log), other(asker, log)];
                    asker.link.send_all(&frames);
                }
                event.join().unwrap();
            });
            asker.settle(&format!("{first} and {second} across {what}"));
        }
    }
}

/// Each request, with a token behind it that lets its client do less.
#[test]
fn promise_20_requests_that_cross_a_shrinking_grant_are_answered() {
    let server = server();
    for (name, make) in REQUESTS {
        for before in [true, false] {
            let mut asker = Asker::join(&server, Encoding::Bincode);
            let log = asker.log();
            let request = asker.number();
            let less = token("ann", &[("other/**", "read")]);
            let refresh = ClientFrame::Refresh(Refresh { token: less, request });
            let asked = make(&mut asker, log);
            let mut frames = [asked, refresh];
            if !before {
                frames.reverse();
            }
            asker.link.send_all(&frames);
            asker.settle(&format!("{name}, with less granted"));
        }
    }
}

/// A log that an activation asks for is answered by its name, also where a smaller grant crosses.
#[test]
fn promise_20_names_of_an_activation_that_crosses_a_shrinking_grant_are_answered() {
    let server = server();
    let mut denied = 0;
    for round in 0..20 {
        let mut asker = Asker::join(&server, Encoding::ALL[round % 2]);
        let path = format!("/v1/connections/{}/downgrade", asker.id);
        server.http().ask("POST", &path, &[], None);
        asker.until("to be inactive", |asker| !asker.active);
        while !asker.active {
            asker.unnumbered.clear();
            let refresh = |asker: &mut Asker, token| {
                ClientFrame::Refresh(Refresh { token, request: asker.number() })
            };
            let activate = REQUESTS.iter().find(|(name, _)| *name == "activate").unwrap().1;
            let frames = [
                activate(&mut asker, 0),
                refresh(&mut asker, token("ann", &[("other/**", "read")])),
            ];
            asker.link.send_all(&frames);
            asker.settle("to be active, with less granted");
            // It was too early: once more, with all of the grants.
            let all = refresh(&mut asker, everything());
            asker.link.send(&all);
            asker.settle("to be granted all again");
        }
        let of_it = |(name, _): &&(String, &str)| name == NAME;
        let told: Vec<_> = asker.unnumbered.iter().filter(of_it).map(|(_, told)| *told).collect();
        assert!(told == ["denied"] || told == ["subscribed"], "{told:?}");
        denied += usize::from(told == ["denied"]);
    }
    assert!(denied > 0, "the grant never came between the question and its answer");
}

/// What stands before `leave` is answered before the socket closes.
#[test]
fn promise_20_requests_before_a_leave_are_answered() {
    let server = server();
    for encoding in Encoding::ALL {
        for (name, make) in REQUESTS {
            let mut asker = Asker::join(&server, encoding);
            let log = asker.log();
            let frames = [
                make(&mut asker, log),
                make(&mut asker, log),
                ClientFrame::Leave(Leave { forget: encoding == Encoding::Json }),
            ];
            asker.link.send_all(&frames);
            asker.until(name, |asker| asker.closed.is_some());
            assert_eq!(asker.closed, Some(1000), "{name}");
            for told in asker.answers.values().chain(asker.stored.values()) {
                assert_eq!(told.len(), 1, "{name}, then leave: {:?}", asker.answers);
            }
        }
    }
}

/// A token that has ended lets its client end things and bring another, no more.
#[test]
fn a_token_that_has_ended_moves_no_cursor() {
    let server = server();
    let mut client = Client::new("ann").wanting(NAME).join(&server);
    client.reach(NAME, 5);
    let log = client.log(NAME).log;
    client.ack();
    let grants = [("**", "read append snapshot")];
    crate::support::end_soon(&mut client, "ann", &grants);
    client.wait("its end", |client| {
        client.refused.iter().any(|refused| refused.refusal.code == Code::TokenExpired)
    });
    client.refused.clear();
    client.send(&ClientFrame::Seek(Seek { request: 5, log, to: Start::Earliest }));
    assert_eq!(client.refusal(5).code, Code::TokenExpired);
    let before = client.refreshed.len();
    client.send(&ClientFrame::Refresh(Refresh { token: token("ann", &grants), request: 6 }));
    client.wait("to be refreshed", |client| client.refreshed.len() > before);
    client.sync();
    assert_eq!(client.log(NAME).cursor, 5, "nothing was moved");
}
