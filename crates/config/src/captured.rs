//! Sources as bytes: this is how a configuration reaches a process that may not open files.
//!
//! The layout is simple, since both ends are the same program: each part is a length in eight bytes
//! and that many bytes of UTF-8 (paths and secrets as the system has them). The bytes include the
//! secrets that the configuration names, so they are as secret as those, and stay in memory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::diagnostic::Diagnostics;
use crate::layers;
use crate::secret::{ReadSecret, Readers, Secret, SecretSource, SecretSupply, Secrets};
use crate::sources::{Layer, Sources};
use crate::text::TextKind;

/// The bytes are not captured sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not a captured configuration")]
pub struct NotCaptured;

const FILE: u8 = b'f';
const TEXT: u8 = b't';
const REQUIREMENTS: u8 = b'r';
const OVERRIDE: u8 = b'c';
const VARIABLE: u8 = b'e';
const SECRET_FILE: u8 = b's';
/// A secret file that other users may read.
const OPEN_SECRET_FILE: u8 = b'S';

impl Sources {
    /// The sources with every file read: loading the result touches no file of the configuration and
    /// always gives the same result. The secrets that it names are known after that load; see
    /// [`with_secrets`](Self::with_secrets).
    ///
    /// # Errors
    ///
    /// Returns an error if a file that must be read cannot be read.
    pub fn capture(&self) -> Result<Self, Diagnostics> {
        let read = layers::read(&self.only_files());
        if !read.unreadable.is_empty() {
            return Err(Diagnostics::of(read.unreadable));
        }
        let mut captured = self.without_files();
        for text in read.texts.into_iter() {
            let name = Arc::clone(&text.name);
            let (kind, content) = text.into_read();
            captured = match kind {
                TextKind::File(path) => captured.with_captured(path, content),
                TextKind::Requirements(path) => captured.with_captured_requirements(path, content),
                TextKind::Inline | TextKind::Override => captured.with_text(&*name, content),
            };
        }
        Ok(captured)
    }

    /// The files of captured layers with their content, the weakest layer first; requirements are not
    /// among them.
    pub fn captured_files(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.layers().iter().filter_map(|layer| match layer {
            Layer::Captured { path, content } => Some((path.as_path(), content.as_str())),
            _ => None,
        })
    }

