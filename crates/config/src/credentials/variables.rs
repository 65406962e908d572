//! The variables of a program whose credentials are brokered (SPEC B3, B9), and which of a set of
//! variables still hold dummies.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::hash::BuildHasher;

use super::VariableName;
use crate::secret::Secret;

/// The variable that is `1` for a program whose credentials are brokered.
pub const BROKER_ACTIVE_VARIABLE: &str = "CODEX_NETWORK_PROXY_CREDENTIAL_BROKER_ACTIVE";
/// The variable that lists the variables with dummies, as a JSON list of pairs: `["KEY", "DUMMY"]`, and
/// `["@alias:KEY", "DUMMY"]` for one that contains a dummy among other text. The program may change it, so it proves
/// nothing.
pub const BROKERED_CREDENTIALS_VARIABLE: &str = "CODEX_NETWORK_PROXY_BROKERED_CREDENTIALS";
/// Stands before the name of a variable that contains a dummy among other text.
const ALIAS: &str = "@alias:";
/// Fewest bytes of a value that is replaced inside of another variable. A shorter one may be there by
/// accident.
const MIN_ALIAS_BYTES: usize = 16;
/// Fewest bytes of a dummy: no credential is shorter.
const MIN_DUMMY_BYTES: usize = 8;
/// The variable whose text programs search for programs, and the end of the names of such ones.
const PATH: &str = "PATH";
const PATH_END: &str = "_PATH";

/// A variable whose value is a credential, with the text that a program gets instead.
#[derive(Clone, Debug)]
pub struct BrokeredVariable {
    /// The variable.
    pub name: VariableName,
    /// Its real value.
    pub value: Secret,
    /// The text that stands for the value.
    pub dummy: String,
}

/// The variables to set for a program that would otherwise get this environment: dummies in the place of
/// real values, also inside of other variables and percent-encoded there, and the two markers. Without credentials, there are
/// none.
pub fn brokered_variables<'e>(
    credentials: &[BrokeredVariable],
    environment: impl IntoIterator<Item = (&'e str, &'e str)>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for credential in credentials {
        let name = credential.name.as_str().to_owned();
        variables.insert(name, credential.dummy.clone());
    }
    if variables.is_empty() {
        return variables;
    }
    let replacements = Replacements::new(credentials);
    let own = credentials.iter();
    let own = own.map(|one| (one.name.as_str().to_owned(), &*one.dummy));
    let mut pairs: Vec<(String, &str)> = own.collect();
    let environment: BTreeMap<&str, &str> = environment.into_iter().collect();
    for (name, text) in environment {
        if variables.contains_key(name) {
            continue;
        }
        if let Some((replaced, dummies)) = replacements.apply(name, text) {
            let dummies = dummies.into_iter();
            pairs.extend(dummies.map(|dummy| (format!("{ALIAS}{name}"), dummy)));
            variables.insert(name.to_owned(), replaced);
        }
    }
    variables.insert(BROKER_ACTIVE_VARIABLE.to_owned(), "1".to_owned());
    let pairs = serde_json::to_string(&pairs).unwrap_or_default();
    variables.insert(BROKERED_CREDENTIALS_VARIABLE.to_owned(), pairs);
    variables
}

/// Replaces values inside of other variables.
pub(super) struct Replacements<'c> {
    /// Values and dummies as they stand there, the longest value first: a value may contain another one.
    forms: Vec<(Secret, Cow<'c, str>)>,
}

impl<'c> Replacements<'c> {
    pub(super) fn new(credentials: &'c [BrokeredVariable]) -> Self {
        let mut forms: Vec<_> = credentials.iter().flat_map(forms).collect();
        forms.sort_by_key(|(value, _)| std::cmp::Reverse(value.expose().len()));
        forms.dedup();
        Self { forms }
    }

    /// The text of a variable with dummies in the place of values, and these dummies; `None` if it stays as it is.
    pub(super) fn apply(&self, name: &str, text: &str) -> Option<(String, Vec<&str>)> {
        if name == PATH || name.ends_with(PATH_END) {
            return None;
        }
        let mut replaced: Option<String> = None;
        let mut dummies = Vec::new();
        for (value, dummy) in &self.forms {
            let Ok(value) = std::str::from_utf8(value.expose()) else {
                continue;
            };
            let current = replaced.as_deref().unwrap_or(text);
            if current.contains(value) {
                replaced = Some(current.replace(value, dummy));
                dummies.push(&**dummy);
            }
        }
        replaced.map(|replaced| (replaced, dummies))
    }
}

