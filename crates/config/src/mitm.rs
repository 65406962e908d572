//! The `mitm` settings: switches, CA files, hooks and their actions (SPEC M1, M3, M8, M9).

mod action;
mod hook;

use std::sync::Arc;

use codex_network_policy::{Hooks, Interception};

use crate::action::{Action, Actions};
use crate::diagnostic::{Problems, quoted};
use crate::generation::{Key, Raw, Setting};
use crate::merge::{Node, Value};
use crate::read;
use crate::secret::Reader;
use crate::settings::{CaPaths, Mitm};
use hook::REQUIRED;

/// An action under its name.
type Named = (String, Action);

/// Checks the settings of the table, and reads the secrets that its actions name.
pub(crate) fn settle(raw: &Raw<'_>, secrets: &mut Reader<'_>, problems: &mut Problems<'_>) -> Mitm {
    let default = Mitm::default();
    let inspect = raw
        .get(Key::MitmInspect)
        .and_then(|setting| read::boolean(setting, problems));
    let max_body_bytes = raw
        .get(Key::MitmMaxBodyBytes)
        .and_then(|setting| read::integer(setting, 0..=1 << 30, problems))
        .and_then(|integer| u64::try_from(integer).ok());
    let actions = action::settle(raw, secrets, problems);
    let hooks = hook::settle(raw, &actions, problems);
    let (hooks, taken) = hooks.into_iter().unzip();
    Mitm {
        inspect: inspect.unwrap_or(default.inspect),
        max_body_bytes: max_body_bytes.unwrap_or(default.max_body_bytes),
        ca_paths: ca_paths(raw, problems),
        hooks: Arc::new(Hooks::compile(hooks)),
        actions: Arc::new(Actions::new(actions, taken)),
    }
}

/// Whether TLS may be intercepted (SPEC M1).
pub(crate) fn interception(raw: &Raw<'_>, problems: &mut Problems<'_>) -> Interception {
    let enabled = raw
        .get(Key::Mitm)
        .and_then(|setting| read::boolean(setting, problems));
    match enabled {
        Some(false) => Interception::Forbidden,
        Some(true) | None => Interception::Automatic,
    }
}

/// The keys of hooks and actions, each with its table below `mitm`.
pub(crate) fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    let tables = [
        ("hooks.NAME", hook::KEYS),
        ("actions.NAME", action::KEYS),
        ("actions.NAME.inject_request_headers", action::INJECT_KEYS),
    ];
    tables
        .into_iter()
        .flat_map(|(table, keys)| keys.iter().map(move |key| (table, *key)))
}

/// Both files or neither.
fn ca_paths(raw: &Raw<'_>, problems: &mut Problems<'_>) -> Option<CaPaths> {
    let certificate = raw.get(Key::MitmCaCertPath);
    let key = raw.get(Key::MitmCaKeyPath);
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
    setting: Setting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t Node<'t>)> {
    if matches!(&setting.node.value, Value::Array(items) if items.is_empty()) {
        empty_list(setting, problems);
    }
    read::strings(setting, problems)
}

/// The strings of a list that is not empty, none of which is empty.
fn non_empty_strings<'t>(
    setting: Setting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t Node<'t>)> {
    let mut strings = non_empty_list(setting, problems);
    strings.retain(|(text, node)| {
        let is_empty = text.trim().is_empty();
        if is_empty {
            let message = format!("{} holds an empty string", quoted(setting.name));
            problems.error(node.at, &message, "");
        }
        !is_empty
    });
    strings
}

fn empty_list(setting: Setting<'_>, problems: &mut Problems<'_>) {
    let message = format!("{} is empty", quoted(setting.name));
    let help = if REQUIRED.iter().any(|(key, _)| *key == setting.name) {
        "list something"
    } else {
        "leave the key out, or list something"
    };
    problems.error(setting.node.at, &message, help);
}
