//! `[permissions.NAME] extends = "PARENT"` (SPEC C9): a profile's `network` table over those of the
//! profiles that it extends.
//!
//! Tables merge entry by entry, and the entries of the child win. Lists of patterns, presets and paths are joined:
//! a list has no way to take an entry back, so a deny entry of a parent stays. Other values replace.

use std::borrow::Cow;
use std::collections::HashSet;

use codex_network_policy::{ListKind, Pattern, UnixSocketPath};

use super::nearest;
use crate::catalogue::Key;
use crate::diagnostic::{Problems, quoted};
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The profiles of Codex that have no table in a file, and no network rules.
pub(super) const BUILT_IN: [&str; 3] = [":read-only", ":workspace", ":danger-full-access"];

/// Profiles in a chain of `extends`. Bounds the work for one profile.
const MAX_CHAIN: usize = 16;

/// The `network` table of a profile, with everything that it inherits; `None` if no profile of the
/// chain has such a table, or the chain has an error.
pub(super) fn network<'t>(
    profiles: &TomlTable<'t>,
    profile: &TomlEntry<'t>,
    problems: &mut Problems<'_>,
) -> Option<TomlNode<'t>> {
    let chain = chain(profiles, profile, problems)?;
    let mut network: Option<TomlNode<'t>> = None;
    // The root of the chain first.
    for profile in chain.into_iter().rev() {
        let Some(own) = table_of(profile).and_then(|table| table.get("network")) else {
            continue;
        };
        network = Some(match network {
            Some(TomlNode {
                value: TomlValue::Table(parent),
                ..
            }) => TomlNode {
                at: own.node.at,
                value: inherit(parent, own, problems),
            },
            // The reader of the table reports a parent that is not one.
            Some(parent) => parent,
            None => own.node.clone(),
        });
    }
    network
}

/// The profile, its parent, the parent's parent, and so on.
fn chain<'p, 't>(
    profiles: &'p TomlTable<'t>,
    profile: &'p TomlEntry<'t>,
    problems: &mut Problems<'_>,
) -> Option<Vec<&'p TomlEntry<'t>>> {
    let mut chain = vec![profile];
    let mut last = profile;
    while let Some(extends) = table_of(last).and_then(|table| table.get("extends")) {
        let TomlValue::String(name) = &extends.node.value else {
            let found = extends.node.value.describe();
            let message = format!("`extends` must be the name of a profile, not {found}");
            problems.error(extends.node.at, &message, "");
            return None;
        };
        if BUILT_IN.contains(&&**name) {
            break;
        }
        let names = chain.iter().map(|profile| &*profile.name).chain([&**name]);
        let in_words = || names.map(quoted).collect::<Vec<_>>().join(" extends ");
        let Some(parent) = profiles.get(name) else {
            let message = format!("unknown profile {}: {}", quoted(name), in_words());
            let known: Vec<&str> = profiles.iter().map(|profile| &*profile.name).collect();
            let known = [&BUILT_IN[..], &known].concat();
            let near = nearest(name, &known).map(|near| format!("did you mean {}?", quoted(near)));
            problems.error(extends.node.at, &message, &near.unwrap_or_default());
            return None;
        };
        if chain.iter().any(|profile| profile.name == parent.name) {
            let message = format!("`extends` leads in a circle: {}", in_words());
            problems.error(extends.node.at, &message, "");
            return None;
        }
        if chain.len() == MAX_CHAIN {
            let message = format!("the chain of `extends` has more than {MAX_CHAIN} profiles");
            problems.error(extends.node.at, &message, "");
            return None;
        }
        chain.push(parent);
        last = parent;
    }
    Some(chain)
}

fn table_of<'p, 't>(profile: &'p TomlEntry<'t>) -> Option<&'p TomlTable<'t>> {
    match &profile.node.value {
        TomlValue::Table(table) => Some(table),
        _ => None,
    }
}

/// A child's `network` table over that of its parent.
fn inherit<'t>(
    mut parent: TomlTable<'t>,
    child: &TomlEntry<'t>,
    problems: &mut Problems<'_>,
) -> TomlValue<'t> {
    let TomlValue::Table(table) = &child.node.value else {
        return child.node.value.clone();
    };
    let mut entries = Vec::with_capacity(table.entries().len());
    for entry in table.iter() {
        let mut entry = entry.clone();
        if let Some(inherited) = parent.get_mut(&entry.name) {
            match (&mut inherited.node.value, &mut entry.node.value) {
                (TomlValue::Table(inherited), TomlValue::Table(own)) => {
                    if let Some(normalise) = normaliser(&entry.name) {
                        take_out(inherited, own, normalise);
                    }
                }
                (TomlValue::Array(inherited), TomlValue::Array(own)) if is_list(&entry.name) => {
                    inherited.append(own);
                    std::mem::swap(inherited, own);
                }
                (TomlValue::Table(_), _) | (_, TomlValue::Table(_)) => {
                    let message = format!(
                        "{} is {} here, and {} in the profile that this one extends ({})",
                        quoted(&entry.name),
                        entry.node.value.describe(),
                        inherited.node.value.describe(),
                        problems.texts.file_and_line(inherited.at),
                    );
                    problems.error(entry.at, &message, "write it in the same form");
                }
                _ => {}
            }
        }
        entries.push(entry);
    }
    parent.merge(TomlTable::new(entries));
    TomlValue::Table(parent)
}

/// Whether a list of a parent and of its child are joined.
fn is_list(name: &str) -> bool {
    let lists = [
        Key::ALLOWED_DOMAINS,
        Key::DENIED_DOMAINS,
        Key::ALLOW_UNIX_SOCKETS,
        Key::PRESETS,
    ];
    lists.iter().any(|key| key.name() == name)
}

/// Texts that mean the same have one normal form.
type Normalise = fn(&str) -> Cow<'_, [u8]>;

/// How the names in a map are compared whose entries are replaced as a whole.
fn normaliser(name: &str) -> Option<Normalise> {
    if name == Key::DOMAINS.name() {
        return Some(|text| match Pattern::parse(text, ListKind::Allow) {
            Ok(pattern) => Cow::Owned(pattern.to_string().into_bytes()),
            Err(_) => Cow::Borrowed(text.as_bytes()),
        });
    }
    if name == Key::CREDENTIALS.name() {
        return Some(|text| Cow::Borrowed(text.as_bytes()));
    }
    (name == Key::UNIX_SOCKETS.name()).then_some(|text| {
        match UnixSocketPath::parse(text.as_bytes()) {
            Ok(path) => Cow::Owned(path.as_bytes().to_vec()),
            Err(_) => Cow::Borrowed(text.as_bytes()),
        }
    })
}

/// Lays a table over another one: what it has replaces what is below, in maps entry by entry.
pub(super) fn lay_over<'t>(below: &mut TomlTable<'t>, over: TomlTable<'t>) {
    for entry in over.iter() {
        if let Some(normalise) = normaliser(&entry.name)
            && let TomlValue::Table(own) = &entry.node.value
            && let Some(replaced) = below.get_mut(&entry.name)
            && let TomlValue::Table(replaced) = &mut replaced.node.value
        {
            take_out(replaced, own, normalise);
        }
    }
    below.merge(over);
}

/// Takes the entries out of the parent's map that the child has too, in whatever spelling.
fn take_out(parent: &mut TomlTable<'_>, child: &TomlTable<'_>, normalise: Normalise) {
    let own: HashSet<Cow<'_, [u8]>> = child.iter().map(|entry| normalise(&entry.name)).collect();
    parent.retain(|entry| !own.contains(&normalise(&entry.name)));
}
