//! Bases over links that are cut: what has come is kept, so that each connection gets further, and
//! the state at the end is exact, whatever was written meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Client, Options, Proxy, Server, WAIT};
use highwater::wire::{ClientFrame, Encoding, Payload, PutSnapshot, ResetReason, capability};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Keys of the base; about 200 bytes each.
const KEYS: usize = 2_500;
/// What one connection carries before it is cut: about a fifth of the base.
const PASSES: u64 = 120_000;
/// A base that begins anew each time is never complete; one that goes on is well before that.
const MOST: usize = 40;

type State = BTreeMap<String, Vec<u8>>;

fn options() -> Options {
    Options::default().rule("latest/**", "latest", "").rule("client/**", "client", "")
}

/// Puts and removes keys, old and new ones, as the state says afterwards.
fn change(random: &mut StdRng, writer: &mut Client, log: &str, state: &mut State) {
    for _ in 0..random.random_range(1..60) {
        let key = format!("key/{:05}", random.random_range(0..KEYS + 200));
        if random.random_bool(0.3) {
            writer.put(log, &key, None);
            state.remove(&key);
        } else {
            let text = format!("{}{}", random.random::<u64>(), "y".repeat(150));
            writer.put(log, &key, Some(&text));
            state.insert(key, text.into_bytes());
        }
    }
    writer.settled();
}

fn fill(writer: &mut Client, log: &str) -> State {
    let mut state = State::new();
    for at in 0..KEYS {
        let (key, text) = (format!("key/{at:05}"), format!("{at}{}", "x".repeat(150)));
        writer.put(log, &key, Some(&text));
        state.insert(key, text.into_bytes());
        if at % 500 == 499 {
            writer.settled();
        }
    }
    state
}

fn state_of(client: &Client, log: &str) -> State {
    let keys = client.log(log).keys.iter();
    keys.map(|(key, (_, payload))| (key.clone(), payload.clone())).collect()
}

/// A client behind a link that carries so many bytes and is then cut.
fn behind(proxy: &Proxy, encoding: Encoding, log: &str) -> Client {
    let mut client = Client::new("rea").wanting(log);
    (client.encoding, client.through) = (encoding, Some(proxy.address));
    client
}

/// Connects, and takes what comes until the log is shown or the link carries no more; then cut.
/// Whether it is shown.
fn carry(client: &mut Client, server: &Server, proxy: &Proxy, log: &str) -> bool {
    proxy.pass(PASSES);
    client.connect(server);
    let shown = |client: &Client| client.find(log).is_some_and(|held| held.shown());
    let end = Instant::now() + WAIT;
    while !shown(client) && !proxy.holds() {
        client.step(Instant::now() + Duration::from_millis(20));
        assert!(Instant::now() < end, "neither shown nor held up");
    }
    client.drain();
    shown(client)
}

fn a_latest_base_completes(encoding: Encoding) {
    let seed = crate::support::seed("cut_bases");
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start(options());
    let proxy = Proxy::to(server.address);
    let mut writer = Client::new("wim").join(&server);
    let mut state = fill(&mut writer, "latest/a");
    let mut reader = behind(&proxy, encoding, "latest/a");
    let (mut connections, mut keys) = (0, 0);
    while !carry(&mut reader, &server, &proxy, "latest/a") {
        connections += 1;
        assert!(connections < MOST, "it does not get on");
        let held = reader.log("latest/a");
        assert!(held.whole || held.keys.len() >= keys, "what has come is kept");
        keys = held.keys.len();
        reader.cut();
        proxy.cut();
        change(&mut random, &mut writer, "latest/a", &mut state);
    }
    let held = reader.log("latest/a");
    assert!(held.went_on >= 2, "{} of {connections} connections went on", held.went_on);
    assert_eq!(held.resets, [ResetReason::New], "it began once");
    proxy.pass(u64::MAX);
    change(&mut random, &mut writer, "latest/a", &mut state);
    let head = writer.offset(writer.writer().last()).unwrap() + 1;
    reader.reach("latest/a", head);
    assert!(state_of(&reader, "latest/a") == state, "the state is not exact");
    let mut fresh = Client::new("eve").wanting("latest/a").join(&server);
    fresh.reach("latest/a", head);
    assert!(state_of(&fresh, "latest/a") == state, "nor is it for who begins now");
}

/// A base of 100,000 keys with a cut every 8 s began anew each time and was never complete.
#[test]
fn a_latest_base_that_is_cut_completes_while_others_write() {
    a_latest_base_completes(Encoding::Bincode);
}

