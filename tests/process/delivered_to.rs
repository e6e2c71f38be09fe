//! Who has a record: asked on sockets and over HTTP of the running server. What is told is true
//! (cursors that were committed), goes to those alone who have the right of that name, and is
//! bounded.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::support::{Client, Next, Options, Server, WAIT, token, until};
use highwater::wire::{
    ClientFrame, Code, Encoding, Refresh, Seek, ServerFrame, Start, Unsubscribe, Who, capability,
};
use serde_json::json;

const LOG: &str = "docs/a";
/// What lets its bearer ask, and nothing else.
const ASKS: &[(&str, &str)] = &[("docs/**", "delivered")];

fn server() -> Server {
    server_with(Options::default())
}

fn server_with(options: Options) -> Server {
    let server = Server::start(options.limit("commit_interval_ms", 50));
    let mut writer = Client::new("wim").join(&server);
    writer.append_all(LOG, (0..3).map(|n| n.to_string()));
    writer.settled();
    server
}

fn asker(server: &Server, encoding: Encoding) -> Client {
    let mut asker = Client::with(Some(token("asker", ASKS)));
    asker.encoding = encoding;
    asker.join(server)
}

/// A reader that has all records on its device, and acknowledges when the test says so.
fn reader(server: &Server, user: &str) -> Client {
    let mut reader = Client::new(user).wanting(LOG);
    reader.ack_after = None;
    let mut reader = reader.join(server);
    reader.reach(LOG, 3);
    reader
}

fn log_of(server: &Server) -> u64 {
    server.http().get(&format!("/v1/logs/{LOG}?limit=0")).ok().number("highwater-log")
}

/// Asks once: the users and whether there are more, or why not.
fn who(asker: &mut Client, log: u64, offset: u64) -> Result<(Vec<String>, bool), Code> {
    let request = rand::random::<u32>() | 1;
    asker.send(&ClientFrame::Who(Who { request, log, offset }));
    asker.wait("who has it", |asker| {
        let refused = asker.refused.iter().any(|told| told.request == request);
        refused || asker.having.iter().any(|told| told.request == request)
    });
    match asker.having.pop() {
        Some(told) => {
            assert_eq!(told.request, request);
            Ok((told.users, told.more))
        }
        None => Err(asker.refusal(request).code),
    }
}

fn names(users: &[&str]) -> Result<(Vec<String>, bool), Code> {
    Ok((users.iter().map(ToString::to_string).collect(), false))
}

fn until_told(asker: &mut Client, log: u64, offset: u64, users: &[&str]) {
    until(&format!("{users:?} to have {offset}"), || who(asker, log, offset) == names(users));
}

#[test]
fn the_answer_grows_as_readers_acknowledge() {
    let mut server = server();
    let log = log_of(&server);
    for encoding in Encoding::ALL {
        let [ana, bob] = ["ana", "bob"].map(|name| format!("{name}-{}", encoding.subprotocol()));
        let before = who(&mut asker(&server, encoding), log, 2).unwrap().0;
        let told = |more: &[&String]| {
            let mut all = before.clone();
            all.extend(more.iter().map(ToString::to_string));
            all.sort();
            Ok((all, false))
        };
        let mut asker = asker(&server, encoding);
        let granted = &asker.welcome.as_ref().unwrap().capabilities;
        assert!(granted.iter().any(|name| name == capability::DELIVERED));
        let (mut first, mut second) = (reader(&server, &ana), reader(&server, &bob));
        // Both have the records on their devices; the server knows of that what they say.
        assert_eq!(who(&mut asker, log, 2), told(&[]));
        first.ack();
        until("the first to have it", || who(&mut asker, log, 2) == told(&[&ana]));
        // Another device of the same user names nobody twice.
        let mut twin = reader(&server, &ana);
        twin.ack();
        second.ack();
        until("both to have it", || who(&mut asker, log, 2) == told(&[&ana, &bob]));
        assert_eq!(who(&mut asker, log, 0), told(&[&ana, &bob]), "and what lies before");
        // One that has gone, and one that holds nothing any more, had it all the same.
        twin.cut();
        first.cut();
        let path = format!("/v1/connections/{}/downgrade", first.connection);
        server.http().ask("POST", &path, &[], None).ok();
        assert_eq!(who(&mut asker, log, 2), told(&[&ana, &bob]));
        let mut newcomer = reader(&server, "eve");
        assert_eq!(who(&mut asker, log, 2), told(&[&ana, &bob]), "who is new has said nothing");
        newcomer.leave(true);
    }
    let all = who(&mut asker(&server, Encoding::Json), log, 2).unwrap().0;
    assert_eq!(all.len(), 4);
    server.crash();
    assert_eq!(who(&mut asker(&server, Encoding::Json), log, 2), Ok((all, false)));
}

