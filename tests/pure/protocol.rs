//! The definition of the frames against its version and against `docs/protocol.md`.

use std::path::PathBuf;

use highwater::wire::codec::decode;
use highwater::wire::version::{LAYOUT, PROTOCOL};
use highwater::wire::{ClientFrame, Code, Encoding, Frame, MAX_FRAME_BYTES, ServerFrame};

/// The files that are the definition.
const DEFINITION: &[&str] =
    &["frame.rs", "client.rs", "server.rs", "record.rs", "id.rs", "position.rs", "code.rs"];

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn document() -> String {
    read("docs/protocol.md")
}

fn definition() -> String {
    DEFINITION.iter().map(|file| code_only(&read(&format!("src/wire/{file}")))).collect()
}

/// The code of a file, one line to a line, without comments.
fn code_only(source: &str) -> String {
    let mut code = String::new();
    for line in source.lines() {
        let mut quoted = false;
        let mut characters = line.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '/' if !quoted && characters.peek() == Some(&'/') => break,
                '\\' if quoted => {
                    code.push(character);
                    code.extend(characters.next());
                    continue;
                }
                '"' => quoted = !quoted,
                _ => {}
            }
            code.push(character);
        }
        code.push('\n');
    }
    code
}

#[test]
fn the_layout_moves_only_with_its_version() {
    let code: String = definition().split_whitespace().collect();
    let layout = format!("{PROTOCOL}:{}", blake3::hash(code.as_bytes()).to_hex());
    assert_eq!(
        layout,
        LAYOUT,
        "src/wire/{{{}}} changed. If the bytes of a frame changed in another way than by fields at \
         a body's end or by new kinds, raise PROTOCOL in src/wire/version.rs and keep reading the \
         old one. In any case bring docs/protocol.md up to date, write the vectors anew \
         (HIGHWATER_WRITE_VECTORS=1 cargo test --test pure wire::vectors), read their diff, then \
         set LAYOUT in src/wire/version.rs to the value on the left.",
        DEFINITION.join(","),
    );
}

#[test]
fn comments_and_white_space_are_not_layout() {
    let code =
        code_only("/// Doc.\npub struct A { // why\n    a: &'static str = \"x // \\\" // y\",\n}");
    assert_eq!(code, "\npub struct A { \n    a: &'static str = \"x // \\\" // y\",\n}\n");
}

/// A structure or an enum of the definition: its name, and its fields or variants in order.
struct Shape {
    name: String,
    is_enum: bool,
    members: Vec<String>,
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for character in name.chars() {
        if character.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(character.to_lowercase());
    }
    out
}

/// The shapes with named members; a member is told by its indent of four columns.
fn shapes() -> Vec<Shape> {
    let mut shapes: Vec<Shape> = vec![];
    let mut inside = false;
    for line in definition().lines() {
        let opened = ["pub struct ", "pub enum "].iter().position(|head| line.starts_with(head));
        if let (Some(which), true) = (opened, line.ends_with('{')) {
            let name = line.split_whitespace().nth(2).unwrap().to_owned();
            shapes.push(Shape { name, is_enum: which == 1, members: vec![] });
            inside = true;
        } else if line.starts_with('}') {
            inside = false;
        } else if let (true, Some(member)) = (inside, line.strip_prefix("    ")) {
            let shape = shapes.last_mut().unwrap();
            let name: String = member
                .trim_start_matches("pub ")
                .chars()
                .take_while(|character| character.is_alphanumeric() || *character == '_')
                .collect();
            let wanted = shape.is_enum || member.starts_with("pub ");
            if wanted && !member.starts_with([' ', '#', '}']) && !name.is_empty() {
                shape.members.push(if shape.is_enum { snake(&name) } else { name });
            }
        }
    }
    shapes
}

/// The frames' own structures, and what the document shows in another way.
fn is_shared(shape: &Shape) -> bool {
    let shown_elsewhere = ["Id", "Place", "Payload", "Code", "Class", "BadRecord"];
    !body_names().contains(&shape.name) && !shown_elsewhere.contains(&shape.name.as_str())
}

/// Number, name and body of each frame, as the tables give them.
fn frames() -> Vec<(u32, String, String)> {
    let code = definition();
    let row = |line: &str| {
        let mut words = line.strip_prefix("        ")?.split(' ');
        let number = words.next()?.parse().ok()?;
        let name = words.next()?.to_owned();
        let body = words.next()?.split_once('(')?.1.split_once(')')?.0.to_owned();
        Some((number, name, body))
    };
    code.lines().filter_map(row).collect()
}

fn body_names() -> Vec<String> {
    frames().into_iter().map(|(_, _, body)| body).collect()
}

#[test]
fn the_definition_is_read_as_it_is_written() {
    let kinds = |kinds: &[(u32, &str)]| {
        kinds.iter().map(|(kind, name)| (*kind, (*name).to_owned())).collect::<Vec<_>>()
    };
    let wanted = [kinds(ClientFrame::KINDS), kinds(ServerFrame::KINDS)].concat();
    let found: Vec<_> = frames().into_iter().map(|(kind, name, _)| (kind, name)).collect();
    assert_eq!(found, wanted);
    let shapes = shapes();
    for body in body_names() {
        assert!(shapes.iter().any(|shape| shape.name == body), "no fields of {body}");
    }
    for shape in shapes.iter().filter(|shape| shape.name != "Payload") {
        assert!(!shape.members.is_empty(), "{}", shape.name);
    }
    assert!(shapes.iter().filter(|shape| is_shared(shape)).count() > 20);
}

