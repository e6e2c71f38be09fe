//! What is planted in what, and who is to blame: on made-up files.

use std::ops::Range;
use std::path::PathBuf;

use super::blame::{Blamed, Regions, Told, blame};
use super::edit::{Fault, Region, plain, switched};
use super::place::{Form, Place, find};

/// The bytes of the one place that reads so.
fn at(text: &str, what: &str) -> Range<usize> {
    assert_eq!(text.matches(what).count(), 1, "{what}");
    let start = text.find(what).unwrap();
    start..start + what.len()
}

fn found(text: &str, what: &str) -> Result<Place, &'static str> {
    find(&syn::parse_file(text).unwrap(), &at(text, what))
}

/// What is replaced by what, numbered from 1.
fn faults(text: &str, all: &[(&str, &str)]) -> Vec<(Fault, Place)> {
    let fault = |(before, (what, put)): (usize, &(&str, &str))| {
        let fault =
            Fault { number: before + 1, span: at(text, what), replacement: (*put).to_owned() };
        (fault, found(text, what).unwrap())
    };
    all.iter().enumerate().map(fault).collect()
}

/// Without what only looks differ by.
fn packed(text: &str) -> String {
    text.replace("crate::planted::on", "on").split_whitespace().collect::<Vec<_>>().join(" ")
}

fn planted(text: &str, all: &[(&str, &str)]) -> String {
    let (new, regions) = switched(text, &faults(text, all));
    syn::parse_file(&new).unwrap();
    assert_eq!(regions.len(), all.len());
    packed(&new)
}

#[test]
fn an_operator_is_there_with_all_that_it_joins() {
    let new = planted("fn f() -> bool { a.b(1) + c < d * 2 }", &[("<", ">=")]);
    assert_eq!(
        new,
        "fn f() -> bool { (if on(1) { a.b(1) + c >= d * 2 } else { a.b(1) + c < d * 2 }) }"
    );
}

/// The outer fault has the inner expression as it was: only one is on at a time.
#[test]
fn a_fault_within_a_fault_is_in_its_sound_part_alone() {
    let new = planted("fn f() -> bool { a + b < c }", &[("+", "-"), ("<", ">")]);
    let inner = "(if on(1) { a - b } else { a + b })";
    assert_eq!(
        new,
        format!("fn f() -> bool {{ (if on(2) {{ a + b > c }} else {{ {inner} < c }}) }}")
    );
}

#[test]
fn two_faults_of_one_operator_stand_in_a_row() {
    let text = "fn f() -> bool { a < b }";
    let mut both = faults(text, &[("<", ">")]);
    both.push((
        Fault { number: 2, replacement: "==".to_owned(), ..both[0].0.clone() },
        both[0].1.clone(),
    ));
    let new = packed(&switched(text, &both).0);
    let second = "(if on(2) { a == b } else { a < b })";
    assert_eq!(new, format!("fn f() -> bool {{ (if on(1) {{ a > b }} else {{ {second} }}) }}"));
}

#[test]
fn a_body_returns_before_its_first_statement() {
    let new = planted("fn f(&self) -> u8 { self.a + 1 }", &[("self.a + 1", "0"), ("+", "-")]);
    assert_eq!(
        new,
        "fn f(&self) -> u8 { if on(1) { return 0; } \
         (if on(2) { self.a - 1 } else { self.a + 1 }) }"
    );
}

#[test]
fn an_arm_is_left_out_by_its_pattern() {
    let text = "fn f(x: u8) { match x { 1 | 2 => a(), _ => {} } }";
    assert_eq!(
        planted(text, &[("1 | 2 => a(),", "")]),
        "fn f(x: u8) { match x { 1 | 2 if !on(1) => a(), _ => {} } }"
    );
}

#[test]
fn a_guard_and_what_is_in_it_are_switched() {
    let text = "fn f(x: u8) { match x { y if y >= 1 => a(), _ => {} } }";
    assert_eq!(
        planted(text, &[("y >= 1", "true"), (">=", "<")]),
        "fn f(x: u8) { match x { y if (if on(1) { true } else { \
         (if on(2) { y < 1 } else { y >= 1 }) }) => a(), _ => {} } }"
    );
}

#[test]
fn a_field_is_left_to_the_rest() {
    let text = "fn f() -> S { S { a: b - 1, c, ..d } }";
    assert_eq!(
        planted(text, &[("a: b - 1,", "")]),
        "fn f() -> S { (if on(1) { S { c, ..d } } else { S { a: b - 1, c, ..d } }) }"
    );
}

