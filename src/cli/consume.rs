//! `consume` and `tail`: a log's records to standard output, each once and in order.
//!
//! The offset of each record is followed, and held against what the answer said at its head that it
//! would hold: so one that breaks off is told from a whole one on every network, and is asked for
//! again from where it broke; nothing is written twice or left out. The first answer says which log
//! and which history it is; no record of another one is ever written.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Deserialize;
use ureq::Body;
use ureq::http::Response;

use super::client::{Client, ServerArgs, log_name};
use super::cursor::CursorFile;
use super::error::CliError;
use super::failure::{Failure, number};
use super::kept::{Kept, Parted, parted};
use crate::wire::{MAX_OFFSET, Payload};

/// How long one request waits for records at most, in milliseconds; where somebody on the way has
/// less patience than that, shorter ones are tried, down to the shortest.
const WAIT: u64 = 25_000;
const SHORTEST_WAIT: u64 = 1_000;
/// Where a run begins with what comes.
const END: &str = "end";
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
    /// Where to begin: start, end or an offset [default: start]
    #[arg(long, value_name = "WHERE", allow_negative_numbers = true, value_parser = from)]
    from: Option<String>,
    /// Go on with records as they come, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// Write each record as an object with offset, place, time and origin
    #[arg(long)]
    json: bool,
    /// A file that keeps how far the log was read. Where it is there, the command goes on at that
    /// offset, and takes no --from; where it is not, it is made
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    /// Where records are no longer kept, go on with the first one that is, and say on standard
    /// error which are gone; --follow does so by itself
    #[arg(long)]
    skip_gap: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Arguments of `tail`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The same as `highwater consume NAME --from end --follow`; where other flags are needed, such as
--cursor, use that.")]
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
    let cursor = cursor.transpose()?;
    if let (Some(cursor), true) = (&cursor, args.from.is_some()) {
        cursor.must_begin()?;
    }
    let mut lines = Lines::new(args, cursor, out);
    loop {
        let met = lines.until.is_some();
        let ask = |client: &Client| {
            let (from, asked) = (lines.next.clone(), Instant::now());
            let path = lines.path(args);
            let taken =
                client.get_kept(&path, &lines.kept).and_then(|answer| lines.write_all(answer));
            match lines.rest().and(taken) {
                // It broke off, but further on than it began: that is getting somewhere, so the
                // patience with this server begins anew.
                Err(failure) if failure.may_pass() && lines.next != from => Ok(()),
                Err(failure) => {
                    lines.hurry(&failure, asked.elapsed());
                    Err(failure)
                }
                Ok(()) => {
                    lines.wait = (lines.wait * 5 / 4).min(lines.most_wait);
                    Ok(())
                }
            }
        };
        let fetched = client.insist(met, ask);
        if let Some(error) = lines.failed {
            return Err(error);
        }
        match fetched {
            Ok(()) if !args.follow && lines.ended() => return Ok(()),
            Ok(()) => {}
            Err(failure) => match lines.gap(&failure) {
                Some((_, start)) if args.follow || args.skip_gap => lines.pass_over(start),
                Some((from, start)) => return Err(lines.gone(&args.name, from, start)),
                None => {
                    let parted = parted(&failure, &lines.kept, &args.name);
                    let left = parted.map(|why| lines.left(why));
                    return Err(left.unwrap_or_else(|| lines.so_far(client.explain(failure))));
                }
            },
        }
    }
}

