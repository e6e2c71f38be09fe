//! Delivery: catch-up from tail and store, order and fairness, the window, bases, snapshots made by
//! clients, both encodings, many sockets.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Client, Options, SOON, Server, until};
use highwater::wire::{
    Ack, ClientFrame, Cloning, Code, Cursor, Encoding, Payload, PutSnapshot, ResetReason, Seek,
    Start,
};

fn in_encoding(user: &str, encoding: Encoding) -> Client {
    let mut client = Client::new(user);
    client.encoding = encoding;
    client
}

fn texts(range: std::ops::Range<usize>, size: usize) -> impl Iterator<Item = String> {
    range.map(move |n| format!("{n:0>size$}"))
}

/// Writes records of a size until a log has so many.
fn fill(writer: &mut Client, log: &str, records: usize, size: usize) {
    for from in (0..records).step_by(100) {
        writer.append_all(log, texts(from..records.min(from + 100), size));
        writer.settled();
    }
}

#[test]
fn catch_up_reads_store_and_tail_in_both_encodings() {
    let server = Server::start(Options::default().limit("tail_bytes_per_log", 4 << 10));
    let mut writer = Client::new("wim").join(&server);
    // Somebody watches, so that there is a tail; most of the log is only in the store.
    let mut watcher = Client::new("eye").wanting("docs/a").join(&server);
    fill(&mut writer, "docs/a", 3_000, 40);
    watcher.reach("docs/a", 3_000);
    for encoding in Encoding::ALL {
        for (start, from) in [
            (Start::State, 0),
            (Start::Earliest, 0),
            (Start::Offset(1_234), 1_234),
            (Start::Offset(2_999), 2_999),
            (Start::End, 3_000),
        ] {
            let mut reader = in_encoding("rea", encoding);
            reader.cloning = Cloning::None;
            reader.want("docs/a", start, 0);
            let mut reader = reader.join(&server);
            reader.reach("docs/a", 3_000);
            let held = reader.log("docs/a");
            assert_eq!(held.records.len() as u64, 3_000 - from, "{start:?} {encoding:?}");
            assert_eq!(held.texts(), texts(from as usize..3_000, 40).collect::<Vec<_>>());
            let resets = if start == Start::State { vec![ResetReason::New] } else { vec![] };
            assert_eq!(held.resets, resets);
            reader.leave(true);
        }
    }
}

/// Runs a test with one thread of fan-out, and with three that share the logs.
fn on_one_thread_and_three(test: impl Fn(&Server)) {
    for threads in [1, 3] {
        test(&Server::start(Options::default().limit("fan_out_threads", threads)));
    }
}

#[test]
fn json_and_bincode_meet_on_one_log() {
    on_one_thread_and_three(json_and_bincode_meet);
}

fn json_and_bincode_meet(server: &Server) {
    let mut json = in_encoding("jay", Encoding::Json).wanting("docs/a").join(server);
    let mut binary = in_encoding("bin", Encoding::Bincode).wanting("docs/a").join(server);
    for n in 0..50 {
        json.append("docs/a", &format!("jay {n} \u{1f600} \" \\ \n"));
        binary.append("docs/a", &format!("bin {n}"));
    }
    json.settled();
    binary.settled();
    json.reach("docs/a", 100);
    binary.reach("docs/a", 100);
    assert_eq!(json.seen, binary.seen);
}

#[test]
fn catch_up_goes_by_priority_then_round_robin() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    for log in ["p/low", "p/first", "p/one", "p/two", "p/three"] {
        fill(&mut writer, log, 200, 1_000);
    }
    let mut reader = Client::new("rea");
    for (log, priority) in
        [("p/low", 9), ("p/first", 0), ("p/one", 4), ("p/two", 4), ("p/three", 4)]
    {
        reader.want(log, Start::State, priority);
    }
    reader.window = 64 << 10;
    let mut reader = reader.join(&server);
    for log in ["p/low", "p/first", "p/one", "p/two", "p/three"] {
        reader.reach(log, 200);
    }
    let names: BTreeMap<u64, &str> =
        reader.logs().values().map(|held| (held.log, held.name.as_str())).collect();
    let order: Vec<&str> = reader.deliveries.iter().map(|log| names[log]).collect();
    let first = |name: &str| order.iter().position(|log| *log == name).unwrap();
    let last = |name: &str| order.iter().rposition(|log| *log == name).unwrap();
    for middle in ["p/one", "p/two", "p/three"] {
        assert!(last("p/first") < first(middle), "{order:?}");
        assert!(last(middle) < first("p/low"), "{order:?}");
    }
    // Equals take turns: none is through before another has begun.
    for one in ["p/one", "p/two", "p/three"] {
        for other in ["p/one", "p/two", "p/three"] {
            assert!(first(one) < last(other), "{order:?}");
        }
    }
}

