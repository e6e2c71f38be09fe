//! Who may: promises 11 and 12.

use super::*;

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
    let outcome = &ann.outcomes()[&seq];
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
    assert!(clone.find("secret/log").is_none(), "{:?}", clone.logs());
    // A refresh to a narrower token ends what it does not cover, at once.
    source.send(&ClientFrame::Refresh(Refresh { token: narrow, request: 0 }));
    source.wait("unsubscribed", |source| !source.ended.is_empty());
    assert_eq!(source.ended[0].reason, highwater::wire::Ended::Denied);
    writer.store("secret/log", "1");
    writer.store("open/log", "1");
    for client in [&mut ann, &mut clone, &mut source] {
        client.reach("open/log", 2);
        client.sync();
        assert!(client.find("secret/log").is_none());
    }
    let secret = writer.outcomes().values().filter_map(|outcome| match outcome {
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
    source.send(&ClientFrame::Refresh(Refresh { token: other, request: 0 }));
    assert_eq!(source.refusal(0).code, Code::Unauthorized);
}

/// The end of a token ends delivery, not the socket; a refresh goes on from the cursors.
#[test]
fn promise_11_a_token_ends_in_the_middle_of_a_stream() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    let mut reader = Client::with(Some(token("rea", &[("**", "read append")])));
    reader = reader.wanting("eleven/log").join(&server);
    writer.store("eleven/log", "before");
    reader.reach("eleven/log", 1);
    crate::support::end_soon(&mut reader, "rea", &[("**", "read append")]);
    reader.wait("the end of the token", |reader| {
        reader.refused.iter().any(|refused| refused.refusal.code == Code::TokenExpired)
    });
    for n in 0..20 {
        writer.store("eleven/log", &n.to_string());
    }
    reader.sync();
    assert_eq!(reader.log("eleven/log").cursor, 1, "nothing is delivered after the end");
    reader.resends = false;
    reader.append("eleven/log", "too late");
    reader.wait("a refusal", |reader| !reader.put_off.is_empty());
    assert_eq!(reader.put_off[0].1.code, Code::TokenExpired);
    // Waiting for a refresh costs no work: what is owed is not tried again and again.
    let before = server.ticks();
    std::thread::sleep(Duration::from_millis(1_500));
    let used = server.ticks() - before;
    assert!(used < 30, "{used} ticks of 10 ms while nothing could be done");
    let fresh = token("rea", &[("**", "read append")]);
    reader.send(&ClientFrame::Refresh(Refresh { token: fresh, request: 0 }));
    reader.wait("refreshed", |reader| !reader.refreshed.is_empty());
    reader.resend();
    reader.settled();
    reader.reach("eleven/log", 22);
}

/// Of one node; between nodes it is the fold's affair (`tests/pure/fold`).
#[test]
fn promise_12_one_socket_per_connection() {
    let server = Server::start(Options::default().limit("commit_interval_ms", 50));
    let mut writer = Client::new("wim").join(&server);
    for n in 0..10 {
        writer.store("twelve/log", &n.to_string());
    }
    let mut old = Client::new("rea");
    old.ack_after = None;
    old.cloning = Cloning::None;
    old.want("twelve/log", Start::Committed, 0);
    let mut old = old.join(&server);
    old.reach("twelve/log", 10);
    let log = old.log("twelve/log").log;
    let generation = old.welcome.as_ref().unwrap().generation;
    let mut new = Client::with(old.token.clone());
    new.connection = old.connection;
    new.ack_after = None;
    new.cloning = Cloning::None;
    new.want("twelve/log", Start::Committed, 0);
    let mut new = new.join(&server);
    assert_eq!(new.met(), Met::Resumed);
    assert!(new.welcome.as_ref().unwrap().generation > generation);
    new.reach("twelve/log", 10);
    writer.store("twelve/log", "10");
    new.reach("twelve/log", 11);
    // The zombie says that it has seen all of it; that does not count any more.
    old.ack();
    assert_eq!(old.until_closed(), 4000 + Code::Fenced.number());
    let bye = old.bye.as_ref().unwrap();
    assert_eq!((bye.code, bye.reconnect), (Code::Fenced, false));
    assert_eq!(old.seen.len(), 10, "what came after the fence went to the newest socket alone");
    new.send(&ClientFrame::Ack(Ack {
        received: new.received,
        cursors: vec![Cursor { log, next: 3 }],
    }));
    new.sync();
    new.close();
    // The last word of a socket counts once it is durable.
    server.until_shows("its cursor is committed", new.connection, |shown| {
        shown["attached"] == false && shown["subscriptions"][0]["cursor"] == 3
    });
    writer.store("twelve/log", "11");
    // What counts is what the newest socket committed.
    new.forget();
    assert_eq!(new.connect(&server), Met::Resumed);
    new.wait("subscribed", |new| new.find("twelve/log").is_some());
    assert_eq!(*new.log("twelve/log").records.keys().next().unwrap_or(&3), 3);
    new.wait("the rest", |new| new.log("twelve/log").cursor == 12);
    assert_eq!(new.log("twelve/log").records.keys().next(), Some(&3));
}

