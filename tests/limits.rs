//! Limits that no other test is about, each against the running server: what is refused, with which
//! code, and that it heals. Limits of connections are in `lifecycle.rs`, of frames and lists in
//! `bad_input/`, of HTTP in `http/`, of the fold in `fold/`.

mod support;

use std::time::Instant;

use highwater::fold::{CacheSizes, Command, Fold, Settings};
use highwater::journal::{Committer, Journal as _, Local, QueueLimits};
use highwater::store::Store;
use highwater::wire::{ClientFrame, Code, Encoding, Outcome, Seek, ServerFrame, Start, WriterAt};
use support::{Client, Link, Next, Options, Server, WAIT, token, token_until, until};

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
    reader.reach("docs/b", 0);
    let log = reader.log("docs/a").log;
    reader.send(&ClientFrame::Seek(Seek { request: 3, log, to: Start::Earliest }));
    reader.wait("to be moved", |reader| reader.log("docs/a").resets.len() > 1);
    server.http().post(&format!("/v1/connections/{}/downgrade", reader.id), "").ok();
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
    let post = || {
        let texts = (0..1_000).map(|n| n.to_string());
        server.http().post_lines("/v1/logs/docs/b", texts).status
    };
    let codes: Vec<_> = (0..8).map(|_| post()).collect();
    assert!(codes.contains(&200) && codes.contains(&429), "{codes:?}");
    // Another log is not held back, and this one heals.
    let mut writer = Client::new("wim").join(&server);
    writer.store("docs/c", "x");
    until("the rate to allow it", || post() == 200);
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
    let soon = support::now_ms() + 3_000;
    let mut client = Client::with(Some(token_until("ann", &[("**", "read")], soon)));
    client = client.wanting("docs/a").join(&server);
    assert_eq!(client.until_closed(), 4000 + Code::TokenExpired.number());
}

/// Opening a log that is missing makes it, for one who may write to it, at the rate of appends.
#[test]
fn logs_are_made_by_opening_at_a_rate_and_by_those_who_may_write() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 1));
    let open = |name: &str, can: &str, count: usize| {
        let mut client = Client::with(Some(token("ann", &[("**", can)])));
        client.cloning = highwater::wire::Cloning::None;
        for at in 0..count {
            client = client.wanting(&format!("{name}/{at}"));
        }
        let mut client = client.join(&server);
        client
            .wait("an answer for each", |client| client.logs.len() + client.refused.len() == count);
        let later = |one: &&highwater::wire::Refused| {
            one.refusal.code == Code::UnknownLog && one.refusal.retry_after > 0
        };
        (client.logs.len(), client.refused.iter().filter(later).count())
    };
    assert_eq!(open("reader", "read", 3), (0, 3));
    assert_eq!(open("writer", "read append", 900), (900, 0));
    assert_eq!(
        open("owner", "read admin", 900),
        (0, 900),
        "a budget is a frame's worth of appends"
    );
    // What is there takes nothing of it.
    assert_eq!(open("writer", "read", 900), (900, 0));
    assert_eq!(open("writer", "read append", 900), (900, 0));
}

#[test]
fn a_client_speaks_for_only_so_many_writers() {
    let server = Server::start(Options::default().limit("writers_per_hello", 1));
    let mut hello = Client::new("ann").hello();
    let writer = |_| WriterAt { writer: support::id(), oldest: 1 };
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
        let journal = Local::new(store.clone(), Local::KEEP_BYTES);
        let settings =
            Settings { rules: Vec::new(), budgets: Default::default(), auto_create: true };
        let (id, level) = (journal.identity(), journal.level());
        let fold = Fold::open(&store, id, level, settings, CacheSizes::default()).unwrap();
        let clock = std::sync::Arc::new(|| 0);
        let limits = QueueLimits { commands, bytes, told: 1 };
        let (_committer, inbox, _told) =
            Committer::<()>::new(fold, Box::new(journal), store, clock, limits);
        let submit = |_: &u32| inbox.submit(Command::NodeUp, weight, None).is_ok();
        let taken = (0..10_u32).take_while(submit).count();
        let refusal = inbox.submit(Command::NodeUp, weight, None).unwrap_err();
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
    let idle: Vec<_> =
        (0..400).filter_map(|_| std::net::TcpStream::connect(server.address).ok()).collect();
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
