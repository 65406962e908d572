//! The two modes, the methods that limited mode permits (SPEC P7), and the methods whose content
//! has a meaning.

use core::fmt;
use core::str::FromStr;

/// Which requests a permitted host receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Only requests that read: `GET`, `HEAD` and `OPTIONS` that the proxy can see.
    Limited,
    /// All requests, and opaque tunnels.
    #[default]
    Full,
}

/// Whether a request has content (RFC 9110 section 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// It has no content that the proxy can see.
    #[default]
    Absent,
    /// It has content, or framing for content: chunked content may turn out to be empty.
    Present,
}

/// A text that is not a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the mode is neither \"full\" nor \"limited\"")]
pub struct ModeError;

impl Mode {
    /// The name in configurations and answers: `full` or `limited`.
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

/// Whether limited mode permits the method. Methods are case-sensitive (RFC 9110 section 9.1):
/// `get` is another method, and an origin may do anything for it.
pub fn is_read_only(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS")
}

/// Whether the definition of a method gives content a meaning.
///
/// `GET`, `HEAD`, `DELETE`, `OPTIONS`, `TRACE` and `CONNECT` give it none (RFC 9110 section 9.3),
/// and an origin may leave the content of such a request unread. It then reads these bytes as its
/// next request. `POST` and `PUT` are defined there, `PATCH` in RFC 5789, and the others by the
/// specifications that the IANA registry of methods names. For a method that is not listed here the
/// result is false.
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
