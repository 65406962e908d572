//! The five dialects of the same settings, brought to one form (SPEC C2, C3).
//!
//! The catalogue knows the keys of each dialect's table. The result is [`RawSettings`]: each key
//! that counts with its value as written, not checked yet. `read` and `settle` check types and
//! ranges.

mod extends;
mod features;
mod permissions;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub(crate) use self::features::overlaid;
pub(crate) use self::permissions::{ProfileNetwork, names, network, selector};
use crate::catalogue::{self, Key, SELECTOR, TopTable};
use crate::diagnostic::{Problems, quoted};
use crate::feature_switch::FEATURES;
use crate::text::TextSpan;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The table of profiles, one of which `default_permissions` selects.
const PROFILES: &str = "permissions";

/// Top-level names that may be the correct spelling of a misspelled one.
const TOP_LEVEL: [&str; 6] = [
    TopTable::NetworkProxy.name(),
    TopTable::Network.name(),
    SELECTOR,
    PROFILES,
    FEATURES,
    TopTable::Daemon.name(),
];

/// The settings as written, by key.
#[derive(Debug, Default)]
pub(crate) struct RawSettings<'t>(BTreeMap<Key, RawSetting<'t>>);

/// One key as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawSetting<'t> {
    /// The key's name in its dialect.
    pub(crate) name: &'t str,
    /// Where the key is.
    pub(crate) at: TextSpan,
    pub(crate) node: &'t TomlNode<'t>,
}

/// A dialect's table in a configuration.
struct DialectTable<'t> {
    table: TopTable,
    /// The table's name in full.
    path: String,
    /// Where the table is.
    at: TextSpan,
    node: &'t TomlNode<'t>,
}

impl<'t> RawSettings<'t> {
    pub(crate) fn get(&self, key: Key) -> Option<RawSetting<'t>> {
        debug_assert!(catalogue::row(key).is_some(), "{key:?} has no row");
        self.0.get(&key).copied()
    }

    /// Reads a table at the top of a file. `path` is its name in messages.
    pub(crate) fn read(
        &mut self,
        table: TopTable,
        path: &str,
        node: &'t TomlNode<'t>,
        problems: &mut Problems<'_>,
    ) {
        self.read_inside((table, ""), path, node, problems);
    }

    /// Reads a table at this place of a table at the top.
    fn read_inside(
        &mut self,
        (table, inside): (TopTable, &str),
        path: &str,
        node: &'t TomlNode<'t>,
        problems: &mut Problems<'_>,
    ) {
        let TomlValue::Table(entries) = &node.value else {
            let message = format!("`{path}` must be a table, not {}", node.value.describe());
            problems.error(node.at, &message, &format!("write `[{path}]`"));
            return;
        };
        for entry in entries.iter() {
            let name = &*entry.name;
            let Some(known) = catalogue::entry_in(table, inside, name) else {
                unknown_key((table, inside), path, entry, problems);
                continue;
            };
            let is_table = matches!(entry.node.value, TomlValue::Table(_));
            match known.row {
                Some(row) if !(known.is_table && is_table) => {
                    self.put(row.key, RawSetting::of(entry), problems);
                }
                _ => {
                    let path = format!("{path}.{name}");
                    let inside = match inside {
                        "" => Cow::Borrowed(name),
                        inside => Cow::Owned(format!("{inside}.{name}")),
                    };
                    self.read_inside((table, &inside), &path, &entry.node, problems);
                }
            }
        }
    }

    /// Some settings may stand in either of two places of one dialect. A later layer replaces an
    /// earlier one, whichever place each uses. Both places in one text are an error.
    fn put(&mut self, key: Key, setting: RawSetting<'t>, problems: &mut Problems<'_>) {
        let Some(other) = self.0.insert(key, setting) else {
            return;
        };
        let (first, second) = if other.at < setting.at {
            (other, setting)
        } else {
            (setting, other)
        };
        if first.at.text == second.at.text {
            let place = problems.texts.file_and_line(first.at);
            let message = if first.name == second.name {
                format!("{} is set twice, here and at {place}", quoted(second.name))
            } else {
                format!(
                    "{} is the same setting as {} ({place})",
                    quoted(second.name),
                    quoted(first.name)
                )
            };
            problems.error(second.at, &message, "keep one of them");
        }
        self.0.insert(key, second);
    }
}

impl<'t> RawSetting<'t> {
    pub(crate) fn of(entry: &'t TomlEntry<'t>) -> Self {
        Self {
            name: &entry.name,
            at: entry.at,
            node: &entry.node,
        }
    }
}

/// The network rules of the selected profile and of the fifth form, if there are any. Reports problems of
/// the selection.
pub(crate) fn selected<'t>(
    root: &TomlTable<'t>,
    problems: &mut Problems<'_>,
) -> Option<ProfileNetwork<'t>> {
    let profile = permissions::selected(root, problems);
    overlaid(root, profile, problems)
}

