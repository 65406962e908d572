//! The two modes, which methods the read-only one lets through (SPEC P7), and for which methods
//! content means something.

use core::fmt;
use core::str::FromStr;

/// How much a permitted host may be asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Only requests that read: `GET`, `HEAD` and `OPTIONS` that the proxy can see.
    Limited,
    /// Anything, opaque tunnels included.
    #[default]
    Full,
}

/// Whether a request has content (RFC 9110 section 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// It has none, or none that the proxy sees.
    #[default]
    Absent,
    /// It has some, or is framed as if: chunked content may turn out to be empty.
    Present,
}

/// A text that names no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mode is neither \"full\" nor \"limited\"")]
pub struct ModeError;

impl Mode {
    /// The word in configurations and answers: `full` or `limited`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Limited => "limited",
            Self::Full => "full",
        }
    }
}

impl FromStr for Mode {
    type Err = ModeError;

    fn from_str(text: &str) -> Result<Self, ModeError> {
        match text {
            "limited" => Ok(Self::Limited),
            "full" => Ok(Self::Full),
            _ => Err(ModeError),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether limited mode lets the method through. Methods are case-sensitive (RFC 9110
/// section 9.1): `get` is another method, and an origin may do anything on it.
pub fn is_read_only(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Whether the definition of a method gives content a meaning.
///
/// For `GET`, `HEAD`, `DELETE`, `OPTIONS`, `TRACE` and `CONNECT` it gives none (RFC 9110 section 9.3),
/// and an origin may leave the content of such a request unread. The bytes then stand where its next
/// request begins. `POST` and `PUT` are defined there, `PATCH` in RFC 5789, and the others by the
/// specifications that the IANA registry of methods names. For a method that is not listed here the
/// answer is no.
pub fn defines_content(method: &str) -> bool {
    matches!(
        method,
        "POST"
            | "PUT"
            | "PATCH"
            | "QUERY"
            // WebDAV and its extensions.
            | "ACL"
            | "BASELINE-CONTROL"
            | "BIND"
            | "CHECKIN"
            | "CHECKOUT"
            | "LABEL"
            | "LOCK"
            | "MERGE"
            | "MKACTIVITY"
            | "MKCALENDAR"
            | "MKCOL"
            | "MKREDIRECTREF"
            | "MKWORKSPACE"
            | "ORDERPATCH"
            | "PROPFIND"
            | "PROPPATCH"
            | "REBIND"
            | "REPORT"
            | "SEARCH"
            | "UNBIND"
            | "UPDATE"
            | "UPDATEREDIRECTREF"
            | "VERSION-CONTROL"
    )
}

/// Whether a request has content that its method does not define: an origin may take it for the next
/// request of the connection.
pub(crate) fn has_undefined_content(method: Option<&str>, content: Content) -> bool {
    content == Content::Present && !method.is_some_and(defines_content)
}
