//! The listeners of an embedded proxy, by name.

use codex_network_engine::Door;

use crate::admin;

/// A listener of an embedded proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listener {
    Http,
    Socks5,
    Admin,
}

impl Listener {
    /// All of them, in the order of the arrays.
    pub(super) const ALL: [Self; 3] = [Self::Http, Self::Socks5, Self::Admin];

    /// The name in logs and errors.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => Door::Http.as_str(),
            Self::Socks5 => Door::Socks5.as_str(),
            Self::Admin => admin::NAME,
        }
    }
}

/// The key that lets a listener leave loopback.
pub(super) fn opt_in(door: &str) -> &'static str {
    if door == Listener::Admin.as_str() {
        "dangerously_allow_non_loopback_admin"
    } else {
        "dangerously_allow_non_loopback_proxy"
    }
}
