//! What a token allows: rights on the logs that patterns mean.
//!
//! A grant lists what it allows and nothing follows from it: who may append may not thereby read.
//! What is not granted is denied.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::wire::Pattern;

/// Most grants of one token.
pub const MAX_GRANTS: usize = 64;
/// Longest name of a user, in bytes.
pub const MAX_USER_BYTES: usize = 128;

/// One right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Can {
    /// Read and subscribe.
    Read,
    /// Append.
    Append,
    /// Put snapshots, where the log's rule lets clients do so.
    Snapshot,
    /// Send and receive signals: presence and broadcasts.
    Signal,
    /// Create, trim and delete; on `**`, also operate connections and revoke.
    Admin,
    /// Ask which users a record was delivered to: it reveals who is there, so it is given by name
    /// and follows from no other.
    Delivered,
}

impl Can {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Append, Self::Snapshot, Self::Signal, Self::Admin, Self::Delivered];

    /// The word in tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Snapshot => "snapshot",
            Self::Signal => "signal",
            Self::Admin => "admin",
            Self::Delivered => "delivered",
        }
    }

    /// The right of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|can| can.name() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of rights. In JSON a list of words.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// Every right.
    pub fn all() -> Self {
        Can::ALL.into_iter().collect()
    }

    /// Whether the right is among them.
    pub const fn has(self, can: Can) -> bool {
        self.0 & can.bit() != 0
    }

    /// The rights in it.
    pub fn iter(self) -> impl Iterator<Item = Can> {
        Can::ALL.into_iter().filter(move |can| self.has(*can))
    }
}

impl FromIterator<Can> for Rights {
    fn from_iter<I: IntoIterator<Item = Can>>(rights: I) -> Self {
        Self(rights.into_iter().fold(0, |bits, can| bits | can.bit()))
    }
}

impl std::fmt::Debug for Rights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Rights {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for Rights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Rights;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of read, append, snapshot, signal, admin, delivered")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Rights, A::Error> {
                let mut rights = Rights::default();
                while let Some(can) = words.next_element::<Can>()? {
                    rights.0 |= can.bit();
                }
                Ok(rights)
            }
        }
        deserializer.deserialize_seq(Words)
    }
}

/// Rights on the logs that a pattern means.
///
/// An unknown member is an error: a later version may add one that narrows the grant, and to leave
/// it aside would widen it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The logs.
    pub logs: Pattern,
    /// What may be done with them.
    pub can: Rights,
}

impl Grant {
    /// Every right on every log.
    pub fn everything() -> Self {
        Self { logs: Pattern::all(), can: Rights::all() }
    }
}

/// The grants of a token, at most [`MAX_GRANTS`].
pub(super) fn read_grants<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Grant>, D::Error> {
    struct Bounded;
    impl<'de> Visitor<'de> for Bounded {
        type Value = Vec<Grant>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MAX_GRANTS} grants, each with logs and can")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Grant>, A::Error> {
            let mut grants = Vec::new();
            while let Some(grant) = list.next_element()? {
                if grants.len() == MAX_GRANTS {
                    return Err(A::Error::custom(format!("more than {MAX_GRANTS} grants")));
                }
                grants.push(grant);
            }
            Ok(grants)
        }
    }
    from.deserialize_seq(Bounded)
}

/// Who someone is and what they may do, from a token that was believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants {
    /// The user: 1 to 128 bytes, no control characters.
    pub user: String,
    /// From when on the token no longer counts, in milliseconds since 1970; leeway included.
    pub expires_ms: u64,
    /// When it was issued (`iat`), in milliseconds since 1970; none where it does not say.
    pub issued_ms: Option<u64>,
    /// What names the token in a revocation: its `jti`, or `blake3:` and a hash of what is signed.
    pub token_id: String,
    /// What it allows.
    pub grants: Vec<Grant>,
}

impl Grants {
    /// Whether the right is granted on the log of that name.
    pub fn allows(&self, log: &str, can: Can) -> bool {
        self.grants.iter().any(|grant| grant.can.has(can) && grant.logs.matches(log))
    }

