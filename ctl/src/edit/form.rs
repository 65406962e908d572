//! Which tables hold the lists that are in force (SPEC C2, C8, C9). The rules are those of the
//! configuration's own reader, whose errors come first: here the configuration is valid.

use super::document::{ALLOWED, DENIED, Form, item};
use super::layers::Layer;

/// The most profiles in a chain (SPEC C9).
const MAX_CHAIN: usize = 16;

/// The form in force. Without any, the plain table of lists.
pub(super) fn in_force(layers: &[Layer]) -> Form {
    let features = path(&["features", "network_proxy"]);
    let selected = scalar(layers, "profile")
        .map(|name| [&path(&["profiles", &name])[..], &features[..]].concat());
    // The strongest table that has a map already.
    let maps = selected
        .iter()
        .chain([&features])
        .map(|table| below(table, "domains"));
    for map in maps {
        if is_there(layers, &map) {
            return Form::Map(map);
        }
    }
    for table in [&["network_proxy"][..], &["network"]] {
        if is_there(layers, &path(table)) {
            return Form::Lists(match table {
                ["network_proxy"] => path(&["network_proxy", "policy"]),
                table => path(table),
            });
        }
    }
    if let Some(profile) = scalar(layers, "default_permissions")
        && is_there(layers, &path(&["permissions", &profile]))
    {
        let table = path(&["permissions", &profile, "network"]);
        return if has_lists(layers, profile) {
            Form::Lists(table)
        } else {
            Form::Map(below(&table, "domains"))
        };
    }
    for table in selected.iter().chain([&features]) {
        if is_there(layers, table) {
            return Form::Map(below(table, "domains"));
        }
    }
    Form::Lists(path(&["network"]))
}

/// Whether a profile, or one that it extends, has a list. Then a map would be an error.
fn has_lists(layers: &[Layer], mut profile: String) -> bool {
    for _ in 0..MAX_CHAIN {
        let table = path(&["permissions", &profile, "network"]);
        let lists = [ALLOWED, DENIED, "allow_unix_sockets"];
        if lists
            .iter()
            .any(|list| is_there(layers, &below(&table, list)))
        {
            return true;
        }
        match text(layers, &path(&["permissions", &profile, "extends"])) {
            Some(parent) => profile = parent,
            None => return false,
        }
    }
    false
}

fn is_there(layers: &[Layer], path: &[String]) -> bool {
    layers
        .iter()
        .any(|layer| item(&layer.document, path).is_some())
}

/// The text of a key at the top of the strongest layer that has it.
fn scalar(layers: &[Layer], key: &str) -> Option<String> {
    text(layers, &path(&[key]))
}

fn text(layers: &[Layer], path: &[String]) -> Option<String> {
    let mut strongest = layers.iter().rev();
    let found = strongest.find_map(|layer| item(&layer.document, path))?;
    found.as_str().map(str::to_owned)
}

fn below(table: &[String], name: &str) -> Vec<String> {
    [table, &[name.to_owned()]].concat()
}

fn path(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
