//! Limits that no other test is about, each against the running server: what is refused, with which
//! code, and that it heals. Limits of connections are in `lifecycle/`, of frames and lists in
//! `bad_input/`, of HTTP in `http/`, of the fold in `fold/`.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Client, Link, Next, Options, SOON, Server, WAIT, token, until};
use highwater::fold::{CacheSizes, Command, FOLD_VERSION, Fold, Settings};
use highwater::journal::{Committer, Engine, Local, QueueLimits};
use highwater::store::Store;
use highwater::wire::{
    ClientFrame, Code, Encoding, Open, Outcome, Ping, Seek, ServerFrame, Start, Subscribe, WriterAt,
};
use serde_json::json;

/// What the next answer of the client's socket says of the append it just sent.
fn refused(client: &mut Client) -> Code {
    let seq = client.append("docs/a", "more");
    let end = Instant::now() + WAIT;
    let link = client.link.as_mut().unwrap();
    loop {
        let Next::Frame(ServerFrame::Answers(answers), _) = link.next(end) else { continue };
        for answer in answers.answers {
            if answer.seq == seq {
                let Outcome::Refused(refusal) = answer.outcome else { panic!("it was stored") };
                return refusal.code;
            }
        }
    }
}

fn start_of(server: &Server, log: &str) -> u64 {
    server.http().get(&format!("/v1/logs/{log}?from=end&limit=0")).number("highwater-start")
}

/// Less of the disk is free than must be: appends are refused, nothing is lost, reads and newcomers
/// go on, and the operator can make room.
#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").wanting("docs/a").join(&server);
    writer.store("docs/a", "kept");
    writer.store("docs/b", "kept too");
    writer.reach("docs/a", 1);
    writer.cut();
    server.terminate();
    server.restart_with(Options::default().limit("disk_reserve_bytes", 1 << 50));
    until("the disk to be looked at", || server.http().get("/readyz").status == 503);
    writer.connect(&server);
    assert_eq!(refused(&mut writer), Code::StorageFull);
    assert_eq!(server.http().post("/v1/logs/docs/a", "x").refusal(), (507, "storage_full".into()));
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", 1);
    assert_eq!(reader.log("docs/a").texts(), ["kept"]);
    // On a socket that is open, too: it subscribes, seeks, is downgraded and becomes active again.
    reader.subscribe("docs/b", Start::State, 0);
    reader.reach("docs/b", 1);
    // But opening makes none, and says what keeps it: on a subscription, at the door, and from the
    // back end. Those that are there are opened beside it.
    let asked = reader.subscribe("docs/new", Start::State, 0);
    let refusal = reader.refusal(asked);
    assert!(refusal.code == Code::StorageFull && refusal.retry_after > 0, "{refusal:?}");
    reader.unwant(&["docs/new"]);
    let mut newcomer = Client::new("new").wanting("docs/b").wanting("docs/new").join(&server);
    newcomer.reach("docs/b", 1);
    assert_eq!(newcomer.refusal(0).code, Code::StorageFull);
    let path = format!("/v1/connections/{}/subscribe", newcomer.connection);
    let ask = json!({ "logs": [{ "name": "docs/new" }, { "name": "docs/a" }] });
    let told = server.http().post_json(&path, &ask).ok().json();
    assert_eq!(told["refused"][0]["code"], "storage_full", "{told}");
    assert_eq!(told["subscribed"][0]["name"], "docs/a", "{told}");
    newcomer.leave(true);
    let log = reader.log("docs/a").log;
    reader.send(&ClientFrame::Seek(Seek { request: 3, log, to: Start::Earliest }));
    reader.wait("to be moved", |reader| reader.log("docs/a").resets.len() > 1);
    server.http().post(&format!("/v1/connections/{}/downgrade", reader.connection), "").ok();
    reader.wait("to be inactive", |reader| !reader.active);
    until("its time", || {
        reader.activate();
        reader.sync();
        reader.active
    });
    reader.leave(true);
    server.http().delete("/v1/logs/docs/a").ok();
    // With room again the client's own log of actions goes on where it was.
    writer.cut();
    server.terminate();
    server.restart_with(Options::default());
    writer.connect(&server);
    writer.resend();
    writer.settled();
}

#[test]
fn a_log_keeps_its_bytes_and_its_age() {
    let bytes = Server::start(Options::default().limit("log_bytes", 1_000));
    let mut writer = Client::new("wim").join(&bytes);
    writer.append_all("docs/a", (0..40).map(|n| format!("{n:0100}")));
    writer.settled();
    until("the oldest to go", || start_of(&bytes, "docs/a") >= 30);
    assert!(start_of(&bytes, "docs/a") < 40, "what fits is kept");
    let age = Server::start(Options::default().limit("log_age_seconds", 1));
    let mut writer = Client::new("wim").join(&age);
    writer.store("docs/a", "old");
    until("it to grow old", || start_of(&age, "docs/a") == 1);
}

