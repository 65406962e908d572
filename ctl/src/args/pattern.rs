//! Patterns on the command line.

use codex_network_policy::{ListKind, Pattern};

/// Checks a pattern of an allow list.
pub(super) fn allowed(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Allow)
}

/// Checks a pattern of a deny list.
pub(super) fn denied(text: &str) -> Result<String, String> {
    pattern(text, ListKind::Deny)
}

fn pattern(text: &str, list: ListKind) -> Result<String, String> {
    if text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err("`approve ID` and `reject ID` answer the question with this ID".to_owned());
    }
    let parsed = Pattern::parse(text, list).map_err(|error| error.to_string())?;
    Ok(parsed.to_string())
}
