//! The environment of a program that should use the proxy (SPEC B1, B2, B3), for embedders.
//! `ChildVariables` of `codex-network-config` has the names of the variables.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use codex_network_config::{
    BrokeredVariable, CERTIFICATE_VARIABLES, ChildVariables, CredentialVariable, RemovalReason,
    brokered_variables, removed_variables,
};

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
    credentials: Option<Arc<ChildCredentials>>,
}

/// The credentials of a program (SPEC B3). `Debug` shows no value and no dummy.
#[derive(Clone, Default)]
pub struct ChildCredentials {
    /// Those that have a dummy.
    pub brokered: Vec<BrokeredVariable>,
    /// The names of all variables that hold credentials. One without a dummy is removed from the child's
    /// environment.
    pub variables: Vec<String>,
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
            credentials: None,
        }
    }

    /// Gives the child dummies in the place of credentials.
    #[must_use]
    pub fn with_credentials(self, credentials: ChildCredentials) -> Self {
        let credentials = Some(Arc::new(credentials));
        Self {
            credentials,
            ..self
        }
    }

    /// Marks everything that the child does with an attempt id: 1 to 128 ASCII letters, digits, `-`,
    /// `_` and `.`. `None` for anything else.
    #[must_use]
    pub fn for_attempt(self, id: &str) -> Option<Self> {
        let attempt = Some(AttemptId::new(id)?);
        Some(Self { attempt, ..self })
    }

    /// Sets the variables and overwrites their old values. Credentials become dummies, also inside of other variables;
    /// those without a dummy, and other variables that contain their values, are removed with a warning (SPEC B3, B9).
    pub fn apply_to(&self, environment: &mut HashMap<String, String>) {
        if let Some(credentials) = &self.credentials {
            credentials.remove_others(environment);
        }
        let http = match &self.attempt {
            // Some clients send a user name only with a password, so the URL has an empty password.
            Some(id) => format!("http://{}:@{}", id.user_name(), self.http),
            None => format!("http://{}", self.http),
        };
        let socks5 = match self.socks5 {
            // Few programs send a user name to a SOCKS5 proxy.
            Some(socks5) if self.attempt.is_none() => format!("socks5h://{socks5}"),
            Some(_) | None => http.clone(),
        };
        // The HTTP libraries of some languages need one more package for SOCKS5, and fail without it. A jail leads
        // the other protocols through the transparent door.
        let all = if self.has_own_loopback {
            &http
        } else {
            &socks5
        };
        let variables = ChildVariables {
            http: &http,
            all,
            ftp: &socks5,
            allow_local_binding: self.allow_local_binding,
            has_own_loopback: self.has_own_loopback,
            bundle: self.bundle.as_deref().and_then(|bundle| bundle.to_str()),
        };
        for (name, value) in variables.pairs() {
            environment.insert(name.to_owned(), value.to_owned());
        }
        if let Some(credentials) = &self.credentials {
            let texts = environment
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let dummies = brokered_variables(&credentials.brokered, texts);
            environment.extend(dummies);
        }
    }
}

impl ChildCredentials {
    /// Removes the credentials that have no dummy, and the copies of their values. The value of a variable may be
    /// another one here than in the launcher's environment: it has no dummy then.
    fn remove_others(&self, environment: &mut HashMap<String, String>) {
        let credentials = self.variables.iter().filter_map(|name| {
            let value = environment.get(name)?;
            let is_dummy = self.of(name).is_some_and(|one| one.dummy == *value);
            CredentialVariable::new(name.clone(), OsStr::new(value)).filter(|_| !is_dummy)
        });
        let credentials: Vec<CredentialVariable> = credentials.collect();
        let has_dummy = |one: &&BrokeredVariable| {
            let mut found = credentials.iter();
            let found = found.find(|credential| credential.name == one.name.as_str());
            found.is_none_or(|credential| credential.value == one.value)
        };
        let brokered: Vec<_> = self.brokered.iter().filter(has_dummy).cloned().collect();
        let all = environment
            .iter()
            .map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        for removed in removed_variables(all, &credentials, &brokered) {
            let name = removed.name.to_string_lossy();
            environment.remove(&*name);
            if self.of(&name).is_some() {
                // It gets the dummy of the launcher's value.
                continue;
            }
            match removed.reason {
                RemovalReason::Contains(credential) => tracing::warn!(
                    "{name} is removed from the environment of a program: it contains the value of {credential}"
                ),
                RemovalReason::NoDummy | RemovalReason::NotText => tracing::warn!(
                    "{name} is removed from the environment of a program: it is a credential, and the proxy has no \
                     dummy for its value"
                ),
            }
        }
    }

