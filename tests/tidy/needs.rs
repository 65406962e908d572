//! A test that cannot run on a machine says so, in the one way that `.ci/tests` counts.

use crate::sources::{Source, rust};

/// An early end of a test within this many lines of a question about root belongs to that question.
const NEAR: usize = 4;

fn tests() -> impl Iterator<Item = Source> {
    rust().into_iter().filter(Source::is_test)
}

/// The file and line of a test.
fn place(source: &Source, number: usize) -> String {
    format!("{}:{}", source.path, number + 1)
}

#[test]
fn tests_ask_the_machine_for_root_and_no_one_else() {
    // The first file answers. The second one refuses to boot a machine, which fails the test.
    const MAY: [&str; 2] = ["tests/src/machine.rs", "tests/system/machine.rs"];
    for source in tests().filter(|source| !MAY.contains(&source.path.as_str())) {
        for (number, line) in source.text.lines().enumerate() {
            // The tests of the crates below cannot use the package `e2e`.
            let elsewhere = source.path.starts_with("tests/")
                // It depends on no other package.
                && !source.path.starts_with("tests/bench/")
                && line.contains("is_root()")
                && !line.contains("machine::is_root()");
            // Written so that this file does not match itself.
            let asks = elsewhere && !source.path.ends_with("tidy/needs.rs");
            assert!(
                !asks,
                "{}: `e2e::machine` knows: {line}",
                place(&source, number)
            );
        }
    }
}

#[test]
fn a_test_that_ends_early_without_root_says_so() {
    for source in tests() {
        let lines: Vec<&str> = source.text.lines().collect();
        for (number, _) in lines
            .iter()
            .enumerate()
            .filter(|(_, line)| line.contains("if !machine::is_root()"))
        {
            let below = lines.iter().skip(number + 1).take(NEAR);
            assert!(
                !below.clone().any(|line| line.trim() == "return;"),
                "{}: ask `machine::has(Need::Root)`, which says so",
                place(&source, number)
            );
        }
    }
}
