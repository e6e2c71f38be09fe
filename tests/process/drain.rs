//! Going away: on SIGTERM clients are sent away at spread times, requests under way are answered,
//! new ones are told to go elsewhere, and the node ends by itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::{Client, Link, Options, Server, until};
use highwater::wire::{Code, Encoding};

/// A request whose body is half there.
fn half_a_request(server: &Server) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let head = b"POST /v1/logs/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf";
    stream.write_all(head).unwrap();
    stream
}

fn requests_under_way(server: &Server, count: usize) {
    let line = format!("highwater_http_requests_waiting {count}\n");
    until("requests are under way", || server.http().get("/metrics").text().contains(&line));
}

#[test]
fn requests_under_way_are_answered_and_new_ones_are_not_taken() {
    let mut server = Server::start(Options::dev().limit("drain_ms", 20_000));
    let http = server.http();
    http.post("/v1/logs/a", "x").ok();
    let waits = {
        let http = http.clone();
        std::thread::spawn(move || http.get("/v1/logs/a?from=end&wait=60000"))
    };
    let mut half = half_a_request(&server);
    requests_under_way(&server, 2);
    server.ask_to_stop();
    // Who waits for records is told that there are none; it asks again, elsewhere.
    assert_eq!(waits.join().unwrap().ok().body, b"");
    // The one whose body is on its way may finish, and is stored.
    until("new ones are refused", || http.get("/v1/logs/a").status == 503);
    let refused = http.get("/v1/logs/a");
    assert_eq!(refused.refusal(), (503, "shutting_down".to_owned()));
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(Link::try_open(server.address, Encoding::Json).is_err(), "no new sockets");
    half.write_all(b"done").unwrap();
    let mut answer = String::new();
    half.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.wait_for_end().success(), "and then it ends by itself");
    server.restart();
    let kept = server.http().get("/v1/logs/a?format=raw").ok().text();
    assert_eq!(kept, "x\nhalfdone\n");
}

/// Clients that come at the very moment are sent away like those that were there.
#[test]
fn every_client_is_told_to_come_back_at_its_own_time() {
    const SPAN: u64 = 5_000;
    let mut server = Server::start(Options::default().limit("drain_ms", SPAN));
    let mut there: Vec<Client> =
        (0..20).map(|n| Client::new(&format!("u{n}")).join(&server)).collect();
    let come: Vec<_> = (0..4)
        .map(|n| {
            let (address, hello) = (server.address, Client::new(&format!("new{n}")).hello());
            std::thread::spawn(move || come_and_come_again(address, &hello))
        })
        .collect();
    server.ask_to_stop();
    let mut times: Vec<u32> = (there.iter_mut())
        .map(|client| {
            assert_eq!(client.until_closed(), 4000 + Code::ShuttingDown.number());
            let bye = client.bye.clone().expect("it is told");
            assert!(bye.reconnect && (500..500 + SPAN).contains(&u64::from(bye.after)), "{bye:?}");
            bye.after
        })
        .collect();
    times.sort_unstable();
    times.dedup();
    assert!(times.len() > 10, "spread: {times:?}");
    assert!(server.wait_for_end().success());
    for one in come {
        one.join().unwrap();
    }
}

/// Connects until there is nobody; every socket that was met ends with a word.
fn come_and_come_again(address: std::net::SocketAddr, hello: &highwater::wire::Hello) {
    use highwater::wire::{ClientFrame, ServerFrame};
    while let Ok(mut link) = Link::try_open(address, Encoding::Bincode) {
        let hello = highwater::wire::Hello { connection: crate::support::id(), ..hello.clone() };
        link.send(&ClientFrame::Hello(hello));
        let end = std::time::Instant::now() + crate::support::WAIT;
        let (mut met, mut told) = (false, false);
        loop {
            match link.next(end) {
                crate::support::Next::Frame(ServerFrame::Welcome(_), _) => {
                    met = true;
                    // Half of them stay, to be sent away.
                    if rand::random() {
                        link.cut();
                        break;
                    }
                }
                crate::support::Next::Frame(ServerFrame::Bye(bye), _) => {
                    assert_eq!(bye.code, Code::ShuttingDown);
                    told = true;
                }
                crate::support::Next::Frame(..) => {}
                crate::support::Next::Closed(..) => {
                    assert!(told || !met, "it was met, and closed without a word");
                    break;
                }
                crate::support::Next::Nothing => panic!("it stays open"),
            }
        }
    }
}
