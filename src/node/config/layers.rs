//! The layers: which value each key has, and which file, variable or flag said so.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::known::{self, Known, SECTIONS, nearest, nearest_path, nearest_variable};
use super::{Problem, ServeFlags};

/// What the names of all variables begin with.
pub(super) const PREFIX: &str = "HIGHWATER_";

/// Variables with that prefix which are no keys: the command line and logging read them.
const OTHER_VARIABLES: [&str; 4] =
    ["HIGHWATER_CONFIG", "HIGHWATER_URL", "HIGHWATER_TOKEN", "HIGHWATER_LOG"];

/// Longest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The value of a key. It may be a secret, so it is not `Debug`.
#[derive(Clone)]
pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) source: Source,
    /// For a list in a file: the line of each item.
    lines: Vec<usize>,
}

impl Setting {
    /// Where an item of the list stands.
    pub(super) fn place_of(&self, item: usize) -> String {
        match (&self.source, self.lines.get(item)) {
            (Source::File(path, _), Some(line)) => format!("{}:{line}", path.display()),
            (source, _) => source.to_string(),
        }
    }
}

/// A value for every key there is, by path.
pub(super) type Settings = BTreeMap<&'static str, Setting>;

/// The configuration file: the flag's, else the variable's.
pub(super) fn file_of(flags: &ServeFlags, environment: &[(String, String)]) -> Option<PathBuf> {
    let variable = environment.iter().find(|(name, _)| name == "HIGHWATER_CONFIG");
    flags.config.clone().or_else(|| variable.map(|(_, path)| PathBuf::from(path)))
}

/// Puts the layers on one another. What is wrong is left out and noted; what may be meant for
/// somebody else is left out and warned of. Without a file
/// that could not be read nobody knows what is missing, so then there is nothing.
pub(super) fn collect(
    file: Option<&Path>,
    flags: &ServeFlags,
    environment: &[(String, String)],
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<Problem>,
) -> Option<Settings> {
    let mut layers = Layers { settings: defaults(), problems, warnings };
    let whole = file.is_none_or(|file| layers.file(file));
    layers.variables(environment);
    layers.flags(flags);
    whole.then_some(layers.settings)
}

fn defaults() -> Settings {
    let setting = |known: &'static Known| {
        let value = known.default.clone();
        (known.path.as_str(), Setting { value, source: Source::Default, lines: Vec::new() })
    };
    known::all().iter().map(setting).collect()
}

struct Layers<'a> {
    settings: Settings,
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<Problem>,
}

