//! Each promise of the design against the running system: the real server as a process, its store
//! on disk, sockets over loopback. What a promise says of the fold alone, or of several nodes, is
//! also held in `tests/fold` and `tests/journal_contract.rs`.

mod support;

use std::time::{Duration, Instant};

use highwater::wire::{
    Ack, Append, ClientFrame, Cloning, Code, Cursor, Encoding, Item, Met, Outcome, Payload, Reason,
    Record, Refresh, ResetReason, Start, Target,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{Client, Options, Server, WAIT, token, token_until, until};

/// A reader that takes a log from its first record on, whatever it has missed.
fn replay(server: &Server, user: &str, logs: &[&str]) -> Client {
    let mut reader = Client::new(user);
    reader.cloning = Cloning::None;
    for log in logs {
        reader.wants.insert((*log).to_owned(), (Start::Earliest, 0));
    }
    let mut reader = reader.join(server);
    for log in logs {
        reader.reach(log, 0);
    }
    reader
}

/// Where a log begins.
fn start_of(server: &Server, log: &str) -> u64 {
    let mut probe = Client::new("probe");
    probe.cloning = Cloning::None;
    probe.wants.insert(log.to_owned(), (Start::End, 0));
    let mut probe = probe.join(server);
    probe.wait("subscribed", |probe| probe.find(log).is_some());
    let start = probe.log(log).start;
    probe.leave(true);
    start
}

/// Asserts that what a writer was told is stored is there, once, where it was told.
fn assert_stored(writer: &Client, reader: &Client) {
    let mut stored = 0;
    for (seq, outcome) in &writer.writing.outcomes {
        let Outcome::Stored { log, offset, place, .. } = outcome else { continue };
        let seen = reader.seen.get(&(*log, *offset));
        let seen = seen.unwrap_or_else(|| panic!("seq {seq} at {offset} of log {log} is gone"));
        assert_eq!((seen.writer, seen.seq, seen.place), (writer.writing.id, *seq, *place));
        stored += 1;
    }
    let mine = reader.seen.values().filter(|seen| seen.writer == writer.writing.id);
    assert!(mine.count() >= stored);
    let mut seqs: Vec<_> = (reader.seen.iter())
        .filter(|(_, seen)| seen.writer == writer.writing.id)
        .map(|((log, offset), seen)| (*log, seen.seq, *offset))
        .collect();
    seqs.sort_unstable();
    for pair in seqs.windows(2) {
        let [(log, seq, offset), (next_log, next_seq, next_offset)] = pair else { continue };
        if log == next_log {
            assert!(seq < next_seq && offset < next_offset, "a writer's order, each once");
        }
    }
}

/// Whole, of one node: between two resets each record once, in order, over cuts and both encodings.
/// The client asserts it at each frame.
#[test]
fn promise_01_no_gap_no_repeat_in_order() {
    let seed = support::seed("promise_01");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start(Options::default());
    let logs = ["one/a", "one/b", "one/c"];
    let mut writer = Client::new("wim").join(&server);
    let mut readers: Vec<Client> = (0..4)
        .map(|n| {
            let mut reader = Client::new(&format!("reader-{n}"));
            reader.encoding = if n % 2 == 0 { Encoding::Bincode } else { Encoding::Json };
            for log in logs {
                reader = reader.wanting(log);
            }
            reader.join(&server)
        })
        .collect();
    let mut counts = [0_u64; 3];
    for step in 0..120 {
        let at = random.random_range(0..3);
        let many = random.random_range(1..20);
        writer.append_all(logs[at], (0..many).map(|n| format!("{step}.{n}")));
        counts[at] += many;
        let reader = &mut readers[random.random_range(0..4)];
        match random.random_range(0..10) {
            0 => {
                reader.cut();
                reader.connect(&server);
            }
            1..=5 => reader.drain(),
            _ => {}
        }
    }
    writer.settled();
    for reader in &mut readers {
        for (log, count) in logs.iter().zip(counts) {
            reader.reach(log, count);
            assert_eq!(reader.log(log).cursor, count);
        }
        assert_stored(&writer, reader);
        assert_eq!(reader.seen.len() as u64, counts.iter().sum::<u64>());
    }
}

/// Whole, of one node: what a reader saw before SIGKILL is there after it, at its offset. Loss of
/// power itself is not tried here: the writer fsyncs each batch before it tells of it.
#[test]
fn promise_02_durable_before_visible() {
    let mut server = Server::start(Options::default());
    let mut reader = Client::new("rea").wanting("two/log").join(&server);
    let mut writer = Client::new("wim").join(&server);
    for round in 0..3 {
        let before = reader.seen.len();
        for n in 0..40 {
            writer.append_all("two/log", (0..25).map(|m| format!("{round}.{n}.{m}")));
        }
        // Some of it has been seen, the rest is on its way: then the power goes.
        reader.wait("some records", |reader| reader.seen.len() > before + 50);
        server.kill9();
        while reader.step(Instant::now() + Duration::from_millis(100)) {}
        writer.drain();
        reader.cut();
        writer.cut();
        server.restart();
        let mut after = replay(&server, "after", &["two/log"]);
        after.sync();
        for (at, seen) in &reader.seen {
            assert_eq!(after.seen.get(at), Some(seen), "{at:?} was seen before the crash");
        }
        // It goes on from where it was; no offset was given twice.
        assert_eq!(reader.connect(&server), Met::Resumed);
        assert!(reader.welcome.is_some());
        writer.connect(&server);
        writer.settled();
        reader.reach("two/log", (round + 1) * 1_000);
        assert!(reader.log("two/log").resets.len() == 1, "one reset, at the very beginning");
    }
}

/// Against SIGKILL; loss of power is the fsync's affair (`tests/store.rs`).
#[test]
fn promise_03_acknowledged_survives_sigkill() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    let mut answered = 0;
    for round in 0..3 {
        for n in 0..30 {
            writer.append_all("three/log", (0..20).map(|m| format!("{round}.{n}.{m}")));
        }
        let enough = answered + 100;
        writer.wait("some answers", |writer| writer.writing.outcomes.len() > enough);
        server.kill9();
        while writer.step(Instant::now() + Duration::from_millis(100)) {}
        writer.cut();
        answered = writer.writing.outcomes.len();
        server.restart();
        let mut reader = replay(&server, "rea", &["three/log"]);
        reader.sync();
        assert_stored(&writer, &reader);
        writer.connect(&server);
        writer.settled();
        answered = answered.max(writer.writing.outcomes.len());
    }
    let mut reader = replay(&server, "rea", &["three/log"]);
    reader.reach("three/log", 1_800);
    assert_eq!(reader.seen.len(), 1_800);
    assert_stored(&writer, &reader);
}

