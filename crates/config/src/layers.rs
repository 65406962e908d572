//! The configuration files, their order, and reading them (SPEC C1, C6).
//!
//! Only this file and `secret` touch the file system in this crate. Root reads no file that other
//! users may change (`codex_network_files::Trust`). A missing file is fine in a layer, but an error
//! if the user named it. A file that exists and cannot be read is always an error, since going on
//! without it would drop its deny list.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use codex_network_files::{ReadError as FileError, Reading, Sources as Kinds, Trust, Untrusted};

use crate::diagnostic::{Diagnostic, shown};
use crate::secret::{Environment, SecretSupply, Secrets};
use crate::text::{Text, TextKind, Texts};

/// Largest file that is read.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Where a configuration comes from, the weakest layer first.
///
/// ```
/// use codex_network_config::Sources;
///
/// // What the system service reads.
/// let service = Sources::system();
/// // What a person who runs the proxy gets, with one value of their own.
/// let person = Sources::system_and_user(|name| std::env::var_os(name))
///     .with_override("network_proxy.mode=limited");
/// // `--config FILE` stands for all layers.
/// let one_file = Sources::file("proxy.toml");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sources {
    layers: Vec<Layer>,
    overrides: Vec<String>,
    /// Files with managed constraints.
    requirements: Vec<Layer>,
    supply: SecretSupply,
    /// The directory that stands for `/` where the configuration names a secret file.
    root: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) enum Layer {
    /// A file that may be missing.
    File(PathBuf),
    /// The file of a user, below `HOME` or `CODEX_HOME`, that may be missing.
    UserFile(PathBuf),
    /// A file that the user named.
    NamedFile(PathBuf),
    /// The `*.toml` of a directory that may be missing, in the order of their names.
    Directory(PathBuf),
    /// A directory that the user named. Its `requirements.toml` is read as requirements.
    NamedDirectory(PathBuf),
    /// A document that the caller holds.
    Text { name: String, content: String },
    /// A file that another process has read.
    Captured { path: PathBuf, content: String },
}

/// The texts that were read.
#[derive(Debug, Default)]
pub(crate) struct ReadLayers {
    pub(crate) texts: Texts,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) unreadable: Vec<Diagnostic>,
}

impl Sources {
    /// No layers and no requirements: the built-in defaults.
    pub fn none() -> Self {
        Self::default()
    }

    /// The files in `/etc`: what the system service reads.
    pub fn system() -> Self {
        Self::system_under(Path::new("/"))
    }

    /// The files in `etc` under another root, with requirements, for images and tests.
    pub fn system_under(root: &Path) -> Self {
        let own = root.join("etc/codex-network-proxy");
        Self {
            layers: vec![
                Layer::File(root.join("etc/codex/config.toml")),
                Layer::File(own.join("config.toml")),
                Layer::Directory(own.join("conf.d")),
            ],
            ..Self::default()
        }
        .with_requirements_under(root)
    }

    /// What the system service of the machine whose files are below `root` reads. Absolute paths of
    /// secret files are below `root` too.
    pub fn tree(root: &Path) -> Self {
        Self {
            root: Some(root.to_owned()),
            ..Self::system_under(root)
        }
    }

    /// The files in `/etc`, then the user's. `environment` looks a variable up; see
    /// [`with_user`](Self::with_user).
    pub fn system_and_user(environment: impl Fn(&str) -> Option<OsString>) -> Self {
        Self::system().with_user(environment)
    }

