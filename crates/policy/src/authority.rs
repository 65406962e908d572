//! A host and a port: the content of a request-target, a `Host` field and a SOCKS5 address.
//!
//! It knows no schemes. The caller passes the default port.

use alloc::format;
use alloc::string::{String, ToString as _};
use core::fmt;

use crate::host::{Host, HostError};

/// A host with its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// The host in its canonical form.
    pub host: Host,
    /// The port, 1 to 65535.
    pub port: u16,
}

/// Why a text is not an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// User information before an `@`: it does not belong in a proxied request (RFC 9110
    /// section 4.2.4).
    #[error("the authority holds user information")]
    Userinfo,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    BadPort,
    /// There is no port, and the caller gave no default.
    #[error("the port is missing")]
    MissingPort,
    /// The host is not valid.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Authority {
    /// Parses `host`, `host:port` or `[v6]:port` (RFC 3986 section 3.2). An IPv6 address with a
    /// port needs its brackets.
    ///
    /// # Errors
    ///
    /// [`AuthorityError::MissingPort`] when the text has no port and `default_port` is `None`. Another
    /// error when the text is not an authority.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AuthorityError> {
        let text = text.trim();
        if text.contains('@') {
            return Err(AuthorityError::Userinfo);
        }
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None => default_port.ok_or(AuthorityError::MissingPort)?,
        };
        let host = Host::parse(host)?;
        Ok(Self { host, port })
    }

    /// The value of a `Host` field: without the port if it is the scheme's own (RFC 9110 section
    /// 7.2), and without the zone of an IPv6 address, which has a meaning on this machine only
    /// (RFC 6874 section 4). With `None` the port is always there.
    pub fn host_field(&self, scheme_port: Option<u16>) -> String {
        let host = match &self.host {
            Host::V6(host) => format!("[{}]", host.address()),
            host => host.to_string(),
        };
        if scheme_port == Some(self.port) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// The form of a request-target: IPv6 in brackets, the port always there.
impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::V6(host) => write!(f, "[{host}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

fn split_port(text: &str) -> Result<(&str, Option<&str>), AuthorityError> {
    if let Some(end) = text.starts_with('[').then(|| text.find(']')).flatten() {
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostError::BadIpv6.into()),
        };
    }
    match text.split_once(':') {
        // More than one colon without brackets: an IPv6 address without a port.
        Some((_, rest)) if rest.contains(':') => Ok((text, None)),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

fn parse_port(digits: &str) -> Result<u16, AuthorityError> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if plain && port != 0 => Ok(port),
        _ => Err(AuthorityError::BadPort),
    }
}