/// Over a lost answer, a crash, another connection of the user, and long after: the years are the
/// fold's affair, where a mark is kept for as long (`tests/fold`).
#[test]
fn promise_04_exactly_once_in() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    writer.append_all("four/log", (0..50).map(|n| n.to_string()));
    // The answers are lost: the socket breaks before they are read.
    writer.cut();
    writer.connect(&server);
    writer.settled();
    // Said again, all of it, as if no answer had ever come: the same answers.
    let again: Vec<Item> = (1..=50)
        .map(|seq| Item {
            seq,
            prev: seq - 1,
            to: Target::Name("four/log".to_owned()),
            if_head: None,
            record: Record {
                payload: Some(Payload::text((seq - 1).to_string())),
                ..Record::default()
            },
        })
        .collect();
    let frame = |id| ClientFrame::Append(Append { writer: id, oldest: 1, items: again.clone() });
    let same = writer.writing.id;
    writer.send(&frame(same));
    writer.wait("all answers again", |writer| writer.writing.repeated >= 50);
    server.crash();
    writer.cut();
    writer.connect(&server);
    let repeated = writer.writing.repeated;
    writer.send(&frame(same));
    writer.wait("and after a crash", |writer| writer.writing.repeated >= repeated + 50);
    // Another connection of the user sends them, as a tab does for one that was closed.
    let mut heir = Client::new("wim");
    heir.writing = writer.writing.clone();
    let mut heir = heir.join(&server);
    let repeated = heir.writing.repeated;
    heir.send(&frame(same));
    heir.wait("and for an heir", |heir| heir.writing.repeated >= repeated + 50);
    let mut reader = replay(&server, "rea", &["four/log"]);
    reader.reach("four/log", 50);
    reader.sync();
    let texts: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(reader.log("four/log").texts(), texts, "each once, in the writer's order");
}