#[test]
fn a_sign_goes_with_what_it_is_for() {
    let new = planted("fn f() { if !a.b() && !c {} }", &[("&&", "||")]);
    assert_eq!(new, "fn f() { if (if on(1) { !a.b() || !c } else { !a.b() && !c }) {} }");
    let text = "fn f() -> bool { !a.b() }";
    assert_eq!(
        planted(text, &[("!", "")]),
        "fn f() -> bool { (if on(1) { a.b() } else { !a.b() }) }"
    );
}

/// A constant cannot ask; a function that no constant calls need not be one.
#[test]
fn a_function_for_constants_becomes_a_plain_one() {
    let text = "impl S { pub const fn f(self) -> u8 { self.a + 1 } }";
    let (new, regions) = switched(text, &faults(text, &[("+", "-")]));
    assert!(packed(&new).starts_with("impl S { pub fn f(self) -> u8 { (if on(1)"), "{new}");
    assert_eq!(regions[0].no_constant.as_deref(), Some("f"));
}

#[test]
fn what_cannot_be_switched_says_so() {
    for (text, what) in [
        ("const A: u8 = 1 + 2;", "+"),
        ("fn f() { const A: u8 = 1 + 2; }", "+"),
        ("fn f() -> [u8; 1 + 2] { todo() }", "+"),
        ("fn f() { match x { A if let Some(b) = c && d => {} _ => {} } }", "&&"),
        ("fn f() { if let Some(b) = c && d {} }", "&&"),
        ("fn f() -> impl Fn() { g() }", "g()"),
        ("fn f() { g!(a < b) }", "<"),
    ] {
        assert!(found(text, what).is_err(), "{text}");
    }
    assert_eq!(
        found("fn f() { if let Some(b) = c && d < e {} }", "<").unwrap().form,
        Form::Expression
    );
}

/// Characters of more than a byte, and faults that overlap.
#[test]
fn plain_faults_stand_in_for_what_they_replace() {
    let text = "fn f() -> u8 { \"é\"; a+b }\nfn g() { c-d }";
    let all = faults(text, &[("\"é\"; a+b", "0"), ("+", "-"), ("c-d", "()")]);
    let (new, regions) = plain(text, &all);
    assert_eq!(packed(&new), "fn f() -> u8 { 0 } fn g() { () }");
    let numbers: Vec<_> = regions.iter().map(|region| region.number).collect();
    assert_eq!(numbers, [1, 3]);
    assert_eq!(&new[regions[1].own.clone()], " () ");
}

fn told(file: &str, message: &str, span: Range<usize>) -> Told {
    let span = serde_json::json!({
        "file_name": file, "byte_start": span.start, "byte_end": span.end, "is_primary": true,
    });
    let told = serde_json::json!({ "level": "error", "message": message, "spans": [span] });
    serde_json::from_value(told).unwrap()
}

/// Whose fault an error is that stands where the planted text reads so.
fn blamed(new: &str, regions: &[Region], what: &str) -> Vec<(usize, bool)> {
    let regions = Regions::from([(PathBuf::from("src/a.rs"), regions.to_vec())]);
    let told = told("tests/world/../../src/a.rs", "not so", at(new, what));
    blame(&told, &regions).into_iter().map(|Blamed { number, own, .. }| (number, own)).collect()
}

#[test]
fn the_innermost_is_to_blame() {
    let text = "fn f() -> bool { x(); a + b < c }\nfn g() { y() }";
    let all = faults(text, &[("+", "-"), ("<", ">")]);
    let (new, regions) = switched(text, &all);
    assert_eq!(blamed(&new, &regions, "a  -  b"), [(1, true)], "its own words");
    assert_eq!(blamed(&new, &regions, "a + b  >"), [(2, true)], "{new}");
    assert_eq!(blamed(&new, &regions, "{ a + b })"), [(1, false)], "what is around it");
    assert_eq!(blamed(&new, &regions, "x()"), [(1, false), (2, false)], "the same function");
    assert_eq!(blamed(&new, &regions, "y()"), [], "nobody");
}

#[test]
fn what_a_constant_calls_stays_one() {
    let text = "const fn f() -> u8 { a + b }\nconst F: u8 = f();";
    let (new, regions) = switched(text, &faults(text, &[("+", "-")]));
    let regions = Regions::from([(PathBuf::from("src/a.rs"), regions)]);
    let message = "cannot call non-const function `a::f` in constants";
    let blamed = blame(&told("src/b.rs", message, at(&new, "F: u8 = f()")), &regions);
    assert_eq!(blamed.len(), 1);
}
