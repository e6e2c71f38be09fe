//! The commands, a socket and large bodies through a real nginx: as it is with nothing but
//! `proxy_pass`, and as `docs/security.md` shows it.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Instant;

use highwater::wire::{ClientFrame, Encoding, ServerFrame};
use serde_json::json;

use crate::support::{
    Client, Http, Link, Next, Nginx, Options, Proxy, Running, Server, WAIT, command, errors, feed,
    run, told, until,
};

/// What people write who read no document.
fn plain(server: SocketAddr) -> String {
    format!("location / {{ proxy_pass http://{server}; }}")
}

/// The block of the document, word for word but for the server's address.
fn documented(server: SocketAddr) -> String {
    let text = include_str!("../../../docs/security.md");
    let (_, block) = text.split_once("```nginx\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let address = "http://127.0.0.1:8080";
    assert!(block.contains(address));
    block.replace(address, &format!("http://{server}"))
}

fn words(count: usize) -> Vec<u8> {
    let mut words = String::new();
    for at in 0..count {
        writeln!(words, "{:x}-{at}", at.wrapping_mul(2_654_435_761)).unwrap();
    }
    words.into_bytes()
}

/// A server that comes back, a way to it that can be cut, and an nginx before that.
fn behind(options: Options, block: fn(SocketAddr) -> String) -> Option<(Server, Proxy, Nginx)> {
    let server = Server::start(options);
    let proxy = Proxy::to(server.address);
    let nginx = Nginx::start(&block(proxy.address))?;
    Some((server, proxy, nginx))
}

const BLOCKS: [fn(SocketAddr) -> String; 2] = [plain, documented];

#[test]
fn the_commands_ride_through_restarts_behind_nginx() {
    for block in BLOCKS {
        let Some((mut server, proxy, nginx)) = behind(Options::dev(), block) else { return };
        told(&server.url(), "produce -q a", "first\n");
        let mut follow = Running(command(&nginx.url(), "consume --follow a").spawn().unwrap());
        let lines = follow.lines();
        assert_eq!(lines.recv_timeout(WAIT).unwrap(), "first");
        let mut produce = Running(command(&nginx.url(), "produce a").spawn().unwrap());
        let mut stdin = produce.0.stdin.take().unwrap();
        for at in 0..3 {
            writeln!(stdin, "line {at}").unwrap();
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), format!("line {at}"));
            server.kill9();
            proxy.cut();
            writeln!(stdin, "while it was away {at}").unwrap();
            let away = Http::new(&nginx.url(), None).get("/v1/logs/a");
            assert_eq!(away.status, 502, "{}", away.text());
            server.restart();
            proxy.lead_to(server.address);
            assert_eq!(lines.recv_timeout(WAIT).unwrap(), format!("while it was away {at}"));
        }
        drop(stdin);
        let said = produce.told();
        assert!(produce.0.wait().unwrap().success(), "{said}");
        assert_eq!(server.http().get("/v1/logs/a").ok().lines().len(), 7, "each once");
    }
}

/// The way between nginx and the server is cut in the middle of answers, again and again.
#[test]
fn what_is_cut_behind_nginx_is_read_whole() {
    for block in BLOCKS {
        let Some((server, proxy, nginx)) = behind(Options::dev(), block) else { return };
        let list = words(20_000);
        told(&server.url(), "produce -q --batch-size 1024 a", list.clone());
        let words = "consume --fetch-size 20000 a";
        for passes in [100, 300_000, 1_000_000] {
            proxy.pass(passes);
            let mut child = command(&nginx.url(), words).spawn().unwrap();
            until("the rest is held", || proxy.holds());
            proxy.cut();
            proxy.pass(u64::MAX);
            let mut got = Vec::new();
            child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{passes}: {}", errors(&output));
            assert!(got == list, "{passes}: nothing twice, nothing left out");
        }
    }
}

/// Answers to appends get lost on their way to nginx.
#[test]
fn what_is_sent_again_through_nginx_is_stored_once() {
    for block in BLOCKS {
        let Some((server, proxy, nginx)) = behind(Options::dev(), block) else { return };
        let list = words(5_000);
        let words = "produce --batch-size 50 a";
        let mut child = Running(command(&nginx.url(), words).spawn().unwrap());
        proxy.pass(2_000);
        feed(&mut child.0, list.clone());
        for _ in 0..5 {
            until("an answer that does not arrive", || proxy.holds());
            proxy.pass(2_000);
            proxy.cut();
        }
        proxy.pass(u64::MAX);
        let said = child.told();
        assert!(child.0.wait().unwrap().success(), "{said}");
        assert!(run(&server.url(), "consume a", "").stdout == list, "each once, in order");
    }
}

