//! The change of one document.

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::map::MapStyle;
use super::{ListChange, Verb, list, map};

/// The tables that hold the lists. Each is named by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The table of two lists.
    Lists(Vec<String>),
    /// The map of patterns and permissions.
    Map(Vec<String>),
}

/// The allow list.
pub(super) const ALLOWED: &str = "allowed_domains";
/// The deny list.
pub(super) const DENIED: &str = "denied_domains";
/// The switch that may stand for a table (SPEC C8).
const SWITCH: &str = "network_proxy";

/// Changes a document in this form. The error says what is in the way.
pub(super) fn change(
    document: &mut DocumentMut,
    form: &Form,
    change: &ListChange,
) -> Result<(), String> {
    match (form, change.verb) {
        (Form::Lists(path), Verb::Unset) => {
            remove_from_list(document, path, ALLOWED, change);
            remove_from_list(document, path, DENIED, change);
            Ok(())
        }
        (Form::Map(path), Verb::Unset) => {
            if let Some(map) = item_mut(document, path) {
                map::remove(map, &change.pattern);
            }
            Ok(())
        }
        (Form::Lists(path), verb) => {
            let key = match verb {
                Verb::Deny => {
                    remove_from_list(document, path, ALLOWED, change);
                    DENIED
                }
                Verb::Allow | Verb::Unset => ALLOWED,
            };
            let WrittenTable { table, .. } = table_at(document, path)?;
            let list = table
                .entry(key)
                .or_insert_with(|| Item::Value(Value::Array(Array::new())));
            let list = list
                .as_array_mut()
                .ok_or_else(|| format!("`{key}` is not a list"))?;
            list::append(list, &change.pattern, change.comment.as_deref());
            Ok(())
        }
        (Form::Map(path), verb) => {
            let permission = match verb {
                Verb::Deny => "deny",
                Verb::Allow | Verb::Unset => "allow",
            };
            let WrittenTable { table, style } = table_at(document, path)?;
            let comment = change.comment.as_deref();
            map::set(table, style, &change.pattern, permission, comment);
            if style == MapStyle::Inline {
                comment_on_line(document, path, change);
            }
            Ok(())
        }
    }
}

/// The item at a path; `None` if it is not there.
pub(super) fn item<'d>(document: &'d DocumentMut, path: &[String]) -> Option<&'d Item> {
    path.iter()
        .try_fold(document.as_item(), |item, name| item.get(name))
}

fn item_mut<'d>(document: &'d mut DocumentMut, path: &[String]) -> Option<&'d mut Item> {
    path.iter().try_fold(document.as_item_mut(), |item, name| {
        item.as_table_like_mut()?.get_mut(name)
    })
}

fn remove_from_list(document: &mut DocumentMut, path: &[String], key: &str, change: &ListChange) {
    let table = item_mut(document, path).and_then(Item::as_table_like_mut);
    let list = table.and_then(|table| table.get_mut(key)?.as_array_mut());
    if let Some(list) = list {
        list::remove(list, &change.pattern);
    }
}

/// A table of a document, and how it is written.
struct WrittenTable<'d> {
    table: &'d mut dyn TableLike,
    style: MapStyle,
}

/// Where a new table with a header comes.
#[derive(Default)]
struct NewTable {
    /// Its number in the order of the headers; a table goes behind one with an equal number.
    position: Option<isize>,
    /// The text before its header.
    before: String,
}

/// The table at a path. It and those above it are made if they are not there.
fn table_at<'d>(
    document: &'d mut DocumentMut,
    path: &[String],
) -> Result<WrittenTable<'d>, String> {
    switch_to_table(document, path);
    give_header(document, path);
    let new = new_table(document, path);
    open(document.as_table_mut(), MapStyle::Lines, path, &new)
}

fn open<'t>(
    table: &'t mut dyn TableLike,
    style: MapStyle,
    path: &[String],
    new: &NewTable,
) -> Result<WrittenTable<'t>, String> {
    let [name, rest @ ..] = path else {
        return Ok(WrittenTable { table, style });
    };
    if !table.contains_key(name) {
        let made = match style {
            MapStyle::Inline => Item::Value(Value::InlineTable(InlineTable::new())),
            MapStyle::Lines => {
                let mut made = Table::new();
                // A header cannot extend a table that dotted keys define.
                made.set_dotted(table.is_dotted());
                made.set_implicit(!rest.is_empty());
                if rest.is_empty() {
                    made.set_position(new.position);
                    made.decor_mut().set_prefix(new.before.as_str());
                }
                Item::Table(made)
            }
        };
        table.insert(name, made);
    }
    let item = table.get_mut(name).ok_or_else(|| not_a_table(name))?;
    let style = if item.is_inline_table() {
        MapStyle::Inline
    } else {
        style
    };
    let table = item.as_table_like_mut().ok_or_else(|| not_a_table(name))?;
    open(table, style, rest, new)
}

