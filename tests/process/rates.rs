//! Rates against the running server, by a client that does what `docs/protocol.md` §8.7 says: it
//! sends again from the first refused item, at the time told and no sooner, or keeps to its credit.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Client, Link, Next, Options, Server, WAIT, token};
use highwater::wire::{
    Answers, Append, ClientFrame, Code, Credit, Id, Item, Met, Outcome, Payload, PutSnapshot,
    Record, Refusal, ServerFrame, Start, Target,
};
use serde_json::json;

/// A socket that appends by hand.
struct Hand {
    link: Link,
    credit: Option<Credit>,
    writer: Id,
    /// The client lives, so that its socket does.
    _client: Client,
}

impl Hand {
    fn join(server: &Server, user: &str) -> Self {
        let mut client = Client::new(user).join(server);
        let credit = client.welcome.as_ref().unwrap().credit;
        let link = client.link.take().unwrap();
        Self { link, credit, writer: crate::support::id(), _client: client }
    }

    /// Sends the items `first..=last`, the first naming `prev`.
    fn send_after(&mut self, log: &str, prev: u64, first: u64, last: u64) {
        let record = |seq: u64| Record {
            payload: Some(Payload::text(seq.to_string())),
            ..Record::default()
        };
        let item = |seq| Item {
            seq,
            prev: if seq == first { prev } else { seq - 1 },
            to: Target::Name(log.to_owned()),
            if_head: None,
            record: record(seq),
        };
        let items = (first..=last).map(item).collect();
        let (writer, oldest) = (self.writer, 1);
        let append = Append { writer, oldest, items, positions: vec![], made: vec![] };
        self.link.send(&ClientFrame::Append(append));
    }

    fn send(&mut self, log: &str, first: u64, last: u64) {
        self.send_after(log, first - 1, first, last);
    }

    /// The next answers: each frame has one, in the order of its sequences.
    fn answers(&mut self) -> Answers {
        let end = Instant::now() + WAIT;
        loop {
            match self.link.next(end) {
                Next::Frame(ServerFrame::Answers(answers), _) => {
                    self.credit = answers.credit;
                    return answers;
                }
                Next::Frame(..) => {}
                Next::Closed(code, reason) => panic!("closed with {code} {reason}"),
                Next::Nothing => assert!(Instant::now() < end, "no answers came"),
            }
        }
    }

    /// How many items of the next answers were stored, and why the others were not.
    fn told(&mut self) -> (u64, Option<Refusal>) {
        let answers = self.answers();
        let (mut stored, mut refused) = (0, None);
        for answer in answers.answers {
            match answer.outcome {
                Outcome::Stored { .. } => {
                    assert!(refused.is_none(), "what follows a refused item is refused too");
                    stored += 1;
                }
                Outcome::Refused(refusal) => refused = refused.or(Some(refusal)),
            }
        }
        (stored, refused)
    }

    /// Stores a frame whose first item is `first`: sends it, and the rest at the time told, which
    /// is enough. How long it was told to wait, in milliseconds.
    fn store(&mut self, log: &str, first: u64, last: u64) -> u32 {
        self.send(log, first, last);
        let (stored, refused) = self.told();
        let Some(refusal) = refused else { return 0 };
        wait(&refusal);
        self.send(log, first + stored, last);
        let (rest, refused) = self.told();
        assert_eq!(refused, None, "came back after {} ms", refusal.retry_after);
        assert_eq!(stored + rest, last + 1 - first);
        refusal.retry_after
    }
}

/// Does as a refusal for rate tells.
fn wait(refusal: &Refusal) {
    assert_eq!(refusal.code, Code::Rate, "{refusal}");
    assert!(refusal.retry_after > 0);
    std::thread::sleep(Duration::from_millis(refusal.retry_after.into()));
}

#[test]
fn a_frame_beyond_a_logs_rate_is_stored_at_the_time_told() {
    let server = Server::start(Options::default().limit("appends_per_log_second", 50));
    let mut hand = Hand::join(&server, "ann");
    assert_eq!(hand.credit, None, "nobody knows which log will be meant");
    assert_eq!(hand.store("docs/a", 1, 50), 0);
    // 20 at 50 a second.
    hand.send("docs/a", 51, 70);
    let (stored, refused) = hand.told();
    let refusal = refused.unwrap();
    let left = 20 - stored;
    assert!(u64::from(refusal.retry_after) <= left * 20, "{refusal:?}, for {left}");
    // For another user the log is not held back for ever either, nor is another log at all.
    assert_eq!(Hand::join(&server, "ben").store("docs/b", 1, 50), 0);
    wait(&refusal);
    hand.send("docs/a", 51 + stored, 70);
    assert_eq!(hand.told(), (left, None));
    // The whole frame may come again too: what was stored of it costs nothing.
    hand.send("docs/a", 71, 150);
    wait(&hand.told().1.unwrap());
    hand.send("docs/a", 71, 150);
    assert_eq!(hand.told(), (80, None));
}

