//! The protocol from outside: a client in another language, written from `docs/protocol.md` alone.
//!
//! It is `tests/python/client.py`, in Python's standard library; the situations that it goes
//! through, with servers of their own, are beside it.

use std::process::{Command, Stdio};

#[test]
fn promise_15_a_client_in_python_stays_in_one_history() {
    runs("histories.py", 7);
}

/// `docs/client.md` is a program: against the vectors, and against a server with cuts and kills.
#[test]
fn the_client_of_the_document_works() {
    runs("reference.py", 2);
}

/// A script, which tells that many things to be as they should.
fn runs(script: &str, least: usize) {
    let folder = format!("{}/tests/python", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .args(["-B", script, env!("CARGO_BIN_EXE_highwater")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("this test needs python3 (3.10 or later) on the PATH");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= least, "{said}");
    assert!(wrong.is_empty(), "{wrong}");
}
