//! The layers of a configuration and their order (SPEC C1, C6). This module names files; `layers`
//! reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::secret::{Environment, SecretSupply, Secrets};

/// The sources of a configuration, the weakest layer first.
///
/// ```
/// use codex_network_config::Sources;
///
/// // The layers of the system service.
/// let service = Sources::system();
/// // A user's own proxy, with one value from the command line.
/// let person = Sources::system_and_user(|name| std::env::var_os(name))
///     .with_override("network_proxy.mode=limited");
/// // `--config FILE` replaces all layers.
/// let one_file = Sources::file("proxy.toml");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Sources {
    layers: Vec<Layer>,
    overrides: Vec<String>,
    /// Files with managed constraints.
    requirements: Vec<Layer>,
    supply: SecretSupply,
    /// The directory that replaces `/` in the paths of secret files.
    root: Option<PathBuf>,
    /// Files that are taken to have another content.
    contents: BTreeMap<PathBuf, String>,
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
    /// The preferences that device management set on a Mac, which may be missing.
    #[cfg(target_os = "macos")]
    Preferences(PathBuf),
    /// A document that the caller holds.
    Text { name: String, content: String },
    /// A file that another process has read.
    Captured { path: PathBuf, content: String },
}

impl Sources {
    /// No layers and no requirements: the built-in defaults.
    pub fn none() -> Self {
        Self::default()
    }

    /// The files in `/etc`, which the system service reads.
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

    /// The layers of the system service on a machine whose files are below `root`. Absolute paths of
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

    /// Removes all requirements, so that a configuration can be checked against other requirements.
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
        #[cfg(target_os = "macos")]
        self.requirements
            .push(Layer::Preferences(crate::managed_preference::file(root)));
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

    /// Takes this content for a file of the layers, whatever the file has, to judge a change before it
    /// is made. The file of a layer need not exist. Without a layer of this path the call has no
    /// effect.
    #[must_use]
    pub fn with_content(mut self, path: impl Into<PathBuf>, content: impl Into<String>) -> Self {
        self.contents.insert(path.into(), content.into());
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
            #[cfg(target_os = "macos")]
            Layer::Preferences(_) => true,
            Layer::Text { .. } | Layer::Captured { .. } => false,
        };
        self.layers.iter().chain(&self.requirements).any(is_read)
    }

    /// Whether there is anything but requirements.
    pub fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Looks the variables with secrets up in this closure instead of the environment of the process.
    #[must_use]
    pub fn with_environment(
        mut self,
        environment: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
    ) -> Self {
        self.supply = SecretSupply::Local(Environment::of(environment));
        self
    }

    /// Takes the secrets of the configuration from these only, which an earlier load of it has
    /// read. The load then reads neither the environment nor secret files.
    #[must_use]
    pub fn with_secrets(mut self, secrets: Secrets) -> Self {
        self.supply = SecretSupply::Captured(secrets);
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

    /// The content that is taken for a file.
    pub(crate) fn content(&self, path: &Path) -> Option<&str> {
        self.contents.get(path).map(String::as_str)
    }

    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The layers and the requirements alone.
    pub(crate) fn only_files(&self) -> Self {
        Self {
            layers: self.layers.clone(),
            requirements: self.requirements.clone(),
            contents: self.contents.clone(),
            ..Self::default()
        }
    }

    /// Everything but the layers and the requirements.
    pub(crate) fn without_files(&self) -> Self {
        Self {
            overrides: self.overrides.clone(),
            supply: self.supply.clone(),
            root: self.root.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn with_captured(mut self, path: PathBuf, content: String) -> Self {
        self.layers.push(Layer::Captured { path, content });
        self
    }

    pub(crate) fn with_captured_requirements(mut self, path: PathBuf, content: String) -> Self {
        self.requirements.push(Layer::Captured { path, content });
        self
    }
}
