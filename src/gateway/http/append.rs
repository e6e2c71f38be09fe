//! `POST /v1/logs/{name}`: append one record or many, create the log, trim it, or set its pages.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer::{Answer, Problem, json_answer, with};
use super::caller::{Caller, LooseName};
use super::query::{self, Flag, Parameters};
use super::route::{LOG, POSITION};
use super::sending::{self, Paying, Sent, Writing, answer_json};
use super::{body, guard, history, logs, reading};
use crate::admission::{Judged, Named, may_append};
use crate::auth::Can;
use crate::gateway::Gate;
use crate::limit::{Costs, Limits};
use crate::log::LogRow;
use crate::wire::{Code, MAX_ITEMS, MAX_OFFSET, Outcome, Record, Refusal, Target, name};

/// A body larger than this is read and hashed on a thread of its own, in bytes.
const LARGE: usize = 64 << 10;

/// Parameters; `if_head`, `log`, `writer`, `seq` and `oldest` may be headers instead.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AppendQuery {
    if_head: Option<String>,
    log: Option<String>,
    writer: Option<String>,
    seq: Option<String>,
    oldest: Option<String>,
    results: Option<Flag>,
    #[serde(default)]
    create: Flag,
    trim: Option<String>,
    page_size: Option<String>,
}

impl AppendQuery {
    /// What goes with appends does not go with creating and trimming: a condition that would not
    /// be looked at is no condition.
    ///
    /// # Errors
    /// `bad_request` that names it.
    fn appends_nothing(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Self { if_head, log, writer, seq, oldest, results, .. } = self;
        let parameters = [
            ("if_head", if_head),
            ("log", log),
            ("writer", writer),
            ("seq", seq),
            ("oldest", oldest),
        ];
        let given = parameters.iter().find(|(_, value)| value.is_some()).map(|(name, _)| *name);
        let given = given.or(results.map(|_| "results"));
        let ours = |name: &&str| name.starts_with("highwater-") && *name != POSITION;
        let given = given.or_else(|| headers.keys().map(HeaderName::as_str).find(ours));
        given.map_or(Ok(()), |given| {
            let message =
                format!("`{given}` goes with records, not with create, trim or page_size");
            Err(Problem::bad_request(message))
        })
    }
}

/// The parameters that name a writer.
#[derive(Debug)]
pub(super) struct WriterQuery {
    pub writer: Option<String>,
    pub seq: Option<String>,
    pub oldest: Option<String>,
}

impl WriterQuery {
    /// Who appends: the caller's own writer, or one for this request.
    ///
    /// # Errors
    /// `bad_request`, `bad_offset`.
    pub(super) fn writing(self, caller: &Caller, headers: &HeaderMap) -> Result<Writing, Problem> {
        let writer = query::or_header(self.writer, headers, "highwater-writer")?;
        let seq = query::or_header(self.seq, headers, "highwater-seq")?;
        let oldest = query::or_header(self.oldest, headers, "highwater-oldest")?;
        let (writer, seq) = match (writer, seq) {
            (Some(writer), Some(seq)) => (writer, seq),
            (None, None) if oldest.is_none() => return Ok(Writing::once(&caller.0)),
            _ => return Err(Problem::bad_request("writer and seq go together")),
        };
        let wrong = |error| Problem::bad_request(format!("writer: {error}"));
        let writer = writer.parse().map_err(wrong)?;
        let seq = query::offset("seq", &seq)?;
        let oldest = match oldest {
            Some(oldest) => query::offset("oldest", &oldest)?,
            None => seq,
        };
        Writing::named(&caller.0, writer, seq, oldest)
    }
}

