//! Queries: every parameter is known and checked, or the request is refused and says which.

use std::fmt;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use serde::de::{DeserializeOwned, Error as _, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::answer::Problem;
use crate::wire::{Code, MAX_OFFSET, Refusal};

/// The query, read into the structure that the address has in the list of routes.
#[derive(Debug)]
pub(super) struct Parameters<T>(pub T);

/// No parameters at all.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A query that the route's check has read; it waits here for the handler.
#[derive(Clone, Debug)]
pub(super) struct Read<T>(T);

impl<T: DeserializeOwned> Read<T> {
    /// Reads a query.
    ///
    /// # Errors
    /// `bad_request` that names what cannot be read.
    pub(super) fn of(uri: &Uri) -> Result<Self, Problem> {
        if !is_text(uri.query().unwrap_or_default()) {
            return Err(Problem::bad_request("the query is no UTF-8"));
        }
        let read = Query::try_from_uri(uri).map(|Query(query)| Self(query));
        read.map_err(|rejection| {
            let told = std::error::Error::source(&rejection).map(ToString::to_string);
            Problem::bad_request(in_our_words(&told.unwrap_or_else(|| rejection.body_text())))
        })
    }
}

/// Whether a query is UTF-8. Read without that, what is none is replaced: one name would be taken
/// for another.
fn is_text(query: &str) -> bool {
    let mut pieces = query.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| !digits.starts_with('+'));
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // What is no escape stands for itself.
        bytes.push(escaped.unwrap_or(b'%'));
        let rest = if escaped.is_some() { piece.get(2..) } else { Some(piece) };
        bytes.extend_from_slice(rest.unwrap_or_default().as_bytes());
    }
    std::str::from_utf8(&bytes).is_ok()
}

/// What was wrong with a query, as whoever wrote it sees it.
fn in_our_words(told: &str) -> String {
    // Before it may stand the parameter's name.
    let named = |begin: &str| told.split_once(begin)?.1.split('`').next();
    if let Some(name) = named("missing field `") {
        return format!("{name}: is needed");
    }
    match (named("unknown field `"), named("duplicate field `")) {
        (Some(name), _) => format!("`{name}` is no parameter here"),
        (_, Some(name)) => format!("`{name}` is given twice"),
        _ => format!("the query: {told}"),
    }
}

impl<T: Clone + Send + Sync + 'static, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.remove::<Read<T>>().map(|Read(query)| Self(query)).ok_or_else(|| {
            // The list of routes says another structure: no request gets through, in any test.
            tracing::error!(path = %parts.uri.path(), "the query was read as something else");
            Code::Failed.into()
        })
    }
}

/// The names of all parameters, in order.
///
/// # Errors
/// `bad_request` when it is no query.
pub(super) fn names(uri: &Uri) -> Result<Vec<String>, Problem> {
    let Read(pairs) = Read::<Vec<(String, String)>>::of(uri)?;
    Ok(pairs.into_iter().map(|(name, _)| name).collect())
}

/// The names of a structure's fields, as `serde` reads them.
pub(super) fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    match T::deserialize(AskFields) {
        Ok(_) => &[],
        Err(Fields(fields)) => fields,
    }
}

/// Reads nothing, and says which fields were wanted.
struct AskFields;

/// Those fields; an error, since a structure cannot be made of that.
#[derive(Debug, thiserror::Error)]
#[error("fields")]
struct Fields(&'static [&'static str]);

impl serde::de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for AskFields {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(fields))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// A parameter that is there or not: `?create`, `?create=true`, `?create=1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flag(pub bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" | "true" | "1" => Ok(Self(true)),
            "false" | "0" => Ok(Self(false)),
            other => Err(D::Error::custom(format!("{other:?} is neither true nor false"))),
        }
    }
}

/// An offset, a sequence or a log id: a decimal number up to 2^53-1.
///
/// # Errors
/// `bad_offset` that names the parameter.
pub(super) fn offset(name: &str, text: &str) -> Result<u64, Refusal> {
    // `parse` would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && *number <= MAX_OFFSET);
    number.ok_or_else(|| {
        let rule = format!("{name}: a number from 0 to {MAX_OFFSET} (2^53-1)");
        Refusal::because(Code::BadOffset, rule)
    })
}

/// A number between two bounds.
///
/// # Errors
/// `bad_request` that names the parameter.
pub(super) fn number(name: &str, text: &str, least: u64, most: u64) -> Result<u64, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (least..=most).contains(number));
    number.ok_or_else(|| Problem::bad_request(format!("{name}: a number from {least} to {most}")))
}

/// How many things a page of a list holds: `limit`, with a default.
///
/// # Errors
/// `bad_request` when it is out of bounds.
pub(super) fn page(limit: Option<&str>, default: usize, most: usize) -> Result<usize, Problem> {
    let Some(limit) = limit else { return Ok(default) };
    let limit = number("limit", limit, 1, most as u64)?;
    Ok(usize::try_from(limit).unwrap_or(default))
}

