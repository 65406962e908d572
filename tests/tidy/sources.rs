//! The tree's files, and rules about their names, sizes and first lines.

use std::path::{Path, PathBuf};

/// A source file.
pub(crate) struct Source {
    /// Relative to the root of the tree, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// The shipped part: without the tests at the end of the file.
    pub(crate) fn product(&self) -> &str {
        self.text
            .split("#[cfg(test)]\nmod tests")
            .next()
            .unwrap_or(&self.text)
    }

    /// Whether it does not ship: a test, a bench or an example.
    pub(crate) fn is_test(&self) -> bool {
        ["tests/", "benches/", "examples/"].iter().any(|folder| {
            self.path.starts_with(folder) || self.path.contains(&format!("/{folder}"))
        }) || self.path.ends_with("/tests.rs")
    }
}

/// The root directory of the repository.
pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("the tests stand in the tree")
        .to_path_buf()
}

/// All Rust files, fuzz targets included.
pub(crate) fn rust() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in ["crates", "ctl", "daemon", "packaging", "tests"] {
        let is_rust = |path: &Path| path.extension().is_some_and(|extension| extension == "rs");
        collect(&root().join(folder), &is_rust, &mut found);
    }
    assert!(found.len() > 30, "the tree was not found");
    found
}

/// All files with text: sources, pages, scripts, units, tables.
pub(crate) fn texts() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), &|_| true, &mut found);
    assert!(found.len() > 300, "the tree was not found");
    found
}

/// Folders that hold no files of the tree.
const SKIPPED: [&str; 5] = ["target", ".git", "corpus", "artifacts", "__pycache__"];

fn collect(folder: &Path, wanted: &dyn Fn(&Path) -> bool, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(folder)
        .expect("a folder of the tree")
        .flatten()
    {
        let path = entry.path();
        let is_skipped = SKIPPED.iter().any(|name| path.ends_with(name));
        if is_skipped || path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            collect(&path, wanted, found);
        } else if wanted(&path) {
            let relative = path.strip_prefix(root()).expect("below the root");
            let path = relative.to_string_lossy().into_owned();
            // A file that is not UTF-8 has no text to check.
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                found.push(Source { path, text });
            }
        }
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    for source in rust() {
        let documented = source.text.starts_with("//! ") || source.text.starts_with("#![");
        assert!(documented, "{} does not begin with `//! …`", source.path);
    }
}

#[test]
fn product_files_hold_one_idea() {
    for source in rust().iter().filter(|source| !source.is_test()) {
        let lines = source.text.lines().count();
        assert!(
            lines <= 600,
            "{} has {lines} lines; 600 is the most",
            source.path
        );
    }
}

#[test]
fn names_say_something() {
    const NOTHING: [&str; 8] = [
        "util", "utils", "helpers", "common", "misc", "manager", "types", "mod",
    ];
    for source in rust() {
        for part in source.path.trim_end_matches(".rs").split('/') {
            assert!(
                !NOTHING.contains(&part),
                "{}: {part:?} says nothing",
                source.path
            );
        }
    }
}

#[test]
fn nothing_is_left_for_later() {
    // Written so that this file does not match itself.
    let marks = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let ignore = ["#[", "ignore"].concat();
    for source in rust() {
        for (number, line) in source.text.lines().enumerate() {
            let left =
                marks.iter().any(|mark| line.contains(mark.as_str())) || line.contains(&ignore);
            assert!(!left, "{}:{}: {line}", source.path, number + 1);
        }
    }
}
