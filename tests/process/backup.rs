//! Backup and restore as an operator does them: commands against a node that works on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use crate::support::fixture::{STORE_2, options};
use crate::support::{Client, Options, Server, command, token};
use highwater::rows::Table;
use serde_json::Value;
use tempfile::TempDir;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(words: &[&str]) -> Output {
    Server::command(words)
}

fn all() -> String {
    token("root", &[("**", "admin")])
}

fn backup(server: &Server, file: &Path) -> Output {
    run(&["backup", text(file), "--json", "--server", &server.url(), "--token", &all()])
}

fn told(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What was said, of a command that ended with that code.
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty());
    said
}

/// A folder with room for files and for the folder of a second node.
struct Room {
    folder: TempDir,
}

impl Room {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A server on what was restored to `data`.
    fn start(self) -> Server {
        Server::start_in(self.folder, Options::default())
    }
}

/// Everything acknowledged before it began is in it, and what came meanwhile is there up to one
/// batch of all logs: their records are the original's, without a hole.
#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_before() {
    let options = Options::default().rule("state/**", "latest", "");
    let server = Server::start(options);
    let mut writer = Client::new("wim").join(&server);
    for n in 0..2_000 {
        writer.append("docs/a", &format!("{n} {}", "x".repeat(400)));
        writer.put("state/s", &format!("k{}", n % 7), Some("v"));
    }
    // A log that is made meanwhile may not be in it at all.
    writer.append("docs/b", "before");
    writer.settled();
    let room = Room::new();
    let file = room.file("x.backup");
    let before = server.http().get("/v1/logs/docs/a").ok().payloads().len();
    // In a thread of its own: appends go on here until it is taken.
    let taken = std::thread::scope(|scope| {
        let taking = scope.spawn(|| backup(&server, &file));
        while !taking.is_finished() {
            writer.append("docs/a", "meanwhile");
            writer.append("docs/b", "meanwhile");
            writer.step(Instant::now() + Duration::from_millis(1));
        }
        taking.join().unwrap()
    });
    writer.settled();
    let taken = told(&taken);
    let node = taken["node"].as_str().unwrap().to_owned();
    let data = room.file("data");
    let made = run(&["restore", text(&file), "--data", text(&data), "--json"]);
    let made = told(&made);
    assert_eq!((&made["state"], &made["rows"]), (&taken["state"], &taken["rows"]));
    assert_ne!(made["restored_as"], node.as_str(), "two nodes never are the same");
    assert!(made["position"].as_str().unwrap().contains('.'), "{made}");
    let copy = room.start();
    for log in ["docs/a", "docs/b", "state/s"] {
        let original = server.http().get(&format!("/v1/logs/{log}")).ok().lines();
        let restored = copy.http().get(&format!("/v1/logs/{log}")).ok().lines();
        assert_eq!(restored[..], original[..restored.len()], "{log}");
        // All of the batches up to the one that it names, and nothing of later ones.
        let batch = |line: &Value| {
            line["place"].as_str().unwrap().split('.').next().unwrap().parse::<u64>().unwrap()
        };
        let due = original.iter().filter(|line| batch(line) <= taken["batch"].as_u64().unwrap());
        assert_eq!(restored.len(), due.count(), "{log}");
        if log == "docs/a" {
            assert!(restored.len() >= before, "{} of {before}", restored.len());
        }
    }
    let mut other = Client::new("ann").join(&copy);
    other.store("docs/a", "the node works");
}

#[test]
fn a_stopped_nodes_folder_is_backed_up_too() {
    let mut server = Server::start(Options::default());
    Client::new("wim").join(&server).store("docs/a", "one");
    let room = Room::new();
    let (data, file) = (server.data(), room.file("x.backup"));
    let running = run(&["backup", text(&file), "--data", text(&data)]);
    assert!(refused(&running, 1).contains("in use by another process"));
    assert!(server.terminate().success());
    let taken = told(&run(&["backup", text(&file), "--data", text(&data), "--json"]));
    let made = run(&["restore", text(&file), "--data", text(&room.file("data")), "--json"]);
    assert_eq!(told(&made)["state"], taken["state"]);
    let copy = room.start();
    assert_eq!(copy.http().get("/v1/logs/docs/a").ok().payloads(), ["one"]);
}

