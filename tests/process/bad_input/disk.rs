//! A disk that takes no more in the middle of work, as a limit on the size of files, and a folder
//! that cannot be written at all: what the process says, how it ends, and what is there after.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use super::*;

/// Text that no compression makes much smaller.
fn noise(length: usize) -> String {
    let bytes: Vec<u8> = (0..length * 3 / 4).map(|_| rand::random()).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A write that fails stops the node, since nobody knows what the disk holds. What was
/// acknowledged is there after the next start, once, and nothing is there that was not sent.
#[test]
fn a_disk_that_takes_no_more_stops_the_node_and_takes_nothing_back() {
    let options = Options::default().limit("append_bytes_per_user_second", 1 << 30);
    let mut server = Server::start(options.clone());
    let mut writer = Client::new("wim").join(&server);
    writer.store("docs/a", "before");
    writer.cut();
    assert!(server.terminate().success());
    // The engine sets room for its log aside when the folder is made; some of it may be used.
    server.restart_with(Options { file_blocks: Some(16 << 10), ..options.clone() });
    writer.connect(&server);
    let mut acknowledged = 0;
    let end = Instant::now() + WAIT;
    while writer.closed.is_none() {
        assert!(Instant::now() < end, "{acknowledged} appends went into eight mebibytes");
        // At most two on the way, so that the failure strikes one and the next was sent.
        if writer.unanswered() < 2 {
            writer.append("docs/a", &noise(100_000));
        }
        writer.step(Instant::now() + Duration::from_millis(5));
        acknowledged = writer.outcomes().len();
    }
    assert_eq!(server.wait_for_end().code(), Some(1));
    let log = server.log();
    assert!(log.contains("the node stops: the journal failed: storage failed"), "{log}");
    assert!(log.contains("check the disk, start again"), "{log}");
    assert!(acknowledged > 10, "it worked before: {acknowledged}");
    let sent = writer.writer().last();
    server.restart_with(options);
    let mut reader = Client::new("rea").wanting("docs/a").join(&server);
    reader.reach("docs/a", acknowledged as u64);
    reader.sync();
    let stored = reader.seen.len() as u64;
    assert!((acknowledged as u64..=sent).contains(&stored), "{acknowledged} {stored} {sent}");
    for (at, seen) in reader.log("docs/a").records.values().enumerate() {
        assert_eq!((seen.writer, seen.seq), (writer.writer().id(), at as u64 + 1), "each once");
    }
    for (seq, outcome) in writer.outcomes() {
        let Outcome::Stored { offset, place, .. } = outcome else { panic!("{seq}: {outcome:?}") };
        let seen = &reader.log("docs/a").records[offset];
        assert_eq!((seen.seq, seen.place), (*seq, *place), "where it was told");
    }
    // The rest is sent again, and then all of it is there.
    writer.cut();
    writer.connect(&server);
    writer.settled();
    reader.reach("docs/a", sent);
    assert_eq!(reader.seen.len() as u64, sent);
}

/// All that is in a folder: paths, modes, and what files hold.
fn content(folder: &Path) -> Vec<(String, u32, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let meta = fs::metadata(&next).unwrap();
        found.push((next.display().to_string(), meta.mode(), Vec::new()));
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let mode = fs::metadata(&path).unwrap().mode();
                found.push((path.display().to_string(), mode, fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Sets the modes of a folder and all in it.
fn set_modes(folder: &Path, folders: u32, files: u32) {
    fs::set_permissions(folder, Permissions::from_mode(folders)).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            set_modes(&path, folders, files);
        } else {
            fs::set_permissions(&path, Permissions::from_mode(files)).unwrap();
        }
    }
}

/// The administrator is not held by modes, and tests may run as one: then the program runs as
/// nobody, from a place that everyone can reach.
fn cannot_be_written(place: &Path, data: &Path) {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let program = place.join("highwater");
    if !program.exists() {
        let built = env!("CARGO_BIN_EXE_highwater");
        fs::hard_link(built, &program).or_else(|_| fs::copy(built, &program).map(drop)).unwrap();
    }
    let mut command = Command::new(&program);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    command.current_dir(place);
    if is_root {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let says = format!("{} cannot be written (", data.display());
    assert!(told.contains(&says) && told.contains("check owner, mode and mount"), "{told}");
    assert!(output.stdout.is_empty(), "it never said that it listens");
}

#[test]
fn a_folder_that_cannot_be_written_is_left_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let place = place.path();
    fs::set_permissions(place, Permissions::from_mode(0o755)).unwrap();
    // One that is empty, one that would have to be made, and one that was used before.
    let empty = place.join("empty");
    fs::create_dir(&empty).unwrap();
    set_modes(&empty, 0o555, 0o444);
    for data in [&empty, &empty.join("new")] {
        cannot_be_written(place, data);
        assert_eq!(fs::read_dir(&empty).unwrap().count(), 0, "nothing was put into it");
    }
    let mut server = Server::start(Options::dev());
    let mut writer = Client::with(None).join(&server);
    for n in 0..20 {
        writer.store("docs/a", &n.to_string());
    }
    assert!(server.terminate().success());
    let (home, used) = (server.data(), place.join("used"));
    copy(&home, &used);
    set_modes(&used, 0o555, 0o444);
    let before = content(&used);
    cannot_be_written(place, &used);
    assert!(content(&used) == before, "nothing in it was changed");
    // With its modes back it is as good as before.
    set_modes(&used, 0o755, 0o644);
    fs::remove_dir_all(&home).unwrap();
    copy(&used, &home);
    server.restart();
    let mut reader = Client::with(None).wanting("docs/a").join(&server);
    reader.reach("docs/a", 20);
    set_modes(&empty, 0o755, 0o644);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let beside = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &beside);
        } else {
            fs::copy(&path, &beside).unwrap();
        }
    }
}
