//! Rules: what is kept of the logs that a pattern means.
//!
//! The first rule whose pattern matches a log's name holds for it; a log that none matches has no
//! snapshots and keeps everything. Rules are state of the fold, set by command from the
//! configuration, so they travel in both of serde's forms.

use serde::{Deserialize, Serialize};

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
    fn no_more_rules_than_a_lookup_may_walk() {
        let rules = Rules::new(vec![Rule::latest(pattern("a")); Rules::MOST + 1]);
        assert_eq!(rules.as_slice().len(), Rules::MOST);
    }
}
