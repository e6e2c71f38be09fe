//! `produce`: standard input into a log, a record a line, each stored exactly once.
//!
//! A run is one writer: lines are numbered, and a batch whose answer was lost is sent again under
//! the same numbers, so nothing is stored twice. Lines are sent when a batch is full or no more
//! input is at hand, so that what is typed does not wait.

use std::io::{BufRead, Write};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::client::{Client, Failure, ServerArgs, log_name, read_json};
use super::error::CliError;
use super::kept::{Kept, Parted, parted};
use crate::wire::{Id, MAX_ITEMS, Payload};

/// A batch is sent when its lines are this long together, in bytes.
const BATCH_BYTES: usize = 1 << 20;
/// Longest line, in bytes; no server takes larger records.
const MOST_LINE: usize = 4 << 20;

/// Arguments of `produce`.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "highwater produce [OPTIONS] <NAME> < FILE")]
#[command(after_help = "\
Each line without its newline is a record: text where it is UTF-8, bytes otherwise. A run is one
writer, so a line that had to be sent again is stored once; two runs are two writers.")]
pub(super) struct ProduceArgs {
    /// The log; made if it is missing and the server makes logs by themselves
    #[arg(value_name = "NAME", value_parser = log_name)]
    name: String,
    /// Most records in one request
    #[arg(
        long,
        value_name = "N",
        default_value_t = 256,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u16).range(1..=MAX_ITEMS as i64)
    )]
    batch_size: u16,
    /// Don't say how many records were stored
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Carries out `produce`.
///
/// # Errors
/// When a line was refused, or the server is gone; how many lines were stored is told.
pub(super) fn run(
    args: &ProduceArgs,
    input: impl std::io::Read,
    notes: &mut dyn Write,
) -> Result<(), CliError> {
    let client = Client::new(&args.server)?;
    let mut run = Run {
        client: &client,
        name: &args.name,
        writer: Id(rand::random()),
        kept: Kept::default(),
        stored: 0,
        batch: Batch::default(),
    };
    let produced = run.all(input, usize::from(args.batch_size));
    if run.stored > 0 {
        run.retire();
    }
    if !args.quiet {
        // The count is a courtesy; that it cannot be told fails nothing.
        let _ = writeln!(notes, "{} records stored in {}", run.stored, args.name);
    }
    produced
}

/// Lines that wait to be sent, as the request's body.
#[derive(Debug, Default)]
struct Batch {
    lines: usize,
    body: Vec<u8>,
}

#[derive(Serialize)]
struct Line {
    payload: Payload,
}

impl Batch {
    fn push(&mut self, line: &[u8]) -> Result<(), CliError> {
        let payload = match std::str::from_utf8(line) {
            Ok(text) => Payload::text(text),
            Err(_) => Payload::binary(line.to_vec().into()),
        };
        serde_json::to_writer(&mut self.body, &Line { payload }).map_err(CliError::failed)?;
        self.body.push(b'\n');
        self.lines += 1;
        Ok(())
    }
}

/// The members of an answer that matter here.
#[derive(Deserialize)]
struct Appended {
    count: u64,
    log: u64,
}

struct Run<'a> {
    client: &'a Client,
    name: &'a str,
    writer: Id,
    /// Which log and which history the lines so far are stored in.
    kept: Kept,
    stored: u64,
    batch: Batch,
}