/// `POST /v1/logs/{name}`.
pub(super) async fn post(
    State(gate): State<Arc<Gate>>,
    LooseName(name): LooseName,
    caller: Caller,
    Parameters(asked): Parameters<AppendQuery>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    if asked.create.0 || asked.trim.is_some() || asked.page_size.is_some() {
        asked.appends_nothing(&headers)?;
        return operate(&gate, name, &caller, asked, &headers, body).await;
    }
    let if_head = query::or_header(asked.if_head, &headers, "highwater-if-head")?;
    let if_head = if_head.map(|head| query::offset("if_head", &head)).transpose()?;
    let log = query::or_header(asked.log, &headers, LOG)?;
    let log = log.map(|log| query::offset("log", &log)).transpose()?;
    let AppendQuery { writer, seq, oldest, results, .. } = asked;
    let writing = WriterQuery { writer, seq, oldest }.writing(&caller, &headers)?;
    // One that holds for the whole request, whatever its records are.
    let verdict = may_append(&caller.0, Named::Name(&name)).err();
    let verdict = match (verdict, log) {
        (None, Some(log)) => another(&gate, &caller.0.user, log, &name).await?,
        (verdict, _) => verdict,
    };
    if let (Some(verdict), false) = (&verdict, writing.named) {
        return Err(verdict.clone().into());
    }
    gate.admission.shed.takes()?;
    let arrived = guard::arrive(&gate, &caller, &headers, body).await?;
    if arrived.bytes.is_empty() {
        let message = "an empty body: send a record, or ?create to make the log; an empty record \
                       is {\"payload\": \"\"} as application/json";
        return Err(Problem::bad_request(message));
    }
    let wish = Wish { name, log, if_head, verdict, results: results.unwrap_or_default().0 };
    let parse = {
        let bytes = arrived.bytes.clone();
        move || body::records(&headers, &bytes)
    };
    let records = at_length(arrived.bytes.len(), parse).await??;
    append(&gate, &caller, &writing, wish, records, arrived.bytes.len()).await
}

/// What is done to the log as a whole.
async fn operate(
    gate: &Arc<Gate>,
    name: String,
    caller: &Caller,
    asked: AppendQuery,
    headers: &HeaderMap,
    body: Body,
) -> Answer {
    name::check(&name).map_err(|_| Code::BadName)?;
    caller.must(Can::Admin, &name)?;
    if !guard::arrive(gate, caller, headers, body).await?.bytes.is_empty() {
        return Err(Problem::bad_request("create, trim and page_size go without a body"));
    }
    let size = |text: &String| query::offset("page_size", text);
    let size = asked.page_size.as_ref().map(size).transpose()?;
    match (asked.create.0, asked.trim, size) {
        (true, None, size) => logs::create(gate, name, size.unwrap_or(0)).await,
        (false, Some(to), None) => logs::trim(gate, &name, query::offset("trim", &to)?).await,
        (false, None, Some(size)) => logs::set_pages(gate, &name, size).await,
        _ => Err(Problem::bad_request("create, with or without page_size, or trim, or page_size")),
    }
}

/// What is wanted of all records of a request.
#[derive(Clone, Debug, Default)]
struct Wish {
    name: String,
    log: Option<u64>,
    if_head: Option<u64>,
    verdict: Option<Refusal>,
    results: bool,
}

/// The refusal of appends to a log by its id where that has another name, and always had: whether
/// it is still there is for the fold to say.
async fn another(
    gate: &Gate,
    user: &str,
    log: u64,
    name: &str,
) -> Result<Option<Refusal>, Problem> {
    let look = || reading::look(gate, move |store| store.log_row(log));
    let mut row = look().await?;
    if row.is_none() {
        // Another node may have made what this one has not folded yet.
        history::catch_up(gate, user).await?;
        row = look().await?;
    }
    let there = |row: LogRow| row.name == name;
    Ok((!row.is_some_and(there))
        .then(|| Refusal::because(Code::Epoch, reading::never_here(log, name))))
}

/// Does work on a thread of its own where there is much of it.
async fn at_length<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    if bytes <= LARGE {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Code::Failed.into())
}

async fn append(
    gate: &Arc<Gate>,
    caller: &Caller,
    writing: &Writing,
    wish: Wish,
    records: Vec<Record>,
    bytes: usize,
) -> Answer {
    check_count(records.len(), writing, &wish)?;
    let count = records.len();
    // As many as a frame may have are paid for before any work, the others as they are sent.
    let paid = count.min(MAX_ITEMS);
    let log = if wish.verdict.is_none() { gate.admission.rates.log_key(&wish.name) } else { 0 };
    let mut costs = Costs::with_room(paid);
    records.iter().take(paid).for_each(|record| costs.push(record.size(), log));
    let paying = Paying::begin(gate, caller, writing, &wish.name, &wish.name, costs).await?;
    let (limits, first, named, results) = (gate.limits, writing.first, writing.named, wish.results);
    let prepare = move || {
        let wanted = wanted(&wish, records, &limits);
        let bad = |(at, want): (usize, &Judged)| Some((at, want.verdict.clone()?));
        match wanted.iter().enumerate().find_map(bad).filter(|_| !named) {
            Some((at, verdict)) => Err(in_record(at, wanted.len(), verdict)),
            None => Ok(sending::loads(first, wanted)),
        }
    };
    let loads = at_length(bytes, prepare).await??;
    let sent = sending::send(gate, caller, writing, loads, paying).await;
    told(&sent, count, results)
}

