//! Everything bad that can come over a socket, or lie in the data folder: each gets the code that
//! `docs/protocol.md` §10 and §9 name, nothing that was stored is lost, nobody else is disturbed.
//!
//! A log at its last offset cannot be made over a socket: it is held in `tests/fold`. A full disk is
//! held in `tests/store.rs`, and a folder that cannot be written, where tests are not run as root.

mod support;

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use highwater::wire::{
    Ack, Append, ClientFrame, Cloning, Code, Cursor, Encoding, Hello, Id, Item, Later, MAX_OFFSET,
    Open, Outcome, Payload, Ping, PutSnapshot, Record, Refresh, Retire, Seek, ServerFrame, Start,
    Subscribe, Target, Unsubscribe, WriterAt, codec,
};
use support::{Client, Link, Next, Options, SECRET, Server, WAIT, token, token_until, until};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};

/// Somebody who is in the middle of work; looks after each case whether it goes on undisturbed.
struct Bystander {
    client: Client,
    stored: u64,
}

impl Bystander {
    fn new(server: &Server) -> Self {
        let client = Client::new("bystander").wanting("quiet/log").join(server);
        Self { client, stored: 0 }
    }

    fn goes_on(&mut self) {
        assert_eq!(self.client.store("quiet/log", "still here"), self.stored);
        self.stored += 1;
        self.client.reach("quiet/log", self.stored);
        assert!(self.client.active && self.client.closed.is_none());
    }

    /// And after a crash everything is there.
    fn survives(mut self, mut server: Server) {
        server.crash();
        let mut reader = Client::new("late").wanting("quiet/log").join(&server);
        reader.reach("quiet/log", self.stored);
        assert_eq!(reader.seen.len() as u64, self.stored);
        self.client.cut();
        self.client.connect(&server);
        self.goes_on();
    }
}

/// Takes frames until the socket closes: with `bye` of a code, and the close code that goes with it.
fn closed_with(link: &mut Link, code: Code, what: &str) {
    let end = Instant::now() + WAIT;
    let mut bye = None;
    loop {
        match link.next(end) {
            Next::Frame(ServerFrame::Bye(told), _) => bye = Some(told),
            Next::Frame(..) => assert!(bye.is_none(), "{what}: bye is the last frame"),
            Next::Closed(number, reason) => {
                let bye = bye.unwrap_or_else(|| panic!("{what}: closed {number} without bye"));
                assert_eq!(bye.code, code, "{what}: {}", bye.message);
                assert!(!bye.message.is_empty(), "{what}: says what to do");
                assert_eq!(
                    (number, reason.as_str()),
                    (4000 + code.number(), code.name()),
                    "{what}"
                );
                return;
            }
            Next::Nothing => panic!("{what}: the socket stays open"),
        }
    }
}

fn hello(user: &str) -> Hello {
    Client::new(user).hello()
}

/// A link that was welcomed.
fn met(server: &Server, encoding: Encoding) -> Link {
    let mut link = Link::open(server.address, encoding);
    link.send(&ClientFrame::Hello(hello("bad")));
    match link.next(Instant::now() + WAIT) {
        Next::Frame(ServerFrame::Welcome(_), _) => link,
        other => panic!("not met: {other:?}"),
    }
}

fn binary(frame: &ClientFrame) -> Vec<u8> {
    codec::message(frame, Encoding::Bincode)
}

