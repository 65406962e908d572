//! A configuration for the worker: its text with the secrets that it names, the credentials of its sources,
//! the permitted callers by id, and the proxy variables of the environment that the service was started with.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use codex_network_config::{CredentialReading, CredentialReadings, Sources, UpstreamProxies};

use super::{credentials, lines, put, take};
use crate::permitted_callers::PermittedCallers;

/// The configuration as the worker reads it.
#[derive(Debug)]
pub(crate) struct WorkerSettings {
    /// The permitted callers of the control socket.
    pub(crate) admitted: PermittedCallers,
    /// Sentences about the configuration that the worker logs.
    pub(crate) warnings: Vec<String>,
    pub(crate) upstream_proxies: UpstreamProxies,
    /// The credentials that launchers do not give.
    pub(crate) credentials: CredentialReadings,
    pub(crate) sources: Sources,
}

/// Writes a configuration. `proxy_variable` gives the value of a variable of
/// [`UpstreamProxies::VARIABLES`].
pub(crate) fn encode(
    admitted: &PermittedCallers,
    warnings: &[String],
    proxy_variable: impl Fn(&str) -> Option<OsString>,
    credentials: &[CredentialReading],
    sources: &Sources,
) -> Vec<u8> {
    let mut out = admitted.to_bytes();
    put(&mut out, warnings.join("\n").as_bytes());
    for name in UpstreamProxies::VARIABLES {
        put(
            &mut out,
            proxy_variable(name).unwrap_or_default().as_bytes(),
        );
    }
    let (credentials, sources) = (credentials::encode(credentials), sources.to_bytes());
    // One allocation: a vector that grows leaves its old bytes behind.
    out.reserve_exact(size_of::<u64>() + credentials.len() + sources.len());
    put(&mut out, &credentials);
    out.extend_from_slice(&sources);
    out
}

/// Reads the output of [`encode`]. `None` if it is malformed.
pub(crate) fn decode(bytes: &[u8]) -> Option<WorkerSettings> {
    let (admitted, rest) = PermittedCallers::from_bytes(bytes)?;
    let (warnings, mut rest) = take(rest)?;
    let mut variables = HashMap::new();
    for name in UpstreamProxies::VARIABLES {
        let (value, after) = take(rest)?;
        variables.insert(name, OsStr::from_bytes(value));
        rest = after;
    }
    let (credentials, rest) = take(rest)?;
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Some(WorkerSettings {
        admitted,
        warnings: lines(warnings),
        // The loader has checked them.
        upstream_proxies: UpstreamProxies::from_environment(variable).ok()?,
        credentials: CredentialReadings::new(credentials::decode(credentials)?),
        sources: Sources::from_bytes(rest).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use codex_network_config::{CredentialSource, Secret};

    use super::*;

    #[test]
    fn c7_a_configuration_is_read_back_unchanged_and_never_in_part() {
        let sources = Sources::none().with_text("a.toml", "[network]\n");
        let sources = sources.capture().expect("it is in memory");
        let proxy = |name: &str| (name == "https_proxy").then(|| "http://proxy.test:8080".into());
        let warnings = ["one".to_owned(), "two".to_owned()];
        let credentials = [CredentialReading {
            source: CredentialSource::File("/etc/token".into()),
            value: Some(Secret::new(b"hunter2".to_vec())),
            read_at: 7,
            failure: None,
            failures: 0,
        }];
        let admitted = PermittedCallers::default();
        let bytes = encode(&admitted, &warnings, proxy, &credentials, &sources);
        let read = decode(&bytes).expect("it is whole");
        assert_eq!(read.admitted, PermittedCallers::default());
        assert_eq!(read.warnings, warnings);
        assert!(read.upstream_proxies.http().is_none());
        assert!(read.upstream_proxies.tunnel().is_some());
        assert!(read.credentials.iter().eq(&credentials));
        assert_eq!(read.sources.to_bytes(), sources.to_bytes());
        let without_sources = bytes.len() - sources.to_bytes().len();
        for end in (0..bytes.len()).filter(|end| *end != without_sources) {
            assert!(decode(&bytes[..end]).is_none(), "cut to {end}");
        }
    }
}