#[test]
fn a_log_takes_only_so_many_appends_a_second() {
    let server = Server::start(Options::default().limit("appends_per_log_second", 500));
    let texts = |count: usize| (0..count).map(|n| n.to_string());
    let post = |count| server.http().post_lines("/v1/logs/docs/b", texts(count)).status;
    // Two seconds' worth, one of which is there.
    let began = Instant::now();
    assert_eq!(post(1_000), 200);
    assert!(began.elapsed() >= Duration::from_millis(950), "{:?}", began.elapsed());
    // Of a budget that owes something nothing is waited for.
    let waits = std::thread::scope(|scope| {
        let long = scope.spawn(|| post(5_000));
        until("the budget to owe something", || post(1) == 429);
        long.join().unwrap()
    });
    assert_eq!(waits, 200);
    // Another log is not held back, and this one heals.
    let mut writer = Client::new("wim").join(&server);
    writer.store("docs/c", "x");
    until("the rate to allow it", || post(1) == 200);
}

#[test]
fn handshakes_are_bounded_by_rate_and_by_how_many_wait() {
    let rate = Server::start(Options::default().limit("handshakes_per_second", 1));
    let open = || Link::try_open(rate.address, Encoding::Bincode);
    let tries: Vec<bool> = (0..20).map(|_| open().is_ok()).collect();
    assert!(tries.contains(&false) && tries.contains(&true), "{tries:?}");
    until("the rate to allow it", || open().is_ok());
    let waiting = Server::start(Options::default().limit("handshakes_waiting", 2));
    let silent: Vec<_> =
        (0..2).map(|_| Link::try_open(waiting.address, Encoding::Bincode).unwrap()).collect();
    assert!(Link::try_open(waiting.address, Encoding::Bincode).is_err(), "two wait already");
    drop(silent);
    until("their places to be free", || Link::try_open(waiting.address, Encoding::Bincode).is_ok());
}

#[test]
fn a_token_that_ended_leaves_a_grace_and_no_more() {
    let server = Server::start(Options::default().limit("refresh_grace_ms", 300));
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    client.reach("docs/a", 0);
    let end = crate::support::end_soon(&mut client, "ann", &[("**", "read")]);
    client.wait("the end of the token", |client| {
        client.refused.iter().any(|refused| refused.refusal.code == Code::TokenExpired)
    });
    assert!(client.closed.is_none() && client.bye.is_none(), "it is told, and stays");
    assert_eq!(client.until_closed(), 4000 + Code::TokenExpired.number());
    let stayed = crate::support::now_ms() - end;
    assert!(stayed >= 300, "closed {stayed} ms after the end, before the grace was over");
}

/// Requests other than appends and acknowledgements: each beyond the rate is refused by its number
/// and with a time. The socket stays, appends go on, another socket has a rate of its own.
#[test]
fn a_socket_asks_only_so_often() {
    let server = Server::start(Options::default().limit("frames_per_socket_second", 10));
    let mut client = Client::new("ann").join(&server);
    let ask = |n: u32| {
        let name = format!("docs/{n}");
        let open = vec![Open { name, have: None, start: Start::End, priority: 0 }];
        ClientFrame::Subscribe(Subscribe { request: n, open, bases: vec![] })
    };
    let asks: Vec<ClientFrame> = (1..=200).map(ask).collect();
    assert!(client.link.as_mut().unwrap().send_all(&asks));
    client.wait("an answer to each", |client| client.logs().len() + client.refused.len() == 200);
    assert!(client.logs().len() >= 10, "as many as it may: {}", client.logs().len());
    assert!(!client.refused.is_empty(), "two hundred at once are too many");
    for refused in &client.refused {
        assert_eq!(refused.refusal.code, Code::Rate);
        assert!((1..=200).contains(&refused.request) && refused.refusal.retry_after > 0);
    }
    // Appends have a rate of their own.
    for n in 0..50 {
        client.append("docs/1", &n.to_string());
    }
    client.settled();
    assert!(client.put_off.is_empty());
    let mut other = Client::new("ann").join(&server);
    other.subscribe("docs/1", Start::Earliest, 0);
    other.reach("docs/1", 50);
    until("the rate to allow it", || {
        let (refused, logs) = (client.refused.len(), client.logs().len());
        client.send(&ask(201 + refused as u32));
        client.wait("an answer", |c| c.refused.len() > refused || c.logs().len() > logs);
        client.logs().len() > logs
    });
}

