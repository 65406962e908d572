//! What keeps an embedded proxy from starting, or new settings from coming into force.

use std::io;
use std::net::SocketAddr;

use codex_network_config::Diagnostics;
use codex_network_engine::SetupError;

/// Why there is no proxy, or why it goes on as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkProxyError {
    /// The configuration has problems; all of them are in there.
    #[error("{0}")]
    Configuration(Box<Diagnostics>),
    /// The environment names an upstream proxy that is none.
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
    /// There is no listening there.
    #[error(
        "cannot listen for {door} on {address}: {error}; give another address, or use managed_by_codex(true)"
    )]
    Listen {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why not.
        error: io::Error,
    },
    /// A listener that was handed in may be reached from elsewhere (SPEC L8).
    #[error(
        "the {door} listener on {address} is not on loopback; bind it there, or set \
         {} = true", super::builder::opt_in(.door)
    )]
    NotLoopback {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// Where it is.
        address: SocketAddr,
    },
    /// A listener was handed in for a door that the settings switch off.
    #[error(
        "there is a listener for {door}, which the settings switch off; switch it on, or leave the listener out"
    )]
    SwitchedOff {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
    },
    /// A listener that was handed in cannot be used.
    #[error("cannot use the {door} listener: {error}")]
    Listener {
        /// `http`, `socks5` or `admin`.
        door: &'static str,
        /// Why not.
        error: io::Error,
    },
    /// The proxy was shut down.
    #[error("the proxy has ended; build another one")]
    Ended,
    /// A task of the proxy's own was not run to its end.
    #[error("the runtime is shutting down")]
    Runtime,
}

impl NetworkProxyError {
    /// The error for those who may not read the files of the configuration (SPEC A1).
    pub(crate) fn without_content(&self) -> String {
        match self {
            Self::Configuration(problems) => problems.without_content(),
            other => other.to_string(),
        }
    }
}
