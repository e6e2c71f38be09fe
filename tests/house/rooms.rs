//! The direction between the rooms of `src`: a room may use rooms before it, never after.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{File, code, files, root};

/// Each room in order, and the rooms that it may use. What is not listed is not allowed, though
/// it may lie before: a new edge is a decision, made here.
const ROOMS: &[(&str, &[&str])] = &[
    // Pure: frames; rates and rules; the fold. No clock, no randomness, no IO.
    ("wire", &[]),
    ("limit", &["wire"]),
    ("rows", &["wire"]),
    ("log", &["wire", "limit", "rows"]),
    ("connection", &["wire", "limit", "rows", "log"]),
    ("fold", &["wire", "limit", "rows", "log", "connection"]),
    // Pure too: what each socket is owed.
    ("delivery", &["wire", "limit", "rows", "log", "connection"]),
    // The protocol from the other side, for whoever is a client: no server decides anything here.
    ("client", &["wire"]),
    // Disk.
    ("store", &["wire", "rows", "log", "connection"]),
    ("journal", &["wire", "rows", "log", "connection", "fold", "store"]),
    // Delivery's shell. It asks a trait what may be read, and knows no token.
    (
        "channel",
        &["wire", "limit", "rows", "log", "connection", "fold", "delivery", "store", "journal"],
    ),
    // Tokens. Beside delivery, not on top of it: it knows logs by their names only.
    ("auth", &["wire"]),
    // What may go to the fold, whatever face it came by.
    ("admission", &["wire", "limit", "rows", "log", "fold", "store", "journal", "channel", "auth"]),
    // Sockets and requests.
    (
        "gateway",
        &[
            "wire",
            "limit",
            "rows",
            "log",
            "connection",
            "fold",
            "store",
            "journal",
            "channel",
            "auth",
            "admission",
        ],
    ),
    // All wired together, and the commands.
    (
        "node",
        &[
            "wire",
            "limit",
            "rows",
            "log",
            "connection",
            "fold",
            "store",
            "journal",
            "channel",
            "auth",
            "admission",
            "gateway",
        ],
    ),
    ("cli", &["wire", "client", "auth", "node"]),
    ("main", &["cli", "node"]),
];

/// Rooms that decide: what they may not name. Time, chance and the outside come as arguments, and
/// whoever shares them has the lock.
const PURE: &[&str] = &["wire", "limit", "rows", "log", "connection", "fold", "delivery", "client"];
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
    "rand::",
    "tokio::",
    "RandomState",
    "DefaultClock",
    "Mutex",
    "RwLock",
    "Condvar",
    "DashMap",
];

/// What a pure room names all the same.
const EXCEPT: &[(&str, &[&str])] = &[
    // Rates are shared by all faces: under their own lock, by users' hashes, and by the machine's
    // clock where no other is handed in.
    ("limit", &["RandomState", "DefaultClock", "Mutex", "DashMap"]),
];

/// Parts of a room that may not use all that the room may, and what they may not.
const APART: &[(&str, &[&str])] = &[
    // What goes by the clock is no matter of sockets and requests.
    ("src/node/keeper/", &["gateway"]),
    // Each face without the other.
    ("src/gateway/socket/", &["gateway::http"]),
];

/// Parts of a room that use nothing of it, and of the other rooms these alone.
const ALONE: &[(&str, &[&str])] = &[
    // How frames look is no matter of who is sent them.
    ("src/channel/face/", &["wire"]),
];

/// Crates that one room hides from the others, so that they can be replaced there.
const HIDDEN: &[(&str, &[&str])] = &[
    ("bincode", &["wire"]),
    ("governor", &["limit"]),
    ("fjall", &["store"]),
    ("jsonwebtoken", &["auth"]),
    ("tokio_tungstenite", &["gateway"]),
    ("hyper", &["gateway"]),
    ("toml", &["node"]),
    ("async_nats", &["journal"]),
    ("ureq", &["cli", "journal"]),
];

/// The room that a file of `src` lies in, and how many modules deep it is.
fn room(path: &str) -> Option<(&str, usize)> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    let parts: Vec<&str> = inner.split('/').filter(|part| *part != "mod").collect();
    match parts.as_slice() {
        ["lib"] => None,
        [room, ..] => Some((room, parts.len())),
        [] => None,
    }
}

/// Rooms that code names: `crate::room`, `crate::{room, …}`, or `super::…` out of its own room.
fn named(code: &str, path: &str) -> BTreeSet<String> {
    let Some((own, depth)) = room(path) else { return BTreeSet::new() };
    let top = if own == "main" { "highwater::" } else { "crate::" };
    let squeezed: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut tops: Vec<usize> = ends(&squeezed, top);
    let out_of_it = "super::".repeat(depth);
    tops.extend(ends(&squeezed, &out_of_it));
    let known = |name: &&str| ROOMS.iter().any(|(room, _)| room == name) && *name != own;
    let mut found = BTreeSet::new();
    for at in tops {
        found.extend(heads(&squeezed[at..]).into_iter().filter(known).map(str::to_owned));
    }
    found
}