/// Whole, of one node, measured from outside: resident memory while readers stand still.
#[test]
fn promise_05_a_slow_reader_is_lag() {
    const STILL: usize = 20;
    let options = Options::default().limit("tail_bytes", 1 << 20).limit("window_bytes", 64 << 20);
    let server = Server::start(options);
    let mut writer = Client::new("wim").wanting("five/log").join(&server);
    let load = |writer: &mut Client| {
        for _ in 0..64 {
            writer.append_all("five/log", (0..16).map(|_| "x".repeat(8 << 10)));
            writer.settled();
        }
        let sent = writer.writing.last();
        writer.reach("five/log", sent);
        // What was kept to assert on is of no use to a server.
        writer.logs.values_mut().for_each(|held| held.records.clear());
    };
    load(&mut writer);
    let mut still: Vec<Client> = (0..STILL)
        .map(|n| {
            let mut reader = Client::new(&format!("still-{n}"));
            reader.acks = false;
            reader.window = 64 << 20;
            reader.wants.insert("five/log".to_owned(), (Start::End, 0));
            reader.join(&server)
        })
        .collect();
    load(&mut writer);
    let before = server.rss();
    // Nobody reads these sockets from here on; the writer, which reads too, is not held up.
    for _ in 0..3 {
        load(&mut writer);
    }
    let grown = server.rss().saturating_sub(before);
    let owed = 3 * 8 * (1 << 20) * STILL as u64;
    assert!(
        grown < owed / 6,
        "{grown} bytes more, while {owed} are owed to readers that stand still"
    );
    // And nothing was lost for them: they read on where they stopped.
    let last = writer.writing.last();
    for reader in still.iter_mut().take(3) {
        reader.acks = true;
        reader.reach("five/log", last);
    }
}

/// Whole, of one node.
#[test]
fn promise_06_quiet_logs_resume() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    for n in 0..7 {
        writer.store("six/quiet", &n.to_string());
    }
    let mut reader = Client::new("rea").wanting("six/quiet").join(&server);
    reader.reach("six/quiet", 7);
    reader.close();
    for round in 0..2 {
        server.crash();
        writer.cut();
        writer.connect(&server);
        writer.append_all("six/loud", (0..500).map(|n| format!("{round}.{n}")));
        writer.settled();
    }
    assert_eq!(reader.connect(&server), Met::Resumed);
    reader.reach("six/quiet", 7);
    assert_eq!(reader.log("six/quiet").resets, [ResetReason::New], "only the very first one");
    assert_eq!(writer.store("six/quiet", "at last"), 7);
    reader.reach("six/quiet", 8);
    assert_eq!(reader.log("six/quiet").texts().len(), 8);
}

/// Whole, of one node: a range that retention took is told before anything later of its log.
#[test]
fn promise_07_a_gap_is_told() {
    let server = Server::start(Options::default().rule("seven/**", "none", "retain_records = 20"));
    let mut writer = Client::new("wim").join(&server);
    let mut reader = Client::new("rea").wanting("seven/log").join(&server);
    for n in 0..5 {
        writer.store("seven/log", &n.to_string());
    }
    reader.reach("seven/log", 5);
    reader.close();
    writer.append_all("seven/log", (5..200).map(|n| n.to_string()));
    writer.settled();
    // Who holds the floor is downgraded before the trim; then the log begins later.
    let mut start = 0;
    until("the log to be trimmed", || {
        start = start_of(&server, "seven/log");
        start > 0
    });
    assert!((100..200).contains(&start), "{start}");
    assert_eq!(reader.connect(&server), Met::Restored, "retention had to pass its floor");
    reader.reach("seven/log", 200);
    let held = reader.log("seven/log");
    assert_eq!(held.gaps.len(), 1);
    let gap = &held.gaps[0];
    assert_eq!((gap.from, gap.to), (5, start));
    let seen: Vec<u64> = held.records.keys().copied().collect();
    assert_eq!(seen, (0..5).chain(start..200).collect::<Vec<_>>(), "nothing else is missing");
}

