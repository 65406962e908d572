//! The `mitm` settings: switches, CA files, and the shape of hooks and actions (SPEC M1, M3, M8, M9).
//!
//! Interception itself does not exist yet. The hosts of hooks are handed to the policy all the same,
//! which refuses what cannot be judged request by request with `mitm_required`: a hook that does not
//! work fails closed. Secrets are not read here.

use codex_network_policy::Host;

use crate::diagnostic::{Problems, quoted};
use crate::generation::{Key, Raw, Setting, as_key, report_unknown};
use crate::merge::{Entry, Table, Value};
use crate::read;
use crate::settings::{CaPaths, Interception, Mitm};

const HOOK_KEYS: &[&str] = &[
    "host",
    "methods",
    "path_prefixes",
    "query",
    "headers",
    "body",
    "action",
];
const ACTION_KEYS: &[&str] = &["strip_request_headers", "inject_request_headers"];
const INJECT_KEYS: &[&str] = &["name", "secret_env_var", "secret_file", "prefix"];

/// The settings of the table, hooks aside.
pub(crate) fn settle(raw: &Raw<'_>, problems: &mut Problems<'_>) -> Mitm {
    let default = Mitm::default();
    let enabled = raw
        .get(Key::Mitm)
        .and_then(|setting| read::boolean(setting, problems));
    let inspect = raw
        .get(Key::MitmInspect)
        .and_then(|setting| read::boolean(setting, problems));
    let max_body_bytes = raw
        .get(Key::MitmMaxBodyBytes)
        .and_then(|setting| read::integer(setting, 0..=1 << 30, problems))
        .and_then(|integer| u64::try_from(integer).ok());
    Mitm {
        interception: match enabled {
            Some(false) => Interception::Forbidden,
            Some(true) | None => Interception::Automatic,
        },
        inspect: inspect.unwrap_or(default.inspect),
        max_body_bytes: max_body_bytes.unwrap_or(default.max_body_bytes),
        ca_paths: ca_paths(raw, problems),
        ca: default.ca,
        roots: default.roots,
    }
}

/// Both files or none.
fn ca_paths(raw: &Raw<'_>, problems: &mut Problems<'_>) -> Option<CaPaths> {
    let certificate = raw.get(Key::MitmCaCertPath);
    let key = raw.get(Key::MitmCaKeyPath);
    if let (Some(lone), None) | (None, Some(lone)) = (certificate, key) {
        let missing = match certificate {
            Some(_) => "ca_key_path",
            None => "ca_cert_path",
        };
        let message = format!("`{}` without `{missing}`", lone.name);
        let help = "a CA is two files: give both, or neither for one that is made at each start";
        problems.error(lone.at, &message, help);
    }
    let certificate = certificate.and_then(|setting| read::path(setting, problems));
    let key = key.and_then(|setting| read::path(setting, problems));
    Some(CaPaths {
        certificate: certificate?,
        key: key?,
    })
}

/// Checks hooks and actions, and gives the hosts that have hooks.
pub(crate) fn hooked_hosts(raw: &Raw<'_>, problems: &mut Problems<'_>) -> Vec<Host> {
    let actions = raw
        .get(Key::MitmActions)
        .and_then(|setting| read::table(setting, problems));
    for action in actions.into_iter().flat_map(Table::in_order) {
        check_action(action, problems);
    }
    let hooks = raw
        .get(Key::MitmHooks)
        .and_then(|setting| read::table(setting, problems));
    hooks
        .into_iter()
        .flat_map(Table::in_order)
        .filter_map(|hook| check_hook(hook, actions, problems))
        .collect()
}

fn check_hook(
    hook: &Entry<'_>,
    actions: Option<&Table<'_>>,
    problems: &mut Problems<'_>,
) -> Option<Host> {
    let path = format!("….mitm.hooks.{}", as_key(&hook.name));
    let table = read::table(Setting::of(hook), problems)?;
    let mut host = None;
    for entry in table.in_order() {
        let setting = Setting::of(entry);
        match &*entry.name {
            "host" => host = check_host(setting, problems),
            "methods" | "path_prefixes" => {
                non_empty_strings(setting, problems);
            }
            "query" => check_values(setting, Empty::Refused, problems),
            "headers" => check_values(setting, Empty::Present, problems),
            "body" => {
                let message = "`body` is reserved: hooks cannot look at bodies";
                problems.error(entry.at, message, "remove it");
            }
            "action" => check_references(setting, actions, problems),
            _ => report_unknown(HOOK_KEYS, &path, entry, None, problems),
        }
    }
    if table.get("host").is_none() {
        let message = format!("the hook {} has no `host`", quoted(&hook.name));
        problems.error(
            hook.at,
            &message,
            "write for example `host = \"api.example.com\"`",
        );
    }
    host
}