/// Five frames in flight at a rate that takes less than one of them in a second.
#[test]
fn a_lone_client_that_pipelines_gets_on_at_the_rate() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 100));
    let mut hand = Hand::join(&server, "ann");
    let began = Instant::now();
    let mut frames: VecDeque<(u64, u64)> = (0..5).map(|n| (120 * n + 1, 120 * (n + 1))).collect();
    let mut rounds = 0;
    while !frames.is_empty() {
        rounds += 1;
        assert!(rounds <= 6, "each round stores the frame that was told to wait");
        frames.iter().for_each(|(first, last)| hand.send("docs/a", *first, *last));
        let mut first_refused = None;
        for _ in std::mem::take(&mut frames) {
            // The answers of a frame that was put off whole may overtake those of one before it.
            for answer in hand.answers().answers {
                let Outcome::Refused(refusal) = answer.outcome else { continue };
                if first_refused.as_ref().is_none_or(|(seq, _)| answer.seq < *seq) {
                    first_refused = Some((answer.seq, refusal));
                }
            }
        }
        if let Some((seq, refusal)) = first_refused {
            let from = |n: u64| (seq.max(120 * n + 1), 120 * (n + 1));
            frames = (0..5).map(from).filter(|(first, last)| first <= last).collect();
            wait(&refusal);
        }
    }
    // Six hundred, a hundred of which were there. That it took no longer than it had to is said by
    // the rounds: each waits for as long as it was told.
    assert!(began.elapsed() >= Duration::from_millis(4_900), "{:?}", began.elapsed());
    assert_eq!(server.http().get("/v1/logs/docs/a?limit=0").number("highwater-head"), 600);
}

/// One tab sends frames of many, its sibling one append at a time: both get on, each at the time
/// told, and the one waits for no more than the other's turn. A machine that is slow makes neither
/// the times told longer nor more of them: rounds are counted, not seconds.
#[test]
fn siblings_take_turns() {
    const FRAMES: u64 = 6;
    let server = Server::start(Options::default().limit("appends_per_user_second", 200));
    let (mut many, mut single) = (Hand::join(&server, "ann"), Hand::join(&server, "ann"));
    many.store("docs/x", 1, 200);
    let done = AtomicBool::new(false);
    let (singles, longest) = std::thread::scope(|scope| {
        let singles = scope.spawn(|| {
            let (mut singles, mut longest) = (0, 0);
            // As many at least as the other stores, also where this one is late to begin.
            while singles < FRAMES || !done.load(Ordering::Relaxed) {
                singles += 1;
                longest = longest.max(single.store("docs/b", singles, singles));
            }
            (singles, longest)
        });
        for frame in 2..2 + FRAMES {
            many.store("docs/a", frame * 100 + 1, frame * 100 + 100);
        }
        done.store(true, Ordering::Relaxed);
        singles.join().unwrap()
    });
    assert!(longest <= 1_010, "a hundred and one take 505 ms; one was told to wait {longest}");
    let head = |log: &str| {
        let answer = server.http().get(&format!("/v1/logs/{log}?limit=0"));
        answer.number("highwater-head")
    };
    assert_eq!((head("docs/a"), head("docs/b")), (FRAMES * 100, singles));
}

/// Law 16. Two clients of a user append as much as their credit lets them, and are not refused; and
/// together they get what the user may: so much is told them, by the times that are told.
#[test]
fn who_keeps_to_its_credit_is_not_refused() {
    const ROUNDS: usize = 12;
    let server = Server::start(Options::default().limit("appends_per_user_second", 400));
    let began = Instant::now();
    let hands = [Hand::join(&server, "ann"), Hand::join(&server, "ann")];
    let runs: Vec<(u64, u64, u64)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (hands.into_iter().enumerate())
            .map(|(at, hand)| scope.spawn(move || by_credit(hand, &format!("docs/{at}"), ROUNDS)))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let stored: u64 = runs.iter().map(|(stored, ..)| stored).sum();
    let most = 400 + 400 * began.elapsed().as_millis() as u64 / 1_000;
    assert!(stored <= most, "{stored}, and {most} are allowed");
    let speed: u64 = runs.iter().map(|(_, told, after)| told * 1_000 / after.max(&1)).sum();
    assert!(speed >= 300, "four hundred a second are theirs, and they were told {runs:?}");
}

