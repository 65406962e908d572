//! The environment of a program that should use the proxy (SPEC B1, B2), for embedders.
//! `ChildVariables` of `codex-network-config` has the names of the variables.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use codex_network_config::{CERTIFICATE_VARIABLES, ChildVariables};

use crate::client::AttemptId;

/// The values of the variables.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildEnvironment {
    /// The address of the HTTP door.
    pub http: SocketAddr,
    /// The address of the SOCKS5 door, if it is open.
    pub socks5: Option<SocketAddr>,
    /// Whether the child may reach local and private addresses directly.
    pub allow_local_binding: bool,
    /// Whether the child has a loopback interface of its own, whose addresses it reaches directly. The
    /// machine's local and private addresses are out of its reach then.
    pub has_own_loopback: bool,
    /// A file with the certificates of intercepted hosts and of all others, if there is one. The
    /// child trusts only this file.
    pub bundle: Option<PathBuf>,
    /// The attempt that the child belongs to (SPEC H11).
    attempt: Option<AttemptId>,
}

impl ChildEnvironment {
    /// The variables that name a bundle of certificates. They are overwritten, so the bundle must
    /// include the certificates of their old files (SPEC B2).
    pub const BUNDLE_VARIABLES: &'static [&'static str] = CERTIFICATE_VARIABLES;

    /// The environment for clients of a proxy that has only an HTTP door.
    pub fn new(http: SocketAddr) -> Self {
        Self {
            http,
            socks5: None,
            allow_local_binding: false,
            has_own_loopback: false,
            bundle: None,
            attempt: None,
        }
    }

    /// Marks everything that the child does with an attempt id: 1 to 128 ASCII letters, digits, `-`,
    /// `_` and `.`. `None` for anything else.
    #[must_use]
    pub fn for_attempt(self, id: &str) -> Option<Self> {
        let attempt = Some(AttemptId::new(id)?);
        Some(Self { attempt, ..self })
    }

    /// Sets the variables and overwrites their old values.
    pub fn apply_to(&self, environment: &mut HashMap<String, String>) {
        let http = match &self.attempt {
            // Some clients send a user name only with a password, so the URL has an empty password.
            Some(id) => format!("http://{}:@{}", id.user_name(), self.http),
            None => format!("http://{}", self.http),
        };
        let all = match self.socks5 {
            // Few programs send a user name to a SOCKS5 proxy.
            Some(socks5) if self.attempt.is_none() => format!("socks5h://{socks5}"),
            Some(_) | None => http.clone(),
        };
        let variables = ChildVariables {
            http: &http,
            all: &all,
            allow_local_binding: self.allow_local_binding,
            has_own_loopback: self.has_own_loopback,
            bundle: self.bundle.as_deref().and_then(|bundle| bundle.to_str()),
        };
        for (name, value) in variables.pairs() {
            environment.insert(name.to_owned(), value.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP_DOOR: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3128);

    fn applied(child: &ChildEnvironment) -> HashMap<String, String> {
        let mut environment = HashMap::from([
            ("NO_PROXY".to_owned(), "*".to_owned()),
            ("https_proxy".to_owned(), "http://elsewhere.test".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        child.apply_to(&mut environment);
        environment
    }

    #[test]
    fn b1_every_program_is_led_to_the_proxy_whatever_the_caller_had() {
        let mut child = ChildEnvironment::new(HTTP_DOOR);
        child.socks5 = Some(SocketAddr::new(HTTP_DOOR.ip(), 8081));
        let set = applied(&child);
        let mut count = 0;
        for name in ChildVariables::names() {
            let lower = name.to_lowercase();
            let wanted = if lower.contains("no_proxy") || lower.contains("noproxy") {
                ""
            } else if lower == "all_proxy" || lower == "ftp_proxy" {
                "socks5h://127.0.0.1:8081"
            } else if lower.contains("proxy") && !lower.contains("use") && !lower.contains("active")
            {
                "http://127.0.0.1:3128"
            } else {
                continue;
            };
            assert_eq!(set[name], wanted, "{name}");
            count += 1;
        }
        assert_eq!(count, 31);
        assert_eq!(set["CODEX_NETWORK_PROXY_ACTIVE"], "1");
        assert_eq!(set["CODEX_NETWORK_ALLOW_LOCAL_BINDING"], "0");
        assert_eq!(set["NODE_USE_ENV_PROXY"], "1");
        assert_eq!(set["ELECTRON_GET_USE_PROXY"], "true");
        assert_eq!(set["PATH"], "/bin");
        assert!(!set.contains_key("SSL_CERT_FILE"));
    }

    #[test]
    fn b1_local_destinations_go_past_the_proxy_only_with_local_binding() {
        let mut child = ChildEnvironment::new(HTTP_DOOR);
        child.allow_local_binding = true;
        let set = applied(&child);
        let local = "localhost,127.0.0.1,::1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16";
        assert_eq!(set["no_proxy"], local);
        assert_eq!(set["CODEX_NETWORK_ALLOW_LOCAL_BINDING"], "1");
        assert_eq!(set["ALL_PROXY"], "http://127.0.0.1:3128", "SOCKS is off");
    }

    #[test]
    fn h11_an_attempt_id_survives_in_every_variable() {
        let mut child = ChildEnvironment::new(HTTP_DOOR);
        child.socks5 = Some(SocketAddr::new(HTTP_DOOR.ip(), 8081));
        assert!(child.clone().for_attempt("a b").is_none());
        let set = applied(&child.for_attempt("a1").expect("an id"));
        let urls = set.values().filter(|value| value.contains("://"));
        let wanted = "http://codex-net-attempt-a1:@127.0.0.1:3128";
        assert_eq!(urls.filter(|url| *url == wanted).count(), 25);
        let others = |url: &&String| url.contains("://") && *url != wanted;
        let others: Vec<_> = set.values().filter(others).collect();
        assert_eq!(others, [""; 0]);
    }

    #[test]
    fn b2_a_bundle_is_named_to_every_program() {
        let mut child = ChildEnvironment::new(HTTP_DOOR);
        child.bundle = Some("/state/bundle.pem".into());
        let set = applied(&child);
        for name in CERTIFICATE_VARIABLES {
            assert_eq!(set[*name], "/state/bundle.pem", "{name}");
        }
    }
}