#[test]
fn every_frame_stands_in_the_document() {
    let document = document();
    for (kind, name, _) in frames() {
        let row = format!("\n| {kind} | `{name}` |");
        assert!(document.contains(&row), "docs/protocol.md §5 or §6: no row {row:?}");
    }
}

/// The first words in backquotes of the rows of a section's tables.
fn rows(section: &str) -> Vec<String> {
    let name = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(name).collect()
}

#[test]
fn every_field_of_a_frame_stands_in_its_section_in_order() {
    let document = document();
    let shapes = shapes();
    for (kind, name, body) in frames() {
        if body == "Later" {
            continue;
        }
        let heading = format!("{name} ({kind})");
        let section = document
            .split("\n### ")
            .find(|section| section.lines().next().is_some_and(|line| line.contains(&heading)))
            .unwrap_or_else(|| panic!("docs/protocol.md has no section \"### {heading}\""));
        let section = section.split("\n## ").next().unwrap();
        let fields = &shapes.iter().find(|shape| shape.name == body).unwrap().members;
        assert_eq!(&rows(section), fields, "docs/protocol.md, section {heading}");
    }
}

#[test]
fn every_shared_structure_and_enum_stands_in_the_document_in_order() {
    let document = document();
    for shape in shapes().iter().filter(|shape| is_shared(shape)) {
        let row = document
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| `{}` | ", shape.name)))
            .unwrap_or_else(|| panic!("docs/protocol.md §7 has no row `{}`", shape.name));
        let mut rest = row;
        for (index, member) in shape.members.iter().enumerate() {
            let wanted =
                if shape.is_enum { format!("{index} `{member}`") } else { format!("`{member}` ") };
            let at = rest.find(&wanted).unwrap_or_else(|| {
                panic!("docs/protocol.md §7, `{}`: no {wanted:?} in its place", shape.name)
            });
            rest = &rest[at + wanted.len()..];
        }
    }
}

#[test]
fn every_code_stands_in_the_document_as_it_is() {
    let document = document();
    for code in Code::ALL {
        let row = format!(
            "\n| {} | `{code}` | {:?} | {} | {} |\n",
            code.number(),
            code.class(),
            code.status(),
            code.advice(),
        );
        assert!(document.contains(&row), "docs/protocol.md §9: no row {row}");
    }
}

#[test]
fn a_code_lies_in_the_range_of_its_class() {
    use highwater::wire::Class;
    for code in Code::ALL {
        let range = match code.class() {
            Class::Transient => 1..32,
            Class::Permanent => 32..64,
            Class::Reconnect | Class::Stop => 64..96,
            Class::Request => 96..128,
        };
        assert!(range.contains(&code.number()), "{code}");
        assert_eq!(Code::from_number(code.number()), Some(*code));
        assert_eq!(Code::from_name(code.name()), Some(*code));
    }
}

/// The bytes of a block of the document: pairs of digits, up to two spaces in a row.
fn block(document: &str, heading: &str) -> Vec<u8> {
    let block = document.split(heading).nth(1).unwrap().split("```").nth(1).unwrap();
    let pairs = block.lines().flat_map(|line| {
        let bytes = line.trim_start().split("  ").next().unwrap_or_default();
        bytes.split_whitespace()
    });
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

#[test]
fn the_examples_of_the_document_are_true() {
    fn same<F: Frame + PartialEq + std::fmt::Debug>(document: &str, name: &str) {
        let bytes = block(document, &format!("**Example: a `{name}`**"));
        let line = document.lines().find(|line| line.starts_with(&format!("{{\"{name}\":")));
        let read = |bytes: &[u8], encoding| {
            let frames: Result<Vec<(F, usize)>, _> =
                decode(bytes, encoding, MAX_FRAME_BYTES).collect();
            let mut frames = frames.unwrap();
            assert_eq!(frames.len(), 1);
            frames.remove(0).0
        };
        let frame = read(&bytes, Encoding::Bincode);
        assert_eq!(frame, read(line.unwrap().as_bytes(), Encoding::Json));
        assert_eq!(highwater::wire::codec::message(&frame, Encoding::Bincode), bytes);
    }
    let document = document();
    same::<ClientFrame>(&document, "hello");
    same::<ServerFrame>(&document, "records");
}

#[test]
fn the_limits_of_the_document_are_those_of_the_code() {
    use highwater::wire::*;
    let document = document();
    let section = document.split("\n## 2").next().unwrap();
    for (row, number) in [
        ("frame", MAX_FRAME_BYTES),
        ("log name", name::MAX_NAME_BYTES),
        ("key of a record", MAX_KEY_BYTES),
        ("kind of a record", MAX_KIND_BYTES),
        ("headers of a record", MAX_HEADERS),
        ("headers of a record", MAX_HEADER_BYTES),
        ("items in one `append`", MAX_ITEMS),
        ("writers in one `hello`", MAX_WRITERS),
        ("capabilities", MAX_CAPABILITIES),
        ("capabilities", MAX_CAPABILITY_BYTES),
        ("`client` in `hello`", MAX_CLIENT_BYTES),
    ] {
        let line = section.lines().find(|line| line.starts_with(&format!("| {row} |"))).unwrap();
        let numbers: Vec<&str> = line.split(|c: char| !c.is_ascii_digit()).collect();
        assert!(numbers.contains(&number.to_string().as_str()), "{number} in {line}");
    }
}
