//! `mitm.actions.NAME`: fields to strip, and fields to inject with their secrets (SPEC M9).

use std::path::PathBuf;

use codex_network_policy::{FieldClass, HeaderNameText};
use zeroize::Zeroizing;

use super::{NamedAction, empty_list, non_empty_strings};
use crate::action::{Action, Injection};
use crate::catalogue::{self, Key, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{RawSetting, RawSettings, as_key, report_unknown};
use crate::injected_field::{self, is_value};
use crate::read;
use crate::secret::{Readers, Secret, SecretReader, SecretSource};
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The actions in the order of the configuration. An invalid one is empty.
pub(super) fn interpret(
    raw: &RawSettings<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Vec<NamedAction> {
    let table = raw
        .get(Key::ACTIONS)
        .and_then(|setting| read::table(setting, problems));
    let entries = table.into_iter().flat_map(TomlTable::in_order);
    entries
        .map(|entry| {
            let action = action(entry, secrets, problems).unwrap_or_default();
            (entry.name.clone().into_owned(), action)
        })
        .collect()
}

fn action(
    entry: &TomlEntry<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<Action> {
    let path = format!("….mitm.actions.{}", shown(&as_key(&entry.name)));
    let table = read::table(RawSetting::of(entry), problems)?;
    let mut action = Action::default();
    for key in table.in_order() {
        let setting = RawSetting::of(key);
        match &*key.name {
            "strip_request_headers" => action.strip = strip(setting, problems),
            "inject_request_headers" => {
                action.inject = injections(setting, &path, secrets, problems);
            }
            _ => report_unknown(&keys(), &path, key, None, problems),
        }
    }
    if keys().iter().all(|key| table.get(key).is_none()) {
        let message = format!("the action {} does nothing", quoted(&entry.name));
        let help = "give it `strip_request_headers` or `inject_request_headers`";
        problems.error(entry.at, &message, help);
    }
    Some(action)
}

/// The keys of an action.
fn keys() -> Vec<&'static str> {
    catalogue::names_in(TopTable::Action, "")
}

/// The keys of an injected header.
fn injection_keys() -> Vec<&'static str> {
    catalogue::names_in(TopTable::Injection, "")
}

fn strip(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Vec<HeaderNameText> {
    let mut names = Vec::new();
    for (text, node) in non_empty_strings(setting, problems) {
        match HeaderNameText::parse(text) {
            Ok(name) if is_written_by_us(&name) => {
                let message = format!("{} cannot be stripped", quoted(name.as_str()));
                problems.error(node.at, &message, "the proxy writes this field itself");
            }
            Ok(name) => names.push(name),
            Err(error) => {
                let message = format!(
                    "{}: {}: {}",
                    quoted(setting.name),
                    quoted(text),
                    shown(&error.to_string())
                );
                problems.error(node.at, &message, "");
            }
        }
    }
    names
}

/// Whether a field frames the message, names its host, or concerns one connection only.
fn is_written_by_us(name: &HeaderNameText) -> bool {
    let class = FieldClass::of(name.as_str());
    matches!(class, Some(FieldClass::Framing | FieldClass::HopByHop))
}

fn injections(
    setting: RawSetting<'_>,
    path: &str,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Vec<Injection> {
    let TomlValue::Array(items) = &setting.node.value else {
        let help = "write `[[….inject_request_headers]]`, once per header";
        read::wrong_type(setting, "a list of tables", help, problems);
        return Vec::new();
    };
    if items.is_empty() {
        empty_list(setting, problems);
    }
    let path = format!("{path}.inject_request_headers");
    let known = injection_keys();
    let mut injections = Vec::new();
    for item in items {
        let TomlValue::Table(table) = &item.value else {
            let found = item.value.describe();
            let message = format!(
                "{} must be a list of tables, not of {found}",
                quoted(setting.name)
            );
            problems.without_excerpts(|problems| problems.error(item.at, &message, ""));
            continue;
        };
        let is_known = |entry: &TomlEntry<'_>| known.contains(&&*entry.name);
        if table.iter().all(is_known) {
            injections.extend(injection(item, table, &path, secrets, problems));
        } else {
            // The value of an unknown key is often the secret itself.
            problems.without_excerpts(|problems| {
                injection(item, table, &path, secrets, problems);
            });
        }
    }
    injections
}

fn injection(
    item: &TomlNode<'_>,
    table: &TomlTable<'_>,
    path: &str,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<Injection> {
    let mut name = None;
    let mut prefix = Some("");
    let mut sources = Vec::new();
    for entry in table.in_order() {
        let setting = RawSetting::of(entry);
        match &*entry.name {
            "name" => name = injected_field::name(setting, problems),
            "prefix" => prefix = injected_field::prefix(setting, problems),
            "secret_env_var" => {
                let variable = read::text(setting, problems);
                let variable = variable.map(|name| SecretSource::Environment(name.to_owned()));
                sources.push((variable, setting));
            }
            "secret_file" => sources.push((secret_file(setting, problems), setting)),
            "value" | "secret" => {
                let help = "the configuration cannot contain a secret: name a `secret_env_var` or a `secret_file`";
                report_unknown(
                    &injection_keys(),
                    path,
                    entry,
                    Some(help.to_owned()),
                    problems,
                );
            }
            _ => report_unknown(&injection_keys(), path, entry, None, problems),
        }
    }
    if table.get("name").is_none() {
        problems.error(item.at, "an injected header has no `name`", "");
    }
    let [(source, setting)] = &sources[..] else {
        let message = "an injected header needs exactly one of `secret_env_var` and `secret_file`";
        problems.error(item.at, message, "");
        return None;
    };
    let source = source.clone()?;
    let secret = secret(&source, *setting, secrets, problems)?;
    let value = value(prefix?, &secret, &source, *setting, problems)?;
    Some(Injection {
        name: name?,
        value,
        source,
    })
}

fn secret_file(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<SecretSource> {
    let text = read::text(setting, problems)?;
    if !text.starts_with('/') {
        problems.error(setting.node.at, "`secret_file` must be absolute", "");
        return None;
    }
    if text.contains('\0') {
        let message = "`secret_file` contains a NUL character, which a path cannot contain";
        problems.error(setting.node.at, message, "");
        return None;
    }
    Some(SecretSource::File(PathBuf::from(text)))
}

fn secret(
    source: &SecretSource,
    setting: RawSetting<'_>,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    match secrets.read(source) {
        Ok(found) => {
            if found.readers == Readers::Others {
                let message = format!(
                    "{} can be read by others than its owner",
                    shown(&source.to_string())
                );
                let help = "remove that permission, as in `chmod go-r FILE`";
                problems.warning(setting.node.at, &message, help);
            }
            Some(found.secret)
        }
        Err(error) => {
            let message = format!("{} {error}", shown(&source.to_string()));
            problems.error(setting.node.at, &message, error.help());
            None
        }
    }
}

/// Prefix and secret as a field value (RFC 9110 section 5.5), restricted like credentials: the
/// receiver strips white space around a value, which changes it.
fn value(
    prefix: &str,
    secret: &Secret,
    source: &SecretSource,
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Option<Secret> {
    // One allocation: a vector that grows leaves its old bytes behind.
    let mut value = Zeroizing::new(Vec::with_capacity(prefix.len() + secret.expose().len()));
    value.extend_from_slice(prefix.as_bytes());
    value.extend_from_slice(secret.expose());
    let why = if !is_value(&value) {
        "holds something other than printable ASCII, such as a line end"
    } else if secret.expose().starts_with(b" ") || value.ends_with(b" ") {
        "has a space in front or behind"
    } else {
        return Some(Secret::new(std::mem::take(&mut *value)));
    };
    let message = format!(
        "{} {why}, so it cannot be a header's value",
        shown(&source.to_string())
    );
    problems.error(setting.node.at, &message, "");
    None
}
