//! The documents are true.

use std::path::Path;

use crate::sources::{root, rust};

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn ci_runs_the_readmes_test_command() {
    let readme = read("README.md");
    let command = readme
        .lines()
        .find_map(|line| line.strip_prefix("$ cargo test"))
        .map(|rest| format!("cargo test{rest}"))
        .expect("the README says how to run the tests");
    let tests = read(".ci/tests");
    assert!(
        tests.contains(&format!("{command} --no-fail-fast 2>&1")),
        ".ci/tests runs `{command}`"
    );
    let ci = read(".ci/run");
    let settings: Vec<&str> = ci
        .lines()
        .filter_map(|line| line.strip_prefix(".ci/tests "))
        .collect();
    assert_eq!(settings, ["container", "rest", "user"]);
    let last = ci.lines().last().unwrap_or_default();
    assert!(last.starts_with(".ci/tests "), ".ci/run ends with tests");
}

#[test]
fn the_readme_names_every_crate_and_file_that_it_needs() {
    let readme = read("README.md");
    for name in [
        "crates/policy",
        "crates/files",
        "crates/config",
        "crates/engine",
        "crates/control",
        "ctl",
        "daemon",
        "packaging",
        "tests",
        ".ci/run",
    ] {
        assert!(
            readme.contains(&format!("`{name}`")),
            "the README does not say what {name} is"
        );
        assert!(root().join(name).exists(), "{name} is gone");
    }
}

/// Every path in backticks that looks like one of this repository.
fn paths(page: &str) -> Vec<String> {
    read(page)
        .split('`')
        .skip(1)
        .step_by(2)
        .flat_map(str::split_whitespace)
        .filter(|word| {
            ["crates/", "daemon/", "ctl/", "tests/", "packaging/", ".ci/"]
                .iter()
                .any(|folder| word.starts_with(folder))
        })
        .map(|word| word.trim_end_matches(',').to_owned())
        .collect()
}

#[test]
fn every_file_that_the_architecture_names_exists() {
    for (page, least) in [("ARCHITECTURE.md", 40), ("CONTRIBUTING.md", 15)] {
        let paths = paths(page);
        assert!(paths.len() >= least, "{page} names {} files", paths.len());
        for path in paths {
            assert!(root().join(&path).exists(), "{page} names {path}");
        }
    }
}

/// The words in backticks of a page, outside of its blocks.
fn code_words(page: &str) -> Vec<String> {
    let text = read(page);
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|text| text.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_module_and_type_that_the_architecture_names_exists() {
    let sources = rust();
    let mut count = 0;
    for word in code_words("ARCHITECTURE.md") {
        if Path::new(&word).extension().is_some_and(|end| end == "rs") {
            let is_it = |path: &str| path == word || path.ends_with(&format!("/{word}"));
            let exists = sources.iter().any(|source| is_it(&source.path));
            assert!(exists, "ARCHITECTURE.md names {word}");
            count += 1;
        } else if word.starts_with(char::is_uppercase)
            && !word.contains([' ', '/', '.', '-', '=', '[', '$'])
        {
            for name in word.split("::").map(|name| name.trim_end_matches("()")) {
                let is_name = |found: &str| found == name;
                let exists = sources.iter().any(|source| {
                    let words = source
                        .text
                        .split(|character: char| !character.is_alphanumeric() && character != '_');
                    words.into_iter().any(is_name)
                });
                assert!(
                    exists,
                    "ARCHITECTURE.md names {word}, and no source has {name}"
                );
            }
            count += 1;
        }
    }
    assert!(count >= 40, "{count} modules and types");
}

/// The words in the arms of `Reason::as_str`.
fn reasons() -> Vec<String> {
    let source = read("crates/policy/src/decision.rs");
    let (_, body) = source.split_once("impl Reason {").expect("the words");
    let body = body.split("\n}\n").next().unwrap_or_default();
    let words: Vec<String> = body
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split('"').nth(1))
        .filter(|word| *word != "allow")
        .map(str::to_owned)
        .collect();
    assert!(words.len() >= 12, "{words:?}");
    words
}

/// A document lists these reasons and no other.
fn assert_lists_every_reason(document: &str, listed: &[String]) {
    let (mut wanted, mut listed) = (reasons(), listed.to_vec());
    wanted.sort();
    listed.sort();
    assert_eq!(listed, wanted, "the reasons in {document}");
}

#[test]
fn h6_k5_specification_and_manual_list_every_reason() {
    let manual = read("packaging/man/reasons.roff");
    let listed: Vec<String> = manual
        .split("\n.TP\n.B ")
        .skip(1)
        .map(|entry| {
            let (word, text) = entry.split_once('\n').expect("a text");
            let sentences = text.lines().filter(|line| line.ends_with('.')).count();
            assert!(sentences >= 2, "{word}: what it means, and what to do");
            word.to_owned()
        })
        .collect();
    assert_lists_every_reason("packaging/man/reasons.roff", &listed);

    let specification = read("SPEC.md");
    let (_, line) = specification.split_once("\nReasons: ").expect("the line");
    let line = line.split("\n\n").next().unwrap_or_default();
    let listed: Vec<String> = line
        .split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();
    assert_lists_every_reason("SPEC.md", &listed);
}
