//! The keys there are: path, form, default. What is not listed here is an error.

use std::sync::LazyLock;

use toml::Value;

use crate::limit::Limits;

/// What form the value of a key has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Switch,
    Number,
    /// A list of texts; one text alone will do.
    Texts,
    /// A list of tables.
    Tables,
}

impl Form {
    const fn wanted(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Switch => "true or false",
            Self::Number => "a whole number, 0 or more",
            Self::Texts => "a list of texts",
            Self::Tables => "a list of tables",
        }
    }

    /// The value in its one form, or what was wanted.
    pub(super) fn accept(self, value: Value) -> Result<Value, String> {
        let fits = match (self, &value) {
            (Self::Text, Value::String(_)) | (Self::Switch, Value::Boolean(_)) => true,
            (Self::Number, Value::Integer(number)) => *number >= 0,
            (Self::Texts, Value::String(_)) => return Ok(Value::Array(vec![value])),
            (Self::Texts, Value::Array(list)) => list.iter().all(Value::is_str),
            (Self::Tables, Value::Array(list)) => list.iter().all(Value::is_table),
            _ => false,
        };
        if fits { Ok(value) } else { Err(format!("{} is wanted", self.wanted())) }
    }

    /// Reads the value from the text of a variable or flag.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        let value = match self {
            Self::Text => Value::String(text.to_owned()),
            Self::Texts if !trimmed.starts_with('[') => {
                let texts = trimmed.split(',').map(str::trim).filter(|text| !text.is_empty());
                Value::Array(texts.map(|text| Value::String(text.to_owned())).collect())
            }
            Self::Switch | Self::Number | Self::Texts | Self::Tables => {
                trimmed.parse().map_err(|_| format!("{} is wanted", self.wanted()))?
            }
        };
        self.accept(value)
    }
}

/// A key of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// `section.key`, or the name of a list at the top.
    pub(super) path: String,
    pub(super) form: Form,
    pub(super) default: Value,
}

impl Known {
    /// The environment variable that sets it.
    pub(super) fn variable(&self) -> String {
        super::layers::PREFIX.to_owned() + &self.path.to_ascii_uppercase().replace('.', "_")
    }
}

/// Bytes of folded batches that the journal keeps by default: none.
const KEEP_BYTES: i64 = 0;
/// Nodes that have a batch on disk before the journal lets go of it.
const COPIES: i64 = 2;
/// How long it stays in any case: a day.
const KEEP_SECONDS: i64 = 86_400;

static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let text = |text: &str| Value::String(text.to_owned());
    let list = || Value::Array(Vec::new());
    let mut known: Vec<_> = [
        ("rules", Form::Tables, list()),
        ("server.listen", Form::Text, text("127.0.0.1:8080")),
        ("server.advertise", Form::Text, text("")),
        ("server.data", Form::Text, text("./highwater-data")),
        ("server.dev", Form::Switch, Value::Boolean(false)),
        ("server.allowed_origins", Form::Texts, list()),
        ("server.log_format", Form::Text, text("human")),
        ("server.auto_create", Form::Switch, Value::Boolean(true)),
        ("auth.keys", Form::Tables, list()),
        ("auth.audience", Form::Texts, list()),
        ("auth.leeway_seconds", Form::Number, Value::Integer(5)),
        ("journal.engine", Form::Text, text("local")),
        ("journal.keep_bytes", Form::Number, Value::Integer(KEEP_BYTES)),
        ("journal.servers", Form::Texts, list()),
        ("journal.stream", Form::Text, text("highwater")),
        ("journal.replicas", Form::Number, Value::Integer(1)),
        ("journal.follower", Form::Switch, Value::Boolean(false)),
        ("journal.copies", Form::Number, Value::Integer(COPIES)),
        ("journal.keep_seconds", Form::Number, Value::Integer(KEEP_SECONDS)),
        ("journal.copy_from", Form::Texts, list()),
        ("journal.copy_token_file", Form::Text, text("")),
        ("journal.user", Form::Text, text("")),
        ("journal.password_file", Form::Text, text("")),
        ("journal.credentials_file", Form::Text, text("")),
        ("journal.ca_file", Form::Text, text("")),
        ("journal.monitoring", Form::Texts, list()),
    ]
    .into_iter()
    .map(|(path, form, default)| Known { path: path.to_owned(), form, default })
    .collect();
    known.extend(Limits::TABLE.iter().map(|row| Known {
        path: format!("limits.{}", row.name),
        form: Form::Number,
        default: Value::Integer(i64::try_from(row.default).unwrap_or(i64::MAX)),
    }));
    known
});

/// All keys, in the order of `config show`.
pub(super) fn all() -> &'static [Known] {
    &KNOWN
}

/// The key of that path.
pub(super) fn find(path: &str) -> Option<&'static Known> {
    all().iter().find(|known| known.path == path)
}

/// The sections there are.
pub(super) const SECTIONS: [&str; 4] = ["server", "auth", "limits", "journal"];

/// The path that was probably meant: the same key in another section, else the one that differs
/// in the fewest letters.
pub(super) fn nearest_path(path: &str) -> &'static str {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let same_key = all().iter().find(|known| last(&known.path) == last(path));
    let paths = all().iter().map(|known| known.path.as_str());
    same_key.map_or_else(|| nearest(path, paths), |known| &known.path)
}

/// The variable that may be meant: one that ends so, before one that is spelt alike.
pub(super) fn nearest_variable<'a>(name: &str, all: &'a [String]) -> &'a str {
    let last = name.strip_prefix("HIGHWATER").unwrap_or(name);
    let same_end = all.iter().filter(|known| known.ends_with(last)).min_by_key(|known| known.len());
    same_end.map_or_else(|| nearest(name, all.iter().map(String::as_str)), String::as_str)
}

/// The candidate that differs in the fewest letters.
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> &'a str {
    let distance = |candidate: &&str| strsim::damerau_levenshtein(text, candidate);
    candidates.into_iter().min_by_key(distance).unwrap_or_default()
}
