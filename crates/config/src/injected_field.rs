//! Header fields that the configuration adds to requests: their names, and what stands before a secret
//! (SPEC M9, B5).

use codex_network_policy::{FieldClass, HeaderNameText, is_same_field};

use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::RawSetting;
use crate::read;

/// The name of a field that the proxy may set in a request.
pub(crate) fn name(setting: RawSetting<'_>, problems: &mut Problems<'_>) -> Option<HeaderNameText> {
    let text = read::text(setting, problems)?;
    let name = match HeaderNameText::parse(text) {
        Ok(name) => name,
        Err(error) => {
            let message = format!(
                "{}: {}: {}",
                quoted(setting.name),
                quoted(text),
                shown(&error.to_string())
            );
            problems.error(setting.node.at, &message, "");
            return None;
        }
    };
    // Fields that the proxy never adds, or that change the judged request.
    let is_to_proxies = |head: &str| is_same_field(head, "proxy-");
    if FieldClass::of(name.as_str()).is_some() || name.as_str().get(..6).is_some_and(is_to_proxies)
    {
        let message = format!("{} cannot be injected", quoted(name.as_str()));
        let help = "it frames the request, belongs to one connection, is never added by the proxy, or would change the checked request";
        problems.error(setting.node.at, &message, help);
        return None;
    }
    Some(name)
}

/// A text before a secret in a field.
pub(crate) fn prefix<'t>(setting: RawSetting<'t>, problems: &mut Problems<'_>) -> Option<&'t str> {
    let prefix = read::string(setting, problems)?;
    if is_value(prefix.as_bytes()) && !prefix.starts_with(' ') {
        return Some(prefix);
    }
    let message = "`prefix` is printable ASCII, and does not begin with a space";
    problems.error(
        setting.node.at,
        message,
        "write for example `prefix = \"Bearer \"`",
    );
    None
}

/// Whether all bytes are printable ASCII.
pub(crate) fn is_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}
