//! The managed preference that holds requirements on a Mac (SPEC C12): the value `requirements_toml_base64` of the
//! domain `com.openai.codex`, as device management writes it. Its text is that of a `requirements.toml`.
//!
//! The property list is read on macOS alone.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The key of the value.
const KEY: &str = "requirements_toml_base64";
/// The file of the preferences that are managed for the whole machine. macOS keeps it, for root alone to write.
const FILE: &str = "Library/Managed Preferences/com.openai.codex.plist";
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a managed preference cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PreferenceError {
    #[cfg(target_os = "macos")]
    #[error("is not a property list")]
    NotAPropertyList,
    #[cfg(target_os = "macos")]
    #[error("`{KEY}` is not text")]
    NotText,
    #[error("`{KEY}` is not base64")]
    NotBase64,
    #[error("`{KEY}` is not the base64 of UTF-8 text")]
    NotUtf8,
}

/// The file with the preferences below this root.
pub(crate) fn file(root: &Path) -> PathBuf {
    root.join(FILE)
}

/// The requirements in the value, in which white space does not count.
pub(crate) fn decoded(value: &str) -> Result<String, PreferenceError> {
    let mut text = value.as_bytes().to_vec();
    text.retain(|byte| !byte.is_ascii_whitespace());
    let bytes = BASE64.decode(text);
    let bytes = bytes.map_err(|_| PreferenceError::NotBase64)?;
    String::from_utf8(bytes).map_err(|_| PreferenceError::NotUtf8)
}

/// The requirements in a property list; `None` if it has none.
#[cfg(target_os = "macos")]
pub(crate) fn of_property_list(bytes: &[u8]) -> Result<Option<String>, PreferenceError> {
    let list = plist::Value::from_reader(std::io::Cursor::new(bytes));
    let list = list.map_err(|_| PreferenceError::NotAPropertyList)?;
    let values = list.as_dictionary();
    let values = values.ok_or(PreferenceError::NotAPropertyList)?;
    let Some(value) = values.get(KEY) else {
        return Ok(None);
    };
    let value = value.as_string().ok_or(PreferenceError::NotText)?;
    decoded(value).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c12_the_managed_preference_is_the_base64_of_requirements() {
        let toml = "[experimental_network]\nmode = \"limited\"\n";
        let encoded = "W2V4cGVyaW1lbnRhbF9uZXR3b3JrXQptb2RlID0gImxpbWl0ZWQiCg==";
        let wrapped = format!(" {}\n\t{}\r\n", &encoded[..20], &encoded[20..]);
        let unpadded = encoded.trim_end_matches('=');
        for value in [encoded, &wrapped, unpadded] {
            assert_eq!(decoded(value).as_deref(), Ok(toml), "{value:?}");
        }
        assert_eq!(decoded("").as_deref(), Ok(""));
        for (value, error) in [
            ("[experimental_network]", PreferenceError::NotBase64),
            ("W2V4=cGVy", PreferenceError::NotBase64),
            ("-_-_", PreferenceError::NotBase64),
            ("/w==", PreferenceError::NotUtf8),
        ] {
            assert_eq!(decoded(value), Err(error), "{value:?}");
        }
    }

    #[test]
    fn c12_the_preferences_are_those_of_the_machine() {
        let file = file(Path::new("/"));
        let wanted = "/Library/Managed Preferences/com.openai.codex.plist";
        assert_eq!(file, Path::new(wanted));
    }
}
