//! Bodies of appends: what was sent, as records. Pure.
//!
//! A raw body is one record, `application/json` one or many, `application/x-ndjson` one per line.
//! Records of JSON have the form that they have on the wire (`docs/protocol.md` §4.2).

use std::fmt;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::{Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::answer::Problem;
use super::route::OWN_HEADER;
use crate::wire::{Payload, Record, surrogate};

/// Most records of one request; what they cost in memory beside their bytes is bounded by it.
pub(super) const MAX_RECORDS: usize = 65_536;

const KEY: &str = "highwater-key";
const KIND: &str = "highwater-kind";
const EVENT_TIME: &str = "highwater-event-time";

/// What a body is, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Lines,
    Text,
    Binary,
    /// What `curl -d` says of anything: text where it can be.
    Either,
}

fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Form::Binary) };
    let value = value.to_str().map_err(|_| Problem::bad_request("Content-Type: ASCII only"))?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    Ok(match essence.as_str() {
        "application/json" => Form::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Form::Lines,
        "application/x-www-form-urlencoded" => Form::Either,
        essence if essence.starts_with("text/") => Form::Text,
        essence if essence.starts_with("multipart/") => {
            let message = "multipart bodies are not understood: send the bytes as they are";
            return Err(Problem::bad_request(message));
        }
        _ => Form::Binary,
    })
}

/// The records of a body.
///
/// # Errors
/// `bad_request` that says where the body is wrong. Records are not yet checked by their own rules.
pub(super) fn records(headers: &HeaderMap, bytes: &Bytes) -> Result<Vec<Record>, Problem> {
    let form = form(headers)?;
    if matches!(form, Form::Json | Form::Lines) {
        let own =
            |name: &str| name.starts_with(OWN_HEADER) || [KEY, KIND, EVENT_TIME].contains(&name);
        if let Some(name) = headers.keys().find(|name| own(name.as_str())) {
            let message = format!("{name} goes with a raw body; in JSON it is a member");
            return Err(Problem::bad_request(message));
        }
    }
    match form {
        Form::Json => of_json(bytes),
        Form::Lines => of_lines(bytes),
        Form::Text | Form::Binary | Form::Either => {
            let payload = Some(payload(form, bytes)?);
            Ok(vec![Record { payload, ..of_headers(headers)? }])
        }
    }
}

fn payload(form: Form, bytes: &Bytes) -> Result<Payload, Problem> {
    let text = if form == Form::Binary { None } else { std::str::from_utf8(bytes).ok() };
    match (text, form) {
        (Some(text), _) => Ok(Payload::text(text)),
        (None, Form::Text) => {
            let message = "the content type says text, and the body is no UTF-8: send it as \
                           application/octet-stream";
            Err(Problem::bad_request(message))
        }
        (None, _) => Ok(Payload::binary(bytes.clone())),
    }
}

/// The parts of a raw body's record that stand in headers.
fn of_headers(headers: &HeaderMap) -> Result<Record, Problem> {
    let mut record = Record::default();
    for (name, value) in headers {
        let name = name.as_str();
        let text = || match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Problem::bad_request(format!("{name}: no UTF-8"))),
        };
        match name {
            KEY => record.key = Some(text()?),
            KIND => record.kind = Some(text()?),
            EVENT_TIME => {
                let time = super::query::offset(name, &text()?)?;
                record.event_time = Some(time);
            }
            _ => {
                if let Some(own) = name.strip_prefix(OWN_HEADER) {
                    record.headers.push((own.to_owned(), text()?));
                }
            }
        }
    }
    Ok(record)
}

/// Which members an object has, without reading them.
#[derive(Deserialize)]
struct Shape {
    records: Option<IgnoredAny>,
    key: Option<IgnoredAny>,
    payload: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Many {
    records: Bounded,
}

/// At most [`MAX_RECORDS`] records.
struct Bounded(Vec<Record>);

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Records;
        impl<'de> Visitor<'de> for Records {
            type Value = Bounded;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX_RECORDS} records")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bounded, A::Error> {
                let mut records = Vec::new();
                while let Some(record) = list.next_element()? {
                    if records.len() == MAX_RECORDS {
                        return Err(A::Error::custom(too_many()));
                    }
                    records.push(record);
                }
                Ok(Bounded(records))
            }
        }
        deserializer.deserialize_seq(Records)
    }
}

fn too_many() -> String {
    format!("more than {MAX_RECORDS} records in one request")
}

fn is_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().first() == Some(&b'{')
}

fn of_json(bytes: &[u8]) -> Result<Vec<Record>, Problem> {
    let wrong = |problem: &dyn fmt::Display| {
        Problem::bad_request(format!(
            "{problem}; application/json is a record such as {{\"payload\": \"text\"}} or \
             {{\"records\": [...]}}: to store JSON as it is, send it as text/plain"
        ))
    };
    if !is_object(bytes) {
        return Err(wrong(&"no object"));
    }
    surrogate::check(bytes).map_err(|problem| wrong(&problem))?;
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| wrong(&error))?;
    if shape.records.is_some() {
        let many: Many = serde_json::from_slice(bytes).map_err(|error| wrong(&error))?;
        return Ok(many.records.0);
    }
    if shape.key.is_none() && shape.payload.is_none() {
        return Err(wrong(&"there is neither payload nor key"));
    }
    Ok(vec![serde_json::from_slice(bytes).map_err(|error| wrong(&error))?])
}