#[test]
fn a_user_appends_only_so_many_bytes_a_second() {
    let options = Options::default()
        .limit("record_bytes", 16 << 10)
        .limit("frame_bytes", 64 << 10)
        .limit("http_body_bytes", 64 << 10)
        .limit("snapshot_part_bytes", 16 << 10)
        .limit("append_bytes_per_user_second", 32 << 10);
    let server = Server::start(options);
    let mut client = Client::new("ann").join(&server);
    client.resends = false;
    let began = Instant::now();
    for _ in 0..16 {
        client.append("docs/a", &"x".repeat(15 << 10));
    }
    client.sync();
    let rate = client.put_off.iter().filter(|(_, refusal)| refusal.code == Code::Rate);
    let rate: Vec<_> = rate.map(|(_, refusal)| refusal.retry_after).collect();
    assert!(!rate.is_empty() && rate.iter().all(|after| *after > 0), "{rate:?}");
    // The same budget over HTTP, for the same user; another user has one of its own.
    let own = server.http_as(client.token.clone());
    let body = "x".repeat(15 << 10);
    until("the budget to be spent", || own.post("/v1/logs/docs/a", &body).status == 429);
    Client::new("bob").join(&server).store("docs/b", &body);
    // All of it is stored in the end, in its order, no sooner than the rate allows.
    client.resends = true;
    client.resend();
    client.settled();
    let spared = 16 * (15 << 10) - (64 << 10);
    let least = Duration::from_millis(spared * 1_000 / (32 << 10));
    assert!(began.elapsed() >= least, "{:?} for what takes {least:?}", began.elapsed());
}

#[test]
fn a_window_is_what_is_asked_for_up_to_the_limit() {
    let server = Server::start(Options::default().limit("window_bytes", 128 << 10));
    let mut writer = Client::new("wim").join(&server);
    for _ in 0..20 {
        writer.store("docs/a", &"x".repeat(20 << 10));
    }
    for (asks, gets) in
        [(64 << 20, 128 << 10), (0, 128 << 10), (100 << 10, 100 << 10), (1, 64 << 10)]
    {
        let mut client = Client::new(&format!("asks-{asks}")).wanting("docs/a");
        client.window = asks;
        client.ack_after = None;
        let mut client = client.join(&server);
        assert_eq!(client.welcome.as_ref().unwrap().limits.window, gets, "asked for {asks}");
        // The client asserts at each frame that this window is kept to.
        client.wait("half of it", |client| client.received > u64::from(gets / 2));
        client.ack_after = SOON;
        client.ack();
        client.reach("docs/a", 20);
    }
}

/// Replies that nobody takes wait up to the limit and what one more message asks for; then the
/// server reads no more.
#[test]
fn replies_wait_up_to_the_limit() {
    for limit in [4 << 10, 512 << 10] {
        let options = Options::default().limit("frames_per_socket_second", 1_000_000);
        let server = Server::start(options.limit("reply_bytes", limit));
        let client = Client::new("ann").join(&server);
        let id = client.connection;
        let waiting = || server.shows(id)["socket"]["waiting"].as_u64().unwrap();
        let mut link = client.link.unwrap();
        link.tcp().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        let pings: Vec<_> =
            (0..2_000).map(|nonce| ClientFrame::Ping(Ping { nonce, positions: vec![] })).collect();
        // A write that times out may only mean that the server is slow: it goes on where it was.
        until("replies to fill their share", || {
            link.send_all(&pings);
            waiting() >= limit
        });
        let most = (0..50).map(|_| waiting()).max().unwrap();
        let message = 2_000 * 32;
        assert!((limit..limit + message).contains(&most), "{most} bytes wait, of {limit}");
    }
}

