//! Settings that this platform cannot act on, though the same file may be right on another. A
//! warning says what happens instead (SPEC H10).

use crate::diagnostic::Problems;
use crate::generation::{Key, Raw};
use crate::merge::{Node, Value};

const UNIX_SOCKETS: [Key; 3] = [
    Key::AllowUnixSockets,
    Key::UnixSockets,
    Key::AllowAllUnixSockets,
];

/// A warning for each such setting that is on.
pub(crate) fn warn(raw: &Raw<'_>, problems: &mut Problems<'_>) {
    if cfg!(target_os = "macos") {
        return;
    }
    for key in UNIX_SOCKETS {
        let setting = raw.get(key);
        if let Some(setting) = setting.filter(|setting| switches_on(setting.node)) {
            problems.warning(
                setting.at,
                "unix sockets are served only on macOS; here a request with `x-unix-socket` gets 501",
                "remove it if the file is for this machine only: it also keeps every listener on loopback",
            );
        }
    }
}

/// Whether a value switches a setting on.
pub(crate) fn switches_on(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Boolean(boolean) => *boolean,
        Value::String(text) => !matches!(&**text, "" | "deny" | "none"),
        Value::Array(items) => !items.is_empty(),
        Value::Table(table) => table.iter().any(|entry| switches_on(&entry.node)),
        Value::Integer(_) | Value::Float | Value::Datetime => true,
    }
}