/// A parameter that may also come as a header, for those who build addresses by hand.
///
/// # Errors
/// `bad_request` when both are there and differ, or the header is no text.
pub(super) fn or_header(
    query: Option<String>,
    headers: &HeaderMap,
    name: &'static str,
) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(query) };
    let value = value.to_str();
    let value = value.map_err(|_| Problem::bad_request(format!("{name}: plain ASCII only")))?;
    match query {
        Some(query) if query != value => {
            Err(Problem::bad_request(format!("{name} and the query say different things")))
        }
        _ => Ok(Some(value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Example {
        #[serde(default)]
        create: Flag,
        from: Option<String>,
    }

    fn asked(query: &str) -> Result<Example, String> {
        let uri = format!("http://x/y?{query}").parse().unwrap();
        Read::of(&uri).map(|Read(query)| query).map_err(|problem| problem.refusal.message)
    }

    #[test]
    fn a_structure_tells_its_fields() {
        assert_eq!(fields::<Example>(), ["create", "from"]);
        assert!(fields::<Nothing>().is_empty());
    }

    #[test]
    fn unknown_and_doubled_parameters_are_named() {
        assert!(asked("form=1").unwrap_err().contains("`form`"));
        assert!(asked("from=1&from=2").unwrap_err().contains("`from`"));
        assert_eq!(asked("from=a%2Fb").unwrap().from.as_deref(), Some("a/b"));
    }

    #[test]
    fn what_is_no_text_is_refused_and_not_replaced() {
        for bad in ["from=%ff", "from=a%C3", "from=%ED%A0%80", "%ff=1", "from=%c3%28"] {
            assert_eq!(asked(bad).unwrap_err(), "the query is no UTF-8", "{bad}");
        }
        for (good, want) in [("%c3%a4", "ä"), ("%", "%"), ("%zz", "%zz"), ("a%2", "a%2")] {
            assert_eq!(asked(&format!("from={good}")).unwrap().from.as_deref(), Some(want));
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_told_in_our_words() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only read")]
        struct Needs {
            to: String,
        }
        let told = |query: &str| {
            let uri = format!("http://x/y?{query}").parse().unwrap();
            Read::<Needs>::of(&uri).map(drop).unwrap_err().refusal.message
        };
        assert_eq!(told(""), "to: is needed");
        assert_eq!(told("to=1&to=2"), "`to` is given twice");
        assert_eq!(told("to=1&from=2"), "`from` is no parameter here");
        assert_eq!(
            asked("create=yes").unwrap_err(),
            "the query: create: \"yes\" is neither true nor false"
        );
    }

    #[test]
    fn a_flag_may_stand_alone() {
        for (query, want) in [("", false), ("create", true), ("create=1", true)] {
            assert_eq!(asked(query).unwrap().create, Flag(want), "{query:?}");
        }
        assert_eq!(asked("create=false").unwrap().create, Flag(false));
        assert!(asked("create=yes").unwrap_err().contains("neither true nor false"));
    }

    #[test]
    fn offsets_are_plain_numbers_up_to_2_to_the_53() {
        assert_eq!(offset("from", "9007199254740991"), Ok(MAX_OFFSET));
        for bad in ["9007199254740992", "-1", "+1", "", "1.0", "99999999999999999999999", "x"] {
            let refusal = offset("from", bad).unwrap_err();
            assert_eq!(refusal.code, Code::BadOffset, "{bad}");
            assert!(refusal.message.starts_with("from: "));
        }
    }

    #[test]
    fn numbers_keep_their_bounds() {
        assert_eq!(number("limit", "10", 1, 10).unwrap(), 10);
        for bad in ["0", "11", "+5", ""] {
            let problem = number("limit", bad, 1, 10).unwrap_err();
            assert_eq!(problem.refusal.message, "limit: a number from 1 to 10");
        }
        assert_eq!(page(None, 5, 10).unwrap(), 5);
        assert_eq!(page(Some("7"), 5, 10).unwrap(), 7);
        assert!(page(Some("70"), 5, 10).is_err());
    }

    #[test]
    fn a_header_may_stand_in_but_not_contradict() {
        let mut headers = HeaderMap::new();
        let ask = |query: Option<&str>, headers: &HeaderMap| {
            or_header(query.map(str::to_owned), headers, "highwater-seq")
        };
        assert_eq!(ask(Some("1"), &headers).unwrap().as_deref(), Some("1"));
        headers.insert("highwater-seq", "2".parse().unwrap());
        assert_eq!(ask(None, &headers).unwrap().as_deref(), Some("2"));
        assert_eq!(ask(Some("2"), &headers).unwrap().as_deref(), Some("2"));
        assert!(ask(Some("1"), &headers).unwrap_err().refusal.message.contains("highwater-seq"));
    }
}
