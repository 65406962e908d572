//! Which file a change belongs in: the strongest file that this user may change and that has the list,
//! else the main file.
//!
//! A list of a stronger file replaces that of a weaker one. So if the strongest file with the list cannot
//! be changed, no other file is taken in its place.

use std::path::{Path, PathBuf};

use toml_edit::Item;

use super::document::{ALLOWED, DENIED, Form, item};
use super::layers::Layer;
use super::{ListChange, Verb, list, map};

/// The file to change.
pub(super) fn choose(
    layers: &[Layer],
    form: &Form,
    change: &ListChange,
    main: &Path,
    may_change: impl Fn(&Path) -> bool,
) -> PathBuf {
    let chosen = match form {
        Form::Lists(table) => of_lists(layers, table, change, &may_change),
        Form::Map(map) => of_map(layers, map, change, &may_change),
    };
    chosen.map_or_else(|| main.to_owned(), |layer| layer.path.clone())
}

fn of_lists<'l>(
    layers: &'l [Layer],
    table: &[String],
    change: &ListChange,
    may_change: impl Fn(&Path) -> bool,
) -> Option<&'l Layer> {
    let list = |layer: &'l Layer, key: &str| item(&layer.document, table)?.get(key)?.as_array();
    let strongest = |key: &'static str| {
        let mut strongest = layers.iter().rev();
        strongest.find(move |layer| list(layer, key).is_some())
    };
    let (key, other) = match change.verb {
        Verb::Allow => (ALLOWED, DENIED),
        Verb::Deny => (DENIED, ALLOWED),
        Verb::Unset => {
            let has = |layer: &'l Layer, key: &str| {
                list(layer, key).is_some_and(|list| list::has(list, &change.pattern))
            };
            let mut strongest = layers.iter().rev();
            return strongest.find(|layer| has(layer, ALLOWED) || has(layer, DENIED));
        }
    };
    // No list replaces a new one, so any file that may be changed will do.
    strongest(key).or_else(|| {
        let beside = strongest(other).filter(|layer| may_change(&layer.path));
        beside.or_else(|| with_item(layers, table, may_change))
    })
}

fn of_map<'l>(
    layers: &'l [Layer],
    path: &[String],
    change: &ListChange,
    may_change: impl Fn(&Path) -> bool,
) -> Option<&'l Layer> {
    let has = |layer: &Layer| {
        let table = item(&layer.document, path).and_then(Item::as_table_like);
        table.is_some_and(|table| map::permission(table, &change.pattern).is_some())
    };
    let strongest = layers.iter().rposition(has);
    match (strongest, change.verb) {
        (Some(at), Verb::Unset) => layers.get(at),
        // A weaker file would not change the entry.
        (Some(at), _) => {
            let layers = layers.get(at..)?;
            let itself = layers.first().filter(|layer| may_change(&layer.path));
            itself
                .or_else(|| with_item(layers, path, may_change))
                .or(layers.first())
        }
        (None, _) => with_item(layers, path, may_change),
    }
}

/// The strongest file that has an item at this path and may be changed.
fn with_item<'l>(
    layers: &'l [Layer],
    path: &[String],
    may_change: impl Fn(&Path) -> bool,
) -> Option<&'l Layer> {
    let mut strongest = layers.iter().rev();
    strongest.find(|layer| item(&layer.document, path).is_some() && may_change(&layer.path))
}
