//! Sets an entry of a map of patterns, and removes one. Comments and the form of the map stay.

use codex_network_policy::{ListKind, Pattern};
use toml_edit::{Item, Key, RawString, TableLike, Value};

/// Whether a text of a file is this pattern, in any spelling.
pub(super) fn is_pattern(text: &str, pattern: &Pattern) -> bool {
    Pattern::parse(text, ListKind::Allow).is_ok_and(|found| found == *pattern)
}

/// The permission of the entry for a pattern.
pub(super) fn permission<'t>(map: &'t dyn TableLike, pattern: &Pattern) -> Option<&'t str> {
    let mut entries = map.iter().filter(|(key, _)| is_pattern(key, pattern));
    entries.find_map(|(_, item)| item.as_str())
}

/// How a map is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MapStyle {
    /// Each entry has a line.
    Lines,
    /// All entries are between braces.
    Inline,
}

/// Sets the entry of a pattern. A comment comes behind it, where entries have lines.
pub(super) fn set(
    map: &mut dyn TableLike,
    style: MapStyle,
    pattern: &Pattern,
    permission: &str,
    comment: Option<&str>,
) {
    let comment = comment.filter(|_| style == MapStyle::Lines);
    let mut names = names(map, pattern).into_iter();
    if let Some(name) = names.next()
        && let Some(value) = map.get_mut(&name).and_then(Item::as_value_mut)
    {
        let decor = value.decor().clone();
        *value = Value::from(permission);
        *value.decor_mut() = decor;
        comment_behind(value, comment);
        for other in names {
            map.remove(&other);
        }
        return;
    }
    let mut key = Key::new(pattern.to_string());
    // In quotes, as patterns usually are in files.
    if let Ok(mut quoted) = Key::parse(&format!("\"{pattern}\"")) {
        key = quoted.pop().unwrap_or(key);
    }
    let mut value = Value::from(permission);
    let last = map.iter().last().map(|(name, _)| name.to_owned());
    if let Some(last) = last
        .and_then(|last| map.get_mut(&last))
        .and_then(Item::as_value_mut)
        && style == MapStyle::Inline
    {
        // The blank before the brace is a part of the last value.
        value.decor_mut().set_suffix(text(last.decor().suffix()));
        last.decor_mut().set_suffix("");
    }
    let last = map.iter().last().map(|(name, _)| name.to_owned());
    if let Some(last) = last.and_then(|last| map.key(&last)) {
        let before = text(last.leaf_decor().prefix());
        let indentation = before.rsplit('\n').next().unwrap_or_default();
        key.leaf_decor_mut().set_prefix(match style {
            MapStyle::Lines => indentation,
            MapStyle::Inline => " ",
        });
        key.leaf_decor_mut().set_suffix(" ");
        value.decor_mut().set_prefix(" ");
    }
    comment_behind(&mut value, comment);
    map.entry_format(&key).or_insert(Item::Value(value));
}

/// Removes the entries of a pattern, each with the comment on its line. Comments above it stay. Returns
/// whether there were any.
pub(super) fn remove(map: &mut Item, pattern: &Pattern) -> bool {
    let Some(table) = map.as_table_like_mut() else {
        return false;
    };
    let names = names(table, pattern);
    for name in &names {
        let above = table.key(name).map(|key| text(key.leaf_decor().prefix()));
        let above = above.unwrap_or_default().trim_end().to_owned();
        let order: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).collect();
        table.remove(name);
        if above.is_empty() {
            continue;
        }
        let index = order.iter().position(|other| other == name);
        let index = index.unwrap_or_default();
        if let Some(mut next) = order.get(index + 1).and_then(|next| table.key_mut(next)) {
            let before = text(next.leaf_decor().prefix());
            let before = format!("{above}\n{before}");
            next.leaf_decor_mut().set_prefix(before);
        } else if let Some(previous) = index.checked_sub(1).and_then(|index| order.get(index))
            && let Some(value) = table.get_mut(previous).and_then(Item::as_value_mut)
        {
            let behind = format!("{}\n{above}", text(value.decor().suffix()));
            value.decor_mut().set_suffix(behind);
        }
    }
    if let Item::Table(table) = map
        && table.is_empty()
    {
        // Without it the header of an empty table would go too.
        table.set_implicit(false);
    }
    !names.is_empty()
}

/// Adds a comment behind a value that ends a line.
pub(super) fn comment_behind(value: &mut Value, comment: Option<&str>) {
    let Some(comment) = comment else {
        return;
    };
    let before = text(value.decor().suffix()).trim_end();
    let with = format!("{before} # {comment}");
    value.decor_mut().set_suffix(with);
}

fn names(map: &dyn TableLike, pattern: &Pattern) -> Vec<String> {
    let entries = map.iter().filter(|(key, _)| is_pattern(key, pattern));
    entries.map(|(key, _)| key.to_owned()).collect()
}

fn text(part: Option<&RawString>) -> &str {
    part.and_then(RawString::as_str).unwrap_or_default()
}
