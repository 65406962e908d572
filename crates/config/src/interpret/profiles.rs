//! The permission profiles that are defined and not selected: sessions may choose them (SPEC J4).
//!
//! A profile that cannot be used does not refuse the configuration, which works without it. It is left
//! out, and a warning says why.

use std::collections::BTreeMap;

use super::judge;
use crate::constraints::{ManagedLists, Requirements};
use crate::diagnostic::{Problems, quoted};
use crate::dialect::{self, RawSetting};
use crate::effect;
use crate::secret::SecretReader;
use crate::settings::Profile;
use crate::toml_tree::{TomlTable, TomlValue};

/// Profiles that sessions may choose.
const MAX_PROFILES: usize = 256;
/// Entries of the lists of all these profiles together, inherited and managed ones included.
const MAX_ENTRIES: usize = 1 << 20;

/// The profiles that are not selected, by name.
pub(super) fn unselected(
    root: &TomlTable<'_>,
    requirements: &mut Requirements,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, Profile> {
    let mut profiles = BTreeMap::new();
    let mut entries = 0;
    let selected = dialect::selector(root);
    for (name, at) in dialect::names(root).filter(|(name, _)| selected != Some(*name)) {
        let mut tried = Problems::new(problems.texts);
        let network = dialect::network(root, name, &mut tried);
        let Some(network) = network.and_then(|it| dialect::overlaid(root, Some(it), &mut tried))
        else {
            problems.warn_if_failed(tried, &left_out(name));
            continue;
        };
        if profiles.len() == MAX_PROFILES || entries >= MAX_ENTRIES {
            let message = left_out(name);
            let help = format!(
                "sessions may choose among {MAX_PROFILES} profiles with {MAX_ENTRIES} entries together"
            );
            problems.warning(at, &message, &help);
            break;
        }
        let raw = dialect::read_profile(&network, &mut tried);
        let draft = judge(
            &raw,
            ManagedLists::Copied,
            requirements,
            secrets,
            &mut tried,
        );
        if problems.warn_if_failed(tried, &left_out(name)) {
            continue;
        }
        let policy = &draft.settings.policy;
        effect::warn_of_report_only(&raw, policy, Some(name), problems);
        entries += policy.allowed().len() + policy.denied().len();
        profiles.insert(name.to_owned(), Profile::of(&draft.settings));
    }
    profiles
}

/// A warning for each profile of `[daemon.sessions] profiles` that is not defined.
pub(super) fn warn_of_unknown(
    root: &TomlTable<'_>,
    users: Option<RawSetting<'_>>,
    problems: &mut Problems<'_>,
) {
    let Some(TomlValue::Table(table)) = users.map(|setting| &setting.node.value) else {
        return;
    };
    let known: Vec<&str> = dialect::names(root).map(|(name, _)| name).collect();
    for entry in table.in_order() {
        if !known.contains(&&*entry.name) {
            let message = format!("there is no profile {}", quoted(&entry.name));
            let near = dialect::nearest(&entry.name, &known);
            let help = near.map(|near| format!("did you mean {}?", quoted(near)));
            problems.warning(entry.at, &message, &help.unwrap_or_default());
        }
    }
}

fn left_out(name: &str) -> String {
    format!("sessions cannot choose the profile {}", quoted(name))
}