/// Hooks are for exact hosts: a pattern would intercept more than its author sees.
fn check_host(setting: Setting<'_>, problems: &mut Problems<'_>) -> Option<Host> {
    let text = read::text(setting, problems)?;
    match Host::parse(text) {
        Ok(host) => Some(host),
        Err(error) => {
            let help = if text.contains('*') {
                "a hook's host is exact: write one hook per host"
            } else {
                "write for example `host = \"api.example.com\"`"
            };
            problems.error(setting.node.at, &format!("`host`: {error}"), help);
            None
        }
    }
}

/// Whether an empty list of values means something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Empty {
    /// The field must be there, with any value.
    Present,
    Refused,
}

/// A table of names to the values that each may have.
fn check_values(setting: Setting<'_>, empty: Empty, problems: &mut Problems<'_>) {
    let Some(table) = read::table(setting, problems) else {
        return;
    };
    for entry in table.in_order() {
        let values = Setting::of(entry);
        match empty {
            Empty::Present => drop(read::strings(values, problems)),
            Empty::Refused => drop(non_empty_strings(values, problems)),
        }
    }
}

fn check_references(
    setting: Setting<'_>,
    actions: Option<&Table<'_>>,
    problems: &mut Problems<'_>,
) {
    for (name, node) in non_empty_strings(setting, problems) {
        if actions.is_none_or(|actions| actions.get(name).is_none()) {
            let message = format!("there is no action {}", quoted(name));
            let help = "actions are written as `[….mitm.actions.NAME]`";
            problems.error(node.at, &message, help);
        }
    }
}

fn check_action(action: &Entry<'_>, problems: &mut Problems<'_>) {
    let path = format!("….mitm.actions.{}", as_key(&action.name));
    let Some(table) = read::table(Setting::of(action), problems) else {
        return;
    };
    for entry in table.in_order() {
        let setting = Setting::of(entry);
        match &*entry.name {
            "strip_request_headers" => {
                non_empty_strings(setting, problems);
            }
            "inject_request_headers" => check_injections(setting, &path, problems),
            _ => report_unknown(ACTION_KEYS, &path, entry, None, problems),
        }
    }
}

fn check_injections(setting: Setting<'_>, path: &str, problems: &mut Problems<'_>) {
    let Value::Array(items) = &setting.node.value else {
        let help = "write `[[….inject_request_headers]]`, once per header";
        read::wrong_type(setting, "a list of tables", help, problems);
        return;
    };
    if items.is_empty() {
        empty_list(setting, problems);
    }
    let path = format!("{path}.inject_request_headers");
    for item in items {
        let Value::Table(table) = &item.value else {
            let found = item.value.describe();
            let message = format!(
                "`{}` must be a list of tables, not of {found}",
                setting.name
            );
            problems.error(item.at, &message, "");
            continue;
        };
        check_injection(table, item.at, &path, problems);
    }
}

fn check_injection(
    table: &Table<'_>,
    at: crate::text::Place,
    path: &str,
    problems: &mut Problems<'_>,
) {
    for entry in table.in_order() {
        let setting = Setting::of(entry);
        match &*entry.name {
            "name" | "secret_env_var" => {
                read::text(setting, problems);
            }
            "prefix" => {
                read::string(setting, problems);
            }
            "secret_file" => {
                let text = read::text(setting, problems);
                if text.is_some_and(|text| !text.starts_with('/')) {
                    problems.error(setting.node.at, "`secret_file` must be absolute", "");
                }
            }
            _ => report_unknown(INJECT_KEYS, path, entry, None, problems),
        }
    }
    if table.get("name").is_none() {
        problems.error(at, "an injected header has no `name`", "");
    }
    let sources = ["secret_env_var", "secret_file"];
    if sources
        .iter()
        .filter(|key| table.get(key).is_some())
        .count()
        != 1
    {
        let message = "an injected header needs exactly one of `secret_env_var` and `secret_file`";
        problems.error(at, message, "");
    }
}

fn non_empty_strings<'t>(
    setting: Setting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t crate::merge::Node<'t>)> {
    if matches!(&setting.node.value, Value::Array(items) if items.is_empty()) {
        empty_list(setting, problems);
    }
    let strings = read::strings(setting, problems);
    for (text, node) in &strings {
        if text.trim().is_empty() {
            let message = format!("{} holds an empty string", quoted(setting.name));
            problems.error(node.at, &message, "");
        }
    }
    strings
}

fn empty_list(setting: Setting<'_>, problems: &mut Problems<'_>) {
    let message = format!("{} is empty", quoted(setting.name));
    problems.error(
        setting.node.at,
        &message,
        "leave the key out, or list something",
    );
}
