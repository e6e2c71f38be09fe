//! A list of words goes in by `produce` and comes out of `consume` the same, byte for byte.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Options, Server, seed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;

/// Syllables; some take more than a byte per character.
const SYLLABLES: &[&str] =
    &["ba", "ke", "lo", "mu", "ni", "sta", "ver", "ö", "ñe", "щи", "水", "'s", "-", " ", "\t"];

/// Lines as a word list has them, and the odd ones that any file may have.
fn words(seed: u64, lines: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut list = Vec::new();
    for line in 0..lines {
        match random.random_range(0..1000) {
            0 => {}
            1 => list.extend_from_slice(b"\xff\xfe not UTF-8"),
            2 => list.extend(std::iter::repeat_n(b'x', random.random_range(1000..5000))),
            3 => list.extend_from_slice(b"carriage\r"),
            _ => {
                for _ in 0..random.random_range(1..6) {
                    list.extend(SYLLABLES[random.random_range(0..SYLLABLES.len())].bytes());
                }
                list.extend(line.to_string().bytes());
            }
        }
        list.push(b'\n');
    }
    list
}

/// Runs the program as a user would, with input from a file.
fn run(server: &Server, arguments: &str, input: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(arguments.split(' ')).env("HIGHWATER_URL", server.url());
    command.env_remove("HIGHWATER_TOKEN");
    command.stdin(input.map_or_else(Stdio::null, |path| File::open(path).unwrap().into()));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "highwater {arguments}: {said}");
    output
}

/// Where two texts part, for a message that can be read.
fn assert_same(sent: &[u8], came: &[u8]) {
    let (sent, came): (Vec<_>, Vec<_>) =
        (sent.split(|b| *b == b'\n').collect(), came.split(|b| *b == b'\n').collect());
    if let Some(at) = (0..sent.len().max(came.len())).find(|at| sent.get(*at) != came.get(*at)) {
        let [sent, came] =
            [sent.get(at), came.get(at)].map(|line| line.map(|line| String::from_utf8_lossy(line)));
        panic!("line {at}: {sent:?} went in, {came:?} came out");
    }
}

fn file(folder: &TempDir, list: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join("words");
    File::create(&path).unwrap().write_all(list).unwrap();
    path
}

#[test]
fn a_word_list_comes_out_as_it_went_in() {
    let list = words(seed("--test process words"), 100_000);
    let folder = TempDir::new().unwrap();
    let path = file(&folder, &list);
    let mut server = Server::start(Options::dev());
    run(&server, "create words --page-size 4096", None);
    run(&server, "produce --batch-size 1024 words", Some(&path));
    assert_same(&list, &run(&server, "consume --fetch-size 512 words", None).stdout);

    server.crash();
    assert_same(&list, &run(&server, "consume words", None).stdout);
    let last = run(&server, "consume --from 99999 words", None).stdout;
    let begins = list[..list.len() - 1].iter().rposition(|b| *b == b'\n').unwrap() + 1;
    assert_same(&list[begins..], &last);
    assert!(run(&server, "consume --from end words", None).stdout.is_empty());
}

#[test]
fn a_producer_that_is_held_back_loses_nothing() {
    let list = words(seed("--test process words"), 4_000);
    let folder = TempDir::new().unwrap();
    let path = file(&folder, &list);
    let server = Server::start(Options::dev().limit("appends_per_user_second", 1_000));
    let began = Instant::now();
    run(&server, "produce --batch-size 700 words", Some(&path));
    // A second's worth passes at once, the rest at a thousand a second.
    assert!(began.elapsed() >= Duration::from_millis(2_500), "{:?}", began.elapsed());
    assert_same(&list, &run(&server, "consume words", None).stdout);
}
