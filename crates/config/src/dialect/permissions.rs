//! The third and fourth dialect: `default_permissions = "NAME"` selects a `[permissions.NAME]`, whose
//! `network` table holds lists (third) or the maps `domains` and `unix_sockets` (fourth). `interpret`
//! checks that they are not mixed. `extends` adds the tables of other profiles.
//!
//! A profile has other tables, such as file system rules. Only `network` is read.

use super::extends::{self, BUILT_IN};
use super::{DialectTable, PROFILES, as_key, nearest};
use crate::catalogue::{Key, SELECTOR, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::text::TextSpan;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The network rules of a profile, with everything that it inherits and with those of
/// `[features.network_proxy]` over them.
#[derive(Debug)]
pub(crate) struct ProfileNetwork<'t> {
    /// The profile; `None` if `[features.network_proxy]` stands alone.
    pub(crate) name: Option<String>,
    /// The table's name in messages.
    pub(super) path: String,
    /// The place of its `network` table, or of the `extends` that stands for one.
    pub(super) at: TextSpan,
    pub(super) node: TomlNode<'t>,
}

impl<'t> ProfileNetwork<'t> {
    /// The table as one of the dialect.
    pub(super) fn table<'n>(&'n self) -> DialectTable<'n>
    where
        't: 'n,
    {
        DialectTable {
            table: TopTable::Profile,
            path: self.path.clone(),
            at: self.at,
            node: &self.node,
        }
    }
}

/// The table of profiles.
fn profiles<'p, 't>(root: &'p TomlTable<'t>) -> Option<&'p TomlTable<'t>> {
    match &root.get(PROFILES)?.node.value {
        TomlValue::Table(table) => Some(table),
        _ => None,
    }
}

/// The names of all profiles that may have network rules, in the order of the texts.
pub(crate) fn names<'p>(root: &'p TomlTable<'_>) -> impl Iterator<Item = (&'p str, TextSpan)> {
    let profiles = profiles(root).map(TomlTable::in_order);
    let profiles = profiles.into_iter().flatten();
    let profiles = profiles.filter(|profile| !profile.name.starts_with(':'));
    profiles.map(|profile| (&*profile.name, profile.at))
}

/// The name of the selected profile, whether it is there or not.
pub(crate) fn selector<'p>(root: &'p TomlTable<'_>) -> Option<&'p str> {
    match &root.get(SELECTOR)?.node.value {
        TomlValue::String(name) => Some(name),
        _ => None,
    }
}

/// The network rules of a profile that is there; `None` if it has none, or they have an error.
pub(crate) fn network<'t>(
    root: &TomlTable<'t>,
    name: &str,
    problems: &mut Problems<'_>,
) -> Option<ProfileNetwork<'t>> {
    let profiles = profiles(root)?;
    let profile = profiles.get(name)?;
    let TomlValue::Table(table) = &profile.node.value else {
        let message = format!(
            "the profile {} must be a table, not {}",
            quoted(name),
            profile.node.value.describe()
        );
        problems.error(profile.node.at, &message, "");
        return None;
    };
    let own = table.get("network").or_else(|| table.get("extends"))?;
    Some(ProfileNetwork {
        name: Some(name.to_owned()),
        path: format!("{PROFILES}.{}.network", shown(&as_key(name))),
        at: own.at,
        node: extends::network(profiles, profile, problems)?,
    })
}

