//! The removal of variables whose credentials have no dummy (SPEC B3, B13).

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use codex_network_config::{BrokeredVariable, Secret};

/// Fewest bytes of a value that is searched for in other variables. No credential is shorter.
const MIN_VALUE_BYTES: usize = 8;

/// A variable of the caller that holds a credential.
#[derive(Clone, Debug)]
pub(super) struct CredentialVariable {
    pub(super) name: String,
    /// Its bytes, without a line end after them.
    pub(super) value: Secret,
}

impl CredentialVariable {
    /// `None` for a variable without a value.
    pub(super) fn new(name: String, value: &OsStr) -> Option<Self> {
        let all = value.as_bytes();
        let line = all.strip_suffix(b"\n");
        let line = line.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let value = Secret::new(line.unwrap_or(all).to_vec());
        (!all.is_empty()).then_some(Self { name, value })
    }

    /// The value as text.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.value.expose()).ok()
    }

    fn is_brokered(&self, brokered: &[BrokeredVariable]) -> bool {
        brokered.iter().any(|one| one.name.as_str() == self.name)
    }

    /// Whether a text contains the value. White space at the edges of the value does not count.
    fn is_in(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        value.len() >= MIN_VALUE_BYTES
            && text
                .as_bytes()
                .windows(value.len())
                .any(|part| part == value)
    }

    /// Whether a text contains it in base64, such as a user name and a token for Basic. Nothing is replaced there.
    fn is_in_base64(&self, text: &OsStr) -> bool {
        let value = self.value.expose().trim_ascii();
        let is_apart = |byte: &u8| sextet(*byte).is_none();
        let runs = text.as_bytes().split(is_apart);
        // Text may stand before it without a character between, so each place of a group is tried.
        let mut decoded = runs
            .filter(|run| value.len() >= MIN_VALUE_BYTES && run.len() > value.len())
            .flat_map(|run| (0..4).map(|skipped| decoded(&run[skipped.min(run.len())..])));
        decoded.any(|bytes| {
            let bytes = Secret::new(bytes);
            let mut parts = bytes.expose().windows(value.len());
            parts.any(|part| part == value)
        })
    }
}

/// The six bits of a character of base64, in either alphabet (RFC 4648).
fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// The bytes that a run of base64 stands for, without those that are incomplete.
fn decoded(run: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(run.len());
    let (mut bits, mut count) = (0_u32, 0);
    for sextet in run.iter().filter_map(|byte| sextet(*byte)) {
        bits = bits << 6 | u32::from(sextet);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.extend(u8::try_from(bits >> count & 0xff));
        }
    }
    bytes
}