/// A value and its dummy: as they are, and percent-encoded, as in the user information of a URL. None for a short
/// value.
fn forms(credential: &BrokeredVariable) -> impl Iterator<Item = (Secret, Cow<'_, str>)> {
    let value = credential.value.expose();
    let is_long = value.len() >= MIN_ALIAS_BYTES;
    let plain = (Secret::new(value.to_vec()), Cow::from(&*credential.dummy));
    let encoded = percent_encoded(value).into_bytes();
    let dummy = percent_encoded(credential.dummy.as_bytes());
    let differs = encoded != value;
    let encoded = (Secret::new(encoded), Cow::from(dummy));
    let plain = is_long.then_some(plain);
    plain
        .into_iter()
        .chain((is_long && differs).then_some(encoded))
}

/// With each byte but the unreserved ones as `%XX` (RFC 3986 section 2.3).
fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(3 * bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ => {
                let _infallible = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// The names of the variables that still hold the dummies that the marker lists, each once, in the order of
/// the marker. A marker that cannot be read lists none. The environment stays as it is.
///
/// ```
/// use std::collections::HashMap;
///
/// use codex_network_config::{BrokeredVariable, Secret, VariableName};
/// use codex_network_config::{brokered_variables, still_brokered};
///
/// # fn main() -> Result<(), codex_network_config::NotAName> {
/// let key = BrokeredVariable {
///     name: VariableName::parse("DEPLOY_KEY")?,
///     value: Secret::new(b"dk-0123456789abcdef".to_vec()),
///     dummy: "dk-maskedQ7x2Lf9Zt4Rk8Yv1Ms".to_owned(),
/// };
/// let launcher = [
///     ("DEPLOY_KEY", "dk-0123456789abcdef"),
///     ("REMOTE", "https://dk-0123456789abcdef@deploy.example/"),
/// ];
/// let mut child: HashMap<String, String> = brokered_variables(&[key], launcher).into_iter().collect();
/// assert_eq!(child["REMOTE"], "https://dk-maskedQ7x2Lf9Zt4Rk8Yv1Ms@deploy.example/");
/// assert_eq!(still_brokered(&child), ["DEPLOY_KEY", "REMOTE"]);
///
/// child.insert("DEPLOY_KEY".to_owned(), "a value of its own".to_owned());
/// assert_eq!(still_brokered(&child), ["REMOTE"]);
/// # Ok(())
/// # }
/// ```
pub fn still_brokered<S: BuildHasher>(environment: &HashMap<String, String, S>) -> Vec<String> {
    let marker = environment
        .get(BROKERED_CREDENTIALS_VARIABLE)
        .map_or("", String::as_str);
    let pairs: Vec<(String, String)> = serde_json::from_str(marker).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for (key, dummy) in pairs {
        if dummy.len() < MIN_DUMMY_BYTES {
            continue;
        }
        let alias = key.strip_prefix(ALIAS);
        let name = alias.unwrap_or(&key);
        let holds = environment.get(name).is_some_and(|text| match alias {
            Some(_) => text.contains(&dummy),
            None => *text == dummy,
        });
        if holds && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB: &str = "ghp_0123456789abcdefABCDEF0123456789abcd";
    const OPENAI: &str = "sk-proj-abcDEF123-_456ghiJKLmnoPQRstuVWX";
    const GITHUB_DUMMY: &str = "ghp_maskedT3q8Zx0fLw2nUe7RbVyKs5Hd1c9A";
    const OPENAI_DUMMY: &str = "sk-proj-maskedQ0b7Wn-2x_Lf9Zt4Rk8Yv1Ms";

    fn brokered(name: &str, value: &str, dummy: &str) -> BrokeredVariable {
        BrokeredVariable {
            name: VariableName::parse(name).expect("a name"),
            value: Secret::new(value.as_bytes().to_vec()),
            dummy: dummy.to_owned(),
        }
    }

    fn session() -> Vec<BrokeredVariable> {
        vec![
            brokered("GH_TOKEN", GITHUB, GITHUB_DUMMY),
            brokered("GITHUB_TOKEN", GITHUB, GITHUB_DUMMY),
            brokered("OPENAI_API_KEY", OPENAI, OPENAI_DUMMY),
        ]
    }

    #[test]
    fn b3_a_program_gets_dummies_and_the_markers() {
        let session = session();
        let environment = [
            ("GH_TOKEN", GITHUB),
            ("HOME", "/home/me"),
            ("OTHER_TOKEN", "x"),
        ];
        let variables = brokered_variables(&session, environment);
        let (github, openai) = (GITHUB_DUMMY, OPENAI_DUMMY);
        let expected = [
            ("GH_TOKEN", github),
            ("GITHUB_TOKEN", github),
            ("OPENAI_API_KEY", openai),
            (BROKER_ACTIVE_VARIABLE, "1"),
            (
                BROKERED_CREDENTIALS_VARIABLE,
                &format!(
                    r#"[["GH_TOKEN","{github}"],["GITHUB_TOKEN","{github}"],["OPENAI_API_KEY","{openai}"]]"#
                ),
            ),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(variables, BTreeMap::from(expected));
    }

    #[test]
    fn b9_values_inside_of_other_variables_are_replaced_but_not_in_paths() {
        let session = session();
        let (github, openai) = (GITHUB_DUMMY, OPENAI_DUMMY);
        let url = format!("https://{GITHUB}@github.com/x?key={OPENAI}&again={GITHUB}");
        let path = format!("/bin:/{GITHUB}");
        let environment = [
            ("REMOTE", &*url),
            ("PATH", &path),
            ("LD_LIBRARY_PATH", &path),
            ("PATHS", &path),
            ("PLAIN", "text"),
        ];
        let variables = brokered_variables(&session, environment);
        let expected = url.replace(GITHUB, github).replace(OPENAI, openai);
        assert_eq!(variables.get("REMOTE"), Some(&expected));
        assert_eq!(variables.get("PATHS"), Some(&path.replace(GITHUB, github)));
        for name in ["PATH", "LD_LIBRARY_PATH", "PLAIN"] {
            assert_eq!(variables.get(name), None, "{name}");
        }
        let pairs: Vec<(String, String)> =
            serde_json::from_str(&variables[BROKERED_CREDENTIALS_VARIABLE]).expect("JSON");
        for (key, dummy) in [
            ("@alias:REMOTE", github),
            ("@alias:REMOTE", openai),
            ("@alias:PATHS", github),
        ] {
            assert!(pairs.contains(&(key.to_owned(), dummy.to_owned())), "{key}");
        }
        for value in variables.values() {
            assert!(!value.contains(GITHUB) && !value.contains(OPENAI));
        }
    }

    #[test]
    fn b9_a_percent_encoded_value_becomes_the_encoded_dummy() {
        let session = [brokered(
            "KEY",
            "aB3/xY7+qLmNo9PqRs==",
            "maskedT3/q8+Zx0fLw2=",
        )];
        let index = "https://me:aB3%2FxY7%2BqLmNo9PqRs%3D%3D@pip.test/simple/";
        let variables = brokered_variables(&session, [("PIP_INDEX_URL", index)]);
        let wanted = "https://me:maskedT3%2Fq8%2BZx0fLw2%3D@pip.test/simple/";
        assert_eq!(variables["PIP_INDEX_URL"], wanted);
        let environment: HashMap<String, String> = variables.into_iter().collect();
        assert_eq!(still_brokered(&environment), ["KEY", "PIP_INDEX_URL"]);
    }

    #[test]
    fn b9_short_values_are_not_replaced_inside_of_other_variables() {
        let short = "fifteen-letters";
        let session = [brokered("KEY", short, "maskedqwertyuio")];
        let text = format!("say {short}");
        let variables = brokered_variables(&session, [("TEXT", &*text), ("KEY", short)]);
        assert_eq!(variables.get("TEXT"), None);
        assert_ne!(variables["KEY"], short);
        assert!(brokered_variables(&[], [("TEXT", &*text)]).is_empty());
    }

    #[test]
    fn b3_variables_that_still_hold_dummies_are_listed() {
        let session = session();
        let url = format!("https://{GITHUB}@github.com/");
        let variables = brokered_variables(&session, [("REMOTE", &*url)]);
        let mut environment: HashMap<String, String> = variables.into_iter().collect();
        let all = ["GH_TOKEN", "GITHUB_TOKEN", "OPENAI_API_KEY", "REMOTE"];
        assert_eq!(still_brokered(&environment), all);
        environment.insert("GH_TOKEN".to_owned(), "mine".to_owned());
        environment.insert("REMOTE".to_owned(), "https://github.com/".to_owned());
        environment.remove("OPENAI_API_KEY");
        let before = environment.clone();
        assert_eq!(still_brokered(&environment), ["GITHUB_TOKEN"]);
        assert_eq!(environment, before);
    }

    #[test]
    fn b3_a_wrong_marker_lists_nothing() {
        for marker in [
            "",
            "x",
            "{}",
            "[1]",
            r#"[["KEY"]]"#,
            r#"[["KEY", 1]]"#,
            r#"[["KEY","", ""]]"#,
            r#"[["KEY",""]]"#,
            r#"[["@alias:KEY",""]]"#,
            r#"[["@alias:KEY","value"]]"#,
            r#"[["OTHER","other-value"]]"#,
        ] {
            let environment = [("KEY", "value"), (BROKERED_CREDENTIALS_VARIABLE, marker)];
            let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let found = still_brokered(&HashMap::from(environment));
            assert!(found.is_empty(), "{marker} {found:?}");
        }
    }
}
