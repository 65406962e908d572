//! Secrets that a configuration names, and how they are read (SPEC M9, B4).
//!
//! A configuration names an environment variable or a file and never holds the value. The process
//! that loads it reads both. It may pass the secrets with the captured configuration to a process
//! that has access to neither (see `captured`). [`Secrets`] come only from a load that succeeded,
//! so they are exactly those that the configuration names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_network_files::{ReadError, Reading, Trust, Untrusted};
use zeroize::Zeroizing;

/// Largest secret file that is read.
const MAX_BYTES: usize = 64 << 10;
/// Permission bits that let other users read.
const READ_BY_OTHERS: u32 = 0o044;

/// Bytes that must stay secret. They are overwritten when the last clone is dropped. Only
/// [`expose`](Self::expose) returns them: there is no `Display`, and `Debug` does not show them.
///
/// ```
/// let secret = codex_network_config::Secret::new(b"hunter2".to_vec());
/// assert_eq!(format!("{secret:?}"), "Secret(…)");
/// assert_eq!(secret.expose(), b"hunter2");
/// ```
///
/// ```compile_fail
/// let secret = codex_network_config::Secret::new(b"hunter2".to_vec());
/// println!("{secret}");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

/// The source of a secret. It is not itself secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SecretSource {
    /// `secret_env_var`: a variable in the environment of the process that loads.
    Environment(String),
    /// `secret_file`: the content of a file, without one line end at its end.
    File(PathBuf),
}

/// The secrets of a configuration as read, to be passed on with it.
#[derive(Clone, Debug, Default)]
pub struct Secrets(BTreeMap<SecretSource, ReadSecret>);

/// A secret that was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadSecret {
    pub(crate) secret: Secret,
    pub(crate) readers: Readers,
}

/// Which users may read the source of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Only the owner, by the file permissions.
    Owner,
    /// The file's group, or all users.
    Others,
}

/// The place from which a load takes secrets.
#[derive(Clone, Debug)]
pub(crate) enum SecretSupply {
    /// From this process's environment and files.
    Local(Environment),
    /// From a process that has read them, and from nowhere else.
    Captured(Secrets),
}

/// Looks variables up; `None` for the process's own environment.
#[derive(Clone, Default)]
pub(crate) struct Environment(Option<Arc<Lookup>>);

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Reads the secrets for one load, each once.
#[derive(Debug)]
pub(crate) struct SecretReader<'k> {
    supply: &'k SecretSupply,
    /// The directory that replaces `/` in paths.
    root: Option<&'k Path>,
    read: Secrets,
}

/// Why a secret cannot be read. The text never contains a part of the value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("is not set")]
    Unset,
    #[error("is empty")]
    Empty,
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("is not a regular file")]
    Special,
    #[error("is larger than {} KiB", MAX_BYTES >> 10)]
    TooLarge,
    #[error("is refused: {0}")]
    Untrusted(Untrusted),
    #[error("was not captured with the configuration")]
    Missing,
}

impl Secret {
    /// Takes ownership of the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes themselves. Use them only to send them; never store them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable `{name}`"),
            Self::File(path) => write!(f, "the secret file `{}`", path.display()),
        }
    }
}

impl Secrets {
    /// The paths of those secrets that are in files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().filter_map(|source| match source {
            SecretSource::File(path) => Some(path.as_path()),
            SecretSource::Environment(_) => None,
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the configuration names none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&SecretSource, &ReadSecret)> {
        self.0.iter()
    }

    pub(crate) fn insert(&mut self, source: SecretSource, found: ReadSecret) {
        self.0.insert(source, found);
    }
}

impl Environment {
    pub(crate) fn of(lookup: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(lookup)))
    }

    fn get(&self, name: &str) -> Option<OsString> {
        match &self.0 {
            Some(lookup) => lookup(name),
            None => std::env::var_os(name),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment(…)")
    }
}

impl Default for SecretSupply {
    fn default() -> Self {
        Self::Local(Environment::default())
    }
}

impl<'k> SecretReader<'k> {
    pub(crate) fn new(supply: &'k SecretSupply, root: Option<&'k Path>) -> Self {
        Self {
            supply,
            root,
            read: Secrets::default(),
        }
    }

    /// The secret of a source, read now or earlier.
    pub(crate) fn read(&mut self, source: &SecretSource) -> Result<ReadSecret, SecretError> {
        if let Some(found) = self.read.0.get(source) {
            return Ok(found.clone());
        }
        let found = match self.supply {
            SecretSupply::Captured(secrets) => {
                secrets.0.get(source).cloned().ok_or(SecretError::Missing)?
            }
            SecretSupply::Local(environment) => match source {
                SecretSource::Environment(name) => {
                    let value = environment.get(name).ok_or(SecretError::Unset)?;
                    ReadSecret {
                        secret: Secret::new(value.into_vec()),
                        readers: Readers::Owner,
                    }
                }
                SecretSource::File(path) => match self.root {
                    Some(root) => read_file(&below(root, path))?,
                    None => read_file(path)?,
                },
            },
        };
        if found.secret.expose().is_empty() {
            return Err(SecretError::Empty);
        }
        self.read.insert(source.clone(), found.clone());
        Ok(found)
    }

    /// All secrets that were read.
    pub(crate) fn into_secrets(self) -> Secrets {
        self.read
    }
}

/// The path on this machine of a file of another machine, whose files are below `root` here. A path
/// that is relative to a configuration file is below `root` already.
pub fn below(root: &Path, path: &Path) -> PathBuf {
    if path.starts_with(root) {
        return path.to_owned();
    }
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn read_file(path: &Path) -> Result<ReadSecret, SecretError> {
    let file = Reading::up_to(MAX_BYTES as u64)
        .kept_by(Trust::of_process())
        .open(path)?;
    let mode = file.metadata().permissions().mode();
    let content = file.read()?;
    let line = content.strip_suffix(b"\n");
    let value = line.map_or(&content[..], |line| {
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    Ok(ReadSecret {
        secret: Secret::new(value.to_vec()),
        readers: if mode & READ_BY_OTHERS == 0 {
            Readers::Owner
        } else {
            Readers::Others
        },
    })
}

impl From<ReadError> for SecretError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Directory | ReadError::Special => Self::Special,
            ReadError::TooLarge(_) => Self::TooLarge,
            ReadError::Untrusted(error) => Self::Untrusted(error),
            error @ (ReadError::Link | ReadError::Replaced) => Self::Io(error.into()),
        }
    }
}

impl SecretError {
    /// The remedy.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::Unset | Self::Empty => {
                "set the variable for the process that starts the proxy, before the start"
            }
            Self::Io(error) if error.kind() == ErrorKind::PermissionDenied => {
                "the proxy reads it as the user that starts it: run this as that user"
            }
            Self::Special | Self::TooLarge => {
                "a secret file holds only the secret, and optionally a line end"
            }
            Self::Io(_) => "",
            Self::Untrusted(_) => "root uses no secret that other users may change",
            Self::Missing => "reload the configuration",
        }
    }
}
