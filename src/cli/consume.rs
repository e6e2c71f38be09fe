//! `consume` and `tail`: a log's records to standard output, each once and in order.
//!
//! The offset of each record is followed, so an answer that breaks off is asked for again from
//! where it broke, and nothing is written twice or left out. The first answer says which log and
//! which history it is; no record of another one is ever written.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use super::client::{Client, Failure, ServerArgs, log_name, number};
use super::cursor::CursorFile;
use super::error::CliError;
use super::kept::{Kept, Parted, parted};
use crate::wire::{MAX_OFFSET, Payload};

/// How long one request waits for records, in milliseconds.
const WAIT: u64 = 25_000;
/// Longest line of an answer, in bytes: a record at its largest, escaped.
const MOST_LINE: u64 = 16 << 20;

/// Arguments of `consume`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Ends at the head, as it stood at the first request, unless --follow. A payload that has newlines
in it takes several lines: use --json to tell records apart.")]
pub(super) struct ConsumeArgs {
    /// The log
    #[arg(value_name = "NAME", value_parser = log_name)]
    name: String,
    /// Most records in one request
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1_000,
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    fetch_size: u32,
    /// Where to begin: start, end or an offset
    #[arg(
        long,
        value_name = "WHERE",
        default_value = "start",
        allow_negative_numbers = true,
        value_parser = from
    )]
    from: String,
    /// Go on with records as they come, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Write each record as an object with offset, place, time and origin
    #[arg(long)]
    json: bool,
    /// A file that keeps how far the log was read: go on from there, and say so there. --from says
    /// where to begin the first time
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `tail`.
#[derive(Clone, Debug, Args)]
pub(super) struct TailArgs {
    /// The log
    #[arg(value_name = "NAME", value_parser = log_name)]
    name: String,
    /// Write each record as an object with offset, place, time and origin
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

fn from(text: &str) -> Result<String, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = text.parse().is_ok_and(|offset: u64| digits && offset <= MAX_OFFSET);
    if offset || matches!(text, "start" | "end") {
        return Ok(text.to_owned());
    }
    Err(format!("start, end, or an offset from 0 to {MAX_OFFSET}"))
}

/// Carries out `consume`.
///
/// # Errors
/// When it was refused, the server is gone, or the output cannot be written.
pub(super) fn run(args: &ConsumeArgs, out: impl Write) -> Result<(), CliError> {
    from_client(args, &Client::new(&args.server)?, out)
}

fn from_client(args: &ConsumeArgs, client: &Client, out: impl Write) -> Result<(), CliError> {
    let cursor = args.cursor.as_deref().map(|path| CursorFile::open(path, &args.name));
    let mut lines = Lines::new(args, cursor.transpose()?, out);
    let wait = if args.follow { format!("&wait={WAIT}") } else { String::new() };
    loop {
        let met = lines.until.is_some();
        let ask = |client: &Client| {
            let ConsumeArgs { name, fetch_size, .. } = args;
            let from = lines.next.clone();
            let path = format!("/v1/logs/{name}?from={from}&limit={fetch_size}{wait}");
            let taken = client.get_kept(&path, &lines.kept).and_then(|answer| lines.take(answer));
            match lines.rest().and(taken) {
                // It broke off, but further on than it began: that is getting somewhere, so the
                // patience with this server begins anew.
                Err(failure) if failure.may_pass() && lines.next != from => Ok(()),
                taken => taken,
            }
        };
        let fetched = client.insist(met, ask);
        if let Some(error) = lines.failed {
            return Err(error);
        }
        match fetched {
            Ok(()) if !args.follow && lines.ended() => return Ok(()),
            Ok(()) => {}
            Err(Failure::Refused(refused)) if args.follow && refused.gap.is_some() => {
                lines.pass_over(refused.start.unwrap_or_default());
            }
            Err(failure) => {
                let parted = parted(&failure, &lines.kept, &args.name);
                return Err(parted.map_or_else(|| client.explain(failure), |why| lines.left(why)));
            }
        }
    }
}

/// Carries out `tail`.
///
/// # Errors
/// As [`run`].
pub(super) fn tail(args: &TailArgs, out: impl Write) -> Result<(), CliError> {
    let TailArgs { name, json, server } = args.clone();
    let (from, follow, fetch_size) = ("end".to_owned(), true, 1_000);
    run(&ConsumeArgs { name, fetch_size, from, follow, json, cursor: None, server }, out)
}

