//! Reads the destination of a request: its authority and its path (SPEC H1, H2).
//!
//! The authority comes from the request-target. A `Host` field may repeat it and may not differ.

use std::net::SocketAddr;

use codex_network_policy::{Authority, AuthorityError, Host, HostError};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, header};

/// The destination that a request in absolute-form names.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
}

/// Why a request-target cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    /// Origin-form or asterisk-form: the client took us for a web server.
    #[error(
        "this is a proxy: the request-target must be a whole URL, as in `GET http://example.com/ HTTP/1.1`, \
         or CONNECT must be used"
    )]
    NotAbsolute,
    /// `https`, `ws` or `wss`.
    #[error("this proxy carries {0} URLs only through CONNECT")]
    Tunnelled(String),
    /// `ftp` and anything else.
    #[error("this proxy carries no {0} URLs: it carries http, and everything else through CONNECT")]
    Scheme(String),
    /// CONNECT with a target that is not an authority.
    #[error("CONNECT takes a host and a port, as in `CONNECT example.com:443`")]
    NotAnAuthority,
    /// User information, or an invalid port.
    #[error("{0}")]
    Authority(AuthorityError),
    /// Not a valid host. Policy answers this one, so that it is recorded like any refusal.
    #[error("{error}")]
    Host {
        error: HostError,
        /// The text in place of the host.
        text: String,
    },
    /// More than one `Host` field.
    #[error("the request has more than one Host field")]
    RepeatedHost,
    /// A `Host` field that does not name the host and port of the request-target.
    #[error("the Host field does not name the host and port of the request-target")]
    OtherHost,
}

impl Target {
    /// Makes it asterisk-form: about the server as a whole.
    pub(super) fn whole_server(self) -> Self {
        Self {
            path: PathAndQuery::from_static("*"),
            ..self
        }
    }
}

/// Reads the target of a request other than CONNECT.
pub(super) fn absolute(uri: &Uri, headers: &HeaderMap) -> Result<Target, TargetError> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(TargetError::NotAbsolute);
    };
    match scheme {
        "http" => {}
        "https" | "ws" | "wss" => return Err(TargetError::Tunnelled(scheme.to_owned())),
        other => return Err(TargetError::Scheme(other.to_owned())),
    }
    let text = authority.as_str();
    let authority = parse(text, Some(80))?;
    check_host(headers, text, &authority, Some(80))?;
    let path = uri
        .path_and_query()
        // The path is empty where a fragment follows the authority. It reads as "/" and is written
        // as nothing.
        .filter(|path| path.as_str() != "/")
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Target { authority, path })
}

/// Reads the target of a CONNECT request (RFC 9110 section 9.3.6).
///
/// A `Host` field may name the target, or this proxy, as some clients do. `proxy` is the address
/// that the connection came in on.
pub(super) fn connect(
    uri: &Uri,
    headers: &HeaderMap,
    proxy: SocketAddr,
) -> Result<Authority, TargetError> {
    let (None, Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(TargetError::NotAnAuthority);
    };
    let text = authority.as_str();
    let authority = parse(text, None)?;
    // Some clients leave the port out of the field; it means the same then.
    match check_host(headers, text, &authority, Some(authority.port)) {
        Err(TargetError::OtherHost) if names_proxy(headers, proxy) => Ok(authority),
        checked => checked.map(|()| authority),
    }
}

/// Whether the `Host` field names this proxy: by the port of its door under a name that may be
/// known to the client alone, or by its address or a loopback name. The field is only checked.
fn names_proxy(headers: &HeaderMap, proxy: SocketAddr) -> bool {
    let field = headers
        .get(header::HOST)
        .and_then(|field| field.to_str().ok());
    let Some(text) = field else { return false };
    match Authority::parse(text, None) {
        Ok(named) => named.port == proxy.port(),
        Err(AuthorityError::MissingPort) => Host::parse(text)
            .is_ok_and(|host| host.is_localhost() || host.ip() == Some(proxy.ip().to_canonical())),
        Err(_) => false,
    }
}

fn parse(text: &str, default_port: Option<u16>) -> Result<Authority, TargetError> {
    Authority::parse(text, default_port).map_err(|error| match error {
        AuthorityError::Host(error) => TargetError::Host {
            error,
            text: text.to_owned(),
        },
        AuthorityError::MissingPort => TargetError::NotAnAuthority,
        error @ (AuthorityError::Userinfo | AuthorityError::BadPort) => {
            TargetError::Authority(error)
        }
    })
}

