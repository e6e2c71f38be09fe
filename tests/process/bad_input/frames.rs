//! Bytes that are no frames, frames of the wrong size or kind, handshakes that are none.

use super::*;

#[test]
fn frames_that_cannot_be_read() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let whole = binary(&ClientFrame::Ping(Ping { nonce: 300, positions: vec![] }));
    let subscribe = |rest: &[u8]| raw(2, &[&[1, 1, 1, b'a'], rest].concat());
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a frame cut short", whole[..whole.len() - 1].to_vec()),
        ("a head cut short", vec![251]),
        ("a body that lacks fields", raw(9, &[])),
        ("a number cut short", raw(9, &[253, 1])),
        ("an option that is neither", subscribe(&[2, 0, 0])),
        ("a bool that is neither", raw(6, &[2])),
        ("a variant that there is not", subscribe(&[0, 9, 0])),
        ("text that is not UTF-8", raw(8, &[2, 0xff, 0xfe])),
        ("a number wider than its field", raw(3, &[253, 1, 0, 0, 0, 0, 0, 0, 0, 0])),
        ("a list longer than the body", raw(3, &[1, 252, 255, 255, 255, 0])),
        ("a string longer than the body", raw(8, &[250, b'a'])),
        ("a varint of no width", raw(9, &[255, 0, 0])),
    ];
    for (what, bytes) in cases {
        let mut link = met(&server, Encoding::Bincode);
        link.send_bytes(bytes);
        closed_with(&mut link, Code::BadFrame, what);
        bystander.goes_on();
    }
    for (what, line) in [
        ("no JSON", "hello"),
        ("cut short", r#"{"ping":{"nonce":1"#),
        ("no object", "[1]"),
        ("two members", r#"{"ping":{"nonce":1},"pong":{"nonce":1}}"#),
        ("no member", "{}"),
        ("a member twice", r#"{"ping":{"nonce":1,"nonce":2}}"#),
        ("a member that is absent", r#"{"ping":{}}"#),
        ("a fraction", r#"{"ping":{"nonce":1.5}}"#),
        ("a negative number", r#"{"ping":{"nonce":-1}}"#),
        ("an id in upper case", r#"{"retire":{"writer":"AA112233445566778899AABBCCDDEEFF"}}"#),
        ("a lone surrogate", r#"{"refresh":{"token":"\ud800"}}"#),
        ("one in what is passed over", r#"{"ping":{"nonce":1,"later":"\udc00"}}"#),
        ("one in a name that is not known", r#"{"ping":{"nonce":1,"\ud83d\ud83d\ude00":0}}"#),
        ("one in a kind that is not known", r#"{"later":["\ud800\u0041"]}"#),
        ("a byte order mark", "\u{feff}{\"ping\":{\"nonce\":1}}"),
        ("very deep", &"[".repeat(5_000)),
    ] {
        let mut link = met(&server, Encoding::Json);
        link.send_bytes(line.as_bytes().to_vec());
        closed_with(&mut link, Code::BadFrame, what);
        bystander.goes_on();
    }
    bystander.survives(server);
}

#[test]
fn sizes_and_kinds_of_messages() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let most = 1 << 20;
    let mut link = met(&server, Encoding::Bincode);
    link.send_message(Message::binary(vec![0; most + 65]));
    closed_with(&mut link, Code::FrameTooLarge, "a message over its limit");
    bystander.goes_on();
    let mut head = vec![8, 252];
    head.extend_from_slice(&(most as u32 + 1).to_le_bytes());
    let mut link = met(&server, Encoding::Bincode);
    link.send_bytes(head.clone());
    closed_with(&mut link, Code::FrameTooLarge, "a frame that says it is over its limit");
    let mut link = Link::open(server.address, Encoding::Bincode);
    link.send_bytes(head);
    closed_with(&mut link, Code::FrameTooLarge, "the same before hello");
    bystander.goes_on();
    for (encoding, message) in [
        (Encoding::Bincode, Message::text("{\"ping\":{\"nonce\":1}}")),
        (
            Encoding::Json,
            Message::binary(binary(&ClientFrame::Ping(Ping { nonce: 1, positions: vec![] }))),
        ),
    ] {
        let mut link = met(&server, encoding);
        link.send_message(message.clone());
        closed_with(&mut link, Code::WrongEncoding, "the other kind of message");
        let mut link = Link::open(server.address, encoding);
        link.send_message(message);
        closed_with(&mut link, Code::WrongEncoding, "the other kind before hello");
        bystander.goes_on();
    }
    // Bytes that are no WebSocket at all.
    let mut link = met(&server, Encoding::Bincode);
    std::io::Write::write_all(&mut link.tcp(), &[0xff; 64]).unwrap();
    closed_with(&mut link, Code::BadFrame, "no WebSocket frame");
    bystander.survives(server);
}

/// What is not known is skipped, and what is reserved is refused; the socket goes on.
#[test]
fn what_is_not_known_yet() {
    let server = Server::start(Options::default());
    let mut client = Client::new("new");
    client.encoding = Encoding::Bincode;
    let mut client = client.join(&server);
    let link = client.link.as_mut().unwrap();
    link.send_bytes(raw(63, b"whatever it is"));
    link.send_bytes(raw(64, b"a welcome from a client"));
    link.send_bytes(raw(200, b""));
    link.send_bytes(Vec::new());
    let longer = [
        &binary(&ClientFrame::Ping(Ping { nonce: 7, positions: vec![] }))[2..],
        b"a field of later",
    ]
    .concat();
    link.send_bytes(raw(9, &longer));
    client.wait("pong", |client| client.pongs.contains(&7));
    for (n, frame) in [
        ClientFrame::Signal,
        ClientFrame::Broadcast,
        ClientFrame::Call,
        ClientFrame::Reply,
        ClientFrame::SubscribePattern,
        ClientFrame::Fetch,
        ClientFrame::Transact,
        ClientFrame::Lag,
    ]
    .into_iter()
    .enumerate()
    {
        let request = 100 + n as u32;
        client.send(&frame(Later { request }));
        assert_eq!(client.refusal(request).code, Code::Unsupported);
    }
    let mut client = Client::new("new");
    client.encoding = Encoding::Json;
    let mut client = client.join(&server);
    let lines = "\n{\"later\":{\"x\":[1,{}]}}\n\n{\"ping\":{\"nonce\":8,\"more\":true}}\n";
    client.link.as_mut().unwrap().send_bytes(lines.as_bytes().to_vec());
    client.wait("pong", |client| client.pongs.contains(&8));
}

/// A browser keeps the status of a refused handshake from its page, so a page of a foreign origin
/// is told on the socket why it may not come, whatever it says; and its place is free again.
#[test]
fn a_page_of_a_foreign_origin_is_told_so() {
    let server = Server::start(Options::default().limit("sockets", 3));
    for n in 0..9 {
        let mut link = None;
        until("a place to be free", || {
            let evil = Some("https://evil.example");
            link = Link::try_open_from(evil, server.address, Encoding::ALL[n % 2]).ok();
            link.is_some()
        });
        let mut link = link.unwrap();
        // It may have been closed by now.
        link.send_all(&[ClientFrame::Hello(Client::new("ann").hello())]);
        let end = Instant::now() + WAIT;
        let Next::Frame(ServerFrame::Bye(bye), _) = link.next(end) else { panic!("no word") };
        assert_eq!((bye.code, bye.reconnect), (Code::Origin, false));
        let Next::Closed(code, _) = link.next(end) else { panic!("it is not closed") };
        assert_eq!(code, 4000 + Code::Origin.number());
    }
    let told = server.http().get("/v1/connections").ok().json();
    assert_eq!(told["connections"], serde_json::json!([]), "nobody was met");
}

#[test]
fn handshakes_that_are_none() {
    let server = Server::start(Options::default().limit("sockets", 3));
    let status = |change: &dyn Fn(&mut tungstenite::handshake::client::Request)| {
        let url = format!("ws://{}/v1/connect", server.address);
        let mut request = url.into_client_request().unwrap();
        let subprotocol = Encoding::Json.subprotocol().parse().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        change(&mut request);
        let tcp = std::net::TcpStream::connect(server.address).unwrap();
        match tungstenite::client::client(request, tcp) {
            Ok(_) => 101,
            Err(tungstenite::handshake::HandshakeError::Failure(tungstenite::Error::Http(
                response,
            ))) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(status(&|_| {}), 101);
    let protocol = "Sec-WebSocket-Protocol";
    assert_eq!(status(&|request| drop(request.headers_mut().remove(protocol))), 400);
    let other = |request: &mut tungstenite::handshake::client::Request| {
        request.headers_mut().insert(protocol, "highwater.v9.json".parse().unwrap());
    };
    assert_eq!(status(&other), 400);
    // The client's first choice that the server knows.
    let first = Link::try_open(server.address, Encoding::Bincode);
    assert!(first.is_ok());
    until("a place to be free again", || status(&|_| {}) == 101);
    drop(first);
}
