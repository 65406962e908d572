//! The documents of a configuration, in their order.

use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

/// A file of the configuration.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) document: DocumentMut,
}

impl Layer {
    /// A file with this content.
    pub(super) fn of(path: &Path, text: String) -> Result<Self, toml_edit::TomlError> {
        let document = without_mark(&text).replace("\r\n", "\n").parse()?;
        Ok(Self {
            path: path.to_owned(),
            text,
            document,
        })
    }
}

/// A text without its byte order mark.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}