#[test]
fn asked_again_a_log_keeps_its_cursor_and_takes_the_new_priority() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    writer.store("docs/a", "0");
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", 1);
    // The client asserts that the cursor told is the one it has, and that no reset follows.
    reader.subscribe("docs/a", Start::Earliest, 7);
    reader.wait("subscribed again", |reader| {
        reader.find("docs/a").is_some_and(|held| held.priority == 7)
    });
    writer.store("docs/a", "1");
    reader.reach("docs/a", 2);
    assert_eq!(reader.log("docs/a").resets, [ResetReason::New]);
    assert_eq!(reader.log("docs/a").records.len(), 2);
    // Both in one list: it is opened once, and takes the later priority.
    let open = |priority| highwater::wire::Open {
        name: "docs/b".to_owned(),
        have: None,
        start: Start::State,
        priority,
    };
    let both = vec![open(1), open(2)];
    reader.send(&ClientFrame::Subscribe(highwater::wire::Subscribe {
        request: 3,
        open: both,
        bases: vec![],
    }));
    reader.reach("docs/b", 0);
    assert_eq!(reader.log("docs/b").priority, 2);
}

/// A reader that never acknowledges gets a window's worth, and the node rests meanwhile.
#[test]
fn the_window_is_honoured() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    fill(&mut writer, "docs/a", 400, 1_000);
    let mut reader = Client::new("rea").wanting("docs/a");
    reader.ack_after = None;
    reader.window = 64 << 10;
    let mut reader = reader.join(&server);
    // The client asserts at each frame that the window is not passed. All that it has room for has
    // been sent once the server has stood still over many looks.
    reader.wait("a good part of the window", |reader| reader.received > 30 << 10);
    let (mut sent, mut looks) = (0, 0);
    until("the window to be full", || {
        let now = server.shows(reader.connection)["socket"]["sent"].as_u64().unwrap();
        looks = if now == sent { looks + 1 } else { 0 };
        sent = now;
        looks == 50
    });
    reader.sync();
    let (got, cursor) = (reader.received, reader.log("docs/a").cursor);
    assert!(got == sent && got <= 64 << 10 && cursor < 400, "{got} of {sent} to {cursor}");
    let before = server.ticks();
    fill(&mut writer, "docs/a", 10, 1_000);
    std::thread::sleep(Duration::from_millis(1_000));
    reader.sync();
    assert_eq!(reader.received, got, "nothing more without an acknowledgement");
    let used = server.ticks() - before;
    assert!(used < 40, "{used} ticks of 10 ms in a second: it tries what cannot succeed");
    // Each acknowledgement lets a little more through.
    reader.ack();
    reader.wait("more", |reader| reader.log("docs/a").cursor > cursor);
    reader.ack_after = SOON;
    reader.ack();
    reader.reach("docs/a", 410);
}

/// A frame larger than the window passes when nothing is unacknowledged.
#[test]
fn a_frame_larger_than_the_window_passes_alone() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    let mut reader = Client::new("rea").wanting("docs/a");
    reader.window = 64 << 10;
    let mut reader = reader.join(&server);
    for n in 0..5 {
        writer.store("docs/a", &format!("{n}{}", "x".repeat(200_000)));
        writer.store("docs/a", "small");
    }
    reader.reach("docs/a", 10);
}