    /// Whether it may operate what is no log: connections of others, revocations, the node. That
    /// takes `admin` on `**`.
    pub fn administers_all(&self) -> bool {
        let all = Pattern::all();
        self.grants.iter().any(|grant| grant.can.has(Can::Admin) && grant.logs == all)
    }
}

/// Whether a name is one that a user may have: 1 to 128 bytes, no control characters.
pub fn is_user(name: &str) -> bool {
    (1..=MAX_USER_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(json: &str) -> Grants {
        Grants {
            user: "ana".to_owned(),
            expires_ms: 0,
            issued_ms: None,
            token_id: String::new(),
            grants: serde_json::from_str(json).unwrap(),
        }
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let grants = grants(
            r#"[{"logs":"docs/*/ops","can":["read","append"]},
                {"logs":"docs/42/**","can":["signal","signal"]},
                {"logs":"logs/**","can":["admin"]},
                {"logs":"chat/**","can":["delivered"]},
                {"logs":"empty/**","can":[]}]"#,
        );
        let cases = [
            ("docs/42/ops", Can::Read, true),
            ("docs/42/ops", Can::Append, true),
            ("docs/42/ops", Can::Signal, true),
            ("docs/42/ops", Can::Snapshot, false),
            ("docs/42/ops", Can::Admin, false),
            ("docs/41/ops", Can::Signal, false),
            ("docs/42/ops/more", Can::Read, false),
            ("docs/42", Can::Signal, false),
            ("logs/a", Can::Admin, true),
            ("logs/a", Can::Read, false),
            ("logs/a", Can::Delivered, false),
            ("docs/42/ops", Can::Delivered, false),
            ("chat/a", Can::Delivered, true),
            ("chat/a", Can::Read, false),
            ("empty/a", Can::Read, false),
        ];
        for (log, can, want) in cases {
            assert_eq!(grants.allows(log, can), want, "{can:?} on {log}");
        }
        assert!(!grants.administers_all());
    }

    /// A token that was made before the right was there names what it allows, and allows no more.
    #[test]
    fn all_rights_of_an_old_token_hold_no_word_on_delivery() {
        let old = r#"[{"logs":"**","can":["read","append","snapshot","signal","admin"]}]"#;
        assert!(!grants(old).allows("a", Can::Delivered));
        assert!(grants(old).administers_all());
        assert!(Grant::everything().can.has(Can::Delivered));
    }

    #[test]
    fn to_administer_all_takes_admin_on_everything() {
        assert!(grants(r#"[{"logs":"**","can":["admin"]}]"#).administers_all());
        assert!(!grants(r#"[{"logs":"*","can":["admin"]}]"#).administers_all());
        assert!(!grants(r#"[{"logs":"**","can":["read"]}]"#).administers_all());
    }

    #[test]
    fn a_grant_with_anything_unknown_is_refused() {
        for json in [
            r#"{"logs":"a","can":["reed"]}"#,
            r#"{"logs":"a","can":"read"}"#,
            r#"{"logs":"a//b","can":["read"]}"#,
            r#"{"logs":"a","can":["read"],"kinds":["x"]}"#,
            r#"{"can":["read"]}"#,
            r#"{"logs":"a"}"#,
        ] {
            assert!(serde_json::from_str::<Grant>(json).is_err(), "{json}");
        }
        let text = r#"{"logs":"a/**","can":["read","admin"]}"#;
        let grant: Grant = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&grant).unwrap(), text);
    }

    #[test]
    fn users_have_printable_names_of_some_length() {
        for (name, good) in [
            ("a", true),
            ("ana@example.com", true),
            ("Zoë", true),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
            ("", false),
            ("a\nb", false),
            ("a\u{85}b", false),
        ] {
            assert_eq!(is_user(name), good, "{name:?}");
        }
    }

    #[test]
    fn names_of_rights_are_those_of_serde() {
        for can in Can::ALL {
            assert_eq!(serde_json::to_value(can).unwrap(), can.name());
            assert_eq!(Can::from_name(can.name()), Some(can));
        }
        assert_eq!(Can::from_name("write"), None);
    }
}
