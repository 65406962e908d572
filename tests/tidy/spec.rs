//! Every point of the specification that is built has a test that names it.

use crate::sources::rust;

/// The ids that this version covers. An id joins the list with the issue that builds it.
const BUILT: [&str; 41] = [
    "L1", "L2", "L3", "L5", "L6", "L7", "L8", "L11", "C1", "C2", "C3", "C4", "C5", "C7", "P1", "P2", "P3", "P4",
    "P5", "P6", "P7", "P9", "P10", "P11", "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8", "H11", "S1", "S2", "S4",
    "R1", "R2", "R3", "A1", "A2",
];

#[test]
fn every_built_point_has_a_test_that_names_it() {
    let tests: Vec<String> = rust().iter().map(|source| test_names(&source.text)).collect();
    let missing: Vec<&str> = BUILT
        .into_iter()
        .filter(|id| {
            let prefix = format!(" {}_", id.to_lowercase());
            !tests.iter().any(|names| names.contains(&prefix))
        })
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn the_decision_tables_are_long_enough() {
    let cases = crate::sources::root().join("tests/cases");
    let rows: usize = std::fs::read_dir(cases)
        .expect("the tables")
        .flatten()
        .map(|table| std::fs::read_to_string(table.path()).expect("a table"))
        .map(|text| text.lines().filter(|line| line.starts_with("[[")).count())
        .sum();
    assert!(rows >= 150, "{rows} rows");
}

/// The names of a file's test functions, each after a blank.
fn test_names(text: &str) -> String {
    let mut names = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        let function = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "));
        if let Some(name) = function {
            names.push(' ');
            names.push_str(name);
        }
    }
    names
}
