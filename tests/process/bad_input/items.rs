//! Names, offsets, sequences and records that break a rule.

use serde_json::json;

use super::*;
use crate::support::Http;

#[test]
fn names_that_are_none() {
    let server = Server::start(Options::default());
    let mut client = Client::new("ann").wanting("docs/good").join(&server);
    client.reach("docs/good", 0);
    for name in BAD_NAMES {
        let asked = client.subscribe(name, Start::State, 0);
        assert_eq!(client.refusal(asked).code, Code::BadName, "{name:?}");
        let seq = client.append(name, "x");
        client.settled();
        let outcome = &client.outcomes()[&seq];
        assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::BadName), "{name:?}");
    }
    // In hello the others are opened.
    client.close();
    client.want("a//b", Start::State, 0);
    client.connect(&server);
    client.reach("docs/good", 0);
    client.wait("a refusal", |client| !client.refused.is_empty());
    assert_eq!(client.refused[0].name.as_deref(), Some("a//b"));
    client.refused.clear();
    // Longer than any name: the whole request, and the append for good.
    let asked = client.subscribe(&"a".repeat(256), Start::State, 0);
    assert_eq!(client.refusal(asked).code, Code::BadName);
    client.subscribe(&"a".repeat(255), Start::State, 0);
    client.reach(&"a".repeat(255), 0);
    let seq = client.append(&"a".repeat(256), "x");
    client.settled();
    let outcome = &client.outcomes()[&seq];
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
    let asked = client.subscribe("docs/a", Start::State, 0);
    client.wait("a refusal", |client| !client.refused.is_empty());
    assert_eq!(client.refused[0].name.as_deref(), Some("docs/a"));
    assert_eq!(client.refusal(asked).code, Code::UnknownLog);
    let seq = client.append("docs/a", "x");
    client.settled();
    let outcome = &client.outcomes()[&seq];
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::NoLog), "{outcome:?}");
    let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
    let seq = client.append_to(Target::Log(12_345), None, record);
    client.settled();
    let outcome = &client.outcomes()[&seq];
    assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::Epoch), "{outcome:?}");
}

#[test]
fn offsets_that_are_none() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    client.ack_after = None;
    for n in 0..5 {
        client.store("docs/a", &n.to_string());
    }
    client.reach("docs/a", 5);
    let (log, beyond) = (client.log("docs/a").log, MAX_OFFSET + 1);
    let open = Open {
        name: "docs/a".to_owned(),
        have: Some(Cursor { log, next: beyond }),
        start: Start::State,
        priority: 0,
    };
    let subscribe = Subscribe { request: 43, open: vec![open], bases: vec![] };
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
        ("subscribe", 43, ClientFrame::Subscribe(subscribe)),
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
    bystander.survives(server);
}

/// What a client says it holds, and cannot: told by a reset, never by silence.
#[test]
fn holdings_that_cannot_be() {
    let server = Server::start(Options::default());
    let mut client = Client::new("ann").wanting("docs/a").join(&server);
    for n in 0..5 {
        client.store("docs/a", &n.to_string());
    }
    client.reach("docs/a", 5);
    let log = client.log("docs/a").log;
    client.close();
    client.shown.clear();
    for (cursor, reason) in [
        (Cursor { log, next: 6 }, highwater::wire::ResetReason::PastHead),
        (Cursor { log, next: MAX_OFFSET }, highwater::wire::ResetReason::PastHead),
        (Cursor { log: 77, next: 2 }, highwater::wire::ResetReason::OtherLog),
    ] {
        client.hold("docs/a", cursor.log, cursor.next);
        client.connect(&server);
        client.wait("a reset", |client| {
            client.find("docs/a").is_some_and(|held| held.resets.last() == Some(&reason))
        });
        client.reach("docs/a", 5);
        client.close();
    }
}

