//! The protocol from outside: a client in another language, written from `docs/protocol.md` alone.
//!
//! It is `tests/python/client.py`, in Python's standard library; the situations that it goes
//! through, with servers of their own, are beside it.

use std::process::{Command, Stdio};

#[test]
fn promise_15_a_client_in_python_stays_in_one_history() {
    let folder = format!("{}/tests/python", env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("python3")
        .args(["-B", "histories.py", env!("CARGO_BIN_EXE_highwater")])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("this test needs python3 (3.10 or later) on the PATH");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(said.lines().filter(|line| line.starts_with("ok: ")).count() >= 7, "{said}");
    assert!(wrong.is_empty(), "{wrong}");
}
