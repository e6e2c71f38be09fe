//! Who says hello wrongly, and who claims to be somebody else.

use super::*;

#[test]
fn hello_missing_late_twice_or_wrong() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let ping = ClientFrame::Ping(Ping { nonce: 1, positions: vec![] });
    first_is_answered(&server, &[ping], Code::HelloExpected, "another frame first");
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
    let writer = WriterAt { writer: crate::support::id(), oldest: 1 };
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

/// What stands behind a `hello` in its message is not looked at when the client is not met, or is
/// sent away.
#[test]
fn frames_behind_a_refused_hello_are_not_carried_out() {
    let server = Server::start(Options::default());
    let mut bystander = Bystander::new(&server);
    let append = |name: &str| {
        let record = Record { payload: Some(Payload::text("x")), ..Record::default() };
        let to = Target::Name(name.to_owned());
        let item = Item { seq: 1, prev: 0, to, if_head: None, record };
        ClientFrame::Append(Append {
            writer: crate::support::id(),
            oldest: 1,
            items: vec![item],
            positions: vec![],
            made: vec![],
        })
    };
    let foreign = Hello { connection: bystander.client.connection, ..hello("bad") };
    let frames = [ClientFrame::Hello(foreign), append("behind/foreign")];
    first_is_answered(&server, &frames, Code::UnknownConnection, "another user's connection");
    let hello_of_bad = || ClientFrame::Hello(hello("bad"));
    let frames = [hello_of_bad(), hello_of_bad(), append("behind/twice")];
    first_is_answered(&server, &frames, Code::HelloTwice, "hello twice");
    let gone = Hello { token: Some(token("gone", &[("**", "append")])), ..hello("bad") };
    server.http().post_json("/v1/revocations", &serde_json::json!({ "user": "gone" })).ok();
    let frames = [ClientFrame::Hello(gone), append("behind/revoked")];
    first_is_answered(&server, &frames, Code::Revoked, "a revoked token");
    // What was handed in by now is decided before this is.
    bystander.goes_on();
    let logs = server.http().get("/v1/logs?prefix=behind/").ok().json();
    assert_eq!(logs["logs"].as_array().unwrap().len(), 0, "{logs}");
    // Behind one that is met, they are.
    let mut link = Link::open(server.address, Encoding::Json);
    link.send_all(&[hello_of_bad(), append("behind/met")]);
    until("it is stored", || server.http().get("/v1/logs/behind/met").status == 200);
    bystander.survives(server);
}

/// On a server of its own, whose short time is for nobody who is in time.
#[test]
fn hello_that_never_comes() {
    let server = Server::start(Options::default().limit("hello_timeout_ms", 400));
    for encoding in Encoding::ALL {
        let opened = Instant::now();
        let mut link = Link::open(server.address, encoding);
        closed_with(&mut link, Code::HelloLate, "no hello");
        assert!(opened.elapsed() >= Duration::from_millis(400), "it is given the whole time");
    }
}

/// A token by hand: what no signer would make.
fn forged(header: &str, claims: &str, signature: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{signature}", encode(header), encode(claims))
}

#[test]
fn tokens_that_are_not_believed() {
    let args = vec!["--set".to_owned(), "auth.audience=push".to_owned()];
    let server = Server::start(Options { args, ..Options::default() });
    let now = crate::support::now_ms() / 1_000;
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
            client.send(&ClientFrame::Refresh(Refresh { token, request: 0 }));
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
    theirs.connection = owner.connection;
    let frames = [ClientFrame::Hello(theirs)];
    first_is_answered(&server, &frames, Code::UnknownConnection, "another's connection");
    let mut theirs = hello("bob");
    theirs.writers = vec![WriterAt { writer: owner.writer().id(), oldest: 1 }];
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
    let writer = owner.writer().id();
    for frame in [
        ClientFrame::Append(Append {
            writer,
            oldest: 1,
            items: vec![item],
            positions: vec![],
            made: vec![],
        }),
        ClientFrame::Retire(Retire { writer, request: 0 }),
    ] {
        let mut link = met(&server, Encoding::Json);
        link.send(&frame);
        closed_with(&mut link, Code::UnknownWriter, "another's writer");
        bystander.goes_on();
    }
    // One's own, never used, is nothing to be told of.
    owner.send(&ClientFrame::Retire(Retire { writer: crate::support::id(), request: 0 }));
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

/// What stands in no grant is told by name, and nothing of it is read.
#[test]
fn logs_that_no_grant_covers() {
    let server = Server::start(Options::default());
    let only = token("ann", &[("mine/*", "read append")]);
    let mut client = Client::with(Some(only)).join(&server);
    for name in ["mine", "mine/a/b", "other/a", "min/a", "minee/a"] {
        let asked = client.subscribe(name, Start::State, 0);
        assert_eq!(client.refusal(asked).code, Code::Denied, "{name}");
        let seq = client.append(name, "x");
        client.settled();
        let outcome = &client.outcomes()[&seq];
        assert!(matches!(outcome, Outcome::Refused(why) if why.code == Code::Denied), "{name}");
    }
    client.store("mine/a", "0");
    client.subscribe("mine/a", Start::State, 0);
    client.reach("mine/a", 1);
    // A token that has ended already.
    let mut hello = hello("ann");
    hello.cloning = Cloning::None;
    let ended = token_until("ann", &[("**", "read")], crate::support::now_ms() - 60_000);
    hello.token = Some(ended);
    let frames = [ClientFrame::Hello(hello)];
    first_is_answered(&server, &frames, Code::TokenExpired, "a token that has ended");
}