/// The selected profile's network rules, if it has any. Reports problems of the selection.
pub(crate) fn selected<'t>(
    root: &TomlTable<'t>,
    problems: &mut Problems<'_>,
) -> Option<ProfileNetwork<'t>> {
    let profiles = match root.get(PROFILES).map(|entry| &entry.node) {
        None => &TomlTable::default(),
        Some(TomlNode {
            value: TomlValue::Table(table),
            ..
        }) => table,
        Some(other) => {
            let found = other.value.describe();
            let message = format!("`permissions` must be a table, not {found}");
            problems.error(other.at, &message, "write `[permissions.NAME.network]`");
            return None;
        }
    };
    refuse_names_of_codex(profiles, problems);
    let selector = root.get(SELECTOR)?;
    let TomlValue::String(name) = &selector.node.value else {
        let message = format!(
            "`{SELECTOR}` must be the name of a profile, not {}",
            selector.node.value.describe()
        );
        problems.error(selector.node.at, &message, "");
        return None;
    };
    if BUILT_IN.contains(&&**name) {
        let message = format!(
            "{} is a profile of Codex's own, which has no network rules",
            quoted(name)
        );
        problems.note(selector.node.at, &message, "");
        return None;
    }
    if profiles.get(name).is_none() {
        let names = profiles.iter().map(|profile| &*profile.name);
        let help = if name.starts_with(':') {
            let names = BUILT_IN.map(quoted).join(", ");
            format!("names that begin with `:` are Codex's own: {names}")
        } else {
            let names: Vec<&str> = names.collect();
            match (nearest(name, &names), &names[..]) {
                (Some(near), _) => format!("did you mean {}?", quoted(near)),
                (None, []) => "there is no [permissions.NAME] at all".to_owned(),
                (None, [first, ..]) => format!("a profile that exists is {}", quoted(first)),
            }
        };
        let message = format!("unknown profile {}", quoted(name));
        problems.error(selector.node.at, &message, &help);
        return None;
    }
    network(root, name, problems)
}

/// Names that begin with `:` are Codex's own, so a table with such a name could never be selected.
fn refuse_names_of_codex(profiles: &TomlTable<'_>, problems: &mut Problems<'_>) {
    for profile in profiles.iter().filter(|one| one.name.starts_with(':')) {
        if let Some(network) = own_network(profile) {
            let message = format!(
                "the name of the profile {} begins with `:`",
                quoted(&profile.name)
            );
            let help = "such names are Codex's own: give it another one";
            problems.error(network.at, &message, help);
        }
    }
}

/// Profiles with network rules are probably meant to be used. Where none is selected, that is an
/// error, unless an older form is in force: then it is a warning (SPEC C13).
pub(super) fn check_unselected(
    root: &TomlTable<'_>,
    older: Option<&DialectTable<'_>>,
    problems: &mut Problems<'_>,
) {
    let profiles = profiles(root).map(TomlTable::in_order);
    let profiles = profiles.into_iter().flatten();
    let profiles = profiles.filter(|profile| !profile.name.starts_with(':'));
    let mut with_network = profiles.filter_map(|profile| {
        let network = own_network(profile)?;
        Some((profile, network))
    });
    let path =
        |profile: &TomlEntry<'_>| format!("permissions.{}.network", shown(&as_key(&profile.name)));
    match older {
        Some(older) => {
            for (profile, network) in with_network {
                if !has_users(root, &profile.name) {
                    let path = path(profile);
                    let message = format!("[{path}] is not selected: [{}] counts", older.path);
                    let help = format!(
                        "keep one of them, or name the users of the profile in `[{}]`",
                        Key::SESSION_PROFILES.name()
                    );
                    problems.warning(network.at, &message, &help);
                }
            }
        }
        None if root.get(SELECTOR).is_none() => {
            if let Some((profile, network)) = with_network.next() {
                let path = path(profile);
                let message = format!("[{path}] has no effect: no profile is selected");
                let name = shown(&format!("{:?}", profile.name));
                let help = format!("write `{SELECTOR} = {name}` at the top of the file");
                problems.error(network.at, &message, &help);
            }
        }
        None => {}
    }
}

/// Whether `[daemon.sessions] profiles` names the profile: then sessions are meant to choose it.
fn has_users(root: &TomlTable<'_>, name: &str) -> bool {
    let mut path = Key::SESSION_PROFILES.name().split('.');
    let table = path.try_fold(root, |table, name| match &table.get(name)?.node.value {
        TomlValue::Table(inner) => Some(inner),
        _ => None,
    });
    table.is_some_and(|table| table.get(name).is_some())
}

fn own_network<'p, 't>(profile: &'p TomlEntry<'t>) -> Option<&'p TomlEntry<'t>> {
    match &profile.node.value {
        TomlValue::Table(table) => table.get("network"),
        _ => None,
    }
}
