//! Files of the project, and Rust text without its comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// One file: its path from the project's root, with `/`, and its text.
#[derive(Debug, Clone)]
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    pub fn made_up(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Folders that hold nothing of ours.
const FOREIGN: &[&str] =
    &["target", "node_modules", "dist", "build", "highwater-data", ".git", "shots"];

/// All files below a folder (or the file itself) whose names end so, by path.
pub fn files(from: &str, endings: &[&str]) -> Vec<File> {
    let mut found = Vec::new();
    walk(&root().join(from), endings, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(path: &Path, endings: &[&str], found: &mut Vec<File>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_dir() {
        if FOREIGN.contains(&name.as_str()) {
            return;
        }
        for entry in fs::read_dir(path).unwrap() {
            walk(&entry.unwrap().path(), endings, found);
        }
    } else if endings.iter().any(|ending| name.ends_with(ending)) {
        // What is no text is nobody's to tidy.
        let Ok(text) = fs::read_to_string(path) else { return };
        let path = path.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/");
        found.push(File { path, text });
    }
}

/// Rust text with comments and the contents of strings and characters blanked out, so that what is
/// left is code. Lines stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'r' if begins_raw(bytes, at) => raw_end(bytes, at),
            b'\'' => char_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8(out).expect("whole characters are blanked")
}

fn find(bytes: &[u8], from: usize, what: &[u8]) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let found = rest.windows(what.len()).position(|window| window == what);
    found.map_or(bytes.len(), |found| from + found)
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    find(bytes, at, b"\n")
}

fn block_end(bytes: &[u8], at: usize) -> usize {
    (find(bytes, at, b"*/") + 2).min(bytes.len())
}

fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    (end + 1).min(bytes.len())
}

fn begins_raw(bytes: &[u8], at: usize) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if at > 0 && word(bytes[at - 1]) && bytes[at - 1] != b'b' {
        return false;
    }
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn raw_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let mut close = vec![b'"'];
    close.resize(hashes + 1, b'#');
    (find(bytes, at + 2 + hashes, &close) + close.len()).min(bytes.len())
}

/// A character, or nothing for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at + 1) {
        Some(b'\\') => (find(bytes, at + 3, b"'") + 1).min(bytes.len()),
        Some(first) => {
            let length = match first {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                _ => 4,
            };
            if bytes.get(at + 1 + length) == Some(&b'\'') { at + 2 + length } else { at }
        }
        None => at,
    }
}

#[test]
fn only_code_is_left() {
    let text = r##"
let a = "in a string"; // in a comment
let b = r#"raw "in" it"#; /* in a
block */ let c = '"'; let d = '\''; fn e<'a>(x: &'a str) { g("é \" ", 'é') }
"##;
    let left = code(text);
    assert_eq!(left.lines().count(), text.lines().count());
    for gone in ["in", "raw", "block", "é", "\""] {
        assert!(!left.contains(gone), "{gone} is left in {left}");
    }
    for kept in ["let a =", "let b =", "let c =", "let d =", "fn e<'a>(x: &'a str) { g(", ") }"] {
        assert!(left.contains(kept), "{kept} is gone from {left}");
    }
}
