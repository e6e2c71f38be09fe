//! Nodes that know of one another: made of another's store, named to its clients; and the journal
//! that lets go of what they have.

use std::path::PathBuf;

use highwater::wire::Code;

use super::{append, payloads, root};
use crate::support::{Client, Nats, Options, Server, errors, run, until};

/// Nodes whose journal lets go at once of what two have on disk.
fn on(nats: &Nats, more: &str) -> Options {
    let toml = format!("{}copies = 2\nkeep_seconds = 0\n{more}", nats.toml());
    Options { toml, ..Options::default() }
}

/// The last batch that a node has folded.
fn batch(server: &Server) -> u64 {
    server.http().get("/v1/journal").ok().json()["batch"].as_u64().unwrap()
}

/// Waits until the stream no longer has what a node had folded by now.
fn let_go(nats: &Nats, server: &Server) {
    let by_now = batch(server);
    until("the journal lets go", || nats.first_sequence() > by_now);
}

/// `highwater join`, and the folder that it was to make.
fn join(from: &Server) -> (tempfile::TempDir, PathBuf, std::process::Output) {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let words = format!("join --from {} --token {} --data", from.url(), root());
    let joined = run("", &format!("{words} {}", data.display()), "");
    (home, data, joined)
}

/// What two nodes have on disk the stream lets go of. A new node is made of a copy then, by one
/// command, and takes part; it holds all, and what it acknowledges is on the others.
#[test]
fn a_node_joins_by_a_copy_where_the_journal_has_let_go() {
    let Some(nats) = Nats::start(1) else { return };
    let (one, mut two) = (Server::start(on(&nats, "")), Server::start(on(&nats, "")));
    let mut all = append(&one, (0..50).map(|n| format!("one {n}")));
    let_go(&nats, &one);
    // With one node nothing more goes, so that a copy is in time however long it takes.
    two.terminate();

    // An empty folder will not do any more, and the sentence says what will.
    let mut empty = Server::start(Options::default());
    empty.kill9();
    std::fs::remove_dir_all(empty.data()).unwrap();
    let (ended, log) = empty.fails_with(&on(&nats, ""));
    assert!(!ended.success() && log.contains("highwater join"), "{log}");

    let (home, data, joined) = join(&one);
    assert!(joined.status.success(), "{}", errors(&joined));
    let (_, _, refused) = join(&empty_server());
    assert!(errors(&refused).contains("alone with its journal"), "{}", errors(&refused));
    let taken = format!("join --from {} --token {} --data {}", one.url(), root(), data.display());
    let refused = run("", &taken, "");
    assert!(errors(&refused).contains("name a folder"), "{}", errors(&refused));

    all.extend(append(&one, (0..50).map(|n| format!("and {n}"))));
    let three = Server::start_in(home, on(&nats, ""));
    until("all is on the new node", || payloads(&three) == all);
    two.restart();
    all.extend(append(&three, (0..50).map(|n| format!("three {n}"))));
    until("what it took is on the others", || payloads(&one) == all && payloads(&two) == all);
    let nodes = one.http().get("/v1/journal").ok().json()["nodes"].as_array().unwrap().len();
    assert_eq!(nodes, 3, "each is a node of its own");
}

/// One that is alone with its journal.
fn empty_server() -> Server {
    Server::start(Options::default())
}

