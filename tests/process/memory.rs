//! `memory_bytes`: who holds most loses its channel, and its socket if it holds on; who works its
//! share off is left alone.

use crate::support::{Client, Options, Server, until};

/// Buffers outgrow the node's memory: whoever holds them up loses its channel, the others stay.
#[test]
fn reason_memory() {
    let options = [
        ("memory_bytes", 64 << 20),
        ("tail_bytes", 62 << 20),
        ("tail_bytes_per_log", 62 << 20),
        ("queue_bytes", 2 << 20),
        ("http_body_bytes", 1 << 20),
        ("window_bytes", 64 << 20),
        ("append_bytes_per_user_second", 1 << 32),
    ];
    let options =
        options.into_iter().fold(Options::default(), |all, (name, value)| all.limit(name, value));
    let server = Server::start(options);
    let mut writer = Client::new("wim").join(&server);
    let still: Vec<Client> = (0..24)
        .map(|n| {
            let own = format!("own/{n}");
            // Of what all watch the newest records are kept; nobody of these comes to read them.
            let mut client = Client::new(&own).wanting(&own).wanting("docs/a");
            client.window = 64 << 20;
            client.join(&server)
        })
        .collect();
    let mut busy = Client::new("rea").wanting("docs/b").join(&server);
    let held = |name: &str| {
        let metrics = server.http().get("/metrics").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    // None of them reads. A record of its own is half on its way to each, however much the kernel
    // takes; to some exactly as much as fits.
    let mut rounds = 0;
    while held("highwater_delivery_bytes ") < 6 << 20 {
        (0..24).for_each(|n| {
            writer.store(&format!("own/{n}"), &"x".repeat(500_000));
        });
        rounds += 1;
        assert!(rounds < 100, "they take {rounds} records each and never block");
    }
    let http = server.http();
    let downgraded = |client: &Client| {
        let told = http.get(&format!("/v1/connections/{}", client.connection)).ok().json();
        told["reason"] == "memory"
    };
    // With the newest records of what all of them watch it is too much.
    let mut filled = 0;
    while !still.iter().any(downgraded) {
        writer.store("docs/a", &"x".repeat(500_000));
        filled += 1;
        writer.store("docs/b", "small");
        busy.reach("docs/b", filled);
        assert!(filled < 1_000, "nobody is downgraded");
    }
    let most = 64 << 20;
    // That alone gives nothing back of what is on its way: who does not take it loses its socket.
    until("memory to be given back", || {
        held("highwater_tail_bytes ") + held("highwater_delivery_bytes ") <= most
    });
    assert!(!downgraded(&busy), "who reads is not to blame");
    writer.sync();
    assert!(writer.active && writer.states.is_empty(), "nor who writes");
}