/// What readers that are behind cost does not grow with how far behind they are.
#[test]
fn a_behind_reader_costs_a_constant() {
    const READERS: usize = 60;
    let options = Options::default()
        .limit("tail_bytes", 1 << 20)
        .limit("retained_bytes_limit", 1 << 40)
        .limit("lag_limit_records", 1_000_000);
    let server = Server::start(options);
    let mut writer = Client::new("wim").join(&server);
    let load = |writer: &mut Client| fill(writer, "docs/a", 800, 10_000);
    load(&mut writer);
    let mut readers: Vec<Client> = (0..READERS)
        .map(|n| {
            let mut reader = Client::new(&format!("rea-{n}")).wanting("docs/a");
            reader.ack_after = None;
            reader.window = 64 << 10;
            reader.join(&server)
        })
        .collect();
    for reader in &mut readers {
        reader.wait("the first of it", |reader| reader.received > 0);
    }
    load(&mut writer);
    let before = server.rss();
    // Each is 8 MB further behind after this, and 8 MB more.
    load(&mut writer);
    load(&mut writer);
    let grown = server.rss().saturating_sub(before);
    let lag = (READERS * 2 * 8) << 20;
    assert!(grown < lag as u64 / 10, "{grown} bytes for {lag} bytes of lag");
    let reader = &mut readers[0];
    reader.ack_after = SOON;
    reader.ack();
    reader.reach("docs/a", 3_200);
}

#[test]
fn a_latest_base_in_pages_while_writes_go_on() {
    let server = Server::start(Options::default().rule("state/**", "latest", ""));
    let mut writer = Client::new("wim").join(&server);
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    let mut put = |writer: &mut Client, n: usize| {
        let key = format!("key-{}", n * 7 % 300);
        let text = (!n.is_multiple_of(11)).then(|| format!("{n}{}", "x".repeat(1_000)));
        writer.put("state/a", &key, text.as_deref());
        match text {
            Some(text) => drop(model.insert(key, text)),
            None => drop(model.remove(&key)),
        }
    };
    for n in 0..600 {
        put(&mut writer, n);
    }
    writer.settled();
    let mut readers: Vec<Client> = (0..6)
        .map(|n| {
            let encoding = Encoding::ALL[n % 2];
            let mut reader = in_encoding(&format!("rea-{n}"), encoding).wanting("state/a");
            reader.window = 64 << 10;
            reader.join(&server)
        })
        .collect();
    for n in 600..1_400 {
        put(&mut writer, n);
        if n % 10 == 0 {
            let reader = &mut readers[n / 10 % 6];
            reader.step(std::time::Instant::now() + Duration::from_millis(20));
        }
    }
    writer.settled();
    for reader in &mut readers {
        reader.reach("state/a", 1_400);
        let held = reader.log("state/a");
        let state: BTreeMap<String, String> = (held.keys.iter())
            .map(|(key, (_, bytes))| (key.clone(), String::from_utf8(bytes.clone()).unwrap()))
            .collect();
        assert_eq!(state, model);
        assert!(held.records.len() < 1_400, "a base, and not the whole history");
    }
}

fn part(request: u32, log: u64, offset: u64, part: u32, last: bool, bytes: &[u8]) -> ClientFrame {
    let data = Payload::binary(bytes.to_vec().into());
    ClientFrame::PutSnapshot(PutSnapshot { request, log, offset, version: 3, part, last, data })
}

/// Snapshots that nothing can be made of, by request, and why.
fn bad_snapshots(log: u64) -> [(u32, Vec<ClientFrame>, Code); 5] {
    let big = vec![7; (256 << 10) + 1];
    [
        (11, vec![part(11, log, 61, 0, true, b"x")], Code::SnapshotBeyond),
        (12, vec![part(12, log, 60, 1, true, b"x")], Code::SnapshotParts),
        (13, vec![part(13, log, 60, 0, true, &big)], Code::TooLarge),
        (14, vec![part(14, 99, 60, 0, true, b"x")], Code::UnknownLog),
        (
            15,
            vec![
                part(15, log, 60, 0, false, b"x"),
                part(15, log, 60, 2, false, b"x"),
                part(15, log, 60, 3, true, b"x"),
            ],
            Code::SnapshotParts,
        ),
    ]
}

