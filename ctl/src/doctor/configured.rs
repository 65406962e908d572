//! The configuration files, for facts that no running proxy reports.

use codex_network_config::{Listen, Settings, Sources, load};

use super::init_system::InitSystem;

/// The configuration of the whole system: files, and a directory of files.
pub(super) const SYSTEM_FILES: [&str; 5] = [
    "/etc/codex/config.toml",
    "/etc/codex/requirements.toml",
    "/etc/codex-network-proxy/config.toml",
    "/etc/codex-network-proxy/requirements.toml",
    "/etc/codex-network-proxy/conf.d",
];

/// The content of the files, if they can be used.
#[derive(Debug)]
pub(super) enum Configured {
    Settings(Box<Settings>),
    /// The problem, in a line.
    Unusable(String),
}

impl Configured {
    /// Reads the files that the service's proxy would read, or this user's proxy if there is no
    /// service.
    pub(super) fn read(init_system: &InitSystem) -> Self {
        let sources = if init_system.has_service() {
            Sources::system()
        } else {
            Sources::system_and_user(|name| std::env::var_os(name))
        };
        // The variables with secrets are the service's, not those of this shell.
        let sources = sources.with_environment(|_| Some("not looked at".into()));
        match load(&sources) {
            Ok(loaded) => Self::Settings(Box::new(loaded.settings)),
            Err(problems) => Self::Unusable(problems.one_line()),
        }
    }

    /// Where a proxy would listen; the defaults if the files cannot be used.
    pub(super) fn listen(&self) -> Listen {
        match self {
            Self::Settings(settings) => settings.listen,
            Self::Unusable(_) => Listen::default(),
        }
    }

    pub(super) fn settings(&self) -> Option<&Settings> {
        match self {
            Self::Settings(settings) => Some(settings),
            Self::Unusable(_) => None,
        }
    }
}
