//! The golden vectors: what is written today must be what was written on the day they were made.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use highwater::wire::codec::{decode, message};
use highwater::wire::{ClientFrame, Encoding, Frame, MAX_FRAME_BYTES, ServerFrame};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::wire::samples;

/// Set, the vectors are written; not set, they are compared.
const WRITE: &str = "HIGHWATER_WRITE_VECTORS";

#[derive(Deserialize)]
pub struct Vector {
    pub name: String,
    pub table: String,
    pub kind: u32,
    pub frame: String,
    pub json: Box<RawValue>,
    pub hex: String,
}

impl Vector {
    pub fn bytes(&self) -> Vec<u8> {
        unhex(&self.hex)
    }

    pub fn line(&self) -> String {
        format!("{{\"{}\":{}}}\n", self.frame, self.json.get())
    }
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap();
        out
    })
}

fn path(table: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{table}.json"))
}

pub fn read(table: &str) -> Vec<Vector> {
    let text = std::fs::read_to_string(path(table)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The frames of a message, or none where any of it is bad.
pub fn all<F: Frame>(message: &[u8], encoding: Encoding) -> Option<Vec<F>> {
    decode(message, encoding, MAX_FRAME_BYTES)
        .map(|frame| frame.map(|(frame, _)| frame).ok())
        .collect()
}

fn write<F: Frame>(table: &str, samples: &[(String, F)]) {
    let lines = samples.iter().map(|(name, frame)| {
        let line = String::from_utf8(message(frame, Encoding::Json)).unwrap();
        let prefix = format!("{{\"{}\":", frame.name());
        let body = line.strip_prefix(&prefix).unwrap().strip_suffix("}\n").unwrap();
        format!(
            "{{\"name\":\"{name}\",\"table\":\"{table}\",\"kind\":{},\"frame\":\"{}\",\
             \n \"json\":{body},\n \"hex\":\"{}\"}}",
            frame.kind(),
            frame.name(),
            hex(&message(frame, Encoding::Bincode)),
        )
    });
    let text = format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"));
    std::fs::write(path(table), text).unwrap();
}

fn compare<F: Frame + PartialEq + std::fmt::Debug>(table: &str, samples: &[(String, F)]) {
    if std::env::var_os(WRITE).is_some() {
        write(table, samples);
    }
    let vectors = read(table);
    let names: Vec<_> = vectors.iter().map(|vector| vector.name.as_str()).collect();
    let wanted: Vec<_> = samples.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, wanted, "samples came or went: write the vectors with {WRITE}=1");
    for (vector, (name, frame)) in vectors.iter().zip(samples) {
        let help = "a layout changed: if it was meant, see tests/vectors/README.md";
        assert_eq!(vector.table, table, "{name}");
        assert_eq!((vector.kind, vector.frame.as_str()), (frame.kind(), frame.name()), "{name}");
        assert_eq!(vector.hex, hex(&message(frame, Encoding::Bincode)), "{name}: {help}");
        let line = String::from_utf8(message(frame, Encoding::Json)).unwrap();
        assert_eq!(vector.line(), line, "{name}: {help}");
        for (bytes, encoding) in
            [(vector.bytes(), Encoding::Bincode), (vector.line().into_bytes(), Encoding::Json)]
        {
            let frames = all::<F>(&bytes, encoding).unwrap();
            assert_eq!(frames.as_slice(), std::slice::from_ref(frame), "{name}, {encoding:?}");
        }
    }
    let kinds: BTreeSet<_> = vectors.iter().map(|vector| vector.kind).collect();
    let table: BTreeSet<_> = F::KINDS.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, table, "each kind has a vector");
}

/// Vectors of the day before bodies grew: they are read as today's of the same name, whose new
/// fields have their defaults.
fn short<F: Frame + PartialEq + std::fmt::Debug>(table: &str, samples: &[(String, F)]) {
    let vectors = read(&format!("short/{table}"));
    assert!(vectors.len() > 50);
    for vector in vectors {
        let (_, frame) = samples.iter().find(|(name, _)| *name == vector.name).unwrap();
        for (bytes, encoding) in
            [(vector.bytes(), Encoding::Bincode), (vector.line().into_bytes(), Encoding::Json)]
        {
            let frames = all::<F>(&bytes, encoding).unwrap();
            assert_eq!(frames.as_slice(), std::slice::from_ref(frame), "{}", vector.name);
        }
    }
}

#[test]
fn bodies_that_were_written_before_they_grew_are_read() {
    short::<ClientFrame>("client", &samples::client());
    short::<ServerFrame>("server", &samples::server());
}

#[test]
fn client_vectors_hold() {
    compare::<ClientFrame>("client", &samples::client());
}

#[test]
fn server_vectors_hold() {
    compare::<ServerFrame>("server", &samples::server());
}

#[test]
fn all_vectors_of_a_table_make_one_message() {
    fn check<F: Frame + PartialEq + std::fmt::Debug>(samples: Vec<(String, F)>) {
        let frames: Vec<F> = samples.into_iter().map(|(_, frame)| frame).collect();
        for encoding in Encoding::ALL {
            let message: Vec<u8> =
                frames.iter().flat_map(|frame| message(frame, encoding)).collect();
            assert_eq!(all::<F>(&message, encoding).unwrap(), frames);
        }
    }
    check(samples::client());
    check(samples::server());
}

/// Input that is not what this version writes, with what it must be read as.
#[derive(Deserialize)]
struct Odd {
    name: String,
    table: String,
    encoding: String,
    /// Hex for bincode, the text itself for JSON.
    input: String,
    /// Names of vectors of the table; absent where the input must be refused.
    reads_as: Option<Vec<String>>,
}

#[test]
fn odd_input_is_read_or_refused_as_written_down() {
    fn check<F: Frame + PartialEq + std::fmt::Debug>(odd: &Odd, samples: &[(String, F)]) {
        let (bytes, encoding) = match odd.encoding.as_str() {
            "bincode" => (unhex(&odd.input), Encoding::Bincode),
            "json" => (odd.input.clone().into_bytes(), Encoding::Json),
            other => panic!("{}: no encoding {other}", odd.name),
        };
        let named = |name: &String| &samples.iter().find(|(known, _)| known == name).unwrap().1;
        let wanted = odd.reads_as.as_ref().map(|names| names.iter().map(named).collect::<Vec<_>>());
        let frames = all::<F>(&bytes, encoding);
        let frames = frames.as_ref().map(|frames| frames.iter().collect::<Vec<_>>());
        assert_eq!(frames, wanted, "{}", odd.name);
    }
    let odds: Vec<Odd> =
        serde_json::from_str(&std::fs::read_to_string(path("odd")).unwrap()).unwrap();
    let refused = odds.iter().filter(|odd| odd.reads_as.is_none()).count();
    assert!(refused > 20 && odds.len() - refused > 10, "{refused} of {}", odds.len());
    for odd in &odds {
        match odd.table.as_str() {
            "client" => check(odd, &samples::client()),
            "server" => check(odd, &samples::server()),
            other => panic!("{}: no table {other}", odd.name),
        }
    }
}
