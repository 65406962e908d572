//! The kit of the tests: an engine with open doors, clients, servers, and a scripted network.
//!
//! Paths in here are relative, because a fuzz target compiles these files too.

pub(crate) mod doors;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod records;
pub(crate) mod server;
pub(crate) mod stream;
pub(crate) mod tls;

use std::time::Duration;

use codex_network_config::{Settings, Sources, load};

/// Time limit for everything that must happen.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of a configuration file with this text.
pub(crate) fn settings(text: &str) -> Settings {
    let loaded = load(&Sources::none().with_text("test", text));
    loaded.expect("a valid configuration").settings
}
