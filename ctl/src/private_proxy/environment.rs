//! The environment of a private proxy: the variables that it reads, and no others (SPEC B4). The caller's own values of
//! credentials stay away from it; `run` sends those that a session may use.

use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::sync::{Arc, Mutex, PoisonError};

use codex_network_config::{Sources, UpstreamProxies, load};

use super::PrivateOptions;

/// The variables that it reads whatever its configuration says, and those that it gives to the programs of
/// credentials.
const READ: [&str; 12] = [
    "CODEX_HOME",
    "CREDENTIALS_DIRECTORY",
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "LOGNAME",
    "NO_COLOR",
    "RUST_BACKTRACE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "USER",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
];

/// The variables of this process that the proxy gets.
pub(super) fn variables(options: &PrivateOptions) -> impl Iterator<Item = (OsString, OsString)> {
    let mut names = of_configuration(options);
    names.extend(READ.map(str::to_owned));
    let variables = names.into_iter();
    variables.filter_map(|name| {
        let value = env::var_os(&name)?;
        Some((name.into(), value))
    })
}

/// The variables that the configuration names, and those with upstream proxies, if it uses them. An invalid
/// configuration has the variables that are known up to its errors; the proxy reports these.
fn of_configuration(options: &PrivateOptions) -> BTreeSet<String> {
    let sources = match &options.config {
        Some(file) => Sources::file(file),
        None => Sources::system_and_user(|name| env::var_os(name)),
    };
    let overrides = options.overrides.iter();
    let sources = overrides.fold(sources, Sources::with_override);
    let asked = Arc::<Mutex<BTreeSet<String>>>::default();
    let names = Arc::clone(&asked);
    let loaded = load(&sources.with_environment(move |name| {
        let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned());
        // The proxy reads the value.
        Some("not looked at".into())
    }));
    let mut names = std::mem::take(&mut *asked.lock().unwrap_or_else(PoisonError::into_inner));
    if loaded.map_or(true, |loaded| loaded.settings.allow_upstream_proxy) {
        names.extend(UpstreamProxies::VARIABLES.map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(configuration: &str) -> BTreeSet<String> {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("config.toml");
        std::fs::write(&file, configuration).expect("our own directory");
        of_configuration(&PrivateOptions {
            config: Some(file),
            overrides: Vec::new(),
            asks: false,
        })
    }

    #[test]
    fn b4_a_private_proxy_gets_the_variables_that_its_configuration_names() {
        let hook = r#"
[network]
allowed_domains = ["allowed.test"]
allow_upstream_proxy = false

[network.mitm.hooks.api]
host = "allowed.test"
methods = ["GET"]
path_prefixes = ["/"]
action = ["authorise"]

[network.mitm.actions.authorise]
inject_request_headers = [{ name = "authorization", secret_env_var = "HOOK_TOKEN", prefix = "Bearer " }]
"#;
        assert_eq!(Vec::from_iter(names(hook)), ["HOOK_TOKEN"]);
        let plain = names("[network]\nallowed_domains = []\n");
        assert_eq!(plain, UpstreamProxies::VARIABLES.map(str::to_owned).into());
    }
}
