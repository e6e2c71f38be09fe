//! Licences and sources of all dependencies, as cargo itself tells them; no other tool is needed.
//!
//! `.deny.toml` is the one list of allowed licences; `make deny` also asks for advisories.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;

use super::source::root;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Licences that may be shipped.
fn allowed() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(".deny.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let list = table["licenses"]["allow"].as_array().unwrap();
    list.iter().map(|licence| licence.as_str().unwrap().to_owned()).collect()
}

/// Whether an expression such as `MIT OR (Apache-2.0 AND ISC)` can be met with allowed licences.
/// `AND` binds closer than `OR`; a `/` is the old way to write `OR`.
fn may_ship(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let (met, used) = either(&words, allowed);
    used == words.len() && met
}

fn either(words: &[&str], allowed: &BTreeSet<String>) -> (bool, usize) {
    let (mut met, mut at) = both(words, allowed);
    while words.get(at) == Some(&"OR") {
        let (also, used) = both(&words[at + 1..], allowed);
        met |= also;
        at += 1 + used;
    }
    (met, at)
}

fn both(words: &[&str], allowed: &BTreeSet<String>) -> (bool, usize) {
    let (mut met, mut at) = one(words, allowed);
    while words.get(at) == Some(&"AND") {
        let (also, used) = one(&words[at + 1..], allowed);
        met &= also;
        at += 1 + used;
    }
    (met, at)
}

fn one(words: &[&str], allowed: &BTreeSet<String>) -> (bool, usize) {
    match words {
        [] => (false, 0),
        ["(", rest @ ..] => {
            let (met, used) = either(rest, allowed);
            (met && rest.get(used) == Some(&")"), used + 2)
        }
        [licence, "WITH", exception, ..] => {
            (allowed.contains(&format!("{licence} WITH {exception}")), 3)
        }
        [licence, ..] => (allowed.contains(*licence), 1),
    }
}

/// What is wrong with packages, as `cargo metadata` lists them.
fn wrong(metadata: &Value, allowed: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let name = format!("{} {}", package["name"], package["version"]);
        let licence = package["license"].as_str().unwrap_or("none told");
        if !may_ship(licence, allowed) {
            wrong.push(format!("{name}: the licence {licence} is not allowed in .deny.toml"));
        }
        if package["source"].as_str().is_some_and(|source| source != REGISTRY) {
            wrong.push(format!("{name}: comes from {}", package["source"]));
        }
    }
    wrong
}

/// The platform that cargo builds for, so that packages of others need not be there.
fn platform() -> String {
    let told = Command::new("rustc").arg("-vV").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn every_dependency_may_be_shipped() {
    let told = Command::new(env!("CARGO"))
        .args(["metadata", "--offline", "--format-version", "1", "--filter-platform", &platform()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let metadata: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert!(metadata["packages"].as_array().unwrap().len() > 50, "few packages were told");
    let wrong = wrong(&metadata, &allowed());
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Crates that may not be built in, whatever brings them: one stack of ciphers, aws-lc-rs, checks
/// tokens and speaks TLS, so that one is built and kept an eye on.
const OTHER_CIPHERS: &[&str] = &["ring", "openssl", "native-tls", "rustls-rustcrypto"];

/// Which of them a list of packages names, one a line: `name v1.2.3 …`.
fn other_ciphers(tree: &str) -> Vec<&str> {
    let other = |line: &&str| OTHER_CIPHERS.contains(&line.split(' ').next().unwrap_or_default());
    tree.lines().filter(other).collect()
}

/// What is built, on this platform and with all features: `cargo metadata` names more, for it
/// counts what a feature would add to a dependency that nothing asks for. Packages of other
/// platforms are not there on a new machine, and nothing is fetched here.
#[test]
fn one_stack_of_ciphers_is_built() {
    let told = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--workspace", "--all-features", "--target", &platform()])
        .args(["--edges", "all", "--prefix", "none", "--format", "{p}"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    let tree = String::from_utf8(told.stdout).unwrap();
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs v")), "the tree was not told");
    assert_eq!(other_ciphers(&tree), Vec::<&str>::new());
    assert_eq!(other_ciphers("fjall v3.1.13\nring v0.17.14 (*)\nstring v1.0.0").len(), 1);
}

/// Canaries.
#[test]
fn what_may_not_be_shipped_is_found() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for good in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-2.0/MIT",
        "(MIT AND ISC) OR GPL-2.0",
        "MIT AND (GPL-2.0 OR ISC)",
        "Apache-2.0 WITH LLVM-exception AND MIT",
    ] {
        assert!(may_ship(good, &allowed), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "Apache-2.0",
        "(MIT OR ISC) AND GPL-2.0",
        "",
        "none told",
        "MIT AND",
        "(MIT",
        "MIT ISC",
    ] {
        assert!(!may_ship(bad, &allowed), "{bad}");
    }
    let stray = serde_json::json!({"packages": [
        {"name": "a", "version": "1.0.0", "license": "MIT", "source": "git+https://example.org/a"},
        {"name": "b", "version": "1.0.0", "source": REGISTRY},
        {"name": "c", "version": "1.0.0", "license": "ISC"},
    ]});
    assert_eq!(wrong(&stray, &allowed).len(), 2);
}
