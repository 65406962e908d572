//! Reads the configuration files (SPEC C1, C6).
//!
//! Only this file and `secret` touch the file system in this crate. Root refuses files that other
//! users may change (`codex_network_files::Trust`). A missing file is fine in a layer, but an error
//! if the user named it. A file that exists and cannot be read is always an error: without
//! it, its deny list would be lost.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use codex_network_files::{
    ReadError as FileError, Reading, Sources as FileKinds, Trust, Untrusted,
};

use crate::diagnostic::{Diagnostic, shown};
#[cfg(target_os = "macos")]
use crate::managed_preference;
use crate::sources::{Layer, Sources};
use crate::text::{Text, TextKind, Texts};

/// Largest file that is read.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The texts that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadLayers {
    pub(crate) texts: Texts,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) unreadable: Vec<Diagnostic>,
}

/// Reads all layers. The result includes the errors.
pub(crate) fn read(sources: &Sources) -> ReadLayers {
    let mut read = ReadLayers::default();
    for layer in sources.layers() {
        if let Layer::File(path)
        | Layer::UserFile(path)
        | Layer::NamedFile(path)
        | Layer::Captured { path, .. } = layer
            && let Some(content) = sources.content(path)
        {
            read.captured(path, content, TextKind::File);
            continue;
        }
        match layer {
            Layer::File(path) => read.file(path, ReadReason::IfThere, TextKind::File),
            Layer::UserFile(path) => read.file(path, ReadReason::OfUser, TextKind::File),
            Layer::NamedFile(path) => read.file(path, ReadReason::ByName, TextKind::File),
            Layer::Directory(path) => read.directory(path, ReadReason::IfThere, sources),
            Layer::NamedDirectory(path) => read.directory(path, ReadReason::ByName, sources),
            Layer::Text { name, content } => read.text(TextKind::Inline, name, content),
            Layer::Captured { path, content } => read.captured(path, content, TextKind::File),
            // It holds requirements.
            #[cfg(target_os = "macos")]
            Layer::Preferences(_) => {}
        }
    }
    for assignment in sources.overrides() {
        read.text(TextKind::Override, "-c", assignment);
    }
    for file in sources.requirements() {
        match file {
            Layer::Captured { path, content } => {
                read.captured(path, content, TextKind::Requirements);
            }
            Layer::File(path) => read.file(path, ReadReason::IfThere, TextKind::Requirements),
            Layer::NamedFile(path) => read.file(path, ReadReason::ByName, TextKind::Requirements),
            #[cfg(target_os = "macos")]
            Layer::Preferences(path) => read.preferences(path),
            Layer::Text { name, content } => {
                read.text(TextKind::Requirements(PathBuf::from(name)), name, content);
            }
            // Requirements do not have these.
            Layer::UserFile(_) | Layer::Directory(_) | Layer::NamedDirectory(_) => {}
        }
    }
    read
}

/// Why a file is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReadReason {
    /// A layer: the file may be missing.
    IfThere,
    /// The environment names it, and may name the home of another user.
    OfUser,
    /// A directory that lists it.
    Listed,
    /// The user named it.
    ByName,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
