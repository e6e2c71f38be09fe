//! Documents: every link leads somewhere, and every document is reached from the README.

use std::collections::BTreeSet;
use std::path::Path;

use super::source::{File, files, root};

/// Links of a document: `](target)` outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // What stands between backticks is code: every second piece.
        let prose: String = line.split('`').step_by(2).collect();
        let targets = prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        found.extend(targets.map(str::to_owned));
    }
    found
}

/// Anchors of a document's headings, as the forges make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let heading = line.trim_start_matches('#').trim().to_lowercase();
        heading.chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

/// A path with its `..` worked off.
fn resolve(from: &str, target: &str) -> String {
    let folder = Path::new(from).parent().unwrap_or(Path::new(""));
    let mut parts: Vec<String> = Vec::new();
    for part in folder.join(target).components() {
        match part.as_os_str().to_string_lossy().as_ref() {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part.to_owned()),
        }
    }
    parts.join("/")
}

/// Links that lead nowhere; `exists` knows what is there besides the documents.
fn broken(documents: &[File], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in documents {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if target.is_empty() { path.clone() } else { resolve(path, target) };
            let document = documents.iter().find(|document| document.path == target);
            if document.is_none() && !exists(&target) {
                wrong.push(format!("{path}: {link} leads nowhere"));
            } else if let Some(document) = document
                && !anchor.is_empty()
                && !anchors(&document.text).contains(anchor)
            {
                wrong.push(format!("{path}: {target} has no heading for #{anchor}"));
            }
        }
    }
    wrong
}

/// Documents of the folder that no chain of links from the README reaches.
fn unreached(documents: &[File]) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut next = vec!["README.md".to_owned()];
    while let Some(path) = next.pop() {
        let Some(file) = documents.iter().find(|file| file.path == path) else { continue };
        if reached.insert(path.clone()) {
            let targets = links(&file.text).into_iter();
            next.extend(targets.map(|link| {
                resolve(&path, link.split_once('#').map_or(link.as_str(), |(target, _)| target))
            }));
        }
    }
    let of_folder = documents.iter().filter(|file| file.path.starts_with("docs/"));
    of_folder.map(|file| file.path.clone()).filter(|path| !reached.contains(path)).collect()
}

/// Names of documents that stand in sources.
fn mentioned(text: &str) -> Vec<String> {
    let name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mentions = text.split("docs/").skip(1).map(|rest| rest.split(|c| !name(c)).next());
    let ends =
        mentions.filter_map(|rest| rest?.rsplit_once(".md").map(|(stem, _)| stem.to_owned()));
    ends.map(|stem| format!("docs/{stem}.md")).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let documents = files("", &[".md"]);
    assert!(documents.iter().any(|file| file.path == "README.md"), "the documents were not found");
    let wrong = broken(&documents, |path| root().join(path).exists());
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_document_is_reached_from_the_readme() {
    let wrong = unreached(&files("", &[".md"]));
    assert!(wrong.is_empty(), "no link leads to {}", wrong.join(", "));
}

#[test]
fn documents_that_sources_name_are_there() {
    let mut wrong = BTreeSet::new();
    for from in ["src", "bench/src", "client-js/src"] {
        for File { path, text } in files(from, &[".rs", ".ts"]) {
            let gone = mentioned(&text).into_iter().filter(|name| !root().join(name).exists());
            wrong.extend(gone.map(|name| format!("{path} names {name}, which is not there")));
        }
    }
    let wrong: Vec<String> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Canaries.
#[test]
fn broken_links_are_found() {
    let readme = "# A\nsee [b](docs/b.md#two-words-é), [x](docs/x.md), `[no](link)` and\n\
                  ```\n[neither](this)\n```\n[out](https://example.org/x)";
    let documents = [
        File::made_up("README.md", readme),
        File::made_up("docs/b.md", "## Two words: é!\n[up](../README.md#b) [here](#nowhere)"),
        File::made_up("docs/c.md", "# C"),
    ];
    let wrong = broken(&documents, |_| false);
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    assert!(wrong[0].contains("docs/x.md leads nowhere"), "{wrong:?}");
    assert!(wrong[1].contains("README.md has no heading for #b"), "{wrong:?}");
    assert!(wrong[2].contains("#nowhere"), "{wrong:?}");
    assert_eq!(unreached(&documents), ["docs/c.md"]);
    assert_eq!(
        mentioned("//! see `docs/gone.md` §3, and docs/b.md."),
        ["docs/gone.md", "docs/b.md"]
    );
}