/// Whole, of one node; the client also asserts at each frame that what it shows never goes back.
#[test]
fn promise_08_nothing_goes_backwards() {
    let mut server = Server::start(Options::default());
    let mut first = Client::new("ann").wanting("eight/log").join(&server);
    let mut second = Client::new("ann").wanting("eight/log").join(&server);
    assert_eq!(second.met(), Met::Cloned);
    for round in 0..3 {
        for n in 0..10 {
            first.store("eight/log", &format!("first {round}.{n}"));
            second.store("eight/log", &format!("second {round}.{n}"));
        }
        let own = second.writing.outcomes.values().filter_map(|outcome| match outcome {
            Outcome::Stored { offset, .. } => Some(*offset),
            Outcome::Refused(_) => None,
        });
        let own = own.max().unwrap();
        first.reach("eight/log", own + 1);
        first.ack();
        let source = first.log("eight/log").cursor;
        // It leaves before it has read all; once it also forgets all it held.
        second.leave(false);
        if round == 1 {
            second.logs.clear();
        }
        if round == 2 {
            server.crash();
            first.cut();
            assert_eq!(first.connect(&server), Met::Resumed);
        }
        assert_eq!(second.connect(&server), Met::Cloned);
        second.wait("subscribed", |client| client.find("eight/log").is_some_and(|held| held.open));
        let held = second.log("eight/log");
        assert!(held.complete > own, "its own acknowledged appends are in: {}", held.complete);
        assert!(held.complete >= source, "what the source has seen is in");
        second.reach("eight/log", own + 1);
    }
}

fn entries(server: &Server, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", server.pid())).unwrap().count()
}

/// Of one node, from outside: no thread, no file descriptor, no retention, hardly any memory.
#[test]
fn promise_09_inactive_costs_nothing() {
    let options = Options::default()
        .limit("detached_limit_seconds", 1)
        .limit("connections_per_user", 1_000)
        .rule("nine/**", "none", "retain_records = 10");
    let server = Server::start(options);
    let mut writer = Client::new("wim").join(&server);
    writer.store("nine/log", "0");
    writer.sync();
    let (threads, files) = (entries(&server, "task"), entries(&server, "fd"));
    let mut gone = Vec::new();
    let mut before = 0;
    for n in 0..300 {
        let mut client = Client::new(&format!("user-{n}")).wanting("nine/log").join(&server);
        client.reach("nine/log", 1);
        client.close();
        gone.push(client);
        if n == 100 {
            before = server.rss();
        }
    }
    // A row each: their cursors hold nothing back once they are inactive.
    writer.append_all("nine/log", (1..100).map(|n| n.to_string()));
    writer.settled();
    let back = &mut gone[0];
    until("it to be downgraded", || {
        let met = back.connect(&server);
        back.close();
        met == Met::Restored || met == Met::Fresh
    });
    back.connect(&server);
    back.reach("nine/log", 100);
    until("retention to pass their cursors", || start_of(&server, "nine/log") > 50);
    back.close();
    let held = |now: usize, then: usize| now <= then + 2;
    until("sockets to be given back", || held(entries(&server, "fd"), files + 2));
    assert!(held(entries(&server, "task"), threads), "no thread stays");
    let each = server.rss().saturating_sub(before) / 200;
    assert!(each < 64 << 10, "{each} bytes for each that came and went");
}