/// A base that is on its way is not delivered, wherever its cursor stands; nor is a log held by who
/// took it over from a connection that has not got it.
#[test]
fn what_is_on_its_way_does_not_count() {
    let server = server_with(Options::default().rule("docs/latest/**", "latest", ""));
    let mut writer = Client::new("wim").join(&server);
    writer.put("docs/latest/a", "k", Some("v"));
    writer.settled();
    let mut ana = Client::new("ana").wanting("docs/latest/a");
    ana.ack_after = None;
    let mut ana = ana.join(&server);
    ana.reach("docs/latest/a", 1);
    let log = ana.log("docs/latest/a").log;
    let mut asker = asker(&server, Encoding::Bincode);
    assert_eq!(who(&mut asker, log, 0), names(&[]));
    let mut clone = Client::new("ana");
    (clone.ack_after, clone.opens_held) = (None, false);
    let clone = clone.join(&server);
    assert_eq!(who(&mut asker, log, 0), names(&[]), "{:?}", clone.met());
    ana.ack();
    until_told(&mut asker, log, 0, &["ana"]);
}

#[test]
fn a_rewind_takes_the_word_back_until_it_is_read_again() {
    let server = server();
    let log = log_of(&server);
    let mut asker = asker(&server, Encoding::Json);
    let mut ana = reader(&server, "ana");
    ana.ack();
    until_told(&mut asker, log, 2, &["ana"]);
    ana.send(&ClientFrame::Seek(Seek { request: 5, log, to: Start::Offset(1) }));
    ana.wait("the rewind", |ana| ana.order.iter().filter(|kind| **kind == "reset").count() > 1);
    assert_eq!(who(&mut asker, log, 2), names(&[]));
    assert_eq!(who(&mut asker, log, 0), names(&["ana"]), "of what lies before nothing was taken");
    until("it is read again", || {
        ana.drain();
        ana.ack();
        who(&mut asker, log, 2) == names(&["ana"])
    });
}

#[test]
fn only_the_right_of_that_name_lets_ask() {
    let server = server();
    let log = log_of(&server);
    let all = "read append snapshot signal admin";
    let mut other = Client::with(Some(token("root", &[("**", all)]))).join(&server);
    assert_eq!(who(&mut other, log, 0), Err(Code::Denied));
    let elsewhere = token("asker", &[("chat/**", "delivered")]);
    let mut other = Client::with(Some(elsewhere.clone())).join(&server);
    assert_eq!(who(&mut other, log, 0), Err(Code::Denied));
    assert_eq!(who(&mut other, log + 100, 0), Err(Code::UnknownLog));

    // A grant that shrinks, before the question and behind it.
    let mut asker = asker(&server, Encoding::Bincode);
    assert_eq!(who(&mut asker, log, 0), names(&[]));
    let less = ClientFrame::Refresh(Refresh { token: elsewhere, request: 8 });
    let question = ClientFrame::Who(Who { request: 9, log, offset: 0 });
    asker.link.as_mut().unwrap().send_all(&[less, question]);
    assert_eq!(asker.refusal(9).code, Code::Denied);
    assert!(asker.having.is_empty());

    // A token that ends.
    crate::support::end_soon(&mut asker, "asker", ASKS);
    asker.wait("its end", |asker| {
        asker.refused.iter().any(|told| told.refusal.code == Code::TokenExpired)
    });
    asker.refused.clear();
    assert_eq!(who(&mut asker, log, 0), Err(Code::TokenExpired));

    // A user that is revoked.
    let request = Refresh { token: token("asker", ASKS), request: 10 };
    asker.send(&ClientFrame::Refresh(request));
    until("it may again", || who(&mut asker, log, 0) == names(&[]));
    server.http().post_json("/v1/revocations", &json!({ "user": "asker" })).ok();
    assert_eq!(asker.until_closed(), 4077);
}