#[test]
fn snapshots_made_by_clients() {
    let server = Server::start(Options::default().rule("made/**", "client", "ask_after = 50"));
    let mut maker = Client::new("mak").wanting("made/a").join(&server);
    maker.reach("made/a", 0);
    fill(&mut maker, "made/a", 60, 10);
    maker.reach("made/a", 60);
    maker.wait("to be asked", |maker| !maker.wanted.is_empty());
    let log = maker.log("made/a").log;
    let (asked, at_least) = maker.wanted[0];
    assert!(asked == log && (50..=60).contains(&at_least), "{at_least}");
    // What is wrong with one is told of each part, and nothing of it counts.
    for (request, frames, code) in bad_snapshots(log) {
        frames.iter().for_each(|frame| maker.send(frame));
        assert_eq!(maker.refusal(request).code, code, "{request}");
        maker.sync();
        // Behind a part that was refused each is, until one begins anew.
        let behind = if request == 15 { 1 } else { 0 };
        for _ in 0..behind {
            assert_eq!(maker.refusal(request).code, Code::SnapshotParts);
        }
        assert!(maker.refused.is_empty(), "{request}: {:?}", maker.refused);
    }
    assert!(maker.done.is_empty());
    // In parts; it counts with the last.
    let parts: Vec<Vec<u8>> = (0..3_u8).map(|n| vec![n; 100_000]).collect();
    for (n, bytes) in parts.iter().enumerate() {
        maker.send(&part(20, log, 60, n as u32, n == 2, bytes));
    }
    maker.wait("done", |maker| maker.done == [20]);
    maker.send(&part(21, log, 60, 0, true, b"x"));
    assert_eq!(maker.refusal(21).code, Code::SnapshotBehind);
    fill(&mut maker, "made/a", 5, 10);
    // A newcomer gets it as base, then what follows, in either encoding and a small window.
    for encoding in Encoding::ALL {
        let mut reader = in_encoding("rea", encoding).wanting("made/a");
        reader.cloning = Cloning::None;
        reader.window = 64 << 10;
        let mut reader = reader.join(&server);
        reader.reach("made/a", 65);
        let held = reader.log("made/a");
        let (offset, bytes) = held.base.as_ref().unwrap();
        assert_eq!((*offset, bytes), (60, &parts.concat()));
        assert_eq!(held.records.keys().copied().collect::<Vec<_>>(), (60..65).collect::<Vec<_>>());
        // Seek back to the state: it comes again, told as asked for.
        reader.shown.clear();
        reader.send(&ClientFrame::Seek(Seek { request: 4, log, to: Start::Offset(62) }));
        reader.wait("moved", |reader| reader.log("made/a").resets.len() == 2);
        reader.reach("made/a", 65);
        assert_eq!(reader.log("made/a").resets[1], ResetReason::Asked);
        assert_eq!(reader.log("made/a").records.len(), 3);
        reader.leave(true);
    }
    // Under other rules nobody's snapshot is taken.
    maker.subscribe("docs/a", Start::State, 0);
    maker.reach("docs/a", 0);
    let other = maker.log("docs/a").log;
    maker.send(&part(22, other, 0, 0, true, b"x"));
    assert_eq!(maker.refusal(22).code, Code::SnapshotRule);
}

/// Law 7: a client learns what became of its actions before its state is replaced. The answers
/// fill several frames, and the last of them still comes before the log is opened.
#[test]
fn owed_answers_come_before_a_log_is_opened() {
    let server = Server::start(Options::default());
    for (at, encoding) in Encoding::ALL.into_iter().enumerate() {
        let log = format!("owed/{at}");
        let mut writer = in_encoding("wim", encoding).join(&server);
        let mut reader = Client::new("rea").wanting(&log).join(&server);
        writer.append_all(&log, texts(0..600, 10));
        // All of it is stored; the answers are lost with the socket.
        reader.reach(&log, 600);
        writer.cut();
        writer.want(&log, Start::State, 0);
        writer.say_hello(&server);
        writer.reach(&log, 600);
        assert!(writer.unanswered() == 0);
        let order = &writer.order;
        let owed: Vec<usize> = (0..order.len()).filter(|at| order[*at] == "answers").collect();
        let opened = order.iter().position(|name| *name == "subscribed").unwrap();
        assert!(owed.len() > 1 && owed.iter().all(|at| *at < opened), "{order:?}");
    }
}

