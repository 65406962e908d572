//! The fifth form of the settings, `[features.network_proxy]`, may be a switch alone:
//! `features.network_proxy = true` (SPEC C8). Here it becomes the table that it stands for, in each layer
//! by itself: else a switch in one layer would replace the rules of another.

use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The table of switches, of which one is ours.
pub(crate) const FEATURES: &str = "features";
/// Our switch or table in it.
pub(crate) const NETWORK_PROXY: &str = "network_proxy";
/// The table of Codex's own profiles, which may have switches too.
pub(crate) const PROFILES: &str = "profiles";
/// The key that selects one of these.
pub(crate) const PROFILE: &str = "profile";

/// Turns the switches of a layer into tables.
pub(crate) fn expand(layer: &mut TomlTable<'_>) {
    expand_in(layer);
    if let Some(profiles) = layer.get_mut(PROFILES)
        && let TomlValue::Table(profiles) = &mut profiles.node.value
    {
        for profile in profiles.iter_mut() {
            if let TomlValue::Table(profile) = &mut profile.node.value {
                expand_in(profile);
            }
        }
    }
}

fn expand_in(table: &mut TomlTable<'_>) {
    let Some(features) = table.get_mut(FEATURES) else {
        return;
    };
    let TomlValue::Table(features) = &mut features.node.value else {
        return;
    };
    if let Some(entry) = features.get_mut(NETWORK_PROXY)
        && let TomlValue::Boolean(enabled) = entry.node.value
    {
        let enabled = TomlEntry {
            name: "enabled".into(),
            at: entry.at,
            node: TomlNode {
                at: entry.node.at,
                value: TomlValue::Boolean(enabled),
            },
        };
        entry.node.value = TomlValue::Table(TomlTable::new(vec![enabled]));
    }
}