/// One that is inactive writes, and may want to know whom that came to.
#[test]
fn an_inactive_connection_may_ask() {
    let server = server();
    let log = log_of(&server);
    let mut ana = reader(&server, "ana");
    ana.ack();
    let mut asker = asker(&server, Encoding::Bincode);
    let path = format!("/v1/connections/{}/downgrade", asker.connection);
    server.http().ask("POST", &path, &[], None).ok();
    asker.wait("to be inactive", |asker| !asker.active);
    until_told(&mut asker, log, 2, &["ana"]);
}

#[test]
fn what_nobody_can_say_is_refused() {
    let server = server();
    let log = log_of(&server);
    let mut asker = asker(&server, Encoding::Json);
    let mut ana = reader(&server, "ana");
    ana.ack();
    until_told(&mut asker, log, 2, &["ana"]);
    assert_eq!(who(&mut asker, log, 3), Err(Code::BadOffset), "there is no such record yet");
    assert_eq!(who(&mut asker, log, 1 << 53), Err(Code::BadOffset));
    let http = server.http();
    http.post(&format!("/v1/logs/{LOG}?trim=2"), "").ok();
    // Who comes now is told of a gap, and stands past what it never had.
    let mut late = reader(&server, "late");
    late.ack();
    until_told(&mut asker, log, 2, &["ana", "late"]);
    assert_eq!(who(&mut asker, log, 1), Err(Code::BadOffset));
    http.delete(&format!("/v1/logs/{LOG}")).ok();
    assert_eq!(who(&mut asker, log, 2), Err(Code::UnknownLog));
    let mut other = Client::new("other").join(&server);
    assert_eq!(who(&mut other, log, 2), Err(Code::Denied), "gone or not");
}

#[test]
fn a_look_is_bounded_and_says_so() {
    let server = server_with(Options::default().limit("subscribers_looked_at", 16));
    let log = log_of(&server);
    let mut asker = asker(&server, Encoding::Json);
    let mut readers: Vec<_> = (0..16).map(|n| reader(&server, &format!("user-{n:02}"))).collect();
    readers.iter_mut().for_each(Client::ack);
    let all: Vec<String> = (0..16).map(|n| format!("user-{n:02}")).collect();
    until("all of them", || who(&mut asker, log, 2) == Ok((all.clone(), false)));
    readers.extend((16..20).map(|n| reader(&server, &format!("user-{n:02}"))));
    readers.iter_mut().for_each(Client::ack);
    let lowest = |readers: &[Client]| {
        let mut ids: Vec<_> = readers.iter().map(|reader| reader.connection).collect();
        ids.sort();
        ids.truncate(16);
        let of = |reader: &&Client| ids.contains(&reader.connection);
        let met = readers.iter().filter(of).map(|one| one.welcome.as_ref().unwrap().user.clone());
        let mut users: Vec<String> = met.collect();
        users.sort();
        users
    };
    // The same ones each time: those of the lowest ids.
    let some = lowest(&readers);
    until("as many as are looked at", || who(&mut asker, log, 2) == Ok((some.clone(), true)));
    assert_eq!(who(&mut asker, log, 2), Ok((some, true)));
}

