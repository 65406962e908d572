//! The modules of a folder have an order: a module uses only what stands below it, so each can be read,
//! tested and changed without those above (`CONTRIBUTING.md`, "Modules depend downwards"). A module and
//! those in its own folder are one: they may use each other.

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
    &["http", "socks5", "mitm", "policy_dns", "transparent"],
    &["respond"],
    &["upstream"],
    &["enforce"],
    &["record"],
    &["attempt"],
];

/// The modules of one folder, and the modules beside them that each one uses.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// A path in the code, name by name. Of a module, it is the path from the root of the crate.
type Path = Vec<String>;

/// The product files of a crate: the path of the module, and its text.
fn modules(folder: &str) -> Vec<(Path, String)> {
    let sources = rust();
    let ours = sources.iter().filter(|source| !source.is_test());
    ours.filter_map(|source| {
        let path = source.path.strip_prefix(folder)?.strip_suffix(".rs")?;
        let path = path.split('/').map(str::to_owned).collect();
        // Some tests stand behind a condition of their own.
        let product = source.text.split("\nmod tests {").next()?;
        Some((path, product.to_owned()))
    })
    .filter(|(path, _)| !is_root(path))
    .collect()
}

fn is_root(path: &Path) -> bool {
    [["lib"], ["main"]].iter().any(|root| path == root)
}

/// The graph of each folder of a crate, the crate itself first, from the paths in its product code that
/// begin with `crate`, `self` or `super`. A module that uses something below a module beside it uses
/// that module. Types that the root of the crate defines or exports count as the module `root`, which
/// uses all others.
fn graphs(folder: &str) -> BTreeMap<Path, Graph> {
    let modules = modules(folder);
    let paths: BTreeSet<&Path> = modules.iter().map(|(path, _)| path).collect();
    let mut graphs: BTreeMap<Path, Graph> = BTreeMap::new();
    for (module, text) in &modules {
        for depth in 0..module.len() {
            let graph = graphs.entry(module[..depth].to_vec()).or_default();
            graph.entry(module[depth].clone()).or_default();
        }
        for mut used in uses(text).iter().map(|path| absolute(module, path)) {
            while !used.is_empty() && !paths.contains(&used) {
                used.pop();
            }
            if used.is_empty() {
                used.push("root".to_owned());
            }
            let shared = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
            if let (Some(user), Some(used)) = (module.get(shared), used.get(shared)) {
                let graph = graphs.entry(module[..shared].to_vec()).or_default();
                graph.entry(user.clone()).or_default().insert(used.clone());
            }
        }
    }
    if let Some(top) = graphs.get_mut(&Path::new()) {
        let all = top.keys().cloned().collect();
        top.insert("root".to_owned(), all);
    }
    graphs
}

/// A path that begins with `crate`, `self` or `super` in this module, from the root of the crate.
fn absolute(module: &Path, path: &Path) -> Path {
    let mut absolute = module.clone();
    for name in path {
        match name.as_str() {
            "crate" => absolute.clear(),
            "self" => {}
            "super" => drop(absolute.pop()),
            _ => absolute.push(name.clone()),
        }
    }
    absolute
}

/// The paths in the code that begin with `crate`, `self` or `super`.
fn uses(text: &str) -> Vec<Path> {
    let lines = text.lines().map(|line| line.split("//").next());
    let code: String = lines.flatten().flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for begin in ["crate::", "self::", "super::"] {
        for (at, _) in code.match_indices(begin) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|before| !is_name(before) && before != ':') {
                take_path(&code[at..], &Path::new(), &mut found);
            }
        }
    }
    found
}

/// Reads a path, or each path of a group in braces, and returns the rest.
fn take_path<'c>(code: &'c str, before: &Path, found: &mut Vec<Path>) -> &'c str {
    let code = code.trim_start();
    if let Some(mut rest) = code.strip_prefix('{') {
        loop {
            rest = take_path(rest, before, found).trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            // Behind the comma, or behind a new name (`as NAME`).
            match rest.find([',', '}']) {
                Some(end) if rest[end..].starts_with(',') => rest = &rest[end + 1..],
                Some(end) => rest = &rest[end..],
                None => return "",
            }
        }
    }
    let end = code.find(|next| !is_name(next)).unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    let mut path = before.clone();
    path.extend((!name.is_empty()).then(|| name.to_owned()));
    if let Some(rest) = rest.strip_prefix("::") {
        return take_path(rest, &path, found);
    }
    found.push(path);
    rest
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
        let graphs = graphs(folder);
        assert!(graphs[&Path::new()].len() > 2, "{folder} has no modules");
        for (parent, graph) in graphs {
            let circle = graph.keys().find_map(|module| circle(&graph, module));
            if let Some(circle) = circle {
                panic!("{folder}{}: {}", parent.join("/"), circle.join(" -> "));
            }
        }
    }
}

#[test]
fn the_engine_has_floors() {
    let graphs = graphs("crates/engine/src/");
    let graph = &graphs[&Path::new()];
    for (number, floor) in ENGINE_FLOORS.iter().enumerate() {
        for module in *floor {
            assert!(graph.contains_key(*module), "the engine has no {module}");
            for above in ENGINE_FLOORS[..number].iter().copied().flatten() {
                let way = path(graph, module, above, &mut BTreeSet::new());
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
    let code = "use crate::{a::{self, B}, c as C,\n    d::{E as F, g}};\nuse super::f::G; // crate::g\n\
                let x = crate::h::i();\nmycrate::j();\nuse super::super::k;";
    let module = ["m", "n", "o"].map(str::to_owned).to_vec();
    let found = uses(code).into_iter();
    let mut found: Vec<String> = found
        .map(|path| absolute(&module, &path).join("::"))
        .collect();
    found.sort_unstable();
    let wanted = [
        "a",
        "a::B",
        "c",
        "d::E",
        "d::g",
        "h::i",
        "m::k",
        "m::n::f::G",
    ];
    assert_eq!(found, wanted);
    let three = [("a", "b"), ("b", "c"), ("c", "a")];
    let graph: Graph = three
        .map(|(from, to)| (from.to_owned(), BTreeSet::from([to.to_owned()])))
        .into();
    let found = circle(&graph, "a").expect("a circle");
    assert_eq!(found, ["a", "b", "c", "a"]);
}