    /// Captured sources as bytes, with their secrets. Layers that were not captured are left out.
    /// The bytes are overwritten when they are dropped.
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        // One allocation, at least as large as everything written below: a vector that grows leaves
        // its old bytes behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(self.size_in_bytes()));
        for layer in self.layers() {
            match layer {
                Layer::Captured { path, content } => {
                    part(
                        &mut bytes,
                        FILE,
                        path.as_os_str().as_bytes(),
                        content.as_bytes(),
                    );
                }
                Layer::Text { name, content } => {
                    part(&mut bytes, TEXT, name.as_bytes(), content.as_bytes());
                }
                Layer::File(_)
                | Layer::UserFile(_)
                | Layer::NamedFile(_)
                | Layer::Directory(_)
                | Layer::NamedDirectory(_) => {}
                #[cfg(target_os = "macos")]
                Layer::Preferences(_) => {}
            }
        }
        for file in self.requirements() {
            if let Layer::Captured { path, content } = file {
                let path = path.as_os_str().as_bytes();
                part(&mut bytes, REQUIREMENTS, path, content.as_bytes());
            }
        }
        for assignment in self.overrides() {
            part(&mut bytes, OVERRIDE, b"", assignment.as_bytes());
        }
        if let SecretSupply::Captured(secrets) = self.supply() {
            for (source, found) in secrets.iter() {
                let (kind, name) = match (source, found.readers) {
                    (SecretSource::Environment(name), _) => (VARIABLE, name.as_bytes()),
                    (SecretSource::File(path), Readers::Owner) => {
                        (SECRET_FILE, path.as_os_str().as_bytes())
                    }
                    (SecretSource::File(path), Readers::Others) => {
                        (OPEN_SECRET_FILE, path.as_os_str().as_bytes())
                    }
                };
                part(&mut bytes, kind, name, found.secret.expose());
            }
        }
        bytes
    }

    fn size_in_bytes(&self) -> usize {
        let files = self.layers().iter().chain(self.requirements());
        let layers = files.map(|layer| match layer {
            Layer::Captured { path, content } => path.as_os_str().len() + content.len(),
            Layer::Text { name, content } => name.len() + content.len(),
            Layer::File(_)
            | Layer::UserFile(_)
            | Layer::NamedFile(_)
            | Layer::Directory(_)
            | Layer::NamedDirectory(_) => 0,
            #[cfg(target_os = "macos")]
            Layer::Preferences(_) => 0,
        });
        let overrides = self.overrides().iter().map(String::len);
        let secrets = match self.supply() {
            SecretSupply::Local(_) => None,
            SecretSupply::Captured(secrets) => Some(secrets),
        };
        let secrets = secrets.into_iter().flat_map(Secrets::iter);
        let secrets = secrets.map(|(source, found)| {
            let name = match source {
                SecretSource::Environment(name) => name.len(),
                SecretSource::File(path) => path.as_os_str().len(),
            };
            name + found.secret.expose().len()
        });
        let parts = layers.chain(overrides).chain(secrets);
        parts.map(|part| part + 1 + 2 * size_of::<u64>()).sum()
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes). Loading the result looks at no file and no
    /// environment, whatever secrets it names.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes do not have the form that [`to_bytes`](Self::to_bytes) writes.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, NotCaptured> {
        let mut sources = Self::none();
        let mut secrets = Secrets::default();
        while let Some((&kind, rest)) = bytes.split_first() {
            let (name, rest) = counted(rest).ok_or(NotCaptured)?;
            let (content, rest) = counted(rest).ok_or(NotCaptured)?;
            let path = || PathBuf::from(OsStr::from_bytes(name));
            let mut insert = |source, readers| {
                let secret = Secret::new(content.to_vec());
                secrets.insert(source, ReadSecret { secret, readers });
            };
            match kind {
                FILE => sources = sources.with_captured(path(), text(content)?.to_owned()),
                TEXT => sources = sources.with_text(text(name)?, text(content)?),
                REQUIREMENTS => {
                    let content = text(content)?.to_owned();
                    sources = sources.with_captured_requirements(path(), content);
                }
                OVERRIDE => sources = sources.with_override(text(content)?),
                VARIABLE => insert(
                    SecretSource::Environment(text(name)?.to_owned()),
                    Readers::Owner,
                ),
                SECRET_FILE => insert(SecretSource::File(path()), Readers::Owner),
                OPEN_SECRET_FILE => insert(SecretSource::File(path()), Readers::Others),
                _ => return Err(NotCaptured),
            }
            bytes = rest;
        }
        Ok(sources.with_secrets(secrets))
    }
}

fn text(bytes: &[u8]) -> Result<&str, NotCaptured> {
    std::str::from_utf8(bytes).map_err(|_| NotCaptured)
}

fn part(bytes: &mut Vec<u8>, kind: u8, name: &[u8], content: &[u8]) {
    bytes.push(kind);
    for field in [name, content] {
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
            rule.written_at.unwrap().file.ends_with("/a.toml"),
            "the place of a rule is kept"
        );
        assert_eq!(loaded.settings.files.len(), 1);
    }

    #[test]
    fn c7_a_truncated_captured_configuration_is_an_error() {
        let (_directory, sources) = captured();
        let bytes = sources.to_bytes();
        let whole_parts =
            (0..bytes.len()).filter(|end| Sources::from_bytes(&bytes[..*end]).is_ok());
        // Empty bytes, and the first part without the second: the carrier of the bytes also carries
        // their number.
        assert_eq!(whole_parts.count(), 2);
    }

    #[test]
    fn c7_an_unreadable_file_cannot_be_captured() {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            Sources::file(directory.path().join("missing.toml"))
                .capture()
                .is_err()
        );
    }
}
