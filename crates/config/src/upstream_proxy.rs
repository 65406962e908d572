//! The daemon's upstream proxies: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` of its
//! own environment (SPEC H12).
//!
//! Read as curl reads them: the lower-case name wins, an empty value counts as unset, and
//! `NO_PROXY` is a list of names that each cover the names below them. Unlike curl, the upper-case
//! `HTTP_PROXY` counts too: only CGI programs must ignore it, because web servers set it from a
//! request header. A value that cannot be used is an error and never a direct connection: a user
//! who names a proxy expects that no connection bypasses it.
//!
//! This module does not see looked-up addresses: the engine decides which of them go direct.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use codex_network_policy::Authority;

mod no_proxy;

pub use no_proxy::NoProxy;

/// The proxies for traffic that the policy has allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamProxies {
    http: Option<Arc<UpstreamProxy>>,
    tunnel: Option<Arc<UpstreamProxy>>,
    no_proxy: NoProxy,
}

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamProxy {
    /// Where it listens.
    pub authority: Authority,
    /// The protocol to the proxy.
    pub scheme: ProxyScheme,
    /// The credentials that it wants, if any.
    pub credentials: Option<ProxyCredentials>,
}

/// The protocol to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP without TLS.
    Http,
    /// HTTP in TLS.
    Https,
}

/// A user name and a password. The type cannot be printed, so that no log shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyCredentials(Arc<str>);

/// Why a variable cannot be used. It never contains the value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {error}; or set allow_upstream_proxy = false to go without a proxy")]
pub struct ProxyVariableError {
    /// The variable as it is spelled in the environment.
    pub variable: &'static str,
    error: ProxyValueError,
}

/// Why the value of a variable cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ProxyValueError {
    #[error("the value is not UTF-8; write it anew")]
    NotText,
    #[error(
        "{0} proxies are not supported; name an http:// or https:// proxy, as in http://proxy.example:3128"
    )]
    Scheme(String),
    #[error("the value names no host and port; write it as in http://proxy.example:3128")]
    Authority,
    #[error("a proxy has no path or query; leave out what follows the port")]
    Path,
    #[error(
        "the user name or password holds a bad percent escape, a control character, or a `/`, `?` or `#` that is \
         not escaped; write `/` as %2F, for example"
    )]
    Credentials,
}

impl UpstreamProxies {
    /// The variables that are read. Each lower-case name comes before the upper-case one that it
    /// overrides.
    pub const VARIABLES: [&str; 8] = [
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ];

    /// Reads the variables. `ALL_PROXY` is read only where it would be used.
    ///
    /// # Errors
    ///
    /// Every variable whose value cannot be used.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Vec<ProxyVariableError>> {
        let mut errors = Vec::new();
        let mut proxy = |names: [usize; 2]| {
            let found = value(&variable, names).and_then(|found| {
                found
                    .map(|(name, text)| parse(&text).map_err(|error| (name, error)))
                    .transpose()
            });
            found.unwrap_or_else(|(variable, error)| {
                errors.push(ProxyVariableError { variable, error });
                None
            })
        };
        let is_set = |names| !matches!(value(&variable, names), Ok(None));
        let (http, https) = (proxy([0, 1]), proxy([2, 3]));
        let all = if is_set([0, 1]) && is_set([2, 3]) {
            None
        } else {
            proxy([4, 5])
        };
        let no_proxy = match value(&variable, [6, 7]) {
            Ok(found) => found.map(|(_, text)| NoProxy::parse(&text)),
            Err((variable, error)) => {
                errors.push(ProxyVariableError { variable, error });
                None
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            http: http.or_else(|| all.clone()),
            tunnel: https.or(all),
            no_proxy: no_proxy.unwrap_or_default(),
        })
    }

    /// The proxy for plain HTTP requests.
    pub fn http(&self) -> Option<&Arc<UpstreamProxy>> {
        self.http.as_ref()
    }

    /// The proxy for tunnels: CONNECT, SOCKS5 and intercepted TLS.
    pub fn tunnel(&self) -> Option<&Arc<UpstreamProxy>> {
        self.tunnel.as_ref()
    }

    /// The names that go past the proxies.
    pub fn no_proxy(&self) -> &NoProxy {
        &self.no_proxy
    }

    /// Whether one of them uses TLS.
    pub fn need_tls(&self) -> bool {
        let mut proxies = self.http.iter().chain(&self.tunnel);
        proxies.any(|proxy| proxy.scheme == ProxyScheme::Https)
    }

    /// One line for each part of the variables that has no effect.
    pub fn warnings(&self) -> Vec<String> {
        self.no_proxy.warnings()
    }
}

