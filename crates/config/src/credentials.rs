//! Providers of credentials for the broker, as data (SPEC B3, B5, B6).
//!
//! A provider says which variables hold a credential, what its values look like, where they may go and
//! how a request presents them. It never contains a value: those are read when a session begins and stay
//! with the broker. `built_in` has the providers that need no configuration and the ready profiles,
//! `destination` the places, `pattern` the regular expressions, `readings` the values of sources, `settle`
//! the destinations that the launcher's environment adds, `variables` what a program gets, and `removal` what
//! it must not get.

mod built_in;
mod destination;
mod pattern;
mod readings;
mod removal;
mod settle;
mod variables;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::{HeaderNameText, HookMethod};

pub use self::built_in::{CredentialProfile, built_in_providers};
pub use self::destination::{Destination, DestinationError, DestinationHost, DestinationScheme};
pub use self::pattern::{CredentialPattern, CredentialPatternError};
pub use self::readings::{CredentialReading, CredentialReadings};
pub use self::removal::{CredentialVariable, RemovalReason, RemovedVariable, removed_variables};
pub use self::settle::{IgnoredDestination, IgnoredDestinationError, Settled, settled};
pub use self::variables::{
    BROKER_ACTIVE_VARIABLE, BROKERED_CREDENTIALS_VARIABLE, BrokeredVariable, brokered_variables,
    still_brokered,
};

/// Longest name of a credential or of a variable.
const MAX_NAME: usize = 64;

/// The name of a provider: 1 to 64 ASCII letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialId(Arc<str>);

/// The name of an environment variable: 1 to 64 ASCII letters, digits and `_`, no digit first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VariableName(Arc<str>);

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAName {
    /// Not the name of a credential.
    #[error("the name of a credential has 1 to 64 letters, digits, `-` and `_`")]
    Credential,
    /// Not the name of a variable.
    #[error("the name of a variable has 1 to 64 letters, digits and `_`, and no digit in front")]
    Variable,
}

/// One provider: a kind of credential, with the places where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialProvider {
    /// Its name, by which records, answers and `proxyctl` refer to it.
    pub id: CredentialId,
    /// The variables that hold the value. All of them get the dummy of a value from another source than the
    /// environment.
    pub variables: Vec<VariableName>,
    /// The forms of real values. A value that matches none of them is not of this provider. Empty: any
    /// value.
    pub patterns: Vec<CredentialPattern>,
    /// Where the real value may go. Empty after [`settled`]: nowhere, so that only the dummy is of use.
    pub destinations: Vec<Destination>,
    /// The sources in the launcher's environment and tools that add to `destinations`. Empty after [`settled`].
    pub destinations_from: Vec<DestinationSource>,
    /// The forms in which a request may present the dummy. At least one.
    pub placements: Vec<Placement>,
    /// Where the real value comes from.
    pub source: CredentialSource,
    /// The only methods of requests that get the real value. `None`: every method but `TRACE`, whose
    /// answer contains the request's fields (RFC 9110 section 9.3.8).
    pub methods: Option<Vec<HookMethod>>,
    /// Whether a request to a destination is refused if it does not present the dummy (SPEC B3).
    pub require: bool,
}

/// How a request presents a credential (SPEC B3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// `Authorization: Bearer VALUE` (RFC 6750 section 2.1).
    Bearer,
    /// `Authorization: token VALUE`.
    Token,
    /// `Authorization: Basic …` (RFC 7617): the value is the user name, the password or both.
    Basic {
        /// The user name that the origin gets beside the value as password. `None`: the request's own.
        username: Option<String>,
    },
    /// A field of its own: the prefix, then the value.
    Header {
        /// The field's name.
        name: HeaderNameText,
        /// The text before the value, often empty.
        prefix: String,
    },
}

/// Where a real value comes from (SPEC B5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// One of the provider's variables in the launcher's environment.
    Environment,
    /// The content of a file, without one line end at its end. The path is absolute.
    File(PathBuf),
    /// The standard output of a program, without one line end at its end.
    Command {
        /// The program and its arguments. The program's path is absolute.
        argv: Vec<String>,
        /// How long it may run.
        timeout: Duration,
        /// How long its output is good. `None`: until the next reload.
        ttl: Option<Duration>,
    },
    /// A credential that systemd gave the service (`LoadCredential=`), by its name.
    SystemdCredential(String),
}

/// A source of destinations that only the launcher knows (SPEC B5, B6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationSource {
    /// A variable of the launcher's environment, as in `OPENAI_BASE_URL`. Unset or empty adds nothing.
    Variable(VariableName, UrlForm),
    /// The configuration of a package manager on this machine.
    Tool(PackageTool),
}

/// The content of the variable of a [`DestinationSource`], and the part of it that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UrlForm {
    /// A [`Destination`] as in a configuration.
    Destination,
    /// A URL with `https` and without user information, of which host and port count.
    HostOfUrl,
    /// A host that is not GitHub's cloud, as `GH_HOST` has it: trimmed, without `/ \ @ ? # *`. A port is
    /// allowed and ignored.
    GithubHost,
}

/// A package manager whose configuration names the registry that its token belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PackageTool {
    /// `npm`: the registry of packages without a scope.
    Npm,
    /// `pip`: its index, and no extra index.
    Pip,
    /// `twine`: its upload repository.
    Twine,
    /// `cargo`: its default registry.
    Cargo,
}

impl CredentialId {
    /// Reads a name.
    ///
    /// # Errors
    ///
    /// [`NotAName::Credential`] for any other text.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NotAName::Credential)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, for an owner that outlives this one. Nothing is copied.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl VariableName {
    /// Reads a name. Its case counts.
    ///
    /// # Errors
    ///
    /// [`NotAName::Variable`] for any other text.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let begins = !text.starts_with(|c: char| c.is_ascii_digit());
        if begins && (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(Arc::from(text)))
        } else {
            Err(NotAName::Variable)
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PackageTool {
    /// All of them, by the names of their profiles and presets.
    pub const ALL: [Self; 4] = [Self::Cargo, Self::Npm, Self::Pip, Self::Twine];

    /// The program's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Twine => "twine",
            Self::Cargo => "cargo",
        }
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl CredentialSource {
    /// Whether the process that reads the configuration reads the value, and not the launcher.
    pub fn is_read_with_the_configuration(&self) -> bool {
        *self != Self::Environment
    }
}

/// The source in words, for messages and `/config`. It contains no argument of a command.
impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Command { argv, .. } => {
                write!(f, "command {}", argv.first().map_or("", String::as_str))
            }
            Self::SystemdCredential(name) => write!(f, "systemd credential {name}"),
        }
    }
}

/// The form in words: `bearer`, `token`, `basic`, or `header NAME`.
impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Token => f.write_str("token"),
            Self::Basic { .. } => f.write_str("basic"),
            Self::Header { name, .. } => write!(f, "header {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b5_names_of_credentials_and_variables_are_plain() {
        for (text, credential, variable) in [
            ("github", true, true),
            ("GH_TOKEN", true, true),
            ("my-token2", true, false),
            ("2fa", true, false),
            ("_", true, true),
            ("", false, false),
            ("a b", false, false),
            ("a.b", false, false),
            ("A=B", false, false),
            ("é", false, false),
            (&"x".repeat(64), true, true),
            (&"x".repeat(65), false, false),
        ] {
            assert_eq!(CredentialId::parse(text).is_ok(), credential, "{text}");
            assert_eq!(VariableName::parse(text).is_ok(), variable, "{text}");
        }
    }
}
