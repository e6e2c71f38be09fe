//! Mistakes that people make at the command line: each is answered with a sentence that says what
//! to do, and with the documented exit code; nothing is believed that no Highwater server said.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::support::{Options, Server, now_ms, token, token_until};

/// A program of this build, with nothing in its environment that is meant for it.
fn command(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(arguments.split(' ').filter(|word| !word.is_empty()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end, with that on its standard input.
fn run(url: &str, arguments: &str, input: &str) -> Output {
    let mut command = command(arguments);
    let mut child = command.env("HIGHWATER_URL", url).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Whoever is not read from has ended.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// That it ended with this code and said so.
#[track_caller]
fn assert_says(output: &Output, code: i32, says: &str) {
    let errors = errors(output);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(says), "wanted {says:?}:\n{errors}");
}

/// Something that answers requests, and is no Highwater server: `answer` is given the number of
/// the request. It ends with the process.
fn stranger(answer: impl Fn(usize) -> String + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, socket) in listener.incoming().flatten().enumerate() {
            take_request(&socket);
            (&socket).write_all(answer(number).as_bytes()).ok();
        }
    });
    url
}

/// Reads a request to its end, so that closing the socket tells the client nothing else.
fn take_request(socket: &TcpStream) {
    let mut input = BufReader::new(socket);
    let (mut line, mut length) = (String::new(), 0);
    while input.read_line(&mut line).is_ok_and(|read| read > 2) {
        let lower = line.to_ascii_lowercase();
        if let Some(number) = lower.strip_prefix("content-length:") {
            length = number.trim().parse().unwrap();
        }
        line.clear();
    }
    input.take(length).read_to_end(&mut Vec::new()).ok();
}

fn http(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[test]
fn what_merely_says_200_is_not_believed() {
    let id = "0".repeat(31) + "1";
    for body in ["{}", r#"{"count":1}"#, "<html>welcome</html>", ""] {
        let url = stranger(move |_| http("200 OK", body));
        let output = run(&url, "produce words", "one\ntwo\n");
        assert_says(&output, 1, "not as a Highwater server does");
        assert_says(&output, 1, "0 records stored in words");
        for arguments in [
            "create a",
            "consume a",
            "logs",
            "connections list",
            &format!("connections show {id}"),
            &format!("connections downgrade {id}"),
        ] {
            assert_says(&run(&url, arguments, ""), 1, "check the address");
        }
    }
    let elsewhere = stranger(|_| http("302 Found", ""));
    assert_says(&run(&elsewhere, "logs", ""), 1, "302 Found): check the address");
}

#[test]
fn a_log_that_was_made_though_the_answer_was_lost_is_made() {
    let found = r#"{"name":"a","log":7,"created":false}"#;
    let lost = stranger(move |number| match number {
        0 => String::new(),
        1 => "HTTP/1.1 201 Crea".to_owned(),
        2 => http("201 Created", found).replace("}", ""),
        _ => http("200 OK", found),
    });
    let output = run(&lost, "create a", "");
    assert!(output.status.success(), "{}", errors(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "exists a (log 7)\n");
    // What was refused before anything was done leaves nothing open.
    let busy = r#"{"code":"overloaded","message":"busy","retry_after":1}"#;
    let refused = stranger(move |number| match number {
        0 => http("503 Service Unavailable", busy),
        _ => http("200 OK", found),
    });
    assert_says(&run(&refused, "create a", ""), 1, "--if-not-exists");
}

#[test]
fn a_development_token_is_made_where_a_node_made_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let new = folder.path().join("data");
    let make = |data: &Path| {
        format!("token make --dev --data {} --user ana --grant **=read", { data.display() })
    };
    let check = |data: &Path, token: &str| {
        format!("token check {token} --dev --data {}", { data.display() })
    };
    for arguments in [make(&new), check(&new, "x")] {
        assert_says(&run("", &arguments, ""), 1, "start `highwater serve --dev`");
        assert!(!new.exists(), "a folder with a secret alone would be refused by serve");
    }
    let server = Server::start(Options::dev());
    let made = run("", &make(&server.data()), "");
    assert!(made.status.success(), "{}", errors(&made));
    let made = String::from_utf8(made.stdout).unwrap();
    let checked = run("", &check(&server.data(), made.trim()), "");
    assert!(checked.status.success(), "{}", errors(&checked));
    let used = run(&server.url(), &format!("create a --token {}", made.trim()), "");
    assert_says(&used, 1, "denied");
}

#[test]
fn addresses_that_lead_nowhere_are_told_at_once() {
    let server = Server::start(Options::dev());
    let plain = server.address;
    let garbage = stranger(|_| "SSH-2.0-OpenSSH_9.6\r\n".to_owned());
    let nobody = format!("http://{}.example", "x".repeat(64));
    for (url, code, says) in [
        ("localhost:8080".to_owned(), 2, "write http://HOST:PORT"),
        (format!("ws://{plain}"), 2, "write http://HOST:PORT"),
        (String::new(), 2, "HIGHWATER_URL"),
        ("http://127.0.0.1:99999".to_owned(), 2, "has a port that is none"),
        (format!("http://ana:secret@{plain}"), 2, "with a token"),
        (format!("https://{plain}"), 1, "http or https"),
        (garbage, 1, "check the address"),
        (format!("http://{plain}/demo"), 1, "check --server or HIGHWATER_URL"),
        (nobody, 3, "no server at"),
    ] {
        assert_says(&run(&url, "produce a", "x\n"), code, says);
    }
    let slash = run(&format!("http://{plain}/"), "logs", "");
    assert!(slash.status.success(), "{}", errors(&slash));
}

#[test]
fn tokens_that_are_none_say_what_to_give() {
    let server = Server::start(Options::default());
    let url = server.url();
    let with = |token: &str| {
        command("logs").env("HIGHWATER_URL", &url).env("HIGHWATER_TOKEN", token).output().unwrap()
    };
    let good = token("ana", &[("**", "read")]);
    let output = with(&format!("{good}\r\n"));
    assert!(output.status.success(), "a line break behind it: {}", errors(&output));
    assert_says(&with(""), 1, "give one with --token or HIGHWATER_TOKEN");
    assert_says(&with("junk"), 1, "give another with --token or HIGHWATER_TOKEN");
    assert_says(&with(&format!("Bearer {good}")), 2, "give it alone");
    let expired = token_until("ana", &[("**", "read")], now_ms() - 60_000);
    assert_says(&with(&expired), 1, "token_expired");
    assert_says(&with(&expired), 1, "give another with --token or HIGHWATER_TOKEN");
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "another key, and of 32 bytes or more").unwrap();
    let key = key.display();
    let made = run("", &format!("token make --user ana --grant **=read --secret-file {key}"), "");
    let other = String::from_utf8(made.stdout).unwrap();
    assert_says(&with(other.trim()), 1, "unauthorized");
    assert_says(&with(other.trim()), 1, "give another");
}

