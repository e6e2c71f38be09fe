//! Libraries that are loaded between a program and the system (LD_PRELOAD), made of C.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds one of a source of this repository, for this run: where it is.
pub fn built(source: &str, name: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.so"));
    // Beside its place: another run may be using what is there.
    let beside = built.with_extension(format!("{}.so", std::process::id()));
    let flags = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"];
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(&compiler);
    command.args(flags).arg("-o").arg(&beside).arg(source).args(["-ldl", "-lpthread"]);
    let done = command.output().unwrap_or_else(|error| {
        panic!("this test needs a C compiler, {compiler:?} cannot be started: {error}")
    });
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "the shim cannot be built: {told}");
    std::fs::rename(&beside, &built).unwrap();
    built
}