    fn of(&self, name: &str) -> Option<&BrokeredVariable> {
        self.brokered.iter().find(|one| one.name.as_str() == name)
    }
}

impl fmt::Debug for ChildCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildCredentials")
            .field("variables", &self.variables)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use codex_network_config::{Secret, VariableName, still_brokered};

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
        child.has_own_loopback = true;
        let in_jail = applied(&child);
        assert_eq!(in_jail["ALL_PROXY"], "http://127.0.0.1:3128");
        assert_eq!(in_jail["FTP_PROXY"], "socks5h://127.0.0.1:8081");
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

    const LAUNCHERS: &str = "ghp_0123456789abcdefABCDEF0123456789abcd";
    const OTHER: &str = "ghp_ABCDEFabcdef98765432100123456789wxyz";
    const DUMMY: &str = "ghp_maskedT3q8Zx0fLw2nUe7RbVyKs5Hd1c9Abc";

    /// A child whose `GH_TOKEN` has a dummy. `PLAIN_KEY` is a credential too.
    fn brokering() -> ChildEnvironment {
        let brokered = BrokeredVariable {
            name: VariableName::parse("GH_TOKEN").expect("a name"),
            value: Secret::new(LAUNCHERS.as_bytes().to_vec()),
            dummy: DUMMY.to_owned(),
        };
        ChildEnvironment::new(HTTP_DOOR).with_credentials(ChildCredentials {
            brokered: vec![brokered],
            variables: vec!["GH_TOKEN".to_owned(), "PLAIN_KEY".to_owned()],
        })
    }

    fn child_of(variables: &[(&str, &str)]) -> HashMap<String, String> {
        let variables = variables.iter();
        let mut environment = variables
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        brokering().apply_to(&mut environment);
        environment
    }

    #[test]
    fn b3_a_child_gets_dummies_and_no_credential_without_one() {
        let url = format!("https://{LAUNCHERS}@github.com/");
        let set = child_of(&[
            ("GH_TOKEN", LAUNCHERS),
            ("REMOTE", &url),
            ("PLAIN_KEY", "no-dummy-for-it"),
            ("COPY", "its value is no-dummy-for-it"),
            ("PATH", "/bin"),
        ]);
        assert_eq!(set["GH_TOKEN"], DUMMY);
        assert_eq!(set["REMOTE"], format!("https://{DUMMY}@github.com/"));
        assert!(!set.contains_key("PLAIN_KEY") && !set.contains_key("COPY"));
        assert_eq!(set["CODEX_NETWORK_PROXY_CREDENTIAL_BROKER_ACTIVE"], "1");
        assert_eq!(still_brokered(&set), ["GH_TOKEN", "REMOTE"]);
        assert!(!set.values().any(|value| value.contains(LAUNCHERS)));
        // Also for a program of the child.
        let again = |set: &HashMap<String, String>| {
            let mut set = set.clone();
            brokering().apply_to(&mut set);
            set
        };
        assert_eq!(again(&set)["GH_TOKEN"], DUMMY);
        assert_eq!(again(&set)["REMOTE"], set["REMOTE"]);
    }

    #[test]
    fn b3_another_value_than_the_launchers_does_not_reach_the_child() {
        let copy = format!("x{OTHER}");
        let set = child_of(&[("GH_TOKEN", OTHER), ("COPY", &copy)]);
        assert_eq!(set["GH_TOKEN"], DUMMY);
        assert!(!set.contains_key("COPY"));
        assert!(!set.values().any(|value| value.contains(OTHER)));
    }

    #[test]
    fn b4_no_debug_text_of_a_child_has_a_value_or_a_dummy() {
        let text = format!("{:?}", brokering());
        assert!(text.contains("GH_TOKEN"), "{text}");
        assert!(!text.contains(LAUNCHERS) && !text.contains(DUMMY), "{text}");
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
