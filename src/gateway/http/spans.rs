//! Which names a token's grants can cover: so that a list costs what its reader may see of it.
//!
//! A pattern covers names that begin as it does up to its first wildcard. Names elsewhere are not
//! looked at: neither does it cost anything that they are there, nor does it show.

use crate::auth::{Can, Grants};
use crate::rows::RowsError;
use crate::store::Store;

/// Names that stand together: one, or all that begin alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    text: String,
    /// It is a name, not the beginning of some.
    whole: bool,
}

/// The spans that hold all names with that prefix that grants let their bearer read: in order, none
/// within another.
pub(super) fn of(grants: &Grants, prefix: &str) -> Vec<Span> {
    let readable = grants.grants.iter().filter(|grant| grant.can.has(Can::Read));
    let mut spans: Vec<Span> =
        readable.filter_map(|grant| span(grant.logs.as_str(), prefix)).collect();
    spans.sort_unstable();
    let mut kept: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        // What begins like an earlier one comes behind it at once.
        let within = |last: &Span| {
            if last.whole { *last == span } else { span.text.starts_with(&last.text) }
        };
        // Of a name and a beginning of the same text the beginning comes first, and holds both.
        if !kept.last().is_some_and(within) {
            kept.push(span);
        }
    }
    kept
}

/// The names with that prefix that a pattern may match.
fn span(pattern: &str, prefix: &str) -> Option<Span> {
    let (text, whole) = match pattern.split_once('*') {
        Some((fixed, _)) => (fixed, false),
        None => (pattern, true),
    };
    if text.starts_with(prefix) {
        return Some(Span { text: text.to_owned(), whole });
    }
    let narrows = !whole && prefix.starts_with(text);
    narrows.then(|| Span { text: prefix.to_owned(), whole: false })
}

impl Span {
    /// Whether all its names stand at that one or before it.
    pub(super) fn is_behind(&self, after: Option<&str>) -> bool {
        after.is_some_and(|after| {
            let reaches = !self.whole && after.starts_with(&self.text);
            self.text.as_str() <= after && !reaches
        })
    }

    /// Its names after one, with their log ids.
    pub(super) fn names(
        &self,
        store: &Store,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, u64)>, RowsError> {
        if self.whole {
            let found = store.find_log(&self.text)?;
            return Ok(found.map(|id| (self.text.clone(), id)).into_iter().collect());
        }
        let after = after.filter(|after| after.starts_with(&self.text));
        store.logs(&self.text, after, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Grant;
    use crate::wire::Pattern;

    fn spans(patterns: &[&str], prefix: &str) -> Vec<(String, bool)> {
        let grant = |pattern: &&str| Grant {
            logs: Pattern::parse(pattern).unwrap(),
            can: [Can::Read].into_iter().collect(),
        };
        let grants = Grants {
            user: "ana".to_owned(),
            expires_ms: 0,
            issued_ms: None,
            token_id: String::new(),
            grants: patterns.iter().map(grant).collect(),
        };
        of(&grants, prefix).into_iter().map(|span| (span.text, span.whole)).collect()
    }

    #[test]
    fn only_what_grants_can_cover_is_looked_at() {
        let all = |texts: &[(&str, bool)]| {
            texts.iter().map(|(text, whole)| ((*text).to_owned(), *whole)).collect::<Vec<_>>()
        };
        assert_eq!(spans(&[], ""), all(&[]));
        assert_eq!(spans(&["**"], ""), all(&[("", false)]));
        assert_eq!(spans(&["**"], "docs/"), all(&[("docs/", false)]));
        let some = ["docs/*/ops", "docs/7", "b", "a/**", "docs/**", "b"];
        assert_eq!(spans(&some, ""), all(&[("a/", false), ("b", true), ("docs/", false)]));
        assert_eq!(spans(&some, "docs/7"), all(&[("docs/7", false)]));
        assert_eq!(spans(&["docs/7"], "docs/7/"), all(&[]));
        assert_eq!(
            spans(&["docs/7", "docs/7/*"], ""),
            all(&[("docs/7", true), ("docs/7/", false)])
        );
        assert_eq!(
            spans(&["x", "xy", "x/*"], ""),
            all(&[("x", true), ("x/", false), ("xy", true)])
        );
    }

    #[test]
    fn a_span_is_behind_once_its_last_name_is() {
        let span = |text: &str, whole| Span { text: text.to_owned(), whole };
        assert!(!span("b/", false).is_behind(None));
        assert!(!span("b/", false).is_behind(Some("b/7")));
        assert!(!span("b/", false).is_behind(Some("a/7")));
        assert!(span("b/", false).is_behind(Some("c")));
        assert!(span("b", true).is_behind(Some("b")) && span("b", true).is_behind(Some("b/7")));
        assert!(!span("b", true).is_behind(Some("a")));
    }
}
