//! Checks one value: types, ranges, words. Each function reports a wrong value and returns `None`, so
//! that the caller goes on and finds the other problems.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_network_policy::{Enforcement, Mode};

use crate::catalogue::ZeroDuration;
use crate::diagnostic::{Problems, quoted};
use crate::dialect::{RawSetting, nearest};
use crate::duration;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

/// The words of `enforcement`.
pub(crate) const ENFORCEMENTS: &[(&str, Enforcement)] = &[
    ("enforce", Enforcement::Enforce),
    ("report", Enforcement::Report),
];

/// The words of `mode`.
pub(crate) const MODES: &[(&str, Mode)] = &[("full", Mode::Full), ("limited", Mode::Limited)];

pub(crate) fn boolean(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<bool> {
    match &setting.node.value {
        TomlValue::Boolean(boolean) => Some(*boolean),
        other => {
            let help = match other {
                TomlValue::String(text) if matches!(&**text, "true" | "false") => {
                    format!("write `{} = {text}`, without quotes", named(setting))
                }
                _ => String::new(),
            };
            wrong_type(setting, "`true` or `false`", &help, problems);
            None
        }
    }
}

pub(crate) fn string<'t>(setting: RawSetting<'t>, problems: &mut Problems<'_>) -> Option<&'t str> {
    let TomlValue::String(text) = &setting.node.value else {
        wrong_type(setting, "a string", "", problems);
        return None;
    };
    Some(text)
}

/// A string that is not empty.
pub(crate) fn text<'t>(setting: RawSetting<'t>, problems: &mut Problems<'_>) -> Option<&'t str> {
    let text = string(setting, problems)?;
    if text.trim().is_empty() {
        let message = format!("{} is empty", quoted(setting.name));
        let help = "leave the key out for the default";
        problems.error(setting.node.at, &message, help);
        return None;
    }
    Some(text)
}

/// One of a few words.
pub(crate) fn word<T: Copy>(
    setting: RawSetting<'_>,
    words: &[(&str, T)],
    problems: &mut Problems<'_>,
) -> Option<T> {
    let text = string(setting, problems)?;
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let list = one_of(&names);
        let message = format!(
            "{} must be {list}, not {}",
            quoted(setting.name),
            quoted(text)
        );
        let help = nearest(text, &names).map(|near| format!("did you mean `{near}`?"));
        problems.error(setting.node.at, &message, &help.unwrap_or_default());
    }
    found.map(|(_, meaning)| *meaning)
}

/// A whole number in a range.
pub(crate) fn integer(
    setting: RawSetting<'_>,
    range: RangeInclusive<u64>,
    problems: &mut Problems<'_>,
) -> Option<u64> {
    let TomlValue::Integer(integer) = setting.node.value else {
        wrong_type(setting, "a whole number", "", problems);
        return None;
    };
    let integer = integer.and_then(|integer| u64::try_from(integer).ok());
    let integer = integer.filter(|integer| range.contains(integer));
    if integer.is_none() {
        let (low, high) = (range.start(), range.end());
        let message = format!("{} must be from {low} to {high}", quoted(setting.name));
        problems.error(setting.node.at, &message, "");
    }
    integer
}

/// A duration with a unit, as `duration` reads it.
pub(crate) fn duration(
    setting: RawSetting<'_>,
    zero: ZeroDuration,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    let help = format!(
        "write for example `{} = \"10s\"` or `\"1m30s\"`",
        named(setting)
    );
    let TomlValue::String(text) = &setting.node.value else {
        wrong_type(setting, "a string with a unit", &help, problems);
        return None;
    };
    match duration::parse(text) {
        Ok(Duration::ZERO) if zero == ZeroDuration::Refused => {
            let message = format!("{} must not be zero", quoted(setting.name));
            problems.error(setting.node.at, &message, &help);
            None
        }
        Ok(duration) => Some(duration),
        Err(error) => {
            let message = format!("{}: {error}", quoted(setting.name));
            problems.error(setting.node.at, &message, &help);
            None
        }
    }
}

/// A path. A relative one is relative to the directory of its file.
pub(crate) fn path(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let text = text(setting, problems)?;
    if text.contains('\0') {
        let message = format!(
            "{} contains a NUL character, which a path cannot contain",
            quoted(setting.name)
        );
        problems.error(setting.node.at, &message, "");
        return None;
    }
    let directory = problems.texts.directory(setting.node.at);
    Some(directory.unwrap_or(Path::new("")).join(text))
}

