//! The command line as a person or a script would use it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

/// The program, told of the server by its environment.
pub fn command(url: &str, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.args(arguments.split(' ').filter(|word| !word.is_empty()));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HIGHWATER_") {
            command.env_remove(name);
        }
    }
    command.env("HIGHWATER_URL", url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Gives a command its input on a thread of its own, so that neither side waits for the other.
pub fn feed(child: &mut Child, input: Vec<u8>) {
    let mut stdin = child.stdin.take().unwrap();
    std::thread::spawn(move || stdin.write_all(&input).ok());
}

/// Runs a command to its end.
pub fn run(url: &str, arguments: &str, input: impl Into<Vec<u8>>) -> Output {
    let mut child = command(url, arguments).spawn().unwrap();
    feed(&mut child, input.into());
    child.wait_with_output().unwrap()
}

/// What a command that goes well writes.
pub fn told(url: &str, arguments: &str, input: impl Into<Vec<u8>>) -> String {
    let output = run(url, arguments, input);
    assert!(output.status.success(), "{arguments}: {}", errors(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says to people.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A command that runs on; ended with the test.
pub struct Running(pub Child);

impl Running {
    /// All that it writes for people, to its end.
    pub fn told(&mut self) -> String {
        let mut said = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    /// The lines it writes, read on a thread of its own: one that is lost ends the wait for it.
    pub fn lines(&mut self) -> Receiver<String> {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let (tell, told) = sync_channel(64);
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| tell.send(line)).ok();
        });
        told
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
