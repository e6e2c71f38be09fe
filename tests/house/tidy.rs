//! Tidiness of the sources. What was larger than the rule when the rule came may only shrink.

use std::collections::BTreeSet;
use std::fs;

use super::source::{File, code, files, root};

const COLUMNS: usize = 100;
const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// Files with longer lines, and why.
const WIDE: &[(&str, &str)] = &[
    ("src/wire/code.rs", "the table of codes has one row per line"),
    ("src/limit/table.rs", "the table of limits has one row per line"),
];

/// How many modules of `src` have no promise at their head: write theirs, and the new number here.
/// It may only fall.
const WITHOUT_PROMISE: usize = 98;

/// Functions that are longer than the rule: shorten them and write the new length here, or take
/// them off; never lengthen them.
const LONG_FUNCTIONS: &[(&str, &str, usize)] =
    &[("src/fold/apply/decide.rs", "decide", 85), ("tests/pure/fold/oracle.rs", "simple", 90)];

/// Files that are longer than the rule; the same.
const LONG_FILES: &[(&str, usize)] = &[];

fn rust() -> Vec<File> {
    let mut all = files("src", &[".rs"]);
    all.extend(files("tests", &[".rs"]));
    all.extend(files("bench/src", &[".rs"]));
    assert!(all.len() > 60, "the sources were not found");
    all
}

/// Everything that people wrote.
fn all_text() -> Vec<File> {
    files(
        "",
        &[".rs", ".md", ".toml", ".ts", ".mjs", ".js", ".html", ".css", ".sh", "Makefile", "run"],
    )
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

fn without_head(files: &[File]) -> Vec<String> {
    let lacks = files.iter().filter(|file| !file.text.starts_with("//! "));
    lacks.map(|file| format!("{}: a module starts with a `//!` paragraph", file.path)).collect()
}

/// Modules of `src` whose head says what they are and promises nothing.
fn without_promise(files: &[File]) -> Vec<String> {
    let tests = |path: &str| path.contains("/tests") || path.ends_with("/fixture.rs");
    let shipped = files.iter().filter(|file| file.path.starts_with("src/") && !tests(&file.path));
    let lacks = shipped.filter(|file| {
        let mut head = file.text.lines().take_while(|line| line.starts_with("//!"));
        !head.any(|line| line.contains("Promise:"))
    });
    lacks.map(|file| file.path.clone()).collect()
}

fn wide(files: &[File]) -> Vec<String> {
    let narrow = files.iter().filter(|file| !WIDE.iter().any(|(path, _)| *path == file.path));
    let lines = narrow.flat_map(|file| file.text.lines().enumerate().map(move |line| (file, line)));
    let long = lines.filter(|(_, (_, line))| line.chars().count() > COLUMNS);
    long.map(|(file, (at, _))| format!("{}:{}: over {COLUMNS} columns", file.path, at + 1))
        .collect()
}

/// Put together here, so that this file is not an offender itself.
fn markers() -> [String; 7] {
    ["TO DO", "FIX ME", "XX X", "HA CK", "to do!", "dbg !", "unimplement ed!"]
        .map(|marker| marker.replace(' ', ""))
}

fn left_over(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        for (at, line) in text.lines().enumerate() {
            let found = markers().into_iter().filter(|marker| words(line).any(|w| w == *marker));
            wrong.extend(found.map(|marker| format!("{path}:{}: {marker}", at + 1)));
        }
    }
    wrong
}

/// Words of a line, a macro's `!` belonging to its name.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '!'))
}

/// Paths of one machine have no place in what others read.
fn of_one_machine(files: &[File]) -> Vec<String> {
    let places = ["wo rk", "ro ot", "ho me", "Us ers"].map(|p| format!("/{}/", p.replace(' ', "")));
    let mut wrong = Vec::new();
    for File { path, text } in files {
        for (at, line) in text.lines().enumerate() {
            let found = places.iter().filter(|place| {
                line.match_indices(*place).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._*-".contains(c))
                })
            });
            wrong.extend(found.map(|place| format!("{path}:{}: names {place}", at + 1)));
        }
    }
    wrong
}

