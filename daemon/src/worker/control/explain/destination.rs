//! Reads what people write for a destination: a URL, a host, or a host with a port.

use codex_network_policy::{Authority, AuthorityError, HostError, Protocol};

/// The destination that a text names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) protocol: Protocol,
    /// The text in place of an authority whose host is not valid.
    pub(super) authority: Result<Authority, String>,
    /// The path and query.
    pub(super) target: String,
    /// The protocol that the URL's scheme changes to.
    pub(super) upgrade: Option<&'static str>,
    /// Whether the text states the kind of request, or it is assumed.
    pub(super) stated: Stated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stated {
    Scheme,
    Nothing,
}

/// Why a text is not a destination that the proxy could judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoDestination {
    #[error(
        "the proxy carries http, https, ws, wss and, through SOCKS5, any TCP (socks5h://HOST:PORT) and UDP (udp://HOST:PORT); from a jail it carries any TCP (tcp://HOST:PORT) and answers for names (dns://NAME); this URL has another scheme"
    )]
    Scheme,
    #[error("leave the user information (the part before @) out of the URL")]
    Userinfo,
    #[error("udp:// and tcp:// need a port, as in udp://HOST:PORT")]
    NoPort,
    #[error("this is neither a URL, nor a host, nor host:port: {0}")]
    Authority(AuthorityError),
}

impl From<AuthorityError> for NoDestination {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Userinfo => Self::Userinfo,
            AuthorityError::MissingPort => Self::NoPort,
            error => Self::Authority(error),
        }
    }
}

/// Reads `http://…`, `https://…`, `ws://…`, `wss://…`, `socks5h://host:port`, `udp://host:port`,
/// `tcp://host:port` and `dns://name` as from a jail, `host` and `host:port`. Without a scheme port 80 means plain HTTP, and everything else a tunnel.
pub(super) fn destination(text: &str) -> Result<Destination, NoDestination> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    let known = match scheme.as_deref() {
        Some("http" | "ws") => Some((Protocol::Http, Some(80))),
        Some("https" | "wss") => Some((Protocol::HttpConnect, Some(443))),
        Some("socks5" | "socks5h") => Some((Protocol::Socks5Tcp, Some(443))),
        Some("udp") => Some((Protocol::Socks5Udp, None)),
        Some("tcp") => Some((Protocol::Transparent, None)),
        Some("dns") => Some((Protocol::Dns, Some(53))),
        Some(_) => return Err(NoDestination::Scheme),
        None => None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let target = rest[end..].split('#').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    let upgrade = matches!(scheme.as_deref(), Some("ws" | "wss")).then_some("websocket");
    let default_port = known.map_or(Some(443), |(_, port)| port);
    let authority = match Authority::parse(&rest[..end], default_port) {
        Ok(authority) => Ok(authority),
        Err(AuthorityError::Host(HostError::Empty)) => {
            return Err(AuthorityError::Host(HostError::Empty).into());
        }
        // Without a scheme the text may be anything.
        Err(error @ AuthorityError::Host(HostError::BadCharacter(_))) if known.is_none() => {
            return Err(error.into());
        }
        Err(AuthorityError::Host(_)) => Err(rest[..end].to_owned()),
        Err(error) => return Err(error.into()),
    };
    let port = authority.as_ref().map_or(443, |authority| authority.port);
    let (protocol, stated) = match known {
        Some((protocol, _)) => (protocol, Stated::Scheme),
        None if port == 80 => (Protocol::Http, Stated::Nothing),
        None => (Protocol::HttpConnect, Stated::Nothing),
    };
    Ok(Destination {
        protocol,
        authority,
        target: format!("{slash}{target}"),
        upgrade,
        stated,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Protocol, String) {
        let destination = destination(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let authority = destination.authority;
        let authority = authority.unwrap_or_else(|_| panic!("{text} is not valid"));
        (destination.protocol, authority.to_string())
    }

    #[test]
    fn k1_explain_reads_urls_and_hosts_as_people_write_them() {
        for (text, protocol, authority) in [
            ("example.com", Protocol::HttpConnect, "example.com:443"),
            (
                "example.com:8443",
                Protocol::HttpConnect,
                "example.com:8443",
            ),
            ("example.com:80", Protocol::Http, "example.com:80"),
            (
                "example.com/path?q",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "http://EXAMPLE.com./a?b#c",
                Protocol::Http,
                "example.com:80",
            ),
            (
                "HTTPS://example.com",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "https://example.com?q=1",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "wss://example.com:9/x",
                Protocol::HttpConnect,
                "example.com:9",
            ),
            ("ws://example.com/x", Protocol::Http, "example.com:80"),
            (
                "socks5h://example.com:22",
                Protocol::Socks5Tcp,
                "example.com:22",
            ),
            (
                "udp://example.com:53",
                Protocol::Socks5Udp,
                "example.com:53",
            ),
            (
                "tcp://example.com:5432",
                Protocol::Transparent,
                "example.com:5432",
            ),
            ("dns://example.com", Protocol::Dns, "example.com:53"),
            (
                "[2001:db8::1]:8080",
                Protocol::HttpConnect,
                "[2001:db8::1]:8080",
            ),
            ("2001:db8::1", Protocol::HttpConnect, "[2001:db8::1]:443"),
            ("0x7f.1", Protocol::HttpConnect, "127.0.0.1:443"),
        ] {
            assert_eq!(parsed(text), (protocol, authority.to_owned()), "{text}");
        }
    }

    #[test]
    fn k1_explain_refuses_a_malformed_destination_without_repeating_it() {
        for text in [
            "",
            "http://",
            "ftp://example.com",
            "https://user:hunter2@example.com/",
            "http://example.com:99999",
            "udp://hunter2.example.com",
            "hunter2 hunter2",
            "file:///etc/hunter2",
        ] {
            let error = destination(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn p1_a_host_that_is_not_valid_is_left_to_the_policy() {
        for text in [
            "http://a..b/",
            "256.1.1.1",
            "https://1.2.3.4.5/",
            "http://a b/",
            "socks5h://a;b:22",
            "udp://a..b:53",
        ] {
            let destination = destination(text).expect(text);
            assert!(destination.authority.is_err(), "{text}");
        }
    }
}