impl Layers<'_> {
    fn problem(&mut self, place: impl fmt::Display, message: impl Into<String>) {
        self.problems.push(Problem { place: place.to_string(), message: message.into() });
    }

    fn put(&mut self, known: &'static Known, setting: Setting) {
        self.settings.insert(&known.path, setting);
    }

    fn put_text(&mut self, known: &'static Known, text: &str, source: Source) {
        match known.form.parse(text) {
            Ok(value) => self.put(known, Setting { value, source, lines: Vec::new() }),
            Err(wanted) => self.problem(source, format!("{}: {wanted}", known.path)),
        }
    }

    fn unknown(&mut self, place: impl fmt::Display, path: &str) {
        let meant = nearest_path(path);
        self.problem(place, format!("unknown key {path}; did you mean {meant}?"));
    }

    /// Takes a file in; whether it could be read at all.
    fn file(&mut self, path: &Path) -> bool {
        let text = match read_bounded(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(problem) => {
                self.problem(path.display(), problem);
                return false;
            }
        };
        match DeTable::parse(&text) {
            Ok(table) => self.table(path, table.into_inner(), &text),
            Err(error) => {
                let line = line_of(&text, error.span().map_or(0, |span| span.start));
                self.problem(Source::File(path.to_owned(), line), error.message());
                return false;
            }
        }
        true
    }

    fn table(&mut self, path: &Path, table: DeTable<'_>, text: &str) {
        for (key, value) in table {
            let at = key.span().start;
            let name = key.into_inner();
            let source = |at| Source::File(path.to_owned(), line_of(text, at));
            match value.into_inner() {
                DeValue::Table(section) if SECTIONS.contains(&name.as_ref()) => {
                    for (key, value) in section {
                        let source = source(key.span().start);
                        self.value(&format!("{name}.{}", key.get_ref()), value, source, text);
                    }
                }
                _ if SECTIONS.contains(&name.as_ref()) => {
                    self.problem(source(at), format!("{name} is a section: write [{name}]"));
                }
                DeValue::Table(_) => {
                    let meant = nearest(&name, SECTIONS.into_iter().chain(["rules"]));
                    let message = format!("unknown section {name}; did you mean {meant}?");
                    self.problem(source(at), message);
                }
                other => self.value(&name, toml::Spanned::new(0..0, other), source(at), text),
            }
        }
    }

    fn value(&mut self, path: &str, value: toml::Spanned<DeValue<'_>>, source: Source, text: &str) {
        let Some(known) = known::find(path) else { return self.unknown(source, path) };
        let lines = match value.get_ref() {
            DeValue::Array(items) => {
                items.iter().map(|item| line_of(text, item.span().start)).collect()
            }
            _ => Vec::new(),
        };
        match plain(value.into_inner()).and_then(|value| known.form.accept(value)) {
            Ok(value) => self.put(known, Setting { value, source, lines }),
            Err(wanted) => self.problem(source, format!("{path}: {wanted}")),
        }
    }

    fn variables(&mut self, environment: &[(String, String)]) {
        for (name, text) in environment {
            let known = known::all().iter().find(|known| known.variable() == *name);
            match known {
                Some(known) => self.put_text(known, text, Source::Variable(name.clone())),
                None if !name.starts_with(PREFIX) || is_foreign(name) => {}
                None => {
                    let all: Vec<_> = known::all().iter().map(Known::variable).collect();
                    let meant = nearest_variable(name, &all);
                    // Whoever sets it may mean another program, or a newer version of this one.
                    let message = format!("unknown variable, left aside; did you mean {meant}?");
                    self.warnings.push(Problem { place: name.clone(), message });
                }
            }
        }
    }

    fn flags(&mut self, flags: &ServeFlags) {
        for pair in &flags.set {
            let source = Source::Flag("--set");
            let Some((path, text)) = pair.split_once('=') else {
                self.problem(source, format!("{pair}: write section.key=value"));
                continue;
            };
            match known::find(path.trim()) {
                Some(known) => self.put_text(known, text, source),
                None => self.unknown(source, path.trim()),
            }
        }
        let own = [
            ("--listen", "server.listen", flags.listen.as_deref()),
            ("--data", "server.data", flags.data.as_deref()),
            ("--dev", "server.dev", flags.dev.then_some("true")),
            ("--log-format", "server.log_format", flags.log_format.as_deref()),
        ];
        for (flag, path, text) in own {
            if let (Some(known), Some(text)) = (known::find(path), text) {
                self.put_text(known, text, Source::Flag(flag));
            }
        }
    }
}

/// Variables that others set: the command line's own, and those that Kubernetes puts into every
/// container beside a service named `highwater` (`HIGHWATER_SERVICE_HOST`, `HIGHWATER_PORT_...`).
/// No key has such a name; a test holds that.
fn is_foreign(name: &str) -> bool {
    OTHER_VARIABLES.contains(&name) || name.contains("_SERVICE_") || name.contains("_PORT")
}

/// Reads a text file, unless it is larger than that.
pub(super) fn read_bounded(path: &Path, most: u64) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let read = file.take(most + 1).read_to_string(&mut text);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > most { Err(format!("larger than {most} bytes")) } else { Ok(text) }
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// A parsed value without its positions.
fn plain(value: DeValue<'_>) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::String(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| "the number is too large".to_owned())?,
        DeValue::Float(number) => {
            Value::Float(number.as_str().parse().map_err(|_| "no number".to_owned())?)
        }
        DeValue::Boolean(switch) => Value::Boolean(switch),
        DeValue::Datetime(date) => Value::Datetime(date),
        DeValue::Array(items) => {
            let items = items.into_iter().map(|item| plain(item.into_inner()));
            Value::Array(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(members) => {
            let members = members.into_iter().map(|(name, value)| {
                Ok((name.into_inner().into_owned(), plain(value.into_inner())?))
            });
            Value::Table(members.collect::<Result<_, String>>()?)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_taken_for_a_foreign_variable() {
        for known in known::all() {
            assert!(!is_foreign(&known.variable()), "{}", known.variable());
        }
    }

    #[test]
    fn each_key_has_a_variable_of_its_own() {
        let mut names: Vec<_> = known::all().iter().map(Known::variable).collect();
        assert!(names.contains(&"HIGHWATER_LIMITS_SOCKETS".to_owned()));
        names.sort();
        names.dedup();
        assert_eq!(names.len(), known::all().len());
    }

    #[test]
    fn each_default_has_the_form_of_its_key() {
        for known in known::all() {
            assert_eq!(known.form.accept(known.default.clone()), Ok(known.default.clone()));
        }
    }
}
