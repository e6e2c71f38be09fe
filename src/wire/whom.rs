//! Whom a revocation means: a user, or one token. As HTTP and the fold write it.

use serde::{Deserialize, Serialize};

/// Most revocations that are held.
pub const MAX_REVOCATIONS: usize = 100_000;
/// Longest name of a user or a token, in bytes; a row's key carries it.
const MAX_BYTES: usize = 255;

/// Who or what is revoked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// A user: its tokens issued before the time given, and those that do not say when (`iat`).
    User(String),
    /// A token, by its `jti` or by its hash.
    Token(String),
}

impl Whom {
    /// The name.
    pub fn name(&self) -> &str {
        match self {
            Self::User(name) | Self::Token(name) => name,
        }
    }

    /// Whether the name can be that of a user or a token.
    pub fn is_sound(&self) -> bool {
        (1..=MAX_BYTES).contains(&self.name().len())
    }

    /// As the key of a row: a byte for the kind, then the name.
    pub fn to_key(&self) -> Vec<u8> {
        let kind = match self {
            Self::User(_) => 0,
            Self::Token(_) => 1,
        };
        let mut key = vec![kind];
        key.extend_from_slice(self.name().as_bytes());
        key
    }

    /// From the key of a row, if it is one.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let (kind, name) = key.split_first()?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        match kind {
            0 => Some(Self::User(name)),
            1 => Some(Self::Token(name)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_leads_back_and_kinds_do_not_mix() {
        let name = || "ana".to_owned();
        for whom in [Whom::User(name()), Whom::Token(name())] {
            assert_eq!(Whom::from_key(&whom.to_key()), Some(whom));
        }
        assert_ne!(Whom::User(name()).to_key(), Whom::Token(name()).to_key());
        for bad in [&b""[..], b"\x02a", b"\x00\xff"] {
            assert_eq!(Whom::from_key(bad), None, "{bad:?}");
        }
        assert!(!Whom::User(String::new()).is_sound());
        assert!(
            !Whom::Token("x".repeat(256)).is_sound() && Whom::Token("x".repeat(255)).is_sound()
        );
    }
}
