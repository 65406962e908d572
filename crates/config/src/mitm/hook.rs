//! `mitm.hooks.NAME`: the requests that a hook covers, and its actions (SPEC M9).

use std::fmt::Display;

use codex_network_policy::{
    ConfigLine, HeaderNameText, HookMethod, HookSpec, Host, PathPrefix, ValuePattern,
};

use super::{NamedAction, non_empty_list, non_empty_strings};
use crate::catalogue::{self, Key, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{RawSetting, RawSettings, as_key, report_unknown};
use crate::read;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable};

/// Keys without which a hook would cover more than its author intends, and how to write each.
pub(super) const REQUIRED: &[(&str, &str)] = &[
    ("host", "host = \"api.example.com\""),
    ("methods", "methods = [\"GET\"]"),
    ("path_prefixes", "path_prefixes = [\"/v1/\"]"),
];

/// A hook, and the indices of its actions.
pub(super) type HookWithActions = (HookSpec, Vec<usize>);

/// The hooks in the order in which they are tried: the order of the configuration, those of weaker
/// layers first. A hook that a later layer mentions takes the position that it has there.
pub(super) fn interpret(
    raw: &RawSettings<'_>,
    actions: &[NamedAction],
    problems: &mut Problems<'_>,
) -> Vec<HookWithActions> {
    let table = raw
        .get(Key::HOOKS)
        .and_then(|setting| read::table(setting, problems));
    table
        .into_iter()
        .flat_map(TomlTable::in_order)
        .filter_map(|entry| hook(entry, actions, problems))
        .collect()
}

fn hook(
    entry: &TomlEntry<'_>,
    actions: &[NamedAction],
    problems: &mut Problems<'_>,
) -> Option<HookWithActions> {
    let path = format!("….mitm.hooks.{}", shown(&as_key(&entry.name)));
    let table = read::table(RawSetting::of(entry), problems)?;
    let mut host = None;
    let (mut methods, mut path_prefixes) = (Vec::new(), Vec::new());
    let (mut query, mut headers) = (Vec::new(), Vec::new());
    let mut indices = Vec::new();
    for key in table.in_order() {
        let setting = RawSetting::of(key);
        match &*key.name {
            "host" => host = exact_host(setting, problems),
            "methods" => {
                let texts = non_empty_strings(setting, problems);
                methods = parsed(setting.name, texts, HookMethod::parse, problems);
            }
            "path_prefixes" => path_prefixes = prefixes(setting, problems),
            "query" => query = conditions(setting, EmptyList::Refused, problems),
            "headers" => headers = fields(setting, problems),
            "body" => {
                let message = "`body` is reserved: hooks cannot look at bodies";
                problems.error(key.at, message, "remove it");
            }
            "action" => indices = references(setting, actions, problems),
            _ => {
                let known = catalogue::names_in(TopTable::Hook, "");
                report_unknown(&known, &path, key, None, problems);
            }
        }
    }
    for (key, example) in REQUIRED {
        if table.get(key).is_none() {
            let message = format!("the hook {} has no `{key}`", quoted(&entry.name));
            let help = format!("write for example `{example}`");
            problems.error(entry.at, &message, &help);
        }
    }
    let spec = HookSpec {
        name: entry.name.clone().into_owned(),
        written_at: Some(ConfigLine {
            file: problems.texts.text(entry.at).name.clone(),
            line: problems.texts.line(entry.at),
        }),
        host: host?,
        methods,
        path_prefixes,
        query,
        headers,
    };
    Some((spec, indices))
}

/// Hooks have exact hosts: a pattern would intercept more than its author intends.
fn exact_host(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<Host> {
    let text = read::text(setting, problems)?;
    match Host::parse(text) {
        Ok(host) => Some(host),
        Err(error) => {
            let help = if text.contains('*') {
                "a hook's host is exact: write one hook per host"
            } else {
                "write for example `host = \"api.example.com\"`"
            };
            problems.error(
                setting.node.at,
                &format!("`host`: {}", shown(&error.to_string())),
                help,
            );
            None
        }
    }
}

/// The elements of a list, each read by `parse`.
fn parsed<T, E: Display>(
    name: &str,
    strings: Vec<(&str, &TomlNode<'_>)>,
    parse: impl Fn(&str) -> Result<T, E>,
    problems: &mut Problems<'_>,
) -> Vec<T> {
    let mut meanings = Vec::with_capacity(strings.len());
    for (text, node) in strings {
        match parse(text) {
            Ok(meaning) => meanings.push(meaning),
            Err(error) => {
                let message = format!(
                    "{}: {}: {}",
                    quoted(name),
                    quoted(text),
                    shown(&error.to_string())
                );
                problems.error(node.at, &message, "");
            }
        }
    }
    meanings
}

fn prefixes(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Vec<PathPrefix> {
    let strings = non_empty_strings(setting, problems);
    for (text, node) in &strings {
        if text.starts_with('/') && text.contains('*') {
            let message = format!("{}: the `*` is an ordinary character here", quoted(text));
            let help = "write `pattern:` before it for a wildcard, or `literal:` if this character is meant";
            problems.warning(node.at, &message, help);
        }
    }
    parsed(setting.name, strings, PathPrefix::parse, problems)
}

/// Whether an empty list of values is permitted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum EmptyList {
    /// The name must be present, with any value.
    Present,
    Refused,
}

/// A table of names, each with its permitted values.
fn conditions(
    setting: RawSetting<'_>,
    empty: EmptyList,
    problems: &mut Problems<'_>,
) -> Vec<(String, Vec<ValuePattern>)> {
    let table = read::table(setting, problems);
    let mut conditions = Vec::new();
    for entry in table.into_iter().flat_map(TomlTable::in_order) {
        let values = RawSetting::of(entry);
        let texts = match empty {
            EmptyList::Present => read::strings(values, problems),
            EmptyList::Refused => non_empty_list(values, problems),
        };
        let meanings = parsed(values.name, texts, ValuePattern::parse, problems);
        conditions.push((entry.name.clone().into_owned(), meanings));
    }
    conditions
}

/// Conditions on fields, whose names are case-insensitive.
fn fields(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> Vec<(HeaderNameText, Vec<ValuePattern>)> {
    let conditions = conditions(setting, EmptyList::Present, problems);
    let mut fields: Vec<(HeaderNameText, _)> = Vec::with_capacity(conditions.len());
    for (name, values) in conditions {
        match HeaderNameText::parse(&name) {
            Ok(name) if fields.iter().any(|(other, _)| *other == name) => {
                let message = format!("`headers` has {} twice", quoted(name.as_str()));
                problems.error(setting.at, &message, "field names have no case: keep one");
            }
            Ok(name) => fields.push((name, values)),
            Err(error) => {
                let message = format!(
                    "`headers`: {}: {}",
                    quoted(&name),
                    shown(&error.to_string())
                );
                problems.error(setting.at, &message, "");
            }
        }
    }
    fields
}

fn references(
    setting: RawSetting<'_>,
    actions: &[NamedAction],
    problems: &mut Problems<'_>,
) -> Vec<usize> {
    let mut indices = Vec::new();
    for (name, node) in non_empty_strings(setting, problems) {
        let index = actions.iter().position(|(other, _)| other == name);
        if index.is_none() {
            let message = format!("there is no action {}", quoted(name));
            let help = "actions are written as `[….mitm.actions.NAME]`";
            problems.error(node.at, &message, help);
        }
        indices.extend(index);
    }
    indices
}