/// Large bodies: with nothing but `proxy_pass` they are refused by nginx, and `produce` stays under
/// that; with the block of the document the server's own limit counts.
#[test]
fn the_documents_block_takes_bodies_as_large_as_the_server_does() {
    let Some((server, _proxy, nginx)) = behind(Options::dev(), documented) else { return };
    let through = Http::new(&nginx.url(), None);
    let line = format!("{}\n", json!({ "payload": "x".repeat(99_985) }));
    let body = line.repeat(83);
    let lines = [("content-type", "application/x-ndjson")];
    let post = |body: &str| through.ask("POST", "/v1/logs/a", &lines, Some(body.as_bytes()));
    assert!(body.len() > 8_000_000);
    post(&body).ok();
    assert_eq!(server.http().get("/v1/logs/a?limit=0").number("highwater-head"), 83);
    let (status, code) = post(&line.repeat(84)).refusal();
    assert_eq!((status, code.as_str()), (413, "too_large"), "the server's own word");

    let Some((server, _proxy, nginx)) = behind(Options::dev(), plain) else { return };
    let through = Http::new(&nginx.url(), None);
    let refused = through.ask("POST", "/v1/logs/a", &lines, Some(line.repeat(11).as_bytes()));
    assert_eq!(refused.status, 413);
    assert!(refused.text().contains("<html>"), "nginx's own word");
    let wide = format!("{}\n", "y".repeat(100_000)).repeat(40);
    let output = run(&nginx.url(), "produce a", wide);
    assert!(output.status.success(), "{}\n{}", errors(&output), nginx.log());
    assert_eq!(server.http().get("/v1/logs/a?limit=0").number("highwater-head"), 40);
    let refused = nginx.log().matches("too large body").count();
    assert_eq!(refused, 1, "that one above, and none of its own");
}

/// What is appended comes at once, and a socket is one.
#[test]
fn the_documents_block_passes_sockets_on_and_holds_nothing_back() {
    let Some((server, _proxy, nginx)) = behind(Options::dev(), documented) else { return };
    let hello = Client::with(None).wanting("a").hello();
    let mut link = Link::open(nginx.address, Encoding::Json);
    link.send(&ClientFrame::Hello(hello));
    let mut records = 0;
    let mut come = |link: &mut Link, want: usize| {
        while records < want {
            match link.next(Instant::now() + WAIT) {
                Next::Frame(ServerFrame::Records(frame), _) => records += frame.records.len(),
                Next::Frame(..) => {}
                other => panic!("{other:?} after {records} records"),
            }
        }
    };
    told(&nginx.url(), "produce -q a", "one\ntwo\n");
    come(&mut link, 2);
    let mut tail = Running(command(&nginx.url(), "tail a").spawn().unwrap());
    let lines = tail.lines();
    until("it waits", || {
        server.http().get("/metrics").text().contains("highwater_http_requests_waiting 1\n")
    });
    told(&server.url(), "produce -q a", "three\n");
    assert_eq!(lines.recv_timeout(WAIT).unwrap(), "three");
    come(&mut link, 3);
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(Http::new(&nginx.url(), None).get(path).status, 403, "{path}");
    }
}

/// A client whose link carries 200 kB a second, with nginx between.
#[test]
fn a_slow_link_behind_nginx_carries_all() {
    for block in BLOCKS {
        let Some((_server, _proxy, nginx)) = behind(Options::dev(), block) else { return };
        let slow = Proxy::slow(nginx.address, 200_000);
        let list = words(5_000);
        let url = format!("http://{}", slow.address);
        let output = run(&url, "produce -q --batch-size 1024 a", list.clone());
        assert!(output.status.success(), "{}", errors(&output));
        let output = run(&url, "consume --fetch-size 20000 a", "");
        assert!(output.status.success(), "{}", errors(&output));
        assert!(output.stdout == list);
    }
}