/// Carries out `tail`.
///
/// # Errors
/// As [`run`].
pub(super) fn tail(args: &TailArgs, out: impl Write) -> Result<(), CliError> {
    let TailArgs { name, json, server } = args.clone();
    let (from, follow, fetch_size) = (Some(END.to_owned()), true, 1_000);
    let (cursor, skip_gap) = (None, false);
    run(&ConsumeArgs { name, fetch_size, from, follow, json, cursor, skip_gap, server }, out)
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
    /// How long a request waits for records, in milliseconds, and how long it may come to wait.
    wait: u64,
    most_wait: u64,
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
            None => {
                let from = args.from.clone().unwrap_or_else(|| "start".to_owned());
                (from, Kept::default())
            }
        };
        let out = BufWriter::with_capacity(64 << 10, out);
        let wait = if args.follow { WAIT } else { 0 };
        let json = args.json;
        Self { next, until: None, wait, most_wait: wait, kept, cursor, json, out, failed: None }
    }

    /// Whether everything below that head is written.
    fn ended(&self) -> bool {
        self.until.is_some_and(|until| self.next.parse().is_ok_and(|next: u64| next >= until))
    }

    /// What is asked for next.
    fn path(&self, args: &ConsumeArgs) -> String {
        let (name, from, wait) = (&args.name, &self.next, self.wait);
        if from == END {
            // Where the end is comes first: a wait there that was cut would have to begin anew at
            // an end that is further on by then.
            return format!("/v1/logs/{name}?from={END}&limit=0");
        }
        let wait = if wait > 0 { format!("&wait={wait}") } else { String::new() };
        format!("/v1/logs/{name}?from={from}&limit={}{wait}", args.fetch_size)
    }

    /// Waits less long from now on where somebody on the way may have given up on an answer that
    /// was waited for.
    fn hurry(&mut self, failure: &Failure, lasted: Duration) {
        let lasted = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        if self.wait == 0 || lasted < SHORTEST_WAIT || !failure.may_be_impatience() {
            return;
        }
        let less = (lasted.min(self.wait) / 2).max(SHORTEST_WAIT);
        self.wait = less;
        // A proxy that says so will say it again; a connection may have been cut for any reason.
        if matches!(failure, Failure::Between(..)) {
            self.most_wait = less;
        }
    }

    /// Writes an answer's records.
    fn write_all(&mut self, answer: Response<Body>) -> Result<(), Failure> {
        let next = number(&answer, "highwater-next")?;
        let head = number(&answer, "highwater-head")?;
        self.kept.read(&answer)?;
        self.until.get_or_insert(head);
        let begins = number(&answer, "highwater-start").ok();
        let mut input = BufReader::with_capacity(64 << 10, answer.into_body().into_reader());
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = std::io::Read::take(&mut input, MOST_LINE);
            let read = limited.read_until(b'\n', &mut line);
            let read = read.map_err(|error| Failure::Lost(error.to_string()))?;
            if read == 0 {
                break;
            }
            if line.last() != Some(&b'\n') && (read as u64) < MOST_LINE {
                return Err(self.broken(next));
            }
            let Line { offset, payload } =
                serde_json::from_slice(&line).map_err(Failure::foreign)?;
            if self.next.parse().is_ok_and(|due: u64| due != offset) {
                let due = &self.next;
                return Err(Failure::foreign(format_args!(
                    "record {offset} in the place of {due}"
                )));
            }
            self.write(&line, payload.as_ref())?;
            // Only now: should the answer break off here, it goes on behind this record.
            self.next = (offset + 1).to_string();
        }
        // A proxy that asks by HTTP/1.0 may take an answer that broke off for one that ended.
        let whole = match self.next.parse::<u64>() {
            Ok(came) => came >= next,
            // Nothing came: there was nothing, unless the log began before it.
            Err(_) => self.next == END || begins.is_none_or(|begins| begins >= next),
        };
        if !whole {
            return Err(self.broken(next));
        }
        self.next = next.to_string();
        Ok(())
    }

    /// An answer that ended before it should have.
    fn broken(&self, next: u64) -> Failure {
        let came = &self.next;
        Failure::Lost(format!("an answer up to offset {next} broke off at {came}"))
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

    fn came(&self) -> String {
        match self.next.parse::<u64>() {
            Ok(next) => format!("records below offset {next} were written"),
            Err(_) => "no record was written".to_owned(),
        }
    }

    /// Why it was given up, and how far it came; a first try says that by itself.
    fn so_far(&self, error: CliError) -> CliError {
        match (error, self.until, &self.cursor) {
            (CliError::Unreachable(text), Some(_), cursor) => {
                let on = match (self.next.parse::<u64>(), cursor) {
                    (Ok(_), Some(_)) => "; the same command goes on there".to_owned(),
                    (Ok(next), None) => format!("; --from {next} goes on there"),
                    (Err(_), _) => String::new(),
                };
                CliError::Unreachable(format!("{text}; {}{on}", self.came()))
            }
            (error, ..) => error,
        }
    }

    /// Why it cannot be gone on, and how far it came.
    fn left(&self, why: Parted) -> CliError {
        let came = self.came();
        let how = match self.cursor {
            Some(_) => "name another file for --cursor",
            None => "begin with --from start",
        };
        CliError::Failed(match why {
            Parted::Log(why) => format!(
                "{why}; {came}, and none of another log; to read the log that is there now, {how}"
            ),
            Parted::History(why) => format!(
                "{why}; {came}, and what the log holds now may differ from them; to read it, {how}"
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

    /// Whether records are refused because they are gone: the first of them, and the first that is
    /// kept. A server that names none further on would be asked for ever.
    fn gap(&self, failure: &Failure) -> Option<(u64, u64)> {
        let Failure::Refused(refused) = failure else { return None };
        refused.gap.as_ref()?;
        let (from, start) = (self.next.parse().ok()?, refused.start?);
        (from < start).then_some((from, start))
    }

    /// Records that are gone are told of, and passed over.
    fn pass_over(&mut self, start: u64) {
        let lost = range(self.next.parse().unwrap_or_default(), start);
        let text = format!("highwater: {lost} no longer kept: on at {start}");
        let _ = writeln!(std::io::stderr(), "{text}");
        self.next = start.to_string();
    }

    /// Why it is not gone on behind records that are gone, and how it would be.
    fn gone(&self, name: &str, from: u64, start: u64) -> CliError {
        let anew = match self.cursor {
            Some(_) => "another file for --cursor",
            None => "--from start",
        };
        let lost = range(from, start);
        CliError::Failed(format!(
            "bad_offset: of {name} {lost} no longer kept: with --skip-gap it goes on at {start}; \
             to begin anew with the first that is kept, give {anew}"
        ))
    }
}

/// Records from an offset up to another, and the verb that goes with them.
fn range(from: u64, to: u64) -> String {
    match to.saturating_sub(1) {
        last if last <= from => format!("record {from} is"),
        last => format!("records {from} to {last} are"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Refused;
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
        let (name, follow, skip_gap) = ("a".to_owned(), false, false);
        let (server, give_up_after) = (Some(server.to_owned()), 60);
        let server = ServerArgs { server, token: None, give_up_after };
        let (from, cursor) = (None, None);
        ConsumeArgs { name, fetch_size: 10, from, follow, json, cursor, skip_gap, server }
    }

    fn lines(json: bool) -> Lines<Vec<u8>> {
        Lines::new(&args(json, ""), None, Vec::new())
    }

    #[test]
    fn payloads_are_written_and_the_offset_is_followed() {
        let body = "{\"offset\":4,\"payload\":\"a\"}\n{\"offset\":5,\"payload\":{\"b64\":\"_w\"}}\n\
                    {\"offset\":6,\"key\":\"k\"}\n";
        let mut plain = lines(false);
        plain.write_all(answer("7", body)).unwrap();
        assert_eq!((plain.next.as_str(), plain.until), ("7", Some(9)));
        assert_eq!(plain.out.into_inner().unwrap(), b"a\n\xff\n\n");
        let mut json = lines(true);
        json.write_all(answer("7", body)).unwrap();
        assert_eq!(json.out.into_inner().unwrap(), body.as_bytes());
    }

    #[test]
    fn an_answer_that_breaks_off_is_gone_on_with_behind_its_last_record() {
        let mut broken = lines(false);
        let body = "{\"offset\":4,\"payload\":\"a\"}\n{\"offset\":5,\"pay";
        assert!(broken.write_all(answer("7", body)).is_err());
        assert_eq!(broken.next, "5");
        assert_eq!(broken.out.into_inner().unwrap(), b"a\n");
    }

    #[test]
    fn an_answer_that_ends_too_early_is_no_whole_one() {
        let record = |offset: u64| format!("{{\"offset\":{offset},\"payload\":\"a\"}}\n");
        for (from, body, came) in [
            ("4", record(4), "5"),
            ("4", String::new(), "4"),
            ("start", record(4), "5"),
            ("4", record(4) + "{\"offset\":5,\"payload\":\"b\"}", "5"),
        ] {
            let mut cut = lines(false);
            from.clone_into(&mut cut.next);
            let failure = cut.write_all(answer("7", &body)).unwrap_err();
            assert!(matches!(failure, Failure::Lost(_)), "{from} {body}: {failure:?}");
            assert_eq!(cut.next, came, "{from} {body}");
        }
        let began = |start: &str| {
            let mut answer = answer("7", "");
            answer.headers_mut().insert("highwater-start", start.parse().unwrap());
            lines(false).write_all(answer)
        };
        assert!(matches!(began("4"), Err(Failure::Lost(_))));
        began("7").unwrap();
        // A hole in the middle is no cut: no server of ours makes one.
        let mut holed = lines(false);
        let failure = holed.write_all(answer("7", &(record(4) + &record(6)))).unwrap_err();
        assert!(matches!(failure, Failure::Foreign(_)), "{failure:?}");
    }

    #[test]
    fn where_the_end_is_comes_before_what_comes() {
        let mut args = args(false, "");
        (args.from, args.follow) = (Some(END.to_owned()), true);
        let mut lines = Lines::new(&args, None, Vec::new());
        assert_eq!(lines.path(&args), "/v1/logs/a?from=end&limit=0");
        lines.write_all(answer("9", "")).unwrap();
        assert_eq!(lines.path(&args), "/v1/logs/a?from=9&limit=10&wait=25000");
        let lost = Failure::Lost(String::new());
        lines.hurry(&lost, Duration::from_millis(100));
        assert_eq!(lines.wait, WAIT, "it was over before anybody could lose patience");
        lines.hurry(&lost, Duration::from_secs(10));
        assert_eq!((lines.wait, lines.most_wait), (5_000, WAIT));
        let status = ureq::http::StatusCode::GATEWAY_TIMEOUT;
        lines.hurry(&Failure::Between(status, Duration::ZERO), Duration::from_millis(1_500));
        assert_eq!((lines.wait, lines.most_wait), (SHORTEST_WAIT, SHORTEST_WAIT));
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
        client.patience = Duration::ZERO;
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
        lines.write_all(answer("5", body)).unwrap();
        assert!(lines.rest().is_err());
        assert!(matches!(lines.failed, Some(CliError::Unread)));
    }

    #[test]
    fn an_answer_of_something_else_is_no_log() {
        let answer = Response::builder().body(Body::builder().data("<html>")).unwrap();
        assert!(matches!(lines(false).write_all(answer), Err(Failure::Foreign(_))));
    }

    #[test]
    fn what_is_gone_is_one_record_or_several() {
        assert_eq!(range(3, 4), "record 3 is");
        assert_eq!(range(3, 5), "records 3 to 4 are");
    }

    #[test]
    fn a_gap_that_leads_nowhere_is_none() {
        let mut lines = lines(false);
        let mut refused = Refused::because(crate::wire::Code::BadOffset, "gone".to_owned());
        refused.gap = Some(serde_json::json!({}));
        for (next, start, want) in [
            ("3", Some(5), Some((3, 5))),
            ("5", Some(5), None),
            ("6", Some(5), None),
            ("3", None, None),
            ("start", Some(5), None),
        ] {
            next.clone_into(&mut lines.next);
            refused.start = start;
            let failure = Failure::Refused(Box::new(refused.clone()));
            assert_eq!(lines.gap(&failure), want, "{next} {start:?}");
        }
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