fn of_lines(bytes: &[u8]) -> Result<Vec<Record>, Problem> {
    let mut records = Vec::new();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        if records.len() == MAX_RECORDS {
            return Err(Problem::bad_request(too_many()));
        }
        let wrong = |problem: &dyn fmt::Display| {
            Problem::bad_request(format!("line {}: {problem}", at + 1))
        };
        if !is_object(line) {
            return Err(wrong(&"a line is an object: {\"payload\": \"text\"}"));
        }
        surrogate::check(line).map_err(|problem| wrong(&problem))?;
        records.push(serde_json::from_slice(line).map_err(|error| wrong(&error))?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<Record>, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            map.append(name, axum::http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        records(&map, &Bytes::copy_from_slice(body)).map_err(|problem| problem.refusal.message)
    }

    fn typed(content_type: &str, body: &[u8]) -> Result<Vec<Record>, String> {
        read(&[("content-type", content_type)], body)
    }

    fn text(text: &str) -> Record {
        Record { payload: Some(Payload::text(text)), ..Record::default() }
    }

    fn binary(bytes: &'static [u8]) -> Record {
        let payload = Some(Payload::binary(Bytes::from_static(bytes)));
        Record { payload, ..Record::default() }
    }

    #[test]
    fn a_raw_body_is_one_record() {
        assert_eq!(typed("text/plain; charset=utf-8", "ä\n".as_bytes()), Ok(vec![text("ä\n")]));
        assert_eq!(typed("Text/HTML", b"x"), Ok(vec![text("x")]));
        assert_eq!(typed("application/octet-stream", b"x"), Ok(vec![binary(b"x")]));
        assert_eq!(read(&[], b"x"), Ok(vec![binary(b"x")]));
        assert_eq!(typed("application/x-www-form-urlencoded", b"x"), Ok(vec![text("x")]));
        let bytes = Ok(vec![binary(b"\xff")]);
        assert_eq!(typed("application/x-www-form-urlencoded", b"\xff"), bytes);
        assert!(typed("text/plain", b"\xff").unwrap_err().contains("no UTF-8"));
        assert!(typed("multipart/form-data; boundary=x", b"").unwrap_err().contains("multipart"));
    }

    #[test]
    fn headers_carry_the_rest_of_a_raw_record() {
        let headers = [
            ("content-type", "text/plain"),
            ("Highwater-Key", "schlüssel"),
            ("Highwater-Kind", "note"),
            ("Highwater-Event-Time", "5"),
            ("Highwater-Header-Trace", "1"),
            ("Highwater-Header-Trace", "2"),
        ];
        let trace = |value: &str| ("trace".to_owned(), value.to_owned());
        let want = Record {
            key: Some("schlüssel".to_owned()),
            kind: Some("note".to_owned()),
            event_time: Some(5),
            headers: vec![trace("1"), trace("2")],
            ..text("x")
        };
        assert_eq!(read(&headers, b"x"), Ok(vec![want]));
        let error = read(&[("highwater-event-time", "-5")], b"x").unwrap_err();
        assert!(error.starts_with("highwater-event-time: "), "{error}");
        let both = [("content-type", "application/json"), ("highwater-key", "k")];
        assert!(read(&both, b"{}").unwrap_err().contains("raw body"));
    }

    #[test]
    fn json_is_one_record_or_many() {
        let one = br#" {"payload": "x", "offset": 5, "time": 1}"#;
        assert_eq!(typed("application/json", one), Ok(vec![text("x")]), "unknown members go by");
        let tombstone = Record { key: Some("k".to_owned()), ..Record::default() };
        assert_eq!(typed("application/json", br#"{"key": "k"}"#), Ok(vec![tombstone]));
        let many = br#"{"records": [{"payload": "x"}, {"payload": {"b64": "_w"}}]}"#;
        assert_eq!(typed("application/json", many), Ok(vec![text("x"), binary(b"\xff")]));
        assert_eq!(typed("application/json", br#"{"records": []}"#), Ok(vec![]));
    }

    #[test]
    fn json_that_is_no_record_says_how_to_store_it() {
        for body in [
            &br#"{"hello": "world"}"#[..],
            b"[1]",
            b"\"x\"",
            b"{",
            b"",
            b"null",
            br#"{"payload": 5}"#,
            br#"{"payload": {"b64": "*"}}"#,
            br#"{"records": [{"payload": "x"}, 5]}"#,
            br#"{"records": {}}"#,
            b"\xff",
        ] {
            let error = typed("application/json", body).unwrap_err();
            assert!(error.contains("text/plain"), "{error}");
        }
    }

    #[test]
    fn lines_are_records_and_errors_name_the_line() {
        let body = b"{\"payload\":\"x\"}\r\n\n  {\"payload\":\"y\"}";
        assert_eq!(typed("application/x-ndjson", body), Ok(vec![text("x"), text("y")]));
        assert_eq!(typed("application/x-ndjson", b"\n\n"), Ok(vec![]));
        for body in [&b"{\"payload\":\"x\"}\n[\"k\"]"[..], b"{\"payload\":\"x\"}\n{\"key\":5}"] {
            let error = typed("application/x-ndjson", body).unwrap_err();
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn no_more_records_than_a_request_may_have() {
        let mut lines = b"{\"key\":\"k\"}\n".repeat(MAX_RECORDS);
        assert_eq!(typed("application/x-ndjson", &lines).unwrap().len(), MAX_RECORDS);
        lines.extend_from_slice(b"{\"key\":\"k\"}\n");
        assert!(typed("application/x-ndjson", &lines).unwrap_err().contains("65536"));
        let list = lines.trim_ascii().to_vec();
        let list: Vec<u8> = list.iter().map(|b| if *b == b'\n' { b',' } else { *b }).collect();
        let many = [&b"{\"records\":["[..], &list, b"]}"].concat();
        assert!(typed("application/json", &many).unwrap_err().contains("65536"));
    }
}
