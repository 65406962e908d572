//! Settings that are accepted and that this version cannot act on yet. Whoever switches one on is
//! told what happens instead. A row goes when its feature comes; the file goes with the last one.

use crate::diagnostic::Problems;
use crate::generation::{Key, Raw};
use crate::platform::switches_on;

/// The setting, what it would be, and what happens instead.
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
