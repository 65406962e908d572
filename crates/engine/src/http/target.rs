//! What a request is for: its authority and the path to ask for (SPEC H1, H2).
//!
//! The authority comes from the request-target. A `Host` field may repeat it and may not differ.

use codex_network_policy::{Authority, AuthorityError, HostError};
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri, header};

/// Where a request in absolute-form goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) authority: Authority,
    pub(super) path: PathAndQuery,
}

/// Why a request-target cannot be served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    /// Origin-form or asterisk-form: the client took us for a web server.
    #[error(
        "this is a proxy: the request-target must be a whole URL, as in `GET http://example.com/ HTTP/1.1`, \
         or CONNECT must be used"
    )]
    NotAbsolute,
    /// `https` and anything else that is not `http`.
    #[error("a request for an {0} URL has to come through CONNECT")]
    Scheme(String),
    /// CONNECT with something else than an authority.
    #[error("CONNECT takes a host and a port, as in `CONNECT example.com:443`")]
    NotAnAuthority,
    /// User information, or a port that is none.
    #[error("{0}")]
    Authority(AuthorityError),
    /// The host is none. Policy answers this one, so that it is recorded like any refusal.
    #[error("{error}")]
    Host {
        error: HostError,
        /// What was given for a host.
        text: String,
    },
    /// More than one `Host` field.
    #[error("the request has more than one Host field")]
    RepeatedHost,
    /// A `Host` field that names something else than the request-target.
    #[error("the Host field does not name the host and port of the request-target")]
    OtherHost,
}

/// Reads the target of a request other than CONNECT.
pub(super) fn absolute(uri: &Uri, headers: &HeaderMap) -> Result<Target, TargetError> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(TargetError::NotAbsolute);
    };
    if scheme != "http" {
        return Err(TargetError::Scheme(scheme.to_owned()));
    }
    let authority = parse(authority.as_str(), Some(80))?;
    check_host(headers, &authority, Some(80))?;
    let path = uri
        .path_and_query()
        // Empty where a fragment follows the authority; it reads as "/" and is written as nothing.
        .filter(|path| path.as_str() != "/")
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok(Target { authority, path })
}

/// Reads the target of a CONNECT request (RFC 9110 section 9.3.6).
pub(super) fn connect(uri: &Uri, headers: &HeaderMap) -> Result<Authority, TargetError> {
    let (None, Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(TargetError::NotAnAuthority);
    };
    let authority = parse(authority.as_str(), None)?;
    // Clients differ in whether the field repeats the port: without one it means the same.
    check_host(headers, &authority, Some(authority.port))?;
    Ok(authority)
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

/// HTTP/1.0 clients, and some that ask for CONNECT, send no `Host` at all; the request-target says
/// everything.
fn check_host(
    headers: &HeaderMap,
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
        connect(&uri, &headers(hosts)).map(|authority| authority.to_string())
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
                TargetError::Scheme("https".to_owned()),
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
}