/// Removes every credential that has no dummy, and every other variable that contains its value. A variable that
/// is not text goes too if it contains a value that has a dummy, since nothing is replaced in it, and so does one
/// that contains such a value in base64.
///
/// Returns a remark for each variable that it removes. With `is_wished`, the removal of the credentials
/// themselves has none.
pub(super) fn remove(
    environment: &mut BTreeMap<OsString, OsString>,
    credentials: &[CredentialVariable],
    brokered: &[BrokeredVariable],
    is_wished: bool,
) -> Vec<String> {
    let mut remarks = Vec::new();
    for credential in credentials {
        if credential.is_brokered(brokered) {
            continue;
        }
        environment.remove(OsStr::new(&credential.name));
        if !is_wished {
            let why = match credential.text() {
                Some(_) => "the proxy gives no dummy for its value",
                None => "its value is not text",
            };
            remarks.push(format!(
                "{} is removed from the environment of the command: {why}; correct the value or the pattern of \
                 its credential, or use --no-credentials",
                credential.name
            ));
        }
    }
    environment.retain(|name, text| {
        if brokered.iter().any(|one| name == one.name.as_str()) {
            return true;
        }
        let is_text = text.to_str().is_some() && name.to_str().is_some();
        let contained = credentials.iter().find(|credential| {
            let is_replaced = is_text && credential.is_brokered(brokered);
            credential.is_in(text) && !is_replaced || credential.is_in_base64(text)
        });
        if let Some(credential) = contained {
            remarks.push(format!(
                "{} is removed from the environment of the command: it contains the value of {}",
                name.display(),
                credential.name
            ));
        }
        contained.is_none()
    });
    remarks
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use codex_network_config::VariableName;

    use super::*;

    const VALUE: &str = "ghp_0123456789abcdefABCDEF0123456789abcd";

    fn credential(name: &str, value: impl AsRef<OsStr>) -> CredentialVariable {
        CredentialVariable::new(name.to_owned(), value.as_ref()).expect("a value")
    }

    fn brokered(name: &str, value: &str) -> BrokeredVariable {
        BrokeredVariable {
            name: VariableName::parse(name).expect("a name"),
            value: Secret::new(value.as_bytes().to_vec()),
            dummy: "ghp_maskedT3q8Zx0fLw2nUe7RbVyKs5Hd1c9A".to_owned(),
        }
    }

    fn environment<const N: usize>(variables: [(&str, &OsStr); N]) -> BTreeMap<OsString, OsString> {
        let variables = variables.into_iter();
        variables
            .map(|(name, value)| (name.into(), value.to_owned()))
            .collect()
    }

    fn names(environment: &BTreeMap<OsString, OsString>) -> Vec<&str> {
        let names = environment.keys();
        names.filter_map(|name| name.to_str()).collect()
    }

    #[test]
    fn b3_a_variable_that_contains_a_value_in_base64_is_removed() {
        // `me:` and the value, `aa:` and the value for each alphabet, and with another name.
        let basic = "bWU6Z2hwXzAxMjM0NTY3ODlhYmNkZWZBQkNERUYwMTIzNDU2Nzg5YWJjZA==";
        let other = "bWU6Z2hwXzk5OTk5NTY3ODlhYmNkZWZBQkNERUYwMTIzNDU2Nzg5YWJjZA==";
        let json = format!(r#"{{"auths": {{"x": {{"auth": "{basic}"}}}}}}"#);
        let glued = format!("prefix/{basic}");
        let all = [
            ("GH_TOKEN", OsStr::new(VALUE)),
            ("BASIC", OsStr::new(basic)),
            ("DOCKER_AUTH", OsStr::new(&json)),
            ("GLUED", OsStr::new(&glued)),
            ("OTHER", OsStr::new(other)),
        ];
        let given = [credential("GH_TOKEN", VALUE)];
        for brokered in [vec![brokered("GH_TOKEN", VALUE)], Vec::new()] {
            let mut environment = environment(all);
            let remarks = remove(&mut environment, &given, &brokered, true);
            let kept = names(&environment);
            let kept: Vec<_> = kept
                .into_iter()
                .filter(|name| *name != "GH_TOKEN")
                .collect();
            assert_eq!(kept, ["OTHER"]);
            assert_eq!(remarks.len(), 3, "{remarks:?}");
        }
    }

    #[test]
    fn b3_one_line_end_is_no_part_of_a_value() {
        for (given, value) in [
            ("value-1\n", "value-1"),
            ("value-1\r\n", "value-1"),
            ("value-1\n\n", "value-1\n"),
            ("value-1\r", "value-1\r"),
            (" value-1", " value-1"),
        ] {
            assert_eq!(credential("KEY", given).text(), Some(value), "{given:?}");
        }
        assert!(CredentialVariable::new("KEY".to_owned(), OsStr::new("")).is_none());
    }

    #[test]
    fn b3_a_credential_without_a_dummy_and_every_copy_of_it_is_removed() {
        let url = format!("https://{VALUE}@github.com/");
        let padded = format!("{VALUE} ");
        let odd = OsString::from_vec(b"key-\xff-value".to_vec());
        let mut all = environment([
            ("GH_TOKEN", OsStr::new(&padded)),
            ("COPY_PATH", OsStr::new(&url)),
            ("REMOTE", OsStr::new(&url)),
            ("ODD", &odd),
            ("SHORT", OsStr::new("seven77")),
            ("KEPT", OsStr::new("say seven77")),
        ]);
        let credentials = [
            credential("GH_TOKEN", &padded),
            credential("ODD", &odd),
            credential("SHORT", "seven77"),
        ];
        let remarks = remove(&mut all, &credentials, &[], false);
        assert_eq!(names(&all), ["KEPT"]);
        assert_eq!(remarks.len(), 5, "{remarks:?}");
        assert!(remarks[1].starts_with("ODD ") && remarks[1].contains("not text"));
        for remark in &remarks[..3] {
            assert!(remark.contains("--no-credentials"), "{remark}");
        }
        assert!(!remarks.concat().contains(VALUE));
    }

    #[test]
    fn b3_a_credential_with_a_dummy_stays_but_no_copy_in_a_variable_that_is_not_text() {
        let url = format!("https://{VALUE}@github.com/");
        let odd = OsString::from_vec([url.as_bytes(), b"\xff"].concat());
        let mut all = environment([
            ("GH_TOKEN", OsStr::new(VALUE)),
            ("REMOTE", OsStr::new(&url)),
            ("ODD", &odd),
        ]);
        let credentials = [credential("GH_TOKEN", VALUE)];
        let dummies = [brokered("GH_TOKEN", VALUE)];
        let remarks = remove(&mut all, &credentials, &dummies, false);
        assert_eq!(names(&all), ["GH_TOKEN", "REMOTE"]);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
    }

    #[test]
    fn b13_copies_of_values_are_removed_when_the_user_wants_no_credentials() {
        let url = format!("https://{VALUE}@github.com/");
        let mut all = environment([
            ("GH_TOKEN", OsStr::new(VALUE)),
            ("REMOTE", OsStr::new(&url)),
            ("KEPT", OsStr::new("text")),
        ]);
        let remarks = remove(&mut all, &[credential("GH_TOKEN", VALUE)], &[], true);
        assert_eq!(names(&all), ["KEPT"]);
        assert_eq!(
            remarks,
            [
                "REMOTE is removed from the environment of the command: it contains the value of GH_TOKEN"
            ]
        );
    }
}
