//! The rows by table: the names in a table, and the table of a misplaced key.

use std::collections::HashSet;
use std::sync::OnceLock;

use super::row::{KeyRow, TopTable};
use super::{SELECTOR, rows};

/// The entries of one table. The tables inside it are levels of their own.
#[derive(Debug)]
pub(super) struct TableLevel {
    pub(super) table: TopTable,
    /// The path from the table at the top, or empty.
    inside: &'static str,
    pub(super) entries: Vec<TableEntry>,
}

/// A name in a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableEntry {
    pub(crate) name: &'static str,
    /// The key of this name.
    pub(crate) row: Option<&'static KeyRow>,
    /// Whether a table may have the name.
    pub(crate) is_table: bool,
}

/// The entry of a table with this name. `inside` is the path from the table at the top, or empty.
pub(crate) fn entry_in(table: TopTable, inside: &str, name: &str) -> Option<TableEntry> {
    level(table, inside)?.get(name).copied()
}

/// The names in a table: of keys, and of further tables.
pub(crate) fn names_in(table: TopTable, inside: &str) -> Vec<&'static str> {
    let level = level(table, inside).into_iter();
    let entries = level.flat_map(|level| &level.entries);
    entries.map(|entry| entry.name).collect()
}

/// The full name of the table of a configuration that has this key. The table `own` is searched
/// first.
pub(crate) fn table_with(own: TopTable, name: &str) -> Option<String> {
    let others = TopTable::OF_CONFIGURATIONS.into_iter();
    let others = others.filter(|table| *table != own);
    let mut tables = std::iter::once(own).chain(others);
    let found = tables.find_map(|table| {
        let mut levels = levels().iter().filter(|level| level.table == table);
        levels.find(|level| level.get(name).is_some())
    });
    found.map(TableLevel::name)
}

/// Every key of a configuration or a requirement, as pairs of its table's full name (`NAME` stands
/// for a name that the user chooses) and its own name.
pub fn keys() -> Vec<(String, &'static str)> {
    let keys = levels().iter().flat_map(|level| {
        let keys = level.entries.iter().filter(|entry| entry.row.is_some());
        keys.map(|entry| (level.name(), entry.name))
    });
    keys.chain([(String::new(), SELECTOR)]).collect()
}

/// Whether a key has this name, in whatever table.
pub(crate) fn is_key_name(name: &str) -> bool {
    static NAMES: OnceLock<HashSet<&'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| keys().into_iter().map(|(_, name)| name).collect());
    names.contains(name)
}

/// All tables, each before the tables inside it.
pub(super) fn levels() -> &'static [TableLevel] {
    static LEVELS: OnceLock<Vec<TableLevel>> = OnceLock::new();
    LEVELS.get_or_init(|| TopTable::ALL.into_iter().flat_map(levels_of).collect())
}

fn levels_of(table: TopTable) -> Vec<TableLevel> {
    let mut levels = Vec::new();
    for row in rows() {
        for path in row.paths(table) {
            let (inside, name) = split(path);
            let entry = entry_of(&mut levels, table, inside, name);
            entry.row = Some(row);
        }
    }
    levels
}

/// The entry of a level, made with the tables that lead to it if it is not there yet.
fn entry_of<'l>(
    levels: &'l mut Vec<TableLevel>,
    table: TopTable,
    inside: &'static str,
    name: &'static str,
) -> &'l mut TableEntry {
    if !inside.is_empty() {
        let (outer, table_name) = split(inside);
        entry_of(levels, table, outer, table_name).is_table = true;
    }
    let is_it = |level: &TableLevel| level.inside == inside;
    let at = levels.iter().position(is_it).unwrap_or_else(|| {
        levels.push(TableLevel {
            table,
            inside,
            entries: Vec::new(),
        });
        levels.len() - 1
    });
    let entries = &mut levels[at].entries;
    let has_name = |entry: &TableEntry| entry.name == name;
    let at = entries.iter().position(has_name).unwrap_or_else(|| {
        entries.push(TableEntry {
            name,
            row: None,
            is_table: false,
        });
        entries.len() - 1
    });
    &mut entries[at]
}

fn level(table: TopTable, inside: &str) -> Option<&'static TableLevel> {
    let mut levels = levels().iter();
    levels.find(|level| level.table == table && level.inside == inside)
}

/// The table of a path, and the last name.
fn split(path: &'static str) -> (&'static str, &'static str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

impl TableLevel {
    fn get(&self, name: &str) -> Option<&TableEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// The table's name in full.
    pub(super) fn name(&self) -> String {
        match self.inside {
            "" => self.table.name().to_owned(),
            inside => format!("{}.{inside}", self.table.name()),
        }
    }
}
