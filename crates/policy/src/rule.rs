//! Rules by number, and as text with the line that they are written on.

use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;

/// A rule's number in its list. Only the list that returned it knows its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(pub(crate) u32);

/// Identifies a rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleRef {
    /// A rule of the allow list.
    Allowed(RuleId),
    /// A rule of the deny list.
    Denied(RuleId),
    /// A rule that allows a host in one session.
    AllowedBySession(RuleId),
    /// A rule that denies a host in one session.
    DeniedBySession(RuleId),
}

/// A rule, for people: `Display` gives `*.example.com (config.toml:4)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The pattern in its canonical text.
    pub pattern: String,
    /// The line that it is written on, if that is known.
    pub written_at: Option<ConfigLine>,
}

/// A line of the configuration. `Display` gives `config.toml:4`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigLine {
    /// The file's path, or a word for another source (`-c`).
    pub file: Arc<str>,
    /// The number of the line, from 1; 0 for a source without lines.
    pub line: u32,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pattern)?;
        match &self.written_at {
            None => Ok(()),
            Some(line) => write!(f, " ({line})"),
        }
    }
}

impl fmt::Display for ConfigLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}
