//! A file's text with faults in it, and where in the new text each came to be.
//!
//! Promise: with no switch on, what runs is what the file said, whatever is planted inside what;
//! and a fault's own text has no other fault in it, as only one is on at a time.

use std::collections::BTreeSet;
use std::ops::Range;

use super::place::{Form, Place};

/// A fault of one file, in bytes of it.
#[derive(Debug, Clone)]
pub struct Fault {
    pub number: usize,
    /// What is replaced.
    pub span: Range<usize>,
    pub replacement: String,
}

/// Where a fault is in the new text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Region {
    pub number: usize,
    /// The fault's own words.
    pub own: Range<usize>,
    /// All that was written for it, and what that encloses.
    pub all: Range<usize>,
    pub function: Range<usize>,
    /// The function's name, where the word `const` was taken from it.
    pub no_constant: Option<String>,
}

/// What is written at a place instead of so many bytes.
struct Edit {
    at: usize,
    /// Orders what is at one place: ends before beginnings, the inner end and the outer beginning
    /// first.
    order: (u8, isize, isize),
    cut: usize,
    text: String,
    /// Index of its fault; none for what belongs to no fault alone.
    of: Option<usize>,
}

/// Puts each fault behind its switch.
pub fn switched(text: &str, faults: &[(Fault, Place)]) -> (String, Vec<Region>) {
    let mut edits = Vec::new();
    for (of, (fault, place)) in faults.iter().enumerate() {
        let (before, after) = around(text, fault, place);
        let Range { start, end } = place.range;
        let rank = place.form as isize * 1_000_000 + fault.number as isize;
        let order = (1, -(end as isize), rank);
        edits.push(Edit { at: start, order, cut: 0, text: before, of: Some(of) });
        if !after.is_empty() {
            let order = (0, -(start as isize), -rank);
            edits.push(Edit { at: end, order, cut: 0, text: after, of: Some(of) });
        }
    }
    // A function that asks for a switch is no constant's.
    let words = faults.iter().filter_map(|(_, place)| Some(place.constant.clone()?.1));
    let words: BTreeSet<_> = words.map(|Range { start, end }| (start, end)).collect();
    for (at, end) in words {
        let text = " ".repeat(end - at);
        edits.push(Edit { at, order: (1, 0, 0), cut: end - at, text, of: None });
    }
    written(text, edits, faults)
}

/// Puts each fault in the place of what it replaces. Those that overlap an earlier one are left.
pub fn plain(text: &str, faults: &[(Fault, Place)]) -> (String, Vec<Region>) {
    let mut faults = faults.to_vec();
    faults.sort_by_key(|(fault, _)| fault.span.start);
    let mut end = 0;
    faults.retain(|(fault, _)| {
        let apart = fault.span.start >= end;
        if apart {
            end = fault.span.end;
        }
        apart
    });
    let edit = |(of, (fault, _)): (usize, &(Fault, Place))| {
        let (at, cut) = (fault.span.start, fault.span.len());
        // What is around an operator may touch it.
        let text = format!(" {} ", fault.replacement);
        Edit { at, order: (1, 0, 0), cut, text, of: Some(of) }
    };
    let edits = faults.iter().enumerate().map(edit).collect();
    written(text, edits, &faults)
}

/// What is written before a place for a fault, and what behind it.
fn around(text: &str, fault: &Fault, place: &Place) -> (String, String) {
    let Fault { number, span, replacement } = fault;
    let asked = format!("crate::planted::on({number})");
    match place.form {
        Form::Body => (format!("if {asked} {{ return {replacement}; }} "), String::new()),
        Form::Arm => (format!(" if !{asked}"), String::new()),
        Form::Expression => {
            let (head, tail) =
                (&text[place.range.start..span.start], &text[span.end..place.range.end]);
            let before = format!("(if {asked} {{ {head} {replacement} {tail} }} else {{ ");
            (before, " })".to_owned())
        }
    }
}

/// The new text, and where each fault is in it.
fn written(text: &str, mut edits: Vec<Edit>, faults: &[(Fault, Place)]) -> (String, Vec<Region>) {
    edits.sort_by_key(|edit| (edit.at, edit.order));
    let (mut new, mut read) = (String::new(), 0);
    let mut all: Vec<Option<Region>> = vec![None; faults.len()];
    for edit in &edits {
        new.push_str(&text[read..edit.at]);
        let begun = new.len();
        new.push_str(&edit.text);
        read = edit.at + edit.cut;
        let Some(of) = edit.of else { continue };
        let whole = begun..new.len();
        // The first of a fault's edits has its own words, the second ends it.
        let region =
            all[of].get_or_insert_with(|| Region { own: whole.clone(), ..Region::default() });
        region.all = region.own.start..whole.end;
    }
    new.push_str(&text[read..]);
    // What is written right at a beginning is inside, as what is written right at an end.
    let moved = |old: usize, at_it: bool| {
        let before = edits.iter().filter(|edit| edit.at < old || at_it && edit.at == old);
        before.fold(old as isize, |new, edit| new + edit.text.len() as isize - edit.cut as isize)
    };
    let regions = all.into_iter().zip(faults).map(|(region, (fault, place))| Region {
        number: fault.number,
        function: moved(place.function.start, false) as usize
            ..moved(place.function.end, true) as usize,
        no_constant: place.constant.as_ref().map(|(name, _)| name.clone()),
        ..region.unwrap_or_default()
    });
    (new, regions.collect())
}