enum LayerError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("cannot be read: it is a link to a file that does not exist")]
    Dangling,
    #[error("cannot be read: it is a directory")]
    Directory,
    #[error("cannot be read: it is neither a regular file nor a pipe")]
    Special,
    #[error("is larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    #[error("is refused: {0}")]
    Untrusted(#[from] Untrusted),
    #[cfg(target_os = "macos")]
    #[error(transparent)]
    Preference(#[from] managed_preference::PreferenceError),
    #[error("is not UTF-8: line {line} holds the byte {}", shown(&format!("0x{byte:02x}")))]
    NotUtf8 { line: usize, byte: u8 },
}

impl ReadLayers {
    fn file(&mut self, path: &Path, reason: ReadReason, kind: fn(PathBuf) -> TextKind) {
        match read_file(path, reason) {
            Ok(content) => {
                let name = path.display().to_string();
                let kind = kind(path.to_owned());
                self.texts.push(Text::new(kind, &name, content));
                self.files.push(path.to_owned());
            }
            Err(LayerError::Io(error))
                if error.kind() == ErrorKind::NotFound
                    && matches!(reason, ReadReason::IfThere | ReadReason::OfUser) =>
            {
                self.vacant(path, reason);
            }
            Err(error) => self.unreadable(path, reason, &error),
        }
    }

    /// The requirements that device management set.
    #[cfg(target_os = "macos")]
    fn preferences(&mut self, path: &Path) {
        let reason = ReadReason::IfThere;
        let bytes = Reading::up_to(MAX_BYTES as u64)
            .kept_by(Trust::of_process())
            .read(path);
        let text = match bytes {
            Ok(bytes) => managed_preference::of_property_list(&bytes).map_err(LayerError::from),
            Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => {
                self.vacant(path, reason);
                return;
            }
            Err(error) => Err(error.into()),
        };
        match text {
            Ok(None) => {}
            Ok(Some(text)) => self.captured(path, &text, TextKind::Requirements),
            Err(error) => self.unreadable(path, reason, &error),
        }
    }

    fn directory(&mut self, path: &Path, reason: ReadReason, sources: &Sources) {
        let listed = fs::read_dir(path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(mut files) => {
                // A user who may write there may also remove files.
                if let Err(error) = trusted(path) {
                    self.unreadable(path, reason, &error);
                    return;
                }
                files.retain(|file| is_drop_in(file));
                files.sort();
                for file in files {
                    // A listed file that does not exist is a dangling link, which is an error.
                    let is_requirements =
                        reason == ReadReason::ByName && file.ends_with("requirements.toml");
                    let kind = if is_requirements {
                        TextKind::Requirements
                    } else {
                        TextKind::File
                    };
                    match sources.content(&file) {
                        Some(content) => self.captured(&file, content, kind),
                        None => self.file(&file, ReadReason::Listed, kind),
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound && reason == ReadReason::IfThere => {
                self.vacant(path, reason);
            }
            Err(error) => self.unreadable(path, reason, &error.into()),
        }
    }

    /// The file of a layer does not exist. That is fine, unless there is a dangling link at its
    /// path or on the way there: then the denials and requirements of the file must not be lost.
    fn vacant(&mut self, path: &Path, reason: ReadReason) {
        let is_dangling = |place: &Path| {
            let there = place.symlink_metadata();
            there.is_ok_and(|there| there.is_symlink()) && !place.exists()
        };
        if path.ancestors().any(is_dangling) {
            self.unreadable(path, reason, &LayerError::Dangling);
        } else if reason == ReadReason::IfThere
            && let Err(error) = trusted(path)
        {
            // Another process may have removed it.
            self.unreadable(path, reason, &error);
        }
    }

    fn captured(&mut self, path: &Path, content: &str, kind: fn(PathBuf) -> TextKind) {
        let kind = kind(path.to_owned());
        self.text(kind, &path.display().to_string(), content);
        self.files.push(path.to_owned());
    }

    fn text(&mut self, kind: TextKind, name: &str, content: &str) {
        if content.len() > MAX_BYTES {
            self.unreadable(Path::new(name), ReadReason::ByName, &LayerError::TooLarge);
        } else {
            self.texts.push(Text::new(kind, name, content.to_owned()));
        }
    }

    fn unreadable(&mut self, path: &Path, reason: ReadReason, error: &LayerError) {
        let help = match error {
            LayerError::Io(error)
                if error.kind() == ErrorKind::NotFound && reason == ReadReason::ByName =>
            {
                Some(
                    "is the path right? Without a file the built-in defaults and the system's files are used",
                )
            }
            LayerError::Dangling => Some(
                "repair or remove the link; the system service sees only files below /etc and /usr",
            ),
            LayerError::Untrusted(_) if reason == ReadReason::OfUser => Some(
                "root reads this file because HOME or CODEX_HOME leads to it; run `sudo -H`, or name a file with `--config`",
            ),
            LayerError::Untrusted(_) => Some("root reads no file that others may change"),
            LayerError::NotUtf8 { .. } => Some("TOML files are UTF-8"),
            _ => None,
        };
        let source = path.display().to_string();
        let found = Diagnostic::about(&source, &error.to_string(), help);
        self.unreadable.push(found);
    }
}

/// `*.toml`, but not the hidden files that editors leave.
fn is_drop_in(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "toml")
        && path
            .file_name()
            .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

/// Refuses a place that users other than root may change, where root reads it.
fn trusted(path: &Path) -> Result<(), LayerError> {
    let user = Trust::of_process();
    if user.is_binding() {
        user.check(path)?;
    }
    Ok(())
}

fn read_file(path: &Path, reason: ReadReason) -> Result<String, LayerError> {
    // Only a file that the user named may be a pipe, as in `--config <(generate)`: opening a pipe
    // waits for its writer.
    let kinds = if reason == ReadReason::ByName {
        FileKinds::Any
    } else {
        FileKinds::Regular
    };
    let mut bytes = Reading::up_to(MAX_BYTES as u64)
        .from_sources(kinds)
        .kept_by(Trust::of_process())
        .read(path)?;
    let bytes = std::mem::take(&mut *bytes);
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let ends = bytes[..valid].iter().filter(|byte| **byte == b'\n');
        LayerError::NotUtf8 {
            line: ends.count() + 1,
            byte: bytes[valid],
        }
    })
}

impl From<FileError> for LayerError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io(error) => Self::Io(error),
            FileError::Directory => Self::Directory,
            FileError::Special => Self::Special,
            FileError::TooLarge(_) => Self::TooLarge,
            FileError::Untrusted(error) => Self::Untrusted(error),
            error @ (FileError::Link | FileError::Replaced) => Self::Io(error.into()),
        }
    }
}
