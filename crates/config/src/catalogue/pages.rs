//! The documentation of the keys, for `codex-network-proxy.toml(5)` and `SETTINGS.md`.

use serde_json::Value;

use super::row::{Bound, InForce, KeyRow, TopTable, ValueKind};
use super::tables::levels;
use crate::settings::Settings;

/// The keys of one table, as the pages describe them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTable {
    /// The table's name in full: `network.mitm`. `NAME` stands for a name that the user chooses.
    pub name: String,
    /// Its keys, in the order of the pages.
    pub keys: Vec<KeyDocumentation>,
}

/// The documentation of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDocumentation {
    /// The key's name, without its table.
    pub name: &'static str,
    /// The kind of its value: `boolean`, `list of patterns`.
    pub value: String,
    /// The key's default, as TOML or in words. `None` for a key without a default.
    pub default: Option<String>,
    /// Sentences, with names in backquotes.
    pub about: &'static str,
}

/// The tables of the pages: the policy in the form of `[network]`, hooks and actions, `[daemon]`,
/// and `[experimental_network]`.
pub fn documentation() -> Vec<KeyTable> {
    let settings = Settings::default();
    let defaults = InForce {
        settings: &settings,
        policy: &settings.policy,
        listen: &settings.listen,
    };
    let levels = levels().iter();
    let on_pages = levels.filter(|level| {
        let other_dialects = [
            TopTable::NetworkProxy,
            TopTable::Profile,
            TopTable::Features,
        ];
        !other_dialects.contains(&level.table)
    });
    let tables = on_pages.map(|level| {
        let keys = level.entries.iter();
        let keys = keys.filter_map(|entry| Some((entry.name, entry.row?)));
        let keys = keys.map(|(name, row)| match level.table {
            TopTable::Requirements => row.documented_bound(name),
            _ => row.documented(name, &defaults),
        });
        KeyTable {
            name: level.name(),
            keys: keys.collect(),
        }
    });
    tables.filter(|table| !table.keys.is_empty()).collect()
}

impl KeyRow {
    fn documented(&self, name: &'static str, defaults: &InForce<'_>) -> KeyDocumentation {
        let default = match (self.default, self.kind) {
            (Some(words), _) => Some(words.to_owned()),
            (None, ValueKind::Nested(_)) => None,
            (None, _) => Some(match self.show(defaults) {
                Value::Null => "unset".to_owned(),
                value => value.to_string(),
            }),
        };
        KeyDocumentation {
            name,
            value: self.kind.in_words(),
            default,
            about: self.about,
        }
    }

    fn documented_bound(&self, name: &'static str) -> KeyDocumentation {
        let (value, about) = match self.bound {
            Bound::Free => ("", ""),
            Bound::Only(false) => (
                "boolean",
                "With false, no configuration may set true. True has no effect.",
            ),
            Bound::Only(true) => (
                "boolean",
                "With true, no configuration may set false. False has no effect.",
            ),
            Bound::Exact => ("text", "No configuration may set another value."),
            Bound::Special(value, about) => (value, about),
        };
        KeyDocumentation {
            name,
            value: value.to_owned(),
            default: None,
            about,
        }
    }
}

impl ValueKind {
    fn in_words(&self) -> String {
        match self {
            Self::Flag(_) => "boolean".to_owned(),
            Self::Integer(least, most, _) => format!("integer from {least} to {most}"),
            Self::Duration(..) => "duration".to_owned(),
            Self::Word(words, _) => {
                let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
                words.join(" | ")
            }
            Self::Text(_) => "text".to_owned(),
            Self::Path(_) => "path".to_owned(),
            Self::Principals(_) => "list of names".to_owned(),
            Self::Special { value, .. } | Self::Nested(value) => (*value).to_owned(),
        }
    }
}
