//! The fifth form: `[features.network_proxy]` lies over the selected profile (SPEC C8). A profile of
//! Codex's own, `[profiles.NAME]`, may have one more such table, which lies over both.

use std::collections::BTreeMap;

use super::extends::lay_over;
use super::permissions::ProfileNetwork;
use super::{RawSettings, as_key, warn_of_near_misses};
use crate::catalogue::{self, Key, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::feature_switch::{FEATURES, NETWORK_PROXY, PROFILE, PROFILES};
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The keys of lists, each with the map that says the same, and its word there.
const LISTS: [(Key, Key, &str); 3] = [
    (Key::ALLOWED_DOMAINS, Key::DOMAINS, "allow"),
    (Key::DENIED_DOMAINS, Key::DOMAINS, "deny"),
    (Key::ALLOW_UNIX_SOCKETS, Key::UNIX_SOCKETS, "allow"),
];

/// The network rules of a profile with the tables of the fifth form over them. Without a profile these
/// count alone; `None` without either.
pub(crate) fn overlaid<'t>(
    root: &TomlTable<'t>,
    profile: Option<ProfileNetwork<'t>>,
    problems: &mut Problems<'_>,
) -> Option<ProfileNetwork<'t>> {
    let mut result = profile;
    for (path, entry) in overlays(root, problems) {
        RawSettings::default().read(TopTable::Features, &path, &entry.node, problems);
        let TomlValue::Table(over) = &entry.node.value else {
            continue;
        };
        let mut over = over.clone();
        // The others are errors already.
        let known = catalogue::names_in(TopTable::Features, "");
        over.retain(|entry| known.contains(&&*entry.name));
        match &mut result {
            None => {
                result = Some(ProfileNetwork {
                    name: None,
                    path,
                    at: entry.at,
                    node: TomlNode {
                        at: entry.node.at,
                        value: TomlValue::Table(over),
                    },
                });
            }
            Some(network) => {
                // A profile that is not a table is an error where it is read.
                if let TomlValue::Table(below) = &mut network.node.value {
                    let has_map = |table: &TomlTable<'_>| {
                        let maps = [Key::DOMAINS, Key::UNIX_SOCKETS];
                        maps.iter().any(|map| table.get(map.name()).is_some())
                    };
                    if has_map(&over) && !has_map(below) {
                        lists_to_maps(below, problems);
                    }
                    lay_over(below, over);
                }
            }
        }
    }
    result
}

/// The tables of the fifth form, the lowest first, with their names.
fn overlays<'r, 't>(
    root: &'r TomlTable<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(String, &'r TomlEntry<'t>)> {
    let mut overlays = Vec::new();
    let mut add = |path: String, table: &'r TomlTable<'t>, problems: &mut Problems<'_>| {
        let features = table.get(FEATURES).map(|entry| &entry.node.value);
        if let Some(TomlValue::Table(features)) = features {
            warn_of_near_misses(features, &[NETWORK_PROXY], problems);
            let entry = features.get(NETWORK_PROXY);
            overlays
                .extend(entry.map(|entry| (format!("{path}{FEATURES}.{NETWORK_PROXY}"), entry)));
        }
    };
    add(String::new(), root, problems);
    let profile = root.get(PROFILE).map(|entry| &entry.node.value);
    let profiles = root.get(PROFILES).map(|entry| &entry.node.value);
    if let (Some(TomlValue::String(name)), Some(TomlValue::Table(profiles))) = (profile, profiles)
        && let Some(profile) = profiles.get(name)
        && let TomlValue::Table(table) = &profile.node.value
    {
        let path = format!("{PROFILES}.{}.", shown(&as_key(name)));
        add(path, table, problems);
    }
    overlays
}

/// Rewrites the lists of a table as maps, so that entries of another map can replace theirs. A host or a
/// socket on both lists is denied.
fn lists_to_maps(table: &mut TomlTable<'_>, problems: &mut Problems<'_>) {
    let mut maps: BTreeMap<Key, TomlEntry<'_>> = BTreeMap::new();
    for (list, map, word) in LISTS {
        let Some(entry) = table.get(list.name()) else {
            continue;
        };
        let TomlValue::Array(items) = &entry.node.value else {
            continue;
        };
        let mut entries = Vec::with_capacity(items.len());
        for item in items {
            let TomlValue::String(text) = &item.value else {
                let message = format!(
                    "{} must be a list of strings, but here is {}",
                    quoted(list.name()),
                    item.value.describe()
                );
                problems.error(item.at, &message, "");
                continue;
            };
            entries.push(TomlEntry {
                name: text.clone(),
                at: item.at,
                node: TomlNode {
                    at: item.at,
                    value: TomlValue::String(word.into()),
                },
            });
        }
        // Of several equal entries of one list the first stays.
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        entries.dedup_by(|later, first| later.name == first.name);
        let entry = TomlEntry {
            name: map.name().into(),
            at: entry.at,
            node: TomlNode {
                at: entry.node.at,
                value: TomlValue::Table(TomlTable::new(entries)),
            },
        };
        // The deny list is the later one, and its entries replace those of the allow list.
        let merged = match maps.remove(&map) {
            Some(below) => {
                let mut both = TomlTable::new(vec![below]);
                both.merge(TomlTable::new(vec![entry]));
                both.entries().first().cloned()
            }
            None => Some(entry),
        };
        maps.extend(merged.map(|entry| (map, entry)));
        let name = list.name();
        table.retain(|entry| entry.name != name);
    }
    table.merge(TomlTable::new(maps.into_values().collect()));
}
