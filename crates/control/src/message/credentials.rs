//! The credentials of a session's program (SPEC B3). A launcher asks which variables count, and sends the values
//! of these alone with its [`SessionRequest`](super::SessionRequest). No call returns a value.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Most entries of each list of [`GivenCredentials`].
pub const MAX_CREDENTIALS: usize = 256;
/// Most URLs of one package manager in [`GivenCredentials`].
pub const MAX_TOOL_URLS: usize = 16;
/// Most bytes of [`GivenCredentials`] besides the values: the names, and the sources of destinations.
pub const MAX_SOURCE_BYTES: usize = 64 << 10;

/// The question which credentials a session would use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialsQuery {
    /// The permission profile of the session; `None` for the settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
}

/// The parts of a launcher's environment that a session would use. All lists are empty if it uses no
/// credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WantedCredentials {
    /// The variables whose values are credentials.
    pub variables: Vec<String>,
    /// The variables that add destinations, such as `GH_HOST`.
    pub destinations: Vec<String>,
    /// The package managers whose configuration adds destinations, such as `npm`.
    pub tools: Vec<String>,
    /// The credentials that the session may have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<WantedCredential>,
    /// The variables whose values hooks put into requests. The proxy has the values, and the program gets none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hook_secrets: Vec<String>,
}

/// A credential that a session may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WantedCredential {
    /// Its name.
    pub id: String,
    /// The variables of the program that hold its dummy.
    pub env: Vec<String>,
    /// Whether the proxy reads its value, and the launcher gives none.
    pub is_read: bool,
}

/// The parts of a launcher's environment that a session uses. The default is nothing of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GivenCredentials {
    /// Variables whose values are credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<(String, CredentialValue)>,
    /// Variables that add destinations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<(String, String)>,
    /// The URLs in the configuration of package managers, without user information.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<(String, Vec<String>)>,
    /// Whether the session has no credentials at all, those that the proxy reads included.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub without_any: bool,
}

/// A real value on its way to the daemon. It is overwritten when it is dropped, and `Debug` does not show it.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CredentialValue(Zeroizing<String>);

/// A variable of the session's program, and the text that it holds instead of the real value. `Debug` does not
/// show the text: with it, other programs could use the credential through the doors of the session.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DummyVariable {
    /// The variable.
    pub name: String,
    /// The dummy.
    pub dummy: String,
}

/// The credentials of the sessions that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Credentials {
    /// Those of the oldest session first.
    pub credentials: Vec<CredentialEntry>,
}

/// One credential of a session, without its value and its dummy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CredentialEntry {
    /// The name of the session.
    pub session: String,
    /// The name of the credential.
    pub id: String,
    /// The variables of the program that hold its dummy.
    pub env: Vec<String>,
    /// Where the value may go.
    pub destinations: Vec<String>,
    /// Where the value comes from.
    pub source: String,
    /// How many requests carried the value.
    pub uses: u64,
    /// When the last one did; `None` for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<i64>,
    /// When the proxy read the value; `None` for one that the launcher gave, or that was never read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_at: Option<i64>,
    /// How many readings of the source have failed.
    pub failures: u64,
    /// Why the session has no dummy, or why the last reading failed: the rest of a sentence about the
    /// credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl GivenCredentials {
    /// Whether it is the default.
    pub fn is_empty(&self) -> bool {
        !self.without_any
            && self.values.is_empty()
            && self.destinations.is_empty()
            && self.tools.is_empty()
    }

    /// Checks the numbers and the bytes of the lists. The longest message bounds the values.
    ///
    /// # Errors
    ///
    /// A sentence without the full stop: the bound that is exceeded.
    pub fn check_bounds(&self) -> Result<(), String> {
        let lengths = [self.values.len(), self.destinations.len(), self.tools.len()];
        if lengths.iter().any(|length| *length > MAX_CREDENTIALS) {
            return Err(format!(
                "a session has at most {MAX_CREDENTIALS} credentials and sources of destinations"
            ));
        }
        if let Some((tool, urls)) = self
            .tools
            .iter()
            .find(|(_, urls)| urls.len() > MAX_TOOL_URLS)
        {
            return Err(format!(
                "a package manager has at most {MAX_TOOL_URLS} registries for its token, and {tool:.16} has {}",
                urls.len()
            ));
        }
        let names = self.values.iter().map(|(name, _)| name.len());
        let destinations = self.destinations.iter();
        let destinations = destinations.map(|(name, value)| name.len() + value.len());
        let tools = self.tools.iter().map(|(name, urls)| {
            let urls = urls.iter().map(String::len);
            name.len() + urls.sum::<usize>()
        });
        if names.chain(destinations).chain(tools).sum::<usize>() > MAX_SOURCE_BYTES {
            return Err(format!(
                "the names of a session's credentials and the sources of their destinations have at most \
                 {MAX_SOURCE_BYTES} bytes"
            ));
        }
        Ok(())
    }
}

impl CredentialValue {
    /// Takes ownership of the value.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CredentialValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CredentialValue(…)")
    }
}

impl fmt::Debug for DummyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DummyVariable")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SessionOpened;

    #[test]
    fn b4_no_debug_text_has_a_value() {
        let given = GivenCredentials {
            values: vec![("KEY".to_owned(), CredentialValue::new("hunter2".to_owned()))],
            ..GivenCredentials::default()
        };
        assert!(!format!("{given:?}").contains("hunter2"));
        let sent = serde_json::to_string(&given).expect("JSON");
        assert_eq!(sent, r#"{"values":[["KEY","hunter2"]]}"#);
    }

    #[test]
    fn b5_the_sources_of_destinations_are_bounded_in_number_and_bytes() {
        let tools = |urls: usize, bytes: usize| GivenCredentials {
            tools: vec![("npm".to_owned(), vec!["x".repeat(bytes); urls])],
            ..GivenCredentials::default()
        };
        assert_eq!(tools(MAX_TOOL_URLS, 100).check_bounds(), Ok(()));
        let many = tools(MAX_TOOL_URLS + 1, 1).check_bounds();
        assert!(many.is_err_and(|why| why.contains("npm has 17")));
        let long = tools(1, MAX_SOURCE_BYTES).check_bounds();
        assert!(long.is_err_and(|why| why.contains("bytes")));
        let several = GivenCredentials {
            destinations: vec![("GH_HOST".to_owned(), String::new()); MAX_CREDENTIALS + 1],
            ..GivenCredentials::default()
        };
        assert!(several.check_bounds().is_err());
    }

    #[test]
    fn b4_no_debug_text_has_a_dummy() {
        let variable = DummyVariable {
            name: "KEY".to_owned(),
            dummy: "masked-q0b7".to_owned(),
        };
        let opened = SessionOpened {
            dummies: vec![variable],
            ..SessionOpened::default()
        };
        let text = format!("{opened:?}");
        assert!(text.contains("KEY") && !text.contains("q0b7"), "{text}");
    }
}
