//! A test that cannot run on a machine says so, in the one way that `.ci/tests` counts.

use crate::sources::{Source, rust};

/// How far below a question about root an early end of the test belongs to it.
const NEAR: usize = 4;

fn tests() -> impl Iterator<Item = Source> {
    rust().into_iter().filter(Source::is_test)
}

/// Where a line of a test stands.
fn place(source: &Source, number: usize) -> String {
    format!("{}:{}", source.path, number + 1)
}

#[test]
fn tests_ask_the_machine_for_root_and_no_one_else() {
    // The first answers; the second refuses to boot a machine, which fails.
    const MAY: [&str; 2] = ["tests/src/machine.rs", "tests/system/machine.rs"];
    for source in tests().filter(|source| !MAY.contains(&source.path.as_str())) {
        for (number, line) in source.text.lines().enumerate() {
            // The tests of the crates below cannot use the package `e2e`.
            let elsewhere = source.path.starts_with("tests/")
                && line.contains("is_root()")
                && !line.contains("machine::is_root()");
            // Spelt so that this file does not find itself.
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