#[test]
fn a_backup_that_is_not_whole_makes_no_folder() {
    let server = Server::start(Options::default());
    Client::new("wim").join(&server).store("docs/a", "one");
    let room = Room::new();
    let file = room.file("x.backup");
    told(&backup(&server, &file));
    let bytes = fs::read(&file).unwrap();
    let mut altered = bytes.clone();
    altered[bytes.len() / 2] ^= 1;
    let bad = room.file("bad.backup");
    for (content, word) in [
        (&bytes[..bytes.len() - 1], "cut off"),
        (&bytes[..bytes.len() / 2], "cut off"),
        (&altered[..], "altered"),
        (&b"something else entirely"[..], "no backup"),
        (&b""[..], "no backup"),
    ] {
        fs::write(&bad, content).unwrap();
        let data = room.file("data");
        let said = refused(&run(&["restore", text(&bad), "--data", text(&data)]), 1);
        assert!(said.contains(word) && said.contains("bad.backup"), "{said}");
        assert!(!data.exists(), "nothing is made of it");
    }
}

#[test]
fn mistakes_with_backups_are_told_and_harm_nothing() {
    let server = Server::start(Options::default());
    Client::new("wim").join(&server).store("docs/a", "one");
    let room = Room::new();
    let file = room.file("x.backup");
    told(&backup(&server, &file));
    let first = fs::read(&file).unwrap();
    // Onto a file that is there.
    assert!(refused(&backup(&server, &file), 1).contains("is there already"));
    assert_eq!(fs::read(&file).unwrap(), first);
    // Onto a folder that is used, or has something in it.
    let data = server.data();
    let said = refused(&run(&["restore", text(&file), "--data", text(&data)]), 1);
    assert!(said.contains("in use by another process"), "{said}");
    let other = room.file("other");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("thesis.tex"), "years").unwrap();
    let said = refused(&run(&["restore", text(&file), "--data", text(&other)]), 1);
    assert!(said.contains("is not empty"), "{said}");
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    // By whom, and what else may be asked.
    let some = token("ann", &[("docs/**", "admin")]);
    let url = server.url();
    let second = room.file("y.backup");
    let words = ["backup", text(&second), "--server", &url];
    let said = refused(&run(&[&words[..], &["--token", &some]].concat()), 1);
    assert!(said.contains("admin on **"), "{said}");
    refused(&run(&words), 1);
    let answer = server.http().post("/v1/backup?to=/etc/passwd", "");
    assert_eq!(answer.refusal(), (400, "bad_request".to_owned()));
    assert!(answer.text().contains("`to`"), "{}", answer.text());
    let answer = server.http().post("/v1/backup", "only docs/**, please");
    assert_eq!(answer.refusal(), (400, "bad_request".to_owned()));
    assert!(answer.text().contains("without a body"), "{}", answer.text());
    // A folder that is none, a file in a folder that is none, a server that is none.
    let none = room.file("none");
    let said = refused(&run(&["backup", text(&second), "--data", text(&none)]), 1);
    assert!(said.contains("is no data folder"), "{said}");
    assert!(!none.exists());
    refused(&run(&["backup", text(&none.join("x")), "--server", &url, "--token", &all()]), 1);
    refused(&run(&["backup", text(&second), "--server", "http://127.0.0.1:1"]), 3);
    assert!(!second.exists() && !room.file("y.backup.part").exists(), "nothing is left of it");
}

/// Nobody is told to empty a folder that somebody's data is in.
#[test]
fn a_restore_onto_a_data_folder_says_what_that_is() {
    let mut server = Server::start(Options::default());
    Client::new("wim").join(&server).store("docs/a", "one");
    let room = Room::new();
    let file = room.file("x.backup");
    told(&backup(&server, &file));
    assert!(server.terminate().success());
    let data = server.data();
    let onto = || {
        let said = refused(&run(&["restore", text(&file), "--data", text(&data)]), 1);
        assert!(!said.contains("empty"), "{said}");
        said
    };
    let said = onto();
    assert!(said.contains("is a data folder already"), "{said}");
    fs::rename(data.join("VERSION"), data.join("RESTORING")).unwrap();
    let said = onto();
    assert!(said.contains("did not come to its end"), "{said}");
    // One that goes on looks alike, but for its lock.
    let lock = fs::File::open(data.join("LOCK")).unwrap();
    lock.lock().unwrap();
    let said = onto();
    assert!(said.contains("in use by another process"), "{said}");
}