/// Functions with a body: name and number of lines, from `fn` to the closing brace.
fn functions(text: &str) -> Vec<(String, usize)> {
    let code = code(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name = code[at + 3..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
        let name = name.unwrap_or_default();
        let Some(end) = body_end(&code[at..]).filter(|_| !name.is_empty()) else { continue };
        found.push((name.to_owned(), code[at..at + end].matches('\n').count() + 1));
    }
    found
}

/// Where the body that a function begins ends; none for a declaration.
fn body_end(code: &str) -> Option<usize> {
    let (mut braces, mut brackets) = (0, 0);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' => {
                braces -= 1;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Holds lengths to a limit, with those that were over it before held to what they were.
fn ratchet(
    what: &str,
    limit: usize,
    known: &[(String, usize)],
    now: &[(String, usize)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, lines) in now.iter().filter(|(_, lines)| *lines > limit) {
        match known.iter().find(|(known, _)| known == name) {
            None => wrong.push(format!("{name}: a {what} of {lines} lines, {limit} are allowed")),
            Some((_, before)) if lines > before => {
                wrong.push(format!("{name}: grew from {before} to {lines} lines"));
            }
            Some(_) => {}
        }
    }
    for (name, _) in known {
        if !now.iter().any(|(now, lines)| now == name && *lines > limit) {
            wrong.push(format!("{name}: no longer too long: take it off the list in tidy.rs"));
        }
    }
    wrong
}

/// Files that no `mod` names are never compiled.
fn dead(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, .. } in files {
        let Some(module) = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs")) else {
            continue;
        };
        let Some((folder, name)) = module.rsplit_once('/') else { continue };
        // Roots: crates, and each file and `main.rs` right in tests.
        if ["lib", "main"].contains(&name) || folder == "tests" {
            continue;
        }
        let parents = ["mod.rs", "lib.rs", "main.rs"].map(|file| format!("{folder}/{file}"));
        let parents = parents.into_iter().chain([format!("{folder}.rs")]);
        let parents: BTreeSet<String> = parents.collect();
        let declared = |file: &File| {
            let code = code(&file.text);
            let words: Vec<&str> =
                code.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
            words.windows(2).any(|pair| pair == ["mod", name])
        };
        if !files.iter().any(|file| parents.contains(&file.path) && declared(file)) {
            wrong.push(format!("{path}: no `mod {name}` names it"));
        }
    }
    wrong
}

/// Test programs that no manifest names are never run: the root's manifest lists its own.
fn unnamed(manifest: &str, programs: &[File]) -> Vec<String> {
    let main = |file: &&File| {
        let parts: Vec<&str> = file.path.split('/').collect();
        matches!(parts[..], ["tests", _, "main.rs"])
    };
    let unnamed = programs.iter().filter(main).filter(|file| {
        let own = root().join(&file.path).with_file_name("Cargo.toml").exists();
        !own && !manifest.contains(&format!("path = \"{}\"", file.path))
    });
    unnamed.map(|file| format!("{}: no manifest names it", file.path)).collect()
}

/// Names under `[dependencies]` and the like that no code names.
fn unused(manifest: &str, sections: &[&str], files: &[File]) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let code: Vec<String> = files.iter().map(|file| code(&file.text)).collect();
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    let names: Vec<&String> = tables.flat_map(|table| table.keys()).collect();
    let used = |name: &str| {
        let (path, whole) =
            (name.replace('-', "_") + "::", format!("use {}", name.replace('-', "_")));
        code.iter().any(|code| code.contains(&path) || code.contains(&whole))
    };
    names.into_iter().filter(|name| !used(name)).cloned().collect()
}

#[test]
fn every_module_says_what_it_is() {
    assert_none(&without_head(&rust()));
}

#[test]
fn modules_start_with_their_promise() {
    let lack = without_promise(&rust());
    let (now, most) = (lack.len(), WITHOUT_PROMISE);
    assert!(now <= most, "{now} modules promise nothing, {most} may:\n{}", lack.join("\n"));
}

#[test]
fn lines_fit() {
    assert_none(&wide(&rust()));
}

#[test]
fn nothing_is_left_over() {
    let code = |file: &File| !file.path.ends_with(".md");
    let files: Vec<File> = all_text().into_iter().filter(code).collect();
    assert_none(&left_over(&files));
}

#[test]
fn nothing_names_a_place_on_one_machine() {
    assert_none(&of_one_machine(&all_text()));
}

#[test]
fn functions_fit_a_screen() {
    let named = |path: &str, name: &str| format!("{path} {name}");
    let known: Vec<_> =
        LONG_FUNCTIONS.iter().map(|(path, name, lines)| (named(path, name), *lines)).collect();
    let now: Vec<_> = (rust().iter())
        .flat_map(|file| {
            let all = functions(&file.text).into_iter();
            all.map(|(name, lines)| (named(&file.path, &name), lines)).collect::<Vec<_>>()
        })
        .collect();
    assert!(now.len() > 300, "the functions were not found");
    assert_none(&ratchet("function", FUNCTION_LINES, &known, &now));
}