fn wanted(wish: &Wish, records: Vec<Record>, limits: &Limits) -> Vec<Judged> {
    let want = |record| {
        let Judged { to, record, verdict, .. } = sending::wanted(&wish.name, record, limits);
        let to = wish.log.map_or(to, Target::Log);
        Judged { to, if_head: wish.if_head, record, verdict: wish.verdict.clone().or(verdict) }
    };
    records.into_iter().map(want).collect()
}

/// Without a writer of its own a request is refused whole, and nothing of it is stored.
fn in_record(at: usize, of: usize, verdict: Refusal) -> Problem {
    let Refusal { code, message, .. } = verdict;
    let message = if of == 1 { message } else { format!("record {}: {message}", at + 1) };
    Refusal::because(code, message).into()
}

fn check_count(count: usize, writing: &Writing, wish: &Wish) -> Result<(), Problem> {
    if count == 0 {
        return Err(Problem::bad_request("there is no record in the body"));
    }
    if writing.named && count > MAX_ITEMS {
        // More could not be repeated: no more answers of a writer are kept.
        let message = format!("at most {MAX_ITEMS} records at once with a writer");
        return Err(Problem::bad_request(message));
    }
    if count > MAX_ITEMS && wish.log.is_some() {
        let message = format!("at most {MAX_ITEMS} records at once with log");
        return Err(Problem::bad_request(message));
    }
    if count > 1 && wish.if_head.is_some() {
        let message = "if_head goes with one record: several are not stored as one";
        return Err(Problem::bad_request(message));
    }
    let last = writing.first.saturating_add(count as u64 - 1);
    if last > MAX_OFFSET {
        let message = format!("seq: the last sequence would be past {MAX_OFFSET} (2^53-1)");
        return Err(Refusal::because(Code::BadOffset, message).into());
    }
    Ok(())
}