/// What a start of today takes over first would not be in the backup, and the folder would be one
/// that the old program cannot open any more.
#[test]
fn an_old_folder_is_not_backed_up_and_stays_as_it_is() {
    let folder = STORE_2.unpack();
    let (data, file) = (folder.path().join("data"), folder.path().join("x.backup"));
    let take = || {
        let said = refused(&run(&["backup", text(&file), "--data", text(&data)]), 1);
        assert!(said.contains("start a node of this version"), "{said}");
        assert!(said.contains("cp -a") && said.contains(text(&data)), "{said}");
        assert!(!file.exists() && data.join("revocations.json").exists());
        said
    };
    for version in ["highwater store 2\n", "highwater store 2 to 3\n"] {
        fs::write(data.join("VERSION"), version).unwrap();
        let said = take();
        assert!(said.contains(version.trim_end()), "{said}");
        assert_eq!(fs::read_to_string(data.join("VERSION")).unwrap(), version);
    }
    fs::write(data.join("VERSION"), "highwater store 2\n").unwrap();
    let kept = fs::read(data.join("revocations.json")).unwrap();
    let mut server = Server::start_in(folder, options());
    assert!(server.terminate().success());
    let file = server.data().with_file_name("x.backup");
    let data = server.data();
    assert!(!data.join("revocations.json").exists(), "it was taken over");
    // As an operator who puts a file of then back.
    fs::write(data.join("revocations.json"), kept).unwrap();
    let said = refused(&run(&["backup", text(&file), "--data", text(&data)]), 1);
    assert!(said.contains("revocations.json") && said.contains("cp -a"), "{said}");
    fs::remove_file(data.join("revocations.json")).unwrap();
    told(&run(&["backup", text(&file), "--data", text(&data), "--json"]));
}

#[test]
fn a_backup_of_a_damaged_folder_names_it_and_says_what_to_do() {
    let mut server = Server::start(Options::default());
    let mut writer = Client::new("wim").join(&server);
    for _ in 0..100 {
        writer.append("docs/a", &"x".repeat(400));
    }
    writer.settled();
    assert!(server.terminate().success());
    server.edit(|store, _| store.compact(Table::Records).unwrap());
    let data = server.data();
    let tables = data.join("store/keyspaces/4/tables");
    let table = fs::read_dir(tables).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&table).unwrap();
    bytes[200] ^= 4;
    fs::write(&table, bytes).unwrap();
    let room = Room::new();
    let said = refused(&run(&["backup", text(&room.file("x")), "--data", text(&data)]), 1);
    assert!(said.contains(text(&data)) && said.contains("highwater check"), "{said}");
    assert!(said.contains("restore a backup"), "{said}");
}

#[test]
fn words_that_go_wrong_with_backups_are_answered_with_the_right_ones() {
    let room = Room::new();
    let file = room.file("x.backup");
    let (file, data) = (text(&file), room.file("data"));
    fs::create_dir(&data).unwrap();
    for (words, says) in [
        (&["backup", file, "--data", "d", "--server", "http://127.0.0.1:1"][..], "cannot be used"),
        (&["backup", "-"], "name a file"),
        (&["restore", text(&data), "--data", "d"], "used as it is"),
        (&["restore", file, "d"], "--data DIR"),
    ] {
        let said = refused(&run(words), 2);
        assert!(said.contains(says), "{said}");
    }
    // The variable names the server for other commands: it is no word about this one.
    let with = |words: &str| command("http://127.0.0.1:1", words).output().unwrap();
    let said = refused(&with(&format!("backup {file} --data {}", text(&data))), 1);
    assert!(said.contains("is no data folder"), "{said}");
    let said = refused(&with("backup"), 2);
    assert!(said.contains("Usage: highwater backup <FILE>"), "{said}");
}

/// A backup of a running node holds the row of that node, up, and who was attached to it. The
/// restored folder is another node: the old one never comes back to say that its run is over.
#[test]
fn who_was_attached_when_a_backup_was_taken_is_detached_after_its_restore() {
    let options = Options::default().limit("active_per_user", 2).limit("active_per_device", 2);
    let server = Server::start(options.clone());
    let first = Client::new("ann").join(&server);
    let second = Client::new("ann").join(&server);
    let room = Room::new();
    let file = room.file("x.backup");
    told(&backup(&server, &file));
    told(&run(&["restore", text(&file), "--data", text(&room.file("data")), "--json"]));
    let copy = Server::start_in(room.folder, options);
    let journal = copy.http_as(Some(all())).get("/v1/journal").ok().json();
    let up = |node: &&Value| node["up"] == true;
    assert_eq!(journal["nodes"].as_array().unwrap().iter().filter(up).count(), 1, "{journal}");
    let shown = copy.shows(first.connection);
    assert_eq!(shown["attached"], false, "{shown}");
    // The user's other device is let in.
    let mut third = Client::new("ann");
    assert_ne!(third.connect(&copy), highwater::wire::Met::Waiting);
    drop((first, second));
}