/// Of the socket's queues: appends of a writer, the inbox, rates, sockets. Those of HTTP are held
/// in its own tests.
#[test]
fn promise_10_every_queue_is_bounded() {
    let options = Options::default()
        .limit("record_bytes", 16 << 10)
        .limit("frame_bytes", 64 << 10)
        .limit("snapshot_part_bytes", 16 << 10)
        .limit("http_body_bytes", 64 << 10)
        .limit("queue_bytes", 1 << 20)
        .limit("appends_per_user_second", 20_000)
        .limit("append_bytes_per_user_second", 1 << 30)
        .limit("sockets", 6);
    let server = Server::start(options);
    let mut many: Vec<Client> =
        (0..6).map(|n| Client::new(&format!("u{n}")).join(&server)).collect();
    // One socket too many: refused before the upgrade, with a status.
    let refused = support::Link::try_open(server.address, Encoding::Json);
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
        panic!("a seventh socket was let in")
    };
    assert_eq!(response.status(), 503);
    // More than the inbox holds: a typed refusal with a time, and in the end all is stored once.
    for client in &mut many {
        client.resends = false;
        for _ in 0..60 {
            client.append_all("ten/log", (0..4).map(|_| "x".repeat(15 << 10)));
        }
    }
    let mut overloaded = 0;
    for client in &mut many {
        client.sync();
        for (_, refusal) in &client.writing.put_off {
            assert!([Code::Overloaded, Code::SequenceGap].contains(&refusal.code), "{refusal:?}");
            if refusal.code == Code::Overloaded {
                assert!(refusal.retry_after > 0);
                overloaded += 1;
            }
        }
        client.resends = true;
        client.resend();
    }
    println!("{overloaded} appends were put off");
    for client in &mut many {
        client.settled();
    }
    let mut client = many.pop().unwrap();
    client.subscribe("ten/log", Start::Earliest, 0);
    client.reach("ten/log", 6 * 240);
    assert_eq!(client.seen.len(), 6 * 240);
    // More than a writer may have without an answer confirmed.
    let texts = (0..1_024).map(|n| n.to_string());
    let mut writer = Client::new("held");
    many.clear();
    until("a socket to be free", || {
        support::Link::try_open(server.address, Encoding::Json).is_ok()
    });
    until("a socket to be free again", || {
        writer.encoding = Encoding::Bincode;
        support::Link::try_open(server.address, Encoding::Json).is_ok()
    });
    let mut writer = writer.join(&server);
    writer.resends = false;
    writer.append_all("ten/held", texts);
    writer.settled();
    let record = Record { payload: Some(Payload::text("one more")), ..Record::default() };
    let item = writer.writing.number(Target::Name("ten/held".to_owned()), record);
    let id = writer.writing.id;
    writer.send(&ClientFrame::Append(Append { writer: id, oldest: 1, items: vec![item] }));
    writer.wait("in_flight", |writer| !writer.writing.put_off.is_empty());
    assert_eq!(writer.writing.put_off[0].1.code, Code::InFlight);
    writer.resend();
    writer.settled();
}

/// A user's rate is decided before anything is stored, and told with a time.
#[test]
fn promise_10_rates_are_told() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 10));
    let mut client = Client::new("fast").join(&server);
    client.resends = false;
    // A second's worth is at least one full frame; this is two and more.
    for n in 0..10 {
        client.append_all("ten/rate", (0..256).map(|m| format!("{n}.{m}")));
    }
    client.sync();
    let refused: Vec<_> = client.writing.put_off.iter().map(|(_, refusal)| refusal).collect();
    assert!(refused.iter().any(|refusal| refusal.code == Code::Rate && refusal.retry_after > 0));
    let mut other = Client::new("slow").join(&server);
    other.store("ten/rate", "not disturbed");
}

/// Of sockets: grants at subscription, at delivery, at expiry, at refresh, and for a clone. Those
/// of HTTP are held in its own tests, revocation there too.
#[test]
fn promise_11_nobody_reads_outside_their_grant() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    writer.store("open/log", "0");
    writer.store("secret/log", "0");
    // Foreign logs are refused by name, the others opened.
    let narrow = token("ann", &[("open/**", "read")]);
    let mut ann = Client::with(Some(narrow.clone())).wanting("open/log").wanting("secret/log");
    ann = ann.join(&server);
    ann.reach("open/log", 1);
    ann.wait("a refusal", |ann| !ann.refused.is_empty());
    assert_eq!(ann.refused[0].name.as_deref(), Some("secret/log"));
    assert_eq!(ann.refused[0].refusal.code, Code::Denied);
    assert!(ann.find("secret/log").is_none());
    let seq = ann.append("open/log", "may not");
    ann.settled();
    let outcome = &ann.writing.outcomes[&seq];
    assert!(matches!(outcome, Outcome::Refused(refusal) if refusal.code == Code::Denied));
    // A clone of one that may more does not widen.
    let wide = token("ann", &[("**", "read append")]);
    let mut source = Client::with(Some(wide)).wanting("open/log").wanting("secret/log");
    source.cloning = Cloning::None;
    let mut source = source.join(&server);
    source.reach("secret/log", 1);
    let mut clone = Client::with(Some(narrow.clone())).join(&server);
    assert_eq!(clone.met(), Met::Cloned);
    clone.reach("open/log", 1);
    clone.sync();
    assert!(clone.find("secret/log").is_none(), "{:?}", clone.logs);
    // A refresh to a narrower token ends what it does not cover, at once.
    source.send(&ClientFrame::Refresh(Refresh { token: narrow }));
    source.wait("unsubscribed", |source| !source.ended.is_empty());
    assert_eq!(source.ended[0].reason, highwater::wire::Ended::Denied);
    writer.store("secret/log", "1");
    writer.store("open/log", "1");
    for client in [&mut ann, &mut clone, &mut source] {
        client.reach("open/log", 2);
        client.sync();
        assert!(client.find("secret/log").is_none());
    }
    let secret = writer.writing.outcomes.values().filter_map(|outcome| match outcome {
        Outcome::Stored { log, offset, .. } => Some((*log, *offset)),
        Outcome::Refused(_) => None,
    });
    let secret: Vec<_> =
        secret.filter(|(log, offset)| *offset == 1 && *log != ann.log("open/log").log).collect();
    for client in [&ann, &clone, &source] {
        assert!(secret.iter().all(|at| !client.seen.contains_key(at)), "a secret was delivered");
    }
    // Another user's token does not take the place of one's own.
    let other = token("bob", &[("**", "read")]);
    source.send(&ClientFrame::Refresh(Refresh { token: other }));
    assert_eq!(source.refusal(0).code, Code::Unauthorized);
}

