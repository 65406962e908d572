//! Settings that are accepted but that this version cannot act on yet. A warning says what happens
//! instead. Remove a row when its feature is added, and the file with the last row.

use crate::diagnostic::Problems;
use crate::generation::{Key, Raw};
use crate::platform::switches_on;

/// The setting, its feature, and what happens instead.
const UNAVAILABLE: &[(Key, &str, &str)] = &[
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

/// A warning for each such setting that is on.
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
