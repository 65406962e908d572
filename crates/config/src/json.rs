//! A configuration in JSON (SPEC C10), as the tree of a configuration in TOML whose values remember their
//! places. `shape` brings its own tables to the form with maps. This module does not judge values.

mod shape;

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::diagnostic::{Problems, quoted, shown};
use crate::text::{Text, TextSpan};
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// Largest document.
const MAX_BYTES: usize = 1 << 20;

/// Reads a document. Nothing deeper than `max_depth` is returned.
pub(crate) fn parse<'t>(
    index: u32,
    text: &'t Text,
    max_depth: usize,
    problems: &mut Problems<'_>,
) -> Option<TomlTable<'t>> {
    let content: &'t str = &text.content;
    if content.len() > MAX_BYTES {
        let message = format!(
            "a configuration in JSON has at most {} MiB",
            MAX_BYTES >> 20
        );
        problems.error(TextSpan::new(index, &(0..0)), &message, "");
        return None;
    }
    let document = Document { index, content };
    let raw: &RawValue = match serde_json::from_str(content) {
        Ok(raw) => raw,
        Err(error) => {
            document.report(&error, problems);
            return None;
        }
    };
    let root = document.node(raw, max_depth, problems)?;
    let TomlValue::Table(root) = root.value else {
        problems.error(root.at, "a configuration in JSON is an object", "");
        return None;
    };
    Some(shape::as_maps(root, problems))
}

#[derive(Clone, Copy)]
struct Document<'t> {
    index: u32,
    content: &'t str,
}

/// The members of an object, in their order, equal names included.
struct Members<'t>(Vec<(String, &'t RawValue)>);

impl<'de: 't, 't> Deserialize<'de> for Members<'t> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Collect).map(Self)
    }
}

impl<'t> Document<'t> {
    /// The place of a value, which is a part of the document's own text.
    fn range(self, raw: &'t RawValue) -> Range<usize> {
        let start = (raw.get().as_ptr() as usize).saturating_sub(self.content.as_ptr() as usize);
        start..start + raw.get().len()
    }

    fn report(self, error: &serde_json::Error, problems: &mut Problems<'_>) {
        let lines = self.content.split_inclusive('\n');
        let before: usize = lines
            .take(error.line().saturating_sub(1))
            .map(str::len)
            .sum();
        let at = (before + error.column().saturating_sub(1)).min(self.content.len());
        let text = error.to_string();
        let reason = text.split(" at line ").next().unwrap_or_default();
        let message = format!("not JSON: {}", shown(reason));
        problems.error(TextSpan::new(self.index, &(at..at + 1)), &message, "");
    }

    /// A value with everything in it. `None` after an error, and for `null`, which stands for an unset
    /// value.
    fn node(
        self,
        raw: &'t RawValue,
        depth: usize,
        problems: &mut Problems<'_>,
    ) -> Option<TomlNode<'t>> {
        let range = self.range(raw);
        let at = TextSpan::new(self.index, &range);
        let Some(depth) = depth.checked_sub(1) else {
            problems.error(at, "objects and lists are nested too deeply here", "");
            return None;
        };
        let text = raw.get();
        let value = match text.as_bytes().first()? {
            b'{' => serde_json::from_str(text).map(|Members(members)| {
                let entries = self.entries(range.start, members, depth, problems);
                TomlValue::Table(TomlTable::new(entries))
            }),
            b'[' => serde_json::from_str::<Vec<&RawValue>>(text).map(|items| {
                let items = items.into_iter().filter_map(|item| {
                    if item.get() == "null" {
                        let at = TextSpan::new(self.index, &self.range(item));
                        problems.error(at, "a list has no `null`", "");
                    }
                    self.node(item, depth, problems)
                });
                TomlValue::Array(items.collect())
            }),
            b'"' => {
                serde_json::from_str(text).map(|text: String| TomlValue::String(Cow::Owned(text)))
            }
            b't' => Ok(TomlValue::Boolean(true)),
            b'f' => Ok(TomlValue::Boolean(false)),
            b'n' => return None,
            _ if text.contains(['.', 'e', 'E']) => Ok(TomlValue::Float),
            _ => Ok(TomlValue::Integer(text.parse().ok())),
        };
        match value {
            Ok(value) => Some(TomlNode { at, value }),
            Err(error) => {
                let text = error.to_string();
                let reason = text.split(" at line ").next().unwrap_or_default();
                problems.error(at, &format!("not JSON: {}", shown(reason)), "");
                None
            }
        }
    }

    fn entries(
        self,
        mut end: usize,
        members: Vec<(String, &'t RawValue)>,
        depth: usize,
        problems: &mut Problems<'_>,
    ) -> Vec<TomlEntry<'t>> {
        let mut entries: Vec<TomlEntry<'_>> = Vec::with_capacity(members.len());
        let mut names = std::collections::HashSet::new();
        for (name, raw) in members {
            let range = self.range(raw);
            // The name is the only text in quotes between two values.
            let between = self.content.get(end..range.start).unwrap_or_default();
            let open = between.find('"').unwrap_or_default();
            let close = between.rfind('"').map_or(open, |close| close + 1);
            let at = TextSpan::new(self.index, &(end + open..end + close));
            end = range.end;
            if !names.insert(name.clone()) {
                let message = format!("{} is there twice", quoted(&name));
                problems.error(at, &message, "keep one of them");
                continue;
            }
            if let Some(node) = self.node(raw, depth, problems) {
                let name = Cow::Owned(name);
                entries.push(TomlEntry { name, at, node });
            }
        }
        entries
    }
}
