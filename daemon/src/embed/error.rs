//! Why an embedded proxy cannot start, or new settings cannot come into force.

use std::io;
use std::net::SocketAddr;

use codex_network_config::Diagnostics;
use codex_network_engine::SetupError;

/// Why there is no proxy, or why its settings did not change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkProxyError {
    /// The configuration has problems; all of them are included.
    #[error("{0}")]
    Configuration(Box<Diagnostics>),
    /// The environment names an upstream proxy that cannot be used.
    #[error("{0}; unset the variable, or set allow_upstream_proxy = false")]
    Environment(String),
    /// There is no CA for the interception.
    #[error("no CA can be made: {0}")]
    Authority(String),
    /// The settings ask for something that only the service does.
    #[error("{0}")]
    ServiceOnly(&'static str),
    /// The engine cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen for {door} on {address}: {error}; give another address, or use managed_by_codex(true)"
    )]
    Listen {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// The system's error.
        error: io::Error,
    },
    /// A listener that the embedder passed can be reached from other machines (SPEC L8).
    #[error(
        "the {door} listener on {address} is not on loopback; bind it there, or set \
         {} = true", super::listener::opt_in(.door)
    )]
    NotLoopback {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// Its address.
        address: SocketAddr,
    },
    /// A listener was passed for a door that the settings switch off.
    #[error(
        "there is a listener for {door}, which the settings switch off; switch it on, or leave the listener out"
    )]
    SwitchedOff {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
    },
    /// A listener that the embedder passed cannot be used.
    #[error("cannot use the {door} listener: {error}")]
    Listener {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// The proxy was shut down.
    #[error("the proxy has ended; build another one")]
    Ended,
    /// A task of the proxy did not finish.
    #[error("the runtime is shutting down")]
    Runtime,
}

impl NetworkProxyError {
    /// The error for users who may not read the files of the configuration (SPEC A1).
    pub(crate) fn without_content(&self) -> String {
        match self {
            Self::Configuration(problems) => problems.without_content(),
            other => other.to_string(),
        }
    }
}
