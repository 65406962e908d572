//! The removal of variables whose credentials have no dummy (SPEC B3, B13), with a remark about each.

use std::collections::BTreeMap;
use std::ffi::OsString;

use codex_network_config::{
    BrokeredVariable, CredentialVariable, RemovalReason, removed_variables,
};

/// Removes every variable that the command must not get.
///
/// Returns a remark for each variable that it removes. With `is_wished`, the removal of the credentials
/// themselves has none.
pub(super) fn remove(
    environment: &mut BTreeMap<OsString, OsString>,
    credentials: &[CredentialVariable],
    brokered: &[BrokeredVariable],
    hook_secrets: &[String],
    is_wished: bool,
) -> Vec<String> {
    let all = environment.iter();
    let all = all.map(|(name, text)| (name.as_os_str(), text.as_os_str()));
    let removed = removed_variables(all, credentials, brokered);
    let mut remarks = Vec::new();
    for variable in removed {
        environment.remove(&variable.name);
        let name = variable.name.display();
        let why = match variable.reason {
            RemovalReason::Contains(credential) => {
                remarks.push(format!(
                    "{name} is removed from the environment of the command: it contains the value of {credential}"
                ));
                continue;
            }
            _ if is_wished => continue,
            _ if hook_secrets.iter().any(|hook| variable.name == **hook) => {
                remarks.push(format!(
                    "{name} is removed from the environment of the command: a hook of the policy puts the secret of \
                     this variable into requests"
                ));
                continue;
            }
            RemovalReason::NoDummy => "the proxy gives no dummy for its value",
            RemovalReason::NotText => "its value is not text",
        };
        remarks.push(format!(
            "{name} is removed from the environment of the command: {why}; correct the value or the pattern of its \
             credential, or use --no-credentials"
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStringExt as _;

    use codex_network_config::{Secret, VariableName};

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
            let remarks = remove(&mut environment, &given, &brokered, &[], true);
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
    fn b4_a_variable_with_a_copy_of_a_value_in_another_form_is_removed() {
        const KEY: &str = "aB3/xY7+qLmNo9PqRs";
        let hexadecimal = "61 prefix 6142332f7859372B714C6D4E6F395071527300";
        let all = [
            ("KEY", KEY),
            ("ENCODED", "https://me:aB3%2fxY7%2BqLmNo9PqRs@a.test/"),
            ("WHOLE", "https://me:aB3%2FxY7%2BqLmNo9PqRs@a.test/"),
            ("TWICE", "aB3%252FxY7%252BqLmNo9PqRs"),
            ("JSON", r#"{"token": "aB3\/xY7+qLmNo9PqRs"}"#),
            ("UNICODE", r"aB3\u002fxY7+qLmNo9PqR\u0073"),
            ("HEXADECIMAL", hexadecimal),
            ("FEED_PATH", "https://aB3/xY7+qLmNo9PqRs@a.test/"),
            ("PATH", "/bin:/aB3/xY7+qLmNo9PqRs"),
            ("PLAIN", "https://me:aB3/xY7+qLmNo9PqRs@a.test/"),
            ("OTHER", "aB3%2FxY7%2BqLmNo9PqRt %zz \\"),
        ];
        let given = [credential("KEY", KEY)];
        for (brokered, wanted) in [
            (
                vec![brokered("KEY", KEY)],
                &["KEY", "OTHER", "PLAIN", "WHOLE"][..],
            ),
            (Vec::new(), &["OTHER"]),
        ] {
            let mut environment = environment(all.map(|(name, text)| (name, OsStr::new(text))));
            remove(&mut environment, &given, &brokered, &[], true);
            assert_eq!(names(&environment), wanted);
        }
    }

    #[test]
    fn b4_a_short_value_with_a_dummy_is_in_no_other_variable() {
        let all = [
            ("KEY", OsStr::new("Zx9-kQ2mP7vw")),
            ("URL", OsStr::new("postgres://u:Zx9-kQ2mP7vw@h/db")),
        ];
        let mut environment = environment(all);
        let given = [credential("KEY", "Zx9-kQ2mP7vw")];
        remove(
            &mut environment,
            &given,
            &[brokered("KEY", "Zx9-kQ2mP7vw")],
            &[],
            true,
        );
        assert_eq!(names(&environment), ["KEY"]);
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
        let remarks = remove(&mut all, &credentials, &[], &[], false);
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
        let remarks = remove(&mut all, &credentials, &dummies, &[], false);
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
        let remarks = remove(&mut all, &[credential("GH_TOKEN", VALUE)], &[], &[], true);
        assert_eq!(names(&all), ["KEPT"]);
        assert_eq!(
            remarks,
            [
                "REMOTE is removed from the environment of the command: it contains the value of GH_TOKEN"
            ]
        );
    }
}