/// The end of a token ends delivery, not the socket; a refresh goes on from the cursors.
#[test]
fn promise_11_a_token_ends_in_the_middle_of_a_stream() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    let soon = support::now_ms() + 1_500;
    let mut reader = Client::with(Some(token_until("rea", &[("**", "read append")], soon)));
    reader = reader.wanting("eleven/log").join(&server);
    writer.store("eleven/log", "before");
    reader.reach("eleven/log", 1);
    reader.wait("the end of the token", |reader| {
        reader.refused.iter().any(|refused| refused.refusal.code == Code::TokenExpired)
    });
    let before = server.ticks();
    for n in 0..20 {
        writer.store("eleven/log", &n.to_string());
    }
    reader.sync();
    assert_eq!(reader.log("eleven/log").cursor, 1, "nothing is delivered after the end");
    reader.resends = false;
    reader.append("eleven/log", "too late");
    reader.wait("a refusal", |reader| !reader.writing.put_off.is_empty());
    assert_eq!(reader.writing.put_off[0].1.code, Code::TokenExpired);
    // Waiting for a refresh costs no work: what is owed is not tried again and again.
    std::thread::sleep(Duration::from_millis(500));
    let used = server.ticks() - before;
    assert!(used < 30, "{used} ticks of 10 ms while nothing could be done");
    let fresh = token("rea", &[("**", "read append")]);
    reader.send(&ClientFrame::Refresh(Refresh { token: fresh }));
    reader.wait("refreshed", |reader| !reader.refreshed.is_empty());
    reader.resend();
    reader.settled();
    reader.reach("eleven/log", 22);
}

/// Of one node; between nodes it is the fold's affair (`tests/fold`).
#[test]
fn promise_12_one_socket_per_connection() {
    let server = Server::start(Options::default().limit("commit_interval_ms", 50));
    let mut writer = Client::new("wim").join(&server);
    for n in 0..10 {
        writer.store("twelve/log", &n.to_string());
    }
    let mut old = Client::new("rea");
    old.acks = false;
    old.cloning = Cloning::None;
    old.wants.insert("twelve/log".to_owned(), (Start::Committed, 0));
    let mut old = old.join(&server);
    old.reach("twelve/log", 10);
    let log = old.log("twelve/log").log;
    let generation = old.welcome.as_ref().unwrap().generation;
    let mut new = Client::with(old.token.clone());
    new.id = old.id;
    new.acks = false;
    new.cloning = Cloning::None;
    new.wants = old.wants.clone();
    let mut new = new.join(&server);
    assert_eq!(new.met(), Met::Resumed);
    assert!(new.welcome.as_ref().unwrap().generation > generation);
    new.reach("twelve/log", 10);
    // The zombie says that it has seen all of it; that does not count any more.
    old.ack();
    assert_eq!(old.until_closed(), 4000 + Code::Fenced.number());
    let bye = old.bye.as_ref().unwrap();
    assert_eq!((bye.code, bye.reconnect), (Code::Fenced, false));
    new.send(&ClientFrame::Ack(Ack {
        received: new.received,
        cursors: vec![Cursor { log, next: 3 }],
    }));
    new.sync();
    new.close();
    writer.store("twelve/log", "10");
    assert_eq!(old.seen.len(), 10, "and it reads nothing on");
    // What counts is what the newest socket committed.
    new.logs.clear();
    assert_eq!(new.connect(&server), Met::Resumed);
    new.wait("subscribed", |new| new.find("twelve/log").is_some());
    assert_eq!(*new.log("twelve/log").records.keys().next().unwrap_or(&3), 3);
    new.wait("the rest", |new| new.log("twelve/log").cursor == 11);
    assert_eq!(new.log("twelve/log").records.keys().next(), Some(&3));
}