/// A copy that was cut short is no folder that a node starts on, and `join` begins it anew.
#[test]
fn a_copy_that_was_cut_short_is_begun_anew() {
    let Some(nats) = Nats::start(1) else { return };
    let one = Server::start(on(&nats, ""));
    let all = append(&one, (0..50).map(|n| format!("one {n}")));
    let (home, data, joined) = join(&one);
    assert!(joined.status.success(), "{}", errors(&joined));
    // As a crash leaves it in the middle: the mark is there, and what says that it is whole is not.
    std::fs::write(data.join("RESTORING"), "").unwrap();
    std::fs::remove_file(data.join("VERSION")).unwrap();
    let mut two = Server::start(Options::default());
    two.kill9();
    std::fs::remove_dir_all(two.data()).unwrap();
    std::fs::rename(&data, two.data()).unwrap();
    let (ended, log) = two.fails_with(&on(&nats, ""));
    assert!(!ended.success() && log.contains("did not come to its end"), "{log}");
    std::fs::rename(two.data(), &data).unwrap();
    let words = format!("join --from {} --token {} --data {}", one.url(), root(), data.display());
    let joined = run("", &words, "");
    assert!(joined.status.success(), "{}", errors(&joined));
    let two = Server::start_in(home, on(&nats, ""));
    until("all is on the new node", || payloads(&two) == all);
}

/// A node that was away while the journal let go, or whose files are damaged, makes itself anew
/// where it is told of whom; what it had is set aside.
#[test]
fn a_node_whose_store_is_of_no_use_makes_itself_anew() {
    let Some(nats) = Nats::start(1) else { return };
    let (one, two) = (Server::start(on(&nats, "")), Server::start(on(&nats, "")));
    let mut three = Server::start(on(&nats, ""));
    let mut all = append(&one, (0..20).map(|n| format!("before {n}")));
    until("the third has it too", || payloads(&three) == all);
    three.terminate();
    all.extend(append(&two, (0..20).map(|n| format!("meanwhile {n}"))));
    let_go(&nats, &two);
    let (ended, log) = three.fails_with(&on(&nats, ""));
    assert!(!ended.success() && log.contains("journal.copy_from"), "{log}");

    let asides = |server: &Server| {
        let home = server.data().parent().unwrap().to_owned();
        let entries = std::fs::read_dir(home).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name.to_string_lossy().contains(".aside-")).count()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, root() + "\n").unwrap();
    // The first that is named is not there.
    let more = format!(
        "copy_from = [\"http://127.0.0.1:1\", \"{}\"]\ncopy_token_file = {file:?}\n",
        one.url()
    );
    // Of what is cut short, or leads to another journal, nothing comes: all stays where it was.
    let other = Nats::start(1).unwrap();
    let stranger = Server::start(on(&other, ""));
    let to_it = format!("copy_from = {:?}\ncopy_token_file = {file:?}\n", [stranger.url()]);
    let (ended, log) = three.fails_with(&on(&nats, &to_it));
    assert!(!ended.success() && log.contains("a node of another journal"), "{log}");
    assert_eq!(asides(&three), 0);
    let copied = three.data().with_file_name("data.copy");
    std::fs::create_dir_all(copied.join("store")).unwrap();
    std::fs::write(copied.join("RESTORING"), "").unwrap();
    three.restart_with(on(&nats, &more));
    until("all is there", || payloads(&three) == all);
    assert!(!copied.exists());
    assert_eq!(asides(&three), 1, "what it had is kept");

    three.terminate();
    let tables = three.data().join("store").join("keyspaces");
    std::fs::remove_dir_all(&tables).unwrap();
    three.restart_with(on(&nats, &more));
    all.extend(append(&three, ["and on".to_owned()]));
    until("it takes part", || payloads(&one) == all && payloads(&three) == all);
    assert_eq!(asides(&three), 2);

    // As a crash leaves it between setting aside and taking the place.
    three.terminate();
    std::fs::rename(three.data(), &copied).unwrap();
    three.restart_with(on(&nats, &more));
    until("the copy has taken its place", || payloads(&three) == all);
    assert_eq!((asides(&three), copied.exists()), (2, false));
}

