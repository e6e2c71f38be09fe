//! What it costs has a bound: promises 5, 9 and 10.

use super::*;

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
        let sent = writer.writer().last();
        writer.reach("five/log", sent);
        // What was kept to assert on is of no use to a server.
        writer.folded.values_mut().for_each(|folded| folded.records.clear());
    };
    load(&mut writer);
    let mut still: Vec<Client> = (0..STILL)
        .map(|n| {
            let mut reader = Client::new(&format!("still-{n}"));
            reader.ack_after = None;
            reader.window = 64 << 20;
            reader.want("five/log", Start::End, 0);
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
    let last = writer.writer().last();
    for reader in still.iter_mut().take(3) {
        reader.ack_after = SOON;
        reader.reach("five/log", last);
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
    until("retention to pass their cursors", || start_of(&server, "nine/log") > 50);
    let back = &mut gone[0];
    until("it to be downgraded", || {
        let met = back.connect(&server);
        back.close();
        met == Met::Restored || met == Met::Fresh
    });
    back.connect(&server);
    back.reach("nine/log", 100);
    back.close();
    let held = |now: usize, then: usize| now <= then + 2;
    until("sockets to be given back", || held(entries(&server, "fd"), files + 2));
    // 300 came and went; what may be left are the node's own threads that wait for a disk.
    let own = 32;
    assert!(entries(&server, "task") <= threads + own, "no thread stays");
    let each = server.rss().saturating_sub(before) / 200;
    assert!(each < 64 << 10, "{each} bytes for each that came and went");
}

/// The same connections come and go on socket after socket, so rows are there from the start, and
/// what grows is what a socket leaves behind.
#[test]
fn promise_09_a_departed_socket_leaves_nothing() {
    let server = Server::start(Options::default());
    let mut clients: Vec<Client> =
        (0..16).map(|n| Client::new(&format!("user-{n}")).wanting("nine/log")).collect();
    let come_and_go = |clients: &mut [Client], rounds: usize| {
        for _ in 0..rounds {
            clients.iter_mut().for_each(|client| client.say_hello(&server));
            for client in &mut *clients {
                client.wait("welcome", |client| client.welcome.is_some());
                client.reach("nine/log", 0);
            }
            clients.iter_mut().for_each(Client::close);
        }
        until("sockets to be gone", || server.metric("sockets") == 0);
    };
    // Pools, caches and the allocator's own reserves fill up first.
    come_and_go(&mut clients, 30);
    let before = server.rss();
    let rounds = 40;
    come_and_go(&mut clients, rounds);
    let departed = (rounds * clients.len()) as u64;
    let each = server.rss().saturating_sub(before) / departed;
    assert!(each < 8 << 10, "{each} bytes for each of {departed} sockets that came and went");
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
        .limit("queue_commands", 1_024)
        .limit("appends_per_user_second", 20_000)
        .limit("append_bytes_per_user_second", 1 << 30)
        .limit("sockets", 6);
    let server = Server::start(options);
    let mut many: Vec<Client> =
        (0..6).map(|n| Client::new(&format!("u{n}")).join(&server)).collect();
    // One socket too many: refused before the upgrade, with a status.
    let refused = crate::support::Link::try_open(server.address, Encoding::Json);
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else {
        panic!("a seventh socket was let in")
    };
    assert_eq!(response.status(), 503);
    // More than the inbox holds: a typed refusal with a time, and in the end all is stored once.
    // How fast it is worked off is the machine's affair. So all send at once while the server is
    // stopped: what their sockets hold is there at once when it goes on, in many records, which
    // cost more to store than to read. It is tried until one is refused.
    let mut overloaded = 0;
    for _ in 0..50 {
        send_while_stopped(&server, &mut many);
        for client in &mut many {
            overloaded += put_off(client);
            client.resends = true;
            client.resend();
        }
        many.iter_mut().for_each(Client::settled);
        if overloaded > 0 {
            break;
        }
    }
    assert!(overloaded > 0, "the inbox took all that was sent");
    let sent: u64 = many.iter().map(|client| client.writer().last()).sum();
    let mut client = many.pop().unwrap();
    client.subscribe("ten/log", Start::Earliest, 0);
    client.reach("ten/log", sent);
    assert_eq!(client.seen.len() as u64, sent);
}

/// Each client appends 400 records of 1 KB while the server is stopped: 2.4 MB, which the sockets
/// hold. It goes on when all are sent.
fn send_while_stopped(server: &Server, many: &mut [Client]) {
    server.signal("STOP");
    for client in many {
        client.resends = false;
        for _ in 0..8 {
            client.append_all("ten/log", (0..50).map(|_| "x".repeat(1_000)));
        }
    }
    server.signal("CONT");
}

/// Takes the answers to all that was sent: how many of it the inbox had no room for.
fn put_off(client: &mut Client) -> usize {
    client.sync();
    let refusals = client.put_off.iter().map(|(_, refusal)| refusal);
    let full = |refusal: &&highwater::wire::Refusal| {
        assert!([Code::Overloaded, Code::SequenceGap].contains(&refusal.code), "{refusal:?}");
        assert!(refusal.code != Code::Overloaded || refusal.retry_after > 0, "{refusal:?}");
        refusal.code == Code::Overloaded
    };
    refusals.filter(full).count()
}

/// More than a writer may have without an answer confirmed.
#[test]
fn promise_10_a_writer_in_flight_is_bounded() {
    let server = Server::start(Options::default());
    let mut writer = Client::new("held").join(&server);
    writer.append_all("ten/held", (0..1_024).map(|n| n.to_string()));
    writer.settled();
    let record = Record { payload: Some(Payload::text("one more")), ..Record::default() };
    let (seq, prev, to) = (1_025, 1_024, Target::Name("ten/held".to_owned()));
    let item = Item { seq, prev, to: to.clone(), if_head: None, record: record.clone() };
    writer.send_items(1, vec![item]);
    let answers = writer.answers_past();
    assert_eq!(answers.answers.len(), 1);
    let Outcome::Refused(refusal) = &answers.answers[0].outcome else { panic!("{answers:?}") };
    assert_eq!((answers.answers[0].seq, refusal.code), (seq, Code::InFlight));
    // It confirms them, and the same one is taken.
    assert_eq!(writer.append_to(to, None, record), seq);
    writer.settled();
    assert!(writer.offset(seq).is_some());
}

/// A user's rate is decided before anything is stored, and told with a time.
#[test]
fn promise_10_rates_are_told() {
    let server = Server::start(Options::default().limit("appends_per_user_second", 10));
    let mut client = Client::new("fast").join(&server);
    client.resends = false;
    for n in 0..10 {
        client.append_all("ten/rate", (0..256).map(|m| format!("{n}.{m}")));
    }
    client.sync();
    let refused: Vec<_> = client.put_off.iter().map(|(_, refusal)| refusal).collect();
    assert!(refused.iter().any(|refusal| refusal.code == Code::Rate && refusal.retry_after > 0));
    let mut other = Client::new("slow").join(&server);
    other.store("ten/rate", "not disturbed");
}
