//! `produce`: standard input into a log, a record a line, each stored exactly once.
//!
//! A run is one writer: lines are numbered, and those whose answer was lost are sent again under
//! the same numbers, so nothing is stored twice, however they are parted into requests: fewer at
//! once where a network or a proxy does not carry as many. Lines are sent when a request is full or
//! no more input is at hand, so that what is typed does not wait.

use std::io::{BufRead, Write};

use clap::Args;
use serde::{Deserialize, Serialize};
use ureq::Body;
use ureq::http::Response;

use super::client::{Client, ServerArgs, log_name};
use super::error::CliError;
use super::failure::{Failure, read_json};
use super::kept::{Kept, Parted, parted};
use crate::wire::{Id, MAX_ITEMS, Payload};

/// A request has at most so many bytes, unless a single line has more: what proxies take that were
/// not told otherwise.
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
        last: None,
        batch: Batch::default(),
        most_lines: usize::from(args.batch_size),
        most_bytes: BATCH_BYTES,
        ceiling: BATCH_BYTES,
    };
    let produced = run.all(input);
    // A server that was given up would not hear it either.
    if run.stored > 0 && !matches!(produced, Err(CliError::Unreachable(_))) {
        run.retire();
    }
    if !args.quiet {
        // The count is a courtesy; that it cannot be told fails nothing.
        let _ = writeln!(notes, "{} records stored in {}", run.stored, args.name);
    }
    produced
}

/// Lines that wait to be sent, as a request's body.
#[derive(Debug, Default)]
struct Batch {
    body: Vec<u8>,
    /// Where each line ends in it.
    ends: Vec<usize>,
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
        self.ends.push(self.body.len());
        Ok(())
    }

    fn lines(&self) -> usize {
        self.ends.len()
    }

    /// The first lines, as many as fit, but one at least: how many, and their bytes.
    fn front(&self, most_lines: usize, most_bytes: usize) -> (usize, &[u8]) {
        let fit = self.ends.iter().take(most_lines).take_while(|end| **end <= most_bytes).count();
        let lines = fit.max(1).min(self.lines());
        let end = lines.checked_sub(1).and_then(|last| self.ends.get(last)).copied();
        (lines, self.body.get(..end.unwrap_or_default()).unwrap_or_default())
    }

    /// Forgets the first lines.
    fn pass(&mut self, lines: usize) {
        let end = self.ends.drain(..lines.min(self.ends.len())).next_back().unwrap_or_default();
        self.body.drain(..end);
        self.ends.iter_mut().for_each(|own| *own -= end);
    }
}

/// The members of an answer that matter here.
#[derive(Deserialize)]
struct Appended {
    count: u64,
    log: u64,
    last: u64,
}

struct Run<'a> {
    client: &'a Client,
    name: &'a str,
    writer: Id,
    /// Which log and which history the lines so far are stored in.
    kept: Kept,
    stored: u64,
    /// The offset of the last one that is stored.
    last: Option<u64>,
    batch: Batch,
    most_lines: usize,
    /// How many bytes a request has now; it shrinks with what is cut, and grows with what is not.
    most_bytes: usize,
    /// How far it may grow: as far as nobody on the way has refused.
    ceiling: usize,
}

/// What one try to send came to.
enum Tried {
    /// So many lines are stored, the last at that offset, of that log and history.
    Stored(u64, u64, Kept),
    /// They were too much at once, and less may pass.
    Less,
}