fn not_a_table(name: &str) -> String {
    format!("`{name}` is not a table")
}

/// Where a table of this path would come, and the text before it. A table with a header comes behind the
/// one that it belongs to, else at the end of the document, below the comments there.
fn new_table(document: &mut DocumentMut, path: &[String]) -> NewTable {
    let last = last_position(document.as_table());
    let mut parent = Some(document.as_item());
    let mut behind = None;
    for name in path {
        let Some(Item::Table(table)) = parent else {
            // It is there, or its parent is written without a header.
            return NewTable::default();
        };
        if table.is_dotted() {
            return NewTable::default();
        }
        behind = table.position().filter(|_| !table.is_implicit()).or(behind);
        parent = table.get(name);
        if parent.is_none() {
            break;
        }
    }
    if parent.is_some() {
        return NewTable::default();
    }
    let is_top = path
        .first()
        .is_none_or(|first| !document.contains_key(first));
    if let Some(behind) = behind
        && !is_top
        && behind < last
    {
        return NewTable {
            position: Some(behind),
            before: "\n".to_owned(),
        };
    }
    let comments = document.trailing().as_str().unwrap_or_default();
    let comments = comments.trim_end().to_owned();
    let before = match (comments.as_str(), document.is_empty()) {
        ("", true) => String::new(),
        ("", false) => "\n".to_owned(),
        (comments, _) => format!("{comments}\n\n"),
    };
    document.set_trailing("");
    NewTable {
        position: Some(last + 1),
        before,
    }
}

/// Gives a table a header that has none since only tables below it have one. It comes before theirs.
fn give_header(document: &mut DocumentMut, path: &[String]) {
    if let Some(Item::Table(table)) = item_mut(document, path)
        && table.is_implicit()
        && !table.is_dotted()
    {
        let first = first_position(table);
        table.set_implicit(false);
        table.set_position(first);
    }
}

/// The number of the first header below a table.
fn first_position(table: &Table) -> Option<isize> {
    let inner = table.iter().filter_map(|(_, item)| match item {
        Item::Table(table) if table.is_implicit() => first_position(table),
        Item::Table(table) => table.position(),
        Item::ArrayOfTables(tables) => tables.iter().filter_map(Table::position).min(),
        Item::None | Item::Value(_) => None,
    });
    inner.min()
}

/// The number of the last header in a table.
fn last_position(table: &Table) -> isize {
    let inner = table.iter().map(|(_, item)| match item {
        Item::Table(table) => last_position(table),
        Item::ArrayOfTables(tables) => {
            let last = tables.iter().map(last_position).max();
            last.unwrap_or_default()
        }
        Item::None | Item::Value(_) => 0,
    });
    let inner = inner.max().unwrap_or_default();
    table.position().unwrap_or_default().max(inner)
}

/// Turns `network_proxy = true` into the table that it stands for.
fn switch_to_table(document: &mut DocumentMut, path: &[String]) {
    let Some(at) = path.iter().position(|name| name == SWITCH) else {
        return;
    };
    if let Some(Item::Value(switch)) = item_mut(document, &path[..=at])
        && let Some(is_on) = switch.as_bool()
    {
        let decor = switch.decor().clone();
        let mut table = InlineTable::new();
        table.insert("enabled", is_on.into());
        *switch = Value::InlineTable(table);
        *switch.decor_mut() = decor;
    }
}

/// Adds a comment behind the line of an inline table.
fn comment_on_line(document: &mut DocumentMut, path: &[String], change: &ListChange) {
    let Some(comment) = &change.comment else {
        return;
    };
    let line = (1..=path.len())
        .find(|length| item(document, &path[..*length]).is_some_and(Item::is_value));
    let line = line.and_then(|length| item_mut(document, &path[..length]));
    if let Some(value) = line.and_then(Item::as_value_mut) {
        let comment = format!("{}: {comment}", change.pattern);
        map::comment_behind(value, Some(&comment));
    }
}