    /// `--config FILE`: this file, which must exist, and no layers. The requirements in `/etc`
    /// still apply.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self {
            layers: vec![Layer::NamedFile(path.into())],
            ..Self::default()
        }
        .with_requirements_under(Path::new("/"))
    }

    /// The `*.toml` of a directory, which must exist, in the order of their names, and no other
    /// layers. A `requirements.toml` in it bounds the others, and so do the requirements in `/etc`.
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Self {
            layers: vec![Layer::NamedDirectory(path.into())],
            ..Self::default()
        }
        .with_requirements_under(Path::new("/"))
    }

    /// Adds a file with managed constraints, which must exist.
    #[must_use]
    pub fn with_requirements_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.requirements.push(Layer::NamedFile(path.into()));
        self
    }

    /// Adds managed constraints that are held in memory. `name` replaces the path in messages.
    #[must_use]
    pub fn with_requirements_text(
        mut self,
        name: impl Into<String>,
        content: impl Into<String>,
    ) -> Self {
        self.requirements.push(Layer::Text {
            name: name.into(),
            content: content.into(),
        });
        self
    }

    /// Removes all requirements, to judge a configuration under others.
    #[must_use]
    pub fn without_requirements(mut self) -> Self {
        self.requirements.clear();
        self
    }

    /// Looks for the managed constraints (SPEC C6) only in `etc` under this root. Pass `/` to add
    /// requirements to a source without them, or another root for images and tests.
    #[must_use]
    pub fn with_requirements_under(mut self, root: &Path) -> Self {
        self.requirements = ["codex", "codex-network-proxy"]
            .map(|owner| Layer::File(root.join("etc").join(owner).join("requirements.toml")))
            .into();
        self
    }

    /// Adds `$CODEX_HOME/config.toml`, where `CODEX_HOME` defaults to `$HOME/.codex`. An empty
    /// variable counts as unset. If both are unset there is no such layer.
    #[must_use]
    pub fn with_user(mut self, environment: impl Fn(&str) -> Option<OsString>) -> Self {
        let variable = |name| environment(name).filter(|value| !value.is_empty());
        let home = variable("CODEX_HOME")
            .map(PathBuf::from)
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".codex")));
        if let Some(home) = home {
            self.layers.push(Layer::UserFile(home.join("config.toml")));
        }
        self
    }

    /// Adds a layer that is held in memory. `name` replaces the path in messages.
    #[must_use]
    pub fn with_text(mut self, name: impl Into<String>, content: impl Into<String>) -> Self {
        self.layers.push(Layer::Text {
            name: name.into(),
            content: content.into(),
        });
        self
    }

    /// Adds `-c dotted.key=value`, which is stronger than all layers and the overrides before it.
    /// The value is read as TOML, or as a plain string if it is not valid TOML.
    #[must_use]
    pub fn with_override(mut self, assignment: impl Into<String>) -> Self {
        self.overrides.push(assignment.into());
        self
    }

    /// Whether there are files, so that another load may give another result.
    pub fn has_files(&self) -> bool {
        let is_read = |layer: &Layer| match layer {
            Layer::File(_)
            | Layer::UserFile(_)
            | Layer::NamedFile(_)
            | Layer::Directory(_)
            | Layer::NamedDirectory(_) => true,
            Layer::Text { .. } | Layer::Captured { .. } => false,
        };
        self.layers.iter().chain(&self.requirements).any(is_read)
    }

    /// Whether there is anything but requirements.
    pub fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Looks up the variables with secrets here, and not in the environment of this process.
    #[must_use]
    pub fn with_environment(
        mut self,
        environment: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
    ) -> Self {
        self.supply = SecretSupply::Here(Environment::of(environment));
        self
    }

    /// Takes the secrets of the configuration from these only, which an earlier load of it has
    /// read. The environment and secret files are no longer looked at.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.supply = SecretSupply::Carried(secrets);
        self
    }
}

impl Sources {
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    pub(crate) fn overrides(&self) -> &[String] {
        &self.overrides
    }

    pub(crate) fn requirements(&self) -> &[Layer] {
        &self.requirements
    }

    pub(crate) fn supply(&self) -> &SecretSupply {
        &self.supply
    }

    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    pub(crate) fn with_captured(mut self, path: &Path, content: &str) -> Self {
        self.layers.push(Layer::Captured {
            path: path.to_owned(),
            content: content.to_owned(),
        });
        self
    }

    pub(crate) fn with_captured_requirements(mut self, path: &Path, content: &str) -> Self {
        self.requirements.push(Layer::Captured {
            path: path.to_owned(),
            content: content.to_owned(),
        });
        self
    }
}

/// The sources with every file read, so that loading them touches no file and always gives the same
/// result.
///
/// This is how a configuration reaches a process that may not open files: another process reads the
/// files, passes them as bytes, and the first loads those.
///
/// # Errors
///
/// When a file that must be read cannot be read.
pub(crate) fn capture(sources: &Sources) -> Result<Sources, Vec<Diagnostic>> {
    let mut captured = Sources {
        layers: Vec::new(),
        requirements: Vec::new(),
        overrides: sources.overrides.clone(),
        supply: sources.supply.clone(),
        root: sources.root.clone(),
    };
    let files = Sources {
        layers: sources.layers.clone(),
        requirements: sources.requirements.clone(),
        ..Sources::default()
    };
    let read = read(&files);
    if !read.unreadable.is_empty() {
        return Err(read.unreadable);
    }
    for text in read.texts.into_iter() {
        let content = text.content;
        match text.kind {
            TextKind::File(path) => captured.layers.push(Layer::Captured { path, content }),
            TextKind::Requirements(path) => {
                captured
                    .requirements
                    .push(Layer::Captured { path, content });
            }
            TextKind::Inline | TextKind::Override => captured.layers.push(Layer::Text {
                name: text.name.to_string(),
                content,
            }),
        }
    }
    Ok(captured)
}