#[test]
fn files_hold_one_idea() {
    let known: Vec<_> =
        LONG_FILES.iter().map(|(path, lines)| ((*path).to_owned(), *lines)).collect();
    let now: Vec<_> =
        rust().iter().map(|file| (file.path.clone(), file.text.lines().count())).collect();
    assert_none(&ratchet("file", FILE_LINES, &known, &now));
}

#[test]
fn every_file_is_compiled() {
    assert_none(&dead(&rust()));
}

#[test]
fn every_test_program_is_run() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert_none(&unnamed(&manifest, &files("tests", &[".rs"])));
}

#[test]
fn every_dependency_is_used() {
    let manifest = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let shipped = files("src", &[".rs"]);
    let mut wrong = unused(&manifest("Cargo.toml"), &["dependencies"], &shipped);
    wrong.extend(unused(&manifest("Cargo.toml"), &["dev-dependencies"], &rust()));
    let bench = files("bench/src", &[".rs"]);
    wrong.extend(unused(&manifest("bench/Cargo.toml"), &["dependencies"], &bench));
    let mutants = files("tests/mutants", &[".rs"]);
    wrong.extend(unused(&manifest("tests/mutants/Cargo.toml"), &["dependencies"], &mutants));
    // The world builds rooms of `src`.
    let mut world = files("tests/world", &[".rs"]);
    world.extend(shipped);
    wrong.extend(unused(&manifest("tests/world/Cargo.toml"), &["dependencies"], &world));
    let wrong: Vec<String> = wrong.iter().map(|name| format!("{name} is not used")).collect();
    assert_none(&wrong);
}

/// Canaries: each rule finds a made-up offender.
#[test]
fn offenders_are_found() {
    let file = |text: &str| [File::made_up("src/log/new.rs", text)];
    assert_eq!(without_head(&file("use std::fmt;\n")).len(), 1);
    let head =
        |says: &str| file(&format!("//! New things.\n//!\n//! {says}.\n\n// Promise: no.\n"));
    assert_eq!(without_promise(&head("They are new")), ["src/log/new.rs"]);
    assert!(without_promise(&head("Promise: they stay new")).is_empty());
    assert!(without_promise(&[File::made_up("src/log/tests.rs", "//! Tries it.\n")]).is_empty());
    assert_eq!(wide(&file(&"x".repeat(COLUMNS + 1))).len(), 1);
    assert!(wide(&file(&"é".repeat(COLUMNS))).is_empty());
    for marker in markers() {
        assert_eq!(left_over(&file(&format!("// {marker}: later\n"))).len(), 1, "{marker}");
    }
    assert_eq!(of_one_machine(&file(&format!("open(\"/{}/me/x\")", "home"))).len(), 1);
    assert!(of_one_machine(&file(&format!("the net{}/x", "/work"))).is_empty());
    assert_eq!(dead(&file("//! Nobody names it.\n")).len(), 1);
    let parent = File::made_up("src/log/mod.rs", "//! It.\npub mod new;\n");
    let [child] = file("//! Named.\n");
    let room = File::made_up("src/lib.rs", "pub mod log;\n");
    assert!(dead(&[parent, child, room]).is_empty());
    let program = [File::made_up("tests/new/main.rs", "mod it;")];
    assert_eq!(unnamed("path = \"tests/old/main.rs\"", &program).len(), 1);
    assert!(unnamed("path = \"tests/new/main.rs\"", &program).is_empty());
    let manifest = "[dependencies]\nserde = \"1\"\ntokio-rare = \"1\"\n";
    assert_eq!(unused(manifest, &["dependencies"], &file("use serde::Serialize;")), ["tokio-rare"]);
}

/// Canary of the ratchet: new, grown, as it was, short again.
#[test]
fn the_ratchet_holds() {
    let long =
        format!("fn long(x: [u8; 2]) {{\n{}}}\nfn declared(x: u8);\n", "    x();\n".repeat(80));
    let now = functions(&long);
    assert_eq!(now, [("long".to_owned(), 82)]);
    let known = |lines| vec![("long".to_owned(), lines)];
    assert_eq!(ratchet("function", 70, &[], &now).len(), 1);
    assert_eq!(ratchet("function", 70, &known(81), &now).len(), 1);
    assert!(ratchet("function", 70, &known(82), &now).is_empty());
    assert_eq!(ratchet("function", 70, &known(82), &known(60)).len(), 1);
}