#[test]
fn a_latest_base_that_is_cut_completes_in_json_too() {
    a_latest_base_completes(Encoding::Json);
}

/// A client that says nothing of bases is reset each time, as before.
#[test]
fn without_the_capability_a_base_begins_anew() {
    let server = Server::start(options());
    let proxy = Proxy::to(server.address);
    let mut writer = Client::new("wim").join(&server);
    fill(&mut writer, "latest/a");
    let mut reader = behind(&proxy, Encoding::Bincode, "latest/a");
    reader.capabilities.retain(|name| *name != capability::BASES);
    for _ in 0..2 {
        assert!(!carry(&mut reader, &server, &proxy, "latest/a"));
        assert_eq!(reader.log("latest/a").resets, [ResetReason::New]);
        assert!(reader.log("latest/a").keys.len() < KEYS / 2);
        reader.cut();
        proxy.cut();
    }
    // Nor does it help to say it without the capability.
    proxy.pass(u64::MAX);
    reader.connect(&server);
    reader.reach("latest/a", KEYS as u64);
    assert_eq!(reader.log("latest/a").went_on, 0);
}

/// Puts a snapshot of the log's head: 5 parts of 50,000 bytes that say whose they are.
fn put_snapshot(maker: &mut Client, log: &str, fill: u8) -> Vec<u8> {
    let offset = maker.store(log, "one more") + 1;
    maker.reach(log, offset);
    let id = maker.log(log).log;
    let mut whole = Vec::new();
    for part in 0..5 {
        let data = vec![fill + part; 50_000];
        whole.extend_from_slice(&data);
        let part = u32::from(part);
        let (data, last) = (Payload::binary(data.into()), part == 4);
        let (log, version, request) = (id, 1, u32::from(fill));
        let put = PutSnapshot { request, log, offset, version, part, last, data };
        maker.send(&ClientFrame::PutSnapshot(put));
    }
    maker.wait("done", |client| client.done.contains(&u32::from(fill)));
    whole
}

/// The parts of a snapshot go on as long as it is kept, also when there is a newer one.
#[test]
fn a_clients_base_that_is_cut_goes_on_while_it_is_kept() {
    let server = Server::start(options());
    let proxy = Proxy::to(server.address);
    for (encoding, log) in [(Encoding::Bincode, "client/b"), (Encoding::Json, "client/j")] {
        let mut maker = Client::new("mia").wanting(log).join(&server);
        let first = put_snapshot(&mut maker, log, 10);
        let mut reader = behind(&proxy, encoding, log);
        assert!(!carry(&mut reader, &server, &proxy, log));
        let came = reader.log(log).base.clone().unwrap().1.len();
        assert!((50_000..250_000).contains(&came), "{came}");
        reader.cut();
        proxy.cut();
        // A newer one comes in between; the one before is still kept.
        put_snapshot(&mut maker, log, 20);
        while !carry(&mut reader, &server, &proxy, log) {
            let held = reader.log(log);
            assert!(held.went_on < 8 && held.resets.len() == 1, "it does not get on");
            reader.cut();
            proxy.cut();
        }
        let held = reader.log(log);
        assert_eq!((held.resets, held.went_on > 0), (&[ResetReason::New][..], true));
        assert!(held.base.as_ref().is_some_and(|(at, data)| (*at, data) == (1, &first)));
        proxy.pass(u64::MAX);
        reader.reach(log, 2);
        reader.leave(true);
        maker.leave(true);
    }
}

/// One that is no longer kept begins anew.
#[test]
fn a_clients_base_that_is_gone_begins_anew() {
    let server = Server::start(options());
    let proxy = Proxy::to(server.address);
    let mut maker = Client::new("mia").wanting("client/a").join(&server);
    put_snapshot(&mut maker, "client/a", 10);
    let mut reader = behind(&proxy, Encoding::Bincode, "client/a");
    assert!(!carry(&mut reader, &server, &proxy, "client/a"));
    reader.cut();
    proxy.cut();
    put_snapshot(&mut maker, "client/a", 20);
    let newest = put_snapshot(&mut maker, "client/a", 30);
    proxy.pass(u64::MAX);
    reader.connect(&server);
    reader.reach("client/a", 3);
    let held = reader.log("client/a");
    assert_eq!((held.resets, held.went_on), (&[ResetReason::New; 2][..], 0));
    assert!(held.base.as_ref().is_some_and(|(at, data)| (*at, data) == (3, &newest)));
}