impl ProxyCredentials {
    /// `user:password`, for the one field that carries it (RFC 7617 section 2). Never show it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// As a URL, without the credentials: `http://***@proxy.example:3128`.
impl fmt::Display for UpstreamProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.credentials.is_some() {
            "***@"
        } else {
            ""
        };
        write!(f, "{}://{secret}{}", self.scheme.as_str(), self.authority)
    }
}

impl ProxyScheme {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The default port of the scheme, as all programs but curl have it.
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// The first of two spellings that is not empty.
fn value(
    variable: impl Fn(&str) -> Option<OsString>,
    names: [usize; 2],
) -> Result<Option<(&'static str, String)>, (&'static str, ProxyValueError)> {
    for name in names.map(|index| UpstreamProxies::VARIABLES[index]) {
        let Some(value) = variable(name) else {
            continue;
        };
        let text = value
            .into_string()
            .map_err(|_| (name, ProxyValueError::NotText))?;
        if !text.trim().is_empty() {
            return Ok(Some((name, text)));
        }
    }
    Ok(None)
}

fn parse(text: &str) -> Result<Arc<UpstreamProxy>, ProxyValueError> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        None => (ProxyScheme::Http, text),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (ProxyScheme::Http, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (ProxyScheme::Https, rest),
        Some((scheme, _)) => return Err(ProxyValueError::Scheme(shown_scheme(scheme)?)),
    };
    // All text before the last `@` counts as credentials: the host is shown, so it must not contain
    // a part of them.
    let (userinfo, rest) = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => (Some(userinfo), rest),
        None => (None, rest),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if !matches!(path, "" | "/") {
        return Err(ProxyValueError::Path);
    }
    let authority =
        Authority::parse(authority, Some(scheme.port())).map_err(|_| ProxyValueError::Authority)?;
    let credentials = userinfo
        .filter(|userinfo| !userinfo.is_empty())
        .map(credentials)
        .transpose()?;
    Ok(Arc::new(UpstreamProxy {
        authority,
        scheme,
        credentials,
    }))
}

/// A scheme, if it is valid (RFC 3986 section 3.1): any other text may be a part of a password.
fn shown_scheme(text: &str) -> Result<String, ProxyValueError> {
    let is_scheme = (1..=16).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if is_scheme {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(ProxyValueError::Authority)
    }
}

/// `user:password` out of a URL. Without a password it is empty.
fn credentials(userinfo: &str) -> Result<ProxyCredentials, ProxyValueError> {
    // RFC 3986 section 3.2 ends the authority at the first of these: unescaped, they could change
    // the host.
    if userinfo.contains(['/', '?', '#']) {
        return Err(ProxyValueError::Credentials);
    }
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let (user, password) = (unescape(user)?, unescape(password)?);
    // RFC 7617 section 2: the first colon ends the user name, so a name cannot hold one.
    if user.contains(':') {
        return Err(ProxyValueError::Credentials);
    }
    Ok(ProxyCredentials(format!("{user}:{password}").into()))
}

fn unescape(text: &str) -> Result<String, ProxyValueError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
            let value = value.and_then(|value| u8::try_from(value).ok());
            value.ok_or(ProxyValueError::Credentials)?
        } else {
            byte
        });
    }
    let text = String::from_utf8(bytes).map_err(|_| ProxyValueError::Credentials)?;
    if text.chars().any(char::is_control) {
        return Err(ProxyValueError::Credentials);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