/// The members of a record's line that matter here.
#[derive(Deserialize)]
struct Line {
    offset: u64,
    payload: Option<Payload>,
}

/// What was written, and where to go on.
struct Lines<W: Write> {
    /// Where the next request begins: a word, until an answer says which offset that is.
    next: String,
    /// The head, as the first answer told it.
    until: Option<u64>,
    /// Which log and which history that answer was of.
    kept: Kept,
    /// Where it is written down how far they were read.
    cursor: Option<CursorFile>,
    json: bool,
    out: BufWriter<W>,
    /// Why the output cannot be written; it ends the command, whatever the server does.
    failed: Option<CliError>,
}

impl<W: Write> Lines<W> {
    fn new(args: &ConsumeArgs, cursor: Option<CursorFile>, out: W) -> Self {
        let (next, kept) = match cursor.as_ref().and_then(CursorFile::begun) {
            Some((next, kept)) => (next.to_string(), kept),
            None => (args.from.clone(), Kept::default()),
        };
        let out = BufWriter::with_capacity(64 << 10, out);
        Self { next, until: None, kept, cursor, json: args.json, out, failed: None }
    }

    /// Whether everything below that head is written.
    fn ended(&self) -> bool {
        self.until.is_some_and(|until| self.next.parse().is_ok_and(|next: u64| next >= until))
    }

