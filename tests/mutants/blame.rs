//! Which fault the compiler speaks of when it refuses what was planted.
//!
//! Promise: an error that is nobody's is told and not passed over.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::edit::Region;

/// Regions of all files, by path from the tree's root.
pub type Regions = BTreeMap<PathBuf, Vec<Region>>;

/// One line of cargo's.
#[derive(Debug, Deserialize)]
pub struct Line {
    pub message: Option<Told>,
    pub executable: Option<PathBuf>,
    pub target: Option<Target>,
    pub profile: Option<Profile>,
}

/// What was built.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
}

/// How it was built.
#[derive(Debug, Deserialize)]
pub struct Profile {
    /// Whether it runs the tests in it.
    pub test: bool,
}

/// What the compiler says.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Told {
    pub level: String,
    pub message: String,
    #[serde(default)]
    spans: Vec<Span>,
    #[serde(default)]
    children: Vec<Self>,
}

#[derive(Debug, Clone, Deserialize)]
struct Span {
    file_name: PathBuf,
    byte_start: usize,
    byte_end: usize,
    is_primary: bool,
}

/// A fault that is not built, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blamed {
    pub number: usize,
    /// Whether the error is in the fault's own words, and not in what is around them.
    pub own: bool,
    pub why: String,
}

/// The errors of a build.
pub fn errors(lines: &[Line]) -> Vec<&Told> {
    let told = lines.iter().filter_map(|line| line.message.as_ref());
    told.filter(|told| told.level.starts_with("error") && !told.spans.is_empty()).collect()
}

/// Who is to blame for an error: the innermost fault at its place, else at a place that it mentions
/// beside; a function that a constant calls and that is none any more; or all of one function.
pub fn blame(told: &Told, regions: &Regions) -> Vec<Blamed> {
    let blamed = |number, own| Blamed { number, own, why: told.message.clone() };
    let (first, others): (Vec<_>, Vec<_>) = told.spans.iter().partition(|span| span.is_primary);
    let children = told.children.iter().flat_map(|child| &child.spans);
    for span in first.iter().copied().chain(others).chain(children) {
        let all = regions.get(&plain_path(&span.file_name)).map_or(&[][..], Vec::as_slice);
        let inside = |range: &Range<usize>| {
            range.start <= span.byte_start && span.byte_end <= range.end && !range.is_empty()
        };
        let own = all.iter().filter(|one| inside(&one.own)).min_by_key(|one| one.own.len());
        if let Some(one) = own {
            return vec![blamed(one.number, span.is_primary)];
        }
        let around = all.iter().filter(|one| inside(&one.all)).min_by_key(|one| one.all.len());
        if let Some(one) = around {
            return vec![blamed(one.number, false)];
        }
    }
    let everywhere = || regions.values().flatten();
    let named = |one: &&Region| {
        let name = one.no_constant.as_ref();
        name.is_some_and(|name| words(&told.message).any(|word| word == name))
    };
    if told.message.contains("non-const") && everywhere().any(|one| named(&one)) {
        return everywhere().filter(named).map(|one| blamed(one.number, false)).collect();
    }
    let mut near = Vec::new();
    for span in first {
        let all = regions.get(&plain_path(&span.file_name)).into_iter().flatten();
        let here = all.filter(|one| {
            one.function.start <= span.byte_start && span.byte_end <= one.function.end
        });
        near.extend(here.map(|one| blamed(one.number, false)));
    }
    near
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

/// A path without `..`: a crate may name the files of another.
fn plain_path(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}
