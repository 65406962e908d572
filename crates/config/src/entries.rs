//! The elements of lists, each with a meaning: patterns, socket paths, users, name servers. An
//! invalid element is reported and left out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use codex_network_policy::{ConfigLine, ListKind, Pattern};

use crate::catalogue::Key;
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{RawSetting, RawSettings, nearest};
use crate::read;
use crate::service_presets::{SERVICE_PRESETS, ServicePreset};
use crate::settings::{Principal, ProfileUsers};
use crate::text::TextSpan;
use crate::toml_tree::{TomlNode, TomlTable, TomlValue};

/// The source of a compiled list: patterns with their places.
pub(crate) type Rules = Vec<(Pattern, Option<ConfigLine>)>;

/// The patterns of one list.
pub(crate) fn patterns(
    raw: &RawSettings<'_>,
    key: Key,
    kind: ListKind,
    problems: &mut Problems<'_>,
) -> Rules {
    let items = raw.get(key).map(|setting| read::strings(setting, problems));
    items
        .into_iter()
        .flatten()
        .filter_map(|(text, node)| pattern(text, node.at, kind, problems))
        .collect()
}

/// One pattern and its line.
pub(crate) fn pattern(
    text: &str,
    at: TextSpan,
    kind: ListKind,
    problems: &mut Problems<'_>,
) -> Option<(Pattern, Option<ConfigLine>)> {
    match Pattern::parse(text, kind) {
        Ok(pattern) => Some((pattern, Some(problems.texts.config_line(at)))),
        Err(error) => {
            let message = format!(
                "bad pattern {}: {}",
                quoted(text),
                shown(&error.to_string())
            );
            problems.error(at, &message, "");
            None
        }
    }
}

/// Presets by name.
pub(crate) fn presets(
    raw: &RawSettings<'_>,
    problems: &mut Problems<'_>,
) -> Vec<&'static ServicePreset> {
    let Some(setting) = raw.get(Key::PRESETS) else {
        return Vec::new();
    };
    let mut presets = Vec::new();
    for (name, node) in read::strings(setting, problems) {
        let Some(preset) = ServicePreset::find(name) else {
            let names: Vec<&str> = SERVICE_PRESETS.iter().map(|preset| preset.name).collect();
            let help = match nearest(name, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the presets are {}", names.join(", ")),
            };
            problems.error(node.at, &format!("unknown preset {}", quoted(name)), &help);
            continue;
        };
        if !presets.contains(&preset) {
            presets.push(preset);
        }
    }
    presets
}

/// The path of a unix socket, which must be absolute.
pub(crate) fn socket_path(
    setting: RawSetting<'_>,
    text: &str,
    at: TextSpan,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    let message = format!(
        "{}: {} is not an absolute path",
        quoted(setting.name),
        quoted(text)
    );
    problems.error(at, &message, "");
    None
}

/// Who may choose each profile: `*`, or user names and group names with an `@` in front.
pub(crate) fn profile_users(
    setting: RawSetting<'_>,
    problems: &mut Problems<'_>,
) -> BTreeMap<String, ProfileUsers> {
    let table = read::table(setting, problems);
    let entries = table.into_iter().flat_map(TomlTable::in_order);
    let users = entries.map(|entry| {
        let setting = RawSetting::of(entry);
        let users = match &setting.node.value {
            TomlValue::Array(items) if items.iter().any(is_everyone) => ProfileUsers::Everyone,
            _ => ProfileUsers::Only(principals(setting, problems)),
        };
        (entry.name.to_string(), users)
    });
    users.collect()
}

fn is_everyone(item: &TomlNode<'_>) -> bool {
    matches!(&item.value, TomlValue::String(text) if text == "*")
}

/// User names, and group names with an `@` in front.
pub(crate) fn principals(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Vec<Principal> {
    let mut principals = Vec::new();
    for (text, node) in read::strings(setting, problems) {
        let (name, principal): (_, fn(String) -> Principal) = match text.strip_prefix('@') {
            Some(name) => (name, Principal::Group),
            None => (text, Principal::User),
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("{}: {} is not a name", quoted(setting.name), quoted(text));
            let help = "write a user's name, or a group's as `@group`";
            problems.error(node.at, &message, help);
        } else {
            principals.push(principal(name.to_owned()));
        }
    }
    principals
}

/// Addresses, with port 53 by default.
pub(crate) fn nameservers(
    setting: Option<RawSetting<'_>>,
    problems: &mut Problems<'_>,
) -> Vec<SocketAddr> {
    let Some(setting) = setting else {
        return Vec::new();
    };
    let mut nameservers = Vec::new();
    for (text, node) in read::strings(setting, problems) {
        let address = text.parse::<SocketAddr>().ok().or_else(|| {
            let ip: IpAddr = text.parse().ok()?;
            Some((ip, 53).into())
        });
        let Some(address) = address.filter(|address| address.port() != 0) else {
            let message = format!(
                "{}: {} is not an address with a port",
                quoted(setting.name),
                quoted(text)
            );
            let help = "write for example \"192.0.2.53:53\" or \"[2001:db8::53]:53\"";
            problems.error(node.at, &message, help);
            continue;
        };
        nameservers.push(address);
    }
    nameservers
}
