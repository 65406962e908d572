//! `SPEC.md` and the tree agree: every cited id exists, and every point that is built has a test.

use std::collections::BTreeSet;

use crate::sources::{root, rust, texts};

/// A point that `SPEC.md` marks with this text needs no test yet.
const NOT_BUILT: &str = "(not built yet)";

/// The letters of the sections.
const SECTIONS: &str = "LCPHSMRAKBEDJTQWO";

/// An id, and the text between it and the next id.
struct Point {
    id: String,
    text: String,
}

fn points() -> Vec<Point> {
    let specification = std::fs::read_to_string(root().join("SPEC.md")).expect("SPEC.md");
    let points: Vec<Point> = specification
        .split("\n- **")
        .skip(1)
        .filter_map(|rest| {
            let (id, text) = rest.split_once("** ")?;
            Some(Point {
                id: id.to_owned(),
                text: text.to_owned(),
            })
        })
        .collect();
    assert!(points.len() >= 60, "{} points", points.len());
    points
}

#[test]
fn every_id_in_the_specification_is_unique_and_in_a_known_section() {
    let mut seen = BTreeSet::new();
    for Point { id, .. } in points() {
        assert!(is_id(&id), "{id} is in no section that this test knows");
        assert!(seen.insert(id.clone()), "{id} is there twice");
    }
}

#[test]
fn every_built_point_has_a_test_that_names_it() {
    let names: Vec<String> = rust()
        .iter()
        .flat_map(|source| test_names(&source.text))
        .collect();
    let rows: Vec<String> = tables().lines().filter_map(spec_of).collect();
    let missing: Vec<String> = points()
        .into_iter()
        .filter(|point| !point.text.starts_with(NOT_BUILT))
        .map(|point| point.id)
        .filter(|id| {
            let id = id.to_lowercase();
            let is_named = |name: &String| name.split('_').any(|word| word == id);
            !names.iter().any(is_named) && !rows.contains(&id)
        })
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn every_id_that_is_cited_exists() {
    let known: BTreeSet<String> = points().into_iter().map(|point| point.id).collect();
    let mut unknown = Vec::new();
    let mut count = 0;
    for source in texts() {
        for (number, line) in source.text.lines().enumerate() {
            for id in cited(line) {
                count += 1;
                if !known.contains(&id) {
                    unknown.push(format!("{}:{}: {id}", source.path, number + 1));
                }
            }
        }
    }
    assert!(count >= 1000, "{count} citations");
    assert!(
        unknown.is_empty(),
        "SPEC.md does not have these:\n{}",
        unknown.join("\n")
    );
}

#[test]
fn ids_are_found_in_prose_and_in_test_names() {
    assert_eq!(cited("// By P4 and (M10), never H2O."), ["P4", "M10"]);
    assert_eq!(cited("fn l12_c6_a_tree_is_checked() {"), ["L12", "C6"]);
    assert_eq!(cited("spec = \"K5\""), ["K5"]);
    // HTTP/2 of a fixture, a hexadecimal number, a P-256 key and an image.
    assert!(cited("\"h2\" 0xC1 P-256 EC2-A1x D:C3 %C3%A9 \\xC3 a.S3").is_empty());
}

/// The ids in a line. An id is a whole word or the first part of a test's name.
fn cited(line: &str) -> Vec<String> {
    let mut found: Vec<String> = line
        .split([' ', ',', ';', '(', ')', '|', '"', '`', '*'])
        .map(|word| word.trim_end_matches(['.', ':']))
        .filter(|word| is_id(word))
        .map(str::to_owned)
        .collect();
    if let Some((_, name)) = line.split_once("fn ") {
        let parts = name.split('_').map(str::to_uppercase);
        found.extend(parts.take_while(|part| is_id(part)));
    }
    found
}

fn is_id(word: &str) -> bool {
    word.strip_prefix(|letter| SECTIONS.contains(letter))
        .is_some_and(|number| {
            matches!(number.len(), 1 | 2)
                && !number.starts_with('0')
                && number.chars().all(|digit| digit.is_ascii_digit())
        })
}

#[test]
fn the_decision_tables_are_long_enough() {
    let rows = tables().lines().filter_map(spec_of).count();
    assert!(rows >= 150, "{rows} rows");
}

/// All decision tables, one after the other.
fn tables() -> String {
    std::fs::read_dir(root().join("tests/cases"))
        .expect("the tables")
        .flatten()
        .map(|table| std::fs::read_to_string(table.path()).expect("a table"))
        .collect()
}

/// The id that a row of a decision table names.
fn spec_of(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("spec = \"")?;
    rest.split('"').next().map(str::to_lowercase)
}

/// The names of a file's test functions: those that stand below an attribute.
fn test_names(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        if line.starts_with("#[") {
            is_test |= line.contains("test");
        } else if let Some(name) = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ")
        {
            if is_test {
                names.extend(name.split('(').next().map(str::to_owned));
            }
            is_test = false;
        }
    }
    names
}