/// An acknowledgement that was on its way while the cursor was moved back does not undo the move.
#[test]
fn an_old_acknowledgement_does_not_undo_a_seek() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    fill(&mut writer, "docs/a", 10, 10);
    for encoding in Encoding::ALL {
        let mut reader = in_encoding("rea", encoding);
        reader.ack_after = None;
        reader.cloning = Cloning::None;
        let mut reader = reader.wanting("docs/a").join(&server);
        reader.reach("docs/a", 10);
        let log = reader.log("docs/a").log;
        let old = Ack { received: reader.received, cursors: vec![Cursor { log, next: 10 }] };
        reader.shown.clear();
        reader.send(&ClientFrame::Seek(Seek { request: 4, log, to: Start::Offset(3) }));
        // The server has sent all of it again, so the old word names nothing that it had not sent.
        reader.wait("all again", |reader| {
            reader.received > old.received && reader.log("docs/a").cursor == 10
        });
        reader.send(&ClientFrame::Ack(old));
        reader.sync();
        reader.close();
        server.until_shows("its last cursor is committed", reader.connection, |shown| {
            shown["attached"] == false
        });
        assert_eq!(server.shows(reader.connection)["subscriptions"][0]["cursor"], 3);
    }
}

/// A base whose snapshot is replaced twice while it is being sent begins anew.
#[test]
fn a_base_that_is_replaced_begins_anew() {
    let server = Server::start(Options::default().rule("made/**", "client", ""));
    let mut maker = Client::new("mak").wanting("made/a").join(&server);
    maker.reach("made/a", 0);
    let log = maker.log("made/a").log;
    let put = |maker: &mut Client, round: u32| {
        maker.store("made/a", &round.to_string());
        let offset = u64::from(round) + 1;
        for n in 0..4 {
            maker.send(&part(round + 1, log, offset, n, n == 3, &vec![round as u8; 60_000]));
        }
        maker.wait("done", |maker| maker.done.contains(&(round + 1)));
    };
    put(&mut maker, 0);
    let mut reader = Client::new("rea").wanting("made/a");
    reader.ack_after = None;
    reader.window = 64 << 10;
    let mut reader = reader.join(&server);
    reader.wait("the first part", |reader| reader.received > 0);
    for round in 1..4 {
        put(&mut maker, round);
    }
    reader.ack_after = SOON;
    reader.ack();
    reader.reach("made/a", 4);
    let held = reader.log("made/a");
    assert_eq!(held.resets, [ResetReason::New, ResetReason::Trimmed]);
    let (offset, bytes) = held.base.as_ref().unwrap();
    assert_eq!((*offset, bytes), (4, &vec![3; 240_000]));
}

#[test]
fn a_few_hundred_sockets_get_the_same() {
    on_one_thread_and_three(all_get_the_same);
}

fn all_get_the_same(server: &Server) {
    let mut writer = Client::new("wim").join(server);
    let mut readers: Vec<Client> =
        (0..300).map(|n| Client::new(&format!("rea-{n}")).wanting("docs/a").join(server)).collect();
    for n in 0..40 {
        writer.append("docs/a", &n.to_string());
    }
    writer.settled();
    let mut first = None;
    for reader in &mut readers {
        reader.reach("docs/a", 40);
        let first: &BTreeMap<_, _> = first.get_or_insert_with(|| reader.seen.clone());
        assert_eq!(*first, reader.seen);
    }
}

/// Deleting ends a subscription; a log made anew under the name is another one.
#[test]
fn an_unsubscribed_log_is_silent() {
    on_one_thread_and_three(unsubscribed_is_silent);
}

fn unsubscribed_is_silent(server: &Server) {
    let mut writer = Client::new("wim").join(server);
    let mut reader = Client::new("rea").wanting("docs/a").wanting("docs/b").join(server);
    reader.reach("docs/a", 0);
    reader.reach("docs/b", 0);
    let log = reader.log("docs/a").log;
    let ask = highwater::wire::Unsubscribe { request: 8, logs: vec![log, 12_345] };
    reader.send(&ClientFrame::Unsubscribe(ask));
    reader.wait("both answers", |reader| reader.ended.len() == 2);
    writer.store("docs/a", "0");
    writer.store("docs/b", "0");
    reader.reach("docs/b", 1);
    // The client would have failed at a record of a log that is not announced.
    reader.sync();
    reader.subscribe("docs/a", Start::State, 0);
    reader.reach("docs/a", 1);
}
