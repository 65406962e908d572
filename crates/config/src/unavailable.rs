//! Settings that are accepted and that this version cannot act on yet. Whoever switches one on is
//! told what happens instead. A row goes when its feature comes; the file goes with the last one.

use crate::diagnostic::Problems;
use crate::generation::{Key, Raw};
use crate::merge::{Node, Value};

/// The setting, what it would be, and what happens instead.
const UNAVAILABLE: &[(Key, &str, &str)] = &[
    (
        Key::AllowUnixSockets,
        "unix-socket proxying",
        "requests to unix sockets are refused",
    ),
    (
        Key::UnixSockets,
        "unix-socket proxying",
        "requests to unix sockets are refused",
    ),
    (
        Key::AllowAllUnixSockets,
        "unix-socket proxying",
        "requests to unix sockets are refused",
    ),
    (
        Key::CredentialBroker,
        "the credential broker",
        "children get no dummies, and nothing is injected",
    ),
    (
        Key::PlaintextInjection,
        "the credential broker",
        "nothing is injected",
    ),
];

/// A warning for each setting that is switched on in vain.
pub(crate) fn warn(raw: &Raw<'_>, problems: &mut Problems<'_>) {
    for (key, feature, instead) in UNAVAILABLE {
        let Some(setting) = raw.get(*key) else {
            continue;
        };
        if switches_on(setting.node) {
            let message = format!("{feature} is not available in this version yet; {instead}");
            problems.warning(setting.at, &message, "");
        }
    }
}

/// Whether a value asks for something.
fn switches_on(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Boolean(boolean) => *boolean,
        Value::String(text) => !matches!(&**text, "" | "deny" | "none"),
        Value::Array(items) => !items.is_empty(),
        Value::Table(table) => table.iter().any(|entry| switches_on(&entry.node)),
        Value::Integer(_) | Value::Float | Value::Datetime => true,
    }
}
