//! Every implemented point of the specification has a test that names it.

use crate::sources::rust;

/// The ids that this version covers. An id joins the list with the issue that builds it.
const BUILT: &[&str] = &[
    "L1", "L2", "L3", "L4", "L5", "L6", "L7", "L8", "L10", "L11", "L12", "L13", "C1", "C2", "C3",
    "C4", "C5", "C6", "C7", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P11",
    "H1", "H2", "H3", "H4", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12", "S1", "S2", "S3",
    "S4", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9", "M10", "R1", "R2", "R3", "A1",
    "A2", "K1", "K2", "K3", "K4", "K5", "B1", "B2", "E1",
];

#[test]
fn every_built_point_has_a_test_that_names_it() {
    let names: Vec<String> = rust()
        .iter()
        .flat_map(|source| test_names(&source.text))
        .collect();
    let rows: Vec<String> = tables().lines().filter_map(spec_of).collect();
    let missing: Vec<&&str> = BUILT
        .iter()
        .filter(|id| {
            let id = id.to_lowercase();
            let is_named = |name: &String| name.split('_').any(|word| word == id);
            !names.iter().any(is_named) && !rows.contains(&id)
        })
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn the_decision_tables_are_long_enough() {
    let rows = tables().lines().filter_map(spec_of).count();
    assert!(rows >= 150, "{rows} rows");
}

/// All decision tables, one after the other.
fn tables() -> String {
    std::fs::read_dir(crate::sources::root().join("tests/cases"))
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
