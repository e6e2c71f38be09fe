//! What was stored arrives: promises 1, 6, 7, 8 and 14.

use super::*;

/// Whole, of one node: between two resets each record once, in order, over cuts and both encodings.
/// The client asserts it at each frame.
#[test]
fn promise_01_no_gap_no_repeat_in_order() {
    let seed = crate::support::seed("promise_01");
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
        let own = second.outcomes().values().filter_map(|outcome| match outcome {
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
            second.forget();
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

/// Of one node: cuts, downgrades and crashes end, and everyone has everything.
#[test]
fn promise_14_eventual_delivery() {
    let seed = crate::support::seed("promise_14");
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
        stored += client.outcomes().len();
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
        assert_eq!(*client.log("fourteen/keys").keys, keys, "equal logs give equal views");
        assert_stored(client, &all);
    }
    assert_ne!(clients[0].reason, Some(Reason::Lag));
}