/// Of one node: a store that was folded over crashes is, to every reader, the store it was. That
/// two nodes on one journal end with the same keys and values is held in `tests/same_state.rs`.
#[test]
fn promise_13_the_same_journal_gives_the_same_state() {
    let options = Options::default().rule("thirteen/latest", "latest", "");
    let mut server = Server::start(options);
    let mut writer = Client::new("wim").wanting("thirteen/latest").join(&server);
    let names = ["thirteen/a", "thirteen/b", "thirteen/latest"];
    for n in 0..60 {
        writer.append("thirteen/a", &n.to_string());
        writer.append("thirteen/b", &n.to_string());
        let key = format!("k{}", n % 7);
        let text = n.to_string();
        writer.put("thirteen/latest", &key, (n % 5 > 0).then_some(text.as_str()));
    }
    writer.settled();
    let read = |server: &Server| {
        let mut all = replay(server, "rea", &names);
        all.sync();
        let mut view = Client::new("view").wanting("thirteen/latest").join(server);
        view.reach("thirteen/latest", 60);
        (all.seen, view.log("thirteen/latest").keys.clone())
    };
    let before = read(&server);
    assert_eq!(before.0.len(), 180);
    writer.reach("thirteen/latest", 60);
    assert_eq!(
        writer.log("thirteen/latest").keys,
        before.1,
        "by records or by base, it is one view"
    );
    for _ in 0..2 {
        server.crash();
        assert_eq!(read(&server), before);
    }
    assert!(server.terminate().success());
    server.restart();
    assert_eq!(read(&server), before);
}

/// Of one node: cuts, downgrades and crashes end, and everyone has everything.
#[test]
fn promise_14_eventual_delivery() {
    let seed = support::seed("promise_14");
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::start(Options::default().rule("fourteen/keys", "latest", ""));
    let mut clients: Vec<Client> = ["ann", "ann", "bob", "bob", "eve"]
        .map(|user| {
            Client::new(user).wanting("fourteen/log").wanting("fourteen/keys").join(&server)
        })
        .into();
    for step in 0..150 {
        if step == 50 || step == 100 {
            server.crash();
            for client in &mut clients {
                client.cut();
                client.connect(&server);
            }
        }
        let at = random.random_range(0..clients.len());
        let client = &mut clients[at];
        match random.random_range(0..12) {
            0 => {
                client.cut();
                client.connect(&server);
            }
            1 => {
                client.leave(false);
                client.connect(&server);
            }
            2..=4 => client.drain(),
            5..=8 => {
                client.append("fourteen/log", &format!("{at}.{step}"));
            }
            _ => {
                let key = format!("k{}", random.random_range(0..20));
                let text = format!("{at}.{step}");
                let text = random.random_bool(0.8).then_some(text.as_str());
                client.put("fourteen/keys", &key, text);
            }
        }
    }
    let mut stored = 0;
    for client in &mut clients {
        client.settled();
        stored += client.writing.outcomes.len();
    }
    let mut all = replay(&server, "all", &["fourteen/log", "fourteen/keys"]);
    all.sync();
    assert_eq!(all.seen.len(), stored, "each accepted record is there, once");
    let texts = all.log("fourteen/log").texts();
    let head = all.log("fourteen/keys").cursor;
    let keys = {
        let mut view = Client::new("view").wanting("fourteen/keys").join(&server);
        view.reach("fourteen/keys", head);
        view.log("fourteen/keys").keys.clone()
    };
    for client in &mut clients {
        assert!(client.active);
        client.reach("fourteen/log", texts.len() as u64);
        client.reach("fourteen/keys", head);
        assert_eq!(client.log("fourteen/log").texts(), texts);
        assert_eq!(client.log("fourteen/keys").keys, keys, "equal logs give equal views");
        assert_stored(client, &all);
    }
    assert_ne!(clients[0].reason, Some(Reason::Lag));
    assert!(WAIT > Duration::ZERO);
}
