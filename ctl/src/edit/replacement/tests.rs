//! Tests of the replacement of a file.

use std::os::unix::fs::symlink;

use super::*;

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config.toml");
    std::fs::write(&file, content).expect("a new file");
    (directory, file)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("our own directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn w3_a_replaced_file_keeps_its_mode_and_leaves_no_other_file() {
    let (directory, file) = file("old");
    std::fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("our own file");
    let replacement = Replacement::of(&file).expect("a lock");
    replacement
        .replace(Some("old"), Some("new"))
        .expect("replaced");
    drop(replacement);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "new");
    assert_eq!(file.metadata().expect("the file").mode() & 0o7777, 0o640);
    assert_eq!(names(directory.path()), ["config.toml"]);
}

#[test]
fn w3_a_file_that_changed_meanwhile_is_left_alone() {
    let (directory, file) = file("theirs");
    let replacement = Replacement::of(&file).expect("a lock");
    let refused = replacement.replace(Some("old"), Some("new"));
    let refused = refused.expect_err("another content").to_string();
    assert!(
        refused.contains("was changed by another program"),
        "{refused}"
    );
    replacement
        .replace(None, Some("new"))
        .expect_err("a file that is new");
    drop(replacement);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "theirs");
    assert_eq!(names(directory.path()), ["config.toml"]);
}

#[test]
fn w3_the_target_of_a_link_is_replaced_and_the_link_stays() {
    let (directory, file) = file("old");
    let elsewhere = tempfile::tempdir().expect("a directory");
    let link = elsewhere.path().join("config.toml");
    symlink(&file, &link).expect("a new name");
    let replacement = Replacement::of(&link).expect("a lock");
    replacement
        .replace(Some("old"), Some("new"))
        .expect("replaced");
    drop(replacement);
    assert!(link.is_symlink());
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "new");
    assert_eq!(names(directory.path()), ["config.toml"]);
}

#[test]
fn w3_files_that_a_replacement_would_part_from_their_names_are_not_ours() {
    let (directory, file) = file("old");
    assert_eq!(obstacle(&file), None);
    assert_eq!(obstacle(&directory.path().join("new/config.toml")), None);
    let found = obstacle(directory.path()).expect("a directory");
    assert!(found.contains("not a regular file"), "{found}");
    let dangling = directory.path().join("dangling");
    symlink("nowhere", &dangling).expect("a new name");
    let found = obstacle(&dangling).expect("a dangling link");
    assert!(found.contains("does not exist"), "{found}");
    std::fs::hard_link(&file, directory.path().join("other")).expect("a new name");
    let found = obstacle(&file).expect("two names");
    assert!(found.contains("hard link"), "{found}");
}

#[test]
fn w3_a_new_file_is_made_and_taken_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("codex/config.toml");
    let replacement = Replacement::of(&file).expect("a lock");
    replacement.replace(None, Some("new")).expect("made");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "new");
    assert_eq!(file.metadata().expect("the file").mode() & 0o7777, 0o600);
    replacement.replace(Some("new"), None).expect("taken back");
    assert!(!file.exists());
}
