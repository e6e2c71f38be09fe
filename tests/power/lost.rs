//! A data folder that goes away under a running node, is replaced, turns read-only or fails: the
//! node ends at once, says why and what to do, once; what it had answered is there when the folder
//! is put back.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::disk::Disk;
use super::support::{Client, Options, Server, until};

/// A node says within a second of its next look that its folder is lost; machines under load are
/// given more.
const SOON: Duration = Duration::from_secs(5);

/// A server whose disk fails once the file `fails` says how.
struct Room {
    disk: Disk,
    server: Server,
    writer: Client,
}

impl Room {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let disk = Disk::new(folder.path());
        let mut options = Options::default().limit("drain_ms", 0);
        options.env = disk.environment();
        options.env.push(("POWER_FAILS", folder.path().join("fails")));
        let server = Server::start_in(folder, options);
        let mut writer = Client::new("wim").join(&server);
        writer.store("docs/a", "before");
        Self { disk, server, writer }
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.disk.root().join(name)
    }

    /// The harm, while appends go on or while nobody asks for anything: how the node ends, and how
    /// many appends it had answered.
    fn harmed(&mut self, busy: bool, harm: impl FnOnce(&Self)) -> usize {
        harm(self);
        let begun = Instant::now();
        while busy && self.writer.closed.is_none() && begun.elapsed() < SOON {
            if self.writer.unanswered() < 4 {
                self.writer.append("docs/a", "more");
            }
            self.writer.step(Instant::now() + Duration::from_millis(5));
        }
        let ended = self.server.wait_for_end();
        let took = begun.elapsed();
        assert_eq!(ended.code(), Some(1));
        assert!(took < SOON, "it went on for {took:?}:\n{}", self.server.log());
        self.writer.cut();
        self.writer.outcomes().len()
    }

    /// Says why it ended: one line, with the path and what to do.
    fn says(&self, why: &str) {
        let log = self.server.log();
        let said: Vec<&str> = log.lines().filter(|line| line.contains(" the node stops")).collect();
        assert_eq!(said.len(), 1, "{log}");
        let data = self.server.data().display().to_string();
        for part in [why, &data, "start again"] {
            assert!(said[0].contains(part), "{part} is missing in {}", said[0]);
        }
        let errors = log.lines().filter(|line| line.contains("ERROR highwater")).count();
        assert_eq!(errors, 1, "{log}");
    }

    /// Starts it again: what was answered is there, and what was not is sent again.
    fn comes_back(mut self, answered: usize) {
        self.server.restart();
        let mut reader = Client::new("rea").wanting("docs/a").join(&self.server);
        reader.reach("docs/a", answered as u64);
        self.writer.connect(&self.server);
        self.writer.settled();
        reader.reach("docs/a", self.writer.writer().last());
    }
}

fn moved_away(room: &Room) {
    fs::rename(room.server.data(), room.beside("elsewhere")).unwrap();
}

fn put_back(room: &Room) {
    let _ = fs::remove_dir_all(room.server.data());
    fs::rename(room.beside("elsewhere"), room.server.data()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn fails(room: &Room, how: &str) {
    let beside = room.beside("fails.new");
    fs::write(&beside, how).unwrap();
    fs::rename(beside, room.beside("fails")).unwrap();
}

#[test]
fn a_folder_that_is_moved_away_stops_the_node() {
    for busy in [false, true] {
        let mut room = Room::new();
        room.harmed(busy, moved_away);
        room.says("cannot be found any more");
        put_back(&room);
        // What was answered between the move and the look went to the folder that is back.
        let answered = room.writer.outcomes().len();
        room.comes_back(answered);
    }
}

#[test]
fn a_folder_that_is_removed_stops_the_node() {
    let mut room = Room::new();
    room.harmed(true, |room| fs::remove_dir_all(room.server.data()).unwrap());
    let log = room.server.log();
    assert!(log.contains("cannot be found any more") || log.contains("storage failed"), "{log}");
}

/// Another folder in its place: an empty one, a copy of it.
#[test]
fn a_folder_that_is_replaced_stops_the_node() {
    for copied in [false, true] {
        let mut room = Room::new();
        let answered = room.harmed(false, |room| {
            moved_away(room);
            if copied {
                copy(&room.beside("elsewhere"), &room.server.data());
            } else {
                fs::create_dir(room.server.data()).unwrap();
            }
        });
        let log = room.server.log();
        // The look may have come between the two.
        if !log.contains("cannot be found any more") {
            room.says("is no longer the one that was opened");
        }
        put_back(&room);
        room.comes_back(answered);
    }
}

/// One file or folder of it is enough.
#[test]
fn a_part_of_the_folder_that_is_gone_stops_the_node() {
    for part in ["VERSION", "LOCK", "store", "store/0.jnl"] {
        let mut room = Room::new();
        let answered = room.harmed(false, |room| {
            fs::rename(room.server.data().join(part), room.beside("part")).unwrap();
        });
        room.says("cannot be found any more");
        fs::rename(room.beside("part"), room.server.data().join(part)).unwrap();
        room.comes_back(answered);
    }
}

#[test]
fn a_disk_that_fails_syncs_stops_the_node() {
    for (busy, how) in [(false, "EIO"), (true, "EIO"), (false, "EROFS"), (true, "EROFS")] {
        let mut room = Room::new();
        let answered = room.harmed(busy, |room| fails(room, how));
        let problem = if how == "EIO" { "Input/output error" } else { "Read-only file system" };
        room.says(problem);
        fs::remove_file(room.beside("fails")).unwrap();
        room.comes_back(answered);
    }
}

/// No balancer sends clients to it any more, from when it says so until it is gone.
#[test]
fn a_node_that_lost_its_folder_is_not_ready() {
    let mut room = Room::new();
    let address = room.server.address;
    assert!(ready(address));
    moved_away(&room);
    let begun = Instant::now();
    until("it is not ready", || !ready(address));
    assert!(begun.elapsed() < SOON);
    assert_eq!(room.server.wait_for_end().code(), Some(1));
}

/// Whether it says so; it may be gone.
fn ready(address: SocketAddr) -> bool {
    let Ok(mut socket) = TcpStream::connect(address) else { return false };
    let mut answer = String::new();
    let asked =
        socket.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}