/// In an append it is a broken frame.
#[test]
fn appends_that_are_broken_frames() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let beyond = MAX_OFFSET + 1;
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
        let writer = crate::support::id();
        link.send(&ClientFrame::Append(Append {
            writer,
            oldest: 1,
            items,
            positions: vec![],
            made: vec![],
        }));
        closed_with(&mut link, Code::BadFrame, what);
        bystander.goes_on();
    }
    bystander.survives(server);
}

fn text(text: &str) -> Record {
    Record { payload: Some(Payload::text(text)), ..Record::default() }
}

fn item(seq: u64, prev: u64, record: Record) -> Item {
    Item { seq, prev, to: Target::Name("docs/a".to_owned()), if_head: None, record }
}

/// Sends one item of a writer that the client keeps no account of: the mark and the outcome.
fn answer(client: &mut Client, oldest: u64, item: Item) -> (u64, Outcome) {
    let (writer, seq) = (client.connection, item.seq);
    client.send(&ClientFrame::Append(Append {
        writer,
        oldest,
        items: vec![item],
        positions: vec![],
        made: vec![],
    }));
    let told = client.answers_past();
    assert_eq!((told.writer, told.answers[0].seq), (writer, seq));
    (told.mark, told.answers[0].outcome.clone())
}

const fn code(outcome: &Outcome) -> Option<Code> {
    match outcome {
        Outcome::Refused(refusal) => Some(refusal.code),
        Outcome::Stored { .. } => None,
    }
}

#[test]
fn sequences_and_records_that_break_a_rule() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let mut client = Client::new("ann").join(&server);
    let mut answer = |oldest, item| answer(&mut client, oldest, item);
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
        let seq = client.append_to(to, Some(if_head), record);
        client.settled();
        match &client.outcomes()[&seq] {
            Outcome::Stored { offset, .. } => assert!(taken && *offset == if_head),
            Outcome::Refused(refusal) => assert!(!taken && refusal.code == Code::Conflict),
        }
    }
}

/// One judgement for every face: what an append is refused for, and in which words, does not hang
/// on the way that it came by. Told the name of no log that was named by its id.
#[test]
fn an_append_is_judged_alike_on_a_socket_and_over_http() {
    let server = Server::start(Options::default().limit("record_bytes", 1_024));
    let mut owner = Client::new("ann").join(&server);
    let seq = owner.append("secret/plan", "x");
    owner.settled();
    let Outcome::Stored { log: secret, .. } = owner.outcomes()[&seq] else {
        panic!("it was not stored")
    };
    let only = token("bob", &[("mine/*", "read append")]);
    let http = Http::new(&server.url(), Some(only.clone()));
    let mut bob = Client::with(Some(only)).join(&server);
    let mut of_socket = |to: Target, record: Record| {
        let seq = bob.append_to(to, None, record);
        bob.settled();
        match &bob.outcomes()[&seq] {
            Outcome::Refused(why) => (why.code.name().to_owned(), why.message.clone()),
            stored @ Outcome::Stored { .. } => panic!("{stored:?}"),
        }
    };
    let text = |text: &str| Record { payload: Some(Payload::text(text)), ..Record::default() };
    let long = "x".repeat(1_025);
    let cases = [
        ("mine//a", text("x")),
        ("other", text("x")),
        ("mine/a", Record { key: Some("k".repeat(256)), ..text("x") }),
        ("mine/a", text(&long)),
    ];
    for (name, record) in cases {
        let payload = record.payload.as_ref().map(|payload| payload.bytes().to_vec());
        let payload = String::from_utf8(payload.unwrap()).unwrap();
        let mut body = json!({ "payload": payload });
        if let Some(key) = &record.key {
            body["key"] = json!(key);
        }
        let answer = http.post_json(&format!("/v1/logs/{name}"), &body).json();
        let word = |field: &str| answer[field].as_str().unwrap().to_owned();
        let by_socket = of_socket(Target::Name(name.to_owned()), record);
        assert_eq!(by_socket, (word("code"), word("message")), "{name}");
    }
    let (code, message) = of_socket(Target::Log(secret), text("x"));
    assert_eq!(code, "denied");
    assert!(!message.contains("secret"), "{message}");
}
