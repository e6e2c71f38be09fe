//! The effective configuration, as a file that could be read again, each value with its source.

use std::fmt::Write as _;

use toml::Value;

use super::check::DEV_PATTERN;
use super::known;
use super::layers::Settings;
use crate::limit::Limits;
use crate::node::secret;

/// What stands in place of a secret.
const HIDDEN: &str = "(hidden)";

/// Writes all values in the order of the known keys.
pub(super) fn show(settings: &Settings, dev: bool) -> String {
    let mut out = String::new();
    let mut section = "";
    for known in known::all() {
        let Some(setting) = settings.get(known.path.as_str()) else { continue };
        let (of, key) = known.path.split_once('.').unwrap_or(("", &known.path));
        if of != section {
            section = of;
            line(&mut out, format_args!("\n[{section}]"));
        }
        let row = if section == "limits" { Limits::row(key) } else { None };
        let unit = row.map_or(String::new(), |row| format!(" ({})", row.unit.name()));
        let value = without_secrets(setting.value.clone());
        line(&mut out, format_args!("{key} = {value}  # {}{unit}", setting.source));
        if dev && known.path == "rules" {
            line(
                &mut out,
                format_args!("# --dev adds: pattern {DEV_PATTERN:?}, snapshot \"latest\""),
            );
        }
        if dev && known.path == "auth.keys" {
            line(
                &mut out,
                format_args!(
                    "# --dev adds: HS256, the secret in {} of the data folder",
                    secret::FILE
                ),
            );
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Hides every member named `secret`, however deep it lies.
fn without_secrets(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(without_secrets).collect()),
        Value::Table(members) => Value::Table(
            members
                .into_iter()
                .map(|(name, value)| match name.as_str() {
                    "secret" => (name, Value::String(HIDDEN.to_owned())),
                    _ => (name, without_secrets(value)),
                })
                .collect(),
        ),
        other => other,
    }
}
