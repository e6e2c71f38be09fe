//! Names, patterns, ids and places: what is one, what is not, and what matches what.

use highwater::wire::{Id, MAX_OFFSET, Pattern, Place, name};
use proptest::prelude::*;

#[test]
fn names_follow_the_rule() {
    let longest = "x".repeat(name::MAX_NAME_BYTES);
    for good in ["a", "docs/42/ops", "A-Z_0.9~", "...", ".a", "a/.../b", &longest] {
        assert_eq!(name::check(good), Ok(good));
    }
    let too_long = "x".repeat(name::MAX_NAME_BYTES + 1);
    for bad in [
        "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a b", "é", "a*", "*", "a/**",
        "a\0", "a\n", "%2e", &too_long,
    ] {
        assert!(name::check(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn patterns_follow_the_rule() {
    for good in ["a", "*", "**", "*/*", "a/*/b", "a/**", "*/**", "a/*/**"] {
        assert_eq!(Pattern::parse(good).unwrap().as_str(), good);
    }
    let long = format!("{}/**", "x".repeat(name::MAX_NAME_BYTES - 2));
    for bad in [
        "", "/", "/**", "**/a", "a**", "a/***", "a*", "a/b*", "**/**", "a/**/b", "*a", "a//**",
        "../**", &long,
    ] {
        assert!(Pattern::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn patterns_match_whole_names() {
    for (pattern, name, matches) in [
        ("docs/42", "docs/42", true),
        ("docs/42", "docs/421", false),
        ("docs/42", "docs", false),
        ("docs/*", "docs/42", true),
        ("docs/*", "docs/42/ops", false),
        ("docs/*", "docs", false),
        ("*/ops", "docs/ops", true),
        ("docs/**", "docs/42", true),
        ("docs/**", "docs/42/ops", true),
        ("docs/**", "docs", false),
        ("docs/**", "docsx/42", false),
        ("*/**", "a", false),
        ("*/**", "a/b/c", true),
        ("**", "a", true),
        ("**", "a/b", true),
    ] {
        let parsed = Pattern::parse(pattern).unwrap();
        assert_eq!(parsed.matches(name), matches, "{pattern} on {name}");
    }
}

/// The rule said once more, segment by segment from the front.
fn matches(pattern: &[&str], name: &[&str]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (["**"], name) => !name.is_empty(),
        ([first, pattern @ ..], [segment, name @ ..]) => {
            (*first == "*" || first == segment) && matches(pattern, name)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn matching_agrees_with_the_rule(
        pattern in "[ab*](/[ab*]){0,3}(/\\*\\*)?",
        name in "[ab](/[ab]){0,4}",
    ) {
        let wanted = matches(
            &pattern.split('/').collect::<Vec<_>>(),
            &name.split('/').collect::<Vec<_>>(),
        );
        prop_assert_eq!(Pattern::parse(&pattern).unwrap().matches(&name), wanted);
    }

    #[test]
    fn ids_and_places_come_back_from_text(bytes: [u8; 16], batch in 0..=MAX_OFFSET, index: u32) {
        let (id, place) = (Id(bytes), Place { batch, index });
        prop_assert_eq!(id.to_string().parse(), Ok(id));
        prop_assert_eq!(place.to_string().parse(), Ok(place));
    }

    #[test]
    fn any_text_is_checked_without_a_panic(text: String) {
        let _ = (name::check(&text), Pattern::parse(&text), text.parse::<Id>());
        let _ = text.parse::<Place>();
    }
}

#[test]
fn text_that_is_no_id_or_place_is_refused() {
    assert_eq!("000102030405060708090a0b0c0d0eff".parse::<Id>().unwrap().0[15], 255);
    for bad in ["", "00", "000102030405060708090A0b0c0d0eff", "000102030405060708090a0b0c0d0efg"] {
        assert!(bad.parse::<Id>().is_err(), "{bad:?}");
    }
    for bad in ["", "1", ".", "1.", ".1", "1.2.3", "+1.2", "-1.2", "1. 2", "1.4294967296"] {
        assert!(bad.parse::<Place>().is_err(), "{bad:?}");
    }
    assert!(format!("{}.0", MAX_OFFSET + 1).parse::<Place>().is_err());
}