/// Reads the dialect that the configuration uses, and `[daemon]`. Settings that are not written
/// have their defaults. `selected` is the selected profile.
pub(crate) fn read<'t>(
    root: &'t TomlTable<'t>,
    selected: Option<&'t ProfileNetwork<'t>>,
    problems: &mut Problems<'_>,
) -> RawSettings<'t> {
    warn_of_near_misses(root, &TOP_LEVEL, problems);
    let mut found: Vec<DialectTable<'t>> = [TopTable::NetworkProxy, TopTable::Network]
        .into_iter()
        .filter_map(|table| find_at_top(root, table))
        .collect();
    // In JSON the table has the form with maps (SPEC C10).
    if problems.texts.has_json() {
        let network = found.iter_mut();
        let network = network.filter(|found| found.table == TopTable::Network);
        network.for_each(|found| found.table = TopTable::Profile);
    }
    let has_profile = selected.is_some_and(|selected| selected.name.is_some());
    let features = selected.filter(|_| !has_profile).map(ProfileNetwork::table);
    let features = features.filter(|_| root.get(SELECTOR).is_none());
    if !has_profile {
        let counts = found.first().or(features.as_ref());
        permissions::check_unselected(root, counts, problems);
    }
    found.extend(selected.map(ProfileNetwork::table));
    found.sort_by_key(|found| found.at);
    for pair in found.windows(2) {
        let message = format!(
            "[{}] and [{}] ({}) are two dialects of the same settings",
            pair[1].path,
            pair[0].path,
            problems.texts.file_and_line(pair[0].at)
        );
        problems.error(pair[1].at, &message, "keep one of them");
    }
    let mut last = RawSettings::default();
    for found in found {
        note_newer_form(&found, problems);
        last = RawSettings::default();
        last.read(found.table, &found.path, found.node, problems);
    }
    if let Some(daemon) = find_at_top(root, TopTable::Daemon) {
        last.read(daemon.table, &daemon.path, daemon.node, problems);
    }
    last
}

/// Reads the network rules of a profile.
pub(crate) fn read_profile<'t>(
    profile: &'t ProfileNetwork<'t>,
    problems: &mut Problems<'_>,
) -> RawSettings<'t> {
    let mut raw = RawSettings::default();
    let found = profile.table();
    raw.read(found.table, &found.path, found.node, problems);
    raw
}

/// A table of this name at the top level.
fn find_at_top<'t>(root: &'t TomlTable<'t>, table: TopTable) -> Option<DialectTable<'t>> {
    root.get(table.name()).map(|entry| DialectTable {
        table,
        path: table.name().to_owned(),
        at: entry.at,
        node: &entry.node,
    })
}

/// Adds a note only for files, which should be kept current; `-c` is typed once, in the shortest
/// form.
fn note_newer_form(found: &DialectTable<'_>, problems: &mut Problems<'_>) {
    const NEWEST: &str = "the newest form is `default_permissions = \"NAME\"` with \
         `[permissions.NAME.network]` and its maps `domains` and `unix_sockets`";
    let lists = [
        Key::ALLOWED_DOMAINS,
        Key::DENIED_DOMAINS,
        Key::ALLOW_UNIX_SOCKETS,
    ];
    let is_newest = found.table == TopTable::Profile
        && match &found.node.value {
            TomlValue::Table(table) => lists.iter().all(|list| table.get(list.name()).is_none()),
            _ => true,
        };
    if !is_newest && !problems.texts.is_override(found.at) {
        let message = format!("[{}] is an older form, which keeps working", found.path);
        problems.note(found.at, &message, NEWEST);
    }
}

/// Tables that are not ours belong to other programs (SPEC C4), but a misspelled one of ours would
/// silently have no effect.
pub(crate) fn warn_of_near_misses(
    root: &TomlTable<'_>,
    ours: &[&str],
    problems: &mut Problems<'_>,
) {
    for entry in root.iter() {
        let name = &*entry.name;
        if name.len() > 32 || ours.contains(&name) {
            continue;
        }
        let near = |known: &&&str| strsim::osa_distance(known, name) <= known.len() / 6;
        if let Some(known) = ours.iter().find(near) {
            let message = format!("{} is not a known name and is ignored", quoted(name));
            problems.warning(entry.at, &message, &format!("did you mean `{known}`?"));
        }
    }
}

fn unknown_key(
    (table, inside): (TopTable, &str),
    path: &str,
    entry: &TomlEntry<'_>,
    problems: &mut Problems<'_>,
) {
    // A key of the requirements does not belong in another table.
    let elsewhere = (table != TopTable::Requirements)
        .then(|| catalogue::table_with(table, &entry.name))
        .flatten()
        .map(|table| format!("{} belongs in [{table}]", quoted(&entry.name)));
    let names = catalogue::names_in(table, inside);
    report_unknown(&names, path, entry, elsewhere, problems);
}

/// An error for a key that is not among `names`.
pub(crate) fn report_unknown(
    names: &[&str],
    path: &str,
    entry: &TomlEntry<'_>,
    help: Option<String>,
    problems: &mut Problems<'_>,
) {
    let help = help
        .or_else(|| nearest(&entry.name, names).map(|near| format!("did you mean `{near}`?")))
        .unwrap_or_default();
    let message = format!("unknown key {} in [{path}]", quoted(&entry.name));
    problems.error(entry.at, &message, &help);
}

/// A name as a TOML key: bare if possible, else quoted.
pub(crate) fn as_key(name: &str) -> Cow<'_, str> {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name:?}"))
    }
}

/// Returns the known name that a misspelt one probably stands for.
pub(crate) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    const NEAR: f64 = 0.85;
    // The cost of a comparison is the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&name, known), *known))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}