#[test]
fn each_question_has_one_answer_however_many_there_are() {
    let server = server();
    let log = log_of(&server);
    let grants = [("**", "read delivered")];
    for encoding in Encoding::ALL {
        let mut asker = Client::with(Some(token("asker", &grants))).wanting(LOG);
        asker.encoding = encoding;
        let mut asker = asker.join(&server);
        asker.reach(LOG, 3);
        let question = |request| ClientFrame::Who(Who { request, log, offset: 0 });
        let mut frames: Vec<_> = (1..=300).map(question).collect();
        // It may end its own subscription between them: that is another matter.
        frames.insert(150, ClientFrame::Unsubscribe(Unsubscribe { request: 500, logs: vec![log] }));
        let link = asker.link.as_mut().unwrap();
        link.send_all(&frames);
        let (mut answers, mut ended, end) = (BTreeMap::new(), 0, Instant::now() + WAIT);
        while answers.len() < 300 || ended == 0 {
            let (request, told) = match link.next(end) {
                Next::Frame(ServerFrame::DeliveredTo(told), _) => (told.request, None),
                Next::Frame(ServerFrame::Refused(told), _) => {
                    (told.request, Some(told.refusal.code))
                }
                Next::Frame(ServerFrame::Unsubscribed(_), _) => {
                    ended += 1;
                    continue;
                }
                Next::Frame(..) => continue,
                other => panic!("{} answers, then {other:?}", answers.len()),
            };
            assert!(told.is_none_or(|code| code == Code::Overloaded), "{told:?}");
            assert!(answers.insert(request, told).is_none(), "{request} is answered twice");
        }
        let looked = answers.values().filter(|told| told.is_none()).count();
        assert!(looked >= 64, "{looked} were looked into");
    }
}

#[test]
fn back_ends_ask_the_same_over_http() {
    let server = server();
    let log = log_of(&server);
    let mut ana = reader(&server, "ana");
    ana.ack();
    let http = server.http_as(Some(token("back end", ASKS)));
    let path = format!("/v1/delivered/{LOG}");
    let ask = |query: &str| http.get(&format!("{path}{query}"));
    let whole = json!({
        "name": LOG, "log": log, "offset": 2, "users": ["ana"], "more": false,
    });
    until("ana to have it", || ask("?offset=2").ok().json() == whole);
    assert_eq!(ask("?offset=2").ok().number("highwater-head"), 3);
    assert_eq!(server.http().get(&format!("{path}?offset=2")).refusal(), (403, "denied".into()));
    assert_eq!(ask("").refusal(), (400, "bad_request".into()));
    for bad in ["?offset=3", "?offset=-1", "?offset=9007199254740992"] {
        assert_eq!(ask(bad).refusal(), (400, "bad_offset".into()), "{bad}");
    }
    let other = [("Highwater-Log", "99")];
    let told = http.ask("GET", &format!("{path}?offset=2"), &other, None);
    assert_eq!(told.refusal(), (409, "epoch".into()));
    server.http().post_json("/v1/revocations", &json!({ "user": "back end" })).ok();
    assert_eq!(ask("?offset=2").refusal(), (401, "revoked".into()));
    server.http().delete("/v1/revocations?user=back%20end").ok();
    server.http().delete(&format!("/v1/logs/{LOG}")).ok();
    assert_eq!(ask("?offset=2").refusal(), (404, "unknown_log".into()));
}

/// Development gives every right, this one too.
#[test]
fn in_development_everybody_may_ask() {
    let server = Server::start(Options::dev());
    server.http().post("/v1/logs/a", "x").ok();
    let told = server.http().get("/v1/delivered/a?offset=0").ok().json();
    assert_eq!(told["users"], json!([]));
    let log = server.http().get("/v1/logs/a?limit=0").ok().number("highwater-log");
    let mut anyone = Client::with(None).join(&server);
    assert_eq!(who(&mut anyone, log, 0), names(&[]));
}
