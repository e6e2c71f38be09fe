//! What was stored stays: promises 2, 3, 4 and 13.

use super::*;

/// Whole, of one node: what a reader saw before SIGKILL is there after it, at its offset. What the
/// operating system holds outlives a process, so a node that synced nothing would pass this too:
/// the sync, and with it loss of power, is held by `tests/power` alone.
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
        // Some of it has been seen, the rest is on its way: then the process is killed.
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

/// Against SIGKILL, which a node that synced nothing would pass too; against loss of power it is
/// held by `promises_02_and_03_hold_when_power_is_lost_a_few_times` in `tests/power`.
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
        writer.wait("some answers", |writer| writer.outcomes().len() > enough);
        server.kill9();
        while writer.step(Instant::now() + Duration::from_millis(100)) {}
        writer.cut();
        answered = writer.outcomes().len();
        server.restart();
        let mut reader = replay(&server, "rea", &["three/log"]);
        reader.sync();
        assert_stored(&writer, &reader);
        writer.connect(&server);
        writer.settled();
        answered = answered.max(writer.outcomes().len());
    }
    let mut reader = replay(&server, "rea", &["three/log"]);
    reader.reach("three/log", 1_800);
    assert_eq!(reader.seen.len(), 1_800);
    assert_stored(&writer, &reader);
}

/// Over a lost answer, a crash, another connection of the user, and long after: the years are the
/// fold's affair, where a mark is kept for as long (`tests/pure/fold`).
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
    let frame = |id| {
        ClientFrame::Append(Append {
            writer: id,
            oldest: 1,
            items: again.clone(),
            positions: vec![],
            made: vec![],
        })
    };
    let same = writer.writer().id();
    writer.send(&frame(same));
    writer.wait("all answers again", |writer| writer.repeated >= 50);
    server.crash();
    writer.cut();
    writer.connect(&server);
    let repeated = writer.repeated;
    writer.send(&frame(same));
    writer.wait("and after a crash", |writer| writer.repeated >= repeated + 50);
    // Another connection of the user sends them, as a tab does for one that was closed.
    let mut heir = Client::new("wim");
    heir.go_on_as(writer.writer().clone());
    heir.all_outcomes = writer.all_outcomes.clone();
    let mut heir = heir.join(&server);
    let repeated = heir.repeated;
    heir.send(&frame(same));
    heir.wait("and for an heir", |heir| heir.repeated >= repeated + 50);
    let mut reader = replay(&server, "rea", &["four/log"]);
    reader.reach("four/log", 50);
    reader.sync();
    let texts: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    assert_eq!(reader.log("four/log").texts(), texts, "each once, in the writer's order");
}

/// Of one node: a store that was folded over crashes is, to every reader, the store it was. That
/// two nodes on one journal end with the same keys and values is held in
/// `tests/nodes/same_state.rs`.
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
        *writer.log("thirteen/latest").keys,
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
