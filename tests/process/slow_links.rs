//! Slow links: what takes longer than the time after which silence is taken for the end arrives
//! all the same, up and down, since each piece of it is a sign of life.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::support::{Client, Next, Options, Proxy, Server, WAIT};
use highwater::wire::{
    ClientFrame, Code, Encoding, Payload, Ping, PutSnapshot, Record, ServerFrame, capability,
};

/// Bytes a second of the link, and of the record that it carries: eight seconds.
const RATE: u64 = 60_000;
const LARGE: usize = 500_000;
/// The server takes twice this for the end, a client a little more.
const INTERVAL: u64 = 2_000;
const DEADLINE: Duration = Duration::from_millis(5_000);

fn options() -> Options {
    Options::default().limit("ping_interval_ms", INTERVAL)
}

/// A client on a slow link, as strict as the server is.
struct Slow {
    client: Client,
    proxy: Proxy,
    heard: Instant,
    /// The longest silence.
    silence: Duration,
}

impl Slow {
    fn new(server: &Server, encoding: Encoding, log: &str) -> Self {
        let proxy = Proxy::slow(server.address, RATE);
        let mut client = Client::new("slow").wanting(log);
        client.encoding = encoding;
        client.through = Some(proxy.address);
        Self { client, proxy, heard: Instant::now(), silence: Duration::ZERO }
    }

    fn count(&self) -> usize {
        self.client.link.as_ref().map_or(0, |link| link.messages)
    }

    /// Goes on until something holds; the number of messages that came meanwhile.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Client) -> bool) -> usize {
        let before = self.count();
        self.heard = Instant::now();
        while !holds(&self.client) {
            let known = self.count();
            self.client.step(Instant::now() + Duration::from_millis(50));
            if self.count() > known {
                self.silence = self.silence.max(self.heard.elapsed());
                self.heard = Instant::now();
            }
            assert!(self.heard.elapsed() < DEADLINE, "silence, though: {what}");
            assert_eq!(self.client.closed, None, "{:?}: {what}", self.client.bye);
        }
        self.count() - before
    }

    /// Another client stores a text, while this one goes on answering the server.
    fn store(&mut self, server: &Server, log: &str, text: &str) {
        std::thread::scope(|scope| {
            let stored = scope.spawn(|| store(server, log, text));
            self.until("another client to store", |_| stored.is_finished());
        });
    }
}

fn large(encoding: Encoding) -> String {
    // Of several bytes a character, so that borders of pieces fall into some.
    match encoding {
        Encoding::Json => "\u{20ac}\"".repeat(LARGE / 4),
        Encoding::Bincode => "x".repeat(LARGE),
    }
}

/// Stores a text by a client that comes for it alone.
fn store(server: &Server, log: &str, text: &str) -> u64 {
    let mut writer = Client::new("wim").join(server);
    let offset = writer.store(log, text);
    writer.leave(true);
    offset
}

/// A record of 500 kB on a link of 15 kB/s never arrived: its client heard nothing of a frame until
/// it was whole, and a server that pings behind it took the client for gone.
#[test]
fn a_large_record_arrives_over_a_link_slower_than_the_deadline() {
    let server = Server::start(options());
    for (encoding, log) in [(Encoding::Bincode, "slow/b"), (Encoding::Json, "slow/j")] {
        store(&server, log, "small");
        let mut slow = Slow::new(&server, encoding, log);
        slow.client.connect(&server);
        slow.until("the small record", |client| client.find(log).is_some_and(|l| l.cursor == 1));
        let text = large(encoding);
        slow.store(&server, log, &text);
        // Its own requests are answered meanwhile, between two parts.
        let nonce = 77;
        slow.until("a part", |client| client.link.as_ref().is_some_and(|link| link.parted > 0));
        slow.client.send(&ClientFrame::Ping(Ping { nonce, positions: vec![] }));
        slow.until("pong", |client| client.pongs.contains(&nonce));
        let seq = slow.client.append("slow/own", "mine");
        slow.until("its answer", |client| client.outcomes().contains_key(&seq));
        assert_eq!(slow.client.log(log).cursor, 1, "the record is still on its way");
        slow.until("the large record", |client| client.log(log).cursor == 2);
        let held = slow.client.log(log);
        assert_eq!(held.records[&1].payload.as_deref(), Some(text.as_bytes()));
        let link = slow.client.link.as_ref().unwrap();
        assert!(link.parted > LARGE / (32 << 10), "{} parts", link.parted);
        // Those two, and pings of the server: without an answer to them it had closed.
        assert!(link.between > 2, "{} frames came between parts", link.between);
        // The window counts the frame as a whole: what follows finds it open again.
        slow.store(&server, log, "after");
        slow.until("what follows", |client| client.log(log).cursor == 3);
        slow.proxy.cut();
    }
}

