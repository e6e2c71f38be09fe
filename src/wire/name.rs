//! Names of logs and patterns over them.
//!
//! A name is segments of `A-Z a-z 0-9 _ . ~ -` parted by `/`, none empty, none `.` or `..`, at
//! most 255 bytes. A pattern is a name in which a segment may be `*` (one segment), and the last
//! may be `**` (one or more).

use std::fmt;

/// Longest name or pattern, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// A name that breaks the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name has segments of A-Z a-z 0-9 _ . ~ - parted by /, none empty, . or .., at most 255 bytes"
)]
pub struct BadName;

/// Checks a log's name.
///
/// # Errors
/// [`BadName`] when it breaks the rule.
pub fn check(name: &str) -> Result<&str, BadName> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.~-".contains(&byte);
    let segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
    if name.len() <= MAX_NAME_BYTES && name.split('/').all(segment) {
        Ok(name)
    } else {
        Err(BadName)
    }
}

/// A pattern that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no pattern: segments of A-Z a-z 0-9 _ . ~ - parted by /, of which one may be * (one \
     segment) and the last ** (one or more), at most 255 bytes"
)]
pub struct BadPattern(String);

/// A checked pattern over names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern(String);

impl Pattern {
    /// Every log.
    pub fn all() -> Self {
        Self("**".to_owned())
    }

    /// Reads a pattern.
    ///
    /// # Errors
    /// [`BadPattern`] when it is neither a name nor one with `*` and `**` in their places.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let bad = || BadPattern(text.chars().take(MAX_NAME_BYTES).collect());
        let body = match text.strip_suffix("**") {
            Some("") => return Ok(Self::all()),
            Some(body) => body.strip_suffix('/').ok_or_else(bad)?,
            None => text,
        };
        let plain = body.split('/').map(|segment| if segment == "*" { "x" } else { segment });
        let is_one = check(&plain.collect::<Vec<_>>().join("/")).is_ok();
        if text.len() > MAX_NAME_BYTES || !is_one {
            return Err(bad());
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether a log of that name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut names = name.split('/');
        for want in self.0.split('/') {
            match (want, names.next()) {
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (want, Some(segment)) if want == segment => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Pattern {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Pattern {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}