impl Run<'_> {
    fn all(&mut self, input: impl std::io::Read) -> Result<(), CliError> {
        let mut input = std::io::BufReader::with_capacity(1 << 20, input);
        let mut line = Vec::new();
        loop {
            while self.batch.lines() > 0 && input.buffer().is_empty() {
                self.send()?;
            }
            line.clear();
            let number = self.stored + self.batch.lines() as u64 + 1;
            if !next_line(&mut input, &mut line, number)? {
                return Ok(());
            }
            self.batch.push(&line)?;
            while self.batch.lines() >= self.most_lines || self.batch.body.len() > BATCH_BYTES {
                self.send()?;
            }
        }
    }

    /// Sends the first lines that wait until they are answered for good.
    fn send(&mut self) -> Result<(), CliError> {
        // Up to which line it may be stored though no answer said so.
        let mut open = 0;
        loop {
            let client = self.client;
            match client.insist(self.stored > 0, |client| self.try_once(client, &mut open)) {
                Ok(Tried::Less) => {}
                Ok(Tried::Stored(lines, last, kept)) => {
                    // Not before: what is sent again has to be the same.
                    self.kept = kept;
                    self.stored += lines;
                    self.last = Some(last);
                    self.batch.pass(usize::try_from(lines).unwrap_or(usize::MAX));
                    self.most_bytes = (self.most_bytes * 2).min(self.ceiling);
                    return Ok(());
                }
                Err(failure) => return Err(self.explain(failure, open)),
            }
        }
    }

    /// Sends as many lines as are thought to get through.
    fn try_once(&mut self, client: &Client, open: &mut u64) -> Result<Tried, Failure> {
        let Self { name, writer, kept, stored, .. } = self;
        let path = format!("/v1/logs/{name}?writer={writer}&seq={}", *stored + 1);
        let (lines, body) = self.batch.front(self.most_lines, self.most_bytes);
        let (count, bytes) = (lines as u64, body.len());
        let answer = client.post_kept(&path, "application/x-ndjson", body, kept);
        let kept = *kept;
        let failure = match answer.and_then(|answer| check_answer(answer, count, kept)) {
            Ok(taken) => return Ok(taken),
            Err(failure) => failure,
        };
        if failure.leaves_open() {
            *open = (*open).max(*stored + count);
        }
        if failure.is_too_much() && lines > 1 {
            self.ceiling = (bytes / 2).max(1);
            self.most_bytes = self.ceiling;
            return Ok(Tried::Less);
        }
        // A link that is slow, or cut again and again, carries a part where it does not carry all.
        if failure.may_be_slowness() {
            self.most_bytes = (bytes / 2).max(1);
        }
        Err(failure)
    }

    fn explain(&mut self, failure: Failure, open: u64) -> CliError {
        let mut line = self.stored + 1;
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
            CliError::Unreachable(text) => {
                CliError::Unreachable(at(format!("{text}; {}", self.so_far(open))))
            }
            other => other,
        }
    }

    /// What became of the lines when it was given up; up to `open` they may be stored.
    fn so_far(&self, open: u64) -> String {
        let stored = match (self.stored, self.last) {
            (0, _) | (_, None) => "no line is known to be stored".to_owned(),
            (1, Some(last)) => format!("line 1 is stored, at offset {last}"),
            (stored, Some(last)) => {
                format!("lines 1 to {stored} are stored, the last at offset {last}")
            }
        };
        let first = self.stored + 1;
        let perhaps = match open.checked_sub(first) {
            None => String::new(),
            Some(0) => format!(", line {first} may be"),
            Some(_) => format!(", lines {first} to {open} may be"),
        };
        format!("{stored}{perhaps}")
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

/// Looks at the answer to so many lines.
fn check_answer(answer: Response<Body>, lines: u64, mut kept: Kept) -> Result<Tried, Failure> {
    kept.told(&answer)?;
    let Appended { count, log, last } = read_json(answer)?;
    // Anybody can answer 200; that a line is stored is said by its own server alone.
    if count != lines {
        return Err(Failure::foreign(format_args!("{count} stored of {lines}")));
    }
    kept.in_log(log)?;
    Ok(Tried::Stored(count, last, kept))
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
        assert_eq!((batch.lines(), batch.body.as_slice()), (2, want.as_bytes()));
    }

    #[test]
    fn a_request_has_as_many_lines_as_fit_and_one_at_least() {
        let mut batch = Batch::default();
        for line in ["a", "bb", "ccc"] {
            batch.push(line.as_bytes()).unwrap();
        }
        let ends = batch.ends.clone();
        for (most_lines, most_bytes, want) in
            [(9, 999, 3), (2, 999, 2), (9, ends[1], 2), (9, ends[1] - 1, 1), (9, 1, 1)]
        {
            let (lines, body) = batch.front(most_lines, most_bytes);
            assert_eq!((lines, body.len()), (want, ends[want - 1]), "{most_lines} {most_bytes}");
        }
        batch.pass(2);
        assert_eq!(batch.front(9, 999), (1, &b"{\"payload\":\"ccc\"}\n"[..]));
        batch.pass(1);
        assert_eq!((batch.lines(), batch.front(9, 999)), (0, (0, &b""[..])));
    }
}