/// A part of a client-made snapshot is as large as a frame may be.
#[test]
fn a_large_base_arrives_over_a_slow_link() {
    let server = Server::start(options().rule("client/**", "client", ""));
    let mut maker = Client::new("mia").wanting("client/a").join(&server);
    maker.store("client/a", "0");
    maker.reach("client/a", 1);
    let log = maker.log("client/a").log;
    let data: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    maker.send(&ClientFrame::PutSnapshot(PutSnapshot {
        request: 5,
        log,
        offset: 1,
        version: 1,
        part: 0,
        last: true,
        data: Payload::binary(data.clone().into()),
    }));
    maker.wait("done", |client| client.done == [5]);
    maker.leave(true);
    for encoding in Encoding::ALL {
        let mut slow = Slow::new(&server, encoding, "client/a");
        slow.client.connect(&server);
        slow.until("the base", |client| client.find("client/a").is_some_and(|log| log.shown()));
        assert_eq!(*slow.client.log("client/a").base, Some((1, data.clone())));
        assert!(slow.client.link.as_ref().unwrap().parted > 200_000 / (32 << 10));
        slow.proxy.cut();
    }
}

/// Who does not say that it puts parts together gets each frame whole, beside others who do.
#[test]
fn without_the_capability_frames_come_whole() {
    let server = Server::start(Options::default());
    let mut clients = Vec::new();
    for encoding in Encoding::ALL {
        for lacks in [None, Some(capability::PARTS)] {
            let mut client = Client::new("ann").wanting("docs/a");
            client.encoding = encoding;
            client.capabilities.retain(|name| Some(*name) != lacks);
            clients.push(client.join(&server));
        }
    }
    let text = large(Encoding::Json);
    let small = "x".repeat(20_000);
    store(&server, "docs/a", &text);
    store(&server, "docs/a", &small);
    for client in &mut clients {
        client.reach("docs/a", 2);
        let held = client.log("docs/a");
        assert_eq!(held.records[&0].payload.as_deref(), Some(text.as_bytes()));
        assert_eq!(held.records[&1].payload.as_deref(), Some(small.as_bytes()));
        let parted = client.link.as_ref().unwrap().parted;
        let can = client.capabilities.contains(&capability::PARTS);
        assert_eq!(parted > 0, can, "{parted} parts");
    }
    let received: Vec<u64> = clients.iter().map(|client| client.received).collect();
    assert_eq!((received[0], received[2]), (received[1], received[3]), "both count alike");
}

/// A large append on a slow uplink is no silence, though no frame of it is whole for long; and its
/// client, which can ask nothing meanwhile, is told that the server is there.
#[test]
fn a_large_append_arrives_over_a_slow_uplink() {
    let server = Server::start(options());
    for encoding in Encoding::ALL {
        let mut slow = Slow::new(&server, encoding, "slow/up");
        slow.client.connect(&server);
        let text = large(Encoding::Bincode);
        let record = Record { payload: Some(Payload::text(text)), ..Record::default() };
        let to = highwater::wire::Target::Name("slow/other".to_owned());
        let seq = slow.client.append_to(to, None, record);
        // Its own question whether anybody is there would wait behind the record.
        slow.until("its answer", |client| client.outcomes().contains_key(&seq));
        slow.proxy.cut();
    }
}

/// The node itself was away: what came meanwhile counts, and who was quiet has its whole time.
#[test]
fn a_node_that_was_paused_takes_nobody_for_silent() {
    let server = Server::start(Options::default().limit("ping_interval_ms", 2_000));
    let join = |n: usize| Client::new(&format!("user {n}")).join(&server);
    let mut clients: Vec<Client> = (0..10).map(join).collect();
    server.signal("STOP");
    // More than twice the interval has to go by. Half of the clients go on talking meanwhile, the
    // others are quiet; a server that stands still says nothing to either.
    let end = Instant::now() + Duration::from_millis(7_000);
    let mut nonce = 100;
    while Instant::now() < end {
        nonce += 1;
        let (_quiet, talking) = clients.split_at_mut(5);
        for client in talking {
            client.send(&ClientFrame::Ping(Ping { nonce, positions: vec![] }));
            client.step(Instant::now() + Duration::from_millis(20));
        }
    }
    server.signal("CONT");
    for round in 0..5 {
        for client in &mut clients {
            client.sync();
            assert!(client.bye.is_none() && client.closed.is_none(), "round {round}");
        }
    }
}

/// A message that is sent a byte at a time is no sign of life: nobody holds half of one for ever.
#[test]
fn a_client_that_dribbles_is_silent() {
    let server = Server::start(options());
    let mut client = Client::new("ann").join(&server);
    let link = client.link.as_mut().unwrap();
    // A masked binary message of 60,000 bytes.
    link.tcp().write_all(&[0x82, 0xfe, 0xea, 0x60, 0, 0, 0, 0]).unwrap();
    let end = Instant::now() + WAIT;
    let bye = loop {
        link.tcp().write_all(&[0]).ok();
        match link.next(Instant::now() + Duration::from_millis(20)) {
            Next::Frame(ServerFrame::Bye(bye), _) => break bye,
            Next::Closed(..) => panic!("closed without a word"),
            _ => assert!(Instant::now() < end, "it is still there"),
        }
    };
    assert_eq!(bye.code, Code::Silent);
}