/// Appends as much as its credit lets it, so many times: how much that was, how much of it was told
/// behind the first answer, and after how many milliseconds all that was told to be there.
fn by_credit(mut hand: Hand, log: &str, rounds: usize) -> (u64, u64, u64) {
    let (mut next, mut told, mut after) = (1, 0, 0);
    for round in 0..rounds {
        let credit = hand.credit.expect("a share that is not too small");
        assert!(credit.appends > 0 && credit.bytes >= 8 * u64::from(credit.appends));
        if round > 0 {
            (told, after) = (told + u64::from(credit.appends), after + u64::from(credit.after));
        }
        std::thread::sleep(Duration::from_millis(credit.after.into()));
        // Two frames at once: what was told counts for both.
        let last = next + u64::from(credit.appends) - 1;
        let half = next + (last - next) / 2;
        hand.send(log, next, half);
        if half < last {
            hand.send(log, half + 1, last);
            assert_eq!(hand.told().1, None);
        }
        assert_eq!(hand.told().1, None);
        next = last + 1;
    }
    (next - 1, told, after)
}

#[test]
fn what_spends_nothing_costs_nothing() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 50));
    let mut hand = Hand::join(&server, "ann");
    // An earlier item is missing: nothing was stored, and the budget is whole.
    for _ in 0..4 {
        hand.send_after("docs/a", 7, 8, 57);
        let (stored, refused) = hand.told();
        assert_eq!((stored, refused.unwrap().code), (0, Code::SequenceGap));
    }
    hand.send("docs/a", 1, 50);
    assert_eq!(hand.told(), (50, None));
    // A repeat is held to the rate, and gives it back when it is known as one.
    assert!(hand.store("docs/a", 1, 50) > 0);
    hand.send("docs/a", 51, 100);
    assert_eq!(hand.told(), (50, None));
}

/// A notification costs each copy that it stores.
#[test]
fn notifications_cost_what_they_write() {
    let options = Options::default().limit("append_bytes_per_user_second", 256 << 10);
    let server = Server::start(options);
    let notify = |user: &str, logs: usize| {
        let http = server.http_as(Some(token(user, &[("**", "append")])));
        let logs: Vec<_> = (0..logs).map(|n| format!("docs/{n}")).collect();
        let record = json!({ "payload": "x".repeat(16 << 10) });
        http.post_json("/v1/notify", &json!({ "logs": logs, "record": record }))
    };
    // A mebibyte, a quarter of which is there.
    let began = Instant::now();
    notify("ann", 64).ok();
    assert!(began.elapsed() >= Duration::from_millis(2_900), "{:?}", began.elapsed());
    // 24 s of it and more: some is stored, and how much is told.
    let refused = notify("ben", 1_000);
    assert_eq!(refused.refusal(), (429, "rate".to_owned()));
    let stored = refused.json()["stored"].as_u64().unwrap();
    assert!(stored < 360, "{stored} copies of 16 KiB in 20 s at 256 KiB a second");
}

/// A client that may make a snapshot of a log with one record, at 64 KiB a second; the log's id.
fn maker_of_snapshots() -> (Server, Client, u64) {
    let options = Options::default()
        .limit("append_bytes_per_user_second", 64 << 10)
        .rule("made/**", "client", "");
    let server = Server::start(options);
    let mut maker = Client::new("mak").wanting("made/a").join(&server);
    maker.store("made/a", "x");
    maker.reach("made/a", 1);
    let log = maker.log("made/a").log;
    (server, maker, log)
}

/// Parts of a snapshot are charged. One that is put off is sent again, and the upload goes on.
#[test]
fn parts_of_snapshots_cost_their_bytes_and_are_put_off_one_by_one() {
    let (server, mut maker, log) = maker_of_snapshots();
    let bytes = |at: u32| vec![at as u8; 16 << 10];
    let send = |maker: &mut Client, request: u32, from: u32| {
        for part in from..12 {
            let (data, last) = (Payload::binary(bytes(part).into()), part == 11);
            let (offset, version) = (1, 1);
            let put = PutSnapshot { request, log, offset, version, part, last, data };
            maker.send(&ClientFrame::PutSnapshot(put));
        }
        maker.wait("an answer", |maker| !maker.done.is_empty() || !maker.refused.is_empty());
        maker.sync();
    };
    let began = Instant::now();
    send(&mut maker, 5, 0);
    let mut told = 0;
    while maker.done.is_empty() {
        assert_eq!(maker.refused.len(), 1, "one answer, and the parts behind it have none");
        let refusal = maker.refusal(5);
        wait(&refusal);
        told += 1;
        // From the beginning, or from the part that is named: what is there costs nothing.
        let named = refusal.message.split("part ").nth(1).and_then(|rest| rest.split(' ').next());
        let from = if told % 2 == 0 { 0 } else { named.unwrap().parse().unwrap() };
        send(&mut maker, 5, from);
    }
    assert!(told > 0 && maker.refused.is_empty());
    assert!(began.elapsed() >= Duration::from_millis(1_900), "192 KiB: {:?}", began.elapsed());
    let want: Vec<u8> = (0..12).flat_map(bytes).collect();
    assert_eq!(server.http().get("/v1/snapshots/made/a").ok().body, want);
}

