//! Warnings about the effect of settings: those that do nothing on this system, though the same file may be right
//! elsewhere (SPEC H10), and the one that leaves the allow list without effect.

use codex_network_policy::{Enforcement, Policy};

use crate::catalogue::{self, Effect, Key};
use crate::diagnostic::{Problems, quoted};
use crate::dialect::RawSettings;
use crate::toml_tree::{TomlNode, TomlValue};

/// A warning for each such setting that is on.
pub(crate) fn warn(raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
    for row in catalogue::rows() {
        let (message, help) = match row.effect {
            Effect::Full => continue,
            Effect::MacosOnly if cfg!(target_os = "macos") => continue,
            Effect::MacosOnly => (
                "unix sockets are served only on macOS; here a request with `x-unix-socket` gets 501",
                "remove it if the file is for this machine only: it also keeps every listener on loopback",
            ),
        };
        let setting = raw.get(row.key);
        if let Some(setting) = setting.filter(|setting| switches_on(setting.node)) {
            problems.warning(setting.at, message, help);
        }
    }
}

/// A warning while hosts that are merely not allowed are let through (SPEC P12), for the log, `status`, `doctor` and
/// `check`. `profile` is the name of a profile that is not selected, which sessions may choose.
pub(crate) fn warn_of_report_only(
    raw: &RawSettings<'_>,
    policy: &Policy,
    profile: Option<&str>,
    problems: &mut Problems<'_>,
) {
    if let Some(setting) = raw.get(Key::ENFORCEMENT)
        && policy.enforcement() == Enforcement::Report
    {
        let whose = profile.map(|name| format!("in sessions with the profile {}, ", quoted(name)));
        let whose = whose.unwrap_or_default();
        problems.warning(
            setting.at,
            &format!(
                "{whose}hosts that are merely not allowed are let through, and recorded as hosts that would be refused"
            ),
            "when `proxyctl suggest` has nothing more to propose, take `enforcement = \"report\"` out",
        );
    }
}

/// Whether a value switches a setting on.
fn switches_on(node: &TomlNode<'_>) -> bool {
    match &node.value {
        TomlValue::Boolean(boolean) => *boolean,
        TomlValue::String(text) => !matches!(&**text, "" | "deny" | "none"),
        TomlValue::Array(items) => !items.is_empty(),
        TomlValue::Table(table) => table.iter().any(|entry| switches_on(&entry.node)),
        TomlValue::Integer(_) | TomlValue::Float | TomlValue::Datetime => true,
    }
}
