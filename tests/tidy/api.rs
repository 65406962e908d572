//! The public API of the library, in a file: a change of the API must change the file (SPEC E1).

use crate::sources::{root, rust};

/// The file, with one item per line.
const WRITTEN: &str = "tests/tidy/library-api.txt";

/// The public items of the library, each up to its body, as `file: item`.
fn items() -> Vec<String> {
    let mut items = Vec::new();
    for source in rust() {
        let path = source.path.as_str();
        let is_face = path == "daemon/src/lib.rs"
            || path == "crates/engine/src/decider.rs"
            || path == "crates/engine/src/child_env.rs"
            || path.starts_with("daemon/src/embed");
        if !is_face {
            continue;
        }
        let mut lines = source.product().lines().map(str::trim);
        while let Some(first) = lines.next() {
            // Only the build of the fuzz targets has it.
            if !first.starts_with("pub ") || first == "pub mod fuzzing;" {
                continue;
            }
            let mut item = first.to_owned();
            // A field ends with its comma, a `use` with its semicolon, all else before its body.
            while !item.ends_with(['{', ';', ',', '}'])
                || item.matches('(').count() > item.matches(')').count()
                || (item.starts_with("pub use") && !item.ends_with(';'))
            {
                let Some(next) = lines.next() else { break };
                item.push(' ');
                item.push_str(next);
            }
            let item = item.trim_end_matches(['{', ',']).trim_end();
            items.push(format!("{path}: {item}"));
        }
    }
    items.sort_unstable();
    items
}

#[test]
fn e1_the_librarys_public_items_are_those_that_are_written_down() {
    let found = items().join("\n") + "\n";
    let written = std::fs::read_to_string(root().join(WRITTEN)).unwrap_or_default();
    assert!(
        found == written,
        "the public face of the library has changed; if that is meant, {WRITTEN} has to say:\n{found}"
    );
}
