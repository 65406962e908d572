//! Sources as bytes: how a configuration travels to a process that may not open files.
//!
//! The layout is as plain as can be, since both ends are the same program: each part is a length in
//! eight bytes and that many bytes of UTF-8 (paths as the system has them).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::layers::{self, Layer, Sources};

/// Bytes that are no sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes do not hold a captured configuration")]
pub struct NotCaptured;

const FILE: u8 = b'f';
const TEXT: u8 = b't';
const OVERRIDE: u8 = b'c';

impl Sources {
    /// The sources with every file read: loading the result touches no file.
    ///
    /// # Errors
    ///
    /// When a file that counts cannot be read.
    pub fn capture(&self) -> Result<Self, Diagnostics> {
        layers::capture(self).map_err(|unreadable: Vec<Diagnostic>| Diagnostics::of(unreadable))
    }

    /// Captured sources as bytes. Layers that were not captured are left out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for layer in self.layers() {
            match layer {
                Layer::Captured { path, content } => {
                    part(&mut bytes, FILE, path.as_os_str().as_bytes(), content);
                }
                Layer::Text { name, content } => part(&mut bytes, TEXT, name.as_bytes(), content),
                Layer::File(_) | Layer::NamedFile(_) | Layer::Directory(_) => {}
            }
        }
        for assignment in self.overrides() {
            part(&mut bytes, OVERRIDE, b"", assignment);
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// When the bytes are anything else.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, NotCaptured> {
        let mut sources = Self::none();
        while let Some((&kind, rest)) = bytes.split_first() {
            let (name, rest) = counted(rest).ok_or(NotCaptured)?;
            let (content, rest) = counted(rest).ok_or(NotCaptured)?;
            let content = std::str::from_utf8(content).map_err(|_| NotCaptured)?;
            sources = match kind {
                FILE => sources.with_captured(Path::new(OsStr::from_bytes(name)), content),
                TEXT => {
                    sources.with_text(std::str::from_utf8(name).map_err(|_| NotCaptured)?, content)
                }
                OVERRIDE => sources.with_override(content),
                _ => return Err(NotCaptured),
            };
            bytes = rest;
        }
        Ok(sources)
    }
}

fn part(bytes: &mut Vec<u8>, kind: u8, name: &[u8], content: &str) {
    bytes.push(kind);
    for field in [name, content.as_bytes()] {
        bytes.extend_from_slice(&(field.len() as u64).to_le_bytes());
        bytes.extend_from_slice(field);
    }
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured() -> (tempfile::TempDir, Sources) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.toml");
        std::fs::write(&file, "[network]\nallowed_domains = [\"a.example\"]\n").unwrap();
        let sources = Sources::file(&file)
            .with_override("network.mode=limited")
            .capture()
            .unwrap();
        std::fs::remove_file(file).unwrap();
        (directory, sources)
    }

    #[test]
    fn c7_a_captured_configuration_needs_no_file_any_more() {
        let (_directory, sources) = captured();
        let loaded = crate::load(&Sources::from_bytes(&sources.to_bytes()).unwrap()).unwrap();
        let policy = &loaded.settings.policy;
        assert_eq!(policy.mode(), codex_network_policy::Mode::Limited);
        let rule = policy.allowed().rules().next().unwrap();
        assert!(
            rule.origin.unwrap().file.ends_with("/a.toml"),
            "the place of a rule is kept"
        );
        assert_eq!(loaded.settings.files.len(), 1);
    }

    #[test]
    fn c7_no_prefix_of_a_captured_configuration_is_taken_for_all_of_it() {
        let (_directory, sources) = captured();
        let bytes = sources.to_bytes();
        let whole_parts =
            (0..bytes.len()).filter(|end| Sources::from_bytes(&bytes[..*end]).is_ok());
        // Nothing, and the first part without the second: whoever carries the bytes carries their number.
        assert_eq!(whole_parts.count(), 2);
    }

    #[test]
    fn c7_what_cannot_be_read_cannot_be_captured() {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            Sources::file(directory.path().join("missing.toml"))
                .capture()
                .is_err()
        );
    }
}
