//! How records are written for readers: an object per line, or a payload per line. Pure.

use serde::Serialize;

use crate::log::Stored;
use crate::wire::{Origin, Place, Record};

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An object per record.
    Json,
    /// The payload's bytes and a newline; a record without payload is an empty line.
    Raw,
}

impl Form {
    /// What the body is called.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-ndjson",
            // Whatever the payloads are, no browser is to take them for a page.
            Self::Raw => "application/octet-stream",
        }
    }
}

/// A record with all that the server knows of it; its own members follow on the same level, so
/// that a line may be posted as it is.
#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    place: Place,
    time: u64,
    origin: &'a Origin,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    derived: Option<Place>,
    #[serde(flatten)]
    record: &'a Record,
}

/// Appends a record's line.
pub(super) fn push(form: Form, offset: u64, stored: &Stored, out: &mut Vec<u8>) {
    match form {
        Form::Json => {
            let Stored { place, time, origin, seq, derived, record, .. } = stored;
            let (place, time, seq, derived) = (*place, *time, *seq, *derived);
            let line = Line { offset, place, time, origin, seq, derived, record };
            let length = out.len();
            if serde_json::to_writer(&mut *out, &line).is_err() {
                // Writing to memory does not fail; a line cut short must not go out all the same.
                out.truncate(length);
            }
        }
        Form::Raw => out.extend(stored.record.payload.iter().flat_map(|payload| payload.bytes())),
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::{Id, Payload};

    fn stored(record: Record) -> Stored {
        let origin = Origin { user: "ana".to_owned(), writer: Id([1; 16]), connection: Id::NONE };
        let place = Place { batch: 4, index: 2 };
        let origin = std::sync::Arc::new(origin);
        Stored { place, time: 5, origin, seq: 6, before: 0, derived: None, record }
    }

    fn line(form: Form, record: Record) -> String {
        let mut out = Vec::new();
        push(form, 7, &stored(record), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_is_flat_and_can_be_posted_again() {
        let record = Record {
            key: Some("k".to_owned()),
            headers: vec![("a".to_owned(), "b".to_owned())],
            payload: Some(Payload::binary(Bytes::from_static(b"\xff"))),
            ..Record::default()
        };
        let text = line(Form::Json, record.clone());
        let (writer, none) = ("01".repeat(16), "00".repeat(16));
        assert_eq!(
            text,
            format!(
                "{{\"offset\":7,\"place\":\"4.2\",\"time\":5,\"origin\":{{\"user\":\"ana\",\
                 \"writer\":\"{writer}\",\"connection\":\"{none}\"}},\"seq\":6,\"key\":\"k\",\
                 \"headers\":[[\"a\",\"b\"]],\"payload\":{{\"b64\":\"_w\"}}}}\n"
            )
        );
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }

    #[test]
    fn raw_is_the_payload_alone() {
        let payload = Some(Payload::text("a\nb"));
        assert_eq!(line(Form::Raw, Record { payload, ..Record::default() }), "a\nb\n");
        assert_eq!(line(Form::Raw, Record::default()), "\n");
    }
}
