//! The two modes, and which methods the read-only one lets through (SPEC P7).

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