#[test]
fn arguments_that_make_no_sense_are_wrong_usage() {
    let url = "http://127.0.0.1:1";
    let make = "token make --dev --user ana";
    for (arguments, says) in [
        ("consume a --from -1", "start, end, or an offset"),
        ("consume a --fetch-size -5", "not in 1..=1000000"),
        ("produce a --batch-size -5", "not in 1..=1024"),
        ("create a --page-size -1", "not in 1..="),
        ("create a --page-size 9007199254740992", "not in 1..=9007199254740991"),
        ("pages a --size -1", "not in 0..=9007199254740991"),
        ("produce a words.txt", "highwater produce [OPTIONS] <NAME> < FILE"),
        ("create a//b", "a name has segments of"),
        (&format!("{make} --grant **"), "write PATTERN=right,right"),
        (&format!("{make} --grant **=write"), "is no right"),
        (&format!("{make} --grant **=read --expires-in -5"), "is no time"),
        (&format!("{make} --grant **=read --algorithm EdDSA"), "--private-key-file"),
        ("token check --dev", "there is no token"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        // `token check` looks for its token when it has a secret to check it with.
        if arguments.starts_with("token check") {
            std::fs::write(folder.path().join("dev-secret"), "ab".repeat(32)).unwrap();
        }
        let mut command = command(arguments);
        command.env("HIGHWATER_URL", url).env("HIGHWATER_SERVER_DATA", folder.path());
        assert_says(&command.output().unwrap(), 2, says);
    }
}

#[test]
fn what_does_not_fit_the_log_says_where_to_look() {
    let server = Server::start(Options::dev());
    let url = server.url();
    assert!(run(&url, "produce -q a", "one\n").status.success());
    assert_says(&run(&url, "consume a --from 9", ""), 1, "--from end waits at the head");
    for arguments in ["consume nothing", "tail nothing"] {
        assert_says(&run(&url, arguments, ""), 1, "`highwater create` makes one");
    }
    let id = "0".repeat(31) + "1";
    let unknown = run(&url, &format!("connections show {id}"), "");
    assert_says(&unknown, 1, "`highwater connections list`");
    let folder = std::fs::File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = command("produce a").env("HIGHWATER_URL", &url).stdin(folder).output().unwrap();
    assert_says(&output, 1, "standard input: ");
}

#[test]
fn a_server_that_is_older_than_a_command_is_told_from_a_wrong_address() {
    let missing = r#"{"code":"not_found","message":"there is nothing at /v1/x","retry_after":0}"#;
    let denied = r#"{"code":"denied","message":"no","retry_after":0}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.backup");
    for arguments in
        ["journal", "journal upgrade --to 3", "pages words", &format!("backup {}", file.display())]
    {
        for known in [http("200 OK", r#"{"logs":[],"next":null}"#), http("403 Forbidden", denied)] {
            let older = stranger(move |number| match number {
                0 => http("404 Not Found", missing),
                _ => known.clone(),
            });
            assert_says(&run(&older, arguments, ""), 1, "this server is older than the command");
        }
        let elsewhere = stranger(move |_| http("404 Not Found", missing));
        assert_says(&run(&elsewhere, arguments, ""), 1, "check --server or HIGHWATER_URL");
        assert!(!file.exists());
    }
}

#[test]
fn a_file_that_can_hold_no_cursor_says_what_to_do() {
    let server = Server::start(Options::dev());
    let url = server.url();
    assert!(run(&url, "produce -q a", "one\n").status.success());
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage");
    std::fs::write(&garbage, "junk").unwrap();
    let good = folder.path().join("good");
    let consume = |log: &str, file: &Path| {
        run(&url, &format!("consume {log} --cursor {}", file.display()), "")
    };
    assert!(consume("a", &good).status.success());
    let missing = folder.path().join("missing/cursor");
    assert_says(&consume("a", &garbage), 1, "name another file for --cursor");
    assert_says(&consume("a", folder.path()), 1, "name a file in it for --cursor");
    assert_says(&consume("a", &missing), 1, "make its folder first");
    assert_says(&consume("b", &good), 2, "name another file for --cursor");
    assert_says(&run(&url, "tail a --cursor x", ""), 2, "unexpected argument '--cursor'");
    let help = String::from_utf8(run("", "tail --help", "").stdout).unwrap();
    assert!(help.contains("consume NAME --from end --follow"), "{help}");
}

#[test]
fn a_configuration_that_cannot_be_read_is_all_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.toml");
    std::fs::write(&broken, "[server\nlisten = 1\n").unwrap();
    let missing = folder.path().join("missing.toml");
    for (file, says) in [
        (broken.as_path(), "broken.toml:1: "),
        (missing.as_path(), "missing.toml: cannot be read"),
        (folder.path(), "cannot be read"),
    ] {
        for command in ["config check", "config show", "serve"] {
            let output = run("", &format!("{command} --config {}", file.display()), "");
            assert_says(&output, 1, says);
            assert_eq!(errors(&output).lines().count(), 1, "{}", errors(&output));
        }
    }
    assert_says(&run("", "config check", ""), 1, "highwater: auth.keys: no key is configured");
}

#[test]
fn a_port_that_cannot_be_had_says_why() {
    let server = Server::start(Options::dev());
    let folder = tempfile::tempdir().unwrap();
    let serve = |listen: &str| {
        let data = folder.path().join("data");
        run("", &format!("serve --dev --listen {listen} --data {}", data.display()), "")
    };
    let taken = serve(&server.address.to_string());
    assert_says(&taken, 1, "another server is there: stop that one");
    assert!(!folder.path().join("data").exists());
}

#[test]
fn a_node_outlives_those_who_read_its_output() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut node = command(&format!("serve --dev --listen 127.0.0.1:0 --data {}", data.display()));
    let mut node = node.spawn().unwrap();
    drop(node.stdout.take());
    let mut log = BufReader::new(node.stderr.take().unwrap()).lines();
    let told = log.find_map(|line| {
        let line = line.unwrap();
        line.split_once("listening on http://").map(|(_, rest)| rest.to_owned())
    });
    let address = told.expect("it says in its log what standard output was not there for");
    let address = address.split_whitespace().next().unwrap().to_owned();
    drop(log);
    let url = format!("http://{address}");
    assert!(run(&url, "produce a", "x\n").status.success());
    let pid = node.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(node.wait().unwrap().code(), Some(0), "it tells of its drain to nobody");
}
