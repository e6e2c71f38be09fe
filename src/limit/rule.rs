//! Rules: what is kept of the logs that a pattern means.
//!
//! The first rule whose pattern matches a log's name holds for it; a log that none matches has no
//! snapshots and keeps everything. Rules are state of the fold, set by command from the
//! configuration, so they travel in both of serde's forms.

use serde::{Deserialize, Serialize};

use super::Limits;
use crate::wire::{Pattern, SnapshotRule};

impl SnapshotRule {
    /// The word in configuration and documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Latest => "latest",
            Self::Client => "client",
        }
    }
}

/// What is kept of the logs that a pattern means. 0 in a `retain_` field: no limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The logs it is about.
    pub pattern: Pattern,
    /// Who makes their snapshots.
    #[serde(default)]
    pub snapshot: SnapshotRule,
    /// Records after the newest snapshot before a client is asked for the next one.
    #[serde(default = "Rule::default_ask_after")]
    pub ask_after: u64,
    /// Newest records kept.
    #[serde(default)]
    pub retain_records: u64,
    /// Newest bytes kept.
    #[serde(default)]
    pub retain_bytes: u64,
    /// Seconds that a record is kept.
    #[serde(default)]
    pub retain_seconds: u64,
}

impl Rule {
    /// Records after a snapshot before the next is asked for, where a rule does not say.
    pub const ASK_AFTER: u64 = 1_000;

    const fn default_ask_after() -> u64 {
        Self::ASK_AFTER
    }

    /// A rule that keeps everything and makes no snapshots.
    pub const fn keep_all(pattern: Pattern) -> Self {
        Self {
            pattern,
            snapshot: SnapshotRule::None,
            ask_after: Self::ASK_AFTER,
            retain_records: 0,
            retain_bytes: 0,
            retain_seconds: 0,
        }
    }

    /// A rule under which the server keeps the newest record of each key.
    pub fn latest(pattern: Pattern) -> Self {
        Self { snapshot: SnapshotRule::Latest, ..Self::keep_all(pattern) }
    }

    /// Whether records are ever trimmed under it.
    pub const fn retains_all(&self) -> bool {
        self.retain_records == 0 && self.retain_bytes == 0 && self.retain_seconds == 0
    }
}

/// How much a log may keep: the smaller of its rule's bounds and those of all logs; 0: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Newest records.
    pub records: u64,
    /// Newest bytes.
    pub bytes: u64,
    /// Seconds, of a record or a page.
    pub seconds: u64,
}

const fn smaller(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, bound) | (bound, 0) => bound,
        (one, other) => {
            if one < other {
                one
            } else {
                other
            }
        }
    }
}

/// The rules in force, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Most rules that a configuration may have; each lookup walks them.
    pub const MOST: usize = 256;

    /// The rules in that order; those past [`Self::MOST`] are left out, which the configuration
    /// refuses before it comes to this.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.truncate(Self::MOST);
        Self(rules)
    }

    /// The rule that holds for a log of that name, if any does.
    pub fn find(&self, name: &str) -> Option<&Rule> {
        self.0.iter().find(|rule| rule.pattern.matches(name))
    }

    /// Who makes the snapshots of a log of that name.
    pub fn snapshot(&self, name: &str) -> SnapshotRule {
        self.find(name).map_or(SnapshotRule::None, |rule| rule.snapshot)
    }

    /// How much a log of that name may keep.
    pub fn kept(&self, name: &str, limits: &Limits) -> Kept {
        let (records, bytes, seconds) = self.find(name).map_or((0, 0, 0), |rule| {
            (rule.retain_records, rule.retain_bytes, rule.retain_seconds)
        });
        let bytes = smaller(bytes, limits.log_bytes);
        Kept { records, bytes, seconds: smaller(seconds, limits.log_age_seconds) }
    }

    /// All of them, in their order.
    pub fn as_slice(&self) -> &[Rule] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::codec;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap()
    }

    #[test]
    fn the_first_match_holds() {
        let rules = Rules::new(vec![
            Rule::latest(pattern("docs/*/state")),
            Rule { retain_records: 5, ..Rule::keep_all(pattern("docs/**")) },
            Rule { snapshot: SnapshotRule::Client, ..Rule::keep_all(pattern("docs/**")) },
        ]);
        let cases = [
            ("docs/1/state", Some((SnapshotRule::Latest, 0))),
            ("docs/1/ops", Some((SnapshotRule::None, 5))),
            ("other", None),
        ];
        for (name, want) in cases {
            let found = rules.find(name).map(|rule| (rule.snapshot, rule.retain_records));
            assert_eq!(found, want, "{name}");
        }
        assert_eq!(rules.snapshot("other"), SnapshotRule::None);
        assert!(!rules.find("docs/1/ops").unwrap().retains_all());
    }

    #[test]
    fn both_forms_bring_a_rule_back() {
        let rules = Rules::new(vec![Rule::latest(pattern("a/**"))]);
        let bytes = codec::to_bytes(&rules);
        assert_eq!(codec::from_bytes::<Rules>("rules", &bytes).unwrap(), rules);
        let rule: Rule = serde_json::from_str(r#"{"pattern":"a/**","snapshot":"latest"}"#).unwrap();
        assert_eq!(rules.as_slice(), [rule]);
        assert!(serde_json::from_str::<Rule>(r#"{"pattern":"a/**","snapshots":"none"}"#).is_err());
        assert!(serde_json::from_str::<Rule>(r#"{"pattern":"a//b"}"#).is_err());
    }

    #[test]
    fn a_log_keeps_the_smaller_of_what_its_rule_and_the_limits_allow() {
        let rule = Rule { retain_records: 5, retain_bytes: 70, ..Rule::keep_all(pattern("a")) };
        let rules = Rules::new(vec![rule]);
        let none = Limits { log_bytes: 0, log_age_seconds: 0, ..Limits::DEFAULT };
        assert_eq!(rules.kept("a", &none), Kept { records: 5, bytes: 70, seconds: 0 });
        assert_eq!(rules.kept("b", &none), Kept::default());
        let some = Limits { log_bytes: 60, log_age_seconds: 9, ..Limits::DEFAULT };
        assert_eq!(rules.kept("a", &some), Kept { records: 5, bytes: 60, seconds: 9 });
        assert_eq!(rules.kept("b", &some), Kept { records: 0, bytes: 60, seconds: 9 });
    }

    #[test]
    fn no_more_rules_than_a_lookup_may_walk() {
        let rules = Rules::new(vec![Rule::latest(pattern("a")); Rules::MOST + 1]);
        assert_eq!(rules.as_slice().len(), Rules::MOST);
    }
}
