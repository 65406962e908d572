//! The files and directories that the proxy depends on, and which users may change them.
//!
//! `codex_network_files::Trust` has the rule. Root refuses a path that other users may change. The
//! files and secrets of the configuration are refused where they are read. Other users are only
//! warned.

use std::path::{Path, PathBuf};

use codex_network_config::{Secrets, Settings, below};
use codex_network_files::Trust;
use codex_network_policy::Interception;

use crate::ca::files;
use crate::state;

/// A path, and its role.
type TrustedPath = (&'static str, PathBuf);

/// Which files a configuration was read from, where these are not the ones that the proxy on this
/// machine reads.
#[derive(Debug, Default)]
pub(crate) struct PathScope {
    /// Requirements, or directories with some, that the user named. They may belong to any user.
    pub(crate) named: Vec<PathBuf>,
    /// The directory that stands for the `/` of another machine.
    pub(crate) root: Option<PathBuf>,
}

impl PathScope {
    /// The path on this machine for a path in the configuration.
    pub(crate) fn place(&self, path: &Path) -> PathBuf {
        match &self.root {
            Some(root) => below(root, path),
            None => path.to_owned(),
        }
    }

    /// Whether a file has requirements that bind the user who runs the proxy too.
    fn is_binding(&self, path: &Path) -> bool {
        path.ends_with("requirements.toml")
            && self.root.is_none()
            && !self.named.iter().any(|named| path.starts_with(named))
    }
}

/// Checks all paths of a configuration. Returns the warnings, each once.
///
/// # Errors
///
/// A sentence about the first path that root must refuse.
pub(crate) fn judge(
    settings: &Settings,
    secrets: &Secrets,
    scope: &PathScope,
) -> Result<Vec<String>, String> {
    let user = Trust::of_process();
    let mut warnings: Vec<String> = Vec::new();
    for (what, path) in of(settings, secrets, scope) {
        let path = scope.place(&path);
        let keeper = if scope.is_binding(&path) {
            Trust::of_root()
        } else {
            user
        };
        let Err(error) = keeper.check(&path) else {
            continue;
        };
        if user.is_binding() {
            return Err(format!("error: {what} is refused: {error}"));
        }
        let warning = format!("others may change {what}: {error}");
        // A directory is above many files.
        let told = error.to_string();
        if !warnings.iter().any(|before| before.ends_with(&told)) {
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

fn of(settings: &Settings, secrets: &Secrets, scope: &PathScope) -> Vec<TrustedPath> {
    let daemon = &settings.daemon;
    let mut places: Vec<TrustedPath> = Vec::new();
    let mut add = |what, path: &Path| places.push((what, path.to_owned()));
    for file in &settings.files {
        add("a configuration file", file);
    }
    for file in secrets.files() {
        add("a secret file", file);
    }
    if let Some(directory) = daemon.control.socket.as_deref().and_then(Path::parent) {
        add("the directory of [daemon.control] socket", directory);
    }
    if let Some(file) = &daemon.resolver.hosts_file {
        add("[daemon.resolver] hosts_file", file);
    }
    // The environment and the state of this machine say nothing about another.
    let is_here = scope.root.is_none();
    let variable = |name: &str| std::env::var_os(name).filter(|_| is_here);
    if let Some(file) = variable("SSL_CERT_FILE") {
        add("SSL_CERT_FILE", file.as_ref());
    }
    let directories = variable("SSL_CERT_DIR");
    for directory in directories.iter().flat_map(std::env::split_paths) {
        add("SSL_CERT_DIR", &directory);
    }
    if settings.policy.interception() == Interception::Forbidden {
        return places;
    }
    if is_here && let Some(state) = state::directory(daemon, variable) {
        add("the state directory", &state);
        let paths = files::in_state(&state);
        add("the CA's key", &paths.key);
        add("the CA's certificate", &paths.certificate);
    }
    if let Some(paths) = &settings.mitm.ca_paths {
        add("ca_key_path", &paths.key);
        add("ca_cert_path", &paths.certificate);
    }
    places
}