/// A binary frame of any kind and body.
fn raw(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.push(251);
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[test]
fn frames_that_cannot_be_read() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let whole = binary(&ClientFrame::Ping(Ping { nonce: 300 }));
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
        (Encoding::Json, Message::binary(binary(&ClientFrame::Ping(Ping { nonce: 1 })))),
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
    let longer =
        [&binary(&ClientFrame::Ping(Ping { nonce: 7 }))[2..], b"a field of later"].concat();
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

fn first_is_answered(server: &Server, frames: &[ClientFrame], code: Code, what: &str) {
    for encoding in Encoding::ALL {
        let mut link = Link::open(server.address, encoding);
        link.send_all(frames);
        closed_with(&mut link, code, what);
    }
}

#[test]
fn hello_missing_late_twice_or_wrong() {
    let server = Server::start(Options::default().limit("hello_timeout_ms", 400));
    let mut bystander = Bystander::new(&server);
    let ping = ClientFrame::Ping(Ping { nonce: 1 });
    first_is_answered(&server, &[ping], Code::HelloExpected, "another frame first");
    let mut link = Link::open(server.address, Encoding::Json);
    closed_with(&mut link, Code::HelloLate, "no hello");
    let mut link = met(&server, Encoding::Bincode);
    link.send(&ClientFrame::Hello(hello("bad")));
    closed_with(&mut link, Code::HelloTwice, "hello twice");
    let both = [ClientFrame::Hello(hello("bad")), ClientFrame::Hello(hello("bad"))];
    first_is_answered(&server, &both, Code::HelloTwice, "hello twice in a message");
    bystander.goes_on();
    let change = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello("bad");
        change(&mut hello);
        [ClientFrame::Hello(hello)]
    };
    let writer = WriterAt { writer: support::id(), oldest: 1 };
    let open = |name: &str, next| Open {
        name: name.to_owned(),
        have: Some(Cursor { log: 1, next }),
        start: Start::State,
        priority: 0,
    };
    let cases: Vec<(&str, [ClientFrame; 1])> = vec![
        ("17 writers", change(&|hello| hello.writers = vec![writer; 17])),
        ("33 capabilities", change(&|hello| hello.capabilities = vec!["c".to_owned(); 33])),
        ("a long capability", change(&|hello| hello.capabilities = vec!["c".repeat(65)])),
        ("a long client", change(&|hello| hello.client = "c".repeat(65))),
        ("a connection of zeros", change(&|hello| hello.connection = Id::NONE)),
        ("a writer of zeros", change(&|hello| hello.writers[0].writer = Id::NONE)),
        ("an offset past 2^53-1", change(&|hello| hello.open = vec![open("a", MAX_OFFSET + 1)])),
        ("a name of 256 bytes", change(&|hello| hello.open = vec![open(&"a".repeat(256), 0)])),
    ];
    for (what, frames) in cases {
        first_is_answered(&server, &frames, Code::BadFrame, what);
        bystander.goes_on();
    }
    let frames = change(&|hello| hello.version = 2);
    first_is_answered(&server, &frames, Code::Version, "another version");
    bystander.survives(server);
}

