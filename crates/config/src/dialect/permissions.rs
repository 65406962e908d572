//! The third and fourth dialect: `default_permissions = "NAME"` selects a `[permissions.NAME]`, whose
//! `network` table holds lists (third) or the maps `domains` and `unix_sockets` (fourth). `interpret`
//! checks that they are not mixed.
//!
//! A profile has other tables, such as file system rules. Only `network` is read.

use super::{DialectTable, PROFILES, as_key, nearest};
use crate::catalogue::{SELECTOR, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::toml_tree::{TomlEntry, TomlTable, TomlValue};

/// The selected profile's `network` table, if it has one.
pub(super) fn find<'t>(
    root: &'t TomlTable<'t>,
    others_used: bool,
    problems: &mut Problems<'_>,
) -> Option<DialectTable<'t>> {
    let profiles = match root.get(PROFILES) {
        None => &[][..],
        Some(entry) => match &entry.node.value {
            TomlValue::Table(table) => table.entries(),
            other => {
                let message = format!("`permissions` must be a table, not {}", other.describe());
                problems.error(
                    entry.node.at,
                    &message,
                    "write `[permissions.NAME.network]`",
                );
                return None;
            }
        },
    };
    let Some(selector) = root.get(SELECTOR) else {
        if !others_used {
            require_selection(profiles, problems);
        }
        return None;
    };
    let TomlValue::String(name) = &selector.node.value else {
        let message = format!(
            "`{SELECTOR}` must be the name of a profile, not {}",
            selector.node.value.describe()
        );
        problems.error(selector.node.at, &message, "");
        return None;
    };
    let Some(profile) = profiles.iter().find(|profile| profile.name == *name) else {
        // Codex's built-in profiles (`:workspace`, `:read-only`, …) have no network rules.
        if !name.starts_with(':') {
            let names: Vec<&str> = profiles.iter().map(|profile| &*profile.name).collect();
            let help = match (nearest(name, &names), &names[..]) {
                (Some(near), _) => format!("did you mean {}?", quoted(near)),
                (None, []) => "there is no [permissions.NAME] at all".to_owned(),
                (None, [first, ..]) => format!("a profile that exists is {}", quoted(first)),
            };
            let message = format!("unknown profile {}", quoted(name));
            problems.error(selector.node.at, &message, &help);
        }
        return None;
    };
    let TomlValue::Table(table) = &profile.node.value else {
        let message = format!(
            "the profile {} must be a table, not {}",
            quoted(name),
            profile.node.value.describe()
        );
        problems.error(profile.node.at, &message, "");
        return None;
    };
    refuse_inheritance(table, problems);
    let network = table.get("network")?;
    Some(DialectTable {
        table: TopTable::Profile,
        path: format!("{PROFILES}.{}.network", shown(&as_key(name))),
        at: network.at,
        node: &network.node,
    })
}

/// Profiles with network rules are probably meant to be used, so one must be selected.
fn require_selection(profiles: &[TomlEntry<'_>], problems: &mut Problems<'_>) {
    let with_network = profiles
        .iter()
        .find_map(|profile| match &profile.node.value {
            TomlValue::Table(table) => table.get("network").map(|network| (profile, network)),
            _ => None,
        });
    if let Some((profile, network)) = with_network {
        let message = format!(
            "[permissions.{}.network] has no effect: no profile is selected",
            shown(&as_key(&profile.name))
        );
        let help = format!(
            "write `{SELECTOR} = {}` at the top of the file",
            shown(&format!("{:?}", profile.name))
        );
        problems.error(network.at, &message, &help);
    }
}

/// A profile may extend another one in Codex. The proxy does not follow that. If it ignored
/// `extends`, the inherited deny list would be missing, so it refuses.
fn refuse_inheritance(profile: &TomlTable<'_>, problems: &mut Problems<'_>) {
    let Some(extends) = profile.get("extends") else {
        return;
    };
    let built_in = matches!(&extends.node.value, TomlValue::String(name) if name.starts_with(':'));
    if !built_in {
        problems.error(
            extends.at,
            "`extends` is not followed: network rules of the other profile would not count here",
            "repeat them in this profile's `network` table and take `extends` out",
        );
    }
}
