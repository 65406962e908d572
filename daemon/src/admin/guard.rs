//! Which callers may use the API: programs on this machine, and no web page (SPEC A2).
//!
//! A page in a browser can make it send requests to loopback, and a name that the page's owner
//! controls can resolve to loopback (DNS rebinding). `Origin` or `Sec-Fetch-Site` reveals a
//! web page, and `Host` reveals DNS rebinding.

use std::net::SocketAddr;

use codex_network_policy::{AddressClass, Authority, Host};
use http::{HeaderMap, Uri, header};

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// The request came from a web page.
    #[error("requests from web pages are not served (they carry Origin)")]
    Origin,
    /// The request came from another site's page.
    #[error("requests from web pages are not served (they carry Sec-Fetch-Site)")]
    CrossSite,
    /// The `Host` field does not name this API.
    #[error("the Host field must be localhost or a loopback address")]
    Host,
}

/// Checks where a request comes from and which host it names. `local` is the address that it came
/// in on, which it may name too.
pub(super) fn check(
    uri: &Uri,
    headers: &HeaderMap,
    local: Option<SocketAddr>,
) -> Result<(), Refused> {
    if headers.contains_key(header::ORIGIN) {
        return Err(Refused::Origin);
    }
    let site = headers.get_all("sec-fetch-site").iter();
    if site
        .into_iter()
        .any(|site| site != "none" && site != "same-origin")
    {
        return Err(Refused::CrossSite);
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let named = hosts
        .next()
        .and_then(|host| host.to_str().ok())
        .ok_or(Refused::Host)?;
    if hosts.next().is_some() || !is_us(named, local) {
        return Err(Refused::Host);
    }
    match uri.authority() {
        Some(authority) if !is_us(authority.as_str(), local) => Err(Refused::Host),
        _ => Ok(()),
    }
}

fn is_us(text: &str, local: Option<SocketAddr>) -> bool {
    let Ok(authority) = Authority::parse(text, Some(80)) else {
        return false;
    };
    match authority.host.ip() {
        Some(address) => {
            AddressClass::of(address) == AddressClass::Loopback
                || local.is_some_and(|local| local.ip().to_canonical() == address)
        }
        // Names below `localhost` are loopback too, but no client uses them for this API.
        None => matches!(&authority.host, Host::Name(name) if name.as_str() == "localhost"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn ask(uri: &str, fields: &[(&str, &str)]) -> Result<(), Refused> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let local = "192.0.2.7:8080".parse().ok();
        check(&uri.parse().expect("a URI"), &headers, local)
    }

    #[test]
    fn a2_programs_on_this_machine_are_served() {
        for host in [
            "localhost",
            "localhost:8080",
            "LOCALHOST:1",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "192.0.2.7:8080",
        ] {
            assert_eq!(ask("/health", &[("host", host)]), Ok(()), "{host}");
        }
        assert_eq!(
            ask(
                "/health",
                &[("host", "localhost"), ("sec-fetch-site", "none")]
            ),
            Ok(())
        );
    }

    #[test]
    fn a2_other_hosts_are_refused() {
        for host in [
            "",
            "example.com",
            "localhost.example.com",
            "a.localhost",
            "10.0.0.1",
            "0.0.0.0",
            "192.0.2.8",
            "user@localhost",
            "localhost,localhost",
        ] {
            assert_eq!(
                ask("/health", &[("host", host)]),
                Err(Refused::Host),
                "{host}"
            );
        }
        assert_eq!(ask("/health", &[]), Err(Refused::Host));
        assert_eq!(
            ask("/health", &[("host", "localhost"), ("host", "localhost")]),
            Err(Refused::Host)
        );
        assert_eq!(
            ask("http://example.com/health", &[("host", "localhost")]),
            Err(Refused::Host)
        );
    }

    #[test]
    fn a2_web_pages_are_refused() {
        for (name, value, expected) in [
            ("origin", "http://localhost:8080", Refused::Origin),
            ("origin", "null", Refused::Origin),
            ("sec-fetch-site", "cross-site", Refused::CrossSite),
            ("sec-fetch-site", "same-site", Refused::CrossSite),
        ] {
            assert_eq!(
                ask("/health", &[("host", "localhost"), (name, value)]),
                Err(expected),
                "{name}: {value}"
            );
        }
    }
}