/// A token by hand: what no signer would make.
fn forged(header: &str, claims: &str, signature: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

#[test]
fn tokens_that_are_not_believed() {
    let options = Options {
        toml: String::new(),
        args: vec!["--set".to_owned(), "auth.audience=push".to_owned()],
        ..Options::default()
    };
    let server = Server::start(options);
    let now = support::now_ms() / 1_000;
    let grants = r#"[{"logs":"**","can":["read"]}]"#;
    let signed = |claims: &str| -> String {
        let claims: highwater::auth::Claims = serde_json::from_str(claims).unwrap();
        let signer = highwater::auth::Signer::from_secret(None, SECRET.as_bytes()).unwrap();
        signer.sign(&claims).unwrap()
    };
    let claims = |more: &str| format!(r#"{{"sub":"ann","grants":{grants},{more}}}"#);
    let hour = now + 3_600;
    let good = signed(&claims(&format!(r#""exp":{hour},"aud":"push""#)));
    let mut client = Client::with(Some(good.clone())).join(&server);
    let unsigned = claims(&format!(r#""exp":{hour},"aud":"push""#));
    let other_key = {
        let claims: highwater::auth::Claims = serde_json::from_str(&unsigned).unwrap();
        let signer = highwater::auth::Signer::from_secret(None, &[9; 40]).unwrap();
        signer.sign(&claims).unwrap()
    };
    let ended = signed(&claims(&format!(r#""exp":{},"aud":"push""#, now - 60)));
    let cases: Vec<(&str, Option<String>, Code)> = vec![
        ("none", None, Code::Unauthorized),
        ("empty", Some(String::new()), Code::Unauthorized),
        ("no JWT", Some("a.b.c".to_owned()), Code::Unauthorized),
        ("very long", Some("a".repeat(100_000)), Code::Unauthorized),
        ("another key", Some(other_key), Code::Unauthorized),
        (
            "alg none",
            Some(forged(r#"{"alg":"none","typ":"JWT"}"#, &unsigned, "")),
            Code::Unauthorized,
        ),
        (
            "another content under the signature",
            Some({
                let signature = good.rsplit('.').next().unwrap();
                let claims = unsigned.replace("ann", "eve");
                forged(r#"{"typ":"JWT","alg":"HS256"}"#, &claims, signature)
            }),
            Code::Unauthorized,
        ),
        (
            "another audience",
            Some(signed(&claims(&format!(r#""exp":{hour},"aud":"pull""#)))),
            Code::Unauthorized,
        ),
        ("no audience", Some(signed(&claims(&format!(r#""exp":{hour}"#)))), Code::Unauthorized),
        (
            "not yet",
            Some(signed(&claims(&format!(r#""exp":{hour},"aud":"push","nbf":{}"#, now + 600)))),
            Code::Unauthorized,
        ),
        ("ended", Some(ended.clone()), Code::TokenExpired),
    ];
    for (what, token, code) in cases {
        let mut hello = hello("ann");
        hello.token.clone_from(&token);
        first_is_answered(&server, &[ClientFrame::Hello(hello)], code, what);
        // In band it is refused, and the old one stays in force.
        if let Some(token) = token {
            client.send(&ClientFrame::Refresh(Refresh { token }));
            assert_eq!(client.refusal(0).code, code, "{what}");
        }
        client.sync();
    }
    assert!(client.refreshed.is_empty() && client.closed.is_none());
}

#[test]
fn what_is_another_users() {
    let server = Server::start(Options::default().limit("connections_per_user", 20));
    let mut bystander = Bystander::new(&server);
    let mut owner = Client::new("ann").join(&server);
    owner.store("docs/a", "0");
    let mut theirs = hello("bob");
    theirs.connection = owner.id;
    let frames = [ClientFrame::Hello(theirs)];
    first_is_answered(&server, &frames, Code::UnknownConnection, "another's connection");
    let mut theirs = hello("bob");
    theirs.writers = vec![WriterAt { writer: owner.writing.id, oldest: 1 }];
    let frames = [ClientFrame::Hello(theirs)];
    first_is_answered(&server, &frames, Code::UnknownWriter, "another's writer in hello");
    bystander.goes_on();
    let item = Item {
        seq: 2,
        prev: 1,
        to: Target::Name("docs/a".to_owned()),
        if_head: None,
        record: Record { payload: Some(Payload::text("forged")), ..Record::default() },
    };
    let writer = owner.writing.id;
    for frame in [
        ClientFrame::Append(Append { writer, oldest: 1, items: vec![item] }),
        ClientFrame::Retire(Retire { writer }),
    ] {
        let mut link = met(&server, Encoding::Json);
        link.send(&frame);
        closed_with(&mut link, Code::UnknownWriter, "another's writer");
        bystander.goes_on();
    }
    // One's own, never used, is nothing to be told of.
    owner.send(&ClientFrame::Retire(Retire { writer: support::id() }));
    owner.sync();
    assert_eq!(owner.store("docs/a", "1"), 1, "nothing was stored in its name");
    // As many connections as a user may have.
    let mut all: Vec<Client> = (1..20).map(|_| Client::new("ann").join(&server)).collect();
    let frames = [ClientFrame::Hello(hello("ann"))];
    first_is_answered(&server, &frames, Code::Connections, "one connection too many");
    all.pop().unwrap().leave(true);
    Client::new("ann").join(&server);
    bystander.survives(server);
}

/// Names of logs that are none.
const BAD_NAMES: [&str; 14] = [
    "",
    "/",
    "a//b",
    "/a",
    "a/",
    ".",
    "..",
    "a/../b",
    "a/.",
    "a b",
    "a\u{7}b",
    "\u{e9}t\u{e9}",
    "a*",
    "a?b",
];

#[test]
fn names_that_are_none() {
    let server = Server::start(Options::default());
    let mut client = Client::new("ann").wanting("docs/good").join(&server);
    client.reach("docs/good", 0);
    for name in BAD_NAMES {
        client.subscribe(name, Start::State, 0);
        assert_eq!(client.refusal(77).code, Code::BadName, "{name:?}");
        client.wants.remove(name);
        let seq = client.append(name, "x");
        client.settled();
        let outcome = &client.writing.outcomes[&seq];
        assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::BadName), "{name:?}");
    }
    // In hello the others are opened.
    client.close();
    client.wants.insert("a//b".to_owned(), (Start::State, 0));
    client.connect(&server);
    client.reach("docs/good", 0);
    client.wait("a refusal", |client| !client.refused.is_empty());
    assert_eq!(client.refused[0].name.as_deref(), Some("a//b"));
    client.refused.clear();
    // Longer than any name: the whole request, and the append for good.
    client.subscribe(&"a".repeat(256), Start::State, 0);
    assert_eq!(client.refusal(77).code, Code::BadName);
    client.subscribe(&"a".repeat(255), Start::State, 0);
    client.reach(&"a".repeat(255), 0);
    let seq = client.append(&"a".repeat(256), "x");
    client.settled();
    let outcome = &client.writing.outcomes[&seq];
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::BadName));
    // The writer goes on after all of them.
    client.store("docs/good", "0");
}

#[test]
fn logs_that_are_not_there() {
    let options = Options {
        args: vec!["--set".into(), "server.auto_create=false".into()],
        ..Options::default()
    };
    let server = Server::start(options);
    let mut client = Client::new("ann").join(&server);
    client.subscribe("docs/a", Start::State, 0);
    client.wait("a refusal", |client| !client.refused.is_empty());
    assert_eq!(client.refused[0].name.as_deref(), Some("docs/a"));
    assert_eq!(client.refusal(77).code, Code::UnknownLog);
    let seq = client.append("docs/a", "x");
    client.settled();
    let outcome = &client.writing.outcomes[&seq];
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::NoLog), "{outcome:?}");
    let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
    let item = client.writing.number(Target::Log(12_345), record);
    let seq = client.send_items(vec![item]);
    client.settled();
    let outcome = &client.writing.outcomes[&seq];
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::Epoch), "{outcome:?}");
}

#[test]
fn offsets_that_are_none() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    client.acks = false;
    for n in 0..5 {
        client.store("docs/a", &n.to_string());
    }
    client.reach("docs/a", 5);
    let log = client.log("docs/a").log;
    let beyond = MAX_OFFSET + 1;
    let open = Open {
        name: "docs/a".to_owned(),
        have: Some(Cursor { log, next: beyond }),
        start: Start::State,
        priority: 0,
    };
    let received = client.received;
    let cursors = vec![Cursor { log, next: 6 }];
    let part = PutSnapshot {
        request: 46,
        log,
        offset: beyond,
        version: 0,
        part: 0,
        last: true,
        data: Payload::text("x"),
    };
    for (what, request, frame) in [
        (
            "seek past the head",
            41,
            ClientFrame::Seek(Seek { request: 41, log, to: Start::Offset(6) }),
        ),
        (
            "seek past 2^53-1",
            42,
            ClientFrame::Seek(Seek { request: 42, log, to: Start::Offset(beyond) }),
        ),
        ("subscribe", 43, ClientFrame::Subscribe(Subscribe { request: 43, open: vec![open] })),
        (
            "unsubscribe",
            44,
            ClientFrame::Unsubscribe(Unsubscribe { request: 44, logs: vec![beyond] }),
        ),
        ("a snapshot", 46, ClientFrame::PutSnapshot(part)),
        ("a cursor past the head", 0, ClientFrame::Ack(Ack { received, cursors })),
        (
            "past what was sent",
            0,
            ClientFrame::Ack(Ack { received: received + 1, cursors: vec![] }),
        ),
        ("past 2^53-1", 0, ClientFrame::Ack(Ack { received: beyond, cursors: vec![] })),
    ] {
        client.send(&frame);
        assert_eq!(client.refusal(request).code, Code::BadOffset, "{what}");
        bystander.goes_on();
    }
    // Ids that are not subscribed.
    client.send(&ClientFrame::Seek(Seek { request: 45, log: 9_999, to: Start::End }));
    assert_eq!(client.refusal(45).code, Code::UnknownLog);
    let cursors = vec![Cursor { log: 9_999, next: 1 }];
    client.send(&ClientFrame::Ack(Ack { received, cursors }));
    client.sync();
    assert!(client.refused.is_empty(), "{:?}", client.refused);
    // What a client says it holds, and cannot: told by a reset, never by silence.
    client.close();
    client.shown.clear();
    for (cursor, reason) in [
        (Cursor { log, next: 6 }, highwater::wire::ResetReason::PastHead),
        (Cursor { log, next: MAX_OFFSET }, highwater::wire::ResetReason::PastHead),
        (Cursor { log: 77, next: 2 }, highwater::wire::ResetReason::OtherLog),
    ] {
        let mut held = client.logs.remove(&log).unwrap();
        (held.log, held.cursor) = (cursor.log, cursor.next);
        client.logs.insert(cursor.log, held);
        client.connect(&server);
        client.wait("a reset", |client| {
            client.find("docs/a").is_some_and(|held| held.resets.last() == Some(&reason))
        });
        client.reach("docs/a", 5);
        client.acks = true;
        client.close();
        client.acks = false;
    }
    // In an append it is a broken frame.
    let item = |seq, prev, to: Target, if_head| Item {
        seq,
        prev,
        to,
        if_head,
        record: Record { payload: Some(Payload::text("x")), ..Record::default() },
    };
    let name = || Target::Name("docs/a".to_owned());
    for (what, items) in [
        ("a sequence past 2^53-1", vec![item(beyond, 0, name(), None)]),
        ("a log id past it", vec![item(1, 0, Target::Log(beyond), None)]),
        ("a condition past it", vec![item(1, 0, name(), Some(beyond))]),
        ("sequence 0", vec![item(0, 0, name(), None)]),
        ("prev not below", vec![item(1, 1, name(), None)]),
        ("not rising", vec![item(2, 0, name(), None), item(1, 0, name(), None)]),
        ("1025 items", (1..=1_025).map(|seq| item(seq, seq - 1, name(), None)).collect()),
    ] {
        let mut link = met(&server, Encoding::Bincode);
        let writer = support::id();
        link.send(&ClientFrame::Append(Append { writer, oldest: 1, items }));
        closed_with(&mut link, Code::BadFrame, what);
        bystander.goes_on();
    }
    bystander.survives(server);
}

#[test]
fn sequences_and_records_that_break_a_rule() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").join(&server);
    let text = |text: &str| Record { payload: Some(Payload::text(text)), ..Record::default() };
    let item = |seq, prev, record| Item {
        seq,
        prev,
        to: Target::Name("docs/a".to_owned()),
        if_head: None,
        record,
    };
    let mut answer = |oldest: u64, item: Item| {
        let (writer, seq) = (client.id, item.seq);
        client.send(&ClientFrame::Append(Append { writer, oldest, items: vec![item] }));
        let link = client.link.as_mut().unwrap();
        loop {
            match link.next(Instant::now() + WAIT) {
                Next::Frame(ServerFrame::Answers(told), _) if told.writer == writer => {
                    assert_eq!(told.answers[0].seq, seq);
                    return (told.mark, told.answers[0].outcome.clone());
                }
                Next::Frame(..) => {}
                other => panic!("no answer: {other:?}"),
            }
        }
    };
    let code = |outcome: &Outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        Outcome::Stored { .. } => None,
    };
    let first = answer(1, item(1, 0, text("one")));
    assert_eq!((first.0, code(&first.1)), (1, None));
    assert_eq!(answer(1, item(1, 0, text("one"))), first, "a repeat is answered alike");
    assert_eq!(code(&answer(1, item(1, 0, text("other"))).1), Some(Code::SequenceReused));
    let (mark, gap) = answer(1, item(5, 4, text("skipped")));
    assert_eq!((mark, code(&gap)), (1, Some(Code::SequenceGap)), "the mark tells where to go on");
    assert_eq!(code(&answer(2, item(2, 1, text("two"))).1), None);
    assert_eq!(code(&answer(2, item(1, 0, text("one"))).1), Some(Code::SequenceOld));
    // `oldest` never falls.
    assert_eq!(code(&answer(1, item(1, 0, text("one"))).1), Some(Code::SequenceOld));
    bystander.goes_on();
    let large = "x".repeat((512 << 10) + 1);
    let many = vec![("h".to_owned(), "v".to_owned()); 33];
    let wide = vec![("h".to_owned(), "v".repeat(4_096))];
    let extension = highwater::wire::Extension { tag: 1, data: Payload::text("x") };
    let key = |key: &str| Record { key: Some(key.to_owned()), ..text("x") };
    let kind = |kind: &str| Record { kind: Some(kind.to_owned()), ..text("x") };
    let mut prev = 2;
    for (what, record, wanted) in [
        ("too large", text(&large), Code::TooLarge),
        ("an empty key", key(""), Code::BadRecord),
        ("a long key", key(&"k".repeat(256)), Code::BadRecord),
        ("an empty kind", kind(""), Code::BadRecord),
        ("a long kind", kind(&"k".repeat(65)), Code::BadRecord),
        ("33 headers", Record { headers: many, ..text("x") }, Code::BadRecord),
        ("wide headers", Record { headers: wide, ..text("x") }, Code::BadRecord),
        ("an extension", Record { extensions: vec![extension], ..text("x") }, Code::BadRecord),
        ("a tombstone without a key", Record::default(), Code::BadRecord),
        (
            "an event after the end of time",
            Record { event_time: Some(MAX_OFFSET + 1), ..text("x") },
            Code::BadRecord,
        ),
    ] {
        let (seq, same) = (prev + 1, item(prev + 1, prev, record));
        let (mark, outcome) = answer(prev, same.clone());
        assert_eq!(code(&outcome), Some(wanted), "{what}");
        assert_eq!(mark, seq, "{what}: it spends its sequence");
        assert_eq!(answer(prev, same).1, outcome, "{what}: and is answered alike");
        prev = seq;
    }
    assert_eq!(code(&answer(prev, item(prev + 1, prev, text("on"))).1), None, "the writer goes on");
    bystander.goes_on();
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", 3);
    assert_eq!(reader.log("docs/a").texts(), ["one", "two", "on"]);
    bystander.survives(server);
}

#[test]
fn conditions_that_do_not_hold() {
    let server = Server::start(Options::default());
    let mut client = Client::new("ann").join(&server);
    client.store("docs/a", "0");
    for (if_head, taken) in [(0, false), (1, true), (1, false), (5, false), (2, true)] {
        let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
        let to = Target::Name("docs/a".to_owned());
        let item = client.writing.number_if(to, Some(if_head), record);
        let seq = client.send_items(vec![item]);
        client.settled();
        match &client.writing.outcomes[&seq] {
            Outcome::Stored { offset, .. } => assert!(taken && *offset == if_head),
            Outcome::Refused(refusal) => assert!(!taken && refusal.code == Code::Conflict),
        }
    }
}

#[test]
fn a_hundred_thousand_subscriptions() {
    let server = Server::start(Options::default().limit("frames_per_socket_second", 10_000));
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").join(&server);
    client.acks = true;
    let before = server.rss();
    let total = 100_000;
    for from in (0..total).step_by(20_000) {
        let open = (from..from + 20_000)
            .map(|n| Open { name: format!("s/{n}"), have: None, start: Start::End, priority: 0 })
            .collect();
        client.send(&ClientFrame::Subscribe(Subscribe { request: 5, open }));
        bystander.goes_on();
    }
    // Each is answered: a thousand are opened, each other is refused by its name.
    client.wait("an answer to each", |client| client.logs.len() + client.refused.len() == total);
    assert_eq!(client.logs.len(), 1_000);
    assert!(
        client.refused.iter().all(|refused| {
            refused.refusal.code == Code::Subscriptions && refused.name.is_some()
        })
    );
    bystander.goes_on();
    // And the same in one hello, of another client.
    let mut greedy = Client::new("bob");
    greedy.wants = (0..15_000).map(|n| (format!("s/{n}"), (Start::End, 0))).collect();
    let mut greedy = greedy.join(&server);
    greedy.wait("an answer to each", |client| client.logs.len() + client.refused.len() == 15_000);
    assert_eq!(greedy.logs.len(), 1_000);
    // As many ends of subscriptions that never were: each is answered too.
    let logs: Vec<u64> = (1_000_000..1_100_000).collect();
    client.send(&ClientFrame::Unsubscribe(Unsubscribe { request: 6, logs }));
    client.wait("an answer to each", |client| client.ended.len() == total);
    let grown = server.rss().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes more");
    bystander.survives(server);
}

/// It sends and sends, and takes no answer: the server stops reading from it, and in the end gives
/// it up as silent.
#[test]
fn a_client_that_never_reads() {
    let server = Server::start(Options::default().limit("ping_interval_ms", 1_000));
    let mut bystander = Bystander::new(&server);
    let before = server.rss();
    let mut link = met(&server, Encoding::Json);
    link.tcp().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut frames = Vec::new();
    for nonce in 0..2_000 {
        frames.push(ClientFrame::Ping(Ping { nonce }));
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
    let files = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count();
    let open = files();
    let end = Instant::now() + WAIT;
    while files() >= open {
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
    // Who answers stays.
    let mut client = Client::new("ann").join(&server);
    let end = Instant::now() + Duration::from_millis(3_500);
    while Instant::now() < end {
        client.step(Instant::now() + Duration::from_millis(100));
    }
    assert!(client.order.contains(&"ping") && client.closed.is_none());
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
    let origin = |request: &mut tungstenite::handshake::client::Request| {
        request.headers_mut().insert("Origin", "https://evil.example".parse().unwrap());
    };
    assert_eq!(status(&origin), 403);
    // The client's first choice that the server knows.
    let first = Link::try_open(server.address, Encoding::Bincode);
    assert!(first.is_ok());
    until("a place to be free again", || status(&|_| {}) == 101);
    drop(first);
}

fn refused_start(data: &std::path::Path, says: &str) {
    let config = data.parent().unwrap().join("highwater.toml");
    let output = Server::command(&[
        "serve",
        "--config",
        config.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
    ]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(says), "{told:?} says {says:?}");
    assert!(output.stdout.is_empty(), "it never said that it listens");
}

#[test]
fn data_folders_that_cannot_be_used() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    for n in 0..20 {
        writer.store("docs/a", &n.to_string());
    }
    let data = server.data();
    refused_start(&data, "in use by another process");
    // The first one goes on.
    writer.store("docs/a", "20");
    server.kill9();
    let version = data.join("VERSION");
    let format = std::fs::read(&version).unwrap();
    for (content, says) in [
        (&b"highwater store 99\n"[..], "highwater store 99"),
        (b"", "this program knows"),
        (b"\xff\xfe", "this program knows"),
    ] {
        std::fs::write(&version, content).unwrap();
        refused_start(&data, says);
    }
    std::fs::write(&version, &format).unwrap();
    // A folder of somebody else's.
    let other = data.parent().unwrap().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("novel.txt"), "It was a dark night").unwrap();
    refused_start(&other, "no data folder of highwater");
    assert_eq!(std::fs::read_dir(&other).unwrap().count(), 1, "nothing was put into it");
    // A file that the store needs is gone; with it back, all is there.
    let marker = data.join("store").join("version");
    let bytes = std::fs::read(&marker).unwrap();
    std::fs::remove_file(&marker).unwrap();
    refused_start(&data, "damaged");
    std::fs::write(&marker, bytes).unwrap();
    server.restart();
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", 21);
    assert_eq!(reader.seen.len(), 21);
}

/// What stands in no grant is told by name, and nothing of it is read.
#[test]
fn logs_that_no_grant_covers() {
    let server = Server::start(Options::default());
    let only = token("ann", &[("mine/*", "read append")]);
    let mut client = Client::with(Some(only)).join(&server);
    for name in ["mine", "mine/a/b", "other/a", "min/a", "minee/a"] {
        client.subscribe(name, Start::State, 0);
        client.wait("a refusal", |client| client.refused.iter().any(|one| one.request == 77));
        assert_eq!(client.refusal(77).code, Code::Denied, "{name}");
        client.wants.remove(name);
        let seq = client.append(name, "x");
        client.settled();
        let outcome = &client.writing.outcomes[&seq];
        assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::Denied), "{name}");
    }
    client.store("mine/a", "0");
    client.subscribe("mine/a", Start::State, 0);
    client.reach("mine/a", 1);
    // A token that has ended already.
    let mut hello = hello("ann");
    hello.cloning = Cloning::None;
    let ended = token_until("ann", &[("**", "read")], support::now_ms() - 60_000);
    hello.token = Some(ended);
    let frames = [ClientFrame::Hello(hello)];
    first_is_answered(&server, &frames, Code::TokenExpired, "a token that has ended");
}
