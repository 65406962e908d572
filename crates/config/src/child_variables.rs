//! The variables that make a program use the proxy (SPEC B1, B2), and their values.
//!
//! Programs read many different variables, so all of them are set. An old value could lead past the
//! proxy. The engine sets them for the programs of an embedder, and `proxyctl` for those of a shell.

use crate::certificate_variables::CERTIFICATE_VARIABLES;

/// Variables for the URL of the HTTP door.
const HTTP: &[&str] = &[
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "WS_PROXY",
    "WSS_PROXY",
    "http_proxy",
    "https_proxy",
    "ws_proxy",
    "wss_proxy",
    "YARN_HTTP_PROXY",
    "YARN_HTTPS_PROXY",
    "npm_config_proxy",
    "npm_config_http_proxy",
    "npm_config_https_proxy",
    "NPM_CONFIG_PROXY",
    "NPM_CONFIG_HTTP_PROXY",
    "NPM_CONFIG_HTTPS_PROXY",
    "BUNDLE_HTTP_PROXY",
    "BUNDLE_HTTPS_PROXY",
    "PIP_PROXY",
    "DOCKER_HTTP_PROXY",
    "DOCKER_HTTPS_PROXY",
];
/// Variables for the URL that programs use for every scheme without a variable of its own.
const ALL: &[&str] = &["ALL_PROXY", "all_proxy"];
/// Variables for the URL of the SOCKS5 door, or of the HTTP door if there is no other.
const FTP: &[&str] = &["FTP_PROXY", "ftp_proxy"];
/// Variables that list the hosts to reach without the proxy.
const NONE: &[&str] = &[
    "NO_PROXY",
    "no_proxy",
    "npm_config_noproxy",
    "NPM_CONFIG_NOPROXY",
    "YARN_NO_PROXY",
    "BUNDLE_NO_PROXY",
];
/// Marks the environment of a program that uses the proxy.
const ACTIVE: &str = "CODEX_NETWORK_PROXY_ACTIVE";
const NODE: &str = "NODE_USE_ENV_PROXY";
const ELECTRON: &str = "ELECTRON_GET_USE_PROXY";
const LOCAL: &str = "CODEX_NETWORK_ALLOW_LOCAL_BINDING";
/// The destinations to reach without the proxy when local binding is on.
const LOCAL_DESTINATIONS: &str = "localhost,127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";
/// The destinations to reach without the proxy on a loopback interface of one's own.
const OWN_LOOPBACK: &str = "localhost,127.0.0.1,::1";

/// The values of the variables.
#[derive(Clone, Debug)]
pub struct ChildVariables<'a> {
    /// The URL of the HTTP door.
    pub http: &'a str,
    /// The URL for every scheme without a variable of its own: that of the HTTP or the SOCKS5 door.
    pub all: &'a str,
    /// The URL of the SOCKS5 door, or of the HTTP door if there is no other.
    pub ftp: &'a str,
    /// Whether the program may reach local and private addresses without the proxy.
    pub allow_local_binding: bool,
    /// Whether the program has a loopback interface of its own, whose addresses it reaches directly. The
    /// machine's local and private addresses are out of its reach then.
    pub has_own_loopback: bool,
    /// A file with all certificates that the program should trust; `None` leaves the variables of
    /// [`CERTIFICATE_VARIABLES`] as they are.
    pub bundle: Option<&'a str>,
}

impl<'a> ChildVariables<'a> {
    /// The names and values to set, each name once.
    pub fn pairs(&self) -> Vec<(&'static str, &'a str)> {
        let bypassing = match (self.has_own_loopback, self.allow_local_binding) {
            (true, _) => OWN_LOOPBACK,
            (false, true) => LOCAL_DESTINATIONS,
            (false, false) => "",
        };
        let local = if self.allow_local_binding { "1" } else { "0" };
        let mut pairs = Vec::new();
        let mut set = |names: &[&'static str], value: &'a str| {
            pairs.extend(names.iter().map(|name| (*name, value)));
        };
        set(HTTP, self.http);
        set(ALL, self.all);
        set(FTP, self.ftp);
        set(NONE, bypassing);
        set(&[NODE, ACTIVE], "1");
        set(&[ELECTRON], "true");
        set(&[LOCAL], local);
        if let Some(bundle) = self.bundle {
            set(CERTIFICATE_VARIABLES, bundle);
        }
        pairs
    }

    /// The names that are always set: all but [`CERTIFICATE_VARIABLES`].
    pub fn names() -> impl Iterator<Item = &'static str> {
        let marks = [NODE, ACTIVE, ELECTRON, LOCAL];
        let named = [HTTP, ALL, FTP, NONE].into_iter().flatten().copied();
        named.chain(marks)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn b1_the_names_are_those_of_the_pairs_and_each_is_set_once() {
        let variables = ChildVariables {
            http: "http://127.0.0.1:3128",
            all: "socks5h://127.0.0.1:8081",
            ftp: "socks5h://127.0.0.1:8081",
            allow_local_binding: false,
            has_own_loopback: false,
            bundle: None,
        };
        let pairs = variables.pairs();
        let set: BTreeSet<&str> = pairs.iter().map(|(name, _)| *name).collect();
        assert_eq!(set.len(), pairs.len());
        assert_eq!(set, ChildVariables::names().collect());
        let with_bundle = ChildVariables {
            bundle: Some("/bundle.pem"),
            ..variables
        };
        let more = with_bundle.pairs().len() - pairs.len();
        assert_eq!(more, CERTIFICATE_VARIABLES.len());
    }
}
