//! The documents are true.

use crate::sources::root;

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