impl Run<'_> {
    fn all(&mut self, input: impl std::io::Read, most: usize) -> Result<(), CliError> {
        let mut input = std::io::BufReader::with_capacity(1 << 20, input);
        let mut line = Vec::new();
        loop {
            if self.batch.lines > 0 && input.buffer().is_empty() {
                self.send()?;
            }
            line.clear();
            if !next_line(&mut input, &mut line, self.stored + self.batch.lines as u64 + 1)? {
                return Ok(());
            }
            self.batch.push(&line)?;
            if self.batch.lines == most || self.batch.body.len() >= BATCH_BYTES {
                self.send()?;
            }
        }
    }

    /// Sends the batch until it is answered for good.
    fn send(&mut self) -> Result<(), CliError> {
        let Self { client, name, writer, kept, stored, batch } = self;
        let first = *stored + 1;
        let path = format!("/v1/logs/{name}?writer={writer}&seq={first}");
        let (lines, body) = (batch.lines as u64, &batch.body);
        let post = |client: &Client| {
            let answer = client.post_kept(&path, "application/x-ndjson", body, kept)?;
            let mut kept = *kept;
            kept.told(&answer)?;
            let Appended { count, log } = read_json(answer)?;
            // Anybody can answer 200; that a line is stored is said by its own server alone.
            if count != lines {
                return Err(Failure::foreign(format_args!("{count} stored of {lines}")));
            }
            kept.in_log(log)?;
            Ok(kept)
        };
        let sent = client.insist(*stored > 0, post);
        match sent {
            Ok(answered) => {
                // Not before: what is sent again has to be the same.
                *kept = answered;
                *stored += lines;
                batch.lines = 0;
                batch.body.clear();
                Ok(())
            }
            Err(failure) => Err(self.explain(failure, first)),
        }
    }

    fn explain(&mut self, failure: Failure, first: u64) -> CliError {
        let mut line = first;
        let failure = match failure {
            Failure::Refused(mut refused) => {
                self.stored += refused.stored;
                let result = refused.results.iter().find(|result| result.code.is_some()).cloned();
                if let Some(result) = result {
                    // Sequences count the lines.
                    line = result.seq;
                    refused.code = result.code.unwrap_or(refused.code);
                    refused.message = result.message.unwrap_or(refused.message);
                }
                Failure::Refused(refused)
            }
            other => other,
        };
        let at = |text: String| format!("line {line}: {text}");
        if let Some(why) = parted(&failure, &self.kept, self.name) {
            return CliError::Failed(at(self.left(why)));
        }
        match self.client.explain(failure) {
            CliError::Failed(text) => CliError::Failed(at(text)),
            CliError::Unreachable(text) => CliError::Unreachable(at(text)),
            other => other,
        }
    }

    /// Why it cannot be gone on, and what became of the lines so far.
    fn left(&self, why: Parted) -> String {
        let Self { stored, name, .. } = self;
        match why {
            Parted::Log(why) => format!(
                "{why}; the {stored} lines stored before are gone with it, and none was stored in \
                 another log"
            ),
            Parted::History(why) => format!(
                "{why}; {stored} lines were stored before: see which of them are in {name} now, \
                 and send the rest from there"
            ),
        }
    }

    /// This writer sends no more: its mark need not be kept for a year. That this is not heard
    /// costs a row on the server, so nobody is told.
    fn retire(&self) {
        let path = format!("/v1/writers/{}/retire", self.writer);
        let _ = self.client.post(&path, "application/json", &[]);
    }
}

/// Reads a line without its newline; false at the end of the input.
fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>, number: u64) -> Result<bool, CliError> {
    let mut limited = std::io::Read::take(input, MOST_LINE as u64 + 1);
    let read = limited.read_until(b'\n', line);
    let read = read.map_err(|error| CliError::Failed(format!("standard input: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MOST_LINE {
        let message =
            format!("line {number}: longer than {MOST_LINE} bytes; no record is so large");
        return Err(CliError::Failed(message));
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Vec<u8>> {
        let mut input = std::io::BufReader::with_capacity(3, input);
        let mut all = Vec::new();
        let mut line = Vec::new();
        while next_line(&mut input, &mut line, 1).unwrap() {
            all.push(std::mem::take(&mut line));
        }
        all
    }

    #[test]
    fn lines_are_kept_as_they_are() {
        assert_eq!(lines(b"a\n\nb\r\nlast"), [&b"a"[..], b"", b"b\r", b"last"]);
        assert_eq!(lines(b"\n"), [b""]);
        assert!(lines(b"").is_empty());
    }

    #[test]
    fn a_line_too_long_for_any_record_is_not_gathered() {
        let long = vec![b'x'; MOST_LINE + 1];
        let error = next_line(&mut long.as_slice(), &mut Vec::new(), 7).unwrap_err();
        assert!(error.to_string().starts_with("line 7: longer"), "{error}");
        let fits = [&long[1..], b"\n"].concat();
        let mut line = Vec::new();
        assert!(next_line(&mut fits.as_slice(), &mut line, 1).unwrap());
        assert_eq!(line.len(), MOST_LINE);
    }

    #[test]
    fn a_batch_is_lines_of_records() {
        let mut batch = Batch::default();
        batch.push("ä\"".as_bytes()).unwrap();
        batch.push(b"\xff").unwrap();
        let want = "{\"payload\":\"ä\\\"\"}\n{\"payload\":{\"b64\":\"_w\"}}\n";
        assert_eq!((batch.lines, batch.body.as_slice()), (2, want.as_bytes()));
    }
}
