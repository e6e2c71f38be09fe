//! Too much, and too little: subscriptions without end, clients that do not read, or say nothing.

use super::*;

#[test]
fn a_hundred_thousand_subscriptions() {
    let server = Server::start(Options::default().limit("frames_per_socket_second", 10_000));
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").join(&server);
    client.ack_after = SOON;
    let before = server.rss();
    let total = 100_000;
    for from in (0..total).step_by(10_000) {
        let open = (from..from + 10_000)
            .map(|n| Open { name: format!("s/{n}"), have: None, start: Start::End, priority: 0 })
            .collect();
        client.send(&ClientFrame::Subscribe(Subscribe { request: 5, open, bases: vec![] }));
        bystander.goes_on();
    }
    // Each is answered: a thousand are opened, each other is refused by its name.
    client.wait("an answer to each", |client| client.logs().len() + client.refused.len() == total);
    assert_eq!(client.logs().len(), 1_000);
    assert!(
        client.refused.iter().all(|refused| {
            refused.refusal.code == Code::Subscriptions && refused.name.is_some()
        })
    );
    bystander.goes_on();
    // And the same in one hello, of another client.
    let mut greedy = Client::new("bob");
    (0..10_000).for_each(|n| greedy.want(format!("s/{n}"), Start::End, 0));
    let mut greedy = greedy.join(&server);
    greedy.wait("an answer to each", |client| client.logs().len() + client.refused.len() == 10_000);
    assert_eq!(greedy.logs().len(), 1_000);
    // As many ends of subscriptions that never were: each is answered too.
    for from in (1_000_000..1_100_000).step_by(1_000) {
        let logs = (from..from + 1_000).collect();
        client.send(&ClientFrame::Unsubscribe(Unsubscribe { request: 6, logs }));
    }
    client.wait("an answer to each", |client| client.ended.len() == total);
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");
    bystander.survives(server);
}

/// Frames that name more logs than anybody may be subscribed to cost one look at their length: the
/// client that has all its logs behind could else hold up everybody with each of them.
#[test]
fn lists_of_too_many_logs() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann");
    client.ack_after = None;
    (0..1_000).for_each(|n| client.want(format!("s/{n}"), Start::End, 0));
    let mut client = client.join(&server);
    client.wait("its logs", |client| client.logs().len() == 1_000);
    let ids: Vec<u64> = client.logs().keys().copied().collect();
    let many = |count: usize| ids.iter().copied().cycle().take(count);
    for _ in 0..20 {
        let logs = many(100_000).collect();
        client.send(&ClientFrame::Unsubscribe(Unsubscribe { request: 7, logs }));
        let cursors = many(40_000).map(|log| Cursor { log, next: 0 }).collect();
        client.send(&ClientFrame::Ack(Ack { received: 0, cursors }));
        bystander.goes_on();
    }
    client.sync();
    let codes: Vec<_> =
        client.refused.iter().map(|told| (told.request, told.refusal.code)).collect();
    assert_eq!(codes, [(7, Code::BadRequest), (0, Code::BadRequest)].repeat(20));
    assert!(client.ended.is_empty() && client.active, "nothing of them was carried out");
    let metrics = server.http().get("/metrics").text();
    assert!(metrics.contains("highwater_refusals_total{code=\"bad_request\"} 40\n"), "{metrics}");
    // As many as there may be are taken.
    client.send(&ClientFrame::Unsubscribe(Unsubscribe { request: 8, logs: ids }));
    client.wait("their ends", |client| client.ended.len() == 1_000);
    bystander.survives(server);
}

/// It sends and sends, and takes no answer: at `reply_bytes` the server reads no more, and gives
/// it up as silent in the end.
#[test]
fn a_client_that_never_reads() {
    let server = Server::start(Options::default().limit("ping_interval_ms", 1_000));
    let mut bystander = Bystander::new(&server);
    let before = server.rss();
    let mut link = met(&server, Encoding::Json);
    link.tcp().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut frames = Vec::new();
    for nonce in 0..2_000 {
        frames.push(ClientFrame::Ping(Ping { nonce, positions: vec![] }));
    }
    // As much as it takes; then writes block, since nobody reads them.
    let mut sent = 0;
    while link.send_all(&frames) {
        sent += 1;
        assert!(sent < 3_000, "it reads on, though nobody takes its answers");
        bystander.goes_on();
    }
    bystander.goes_on();
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes for a client that does not read");
    let end = Instant::now() + WAIT;
    while server.metric("sockets") > 1 {
        assert!(Instant::now() < end, "it was not given up");
        bystander.goes_on();
        bystander.client.drain();
    }
    drop(link);
    bystander.survives(server);
}

#[test]
fn a_client_that_is_silent() {
    let server = Server::start(Options::default().limit("ping_interval_ms", 1_000));
    let mut link = met(&server, Encoding::Bincode);
    let end = Instant::now() + WAIT;
    let mut pinged = false;
    loop {
        match link.next(end) {
            Next::Frame(ServerFrame::Ping(_), _) => pinged = true,
            Next::Frame(ServerFrame::Bye(bye), _) => {
                assert!(pinged, "it is pinged first");
                assert_eq!((bye.code, bye.reconnect), (Code::Silent, true));
            }
            Next::Frame(..) => {}
            Next::Closed(number, _) => {
                assert_eq!(number, 4000 + Code::Silent.number());
                break;
            }
            Next::Nothing => panic!("it was not given up"),
        }
    }
    // Who answers stays, past the time after which one that says nothing is given up.
    let mut link = met(&server, Encoding::Bincode);
    let mut answered = 0;
    while answered < 4 {
        match link.next(Instant::now() + WAIT) {
            Next::Frame(ServerFrame::Ping(Ping { nonce, .. }), _) => {
                link.send(&ClientFrame::Pong(Pong { nonce }));
                answered += 1;
            }
            Next::Frame(ServerFrame::Pong(_), _) => {}
            other => panic!("it answers, and yet: {other:?}"),
        }
    }
}