    /// Writes an answer's records.
    fn take(&mut self, answer: Response<Body>) -> Result<(), Failure> {
        let next = number(&answer, "highwater-next")?;
        let head = number(&answer, "highwater-head")?;
        self.kept.read(&answer)?;
        self.until.get_or_insert(head);
        let mut input = BufReader::with_capacity(64 << 10, answer.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut input, MOST_LINE);
            let read = limited.read_until(b'\n', &mut line);
            if read.map_err(|error| Failure::Lost(error.to_string()))? == 0 {
                break;
            }
            let Line { offset, payload } =
                serde_json::from_slice(&line).map_err(Failure::foreign)?;
            self.write(&line, payload.as_ref())?;
            // Only now: should the answer break off here, it goes on behind this record.
            self.next = (offset + 1).to_string();
        }
        self.next = next.to_string();
        Ok(())
    }

    /// Lets out what was written, also of an answer that broke off; only then the cursor says so.
    fn rest(&mut self) -> Result<(), Failure> {
        if self.failed.is_some() {
            return Ok(());
        }
        let flushed = self.out.flush();
        self.written(flushed)?;
        let (Some(cursor), Ok(next)) = (&mut self.cursor, self.next.parse()) else { return Ok(()) };
        cursor.save(next, &self.kept).map_err(|error| self.end(error))
    }

    /// Why it cannot be gone on, and how far it came.
    fn left(&self, why: Parted) -> CliError {
        let came = match self.next.parse::<u64>() {
            Ok(next) => format!("records below offset {next} were written"),
            Err(_) => "no record was written".to_owned(),
        };
        let file = if self.cursor.is_some() { " and another file for --cursor" } else { "" };
        CliError::Failed(match why {
            Parted::Log(why) => format!(
                "{why}; {came}, and none of another log; to read the log that is there now, begin \
                 with --from start{file}"
            ),
            Parted::History(why) => format!(
                "{why}; {came}, and what the log holds now may differ from them; to read it, begin \
                 with --from start{file}"
            ),
        })
    }

    fn write(&mut self, line: &[u8], payload: Option<&Payload>) -> Result<(), Failure> {
        let written = if self.json {
            self.out.write_all(line)
        } else {
            let bytes = payload.map(|payload| payload.bytes().as_ref()).unwrap_or_default();
            self.out.write_all(bytes).and_then(|()| self.out.write_all(b"\n"))
        };
        self.written(written)
    }

    /// Ends the asking where the output failed.
    fn written(&mut self, written: std::io::Result<()>) -> Result<(), Failure> {
        written.map_err(|error| self.end(CliError::output(error)))
    }

    /// Ends the asking for a reason that is not the server's.
    fn end(&mut self, error: CliError) -> Failure {
        self.failed = Some(error);
        Failure::Foreign("it ends here".to_owned())
    }

    /// Records that are gone are told of, and passed over.
    fn pass_over(&mut self, start: u64) {
        let from = &self.next;
        let text = format!("highwater: records from {from} to {start} are no longer kept");
        let _ = writeln!(std::io::stderr(), "{text}");
        self.next = start.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(next: &str, body: &str) -> Response<Body> {
        Response::builder()
            .header("Highwater-Next", next)
            .header("Highwater-Head", "9")
            .header("Highwater-Log", "1")
            .body(Body::builder().data(body.to_owned()))
            .unwrap()
    }

    fn args(json: bool, server: &str) -> ConsumeArgs {
        let (name, from) = ("a".to_owned(), "start".to_owned());
        let server = ServerArgs { server: Some(server.to_owned()), token: None };
        ConsumeArgs { name, fetch_size: 10, from, follow: false, json, cursor: None, server }
    }

    fn lines(json: bool) -> Lines<Vec<u8>> {
        Lines::new(&args(json, ""), None, Vec::new())
    }

    #[test]
    fn payloads_are_written_and_the_offset_is_followed() {
        let body = "{\"offset\":4,\"payload\":\"a\"}\n{\"offset\":5,\"payload\":{\"b64\":\"_w\"}}\n\
                    {\"offset\":6,\"key\":\"k\"}\n";
        let mut plain = lines(false);
        plain.take(answer("7", body)).unwrap();
        assert_eq!((plain.next.as_str(), plain.until), ("7", Some(9)));
        assert_eq!(plain.out.into_inner().unwrap(), b"a\n\xff\n\n");
        let mut json = lines(true);
        json.take(answer("7", body)).unwrap();
        assert_eq!(json.out.into_inner().unwrap(), body.as_bytes());
    }

    #[test]
    fn an_answer_that_breaks_off_is_gone_on_with_behind_its_last_record() {
        let mut broken = lines(false);
        let body = "{\"offset\":4,\"payload\":\"a\"}\n{\"offset\":5,\"pay";
        assert!(broken.take(answer("7", body)).is_err());
        assert_eq!(broken.next, "5");
        assert_eq!(broken.out.into_inner().unwrap(), b"a\n");
    }

    /// A server of three records whose link carries one at a time.
    fn flaky() -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut socket in listener.incoming().flatten() {
                let mut request = String::new();
                let mut input = BufReader::new(&socket);
                while input.read_line(&mut request).is_ok_and(|read| read > 2) {}
                let from = request.split_once("from=").unwrap().1.split('&').next().unwrap();
                let from = from.parse::<u64>().unwrap_or_default();
                let record = format!("{{\"offset\":{from},\"payload\":\"r{from}\"}}\n");
                let length = if from == 2 { record.len() } else { 1_000 };
                let head = "Highwater-Next: 3\r\nHighwater-Head: 3\r\nHighwater-Log: 1";
                let start = format!("HTTP/1.1 200 OK\r\n{head}\r\nContent-Length: {length}");
                socket.write_all(format!("{start}\r\n\r\n{record}").as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn patience_begins_anew_with_each_record() {
        let args = args(false, &flaky());
        let mut client = Client::new(&args.server).unwrap();
        // So that a second break without a record between would end it.
        client.patience = std::time::Duration::ZERO;
        let mut out = Vec::new();
        from_client(&args, &client, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "r0\nr1\nr2\n");
    }

    #[test]
    fn an_output_that_is_gone_ends_it() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines::new(&args(false, ""), None, Gone);
        let body = "{\"offset\":4,\"payload\":\"a\"}\n";
        lines.take(answer("5", body)).unwrap();
        assert!(lines.rest().is_err());
        assert!(matches!(lines.failed, Some(CliError::Unread)));
    }

    #[test]
    fn an_answer_of_something_else_is_no_log() {
        let answer = Response::builder().body(Body::builder().data("<html>")).unwrap();
        assert!(matches!(lines(false).take(answer), Err(Failure::Foreign(_))));
    }

    #[test]
    fn where_to_begin_is_a_word_or_an_offset() {
        for good in ["start", "end", "0", "9007199254740991"] {
            assert_eq!(from(good).as_deref(), Ok(good));
        }
        for bad in ["", "-1", "+1", "head", "9007199254740992", "1.0"] {
            assert!(from(bad).is_err(), "{bad}");
        }
    }
}