/// The answer to appends to one log.
fn told(sent: &Sent, count: usize, results: bool) -> Answer {
    let shown: Vec<Value> = sent.answers.iter().map(answer_json).collect();
    if let Some(refusal) = sent.refused() {
        let mut problem = Problem::from(refusal.clone()).with("stored", sent.stored());
        if results || (2..=MAX_ITEMS).contains(&count) {
            problem = problem.with("results", shown);
        }
        if refusal.code == Code::SequenceGap {
            problem = problem.with("mark", sent.mark);
        }
        return Err(problem);
    }
    let ends = (sent.answers.first(), sent.answers.last());
    let (Some(first), Some(last)) = ends else { return Err(Code::Failed.into()) };
    let (Outcome::Stored { log, offset, .. }, Outcome::Stored { offset: end, place, level, .. }) =
        (&first.outcome, &last.outcome)
    else {
        return Err(Code::Failed.into());
    };
    let body = json!({
        "log": log,
        "offset": offset,
        "last": end,
        "count": sent.answers.len(),
        "place": place,
        "level": level,
    });
    let body = if results { with(body, "results", shown) } else { body };
    Ok(json_answer(StatusCode::OK, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Id, Level, Payload, Place};

    fn caller() -> Caller {
        Caller(crate::auth::Grants {
            user: "ana".to_owned(),
            expires_ms: 0,
            issued_ms: None,
            token_id: String::new(),
            grants: serde_json::from_str(r#"[{"logs":"a/**","can":["append"]}]"#).unwrap(),
        })
    }

    fn writing(query: &str) -> Result<Writing, Problem> {
        let uri = format!("http://x/?{query}").parse().unwrap();
        let query = axum::extract::Query::<AppendQuery>::try_from_uri(&uri).unwrap();
        let AppendQuery { writer, seq, oldest, .. } = query.0;
        WriterQuery { writer, seq, oldest }.writing(&caller(), &HeaderMap::new())
    }

    #[test]
    fn writer_and_sequence_go_together() {
        let id = "0123456789abcdef0123456789abcdef";
        assert!(!writing("").unwrap().named);
        assert!(!writing("results").unwrap().named);
        let named = writing(&format!("writer={id}&seq=5")).unwrap();
        let want = Writing::named(&caller().0, id.parse().unwrap(), 5, 5).unwrap();
        assert_eq!(named, want);
        for bad in [
            format!("writer={id}"),
            "seq=5".to_owned(),
            "oldest=1".to_owned(),
            format!("writer=x{id}&seq=1"),
            format!("writer={id}&seq=0"),
            format!("writer={id}&seq=-1"),
            format!("writer={id}&seq=2&oldest=3"),
        ] {
            assert!(writing(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_that_cannot_be_repeated_or_conditioned_are_refused() {
        let once = Writing::once(&caller().0);
        let named = |seq| Writing::named(&caller().0, Id([1; 16]), seq, seq).unwrap();
        let any = Wish::default();
        assert!(check_count(0, &once, &any).is_err());
        assert!(check_count(5_000, &once, &any).is_ok());
        assert!(check_count(1_024, &named(1), &any).is_ok());
        assert!(check_count(1_025, &named(1), &any).is_err());
        let at_head = Wish { if_head: Some(0), ..Wish::default() };
        assert!(check_count(1, &once, &at_head).is_ok());
        assert!(check_count(2, &once, &at_head).is_err());
        let in_log = Wish { log: Some(1), ..Wish::default() };
        assert!(check_count(1_024, &once, &in_log).is_ok());
        assert!(check_count(1_025, &once, &in_log).is_err());
        assert!(check_count(1, &named(MAX_OFFSET), &any).is_ok());
        let code = check_count(2, &named(MAX_OFFSET), &any).unwrap_err().refusal.code;
        assert_eq!(code, Code::BadOffset);
    }

    fn stored(seq: u64) -> crate::wire::Answer {
        let place = Place { batch: 9, index: 0 };
        let outcome = Outcome::Stored { log: 1, offset: seq + 9, place, level: Level::Synced };
        crate::wire::Answer { seq, outcome }
    }

    async fn shown(answer: Answer) -> (u16, Value) {
        use axum::response::IntoResponse as _;
        let response = answer.into_response();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn all_stored_is_told_short_and_each_one_when_asked() {
        let sent = Sent { answers: vec![stored(1), stored(2)], stopped: None, mark: 2 };
        let (status, body) = shown(told(&sent, 2, false)).await;
        assert_eq!(status, 200);
        let want = json!({
            "log": 1, "offset": 10, "last": 11, "count": 2, "place": "9.0", "level": "synced"
        });
        assert_eq!(body, want);
        let (_, body) = shown(told(&sent, 2, true)).await;
        assert_eq!(body["results"][1]["offset"], 11);
    }

    #[tokio::test]
    async fn what_was_stored_before_a_refusal_is_told() {
        let stopped = Some(Refusal::new(Code::Overloaded).after(200));
        let sent = Sent { answers: vec![stored(1)], stopped, mark: 1 };
        let (status, body) = shown(told(&sent, 1_000, false)).await;
        assert_eq!(
            (status, &body["code"], &body["stored"]),
            (503, &json!("overloaded"), &json!(1))
        );
        assert_eq!(body["results"][0]["offset"], 10);
        let outcome = Outcome::Refused(Code::SequenceGap.into());
        let answers = vec![crate::wire::Answer { seq: 5, outcome }];
        let (status, body) = shown(told(&Sent { answers, stopped: None, mark: 3 }, 1, false)).await;
        assert_eq!((status, &body["mark"], &body["stored"]), (409, &json!(3), &json!(0)));
    }

    #[test]
    fn a_bad_record_is_told_by_its_number() {
        let good = Record { payload: Some(Payload::text("x")), ..Record::default() };
        let wish = Wish { name: "a".to_owned(), ..Wish::default() };
        let wanted = wanted(&wish, vec![good, Record::default()], &Limits::DEFAULT);
        assert!(wanted[0].verdict.is_none());
        let problem = in_record(1, 2, wanted[1].verdict.clone().unwrap());
        assert!(problem.refusal.message.starts_with("record 2: a record without payload"));
        let denied = Refusal::new(Code::Denied);
        let wish = Wish { verdict: Some(denied.clone()), log: Some(3), ..wish };
        let all = super::wanted(&wish, vec![Record::default()], &Limits::DEFAULT);
        assert_eq!(all[0].to, Target::Log(3));
        assert_eq!(all[0].verdict.as_ref(), Some(&denied));
    }
}
