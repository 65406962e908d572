//! `proxyctl run`, `sessions`, `env` and `presets`, as a user meets them (SPEC section 2 of the jail).

mod ask;
mod env;
mod learn;
mod life;
mod presets;
mod private;
mod questions;
mod rules;
mod unavailable;
mod words;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::daemon::Config;
use e2e::program::Program;
use e2e::shipped;
use tempfile::TempDir;

/// Both programs under their own names in one directory, as a package installs them, and a
/// configuration.
pub(crate) struct Installed {
    directory: TempDir,
}

impl Installed {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("the directory is ours");
        shipped::install(directory.path());
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `proxyctl`, without a service of its user.
    fn proxyctl(&self) -> Program {
        Program::new(self.path().join("proxyctl")).env("XDG_RUNTIME_DIR", self.path())
    }

    /// `proxyctl run --config FILE`, with this configuration for a private proxy.
    pub(crate) fn private(&self, config: &Config) -> Program {
        self.proxyctl()
            .args(["run", "--config"])
            .arg(self.write(config))
    }

    /// `proxyctl run` with a session of the service that has this control socket.
    pub(crate) fn at_service(&self, socket: &str) -> Program {
        self.proxyctl()
            .args(["--socket", socket, "run", "--service"])
    }

    /// The same as `private`, started by another program with these arguments.
    pub(crate) fn confined(&self, by: &str, arguments: &[&str], config: &Config) -> Program {
        Program::new(by)
            .args(arguments)
            .arg(self.path().join("proxyctl"))
            .args(["run", "--config"])
            .arg(self.write(config))
            .env("XDG_RUNTIME_DIR", self.path())
    }

    /// A configuration file.
    pub(crate) fn write(&self, config: &Config) -> PathBuf {
        let path = self.path().join("config.toml");
        std::fs::write(&path, config.write(self.path())).expect("our own directory");
        path
    }

    /// The directories of private proxies that are left in the runtime directory.
    fn left_over(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).expect("our own directory");
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("codex-network-proxy-run-"))
            .collect()
    }
}