/// Where each occurrence of a path's beginning ends.
fn ends(text: &str, what: &str) -> Vec<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let whole = |at: &usize| !text[..*at].ends_with(word);
    text.match_indices(what).map(|(at, _)| at).filter(whole).map(|at| at + what.len()).collect()
}

/// First names of what follows `crate::`: one, or each in the braces' outermost list.
fn heads(rest: &str) -> Vec<&str> {
    let name =
        |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let Some(list) = rest.strip_prefix('{') else { return vec![&rest[..name(rest)]] };
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = list[begin..at].trim_start();
                found.push(&item[..name(item)]);
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found
}

fn wrong_edges(files: &[File]) -> Vec<String> {
    let allowed: BTreeMap<_, _> = ROOMS.iter().copied().collect();
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let Some((own, _)) = room(path) else { continue };
        match allowed.get(own) {
            None => wrong.push(format!("{path}: the room {own} is not in the list of rooms")),
            Some(may) => {
                let used = named(&code(text), path);
                let not = used.iter().filter(|used| !may.contains(&used.as_str()));
                wrong.extend(not.map(|used| format!("{path}: {own} may not use {used}")));
            }
        }
    }
    wrong
}

fn not_apart(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let code = code(text);
        for (part, not) in APART.iter().filter(|(part, _)| path.starts_with(part)) {
            let named = not.iter().filter(|name| code.contains(&format!("crate::{name}")));
            wrong.extend(named.map(|name| format!("{path}: {part} may not use {name}")));
        }
    }
    wrong
}

fn not_alone(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let code = code(text);
        for (part, may) in ALONE.iter().filter(|(part, _)| path.starts_with(part)) {
            let not = named(&code, path).into_iter().filter(|room| !may.contains(&&**room));
            wrong.extend(not.map(|room| format!("{path}: {part} may not use {room}")));
            let Some((whole, depth)) = room(path) else { continue };
            // Of `src/channel/face/`: one more than `src/channel/`.
            let own = part.matches('/').count() - 1;
            let out_of_it = "super::".repeat(depth + 1 - own);
            if code.contains(&out_of_it) || code.contains(&format!("crate::{whole}")) {
                wrong.push(format!("{path}: {part} may not use its room"));
            }
        }
    }
    wrong
}

/// Code without the tests at its end, which may do as they like. Tests that lie in a file of their
/// own end nothing: code may follow.
fn shipped(code: &str) -> &str {
    let begin = code.match_indices("#[cfg(test)]").map(|(at, mark)| (at, at + mark.len()));
    let inside = |(_, behind): &(usize, usize)| {
        let rest = code[*behind..].trim_start();
        rest.starts_with("mod ")
            && rest.find(['{', ';']).is_some_and(|at| rest[at..].starts_with('{'))
    };
    let end = begin.into_iter().find(inside).map_or(code.len(), |(at, _)| at);
    &code[..end]
}

fn impure(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let Some((own, _)) = room(path).filter(|(own, _)| PURE.contains(own)) else { continue };
        let (code, known) = (code(text), EXCEPT.iter().find(|(room, _)| *room == own));
        let but = |name: &&&str| !known.is_some_and(|(_, but)| but.contains(*name));
        let named = IMPURE.iter().filter(but).filter(|name| shipped(&code).contains(**name));
        wrong.extend(named.map(|name| format!("{path}: {own} is pure and names {name}")));
    }
    wrong
}

fn unhidden(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for File { path, text } in files {
        let Some((own, _)) = room(path) else { continue };
        let code = code(text);
        let strays = (HIDDEN.iter())
            .filter(|(krate, rooms)| {
                !rooms.contains(&own) && !ends(&code, &format!("{krate}::")).is_empty()
            })
            .map(|(krate, rooms)| format!("{path}: {krate} is hidden in {}", rooms.join(", ")));
        wrong.extend(strays);
    }
    wrong
}

fn rust() -> Vec<File> {
    let files = files("src", &[".rs"]);
    assert!(files.len() > 50, "the sources were not found");
    files
}

