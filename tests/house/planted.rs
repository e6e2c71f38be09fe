//! The canary's table: each line that it breaks is still there, once. (`make canary` breaks them.)

use std::collections::BTreeSet;
use std::fs;

use super::plants::{PLANTS, Plant};
use super::source::root;

/// What is wrong with a fault, by the text of its file.
fn wrong(plant: &Plant, text: &str) -> Option<String> {
    let (lines, parts) = (text.matches(plant.at).count(), plant.at.matches(plant.is).count());
    let Plant { name, file, .. } = plant;
    (lines != 1 || parts != 1 || plant.is == plant.put).then(|| {
        format!("{name}: its line is {lines} times in {file}, and what is broken {parts} times")
    })
}

#[test]
fn every_line_to_be_broken_is_there_once() {
    let text = |plant: &Plant| fs::read_to_string(root().join(plant.file)).unwrap_or_default();
    let wrong: Vec<_> = PLANTS.iter().filter_map(|plant| wrong(plant, &text(plant))).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn faults_have_names_of_their_own() {
    let names: BTreeSet<_> = PLANTS.iter().map(|plant| plant.name).collect();
    assert_eq!(names.len(), PLANTS.len());
    assert!(
        PLANTS.iter().filter(|plant| plant.world).count() >= 12,
        "too few to say that it looks"
    );
}

/// Tests that the table names are there, where it says.
#[test]
fn tests_that_find_them_are_there() {
    let all = super::source::files("tests", &[".rs"]);
    for (program, test) in PLANTS.iter().filter_map(|plant| plant.test) {
        let name = test.rsplit("::").next().unwrap();
        let folder = format!("tests/{program}/");
        let here = all.iter().filter(|file| file.path.starts_with(&folder));
        let found = here.filter(|file| file.text.contains(&format!("fn {name}("))).count();
        assert_eq!(found, 1, "{program}: {test}");
    }
}

#[test]
fn a_line_that_is_gone_is_found() {
    let plant = &PLANTS[0];
    assert_eq!(wrong(plant, plant.at), None);
    assert!(wrong(plant, "").is_some());
    assert!(wrong(plant, &plant.at.repeat(2)).is_some());
}
