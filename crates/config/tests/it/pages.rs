//! The pages have the keys of the catalogue: `codex-network-proxy.toml(5)` between its marks, and
//! `SETTINGS.md` as a whole (SPEC C3, C5, C6).
//!
//! `UPDATE_PAGES=1 cargo test -p codex-network-config --test it pages` writes both anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use codex_network_config::{KeyDocumentation, KeyTable, documentation};

const MANUAL: &str = "../../packaging/man/codex-network-proxy.toml.5";
const REFERENCE: &str = "SETTINGS.md";
/// The lines before and after a generated part of the manual page.
const BEGIN: &str = ".\\\" keys of ";
const END: &str = ".\\\" end of keys\n";

#[test]
fn c3_c5_c6_the_manual_has_the_keys_of_the_catalogue() {
    let path = path(MANUAL);
    let page = fs::read_to_string(&path).expect("the page");
    let mut tables = documentation();
    let mut written = String::new();
    let mut rest = page.as_str();
    while let Some((before, after)) = rest.split_once(BEGIN) {
        let (name, _) = after.split_once('\n').expect("a line");
        let (_, after) = after.split_once(END).expect("an end of the keys");
        let at = tables.iter().position(|table| table.name == name);
        let table = tables.remove(at.unwrap_or_else(|| panic!("no table {name}")));
        write!(written, "{before}{BEGIN}{name}\n{}{END}", roff(&table)).expect("a string");
        rest = after;
    }
    written.push_str(rest);
    let missing: Vec<String> = tables.into_iter().map(|table| table.name).collect();
    assert!(missing.is_empty(), "the page has no mark for {missing:?}");
    assert_current(&path, &page, &written);
}

#[test]
fn c3_c5_c6_the_settings_reference_has_the_keys_of_the_catalogue() {
    let path = path(REFERENCE);
    let page = fs::read_to_string(&path).unwrap_or_default();
    let mut written = String::from(
        "# Settings\n\n<!-- Generated from crates/config/src/catalogue: UPDATE_PAGES=1 cargo test -p \
         codex-network-config --test it pages -->\n\nEvery key with its kind, its default and its meaning. \
         `codex-network-proxy.toml(5)` explains files, patterns, durations\nand the other forms of \
         `[network]`. A key of a requirement bounds the key of that name in every configuration.\n",
    );
    for table in documentation() {
        written.push_str(&markdown(&table));
    }
    assert_current(&path, &page, &written);
}

#[track_caller]
fn assert_current(path: &Path, page: &str, written: &str) {
    if std::env::var_os("UPDATE_PAGES").is_some() {
        fs::write(path, written).expect("the page is written");
        return;
    }
    let lines = page.lines().zip(written.lines());
    let differing = lines.enumerate().find(|(_, (one, other))| one != other);
    assert!(
        page == written,
        "{} is not current; run this test with UPDATE_PAGES=1. It differs at {differing:?}",
        path.display()
    );
}

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

/// The keys as tagged paragraphs. Keys with the same text share one.
fn roff(table: &KeyTable) -> String {
    let mut out = String::new();
    for group in groups(&table.keys) {
        for (index, key) in group.iter().enumerate() {
            let tag = if index == 0 { ".TP" } else { ".TQ" };
            let default = key.default.as_deref();
            let default = default.map(|default| format!(" ({})", escaped(default)));
            writeln!(
                out,
                "{tag}\n\\fB{}\\fR = {}{}",
                key.name,
                escaped(&key.value),
                default.unwrap_or_default()
            )
            .expect("a string");
        }
        for sentence in group[0].about.split_inclusive(". ") {
            writeln!(out, "{}", bold(sentence.trim_end())).expect("a string");
        }
    }
    out
}

fn groups(keys: &[KeyDocumentation]) -> Vec<Vec<&KeyDocumentation>> {
    let mut groups: Vec<Vec<&KeyDocumentation>> = Vec::new();
    for key in keys {
        let same = |group: &&mut Vec<&KeyDocumentation>| {
            let first = group[0];
            (&first.value, &first.default, first.about) == (&key.value, &key.default, key.about)
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(key),
            None => groups.push(vec![key]),
        }
    }
    groups
}

/// Names in backquotes become bold.
fn bold(text: &str) -> String {
    let mut out = String::new();
    for (index, part) in text.split('`').enumerate() {
        if index % 2 == 0 {
            out.push_str(&escaped(part));
        } else {
            write!(out, "\\fB{}\\fR", escaped(part).replace('-', "\\-")).expect("a string");
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('"', "\\(dq")
}

fn markdown(table: &KeyTable) -> String {
    let mut out = format!(
        "\n## [{}]\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n",
        table.name
    );
    for key in &table.keys {
        let cell = |text: &str| text.replace('|', "\\|");
        let default = key
            .default
            .as_deref()
            .map(|default| format!("`{}`", cell(default)));
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            key.name,
            cell(&key.value),
            default.unwrap_or_default(),
            cell(key.about)
        )
        .expect("a string");
    }
    out
}