/// What a fenced socket's client had worked off is handed in with the socket's end, behind the
/// attachment that took its place: it neither detaches the new socket nor moves its cursors.
#[test]
fn promise_12_the_last_word_of_a_fenced_socket_does_nothing() {
    // No commit comes between: what was acknowledged waits for the end of the socket.
    let server = Server::start(Options::default().limit("commit_interval_ms", 60_000));
    let mut writer = Client::new("wim").join(&server);
    for n in 0..10 {
        writer.store("twelve/last", &n.to_string());
    }
    let mut old = Client::new("rea");
    old.cloning = Cloning::None;
    old.want("twelve/last", Start::Committed, 0);
    let mut old = old.join(&server);
    old.reach("twelve/last", 10);
    old.ack();
    old.sync();
    let mut new = Client::with(old.token.clone());
    new.connection = old.connection;
    new.ack_after = None;
    new.cloning = Cloning::None;
    new.want("twelve/last", Start::Committed, 0);
    let mut new = new.join(&server);
    assert_eq!(new.met(), Met::Resumed);
    assert_eq!(old.until_closed(), 4000 + Code::Fenced.number());
    old.cut();
    // Its task hands its last word in before the socket is no longer counted; what is stored after
    // that is decided behind it.
    until("the fenced socket to be gone", || server.metric("sockets") == 2);
    writer.store("twelve/last", "10");
    let shown = server.shows(new.connection);
    assert_eq!(shown["attached"], true, "{shown}");
    assert_eq!(shown["generation"], new.welcome.as_ref().unwrap().generation);
    assert_eq!(shown["subscriptions"][0]["cursor"], 0, "{shown}");
    new.reach("twelve/last", 11);
}

/// A grant that shrinks while logs are being opened by the older one: each is refused or ended.
/// Which of them are on their way then is the machine's affair, so it is tried with many logs, some
/// times. That a log is denied which was looked at before is held where it is certain
/// (`channel/tests.rs`).
#[test]
fn promise_11_a_grant_that_shrinks_while_logs_are_opened() {
    const LOGS: usize = 500;
    let server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    let names: Vec<String> = (0..LOGS).map(|n| format!("secret/{n}")).collect();
    for name in &names {
        writer.append(name, "0");
    }
    writer.settled();
    for round in 0..20 {
        let mut reader = Client::with(Some(token("ann", &[("**", "read")])));
        reader.cloning = Cloning::None;
        let mut reader = reader.join(&server);
        let open =
            |name: &String| Open { name: name.clone(), have: None, start: Start::End, priority: 0 };
        let open = names.iter().map(open).collect();
        reader.send(&ClientFrame::Subscribe(Subscribe { request: 7, open, bases: vec![] }));
        // Each frame has the server look for what it may send: so the first log is told of while
        // the others are still being taken in.
        while reader.logs().is_empty() {
            reader.send(&ClientFrame::Ack(Ack { received: 0, cursors: vec![] }));
            reader.step(Instant::now() + Duration::from_millis(1));
        }
        let narrow = token("ann", &[("open/**", "read")]);
        reader.send(&ClientFrame::Refresh(Refresh { token: narrow, request: 0 }));
        reader.wait("an answer of each", |reader| {
            reader.refused.len() + reader.ended.len() + reader.logs().len() == LOGS
                && !reader.refreshed.is_empty()
        });
        assert!(reader.refused.iter().all(|refused| refused.refusal.code == Code::Denied));
        // The refresh is worked off by now, and all logs are taken in.
        reader.sync();
        let left = &server.shows(reader.connection)["socket"]["cursors"];
        assert_eq!(left.as_array().unwrap().len(), 0, "round {round}: {left}");
        reader.leave(true);
    }
}