/// HTTP/1.0 clients, and some that use CONNECT, send no `Host`. The request-target is sufficient. `text` is
/// the text that `authority` was read from.
fn check_host(
    headers: &HeaderMap,
    text: &str,
    authority: &Authority,
    default_port: Option<u16>,
) -> Result<(), TargetError> {
    let mut fields = headers.get_all(header::HOST).iter();
    let Some(field) = fields.next() else {
        return Ok(());
    };
    if fields.next().is_some() {
        return Err(TargetError::RepeatedHost);
    }
    // Most clients repeat the text of the request-target. The same text has the same meaning.
    if field.as_bytes() == text.as_bytes() {
        return Ok(());
    }
    let named = field
        .to_str()
        .ok()
        .and_then(|text| Authority::parse(text, default_port).ok());
    if named.as_ref() == Some(authority) {
        Ok(())
    } else {
        Err(TargetError::OtherHost)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(hosts: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(
                header::HOST,
                HeaderValue::from_str(host).expect("a field value"),
            );
        }
        headers
    }

    fn get(uri: &str, hosts: &[&str]) -> Result<String, TargetError> {
        let uri: Uri = uri.parse().expect("a URI");
        absolute(&uri, &headers(hosts)).map(|target| format!("{}{}", target.authority, target.path))
    }

    fn tunnel(uri: &str, hosts: &[&str]) -> Result<String, TargetError> {
        let uri: Uri = uri.parse().expect("a URI");
        let proxy = SocketAddr::from(([127, 0, 0, 1], 3128));
        connect(&uri, &headers(hosts), proxy).map(|authority| authority.to_string())
    }

    #[test]
    fn h2_the_authority_comes_from_the_request_target() {
        for (uri, hosts, wanted) in [
            (
                "http://example.com/a?b=c",
                &["example.com"][..],
                "example.com:80/a?b=c",
            ),
            ("http://example.com", &["EXAMPLE.com."], "example.com:80/"),
            (
                "http://example.com:80/",
                &["example.com"],
                "example.com:80/",
            ),
            (
                "http://Example.COM:8080/",
                &["example.com:8080"],
                "example.com:8080/",
            ),
            ("http://example.com/", &[], "example.com:80/"),
            (
                "http://[2001:db8::1]:81/",
                &["[2001:DB8::1]:81"],
                "[2001:db8::1]:81/",
            ),
            ("http://0x7f.1/", &["127.0.0.1"], "127.0.0.1:80/"),
        ] {
            assert_eq!(get(uri, hosts).as_deref(), Ok(wanted), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn h2_a_host_field_that_names_something_else_is_refused() {
        for (uri, hosts, wanted) in [
            (
                "http://example.com/",
                &["other.example"][..],
                TargetError::OtherHost,
            ),
            (
                "http://example.com/",
                &["example.com:81"],
                TargetError::OtherHost,
            ),
            (
                "http://example.com:81/",
                &["example.com"],
                TargetError::OtherHost,
            ),
            ("http://example.com/", &[""], TargetError::OtherHost),
            (
                "http://example.com/",
                &["user@example.com"],
                TargetError::OtherHost,
            ),
            (
                "http://example.com/",
                &["example.com, other.example"],
                TargetError::OtherHost,
            ),
            (
                "http://example.com/",
                &["example.com", "example.com"],
                TargetError::RepeatedHost,
            ),
            (
                "http://a@example.com/",
                &[],
                TargetError::Authority(AuthorityError::Userinfo),
            ),
            (
                "http://example.com:0/",
                &[],
                TargetError::Authority(AuthorityError::BadPort),
            ),
            ("/path", &["example.com"], TargetError::NotAbsolute),
            ("*", &["example.com"], TargetError::NotAbsolute),
            (
                "https://example.com/",
                &[],
                TargetError::Tunnelled("https".to_owned()),
            ),
            (
                "ftp://example.com/",
                &[],
                TargetError::Scheme("ftp".to_owned()),
            ),
        ] {
            assert_eq!(get(uri, hosts), Err(wanted), "{uri} {hosts:?}");
        }
    }

    #[test]
    fn h2_a_host_that_is_none_is_left_to_policy() {
        for uri in ["http://a..b/", "http://256.1.1.1/", "http://1.2.3.4.5/"] {
            assert!(
                matches!(get(uri, &[]), Err(TargetError::Host { .. })),
                "{uri}"
            );
        }
    }

    #[test]
    fn h2_connect_takes_an_authority() {
        assert_eq!(
            tunnel("example.com:443", &["example.com:443"]).as_deref(),
            Ok("example.com:443")
        );
        assert_eq!(
            tunnel("example.com:443", &["example.com"]).as_deref(),
            Ok("example.com:443")
        );
        assert_eq!(tunnel("[::1]:443", &[]).as_deref(), Ok("[::1]:443"));
        assert_eq!(tunnel("example.com", &[]), Err(TargetError::NotAnAuthority));
        assert_eq!(
            tunnel("http://example.com:443/", &[]),
            Err(TargetError::NotAnAuthority)
        );
        assert_eq!(
            tunnel("example.com:443", &["example.com:80"]),
            Err(TargetError::OtherHost)
        );
        assert_eq!(
            tunnel("example.com:0", &[]),
            Err(TargetError::Authority(AuthorityError::BadPort))
        );
    }
    #[test]
    fn h2_the_host_field_of_connect_may_name_the_proxy() {
        for (host, wanted) in [
            ("127.0.0.1:3128", true),
            ("127.0.0.1", true),
            ("localhost:3128", true),
            ("localhost", true),
            ("proxy.example:3128", true),
            ("[::1]:3128", true),
            ("proxy.example", false),
            ("127.0.0.1:3129", false),
            ("127.0.0.2", false),
            ("user@127.0.0.1:3128", false),
            ("", false),
        ] {
            let served = tunnel("example.com:443", &[host]).is_ok();
            assert_eq!(served, wanted, "{host}");
        }
        let repeated = tunnel("example.com:443", &["localhost:3128", "localhost:3128"]);
        assert_eq!(repeated, Err(TargetError::RepeatedHost));
    }
}
