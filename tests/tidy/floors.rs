//! The modules at the top of a crate have an order: a module uses only what stands below it, so each
//! can be read, tested and changed without those above (`CONTRIBUTING.md`, "Modules depend downwards").

use std::collections::{BTreeMap, BTreeSet};

use crate::sources::rust;

/// The folders of the sources of each crate that is checked.
const CRATES: [&str; 7] = [
    "crates/policy/src/",
    "crates/files/src/",
    "crates/config/src/",
    "crates/control/src/",
    "crates/engine/src/",
    "daemon/src/",
    "ctl/src/",
];

/// The floors of the engine, from the top. A module uses only the floors below its own, and the
/// modules that are in no floor.
const ENGINE_FLOORS: [&[&str]; 8] = [
    &["accept"],
    &["doors"],
    &["http", "socks5", "mitm"],
    &["respond"],
    &["upstream"],
    &["enforce"],
    &["record"],
    &["attempt"],
];

/// The modules at the top of a crate, and the modules that each of them uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Reads the graph of a crate from the paths that begin with `crate::` in its product code. Types
/// that the root of the crate defines or exports count as the module `root`, which uses all others.
fn graph(folder: &str) -> Graph {
    let sources = rust();
    let product = || {
        let ours = sources.iter().filter(|source| !source.is_test());
        ours.filter_map(|source| Some((source.path.strip_prefix(folder)?, source.product())))
    };
    let mut graph: Graph = product()
        .map(|(path, _)| (top(path).to_owned(), BTreeSet::new()))
        .filter(|(module, _)| !is_root(module))
        .collect();
    let modules: BTreeSet<String> = graph.keys().cloned().collect();
    for (path, text) in product().filter(|(path, _)| !is_root(top(path))) {
        for used in uses(text) {
            let used = if modules.contains(&used) {
                used
            } else {
                "root".to_owned()
            };
            if used != top(path) {
                let module = graph.get_mut(top(path)).expect("a module of the graph");
                module.insert(used);
            }
        }
    }
    graph.insert("root".to_owned(), modules);
    graph
}

/// The module at the top of the crate that a file belongs to.
fn top(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn is_root(module: &str) -> bool {
    ["lib", "main"].contains(&module)
}

/// The first names of the paths that begin with `crate::`.
fn uses(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(|line| line.split("//").next());
    let code: String = lines.flatten().flat_map(|line| [line, "\n"]).collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let is_whole = code[..at]
            .chars()
            .next_back()
            .is_none_or(|before| !is_name(before));
        let rest = &code[at + "crate::".len()..];
        if !is_whole {
            continue;
        }
        match rest.strip_prefix('{') {
            Some(group) => found.extend(names_of(group)),
            None => found.extend(name(rest)),
        }
    }
    found
}

/// The first segment of each path in a group of a `use`. The text begins after the opening brace.
fn names_of(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut begins) = (0, Vec::new(), true);
    for (at, character) in group.char_indices() {
        match character {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && is_name(character) => {
                names.extend(name(&group[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn name(text: &str) -> Option<String> {
    let name: String = text.chars().take_while(|next| is_name(*next)).collect();
    (!name.is_empty()).then_some(name)
}

fn is_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

/// A way from a module back to itself, if there is one.
fn circle(graph: &Graph, module: &str) -> Option<Vec<String>> {
    path(graph, module, module, &mut BTreeSet::new())
}

/// A way over at least one edge from one module to another.
fn path(graph: &Graph, from: &str, to: &str, seen: &mut BTreeSet<String>) -> Option<Vec<String>> {
    for next in graph.get(from).into_iter().flatten() {
        if next == to {
            return Some(vec![from.to_owned(), to.to_owned()]);
        }
        if seen.insert(next.clone())
            && let Some(mut rest) = path(graph, next, to, seen)
        {
            rest.insert(0, from.to_owned());
            return Some(rest);
        }
    }
    None
}

#[test]
fn modules_have_no_circles() {
    for folder in CRATES {
        let graph = graph(folder);
        assert!(graph.len() > 2, "{folder} has no modules");
        let circle = graph.keys().find_map(|module| circle(&graph, module));
        if let Some(circle) = circle {
            panic!("{folder}: {}", circle.join(" -> "));
        }
    }
}

#[test]
fn the_engine_has_floors() {
    let graph = graph("crates/engine/src/");
    for (number, floor) in ENGINE_FLOORS.iter().enumerate() {
        for module in *floor {
            assert!(graph.contains_key(*module), "the engine has no {module}");
            for above in ENGINE_FLOORS[..number].iter().copied().flatten() {
                let way = path(&graph, module, above, &mut BTreeSet::new());
                assert!(
                    way.is_none(),
                    "{module} stands below {above}: {}",
                    way.unwrap_or_default().join(" -> ")
                );
            }
        }
    }
}

#[test]
fn paths_are_read_from_the_code() {
    let code = "use crate::{a::{self, B}, c,\n    d::E};\nuse crate::f; // crate::g\nlet x = crate::h::i();\nmycrate::j();";
    let found: Vec<String> = uses(code).into_iter().collect();
    assert_eq!(found, ["a", "c", "d", "f", "h"]);
    let three = [("a", "b"), ("b", "c"), ("c", "a")];
    let graph: Graph = three
        .map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()])))
        .into();
    let found = circle(&graph, "a").expect("a circle");
    assert_eq!(found, ["a", "b", "c", "a"]);
}
