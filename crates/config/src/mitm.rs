//! The `mitm` settings: switches, CA files, hooks and their actions (SPEC M1, M3, M8, M9).

mod action;
mod hook;

use std::sync::Arc;

use codex_network_policy::Hooks;
use hook::REQUIRED;

use crate::action::{Action, Actions};
use crate::catalogue::Key;
use crate::diagnostic::{Problems, quoted};
use crate::dialect::{RawSetting, RawSettings};
use crate::read;
use crate::secret::SecretReader;
use crate::settings::{CaPaths, Mitm};
use crate::toml_tree::{TomlNode, TomlValue};

/// An action under its name.
type NamedAction = (String, Action);

/// Checks the files, the hooks and the actions, and reads the secrets that the actions name.
pub(crate) fn interpret(
    raw: &RawSettings<'_>,
    mitm: &mut Mitm,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) {
    let actions = action::interpret(raw, secrets, problems);
    let hooks = hook::interpret(raw, &actions, problems);
    let (hooks, of_hooks) = hooks.into_iter().unzip();
    mitm.ca_paths = ca_paths(raw, problems);
    mitm.hooks = Arc::new(Hooks::compile(hooks));
    mitm.actions = Arc::new(Actions::new(actions, of_hooks));
}

/// Both files or neither.
fn ca_paths(raw: &RawSettings<'_>, problems: &mut Problems<'_>) -> Option<CaPaths> {
    let certificate = raw.get(Key::CA_CERT_PATH);
    let key = raw.get(Key::CA_KEY_PATH);
    if let (Some(lone), None) | (None, Some(lone)) = (certificate, key) {
        let missing = match certificate {
            Some(_) => "ca_key_path",
            None => "ca_cert_path",
        };
        let message = format!("{} without `{missing}`", quoted(lone.name));
        let help = "a CA is two files: give both, or neither for one that is made at each start";
        problems.error(lone.at, &message, help);
    }
    let written = key;
    let certificate = certificate.and_then(|setting| read::path(setting, problems));
    let key = key.and_then(|setting| read::path(setting, problems));
    if let (Some(setting), true) = (written, key.is_some() && key == certificate) {
        let message = "the CA's certificate and its key cannot be the same file";
        problems.error(setting.at, message, "give each a file of its own");
    }
    Some(CaPaths {
        certificate: certificate?,
        key: key?,
    })
}

/// The strings of a list that is not empty.
fn non_empty_list<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t TomlNode<'t>)> {
    if matches!(&setting.node.value, TomlValue::Array(items) if items.is_empty()) {
        empty_list(setting, problems);
    }
    read::strings(setting, problems)
}

/// The strings of a list that is not empty, none of which is empty.
fn non_empty_strings<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t TomlNode<'t>)> {
    let mut strings = non_empty_list(setting, problems);
    strings.retain(|(text, node)| {
        let is_empty = text.trim().is_empty();
        if is_empty {
            let message = format!("{} contains an empty string", quoted(setting.name));
            problems.error(node.at, &message, "");
        }
        !is_empty
    });
    strings
}

fn empty_list(setting: RawSetting<'_>, problems: &mut Problems<'_>) {
    let message = format!("{} is empty", quoted(setting.name));
    let help = if REQUIRED.iter().any(|(key, _)| *key == setting.name) {
        "list something"
    } else {
        "leave the key out, or list something"
    };
    problems.error(setting.node.at, &message, help);
}