/// Reads all layers. The result holds the errors too.
pub(crate) fn read(sources: &Sources) -> ReadLayers {
    let mut read = ReadLayers::default();
    for layer in &sources.layers {
        match layer {
            Layer::File(path) => read.file(path, Wanted::IfThere, TextKind::File),
            Layer::UserFile(path) => read.file(path, Wanted::OfUser, TextKind::File),
            Layer::NamedFile(path) => read.file(path, Wanted::ByName, TextKind::File),
            Layer::Directory(path) => read.directory(path, Wanted::IfThere),
            Layer::NamedDirectory(path) => read.directory(path, Wanted::ByName),
            Layer::Text { name, content } => read.text(TextKind::Inline, name, content),
            Layer::Captured { path, content } => read.captured(path, content, TextKind::File),
        }
    }
    for assignment in &sources.overrides {
        read.text(TextKind::Override, "-c", assignment);
    }
    for file in &sources.requirements {
        match file {
            Layer::Captured { path, content } => {
                read.captured(path, content, TextKind::Requirements);
            }
            Layer::File(path) => read.file(path, Wanted::IfThere, TextKind::Requirements),
            Layer::NamedFile(path) => read.file(path, Wanted::ByName, TextKind::Requirements),
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
enum Wanted {
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
enum ReadError {
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
    #[error("is not UTF-8: line {line} holds the byte {}", shown(&format!("0x{byte:02x}")))]
    NotUtf8 { line: usize, byte: u8 },
}

impl ReadLayers {
    fn file(&mut self, path: &Path, wanted: Wanted, kind: fn(PathBuf) -> TextKind) {
        match read_file(path, wanted) {
            Ok(content) => {
                let name = path.display().to_string();
                let kind = kind(path.to_owned());
                self.texts.push(Text::new(kind, &name, content));
                self.files.push(path.to_owned());
            }
            Err(ReadError::Io(error))
                if error.kind() == ErrorKind::NotFound
                    && matches!(wanted, Wanted::IfThere | Wanted::OfUser) =>
            {
                self.vacant(path, wanted);
            }
            Err(error) => self.unreadable(path, wanted, &error),
        }
    }

    fn directory(&mut self, path: &Path, wanted: Wanted) {
        let listed = fs::read_dir(path).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<io::Result<Vec<_>>>()
        });
        match listed {
            Ok(mut files) => {
                // A user who may write there may also remove files.
                if let Err(error) = trusted(path) {
                    self.unreadable(path, wanted, &error);
                    return;
                }
                files.retain(|file| is_drop_in(file));
                files.sort();
                for file in files {
                    // A listed file that does not exist is a dangling link, which is an error.
                    let is_requirements =
                        wanted == Wanted::ByName && file.ends_with("requirements.toml");
                    let kind = if is_requirements {
                        TextKind::Requirements
                    } else {
                        TextKind::File
                    };
                    self.file(&file, Wanted::Listed, kind);
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound && wanted == Wanted::IfThere => {
                self.vacant(path, wanted);
            }
            Err(error) => self.unreadable(path, wanted, &error.into()),
        }
    }

    /// The file of a layer does not exist. That is fine, unless there is a dangling link at its
    /// path or on the way there: then the denials and requirements of the file must not be lost.
    fn vacant(&mut self, path: &Path, wanted: Wanted) {
        let is_dangling = |place: &Path| {
            let there = place.symlink_metadata();
            there.is_ok_and(|there| there.is_symlink()) && !place.exists()
        };
        if path.ancestors().any(is_dangling) {
            self.unreadable(path, wanted, &ReadError::Dangling);
        } else if wanted == Wanted::IfThere
            && let Err(error) = trusted(path)
        {
            // Another process may have removed it.
            self.unreadable(path, wanted, &error);
        }
    }

    fn captured(&mut self, path: &Path, content: &str, kind: fn(PathBuf) -> TextKind) {
        let kind = kind(path.to_owned());
        self.text(kind, &path.display().to_string(), content);
        self.files.push(path.to_owned());
    }

    fn text(&mut self, kind: TextKind, name: &str, content: &str) {
        if content.len() > MAX_BYTES {
            self.unreadable(Path::new(name), Wanted::ByName, &ReadError::TooLarge);
        } else {
            self.texts.push(Text::new(kind, name, content.to_owned()));
        }
    }

    fn unreadable(&mut self, path: &Path, wanted: Wanted, error: &ReadError) {
        let help = match error {
            ReadError::Io(error)
                if error.kind() == ErrorKind::NotFound && wanted == Wanted::ByName =>
            {
                Some(
                    "is the path right? Without a file the built-in defaults and the system's files are used",
                )
            }
            ReadError::Dangling => Some(
                "repair or remove the link; the system service sees only files below /etc and /usr",
            ),
            ReadError::Untrusted(_) if wanted == Wanted::OfUser => Some(
                "root reads this file because HOME or CODEX_HOME leads to it; run `sudo -H`, or name a file with `--config`",
            ),
            ReadError::Untrusted(_) => Some("root reads no file that others may change"),
            ReadError::NotUtf8 { .. } => Some("TOML files are UTF-8"),
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
fn trusted(path: &Path) -> Result<(), ReadError> {
    let user = Trust::of_process();
    if user.is_binding() {
        user.check(path)?;
    }
    Ok(())
}

fn read_file(path: &Path, wanted: Wanted) -> Result<String, ReadError> {
    // Only a file that the user named may be a pipe, as in `--config <(generate)`: opening a pipe
    // waits for its writer.
    let kinds = if wanted == Wanted::ByName {
        Kinds::Any
    } else {
        Kinds::Regular
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
        ReadError::NotUtf8 {
            line: ends.count() + 1,
            byte: bytes[valid],
        }
    })
}

impl From<FileError> for ReadError {
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