/// Opening a log that is missing makes it, for one who may write to it, at the rate of appends.
#[test]
fn logs_are_made_by_opening_at_a_rate_and_by_those_who_may_write() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 50));
    let open = |name: &str, can: &str, count: usize| {
        let mut client = Client::with(Some(token("ann", &[("**", can)])));
        client.cloning = highwater::wire::Cloning::None;
        for at in 0..count {
            client = client.wanting(&format!("{name}/{at}"));
        }
        let mut client = client.join(&server);
        client.wait("an answer for each", |client| {
            client.logs().len() + client.refused.len() == count
        });
        assert!(
            client.refused.iter().all(|one| one.refusal.retry_after > 0),
            "they may come later"
        );
        let codes = client.refused.iter().map(|one| (one.refusal.code, ()));
        let codes: std::collections::BTreeMap<_, _> = codes.collect();
        (client.logs().len(), client.refused.len(), codes.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(open("reader", "read", 3), (0, 3, vec![Code::UnknownLog]));
    let began = Instant::now();
    let (made, later, codes) = open("writer", "read append", 900);
    let most = 50 + 50 * (began.elapsed().as_millis() as usize + 1_000) / 1_000;
    assert!((30..=most).contains(&made), "{made}: a second's worth, but for what is credit");
    assert_eq!((made + later, codes), (900, vec![Code::Rate]));
    // Whoever asks again gets the next of them. What is there takes nothing of the budget.
    until("some more to be made", || open("owner", "read admin", 100).0 == 100);
    assert_eq!(open("owner", "read", 100), (100, 0, vec![]));
    assert_eq!(open("owner", "read append", 100), (100, 0, vec![]));
}

#[test]
fn a_client_speaks_for_only_so_many_writers() {
    let server = Server::start(Options::default().limit("writers_per_hello", 1));
    let mut hello = Client::new("ann").hello();
    let writer = |_| WriterAt { writer: crate::support::id(), oldest: 1 };
    hello.writers = (0..2).map(writer).collect();
    let mut link = Link::open(server.address, Encoding::Bincode);
    link.send(&ClientFrame::Hello(hello));
    let end = Instant::now() + WAIT;
    loop {
        match link.next(end) {
            Next::Frame(ServerFrame::Bye(bye), _) => assert_eq!(bye.code, Code::BadFrame),
            Next::Closed(number, _) => {
                break assert_eq!(number, 4000 + Code::BadFrame.number());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The inbox of the committing thread is bounded by commands and by bytes; whoever finds it full is
/// told when to come again. The thread does not run here, so what waits stays.
#[test]
fn the_inbox_is_bounded_by_commands_and_by_bytes() {
    let full = |commands, bytes, weight| {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), highwater::store::Options::default()).unwrap();
        let journal = Engine::Here(Local::new(store.clone(), 64 << 20));
        let settings =
            Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
        let (id, level) = (journal.identity(), journal.level());
        let fold = Fold::open(&store, id, level, settings, CacheSizes::default()).unwrap();
        let clock = std::sync::Arc::new(|| 0);
        let limits = QueueLimits { commands, bytes, told: 1 };
        let (_committer, inbox, _told) = Committer::<()>::new(fold, journal, store, clock, limits);
        let submit = |_: &u32| {
            inbox
                .submit(
                    Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION },
                    weight,
                    None,
                )
                .is_ok()
        };
        let taken = (0..10_u32).take_while(submit).count();
        let refusal = inbox
            .submit(Command::NodeUp { oldest: FOLD_VERSION, newest: FOLD_VERSION }, weight, None)
            .unwrap_err();
        assert_eq!(refusal.code, Code::Overloaded);
        assert!(refusal.retry_after > 0);
        taken
    };
    assert_eq!(full(3, 1 << 20, 0), 3, "by commands");
    assert_eq!(full(100, 3_000, 1_000), 2, "by bytes");
}

/// Few open files: connections leave those that the store needs, and the node says so.
#[test]
fn connections_leave_the_store_its_files() {
    let server = Server::start(Options { open_files: Some(300), ..Options::default() });
    let mut writer = Client::new("wim").join(&server);
    writer.store("docs/a", "0");
    let idle: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(server.address).ok()).collect();
    assert!(idle.len() > 150, "the kernel takes what the node does not");
    // As much as makes the store write files.
    for n in 0..60 {
        writer.append_all("docs/a", (0..100).map(|_| "x".repeat(8_000)));
        writer.settled();
        assert!(writer.closed.is_none(), "round {n}");
    }
    assert!(server.log().contains("too few files"), "{}", server.log());
    drop(idle);
    until("there is room again", || Link::try_open(server.address, Encoding::Json).is_ok());
}

/// A node that takes no connection for a moment, as in a storm: the kernel keeps them for it. What
/// it has no room for it drops in silence, and its client tries again after a second, then three.
#[test]
fn connections_that_are_not_taken_yet_wait_in_the_kernel() {
    let server = Server::start(Options::default());
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let many = most.trim().parse::<usize>().unwrap().min(300);
    server.signal("STOP");
    let mut open = Vec::new();
    while open.len() < many {
        match TcpStream::connect_timeout(&server.address, Duration::from_millis(900)) {
            Ok(stream) => open.push(stream),
            Err(_) => break,
        }
    }
    server.signal("CONT");
    assert_eq!(open.len(), many, "the kernel kept no more");
}
