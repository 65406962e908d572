//! A configuration for the worker: its text with the secrets that it names, the permitted callers by id,
//! and the proxy variables of the environment that the service was started with.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use codex_network_config::{Sources, UpstreamProxies};

use super::{lines, put, take};
use crate::permitted_callers::PermittedCallers;

/// The configuration as the worker reads it.
#[derive(Debug)]
pub(crate) struct WorkerSettings {
    /// The permitted callers of the control socket.
    pub(crate) admitted: PermittedCallers,
    /// Sentences about the configuration that the worker logs.
    pub(crate) warnings: Vec<String>,
    pub(crate) upstream_proxies: UpstreamProxies,
    pub(crate) sources: Sources,
}

/// Writes a configuration. `proxy_variable` gives the value of a variable of
/// [`UpstreamProxies::VARIABLES`].
pub(crate) fn encode(
    admitted: &PermittedCallers,
    warnings: &[String],
    proxy_variable: impl Fn(&str) -> Option<OsString>,
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
    out.extend_from_slice(&sources.to_bytes());
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
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Some(WorkerSettings {
        admitted,
        warnings: lines(warnings),
        // The loader has checked them.
        upstream_proxies: UpstreamProxies::from_environment(variable).ok()?,
        sources: Sources::from_bytes(rest).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_a_configuration_is_read_back_unchanged_and_never_in_part() {
        let sources = Sources::none().with_text("a.toml", "[network]\n");
        let sources = sources.capture().expect("it is in memory");
        let proxy = |name: &str| (name == "https_proxy").then(|| "http://proxy.test:8080".into());
        let warnings = ["one".to_owned(), "two".to_owned()];
        let bytes = encode(&PermittedCallers::default(), &warnings, proxy, &sources);
        let read = decode(&bytes).expect("it is whole");
        assert_eq!(read.admitted, PermittedCallers::default());
        assert_eq!(read.warnings, warnings);
        assert!(read.upstream_proxies.http().is_none());
        assert!(read.upstream_proxies.tunnel().is_some());
        assert_eq!(read.sources.to_bytes(), sources.to_bytes());
        let without_sources = bytes.len() - sources.to_bytes().len();
        for end in (0..bytes.len()).filter(|end| *end != without_sources) {
            assert!(decode(&bytes[..end]).is_none(), "cut to {end}");
        }
    }
}