/// The strings of a list, each with its node, for the caller to check. Elements that are not
/// strings are reported and left out.
pub(crate) fn strings<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t str, &'t TomlNode<'t>)> {
    let TomlValue::Array(items) = &setting.node.value else {
        let help = match &setting.node.value {
            TomlValue::String(_) => format!("write `{} = [\"…\"]`", named(setting)),
            _ => String::new(),
        };
        wrong_type(setting, "a list of strings", &help, problems);
        return Vec::new();
    };
    let mut strings = Vec::with_capacity(items.len());
    for item in items {
        match &item.value {
            TomlValue::String(text) => strings.push((&**text, item)),
            other => {
                let message = format!(
                    "{} must be a list of strings, but here is {}",
                    quoted(setting.name),
                    other.describe()
                );
                problems.error(item.at, &message, "");
            }
        }
    }
    strings
}

/// A table whose keys are names that the user chooses.
pub(crate) fn table<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Option<&'t TomlTable<'t>> {
    let TomlValue::Table(table) = &setting.node.value else {
        wrong_type(setting, "a table", "", problems);
        return None;
    };
    Some(table)
}

/// The value of a pattern or a path in a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EntryPermission {
    /// The entry has no effect, and cancels the same entry of an earlier layer.
    None,
    Allow,
    Deny,
}

/// The entries of a map of permissions, in the order of the configuration.
pub(crate) fn permissions<'t>(
    setting: RawSetting<'t>,
    problems: &mut Problems<'_>,
) -> Vec<(&'t TomlEntry<'t>, EntryPermission)> {
    const WORDS: &[(&str, EntryPermission)] = &[
        ("allow", EntryPermission::Allow),
        ("deny", EntryPermission::Deny),
        ("none", EntryPermission::None),
    ];
    let TomlValue::Table(map) = &setting.node.value else {
        let help = match &setting.node.value {
            TomlValue::Array(_) => format!("write `{} = {{ \"…\" = \"allow\" }}`", named(setting)),
            _ => String::new(),
        };
        wrong_type(setting, "a table of permissions", &help, problems);
        return Vec::new();
    };
    map.in_order()
        .into_iter()
        .filter_map(|entry| Some((entry, word(RawSetting::of(entry), WORDS, problems)?)))
        .collect()
}

/// Keeps one of several entries that mean the same: that of the latest layer, and in one layer the
/// strictest (SPEC C2, C11). `normalise` gives equal forms to names with one meaning; a name without such a
/// form stays by itself.
pub(crate) fn effective<'t, K: Ord>(
    entries: Vec<(&'t TomlEntry<'t>, EntryPermission)>,
    normalise: impl Fn(&str) -> Option<K>,
) -> Vec<(&'t TomlEntry<'t>, EntryPermission)> {
    let mut kept: Vec<(&TomlEntry<'_>, EntryPermission)> = Vec::with_capacity(entries.len());
    let mut places: BTreeMap<K, usize> = BTreeMap::new();
    for (entry, permission) in entries {
        let place = match normalise(&entry.name) {
            Some(normal) => *places.entry(normal).or_insert(kept.len()),
            None => kept.len(),
        };
        let rank = |(entry, permission): (&TomlEntry<'_>, _)| (entry.at.text, permission);
        match kept.get_mut(place) {
            None => kept.push((entry, permission)),
            Some(other) if rank(*other) < rank((entry, permission)) => *other = (entry, permission),
            Some(_) => {}
        }
    }
    kept
}

pub(crate) fn wrong_type(
    setting: RawSetting<'_>,
    expected: &str,
    help: &str,
    problems: &mut Problems<'_>,
) {
    let found = setting.node.value.describe();
    let message = format!("{} must be {expected}, not {found}", quoted(setting.name));
    problems.error(setting.node.at, &message, help);
}

/// The key's name in TOML that a message suggests.
pub(crate) fn named(setting: RawSetting<'_>) -> String {
    let quoted = quoted(setting.name);
    quoted.trim_matches('`').to_owned()
}

/// `"a", "b" or "c"`.
fn one_of(names: &[&str]) -> Cow<'static, str> {
    let quoted: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    match quoted.split_last() {
        None => Cow::Borrowed("nothing"),
        Some((last, [])) => Cow::Owned(last.clone()),
        Some((last, others)) => Cow::Owned(format!("{} or {last}", others.join(", "))),
    }
}