/// Parts that the fold refuses wrote nothing.
#[test]
fn a_part_that_is_refused_costs_nothing() {
    let (_server, mut maker, log) = maker_of_snapshots();
    for request in 1..=20 {
        let data = Payload::binary(vec![0; 32 << 10].into());
        let (offset, version, part, last) = (7, 1, 0, true);
        let put = PutSnapshot { request, log, offset, version, part, last, data };
        maker.send(&ClientFrame::PutSnapshot(put));
        assert_eq!(maker.refusal(request).code, Code::SnapshotBeyond);
    }
}

/// A request that opens more new logs than the rates let be made, and that is refused as a whole,
/// has that one answer; and what the others would have cost is given back.
#[test]
fn promise_20_logs_of_a_request_that_is_refused_cost_nothing() {
    let options = Options::default().limit("activate_after_ms", 100);
    let options = options.limit("active_per_user", 1).limit("active_per_device", 1);
    let server = Server::start(options.limit("appends_per_user_second", 20));
    let _holder = Client::new("ann").join(&server);
    let mut other = Client::new("ann").join(&server);
    assert_eq!(other.met(), Met::Waiting);
    let began = Instant::now();
    let want = |client: &mut Client| {
        (0..30).for_each(|n| client.want(format!("new/{n}"), Start::State, 0));
    };
    want(&mut other);
    let mut early = true;
    while early {
        let asked = other.activate();
        let refusal = other.refusal(asked);
        assert_eq!(refusal.code, Code::Slots);
        early = refusal.message.contains("too early");
        other.sync();
        assert!(other.refused.is_empty(), "{:?}", other.refused);
    }
    // Nor does a client that is met without a slot, nor what the back end opens for one.
    let mut third = Client::new("ann");
    want(&mut third);
    let mut third = third.join(&server);
    third.sync();
    assert_eq!((third.met(), third.refused.len()), (Met::Waiting, 0), "{:?}", third.refused);
    let logs: Vec<_> = (0..15).map(|n| json!({ "name": format!("new/{n}") })).collect();
    let path = format!("/v1/connections/{}/subscribe", other.connection);
    let http = server.http_as(Some(token("ann", &[("**", "read append")])));
    let refused = http.post_json(&path, &json!({ "logs": logs })).refusal();
    assert_eq!(refused.1, "inactive");
    // The budget is whole, but for what other sockets hold of it as credit.
    let mut hand = Hand::join(&server, "ann");
    hand.send("docs/a", 1, 8);
    assert_eq!(hand.told(), (8, None), "{:?} later", began.elapsed());
}

/// Over HTTP what a user has to wait for in one log keeps it from no other.
#[test]
fn a_spent_log_keeps_its_user_from_no_other() {
    let server = Server::start(Options::default().limit("appends_per_log_second", 10));
    let http = server.http();
    let refused = http.post_lines("/v1/logs/docs/a", (0..300).map(|n| n.to_string()));
    assert_eq!(refused.refusal(), (429, "rate".to_owned()));
    http.post("/v1/logs/docs/b", "x").ok();
    let notify = |logs: &[&str]| {
        let body = json!({ "logs": logs, "record": { "payload": "x" } });
        http.post_json("/v1/notify", &body)
    };
    notify(&["docs/c", "docs/d"]).ok();
    assert_eq!(notify(&["docs/a"]).status, 429, "of that log all is owed");
    notify(&["docs/c", "docs/d"]).ok();
}

/// Over HTTP what was refused is set aside for whoever comes again then.
#[test]
fn http_is_told_a_time_that_is_enough() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 50));
    let texts = |count: usize| (0..count).map(|n| n.to_string());
    let mut hand = Hand::join(&server, "ann");
    let http = server.http_as(Some(token("ann", &[("**", "append")])));
    let named = format!("/v1/logs/docs/a?writer={}&seq=1", "1".repeat(32));
    for (path, first) in [("/v1/logs/docs/a", 1), (&named, 101)] {
        // The budget owes something: nothing is waited for.
        hand.send("docs/b", first, first + 99);
        let (stored, refused) = hand.told();
        let owed = refused.unwrap();
        let refused = http.post_lines(path, texts(60));
        assert_eq!(refused.refusal(), (429, "rate".to_owned()));
        let after = refused.json()["retry_after"].as_u64().unwrap();
        assert!(after >= 1_000, "60 at 50 a second, behind what is owed: {after}");
        std::thread::sleep(Duration::from_millis(after));
        http.post_lines(path, texts(60)).ok();
        wait(&owed);
        hand.send("docs/b", first + stored, first + 99);
        assert_eq!(hand.told(), (100 - stored, None));
    }
}
