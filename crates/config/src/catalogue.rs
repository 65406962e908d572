//! Every key of the configuration, one row each: its names, the kind and range of its value, the
//! field that it fills, the possible requirements, and its documentation (SPEC C2, C3, C5, C6).
//!
//! From the rows come reading and range checks (`fill`), unknown keys and the nearest known one
//! (`dialect`), `/config` ([`effective`]), and the tables of the pages ([`documentation`]). So a simple
//! key is a row here and the field that it fills. Its default is that of the field.
//!
//! The rows are in `policy`, `daemon` and `nested`; `row` describes their columns. A key that
//! depends on others is `Special`: its row names it, and a module of its own reads it. The catalogue
//! itself reads nothing.

mod daemon;
mod field;
mod nested;
mod pages;
mod policy;
mod row;
mod show;
mod tables;

pub use pages::{KeyDocumentation, KeyTable, documentation};
pub use row::InForce;
use row::Shown;
pub(crate) use row::{Bound, Draft, Effect, Key, KeyRow, TopTable, ValueKind, ZeroDuration};
use serde_json::Value;
pub use tables::keys;
pub(crate) use tables::{entry_in, is_key_name, names_in, table_with};

/// The key at the top of a file that selects a profile.
pub(crate) const SELECTOR: &str = "default_permissions";

/// Keys that other modules give a meaning to.
impl Key {
    pub(crate) const ENABLED: Self = Self("enabled");
    pub(crate) const MODE: Self = Self("mode");
    pub(crate) const ENFORCEMENT: Self = Self("enforcement");
    pub(crate) const PROXY_URL: Self = Self("proxy_url");
    pub(crate) const SOCKS_URL: Self = Self("socks_url");
    pub(crate) const ADMIN_URL: Self = Self("admin_url");
    pub(crate) const ALLOW_LOCAL_BINDING: Self = Self("allow_local_binding");
    pub(crate) const ALLOWED_DOMAINS: Self = Self("allowed_domains");
    pub(crate) const DENIED_DOMAINS: Self = Self("denied_domains");
    pub(crate) const PRESETS: Self = Self("presets");
    pub(crate) const DOMAINS: Self = Self("domains");
    pub(crate) const ALLOW_UNIX_SOCKETS: Self = Self("allow_unix_sockets");
    pub(crate) const UNIX_SOCKETS: Self = Self("unix_sockets");
    pub(crate) const ALLOW_ALL_UNIX_SOCKETS: Self = Self("dangerously_allow_all_unix_sockets");
    pub(crate) const MANAGED_ALLOWED_DOMAINS_ONLY: Self = Self("managed_allowed_domains_only");
    pub(crate) const CA_CERT_PATH: Self = Self("mitm.ca_cert_path");
    pub(crate) const CA_KEY_PATH: Self = Self("mitm.ca_key_path");
    pub(crate) const HOOKS: Self = Self("mitm.hooks");
    pub(crate) const ACTIONS: Self = Self("mitm.actions");
    pub(crate) const HTTP_PORT: Self = Self("http_port");
    pub(crate) const SOCKS_PORT: Self = Self("socks_port");
    pub(crate) const CREDENTIAL_BROKER: Self = Self("credential_broker");
    pub(crate) const PLAINTEXT_INJECTION: Self =
        Self("dangerously_allow_plaintext_credential_injection");
    pub(crate) const CREDENTIALS: Self = Self("credentials");
    pub(crate) const MITM: Self = Self("mitm.allowed");
    pub(crate) const SANDBOX: Self = Self("daemon.sandbox");
    pub(crate) const NAMESERVERS: Self = Self("daemon.resolver.nameservers");
    pub(crate) const SESSION_PROFILES: Self = Self("daemon.sessions.profiles");
    pub(crate) const HOSTS_FILE: Self = Self("daemon.resolver.hosts_file");
    pub(crate) const OTLP: Self = Self("daemon.telemetry.otlp");
    pub(crate) const OTLP_PROTOCOL: Self = Self("daemon.telemetry.protocol");
    pub(crate) const OTLP_HEADERS_FILE: Self = Self("daemon.telemetry.headers_file");
    pub(crate) const OTLP_CA_FILE: Self = Self("daemon.telemetry.ca_file");
}

/// All rows, in the order of `/config` and of the pages.
pub(crate) fn rows() -> impl Iterator<Item = &'static KeyRow> {
    let tables = [policy::ROWS, daemon::ROWS, nested::ROWS];
    #[cfg(test)]
    let tables = tables.into_iter().chain([tests::ROWS]);
    tables.into_iter().flatten()
}

/// The row of a key.
pub(crate) fn row(key: Key) -> Option<&'static KeyRow> {
    rows().find(|row| row.key == key)
}

/// The settings in force as `/config` shows them: dotted names, in a fixed order.
pub fn effective(now: &InForce<'_>) -> impl Iterator<Item = (&'static str, Value)> {
    rows().filter_map(|row| {
        let name = match row.shown {
            Shown::ByName => row.key.name(),
            Shown::As(name) => name,
            Shown::Hidden => return None,
        };
        Some((name, row.show(now)))
    })
}

#[cfg(test)]
mod tests;
