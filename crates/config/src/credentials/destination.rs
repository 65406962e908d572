//! Destinations: the places to which a credential may go (SPEC B7).

use std::fmt;

use codex_network_policy::{
    Authority, AuthorityError, Host, Name, PathAmbiguity, unambiguous_path,
};

/// Longest text of a destination.
const MAX_TEXT: usize = 2048;

/// A place to which a credential may go: `[scheme://]host[:port][/path]`. Without a scheme it is `https`.
/// `*.host` stands for one or more labels below a name. The port is exact, and that of the scheme if none
/// is written. The path covers itself and what is below it, by whole segments; a path that ends in `/`
/// covers only what is below. `Display` writes the canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Destination {
    scheme: DestinationScheme,
    host: DestinationHost,
    port: u16,
    /// Percent-decoded, `/` first; `None` for every path.
    path: Option<String>,
}

/// The scheme of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationScheme {
    /// HTTP in TLS.
    Https,
    /// HTTP without TLS.
    Http,
}

/// The hosts of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DestinationHost {
    /// This host.
    Exact(Host),
    /// The names below this one, and not itself.
    Below(Name),
}

/// Why a text is not a destination. It contains at most one character of the text, which may be a URL with
/// a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    /// Longer than 2048 bytes.
    #[error("it is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// White space or a control character.
    #[error("it holds white space or a control character")]
    Blank,
    /// Another scheme than `https` and `http`.
    #[error("its scheme is neither https nor http")]
    Scheme,
    /// A query or a fragment.
    #[error("a destination has no query (`?`) and no fragment (`#`)")]
    Query,
    /// A `*` that is not the whole first label.
    #[error("the only wildcard is `*.` in front of a name")]
    Wildcard,
    /// A wildcard below an address.
    #[error("a wildcard needs a name, not an address")]
    WildcardAddress,
    /// A wildcard below a name without a dot.
    #[error("the wildcard covers a whole top-level domain")]
    TopLevel,
    /// Not a host with an optional port.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A path that could be read in two ways, so that no request could match it.
    #[error(transparent)]
    Path(#[from] PathAmbiguity),
}

impl Destination {
    /// Reads a destination.
    ///
    /// # Errors
    ///
    /// A [`DestinationError`] for a text that is not one, or that could be read in two ways.
    pub fn parse(text: &str) -> Result<Self, DestinationError> {
        if text.len() > MAX_TEXT {
            return Err(DestinationError::TooLong);
        }
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(DestinationError::Blank);
        }
        let (scheme, rest) = match text.split_once("://") {
            None => (DestinationScheme::Https, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => {
                (DestinationScheme::Https, rest)
            }
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
                (DestinationScheme::Http, rest)
            }
            Some(_) => return Err(DestinationError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(DestinationError::Query);
        }
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, port) = host_and_port(authority, scheme.port())?;
        let path = unambiguous_path(path)?;
        Ok(Self {
            scheme,
            host,
            port,
            path: (path != "/").then(|| path.into_owned()),
        })
    }

    /// All paths of one host, over `https`.
    pub(super) fn host(authority: Authority) -> Self {
        Self {
            scheme: DestinationScheme::Https,
            host: DestinationHost::Exact(authority.host),
            port: authority.port,
            path: None,
        }
    }

    /// Whether a request may carry the credential. `path` is that of the request-target as sent, with or
    /// without its query. A path that could be read in two ways (SPEC M10) is covered only by a
    /// destination without a path.
    pub fn covers(&self, scheme: DestinationScheme, host: &Host, port: u16, path: &str) -> bool {
        self.reaches(scheme, host, port) && self.covers_path(path).unwrap_or(false)
    }

    /// Whether the origin may take a request for one that this destination covers. Other than [`covers`](Self::covers),
    /// it is true of every path that could be read in two ways.
    pub fn may_cover(&self, scheme: DestinationScheme, host: &Host, port: u16, path: &str) -> bool {
        self.reaches(scheme, host, port) && self.covers_path(path).unwrap_or(true)
    }

    /// Whether the path is covered; `None` for a path that could be read in two ways.
    fn covers_path(&self, path: &str) -> Option<bool> {
        let Some(own) = &self.path else {
            return Some(true);
        };
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let path = unambiguous_path(path).ok()?;
        let rest = path.strip_prefix(own.as_str());
        Some(
            rest.is_some_and(|rest| own.ends_with('/') || rest.is_empty() || rest.starts_with('/')),
        )
    }

    /// Whether the destination is on this server, by whatever path.
    pub fn reaches(&self, scheme: DestinationScheme, host: &Host, port: u16) -> bool {
        self.scheme == scheme && self.port == port && self.host.covers(host)
    }

    /// The scheme.
    pub fn scheme(&self) -> DestinationScheme {
        self.scheme
    }

    /// The hosts.
    pub fn hosts(&self) -> &DestinationHost {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path, percent-decoded; `None` for every path.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// Whether the host is this machine: a loopback address, `localhost` or a name below it.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            DestinationHost::Exact(host) => {
                host.is_localhost() || host.ip().is_some_and(|ip| ip.is_loopback())
            }
            DestinationHost::Below(name) => {
                name.as_str() == "localhost" || name.as_str().ends_with(".localhost")
            }
        }
    }
}

