//! Nodes as processes that share a journal on real nats-servers: one thing that happens to them at
//! a time, while nobody else is there.

use super::{append, on, payloads, root};
use crate::support::{LONGEST, Nats, Options, Running, Server, command, errors, run, until};

/// A node goes by SIGKILL; the other has all that it acknowledged, and it has all that came
/// meanwhile when it comes back.
#[test]
fn what_a_killed_node_acknowledged_is_on_the_other() {
    let Some(nats) = Nats::start(1) else { return };
    let (mut one, two) = (Server::start(on(&nats)), Server::start(on(&nats)));
    let mut all = append(&one, (0..50).map(|n| format!("one {n}")));
    one.kill9();
    until("all that was acknowledged", || payloads(&two) == all);
    all.extend(append(&two, (0..50).map(|n| format!("two {n}"))));
    one.restart();
    until("what came meanwhile", || payloads(&one) == all);
}

/// Whether a node counts as running, as another one tells it.
fn is_up(by: &Server, node: &str) -> bool {
    let told = by.http().get("/v1/journal").ok().json();
    let nodes = told["nodes"].as_array().unwrap();
    nodes.iter().find(|row| row["node"] == node).unwrap()["up"] == true
}

/// Promise 12: a node that was asleep tells nothing of what it had: others have gone on. It was
/// found silent meanwhile, closes nothing, and goes on when it has read all.
#[test]
fn promise_12_a_node_that_was_asleep_answers_only_once_it_has_caught_up() {
    let Some(nats) = Nats::start(1) else { return };
    let (one, two) = (Server::start(on(&nats)), Server::start(on(&nats)));
    let mut all = append(&one, (0..5).map(|n| format!("one {n}")));
    let mut follow =
        Running(command(&one.url(), "consume --follow a --token").arg(root()).spawn().unwrap());
    let lines = follow.lines();
    let next = || lines.recv_timeout(LONGEST).unwrap();
    assert_eq!((0..5).map(|_| next()).collect::<Vec<_>>(), all);
    let node = one.http().get("/v1/journal").ok().json()["node"].as_str().unwrap().to_owned();
    assert!(is_up(&two, &node));
    one.signal("STOP");
    until("it is found silent", || !is_up(&two, &node));
    let later = append(&two, (0..5).map(|n| format!("two {n}")));
    all.extend(later.clone());
    one.signal("CONT");
    // Again and again from the first moment on: either it says that it is cut off, or it has all.
    let mut cut_off = 0;
    until("it has caught up", || {
        let answer = one.http().get("/v1/logs/a?from=0");
        if answer.status == 503 {
            assert_eq!(answer.refusal().1, "not_ready");
            cut_off += 1;
            return false;
        }
        assert_eq!(answer.payloads(), all, "nothing old");
        true
    });
    assert!(cut_off > 0, "it answered at once: the fence was never shut");
    assert_eq!((0..5).map(|_| next()).collect::<Vec<_>>(), later, "its reader goes on");
    until("it runs again", || is_up(&two, &node));
}

/// Without its engine a node knows after a while that it may be behind, and says so until the
/// engine is back; readers stay connected.
#[test]
fn a_node_that_is_cut_off_from_its_engine_says_so_and_goes_on() {
    let Some(nats) = Nats::start(1) else { return };
    let one = Server::start(on(&nats));
    let all = append(&one, (0..5).map(|n| format!("one {n}")));
    nats.signal(0, "STOP");
    let ready = || one.http_as(None).get("/readyz").status == 200;
    until("it knows that it is cut off", || !ready());
    let refused = one.http().get("/v1/logs/a?from=0");
    assert_eq!(refused.refusal(), (503, "not_ready".to_owned()));
    nats.signal(0, "CONT");
    until("it goes on", || ready() && payloads(&one) == all);
}

/// The engine goes by SIGKILL and comes again: nodes wait for it, and lose nothing.
#[test]
fn nodes_outlive_their_engine() {
    let Some(mut nats) = Nats::start(1) else { return };
    let (one, two) = (Server::start(on(&nats)), Server::start(on(&nats)));
    let mut all = append(&one, (0..50).map(|n| format!("one {n}")));
    nats.kill(0);
    until("what is there is read", || payloads(&one) == all);
    nats.again(0);
    all.extend(append(&two, (0..50).map(|n| format!("two {n}"))));
    until("it is on both", || payloads(&one) == all && payloads(&two) == all);
}

/// The engine's only disk is lost. What nodes have folded is in their folders: none of them begins
/// another journal by itself, and by an operator's word it goes on from a folder.
#[test]
fn a_stream_that_is_gone_is_begun_anew_by_an_operators_word_alone() {
    let Some(mut nats) = Nats::start(1) else { return };
    let mut one = Server::start(on(&nats));
    let mut all = append(&one, (0..50).map(|n| format!("one {n}")));
    one.kill9();
    nats.lose_disk(0);
    let (ended, log) = one.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("highwater journal move"), "{log}");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("highwater.toml");
    std::fs::write(&config, nats.toml()).unwrap();
    let data = one.data().display().to_string();
    let words = format!("journal move --dev --config {} --data {data}", config.display());
    let moved = run("", &words, "");
    assert!(moved.status.success(), "{}", errors(&moved));
    one.restart_with(on(&nats));
    assert_eq!(payloads(&one), all);
    all.extend(append(&one, ["and on".to_owned()]));
    one.crash();
    assert_eq!(payloads(&one), all);
}