#[test]
fn a_room_uses_only_what_it_may() {
    let wrong = wrong_edges(&rust());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_part_uses_only_what_it_may() {
    let wrong = not_apart(&rust());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let gate = File::made_up("src/node/keeper/life.rs", "use crate::gateway::Gate;");
    assert_eq!(not_apart(&[gate]).len(), 1);
}

#[test]
fn a_part_that_is_alone_uses_nothing_of_its_room() {
    let wrong = not_alone(&rust());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let found = |path: &str, text: &str| !not_alone(&[File::made_up(path, text)]).is_empty();
    assert!(found("src/channel/face/mod.rs", "use super::hub::Hub;"));
    assert!(found("src/channel/face/messages.rs", "use super::super::hub::Hub;"));
    assert!(found("src/channel/face/messages.rs", "use crate::channel::Hub;"));
    assert!(found("src/channel/face/messages.rs", "use crate::delivery::Outbox;"));
    assert!(!found("src/channel/face/messages.rs", "use super::Form; use crate::wire::Id;"));
}

#[test]
fn the_list_has_one_direction() {
    for (at, (room, may)) in ROOMS.iter().enumerate() {
        for used in *may {
            let before = ROOMS.iter().position(|(known, _)| known == used);
            assert!(before.is_some_and(|before| before < at), "{room} uses {used}, not before it");
        }
    }
}

#[test]
fn every_listed_room_is_there() {
    let files = rust();
    let there: BTreeSet<_> =
        files.iter().filter_map(|file| room(&file.path)).map(|r| r.0).collect();
    for (room, _) in ROOMS {
        assert!(there.contains(room), "{room} is listed and not there");
    }
}

#[test]
fn pure_rooms_know_no_clock_no_chance_and_no_outside() {
    let wrong = impure(&rust());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn crates_stay_in_their_rooms() {
    let wrong = unhidden(&rust());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Canary: edges that must be found, in each form in which they can be written.
#[test]
fn a_forbidden_edge_is_found() {
    let found = |path: &str, text: &str| !wrong_edges(&[File::made_up(path, text)]).is_empty();
    assert!(found("src/log/append.rs", "use crate::store::Store;"));
    assert!(found("src/log/append.rs", "use crate::{wire::Id,\n    gateway::{Gate, http}};"));
    assert!(found("src/log/append.rs", "use crate::{wire::{Id, Code}, node};"));
    assert!(found("src/log/append.rs", "fn f(x: &crate::channel::Hub) {}"));
    assert!(found("src/log/append.rs", "use super::super::store::Store;"));
    assert!(found("src/log/mod.rs", "use super::store::Store;"));
    assert!(found("src/channel/hub.rs", "use crate::auth::Grants;"));
    assert!(found("src/store/read.rs", "use crate::journal;"));
    assert!(found("src/attic/mod.rs", ""), "an unknown room");
    assert!(found("src/main.rs", "use highwater::store::Store;"));
    // And what must not be found.
    assert!(!found("src/log/append.rs", "// crate::store\nlet s = \"crate::store\";"));
    assert!(!found("src/log/append.rs", "use crate::log::Logs; use super::row; mycrate::store()"));
    assert!(!found("src/gateway/mod.rs", "use crate::{auth::Grants, channel::Hub};"));
}

/// Canaries of the other two rules.
#[test]
fn impurity_and_strays_are_found() {
    let clock = File::made_up("src/fold/apply.rs", "let now = std::time::SystemTime::now();");
    assert_eq!(impure(&[clock]).len(), 1);
    let dice = File::made_up("src/connection/policy.rs", "let x: u8 = rand::random();");
    assert_eq!(impure(&[dice]).len(), 1);
    // Tests that lie in a file of their own end nothing, those in braces at the end do.
    let apart = "#[cfg(test)]\nmod tests;\n\nuse std::sync::Mutex;";
    assert_eq!(impure(&[File::made_up("src/client/mod.rs", apart)]).len(), 1);
    let inside = "use crate::wire::Id;\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}";
    assert!(impure(&[File::made_up("src/client/mod.rs", inside)]).is_empty());
    for (named, room) in [("RandomState", "rows"), ("DefaultClock", "log"), ("Mutex", "delivery")] {
        let text = format!("let it = {named}::default();");
        assert_eq!(impure(&[File::made_up(&format!("src/{room}/new.rs"), &text)]).len(), 1);
        let limits = File::made_up("src/limit/new.rs", &text);
        assert!(impure(&[limits]).is_empty(), "rates are shared, and go by a clock");
    }
    let stray = File::made_up("src/channel/pump.rs", "use fjall::Keyspace;");
    assert_eq!(unhidden(&[stray]).len(), 1);
    let mine = File::made_up("src/store/mod.rs", "use fjall::Keyspace;");
    assert!(unhidden(&[mine]).is_empty());
}

/// Routes are made in one place, where each says what it takes: no address is without that check.
#[test]
fn addresses_are_in_one_list() {
    let apart = "src/gateway/http/route.rs";
    for file in files("src/gateway", &[".rs"]) {
        let own = code(&file.text);
        for call in [".route(", ".route_service(", ".nest("] {
            assert!(file.path == apart || !own.contains(call), "{}: {call} is apart", file.path);
        }
    }
    let text = std::fs::read_to_string(root().join(apart)).unwrap();
    assert_eq!(code(&text).matches(".route(").count(), 1, "{apart}");
}
