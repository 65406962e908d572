//! Settings that do nothing on this system, though the same file may be right
//! elsewhere. A warning says what happens instead (SPEC H10).

use crate::catalogue::{self, Effect};
use crate::diagnostic::Problems;
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