/// Clients are told of the other nodes that run: when they are met, and when they are sent away.
#[test]
fn a_client_is_told_where_else_it_may_go() {
    let Some(nats) = Nats::start(1) else { return };
    let named = |address: &str| {
        let args = vec!["--set".to_owned(), format!("server.advertise={address}")];
        Options { args, ..on(&nats, "") }
    };
    let (mut one, two) = (
        Server::start(named("https://n1.example")),
        Server::start(named("https://n2.example:8443")),
    );
    let met_as = |user: &str, server: &Server| {
        let mut client = Client::new(user);
        client.connect(server);
        client
    };
    let met = |server: &Server| met_as("ada", server);
    let nodes = |client: &Client| client.welcome.as_ref().unwrap().nodes.clone();
    until("each names the other", || {
        nodes(&met(&one)) == ["https://n2.example:8443"]
            && nodes(&met(&two)) == ["https://n1.example"]
    });
    // However many there are, each is told before the node goes.
    let mut clients: Vec<_> = (0..40).map(|n| met_as(&format!("u{n}"), &one)).collect();
    one.ask_to_stop();
    for client in &mut clients {
        client.wait("bye", |client| client.bye.is_some());
        let bye = client.bye.take().unwrap();
        let named = vec!["https://n2.example:8443".to_owned()];
        assert_eq!((bye.code, bye.nodes), (Code::ShuttingDown, named));
    }
    assert!(one.wait_for_end().success());
    until("who is gone is not named", || nodes(&met(&two)).is_empty());
}

/// What is done by the clock is one node's for each log, and another's when that one is gone.
#[test]
fn logs_are_seen_to_also_when_the_node_is_gone_that_did() {
    let Some(nats) = Nats::start(1) else { return };
    let rule = "[[rules]]\npattern = \"**\"\nretain_records = 8\n";
    let (one, mut two) = (Server::start(on(&nats, rule)), Server::start(on(&nats, rule)));
    let logs: Vec<_> = (0..16).map(|log| format!("/v1/logs/l{log}")).collect();
    let start = |path: &String| {
        let told = one.http().get(&format!("{path}?from=end&limit=1"));
        told.headers["highwater-start"].to_str().unwrap().parse::<u64>().unwrap()
    };
    let write = |path: &String| {
        one.http().post_lines(path, (0..10).map(|n| n.to_string()).collect::<Vec<_>>()).ok();
    };
    let trimmed = |past: &[u64]| {
        logs.iter().for_each(write);
        logs.iter().zip(past).all(|(path, past)| start(path) > *past)
    };
    until("all are trimmed", || trimmed(&[0; 16]));
    two.kill9();
    let starts: Vec<_> = logs.iter().map(start).collect();
    until("all are trimmed by the one that is left", || trimmed(&starts));
}

/// A user's rate is shared by the nodes that run, and is one node's again when it is alone. What a
/// socket is given of it as credit tells how much there is.
#[test]
fn a_rate_is_shared_by_the_nodes_that_run() {
    let Some(nats) = Nats::start(1) else { return };
    let options = || on(&nats, "").limit("appends_per_user_second", 4_000);
    let (one, mut two) = (Server::start(options()), Server::start(options()));
    let mut users = 0;
    let mut credit = |server: &Server| {
        users += 1;
        let mut client = Client::new(&format!("u{users}"));
        client.connect(server);
        client.welcome.as_ref().unwrap().credit.unwrap().appends
    };
    until("each gives a half", || (credit(&one), credit(&two)) == (500, 500));
    two.terminate();
    until("the one that is left gives all", || credit(&one) == 1_000);
}

/// A source that lets a node in and says nothing is given up after ten seconds.
#[test]
fn a_source_that_says_nothing_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (home, at) = (tempfile::tempdir().unwrap(), silent.local_addr().unwrap());
    let data = home.path().join("data");
    let words = format!("join --from http://{at} --give-up-after 0 --data {}", data.display());
    let begun = std::time::Instant::now();
    let joined = run("", &words, "");
    assert!(!joined.status.success() && !data.exists(), "{}", errors(&joined));
    assert!(begun.elapsed() < std::time::Duration::from_secs(30), "{:?}", begun.elapsed());
}