/// A node that cannot say goodbye goes all the same.
#[test]
fn a_node_is_told_to_stop_while_its_engine_hangs() {
    let Some(nats) = Nats::start(1) else { return };
    let mut one = Server::start(on(&nats));
    append(&one, ["a".to_owned()]);
    nats.signal(0, "STOP");
    assert!(one.terminate().success());
    nats.signal(0, "CONT");
    one.restart();
    assert_eq!(payloads(&one), ["a"]);
}

/// A folder whose node was alone is not taken for one of a shared journal, nor the other way round.
#[test]
fn a_folder_of_another_journal_is_refused_with_a_sentence() {
    let Some(nats) = Nats::start(1) else { return };
    let mut alone = Server::start(Options::default());
    append(&alone, ["a".to_owned()]);
    alone.kill9();
    let (ended, log) = alone.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("this folder has a history"), "{log}");
    let other = Server::start(on(&nats));
    let (ended, log) = alone.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("is of another journal"), "{log}");
    assert_eq!(append(&other, ["b".to_owned()]), payloads(&other));
}

/// A node that was alone moves its journal to the engine, and others are made of its backup: what
/// was there is on all, numbers go on, and an era begins.
#[test]
fn a_journal_is_moved_to_the_engine_and_other_nodes_are_made_of_a_backup() {
    let Some(nats) = Nats::start(1) else { return };
    let mut one = Server::start(Options::default());
    let mut all = append(&one, (0..50).map(|n| format!("alone {n}")));
    let told = |server: &Server| server.http().get("/v1/journal").ok().json();
    let before = told(&one);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("highwater.toml");
    std::fs::write(&config, nats.toml()).unwrap();
    let (config, data) = (config.display().to_string(), one.data().display().to_string());
    let words = format!("journal move --dev --config {config} --data {data}");
    let refused = run("", &words, "");
    assert!(!refused.status.success(), "a node runs on it");
    one.terminate();
    let moved = run("", &words, "");
    assert!(moved.status.success(), "{}", errors(&moved));
    let again = run("", &words, "");
    assert!(errors(&again).contains("is there already"), "{}", errors(&again));

    let (ended, log) = one.fails_with(&Options::default());
    assert!(!ended.success() && log.contains("was moved to an engine"), "{log}");
    one.restart_with(on(&nats));
    let after = told(&one);
    assert_eq!(after["journal"], before["journal"]);
    assert!(after["batch"].as_u64() > before["batch"].as_u64(), "numbers go on");
    assert_ne!(after["era"], before["era"], "what may go on elsewhere is of another history");
    assert_eq!(payloads(&one), all);

    let backup = folder.path().join("x.backup").display().to_string();
    let home = tempfile::tempdir().unwrap();
    let words = format!("backup {backup} --token {}", root());
    let made = run(&one.url(), &words, "");
    assert!(made.status.success(), "{}", errors(&made));
    all.extend(append(&one, (0..50).map(|n| format!("moved {n}"))));
    let data = home.path().join("data").display().to_string();
    let made = run("", &format!("restore {backup} --data {data}"), "");
    assert!(made.status.success(), "{}", errors(&made));
    let two = Server::start_in(home, on(&nats));
    until("all is on the new node", || payloads(&two) == all);
    all.extend(append(&two, ["by two".to_owned()]));
    until("both go on", || payloads(&one) == all);
    one.crash();
    assert_eq!(payloads(&one), all, "and again");

    // One that begins with nothing cannot have what came before the move.
    let mut none = Server::start(Options::default());
    none.kill9();
    std::fs::remove_dir_all(none.data()).unwrap();
    let (ended, log) = none.fails_with(&on(&nats));
    assert!(!ended.success() && log.contains("rebuild it from a copy"), "{log}");
}

#[test]
fn journal_check_tells_what_the_engine_keeps() {
    let Some(nats) = Nats::start(1) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("highwater.toml");
    std::fs::write(&file, nats.toml()).unwrap();
    let words = format!("journal check --dev --config {}", file.display());
    let output = run("", &words, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", errors(&output));
    assert!(text.contains("risky   the stream has one copy"), "{text}");
    assert!(text.contains("syncs before it acknowledges"), "{text}");
    assert!(
        text.contains("is not there: a node with an empty folder makes it"),
        "nothing was made: {text}"
    );

    let away = "[journal]\nengine = \"nats\"\nservers = \"nats://127.0.0.1:9\"\n";
    std::fs::write(&file, away).unwrap();
    let output = run("", &words, "");
    let told = errors(&output);
    assert!(!output.status.success() && told.contains("no server of journal.servers"), "{told}");
}
