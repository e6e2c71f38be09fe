//! Data folders that a server must not touch.

use super::*;

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
