//! The record as a client writes it and as a reader gets it.
//!
//! A record's bytes are opaque to the server; whether they are text is the writer's word, and the
//! JSON form follows it. A record without a payload is a tombstone for its key.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Payload bytes with the writer's word on whether they are UTF-8 text.
///
/// Binary: a flag byte (1: text), then length and bytes. JSON: a string where it is text, else
/// `{"b64": "..."}` in base64url without padding.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Payload {
    text: bool,
    bytes: Bytes,
}

impl Payload {
    /// Bytes of any kind.
    pub const fn binary(bytes: Bytes) -> Self {
        Self { text: false, bytes }
    }

    /// Text, carried as text in JSON.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: true, bytes: Bytes::from(text.into()) }
    }

    /// The bytes, whichever kind they are.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The text, where the payload is marked as text.
    pub fn as_text(&self) -> Option<&str> {
        if self.text { std::str::from_utf8(&self.bytes).ok() } else { None }
    }

    /// Whether the writer marked the bytes as text.
    pub const fn is_text(&self) -> bool {
        self.text
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return (self.text, &self.bytes).serialize(serializer);
        }
        match self.as_text() {
            Some(text) => serializer.serialize_str(text),
            None => {
                let mut object = serializer.serialize_map(Some(1))?;
                object.serialize_entry("b64", &URL_SAFE_NO_PAD.encode(&self.bytes))?;
                object.end()
            }
        }
    }
}

/// Reads the JSON form: a string, or an object with the member `b64`.
struct Readable;

impl<'de> Visitor<'de> for Readable {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, or {\"b64\": base64url without padding}")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Payload, E> {
        Ok(Payload::text(text))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Payload, E> {
        Ok(Payload::text(text))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Payload, A::Error> {
        let mut found: Option<Payload> = None;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            if name != "b64" {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(A::Error::duplicate_field("b64"));
            } else {
                let text = map.next_value::<Cow<'de, str>>()?;
                let bytes = URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(A::Error::custom)?;
                found = Some(Payload::binary(Bytes::from(bytes)));
            }
        }
        found.ok_or_else(|| A::Error::missing_field("b64"))
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_any(Readable);
        }
        let (text, bytes) = <(bool, Bytes)>::deserialize(deserializer)?;
        if text && std::str::from_utf8(&bytes).is_err() {
            return Err(D::Error::custom("a payload marked as text must be UTF-8"));
        }
        Ok(Self { text, bytes })
    }
}

/// A tagged extension: room for what later versions put into a record. Unknown tags are kept and
/// passed on as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extension {
    /// Number of the extension; below 64 are Highwater's, the rest is refused for now.
    pub tag: u32,
    /// Its content.
    pub data: Payload,
}

/// What a writer appends: payload bytes, and optionally key, kind, headers and event time.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// Key for keyed views and `latest` snapshots; at most 255 bytes.
    pub key: Option<String>,
    /// What kind of record it is, as the app names it; at most 64 bytes.
    pub kind: Option<String>,
    /// When it happened, by the writer's word: milliseconds since 1970.
    pub event_time: Option<u64>,
    /// Names and values for the app; at most 32 pairs, 4,096 bytes in all.
    pub headers: Vec<(String, String)>,
    /// Room to grow.
    pub extensions: Vec<Extension>,
    /// The content; none: a tombstone for the key.
    pub payload: Option<Payload>,
}

/// The binary form: every field in order, no name.
#[derive(Serialize, Deserialize)]
struct Dense<T, H, E, P> {
    key: T,
    kind: T,
    event_time: Option<u64>,
    headers: H,
    extensions: E,
    payload: P,
}

/// The JSON form, as it is read.
#[derive(Deserialize)]
struct Sparse {
    key: Option<String>,
    kind: Option<String>,
    event_time: Option<u64>,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    extensions: Vec<Extension>,
    payload: Option<Payload>,
}

impl Record {
    /// The JSON form: what is absent is left out.
    fn serialize_sparse<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Record", 6)?;
        if let Some(key) = &self.key {
            object.serialize_field("key", key)?;
        }
        if let Some(kind) = &self.kind {
            object.serialize_field("kind", kind)?;
        }
        if let Some(time) = self.event_time {
            object.serialize_field("event_time", &time)?;
        }
        if !self.headers.is_empty() {
            object.serialize_field("headers", &self.headers)?;
        }
        if !self.extensions.is_empty() {
            object.serialize_field("extensions", &self.extensions)?;
        }
        if let Some(payload) = &self.payload {
            object.serialize_field("payload", payload)?;
        }
        object.end()
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            self.serialize_sparse(serializer)
        } else {
            Dense {
                key: &self.key,
                kind: &self.kind,
                event_time: self.event_time,
                headers: &self.headers,
                extensions: &self.extensions,
                payload: &self.payload,
            }
            .serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let Sparse { key, kind, event_time, headers, extensions, payload } =
                Sparse::deserialize(deserializer)?;
            return Ok(Self { key, kind, event_time, headers, extensions, payload });
        }
        let Dense { key, kind, event_time, headers, extensions, payload } =
            Dense::<Option<String>, Vec<_>, Vec<_>, Option<Payload>>::deserialize(deserializer)?;
        Ok(Self { key, kind, event_time, headers, extensions, payload })
    }
}

/// Why a record cannot be appended whatever the log's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// The key is longer than [`MAX_KEY_BYTES`] or empty.
    #[error("a key has 1 to 255 bytes")]
    Key,
    /// The kind is longer than [`MAX_KIND_BYTES`] or empty.
    #[error("a kind has 1 to 64 bytes")]
    Kind,
    /// More than [`MAX_HEADERS`] headers, or more than [`MAX_HEADER_BYTES`] in them.
    #[error("at most 32 headers, 4096 bytes in all")]
    Headers,
    /// An extension that this version does not know.
    #[error("this server knows no record extensions yet")]
    Extension,
    /// A record with neither payload nor key says nothing.
    #[error("a record without payload is a tombstone and needs a key")]
    Empty,
    /// The event time is past 2^53-1.
    #[error("event_time is in milliseconds, at most 2^53-1")]
    EventTime,
}

/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 255;
/// Longest kind, in bytes.
pub const MAX_KIND_BYTES: usize = 64;
/// Most headers of one record.
pub const MAX_HEADERS: usize = 32;
/// Most bytes in the headers of one record, names and values together.
pub const MAX_HEADER_BYTES: usize = 4096;

impl Record {
    /// Checks all that can be known of a record without looking at its log.
    ///
    /// # Errors
    /// The first [`BadRecord`] that applies.
    pub fn check(&self) -> Result<(), BadRecord> {
        let within = |text: &Option<String>, most| {
            text.as_ref().is_none_or(|text| (1..=most).contains(&text.len()))
        };
        if !within(&self.key, MAX_KEY_BYTES) {
            return Err(BadRecord::Key);
        }
        if !within(&self.kind, MAX_KIND_BYTES) {
            return Err(BadRecord::Kind);
        }
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if self.headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err(BadRecord::Headers);
        }
        if !self.extensions.is_empty() {
            return Err(BadRecord::Extension);
        }
        if self.payload.is_none() && self.key.is_none() {
            return Err(BadRecord::Empty);
        }
        if self.event_time.is_some_and(|time| time > super::MAX_OFFSET) {
            return Err(BadRecord::EventTime);
        }
        Ok(())
    }

    /// Bytes that count against limits: key, kind, headers and payload.
    pub fn size(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let payload = self.payload.as_ref().map_or(0, |payload| payload.bytes().len());
        text(&self.key) + text(&self.kind) + headers + payload
    }
}
