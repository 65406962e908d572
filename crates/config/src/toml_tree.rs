//! A TOML document as a tree whose keys and values remember their places, and merging two trees
//! (SPEC C1). The tree does not know what the keys mean.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::text::TextSpan;

/// A value and its place. The place of a table is its header, if it has one.
#[derive(Clone, Debug)]
pub(crate) struct TomlNode<'t> {
    pub(crate) at: TextSpan,
    pub(crate) value: TomlValue<'t>,
}

/// A TOML value. Floats and dates have no use in our keys, so their content is dropped.
#[derive(Clone, Debug)]
pub(crate) enum TomlValue<'t> {
    String(Cow<'t, str>),
    /// `None` when it is out of range.
    Integer(Option<i64>),
    Float,
    Boolean(bool),
    Datetime,
    Array(Vec<TomlNode<'t>>),
    Table(TomlTable<'t>),
}

/// A table's entries, sorted by key, without duplicates.
#[derive(Clone, Debug, Default)]
pub(crate) struct TomlTable<'t>(Vec<TomlEntry<'t>>);

/// One key with its value.
#[derive(Clone, Debug)]
pub(crate) struct TomlEntry<'t> {
    pub(crate) name: Cow<'t, str>,
    pub(crate) at: TextSpan,
    pub(crate) node: TomlNode<'t>,
}

impl<'t> TomlTable<'t> {
    pub(crate) fn new(mut entries: Vec<TomlEntry<'t>>) -> Self {
        // `toml` sorts too, unless a crate in the build enables its `preserve_order` feature.
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Self(entries)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&TomlEntry<'t>> {
        let found = self.0.binary_search_by(|entry| (*entry.name).cmp(name));
        found.ok().map(|index| &self.0[index])
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut TomlEntry<'t>> {
        let found = self.0.binary_search_by(|entry| (*entry.name).cmp(name));
        found.ok().map(|index| &mut self.0[index])
    }

    /// Keeps the entries for which `keep` is true.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&TomlEntry<'t>) -> bool) {
        self.0.retain(keep);
    }

    /// The entries, sorted by name.
    pub(crate) fn entries(&self) -> &[TomlEntry<'t>] {
        &self.0
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, TomlEntry<'t>> {
        self.0.iter()
    }

    /// The entries themselves, sorted by name.
    pub(crate) fn into_entries(self) -> Vec<TomlEntry<'t>> {
        self.0
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, TomlEntry<'t>> {
        self.0.iter_mut()
    }

    /// The entries in the order of the texts, weaker layers first.
    pub(crate) fn in_order(&self) -> Vec<&TomlEntry<'t>> {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_key(|entry| entry.at);
        entries
    }

    /// Merges `over` into this table: tables merge, other values replace.
    pub(crate) fn merge(&mut self, over: Self) {
        if self.0.is_empty() {
            *self = over;
            return;
        }
        let mut merged = Vec::with_capacity(self.0.len() + over.0.len());
        let mut under = std::mem::take(&mut self.0).into_iter().peekable();
        let mut over = over.0.into_iter().peekable();
        loop {
            let order = match (under.peek(), over.peek()) {
                (Some(lower), Some(upper)) => lower.name.cmp(&upper.name),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => break,
            };
            let lower = (order != Ordering::Greater).then(|| under.next()).flatten();
            let upper = (order != Ordering::Less).then(|| over.next()).flatten();
            merged.extend(match (lower, upper) {
                (Some(lower), Some(upper)) => Some(lower.merge(upper)),
                (lower, upper) => lower.or(upper),
            });
        }
        self.0 = merged;
    }
}

impl TomlEntry<'_> {
    fn merge(self, over: Self) -> Self {
        let Self { name, at, node } = over;
        let value = match (self.node.value, node.value) {
            (TomlValue::Table(mut lower), TomlValue::Table(upper)) => {
                lower.merge(upper);
                TomlValue::Table(lower)
            }
            (_, upper) => upper,
        };
        let node = TomlNode { at: node.at, value };
        Self { name, at, node }
    }
}

impl TomlValue<'_> {
    /// The type's name with an article, for messages.
    pub(crate) fn describe(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}