impl DestinationScheme {
    /// The default port (RFC 9110 section 4.2).
    pub fn port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }

    /// The scheme's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }
}

impl DestinationHost {
    /// Whether it is one of these hosts.
    pub fn covers(&self, host: &Host) -> bool {
        match (self, host) {
            (Self::Exact(own), host) => own == host,
            (Self::Below(own), Host::Name(name)) => {
                let front = name.as_str().strip_suffix(own.as_str());
                front.is_some_and(|front| front.ends_with('.'))
            }
            (Self::Below(_), Host::V4(_) | Host::V6(_)) => false,
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.host {
            DestinationHost::Exact(Host::V6(host)) => write!(f, "[{host}]")?,
            DestinationHost::Exact(host) => write!(f, "{host}")?,
            DestinationHost::Below(name) => write!(f, "*.{}", name.as_str())?,
        }
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        // The path is text without control characters, and without the delimiters that end it.
        for c in self.path.iter().flat_map(|path| path.chars()) {
            if c.is_ascii_graphic() {
                write!(f, "{c}")?;
            } else {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            }
        }
        Ok(())
    }
}

fn host_and_port(
    text: &str,
    default_port: u16,
) -> Result<(DestinationHost, u16), DestinationError> {
    let name = text.strip_prefix("*.");
    if name.unwrap_or(text).contains('*') {
        return Err(DestinationError::Wildcard);
    }
    let Authority { host, port } = Authority::parse(name.unwrap_or(text), Some(default_port))?;
    let host = match (name, host) {
        (None, host) => DestinationHost::Exact(host),
        (Some(_), Host::Name(name)) if name.as_str() == "localhost" => DestinationHost::Below(name),
        (Some(_), Host::Name(name)) if !name.as_str().contains('.') => {
            return Err(DestinationError::TopLevel);
        }
        (Some(_), Host::Name(name)) => DestinationHost::Below(name),
        (Some(_), Host::V4(_) | Host::V6(_)) => return Err(DestinationError::WildcardAddress),
    };
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use toml::Table;

    use super::*;

    fn texts<'c>(case: &'c Table, key: &str) -> impl Iterator<Item = &'c str> {
        let list = case.get(key).and_then(|list| list.as_array());
        let list = list.into_iter().flatten();
        list.map(|text| text.as_str().expect("a text"))
    }

    #[track_caller]
    fn covers(destination: &Destination, request: &str) -> bool {
        let parts: Vec<&str> = request.splitn(4, ' ').collect();
        let [scheme, host, port, target] = parts[..] else {
            panic!("{request}");
        };
        let scheme = match scheme {
            "https" => DestinationScheme::Https,
            "http" => DestinationScheme::Http,
            other => panic!("{other}"),
        };
        let host = Host::parse(host).expect("a host");
        destination.covers(scheme, &host, port.parse().expect("a port"), target)
    }

    #[test]
    fn b7_destinations_cover_what_the_table_says() {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/destinations.toml");
        let table = std::fs::read_to_string(path).expect("the cases");
        let table: Table = table.parse().expect("TOML");
        let cases = table["cases"].as_array().expect("a list");
        for case in cases.iter().filter_map(|case| case.as_table()) {
            let name = case["name"].as_str().expect("a name");
            let known = ["name", "text", "is", "error", "covers", "leaves"];
            assert!(case.keys().all(|key| known.contains(&&**key)), "{name}");
            let parsed = Destination::parse(case["text"].as_str().expect("a text"));
            let destination = match (&parsed, case.get("is"), case.get("error")) {
                (Ok(destination), Some(is), None) => {
                    assert_eq!(Some(&*destination.to_string()), is.as_str(), "{name}");
                    destination
                }
                (Err(error), None, Some(expected)) => {
                    assert_eq!(Some(&*format!("{error:?}")), expected.as_str(), "{name}");
                    continue;
                }
                _ => panic!("{name}: {parsed:?}"),
            };
            for request in texts(case, "covers") {
                assert!(covers(destination, request), "{name}: {request}");
            }
            for request in texts(case, "leaves") {
                assert!(!covers(destination, request), "{name}: {request}");
            }
        }
    }

    /// A canonical text is that of an equal destination.
    #[track_caller]
    fn check_canonical(text: &str) {
        if let Ok(destination) = Destination::parse(text) {
            let canonical = destination.to_string();
            assert_eq!(Destination::parse(&canonical), Ok(destination), "{text:?}");
        }
    }

    #[test]
    fn b7_every_prefix_of_a_destination_is_one_or_an_error() {
        for text in [
            "https://user:secret@*.api.example.com.:8443/v1/%C3%A9/x?y#z",
            "http://[2001:db8::7%25eth0]:80/a/b",
            "HTTPS://*.bücher.example:443/caf%C3%A9//..",
            "//*.*:0/\u{0}\\;%2f%",
            "https://https://[::ffff:192.0.2.1]:65536",
            "http://0x7f.1:080/\u{3000}/%E3%80%80",
        ] {
            for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                check_canonical(&text[..end]);
                check_canonical(&text[end..]);
            }
        }
    }

    #[test]
    fn b7_a_destination_knows_whether_it_is_this_machine() {
        for (text, is_loopback) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://localhost:3000", true),
            ("http://api.localhost", true),
            ("http://*.localhost", true),
            ("http://notlocalhost", false),
            ("http://192.168.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            let destination = Destination::parse(text).expect(text);
            assert_eq!(destination.is_loopback(), is_loopback, "{text}");
        }
    }

    #[test]
    fn b7_a_long_text_is_refused_and_no_error_repeats_the_text() {
        let long = format!("example.com/{}", "a".repeat(MAX_TEXT));
        assert_eq!(Destination::parse(&long), Err(DestinationError::TooLong));
        for text in [
            "https://u:hunter2@h.example",
            "hunter2://h.example",
            "h.example:hunter2",
        ] {
            let error = Destination::parse(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn b7_any_text_has_one_canonical_form(text in "\\PC{0,40}") {
            check_canonical(&text);
        }

        #[test]
        fn b7_a_text_close_to_a_destination_has_one_canonical_form(
            text in "(https?://)?(\\*\\.)?[a-c.\\[\\]:0-9@%é-]{0,12}(:[0-9]{0,5})?(/[a.%/2eEfFc ;\\\\é\u{3000}-]{0,8}){0,3}",
        ) {
            check_canonical(&text);
        }

        /// A path that a destination with a path covers, decoded, begins with the path.
        #[test]
        fn b7_a_covered_path_is_below(target in "/[v1/.%2efFE;\\\\]{0,12}") {
            let destination = Destination::parse("h.example/v1").expect("a destination");
            let host = Host::parse("h.example").expect("a host");
            if destination.covers(DestinationScheme::Https, &host, 443, &target) {
                let decoded = unambiguous_path(&target).expect("unambiguous");
                prop_assert!(decoded == "/v1" || decoded.starts_with("/v1/"));
                prop_assert!(!decoded.contains(".."));
            }
        }
    }
}
